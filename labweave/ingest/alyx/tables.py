"""Alyx: what a sync has planned and pulled, and how far it knows each server."""
# pyright: reportAssignmentType=false

import importlib

import datajoint as dj

from labweave.schemas.ingestion import Run, Source

schema = dj.Schema()

PULL, WRITE = "labweave.ingest.alyx.pull", "labweave.ingest.alyx.pages"
"""The modules that make a page: named, because every connection imports the tables and few of them sync."""


@schema
class SyncRun(dj.Manual):
    definition = """
    # one sync of an Alyx server
    -> Run
    ---
    sync_options        : json              # what was asked for, without secrets
    stages              : json              # the stages that are planned, in order
    """


@schema
class SyncPart(dj.Manual):
    definition = """
    # one part of a sync: the records of one resource in one range
    -> SyncRun
    part                : int32             # counts the parts from 0
    ---
    resource            : varchar(32)       # as in the path of the endpoint
    part_stage          : varchar(32)       # the stage that planned it
    scope               : json              # which records: id range, stamp, ids, filters
    """


@schema
class SyncPage(dj.Imported):
    definition = """
    # one part that has been pulled whole, checked and written
    -> SyncPart
    ---
    n_records           : int32             # in the answer, each counted once
    n_new               : int32             # not known before
    n_changed           : int32             # known with other values
    n_refused           : int32             # that can't be stored or read; see ingestion.Failure
    n_unread            : int32             # of these, those that the server fails on in its list
    largest_stamp=null  : varchar(32)       # of its records, as the server wrote it
    absent              : json              # ids in its range that the server no longer has
    postponed           : json              # ids whose parents are not there yet
    written             : json              # table -> rows inserted, updated, unchanged
    outdated            : json              # table -> results deleted that were made from what changed
    """

    def inputs(self, key):
        """A part is pulled once."""
        return []

    def make_fetch(self, key):
        resource, scope = (SyncPart & key).fetch1("resource", "scope")
        source = (Run & key).fetch1("source")
        url = (Source & {"source": source}).fetch1("location")
        return resource, scope, source, url, (SyncRun & key).fetch1("sync_options")["workers"]

    def make_compute(self, key, resource, scope, source, url, workers):
        pull = importlib.import_module(PULL)
        return resource, scope, source, pull.pull(pull.open_client(url, workers), source, resource, scope)

    def make_insert(self, key, resource, scope, source, pulled):
        write = importlib.import_module(WRITE).write
        self.insert1({**key, **write(self.connection, key["run"], source, resource, scope, pulled)})


@schema
class SyncCursor(dj.Manual):
    definition = """
    # up to where the changes of one resource are known
    -> Source
    resource            : varchar(32)       # as in the path of the endpoint
    ---
    cursor_stamp        : varchar(32)       # largest stamp of its records, as the server wrote it
    -> Run
    """


@schema
class SourceRecord(dj.Manual):
    definition = """
    # one record of a server, as it was when its rows were written
    -> Source
    resource            : varchar(32)       # as in the path of the endpoint
    record_id           : varchar(255)      # uuid, or the name of what has none
    ---
    record_sha256       : char(64)          # of the record without what the server computes
    vanished_in=null    : char(36)          # run that no longer found it
    """

"""Ingestion: where rows came from, what each run did, and what it overwrote."""

import datajoint as dj

schema = dj.Schema()


@schema
class Source(dj.Manual):
    definition = """
    # one configured place that data comes from
    source              : varchar(64)       # short name, given or made from adapter and location
    ---
    adapter             : varchar(32)       # the adapter that reads it
    location            : varchar(1024)     # folder, file or address, without credentials
    source_lab          : varchar(64)       # the lab its rows belong to
    options=null        : json              # what it was ingested with, without secrets
    """


@schema
class Run(dj.Manual):
    definition = """
    # one run of an adapter over a source
    run                 : char(36)          # uuid
    ---
    -> Source
    status              : enum('running', 'finished', 'failed') # how far it got
    started             : datetime(6)       # UTC
    finished=null       : datetime(6)       # UTC
    started_by=''       : varchar(64)       # who ran it
    host=''             : varchar(255)      # on which machine
    version=''          : varchar(32)       # of labweave
    counts=null         : json              # units seen, new, changed, unchanged, failed and rows per table
    run_message=''      : varchar(2000)     # why it failed
    """


@schema
class SourceFile(dj.Manual):
    definition = """
    # one file of a source, as it was when its rows were written
    -> Source
    path                : varchar(512)      # posix path below the source's location
    ---
    unit                : varchar(512)      # the unit of work it belongs to
    size                : int64             # bytes
    mtime_ns            : int64             # time of last change, ns since 1970
    sha256              : char(64)          # of its bytes
    adapter_version     : int32             # counts up when the adapter reads the same file otherwise
    options_sha256      : char(64)          # of the options that change what is read from it
    file_status         : enum('ingested', 'vanished') # vanished: no longer at the source; its rows stay
    -> Run
    """


@schema
class Given(dj.Manual):
    definition = """
    # the rows that a unit gave in one session, so that what it no longer gives can be taken out
    source          : varchar(64)       # as in Source; its row may be deleted, and the rows still be there
    unit            : varchar(512)      # as in SourceFile
    eid             : varchar(36)       # the session; empty for a unit without one
    ---
    given_keys      : bytes             # their primary keys by table, packed
    index (eid)
    """


@schema
class Shared(dj.Manual):
    definition = """
    # one row of no session that units gave, such as a subject; a row that a person made is not among them
    shared_sha256   : char(32)          # first half of the hash of table and key
    ---
    table_name      : varchar(96)       # schema and table
    row_key         : json              # its primary key
    n_units         : int32             # how many units give it
    """


@schema
class Forgotten(dj.Manual):
    definition = """
    # one unit that is not wanted: later runs leave it out
    source          : varchar(64)       # as in Source
    unit            : varchar(512)      # as in SourceFile; empty for all of the source
    """


@schema
class Change(dj.Manual):
    definition = """
    # one row that was overwritten or deleted, with what it held before
    change_id           : char(36)          # uuid
    ---
    table_name          : varchar(96)       # module and table class
    row_key             : json              # its primary key
    old_values=null     : json              # the attributes that changed, before
    new_values=null     : json              # and after; null when the row was deleted
    change_kind=''      : varchar(16)       # updated, deleted, or outdated: a result that is to be made again
    run=null            : char(36)          # the ingestion run that did it, if any
    changed_by=''       : varchar(64)       # who did it
    changed_at          : datetime(6)       # UTC
    row_sha256=''       : char(32)          # first half of the hash of table and key
    index (table_name, changed_at)
    index (row_sha256)
    """


@schema
class OpenFailure(dj.Manual):
    definition = """
    # one unit or file that could not be ingested, and still can't
    -> Source
    path                : varchar(512)      # posix path of the unit or file below the location
    ---
    unit                : varchar(512)      # the unit of work it belongs to
    state_sha256        : varchar(64)       # hash of sizes, times, options and version; empty: each run tries it again
    error_class         : varchar(64)       # for example ReadError
    message             : varchar(2000)     # what, where, what next
    -> Run
    """


@schema
class Failure(dj.Manual):
    definition = """
    # one unit or file that a run could not ingest
    -> Run
    path                : varchar(512)      # posix path of the unit below the location
    ---
    error_class         : varchar(64)       # for example ReadError
    message             : varchar(2000)     # what, where, what next
    traceback=null      : <blob>            # text, for errors that nobody foresaw
    """

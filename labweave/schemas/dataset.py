"""Datasets: the files of sessions, what they are, and where their copies are."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import datajoint as dj

from labweave.schemas.lab import Lab, LabMember
from labweave.schemas.session import QC, Session

schema = dj.Schema()


@schema
class DataFormat(dj.Manual):
    definition = """
    # one format of files
    data_format         : varchar(255)      # for example npy
    ---
    data_format_uuid=null : char(36)        # tells that it is the same one after a rename
    file_extension=''   : varchar(255)      # with the dot
    format_description='' : varchar(2000)   # in words
    format_json=null    : json              # what else the source says
    format_vanished=null : char(36)         # run that no longer found it at its source
    unique index (data_format_uuid)
    """


@schema
class DatasetType(dj.Manual):
    definition = """
    # one kind of content
    dataset_type        : varchar(255)      # for example spikes.times
    ---
    dataset_type_uuid=null : char(36)       # tells that it is the same one after a rename
    filename_pattern='' : varchar(255)      # of the files that hold it
    type_description='' : varchar(2000)     # in words
    type_json=null      : json              # what else the source says
    type_vanished=null  : char(36)          # run that no longer found it at its source
    unique index (dataset_type_uuid)
    """


@schema
class Repository(dj.Manual):
    definition = """
    # one place that holds files
    repository          : varchar(255)      # short name
    ---
    repository_kind     : varchar(32)       # bucket, server, personal (one machine) or other
    data_url=''         : varchar(1000)     # address of its root
    root_path=''        : varchar(1000)     # of its root, on its own machine
    hostname=''         : varchar(255)      # of that machine
    repository_time_zone='' : varchar(64)   # IANA name
    repository_json=null : json             # what else the source says
    repository_vanished=null : char(36)     # run that no longer found it at its source
    """


@schema
class LabRepository(dj.Manual):
    definition = """
    # one repository that a lab uses
    -> Lab
    -> Repository
    """


@schema
class Revision(dj.Manual):
    definition = """
    # one name for a later state of datasets
    revision            : varchar(128)      # as between the # of a path, for example 2024-02-15
    ---
    revision_uuid=null  : char(36)          # tells that it is the same one after a rename
    revision_description='' : varchar(2000) # in words
    revision_created=null : datetime(6)     # UTC
    revision_json=null  : json              # what else the source says
    revision_vanished=null : char(36)       # run that no longer found it at its source
    unique index (revision_uuid)
    """


@schema
class Tag(dj.Manual):
    definition = """
    # one label of datasets, for example of those behind a paper
    tag                 : varchar(255)      # name
    ---
    tag_uuid=null       : char(36)          # tells that it is the same one after a rename
    is_protected=0      : bool              # its datasets must not change
    is_public=0         : bool              # its datasets are open to everybody
    tag_hash=''         : varchar(64)       # of its datasets together
    tag_description=''  : varchar(2000)     # in words
    tag_json=null       : json              # what else the source says
    tag_vanished=null   : char(36)          # run that no longer found it at its source
    unique index (tag_uuid)
    """


@schema
class Dataset(dj.Manual):
    definition = """
    # one file of a session: collection/#revision#/name
    dataset_id          : char(36)          # uuid in lower case
    ---
    -> [nullable] Session
    collection=''       : varchar(255)      # folder below the session's
    -> [nullable] Revision
    dataset_name        : varchar(255)      # name of the file
    -> [nullable] DatasetType
    -> [nullable] DataFormat
    file_size=null      : int64             # bytes
    hash=''             : varchar(64)       # md5 or sha1 of the bytes, in hex
    version=''          : varchar(64)       # of the program that wrote it
    -> [nullable] QC.proj(dataset_qc='qc')
    is_default=1        : bool              # the revision to load when none is named
    -> [nullable] LabMember.proj(created_by='user')
    created=null        : datetime(6)       # UTC; when it was registered
    dataset_stamp=null  : datetime(6)       # UTC; last change, as the source wrote it
    dataset_json=null   : json              # what else the source says
    dataset_vanished=null : char(36)        # run that no longer found it at its source
    is_present=0        : bool              # a copy of it is there; follows FileRecord
    index (eid, dataset_vanished, collection, revision, dataset_name, dataset_qc, is_default)
    index (dataset_name, dataset_vanished, is_present, eid, dataset_qc)
    """
    derived = frozenset({"is_present"})

    @classmethod
    def update_presence(cls) -> int:
        """Bring `is_present` of all datasets in line with their copies, and return how many were wrong.

        Needed after ``FileRecord`` was changed by plain SQL, or by DataJoint through another table.
        """
        connection: Any = cls._connection
        return connection.run_transaction(lambda: connection.update_derived(FileRecord))


@schema
class FileRecord(dj.Manual):
    definition = """
    # one copy of a dataset in a repository
    file_record_id      : char(36)          # uuid in lower case
    ---
    -> Dataset
    -> Repository
    relative_path       : varchar(1000)     # below the repository's root
    present             : bool              # it is there
    file_json=null      : json              # what else the source says
    file_vanished=null  : char(36)          # run that no longer found it at its source
    index (dataset_id, present, file_vanished)
    """
    decides: ClassVar[dict[str, Any]] = {
        "table": Dataset,
        "attribute": "is_present",
        "key": "dataset_id",
        "needs": {"present": True, "file_vanished": None},
    }

    # DataJoint's own methods keep Dataset.is_present right, too; of its deletes the connection takes care.

    def insert(self, rows: Any, *args: Any, **options: Any) -> None:
        """Insert copies. Rows that are not mappings don't show their datasets, so all datasets are checked."""
        rows = list(rows) if isinstance(rows, (list, tuple, Iterator)) else rows
        known = isinstance(rows, list) and all(isinstance(row, Mapping) and "dataset_id" in row for row in rows)
        ids = [row["dataset_id"] for row in rows] if known else None
        insert = super().insert
        self._change(lambda: insert(rows, *args, **options), ids)

    def update1(self, row: Mapping[str, Any]) -> None:
        """Update one copy."""
        of_now, ids, update = FileRecord & {"file_record_id": row["file_record_id"]}, set[str](), super().update1

        def work() -> None:
            ids.update(of_now.to_arrays("dataset_id"))
            update(row)
            ids.update(of_now.to_arrays("dataset_id"))

        self._change(work, ids)

    def _change(self, work: Callable[[], Any], ids: Iterable[str] | None) -> Any:
        """Do `work` on copies, then bring up to date the datasets in `ids`, or all of them."""

        def change() -> Any:
            result = work()
            self.connection.update_derived(FileRecord, ids)
            return result

        return self.connection.run_transaction(change)


@schema
class DatasetTag(dj.Manual):
    definition = """
    # one tag of a dataset
    -> Dataset
    -> Tag
    """


@schema
class AggregateDataset(dj.Manual):
    definition = """
    # whose a dataset without a session is
    -> Dataset
    ---
    aggregate_relation  : varchar(64)       # what it is of, for example Subjects
    aggregate_identifier : varchar(255)     # which of them, for example cortexlab/CL_001
    index (aggregate_relation, aggregate_identifier)
    """

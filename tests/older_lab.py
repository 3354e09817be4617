"""A lab as labweave's first version made it, without the indexes that Session got without a migration."""

from labweave.database import declare
from labweave.schemas import dataset, efeature, ingestion, provenance, recording, session

TABLES = (dataset.Dataset, session.Session)
"""Those whose indexes an upgrade changes."""


def indexes(database):
    """Return the indexes of these tables."""
    return [
        set(database.connection.adapter.indexes(database.connection, cls.database, cls.table_name)) for cls in TABLES
    ]


def make_older(database):
    """Take out of an open lab what came with later versions."""
    query, quote = database.connection.query, database.connection.adapter.quote_identifier
    tables = [(cls.full_table_name, cls.database, cls.table_name) for cls in TABLES]
    old = {
        "eid": "eid, collection, revision, dataset_name",
        "dataset_name": "dataset_name, eid, dataset_vanished, dataset_qc, dataset_id",
    }
    for (name, *place), columns in zip(tables, (old, {}), strict=True):
        found = database.connection.adapter.indexes(database.connection, *place)
        for start in (
            "eid, dataset_vanished",
            "dataset_name, ",
            "session_number, ",
            "path_lab, ",
            "session_date, ",
        ):
            for index in [index for listed, index in found.items() if listed.startswith(start)]:
                own = f"drop index {quote(place[0])}.{quote(index)}"
                again = [f"add index ({each})" for key, each in columns.items() if start.startswith(key)]
                if database.backend == "mysql":
                    query(f"alter table {name} {', '.join([f'drop index {quote(index)}', *again])}")
                else:
                    query(own)
        if database.backend == "postgresql":
            for each in columns.values():
                query(database.connection.adapter.create_index_ddl(name, each.split(", ")))
    query(f"alter table {tables[0][0]} drop column is_present")
    recordings = recording.Recording.full_table_name
    query(f"alter table {recordings} drop column recording_vanished")
    changes = ingestion.Change.full_table_name
    index = database.connection.adapter.indexes(database.connection, ingestion.Change.database, "change")
    if database.backend == "mysql":
        query(f"alter table {changes} drop index {quote(index['row_sha256'])}")
    for name in ("change_kind", "changed_by", "row_sha256"):
        query(f"alter table {changes} drop column {name}")
    register = declare.Register(database.connection)
    for cls in (*declare.table_classes(provenance)[::-1], efeature.ExtractionTask, recording.SweepExclusion):
        query(f"drop table {cls.full_table_name}")
        query(
            f"delete from {register._declared} where schema_name = %s and table_name = %s",
            (cls.database, cls.table_name),
        )
    register.set_declared(tables[0][1], "dataset", "0" * 64)
    register.set_declared(recording.Recording.database, "recording", "0" * 64)
    register.set_version(1, "0.1")

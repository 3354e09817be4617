"""Migrations: numbered steps that bring an older lab database to this labweave's tables.

A step only adds: columns that are nullable or have a default, and indexes, which may replace narrower ones. Any other
change is a new table. New tables need no SQL: what is missing is declared after the last step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from labweave.database import declare
from labweave.database.changes import row_sha256
from labweave.database.connection import LabConnection
from labweave.database.inputs import fingerprints
from labweave.database.reads import VALUES_AT_ONCE, among
from labweave.database.writes import upsert
from labweave.schemas.dataset import FileRecord
from labweave.schemas.provenance import Made


@dataclass(frozen=True)
class Migration:
    """One numbered step.

    Attributes
    ----------
    version : int
        The schema version after it.
    what : str
        In the user's words, for the changelog and ``labweave db upgrade``.
    apply : callable
        Takes the connection; may run again after being killed, so it looks before it changes.
    """

    version: int
    what: str
    apply: Callable[[LabConnection], None]


def add_column(
    connection: LabConnection,
    table: str,
    name: str,
    *,
    sql_type: str,
    original_type: str,
    comment: str,
    default: str = "",
) -> None:
    """Add a column with the comment that tells DataJoint its type.

    Parameters
    ----------
    connection : LabConnection
    table : str
        ``module.table_name`` without the prefix, for example ``session._session``.
    name : str
    sql_type : str
        One that MySQL, MariaDB and PostgreSQL all know, for example ``varchar(64)``.
    original_type : str
        As a definition writes it, for example ``float64``; same as `sql_type` for text.
    comment : str
        What it holds, with its unit.
    default : str, optional
        As SQL writes it; without one the column is nullable.
    """
    module, _, table_name = table.partition(".")
    marked = f":{original_type}:{comment}".replace("'", "''")
    definition = f"{sql_type} not null default {default}" if default else f"{sql_type} null"
    connection.adapter.add_column(connection, connection.prefix + module, table_name, name, definition, marked)


def replace_index(connection: LabConnection, table: str, columns: str, instead_of: str = "") -> None:
    """Add an index unless one has the same columns, and drop the index that it replaces.

    Parameters
    ----------
    connection : LabConnection
    table : str
        As for `add_column`.
    columns, instead_of : str
        As a definition lists them.
    """
    module, _, table_name = table.partition(".")
    schema = connection.prefix + module
    found = connection.adapter.indexes(connection, schema, table_name)
    new = [] if columns in found else columns.split(", ")
    connection.adapter.replace_index(connection, schema, table_name, found.get(instead_of), new)


def _add_presence(connection: LabConnection) -> None:
    """Start with true, since almost every dataset has a copy: few rows are then rewritten."""
    add_column(
        connection,
        "dataset.dataset",
        "is_present",
        sql_type="bool",
        original_type="bool",
        comment="a copy of it is there; follows FileRecord",
        default="true",
    )
    table = connection.adapter.make_full_table_name(f"{connection.prefix}dataset", "dataset")
    connection.query(f"alter table {table} alter column is_present set default false")
    connection.run_transaction(lambda: connection.update_derived(FileRecord))
    for columns, before in (
        ("eid, dataset_vanished, collection, revision, dataset_name, dataset_qc, is_default",
         "eid, collection, revision, dataset_name"),
        ("dataset_name, dataset_vanished, is_present, eid, dataset_qc",
         "dataset_name, eid, dataset_vanished, dataset_qc, dataset_id"),
    ):  # fmt: skip
        replace_index(connection, "dataset.dataset", columns, before)
    replace_index(connection, "dataset.file_record", "dataset_id, present, file_vanished")
    for columns in (
        "session_number, session_date, start_time, subject, session_vanished, eid",
        "path_lab, lab, session_date, start_time, subject, session_number, session_vanished, eid",
        "session_date, start_time, subject, session_number, lab, path_lab, session_vanished, eid",
    ):
        replace_index(connection, "session.session", columns)
    declare.redeclared(connection, {"Dataset", "FileRecord", "Session"})


def _add_vanished_recordings(connection: LabConnection) -> None:
    add_column(
        connection,
        "recording.recording",
        "recording_vanished",
        sql_type="char(36)",
        original_type="char(36)",
        comment="run that no longer found its files",
    )
    declare.redeclared(connection, {"Recording"})


def _add_tasks(connection: LabConnection) -> None:
    """Ask for every extraction that was made: until now all groups met all targets."""
    declare.declare_all(connection)
    names = [
        connection.adapter.make_full_table_name(f"{connection.prefix}efeature", name)
        for name in ("extraction_task", "__extraction")
    ]
    columns = "cell_group, target_set, rheobase_method"
    connection.query(
        f"insert into {names[0]} ({columns}) select {columns} from {names[1]} e where not exists"
        f" (select 1 from {names[0]} t where t.cell_group = e.cell_group and t.target_set = e.target_set"
        " and t.rheobase_method = e.rheobase_method)"
    )


def _add_who_changed(connection: LabConnection) -> None:
    for name, kind, comment in (
        ("change_kind", "varchar(16)", "updated, deleted, or outdated: a result that is to be made again"),
        ("changed_by", "varchar(64)", "who did it"),
        ("row_sha256", "char(32)", "first half of the hash of table and key"),
    ):
        add_column(
            connection, "ingestion.change", name, sql_type=kind, original_type=kind, comment=comment, default="''"
        )
    change = connection.adapter.make_full_table_name(f"{connection.prefix}ingestion", "change")
    connection.query(
        f"update {change} set change_kind = case when new_values is null then 'deleted' else 'updated' end"
        " where change_kind = ''"
    )
    select = f"select change_id, table_name, row_key from {change} where row_sha256 = '' limit {VALUES_AT_ONCE}"
    while rows := connection.query(select).fetchall():
        values: list[str] = []
        for change_id, label, key in rows:
            values += [change_id, row_sha256(label, json.loads(key) if isinstance(key, str) else key)]
        connection.query(
            f"update {change} set row_sha256 = case change_id {'when %s then %s ' * len(rows)}end"
            f" where {among('change_id', rows)}",
            (*values, *(row[0] for row in rows)),
        )
    replace_index(connection, "ingestion.change", "row_sha256")
    declare.redeclared(connection, {"Change"})


def _count_as_made(connection: LabConnection) -> None:
    """Keep hashes of the form of now: those of before would have every efeature read from its file again."""
    declare.declare_all(connection)
    declare.bind(connection)
    known = set(Made().to_arrays("made"))
    for cls in declare.every_table():
        if declare.is_computed(cls):
            found = [(made, inputs) for made, inputs in fingerprints(cls()) if made in known]
            upsert(Made, [{"made": made, "inputs": inputs} for made, inputs in found], update=["inputs"])


MIGRATIONS: tuple[Migration, ...] = (
    Migration(2, "datasets say whether a copy of them is there; wider indexes for searches and lists", _add_presence),
    Migration(3, "units know the rows they gave; recordings say when their files are gone", _add_vanished_recordings),
    Migration(4, "results say what they were made from; extractions are asked for", _add_tasks),
    Migration(5, "changes say of which kind they are and who made them", _add_who_changed),
    Migration(6, "what results rest on is hashed faster; results count as made from what is there now", _count_as_made),
    Migration(7, "nights, and what each of their steps did, are kept", lambda connection: None),
)
"""Every step since version 1, in order."""

SCHEMA_VERSION = MIGRATIONS[-1].version
"""What this labweave's tables are at: the version after the last step."""

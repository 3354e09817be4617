"""Migrations: numbered steps that bring an older lab database to this labweave's tables.

Each step only adds (columns that are nullable or have a default, indexes, tables), or puts a wider index in the place
of one; anything else is a new table.
New tables need no SQL: declaring what is missing follows the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labweave.database import declare
from labweave.database.connection import LabConnection
from labweave.schemas.presence import update_presence


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
    schema = connection.prefix + module
    found = connection.query(
        "select count(*) from information_schema.columns"
        " where table_schema = %s and table_name = %s and column_name = %s",
        (schema, table_name, name),
    ).fetchone()[0]
    full_name = connection.adapter.make_full_table_name(schema, table_name)
    column = connection.adapter.quote_identifier(name)
    marked = f":{original_type}:{comment}".replace("'", "''")
    presence = f"not null default {default}" if default else "null"
    if connection.adapter.backend == "mysql":
        if not found:
            connection.query(f"alter table {full_name} add column {column} {sql_type} {presence} comment '{marked}'")
        return
    connection.query(f"alter table {full_name} add column if not exists {column} {sql_type} {presence}")
    connection.query(f"comment on column {full_name}.{column} is '{marked}'")


def replace_index(connection: LabConnection, table: str, columns: str, instead_of: str = "") -> None:
    """Add an index where there is none of these columns, and drop the one whose place it takes.

    Parameters
    ----------
    connection : LabConnection
    table : str
        As for `add_column`.
    columns, instead_of : str
        As a definition lists them.
    """
    module, _, table_name = table.partition(".")
    schema, adapter = connection.prefix + module, connection.adapter
    full_name, quote = adapter.make_full_table_name(schema, table_name), adapter.quote_identifier
    found = _indexes(connection, schema, table_name)
    wanted, old = columns.split(", "), found.get(instead_of)
    if adapter.backend == "mysql":
        # In one statement: a foreign key can't be without its index.
        parts = [f"drop index {quote(old)}"] if old else []
        parts += [f"add index ({', '.join(map(quote, wanted))})"] if columns not in found else []
        if parts:
            connection.query(f"alter table {full_name} {', '.join(parts)}")
        return
    if old:  # first: DataJoint cuts the names of indexes, and both may have the same one
        connection.query(f"drop index {quote(schema)}.{quote(old)}")
    if columns not in found:
        connection.query(adapter.create_index_ddl(full_name, wanted))


def _indexes(connection: LabConnection, schema: str, table_name: str) -> dict[str, str]:
    """Return the columns of each index of a table, as a definition lists them, and its name."""
    if connection.adapter.backend == "mysql":
        sql = (
            "select index_name, column_name from information_schema.statistics"
            " where table_schema = %s and table_name = %s order by index_name, seq_in_index"
        )
    else:
        sql = (
            "select i.indexrelid::regclass::text, a.attname from pg_index i"
            " join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace"
            " join pg_attribute a on a.attrelid = i.indexrelid"
            " where n.nspname = %s and c.relname = %s order by i.indexrelid, a.attnum"
        )
    columns: dict[str, list[str]] = {}
    for name, column in connection.query(sql, (schema, table_name)).fetchall():
        columns.setdefault(name.rpartition(".")[2].strip('"'), []).append(column)
    return {", ".join(names): name for name, names in columns.items()}


def _add_presence(connection: LabConnection) -> None:
    """Almost every dataset has a copy that is there: a column that begins with true is added without a rewrite."""
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
    connection.run_transaction(lambda: update_presence(connection))
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


MIGRATIONS: tuple[Migration, ...] = (
    Migration(2, "datasets say whether a copy of them is there; wider indexes for searches and lists", _add_presence),
)
"""Every step since version 1, in order."""

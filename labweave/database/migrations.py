"""Migrations: numbered steps that bring an older lab database to this labweave's tables.

Each step only adds (nullable columns, indexes, tables); anything else is a new table.
New tables need no SQL: declaring what is missing follows the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labweave.database.connection import LabConnection


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


MIGRATIONS: tuple[Migration, ...] = ()
"""Every step since version 1, in order."""


def add_column(
    connection: LabConnection, table: str, name: str, *, sql_type: str, original_type: str, comment: str
) -> None:
    """Add a nullable column with the comment that tells DataJoint its type.

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
    if connection.adapter.backend == "mysql":
        if not found:
            connection.query(f"alter table {full_name} add column {column} {sql_type} null comment '{marked}'")
        return
    connection.query(f"alter table {full_name} add column if not exists {column} {sql_type}")
    connection.query(f"comment on column {full_name}.{column} is '{marked}'")

"""The tables of some schemas: which there are, what is in them, who refers to them, and where they name schemas.

A `server` is one of the two ways to dump, `mysql` or `postgresql`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labweave.database.backup.file import Sums
from labweave.database.reads import among, in_parts

NAMING = {"~lineage": "lineage", "declared": "schema_name"}
"""Tables of DataJoint and of the register -> the column whose text begins with the name of a schema."""

COLUMNS_AT_ONCE = 90
"""PostgreSQL's functions take 100 arguments."""


def existing_schemas(connection: Any, schemas: Iterable[str]) -> list[str]:
    """Return those of some schemas that exist."""
    schemas = tuple(schemas)
    query = f"select schema_name from information_schema.schemata where {among('schema_name', schemas)} order by 1"
    return [name for (name,) in ask(connection, query, schemas)]


def existing_tables(connection: Any, schemas: Iterable[str]) -> list[tuple[str, str]]:
    """Return schema and name of each table in some schemas; views don't count."""
    schemas = tuple(schemas)
    return ask(
        connection,
        "select table_schema, table_name from information_schema.tables"
        f" where table_type = 'BASE TABLE' and {among('table_schema', schemas)} order by 1, 2",
        schemas,
    )


def count_rows(connection: Any, server: Any, tables: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return the number of rows of each table that has any, by its name with the schema."""
    names = {f"{schema}.{table}": f"{server.quote(schema)}.{server.quote(table)}" for schema, table in tables}
    counts = {name: run(connection, f"select count(*) from {full}").fetchone()[0] for name, full in names.items()}
    return {name: count for name, count in counts.items() if count}


def sums(connection: Any, server: Any, schemas: Iterable[str]) -> Sums:
    """Return of each table how many rows it has, and a sum over their hashes, for which their order doesn't matter."""
    schemas, adapter = tuple(schemas), connection.adapter
    found: Sums = {schema: {} for schema in schemas}
    columns: dict[tuple[str, str], list[str]] = {table: [] for table in existing_tables(connection, schemas)}
    for schema, table, column, kind in ask(
        connection,
        "select table_schema, table_name, column_name, data_type from information_schema.columns"
        f" where {among('table_schema', schemas)} order by ordinal_position",
        schemas,
    ):
        if (schema, table) in columns:
            is_binary = kind.endswith(("blob", "binary", "bytea"))
            value = server.EXACT.get(kind, "{}").format(server.quote(column))
            columns[schema, table].append(f"coalesce({adapter.text_of(value, is_binary)}, '-')")
    for (schema, table), texts in columns.items():
        text = _joined([_joined(part) for part in in_parts(texts, COLUMNS_AT_ONCE)])
        number = adapter.number_of(adapter.sha256_of(text))
        query = f"select count(*), coalesce(sum({number}), 0) from {server.quote(schema)}.{server.quote(table)}"
        found[schema][table] = [str(value) for value in run(connection, query).fetchone()]
    return found


def _joined(texts: list[str]) -> str:
    return f"concat_ws('|', {', '.join(texts)})" if texts else "''"


def differences(before: Sums, now: Sums, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each table that is not as it was, and what is different; `names` has the schema of now for each of before.

    Nothing is known of a table before where the backup is of format 1.
    """
    for schema, tables in before.items():
        there = now[names[schema]]
        for table in sorted(tables.keys() | there.keys()):
            old, new = tables.get(table), there.get(table)
            if old is None or new is None:
                yield f"{schema}.{table}", "not in the backup's list" if old is None else "missing"
            elif old[0] != new[0]:
                yield f"{schema}.{table}", f"{new[0]} rows, {old[0]} were backed up"
            elif old != new:
                yield f"{schema}.{table}", "other values than were backed up"


def references(connection: Any, server: Any, schemas: Iterable[str], *, leaving: bool) -> str:
    """Return the foreign keys that cross the border of some schemas, outwards or inwards, as text."""
    schemas = tuple(schemas)
    inside, outside = ("child", "parent") if leaving else ("parent", "child")
    found = ask(
        connection,
        f"select child, child_table, parent, parent_table from ({server.LINKS}) links"
        f" where {among(inside, schemas)} and not {among(outside, schemas)} order by 1, 2, 3, 4",
        (*schemas, *schemas),
    )
    text = ", ".join(f"{row[0]}.{row[1]} -> {row[2]}.{row[3]}" for row in found[:3])
    return text + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def rename_inside(connection: Any, server: Any, schemas: Iterable[str], names: Mapping[str, str]) -> None:
    """Let the rows of some schemas that name other schemas follow new names."""
    for schema, table in existing_tables(connection, schemas):
        if (column := NAMING.get(table)) is None:
            continue
        full_name = f"{server.quote(schema)}.{server.quote(table)}".replace("%", "%%")
        for old, new in names.items():
            connection.query(
                f"update {full_name} set {column} = concat(%s, substr({column}, %s))"
                f" where {column} = %s or left({column}, %s) = %s",
                (new, len(old) + 1, old, len(old) + 1, f"{old}."),
                reconnect=False,
            )


def ask(connection: Any, query: str, values: tuple[str, ...]) -> list[tuple]:
    """Return the rows of a query about the catalogue; none where it asks for nothing."""
    return list(connection.query(query, values, reconnect=False).fetchall()) if values else []


def run(connection: Any, statement: str) -> Any:
    """Run a statement with names in it, in the session that is open: another one would read another state."""
    return connection.query(statement.replace("%", "%%"), reconnect=False)

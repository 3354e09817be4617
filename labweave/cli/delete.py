"""``labweave delete``: rows with all that hangs on them, once somebody has seen what would go and whose it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from labweave.cli.base import Key, TableName, find_rows, open_database, out, print_table

NAMED = 3
"""How many people and units are named for each table."""

LOOKED_AT = 1000
"""For so many rows of a table the units and records that gave them are looked up."""


def delete(
    table: TableName,
    key: Key,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; list what would go")] = False,
) -> None:
    """Delete rows and all that hangs on them, once you have seen what would go, and whose it is.

    ingestion.Change keeps what they held. What files still give comes back with the next ingest; to be rid of it, see:
    labweave forget
    """
    from labweave.database.rights import Rights
    from labweave.errors import ConfigError

    if not (yes or dry_run or sys.stdin.isatty()):
        raise ConfigError("There is no terminal to ask at: nothing is deleted. Look with --dry-run, then say --yes.")
    with open_database() as database:
        if not dry_run:
            Rights.of(database.connection).require("admin", "Deleting rows")
        rows = find_rows(table, key)
        _refuse(rows, table, key)
        shown = _counts(rows)
        print_table(
            ("table", "rows", "whose"), [(label, count, _whose(part, count)) for label, count, part in _cascade(rows)]
        )
        if dry_run or not (yes or typer.confirm("Delete them?")):
            out.print("Nothing is deleted")
            return
        deleted = database.connection.run_transaction(lambda: _delete(rows, None if yes else shown))
        out.print(f"{sum(deleted.values())} rows deleted; ingestion.Change keeps what they held")


def _refuse(rows: Any, table: str, key: list[str]) -> None:
    """Refuse what is not there, or not to be deleted by itself."""
    from labweave.database.changes import BOOK_KEEPING
    from labweave.database.inputs import is_name_of_results
    from labweave.database.reads import table_label
    from labweave.errors import SchemaError

    schema, _, name = table_label(rows).partition(".")
    if schema in BOOK_KEEPING:
        raise SchemaError(f"{table} is labweave's own book-keeping. To be rid of a source's rows: labweave forget")
    if (master := getattr(rows, "_master", None)) and is_name_of_results(master.full_table_name):
        raise SchemaError(
            f"A row of {table} is a part of a result. Delete all of it: labweave delete {master.__name__}"
        )
    if not rows:
        raise SchemaError(f"No row of {name} has {' '.join(key)}. Nothing is deleted.")


def _cascade(rows: Any) -> Iterator[tuple[str, int, Any]]:
    """Yield each table from which rows would go, parents first: its name, how many, and these rows."""
    from datajoint import Diagram

    from labweave.database.inputs import find_table
    from labweave.database.reads import table_label

    for part in Diagram.cascade(rows, part_integrity="ignore"):
        if count := len(part):
            yield table_label(find_table(part.connection, part.full_table_name)), count, part


def _counts(rows: Any) -> dict[str, int]:
    return {label: count for label, count, _ in _cascade(rows)}


def _delete(rows: Any, shown: dict[str, int] | None) -> dict[str, int]:
    """Delete rows in the transaction of the caller, and return how many, by table.

    Raises
    ------
    DatabaseError
        Somebody has written or deleted some since they were shown.
    """
    from datajoint import Diagram

    from labweave.errors import DatabaseError

    for part in Diagram.cascade(rows, part_integrity="ignore"):  # nobody hangs a row on these meanwhile
        part.connection.query(f"select 1 from {part.full_table_name}{part.where_clause()} for update").fetchall()
    counts = _counts(rows)
    if shown not in (None, counts):
        raise DatabaseError("Somebody wrote or deleted such rows meanwhile: nothing is deleted. Look again.")
    rows.delete(transaction=False, prompt=False, part_integrity="ignore")
    return counts


def _whose(rows: Any, count: int) -> str:
    """Return who made results, or which units and records gave the other rows, and who ingested those."""
    from labweave.database.inputs import find_table, is_name_of_results

    table = find_table(rows.connection, rows.full_table_name)
    if is_name_of_results(rows.full_table_name):
        return f"made by {_listed(_makers(table, rows))}"
    units = _givers(table, rows) if count <= LOOKED_AT else []
    return f"from {_listed(units)}" if units else ""


def _makers(table: Any, rows: Any) -> list[str]:
    from labweave.database.inputs import made_id
    from labweave.schemas.provenance import Made

    found = rows.connection.query(
        f"select coalesce(m.made_by, ''), count(*) from ({rows.proj().make_sql()}) t"
        f" left join {Made.full_table_name} m on m.made = {made_id(table, 't')} group by 1 order by 2 desc"
    ).fetchall()
    return [f"{who or 'somebody'} ({count})" for who, count in found]


def _givers(table: Any, rows: Any) -> list[str]:
    from labweave.ingest.origins import find_origins
    from labweave.schemas.ingestion import Run, SourceFile

    found = []
    for origin in find_origins(rows.connection, {"": (table, rows.keys())}):
        files = SourceFile & {"source": origin.source, "unit": origin.unit}
        who = sorted({row["started_by"] for row in (files.proj("run") * Run.proj("started_by")).to_dicts()} - {""})
        by = f" (ingested by {', '.join(who)})" if who else ""
        found.append(f"{origin.source} {origin.unit or origin.record}{by}")
    return found


def _listed(names: list[str]) -> str:
    more = [f"{len(names) - NAMED} more"] * (len(names) > NAMED)
    return ", ".join([*names[:NAMED], *more])

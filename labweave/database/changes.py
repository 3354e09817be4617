"""``ingestion.Change``: what rows held before they were overwritten or deleted, by whom and when.

DataJoint deletes rows by one statement, that of `Table.delete_quick`: also those that a delete cascades to, and those
of a lab's own tables. `LabConnection` knows it by its first words, and has `delete` carry it out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labweave.database.batches import Changed, shown
from labweave.database.dialect import TransientError
from labweave.database.inputs import find_table
from labweave.database.made import user
from labweave.database.reads import in_parts, table_label
from labweave.database.values import make_columns, to_json

BOOK_KEEPING = ("ingestion", "provenance", "work", "alyx")
"""Schemas about the work itself: of their rows no change is kept."""

UPDATED, DELETED, OUTDATED = "updated", "deleted", "outdated"
"""Kinds of change. Outdated is a result that labweave has deleted, to be made again."""

_statement_of_datajoint = re.compile(r"DELETE FROM ([`\"](.+?)[`\"]\.[`\"](.+?)[`\"])(.*)", re.DOTALL).fullmatch


def kept_deletion(connection: Any, statement: str) -> tuple[str, str] | None:
    """Return the full name of the table from which DataJoint's statement deletes rows that are kept, and which rows."""
    if not statement.startswith("DELETE FROM ") or not (found := _statement_of_datajoint(statement)):
        return None
    full_name, schema, table, where = found.groups()
    is_book_keeping = schema.removeprefix(connection.prefix) in BOOK_KEEPING or table.startswith("~")  # a queue
    return None if is_book_keeping else (full_name, where)


def delete(connection: Any, full_name: str, where: str, args: tuple) -> Any:
    """Delete rows in the transaction of the caller, keep what they held, and return the cursor of the deletion.

    Bytes stay on the server: their length and sha256 are kept. An attribute that the rows decide in others, as
    ``FileRecord`` does, is brought up to date.

    Raises
    ------
    TransientError
        Somebody else has changed which rows these are.
    """
    table = find_table(connection, full_name)
    columns = make_columns(table)
    rows = connection.query(
        f"select {_listed(connection, columns)} from {full_name}{where} for update", args
    ).fetchall()
    cursor = connection.query(f"delete from {full_name}{where}", args)  # not recognised as DataJoint's
    if cursor.rowcount != len(rows):
        raise TransientError(
            f"{table_label(table)}: somebody wrote rows while they were being deleted. Nothing is deleted; try again."
        )
    kind, run = connection.why_deleted
    decided = set()
    for part in in_parts(rows):
        changed = [_deleted(columns, row) for row in part]
        record_changes(connection, table, changed, run, kind)
        if decides := getattr(table, "decides", None):
            decided.update(item.old[decides["key"]] for item in changed)
    if decided:
        connection.update_derived(type(table), decided)
    return cursor


def _listed(connection: Any, columns: dict[str, Any]) -> str:
    """Return what is selected: each column, or of bytes beyond a key their length and sha256."""
    adapter, selected = connection.adapter, []
    for column in columns.values():
        name = adapter.quote_identifier(column.name)
        selected += [f"octet_length({name})", adapter.text_of(name, True)] if _is_long(column) else [name]
    return ", ".join(selected)


def _is_long(column: Any) -> bool:
    return column.kind == "bytes" and not column.in_key


def _deleted(columns: dict[str, Any], row: Iterable[Any]) -> Changed:
    """Return a deleted row from the values that were selected."""
    given = iter(row)
    values = {name: _value(column, given) for name, column in columns.items()}
    return Changed({name: values.pop(name) for name, column in columns.items() if column.in_key}, values, {})


def _value(column: Any, given: Iterator[Any]) -> Any:
    if not _is_long(column):
        value = shown(column, next(given))
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value  # for JSON
    n_bytes, sha256 = next(given), next(given)
    return None if n_bytes is None else {"n_bytes": n_bytes, "sha256": sha256}


def row_sha256(label: str, key: Mapping[str, Any]) -> str:
    """Return what a row is called in ``ingestion.Change``: by its table's label and its key."""
    plain = {name: value if isinstance(value, (str, int, float)) else str(value) for name, value in key.items()}
    return hashlib.sha256(to_json([label, plain]).encode()).hexdigest()[:32]


def record_changes(connection: Any, table: Any, changed: list[Changed], run: str | None, kind: str = UPDATED) -> None:
    """Keep what is being overwritten or deleted, in the transaction that does so."""
    change = connection.adapter.make_full_table_name(f"{connection.prefix}ingestion", "change")
    names = (
        *("change_id", "table_name", "row_key", "old_values", "new_values"),
        *("change_kind", "run", "changed_by", "changed_at", "row_sha256"),
    )
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    label = table_label(table)
    for part in in_parts(changed):
        rows = [
            (
                *(str(uuid.uuid4()), label[:96], to_json(item.key), to_json(item.old)),
                *(to_json(item.new) if item.new else None, kind, run, user(), now, row_sha256(label, item.key)),
            )
            for item in part
        ]
        marks = ", ".join([f"({', '.join(['%s'] * len(names))})"] * len(rows))
        listed = ", ".join(map(connection.adapter.quote_identifier, names))
        connection.query(
            f"insert into {change} ({listed}) values {marks}", tuple(value for row in rows for value in row)
        )

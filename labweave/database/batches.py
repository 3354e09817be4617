"""Batches: rows with the same fields, on their way into one table.

Each kind of server compares and writes them in its own way: see `labweave.database.postgresql` and
`labweave.database.mysql`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from labweave.database.values import Column


class Changed(NamedTuple):
    """One row whose stored values differ: its key, the old and the new values; none for a row that was deleted."""

    key: dict[str, Any]
    old: dict[str, Any]
    new: dict[str, Any]


class Batch:
    """Writes rows with the same fields into one table."""

    clash_is_final = False
    """Whether a duplicate must be on another unique index, so that trying again is of no use."""

    def __init__(self, connection: Any, full_name: str, columns: list[Column], changing: list[Column]):
        quote = connection.adapter.quote_identifier
        self.connection, self.full_name, self.columns, self.changing = connection, full_name, columns, changing
        self.keys = [column for column in columns if column.in_key]
        self.q = {column.name: quote(column.name) for column in columns}
        self.names = ", ".join(self.q[column.name] for column in columns)
        self.join = " and ".join(f"s.{self.q[key.name]} = t.{self.q[key.name]}" for key in self.keys)
        self.both = ", ".join(
            [f"t.{self.q[column.name]}" for column in self.keys + changing]
            + [self._value(column) for column in changing]
        )
        self.differs = " or ".join(self._differs(column) for column in changing)

    def _value(self, column: Column) -> str:
        """Return the new value of a column, as SQL."""
        return f"s.{self.q[column.name]}"

    def _differs(self, column: Column) -> str:
        """Return the condition that a stored value is not the new one."""
        return f"t.{self.q[column.name]} is distinct from {self._value(column)}"

    def write(self, rows: list[tuple]) -> tuple[int, list[Changed]]:
        """Write a batch and return how many rows were inserted, and those that changed."""
        raise NotImplementedError

    def _first_exists(self, rows: list[tuple]) -> bool:
        names = [column.name for column in self.columns]
        values = tuple(rows[0][names.index(key.name)] for key in self.keys)
        where = " and ".join(f"{self.q[key.name]} = %s" for key in self.keys)
        return bool(self.connection.query(f"select 1 from {self.full_name} where {where}", values).fetchall())

    def _changed(self, rows: Iterable[Sequence[Any]]) -> list[Changed]:
        found = []
        n_keys, n = len(self.keys), len(self.changing)
        for values in rows:
            key = dict(zip((column.name for column in self.keys), values, strict=False))
            pairs = zip(self.changing, values[n_keys : n_keys + n], values[n_keys + n :], strict=True)
            differing = [
                (column.name, old, new)
                for column, old, new in ((c, shown(c, a), shown(c, b)) for c, a, b in pairs)
                if old != new
            ]
            found.append(
                Changed(key, {name: old for name, old, _ in differing}, {name: new for name, _, new in differing})
            )
        return found


def shown(column: Column, value: Any) -> Any:
    """Return a stored value as `ingestion.Change` keeps it."""
    if value is None:
        return None
    if column.kind == "json":
        return json.loads(value) if isinstance(value, (str, bytes)) else value
    if column.kind == "bool":
        return bool(value)
    if isinstance(value, (bytes, memoryview)):
        if column.in_key:
            return bytes(value).hex()
        return {"n_bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    return value if isinstance(value, (str, int, float)) else str(value)

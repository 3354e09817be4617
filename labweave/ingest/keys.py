"""Keys of rows: which a unit gives, as sets by session and table, and as the few bytes that are kept of them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datajoint.table import FreeTable

from labweave.database.connection import LabConnection
from labweave.database.declare import schema_modules, short_name, table_classes
from labweave.database.values import Column, make_columns
from labweave.ingest.base import Row

Keys = dict[str, dict[str, set[tuple]]]
"""Session -> table -> primary keys; "" stands for rows of no session."""


def keys_of(rows: Iterable[Row], source: str) -> Keys:
    """Return the keys of some rows, by session and table; `source` is that of tables whose key has it."""
    keys: Keys = {}
    for row in rows:
        if not row.is_given:
            continue
        name, eid, key = key_of(row, source)
        tables = keys.setdefault(eid, {})
        tables.setdefault(name, set()).add(key)
        for attribute in row.clears:
            tables.setdefault(f"{name}:{attribute}", set()).add(key)
    return keys


def key_of(row: Row, source: str) -> tuple[str, str, tuple]:
    """Return the name of a row's table, its session, and its key."""
    name, primary_key = facts_of(row.table)
    values = {**row.values, **_stored(row.table, row.values)} if _converted(row.table) else row.values
    if len(primary_key) == 1:  # of most rows
        value = values.get(primary_key[0], source)
        key: tuple = (value if type(value) is str else plain(value),)
    else:
        key = tuple([plain(values.get(attribute, source)) for attribute in primary_key])
    return name, row.eid or values.get("eid") or "", key


def join(listed: Iterable[Keys]) -> Keys:
    """Return the keys that are among any of several."""
    joined: Keys = {}
    for keys in listed:
        for eid, tables in keys.items():
            for name, own in tables.items():
                joined.setdefault(eid, {}).setdefault(name, set()).update(own)
    return joined


def without(keys: Keys, others: Keys) -> Keys:
    """Return the keys that are not among others."""
    left: Keys = {}
    for eid, tables in keys.items():
        theirs = others.get(eid, {})
        for name, own in tables.items():
            if kept := own - theirs.get(name, set()):
                left.setdefault(eid, {})[name] = kept
    return left


def shared(keys: Keys) -> Iterator[tuple[str, tuple]]:
    """Yield table and key of the rows of no session."""
    return ((name, key) for name, own in keys.get("", {}).items() for key in own)


def digest_of(name: str, key: tuple) -> str:
    """Return what a row of no session is called in ``ingestion.Shared``."""
    return hashlib.sha256(json.dumps([name, *key]).encode()).hexdigest()[:32]


def plain(value: Any) -> Any:
    """Return a value of a key as the kept keys have it."""
    return value if isinstance(value, (str, int)) else str(value)


@functools.cache
def _converted(table: Any) -> list[Column]:
    """Return the attributes of a key whose values the database may give back in another form than they had."""
    kinds = {"bool", "float", "decimal", "date", "datetime"}
    columns = make_columns(table())
    return [columns[name] for name in facts_of(table)[1] if columns[name].kind in kinds]


def _stored(table: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of these attributes as they are stored; bad ones, which are refused later, are left out."""
    stored = {}
    for column in _converted(table):
        with contextlib.suppress(ValueError, TypeError, ArithmeticError, KeyError):
            stored[column.name] = column.convert(values[column.name])
    return stored


def by_table(keys: Keys) -> dict[str, set[tuple]]:
    """Return the keys of all sessions together."""
    return join({"": tables} for tables in keys.values()).get("", {})


# --- names of tables


@functools.cache
def _tables() -> dict[str, Any]:
    """Return labweave's tables by name, those that others refer to first."""
    return {
        f"{short_name(module)}.{cls.table_name}": cls for module in schema_modules() for cls in table_classes(module)
    }


@functools.cache
def name_of(table: Any) -> str:
    """Return how the kept keys call a table: labweave's own without the prefix of the schemas, a lab's as it is."""
    return next((name for name, cls in _tables().items() if cls is table), f"{table.database}.{table.table_name}")


@functools.cache
def facts_of(table: Any) -> tuple[str, tuple[str, ...]]:
    """Return how the kept keys call a table, and its primary key."""
    return name_of(table), tuple(table().primary_key)


@functools.cache
def order_of_tables() -> dict[str, int]:
    """Return the place of each of labweave's tables, those that others refer to first."""
    return {name: at for at, name in enumerate(_tables())}


def table_called(connection: LabConnection, name: str) -> Any:
    """Return a table by the name that the kept keys have for it."""
    if name in (tables := _tables()):
        return tables[name]()
    schema, _, table_name = name.rpartition(".")
    return FreeTable(connection, connection.adapter.make_full_table_name(schema, table_name))


# --- keys as bytes


def pack(keys: Keys) -> Iterator[tuple[str, bytes]]:
    """Yield each session with its keys as few bytes; the rows of no session are beside those of the first one.

    What the keys of a session have in common, its id, is left out. UUIDs, which can't be compressed, follow the other
    keys as they are.
    """
    eids = [eid for eid in keys if eid] or [""]
    for eid in eids:
        content: list[list[Any]] = []
        uuids = b""
        for group in [eid, ""] if eid and eid == eids[0] else [eid]:
            for name, own in sorted(keys.get(group, {}).items()):
                if packed := _packed_uuids(name, own):
                    uuids += packed
                content.append([name, group == eid, len(own) if packed else _without_eid(name, own)])
        text = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)
        yield eid, len(text).to_bytes(4, "big") + text + uuids


def unpack(eid: str, packed: Any) -> Keys:
    """Return keys as `pack` has made them bytes."""
    packed = bytes(packed)
    end = 4 + int.from_bytes(packed[:4], "big")
    content, uuids = json.loads(zlib.decompress(packed[4:end])), packed[end:]
    keys: Keys = {eid: {}}
    for name, is_of_session, values in content:
        if isinstance(values, int):
            digits, uuids = uuids[: 16 * values].hex(), uuids[16 * values :]
            values = [[_uuid(digits[at : at + 32])] for at in range(0, 32 * values, 32)]
        keys.setdefault(eid if is_of_session else "", {})[name] = _with_eid(name, values, eid)
    return keys


def _packed_uuids(name: str, keys: set[tuple]) -> bytes:
    """Return keys that are UUIDs, one behind the other in their order; nothing for other keys."""
    if _place_of_eid(name) is not None or set(map(len, keys)) != {1}:
        return b""
    listed = " ".join(sorted([str(key) for (key,) in keys]))
    return bytes.fromhex(listed.replace("-", "")) if _are_uuids(listed) else b""


_are_uuids = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}( [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})*"
).fullmatch


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _without_eid(name: str, keys: set[tuple]) -> list[list[Any]]:
    at = _place_of_eid(name)
    return sorted(([*key] if at is None else [*key[:at], *key[at + 1 :]] for key in keys), key=str)


def _with_eid(name: str, values: list[list[Any]], eid: str) -> set[tuple]:
    at = _place_of_eid(name)
    return set(map(tuple, values)) if at is None else {(*value[:at], eid, *value[at:]) for value in values}


@functools.cache
def _place_of_eid(name: str) -> int | None:
    names = facts_of(_tables()[name])[1] if name in _tables() else ()
    return names.index("eid") if "eid" in names else None

"""Where rows came from: the units of sources that gave them, and the records of servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datajoint.table import FreeTable

from labweave.database.connection import LabConnection
from labweave.database.reads import among, in_parts, rows_of_keys
from labweave.ingest.keys import name_of, plain, unpack
from labweave.schemas.ingestion import Given, Source

Key = dict[str, Any]
Rows = Mapping[str, tuple[Any, Sequence[Key]]]
"""Table, by its label, and keys of some of its rows."""

SESSIONS_ASKED = 20
"""Of how many sessions the units are asked whether they gave a row of no session, such as a subject."""


@dataclass
class Origin:
    """One unit or record, and which of the rows it gave.

    Attributes
    ----------
    source : str
    unit : str
        Of a source of files; empty for a record.
    record : str
        Of a server: its resource and id, for example ``subjects/1f3c...``; empty for a unit.
    vanished_in : str or None
        The run that no longer found the record.
    gave : dict
        Table -> keys of its rows.
    """

    source: str
    unit: str = ""
    record: str = ""
    vanished_in: str | None = None
    gave: dict[str, list[Key]] = field(default_factory=dict)


def find_origins(connection: LabConnection, rows: Rows) -> list[Origin]:
    """Return the units and records that gave some rows; several may have given the same one, or none."""
    servers = (Source & {"adapter": "alyx"}).to_arrays("source", order_by="source").tolist()
    if not servers:
        return list(_units(connection, rows))
    from labweave.ingest.alyx.origins import records_of

    return [*_units(connection, rows), *(Origin(**one) for one in records_of(servers, rows))]


def _units(connection: LabConnection, rows: Rows) -> Iterator[Origin]:
    wanted: dict[str, dict[tuple, tuple[str, Key]]] = {}
    eids: set[str] = set()
    for label, (table, keys) in rows.items():
        if isinstance(table, FreeTable) or not keys:
            continue
        names = table.primary_key
        wanted[name_of(type(table))] = {tuple(plain(key[name]) for name in names): (label, key) for key in keys}
        eids |= _sessions(table, keys)
    found: dict[tuple[str, str], dict[str, dict[tuple, Key]]] = {}
    for part in in_parts(sorted(eids)):
        query = f"select source, unit, eid, given_keys from {Given.full_table_name} where {among('eid', part)}"
        for source, unit, eid, packed in connection.query(query, tuple(part)).fetchall():
            for given in unpack(eid, packed).values():
                for name in given.keys() & wanted.keys():
                    for key in given[name] & wanted[name].keys():
                        label, own = wanted[name][key]
                        found.setdefault((source, unit), {}).setdefault(label, {})[key] = own
    for (source, unit), gave in sorted(found.items()):
        yield Origin(source, unit, gave={label: list(keys.values()) for label, keys in gave.items()})


def _sessions(table: Any, keys: Sequence[Key]) -> set[str]:
    """Return the sessions of some rows; of rows of no session, a few that hang on them, and none at all: ""."""
    return _own_sessions(table, keys) or {"", *_near_sessions(table, keys, depth=2)}


def _own_sessions(table: Any, keys: Sequence[Key]) -> set[str]:
    """Return the sessions that rows name, or that the rows name which they hang on."""
    if "eid" in table.primary_key:
        return {key["eid"] or "" for key in keys}
    if "eid" in table.heading.names:
        return {row["eid"] or "" for row in rows_of_keys(table, keys, ["eid"])}
    for parent, above in _parents(table, keys):
        if "eid" in parent.heading.names:
            return _own_sessions(parent, above)
    return set()


def _near_sessions(table: Any, keys: Sequence[Key], depth: int) -> set[str]:
    """Return a few sessions of rows that hang on some rows, or on those that these hang on."""
    for child in table.children(as_objects=True):
        if set(table.primary_key) <= set(child.heading.names):  # else it names them otherwise
            hanging = (child & list(keys[:SESSIONS_ASKED])).keys(limit=SESSIONS_ASKED)
            found = _own_sessions(child, hanging) or (_near_sessions(child, hanging, depth - 1) if depth else set())
            if found - {""}:
                return found
    for parent, above in _parents(table, keys) if depth else ():
        if found := _near_sessions(parent, above, 0):
            return found
    return set()


def _parents(table: Any, keys: Sequence[Key]) -> Iterator[tuple[Any, list[Key]]]:
    """Yield the tables that rows hang on, with the keys that they name there."""
    for parent, link in table.parents(as_objects=True, foreign_key_info=True):
        names = link["attr_map"]
        if all(child == own for child, own in names.items()):
            rows = rows_of_keys(table, keys, [name for name in names if name not in table.primary_key])
            yield parent, [{name: row[name] for name in names} for row in rows]

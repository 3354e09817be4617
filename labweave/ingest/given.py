"""The rows that units gave: kept by their keys, so that what a unit no longer gives is taken out again.

A row belongs to every unit that gives it, and goes with the last of them. A row that was there before any unit gave it
is a person's, or a server's: no unit owns it.

Most rows are of one session. Their keys are kept by unit and session (``ingestion.Given``): by the session, the few
units are found that may give the same row. Rows of no session, such as a subject or a protocol, are given by very many
units; how many is counted (``ingestion.Shared``).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from datajoint.errors import DuplicateError, IntegrityError
from datajoint.table import FreeTable

from labweave.database.batches import Changed, shown
from labweave.database.connection import LabConnection, TransientError
from labweave.database.declare import schema_modules, short_name, table_classes
from labweave.database.reads import among, in_parts, missing_keys, rows_among, table_label
from labweave.database.values import make_columns, to_json
from labweave.database.writes import record_changes
from labweave.errors import SourceError
from labweave.ingest.base import Row
from labweave.ingest.results import delete_results, results_of
from labweave.schemas.ingestion import Given, Shared
from labweave.schemas.session import Session

Keys = dict[str, dict[str, set[tuple]]]
"""Session -> table -> primary keys; "" stands for rows of no session."""

KEYS_PER_DELETE = 200


def keys_of(rows: Iterable[Row], source: str) -> Keys:
    """Return the keys of some rows, by session and table; `source` is that of tables whose key has it."""
    keys: Keys = {}
    for row in rows:
        if not row.is_given:
            continue
        values = row.values
        tables = keys.setdefault(row.eid or values.get("eid") or "", {})
        name, primary_key = _facts(row.table)
        key = tuple([_plain(values.get(attribute, source)) for attribute in primary_key])
        tables.setdefault(name, set()).add(key)
        for attribute in row.clears:
            tables.setdefault(f"{name}:{attribute}", set()).add(key)
    return keys


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


def disown(connection: LabConnection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make rows of no session a server's: they stay when no unit gives them any more."""
    name, primary_key = _facts(table)
    if "eid" in primary_key or not Shared & {"table_name": name}:
        return
    digests = [_digest(name, tuple(_plain(row[attribute]) for attribute in primary_key)) for row in rows]
    for part in in_parts(digests):
        connection.query(f"delete from {Shared.full_table_name} where {among('shared_sha256', part)}", tuple(part))


class GivenRows:
    """What the units of one source gave.

    Parameters
    ----------
    connection : LabConnection
    source : str
    """

    def __init__(self, connection: LabConnection, source: str):
        self.connection, self.source = connection, source
        self._lock = f"for {connection.adapter.row_lock}"
        self._stored: dict[str, Keys] = {}
        self._results: dict[str, list[Any]] = {}

    def load(self, units: Sequence[str]) -> None:
        """Read what some units gave in earlier runs, and forget the units of before."""
        self._stored = self._read(units)

    def _read(self, units: Sequence[str], lock: str = "") -> dict[str, Keys]:
        found: dict[str, Keys] = {}
        for part in in_parts(units):
            query = (
                f"select unit, eid, given_keys from {Given.full_table_name}"
                f" where source = %s and {among('unit', part)} {lock}"
            )
            for unit, eid, packed in self.connection.query(query, (self.source, *part)).fetchall():
                keys = unpack(eid, packed)
                found[unit] = join([found[unit], keys]) if unit in found else keys
        return found

    def knows(self, unit: str) -> bool:
        """Say whether it is known what a unit gave."""
        return unit in self._stored

    def units_with_lost_rows(self) -> set[str]:
        """Return the units that gave rows which are no longer there."""
        owners: dict[str, dict[tuple, list[str]]] = {}
        for unit, keys in self._stored.items():
            for name, own in _by_table(keys).items():
                by_key = owners.setdefault(name.partition(":")[0], {})
                for key in own:
                    by_key.setdefault(key, []).append(unit)
        return {
            unit
            for name, by_key in owners.items()
            for key in missing_keys(self._table(name), by_key)
            for unit in by_key[key]
        }

    def units(self) -> set[str]:
        """Return all units of the source that gave rows."""
        return set((Given & {"source": self.source}).to_arrays("unit").tolist())

    def only_of(self, units: Sequence[str]) -> dict[type, list[dict[str, Any]]]:
        """Return table -> keys of the rows in sessions that are there, and that no other units gave."""
        self.load(units)
        keys = join(self._stored.values())
        keys.pop("", None)
        alone = {}
        for name, own in _by_table(without(keys, self._given(keys, but=set(units)))).items():
            table = self._table(name)
            there = own - missing_keys(table, own)
            alone[type(table)] = [dict(zip(table.primary_key, key, strict=True)) for key in there]
        return alone

    # --- in the transaction that writes the rows

    def claim(self, units: Mapping[str, Keys], older: Container[str] = ()) -> dict[str, Keys]:
        """Return which of the rows that units give now are their own; called before the rows are written.

        Parameters
        ----------
        units : mapping
            Unit -> keys of its rows.
        older : container of str
            Units that were written before labweave kept keys: what is there is theirs.
        """
        now = self._read(list(units), self._lock)  # another process may have written them since they were read
        self._stored = {unit: keys for unit, keys in self._stored.items() if unit not in units} | now
        fresh = {unit: without(keys, now.get(unit, {})) for unit, keys in units.items()}
        foreign = self._foreign(join(keys for unit, keys in fresh.items() if unit not in older))
        self._count([without(keys, foreign) for keys in fresh.values()], +1)
        return {unit: without(keys, foreign) for unit, keys in units.items()}

    def take_out(self, own: Mapping[str, Keys], run: str, results: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
        """Delete the rows that units gave before and no unit gives now, with what was computed from them.

        Parameters
        ----------
        own : mapping
            Unit -> keys of its own rows now.
        run : str
            For ``ingestion.Change``.
        results : dict
            Table -> number of results deleted; is added to.

        Returns
        -------
        dict
            Table -> keys of the deleted rows.

        Raises
        ------
        SourceError
            A row that no unit gave hangs on one of them.
        """
        lost = [without(self._stored.get(unit, {}), keys) for unit, keys in own.items()]
        unused = self._count(lost, -1)
        gone = without(join(lost), join(own.values()))
        gone.pop("", None)
        if gone:
            gone = without(gone, self._given(gone, but=own))
        now = _by_table(join(own.values()))  # a file's record keeps its key in another session
        gone_rows = {name: keys - now.get(name, set()) for name, keys in _by_table(gone).items()}
        deleted = self._delete(gone_rows, run, results)
        return deleted | self._delete(unused, run, results, may_stay=True)

    def keep(self, own: Mapping[str, Keys]) -> None:
        """Store what units give now."""
        changed = {unit: keys for unit, keys in own.items() if self._stored.get(unit) != keys}
        new = []
        for unit, keys in changed.items():
            gone = {eid for eid, _ in pack(self._stored[unit])} if unit in self._stored else set()
            for eid, packed in pack(keys):
                if eid in gone:  # it stays, so that whoever waits for it finds it
                    gone.remove(eid)
                    self.connection.query(
                        f"update {Given.full_table_name} set given_keys = %s"
                        " where source = %s and unit = %s and eid = %s",
                        (packed, self.source, unit, eid),
                    )
                else:
                    new.append((self.source, unit, eid, packed))
            if gone:
                (Given & [{"source": self.source, "unit": unit, "eid": eid} for eid in gone]).delete_quick()
        self._insert(Given, new)

    def drop(self, units: Sequence[str]) -> None:
        """Keep nothing of some units any more."""
        for part in in_parts(units):
            (Given & {"source": self.source} & [{"unit": unit} for unit in part]).delete_quick()

    def _foreign(self, fresh: Keys) -> Keys:
        """Return those of the keys that are there already, and that no unit gave."""
        there = {eid for (eid,) in rows_among(Session, "eid", [eid for eid in fresh if eid], ["eid"])}
        fresh = {eid: tables for eid, tables in fresh.items() if not eid or eid in there}
        missing = {name: self._missing(name, keys) for name, keys in _by_table(fresh).items()}
        present = without(fresh, dict.fromkeys(fresh, missing))
        # Only now, after the look at the rows: what another process gives meanwhile is then no one else's.
        counts = self._counts(_shared(present))
        given = self._given(present)
        for name, key in _shared(present):
            if _digest(name, key) in counts:
                given.setdefault("", {}).setdefault(name, set()).add(key)
        return without(present, given)

    def _missing(self, name: str, keys: set[tuple]) -> set[tuple]:
        """Return those of the keys that no row has, or none in which the attribute behind ``:`` has a value."""
        table, _, attribute = name.partition(":")
        missing = missing_keys(self._table(table), keys)
        if not attribute:
            return missing
        default = re.match("[\"'](.*?)[\"']", self._table(table).heading[attribute].default or "")
        unsaid = f"{attribute} = '{default[1]}'" if default else f"{attribute} is null"
        empty = (self._table(table) & unsaid).keys()
        return missing | {tuple(row.values()) for row in empty}

    def _given(self, sessions: Iterable[str], but: Container[str] = ()) -> Keys:
        """Return what units gave in some sessions, some units of this source left out."""
        rows = rows_among(Given, "eid", [eid for eid in sessions if eid], ("source", "unit", "eid", "given_keys"))
        others = (row for row in rows if row[0] != self.source or row[1] not in but)
        keys = join(unpack(eid, packed) for _, _, eid, packed in others)
        return {eid: tables for eid, tables in keys.items() if eid}

    def _counts(self, shared: Iterable[tuple[str, tuple]], lock: str = "") -> dict[str, int]:
        """Return how many units give each row of no session, by digest."""
        counts: dict[str, int] = {}
        for part in in_parts(sorted(_digest(name, key) for name, key in shared)):
            query = f"select shared_sha256, n_units from {Shared.full_table_name} where {among('shared_sha256', part)}"
            counts.update(self.connection.query(f"{query} order by shared_sha256 {lock}", tuple(part)).fetchall())
        return counts

    def _count(self, listed: Iterable[Keys], sign: int) -> dict[str, set[tuple]]:
        """Count rows of no session as given by more units, or by fewer; return those that no unit gives any more."""
        change = Counter(item for keys in listed for item in _shared(keys))
        if not change:
            return {}
        counts = self._counts(change, self._lock)
        new, by_change, unused = [], dict[int, list[str]](), dict[str, set[tuple]]()
        for (name, key), n_units in sorted(change.items(), key=str):
            digest = _digest(name, key)
            if sign < 0 and counts.get(digest, n_units + 1) <= n_units:
                (Shared & {"shared_sha256": digest}).delete_quick()
                unused.setdefault(name, set()).add(key)
            elif digest in counts:
                by_change.setdefault(sign * n_units, []).append(digest)
            elif sign > 0:
                new.append((digest, name, to_json(key), n_units))
        for more, digests in by_change.items():
            for part in in_parts(digests):
                self.connection.query(
                    f"update {Shared.full_table_name} set n_units = n_units + %s where {among('shared_sha256', part)}",
                    (more, *part),
                )
        self._insert(Shared, new)
        return unused

    def _insert(self, table: Any, rows: Sequence[tuple]) -> None:
        """Insert rows that are new; comparing them with what is there would take longer."""
        names = ", ".join(map(self.connection.adapter.quote_identifier, table().heading.names))
        for part in in_parts(rows):
            marks = ", ".join([f"({', '.join(['%s'] * len(part[0]))})"] * len(part))
            values = tuple(value for row in part for value in row)
            try:
                self.connection.query(f"insert into {table.full_table_name} ({names}) values {marks}", values)
            except DuplicateError as error:
                raise TransientError(f"another process gives the same rows for the first time: {error}") from None

    def _delete(
        self, tables: Mapping[str, set[tuple]], run: str, results: dict[str, int], *, may_stay: bool = False
    ) -> dict[str, list[dict[str, Any]]]:
        """Delete rows and what was computed from them, children first, and return the keys of those deleted.

        A row that others hang on is an error; with `may_stay`, it stays.
        """
        deleted: dict[str, list[dict[str, Any]]] = {}
        for name in sorted(tables, key=lambda name: _order().get(name, len(_order())), reverse=True):
            plain, _, attribute = name.partition(":")
            table = self._table(plain)
            keys = [dict(zip(table.primary_key, key, strict=True)) for key in sorted(tables[name], key=str)]
            if attribute:
                for row in (table & keys).proj(attribute).to_dicts():
                    key = {part: row[part] for part in table.primary_key}
                    where = (table & key).where_clause()
                    self.connection.query(f"update {table.full_table_name} set {attribute} = default{where}")
                    record_changes(
                        self.connection,
                        table,
                        [Changed(key, {attribute: row[attribute]}, {attribute: None})],
                        run or None,
                    )
                continue
            if name not in self._results:
                self._results[name] = results_of(table)
            for part in in_parts(keys, 1 if may_stay else KEYS_PER_DELETE):
                if gone := self._delete_part(table, part, run, results, self._results[name], may_stay):
                    deleted.setdefault(table_label(table), []).extend(gone)
        return deleted

    def _delete_part(
        self,
        table: Any,
        keys: list[dict[str, Any]],
        run: str,
        results: dict[str, int],
        results_of_table: list[Any],
        may_stay: bool,
    ) -> list[dict[str, Any]]:
        doomed = table & keys
        for stamp in (name for name in table.heading.names if name.endswith("_stamp")):
            doomed &= f"{stamp} is null"  # a server follows the others
        rows = self.connection.query(
            f"select * from {table.full_table_name}{doomed.where_clause()}", as_dict=True
        ).fetchall()
        if not rows:
            return []
        with_results = dict(results)
        there = [{name: row[name] for name in table.primary_key} for row in rows]
        try:
            with self.connection.savepoint(IntegrityError):
                delete_results(results_of_table, there, with_results)
                doomed.delete_quick()
            results.update(with_results)
        except IntegrityError as error:
            if may_stay:
                return []
            raise SourceError(_what_hangs_on(table, keys) or f"{table_label(table)}: {error}") from None
        columns = make_columns(table)
        changed = []
        for row in rows:
            values = {name: shown(columns[name], value) for name, value in row.items()}
            key = {name: values.pop(name) for name in table.primary_key}
            changed.append(Changed(key, values, {}))
        record_changes(self.connection, table, changed, run or None)
        if decides := getattr(table, "decides", None):
            self.connection.update_derived(type(table), {row[decides["key"]] for row in rows})
        return [item.key for item in changed]

    def _table(self, name: str) -> Any:
        """Return a table by the name that `_name` gives it."""
        if name in (tables := _tables()):
            return tables[name]()
        schema, _, table_name = name.rpartition(".")
        return FreeTable(self.connection, self.connection.adapter.make_full_table_name(schema, table_name))


def _what_hangs_on(table: Any, keys: list[dict[str, Any]]) -> str:
    """Return the message for the first row that hangs on one of some rows; empty when there is none."""
    for child, reference in table.children(as_objects=True, foreign_key_info=True):
        for key in keys:
            own = {ours: key[theirs] for ours, theirs in reference["attr_map"].items() if theirs in key}
            if hanging := (child & own).keys(limit=1):
                return (
                    f"{table_label(table)} {_in_words(key)} is no longer in the source, but the row "
                    f"{_in_words(hanging[0])} of {table_label(child)} hangs on it. "
                    "Delete that row, or hang it on another one; then ingest again."
                )
    return ""


def _in_words(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items())


# --- names of tables


@functools.cache
def _tables() -> dict[str, Any]:
    """Return labweave's tables by name, those that others refer to first."""
    return {
        f"{short_name(module)}.{cls.table_name}": cls for module in schema_modules() for cls in table_classes(module)
    }


@functools.cache
def _facts(table: Any) -> tuple[str, tuple[str, ...]]:
    """Return how the kept keys call a table, and its primary key.

    labweave's own tables are called without the prefix of the schemas, a lab's as they are.
    """
    name = next((name for name, cls in _tables().items() if cls is table), f"{table.database}.{table.table_name}")
    return name, tuple(table().primary_key)


@functools.cache
def _order() -> dict[str, int]:
    return {name: at for at, name in enumerate(_tables())}


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
                values = _without_eid(name, own)
                if packed := _packed_uuids(values):
                    uuids += packed
                content.append([name, group == eid, len(values) if packed else values])
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


def _packed_uuids(values: list[list[Any]]) -> bytes:
    """Return keys that are UUIDs, one behind the other; nothing for other keys."""
    digits = "".join(str(value[0]).replace("-", "") for value in values if len(value) == 1)
    if len(digits) != 32 * len(values) or any(len(value) != 1 or not _is_uuid(value[0]) for value in values):
        return b""
    return bytes.fromhex(digits)


_is_uuid = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


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
    names = _facts(_tables()[name])[1] if name in _tables() else ()
    return names.index("eid") if "eid" in names else None


# --- sets of keys


def _shared(keys: Keys) -> Iterator[tuple[str, tuple]]:
    """Yield table and key of the rows of no session."""
    return ((name, key) for name, own in keys.get("", {}).items() for key in own)


def _digest(name: str, key: tuple) -> str:
    return hashlib.sha256(json.dumps([name, *key]).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else str(value)


def _by_table(keys: Keys) -> dict[str, set[tuple]]:
    return join({"": tables} for tables in keys.values()).get("", {})

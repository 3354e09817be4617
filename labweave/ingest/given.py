"""The rows that units gave: kept by their keys, so that what a unit no longer gives is taken out again.

A row belongs to every unit that gives it, and goes with the last of them. A row that was there before any unit gave it
is a person's, or a server's: no unit owns it.

Most rows are of one session. Their keys are kept by unit and session (``ingestion.Given``): by the session, the few
units are found that may give the same row. Rows of no session, such as a subject or a protocol, are given by very many
units; how many is counted (``ingestion.Shared``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from datajoint.errors import DuplicateError

from labweave.database.connection import LabConnection, TransientError
from labweave.database.reads import among, in_parts, missing_keys, rows_among
from labweave.database.values import to_json
from labweave.errors import Clash
from labweave.ingest.disputes import once_changed
from labweave.ingest.keys import (
    Keys,
    by_table,
    digest_of,
    facts_of,
    join,
    name_of,
    pack,
    plain,
    shared,
    table_called,
    unpack,
    without,
)
from labweave.ingest.removing import Remover
from labweave.ingest.results import RowsHang
from labweave.schemas.dataset import Dataset, FileRecord
from labweave.schemas.ingestion import Given, Shared, SourceFile
from labweave.schemas.session import Session


def disown(connection: LabConnection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make rows of no session a server's: they stay when no unit gives them any more."""
    name, primary_key = facts_of(table)
    if "eid" in primary_key or not Shared & {"table_name": name}:
        return
    digests = [digest_of(name, tuple(plain(row[attribute]) for attribute in primary_key)) for row in rows]
    for part in in_parts(digests):
        connection.query(f"delete from {Shared.full_table_name} where {among('shared_sha256', part)}", tuple(part))


def vanished_units() -> set[tuple[str, str]]:
    """Return the units, with their sources, whose files are all gone."""
    vanished = SourceFile & {"file_status": "vanished"}
    units = set(zip(*vanished.to_arrays("source", "unit"), strict=True))
    for source in {source for source, _ in units}:
        names = [unit for other, unit in units if other == source]
        wanted = {"source": source, "file_status": "ingested"}
        units -= {(source, unit) for (unit,) in rows_among(SourceFile, "unit", names, ["unit"], wanted)}
    return units


def _attributes_in_dispute(lost: Keys) -> dict[str, set[tuple]]:
    """Return attributes that units no longer give, of rows in which they changed: empty until others give theirs."""
    attributes = {name: keys for name, keys in lost.get("", {}).items() if ":" in name}
    changed = set(once_changed(shared({"": attributes}))) if attributes else set()
    return {
        name: {key for key in keys if (name.partition(":")[0], key) in changed} for name, keys in attributes.items()
    }


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
        self._units: set[str] = set()
        self._stored: dict[str, Keys] = {}
        self.lost: dict[str, Keys] = {}
        self._remover = Remover(connection)

    def _read(self, units: Sequence[str], lock: str = "", source: str = "") -> dict[str, Keys]:
        found: dict[str, Keys] = {}
        for part in in_parts(units):
            query = (
                f"select unit, eid, given_keys from {Given.full_table_name}"
                f" where source = %s and {among('unit', part)} {lock}"
            )
            for unit, eid, packed in self.connection.query(query, (source or self.source, *part)).fetchall():
                keys = unpack(eid, packed)
                found[unit] = join([found[unit], keys]) if unit in found else keys
        return found

    def units(self) -> set[str]:
        """Return all units of the source that gave rows."""
        self._units = set((Given & {"source": self.source}).to_arrays("unit").tolist())
        return self._units

    def knows(self, unit: str) -> bool:
        """Say whether it is known what a unit gave, since `units` was asked for."""
        return unit in self._units

    def keys(self, unit: str, table: type) -> list[dict[str, Any]]:
        """Return the keys of the rows of a table that a unit gave, and that are there."""
        name, primary_key = facts_of(table)
        own = by_table(join(self._read([unit]).values())).get(name, set())
        return [dict(zip(primary_key, key, strict=True)) for key in sorted(own - missing_keys(table, own), key=str)]

    def lost_rows(self, units: Sequence[str]) -> Iterator[dict[str, set[str]]]:
        """Yield, some units at a time, those of which rows are gone, with the sessions of these rows."""
        for part in in_parts(units):
            if lost := self._lost(self._read(part)):
                yield lost

    def _lost(self, given: Mapping[str, Keys]) -> dict[str, set[str]]:
        """Return which of some units gave rows that are gone, with the sessions of these rows."""
        owners: dict[str, dict[tuple, list[tuple[str, str]]]] = {}
        for unit, keys in given.items():
            for eid, tables in keys.items():
                for name, own in tables.items():
                    by_key = owners.setdefault(name.partition(":")[0], {})
                    for key in own:
                        by_key.setdefault(key, []).append((unit, eid))
        lost: dict[str, set[str]] = {}
        for name, by_key in owners.items():
            for key in missing_keys(table_called(self.connection, name), by_key):
                for unit, eid in by_key[key]:
                    lost.setdefault(unit, set()).add(eid)
        return lost

    def units_in_parts(self) -> set[str]:
        """Return those of the source's units that were written in parts: they have a row for those of no session."""
        query = (
            f"select unit from {Given.full_table_name} where source = %s group by unit"
            " having count(*) > 1 and min(eid) = ''"
        )
        return {unit for (unit,) in self.connection.query(query, (self.source,)).fetchall()}

    def records_in_parts(self, ids: Collection[str]) -> set[str]:
        """Return those of some file records that units in parts of this source gave."""
        if not (units := self.units_in_parts()):
            return set()
        owners = dict(rows_among(FileRecord, "file_record_id", ids, ["file_record_id", "dataset_id"]))
        eids = {eid for (eid,) in rows_among(Dataset, "dataset_id", set(owners.values()), ["eid"]) if eid}
        rows = rows_among(Given, "eid", eids, ["unit", "eid", "given_keys"], {"source": self.source})
        keys = by_table(join(unpack(eid, packed) for unit, eid, packed in rows if unit in units))
        return {key for (key,) in keys.get(name_of(FileRecord), ())} & owners.keys()

    def only_of(self, units: Sequence[str]) -> dict[type, list[dict[str, Any]]]:
        """Return table -> keys of the rows in sessions that are there, and that no other units gave whose files are."""
        keys = join(self._read(units).values())
        keys.pop("", None)
        but = {(self.source, unit) for unit in units} | vanished_units()
        alone = {}
        for name, own in by_table(without(keys, self._given(keys, but))).items():
            table = table_called(self.connection, name)
            there = own - missing_keys(table, own)
            alone[type(table)] = [dict(zip(table.primary_key, key, strict=True)) for key in there]
        return alone

    def is_only_of(self, units: Iterable[tuple[str, str]], name: str, eid: str, key: tuple) -> bool:
        """Say whether a row is given by some units, by their source and name, and by nobody else."""
        n_given = 0
        for source in {source for source, _ in units}:
            own = self._read([unit for other, unit in units if other == source], source=source)
            n_given += sum(key in keys.get(eid, {}).get(name, ()) for keys in own.values())
        if eid:
            return n_given > 0 and key not in self._given([eid], set(units)).get(eid, {}).get(name, ())
        return n_given > 0 and self._counts([(name, key)]).get(digest_of(name, key)) == n_given

    def ours(self, eids: Iterable[str], but: str = "") -> Keys:
        """Return the keys of rows in some sessions that units of this source alone gave; one unit may be left out."""
        ours, others = list[Keys](), list[Keys]()
        for source, unit, eid, packed in rows_among(Given, "eid", eids, ("source", "unit", "eid", "given_keys")):
            (ours if source == self.source and unit != but else others).append(unpack(eid, packed))
        return without(join(ours), join(others))

    def only_by(self, unit: str, table: type) -> set[tuple]:
        """Return the keys of a table's rows of no session that a unit in parts gives, and no other unit."""
        rows = rows_among(Given, "unit", [unit], ["given_keys"], {"source": self.source, "eid": ""})
        keys = join(unpack("", packed) for (packed,) in rows).get("", {}).get(name_of(table), set())
        counts = self._counts((name_of(table), key) for key in keys)
        return {key for key in keys if counts.get(digest_of(name_of(table), key)) == 1}

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
        self._stored = now
        self._units |= now.keys()
        fresh = {unit: without(keys, now.get(unit, {})) for unit, keys in units.items()}
        foreign = self._foreign(join(keys for unit, keys in fresh.items() if unit not in older))
        self._count([without(keys, foreign) for keys in fresh.values()], +1)
        return {unit: without(keys, foreign) for unit, keys in units.items()}

    def take_out(
        self, own: Mapping[str, Keys], run: str, results: dict[str, int], *, are_written: bool = True
    ) -> dict[str, list[dict[str, Any]]]:
        """Delete the rows that units gave before and no unit gives now, with what was computed from them.

        Parameters
        ----------
        own : mapping
            Unit -> keys of its own rows now.
        run : str
            For ``ingestion.Change``.
        results : dict
            Table -> number of results deleted; is added to.
        are_written : bool, default: True
            The rows that they give now are in the tables; False in a dry run.

        Returns
        -------
        dict
            Table -> keys of the deleted rows.

        Raises
        ------
        Clash
            A row that no unit gave hangs on one of them; `units` says on whose.
        """
        lost = self.lost = {unit: without(self._stored.get(unit, {}), keys) for unit, keys in own.items()}
        if not any(lost.values()):
            return {}
        unused = self._count(lost.values(), -1)
        for name, keys in _attributes_in_dispute(without(join(lost.values()), join(own.values()))).items():
            unused.setdefault(name, set()).update(keys)
        gone = without(join(lost.values()), join(own.values()))
        gone.pop("", None)
        if gone:
            but = {(self.source, unit) for unit in own}
            gone = without(gone, self._given(gone, but))
            gone = without(gone, self._elsewhere(gone, but))
        now = by_table(join(own.values()))  # a file's record keeps its key in another session
        gone_rows = {name: keys - now.get(name, set()) for name, keys in by_table(gone).items()}
        moving = {} if are_written else now
        try:
            deleted = self._remover.delete(gone_rows, run, results, moving=moving)
        except RowsHang as error:
            for unit, keys in lost.items():
                hung = {key for own in by_table(keys).values() for key in own} & error.rows.keys()
                if hung:
                    error.units[unit] = Clash(error.rows[min(hung, key=str)])
            raise
        return deleted | self._remover.delete(unused, run, results, may_stay=True, moving=moving)

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
        missing = {name: self._missing(name, keys) for name, keys in by_table(fresh).items()}
        present = without(fresh, dict.fromkeys(fresh, missing))
        # Only now, after the look at the rows: what another process gives meanwhile is then no one else's.
        counts = self._counts(shared(present))
        given = self._given(present)
        for name, key in shared(present):
            if digest_of(name, key) in counts:
                given.setdefault("", {}).setdefault(name, set()).add(key)
        return without(without(present, given), self._elsewhere(present))

    def _elsewhere(self, keys: Keys, but: Container[tuple[str, str]] = ()) -> Keys:
        """Return those of the datasets and file records that are another session's now, and given there."""
        datasets, files = name_of(Dataset), name_of(FileRecord)
        records = [key for tables in keys.values() for (key,) in tables.get(files, ())]
        owners = dict(rows_among(FileRecord, "file_record_id", records, ["file_record_id", "dataset_id"]))
        ids = {*owners.values(), *(key for tables in keys.values() for (key,) in tables.get(datasets, ()))}
        sessions = dict(rows_among(Dataset, "dataset_id", ids, ["dataset_id", "eid"]))
        given = self._given(set(sessions.values()), but)
        found: Keys = {}
        for eid, tables in keys.items():
            for name in (datasets, files):
                for key in tables.get(name, ()):
                    now = sessions.get(owners.get(key[0], key[0]), eid)
                    if now != eid and key in given.get(now, {}).get(name, ()):
                        found.setdefault(eid, {}).setdefault(name, set()).add(key)
        return found

    def _missing(self, name: str, keys: set[tuple]) -> set[tuple]:
        """Return those of the keys that no row has, or none in which the attribute behind ``:`` has a value."""
        called, _, attribute = name.partition(":")
        table = table_called(self.connection, called)
        missing = missing_keys(table, keys)
        if not attribute:
            return missing
        default = re.match("[\"'](.*?)[\"']", table.heading[attribute].default or "")
        wanted = [*table.primary_key, attribute]
        rows = rows_among(table, wanted[0], {key[0] for key in keys}, wanted)
        empty = (None, default[1] if default else None)
        return missing | {tuple(map(plain, row[:-1])) for row in rows if row[-1] in empty}

    def _given(self, sessions: Iterable[str], but: Container[tuple[str, str]] = ()) -> Keys:
        """Return what units gave in some sessions, some left out by their source and name."""
        rows = rows_among(Given, "eid", [eid for eid in sessions if eid], ("source", "unit", "eid", "given_keys"))
        others = (row for row in rows if (row[0], row[1]) not in but)
        keys = join(unpack(eid, packed) for _, _, eid, packed in others)
        return {eid: tables for eid, tables in keys.items() if eid}

    def _counts(self, rows: Iterable[tuple[str, tuple]], lock: str = "") -> dict[str, int]:
        """Return how many units give each row of no session, by digest."""
        counts: dict[str, int] = {}
        for part in in_parts(sorted(digest_of(name, key) for name, key in rows)):
            query = f"select shared_sha256, n_units from {Shared.full_table_name} where {among('shared_sha256', part)}"
            counts.update(self.connection.query(f"{query} order by shared_sha256 {lock}", tuple(part)).fetchall())
        return counts

    def _count(self, listed: Iterable[Keys], sign: int) -> dict[str, set[tuple]]:
        """Count rows of no session as given by more units, or by fewer; return those that no unit gives any more."""
        change = Counter(item for keys in listed for item in shared(keys))
        if not change:
            return {}
        counts = self._counts(change, self._lock)
        new, by_change, unused = [], dict[int, list[str]](), dict[str, set[tuple]]()
        for (name, key), n_units in sorted(change.items(), key=str):
            digest = digest_of(name, key)
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

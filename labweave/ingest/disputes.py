"""Rows that several units give, with different values: which units must be read again to make the values right.

The value of such a row is that of the last unit that gives it, in the order of discovery, as in a fresh database. When
a unit changes the row, those behind it have the last word. When a unit no longer gives it, the others say again what
they say, if they ever disagreed: if the row was ever changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from labweave.database.batches import Changed
from labweave.database.connection import LabConnection
from labweave.database.reads import rows_among, table_label
from labweave.ingest.files import read_again
from labweave.ingest.keys import Keys, facts_of, join, plain, shared, table_called, unpack
from labweave.schemas.ingestion import Change, Given

Units = set[tuple[str, str]]
"""Source and name of each."""


class Disputes:
    """Finds the units that give rows which one of them has changed, or no longer gives.

    Parameters
    ----------
    source : str
    order : dict
        Unit of it -> its place in the order of discovery; of those that the run has met.
    """

    def __init__(self, source: str, order: Mapping[str, int]):
        self._source, self._order = source, order
        self._givers: dict[bool, dict[tuple[str, tuple], Units]] = {}

    def to_read_again(
        self, own: Mapping[str, Keys], lost: Mapping[str, Keys], changed: Mapping[type, Iterable[Changed]]
    ) -> Units:
        """Return the units to be read again, called in the transaction that has written some others.

        Parameters
        ----------
        own, lost : mapping
            Unit -> keys of the rows that it gives now; that it gave before and does not give now.
        changed : mapping
            Table -> rows that have other values now.
        """
        changed_keys, lost_keys = _among(join(own.values()), changed), join(lost.values())
        if not changed_keys and not lost_keys:
            return set()
        written = {(self._source, unit) for unit in own}
        place = min((self._order.get(unit, -1) for unit in own), default=-1)
        of_changed, of_lost = _givers_in_sessions(changed_keys), _givers_in_sessions(lost_keys)
        of_changed |= self._givers_of(shared(changed_keys))
        if of_lost:  # they may agree on all of it
            of_lost = _givers_in_sessions(_once_changed_in_sessions(lost_keys))
        of_lost |= self._givers_of(once_changed(shared(lost_keys)), everywhere=True)
        later = {
            (source, unit)
            for source, unit in of_changed
            if source == self._source and self._order.get(unit, place + 1) > place
        }
        return (later | of_lost) - written

    def _givers_of(self, rows: Iterable[tuple[str, tuple]], everywhere: bool = False) -> Units:
        """Return the units that gave rows of no session: of this source, or also of others."""
        found: Units = set()
        for row in rows:
            if everywhere not in self._givers:  # read once, since it is rarely needed, and all units are looked at
                given = Given() if everywhere else Given & {"source": self._source}
                self._givers[everywhere] = givers = {}
                for source, unit, eid, packed in zip(
                    *given.to_arrays("source", "unit", "eid", "given_keys"), strict=True
                ):
                    for other in shared(unpack(eid, packed)):
                        givers.setdefault(other, set()).add((source, unit))
            found |= self._givers[everywhere].get(row, set())
        return found


def mark_unread(connection: LabConnection, units: Units) -> None:
    """Make units look as if they had not been read."""
    for source in {source for source, _ in units}:
        read_again(connection, source, [unit for other, unit in units if other == source])


def _among(own: Keys, changed: Mapping[type, Iterable[Changed]]) -> Keys:
    """Return which of some keys are of rows that changed."""
    by_name = {
        name: {tuple([plain(row.key[attribute]) for attribute in primary_key]) for row in rows}
        for rows, (name, primary_key) in ((rows, facts_of(table)) for table, rows in changed.items() if rows)
    }
    found: Keys = {}
    for eid, tables in own.items() if by_name else ():
        for name in tables.keys() & by_name.keys():
            if keys := tables[name] & by_name[name]:
                found.setdefault(eid, {})[name] = keys
    return found


def _givers_in_sessions(keys: Keys) -> Units:
    """Return the units that give one of some rows of sessions."""
    found: Units = set()
    eids = [eid for eid in keys if eid]
    for source, unit, eid, packed in rows_among(Given, "eid", eids, ("source", "unit", "eid", "given_keys")):
        theirs = unpack(eid, packed).get(eid, {})
        if any(not theirs.get(name, set()).isdisjoint(own) for name, own in keys[eid].items()):
            found.add((source, unit))
    return found


def _once_changed_in_sessions(keys: Keys) -> Keys:
    found: Keys = {}
    for eid, tables in keys.items():
        if eid:
            for name, key in once_changed((name, key) for name, own in tables.items() for key in own):
                found.setdefault(eid, {}).setdefault(name, set()).add(key)
    return found


def once_changed(rows: Iterable[tuple[str, tuple]]) -> Iterator[tuple[str, tuple]]:
    """Yield those of some rows that have ever had another value."""
    by_name: dict[str, set[tuple]] = {}
    for name, key in rows:
        by_name.setdefault(name.partition(":")[0], set()).add(key)
    for name, own in by_name.items():
        table = table_called(Change().connection, name)
        for row in (Change & {"table_name": table_label(table)} & "new_values is not null").to_arrays("row_key"):
            if (key := tuple(plain(row[attribute]) for attribute in table.primary_key)) in own:
                yield name, key
                own.remove(key)

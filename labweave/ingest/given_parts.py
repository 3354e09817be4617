"""What a unit in parts gave: kept session by session, the rows of no session under an empty one."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from labweave.database.batches import Changed
from labweave.database.connection import LabConnection
from labweave.database.reads import among, in_parts, rows_among, rows_in_order
from labweave.ingest.given import GivenRows
from labweave.ingest.keys import Keys, join, name_of, pack, shared, unpack
from labweave.schemas.dataset import Dataset
from labweave.schemas.ingestion import Given
from labweave.schemas.session import Session

SESSIONS_AT_ONCE = 300
"""How many sessions are looked at, or taken out, in one go."""


class GivenInParts(GivenRows):
    """What one unit in parts gave.

    Parameters
    ----------
    connection : LabConnection
    source, unit : str
    """

    def __init__(self, connection: LabConnection, source: str, unit: str):
        super().__init__(connection, source)
        self.unit = unit
        self.met: set[str] = set()
        self._met_shared: set[tuple[str, tuple]] = set()
        self._eids: list[str] = []

    def sessions(self) -> Iterator[list[tuple[str, Any]]]:
        """Yield the sessions that the unit gave rows of, and what is kept of each; rows of no session come last."""
        fixed = {"source": self.source, "unit": self.unit}
        last: list[tuple[str, Any]] = []
        page: list[tuple[str, Any]] = []
        for row in rows_in_order(Given, "eid", ["eid", "given_keys"], fixed, page=SESSIONS_AT_ONCE):
            (page if row[0] else last).append((row[0], row[1]))
            if len(page) == SESSIONS_AT_ONCE:
                yield page
                page = []
        yield from (part for part in (page, last) if part)

    def knows_any(self) -> bool:
        """Say whether it is known what the unit gave."""
        return bool(Given & {"source": self.source, "unit": self.unit})

    def has_lost_rows(self) -> bool:
        """Say whether rows that the unit gave are no longer there."""
        pages = (join(unpack(*row) for row in page) for page in self.sessions())
        return any(self._lost({self.unit: keys}) for keys in pages)

    def claim(self, units: Mapping[str, Keys], older: Container[str] = ()) -> dict[str, Keys]:
        """Return which of the rows of some sessions are the unit's own, and its rows of no session so far."""
        (keys,) = units.values()
        self.met.update(keys)
        self._met_shared.update(shared(keys))
        return self._claim(keys, older)

    def _claim(self, keys: Keys, older: Container[str] = ()) -> dict[str, Keys]:
        self._eids = ["", *(eid for eid in keys if eid)]
        own = super().claim({self.unit: keys}, older)[self.unit]
        own |= join([{"": own.get("", {})}, {"": self._stored.get(self.unit, {}).get("", {})}])
        return {self.unit: own}

    def claim_not_met(self, eids: Sequence[str]) -> dict[str, Keys]:
        """Return what is left when nothing of some sessions is given any more, all locked for the transaction."""
        return self._claim({eid: {} for eid in eids})

    def claim_shared_met(self) -> dict[str, Keys]:
        """Return what is left when of the rows of no session those of this pass are given."""
        own: Keys = {"": {}}
        for name, key in shared(self._claim({})[self.unit]):
            if (name, key) in self._met_shared:
                own[""].setdefault(name, set()).add(key)
        return {self.unit: own}

    def neighbours(self, own: Mapping[str, Keys], changed: Mapping[type, Sequence[Changed]]) -> list[str]:
        """Return the source's other units that gave rows of sessions in which something was written or taken out."""
        keys, before = own[self.unit], self._stored.get(self.unit, {})
        touched = {eid for eid in self._eids if eid and keys.get(eid, {}) != before.get(eid, {})}
        touched.update(row.key["eid"] for row in changed.get(Session, ()))
        if ids := {(row.key["dataset_id"],) for row in changed.get(Dataset, ())}:
            name = name_of(Dataset)
            touched.update(eid for eid, tables in keys.items() if eid and not ids.isdisjoint(tables.get(name, ())))
        if not touched or not self._has_neighbours:
            return []
        same = " and ".join(f"a.{name} = b.{name}" for name in ("lab", "subject", "session_date", "session_number"))
        table, found = Session.full_table_name, set[str]()
        for part in in_parts(sorted(touched)):
            query = f"select b.eid from {table} a join {table} b on {same} where {among('a.eid', part)}"
            eids = {*part, *(eid for (eid,) in self.connection.query(query, tuple(part)).fetchall())}
            found |= {unit for (unit,) in rows_among(Given, "eid", eids, ["unit"], {"source": self.source})}
        return sorted(found - {self.unit})

    @functools.cached_property
    def _has_neighbours(self) -> bool:
        units = f"select 1 from {Given.full_table_name} where source = %s and unit <> %s limit 1"
        return self.connection.query(units, (self.source, self.unit)).fetchone() is not None

    def keep(self, own: Mapping[str, Keys]) -> None:
        """Store what the unit gives now in these sessions."""
        keys, before = own[self.unit], self._stored.get(self.unit, {})
        new, other = [], []
        for eid in self._eids:
            if keys.get(eid) and keys[eid] != before.get(eid):
                (other if eid in before else new).extend(pack({eid: keys[eid]}))
        for eid, packed in other:
            self.connection.query(
                f"update {Given.full_table_name} set given_keys = %s where source = %s and unit = %s and eid = %s",
                (packed, self.source, self.unit, eid),
            )
        for part in in_parts([eid for eid in self._eids if eid in before and not keys.get(eid)]):
            (Given & [{"source": self.source, "unit": self.unit, "eid": eid} for eid in part]).delete_quick()
        self._insert(Given, [(self.source, self.unit, eid, packed) for eid, packed in new])

    def _read(self, units: Sequence[str], lock: str = "", source: str = "") -> dict[str, Keys]:
        found: Keys = {}
        for part in in_parts(self._eids):
            query = (
                f"select eid, given_keys from {Given.full_table_name}"
                f" where source = %s and unit = %s and {among('eid', part)} {lock}"
            )
            for eid, packed in self.connection.query(query, (self.source, self.unit, *part)).fetchall():
                found.update(unpack(eid, packed))
        return {self.unit: found} if found else {}

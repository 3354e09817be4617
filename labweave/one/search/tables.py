"""The tables of the open database: the sessions in memory answer where they can, else the server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID
from weakref import WeakKeyDictionary

import labweave.database
from labweave.database import Database
from labweave.one.search import warm
from labweave.one.search.questions import Finder
from labweave.one.search.rows import SessionFilter, SessionRow


class Tables(Finder):
    """Questions to one open database; see `open_tables`."""

    def __init__(self, database: Database):
        super().__init__(database.connection)
        self.keeper = warm.Keeper(database.connection)

    def eids(self, wanted: SessionFilter, limit: int | None = None) -> list[str]:
        """Return the ids of sessions, newest first."""
        with self._memory_for(wanted) as memory:
            return memory.eids(wanted, limit) if memory else super().eids(wanted, limit)

    def uuids(self, wanted: SessionFilter) -> list[UUID]:
        """Return the ids of sessions, newest first."""
        with self._memory_for(wanted) as memory:
            return memory.uuids(wanted) if memory else [UUID(eid) for eid in super().eids(wanted)]

    def sessions(self, wanted: SessionFilter, limit: int | None = None) -> list[SessionRow]:
        """Return sessions, newest first."""
        with self._memory_for(wanted) as memory:
            return memory.sessions(wanted, limit) if memory else super().sessions(wanted, limit)

    def sessions_at(self, places: Iterable[tuple[str, dt.date, int]]) -> list[SessionRow]:
        """Return the sessions of a subject on a day with a number, for any number of those."""
        with self._memory_for(SessionFilter()) as memory:
            return memory.sessions_at(places) if memory else super().sessions_at(places)

    def names(self, column: str) -> list[str]:
        """Return the distinct values of a column of sessions, in no order."""
        with self._memory_for(SessionFilter()) as memory:
            return memory.names(column) if memory else super().names(column)

    @contextmanager
    def _memory_for(self, wanted: SessionFilter) -> Iterator[warm.Sessions | None]:
        """Give the sessions in memory, or None for the server, whose time counts for having them in memory soon."""
        if not warm.covers(wanted):
            yield None
        elif (memory := self.keeper.sessions()) is not None:
            yield memory
        else:
            with self.keeper.asking():
                yield None


_tables: WeakKeyDictionary[Database, Tables] = WeakKeyDictionary()


def open_tables() -> Tables:
    """Return the tables of the database that is open in this process."""
    database = labweave.database.current()
    if database not in _tables:
        _tables[database] = Tables(database)
    return _tables[database]

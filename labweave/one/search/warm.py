"""The lab's sessions in memory, for as long as nobody writes to the server.

Most searches follow each other while the tables stay as they are, and looking through a hundred thousand sessions
takes a server ten times as long as it takes here. Before each answer one short question shows whether anybody has
committed anything since the sessions were read (`LabConnection.write_mark`). If so, or where the server can't tell, the
server is asked as if there were no sessions in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np

from labweave.database.connection import LabConnection
from labweave.one.search.questions import Finder
from labweave.one.search.rows import SessionFilter, SessionRow

MOST_SESSIONS = 1_000_000

FIRST_S = 0.5
"""How much time questions to the server take before the sessions are read for the first time."""


def covers(wanted: SessionFilter) -> bool:
    """Say whether sessions in memory have all that is asked for."""
    return not (wanted.users or wanted.holding) and wanted.at_least is wanted.at_most is None


class _Column:
    """A column of all sessions: its distinct values, and of each session the place of its value among them.

    A condition is tried on the distinct values only, of which there are few.
    """

    def __init__(self, values: Sequence[Any]):
        places: dict[Any, int] = {}
        self._codes = np.array([places.setdefault(value, len(places)) for value in values], dtype=np.intp)
        self.values = list(places)

    def at(self, index: np.ndarray) -> list[Any]:
        """Return the values of some sessions."""
        return [self.values[code] for code in self._codes[index].tolist()]

    def fitting(self, fits: Callable[[Any], Any]) -> np.ndarray:
        """Return for each session whether its value fits."""
        return np.array([bool(fits(value)) for value in self.values], dtype=bool)[self._codes]


class Sessions:
    """All sessions, given in the order in which answers have them."""

    def __init__(self, rows: Sequence[SessionRow]):
        self._n = len(rows)
        self._place = {row.eid: place for place, row in enumerate(rows)}
        self._columns = {name: _Column([getattr(row, name) for row in rows]) for name in SessionRow._fields}

    @cached_property
    def _uuids(self) -> list[UUID]:
        return [UUID(eid) for eid in self._place]

    def eids(self, wanted: SessionFilter, limit: int | None = None) -> list[str]:
        """Return the ids of sessions, newest first."""
        return self._columns["eid"].at(self._where(wanted)[:limit])

    def uuids(self, wanted: SessionFilter) -> list[UUID]:
        """Return the ids of sessions, newest first."""
        return [self._uuids[place] for place in self._where(wanted).tolist()]

    def sessions(self, wanted: SessionFilter, limit: int | None = None) -> list[SessionRow]:
        """Return sessions, newest first."""
        at = self._where(wanted)[:limit]
        return list(map(SessionRow, *(column.at(at) for column in self._columns.values())))

    def names(self, column: str) -> list[str]:
        """Return the distinct values of a column, in no order."""
        values = self._columns[column].values
        return list({name for names in values for name in names} if column == "projects" else values)

    def _where(self, wanted: SessionFilter) -> np.ndarray:
        """Return the places of the sessions that fit."""
        fits = np.ones(self._n, dtype=bool)
        for name, given in wanted.among.items():
            if name == "eid":
                is_given = np.zeros(self._n, dtype=bool)
                is_given[[self._place[eid] for eid in given if eid in self._place]] = True
                fits &= is_given
            elif name == "projects":
                fits &= self._columns[name].fitting(lambda names, asked=set(given): not asked.isdisjoint(names))
            else:
                # None is the value of no session that has one, and no condition of SQL is true of it.
                fits &= self._columns[name].fitting((set(given) - {None}).__contains__)
        days = self._columns["date"]
        if (first := wanted.first) is not None:
            fits &= days.fitting(lambda day: day is not None and day >= first)
        if (last := wanted.last) is not None:
            fits &= days.fitting(lambda day: day is not None and day <= last)
        return np.flatnonzero(fits)


# --- when


class Keeper:
    """Decides when the sessions of one connection are read, kept and forgotten.

    They are read when nothing was written between two questions, and when questions to the server have taken as long
    as reading them did the last time. So a server that is written to now and then costs at most twice what it must.
    """

    def __init__(self, connection: LabConnection):
        self._connection, self._session = connection, None
        self._start_again()

    def _start_again(self) -> None:
        self._sessions: Sessions | None = None
        self._mark: str | None = None
        self._marked_at, self._asked_s, self._reading_s = 0.0, 0.0, FIRST_S

    def sessions(self) -> Sessions | None:
        """Return the sessions if they are in memory as they are on the server, else None."""
        connection = self._connection
        if connection.in_transaction or (self._sessions is None and self._asked_s < self._reading_s):
            return None
        mark = connection.write_mark()
        if connection._conn is not self._session:  # opened again: the server may have lost what it had not stored
            self._session = connection._conn
            self._start_again()
        if mark is None or mark != self._mark:
            self._sessions, self._mark, self._marked_at, self._asked_s = None, mark, time.monotonic(), 0.0
        elif self._sessions is None and time.monotonic() - self._marked_at >= connection.adapter.mark_settles_s:
            self._read()
        return self._sessions

    def _read(self) -> None:
        start, finder, sessions = time.perf_counter(), Finder(self._connection), None
        if finder.count() <= MOST_SESSIONS:
            sessions = Sessions(finder.sessions(SessionFilter()))
        self._asked_s, self._reading_s = 0.0, math.inf if sessions is None else time.perf_counter() - start
        if self._connection.write_mark() == self._mark and self._connection._conn is self._session:
            self._sessions = sessions

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count the time of a question to the server that the sessions in memory would have answered."""
        start = time.perf_counter()
        yield
        self._asked_s += time.perf_counter() - start

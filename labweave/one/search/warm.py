"""The lab's sessions in memory, for as long as nobody writes to the server.

Most searches follow each other while the tables stay as they are, and looking through a hundred thousand sessions
takes a server ten times as long as it takes here. Before each answer one short question shows whether anybody has
committed anything since the sessions were read (`LabConnection.write_mark`). If so, or where the server can't tell, the
server is asked as if there were no sessions in memory.
"""

from __future__ import annotations

import datetime as dt
import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np

from labweave.database.connection import LabConnection
from labweave.one.search.questions import Finder
from labweave.one.search.rows import SessionFilter, SessionRow

MOST_SESSIONS = 1_000_000

FIRST_S = 0.2
"""How much time questions to the server take before the sessions are read for the first time."""


def covers(wanted: SessionFilter) -> bool:
    """Say whether sessions in memory have all that is asked for."""
    return not (wanted.users or wanted.holding) and wanted.at_least is wanted.at_most is None


class _Column:
    """A column of all sessions: a code for each distinct value, and of each session the code of its value.

    A condition is tried on the distinct values only, of which there are few.
    """

    def __init__(self, values: Sequence[Any]):
        self.codes: dict[Any, int] = {}
        codes = [self.codes.setdefault(value, len(self.codes)) for value in values]
        self._codes = np.array(codes, dtype=np.intp)

    def among(self, given: Sequence[Any]) -> np.ndarray:
        """Return for each session whether its value is given; None never is, as in SQL."""
        is_given = np.zeros(len(self.codes), dtype=bool)
        is_given[[self.codes[value] for value in given if value is not None and value in self.codes]] = True
        # Where no value comes twice, as in ids, the codes are the places of the sessions.
        return is_given if is_given.size == self._codes.size else is_given[self._codes]


class Sessions:
    """All sessions, given in the order in which answers have them."""

    def __init__(self, rows: Sequence[SessionRow]):
        self._rows = list(rows)
        self._columns = {name: _Column([row[k] for row in rows]) for k, name in enumerate(SessionRow._fields)}
        self._days = np.array([row.date for row in rows], dtype="M8[D]")

    @cached_property
    def _uuids(self) -> list[UUID]:
        return [UUID(row.eid) for row in self._rows]

    @cached_property
    def _at(self) -> dict[tuple[str, dt.date | None, int | None], list[SessionRow]]:
        found: dict[tuple[str, dt.date | None, int | None], list[SessionRow]] = {}
        for row in self._rows:
            found.setdefault((row.subject, row.date, row.number), []).append(row)
        return found

    def eids(self, wanted: SessionFilter, limit: int | None = None) -> list[str]:
        """Return the ids of sessions, newest first."""
        return [row.eid for row in self.sessions(wanted, limit)]

    def uuids(self, wanted: SessionFilter) -> list[UUID]:
        """Return the ids of sessions, newest first."""
        return self._fitting(self._uuids, wanted)

    def sessions(self, wanted: SessionFilter, limit: int | None = None) -> list[SessionRow]:
        """Return sessions, newest first."""
        return self._fitting(self._rows, wanted, limit)

    def sessions_at(self, places: Iterable[tuple[str, dt.date, int]]) -> list[SessionRow]:
        """Return the sessions of a subject on a day with a number, for any number of those."""
        return [row for place in set(places) for row in self._at.get(place, ())]

    def names(self, column: str) -> list[str]:
        """Return the distinct values of a column, in no order."""
        values = self._columns[column].codes
        return list({name for names in values for name in names} if column == "projects" else values)

    def _fitting(self, of_sessions: list[Any], wanted: SessionFilter, limit: int | None = None) -> list[Any]:
        """Return those items of a list, which has one for each session, whose sessions fit."""
        fits = []
        for name, given in wanted.among.items():
            column = self._columns[name]
            if name == "projects":
                given = [names for names in column.codes if not set(given).isdisjoint(names)]
            fits.append(column.among(given))
        if wanted.first is not None:
            fits.append(self._days >= np.datetime64(wanted.first))  # never true without a date, as in SQL
        if wanted.last is not None:
            fits.append(self._days <= np.datetime64(wanted.last))
        if not fits:
            return of_sessions[:limit]
        return [of_sessions[place] for place in np.flatnonzero(np.logical_and.reduce(fits))[:limit].tolist()]


# --- when


class Keeper:
    """Decides when the sessions of one connection are read, kept and forgotten.

    They are read when nothing was written between two questions, and when questions to the server have taken as long
    as reading them did the last time. So a server that is written to now and then costs at most twice what it must.
    """

    def __init__(self, connection: LabConnection):
        self._connection, self._answer = connection, threading.local()
        self._mutex, self._reading = threading.Lock(), threading.Lock()
        self._start_again()

    def _start_again(self, opened: object = None) -> None:
        self._opened = opened
        self._sessions: Sessions | None = None
        self._mark: str | None = None
        self._marked_at, self._asked_s, self._reading_s = 0.0, 0.0, FIRST_S

    def sessions(self) -> Sessions | None:
        """Return the sessions if they are in memory as they are on the server, else None."""
        seen = getattr(self._answer, "seen", [])
        if not seen:
            seen.append(self._look())
        return seen[0]

    @contextmanager
    def one_answer(self) -> Iterator[None]:
        """Ask the server for its mark at most once: all questions of this thread inside are parts of one answer."""
        self._answer.seen = []
        try:
            yield
        finally:
            del self._answer.seen

    def _look(self) -> Sessions | None:
        connection = self._connection
        if connection.in_transaction or (self._sessions is None and self._asked_s < self._reading_s):
            return None
        mark, opened = connection.write_mark(), connection.last_opened
        with self._mutex:
            if opened is not self._opened:  # the server may have lost what it had not stored
                self._start_again(opened)
            if mark is None or mark != self._mark:
                self._sessions, self._mark, self._marked_at, self._asked_s = None, mark, time.monotonic(), 0.0
                return None
            age = time.monotonic() - self._marked_at
            if self._sessions is not None or age < connection.adapter.mark_settles_s:
                return self._sessions
        if self._reading.acquire(blocking=False):  # one thread reads; the others ask the server meanwhile
            try:
                self._read(mark, opened)
            finally:
                self._reading.release()
        return self._sessions

    def _read(self, mark: str, opened: object) -> None:
        start, finder, sessions = time.perf_counter(), Finder(self._connection), None
        if finder.count() <= MOST_SESSIONS:
            sessions = Sessions(finder.sessions(SessionFilter()))
        took_s = math.inf if sessions is None else time.perf_counter() - start
        are_as_before = self._connection.write_mark() == mark and self._connection.last_opened is opened
        with self._mutex:
            self._asked_s, self._reading_s = 0.0, took_s
            if are_as_before and self._mark == mark and self._opened is opened:
                self._sessions = sessions

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count the time of a question to the server that the sessions in memory would have answered."""
        start = time.perf_counter()
        yield
        self._asked_s += time.perf_counter() - start

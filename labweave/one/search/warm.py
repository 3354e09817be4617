"""The lab's sessions in memory, for as long as nobody writes to the server.

Most searches come one after the other while the tables stay as they are, and a server takes longer to look through a
hundred thousand sessions than numpy does here. Before each answer one short question shows whether anybody has
committed anything since they were read (`LabConnection.write_mark`); then the server is asked again, as it is where
such a mark can't be had.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import numpy as np

from labweave.database import Database
from labweave.database.connection import LabConnection
from labweave.one.search.columns import MISSING, Columns, SessionColumns
from labweave.one.search.questions import FoundSession, Wanted
from labweave.one.search.uuids import make_uuids, split_eids

MOST_SESSIONS = 1_000_000
FEW = 50
"""As many sessions the server finds by their ids faster than they are looked up here."""

FIRST_S = 0.1
"""How much time questions to the server take before the sessions are read for the first time."""


def covers(wanted: Wanted) -> bool:
    """Say whether `Sessions` has all that is asked for."""
    asks_more = wanted.locations is not None or wanted.users or wanted.holding
    asks_share = wanted.at_least is not None or wanted.at_most is not None
    few = wanted.eids is not None and len(wanted.eids) <= FEW
    return not (asks_more or asks_share or few or set(wanted.containing) - {"task_protocol"})


class _Names:
    """A column of names: each one once, and the number of each session's among them."""

    def __init__(self, values: Sequence[Any]):
        numbers: defaultdict[Any, int] = defaultdict()
        numbers.default_factory = numbers.__len__  # the next one
        self.codes = np.fromiter(map(numbers.__getitem__, values), dtype=np.int32, count=len(values))
        self.names, self._numbers = list(numbers), dict(numbers)

    def at(self, index: Any) -> list[Any]:
        """Return the names of some sessions."""
        return list(map(self.names.__getitem__, self.codes[index].tolist()))

    def ranks(self) -> np.ndarray:
        """Return the place of each session's name among all, sorted by code point."""
        rank = np.empty(len(self.names), dtype=np.int64)
        rank[sorted(range(len(self.names)), key=self.names.__getitem__)] = np.arange(len(self.names))
        return rank[self.codes]

    def among(self, given: Iterable[Any]) -> np.ndarray:
        """Return which sessions have one of these names."""
        numbers = [self._numbers[name] for name in given if name in self._numbers]
        if len(numbers) == 1:
            return self.codes == numbers[0]
        is_given = np.zeros(len(self.names), dtype=bool)
        is_given[numbers] = True
        return is_given[self.codes]

    def fitting(self, fits: Callable[[Any], Any]) -> np.ndarray:
        """Return which sessions have a name that fits."""
        return np.array([bool(fits(name)) for name in self.names], dtype=bool)[self.codes]


class Sessions:
    """All sessions, the newest first as the server sorts them.

    Parameters
    ----------
    pages : sequence of SessionColumns

    Raises
    ------
    ValueError
        An id that is no UUID, or a date that never ends.
    """

    def __init__(self, pages: Sequence[SessionColumns]):
        texts = [eid for page in pages for eid in page.eids]
        self._lab, self._subject, self._protocol = (
            _Names([name for page in pages for name in getattr(page, column)])
            for column in ("labs", "subjects", "protocols")
        )
        days, numbers, times = (
            _integers([getattr(page, column) for page in pages], len(texts)) for column in ("days", "numbers", "times")
        )
        # The last key counts first; missing values come last.
        order = np.lexsort([_descending(each) for each in (numbers, self._subject.ranks(), times, days)])
        self._text = "".join([texts[i] for i in order.tolist()])
        for names in (self._lab, self._subject, self._protocol):
            names.codes = names.codes[order]
        self._days, self._numbers, self._times = days[order], numbers[order], times[order]
        if len(self._text) != 36 * len(texts):
            raise ValueError("an id that is no UUID")
        ids = _raw(self._text)
        self._by_id = np.argsort(ids)
        self._sorted_ids = ids[self._by_id]
        self._project = self._of_projects(pages)

    def __len__(self) -> int:
        return len(self._days)

    def _of_projects(self, pages: Sequence[SessionColumns]) -> _Names:
        """Return the projects of each session, sorted, as one name."""
        projects = _Names([name for page in pages for name in page.projects])
        at = self._places([eid for page in pages for eid in page.in_projects])
        sets: list[tuple[str, ...]] = [()]
        codes = np.zeros(len(self), dtype=np.int32)
        for code in sorted(range(len(projects.names)), key=projects.names.__getitem__):
            rows = at[projects.codes == code]
            rows = rows[rows >= 0]
            old, new = np.unique(codes[rows], return_inverse=True)
            codes[rows] = len(sets) + new
            sets += [(*sets[i], projects.names[code]) for i in old.tolist()]
        found = _Names(())
        found.names, found.codes = sets, codes
        return found

    def _places(self, eids: Sequence[str | UUID]) -> np.ndarray:
        """Return the place of each session, -1 for an unknown one."""
        places = np.full(len(eids), -1, dtype=np.intp)
        if not len(self) or not len(eids):
            return places
        try:
            ids = _raw_ids(eids)
        except ValueError:
            ids = np.empty(0)
        if len(ids) != len(eids):  # one is no UUID
            return np.array([self._places([eid])[0] for eid in eids]) if len(eids) > 1 else places
        found = np.minimum(np.searchsorted(self._sorted_ids, ids), len(self) - 1)
        is_known = self._sorted_ids[found] == ids
        places[is_known] = self._by_id[found[is_known]]
        return places

    @cached_property
    def _project_names(self) -> set[str]:
        return {name for code in np.unique(self._project.codes) for name in self._project.names[code]}

    @cached_property
    def _eids(self) -> np.ndarray:
        return np.array(split_eids(self._text), dtype=object)

    @cached_property
    def _uuids(self) -> np.ndarray:
        return np.array(make_uuids(self._text), dtype=object)

    # -- answers

    def eids(self, wanted: Wanted, limit: int | None = None) -> list[str]:
        """Return the ids of sessions, newest first."""
        return self._eids[self._where(wanted, limit)].tolist()

    def uuids(self, wanted: Wanted) -> list[UUID]:
        """Return the ids of sessions, newest first."""
        return self._uuids[self._where(wanted, None)].tolist()

    def found(self, wanted: Wanted, limit: int | None = None) -> list[tuple[FoundSession, tuple[str, ...]]]:
        """Return sessions, newest first, each with its projects."""
        at = self._where(wanted, limit)
        columns = (
            self._eids[at].tolist(),
            self._lab.at(at),
            self._subject.at(at),
            self._days[at].view("M8[D]").tolist(),
            [None if number == MISSING else number for number in self._numbers[at].tolist()],
            self._times[at].view("M8[us]").tolist(),
            self._protocol.at(at),
        )
        return list(zip(map(FoundSession, *columns), self._project.at(at), strict=True))

    def folders(self, eids: Sequence[str | UUID]) -> list[str | None]:
        """Return the path of each session below the cache folder, None for an unknown one or one without a date."""
        if not len(self):
            return [None] * len(eids)
        at = self._places(eids)
        days, numbers = self._days[at], self._numbers[at]
        missing = (at < 0) | (days == MISSING)
        parts = (
            self._lab.at(at),
            self._subject.at(at),
            np.datetime_as_string(days.view("M8[D]")).tolist(),
            np.where(numbers == MISSING, 0, numbers).tolist(),
        )
        return [
            None if is_missing else f"{f'{lab}/Subjects/' if lab else ''}{subject}/{day}/{number:03d}"
            for lab, subject, day, number, is_missing in zip(*parts, missing.tolist(), strict=True)
        ]

    def names(self, column: str) -> set[str]:
        """Return the labs, subjects, task protocols or projects of the sessions."""
        if column == "project":
            return self._project_names
        return set({"lab": self._lab, "subject": self._subject, "task_protocol": self._protocol}[column].names)

    def _where(self, wanted: Wanted, limit: int | None) -> Any:
        """Return an index that takes what is wanted from an array."""
        masks = []
        for names, given in (
            (self._lab, wanted.labs),
            (self._subject, wanted.subjects),
            (self._protocol, wanted.protocols),
        ):
            if given is not None:
                masks.append(names.among(given))
        if (texts := wanted.containing.get("task_protocol")) is not None:
            masks.append(self._protocol.fitting(lambda name: any(text in name for text in texts)))
        if wanted.projects is not None:
            given = set(wanted.projects)
            masks.append(self._project.fitting(lambda names: not given.isdisjoint(names)))
        if wanted.numbers is not None:
            asked = [number for number in wanted.numbers if -(2**31) <= number < 2**31]
            masks.append(np.isin(self._numbers, asked) if len(asked) != 1 else self._numbers == asked[0])
        days = self._days.view("M8[D]")  # no comparison with NaT is true
        if wanted.first is not None:
            masks.append(days >= np.datetime64(wanted.first))
        if wanted.last is not None:
            masks.append(days <= np.datetime64(wanted.last))
        if wanted.eids is not None:
            mask, at = np.zeros(len(self), dtype=bool), self._places(wanted.eids)
            mask[at[at >= 0]] = True
            masks.append(mask)
        if not masks:
            return slice(limit)
        return np.flatnonzero(np.logical_and.reduce(masks))[:limit]


def _integers(texts: Sequence[str], n: int) -> np.ndarray:
    values = np.fromstring(" ".join(texts), dtype=np.int64, sep=" ")
    if len(values) != n:
        raise ValueError(f"{len(values)} numbers for {n} sessions")
    return values


def _descending(values: np.ndarray) -> np.ndarray:
    """Return keys that sort the largest first and missing values last."""
    return np.where(values == MISSING, np.iinfo(np.int64).max, -np.maximum(values, MISSING + 1))


def _raw(text: str) -> np.ndarray:
    """Return the 16 bytes of each of the UUIDs in a text."""
    return np.frombuffer(bytes.fromhex(text.replace("-", "")), dtype="S16")


def _raw_ids(eids: Sequence[str | UUID]) -> np.ndarray:
    if all(isinstance(eid, UUID) for eid in eids):  # their text takes longer
        return np.frombuffer(b"".join([eid.int.to_bytes(16, "big") for eid in eids]), dtype="S16")  # type: ignore[union-attr]
    return _raw("".join(map(str, eids)))


# --- when


class Keeper:
    """Decides when the sessions of one connection are read, kept and forgotten.

    They are read when nothing was written between two questions, and when questions to the server have taken as long
    as reading them did the last time: so a server that is written to now and then costs twice what it must at most.
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
        start = time.perf_counter()
        try:
            pages = Columns(self._connection).sessions_in_pages(MOST_SESSIONS)
            sessions = None if pages is None else Sessions(pages)
        except ValueError:
            sessions = None
        self._asked_s, self._reading_s = 0.0, math.inf if sessions is None else time.perf_counter() - start
        if self._connection.write_mark() == self._mark and self._connection._conn is self._session:
            self._sessions = sessions

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count the time of a question to the server that the sessions in memory would have answered."""
        start = time.perf_counter()
        yield
        self._asked_s += time.perf_counter() - start


_keepers: WeakKeyDictionary[Database, Keeper] = WeakKeyDictionary()


def keeper_of(database: Database) -> Keeper:
    """Return the one keeper of an open database."""
    return _keepers.setdefault(database, Keeper(database.connection))

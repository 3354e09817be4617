"""The tables of the open database: the sessions in memory answer where they can, else the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

import labweave.database
from labweave.database import Database
from labweave.one.search import warm
from labweave.one.search.questions import Finder
from labweave.one.search.rows import SessionFilter

Question = TypeVar("Question", bound=Callable)


def _from_memory(question: Question) -> Question:
    """Let the sessions in memory answer a question to the server, where they can."""

    @wraps(question)
    def answer(self, asked, *limit):
        with self._memory_for(asked) as memory:
            return getattr(memory, question.__name__)(asked, *limit) if memory else question(self, asked, *limit)

    return answer  # pyright: ignore[reportReturnType]


class Tables(Finder):
    """Questions to one open database; see `open_tables`."""

    def __init__(self, database: Database):
        super().__init__(database.connection)
        self.keeper = warm.Keeper(database.connection)

    eids = _from_memory(Finder.eids)
    sessions = _from_memory(Finder.sessions)
    sessions_at = _from_memory(Finder.sessions_at)
    names = _from_memory(Finder.names)

    def uuids(self, wanted: SessionFilter) -> list[UUID]:
        """Return the ids of sessions, newest first."""
        with self._memory_for(wanted) as memory:
            return memory.uuids(wanted) if memory else [UUID(eid) for eid in super().eids(wanted)]

    @contextmanager
    def _memory_for(self, asked: Any) -> Iterator[warm.Sessions | None]:
        """Give the sessions in memory, or None for the server, whose time counts for having them in memory soon."""
        if isinstance(asked, SessionFilter) and not warm.covers(asked):
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
    return _tables.get(database) or _tables.setdefault(database, Tables(database))

"""Locks of the database server: one process at a time, on whichever machine, and none is left behind by a dead one."""

from __future__ import annotations

import contextlib
import logging
from types import TracebackType

from datajoint.errors import LostConnectionError

from labweave.database.connection import LabConnection

log = logging.getLogger(__name__)


class ServerLock:
    """A lock of this lab, held by a session of its own: it ends with the process, however that ends.

    Parameters
    ----------
    connection : LabConnection
        Whose database; another session is opened.
    name : str
        What is locked.

    Examples
    --------
    >>> from labweave.database import current
    >>> from labweave.database.locks import ServerLock
    >>> with ServerLock(current().connection, "feeding") as mine, ServerLock(current().connection, "feeding") as other:
    ...     mine.acquire(), other.acquire()
    (True, False)
    """

    def __init__(self, connection: LabConnection, name: str):
        self._url, self._prefix, self._name = connection.url, connection.prefix, f"{connection.prefix}{name}"
        self._held, self._is_held = contextlib.ExitStack(), False
        self._session: LabConnection | None = None

    def acquire(self, timeout_s: int = 1) -> bool:
        """Take the lock, and say whether it became free within the time."""
        if self._session is None:
            self._session = LabConnection(self._url, self._prefix)
        self._is_held = self._held.enter_context(self._session.exclusive(self._name, timeout_s))
        return self._is_held

    def keep(self) -> bool:
        """Say whether the lock is held; after its session was lost, it is taken again if it is free."""
        try:
            if self._session is not None and self._is_held:
                self._session.query("select 1")
                return True
        except LostConnectionError:
            log.warning("the session that held the lock %s was lost", self._name)
        self._let_go()
        return self.acquire()

    def _let_go(self) -> None:
        self._is_held = False
        with contextlib.suppress(Exception):  # whatever the driver raises of a session that is gone: so is the lock
            self._held.close()

    def __enter__(self) -> ServerLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._let_go()
        if self._session is not None:
            self._session.close()
            self._session = None

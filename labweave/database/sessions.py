"""Sessions: what belongs to one thread of a `LabConnection`, and ends with the thread.

Table classes are bound to one connection. Behind it, each thread has a session of its own on the server, opened at its
first statement: a transaction is that of its thread, and two threads never read from one socket. Here is also what
DataJoint's lazy loading needs, so that threads see what is whole only.

A forked process inherits the sockets of its parent. A word to the server through one of them, even a goodbye, would
reach the parent's session, so the child puts nothing in their place and begins anew.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import datajoint.heading
import datajoint.lineage
from datajoint import codecs
from datajoint.autopopulate import AutoPopulate
from datajoint.dependencies import Dependencies
from datajoint.heading import Heading

from labweave.database.changes import DELETED

KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
END_S = 10.0
"""How long a server may take to end a session."""
BYTES_RECEIVED = 128
"""Where Linux has ``tcpi_bytes_received`` in its ``tcp_info``."""

_all: weakref.WeakSet[Session] = weakref.WeakSet()
_mutex = threading.Lock()


class Turns(contextlib.ContextDecorator):
    """A lock, also around whole functions: one thread at a time runs any of them."""

    def __init__(self):
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


class Session:
    """What one thread has to do with a server.

    Parameters
    ----------
    connection : LabConnection

    Attributes
    ----------
    driver : object or None
        The driver's connection; None before the first statement, and after the end.
    number : int
        What the server calls it.
    in_transaction : bool
    began : float
        When its transaction did, by the monotonic clock.
    making : tuple
        The make() that runs, as `labweave.database.made.being_made` gives it, and when its first statement came.
    why_deleted : tuple
        See `LabConnection.deleting`.
    n_statements : int
    asked : float
        When the statement was sent whose answer it waits for, by the monotonic clock; 0 while it waits for none.
    why_cut : str
        Why somebody else has ended its waiting; empty when nobody has.
    holds : bool
        A lock of the server is held by this session: lost, it can't be replaced.
    """

    def __init__(self, connection: Any):
        self.connection, self.n_statements = connection, 0
        self.why_deleted: tuple[str, str | None] = (DELETED, None)
        self._begin_anew()
        with _mutex:
            _all.add(self)

    def _begin_anew(self) -> None:
        self.driver: Any = None
        self.number, self._socket, self._process = 0, -1, os.getpid()
        self.in_transaction, self.holds, self.began = False, False, 0.0
        self.asked, self.why_cut = 0.0, ""
        self.making: tuple[Any, float] = (None, 0.0)
        self._mark = self._lost = ""
        self._shape: object = None
        self._dependencies: Dependencies | None = None

    def take(self, driver: Any) -> None:
        """Make an open connection of the driver that of this session."""
        self.end()
        adapter = self.connection.adapter
        self.driver, self._socket, self.number = driver, adapter.socket_of(driver), adapter.get_connection_id(driver)
        self._process, self.why_cut = os.getpid(), ""
        _keep_alive(self._socket)
        self._mark = adapter.mark_of(driver)
        if self._lost:
            try:
                with answered_within(END_S, self._socket):
                    adapter.end_session(driver, self._lost)
            except Exception as error:  # whatever the driver raises; it may have ended just now
                if adapter.is_silence(error):
                    raise
        self._lost = ""

    def lose(self) -> None:
        """End it after its server or network has failed: where it goes on, the next one ends it."""
        self._lost = self._mark
        self.end()

    def end(self) -> None:
        """Close it; in a forked process, let go of the parent's, which goes on."""
        driver, self.driver = self.driver, None
        if driver is None:
            return
        if self._process != os.getpid():
            _forget(self._socket)
            return
        if self.asked:  # in another thread: some drivers would wait, too
            self.cut("the connection was closed")
        with contextlib.suppress(Exception):  # of a server that is gone
            driver.close()

    __del__ = end

    def cut(self, why: str) -> None:
        """Have whoever waits for an answer wait no longer: their socket says that the server is gone."""
        self.why_cut = why
        with contextlib.suppress(OSError), _socket_of(self._socket) as same:
            same.shutdown(socket.SHUT_RDWR)

    def received(self) -> int:
        """Return how many bytes have come, where the system tells (Linux); else 0."""
        with contextlib.suppress(OSError, AttributeError, struct.error), _socket_of(self._socket) as same:
            info = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            return struct.unpack_from("Q", info, BYTES_RECEIVED)[0]
        return 0

    def dependencies(self, shape: object) -> Dependencies:
        """Return DataJoint's graph of foreign keys, which it fills in place; begun anew for another `shape`."""
        if self._dependencies is None or self._shape is not shape:
            self._dependencies, self._shape = Dependencies(self.connection), shape
        return self._dependencies


def sessions_of(connection: Any) -> list[Session]:
    """Return the sessions of all threads."""
    with _mutex:
        return [session for session in _all if session.connection is connection]


def _socket_of(number: int) -> socket.socket:
    """Return another Python object for a socket that a driver has."""
    return socket.socket(fileno=os.dup(number))


def _keep_alive(number: int) -> None:
    """Have the system ask a silent network whether the server is there, and give up after a minute."""
    with _socket_of(number) as same:
        if same.family not in (socket.AF_INET, socket.AF_INET6):
            return
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):
                same.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@contextlib.contextmanager
def answered_within(seconds: float, number: int) -> Iterator[None]:
    """Shut a driver's socket, of this file number, when what is asked inside takes longer."""
    same = _socket_of(number)

    def shut() -> None:
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        same.close()


def _forget(number: int) -> None:
    """Let a file number lead nowhere, so that nothing that is written to it, or closes it, reaches a server."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(OSError):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _forget_parent() -> None:
    global _mutex
    _mutex = threading.Lock()
    for session in list(_all):
        session.end()
        session._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


# -- what DataJoint shares among threads ---------------------------------------------------

_load_heading = Heading._init_from_database


def _load_whole(self: Heading) -> None:
    """Load a heading from the database, and show it to other threads only when it is whole."""
    loaded = Heading(table_info=self.table_info)
    _load_heading(loaded)
    vars(self).update(vars(loaded))


def _lineage_is_kept(connection: Any, schema: str) -> bool:
    """Say whether a schema has DataJoint's table of origins, or fail: DataJoint takes any error for a no.

    A heading without origins, loaded while a server restarts, would refuse every join of its table.
    """
    return connection.query(connection.adapter.get_table_info_sql(schema, "~lineage")).fetchone() is not None


Heading._init_from_database = _load_whole
datajoint.heading.lineage_table_exists = datajoint.lineage.lineage_table_exists = _lineage_is_kept
codecs._load_entry_points = Turns()(codecs._load_entry_points)  # the second thread would find half of them


_make_one = AutoPopulate._populate1


def _make_allowed(self: AutoPopulate, *arguments: Any, **options: Any) -> Any:
    """Make one key; DataJoint allows inserts by the class, only until the first of several threads is done."""
    self._allow_insert = True
    try:
        return _make_one(self, *arguments, **options)
    finally:
        vars(self).pop("_allow_insert", None)


AutoPopulate._populate1 = _make_allowed

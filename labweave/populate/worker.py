"""One worker: it takes jobs of a table, makes them, and shows that it is alive."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from datajoint.errors import DataJointError, DuplicateError, LostConnectionError

from labweave.database.connection import LabConnection, TransientError
from labweave.database.inputs import keep_failed_on
from labweave.database.patience import patience
from labweave.database.url import DatabaseUrl
from labweave.errors import text_of
from labweave.populate import queue
from labweave.populate.queue import Restriction

log = logging.getLogger(__name__)

ATTEMPTS = 6
CHUNK = 200


@dataclass(frozen=True)
class Outcome:
    """What became of one job: its key, and the reason when it failed."""

    key: dict[str, Any]
    reason: str | None = None


def work(table: Any, restriction: Restriction = None, *, alone: bool = True) -> Iterator[Outcome]:
    """Make the waiting jobs of one table until none is left.

    Parameters
    ----------
    table : an auto-populated table
    restriction : mapping or str, optional
    alone : bool, default: True
        Whether no other worker of this run shares the queue. Otherwise jobs are taken in random
        order, so that two workers seldom try for the same one.

    Yields
    ------
    Outcome
        One per job that this worker made or failed to make.
    """
    datajoint_log = logging.getLogger("datajoint")
    datajoint_log.addFilter(_is_no_failed_job)
    try:
        while keys := queue.pending_keys(table, restriction, limit=CHUNK):
            if not alone:
                random.shuffle(keys)
            taken = 0
            for key in keys:
                check_stop()
                if (outcome := _make(table, key)) is not None:
                    taken += 1
                    yield outcome
            if not taken:
                return
    finally:
        datajoint_log.removeFilter(_is_no_failed_job)


def _is_no_failed_job(record: logging.LogRecord) -> bool:
    """Drop DataJoint's log line of a failed job: it is an `Outcome`, and in the queue."""
    return record.module != "autopopulate"


def _make(table: Any, key: dict[str, Any]) -> Outcome | None:
    """Make one job; None when another worker has it or it was made already."""
    for attempt in range(1, ATTEMPTS + 1):
        raised, opened = False, table.connection.last_opened
        try:
            status = table._populate1(key, table.jobs, suppress_errors=True, return_exception_objects=True)
        except BaseException as caught:
            error, raised = caught, True
        else:
            if status is True:
                return Outcome(key)
            if status is False and table.connection.last_opened is not opened and queue.put_back_own(table, key):
                continue  # this process had taken it, and lost the answer that said so
            if status is False:
                return None
            error = status[1]
        if _Stop.number is not None or isinstance(error, (KeyboardInterrupt, SystemExit)):
            _leave(table, key)
            raise error if _Stop.number is None else _Stop.exception()
        if isinstance(error, DuplicateError) and table & key:
            _leave(table, key)  # another process, which does not use the queue, was faster
            return None
        if _may_pass_again(error) and attempt < ATTEMPTS:
            _leave(table, key)
            if table & key:  # only the answer was lost
                return Outcome(key)
            continue
        if raised:  # by the queue itself, not by make()
            with contextlib.suppress(Exception):
                _leave(table, key)
            raise error
        with contextlib.suppress(Exception):  # else the next populate tries it again
            keep_failed_on(table, key)
        return Outcome(key, f"{type(error).__name__}: {text_of(error)}")
    return None


def _may_pass_again(error: BaseException) -> bool:
    """Say whether a job may succeed when tried again: after a deadlock, a lost session, replaced inputs."""
    return isinstance(error, (TransientError, LostConnectionError)) or (
        isinstance(error, DataJointError) and "make_fetch" in str(error)
    )


def _leave(table: Any, key: Mapping[str, Any]) -> None:
    """Put back a job of this process, whatever state its session is in."""
    connection = table.connection
    with undisturbed():
        if connection.in_transaction:
            with contextlib.suppress(LostConnectionError):
                connection.cancel_transaction()
        queue.put_back(table, key)


class Heartbeat:
    """Shows other processes that this one is alive, on a thread with a session of its own.

    Several in one process are one row.
    """

    _mutex = threading.Lock()
    _beating: ClassVar[Counter[tuple]] = Counter()

    def __init__(self, connection: LabConnection):
        self._connection = connection
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="labweave heartbeat", daemon=True)
        self._table = connection.adapter.make_full_table_name(f"{connection.prefix}work", "worker")
        self._who = (queue.host_name()[:200], os.getpid())
        with self._mutex:
            if not self._beating[self._table, self._who]:
                connection.run_transaction(self._register)
            self._beating[self._table, self._who] += 1

    def _register(self) -> None:
        self._deregister()
        self._connection.query(
            f"insert into {self._table} (host, pid, started, heartbeat)"
            " values (%s, %s, current_timestamp(6), current_timestamp(6))",
            self._who,
        )

    def _deregister(self) -> None:
        self._connection.query(f"delete from {self._table} where host = %s and pid = %s", self._who)

    def _beat(self) -> None:
        while not self._stop.wait(queue.HEARTBEAT_SECONDS):
            try:
                self._connection.query(
                    f"update {self._table} set heartbeat = current_timestamp(6) where host = %s and pid = %s", self._who
                )
            except Exception as error:  # the next beat may get through, and work must go on without
                log.warning("heartbeat failed: %s", error)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with undisturbed(), self._mutex:
            self._stop.set()
            self._thread.join()
            self._beating[self._table, self._who] -= 1
            if not self._beating[self._table, self._who]:
                self._deregister()


def serve(url: DatabaseUrl, prefix: str, pipe: Any) -> None:
    """Be a worker process: drain the queues of the tables that come through `pipe`.

    Takes ``(table name, restriction)`` and answers with an `Outcome` per job, then None. Ends
    at None, or when the other end is gone.
    """
    import labweave

    try:
        with (
            patience(),
            labweave.connect(url, prefix=prefix) as database,
            stoppable(database.connection, [signal.SIGTERM]),
            Heartbeat(database.connection),
        ):
            while (order := pipe.recv()) is not None:
                name, restriction = order
                (table,) = queue.computed_tables([name])
                for outcome in work(table, restriction, alone=False):
                    pipe.send(outcome)
                pipe.send(None)
    except (EOFError, OSError, SystemExit):
        return


class _State(threading.local):
    """The state of `stop`: the signal that came, how many blocks defer it, the session in use.

    Signals come to the main thread: the others are not stopped by them.
    """

    number: int | None = None
    shields = 0
    connection: LabConnection | None = None

    def exception(self) -> BaseException:
        return KeyboardInterrupt() if self.number == signal.SIGINT else SystemExit(128 + (self.number or 0))


_Stop = _State()


def stop(number: int, _frame: object = None) -> None:
    """Handle a signal: end this process cleanly; a job under way goes back into its queue."""
    _Stop.number = number
    if _Stop.shields:
        return
    if _Stop.connection is not None:
        _Stop.connection.adapter.break_off(_Stop.connection)
    raise _Stop.exception()


def check_stop() -> None:
    """Stop now if a signal came but its exception was lost: Python drops those raised in destructors and callbacks."""
    if _Stop.number is not None:
        raise _Stop.exception()


@contextlib.contextmanager
def stoppable(connection: LabConnection, numbers: Sequence[int]) -> Iterator[None]:
    """Let signals end the block cleanly."""
    _Stop.number, _Stop.connection = None, connection
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except Exception:
        if _Stop.number is None:
            raise
        raise _Stop.exception() from None  # whatever a library made of it
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _Stop.number = _Stop.connection = None


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Defer `stop` until the end of the block."""
    before = _Stop.number
    _Stop.shields += 1
    try:
        yield
    finally:
        _Stop.shields -= 1
        if _Stop.number != before and not _Stop.shields:
            raise _Stop.exception()

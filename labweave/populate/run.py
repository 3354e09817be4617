"""One populate run: every table in order, by this process or by several."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from labweave import processes
from labweave.database import Database, current
from labweave.database.inputs import OutOfDate, keep_failed_on
from labweave.database.patience import patience
from labweave.database.reads import table_label
from labweave.errors import ComputeError, ConfigError
from labweave.populate import queue, worker
from labweave.populate.queue import Restriction
from labweave.populate.worker import Heartbeat, Outcome
from labweave.schemas.provenance import Made

Progress = Callable[[str, int, int, int], None]
"""Called with table, jobs done, jobs failed, jobs in all."""

DEATHS_PER_JOB = 2
"""A job that has killed this many workers fails and is not tried again."""


@dataclass
class TableReport:
    """What one run did for one table."""

    table: str
    made: int = 0
    failed: int = 0
    remade: int = 0
    seconds: float = 0.0


@dataclass
class PopulateReport:
    """What one run did.

    Attributes
    ----------
    tables : list of TableReport
        In the order they were worked on.
    reasons : dict
        Table -> why results were made again -> how many.
    dry_run : bool
        Nothing was made: `made` and `remade` are what would be.
    failures : list of Outcome
        Jobs that failed in this run, with their reasons.
    """

    tables: list[TableReport] = field(default_factory=list)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    dry_run: bool = False
    failures: list[tuple[str, Outcome]] = field(default_factory=list)

    def add(self, table: TableReport, outdated: Iterable[OutOfDate]) -> None:
        """Add a table, with its results that are made again."""
        self.tables.append(table)
        if reasons := Counter("; ".join(one.reasons) for one in outdated):
            self.reasons[table.table] = reasons

    @property
    def made(self) -> int:
        """How many jobs were made."""
        return sum(table.made for table in self.tables)

    @property
    def failed(self) -> int:
        """How many jobs failed."""
        return sum(table.failed for table in self.tables)

    def __str__(self) -> str:
        width = max((len(table.table) for table in self.tables), default=5)
        if self.dry_run:
            lines = [f"{'would be made':<{width}}  {'new':>7}  {'again':>7}"]
            lines += [f"{t.table:<{width}}  {t.made - t.remade:>7}  {t.remade:>7}" for t in self.tables]
        else:
            lines = [f"{'table':<{width}}  {'made':>7}  {'again':>7}  {'failed':>6}  {'s':>7}"]
            for t in self.tables:
                lines.append(f"{t.table:<{width}}  {t.made:>7}  {t.remade:>7}  {t.failed:>6}  {t.seconds:>7.1f}")
        for table, reasons in self.reasons.items():
            again = "would be made again" if self.dry_run else "made again"
            lines += [f"{table}: {count} {again}: {reason}" for reason, count in reasons.most_common()]
        if self.dry_run and self.reasons:
            lines.append("Results of these are made again, too, where they come out otherwise.")
        return "\n".join(lines)


@patience()
def run(
    tables: Sequence[str] | None = None,
    restriction: Restriction = None,
    *,
    workers: int = 1,
    executor: str = "local",
    dry_run: bool = False,
    progress: Progress = lambda table, done, failed, total: None,
) -> PopulateReport:
    """Make what is missing, table by table, in the order of the foreign keys.

    Parameters
    ----------
    tables : sequence of str, optional
        Class names, with or without their module; by default every table that populate makes.
    restriction : mapping or str, optional
        Only these keys: attributes of the table's own key, of the session or of the subject.
    workers : int, default: 1
        Number of processes; 1 means this one.
    executor : {"local"}
        Where the workers run.
    dry_run : bool, default: False
        Make nothing; the report says what would be made, and what again for which reason.
    progress : callable, optional
        Called with table, jobs done, failed and in all.

    Returns
    -------
    PopulateReport
        Lists the failed jobs, which stay in their queue (`errors`, `retry`); the others go on.

    Raises
    ------
    ConfigError
        No database is open, or the executor is not known.
    SchemaError
        A table, or a name in the restriction, is not known.
    ComputeError
        The worker processes can't be started.

    Examples
    --------
    >>> from labweave import populate
    >>> report = populate.run(["Rheobase"], {"cell": "sim01"})  # all is made already
    >>> report.made, report.failed
    (0, 0)
    """
    database = current()
    if executor != "local":
        raise ConfigError(f"Executor {executor!r} is not known. Use local.")
    if workers < 1:
        raise ConfigError(f"workers is {workers}; at least one is needed.")
    queue.check_restriction(restriction)
    report = PopulateReport(dry_run=dry_run)
    if dry_run:
        for table in queue.computed_tables(tables):
            found = queue.outdated(table, restriction)
            waiting = len(queue.restrict(table, restriction).proj() - table.proj())
            report.add(TableReport(table_label(table), made=waiting + len(found), remade=len(found)), found)
        return report
    with worker.stoppable(database.connection, _signals()), _crew(database, workers) as drain:
        for table in queue.computed_tables(tables):
            worker.check_stop()
            began = time.monotonic()
            outdated, held = queue.delete_outdated(table, restriction)
            entry = TableReport(table_label(table), failed=len(held), remade=len(outdated))
            report.failures += [(entry.table, Outcome(*one)) for one in held]
            queue.free_orphans(table)
            queue.fill(table, restriction)
            total = len(queue.pending_keys(table, restriction))
            if total:
                progress(entry.table, 0, 0, total)
                for outcome in drain(table, restriction):
                    if outcome.reason is None:
                        entry.made += 1
                    else:
                        entry.failed += 1
                        report.failures.append((entry.table, outcome))
                    progress(entry.table, entry.made + entry.failed, entry.failed, total)
            if entry.made:
                names = [table.full_table_name, *table.parts(), Made().full_table_name]
                database.connection.adapter.analyze(database.connection, names)
            entry.seconds = time.monotonic() - began
            report.add(entry, outdated)
    return report


Drain = Callable[[Any, Restriction], Iterator[Outcome]]


def _signals() -> list[int]:
    """Return the signals that end a run cleanly: those that the program does not handle itself."""
    if threading.current_thread() is not threading.main_thread():
        return []
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    return [number for number, handler in usual.items() if signal.getsignal(number) == handler]


@contextmanager
def _crew(database: Database, workers: int) -> Iterator[Drain]:
    """Give a function that empties a table's queue, by this process or by several."""
    if workers == 1:
        with Heartbeat(database.connection):
            yield worker.work
        return
    crew = _Crew(database, workers)
    try:
        crew.complete()
        yield crew.drain
    except BaseException:
        crew.terminate()
        raise
    finally:
        crew.dismiss()


PATIENCE = ((5, BaseProcess.terminate), (5, BaseProcess.terminate), (20, BaseProcess.kill))
"""How many seconds a worker gets to leave, and what is done then, as eFEL can't be interrupted."""


class _Crew:
    """Worker processes. One that dies is replaced, and another takes up its job."""

    def __init__(self, database: Database, workers: int):
        self._database, self._size = database, workers
        self._members: dict[Connection, Any] = {}
        self._deaths: dict[tuple, int] = {}

    def complete(self) -> None:
        """Start the workers that are missing."""
        while len(self._members) < self._size:
            self._hire()

    def _hire(self) -> Connection:
        ours, theirs = multiprocessing.Pipe()
        source = self._database.connection.url
        with worker.undisturbed():  # a worker that has started must be a member, so that it is ended
            self._members[ours] = processes.start(worker.serve, source, self._database.prefix, theirs)
        theirs.close()
        return ours

    def drain(self, table: Any, restriction: Restriction) -> Iterator[Outcome]:
        """Have the queue of one table emptied, and yield what becomes of each job."""
        order = (table_label(table), restriction)
        self.complete()
        busy: set[Connection] = set()
        for pipe in list(self._members):
            yield from self._send(pipe, order, table, busy)
        while busy:
            worker.check_stop()
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                try:
                    outcome = pipe.recv()
                except (EOFError, ConnectionResetError):
                    busy.discard(pipe)
                    yield from self._bury(pipe, table)
                    if queue.pending_keys(table, restriction, limit=1):
                        yield from self._send(self._hire(), order, table, busy)
                    continue
                if outcome is None:
                    busy.discard(pipe)
                else:
                    self._deaths.pop((), None)
                    yield outcome

    def _send(self, pipe: Connection, order: tuple, table: Any, busy: set[Connection]) -> Iterator[Outcome]:
        """Give an order to a worker, and replace it if it has died."""
        while True:
            try:
                pipe.send(order)
            except OSError:
                yield from self._bury(pipe, table)
                pipe = self._hire()
            else:
                busy.add(pipe)
                return

    def _bury(self, pipe: Connection, table: Any) -> Iterator[Outcome]:
        """Free the job of a dead worker, or fail the job when it has killed several."""
        process = self._members.pop(pipe)
        pipe.close()
        process.join()
        freed = [job for job in queue.free_orphans(table) if job["pid"] == process.pid]
        if not freed:
            self._deaths[()] = self._deaths.get((), 0) + 1
            if self._deaths[()] > 3:
                raise ComputeError(
                    f"Worker processes end as soon as they start (exit code {process.exitcode}). "
                    "Run with one worker to see why: labweave populate --workers 1 --debug"
                )
        for job in freed:
            key = {name: job[name] for name in table.jobs.primary_key}
            mark = tuple(sorted(key.items()))
            self._deaths[mark] = self._deaths.get(mark, 0) + 1
            if self._deaths[mark] >= DEATHS_PER_JOB:
                reason = (
                    f"WorkerDied: its worker process ended with exit code {process.exitcode}, {DEATHS_PER_JOB} times"
                )
                table.jobs.error(key, error_message=reason)
                keep_failed_on(table, key)
                yield Outcome(key, reason)

    def terminate(self) -> None:
        """Have every worker put its job back and end."""
        for process in self._members.values():
            process.terminate()

    def dismiss(self) -> None:
        """Let the workers go, and end those that stay."""
        for pipe in self._members:
            with suppress(OSError):
                pipe.send(None)
        for seconds, end in PATIENCE:
            deadline = time.monotonic() + seconds
            for process in self._members.values():
                process.join(max(0.0, deadline - time.monotonic()))
                if process.is_alive():
                    end(process)
        for pipe, process in self._members.items():
            process.join()
            pipe.close()

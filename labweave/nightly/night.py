"""One night: every source, populate, checks and backup, in order; what it did is rows, a page and an exit code."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labweave import connect
from labweave.database import Database, upsert
from labweave.database.locks import ServerLock
from labweave.database.patience import patience
from labweave.errors import ConfigError, LabweaveError, text_of
from labweave.nightly import alerts, pages
from labweave.nightly.child import run_step
from labweave.nightly.report import NightReport, Problems, Result, StepDone
from labweave.nightly.settings import NightSettings, load_for_alerts, load_night
from labweave.nightly.steps import steps_of
from labweave.populate.queue import host_name
from labweave.schemas.work import Night, NightStep
from labweave.version import __version__


class NotStarted(LabweaveError):
    """The night could not begin, or go on."""


class AnotherRuns(LabweaveError):
    """A night of this lab is under way."""


Tell = Callable[[StepDone], None]


def run(only: Sequence[str] = (), *, dry_run: bool = False, tell: Tell = lambda step: None) -> NightReport:
    """Do one night.

    Parameters
    ----------
    only : sequence of str
        Take these sources and do nothing else.
    dry_run : bool, default: False
        Write nothing and tell nobody; the report says what each step would do.
    tell : callable, optional
        Called with each step when it is done.

    Returns
    -------
    NightReport

    Raises
    ------
    ConfigError
        labweave.toml has a mistake (who is to be told was told, if that much can be read), or no such source.
    NotStarted
        The database can't be reached or is lost for good, or a disk is too full. Who is to be told was told.
    AnotherRuns
        A night of this lab is under way.
    """
    try:
        settings = load_night()
    except ConfigError as error:
        if not dry_run and (enough := load_for_alerts()):
            alerts.tell_not_started(enough, text_of(error))
        raise
    names = _chosen(settings, only)
    try:
        settings.nightly.log_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(patience())
            database = stack.enter_context(connect(make=not dry_run))
            lock = stack.enter_context(ServerLock(database.connection, "night"))
            _check_alone(lock.acquire(), database)
            free_bytes = _free_bytes(settings, database)
            if free_bytes < settings.nightly.min_free:
                raise NotStarted(_too_full(free_bytes, settings))
            report = _Night(settings, database, lock, dry_run, tell).run(names)
    except AnotherRuns:
        raise
    except (LabweaveError, OSError) as error:
        text = text_of(error)
        if not dry_run:
            alerts.tell_not_started(settings, text)
        raise NotStarted(text) from error
    return report


def _chosen(settings: NightSettings, only: Sequence[str]) -> list[str]:
    known = [source.name for source in settings.sources]
    if unknown := sorted(set(only) - set(known)):
        raise ConfigError(f"labweave.toml has no source {', '.join(unknown)}. It has: {', '.join(known) or 'none'}.")
    return [f"source {name}" for name in dict.fromkeys(only)] or list(steps_of(settings))


def _check_alone(is_ours: bool, database: Database) -> None:
    """Say who holds the lock of nights when it is not ours."""
    if not is_ours:
        rows = (Night & "finished is null").to_dicts(order_by="started desc", limit=1)
        who = "".join(f" on {row['host']}, process {row['pid']}, since {row['started']:%H:%M} UTC" for row in rows)
        raise AnotherRuns(f"Another night of {database.prefix} runs{who}.")


def _disks(settings: NightSettings, database: Database) -> dict[Path, None]:
    """Return the folders that a night writes to."""
    server = database.connection.server
    folders = [settings.nightly.log_dir, settings.backup.to, server.data_dir if server else None]
    found: dict[Path, None] = {}
    for folder in filter(None, folders):
        there = next((at for at in (folder, *folder.parents) if at.exists()), None)
        if there is not None:
            found[there] = None
    return found


def _free_bytes(settings: NightSettings, database: Database) -> int:
    return min(shutil.disk_usage(folder).free for folder in _disks(settings, database))


def _too_full(free_bytes: int, settings: NightSettings) -> str:
    wanted = settings.nightly.min_free
    return (
        f"Only {free_bytes / 1e9:.1f} GB are free where the night writes (logs, backup, database), and min_free is "
        f"{wanted / 1e9:.1f} GB. Make room, or lower min_free in labweave.toml."
    )


class _Night:
    def __init__(self, settings: NightSettings, database: Database, lock: ServerLock, dry_run: bool, tell: Tell):
        self.settings, self.database, self.lock = settings, database, lock
        self.dry_run, self.tell = dry_run, tell
        self.began, self.started = time.monotonic(), _now()
        night = "" if dry_run else f"{self.started.isoformat(timespec='microseconds')}Z"
        self.report = NightReport(night, database.prefix)
        stamp = f"{self.started:%Y-%m-%dT%H%M%SZ}"
        self.report.log_file = settings.nightly.log_dir / f"{database.prefix}night-{stamp}.log"

    def run(self, names: Sequence[str]) -> NightReport:
        if not self.dry_run:
            self._begin()
        for name in names:
            _check_alone(self.lock.keep(), self.database)  # the server may have been restarted
            self._add(self._do(name))
        self.report.seconds = time.monotonic() - self.began
        if not self.dry_run:
            self._end()
        return self.report

    def _begin(self) -> None:
        alerts.ping(self.settings, "start")
        self.dead = (Night & "finished is null and told is null").to_dicts(order_by="started")
        versions = {"labweave": __version__, "server": self.database.connection.server_version}
        facts = {"host": host_name()[:200], "pid": os.getpid(), "versions": versions, "started": self.started}
        upsert(Night, [{"night": self.report.night, **facts}])
        for night in self.dead:
            text = f"the night of {night['started']:%Y-%m-%d %H:%M} on {night['host']} ended before it was done"
            result = Result({}, {night["night"]: ("failure", text)}, text)
            self._add(StepDone(f"night before {night['night']}", "failed", 0.0, result, result.problems))

    def _add(self, done: StepDone) -> None:
        self.report.steps.append(done)
        if not self.dry_run:
            self._record(done, len(self.report.steps) - 1)
        self.tell(done)

    def _do(self, name: str) -> StepDone:
        began = time.monotonic()
        left = self.settings.nightly.budget.total_seconds() - (began - self.began)
        if left <= 0:
            return StepDone(name, "left", 0.0, Result(message="not begun: the budget of the night was used up"))
        limit = next((s.timeout for s in self.settings.sources if s.timeout and name == f"source {s.name}"), None)
        seconds = min(left, limit.total_seconds()) if limit else left
        assert self.report.log_file is not None
        result, is_ended = run_step(name, seconds=seconds, log_file=self.report.log_file, dry_run=self.dry_run)
        took = time.monotonic() - began
        if is_ended and seconds == left:
            result.message = f"ended with the budget of the night; the next one goes on. {result.message}".rstrip()
            return StepDone(name, "left", took, result)
        if is_ended:
            result.problems["timeout"] = ("failure", f"took longer than {seconds / 60:.0f} min, and was ended")
            result.message = result.problems["timeout"][1]
        return self._compared(StepDone(name, result.status, took, result))

    def _compared(self, done: StepDone) -> StepDone:
        """Return a step with what is new in it, compared with the last night that was told."""
        steps = NightStep & (Night & "told is not null") & {"step": done.name} & "step_status <> 'left'"
        rows = steps.to_dicts(order_by="night desc", limit=1)
        before: dict[str, Any] = rows[0]["problems"] if rows else {}
        now = done.result.problems
        new = {name: problem for name, problem in now.items() if before.get(name, [None])[0] != problem[0]}
        recovered: Problems = {name: tuple(before[name][:2]) for name in before.keys() - now.keys()}  # type: ignore[misc]
        return replace(done, new=new, recovered=recovered)

    def _record(self, done: StepDone, position: int) -> None:
        row = {
            "night": self.report.night,
            "step": done.name,
            "position": position,
            "step_status": done.status,
            "seconds": done.seconds,
            "n_bytes": done.result.n_bytes,
            "counts": done.result.counts,
            "problems": {name: [*problem, name in done.new] for name, problem in done.result.problems.items()},
            "step_message": done.result.message[:2000],
        }
        upsert(NightStep, [row])

    def _end(self) -> None:
        report, settings = self.report, self.settings
        report.free_bytes = _free_bytes(settings, self.database)
        report.days_left = pages.days_until_full(report.free_bytes)
        done = {"finished": _now(), "exit_code": report.exit_code, "free_bytes": report.free_bytes}
        Night.update1({"night": report.night, **done})
        pages.write(report, settings)
        alerts.tell(report, settings)
        for night in (report.night, *(row["night"] for row in self.dead)):
            Night.update1({"night": night, "told": _now()})


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)

"""Whether all is well, in one line: for health checks and monitoring, which ask every few minutes."""

from __future__ import annotations

import datetime as dt

from labweave import connect
from labweave.database import Database
from labweave.database.locks import ServerLock
from labweave.errors import LabweaveError, text_of
from labweave.nightly import alerts
from labweave.nightly.report import BUDGET_ENDED, GOOD
from labweave.nightly.settings import NightSettings, load_night
from labweave.populate.queue import host_name
from labweave.processes import lives
from labweave.schemas.work import Night

WELL, ILL, NO_ANSWER = range(3)
"""Exit codes: good; the last night failed, or there was none; the database does not answer, or needs an upgrade."""

OVERDUE = dt.timedelta(hours=26)
"""A night is a day and perhaps some waiting after the one before."""


def look() -> tuple[int, str]:
    """Return an exit code, and what it is for in one line. It counts no rows.

    Examples
    --------
    >>> from labweave.nightly.watch import look
    >>> look()
    (0, 'good: the database answers; no nights are configured')
    """
    try:
        settings = load_night()
        with connect(make=False) as database:
            return _judge(settings, database)
    except LabweaveError as error:
        return NO_ANSWER, f"no answer: {' '.join(text_of(error).split())}"


def _judge(settings: NightSettings, database: Database) -> tuple[int, str]:
    mark = alerts.not_started_mark(settings)
    if mark.exists():
        tried = dt.datetime.fromtimestamp(mark.stat().st_mtime, dt.timezone.utc)
        return ILL, f"the night of {tried:%Y-%m-%d %H:%M} UTC could not begin. To see why: labweave nightly"
    nights = Night().proj("host", "pid", "started", "finished", "exit_code").to_dicts(order_by="night desc", limit=2)
    if not nights:
        return WELL, f"good: the database answers; {'no night yet' if settings.sources else 'no nights are configured'}"
    now = database.connection.now()
    running = "" if nights[0]["finished"] else f"a night runs since {nights[0]['started']:%Y-%m-%d %H:%M} UTC; "
    if running:
        if not _is_alive(database, nights[0], now):
            return ILL, f"the night of {nights[0]['started']:%Y-%m-%d %H:%M} UTC ended before it was done"
        del nights[0]
        if not nights:
            return WELL, f"good: {running}the first one"
    last = nights[0]
    told = f"the last night began {last['started']:%Y-%m-%d %H:%M} UTC"
    if settings.sources and not running and now - last["started"] > OVERDUE:
        return ILL, f"overdue: {told}"
    if last["finished"] is None:
        return ILL, f"{running}{told}, and ended before it was done"
    if last["exit_code"] not in (GOOD, BUDGET_ENDED):
        return ILL, f"{running}{told}, and failed with exit code {last['exit_code']}. See: labweave nightly report"
    return WELL, f"good: {running}{told}"


def _is_alive(database: Database, night: dict, now: dt.datetime) -> bool:
    """Say whether the process of a night runs; one on another machine, or in another container, holds the lock."""
    if night["host"] == host_name()[:200]:
        return lives(night["pid"], (now - night["started"]).total_seconds())
    with ServerLock(database.connection, "night") as lock:
        return not lock.acquire()

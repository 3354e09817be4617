"""When nights begin, on the clock of this machine; and waiting for the next, where no timer of the system does."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from labweave import connect
from labweave.database.patience import patience
from labweave.errors import LabweaveError
from labweave.nightly import alerts
from labweave.schemas.work import Night

if TYPE_CHECKING:
    from labweave.nightly.settings import NightSettings

LONGEST_PAUSE_S = 60.0
"""A machine that slept, and a clock that was set, are noticed after so long."""


def next_begin(at: str, now: float) -> float:
    """Return when the next night begins, in seconds since 1970.

    Parameters
    ----------
    at : str
        Time of day here, as ``02:00``. When the clock jumps over it in spring, an hour later; when it comes twice in
        autumn, the first time.
    now : float
        Seconds since 1970.
    """
    return next(moment for moment in _begins(at, now, (0, 1, 2)) if moment > now)


def last_begin(at: str, now: float) -> float:
    """Return when the last night should have begun, in seconds since 1970."""
    return next(moment for moment in _begins(at, now, (0, -1, -2)) if moment <= now)


def _begins(at: str, now: float, days: tuple[int, ...]) -> list[float]:
    today, time_of_day = dt.datetime.fromtimestamp(now).date(), dt.time.fromisoformat(at)
    return [dt.datetime.combine(today + dt.timedelta(days=day), time_of_day).timestamp() for day in days]


def wait(
    settings: NightSettings,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until a night begins; one that was missed begins at once.

    Parameters
    ----------
    settings : NightSettings
    tell : callable
        Takes what is waited for, in words.
    clock, pause : callable
        Give seconds since 1970, and sleep for seconds.
    """
    at, now = settings.nightly.at, clock()
    if _was_missed(settings, last_begin(at, now), tell):
        tell("a night was missed: it begins now")
        return
    begin = next_begin(at, now)
    tell(f"the next night begins at {dt.datetime.fromtimestamp(begin):%Y-%m-%d %H:%M}")
    while (left := begin - clock()) > 0:
        pause(min(left, LONGEST_PAUSE_S))


def _was_missed(settings: NightSettings, due: float, tell: Callable[[str], None]) -> bool:
    """Say whether no night began when one was due, though there were nights before, and none runs."""
    mark = alerts.not_started_mark(settings)
    if mark.exists() and mark.stat().st_mtime >= due:
        return False  # it tried
    try:
        with patience(), connect(make=False):  # containers start together
            last = Night().to_dicts(order_by="night desc", limit=1)
    except LabweaveError as error:  # the night tells those who are to know
        tell(f"whether a night was missed is not known: {error}")
        return False
    return any(row["finished"] and row["started"].replace(tzinfo=dt.timezone.utc).timestamp() < due for row in last)

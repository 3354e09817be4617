"""Patience: what runs unattended waits for a server that is away; what a person waits for says so at once."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import random
import time
from collections.abc import Callable, Iterator

from labweave.database.tls import NotOffered
from labweave.errors import ServerUnavailable

log = logging.getLogger(__name__)

BUDGET_S = 300.0
"""How long a server may be away: a restart or a failover takes half a minute to some minutes."""
LONGEST_PAUSE_S = 10.0

_is_patient = contextvars.ContextVar("is_patient", default=False)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Have connections of this thread wait inside for a server that is away, also when they are opened."""
    token = _is_patient.set(True)
    try:
        yield
    finally:
        _is_patient.reset(token)


def lasts(since: float) -> bool:
    """Say whether what was lost at a time of the monotonic clock is still tried again; without patience, never."""
    return _is_patient.get() and time.monotonic() < since + BUDGET_S


def open_patiently(open_session: Callable[[], None], place: object) -> None:
    """Open a session by a function; inside `patience`, it is tried again while the server is away.

    Raises
    ------
    ServerUnavailable
        The server was away for `BUDGET_S`; without patience, it is.
    """
    began, pause = time.monotonic(), 0.25
    while True:
        try:
            open_session()
        except ServerUnavailable as error:
            if not lasts(began) or isinstance(error, NotOffered):
                raise
            if pause == 0.25:
                log.warning("%s: waiting for it, up to %.0f min. %s", place, BUDGET_S / 60, error)
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  (many clients: not all at once)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        else:
            if pause > 0.25:
                log.warning("%s: answers again after %.0f s", place, time.monotonic() - began)
            return

"""Silence: a statement without an answer may take long, or its answer may never come.

No time-out tells them apart: a migration takes minutes, and a network that went silent says nothing for ever. So a
thread looks after the sessions of a connection that wait. About one that has received nothing for `SILENCE_S` it asks
the server, in a short session of its own. A session that works is left to work, for hours if need be. When the server
doesn't know it, or has it wait for us, what it sent was lost; when the server can't be reached either, all is. Found
twice in succession, the socket of the session is shut, and whoever waits gets an error: see `LabConnection.query`.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import Any

from labweave.database.sessions import Session, answered_within, sessions_of
from labweave.errors import LabweaveError

log = logging.getLogger(__name__)

SILENCE_S = 20.0
ANSWER_S = 10.0
"""How long a server may take to say what a session does."""


class Watch:
    """Looks after the sessions of a connection, from a thread that ends with it.

    Parameters
    ----------
    connection : LabConnection
    """

    def __init__(self, connection: Any):
        self._connection, self._is_over = weakref.ref(connection), threading.Event()
        self._mutex, self._thread = threading.Lock(), threading.Thread()
        self._heard: weakref.WeakKeyDictionary[Session, tuple[Any, float, int]] = weakref.WeakKeyDictionary()

    def begin(self) -> None:
        """Start the thread, if it does not run: after a fork it doesn't."""
        with self._mutex:
            if not self._thread.is_alive():
                self._is_over.clear()
                self._thread = threading.Thread(target=self._run, name="labweave silence", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """Let the thread end."""
        self._is_over.set()

    def _run(self) -> None:
        while not self._is_over.wait(SILENCE_S / 10) and self._look_at_all(self._connection()):
            pass

    def _look_at_all(self, connection: Any) -> bool:
        """Look at each session that waits; False when nobody uses the connection any more."""
        if connection is None:
            return False
        for session in sessions_of(connection):
            if session.asked:
                try:
                    self._look(connection, session)
                except Exception:  # else nobody would look after the others
                    log.exception("could not look after session %d", session.number)
        return True

    def _look(self, connection: Any, session: Session) -> None:
        now, state = time.monotonic(), (session.asked, session.received())
        before, since, n_lost = self._heard.get(session, (None, now, 0))
        if state != before:
            since, n_lost = now, 0
        elif now - since >= SILENCE_S:
            why = self._why_lost(connection, session.number)
            n_lost = n_lost + 1 if why else 0
            if not why:
                since = now
            elif n_lost == 2 and session.asked == state[0]:
                session.cut(f"no answer for {time.monotonic() - since:.0f} s, and {why}")
        self._heard[session] = state, since, n_lost

    @staticmethod
    def _why_lost(connection: Any, number: int) -> str | None:
        """Return why a session will never answer; None when it may."""
        adapter = connection.adapter
        try:
            driver = connection.open_driver()
        except LabweaveError as error:
            return "the server can't be reached" if adapter.is_silence(error.__cause__) else None
        try:
            with answered_within(ANSWER_S, adapter.socket_of(driver)):
                works = adapter.is_working(driver, number)
        except Exception as error:  # whatever the driver raises
            return "the server does not answer" if adapter.is_silence(error) else None
        finally:
            driver.close()
        return None if works is not False else "the server waits for the next statement, or has ended the session"

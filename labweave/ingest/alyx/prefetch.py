"""Parts of a sync that are asked for before their turn, so that the server works while tables are written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

_kept: dict[str, Any] = {}
_coming: tuple[str, Future[Any]] | None = None


def start(url: str, name: str, scope: Mapping[str, Any], ask: Callable[[], Any]) -> None:
    """Ask for the part whose turn is next; until `take` or `drop`, nothing else may be asked on this connection."""
    global _coming
    part = _part(url, name, scope)
    if part in _kept:
        return
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    _coming = part, answer
    # A thread of its own, not a pool's: the end of the program does not wait for it.
    threading.Thread(target=run, name="labweave next part", daemon=True).start()


def keep(url: str, name: str, scope: Mapping[str, Any], answer: Any) -> None:
    """Keep what came of a part when it was planned."""
    _kept[_part(url, name, scope)] = answer


def take(url: str, name: str, scope: Mapping[str, Any]) -> Any:
    """Return what has come of a part, or None when nobody has asked for it.

    Raises
    ------
    Exception
        What the request for this part has failed with.
    """
    coming, part = _wait(), _part(url, name, scope)
    if part in _kept:
        return _kept.pop(part)
    return coming[1].result() if coming and coming[0] == part else None


def drop() -> None:
    """Drop what nobody has taken, once it has come: two threads may not use one connection."""
    _wait()
    _kept.clear()


def _wait() -> tuple[str, Future[Any]] | None:
    global _coming
    coming, _coming = _coming, None
    if coming is not None:
        wait([coming[1]])
    return coming


def _part(url: str, name: str, scope: Mapping[str, Any]) -> str:
    return json.dumps([url, name, scope], sort_keys=True)

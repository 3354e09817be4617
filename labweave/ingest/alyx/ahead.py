"""What is asked of a server before its turn, so that it works while the tables are written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labweave.ingest.alyx.pages import Pulled

_kept: dict[str, Pulled] = {}
_request: _Request | None = None


class _Request(threading.Thread):
    """One part that is on its way."""

    def __init__(self, part: str, ask: Callable[[], Pulled]):
        super().__init__(name="labweave next part", daemon=True)
        self.part, self._ask = part, ask
        self._pulled: Pulled | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._pulled = self._ask()
        except BaseException as error:
            self._error = error

    def result(self) -> Pulled | None:
        if self._error is not None:
            raise self._error
        return self._pulled


def start(url: str, name: str, scope: Mapping[str, Any], ask: Callable[[], Pulled]) -> None:
    """Ask for the part whose turn is next; until `take`, nothing else may be asked on this connection."""
    global _request
    part = _part(url, name, scope)
    if part not in _kept:
        _request = _Request(part, ask)
        _request.start()


def keep(url: str, name: str, scope: Mapping[str, Any], pulled: Pulled) -> None:
    """Keep the records of a part that came when it was planned."""
    _kept[_part(url, name, scope)] = pulled


def take(url: str, name: str, scope: Mapping[str, Any]) -> Pulled | None:
    """Return what has come of a part, or None when it has not been asked for.

    Raises
    ------
    Exception
        What the part that is on its way has failed with.
    """
    global _request
    request, _request = _request, None
    if request is not None:
        request.join()
    part = _part(url, name, scope)
    if part in _kept:
        return _kept.pop(part)
    return request.result() if request is not None and request.part == part else None


def forget() -> None:
    """Drop what nobody has taken, once it has come: two threads may not use one connection."""
    global _request
    request, _request = _request, None
    if request is not None:
        request.join()
    _kept.clear()


def _part(url: str, name: str, scope: Mapping[str, Any]) -> str:
    return json.dumps([url, name, scope], sort_keys=True)

"""PyQt5's QObject and signals; without PyQt5 everything imports, and what needs it says how to install it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labweave.acquisition.errors import QtMissing

try:
    from PyQt5.QtCore import QObject, pyqtSignal
except ImportError as error:
    if TYPE_CHECKING:
        raise
    _REASON = str(error)

    class QObject:
        """Refuses to be made."""

        def __init__(self, *arguments: Any, **named: Any):
            raise qt_missing(type(self).__name__, _REASON)

    def pyqtSignal(*types: Any) -> None:
        """Return nothing: no object is ever made that would send it."""


def qt_missing(what: str, reason: str) -> QtMissing:
    """Return the error that says how to install PyQt5."""
    return QtMissing(f'{what} needs PyQt5, which can\'t be imported ({reason}). Install it: pip install "labweave[qt]"')


__all__ = ["QObject", "pyqtSignal", "qt_missing"]

"""What could not be ingested: remembered until it is solved, and not read again before it changes.

A file that can't be read is the same tomorrow: its size and time are kept with the reason
(``ingestion.OpenFailure``), and a later run skips it as long as these, the options and the version are as they were.
What may pass though the file stays as it is, such as a missing right or a row that is in the way,
is tried by every run.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from labweave.database import upsert
from labweave.database.reads import in_parts
from labweave.errors import Clash, LabweaveError, SourceError, text_of
from labweave.ingest.report import IngestFailure, IngestReport
from labweave.schemas.ingestion import Failure, OpenFailure
from labweave.version import __version__


class Failures:
    """The failures of one source: those of earlier runs that are not solved yet, and those of this run.

    Parameters
    ----------
    report : IngestReport
        Lists those of this run.
    """

    def __init__(self, report: IngestReport):
        self.report = report
        self._open: dict[str, dict[str, str]] = {}
        wanted = (OpenFailure & {"source": report.source}).proj("unit", "state_sha256")
        for row in wanted.to_dicts():
            self._open.setdefault(row["unit"], {})[row["path"]] = row["state_sha256"]

    def of(self, unit: str) -> dict[str, str]:
        """Return what of a unit failed in an earlier run, and the state in which it would fail again."""
        return self._open.get(_cut(unit), {})

    def add(self, unit: str, path: str, error: Exception, state: str = "") -> None:
        """Record that a unit, or a file of it, can't be ingested; with a state, it is not tried again in this state."""
        if isinstance(error, LabweaveError):
            text, trace = text_of(error), None
        else:
            text = f"{type(error).__name__}: {text_of(error)}. This is not expected: please report it."
            trace = printable("".join(traceback.format_exception(error)))
        message = printable(text)
        self.report.failures.append(IngestFailure(_shown(path), type(error).__name__, message))
        if self.report.dry_run:
            return
        facts = {
            "run": self.report.run,
            "path": _cut(path),
            "error_class": type(error).__name__[:64],
            "message": message[:2000].replace("\0", ""),
        }
        upsert(Failure, [{**facts, "traceback": trace}])
        state = state if will_fail_again(error) else ""
        (OpenFailure & {"source": self.report.source, "path": _cut(path)}).delete_quick()
        upsert(OpenFailure, [{**facts, "source": self.report.source, "unit": _cut(unit), "state_sha256": state}])
        self._open.setdefault(_cut(unit), {})[_cut(path)] = state

    def solve(self, unit: str, but: Collection[str] = ()) -> None:
        """Forget what failed of a unit, a few paths left out."""
        if known := self._open.get(_cut(unit)):
            solved = known.keys() - {_cut(path) for path in but}
            self._delete(solved)
            self._open[_cut(unit)] = {path: state for path, state in known.items() if path not in solved}

    def solve_others(self, units: Iterable[str]) -> None:
        """Forget what failed of all units but some: it is no longer there."""
        kept = {_cut(unit) for unit in units}
        self._delete([path for unit, paths in self._open.items() if unit not in kept for path in paths])

    def _delete(self, paths: Collection[str]) -> None:
        for part in in_parts([] if self.report.dry_run else sorted(paths)):
            (OpenFailure & {"source": self.report.source} & [{"path": path} for path in part]).delete_quick()


def state_of(files: Mapping[str, Mapping[str, Any]], facts: str) -> str:
    """Return a hash of the size and time of some files, and of all else that decides what is read from them."""
    seen = sorted((path, file["size"], file["mtime_ns"]) for path, file in files.items())
    return hashlib.sha256(repr((seen, facts, __version__)).encode("utf-8", "backslashreplace")).hexdigest()


def will_fail_again(error: BaseException) -> bool:
    """Say whether an error is a file's own: not ours, and of no right, disk or row that may be another tomorrow."""
    if not isinstance(error, SourceError) or isinstance(error, Clash):
        return False
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and (at.errno is not None or at is error):
            return False
        at = at.__cause__ or at.__context__
    return True


def printable(text: str) -> str:
    """Return text that can be stored: bytes of a file name that are no UTF-8 are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(path: str) -> str:
    """Return a path as a line: its control characters are spelled out."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], printable(path))


def _cut(path: str) -> str:
    return _shown(path)[:512]

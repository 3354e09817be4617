"""Which backups to keep: the newest of each of the last days, weeks and months."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from labweave.database.backup.file import BackupInfo, read_info
from labweave.errors import ConfigError, LabweaveError

PERIODS = {"daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m"}
"""Name of a period -> its name in the calendar, in UTC."""

SUFFIX = ".backup"


def parse_keep(text: str) -> dict[str, int]:
    """Return how many of each period to keep.

    Examples
    --------
    >>> from labweave.database.backup.keeping import parse_keep
    >>> parse_keep("daily=7,weekly=5,monthly=12")
    {'daily': 7, 'weekly': 5, 'monthly': 12}
    """
    keep: dict[str, int] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*=\s*([0-9]+)\s*", part)
        if not found or found[1] not in PERIODS or found[1] in keep:
            raise ConfigError(f"Can't tell from {text!r} what to keep. Write for example daily=7,weekly=5,monthly=12.")
        keep[found[1]] = int(found[2])
    if not any(keep.values()):
        raise ConfigError(f"{text!r} keeps no backup at all. Write for example daily=7,weekly=5,monthly=12.")
    return keep


def to_keep(times: Iterable[datetime], keep: dict[str, int]) -> set[datetime]:
    """Return those of some times that are the last of one of the newest days, weeks or months, each counted by itself.

    Examples
    --------
    >>> from datetime import datetime
    >>> from labweave.database.backup.keeping import to_keep
    >>> times = [datetime(2026, 11, 30, 2), datetime(2026, 12, 1, 2), datetime(2026, 12, 1, 14)]
    >>> sorted(to_keep(times, {"daily": 1, "monthly": 2})) == [times[0], times[2]]
    True
    """
    newest_first = sorted(times, reverse=True)
    kept: set[datetime] = set()
    for name, count in keep.items():
        last: dict[str, datetime] = {}
        for time in newest_first:
            last.setdefault(time.strftime(PERIODS[name]), time)
        kept.update(list(last.values())[:count])
    return kept


def file_name(prefix: str, time: datetime) -> str:
    """Return the name of a backup in a folder, for example ``smithlab-2026-12-01T020000.backup``."""
    return f"{prefix.rstrip('_')}-{time:%Y-%m-%dT%H%M%S}{SUFFIX}"


def prune(folder: Path, made: BackupInfo, keep: dict[str, int]) -> tuple[list[Path], list[Path]]:
    """Delete the backups in a folder that are of the same lab and not to be kept.

    Parameters
    ----------
    folder : Path
    made : BackupInfo
        Of the lab: only backups of the same database and prefix go, whose names are those of `file_name`.
    keep : dict
        See `parse_keep`.

    Returns
    -------
    kept, deleted : list of Path
        In the order of their names.
    """
    pattern = file_name(made.prefix, datetime(2000, 1, 1)).replace("2000-01-01T000000", "????-??-??T??????")
    times: dict[Path, datetime] = {}
    for path in sorted(folder.glob(pattern)):
        try:
            info = read_info(path)
        except LabweaveError:  # not a backup that can be read: a person will see to it
            continue
        if (info.prefix, info.database) == (made.prefix, made.database):
            times[path] = datetime.fromisoformat(info.created)
    wanted = to_keep(times.values(), keep)
    deleted = [path for path, time in times.items() if time not in wanted]
    for path in deleted:
        path.unlink()
    return [path for path in times if path not in deleted], deleted

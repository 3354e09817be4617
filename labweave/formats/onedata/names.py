"""Names: of variables and their files, of sessions and their folders, and dates."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any, NamedTuple

from labweave.errors import SourceError

FOLDERS = ("oneData", "onedata", "OneData")
"""Folder of the saved variables, as registration writes it, as manuals spell it."""

_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")


def check_part(name: str, what: str) -> str:
    """Return a name, unless it can't be that of a file in the very folder where it is looked for: then a ValueError."""
    if not name or name in (".", "..") or any(character in name for character in "/\\\0") or name != name.strip():
        raise ValueError(f"{name!r} can't be the {what}: it must be one part of a path, without blanks around it.")
    return name


def format_date(date: Any) -> str:
    """Return a date as ``YYYY-MM-DD``.

    Parameters
    ----------
    date : str, date, datetime or float
        Text is year, month and day with dashes; of a datetime the date as written counts, whatever its zone; a float
        is POSIX seconds, in local time. A ValueError for anything else.
    """
    if isinstance(date, str) and (match := _DATE.fullmatch(date)):
        try:
            return dt.date(*map(int, match.groups())).isoformat()
        except ValueError:
            pass
    elif isinstance(date, dt.datetime):
        return date.date().isoformat()
    elif isinstance(date, dt.date):
        return date.isoformat()
    elif isinstance(date, float):
        return dt.datetime.fromtimestamp(date).date().isoformat()
    raise ValueError(f"{date!r} is no date of a session. Give YYYY-MM-DD, a date, a datetime or POSIX seconds (float).")


class SessionFolder(NamedTuple):
    """A session as its folder names it: root/mouse/date, or root/mouse/date/id."""

    root: Path
    mouse_name: str
    date: str
    session_id: str


def split_folder(folder: Path) -> SessionFolder:
    """Return what the path of a session folder says.

    Raises
    ------
    SourceError
        Neither its last nor its last but one part is a date.
    """
    parts = folder.parts
    for back in (1, 2):
        if len(parts) > back and _DATE.fullmatch(parts[-back]):
            session_id = parts[-1] if back == 2 else ""
            return SessionFolder(Path(*parts[: -back - 1]), parts[-back - 1], format_date(parts[-back]), session_id)
    raise SourceError(
        f"{folder} is no session folder: it is neither mouse/YYYY-MM-DD nor mouse/YYYY-MM-DD/id. "
        "Move it into such folders."
    )


def saved_files(folder: Path) -> list[Path]:
    """Return the files of variables in a folder: ``.npy``, then ``.npz``, each by name; none when it is missing."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return [
        path
        for extension in (".npy", ".npz")
        for path in files
        if path.suffix == extension and not path.name.startswith(".")
    ]


def split_name(stem: str) -> tuple[str, str]:
    """Return object and attribute of a variable, split at the first dot."""
    one_object, _, attribute = stem.partition(".")
    return one_object, attribute

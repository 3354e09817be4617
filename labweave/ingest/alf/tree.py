"""Folders of ALF sessions on a disk: where sessions are, and which of their files are datasets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple

from labweave.formats.alf.names import fits, is_date, rel_path_problem
from labweave.ingest.base import Adapter

_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_NUMBER = re.compile("[0-9]{1,3}").fullmatch


class SessionFolder(NamedTuple):
    """One session folder by its name alone; lab is empty where the path does not say it."""

    path: Path
    lab: str
    subject: str
    date: str
    number: int

    @property
    def base(self) -> Path:
        """The folder that holds the labs, or the subjects where the path has no lab."""
        return self.path.parents[4 if self.lab else 2]


def parse_session_folder(path: Path) -> SessionFolder | None:
    """Return what the path of a session folder says, None for another folder; `folder_problem` judges the names."""
    parts = path.parts[1:]
    if len(parts) < 3 or not _DATE(parts[-2]) or not _NUMBER(parts[-1]):
        return None
    lab = parts[-5] if len(parts) >= 5 and parts[-4] == "Subjects" else ""
    return SessionFolder(path, lab, parts[-3], parts[-2], int(parts[-1]))


def folder_problem(folder: SessionFolder) -> str | None:
    """Say what keeps a session folder from being one of ALF, or None."""
    for part, value, possible in (
        ("lab", folder.lab, "letters, digits and _"),
        ("subject", folder.subject, "letters, digits, _ . and -"),
    ):
        if value and not fits(part, value):
            return f"{value!r} can't be a {part} in ALF, which takes {possible}. Rename the folder."
    if not is_date(folder.date):
        return f"{folder.date} is not a date. Correct the name of the folder."
    return None


def find_session_folders(location: Path, adapter: Adapter) -> Iterator[SessionFolder | tuple[Path, str]]:
    """Yield the session folders at or below a location in the order of their names.

    A folder that can't be looked into is yielded with the reason instead. The adapter judges links, and is told what is
    left out.
    """
    own = parse_session_folder(location)
    if own is not None:
        yield own
        return
    inside_date = bool(_DATE(location.name))
    try:
        folders = sorted(_folders(location, adapter), key=lambda folder: folder.name)
    except OSError as error:
        yield location, f"{location}: {error.strerror or error}. Is the folder readable?"
        return
    for folder in folders:
        found = parse_session_folder(folder)
        if found is not None:
            yield found
        elif not inside_date:
            yield from find_session_folders(folder, adapter)
        else:
            adapter.leave_out(folder, "the folder of a day holds sessions by number, 001 to 999")


def _folders(location: Path, adapter: Adapter) -> Iterator[Path]:
    with os.scandir(location) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)
            elif entry.is_symlink() and not os.path.isfile(entry.path):  # noqa: PTH113 - not for a loop of links, either
                adapter.follows(entry.path)


def find_datasets(session: Path, adapter: Adapter, below: str = "") -> Iterator[str]:
    """Yield the paths below a session folder of the files that are datasets, in order.

    Parameters
    ----------
    session : Path
    adapter : Adapter
        Judges links, and is told of names that are not ALF.
    below : str, default: ""
        Only what is in this folder of the session; it ends in ``/``.
    """
    with os.scandir(session / below) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = f"{below}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from find_datasets(session, adapter, f"{path}/")
            continue
        problem = _problem_of(PurePath(below).as_posix() if below else "", entry.name)
        if not entry.is_file(follow_symlinks=False):
            if not entry.is_symlink():
                problem = "it is not a file"
            elif not (problem and os.path.isfile(entry.path)) and not adapter.follows(entry.path):  # noqa: PTH113
                continue
        if problem:
            adapter.leave_out(entry.path, problem)
        else:
            yield path


@lru_cache(maxsize=50_000)
def _problem_of(folder: str, name: str) -> str | None:
    return rel_path_problem(f"{folder}/{name}" if folder else name)

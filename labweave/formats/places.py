"""Where a file is that a table only points to."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labweave.errors import ReadError, SourceError

GONE = "Is its disk mounted? Else ingest its source again."
CHANGED = "Ingest its source again."


def folder_of(location: str | Path) -> Path:
    """Return the folder that the paths of a source are below: its location, or the folder that this file is in."""
    location = Path(location)
    return location if location.is_dir() else location.parent


def find_stored(stored: Mapping[str, Any], location: str | Path) -> tuple[Path | zipfile.Path, str]:
    """Return folder and name of a file that a table points to.

    Parameters
    ----------
    stored : mapping
        ``path``, posix, below the source's folder; where that is a zip archive, ``member``, too.
    location : str or Path
        Of the source, whose folder the path must not leave.
    """
    root = folder_of(location).resolve()
    path = (root / stored["path"]).resolve()
    if not path.is_relative_to(root):
        raise SourceError(f"{stored['path']} leaves the source's folder {root}. {CHANGED}")
    if "member" not in stored:
        return path.parent, path.name
    if not path.is_file():
        raise ReadError(path, "the archive is gone", GONE)
    folder, _, name = stored["member"].rpartition("/")
    return zipfile.Path(path, f"{folder}/"), name

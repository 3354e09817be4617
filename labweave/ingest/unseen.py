"""Files of earlier runs: which are still there."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from labweave.database.reads import rows_in_order
from labweave.schemas.ingestion import SourceFile


@dataclass
class EarlierFiles:
    """What became of the files of a source's units.

    Attributes
    ----------
    here : dict
        Unit -> its files that are there.
    gone : dict
        File that is gone, and was there in the last run -> its unit.
    away, hidden : set of str
        Units of which files are gone; units in folders that can't be looked at.
    """

    here: dict[str, list[str]] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)


def find_earlier_files(source: str, root: Path, closed: Collection[str]) -> EarlierFiles:
    """Look for all files that earlier runs of a source have recorded; of what is below a `closed` path nobody knows."""
    found = EarlierFiles()

    @functools.lru_cache(maxsize=64)
    def names(folder: str) -> frozenset[str] | None:
        above = (folder, *map(str, PurePosixPath(folder).parents)) if closed else ()
        return None if any(path in closed for path in above) else _names_in(root / folder)

    for path, unit, status in rows_in_order(SourceFile, "path", ["path", "unit", "file_status"], {"source": source}):
        folder, _, name = path.rpartition("/")
        there = names(folder)
        if there is None:
            found.hidden.add(unit)
        elif name in there:
            found.here.setdefault(unit, []).append(path)
        else:
            found.away.add(unit)
            if status == "ingested":
                found.gone[path] = unit
    return found


def _names_in(folder: Path) -> frozenset[str] | None:
    """Return the names in a folder, none when it is gone; None when it can't be looked at."""
    try:
        return frozenset(child.name for child in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError:
        return None

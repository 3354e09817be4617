"""Which source a location is: one that is known, a new one, or another lab's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from labweave.errors import ConfigError
from labweave.ingest.base import Adapter
from labweave.schemas.ingestion import Forgotten, Source, SourceFile


def _source_name(cls: type[Adapter], *identity: Any) -> str:
    place = identity[0]
    digest = hashlib.sha256("\n".join(map(str, (cls.name, *identity))).encode()).hexdigest()[:8]
    return f"{cls.name}-{place.name}"[:55] + f"-{digest}"


def source_of(
    cls: type[Adapter], place: Path, lab: str, source: str | None, *, move: bool, also: bool
) -> tuple[str, bool]:
    """Return the name of the source of a location, and whether another lab has the location, too.

    Raises
    ------
    ConfigError
        Another lab has it, and nobody said what is to be done.
    """
    rows = [row for row in (Source & {"adapter": cls.name}).to_dicts() if _overlap(Path(row["location"]), place)]
    with_files = [row for row in rows if SourceFile & {"source": row["source"], "file_status": "ingested"}]
    others = [row for row in with_files if row["source_lab"] != lab]
    for row in [*with_files, *([] if others else rows)]:
        if (row["location"], row["source_lab"]) == (str(place), lab) and source in (None, row["source"]):
            if move and others:
                raise ConfigError(f"{place} is both labs'. To leave it to {lab}: labweave forget {others[0]['source']}")
            return row["source"], (row["options"] or {}).get("also", False)
    name = source or _source_name(cls, place)
    known = (Source & {"source": name}).to_dicts()
    if source is None and known and known[0]["source_lab"] != lab and (Forgotten & {"source": name}):
        name = _source_name(cls, place, lab)
    elif source is not None and known and not move:
        other = known[0]
        if other["adapter"] != cls.name or (other["location"] != str(place) and Path(other["location"]).exists()):
            raise ConfigError(
                f"The source {source} is {other['location']}, read by the adapter {other['adapter']}. "
                "Choose another name for this one."
            )
    if not others:
        return name, False
    if also:
        return (source or _source_name(cls, place, lab)), True
    other = others[0]
    has = f"{other['location']} was ingested for the lab {other['source_lab']}, as the source {other['source']}."
    if not move:
        raise ConfigError(
            f"{has} Say --lab {other['source_lab']} if that is right, --move if its rows belong to {lab}, "
            "or --also if both labs have them."
        )
    if len(others) > 1 or other["location"] != str(place):
        raise ConfigError(f"{has} It can be moved as a whole: give --move with that folder.")
    return other["source"], False


def _overlap(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents

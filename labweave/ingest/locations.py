"""Which source a location is: one that is known, a new one, or another lab's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from labweave.database.connection import LabConnection
from labweave.errors import ConfigError, SourceError
from labweave.formats.hashing import NO_HASH, sha256_of_file
from labweave.ingest.base import Adapter
from labweave.ingest.files import NOT_READ
from labweave.schemas.ingestion import Forgotten, Given, Source, SourceFile


def check_readable(place: Path) -> None:
    """Refuse a location that does not exist, or that may not be read.

    Raises
    ------
    SourceError
    """
    if not place.exists():
        raise SourceError(f"{place} does not exist. Check the path, or whether the disk is mounted.")
    try:
        if place.is_dir():
            os.scandir(place).close()
        else:
            place.open("rb").close()
    except OSError as error:
        raise SourceError(f"{place}: {error.strerror or error}. Ask who owns it for the right to read it.") from None


def _source_name(cls: type[Adapter], *identity: Any) -> str:
    place = identity[0]
    digest = hashlib.sha256("\n".join(map(str, (cls.name, *identity))).encode()).hexdigest()[:8]
    return f"{cls.name}-{place.name}"[:55] + f"-{digest}"


class Found(NamedTuple):
    """The source of a location.

    Attributes
    ----------
    name : str
    is_second_lab : bool
        Another lab has the location, too.
    moved_from : str
        The source that had its files before they were moved here; empty when they were not.
    """

    name: str
    is_second_lab: bool = False
    moved_from: str = ""


def source_of(cls: type[Adapter], place: Path, lab: str, source: str | None, *, move: bool, also: bool) -> Found:
    """Return the source of a location.

    Raises
    ------
    ConfigError
        Another lab has the location, and nobody said what is to be done; or it has a source of another name.
    """
    every = (Source & {"adapter": cls.name}).to_dicts()
    rows = [row for row in every if _overlap(Path(row["location"]), place)]
    with_files = [row for row in rows if SourceFile & {"source": row["source"], "file_status": "ingested"}]
    others = [row for row in with_files if row["source_lab"] != lab]
    for row in [*with_files, *([] if others else rows)]:
        if (row["location"], row["source_lab"]) == (str(place), lab) and source in (None, row["source"]):
            if move and others:
                raise ConfigError(f"{place} is both labs'. To leave it to {lab}: labweave forget {others[0]['source']}")
            return Found(row["source"], (row["options"] or {}).get("also", False) and _has_two_labs(rows, lab))
    for row in with_files:
        if (row["location"], row["source_lab"]) == (str(place), lab):
            raise ConfigError(
                f"{place} is the source {row['source']}. Leave --source out, or take that one's rows out first: "
                f"labweave forget {row['source']}"
            )
    name = source or _source_name(cls, place)
    old = None if with_files else next((row for row in every if _was_moved(row, place)), None)
    if old is not None and (name == old["source"] or not SourceFile & {"source": name}):
        if old["source_lab"] != lab and not move:
            raise ConfigError(
                f"{place} was {old['location']}, and was ingested for the lab {old['source_lab']}, as the source "
                f"{old['source']}. Say --lab {old['source_lab']} if that is right, or --move if its rows belong to "
                f"{lab}."
            )
        return Found(name, moved_from=old["source"])
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
        return Found(name)
    if also:
        return Found(source or _source_name(cls, place, lab), is_second_lab=True)
    other = others[0]
    has = f"{other['location']} was ingested for the lab {other['source_lab']}, as the source {other['source']}."
    if not move:
        raise ConfigError(
            f"{has} Say --lab {other['source_lab']} if that is right, --move if its rows belong to {lab}, "
            "or --also if both labs have them."
        )
    if len(others) > 1 or other["location"] != str(place):
        raise ConfigError(f"{has} It can be moved as a whole: give --move with that folder.")
    return Found(other["source"])


def _has_two_labs(rows: list[dict[str, Any]], lab: str) -> bool:
    """Say whether sources of another lab still have something: files that are gone for a while count."""
    others = [{"source": row["source"]} for row in rows if row["source_lab"] != lab]
    return any(bool(table & other) for other in others for table in (SourceFile, Given))


FILES_LOOKED_AT = 20


def _was_moved(row: Mapping[str, Any], place: Path) -> bool:
    """Say whether the location of a source is gone, and its files are at another place."""
    if Path(row["location"]).exists():
        return False
    root = place if place.is_dir() else place.parent
    files = (SourceFile & {"source": row["source"], "file_status": "ingested"}).to_dicts(limit=FILES_LOOKED_AT)
    there = [file for file in files if (root / file["path"]).is_file()]
    alike = [file for file in there if _is_file(root / file["path"], file)]
    return 2 * len(alike) > len(files)


def _is_file(path: Path, known: Mapping[str, Any]) -> bool:
    """Say whether a file is the one that is known by its hash, or, when it was never hashed, by its size and time."""
    if known["sha256"] != NO_HASH:
        return sha256_of_file(path) == known["sha256"]
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) == (known["size"], known["mtime_ns"])


def take_over(connection: LabConnection, old: str, new: str) -> None:
    """Make the units of a source whose folder was moved another one's, and have them read again."""

    def work() -> None:
        for table in (Given, Forgotten, SourceFile):
            connection.query(f"update {table.full_table_name} set source = %s where source = %s", (new, old))
        connection.query(
            f"update {SourceFile.full_table_name} set options_sha256 = %s where source = %s", (NOT_READ, new)
        )

    connection.run_transaction(work)


def _overlap(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents

"""Regions of the brain atlas, and what lies within them: from the tables, else from the package iblatlas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from labweave.errors import ConfigError
from labweave.one.alyx.models import MODELS, restrict

ALIGNED = "Ephys aligned histology track"
"""Where a probe was: estimates of other provenance don't count when Alyx looks for a region."""

Regions = dict[int, dict[str, Any]]


def regions() -> Regions:
    """Return the regions by their ids.

    Raises
    ------
    ConfigError
        Neither the tables nor a package has any.
    """
    rows = MODELS["brain-regions"].rows().to_dicts()
    return {row["brain_region"]: row for row in rows or _packaged()}


def _packaged() -> Iterable[dict[str, Any]]:
    try:
        from iblatlas.regions import BrainRegions  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            "The tables have no regions of the brain atlas. labweave ingest alyx brings them from a server; "
            "or install them: pip install labweave[atlas]"
        ) from None
    atlas = BrainRegions()
    for number, acronym, name, parent in zip(atlas.id, atlas.acronym, atlas.name, atlas.parent, strict=True):
        around = None if parent != parent else int(parent)
        values = {"acronym": str(acronym), "region_name": str(name), "parent_region": around}
        yield {"brain_region": int(number), **values, "region_description": ""}


def within(known: Regions, fits: Callable[[dict[str, Any]], bool]) -> set[int]:
    """Return the ids of the regions that fit, and of all their parts."""
    parts: dict[int | None, list[int]] = defaultdict(list)
    for number, row in known.items():
        parts[row["parent_region"]].append(number)
    found: set[int] = set()
    waiting = [number for number, row in known.items() if fits(row)]
    while waiting:
        if (number := waiting.pop()) not in found:
            found.add(number)
            waiting += parts[number]
    return found


def around(known: Regions, number: int) -> list[int]:
    """Return the ids of a region and of those it is a part of, the largest first."""
    found: list[int] = []
    while number in known and number not in found:
        found.append(number)
        number = known[number]["parent_region"]
    return found[::-1]


def at_regions(query: Any, shared: tuple[str, ...], numbers: Iterable[int]) -> Any:
    """Keep the rows with a probe that was in one of some regions, by the columns they share with its trajectory."""
    aligned = MODELS["trajectories"].rows() & {"provenance": ALIGNED}
    there = restrict("trajectories", aligned, "channels__brain_region__in", sorted(numbers))
    return query & there.proj(*shared)

"""Units written before labweave kept keys: nobody knows which rows they gave, until they are read as they were then."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from labweave.database import current
from labweave.errors import ConfigError
from labweave.ingest.base import Adapter
from labweave.ingest.locations import Found
from labweave.ingest.registry import make_options
from labweave.schemas.ingestion import Given, Source, SourceFile


class Before(NamedTuple):
    """How a source was read the last time.

    Attributes
    ----------
    options : dict
        The adapter's, and the lab.
    text : str
        Those of them that are others now.
    """

    options: dict[str, Any]
    text: str


def options_before(cls: type[Adapter], found: Found, lab: str, chosen: Any) -> Before | None:
    """Return how a source with older units was read before, if its options or its lab are others now."""
    source = found.moved_from or found.name
    rows = (Source & {"source": source}).to_dicts()
    if not rows or not rows[0]["options"]:
        return None
    options = {name: value for name, value in rows[0]["options"].items() if name not in ("lab", "also")}
    now = {"lab": lab, **_dumped(chosen)}
    then = {"lab": rows[0]["source_lab"], **options}
    with contextlib.suppress(ConfigError):  # an option that there is no more: who reads with it is told
        then |= _dumped(make_options(cls, options))
    others = [f"{name} {then.get(name, 'none')}" for name in {**then, **now} if then.get(name) != now.get(name)]
    return Before(then, ", ".join(others)) if others and _has_older_units(source) else None


def _dumped(options: Any) -> Mapping[str, Any]:
    return options.model_dump(mode="json", exclude_none=True)


def _has_older_units(source: str) -> bool:
    query = (
        f"select 1 from {SourceFile.full_table_name} f where f.source = %s and f.file_status = 'ingested'"
        f" and not exists (select 1 from {Given.full_table_name} g where g.source = f.source and g.unit = f.unit)"
        " limit 1"
    )
    return current().connection.query(query, (source,)).fetchone() is not None

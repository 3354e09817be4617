"""Scopes: which records of a resource are meant, and the filters and restrictions that ask for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from labweave.formats.alyx import Resource
from labweave.ingest.alyx.tables import SourceRecord

LAST_ID = 2**128
UNASKABLE = frozenset(",'\"[]()\\")
"""Characters that a value of a filter can't have."""

Range = tuple[int, int]
"""Numbers of ids, the last one not included."""


def id_text(number: int) -> str:
    """Return a number below 2**128 as the text of an id."""
    return str(uuid.UUID(int=number))


def span(low: int, high: int) -> list[str]:
    """Return a range of id numbers as a scope holds it: the first id, and the first one after it or ''."""
    return [id_text(low), id_text(high) if high < LAST_ID else ""]


def bounds(scope: Mapping[str, Any]) -> Range:
    """Return the id numbers of a scope's range, the last one not included."""
    low, high = scope.get("range") or span(0, LAST_ID)
    return uuid.UUID(low).int, uuid.UUID(high).int if high else LAST_ID


def django(resource: Resource, scope: Mapping[str, Any], more: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the filter of a scope: id range, stamp, tag and others."""
    pairs: list[tuple[str, str]] = []
    low, high = bounds(scope)
    if low > 0:
        pairs.append((f"{resource.ranged}__gte", id_text(low)))
    if high < LAST_ID:
        pairs.append((f"{resource.ranged}__lt", id_text(high)))
    if since := scope.get("since"):
        pairs.append((f"{resource.stamp}__gte", since))
    if known := scope.get("known"):
        pairs.append((f"~{resource.stamp}__in", as_list(known)))
    if scope.get("unstamped"):
        pairs.append((f"{resource.stamp}__isnull", "True"))
    if tag := scope.get("tag"):
        pairs.append(("tags__id", tag[0]))
    pairs += [(name, value) for name, value in scope.get("filters", ())]
    pairs += more
    return {"django": ",".join(f"{name},{value}" for name, value in pairs)} if pairs else {}


def as_list(values: Iterable[str]) -> str:
    """Return values as a filter takes a list of them."""
    return "[" + ",".join(f"'{value}'" for value in values) + "]"


def present_records(source: str, name: str) -> Any:
    """Return the records of a resource that are known and have not vanished."""
    return SourceRecord & {"source": source, "resource": name} & "vanished_in is null"


def in_range(attribute: str, low: int, high: int) -> str:
    """Return the restriction of a text attribute to an id range."""
    condition = f"{attribute} >= '{id_text(low)}'"
    return condition if high >= LAST_ID else f"{condition} and {attribute} < '{id_text(high)}'"

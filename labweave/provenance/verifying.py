"""Results that are made again without being stored, and compared with those that are."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from datajoint.user_tables import Part

from labweave.database import current, upsert
from labweave.database.inputs import made_id, why_out_of_date
from labweave.database.made import keep_code, programs, user
from labweave.database.reads import table_label
from labweave.errors import ComputeError, FileMissing, ReadError
from labweave.formats.plain import plain_json
from labweave.schemas.provenance import Verified

KEPT = 20
"""How many differences of a result are kept in the table."""

GONE = (FileMissing, ReadError, ComputeError)
"""Errors of reading a file: it is away, damaged, or not the one that was ingested."""

IN_WORDS = frozenset({"inputs_sha256"})
"""Attributes that are not compared: they say what a result was made from; `Verification.would_be_made_again` does."""


@dataclass(frozen=True)
class Difference:
    """One value that came out otherwise.

    Attributes
    ----------
    place : str
        The part and its key, the attribute, and where in it, for example ``Feature 3 mean``.
    stored, now : object
        Plain values; None where there is no such row or number.
    apart : float
        Relative difference of two numbers; infinite for anything else.
    """

    place: str
    stored: Any
    now: Any
    apart: float


@dataclass(frozen=True)
class Verification:
    """How one result came out.

    Attributes
    ----------
    table : str
    key : dict
    outcome : {"equal", "close", "different", "input gone", "failed"}
        Close: every number is within the tolerance.
    worst_difference : float or None
        The largest relative difference of two numbers; None when a difference has no size.
    differences : list of Difference
        What differs, the largest first.
    reason : str
        Why it could not be made.
    would_be_made_again : list of str
        Because of what populate would make it again: what it rests on changed since.
    """

    table: str
    key: dict[str, Any]
    outcome: str
    worst_difference: float | None = None
    differences: list[Difference] = field(default_factory=list)
    reason: str = ""
    would_be_made_again: list[str] = field(default_factory=list)


def verify(
    tables: Sequence[Any],
    *,
    sample: int | None = None,
    rtol: float = 1e-9,
    progress: Callable[[str, int, int, int], None] = lambda table, done, failed, total: None,
) -> Iterator[Verification]:
    """Make stored results again without storing them, and compare.

    Nothing but ``provenance.Verified`` is written: every make runs in a transaction that can't write, on copies of the
    tables whose inserts are collected.

    Parameters
    ----------
    tables : sequence of computed tables
        Instances, which may be restricted.
    sample : int, optional
        So many results of each table, by chance; all without.
    rtol : float, default: 1e-9
        Relative difference of numbers up to which a result is close.
    progress : callable, optional
        Called with table, results done, of these not equal or close, and in all.

    Yields
    ------
    Verification

    Examples
    --------
    >>> from labweave.provenance import verify
    >>> from labweave.schemas.rheobase import Rheobase
    >>> {one.outcome for one in verify([Rheobase()])}
    {'equal'}
    """
    connection = current().connection
    for table in tables:
        keys = table.keys()
        if sample is not None and sample < len(keys):
            keys = random.sample(keys, sample)
        label, bad = table_label(table), 0
        progress(label, 0, 0, len(keys))
        for done, key in enumerate(keys, 1):
            found = _verify(connection, table, key, rtol)
            if found is None:
                continue
            bad += found.outcome not in ("equal", "close")
            _keep(connection, table, found)
            progress(label, done, bad, len(keys))
            yield found


def is_result(table: Any) -> bool:
    """Say whether a table that populate makes is a computation: what a sync has pulled from a server is none."""
    return not type(table).__module__.startswith("labweave.ingest.")


def _keep(connection: Any, table: Any, found: Verification) -> None:
    where = (table & found.key).where_clause()
    ids = connection.query(f"select {made_id(table, 't')} from {table.full_table_name} t{where}").fetchall()
    if not ids:  # deleted meanwhile
        return
    keep_code(connection)
    told = [plain_json(dataclasses.asdict(one)) for one in found.differences[:KEPT]]
    row = {
        "made": ids[0][0],
        "verified_at": dt.datetime.now(dt.timezone.utc),
        "outcome": found.outcome,
        "worst_difference": found.worst_difference,
        "differences": told or ([{"reason": found.reason}] if found.reason else None),
        "code": programs()[0],
        "verified_by": user(),
    }
    upsert(Verified, [row])


def _verify(connection: Any, table: Any, key: dict[str, Any], rtol: float) -> Verification | None:
    """Return how one result comes out; None when it was deleted meanwhile."""
    label = table_label(table)
    collected: dict[str, list[dict[str, Any]]] = {}
    copy = _copy_of(type(table), collected)()

    def make() -> tuple[bool, list[Difference], list[str]]:
        collected.clear()
        _make(copy, dict(key))
        parts = [value() for value in vars(type(table)).values() if _is_part(value)]
        stored = {one.table_name: (one & key).to_dicts() for one in (table & key, *parts)}
        if not stored[table.table_name]:
            return False, [], []
        found = sorted(_differences(table, stored, collected), key=lambda one: -one.apart)
        return True, found, why_out_of_date(table, key) if found else []

    try:
        is_there, found, reasons = connection.adapter.read_only(connection, make)
    except Exception as error:  # whatever a lab's own make() raises
        if not table & key:
            return None
        if isinstance(error, GONE):
            return Verification(label, key, "input gone", reason=str(error))
        return Verification(label, key, "failed", reason=f"{type(error).__name__}: {error}")
    if not is_there:
        return None
    if not found:
        return Verification(label, key, "equal")
    worst = found[0].apart
    if worst <= rtol:
        return Verification(label, key, "close", worst, found)
    size = worst if math.isfinite(worst) else None
    return Verification(label, key, "different", size, found, would_be_made_again=reasons)


def _is_part(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Part)


def _copy_of(cls: Any, collected: dict[str, list[dict[str, Any]]]) -> Any:
    """Return a class like a table's, with its parts, whose inserts go into a list by table."""

    def insert(self: Any, rows: Any, **options: Any) -> None:
        listed = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
        collected.setdefault(self.table_name, []).extend(dict(row) for row in listed)

    def copied(one: Any, names: dict[str, Any]) -> Any:
        return type(one.__name__, (one,), {**names, "insert": insert, "__module__": one.__module__})

    parts = {name: copied(value, {}) for name, value in vars(cls).items() if _is_part(value)}
    copy = copied(cls, parts)
    for name in parts:
        parts[name]._master = copy
    return copy


def _make(table: Any, key: dict[str, Any]) -> None:
    """Run a make as populate does, but for its transaction."""
    if not inspect.isgeneratorfunction(table.make):
        table.make(key)
        return
    steps = table.make(key)
    next(steps)  # fetches
    next(steps)  # computes
    next(steps, None)  # inserts


def _differences(
    table: Any, stored: Mapping[str, list[dict[str, Any]]], made: Mapping[str, list[dict[str, Any]]]
) -> Iterator[Difference]:
    """Yield the values that differ; a row that is missing is one difference."""
    parts = {value().table_name: value() for value in vars(type(table)).values() if _is_part(value)}
    for name, rows in stored.items():
        one = parts.get(name, table)
        by_key = {tuple(str(row[part]) for part in one.primary_key): row for row in rows}
        now = {tuple(str(row[part]) for part in one.primary_key): row for row in made.get(name, [])}
        for key in sorted(by_key.keys() | now.keys()):
            words = [type(one).__name__, *key[len(table.primary_key) :]] if name in parts else []
            if key not in now or key not in by_key:
                is_stored = key in by_key
                row = "row" if is_stored else "no row"
                yield Difference(" ".join(words) or "row", row, "no row" if is_stored else "row", math.inf)
                continue
            for attribute, value in now[key].items():
                if attribute not in one.primary_key and attribute not in IN_WORDS:
                    new = plain_json(value) if one.heading[attribute].json else value
                    yield from _apart(" ".join([*words, attribute]), by_key[key][attribute], new)


def _apart(place: str, stored: Any, now: Any) -> Iterator[Difference]:
    """Yield the numbers and other values in which two values differ."""
    if _is_none(stored) and _is_none(now):
        return
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        for name in sorted(stored.keys() | now.keys()):
            yield from _apart(f"{place}.{name}", stored.get(name), now.get(name))
        return
    lists = (list, tuple, np.ndarray)
    if isinstance(stored, lists) and isinstance(now, lists):
        if len(stored) != len(now):
            yield Difference(place, f"{len(stored)} values", f"{len(now)} values", math.inf)
            return
        for at, (a, b) in enumerate(zip(stored, now, strict=True)):
            yield from _apart(f"{place}[{at}]", a, b)
        return
    numbers = (int, float, np.number)
    if isinstance(stored, numbers) and isinstance(now, numbers):
        a, b = float(stored), float(now)
        if a != b and not (math.isnan(a) and math.isnan(b)):
            apart = abs(a - b) / max(abs(a), abs(b))
            yield Difference(place, a, b, apart if math.isfinite(apart) else math.inf)
    elif str(stored) != str(now):
        yield Difference(place, _shown(stored), _shown(now), math.inf)


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))

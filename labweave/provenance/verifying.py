"""Results that are made again without being stored, and compared with those that are."""

from __future__ import annotations

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
from labweave.database.inputs import made_id
from labweave.database.made import keep_code, programs, user
from labweave.database.reads import table_label
from labweave.errors import ComputeError, FileMissing, ReadError
from labweave.formats.plain import plain_json
from labweave.schemas.provenance import Verified

GONE = (FileMissing, ReadError, ComputeError)
"""Errors of reading a file: it is away, damaged, or not the one that was ingested."""


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
        The largest relative difference of two numbers.
    differences : list of str
        What differs, the largest first; or why it could not be made.
    """

    table: str
    key: dict[str, Any]
    outcome: str
    worst_difference: float | None = None
    differences: list[str] = field(default_factory=list)


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
            bad += found.outcome not in ("equal", "close")
            _keep(connection, table, found)
            progress(label, done, bad, len(keys))
            yield found


def _keep(connection: Any, table: Any, found: Verification) -> None:
    where = (table & found.key).where_clause()
    ids = connection.query(f"select {made_id(table, 't')} from {table.full_table_name} t{where}").fetchall()
    if not ids:  # deleted meanwhile
        return
    keep_code(connection)
    row = {
        "made": ids[0][0],
        "verified_at": dt.datetime.now(dt.timezone.utc),
        "outcome": found.outcome,
        "worst_difference": found.worst_difference,
        "differences": found.differences[:20] or None,
        "code": programs()[0],
        "verified_by": user(),
    }
    upsert(Verified, [row])


def _verify(connection: Any, table: Any, key: dict[str, Any], rtol: float) -> Verification:
    label = table_label(table)
    collected: dict[str, list[dict[str, Any]]] = {}
    copy = _copy_of(type(table), collected)()

    def make() -> dict[str, list[dict[str, Any]]]:
        _make(copy, dict(key))
        parts = [value() for value in vars(type(table)).values() if _is_part(value)]
        return {one.table_name: (one & key).to_dicts() for one in (table & key, *parts)}

    try:
        stored = connection.adapter.read_only(connection, make)
    except GONE as error:
        return Verification(label, key, "input gone", None, [str(error)])
    except Exception as error:  # whatever a lab's own make() raises
        return Verification(label, key, "failed", None, [f"{type(error).__name__}: {error}"])
    found = sorted(_differences(table, stored, collected), key=lambda one: -one[0])
    worst = found[0][0] if found else None
    texts = [text for _, text in found]
    if worst is None:
        return Verification(label, key, "equal")
    is_close = worst <= rtol
    return Verification(
        label, key, "close" if is_close else "different", worst if math.isfinite(worst) else None, texts
    )


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
) -> Iterator[tuple[float, str]]:
    """Yield how far two values are apart, relatively, and where; rows that are missing are infinitely far."""
    parts = {value().table_name: value() for value in vars(type(table)).values() if _is_part(value)}
    for name, rows in stored.items():
        one = parts.get(name, table)
        by_key = {tuple(str(row[part]) for part in one.primary_key): row for row in rows}
        now = {tuple(str(row[part]) for part in one.primary_key): row for row in made.get(name, [])}
        label = table_label(one)
        for key in by_key.keys() | now.keys():
            shown = f"{label} {' '.join(key[len(table.primary_key) :])}".rstrip()
            if key not in now or key not in by_key:
                yield math.inf, f"{shown}: {'no longer made' if key in by_key else 'not stored'}"
                continue
            for attribute, value in now[key].items():
                if attribute not in one.primary_key:
                    is_json = one.heading[attribute].json
                    new = plain_json(value) if is_json else value
                    if distance := _distance(by_key[key][attribute], new):
                        yield distance, f"{shown} {attribute}: stored {by_key[key][attribute]!s:.60}, now {new!s:.60}"


def _distance(stored: Any, now: Any) -> float:
    """Return the relative difference of two values; 0 when they are the same, infinite when they can't be compared."""
    if _is_none(stored) and _is_none(now):
        return 0.0
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        if stored.keys() != now.keys():
            return math.inf
        return max((_distance(stored[name], now[name]) for name in stored), default=0.0)
    if isinstance(stored, (list, tuple, np.ndarray)) and isinstance(now, (list, tuple, np.ndarray)):
        if len(stored) != len(now):
            return math.inf
        return max((_distance(a, b) for a, b in zip(stored, now, strict=True)), default=0.0)
    if isinstance(stored, (int, float, np.number)) and isinstance(now, (int, float, np.number)):
        a, b = float(stored), float(now)
        return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))
    return 0.0 if str(stored) == str(now) else math.inf


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))

"""Columns with types, from values that JSON gave back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

_KIND_OF = {bool: "bool", int: "int", float: "float", str: "text", type(None): "null"}


EXACT_FLOATS: Any = (
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)
"""Keywords of `pandas.read_csv`, by which each float is the one that was written."""


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return parts of a column as one array, of the kind that holds them all."""
    if len({part.dtype.kind == "O" for part in parts}) > 1:
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def merge_kinds(kinds: Iterable[str]) -> str:
    """Return the one kind that holds values of all: of int and float it is float; else "mixed"."""
    found = set(kinds) - {"null"}
    if len(found) <= 1:
        return found.pop() if found else "null"
    return "float" if found == {"int", "float"} else "mixed"


def kind_of(values: Iterable[Any]) -> str:
    """Return int, float, bool, text, mixed, or null when no value is there."""
    return merge_kinds(_KIND_OF.get(kind, "mixed") for kind in set(map(type, values)))


def typed_column(values: list[Any], kind: str) -> Any:
    """Return values as an array of their kind.

    Parameters
    ----------
    values : list
        None for what is missing.
    kind : {"int", "float", "bool", "text", "mixed", "null"}

    Returns
    -------
    array
        int64, or Int64 with missing ones; float64 with NaN; bool, or boolean with missing ones; text as pandas
        keeps it; objects for mixed and null.
    """
    if kind == "float":
        return np.array(values, dtype=float)
    if kind in ("int", "bool"):
        if None in values:
            return pd.array(values, dtype="Int64" if kind == "int" else "boolean")
        return np.array(values, dtype=np.int64 if kind == "int" else bool)
    return pd.Series(values) if kind == "text" else pd.Series(values, dtype=object)


def attribute_columns(
    attributes: Sequence[Mapping[str, Any] | None], texts: Sequence[Mapping[str, str] | None], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Return a column per attribute.

    Parameters
    ----------
    attributes : sequence of mapping
        One per row: attribute -> value.
    texts : sequence of mapping
        One per row: attribute -> text, where that tells more of a float than its value.
    kinds : mapping
        Attribute -> kind, in the order of the columns; attributes that it lacks come last.
    """
    rows = [row or {} for row in attributes]
    said = [(index, row) for index, row in enumerate(texts) if row]
    names = dict.fromkeys([*kinds, *dict.fromkeys(name for row in rows for name in row)])
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        kind = kinds.get(name) or kind_of(values)
        if kind == "float":
            for index, row in said:
                if name in row:
                    values[index] = float(row[name])
        columns[name] = typed_column(values, kind)
    return columns

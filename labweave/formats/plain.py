"""Plain values: what JSON can hold, from arrays, numpy scalars and NaN."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import os
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np


def tidy(name: Any) -> str:
    """Return a name as the tables have it: stripped and NFC-normalised."""
    return unicodedata.normalize("NFC", str(name)).strip()


def plain_json(value: Any) -> Any:
    """Return `value` as dictionaries, lists, text, numbers, booleans and None.

    NaN and infinities become None, arrays and sets lists, dates and times ISO text (UTC for
    those with a zone), decimals and paths text.

    Raises
    ------
    ValueError
        Something else is in it.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [plain_json(item) for item in sorted(value)]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, dt.datetime):
        if value != value:  # pandas.NaT
            return None
        return (value if value.tzinfo is None else value.astimezone(dt.timezone.utc).replace(tzinfo=None)).isoformat()
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(f"{type(value).__name__} can't be written as JSON")


def load_yaml(text: str | bytes) -> Any:
    r"""Return the tree of a YAML text, made of plain values.

    Raises
    ------
    yaml.YAMLError
        It is no YAML.
    ValueError
        Its aliases (``*name``) lead back to themselves, or make a small text a huge tree.

    Examples
    --------
    >>> from labweave.formats.plain import load_yaml
    >>> load_yaml("a: &b [1, 2]\nc: *b\n")
    {'a': [1, 2], 'c': [1, 2]}
    """
    import yaml

    tree = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    if _expanded(tree, {}) > max(100_000, len(text)):
        raise ValueError("its aliases make a huge tree of a small text")
    return tree


def _expanded(tree: Any, known: dict[int, int | None]) -> int:
    """Count the values of a tree in which some are shared."""
    if not isinstance(tree, (dict, list, set)):
        return 1
    if id(tree) not in known:
        known[id(tree)] = None
        items = [*tree.keys(), *tree.values()] if isinstance(tree, dict) else tree
        known[id(tree)] = 1 + sum(_expanded(item, known) for item in items)
    if (n_values := known[id(tree)]) is None:
        raise ValueError("one of its aliases leads back to itself")
    return n_values

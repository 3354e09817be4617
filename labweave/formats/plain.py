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

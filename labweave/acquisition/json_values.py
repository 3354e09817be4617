"""What JSON can hold of the things an experiment is made of."""

from __future__ import annotations

import datetime as dt
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from labweave.acquisition.errors import RefusedType


def json_value(
    value: Any, *, eliminate_df: bool, convert_datetime: bool, lost: list[str], path: tuple[str, ...] = ()
) -> Any:
    """Return a value as dictionaries, lists, text, numbers, booleans and None, as `DataCollector.get_clean_dict` says.

    What JSON can't hold becomes None, and `lost` gets its path; `path` is that of the value.
    """
    how: dict[str, Any] = {"eliminate_df": eliminate_df, "convert_datetime": convert_datetime, "lost": lost}
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(item, path=(*path, str(key)), **how) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item, path=(*path, str(index)), **how) for index, item in enumerate(value)]
    if isinstance(value, (pd.DataFrame, pd.Series)):
        table = value.to_frame() if isinstance(value, pd.Series) else value
        return 0 if eliminate_df else json_value(table.to_dict("list"), path=path, **how)
    if isinstance(value, dt.datetime):
        if value != value:  # pandas.NaT
            return None
        return value.isoformat() if convert_datetime else value.replace(microsecond=0)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    lost.append("/".join(path))
    return None


def refuse_sets(value: Any, name: str) -> None:
    """Refuse a set or bytes anywhere in a value, as JSON has no form that gives them back."""
    if isinstance(value, (set, frozenset, bytes, bytearray)):
        advice = "Make it a list." if isinstance(value, (set, frozenset)) else "Make it text or a list of numbers."
        raise RefusedType(f"{name} is a {type(value).__name__}, which JSON can't hold. {advice}")
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, item in items:
        refuse_sets(item, f"{name}/{key}")

"""Rows that grow for hours: taken in at constant cost, kept column by column, read from the end.

New rows wait in a list and are moved, some hundred at a time, into a part: an array per column. A part is never
changed, copied or moved again, so neither appending nor reading the end depends on how much is there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from labweave.acquisition.errors import RefusedType
from labweave.formats.columns import join

WAITING = 128
Columns = np.ndarray | Sequence[np.ndarray]  # a row of one array per column where all are floats
_ALL = slice(None)


class History:
    """Rows with their times.

    Rows may be appended by one thread while others read.

    Parameters
    ----------
    row_type : type, optional
        Named tuple class of the rows.

    Attributes
    ----------
    waiting : list of tuple
        Times and rows that are not in columns yet.
    fields : tuple of str
        Columns of a row, without its time.
    n_dropped : int
        Rows that were there before those that are kept.
    lock : RLock
        While it is held, no row gets another place.
    """

    def __init__(self, row_type: Any = None):
        self.row_type = row_type
        self.fields: tuple[str, ...] = row_type._fields if row_type else ()
        self.waiting: list[tuple[Any, Any]] = []
        self.n_dropped = 0
        self.lock = threading.RLock()
        self._parts: list[Columns] = []  # the columns of some rows each, their times last
        self._n_settled = 0

    def __len__(self) -> int:
        return self._n_settled + len(self.waiting)

    def append(self, time: float, row: tuple) -> None:
        """Add a row of the same fields with its time."""
        self.waiting.append((time, row))  # one step, which Ctrl-C can't cut in two
        if len(self.waiting) >= WAITING:
            self.settle()

    def settle(self) -> None:
        """Move what waits into columns; rows that can't be kept are dropped, and a RefusedType says which."""
        with self.lock:
            if n_rows := len(self.waiting):
                self._parts.append(self._columns_of(0, n_rows))
                self._n_settled += n_rows
                del self.waiting[:n_rows]

    def _columns_of(self, start: int, stop: int) -> Columns:
        """Return the columns of waiting rows, their times as the last."""
        times, rows = zip(*self.waiting[start:stop], strict=True)
        if set(map(type, times)) != {float} or set(map(len, rows)) != {len(self.fields)}:
            self._refuse_wrong_rows()
        if set(map(type, chain.from_iterable(rows))) == {float}:
            return np.array([*zip(*rows, strict=True), times])
        return [*map(_array, zip(*rows, strict=True)), np.array(times, float)]

    def _refuse_wrong_rows(self) -> None:
        """Drop waiting rows that can't be kept, and say which."""
        waiting = self.waiting[:]
        wrong = [
            index for index, (time, row) in enumerate(waiting) if not _is_number(time) or len(row) != len(self.fields)
        ]
        if not wrong:
            return
        for index in reversed(wrong):
            del self.waiting[index]
        time, row = waiting[wrong[0]]
        which = f"Row {self._n_settled + wrong[0]}"
        if len(wrong) > 1:
            which += f", the first of {len(wrong)} such rows,"
        if not _is_number(time):
            raise RefusedType(f"{which} came with the time {time!r}, which is no number of seconds. Give a float.")
        raise RefusedType(f"{which} has {len(row)} values, not {len(self.fields)} as the others. Give all of them.")

    def keep_last(self, n_rows: int) -> None:
        """Drop all but the last rows."""
        with self.lock:
            self.settle()
            excess = max(self._n_settled - n_rows, 0)
            self._n_settled -= excess
            self.n_dropped += excess
            while excess:
                n_first = len(self._parts[0][-1])
                if n_first > excess:
                    self._parts[0] = _cut(self._parts[0], excess, n_first)
                    return
                del self._parts[0]
                excess -= n_first

    def between(self, start: int, stop: int, which: slice = _ALL) -> Columns:
        """Return the columns of some rows, their times as the last; or only which of these are wanted."""
        with self.lock:
            end, found = self._n_settled, []
            if max(start, end) < stop:
                found.append(self._columns_of(max(start - end, 0), stop - end)[which])
            for part in reversed(self._parts):
                if end <= start:
                    break
                first = end - len(part[-1])
                if first < stop:
                    found.append(_cut(part[which], max(start - first, 0), stop - first))
                end = first
        found.reverse()
        if all(isinstance(part, np.ndarray) for part in found):
            return np.concatenate(found, axis=1) if found else np.empty((len(self.fields) + 1, 0))[which]
        return [join(columns) for columns in zip(*found, strict=True)]

    def last(self, n_rows: int | None = None, which: slice = _ALL) -> Columns:
        """Return columns, as `between` does, of the last rows; of all without a number."""
        with self.lock:
            stop = len(self)
            return self.between(0 if n_rows is None else max(stop - n_rows, 0), stop, which)

    def row(self, index: int) -> tuple[float, Sequence[Any]]:
        """Return time and values of one row; a negative index counts from the end."""
        with self.lock:
            n_rows = len(self)
            if not -n_rows <= index < n_rows:
                raise IndexError(f"There are {n_rows} rows, not one at {index}.")
            index %= n_rows
            if index >= self._n_settled:
                time, row = self.waiting[index - self._n_settled]
                return float(time), row
            *values, time = [column.tolist()[0] for column in self.between(index, index + 1)]
            return time, values

    def last_that(self, fits: Callable[[np.ndarray], np.ndarray]) -> int:
        """Return the last row whose time fits; -1 when there is none."""
        with self.lock:
            self._refuse_wrong_rows()
            waiting = np.array([time for time, _ in self.waiting], float)
            start = self._n_settled + len(waiting)
            for times in chain([waiting], (part[-1] for part in reversed(self._parts))):
                start -= len(times)
                found = np.flatnonzero(fits(times))
                if len(found):
                    return start + int(found[-1])
        return -1


def _is_number(time: Any) -> bool:
    """Say whether a time fits a float."""
    return isinstance(time, (float, np.floating, np.integer)) or (isinstance(time, int) and abs(time) < 1e308)


def _array(values: tuple) -> np.ndarray:
    """Return values of a column as booleans, int64 or floats where these hold all of them exactly, else as objects."""
    types = set(map(type, values))
    dtype: Any = object
    if types <= {bool, np.bool_}:
        dtype = bool
    elif all(issubclass(kind, (int, np.integer, np.bool_)) for kind in types):
        dtype = np.int64
    elif all(issubclass(kind, (float, int, np.floating, np.integer, np.bool_)) for kind in types):
        dtype = float
    with contextlib.suppress(OverflowError):
        if dtype is not object:
            return np.array(values, dtype)
    return np.fromiter(values, object, len(values))


def _cut(part: Columns, start: int, stop: int) -> Columns:
    if isinstance(part, np.ndarray):
        return part[:, start:stop]
    return [column[start:stop] for column in part]

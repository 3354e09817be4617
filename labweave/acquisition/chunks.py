"""Parts of a history: some thousand rows as typed columns."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import starmap
from operator import itemgetter
from typing import Any

import numpy as np

_as_plain_tuple = itemgetter(slice(None))
_DTYPES = {"f": np.dtype(float), "i": np.dtype(np.int64), "b": np.dtype(bool), "o": np.dtype(object)}


class Chunk:
    """Up to some thousand rows whose columns have the same kinds.

    Attributes
    ----------
    kinds : str
        A letter per column: f, i, b or o for float, integer, boolean and everything else.
    n_rows : int
    """

    def __init__(self, kinds: str, capacity: int):
        self.kinds, self.n_rows, self.capacity = kinds, 0, capacity
        n_floats = kinds.count("f")
        self._floats = np.empty((n_floats + 1, capacity))  # times last
        self._columns: list[np.ndarray] = []
        row = 0
        for kind in kinds:
            if kind == "f":
                self._columns.append(self._floats[row])
                row += 1
            else:
                self._columns.append(np.empty(capacity, _DTYPES[kind]))
        self._all_floats = n_floats == len(kinds)
        self._row_struct = struct.Struct(f"{len(kinds)}d")

    def add(self, rows: Sequence[tuple], times: Sequence[float]) -> None:
        """Add rows.

        Raises
        ------
        struct.error, OverflowError
            A value does not fit the kind of its column; nothing is added.
        """
        start, stop = self.n_rows, self.n_rows + len(rows)
        moments = _packed("d", times, len(times))
        if self._all_floats:
            plain = map(_as_plain_tuple, rows)  # starmap would copy any other tuple value by value
            packed = b"".join(starmap(self._row_struct.pack, plain))  # refuses text and None, which numpy would convert
            self._floats[:-1, start:stop] = np.frombuffer(packed).reshape(len(rows), len(self.kinds)).T
        else:
            arrays = [_array(values, kind) for values, kind in zip(zip(*rows, strict=True), self.kinds, strict=True)]
            for column, array in zip(self._columns, arrays, strict=True):
                column[start:stop] = array
        self._floats[-1, start:stop] = moments
        self.n_rows = stop

    def close(self) -> None:
        """Give back the memory of rows that will not come."""
        if self.n_rows < self.capacity:
            old, self.capacity = self._columns, self.n_rows
            self._floats = self._floats[:, : self.n_rows].copy()
            row = 0
            for index, kind in enumerate(self.kinds):
                self._columns[index] = self._floats[row] if kind == "f" else old[index][: self.n_rows].copy()
                row += kind == "f"

    def times(self) -> np.ndarray:
        """Return the times, in s."""
        return self._floats[-1, : self.n_rows]

    def column(self, index: int) -> np.ndarray:
        """Return one column."""
        return self._columns[index][: self.n_rows]

    def row(self, index: int) -> list:
        """Return the values of one row."""
        if self._all_floats:
            return self._floats[:-1, index].tolist()
        return [_plain(column[index]) for column in self._columns]

    def floats(self) -> np.ndarray | None:
        """Return all columns and the times below each other, when all are floats."""
        return self._floats[:, : self.n_rows] if self._all_floats else None


def _packed(letter: str, values: Sequence, n_values: int) -> np.ndarray:
    """Return numbers as an array."""
    return np.frombuffer(struct.pack(f"{n_values}{letter}", *values), "f8" if letter == "d" else "i8")


def _array(values: tuple, kind: str) -> np.ndarray:
    """Return one column of new rows."""
    if kind == "f":
        return _packed("d", values, len(values))
    if kind == "o":
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if kind == "b" and not set(map(type, values)) <= {bool, np.bool_}:
        raise struct.error("not only booleans")
    return np.array(values, bool) if kind == "b" else _packed("q", values, len(values))


def kinds_of(rows: Sequence[tuple]) -> str:
    """Return the kind of each column."""
    return "".join(map(_kind, zip(*rows, strict=True)))


def _kind(values: tuple) -> str:
    """Return the kind of column that holds all values exactly; None and booleans among floats are NaN, 1 and 0."""
    types = set(map(type, values))
    if types <= {bool, np.bool_}:
        return "b"
    if all(issubclass(kind, (int, np.integer)) for kind in types):
        fits = all(-(2**63) <= value < 2**63 for value in values)
        return "i" if fits else "o"
    if all(issubclass(kind, (float, int, np.floating, np.integer, np.bool_)) for kind in types):
        return "f"
    return "o"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

"""Rows that grow for hours: taken in at constant cost, kept column by column, read from the end.

New rows wait in a list and are moved, some hundred at a time, into chunks of typed columns. A chunk is
never copied or moved again, so neither appending nor reading the end depends on how much is there.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from typing import Any

import numpy as np

from labweave.acquisition.errors import RefusedType

WAITING = 512
CHUNK_ROWS = 4096
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
            packed = b"".join(starmap(self._row_struct.pack, rows))  # refuses text and None, which numpy would convert
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


class History:
    """Rows with their times.

    Rows may be appended by one thread while others read.

    Attributes
    ----------
    rows, times : list
        What waits: append to ``times``, then to ``rows``.
    n_fields : int
        Columns of a row, without its time.
    """

    def __init__(self, n_fields: int):
        self.n_fields = n_fields
        self.rows: list[tuple] = []
        self.times: list[float] = []
        self.lock = threading.RLock()
        self._chunks: list[Chunk] = []
        self._n_kept = 0  # rows in chunks, with those that were dropped from the first
        self._n_dropped = 0  # rows at the start of the first chunk that no longer count
        self._watcher: Callable[[Chunk, int, int], None] | None = None

    def __len__(self) -> int:
        return self._n_kept - self._n_dropped + min(len(self.rows), len(self.times))

    def watch(self, watcher: Callable[[Chunk, int, int], None] | None) -> None:
        """Have a function called with chunk, start and stop of all rows, and of those that come."""
        with self.lock:
            if watcher is not None:
                for chunk, start, stop in self._ranges(self._n_kept - self._n_dropped):
                    watcher(chunk, start, stop)
            self._watcher = watcher

    def settle(self) -> None:
        """Move what waits into columns.

        Raises
        ------
        RefusedType
            A time is no number, or a row has another length; those rows are dropped.
        """
        with self.lock:
            n_waiting = min(len(self.rows), len(self.times))
            for start in range(0, n_waiting, CHUNK_ROWS):
                self._take(min(CHUNK_ROWS, n_waiting - start))

    def _take(self, n_rows: int) -> None:
        """Move the first waiting rows into the last chunk, or into a new one where they don't fit."""
        rows, times = self.rows[:n_rows], self.times[:n_rows]
        try:
            done = 0
            while done < n_rows:
                chunk = self._chunks[-1] if self._chunks else None
                if chunk is None:
                    chunk = self._open_chunk(_kinds(rows[done:], self.n_fields))
                elif chunk.n_rows == chunk.capacity:
                    chunk = self._open_chunk(chunk.kinds)
                n_more = min(n_rows - done, chunk.capacity - chunk.n_rows)
                part, moments = rows[done : done + n_more], times[done : done + n_more]
                try:
                    chunk.add(part, moments)
                except (struct.error, OverflowError, TypeError):
                    self._check(part, moments)
                    chunk = self._open_chunk(_kinds(part, self.n_fields))
                    chunk.add(part, moments)
                done += n_more
                self._n_kept += n_more
                if self._watcher is not None:
                    self._watcher(chunk, chunk.n_rows - n_more, chunk.n_rows)
        finally:
            del self.rows[:n_rows], self.times[:n_rows]

    def _open_chunk(self, kinds: str) -> Chunk:
        if self._chunks:
            self._chunks[-1].close()
            if not self._chunks[-1].n_rows:
                self._chunks.pop()
        self._chunks.append(Chunk(kinds, CHUNK_ROWS))
        return self._chunks[-1]

    def _check(self, rows: Sequence[tuple], times: Sequence[float]) -> None:
        """Say which row can't be kept."""
        for row, time in zip(rows, times, strict=True):
            if not isinstance(time, (float, int, np.floating, np.integer)):
                raise RefusedType(f"A row came with the time {time!r}, which is no number of seconds. Give a float.")
            if len(row) != self.n_fields:
                raise RefusedType(f"A row has {len(row)} values, those before it {self.n_fields}. Give all of them.")

    def keep_last(self, n_rows: int) -> None:
        """Drop all but the last rows."""
        with self.lock:
            excess = len(self) - n_rows
            kept = self._n_kept - self._n_dropped
            if excess >= kept:
                self._chunks, self._n_kept, self._n_dropped = [], 0, 0
                del self.rows[: excess - kept], self.times[: excess - kept]
                return
            self._n_dropped += max(excess, 0)
            while self._chunks and self._n_dropped >= self._chunks[0].n_rows:
                gone = self._chunks.pop(0).n_rows
                self._n_dropped -= gone
                self._n_kept -= gone

    def last_times(self, n_rows: int) -> np.ndarray:
        """Return the times of the last rows, in s."""
        with self.lock:
            self.settle()
            parts = [chunk.times()[start:stop] for chunk, start, stop in self._ranges(n_rows)]
        return parts[0].copy() if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0)

    def last_column(self, n_rows: int, index: int) -> np.ndarray:
        """Return a column of the last rows."""
        with self.lock:
            self.settle()
            return _joined([chunk.column(index)[start:stop] for chunk, start, stop in self._ranges(n_rows)])

    def last_floats(self, n_rows: int) -> np.ndarray | None:
        """Return columns and times of the last rows below each other; None when not all are floats."""
        with self.lock:
            self.settle()
            ranges = self._ranges(n_rows)
            blocks = [chunk.floats() for chunk, _, _ in ranges]
            if any(block is None for block in blocks):
                return None
            found, at = np.empty((self.n_fields + 1, sum(stop - start for _, start, stop in ranges))), 0
            for block, (_, start, stop) in zip(blocks, ranges, strict=True):
                found[:, at : at + stop - start] = block[:, start:stop]  # type: ignore[index]
                at += stop - start
            return found

    def row(self, index: int) -> list:
        """Return the values of one row; negative counts from the end."""
        with self.lock:
            behind = self._behind(index)
            waiting = min(len(self.rows), len(self.times))
            if behind <= waiting:
                return list(self.rows[waiting - behind])
            return next(chunk.row(chunk.n_rows - left) for chunk, left in self._from_end(behind - waiting))

    def time(self, index: int) -> float:
        """Return the time of one row, in s; negative counts from the end."""
        with self.lock:
            behind = self._behind(index)
            waiting = min(len(self.rows), len(self.times))
            if behind <= waiting:
                return float(self.times[waiting - behind])
            return next(float(chunk.times()[chunk.n_rows - left]) for chunk, left in self._from_end(behind - waiting))

    def _behind(self, index: int) -> int:
        """Return which row from the end an index means, from 1 on."""
        n_rows = len(self)
        behind = -index if index < 0 else n_rows - index
        if not 0 < behind <= n_rows:
            raise IndexError(f"There are {n_rows} rows, not one at {index}.")
        return behind

    def _from_end(self, behind: int) -> Iterator[tuple[Chunk, int]]:
        """Yield the chunk of the row that is `behind` the end of all chunks, with what that is in the chunk."""
        for chunk in reversed(self._chunks):
            if behind <= chunk.n_rows:
                yield chunk, behind
            behind -= chunk.n_rows

    def find_last(self, time: float) -> int:
        """Return the row, counted from the end (-1 is the last), that is the last one at or before a time; 0: none."""
        with self.lock:
            self.settle()
            behind = 0
            for chunk in reversed(self._chunks):
                times = chunk.times()[self._n_dropped if chunk is self._chunks[0] else 0 :]
                if times[0] <= time:
                    return -(behind + len(times) - int(np.searchsorted(times, time, side="right"))) - 1
                behind += len(times)
        return 0

    def count_since(self, time: float) -> int:
        """Return how many rows at the end are not before a time."""
        with self.lock:
            self.settle()
            n_rows = 0
            for chunk in reversed(self._chunks):
                start = self._n_dropped if chunk is self._chunks[0] else 0
                before = np.flatnonzero(chunk.times()[start:] < time)
                if len(before):
                    return n_rows + chunk.n_rows - start - int(before[-1]) - 1
                n_rows += chunk.n_rows - start
        return n_rows

    def _ranges(self, n_rows: int) -> list[tuple[Chunk, int, int]]:
        """Return chunk, start and stop of the last rows that don't wait, in order."""
        found = []
        for chunk in reversed(self._chunks):
            if n_rows <= 0:
                break
            first = self._n_dropped if chunk is self._chunks[0] else 0
            start = max(first, chunk.n_rows - n_rows)
            found.append((chunk, start, chunk.n_rows))
            n_rows -= chunk.n_rows - start
        return found[::-1]


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


def _kinds(rows: Sequence[tuple], n_fields: int) -> str:
    """Return the kind of each column."""
    return "".join(_kind(values) for values in zip(*rows, strict=True)) if n_fields else ""


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


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return parts of a column as one, of the kind that holds them all."""
    kinds = {part.dtype.kind for part in parts}
    if not parts:
        return np.empty(0)
    if "O" in kinds and kinds != {"O"}:
        parts = [part.astype(object) if part.dtype.kind != "O" else part for part in parts]
    joined = np.concatenate(parts)
    return _numbers(joined) if joined.dtype.kind == "O" else joined


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return objects as floats when they are numbers and None: what pandas makes of them."""
    types = set(map(type, values))
    if types <= {float, int, type(None), bool, np.float64, np.int64, np.bool_} and types & {float, int, np.float64}:
        return np.array([np.nan if value is None else value for value in values], float)
    return values


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value

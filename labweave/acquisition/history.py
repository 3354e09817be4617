"""Rows that grow for hours: taken in at constant cost, kept column by column, read from the end.

New rows wait in a list and are moved, some hundred at a time, into chunks of typed columns. A chunk is
never copied or moved again, so neither appending nor reading the end depends on how much is there.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from labweave.acquisition.chunks import Chunk, kinds_of
from labweave.acquisition.errors import RefusedType

WAITING = 512
CHUNK_ROWS = 4096


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
    index : pandas.Index or None
        The same and ``t``, once a table was made.
    """

    def __init__(self, row_type: Any = None):
        self.row_type = row_type
        self.fields: tuple[str, ...] = row_type._fields if row_type else ()
        self.waiting: list[tuple[Any, Any]] = []
        self.index: Any = None
        self.lock = threading.RLock()
        self._chunks: list[Chunk] = []
        self._n_kept = 0  # rows in chunks, with those that were dropped from the first
        self._n_dropped = 0  # rows at the start of the first chunk that no longer count
        self._watcher: Callable[[Chunk, int, int], None] | None = None

    def __len__(self) -> int:
        return self._n_kept - self._n_dropped + len(self.waiting)

    def append(self, time: float, row: tuple) -> None:
        """Add a row of the same fields with its time."""
        self.waiting.append((time, row))  # one step, which Ctrl-C can't cut in two
        if len(self.waiting) >= WAITING:
            self.settle()

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
            A time is no number, or a row has another length. Only such rows are dropped.
        """
        with self.lock:
            n_waiting = len(self.waiting)
            for start in range(0, n_waiting, CHUNK_ROWS):
                self._take(min(CHUNK_ROWS, n_waiting - start))

    def _take(self, n_rows: int) -> None:
        """Move the first waiting rows into the last chunk, or into a new one where they don't fit."""
        waiting = self.waiting[:n_rows]
        done = 0
        try:
            while done < n_rows:
                chunk = self._chunks[-1] if self._chunks else None
                if chunk is None:
                    self._check(waiting, 0)
                    chunk = self._open_chunk(kinds_of([row for _, row in waiting]))
                elif chunk.n_rows == chunk.capacity:
                    chunk = self._open_chunk(chunk.kinds)
                stop = min(n_rows, done + chunk.capacity - chunk.n_rows)
                times, rows = zip(*waiting[done:stop], strict=True)
                try:
                    chunk.add(rows, times)
                except (struct.error, OverflowError, TypeError, ValueError):
                    self._check(waiting[done:stop], done)
                    chunk = self._open_chunk(kinds_of(rows))
                    chunk.add(rows, times)
                done = stop
                self._n_kept += len(rows)
                if self._watcher is not None:
                    self._watcher(chunk, chunk.n_rows - len(rows), chunk.n_rows)
        finally:
            del self.waiting[:done]

    def _open_chunk(self, kinds: str) -> Chunk:
        if self._chunks:
            self._chunks[-1].close()
            if not self._chunks[-1].n_rows:
                self._chunks.pop()
        chunk = Chunk(kinds, CHUNK_ROWS)
        self._chunks.append(chunk)
        return chunk

    def _check(self, waiting: Sequence[tuple[Any, Any]], start: int) -> None:
        """Drop rows that can't be kept, and say which; `waiting` are those from `start` on."""
        wrong = [
            index for index, (time, row) in enumerate(waiting) if not _is_number(time) or len(row) != len(self.fields)
        ]
        if not wrong:
            return
        for index in reversed(wrong):
            del self.waiting[start + index]
        time, row = waiting[wrong[0]]
        which = f"Row {self._n_kept - self._n_dropped + wrong[0]}"
        if len(wrong) > 1:
            which += f", the first of {len(wrong)} such rows,"
        if not _is_number(time):
            raise RefusedType(f"{which} came with the time {time!r}, which is no number of seconds. Give a float.")
        raise RefusedType(f"{which} has {len(row)} values, not {len(self.fields)} as the others. Give all of them.")

    def keep_last(self, n_rows: int) -> None:
        """Drop all but the last rows."""
        with self.lock:
            excess = len(self) - n_rows
            kept = self._n_kept - self._n_dropped
            if excess >= kept:
                self._chunks, self._n_kept, self._n_dropped = [], 0, 0
                del self.waiting[: excess - kept]
                return
            self._n_dropped += max(excess, 0)
            while self._chunks and self._n_dropped >= self._chunks[0].n_rows:
                gone = self._chunks.pop(0)
                self._n_dropped -= gone.n_rows
                self._n_kept -= gone.n_rows

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
            found, at = np.empty((len(self.fields) + 1, sum(stop - start for _, start, stop in ranges))), 0
            for block, (_, start, stop) in zip(blocks, ranges, strict=True):
                found[:, at : at + stop - start] = block[:, start:stop]  # type: ignore[index]
                at += stop - start
            return found

    def row(self, index: int) -> list:
        """Return the values of one row; negative counts from the end."""
        with self.lock:
            behind = self._behind(index)
            if behind <= len(self.waiting):
                return list(self.waiting[-behind][1])
            chunk, left = self._from_end(behind - len(self.waiting))
            return chunk.row(chunk.n_rows - left)

    def time(self, index: int) -> float:
        """Return the time of one row, in s; negative counts from the end."""
        with self.lock:
            behind = self._behind(index)
            if behind <= len(self.waiting):
                return float(self.waiting[-behind][0])
            chunk, left = self._from_end(behind - len(self.waiting))
            return float(chunk.times()[chunk.n_rows - left])

    def _behind(self, index: int) -> int:
        """Return which row from the end an index means, from 1 on."""
        n_rows = len(self)
        behind = -index if index < 0 else n_rows - index
        if not 0 < behind <= n_rows:
            raise IndexError(f"There are {n_rows} rows, not one at {index}.")
        return behind

    def _from_end(self, behind: int) -> tuple[Chunk, int]:
        """Return the chunk of a row counted from the end of all chunks, and its place from the end of that chunk."""
        for chunk in reversed(self._chunks):
            if behind <= chunk.n_rows:
                return chunk, behind
            behind -= chunk.n_rows
        raise AssertionError

    def find_last(self, time: float) -> int:
        """Return the row, counted from the end (-1 is the last), that is the last one at or before a time; 0: none."""
        with self.lock:
            self.settle()
            behind = 0
            for chunk, first in self._backwards():
                times = chunk.times()[first:]
                if times[0] <= time:
                    return -(behind + len(times) - int(np.searchsorted(times, time, side="right"))) - 1
                behind += len(times)
        return 0

    def count_since(self, time: float) -> int:
        """Return how many rows at the end are not before a time."""
        with self.lock:
            self.settle()
            n_rows = 0
            for chunk, start in self._backwards():
                before = np.flatnonzero(chunk.times()[start:] < time)
                if len(before):
                    return n_rows + chunk.n_rows - start - int(before[-1]) - 1
                n_rows += chunk.n_rows - start
        return n_rows

    def _backwards(self) -> Iterator[tuple[Chunk, int]]:
        """Yield the chunks from the last to the first, with the row of each that counts first."""
        for index in reversed(range(len(self._chunks))):
            yield self._chunks[index], 0 if index else self._n_dropped

    def _ranges(self, n_rows: int) -> list[tuple[Chunk, int, int]]:
        """Return chunk, start and stop of the last rows that don't wait, in order."""
        found = []
        for chunk, first in self._backwards():
            if n_rows <= 0:
                break
            start = max(first, chunk.n_rows - n_rows)
            found.append((chunk, start, chunk.n_rows))
            n_rows -= chunk.n_rows - start
        return found[::-1]


def _is_number(time: Any) -> bool:
    """Say whether a time fits a float."""
    return isinstance(time, (float, np.floating, np.integer)) or (isinstance(time, int) and abs(time) < 1e308)


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

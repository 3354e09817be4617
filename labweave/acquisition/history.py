"""Rows that grow for hours: taken in at constant cost, kept column by column, read from the end.

New rows wait in a list and are moved, some hundred at a time, into chunks of typed columns. A chunk is
never copied or moved again, so neither appending nor reading the end depends on how much is there.
Rows that something else keeps, too, cost nearly nothing as references: they stay that until they are
read or let go.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import countOf
from typing import Any

import numpy as np

from labweave.acquisition.chunks import EVERY, Chunk, SharedRows, are_kept_elsewhere, kinds_of
from labweave.acquisition.errors import RefusedType

WAITING = 512
FULL = 2 * WAITING  # length of the list in which rows and their times wait
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
    waiting : list
        What is not in columns yet: append a time, then its row. One list takes two thirds of the time of two.
    fields : tuple of str
        Columns of a row, without its time.
    index : pandas.Index or None
        The same and ``t``, once a table was made.
    """

    def __init__(self, row_type: Any = None):
        self.row_type = row_type
        self.fields: tuple[str, ...] = row_type._fields if row_type else ()
        self.waiting: list[Any] = []
        self.index: Any = None
        self.lock = threading.RLock()
        self._chunks: list[Chunk | SharedRows] = []
        self._shared: deque[SharedRows] = deque()
        self._n_kept = 0  # rows in chunks, with those that were dropped from the first
        self._n_dropped = 0  # rows at the start of the first chunk that no longer count
        self._watcher: Callable[[Chunk, int, int], None] | None = None

    def __len__(self) -> int:
        return self._n_kept - self._n_dropped + len(self.waiting) // 2

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
            n_waiting = self._count_waiting()
            for start in range(0, n_waiting, CHUNK_ROWS):
                self._take(min(CHUNK_ROWS, n_waiting - start))

    def _count_waiting(self) -> int:
        """Return how many rows wait, without a time whose row never came because Ctrl-C was pressed in between."""
        while (n_rows := len(self.waiting) // 2) and not isinstance(self.waiting[2 * n_rows - 1], tuple):
            del self.waiting[next(at for at in range(0, 2 * n_rows, 2) if not isinstance(self.waiting[at + 1], tuple))]
        return n_rows

    def _take(self, n_rows: int) -> None:
        """Move the first waiting rows into the last chunk, or into a new one where they don't fit."""
        done = 0
        try:
            if self._share(n_rows):
                done = n_rows
                return
            times, rows = self.waiting[: 2 * n_rows : 2], self.waiting[1 : 2 * n_rows : 2]
            while done < n_rows:
                chunk = self._chunks[-1] if self._chunks else None
                if chunk is None or chunk.kinds is None:
                    self._check(rows, times, 0)
                    chunk = self._open_chunk(kinds_of(rows))
                elif isinstance(chunk, SharedRows) or chunk.n_rows == chunk.capacity:
                    chunk = self._open_chunk(chunk.kinds)
                stop = min(n_rows, done + chunk.capacity - chunk.n_rows)
                part, moments = rows[done:stop], times[done:stop]
                try:
                    chunk.add(part, moments)
                except (struct.error, OverflowError, TypeError, ValueError):
                    self._check(part, moments, done)
                    chunk = self._open_chunk(kinds_of(part))
                    chunk.add(part, moments)
                done = stop
                self._n_kept += len(part)
                if self._watcher is not None:
                    self._watcher(chunk, chunk.n_rows - len(part), chunk.n_rows)
        finally:
            del self.waiting[: 2 * done]

    def _share(self, n_rows: int) -> bool:
        """Refer to the first waiting rows, if something else keeps them and no reader or journal wants them now."""
        for _ in range(min(2, len(self._shared))):  # more than come, so that none stays long after it was let go
            shared = self._shared.popleft()
            if shared.are_kept_elsewhere():
                self._shared.append(shared)
            else:
                shared.chunk()
        if (
            self._watcher is not None
            or n_rows < WAITING
            or not are_kept_elsewhere(self.waiting[1 : 2 * n_rows : 2 * EVERY])
        ):
            return False
        rows = self.waiting[1 : 2 * n_rows : 2]
        if countOf(map(len, rows), len(self.fields)) != n_rows:
            return False
        try:
            shared = SharedRows(rows, self.waiting[: 2 * n_rows : 2], self._chunks[-1].kinds if self._chunks else None)
        except (struct.error, OverflowError):
            return False
        self._close_chunk()
        self._chunks.append(shared)
        self._shared.append(shared)
        self._n_kept += n_rows
        return True

    def _open_chunk(self, kinds: str) -> Chunk:
        self._close_chunk()
        chunk = Chunk(kinds, CHUNK_ROWS)
        self._chunks.append(chunk)
        return chunk

    def _close_chunk(self) -> None:
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, Chunk):
            last.close()
            if not last.n_rows:
                self._chunks.pop()

    def _check(self, rows: Sequence[tuple], times: Sequence[float], start: int) -> None:
        """Drop rows that can't be kept, and say which; they wait from `start` on."""
        wrong = [
            index
            for index, (row, time) in enumerate(zip(rows, times, strict=True))
            if not _is_number(time) or len(row) != len(self.fields)
        ]
        if not wrong:
            return
        for index in reversed(wrong):
            del self.waiting[2 * (start + index) : 2 * (start + index + 1)]
        row, time = rows[wrong[0]], times[wrong[0]]
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
                self._shared.clear()
                del self.waiting[: 2 * (excess - kept)]
                return
            self._n_dropped += max(excess, 0)
            while self._chunks and self._n_dropped >= self._chunks[0].n_rows:
                gone = self._chunks.pop(0)
                self._n_dropped -= gone.n_rows
                self._n_kept -= gone.n_rows
                if gone in self._shared:
                    self._shared.remove(gone)

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
            waiting = self._count_waiting()
            if behind <= waiting:
                return list(self.waiting[2 * (waiting - behind) + 1])
            return next(chunk.row(chunk.n_rows - left) for chunk, left in self._from_end(behind - waiting))

    def time(self, index: int) -> float:
        """Return the time of one row, in s; negative counts from the end."""
        with self.lock:
            behind = self._behind(index)
            waiting = self._count_waiting()
            if behind <= waiting:
                return float(self.waiting[2 * (waiting - behind)])
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
        for chunk, _ in self._backwards():
            if behind <= chunk.n_rows:
                yield chunk, behind
            behind -= chunk.n_rows

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
            chunk = self._chunks[index]
            if isinstance(chunk, SharedRows):
                chunk = self._chunks[index] = chunk.chunk()
            yield chunk, 0 if index else self._n_dropped

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

"""Changes to several files of a folder that are done together, or not at all, wherever the program is killed.

What lies behind the old end of a file is written at once: nothing points there yet. What overwrites is held
back. `Journal.record` puts it into one file beside the others, which is the moment it counts; `Journal.apply`
then does it and empties that file. Whoever reads the folder reads through a journal that was left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

NAME = ".labweave-journal"


Arrange = Callable[[bytes, Callable[[], bytes]], list[tuple[int, bytes]]]


class Change(NamedTuple):
    """What is to be overwritten in a file.

    Attributes
    ----------
    name : str
        Of the file.
    before, after : int
        Bytes that count, before and after.
    pieces : list of tuple
        Position and bytes of each piece, in order.
    file : binary file, optional
        Opened for writing.
    """

    name: str
    before: int
    after: int
    pieces: list[tuple[int, bytes]]
    file: Any = None

    def apply(self, folder: Path) -> None:
        """Overwrite."""
        if self.file is not None and not self.file.closed:
            self._apply_to(self.file)
            return
        with (folder / self.name).open("r+b", buffering=0) as file:
            self._apply_to(file)

    def _apply_to(self, file: BinaryIO) -> None:
        for position, piece in self.pieces:
            file.seek(position)
            _write_all(file, piece)


class JournaledFile(io.RawIOBase):
    """A file whose overwritten pieces are held back, or read from a journal.

    Parameters
    ----------
    file : binary file
        Seekable; for writing, opened ``r+b``.
    change : Change, optional
        Pieces to read instead of what is in the file.
    """

    def __init__(self, file: BinaryIO, change: Change | None = None):
        self._file, self._position = file, 0
        self._end = change.after if change else file.seek(0, io.SEEK_END)
        self.committed = self._length = self._end
        self.pieces = list(change.pieces) if change else []
        self._frozen = False
        self._error: OSError | None = None

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it has positions."""
        return True

    def writable(self) -> bool:
        """Say whether the file below can be written."""
        return self._file.writable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        if whence != io.SEEK_SET:
            offset += self._position if whence == io.SEEK_CUR else self._end
        self._position = offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read as if the pieces were in the file."""
        start = self._position
        view = memoryview(buffer)[: max(0, self._end - start)]
        self._file.seek(start)
        got = 0
        while got < len(view) and (more := self._file.readinto(view[got:])):  # type: ignore[attr-defined]
            got += more
        view[got:] = bytes(len(view) - got)
        for offset, piece in self.pieces:
            first, last = max(offset, start), min(offset + len(piece), start + len(view))
            if first < last:
                view[first - start : last - start] = piece[first - offset : last - offset]
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """Write what lies behind the old end; hold back the rest."""
        data, start = memoryview(data), self._position
        if not self._frozen:
            n_held = min(len(data), max(0, self.committed - start))
            if n_held:
                self._hold(start, data[:n_held])
            if n_held < len(data):
                self._extend(start + n_held, data[n_held:])
            self._end = max(self._end, start + len(data))
        self._position += len(data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        size = self._position if size is None else size
        if not self._frozen:
            if size != self._length and size >= self.committed:
                self._extend(size)
            self._end = size
        return size

    def take_change(self, name: str, arrange: Arrange) -> Change:
        """Return what was held back since the last time; raise what the disk refused.

        Parameters
        ----------
        name : str
            Of the file.
        arrange : callable
            Takes each piece, and a function that gives the bytes in its place; returns (rank, piece) pairs to
            write instead, which are done in the order of rank.
        """
        if self._error is not None:
            raise self._error
        ranked = []
        for position, piece in self.pieces:
            before = partial(self._read_below, position, len(piece))
            ranked += [(rank, position, new) for rank, new in arrange(piece, before)]
        ranked.sort(key=lambda item: item[0])
        change = Change(name, self.committed, self._end, [item[1:] for item in ranked], self._file)
        self.pieces, self.committed = [], self._end
        return change

    def _read_below(self, position: int, n_bytes: int) -> bytes:
        self._file.seek(position)
        return self._file.read(n_bytes)

    def _extend(self, position: int, data: memoryview | None = None) -> None:
        """Write behind the old end, or set the length; HDF5, which calls this, is told of no error: it can't go on."""
        try:
            if data is None:
                self._file.truncate(position)
                self._length = position
            else:
                self._file.seek(position)
                _write_all(self._file, data)
                self._length = max(self._length, position + len(data))
        except OSError as error:
            self._error = error

    def _hold(self, start: int, data: memoryview) -> None:
        """Hold back a piece; of a long one, only what changes."""
        if len(data) >= 1024:
            position, self._position = self._position, start
            old = self.read(len(data))
            self._position = position
            differs = np.flatnonzero(np.frombuffer(old, np.uint8) != np.frombuffer(data, np.uint8))
            if not len(differs):
                return
            first, last = int(differs[0]), int(differs[-1]) + 1
            start, data = start + first, data[first:last]
        self.pieces.append((start, bytes(data)))

    def freeze(self) -> None:
        """Take no further writes; what was not taken as a change is lost."""
        self._frozen, self.pieces = True, []

    def close(self) -> None:
        """Close the file below, without what was written but not taken."""
        if self._frozen:
            self._file.truncate(self.committed)
        self._file.close()
        super().close()


class Journal:
    """The journal of one folder, for its one writer."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._file: BinaryIO | None = None
        self._recorded: Sequence[Change] = ()

    def record(self, changes: Sequence[Change]) -> None:
        """Write the changes down; when this returns, they count.

        Raises
        ------
        OSError
            The disk is full or gone; nothing counts.
        """
        record = _encode(changes)
        if self._file is None:
            self._file = (self.folder / NAME).open("wb", buffering=0)
        try:
            _write_all(self._file, record)
        except BaseException:
            self._empty()
            raise
        self._recorded = changes

    def apply(self) -> None:
        """Do what is written down; after an error, call it again before anything else."""
        for change in self._recorded:
            change.apply(self.folder)
        if self._recorded:
            self._empty()
            self._recorded = ()

    def close(self) -> None:
        """Remove the journal."""
        if self._file is not None:
            self.apply()
            self._file.close()
            self._file = None
            with contextlib.suppress(FileNotFoundError):
                (self.folder / NAME).unlink()

    def _empty(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()


def pending_changes(folder: Any) -> dict[str, Change]:
    """Return file name -> change, of a journal that a killed writer left; empty without one.

    Parameters
    ----------
    folder : Path or zipfile.Path
    """
    try:
        with (folder / NAME).open("rb") as file:
            record = file.read()
    except (FileNotFoundError, KeyError):
        return {}
    return {change.name: change for change in _decode(record)}


def open_file(folder: Any, name: str) -> BinaryIO:
    """Open a file of a folder for reading, as it is when a journal left behind is applied.

    Raises
    ------
    FileNotFoundError
        It is not there.
    """
    path = folder / name
    if isinstance(path, Path):
        file: Any = path.open("rb", buffering=0)
    elif path.is_file():
        with path.open("rb") as member:
            file = io.BytesIO(member.read())
    else:
        raise FileNotFoundError(f"{path} is not there.")
    change = pending_changes(folder).get(name)
    if change and change.before <= file.seek(0, io.SEEK_END) <= change.after:
        return JournaledFile(file, change)  # type: ignore[return-value]
    file.seek(0)
    return file


def _encode(changes: Sequence[Change]) -> bytes:
    """Return changes as bytes: sha256 of the rest, length of the index, index (JSON), pieces one after the other."""
    index = json.dumps(
        [[*change[:3], [[at, len(piece)] for at, piece in change.pieces]] for change in changes]
    ).encode()
    pieces = [piece for change in changes for _, piece in change.pieces]
    content = b"".join([len(index).to_bytes(4, "little"), index, *pieces])
    return hashlib.sha256(content).digest() + content


def _decode(record: bytes) -> list[Change]:
    """Return the changes; none when the record was not written to its end."""
    content = io.BytesIO(record[32:])
    if hashlib.sha256(content.getbuffer()).digest() != record[:32]:
        return []
    index = json.loads(content.read(int.from_bytes(content.read(4), "little")))
    return [
        Change(name, before, after, [(at, content.read(n_bytes)) for at, n_bytes in pieces])
        for name, before, after, pieces in index
    ]


def _write_all(file: BinaryIO, data: Any) -> None:
    """Write all of it; an unbuffered file may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]

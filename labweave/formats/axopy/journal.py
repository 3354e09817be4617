"""Changes to several files of a folder that are done together, or not at all, wherever program or power end.

What lies behind the old end of a file is written at once: nothing points there yet. What overwrites is held
back. `Journal.record` puts both into one file beside the others and waits for the disk, which is the moment they
count: one wait for all files. `Journal.apply` then overwrites. The records stay until the files themselves have
reached the disk. Whoever reads the folder reads through a journal that was left behind.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from labweave.formats.writing import sync, sync_folder

NAME = ".labweave-journal"
MAX_BYTES = 4 * 2**20
"""With more records than that the files are brought to the disk, and the journal begins anew."""

_GROWS_BY = 2**18  # a file that keeps its length is synced ten times as fast
_MAX_BEHIND = 2**18
_WRITTEN_SINCE_S = 60
_ATTEMPTS = 10
_HEAD = 32 + 32 + 8
_NO_RECORD = bytes(_HEAD)


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
    behind : bytes
        What was written behind `before` already; empty also when it has reached the disk.
    """

    name: str
    before: int
    after: int
    pieces: list[tuple[int, bytes]]
    file: Any = None
    behind: bytes = b""

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
    """A file with the pieces that a journal has of it; for reading.

    Parameters
    ----------
    file : binary file
        Seekable.
    change : Change
    """

    def __init__(self, file: BinaryIO, change: Change):
        self._file, self._position = file, 0
        self._end, self._pieces = change.after, change.pieces

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it has positions."""
        return True

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
        for offset, piece in self._pieces:
            first, last = max(offset, start), min(offset + len(piece), start + len(view))
            if first < last:
                view[first - start : last - start] = piece[first - offset : last - offset]
        self._position += len(view)
        return len(view)

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()


class Journal:
    """The journal of one folder, for its one writer."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._file: BinaryIO | None = None
        self._end = self._length = 0
        self._last = bytes(32)
        self._recorded: Sequence[Change] = ()
        self._not_on_disk: set[str] = set()

    def record(self, changes: Sequence[Change]) -> None:
        """Write the changes down; when this returns they count, and are on the disk.

        Raises
        ------
        OSError
            The disk is full or gone; nothing counts.
        """
        if self._end > MAX_BYTES:
            self.checkpoint()
        record = _encode(changes, self._last)
        file = self._open()
        padding = -(self._end + len(record)) % _GROWS_BY if self._end + len(record) > self._length else 0
        try:
            file.seek(self._end)
            _write_all(file, record + bytes(padding))
            sync(file)
        except BaseException:
            file.truncate(self._end)
            self._length = self._end
            raise
        self._end += len(record)
        self._length = max(self._length, self._end + padding)
        self._last = record[:32]
        self._recorded = changes

    def apply(self) -> None:
        """Do what was written down last; after an error, call it again before anything else."""
        for change in self._recorded:
            change.apply(self.folder)
            self._not_on_disk.add(change.name)
        self._recorded = ()

    def checkpoint(self, forget: bool = False) -> None:
        """Bring the files to the disk and begin the journal anew.

        Parameters
        ----------
        forget : bool, default: False
            Wait until it has begun anew, before a file is replaced that it tells of.
        """
        self.apply()
        while self._not_on_disk:
            name = min(self._not_on_disk)
            with contextlib.suppress(FileNotFoundError), (self.folder / name).open("r+b") as file:  # deleted by a user
                sync(file)
            self._not_on_disk.remove(name)
        if self._file is not None and self._end:
            self._file.seek(0)
            _write_all(self._file, _NO_RECORD)
            self._end = 0
            if forget:
                sync(self._file)

    def close(self) -> None:
        """Bring the files to the disk and remove the journal."""
        if self._file is not None:
            self.checkpoint()
            self._file.close()
            self._file = None
            with contextlib.suppress(FileNotFoundError):
                (self.folder / NAME).unlink()

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = (self.folder / NAME).open("w+b", buffering=0)
            self._end = self._length = 0
            for folder in (self.folder, *self.folder.resolve().parents[:2]):
                sync_folder(folder)
        return self._file


def pending_changes(folder: Any) -> dict[str, Change]:
    """Return file name -> change, of a journal that a writer keeps or left behind; empty without one.

    Parameters
    ----------
    folder : Path or zipfile.Path
    """
    return _changes_of(_read_journal(folder))[0]


def journal_state(folder: Any) -> str | None:
    """Return a hash of the records in a folder's journal, None without any."""
    journal = _read_journal(folder)
    return hashlib.sha256(journal).hexdigest() if _changes_of(journal)[0] else None


def open_file(folder: Any, name: str) -> BinaryIO:
    """Open a file of a folder for reading, as it is when the journal is applied.

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
    change, journal = None, b""
    for _ in range(_ATTEMPTS):
        if (now := _read_journal(folder)) == journal:
            break
        changes, recorded_s = _changes_of(journal := now)  # a writer may have gone on meanwhile
        change = changes.get(name)
        if change is None or _is_done(file, change, recorded_s):
            change = None
            break
    file.seek(0)
    return JournaledFile(file, change) if change else file  # type: ignore[return-value]


def recover(root) -> list[str]:
    """Finish what a killed writer left in the folder of a task, so that other programs read it too.

    Only when that writer has ended. Without a journal nothing is done.

    Parameters
    ----------
    root : str or Path

    Returns
    -------
    list of str
        The files that were completed.
    """
    folder, completed = Path(root), []
    for name, change in pending_changes(folder).items():
        with contextlib.suppress(FileNotFoundError), open_file(folder, name) as file:
            if isinstance(file, JournaledFile):
                change.apply(folder)
                completed.append(name)
        with contextlib.suppress(FileNotFoundError), (folder / name).open("r+b") as file:
            sync(file)
    (folder / NAME).unlink(missing_ok=True)
    return completed


def _read_journal(folder: Any) -> bytes:
    try:
        with (folder / NAME).open("rb") as file:
            return file.read()
    except (FileNotFoundError, KeyError):
        return b""


def _is_done(file: Any, change: Change, recorded_s: float) -> bool:
    """Say whether a file has a change already, or is another one than that which was to be changed."""
    size = file.seek(0, io.SEEK_END)
    if size < change.before:
        return True
    if isinstance(file, io.FileIO) and os.fstat(file.fileno()).st_mtime > recorded_s + _WRITTEN_SINCE_S:
        return True
    for position, piece in change.pieces:
        file.seek(position)
        if file.read(len(piece)) != piece:
            return False
    return size >= change.after


def _encode(changes: Sequence[Change], last: bytes) -> bytes:
    """Return a record: sha256 of the rest and of the record before, length of the content, content.

    Content is the length of the index, the index (JSON: time, and of each change name, lengths and places) and the
    pieces one after the other.
    """
    index: list[Any] = [time.time()]
    content = []
    for change in changes:
        pieces = [(change.before, change.behind), *change.pieces] if change.behind else change.pieces
        index.append([*change[:3], [[position, len(piece)] for position, piece in pieces]])
        content += [piece for _, piece in pieces]
    encoded = json.dumps(index).encode()
    rest = b"".join([len(encoded).to_bytes(4, "little"), encoded, *content])
    rest = last + len(rest).to_bytes(8, "little") + rest
    return hashlib.sha256(rest).digest() + rest


def _changes_of(journal: bytes) -> tuple[dict[str, Change], float]:
    """Return file name -> change, of all records together, and when the last one was made.

    A record that is not whole, or does not follow on the one before, ends them: older ones may lie behind.
    """
    found: dict[str, Change] = {}
    view, start, last, recorded_s = memoryview(journal), 0, None, 0.0
    while start + _HEAD < len(view):
        end = start + _HEAD + int.from_bytes(view[start + 64 : start + _HEAD], "little")
        digest, before = bytes(view[start : start + 32]), bytes(view[start + 32 : start + 64])
        if (last is not None and before != last) or end > len(view):
            break
        if hashlib.sha256(view[start + 32 : end]).digest() != digest:
            break
        content = io.BytesIO(view[start + _HEAD : end])
        recorded_s, *index = json.loads(content.read(int.from_bytes(content.read(4), "little")))
        for name, old_length, length, pieces in index:
            change = found.setdefault(name, Change(name, old_length, length, []))
            change.pieces.extend((position, content.read(n_bytes)) for position, n_bytes in pieces)
            found[name] = change._replace(after=length)
        start, last = end, digest
    return {name: change._replace(pieces=_merged(change.pieces)) for name, change in found.items()}, recorded_s


def _merged(pieces: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return pieces that do not touch, by position; where two overlap, the later one counts."""
    spans: list[list[int]] = []
    for first, last in sorted((position, position + len(piece)) for position, piece in pieces):
        if spans and first <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], last)
        else:
            spans.append([first, last])
    joined = [bytearray(last - first) for first, last in spans]
    for position, piece in pieces:
        at = bisect.bisect_right(spans, [position, sys.maxsize]) - 1
        offset = position - spans[at][0]
        joined[at][offset : offset + len(piece)] = piece
    return [(first, bytes(content)) for (first, _), content in zip(spans, joined, strict=True)]


def write_behind(file: BinaryIO, position: int, data: bytes) -> bytes:
    """Write behind the end what nothing points to yet; return what of it a journal must hold.

    That is nothing when there was so much that it has been brought to the disk.
    """
    file.seek(position)
    _write_all(file, data)
    if len(data) <= _MAX_BEHIND:
        return data
    sync(file)
    return b""


def _write_all(file: BinaryIO, data: Any) -> None:
    """Write all of it; an unbuffered file may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]

"""The journal of a task: every trial is in it, on the disk, before `write` returns.

The array files and the table are brought up to date now and then; until then the journal is the only place of the
latest trials. It is one file of records, and grows at its end only. The first record says what the other files held
when the journal began. Each further record is a trial: the texts of its row, and its arrays as HDF5 stores them.
A record is a mark, the crc32 of its content, the length of its content, and the content: the length of an index, the
index in JSON, and the bytes of the arrays.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from labweave.errors import ReadError
from labweave.formats.axopy.names import StorageError, check_name
from labweave.formats.writing import sync, sync_folder, whole_file, write_all

NAME = "journal.labweave"  # not hidden, so that a copy of the folder has it

_MARK = b"LWTR"
_HEAD = struct.Struct("<4sIQ")
_INDEX_LENGTH = struct.Struct("<I")
_type_of = lru_cache(maxsize=64)(bytes.fromhex)  # all trials share the bytes of a type
_GROWS_BY = 2**18  # syncing a file that keeps its length takes 1.3 ms, one that has grown 3.1 ms


class EncodedArray(NamedTuple):
    """An array as HDF5 stores it: the type in HDF5's own encoding, the shape, and the bytes in C order."""

    type: bytes
    shape: tuple[int, ...]
    content: bytes


class _Place(NamedTuple):
    """Where an array is: `start` is in the content of the record at `record`."""

    type: bytes
    shape: tuple[int, ...]
    record: int
    start: int
    n_bytes: int


@dataclass(frozen=True)
class Start:
    """What the files of a task held when its journal began.

    Attributes
    ----------
    n_trials : int
        In the table.
    table_sha256 : str
        Of the table without its last line end.
    n_datasets : dict
        Array name -> datasets in its file.
    """

    n_trials: int = 0
    table_sha256: str = ""
    n_datasets: dict[str, int] = field(default_factory=dict)


class JournalWriter:
    """Begins the journal of a folder, in the place of an older one, and adds trials to it."""

    def __init__(self, folder: Path, start: Start):
        self._path = folder / NAME
        record = _encode(asdict(start), b"")
        with whole_file(self._path, durable=True) as new:
            new.write_bytes(record)
        for parent in folder.resolve().parents[:2]:  # the folder may be new, and that of its subject
            sync_folder(parent)
        self._file: BinaryIO = self._path.open("r+b", buffering=0)
        self._end = self._length = len(record)

    def add(self, trial: int, texts: Mapping[str, str], arrays: Mapping[str, EncodedArray]) -> None:
        """Add a trial; it counts, and is on the disk, when this returns, and does not count after an error."""
        if not self.is_in_place():
            raise StorageError(f"{self._path} was deleted or replaced. Write to a task that is there.")
        index = {
            "trial": trial,
            "texts": texts,
            "arrays": [[name, array.type.hex(), array.shape, len(array.content)] for name, array in arrays.items()],
        }
        record = _encode(index, b"".join(array.content for array in arrays.values()))
        end = self._end + len(record)
        padding = -end % _GROWS_BY if end > self._length else 0
        try:
            self._file.seek(self._end)
            write_all(self._file, record + bytes(padding))
            sync(self._file)
        except BaseException:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            self._length = self._end
            raise
        self._end, self._length = end, max(self._length, end + padding)

    def is_in_place(self) -> bool:
        """Say whether the folder still has this journal, not another one or none."""
        return os.fstat(self._file.fileno()).st_nlink > 0

    def close(self) -> None:
        """Close the file, and leave it there."""
        self._file.close()


class Journal:
    """A journal, open for reading; a context manager.

    Parameters
    ----------
    file : binary file
    known : Journal, optional
        One that was read earlier, open or closed. Where it is the beginning of this one, only the rest is read.

    Attributes
    ----------
    start : Start
    texts : list of dict
        Column -> text, of each trial.
    arrays : dict
        Array name -> dataset -> where its type, shape and bytes are.
    state : str
        A hash of what is in it.
    damage : str
        What is wrong with it; trials may be lost. A last record that is cut is not: its `write` never returned.
    """

    def __init__(self, file: BinaryIO, known: Journal | None = None):
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self.start = Start()
        self.texts: list[dict[str, str]] = []
        self.arrays: dict[str, dict[str, _Place]] = {}
        self.damage = ""
        self._digest = hashlib.sha256()
        self._ends: dict[int, bytes] = {}  # heads of the first and of the last record, by position
        position, self._borrows = 0, False
        if known is not None and self._begins_with(known):
            self.start, self._ends, self._digest = known.start, known._ends, known._digest.copy()
            self.texts, self.arrays, position = known.texts, known.arrays, known._position
            self._borrows = True
        while not self.damage:
            position = self._read_from(position)
            if self.damage or (position and not self._has_record_behind(position)):
                break
            # A writer that adds records meanwhile has added this one before the one behind it.
            if not self._content_at(position):
                self.damage = f"its record at byte {position} is damaged"
        self._position = position
        self.state = self._digest.hexdigest()

    def _read_from(self, position: int) -> int:
        """Take the whole records from a position on; return where they end."""
        while content := self._content_at(position):
            try:
                self._take(content, position)
            except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
                self.damage = f"its record at byte {position} makes no sense ({error})"
                break
            head = _HEAD.pack(_MARK, zlib.crc32(content), len(content))
            self._digest.update(head)
            self._ends = {**dict(list(self._ends.items())[:1]), position: head}
            position += _HEAD.size + len(content)
        return position

    def read(self, array: str, dataset: str) -> EncodedArray:
        """Return an array that is in it.

        Raises
        ------
        ReadError
            Its record has been damaged since the journal was read.
        """
        place = self.arrays[array][dataset]
        content = self._content_at(place.record)
        array_content = content[place.start : place.start + place.n_bytes]
        if len(array_content) < place.n_bytes or not content:
            raise ReadError(NAME, f"its record at byte {place.record} is damaged", "Copy it again.")
        return EncodedArray(place.type, place.shape, array_content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info) -> None:
        self._file.close()

    def _begins_with(self, known: Journal) -> bool:
        """Say whether this journal goes on where another one ended: a writer only ever adds to a journal."""
        return not known.damage and all(
            self._content_at(position) and self._head_at(position) == head for position, head in known._ends.items()
        )

    def _head_at(self, position: int) -> bytes:
        self._file.seek(position)
        return self._file.read(_HEAD.size)

    def _content_at(self, position: int) -> bytes:
        """Return the content of the record at a position; nothing when there is no whole one."""
        head = self._head_at(position)
        if len(head) < _HEAD.size:
            return b""
        mark, checksum, n_bytes = _HEAD.unpack(head)
        if mark != _MARK or n_bytes > self._size - position - _HEAD.size:
            return b""
        content = self._file.read(n_bytes)
        return content if zlib.crc32(content) == checksum else b""

    def _take(self, content: bytes, position: int) -> None:
        (n_index,) = _INDEX_LENGTH.unpack_from(content)
        at = _INDEX_LENGTH.size + n_index
        index = json.loads(content[_INDEX_LENGTH.size : at])
        if position == 0:
            self.start = Start(**index)
            return
        if index["trial"] != self.start.n_trials + len(self.texts):
            raise ValueError(f"trial {index['trial']} is out of order")
        if self._borrows:  # what is added is not added to the other journal's
            self.texts, self._borrows = list(self.texts), False
            self.arrays = {name: dict(places) for name, places in self.arrays.items()}
        for name, kind, shape, n_bytes in index["arrays"]:
            place = _Place(_type_of(kind), tuple(map(int, shape)), position, at, int(n_bytes))
            self.arrays.setdefault(check_name(name, "array name"), {})[str(int(index["trial"]))] = place
            at += n_bytes
        self.texts.append({str(column): str(text) for column, text in index["texts"].items()})

    def _has_record_behind(self, position: int) -> bool:
        """Say whether a whole record follows on one that is not: then that one was whole once."""
        self._file.seek(position)
        rest = self._file.read()
        at = rest.find(_MARK, 1)
        while at > 0:
            if self._content_at(position + at):
                return True
            at = rest.find(_MARK, at + 1)
        return False


def open_journal(folder: Any, known: Journal | None = None) -> Journal | None:
    """Open the journal of a folder, a Path or zipfile.Path; None when there is none. `known` is as of `Journal`."""
    path = folder / NAME
    try:
        if isinstance(path, Path):
            return Journal(path.open("rb", buffering=0), known)  # a buffer would hide what a writer adds
        with path.open("rb") as member:
            return Journal(io.BytesIO(member.read()), known)
    except (FileNotFoundError, KeyError):
        return None


def journal_state(folder: Any) -> str | None:
    """Return a hash of the journal in a folder; None when there is none, or it holds no trial."""
    journal = open_journal(folder)
    if journal is None:
        return None
    with journal:
        return journal.state if journal.texts or journal.damage else None


def _encode(index: dict[str, Any], content: bytes) -> bytes:
    encoded = json.dumps(index).encode()
    content = _INDEX_LENGTH.pack(len(encoded)) + encoded + content
    return _HEAD.pack(_MARK, zlib.crc32(content), len(content)) + content

"""Array files: HDF5, one per kind of array, with a dataset per trial that is named by the trial's row."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5f, h5g, h5l, h5o, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from labweave.errors import ReadError
from labweave.formats.axopy.growing import FORMAT
from labweave.formats.axopy.journal import open_file
from labweave.formats.axopy.names import StorageError

SUFFIX = ".hdf5"
_HEADER_BYTES = 1024
_READ_AHEAD_BYTES = 2**18
_MAX_HEADERS = 16
"""So many forms of headers are kept of a file; with more, looking for one is no faster than HDF5."""

_ATTEMPTS = 20
_DAMAGED = (OSError, RuntimeError, KeyError, TypeError, ValueError)


class ArrayFacts(NamedTuple):
    """What an array is, without the array: `sha256` is of its bytes in C order."""

    row: int
    shape: tuple[int, ...]
    dtype: str
    sha256: str


@dataclass(frozen=True)
class _Header:
    """The header of a dataset, but for the address of its data, and what is in it."""

    before: bytes
    after: bytes
    facts: tuple[tuple[int, ...], str]
    n_bytes: int


class MissingDataset(ReadError, TypeError):
    """A file without the dataset that is asked for."""


class ArrayFile:
    """One array file, open for reading; a context manager.

    Links to other files, virtual datasets and datasets that claim more than the file can hold are refused.

    Parameters
    ----------
    folder : Path or zipfile.Path
    name : str
        Of the file.

    Raises
    ------
    FileNotFoundError
        It is not there.
    ReadError
        It is no HDF5 file, or not a complete one.
    """

    def __init__(self, folder: Any, name: str):
        self.path, self._folder = folder / name, folder
        self._file: Any = None
        self._retry(lambda: None)

    def _open_file(self) -> None:
        self._state = self._state_now()
        stream: Any = open_file(self._folder, self.path.name)
        self._size = stream.seek(0, io.SEEK_END)
        try:
            if isinstance(stream, io.FileIO):
                self._file = h5f.open(os.fsencode(self.path), h5f.ACC_RDONLY, _ACCESS)  # without what h5py.File adds
            else:
                self._file = h5py.File(stream, "r").id
        except _DAMAGED as error:
            stream.close()
            found = "the file is empty" if self._size == 0 else f"not a complete HDF5 file ({error})"
            raise ReadError(self.path, found, "Copy it again, or delete it when nothing else is left of it.") from None
        self._stream = stream
        self._hard_links: dict[bytes, int] = {}
        self._headers: list[_Header] = []
        self._window, self._window_start = b"", 0
        self._last_type: tuple[Any, np.dtype] = (None, np.dtype("V"))

    def _state_now(self) -> tuple[int, int] | None:
        """Return size and time of the file; None in an archive."""
        if not isinstance(self.path, Path):
            return None
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def _has_grown(self) -> bool:
        """Say whether a writer has changed the file since it was opened: what was read may be old and new mixed."""
        return self._state_now() != self._state

    def _retry(self, work: Callable[[], Any]) -> Any:
        """Do something with the file; once more, with the file opened anew, when a writer has come between."""
        attempts = 0
        while True:
            try:
                if self._file is None:
                    self._open_file()
                return work()
            except ReadError:
                attempts += 1
                if attempts == _ATTEMPTS or not self._has_grown():
                    raise
                self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._stream.close()
            self._file = None

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def rows(self) -> list[int]:
        """Return the rows that have a dataset, in order; other names are left out."""
        for _ in range(_ATTEMPTS):
            found = self._retry(self._list_rows)
            if not self._has_grown():  # else names may be missing that were there before
                break
            self.close()
        return found

    def _list_rows(self) -> list[int]:
        links: dict[bytes, Any] = {}
        try:
            self._file.links.iterate(lambda name, link: links.__setitem__(name, (link.type, link.u)), info=True)
        except _DAMAGED as error:
            raise self._damaged(error) from None
        self._hard_links = {name: address for name, (kind, address) in links.items() if kind == h5l.TYPE_HARD}
        return sorted(int(name) for name in links if name.isdigit() and str(int(name)).encode() == name)

    def read(self, dataset: str) -> np.ndarray:
        """Return a whole dataset, shape and dtype as it was written.

        Raises
        ------
        MissingDataset
            There is none of this name.
        ReadError
            The dataset leaves the file, or is damaged.
        """
        return self._retry(lambda: self._read(dataset))

    def describe(self, rows: Iterable[int]) -> Iterator[ArrayFacts]:
        """Yield what the arrays of some rows are; errors as of `read`.

        The datasets of one file mostly have equal headers, and opening each through HDF5 is most of the work: where
        a header is that of an earlier dataset but for the address of the data, the data are taken from there.
        """
        self.rows()
        for row in rows:
            name = str(row)
            if (found := self._describe_alike(name)) is None:
                array = self.read(name)
                found = array.shape, array.dtype.str, hashlib.sha256(array.tobytes()).hexdigest()
                self._learn_header(name)
            yield ArrayFacts(row, *found)

    def _header_of(self, dataset: str) -> bytes:
        """Return the first block of a dataset's header, of HDF5's version 1; nothing where it is of another form."""
        address = self._hard_links.get(dataset.encode())
        if address is None or address >= self._size or not isinstance(self._stream, io.FileIO):
            return b""
        block = self._bytes_at(address, _HEADER_BYTES)
        end = 16 + int.from_bytes(block[8:12], "little")
        return block[:end] if block[:1] == b"\x01" and 16 < end <= len(block) else b""

    def _describe_alike(self, dataset: str) -> tuple[tuple[int, ...], str, str] | None:
        address = self._hard_links.get(dataset.encode())
        if address is None:
            return None
        for known in self._headers:
            place = len(known.before)
            header = self._bytes_at(address, place + 8 + len(known.after))
            if not header.startswith(known.before) or header[place + 8 :] != known.after:
                continue
            offset = int.from_bytes(header[place : place + 8], "little")
            if offset + known.n_bytes > self._size:
                return None
            content = self._bytes_at(offset, known.n_bytes)
            return (*known.facts, hashlib.sha256(content).hexdigest()) if len(content) == known.n_bytes else None
        return None

    def _bytes_at(self, position: int, n_bytes: int) -> bytes:
        """Return bytes of the file; where one piece follows on another, many are read at once."""
        start = position - self._window_start
        if not 0 <= start <= len(self._window) - n_bytes:
            follows_on = 0 <= start <= len(self._window) + _HEADER_BYTES
            self._stream.seek(position)
            self._window = self._stream.read(max(n_bytes, _READ_AHEAD_BYTES) if follows_on else n_bytes)
            self._window_start, start = position, 0
        return self._window[start : start + n_bytes]

    def _learn_header(self, dataset: str) -> None:
        header, opened = self._header_of(dataset), self._open(dataset)
        dtype, shape, offset = self._dtype(opened), opened.shape, opened.get_offset()
        n_bytes = dtype.itemsize * math.prod(shape)
        if not header or offset is None or dtype.kind not in "iufcb" or not 0 < n_bytes == opened.get_storage_size():
            return
        address = offset.to_bytes(8, "little")
        # Behind a user block, addresses do not count from the start of the file.
        whole = not self._file.get_create_plist().get_userblock()
        if whole and header.count(address) == 1 and len(self._headers) < _MAX_HEADERS:
            before, _, after = header.partition(address)
            self._headers.append(_Header(before, after, (shape, dtype.str), n_bytes))

    def _read(self, dataset: str) -> np.ndarray:
        try:
            return self._read_opened(dataset, self._open(dataset))
        except ReadError:
            raise
        except _DAMAGED as error:
            raise self._damaged(error) from None

    def _read_opened(self, dataset: str, opened: h5d.DatasetID) -> np.ndarray:
        dtype, shape = self._dtype(opened), opened.shape
        n_bytes = dtype.itemsize * math.prod(shape)
        offset = opened.get_offset()
        # Contiguous numbers in this file are read without HDF5, which is slower.
        if dtype.kind in "iufcb" and offset is not None and 0 < n_bytes == opened.get_storage_size():
            values = np.empty(shape if n_bytes <= self._size - offset else 0, dtype)
            self._stream.seek(offset)
            if values.nbytes and self._stream.readinto(values.reshape(-1).view(np.uint8).data) == n_bytes:
                return values
        space = opened.get_create_plist()
        if space.get_layout() == h5d.VIRTUAL or space.get_external_count():
            raise ReadError(
                self.path, f"the dataset {dataset} takes its data from other files", "Copy the data into it."
            )
        if n_bytes > 1100 * self._size:  # deflate packs 1032 bytes into one at best
            raise ReadError(
                self.path, f"the dataset {dataset} claims {n_bytes:,} bytes, more than the file holds", "Copy it again."
            )
        if dtype.kind in "mM":
            return np.asarray(h5py.Dataset(opened)[()])
        if dtype.hasobject:
            if not h5py.check_string_dtype(dtype):
                raise ReadError(self.path, f"the dataset {dataset} holds no plain values", "Store numbers or text.")
            return np.asarray(h5py.Dataset(opened).asstr()[()]).astype("U")
        values = np.empty(shape, dtype)
        if n_bytes:
            opened.read(h5s.ALL, h5s.ALL, values)
        text = h5py.check_string_dtype(dtype)
        return np.char.decode(values, "utf-8") if text and text.encoding == "utf-8" else values

    def _open(self, dataset: str) -> h5d.DatasetID:
        """Open a dataset by its path; every step of it must lie in this file."""
        place: Any = self._file
        if dataset.encode() in self._hard_links:
            return h5d.open(place, dataset.encode())
        for part in dataset.strip("/").split("/"):
            name = part.encode()
            if not isinstance(place, h5g.GroupID) or not name or not place.links.exists(name):
                raise MissingDataset(self.path, f"it has no dataset {dataset}", "Ask for one that it has.")
            if place.links.get_info(name).type != h5l.TYPE_HARD:
                raise ReadError(self.path, f"{dataset} is a link", "Copy the data into the file.")
            place = h5o.open(place, name)
        if not isinstance(place, h5d.DatasetID):
            raise MissingDataset(self.path, f"{dataset} is a group, no dataset", "Ask for a dataset in it.")
        return place

    def _dtype(self, opened: h5d.DatasetID) -> np.dtype:
        """Return the numpy type; that of the trial before, when it is equal."""
        kind = opened.get_type()
        if kind != self._last_type[0]:
            self._last_type = kind, kind.dtype
        return self._last_type[1]

    def _damaged(self, error: Exception) -> ReadError:
        return ReadError(self.path, f"the file is damaged ({error})", "Copy it again.")


def storable(data: Any, name: str) -> np.ndarray:
    """Return `data` as an array that HDF5 can hold: text in UTF-8, dates as opaque bytes that h5py knows.

    Raises
    ------
    TypeError
        There is no data, or it holds Python objects.
    """
    if data is None:
        raise TypeError(
            f"Array {name!r} holds no data. Stack data onto it before the trial is written, or leave it out."
        )
    array = np.asarray(data, order="C")
    if array.dtype.hasobject:
        raise TypeError(f"Array {name!r} holds Python objects. Store numbers, text or dates of one type.")
    if array.dtype.kind == "U":
        encoded = np.char.encode(array, "utf-8")
        return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))
    if array.dtype.kind in "mM":
        return array.astype(h5py.opaque_dtype(array.dtype))
    return array


def write_hdf5(filepath, data, dataset="data"):
    """Add one dataset to an HDF5 file, which is made when it is missing.

    Parameters
    ----------
    filepath : str or Path
    data : array_like
    dataset : str, default: 'data'
        Its name; ``g/h`` makes a group g.

    Raises
    ------
    TypeError
        No data, or Python objects; nothing is written.
    StorageError
        There is a dataset of this name.
    FileNotFoundError
        The folder is missing.
    """
    array = storable(data, dataset)
    with h5py.File(filepath, "a", libver=FORMAT) as file:
        _create(file.id, dataset, array, filepath)


def read_hdf5(filepath, dataset="data"):
    """Read one dataset of an HDF5 file.

    Parameters
    ----------
    filepath : str or Path
    dataset : str, default: 'data'

    Returns
    -------
    ndarray
        In memory, with the shape and dtype of the file.

    Raises
    ------
    FileNotFoundError
        The file is missing.
    ReadError
        It is damaged, or takes data from other files; `MissingDataset`, also a TypeError, without the dataset.
    """
    path = Path(filepath)
    with ArrayFile(path.parent, path.name) as file:
        return file.read(dataset)


def _create(place: Any, name: str, array: np.ndarray, path: Any) -> None:
    """Write a dataset as h5py does, contiguous and without times."""
    space = h5s.create_simple(array.shape) if array.shape else h5s.create(h5s.SCALAR)
    kind = h5t.py_create(array.dtype, logical=True)
    try:
        created = h5d.create(place, name.encode(), kind, space, _PROPERTIES, _MAKE_GROUPS)
    except ValueError as error:
        if name not in h5py.Group(place):
            raise
        raise StorageError(f"{path} has a dataset {name} already. Write to another name or file.") from error
    if array.size:
        created.write(h5s.ALL, h5s.ALL, array, kind)


_ACCESS = h5p.create(h5p.FILE_ACCESS)
_ACCESS.set_fclose_degree(h5f.CLOSE_STRONG)
_ACCESS.set_file_locking(False, False)
_PROPERTIES = h5p.create(h5p.DATASET_CREATE)
_PROPERTIES.set_obj_track_times(False)
_MAKE_GROUPS = h5p.create(h5p.LINK_CREATE)
_MAKE_GROUPS.set_create_intermediate_group(True)

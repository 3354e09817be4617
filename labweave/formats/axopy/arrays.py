"""Array files: HDF5, one per kind of array, with a dataset per trial that is named by the trial's row.

Arrays of trials that are not in the file yet are read from the journal beside it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, KeysView
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

from labweave.errors import FileMissing, ReadError
from labweave.formats.axopy.journal import EncodedArray, Journal, open_journal
from labweave.formats.axopy.names import StorageError
from labweave.formats.hdf5 import InsideFile, check_whole, find_inside, raising_read_errors

SUFFIX = ".hdf5"
FORMAT = ("earliest", "v110")  # that of the older programs which read these files
_MAX_AXES = 32
_MAX_TYPE_BYTES = 2**16 - 8
_decode_type = lru_cache(maxsize=64)(h5t.decode)


class MissingDataset(ReadError, TypeError):
    """A file without the dataset that is asked for."""


class ArrayFile:
    """One array file, open for reading; a context manager.

    It shows the arrays that were written when it was opened, also those that only the journal holds. Links to other
    files, virtual datasets and datasets that claim more than the file can hold are refused.

    Parameters
    ----------
    folder : Path or zipfile.Path
    name : str
        Of the file.
    known : Journal, optional
        The journal as it was read earlier: only what was added since is read.

    Raises
    ------
    FileNotFoundError
        It is not there.
    ReadError
        It is no HDF5 file, or not a complete one.
    """

    def __init__(self, folder: Any, name: str, known: Journal | None = None):
        self.path, self._array = folder / name, name.removesuffix(SUFFIX)
        self._file: h5py.File | None = None
        # The journal first: a writer empties it only after its arrays have reached the file.
        self.journal = open_journal(folder, known)
        try:
            self._file = self._open_file()
        except (FileNotFoundError, IsADirectoryError):
            if not self._journaled():
                self.close()
                raise FileMissing(self.path, "the file is gone", "Copy it again.") from None
        except ReadError:
            self.close()
            raise

    def _open_file(self) -> h5py.File:
        with raising_read_errors(self.path):
            if isinstance(self.path, Path):
                return InsideFile(self.path)
            return InsideFile(self.path, io.BytesIO(self.path.read_bytes()))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    def rows(self) -> list[int]:
        """Return the rows that have a dataset, in order; other names are left out."""
        names = {*self._stored, *self._journaled()}
        return sorted(int(name) for name in names if name.isdigit() and str(int(name)) == name)

    def n_stored(self) -> int:
        """Return how many datasets are in the file itself."""
        return len(self._stored)

    def check(self) -> None:
        """Raise a ReadError unless the journal goes with this file: no older copy, no other array of a trial."""
        n_before = 0 if self.journal is None else self.journal.start.n_datasets.get(self._array, 0)
        if len(self._stored) < n_before:
            raise ReadError(
                self.path,
                f"damaged: it has {len(self._stored)} datasets, and had {n_before} before the trials of the journal",
                "Is it an older copy? Copy it again.",
            )
        for name in self._stored & self._journaled():
            self.read(name)

    def unstored(self) -> list[str]:
        """Return the names of the datasets that only the journal holds, after `check`."""
        self.check()
        return [name for name in self._journaled() if name not in self._stored]

    def read(self, dataset: str) -> np.ndarray:
        """Return a whole dataset, shape and dtype as it was written, if file and journal agree on it."""
        with raising_read_errors(self.path):
            journaled = None
            if self.journal is not None and dataset in self._journaled():
                array = self.journal.read(self._array, dataset)
                dtype = _decode_type(array.type).dtype
                journaled = _plain(np.frombuffer(bytearray(array.content), dtype).reshape(array.shape))
            if journaled is not None and dataset not in self._stored:
                return journaled
            values = self._from_file(dataset)
        if journaled is not None and not _are_same(values, journaled):
            raise ReadError(
                self.path,
                f"damaged: the dataset {dataset} is not the array that the journal has of this trial",
                "Rename the dataset, then run labweave.formats.axopy.recover.",
            )
        return values

    @cached_property
    def _stored(self) -> set[str]:
        """The names at the top of the file."""
        with raising_read_errors(self.path):
            return set(() if self._file is None else self._file)

    def _journaled(self) -> KeysView[str]:
        return ({} if self.journal is None else self.journal.arrays.get(self._array, {})).keys()

    def _from_file(self, dataset: str) -> np.ndarray:
        try:
            opened = find_inside(None if self._file is None else self._file.id, dataset.encode())
        except KeyError:
            raise MissingDataset(self.path, f"it has no dataset {dataset}", "Ask for one that it has.") from None
        if not isinstance(opened, h5d.DatasetID):
            raise MissingDataset(self.path, f"{dataset} is a group, no dataset", "Ask for a dataset in it.")
        check_whole(opened)
        stored_type, shape = opened.get_type(), opened.shape
        dtype, is_numpys = _dtype_of(stored_type.encode())
        n_bytes = dtype.itemsize * math.prod(shape)
        if dtype.kind in "mM":
            return _plain(np.asarray(h5py.Dataset(opened)[()]))
        if dtype.hasobject:
            if not h5py.check_string_dtype(dtype):
                raise ReadError(self.path, f"the dataset {dataset} holds no plain values", "Store numbers or text.")
            return np.asarray(h5py.Dataset(opened).asstr()[()]).astype("U")
        values = np.empty(shape, dtype)
        if n_bytes:
            opened.read(h5s.ALL, h5s.ALL, values, stored_type if is_numpys else None)
        return _plain(values)


def encode_array(data: Any, name: str) -> EncodedArray:
    """Return `data` as HDF5 stores it: text in UTF-8, dates as opaque bytes that h5py knows; else a TypeError."""
    if data is None:
        raise TypeError(
            f"Array {name!r} holds no data. Stack data onto it before the trial is written, or leave it out."
        )
    array = np.asarray(data, order="C")
    if array.dtype.hasobject:
        raise TypeError(f"Array {name!r} holds Python objects. Store numbers, text or dates of one type.")
    if array.ndim > _MAX_AXES:
        raise TypeError(f"Array {name!r} has {array.ndim} axes. HDF5 can hold {_MAX_AXES}.")
    if array.dtype.kind == "U":
        encoded = np.char.encode(array, "utf-8")
        array = encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))
    elif array.dtype.kind in "mM":
        array = array.astype(h5py.opaque_dtype(array.dtype))
    kind = h5t.py_create(array.dtype, logical=True).encode()
    if len(kind) > _MAX_TYPE_BYTES:
        raise TypeError(f"Array {name!r} has too many fields for HDF5.")
    return EncodedArray(kind, array.shape, array.tobytes())


def add_datasets(path: Any, arrays: Iterable[tuple[str, EncodedArray]]) -> None:
    """Add datasets to an HDF5 file, which is made when it is missing: contiguous and without times, as AxoPy's."""
    with h5py.File(path, "a", libver=FORMAT) as file:
        for name, array in arrays:
            space = h5s.create_simple(array.shape) if array.shape else h5s.create(h5s.SCALAR)
            kind = _decode_type(array.type)
            try:
                created = h5d.create(file.id, name.encode(), kind, space, _PROPERTIES, _MAKE_GROUPS)
            except ValueError as error:
                if name not in file:
                    raise
                raise StorageError(f"{path} has a dataset {name} already. Write to another name or file.") from error
            if array.content:
                created.write(h5s.ALL, h5s.ALL, np.frombuffer(array.content, "u1"), kind)


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

    Examples
    --------
    >>> from labweave.formats.axopy import read_hdf5, write_hdf5
    >>> write_hdf5("calibration.hdf5", [0.5, 2.0])
    >>> write_hdf5("calibration.hdf5", [[1, 2], [3, 4]], dataset="gain/left")
    >>> read_hdf5("calibration.hdf5", "gain/left")
    array([[1, 2],
           [3, 4]])
    """
    add_datasets(filepath, [(dataset, encode_array(data, dataset))])


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

    Examples
    --------
    >>> from labweave.formats.axopy import read_hdf5, write_hdf5
    >>> write_hdf5("baseline.hdf5", [0.5, 2.0])
    >>> read_hdf5("baseline.hdf5")
    array([0.5, 2. ])
    """
    path = Path(filepath)
    with ArrayFile(path.parent, path.name) as file:
        return file.read(dataset)


def read_one_of_many(folder: Any, name: str, dataset: str) -> np.ndarray:
    """Read a dataset as `read_hdf5`; the journal that was read for the last one is remembered."""
    with ArrayFile(folder, name, _last_journal.get(folder)) as file:
        _last_journal.clear()
        if file.journal is not None and isinstance(folder, Path):
            _last_journal[folder] = file.journal
        return file.read(dataset)


def _plain(values: np.ndarray) -> np.ndarray:
    """Return values in numpy's own types: text decoded, dates without what h5py notes about them."""
    if values.dtype.kind in "mM":
        return values.astype(values.dtype.str)
    text = h5py.check_string_dtype(values.dtype)
    return np.char.decode(values, "utf-8") if text and text.encoding == "utf-8" else values


def _are_same(one: np.ndarray, other: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@lru_cache(maxsize=64)
def _dtype_of(encoded: bytes) -> tuple[np.dtype, bool]:
    """Return numpy's dtype for a type, and whether its bytes are the same: then HDF5 need not convert them."""
    kind = _decode_type(encoded)
    return kind.dtype, kind == h5t.py_create(kind.dtype, logical=True)


_last_journal: dict[Path, Journal] = {}  # at most one
_PROPERTIES = h5p.create(h5p.DATASET_CREATE)
_PROPERTIES.set_obj_track_times(False)
_MAKE_GROUPS = h5p.create(h5p.LINK_CREATE)
_MAKE_GROUPS.set_create_intermediate_group(True)

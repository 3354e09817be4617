"""Array files, dense (.npy) and sparse (.npz): read without unpickling, mapping or swelling unasked."""

from __future__ import annotations

import ast
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import scipy

from labweave.errors import FileMissing, ReadError
from labweave.formats.limits import check_archive
from labweave.formats.onedata.errors import BadFile, UnsafeFile
from labweave.formats.onedata.objects import load_objects

MAX_HEADER_BYTES = 1 << 16
MAX_VARIABLE_BYTES = 64 << 10
"""Largest file of objects that is read as a variable: recipes have some hundred bytes."""
MAX_OBJECT_BYTES = 512 << 20
"""Largest file of objects that is read as the source of a recipe: suite2p's stat and ops."""
MAX_BYTES = 16 << 30
"""Largest content of an archive, and largest dense form, that is made in memory."""

_COPY_AGAIN = "Copy it again from where it was written, or save the variable anew."
_DAMAGED = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
_MEMBERS = {"data", "indices", "indptr", "shape", "format"}


class Header(NamedTuple):
    """What an array file says of its array."""

    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool
    offset: int


def open_array(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; FileMissing when it is not there."""
    try:
        return open(path, "rb")  # noqa: PTH123 - twice as fast as Path.open
    except FileNotFoundError:
        raise FileMissing(path, "there is no such file", "Is its disk mounted, and was it moved?") from None
    except OSError as error:
        raise ReadError(path, error.strerror or str(error), "Is the path right, and the file readable?") from None


def read_header(file: BinaryIO, path: str | os.PathLike[str]) -> Header:
    """Read the header of an array file of version 1, 2 or 3."""
    start = file.read(8)
    if not start:
        raise BadFile(path, "the file is empty", _COPY_AGAIN)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise BadFile(path, "no array file (.npy) of numpy", _COPY_AGAIN)
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise BadFile(path, f"a header of {length} bytes", _COPY_AGAIN)
    text = file.read(length)
    try:
        if len(text) != length:
            raise ValueError
        facts = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin1").lstrip(" "))
        shape, is_fortran = facts["shape"], facts["fortran_order"]
        descr = facts["descr"]
        dtype = np.dtype(descr) if isinstance(descr, str) else np.lib.format.descr_to_dtype(descr)
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
            raise ValueError
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, MemoryError, RecursionError):
        raise BadFile(path, "a damaged header", _COPY_AGAIN) from None
    return Header(dtype, shape, bool(is_fortran), 8 + width + length)


def read_npy(
    path: str | os.PathLike[str],
    *,
    mmap: bool = False,
    trust_pickles: bool = False,
    max_object_bytes: int = MAX_VARIABLE_BYTES,
) -> np.ndarray:
    """Read an array file; objects in it are built, if they are plain values, or refused.

    Parameters
    ----------
    path : path
    mmap : bool, default: False
        Map numbers from the file, read-only, instead of reading them. Arrays of objects are read.
    trust_pickles : bool, default: False
        Unpickle what is not plain, which can run any code. For files of your own only.
    max_object_bytes : int
        Largest file of objects that is read.

    Returns
    -------
    ndarray

    Raises
    ------
    BadFile
        No array file, or cut off.
    UnsafeFile
        It holds other objects than dictionaries, lists, text, numbers, arrays and None.
    FileMissing, ReadError

    Examples
    --------
    >>> from labweave.formats.onedata import read_npy
    >>> np.save("counts.npy", np.array([3, 1, 2]))
    >>> read_npy("counts.npy", mmap=True)
    memmap([3, 1, 2])
    """
    with open_array(path) as file:
        header = read_header(file, path)
        size = os.fstat(file.fileno()).st_size
        if header.dtype.hasobject:
            return _read_objects(file, path, header, size, trust_pickles, max_object_bytes)
        n_bytes = header.dtype.itemsize * math.prod(header.shape)
        if size - header.offset < n_bytes:
            raise BadFile(
                path, f"the file is cut off: {size - header.offset} of {n_bytes} bytes are there", _COPY_AGAIN
            )
        order: Any = "F" if header.is_fortran else "C"
        if n_bytes == 0:
            return np.empty(header.shape, header.dtype, order)
        if mmap:
            return np.memmap(file, header.dtype, "r", header.offset, header.shape, order)
        values = np.fromfile(file, header.dtype, math.prod(header.shape))
    return values.reshape(header.shape, order=order)


def _read_objects(
    file: BinaryIO, path: str | os.PathLike[str], header: Header, size: int, trust_pickles: bool, max_bytes: int
) -> np.ndarray:
    if trust_pickles:
        file.seek(0)
        try:
            return np.lib.format.read_array(file, allow_pickle=True)
        except Exception as error:  # unpickling can raise anything
            raise BadFile(path, f"the objects can't be unpickled ({error})", _COPY_AGAIN) from None
    if size > max_bytes:
        raise UnsafeFile(
            path, f"{size} bytes of Python objects", f"Objects are read up to {max_bytes} bytes. Save them as arrays."
        )
    found = "objects in a structured array"
    if header.dtype == object:
        array, found = load_objects(file.read())
        if array is not None and array.shape == header.shape:
            return array
    raise UnsafeFile(
        path,
        f"Python objects that are not read: {found or 'another shape than the header says'}",
        "Unpickling can run any code. If the folder is your own, open its session with trust_pickles=True.",
    )


def leading_length(path: Path) -> int | None:
    """Return the length of the first axis of an array file, or None when it has none or can't be read."""
    try:
        with open_array(path) as file:
            shape = read_header(file, path).shape
    except ReadError:
        return None
    return shape[0] if shape else None


# --- archives of arrays (.npz), and the sparse arrays that scipy writes into them


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open an archive of arrays, unless it would swell too much."""
    try:
        with open_array(path) as file:
            check_archive(path, file)
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
    except ReadError:
        raise
    except _DAMAGED as error:
        raise BadFile(path, f"no complete archive of arrays ({error})", _COPY_AGAIN) from None


def read_sparse(path: str | os.PathLike[str]) -> scipy.sparse.csc_array:
    """Read a sparse array, whatever class scipy had when it was written; BadFile for anything else."""
    with open_npz(path) as arrays:
        if missing := _MEMBERS - set(arrays.files):
            raise BadFile(
                path,
                f"no sparse array: it has {', '.join(arrays.files[:5]) or 'nothing'}, not {', '.join(sorted(missing))}",
                "Sparse variables are saved with saveone(..., sparse=True).",
            )
        form = arrays["format"].item()
        form = form.decode("latin1") if isinstance(form, bytes) else form
        if form not in ("csc", "csr"):
            raise BadFile(path, f"a sparse array of the form {form!r:.20}", "Convert it to csc and save it anew.")
        parts = [arrays[name] for name in ("data", "indices", "indptr")]
        shape = tuple(arrays["shape"].tolist())
    kind = scipy.sparse.csc_array if form == "csc" else scipy.sparse.csr_array
    try:
        if any(part.dtype.kind not in "iu" for part in parts[1:]):
            raise ValueError("its indices are no integers")
        array = kind(tuple(parts), shape=shape)
        array.check_format(full_check=True)  # scipy writes where the indices say, also outside the array
    except (ValueError, TypeError, IndexError) as error:
        raise BadFile(path, f"a damaged sparse array ({error})", _COPY_AGAIN) from None
    array = scipy.sparse.csc_array(array)
    array.sum_duplicates()
    return array


def to_dense(array: scipy.sparse.csc_array, path: str | os.PathLike[str]) -> np.ndarray:
    """Return the dense form of a sparse array, if it fits into memory."""
    n_bytes = math.prod(np.shape(array)) * array.dtype.itemsize
    if n_bytes > MAX_BYTES:
        raise BadFile(path, f"a dense form of {n_bytes} bytes", "Load it with keep_sparse=True.")
    return array.toarray()

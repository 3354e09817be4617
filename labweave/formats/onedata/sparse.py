"""Sparse arrays in .npz files, as scipy writes them, read without unpickling or swelling."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy

from labweave.errors import FileMissing, ReadError
from labweave.formats.onedata.errors import BadFile
from labweave.formats.writing import whole_file

MAX_BYTES = 16 << 30
"""Largest content of an archive, and largest dense form, that is made in memory."""

_DAMAGED = (ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
_MEMBERS = {"data", "indices", "indptr", "shape", "format"}
_COPY_AGAIN = "Copy it again from where it was written, or save the variable anew."


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open an archive of arrays whose content fits into memory.

    Raises
    ------
    BadFile
        No archive, a damaged one, or one that swells beyond `MAX_BYTES`.
    FileMissing, ReadError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise BadFile(path, f"an archive of {size} bytes when unpacked", f"The limit is {MAX_BYTES} bytes.")
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError:
        raise FileMissing(path, "there is no such file", "Is its disk mounted, and was it moved?") from None
    except ReadError:
        raise
    except OSError as error:
        raise ReadError(path, error.strerror or str(error), "Is the path right, and the file readable?") from None
    except _DAMAGED as error:
        raise BadFile(path, f"no complete archive of arrays ({error})", _COPY_AGAIN) from None


def read_sparse(path: str | os.PathLike[str]) -> scipy.sparse.csc_array:
    """Read a sparse array.

    Returns
    -------
    scipy.sparse.csc_array
        Whatever class scipy had when it was written.

    Raises
    ------
    BadFile
        The file holds something else, or indices outside the array.
    """
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


def shape_of(array: scipy.sparse.csc_array) -> tuple[int, int]:
    """Return rows and columns."""
    return array.shape  # type: ignore[return-value] - scipy's annotations lack it


def to_dense(array: scipy.sparse.csc_array, path: str | os.PathLike[str]) -> np.ndarray:
    """Return the dense form of a sparse array.

    Raises
    ------
    BadFile
        It would not fit into memory.
    """
    n_bytes = math.prod(shape_of(array)) * array.dtype.itemsize
    if n_bytes > MAX_BYTES:
        raise BadFile(path, f"a dense form of {n_bytes} bytes", "Load it with keep_sparse=True.")
    return array.toarray()


def write_sparse(path: str | os.PathLike[str], array: scipy.sparse.csc_array) -> None:
    """Write a sparse array, compressed, whole or not at all."""
    with whole_file(path) as half_made, half_made.open("wb") as file:
        scipy.sparse.save_npz(file, array)

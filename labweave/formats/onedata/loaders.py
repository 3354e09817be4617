"""The loaders that every `OneDataSession` has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import scipy

from labweave.errors import FileMissing, ReadError
from labweave.formats.hdf5 import open_hdf5
from labweave.formats.onedata import suite2p
from labweave.formats.onedata.arrays import MAX_OBJECT_BYTES, open_npz, read_npy, read_sparse, to_dense
from labweave.formats.onedata.errors import NotSaved, RecipeRefused
from labweave.formats.onedata.names import check_part
from labweave.formats.onedata.recipe import LoadingRecipe, note_source
from labweave.formats.onedata.registry import register_loader
from labweave.formats.onedata.transforms import Index, full_index

if TYPE_CHECKING:
    from labweave.formats.onedata.vr import OneDataSession

register_loader("S2P", lazy=True)(suite2p.load_s2p)
register_loader("roiPosition")(suite2p.roi_positions)
register_loader("stackPosition")(suite2p.roi_positions)


@register_loader("numpy", lazy=True)
def load_numpy(session: OneDataSession, file: str, mmap: bool = False, index: Index | None = None) -> np.ndarray:
    """Load an array file (.npy) below the session's folder; with `mmap` it is mapped instead of read."""
    path = session.source_path(file)
    lazily = mmap or index is not None
    array = read_npy(path, mmap=lazily, trust_pickles=session.trust_pickles, max_object_bytes=MAX_OBJECT_BYTES)
    if LoadingRecipe.is_recipe(array):
        raise RecipeRefused(
            f"{path}: the source of the recipe is a recipe itself. Use the loader session, which follows it."
        )
    if index is None:
        return array
    part = array[full_index(index, array.ndim)]
    return part if mmap else np.array(part)


@register_loader("npz")
def load_npz(session: OneDataSession, file: str, key: str = "arr_0") -> np.ndarray:
    """Load one array of an archive (.npz) below the session's folder."""
    path = session.source_path(file)
    with open_npz(path) as arrays:
        if key not in arrays.files:
            raise ReadError(
                path, f"there is no array {key!r}, only {', '.join(arrays.files)}", "Correct `key` of the recipe."
            )
        return arrays[key]


@register_loader("sparse", lazy=True)
def load_sparse(session: OneDataSession, file: str, index: Index | None = None) -> np.ndarray:
    """Load a sparse array (.npz) below the session's folder, as a dense one; of a part only that becomes dense."""
    path = session.source_path(file)
    return _dense_part(read_sparse(path), path, index)


def _dense_part(array: scipy.sparse.csc_array, path: Path, index: Index | None) -> np.ndarray:
    if index is None:
        return to_dense(array, path)
    wanted = full_index(index, 2)
    part = array[tuple(axis if isinstance(axis, slice) else slice(axis, axis + 1 or None) for axis in wanted)]
    kept = tuple(slice(None) if isinstance(axis, slice) else 0 for axis in wanted)
    return to_dense(scipy.sparse.csc_array(part), path)[kept]


@register_loader("hdf5", lazy=True)
def load_hdf5(session: OneDataSession, file: str, dataset: str, index: Index | None = None) -> np.ndarray:
    """Load a dataset of an HDF5 file (.h5, .mat of version 7.3, .nwb) below the session's folder."""
    path = session.source_path(file)
    with open_hdf5(path) as opened:
        found = opened.get(dataset)
        if not isinstance(found, h5py.Dataset):
            raise ReadError(path, f"there is no dataset {dataset}", "Correct `dataset` of the recipe.")
        if h5py.check_string_dtype(found.dtype) is not None:
            values = np.array(found.asstr()[()], dtype=str)
            return values if index is None else values[full_index(index, values.ndim)]
        if found.dtype.hasobject:
            raise ReadError(path, f"{dataset} has references or arrays of uneven length", "They can't be loaded.")
        if index is None:
            return found[()]
        wanted = full_index(index, found.ndim)
        if any(isinstance(part, slice) and (part.step or 1) < 1 for part in wanted):  # HDF5 counts upwards only
            return found[()][wanted]
        return found[wanted]


@register_loader("session", lazy=True)
def load_from_session(
    session: OneDataSession, other: str, name: str, sparse: bool = False, index: Index | None = None
) -> Any:
    """Load a variable, or an array file, of another session of the same data root.

    Parameters
    ----------
    session : OneDataSession
    other : str
        ``mouse/date`` or ``mouse/date/id``.
    name : str
        Of the variable; with a ``/`` in it, an array file (.npy) below the session's folder.
    sparse : bool, default: False
        The variable is sparse; it comes dense.
    index : tuple, optional
        The part wanted; no more is read where the file allows it.
    """
    parts = other.split("/")
    if len(parts) not in (2, 3):
        raise RecipeRefused(f"{other!r} names no session. Write mouse/date or mouse/date/id.")
    try:
        for part in parts:
            check_part(part, "name of a session")
        opened = session.beside(*parts)
    except ValueError as error:
        raise RecipeRefused(str(error)) from None
    if "/" in name:
        return load_numpy(opened, name, index=index)
    path = opened.one_path.resolve() / f"{name}.{'npz' if sparse else 'npy'}"
    note_source(path)
    try:
        if index is None:
            return opened.loadone(name, sparse=sparse)
        if sparse:
            return _dense_part(opened.loadone(name, sparse=True, keep_sparse=True), path, index)
        values = opened.loadone(name, mmap=True)
    except NotSaved as error:
        raise FileMissing(path, f"the source of the recipe is missing ({error})", "Was it deleted?") from None
    return np.array(values[full_index(index, values.ndim)])


@register_loader("constant")
def load_constant(session: OneDataSession, value: float, shape: Sequence[int] = ()) -> np.ndarray:
    """Return an array filled with one value; it takes the memory of that one."""
    return np.broadcast_to(np.asarray(value), shape)

"""Suite2p's output of an imaging session: planes joined, positions of ROIs, corrected traces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from labweave.formats.onedata.arrays import MAX_OBJECT_BYTES, read_npy
from labweave.formats.onedata.errors import RecipeRefused, SourceNotAvailable
from labweave.formats.onedata.recipe import note_source
from labweave.formats.onedata.transforms import Index, full_index

if TYPE_CHECKING:
    from labweave.formats.onedata.session import SessionData

FRAMEWISE = ("F", "F_chan2", "Fneu", "Fneu_chan2", "spks")
"""Variables with a column per frame; a plane may have one frame more than another."""


def plane_names(session: SessionData) -> list[str]:
    """Return the planes in the order in which the session joins them: as registered, else by number."""
    if hasattr(session.values, "planeNames"):
        return [str(name) for name in session.values.planeNames]
    folder = session.data_path.resolve() / "suite2p"
    note_source(folder)
    names = [path.name for path in folder.glob("plane*") if path.is_dir()] if folder.is_dir() else []
    return sorted(names, key=lambda name: (_plane_number(name), name))


def plane_ids(session: SessionData) -> list[int]:
    """Return the numbers of the planes, in the same order."""
    if hasattr(session.values, "planeIDs"):
        return [int(number) for number in session.values.planeIDs]
    return [_plane_number(name) for name in plane_names(session)]


def _plane_number(name: str) -> int:
    match = re.search(r"\d+", name)
    return int(match[0]) if match else -1


def load_s2p(session: SessionData, name: str, concatenate: bool = True, index: Index | None = None) -> Any:
    """Load a variable of suite2p from all planes.

    Parameters
    ----------
    session : SessionData
    name : str
        File name without extension: F, Fneu, spks, stat, ops, iscell, redcell...
    concatenate : bool, default: True
        Join the planes along the first axis; else return a list. ``ops`` is a list always.
    index : tuple, optional
        The part wanted of the joined array; of frames only these are read.

    Returns
    -------
    ndarray or list
        F, Fneu and spks have (ROIs, frames), cut to the frames that all planes have.

    Raises
    ------
    SourceNotAvailable
        The session says it doesn't have the variable.
    FileMissing
        It should be there, but is not.
    """
    planes = plane_names(session)
    available = getattr(session.values, "available", None)
    if available is not None and name not in available:
        raise SourceNotAvailable(
            f"{session.session_print()}: suite2p has no {name}, only {', '.join(sorted(available))}. "
            "Was it deleted before registration? Register the session again."
        )
    if not planes:
        raise SourceNotAvailable(f"{session.data_path}: there is no plane in the folder suite2p.")
    paths = [session.source_path(f"suite2p/{plane}/{name}.npy") for plane in planes]
    options: Any = {"trust_pickles": session.trust_pickles, "max_object_bytes": MAX_OBJECT_BYTES}
    arrays = [read_npy(path, mmap=index is not None, **options) for path in paths]
    if name == "ops":
        return [array.item() for array in arrays]
    if name in FRAMEWISE:
        for path, array in zip(paths, arrays, strict=True):
            if array.ndim != 2:
                raise RecipeRefused(f"{path}: found an array of {array.ndim} axes, expected (ROIs, frames).")
        n_frames = getattr(session.values, "numFrames", None)
        n_frames = min(array.shape[1] for array in arrays) if n_frames is None else int(n_frames)
        arrays = [array[:, :n_frames] for array in arrays]
    if not concatenate:
        if index is not None:
            raise RecipeRefused("A list of planes can't be indexed. Leave concatenate=False out of the recipe.")
        return arrays
    if index is None:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return _take(arrays, full_index(index, arrays[0].ndim))


def _take(arrays: Sequence[np.ndarray], index: Index) -> np.ndarray:
    """Return a part of the joined array, reading no more of the maps than that."""
    rows, others = index[0], index[1:]
    kept = tuple(part if isinstance(part, slice) else slice(part, part + 1 or None) for part in others)
    maps = [array[(slice(None), *kept)] for array in arrays]  # nothing is read yet
    starts = np.cumsum([0, *map(len, maps)])
    wanted = np.atleast_1d(np.arange(starts[-1])[rows])
    parts = [
        array[wanted[(wanted >= start) & (wanted < start + len(array))] - start]
        for array, start in zip(maps, starts, strict=False)
    ]
    joined = np.concatenate(parts[::-1] if len(wanted) and wanted[0] > wanted[-1] else parts)
    return np.asarray(joined[tuple(slice(None) if isinstance(part, slice) else 0 for part in index)])


def roi_positions(session: SessionData, mode: Literal["weightedmean", "median"] = "weightedmean") -> np.ndarray:
    """Return where each ROI is.

    Parameters
    ----------
    session : SessionData
    mode : {"weightedmean", "median"}
        Of the pixels: their mean weighted by ``lam``, or their median.

    Returns
    -------
    ndarray, shape (ROIs, 3)
        x and y in pixels, and the number of the plane.
    """
    if mode not in ("weightedmean", "median"):
        raise RecipeRefused(f"{mode!r} is no way to find the position of a ROI. Say weightedmean or median.")
    rows = []
    for plane, stat in zip(plane_ids(session), load_s2p(session, "stat", concatenate=False), strict=True):
        for roi in stat:
            pixels = roi["xpix"], roi["ypix"]
            if mode == "median":
                x, y = (np.median(axis) for axis in pixels)
            else:
                x, y = (np.sum(axis * roi["lam"]) / np.sum(roi["lam"]) for axis in pixels)
            rows.append((x, y, plane))
    return np.array(rows, float).reshape(-1, 3)

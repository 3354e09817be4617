"""Write ALF files, each as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from labweave.formats.alf.bunch import check_dimensions
from labweave.formats.alf.exceptions import ALFInvalid, ALFNotTabular
from labweave.formats.alf.names import is_valid, to_alf
from labweave.formats.alf.path import alf_path
from labweave.formats.writing import whole_file


def save_object_npy(
    alfpath: str | PurePath,
    dico: Mapping[str, Any],
    object: str,
    parts: str | list[str] | tuple[str, ...] | None = None,
    namespace: str | None = None,
    timescale: str | None = None,
) -> list[Any]:
    """Write each array of an object into a file ``object.attribute.npy``, in place of an older one.

    Parameters
    ----------
    alfpath : str or Path
        The folder; it is made if it is missing.
    dico : mapping
        Attribute -> array; all have the same number of rows.
    object : str
    parts : str or sequence of str, optional
        Extra parts of the names.
    namespace, timescale : str, optional

    Returns
    -------
    list of ALFPath
        The files, in the order of the attributes.

    Raises
    ------
    ALFNotTabular
        The arrays have different lengths, or one holds Python objects. Nothing is written. (Also a ValueError.)
    ALFInvalid
        A part can't be in a name, or two attributes have the same name. Nothing is written. (Also a ValueError.)

    Examples
    --------
    >>> from labweave.formats.alf import save_object_npy
    >>> spikes = {"times": np.array([0.1, 0.4]), "clusters": np.array([3, 5])}
    >>> [file.name for file in save_object_npy("alf/probe00", spikes, "spikes", namespace="ibl")]
    ['_ibl_spikes.times.npy', '_ibl_spikes.clusters.npy']
    """
    import numpy as np

    arrays = {key: np.asarray(value) for key, value in dico.items()}
    if check_dimensions({key: array for key, array in arrays.items() if array.ndim}):
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        raise ALFNotTabular(f"The arrays of object {object} have different lengths: {shapes}.")
    if objects := [key for key, array in arrays.items() if array.dtype.hasobject]:
        raise ALFNotTabular(f"{', '.join(objects)} of object {object} has Python objects, which npy can't hold safely.")
    names = [to_alf(object, key, "npy", namespace, timescale, parts) for key in arrays]
    if len(set(names)) < len(names):
        raise ALFInvalid(f"Several attributes of object {object} give the same name: {', '.join(names)}.", terse=True)
    files = [alf_path(alfpath, name) for name in names]
    for file, array in zip(files, arrays.values(), strict=True):
        with whole_file(file) as new, new.open("wb") as opened:
            np.save(opened, array, allow_pickle=False)
    return files


def save_metadata(file_alf: str | PurePath, dico: Mapping[str, Any]) -> Any:
    """Write the description of a dataset beside it, as ``object.attribute.metadata.json``, and return that path.

    Parameters
    ----------
    file_alf : str or Path
        The dataset, which need not exist.
    dico : mapping
        Anything that JSON can hold. By ``columns``, a list of names, `load_object` splits an array into its columns.

    Raises
    ------
    ALFInvalid
        The dataset has no ALF name, or a value can't be written as JSON. (Also a ValueError.)

    Examples
    --------
    >>> from labweave.formats.alf import load_object, save_metadata, save_object_npy
    >>> [file] = save_object_npy("alf", {"position": np.arange(6.0).reshape(3, 2)}, "paws")
    >>> save_metadata(file, {"columns": ["x", "y"]}).name
    'paws.position.metadata.json'
    >>> load_object("alf", "paws").y
    array([1., 3., 5.])
    """
    path = Path(os.fspath(file_alf))
    if not is_valid(path.name):
        raise ALFInvalid(f"{path.name!r} is no ALF name.")
    try:
        text = json.dumps(dict(dico), indent=1)
    except (TypeError, ValueError) as error:
        raise ALFInvalid(f"What describes {path.name} can't be written as JSON: {error}.", terse=True) from None
    file = alf_path(path.with_name(f"{path.stem}.metadata.json"))
    with whole_file(file) as new:
        new.write_text(text, encoding="utf-8")
    return file

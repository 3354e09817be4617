"""What is in the file of a variable, found without unpickling."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labweave.errors import FileMissing, ReadError
from labweave.formats.onedata.arrays import read_npy, read_sparse
from labweave.formats.onedata.errors import RecipeRefused, UnsafeFile
from labweave.formats.onedata.recipe import LoadingRecipe, plain_recipe
from labweave.formats.plain import plain_json

BLOCK = 1 << 20


@dataclass(frozen=True)
class OneFile:
    """What is in one file.

    Attributes
    ----------
    kind : {"array", "sparse", "recipe", "object", "unsafe", "unreadable"}
        ``object`` are plain Python values, ``unsafe`` those that only unpickling could make.
    shape : list of int or None
    dtype : str
        As numpy writes it, for example ``<f8``; JSON for one with fields.
    content_sha256 : str
        Of the array's bytes in C order; of a sparse one those of data, indices and indptr, one after another.
    n_stored : int or None
        Elements that a sparse array stores.
    recipe : LoadingRecipe or None
    value : object
        Plain values of a kind ``object``, as far as JSON can hold them.
    problem : str
        Why the file is ``unsafe`` or ``unreadable``.
    """

    kind: str
    shape: list[int] | None = None
    dtype: str = ""
    content_sha256: str = ""
    n_stored: int | None = None
    recipe: LoadingRecipe | None = None
    value: Any = None
    problem: str = ""


def describe(path: str | Path) -> OneFile:
    """Say what is in the file of a variable; FileMissing when it is not there."""
    path = Path(path)
    try:
        if path.suffix == ".npz":
            sparse, digest = read_sparse(path), hashlib.sha256()
            for part in (sparse.data, sparse.indices, sparse.indptr):
                digest.update(np.ascontiguousarray(part).data)
            shape = list(np.shape(sparse))
            return OneFile("sparse", shape, dtype_text(sparse.dtype), digest.hexdigest(), n_stored=sparse.nnz)
        array = read_npy(path, mmap=True)
        if not array.dtype.hasobject:
            return OneFile("array", list(array.shape), dtype_text(array.dtype), content_sha256(array))
        if LoadingRecipe.is_recipe(array):
            return OneFile("recipe", recipe=plain_recipe(array.item(), path.name))
    except FileMissing:
        raise
    except RecipeRefused as error:
        return OneFile("unsafe", problem=str(error))
    except ReadError as error:
        kind = "unsafe" if isinstance(error, UnsafeFile) else "unreadable"
        return OneFile(kind, problem=f"{error.found}. {error.advice}")
    try:
        value = plain_json(array.tolist())
    except (ValueError, TypeError):
        value = None
    return OneFile("object", list(array.shape), dtype_text(array.dtype), value=value)


def dtype_text(dtype: np.dtype) -> str:
    """Return a dtype as text."""
    descr = np.lib.format.dtype_to_descr(dtype)
    return descr if isinstance(descr, str) else json.dumps(descr)


def content_sha256(array: np.ndarray) -> str:
    """Return the sha256 of an array's bytes in C order, taking no second copy of a large one."""
    digest = hashlib.sha256()
    array = array.reshape(-1) if array.flags.c_contiguous else array
    rows = max(1, BLOCK * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        digest.update(array[start : start + rows].tobytes())
    return digest.hexdigest()

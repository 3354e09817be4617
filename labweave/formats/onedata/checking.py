"""Following the recipes of the onedata tables; apart from these, so that a query needs no reader of onedata."""

from pathlib import Path

import numpy as np

from labweave.errors import FileMissing, LabweaveError
from labweave.formats import onedata
from labweave.formats.hashing import sha256_of_file
from labweave.formats.onedata.describe import dtype_text
from labweave.formats.onedata.recipe import from_json
from labweave.formats.onedata.registry import loaders, transforms
from labweave.formats.onedata.transforms import split_call


def open_session(one, **options):
    """Return the session object of a row of sessions, options and locations."""
    root = one["location"]
    names = (one["subject"], one["session_date"], one["one_session_id"] or None)
    options.setdefault("trust_pickles", bool(one["one_trusts_pickles"]))
    opened = onedata.OneDataSession(*names, folder=Path(root) / one["one_folder"], root=root, **options)
    opened.opts = from_json(one["one_options"]) or {}
    opened.preprocessing = from_json(one["one_preprocessing"]) or []
    vars(opened.values).clear()
    vars(opened.values).update(from_json(one["one_values"]) or {})
    return opened


def recipe_of(row):
    """Return the recipe of a row."""
    kwargs = from_json(row["kwargs"])
    return onedata.LoadingRecipe(row["loader_type"], row["source_arg"], row["transforms"], **kwargs)


def check(recipe):
    """Follow a recipe, and return what `RecipeCheck` says of it and of each of its source files."""
    opened = open_session(recipe, cache_bytes=0)
    with onedata.sources_opened() as paths:
        result = _follow(opened, recipe)
    root = Path(recipe["location"]).resolve()
    return result, [_source_row(path, root) for path in sorted(set(paths))]


def _follow(opened, recipe):
    """Return what `RecipeCheck` says of a recipe."""
    try:
        value = opened.follow(recipe_of(recipe), f"{recipe['one_name']}.npy", mmap=True)
    except onedata.RecipeError as error:
        return {"recipe_state": error.state, "reason": str(error)[:2000]}
    except FileMissing as error:
        return {"recipe_state": "missing_source", "reason": str(error)[:2000]}
    except onedata.UnsafeFile as error:
        return {"recipe_state": "refused", "reason": str(error)[:2000]}
    except LabweaveError as error:
        return {"recipe_state": "failed", "reason": str(error)[:2000]}
    except Exception as error:  # loaders are the lab's own functions
        return {"recipe_state": "failed", "reason": f"{type(error).__name__}: {error}"[:2000]}
    if isinstance(value, (list, tuple)):
        return {"recipe_state": "resolved", "result_shape": [len(value)], "result_dtype": "list"}
    if not isinstance(value, np.ndarray):
        value = np.asarray(value)
    dtype = dtype_text(value.dtype)
    facts = {"result_shape": list(value.shape), "result_dtype": dtype if len(dtype) <= 255 else "structured"}
    return {"recipe_state": "resolved", **facts, "result_size": value.nbytes}


def _source_row(path, root):
    """Return what `RecipeCheck.SourceFile` says of a file."""
    size, mtime_ns = stat(path)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    is_file = size is not None and path.is_file()
    return {
        "source_path": shown.as_posix(),
        "source_size": size,
        "source_mtime_ns": mtime_ns,
        "source_sha256": sha256_of_file(path) if is_file else "",
        "n_rows": onedata.leading_length(path) if is_file and path.suffix == ".npy" else None,
    }


def stat(path):
    """Return size and time of change of a file, None for one that is missing."""
    try:
        found = path.stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def is_known(recipe):
    """Say whether the loader of a recipe and all its transforms are registered."""
    return recipe["loader_type"] in loaders() and all(
        text in transforms() or split_call(text)[0] in transforms() for text in recipe["transforms"]
    )

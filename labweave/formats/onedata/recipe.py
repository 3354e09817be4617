"""Recipes: instructions to load a variable from where its data already is, and what is noted while one is followed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from labweave.formats.onedata.errors import RecipeRefused

_following: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("_following", default=())
_opened: ContextVar[list[Path] | None] = ContextVar("_opened", default=None)


class LoadingRecipe:
    """Instructions to load a variable from where its data already is, instead of a copy.

    Parameters
    ----------
    loader_type : str
        Name of the loader, for example ``S2P``.
    source_arg : str or None
        What it loads, for example ``F``.
    transforms : list of str, optional
        Names of what is done to the result, from left to right, some with arguments: ``transpose``, ``index(:, 1)``.
    **kwargs
        Arguments for the loader.

    Examples
    --------
    >>> from labweave.formats.onedata import LoadingRecipe, OneDataSession
    >>> recipe = LoadingRecipe("numpy", "raw.npy", ["transpose", "index(0:2)"])
    >>> recipe
    LoadingRecipe('numpy', 'raw.npy', ['transpose', 'index(0:2)'])
    >>> session = OneDataSession("CR01", "2026-03-01", "701", root="data")
    >>> session.data_path.mkdir(parents=True)
    >>> np.save(session.data_path / "raw.npy", np.arange(6).reshape(2, 3))
    >>> session.saveone(recipe, "mpci", "part")
    >>> session.loadone("mpci", "part")
    array([[0, 3],
           [1, 4]])
    """

    RECIPE_MARKER: ClassVar[str] = "__LOADING_RECIPE__"

    def __init__(
        self, loader_type: str, source_arg: str | None, transforms: Iterable[str] | None = None, **kwargs: Any
    ):
        self.loader_type = loader_type
        self.source_arg = source_arg
        self.transforms = [transforms] if isinstance(transforms, str) else list(transforms or ())
        self.kwargs = kwargs

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as it is saved, with its marker."""
        return {
            "marker": self.RECIPE_MARKER,
            "loader_type": self.loader_type,
            "source_arg": self.source_arg,
            "transforms": self.transforms,
            "kwargs": self.kwargs,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LoadingRecipe:
        """Make a recipe from a dictionary; the marker is not looked at.

        Raises
        ------
        KeyError
            One of ``loader_type``, ``source_arg``, ``transforms`` and ``kwargs`` is missing.
        TypeError
            A kwarg is named like a parameter.
        """
        loader_type, source_arg, transforms = (data[name] for name in ("loader_type", "source_arg", "transforms"))
        return cls(loader_type, source_arg, transforms, **data["kwargs"])

    @classmethod
    def is_recipe(cls, data: Any) -> bool:
        """Say whether loaded data is a recipe: an array whose one element is a dictionary with the marker."""
        if not hasattr(data, "item"):
            return False
        try:
            item = data.item()
        except (ValueError, TypeError):
            return False
        return isinstance(item, dict) and item.get("marker") == cls.RECIPE_MARKER

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadingRecipe) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment] - its parts can be changed

    def __repr__(self) -> str:
        more = "".join(f", {name}={value!r}" for name, value in self.kwargs.items())
        return f"LoadingRecipe({self.loader_type!r}, {self.source_arg!r}, {self.transforms!r}{more})"


def plain_recipe(data: Mapping[str, Any], where: str) -> LoadingRecipe:
    """Return the recipe of a dictionary, checked: text, and plain values in its kwargs; else RecipeRefused."""
    missing = [name for name in ("loader_type", "source_arg", "transforms", "kwargs") if name not in data]
    if missing:
        raise RecipeRefused(f"{where}: the recipe has no {', '.join(missing)}. Save it anew.")
    loader, source, transforms, kwargs = (data[name] for name in ("loader_type", "source_arg", "transforms", "kwargs"))
    transforms = [transforms] if isinstance(transforms, str) else transforms
    for name, is_right in {
        "loader_type is no text": isinstance(loader, str) and len(loader) <= 64,
        "source_arg is neither text nor None": source is None or isinstance(source, str),
        "transforms are no list of texts": isinstance(transforms, (list, tuple))
        and all(isinstance(item, str) for item in transforms),
        "kwargs are no dictionary with text keys": isinstance(kwargs, dict)
        and all(isinstance(key, str) for key in kwargs),
    }.items():
        if not is_right:
            raise RecipeRefused(f"{where}: the recipe's {name}, or too long. Save it anew.")
    if taken := {"loader_type", "source_arg", "transforms", "self", "cls"} & set(kwargs):
        raise RecipeRefused(
            f"{where}: the recipe has an argument called {', '.join(sorted(taken))}. Give it another name."
        )
    return LoadingRecipe(loader, source, transforms, **{key: _plain(value, where) for key, value in kwargs.items()})


def _plain(value: Any, where: str) -> Any:
    """Return a value of a recipe as text, numbers, booleans, None, lists and dictionaries of them."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "biufU":
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, where) for key, item in value.items()}
    raise RecipeRefused(
        f"{where}: the recipe has a {type(value).__name__} among its arguments. "
        "Recipes hold text, numbers, booleans, None, lists and dictionaries."
    )


def to_json(value: Any) -> Any:
    """Return a plain value as JSON can hold it: NaN and infinities become ``{"$float": "nan"}``."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """Return the plain value that `to_json` was given."""
    if isinstance(value, dict):
        if set(value) == {"$float"}:
            return float(value["$float"])
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


# --- while a recipe is followed


@contextmanager
def sources_opened() -> Iterator[list[Path]]:
    """Collect the files that recipes name while the block runs, also those that are missing, and folders they list."""
    paths: list[Path] = []
    token = _opened.set(paths)
    try:
        yield paths
    finally:
        _opened.reset(token)


def note_source(path: Path) -> None:
    """Add a path to those that `sources_opened` collects, if it does."""
    opened = _opened.get()
    if opened is not None and path not in opened:
        opened.append(path)


@contextmanager
def entered(folder: Path, name: str, where: str) -> Iterator[None]:
    """Follow a recipe in the block; RecipeRefused when it is being followed already."""
    chain, key = _following.get(), (str(folder), name)
    if key in chain:
        raise RecipeRefused(f"{where}: the recipe leads back to itself. Point it to the data.")
    token = _following.set((*chain, key))
    try:
        yield
    finally:
        _following.reset(token)

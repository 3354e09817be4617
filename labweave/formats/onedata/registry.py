"""Which loaders and transforms recipes may name: labweave's own, and those a lab registers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from labweave.errors import ConfigError

GROUP = "labweave.onedata"
"""Entry points of this group name modules that register loaders and transforms when they are imported."""

Function = TypeVar("Function", bound=Callable[..., Any])

_loaders: dict[str, Callable[..., Any]] = {}
_transforms: dict[str, Callable[..., Any]] = {}
_lazy: set[str] = set()


def register_loader(name: str, *, lazy: bool = False) -> Callable[[Function], Function]:
    """Register a function as a loader of recipes.

    Parameters
    ----------
    name : str
        The ``loader_type`` of recipes.
    lazy : bool, default: False
        The function takes ``index``, a tuple of integers and slices, and then reads only that part.
        `OneDataSession.loadone` asks for a part when the first transforms are an index.

    Returns
    -------
    decorator
        For a function of the session, the ``source_arg`` of the recipe (left out when that is None) and keywords.
        Only keywords that the function declares are passed on. It opens files that it gets from
        ``session.source_path(source_arg)``.

    Raises
    ------
    ConfigError
        Another function has this name.
    """

    def register(function: Function) -> Function:
        _add(_loaders, "loader", name, function)
        if lazy:
            _lazy.add(name)
        return function

    return register


def register_transform(name: str) -> Callable[[Function], Function]:
    """Register a function as a transform of recipes.

    Parameters
    ----------
    name : str
        As in the ``transforms`` of recipes.

    Returns
    -------
    decorator
        For a function of the data, and of the texts between the brackets when it is named like ``scale(0.5)``.

    Raises
    ------
    ConfigError
        Another function has this name.
    """

    def register(function: Function) -> Function:
        _add(_transforms, "transform", name, function)
        return function

    return register


def loaders() -> dict[str, Callable[..., Any]]:
    """Return every loader by name."""
    _load_packages()
    return dict(_loaders)


def transforms() -> dict[str, Callable[..., Any]]:
    """Return every transform by name."""
    _load_packages()
    return dict(_transforms)


def is_lazy(name: str) -> bool:
    """Say whether a loader can read a part only."""
    return name in _lazy


def _add(table: dict[str, Callable[..., Any]], what: str, name: str, function: Callable[..., Any]) -> None:
    known = table.setdefault(name, function)
    if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
        raise ConfigError(f"The {what} {name!r} is there already ({known.__module__}). Give yours another name.")
    table[name] = function


@cache
def _load_packages() -> None:
    """Import labweave's own loaders, and the modules that other packages name."""
    import labweave.formats.onedata.loaders
    import labweave.formats.onedata.transforms  # noqa: F401

    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            entry.load()
        except ImportError as error:
            raise ConfigError(f"The onedata module {entry.value} can't be imported: {error}.") from error

"""Which loaders and transforms recipes may name: labweave's own, and those a lab registers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any, TypeVar

from labweave.errors import ConfigError

GROUP = "labweave.onedata"
"""Entry points of this group name modules that register loaders and transforms when they are imported."""

Function = TypeVar("Function", bound=Callable[..., Any])

_loaders: dict[str, Callable[..., Any]] = {}
_transforms: dict[str, Callable[..., Any]] = {}


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

    Examples
    --------
    >>> from labweave.formats.onedata import LoadingRecipe, OneDataSession, register_loader
    >>> @register_loader("ramp")
    ... def load_ramp(session, length, step=1):
    ...     return np.arange(0, int(length) * step, step)
    >>> session = OneDataSession("CR02", "2026-03-01")
    >>> session.follow(LoadingRecipe("ramp", "4", step=10))
    array([ 0, 10, 20, 30])
    """

    def register(function: Function) -> Function:
        if lazy:
            vars(function)["lazy"] = True  # which `SessionData.follow` looks for
        return _add(_loaders, "loader", name, function)

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

    Examples
    --------
    >>> from labweave.formats.onedata import LoadingRecipe, OneDataSession, register_transform
    >>> @register_transform("clip_at")
    ... def clip_at(data, largest):
    ...     return np.minimum(data, float(largest))
    >>> session = OneDataSession("CR03", "2026-03-01")
    >>> session.follow(LoadingRecipe("constant", None, ["clip_at(0.5)"], value=1.0, shape=[2]))
    array([0.5, 0.5])
    """
    return partial(_add, _transforms, "transform", name)


def loaders() -> dict[str, Callable[..., Any]]:
    """Return every loader by name."""
    _load_packages()
    return dict(_loaders)


def transforms() -> dict[str, Callable[..., Any]]:
    """Return every transform by name."""
    _load_packages()
    return dict(_transforms)


def _add(table: dict[str, Callable[..., Any]], what: str, name: str, function: Function) -> Function:
    known = table.setdefault(name, function)
    if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
        raise ConfigError(f"The {what} {name!r} is there already ({known.__module__}). Give yours another name.")
    table[name] = function
    return function


@cache
def _load_packages() -> None:
    """Import the modules that other packages name; labweave's own are imported with `labweave.formats.onedata`."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            entry.load()
        except ImportError as error:
            raise ConfigError(f"The onedata module {entry.value} can't be imported: {error}.") from error

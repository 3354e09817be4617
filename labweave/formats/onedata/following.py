"""While a recipe is followed: which files it names, and that it does not lead back to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from labweave.formats.onedata.errors import RecipeRefused

_following: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("_following", default=())
_opened: ContextVar[list[Path] | None] = ContextVar("_opened", default=None)


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
    """Follow a recipe in the block.

    Raises
    ------
    RecipeRefused
        It is being followed already.
    """
    chain, key = _following.get(), (str(folder), name)
    if key in chain:
        raise RecipeRefused(f"{where}: the recipe leads back to itself. Point it to the data.")
    token = _following.set((*chain, key))
    try:
        yield
    finally:
        _following.reset(token)

"""What subjects, tasks, arrays and pickles may be called: names that stay in their folder."""

from __future__ import annotations

from typing import Any

from labweave.errors import SourceError

MAX_LENGTH = 64


class StorageError(SourceError, ValueError):
    """A name, trial or call that the storage refuses."""


def check_name(name: Any, what: str) -> str:
    """Return `name` if it can name a file or folder of a storage: text that does not lead out of it."""
    if not isinstance(name, str):
        raise TypeError(f"The {what} is {name!r}, a {type(name).__name__}; text is expected.")
    if not name or name in {".", ".."} or any(character in name for character in "/\\\0") or name[1:2] == ":":
        raise StorageError(f"{name!r} can't be a {what}: it must name one folder or file. Choose another name.")
    if len(name) > MAX_LENGTH:
        raise StorageError(
            f"{name[:20]!r}... can't be a {what}: it has {len(name)} characters, {MAX_LENGTH} are possible."
        )
    return name

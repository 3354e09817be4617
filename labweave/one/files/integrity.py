"""Compare files with their registered size and hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from labweave.one.search.rows import DatasetRow

BLOCK = 1 << 20

HASHES = {32: "md5", 40: "sha1", 64: "sha256"}
"""Number of hexadecimal digits -> the hash that has so many."""

State = tuple[int, int, int]
"""Inode, size and time of a file: they change when it is written or replaced."""


class Expected(NamedTuple):
    """The size of a file in bytes (0 if unknown) and its hash in hex ("" if unknown)."""

    size: int = 0
    hash: str = ""

    @classmethod
    def of(cls, row: DatasetRow) -> Expected:
        """Return what is registered of a dataset."""
        return cls(row.size or 0, row.hash or "")

    def digest(self) -> Any:
        """Return an empty hash of the known kind, or None."""
        name = HASHES.get(len(self.hash))
        return hashlib.new(name, usedforsecurity=False) if name else None

    def fault(self, size: int, hash: str) -> str:
        """Return how a size and a hash differ from these, "" if they don't; an empty hash is not compared."""
        if self.size and size != self.size:
            return f"it has {size:,} bytes, {self.size:,} are registered"
        if hash and self.digest() and hash != self.hash.lower():
            return f"its {HASHES[len(self.hash)]} is {hash}, registered is {self.hash.lower()}"
        return ""


class Checked:
    """The results of comparisons, so that a file is read again only after it has changed."""

    def __init__(self):
        self._faults: dict[tuple[str, Expected], tuple[State, str]] = {}

    def fault(self, path: Path, expected: Expected) -> str:
        """Return how a file differs from what is registered, "" if it doesn't; OSError if it can't be read."""
        _, size, _ = state = _state(path)
        if (found := expected.fault(size, "")) or not expected.hash:
            return found
        known, fault = self._faults.get((str(path), expected), (None, ""))
        if known != state:
            if (digest := expected.digest()) is not None:
                with path.open("rb") as file:
                    while block := file.read(BLOCK):
                        digest.update(block)
            fault = expected.fault(size, digest.hexdigest() if digest else "")
            self._faults[str(path), expected] = state, fault
        return fault

    def fits(self, path: Path, expected: Expected) -> None:
        """Remember that a file has just been compared, and fits."""
        if (state := state_of(path)) is not None:
            self._faults[str(path), expected] = state, ""


def state_of(path: Path) -> State | None:
    """Return the state of a file, None if it can't be seen."""
    try:
        return _state(path)
    except OSError:
        return None


def _state(path: Path) -> State:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns

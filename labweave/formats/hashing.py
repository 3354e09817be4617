"""Hashes of files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from labweave.errors import ReadError

NO_HASH = "0" * 64
"""In place of the sha256 of what must still be read: a file that no run has read, a record to be written again."""


def sha256_of_file(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, as 64 hexadecimal digits; a ReadError when it can't be read."""
    try:
        stat = Path(path).stat()
        return _sha256(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error), "Is the path right, and the disk mounted?") from None


def sha256_and_md5_of_file(path: str | Path) -> tuple[str, str]:
    """Return two hashes of a file, which is read once: the one labweave compares, and the one of ONE."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                sha256.update(block)
                md5.update(block)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error), "Is the path right, and the disk mounted?") from None
    return sha256.hexdigest(), md5.hexdigest()


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    """Hash a file once as long as its size and time of change stay: many sweeps come from one file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def whole_file(path, durable: bool = False) -> Iterator[Path]:
    """Give the path of a new file beside ``path``, which it replaces when the block ends without an error.

    The folder is made when it is missing. With `durable` the new file is on the disk when the block has ended.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    half_made = path.with_name(f".{path.name[:100]}.{os.urandom(4).hex()}.part")
    try:
        yield half_made
        if durable:
            with half_made.open("r+b") as file:
                sync(file)
        half_made.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        half_made.unlink(missing_ok=True)


def write_all(file: BinaryIO, content: bytes) -> None:
    """Write all of it; an unbuffered file may take less at a time."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def sync(file: Any) -> None:
    """Wait until what was written to an open file is on the disk."""
    file.flush()
    getattr(os, "fdatasync", os.fsync)(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems sync no folders
        pass
    finally:
        os.close(descriptor)

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path) -> Iterator[Path]:
    """Give the path of a new file beside ``path``, which it replaces when the block ends without an error.

    The folder is made when it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    half_made = path.with_name(f".{path.name[:100]}.{os.urandom(4).hex()}.part")
    try:
        yield half_made
        half_made.replace(path)
    finally:
        half_made.unlink(missing_ok=True)

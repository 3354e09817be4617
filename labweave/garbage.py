"""When the garbage collector is not to look."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection(*, lasting: bool = False) -> Iterator[None]:
    """Look for no unreachable cycles meanwhile: among many objects that are only being made, that takes long.

    Parameters
    ----------
    lasting : bool, default: False
        What is made stays, as modules do: afterwards it counts as old at once, and is not the first to be looked at.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if lasting and not gc.get_freeze_count():  # a program's own frozen objects stay frozen
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        if was_enabled:
            gc.enable()

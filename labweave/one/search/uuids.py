"""Many UUIDs at once: a search gives up to a hundred thousand, and the constructor takes two microseconds each."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import repeat
from struct import iter_unpack
from uuid import UUID, SafeUUID

from labweave.garbage import no_collection

FEW = 500
"""So many are made before the garbage collector would look."""

_LENGTH = 36


def split_eids(text: str) -> list[str]:
    """Return the UUIDs of a text that holds nothing but them."""
    return [text[at : at + _LENGTH] for at in range(0, len(text), _LENGTH)]


def make_uuids(text: str) -> list[UUID]:
    """Return the UUIDs of a text that holds nothing but them, as `uuid.UUID`."""
    raw = bytes.fromhex(text.replace("-", ""))
    numbers = [int.from_bytes(each, "big") for (each,) in iter_unpack("16s", raw)]
    with no_collection() if len(numbers) > FEW else nullcontext():
        found = list(map(object.__new__, repeat(UUID, len(numbers))))
    # The class is immutable by its own __setattr__; its slots are set as its constructor sets them.
    any(map(UUID.int.__set__, found, numbers))  # type: ignore[attr-defined]
    any(map(UUID.is_safe.__set__, found, repeat(SafeUUID.unknown)))  # type: ignore[attr-defined]
    return found

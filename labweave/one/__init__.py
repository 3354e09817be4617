"""ONE on a labweave database.

Here are the names of the first ONE, whose eids are texts; `labweave.one.api`, also `labweave.ONE`, has those of
ONE-api 3, whose eids are UUIDs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labweave.one.legacy.face import ONE, Listable, OneAbstract, OneAlyx, OneOffline, parse_id
    from labweave.one.legacy.info import SessionDataInfo

__all__ = ["ONE", "Listable", "OneAbstract", "OneAlyx", "OneOffline", "SessionDataInfo", "parse_id"]


def __getattr__(name: str) -> Any:
    """Load the front end when it is first asked for: `labweave.one.api` does without it."""
    if name in __all__:
        from labweave.one.legacy import face

        return getattr(face, name)
    raise AttributeError(f"module 'labweave.one' has no attribute {name!r}")

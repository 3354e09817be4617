"""Alyx: a whole lab's server in the tables, complete, and every night what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labweave.ingest.alyx.service import AlyxOptions, AlyxService

__all__ = ["AlyxOptions", "AlyxService"]


def __getattr__(name: str) -> Any:
    """Load the sync when it is first asked for: every connection to a database imports the tables in here."""
    if name not in __all__:
        raise AttributeError(f"module 'labweave.ingest.alyx' has no attribute {name!r}")
    from labweave.ingest.alyx import service

    return getattr(service, name)

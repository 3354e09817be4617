"""Errors between the modules of the database layer."""

from __future__ import annotations

from labweave.errors import DatabaseError


class TransientError(DatabaseError):
    """A deadlock, lock time-out or serialization failure: the transaction may pass when tried again."""

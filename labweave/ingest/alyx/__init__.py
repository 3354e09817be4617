"""Alyx: a whole lab's server in the tables, complete, and every night what changed."""

from labweave.ingest.alyx.service import AlyxOptions, AlyxService

__all__ = ["AlyxOptions", "AlyxService"]

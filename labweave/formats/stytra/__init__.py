"""Stytra's files: logs in four formats, metadata, and the folders that hold a session each."""

from labweave.formats.stytra.journal import JournalWriter, read_journal
from labweave.formats.stytra.logs import open_log, read_log, recover_log, write_log
from labweave.formats.stytra.metadata import Metadata, read_metadata
from labweave.formats.stytra.sessions import SessionFiles, find_sessions

__all__ = [
    "JournalWriter",
    "Metadata",
    "SessionFiles",
    "find_sessions",
    "open_log",
    "read_journal",
    "read_log",
    "read_metadata",
    "recover_log",
    "write_log",
]

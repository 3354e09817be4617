"""Tests that the authors of adapters and recording formats inherit; pytest runs them.

An adapter is tested by a subclass of `AdapterTests`, a recording format by one of `RecordingFormatTests`. The tests of
adapters need a database: import `database` and `database_url` into ``conftest.py``.
"""

from labweave.testing.adapters import AdapterTests
from labweave.testing.lab import database, database_url, empty, rows_of_tables
from labweave.testing.recordings import RecordingFormatTests

__all__ = ["AdapterTests", "RecordingFormatTests", "database", "database_url", "empty", "rows_of_tables"]

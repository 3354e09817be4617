"""A database for tests: open, empty, and as plain values."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import labweave
from labweave.database import Database
from labweave.database.declare import every_table, schema_modules, short_name, table_classes
from labweave.database.reads import table_label
from labweave.database.values import to_json


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """The database under test: ``LABWEAVE_TEST_DATABASE_URL``, or an embedded one that goes with the test run."""
    if url := os.environ.get("LABWEAVE_TEST_DATABASE_URL"):
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="labweave-tests-") as folder:
        Path(folder).chmod(0o711)  # as root, the server runs as another user
        yield f"embedded://{folder}/data"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open, empty database."""
    with labweave.connect(database_url, prefix="labweave_testing_") as opened:
        empty(opened)
        yield opened


def empty(database: Database) -> None:
    """Delete every row but the default contents of lookups."""
    database.connection.known_code.clear()  # its row goes, too
    tables = [table() for table in every_table()]
    for table in reversed(tables):  # what hangs on others goes first
        contents = list(getattr(table, "contents", ()))
        if len(table) != len(contents):
            database.connection.query(f"delete from {table.full_table_name}")  # not kept in ``ingestion.Change``
            if contents:
                table.insert(contents, skip_duplicates=True)


def rows_of_tables(database: Database) -> dict[str, list[tuple]]:
    """Return the rows of every table that is not about the ingestion itself, as they are stored, by table."""
    found = {}
    for module in schema_modules():
        for table in table_classes(module) if short_name(module) not in ("ingestion", "provenance", "work") else ():
            # not by DataJoint, which would read arrays from their files
            rows = database.connection.query(f"select * from {table.full_table_name}", as_dict=True).fetchall()
            if rows:
                found[table_label(table)] = sorted(tuple((key, str(row[key])) for key in sorted(row)) for row in rows)
    return found


def keys_of_tables(database: Database) -> set[tuple[str, str]]:
    """Return table and primary key, as JSON, of every row that is not about the ingestion itself."""
    tables = [table() for table in every_table()]
    named = {table_label(table): table for table in tables}
    return {(label, to_json(key)) for label in rows_of_tables(database) for key in named[label].proj()}

"""What every adapter of files must do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import labweave
from labweave import ingest
from labweave.database import Database
from labweave.database.declare import every_table
from labweave.database.reads import table_label
from labweave.ingest import Adapter, IngestReport
from labweave.schemas.ingestion import SourceFile
from labweave.testing.lab import empty, keys_of_tables, rows_of_tables

LAB = "testlab"
NUMBERS = (0, 1, 2)


class AdapterTests:
    """Tests of an adapter: inherit it, and say how a unit is written.

    The tests need the fixture ``database``, an open and empty one; `labweave.testing.database` is such a fixture.

    Attributes
    ----------
    adapter : str or Adapter class
    options : mapping
        To ingest with.
    """

    adapter: ClassVar[str | type[Adapter]]
    options: ClassVar[Mapping[str, Any]] = {}

    def write_unit(self, folder: Path, number: int, *, changed: bool = False) -> None:
        """Write the files of unit 0, 1 or 2 below a folder, which may have the others already.

        With `changed`, other values in as many rows; the unit is the same one.
        """
        raise NotImplementedError

    def damage_unit(self, folder: Path, number: int) -> None:
        """Make the unit one that can't be ingested; no other test needs it."""
        raise NotImplementedError

    @pytest.fixture
    def location(self, tmp_path: Path) -> Path:
        """Return the folder that is ingested."""
        return tmp_path / "source"

    def write(self, location: Path, numbers: Iterable[int] = NUMBERS, changed: Iterable[int] = ()) -> None:
        """Write some units, and nothing else, into the location."""
        shutil.rmtree(location, ignore_errors=True)
        location.mkdir(parents=True)
        for number in numbers:
            self.write_unit(location, number, changed=number in changed)

    def ingest(self, location: Path, **more: Any) -> IngestReport:
        """Ingest the location."""
        return ingest.run(self.adapter, location, lab=LAB, **{**self.options, **more})

    def rows_alone(self, database: Database, location: Path) -> dict[str, list[tuple]]:
        """Return the rows that the location gives when nothing was ingested before."""
        empty(database)
        report = self.ingest(location)
        assert report.failed == 0, report
        return rows_of_tables(database)

    def test_a_second_run_changes_nothing(self, database, location):
        self.write(location)
        nothing = rows_of_tables(database)
        would_be = self.ingest(location, dry_run=True)
        assert rows_of_tables(database) == nothing, "a dry run has written rows"
        first = self.ingest(location)
        assert (first.seen, first.new, first.failed) == (would_be.seen, would_be.new, 0) == (3, 3, 0), first
        assert first.rows == would_be.rows, "a dry run tells other rows than the run writes"
        before = rows_of_tables(database)
        for path in location.rglob("*"):
            os.utime(path, (1, 1))
        second = self.ingest(location)
        assert (second.unchanged, second.failed, second.rows) == (3, 0, {}), second
        assert rows_of_tables(database) == before

    def test_the_order_does_not_matter(self, database, location):
        self.write(location)
        expected = self.rows_alone(database, location)
        later = location.with_name("later")
        for kept in (2, 0):  # one unit first, the others join it
            empty(database)
            shutil.rmtree(later, ignore_errors=True)
            location.rename(later)
            self.write(location, [kept])
            self.ingest(location)
            shutil.rmtree(location)
            later.rename(location)
            report = self.ingest(location)
            assert (report.failed, rows_of_tables(database)) == (0, expected), f"unit {kept} came first"

    def test_every_row_is_explained_by_the_units_that_gave_it(self, database, location):
        empty(database)
        before = keys_of_tables(database)
        expected: dict[tuple[str, str], set[str]] = {}
        for number in range(3):
            self.write(location, [number])
            empty(database)
            self.ingest(location)
            (unit,) = set(SourceFile().to_arrays("unit"))
            for place in keys_of_tables(database) - before:
                expected.setdefault(place, set()).add(unit)
        self.write(location)
        empty(database)
        self.ingest(location)
        tables = {table_label(cls): cls for cls in every_table()}
        found = {}
        for label, key in expected:
            explained = labweave.explain(tables[label] & json.loads(key))
            found[label, key] = {given.unit for source in explained.sources for given in source.given}
            assert {file.state for _, file in explained.files()} == {"same"}, f"{label} {key}: {explained}"
        assert found == expected

    def test_a_bad_unit_is_one_failure(self, database, location):
        self.write(location, [0, 2])
        others = self.rows_alone(database, location)
        self.write(location)
        self.damage_unit(location, 1)
        empty(database)
        report = self.ingest(location)
        assert (report.failed, report.new, report.exit_code) == (1, 2, 1), report
        assert report.failures[0].error_class != "Exception" and "not expected" not in report.failures[0].message
        assert rows_of_tables(database) == others, "a bad unit has left rows, or taken some of others"
        self.write(location)
        repaired = self.ingest(location)
        assert (repaired.failed, repaired.unchanged + repaired.changed) == (0, 2), repaired
        assert rows_of_tables(database) == self.rows_alone(database, location)

    def test_a_changed_file_updates_its_rows(self, database, location):
        self.write(location)
        self.ingest(location)
        before = rows_of_tables(database)
        self.write(location, changed=[1])
        report = self.ingest(location)
        assert (report.changed, report.unchanged, report.failed) == (1, 2, 0), report
        after = rows_of_tables(database)
        assert after != before
        assert after == self.rows_alone(database, location), "it is not as if the changed file had been the only one"

    def test_a_unit_that_is_gone_is_told_and_keeps_its_rows(self, database, location):
        self.write(location)
        self.ingest(location)
        before = rows_of_tables(database)
        self.write(location, [0, 2])
        report = self.ingest(location)
        assert (report.failed, report.unchanged, bool(report.vanished)) == (0, 2, True), report
        after = rows_of_tables(database)
        assert {table: len(rows) for table, rows in after.items()} == {
            table: len(rows) for table, rows in before.items()
        }
        self.write(location)
        self.ingest(location)
        assert rows_of_tables(database) == before, "what came back is not as it was"

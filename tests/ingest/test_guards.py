"""What keeps a nightly run from taking half-copied files, or a disk that is half away for files that are gone."""

import os
import time

from simulated import OPTIONS, contents, write_cell, write_cells

from labweave import ingest
from labweave.schemas import ingestion, recording


def cells():
    return sorted(set(recording.Cell().to_arrays("cell").tolist()))


def age(path, seconds):
    written = time.time() - seconds
    os.utime(path, (written, written))


def test_files_that_are_still_copied_wait_for_a_later_run(database, tmp_path):
    first, second = sorted(write_cells(tmp_path, 2).iterdir())
    age(first, 3600)
    report = ingest.run("ephys", tmp_path, settle_s=1800, **OPTIONS)
    assert (report.seen, report.new, report.waiting, report.failed) == (2, 1, 1, 0)
    assert "1 units have files that were written just now" in str(report)
    assert len(cells()) == 1
    age(second, 3600)
    report = ingest.run("ephys", tmp_path, settle_s=1800, **OPTIONS)
    assert (report.new, report.unchanged, report.waiting) == (1, 1, 0)
    assert len(cells()) == 2


def test_a_unit_that_is_in_keeps_its_rows_while_its_file_is_copied_again(database, tmp_path):
    (path,) = sorted(write_cells(tmp_path, 1).iterdir())
    age(path, 3600)
    ingest.run("ephys", tmp_path, **OPTIONS)
    before = contents(database)
    path.write_bytes(path.read_bytes()[:1000])
    report = ingest.run("ephys", tmp_path, settle_s=1800, **OPTIONS)
    assert (report.waiting, report.failed, report.vanished, report.removed) == (1, 0, [], {})
    after = contents(database)
    assert {name for name in before if before[name] != after[name]} == {"ingestion.run"}


def test_a_file_from_the_future_does_not_wait_for_it(database, tmp_path):
    (path,) = sorted(write_cells(tmp_path, 1).iterdir())
    age(path, -86400)
    assert ingest.run("ephys", tmp_path, settle_s=1800, **OPTIONS).new == 1


def test_too_many_files_that_are_gone_mark_nothing(database, tmp_path):
    paths = sorted(write_cells(tmp_path / "disk", 4).iterdir())
    ingest.run("ephys", tmp_path / "disk", **OPTIONS)
    before = contents(database)
    for path in paths[:2]:
        path.rename(tmp_path / path.name)
    report = ingest.run("ephys", tmp_path / "disk", max_vanished=0.25, **OPTIONS)
    assert (report.failed, report.vanished, report.unchanged) == (1, [], 2)
    assert "2 of 4 files are gone, more than the part of 0.25" in report.failures[0].message
    assert ingestion.OpenFailure().to_arrays("path").tolist() == ["vanished files"]
    after = contents(database)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"ingestion.run", "ingestion.failure", "ingestion.open_failure"}

    (tmp_path / paths[0].name).rename(paths[0])  # now one of four
    report = ingest.run("ephys", tmp_path / "disk", max_vanished=0.25, **OPTIONS)
    assert (report.failed, len(report.vanished)) == (0, 1)
    assert len(ingestion.OpenFailure()) == 0


def test_units_that_are_gone_for_good_are_marked_by_hand(database, tmp_path):
    paths = sorted(write_cells(tmp_path, 2).iterdir())
    ingest.run("ephys", tmp_path, **OPTIONS)
    for path in paths:
        path.unlink()
    write_cell(tmp_path, 3)
    assert ingest.run("ephys", tmp_path, max_vanished=0.5, **OPTIONS).vanished == []
    assert len(ingest.run("ephys", tmp_path, **OPTIONS).vanished) == 2

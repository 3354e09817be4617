"""Units that do not go together as long as one of them is not corrected: the right command corrects both."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml
from simulated import sweeps_of, write_cell
from test_law import check_counts
from test_truth import alone, run

from labweave import ingest
from labweave.database import upsert
from labweave.errors import ConfigError
from labweave.schemas import dataset, ingestion, session, subject
from labweave.schemas.efeature import CellGroup
from labweave.schemas.recording import Cell, Recording
from labweave.testing import empty, rows_of_tables


@pytest.fixture
def folder(tmp_path):
    """A folder of two cells with two sweeps each."""
    for number in (0, 1):
        (tmp_path / "lab").mkdir(exist_ok=True)
        write_cell(tmp_path / "lab", number, sweeps=sweeps_of(number)[:2])
    return tmp_path / "lab"


def rewrite(folder, number, name):
    """Give the cell in a file another name."""
    (folder / f"cell{number}.h5").unlink()
    write_cell(folder, number, name, file=f"cell{number}.h5", sweeps=sweeps_of(number)[:2])


def group(*cells):
    upsert(CellGroup, [{"cell_group": "mine"}])
    eid = session.Session().fetch1("eid")
    upsert(CellGroup.Member, [{"cell_group": "mine", "eid": eid, "cell": cell} for cell in cells])


def test_cells_that_swap_names_while_a_person_s_rows_hang_on_both(database, folder):
    run(folder)
    group("cell0", "cell1")
    rewrite(folder, 0, "cell1")
    rewrite(folder, 1, "cell0")
    shown = run(folder, dry_run=True)
    report = run(folder)
    assert (report.changed, report.failed, report.seen) == (shown.changed, shown.failed, 2) == (2, 0, 2), report
    assert report.removed == shown.removed
    assert len(CellGroup.Member()) == 2 and run(folder).unchanged == 2
    check_counts()
    CellGroup().delete(prompt=False)
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_a_unit_that_still_clashes_fails_alone(database, folder):
    write_cell(folder, 2, sweeps=sweeps_of(2)[:2])
    run(folder)
    group("cell0", "cell1", "cell2")
    rewrite(folder, 0, "cell1")
    rewrite(folder, 1, "cell0")
    rewrite(folder, 2, "new")
    report = run(folder)
    assert (report.changed, [failure.path for failure in report.failures]) == (2, ["cell2.h5"]), report
    assert "CellGroup.Member hangs on it" in report.failures[0].message
    assert sorted(Cell().to_arrays("cell")) == ["cell0", "cell1", "cell2"]


def test_a_cell_that_another_file_gives_now_while_its_own_gives_none(database, folder):
    """The file that gave it is gone from the source, or gives another cell."""
    (folder / "metadata.yaml").write_text("a: {IDrest: [{filepath: cell0.h5}]}\nb: {IDrest: [{filepath: cell1.h5}]}\n")
    run(folder)
    group("a")
    (folder / "metadata.yaml").write_text("a: {IDrest: [{filepath: cell1.h5}]}\n")
    report = run(folder)
    assert (report.failed, len(CellGroup.Member())) == (0, 1), report
    CellGroup().delete(prompt=False)
    found = rows_of_tables(database)
    assert found == alone(database, folder)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_subject_is_spelled_in_another_case(database, folder, hangs):
    run(folder, subject="M1")
    if hangs:
        group("cell0")
    report = run(folder)
    if hangs:
        assert report.failed == 2, report
        CellGroup().delete(prompt=False)
        report = run(folder)
    assert (report.changed, report.failed) == (2, 0), report
    check_counts()
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_a_cell_is_spelled_in_another_case(database, folder):
    rewrite(folder, 0, "CELL0")
    run(folder)
    rewrite(folder, 0, "cell0")
    assert run(folder, dry_run=True).failed == 0
    assert run(folder).failed == 0
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_names_that_were_allowed_to_differ_by_case_alone_are_refused(database, folder):
    rewrite(folder, 0, "x")
    rewrite(folder, 1, "X")
    assert run(folder, allow_case=True).failed == 0 and len(Cell()) == 2
    would_be = run(folder, dry_run=True)
    report = run(folder)
    assert [failure.path for failure in report.failures] == ["cell1.h5"], report
    assert [failure.path for failure in would_be.failures] == ["cell1.h5"], would_be
    assert "cell 'X' differs from 'x'" in report.failures[0].message
    check_counts()
    found = rows_of_tables(database)
    empty(database)
    run(folder)
    assert found == rows_of_tables(database)


def test_copies_that_were_allowed_are_refused(database, folder):
    shutil.copy(folder / "cell0.h5", folder / "copy of cell0.h5")
    assert run(folder, allow_copies=True).failed == 0
    report = run(folder)
    assert [failure.path for failure in report.failures] == ["copy of cell0.h5"], report
    found = rows_of_tables(database)
    empty(database)
    run(folder)
    assert found == rows_of_tables(database)
    assert run(folder, allow_copies=True).failed == 0


def test_a_folder_is_renamed_by_case(database, tmp_path):
    """What was below its former name is away and stays; it does not stand in the way of the new name."""
    for name in ("M1", "m1"):
        for number in (1, 2):
            alf = tmp_path / f"{name}/2026-01-02/{number:03d}/alf"
            alf.mkdir(parents=True)
            np.save(alf / "a.b.npy", np.full(3, number))
        report = ingest.run("alf", tmp_path, lab="testlab")
        assert (report.new, report.failed) == (2, 0), report
        shutil.move(tmp_path / name, tmp_path.parent / f"away {name}")
    shutil.move(tmp_path.parent / "away M1", tmp_path / "M1")
    shutil.move(tmp_path.parent / "away m1", tmp_path / "m1")
    report = ingest.run("alf", tmp_path, lab="testlab")  # now both are there
    assert {failure.path[:2] for failure in report.failures} == {"M1", "m1"}
    assert len(dataset.Dataset & {"dataset_vanished": None}) == 2 and len(subject.Subject()) == 2


def test_units_of_one_session_that_vanish_one_after_the_other(database, folder):
    write_cell(folder, 2, sweeps=sweeps_of(2)[:2])
    run(folder)
    for number in (1, 0):
        (folder / f"cell{number}.h5").rename(folder.parent / f"cell{number}.h5")
        report = run(folder)
        gone = (Recording & {"cell": f"cell{number}"}).to_arrays("recording_vanished")
        assert report.vanished == [f"cell{number}.h5"] and set(gone) == {report.run}


@pytest.mark.parametrize("moved", [{}, {"lab": "wronglab"}, {"source": "named"}, {"session_date": "2026-01-03"}])
def test_a_folder_that_was_moved_is_the_new_place_s_alone(database, folder, moved):
    run(folder, **moved)
    folder = folder.rename(folder.parent / "other")
    if "lab" in moved:
        with pytest.raises(ConfigError, match=r"was \S+lab, and was ingested for the lab wronglab.*--move"):
            run(folder)
    report = run(folder, move="lab" in moved)
    assert report.failed == 0 and run(folder).unchanged == 2, report
    check_counts()
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_a_disk_that_is_away_is_no_moved_folder(database, folder):
    run(folder)
    folder.rename(folder.parent / "away")
    folder.mkdir()
    other = folder.parent / "other"
    other.mkdir()
    write_cell(other, 2, sweeps=sweeps_of(2)[:2])
    assert run(other).new == 1 and len(Recording()) == 6


def test_a_location_has_one_name(database, folder):
    run(folder)
    with pytest.raises(ConfigError, match=r"is the source ephys-lab-\w+\. Leave --source out.*labweave forget"):
        run(folder, source="named")
    ingest.forget(ingestion.Source().fetch1("source"))
    assert run(folder, source="named").new == 2
    assert run(folder).unchanged == 2


def test_the_row_of_a_source_is_deleted(database, folder):
    run(folder, subject="m2")
    ingestion.Source().delete(prompt=False)
    assert run(folder).failed == 0
    check_counts()
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_one_unit_of_a_forgotten_source_is_wanted_again(database, folder):
    source = run(folder).source
    ingest.forget(source)
    assert ingest.forget(source, ["cell0.h5"], undo=True).units == ["cell0.h5"]
    report = run(folder)
    assert (report.new, report.forgotten) == (1, 1) and Cell().fetch1("cell") == "cell0"


def test_a_mapping_that_was_emptied_has_no_cells(database, folder):
    mapping = {"a": {"IDrest": [{"filepath": "cell0.h5"}]}, "b": {"IDrest": [{"filepath": "cell1.h5"}]}}
    for listed in (mapping, {}):
        (folder / "metadata.yaml").write_text(yaml.safe_dump(listed))
        assert run(folder).failed == 0
    assert len(Cell()) == 0


def test_a_cell_gets_a_file_back(database, folder):
    for number in (0, 1, 0):
        (folder / "metadata.yaml").write_text(f"a: {{IDrest: [{{filepath: cell{number}.h5}}]}}")
        run(folder)
    found = rows_of_tables(database)
    assert found == alone(database, folder)


SPECIES = {"cell0": "Mus musculus", "cell1": "Rattus norvegicus"}


def describe(folder, cells):
    """Write a mapping of two cells of one animal, with what it says of each."""
    (folder / "metadata.yaml").write_text(
        yaml.safe_dump(
            {
                "files_metadata": {name: {"IDrest": [{"filepath": f"{name}.h5"}]} for name in ("cell0", "cell1")},
                "cells": {
                    name: {"subject": "m1", "session_date": "2026-01-02", **said} for name, said in cells.items()
                },
            }
        )
    )


@pytest.mark.parametrize("changed", ["cell0", "cell1"])
@pytest.mark.parametrize("to", [{}, {"species": "Danio rerio"}, None])
def test_units_that_disagree_on_a_row_leave_the_last_one_s_value(database, folder, changed, to):
    cells = {name: {"species": species} for name, species in SPECIES.items()}
    describe(folder, cells)
    run(folder)
    assert subject.Subject().fetch1("species") == SPECIES["cell1"]
    describe(folder, {**cells, changed: {"species": SPECIES[changed], "subject": "m2"} if to is None else to})
    assert run(folder).failed == 0
    assert run(folder).unchanged == 2
    check_counts()
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_a_unit_that_is_withdrawn_leaves_no_value_of_its_own(database, folder):
    for name, cell_type in (("cell0.h5", "L5PC"), ("cell1.h5", "basket")):
        (folder / name).unlink()
        write_cell(folder, int(name[4]), "one", file=name, sweeps=sweeps_of(int(name[4]))[:2])
        run(folder, cell_type=cell_type)
    source = run(folder).source
    ingest.forget(source, ["cell1.h5"])
    run(folder)
    found = rows_of_tables(database)
    (folder / "cell1.h5").unlink()
    assert found == alone(database, folder)

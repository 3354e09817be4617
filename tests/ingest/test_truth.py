"""Mistakes and their correction, one by one, as a lab makes them; `test_law` tries sequences of them."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datajoint as dj
import numpy as np
import pytest
import test_every_adapter as adapters
import yaml
from datajoint.errors import IntegrityError
from simulated import sweeps_of, write_cell
from test_law import check_counts
from test_stytra import START, write_session

from labweave import ingest, populate
from labweave.database import upsert
from labweave.database.writes import set_values
from labweave.errors import ConfigError
from labweave.formats.onedata import LoadingRecipe, OneDataSession
from labweave.ingest import make_uuid
from labweave.ingest.given import disown
from labweave.ingest.onedata import remove_recipe, save_recipe
from labweave.schemas import dataset, ingestion, lab, rheobase, session, subject, task
from labweave.schemas.recording import Cell, Protocol, Recording, RecordingStimulus
from labweave.testing import empty, rows_of_tables

RIGHT = {"lab": "testlab", "subject": "m1", "session_date": "2026-01-02"}


def run(folder, **options):
    return ingest.run("ephys", folder, **{**RIGHT, **options})


def fresh(database, adapter, folder, **options):
    """Return the rows now, and those of an empty database that sees the folder for the first time."""
    found = rows_of_tables(database)
    empty(database)
    assert ingest.run(adapter, folder, lab="testlab", **options).failed == 0
    return found, rows_of_tables(database)


def alone(database, folder, **options):
    """Return the rows of an empty database that saw only the right command."""
    empty(database)
    assert run(folder, **options).failed == 0
    return rows_of_tables(database)


@pytest.fixture
def folder(tmp_path):
    """A folder of two cells with two sweeps each."""
    for number in (0, 1):
        (tmp_path / "lab").mkdir(exist_ok=True)
        write_cell(tmp_path / "lab", number, sweeps=sweeps_of(number)[:2])
    return tmp_path / "lab"


@pytest.mark.parametrize(
    "wrong", [{"subject": "m2"}, {"session_date": "2026-01-03"}, {"session_number": 3}, {"species": "Rattus"}]
)
def test_a_corrected_option_leaves_nothing_of_the_wrong_one(database, folder, wrong):
    first = run(folder, **wrong)
    populate.run(["RecordingStimulus"])
    assert len(RecordingStimulus()) == 4
    would_be = run(folder, dry_run=True)
    report = run(folder)
    assert report.failed == 0 and len(Recording()) == 4
    assert would_be.removed == report.removed and would_be.outdated == report.outdated
    if "species" not in wrong:
        assert report.removed["recording.Recording"] == 4 and report.outdated["recording.RecordingStimulus"] == 4
        assert len(RecordingStimulus()) == 0
        gone = (ingestion.Change & {"table_name": "recording.Recording", "run": report.run}).to_dicts()
        assert len(gone) == 4 and {row["new_values"] for row in gone} == {None}
        assert gone[0]["old_values"]["source"] == first.source
        assert "taken out: " in str(report)
    found = rows_of_tables(database)
    found.pop("recording.RecordingStimulus", None)  # of the same sweeps, where only the species was wrong
    assert found == alone(database, folder)


def test_a_person_s_row_stays_and_is_no_unit_s(database, folder):
    upsert(lab.Lab, [{"lab": "testlab"}])
    upsert(subject.Subject, [{"lab": "testlab", "subject": "m2", "subject_uuid": make_uuid("m2"), "sex": "F"}])
    run(folder, subject="m2")
    assert run(folder).removed["session.Session"] == 1
    assert sorted(subject.Subject().to_arrays("subject").tolist()) == ["m1", "m2"]
    assert (subject.Subject & {"subject": "m2"}).fetch1("sex") == "F"


def test_a_sweep_taken_out_of_a_mapping_leaves_the_rheobase(database, folder):
    mapping = {
        "files_metadata": {"c": {"IDrest": [{"filepath": "cell0.h5"}, {"filepath": "cell1.h5"}]}},
        "cells": {"c": {"subject": "m1", "session_date": "2026-01-02"}},
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump(mapping))
    run(folder)
    populate.run(["RecordingStimulus", "Rheobase"])
    n_sweeps = len(Recording())
    mapping["files_metadata"]["c"]["IDrest"].pop()
    (folder / "metadata.yaml").write_text(yaml.safe_dump(mapping))
    report = run(folder)
    assert (report.changed, report.removed["recording.Recording"]) == (1, n_sweeps - 2)
    assert report.outdated["rheobase.Rheobase"] > 0 and len(rheobase.Rheobase()) == 0
    populate.run(["Rheobase"])
    assert set(rheobase.Rheobase().to_arrays("n_recordings")) == {2}
    mapping["files_metadata"]["d"] = mapping["files_metadata"].pop("c")  # another name for the cell
    mapping["cells"]["d"] = mapping["cells"].pop("c")
    (folder / "metadata.yaml").write_text(yaml.safe_dump(mapping))
    run(folder)
    assert Cell().to_arrays("cell").tolist() == ["d"]


@pytest.mark.parametrize("how", ["datajoint", "sql", "cascade"])
def test_rows_that_were_deleted_come_back(database, folder, how):
    run(folder)
    before = rows_of_tables(database)
    if how == "datajoint":
        (Recording & {"cell": "cell0"}).delete(prompt=False)
    elif how == "sql":
        (Recording & {"cell": "cell0"}).delete_quick()
    else:
        (subject.Subject & {"subject": "m1"}).delete(prompt=False)
    report = run(folder)
    n_units = 2 if how == "cascade" else 1
    assert (report.restored, report.unchanged, report.failed) == (n_units, 2 - n_units, 0)
    assert f"{n_units} units had lost rows and were read again" in str(report)
    assert rows_of_tables(database) == before
    assert run(folder).unchanged == 2


def test_a_lab_s_own_row_is_not_deleted_and_named(database, folder):
    run(folder, subject="m2")
    connection = database.connection
    schema = dj.Schema(f"{database.prefix}own", {"Cell": Cell}, connection=connection)

    @schema
    class Note(dj.Manual):
        definition = """
        -> Cell
        ---
        note : varchar(64)
        """

    try:
        eid = session.Session().fetch1("eid")
        Note.insert1({"eid": eid, "cell": "cell1", "note": "nice"})
        before = rows_of_tables(database)
        report = run(folder)
        assert (report.failed, report.changed) == (1, 1)
        (failure,) = report.failures
        assert failure.path == "cell1.h5"
        assert "own" in failure.message and "cell cell1" in failure.message and "hangs on it" in failure.message
        assert len(Cell & {"eid": eid}) == 1 and len(before["recording.Cell"]) == 2
        Note.delete_quick()
        assert run(folder).failed == 0
        found = rows_of_tables(database)
    finally:
        schema.drop(prompt=False)
    assert found == alone(database, folder)


def test_a_location_of_another_lab_is_refused_moved_or_kept_by_both(database, folder, tmp_path):
    run(folder, lab="wronglab")
    before = rows_of_tables(database)
    with pytest.raises(ConfigError, match=r"ingested for the lab wronglab, as the source ephys-lab-.*--move.*--also"):
        run(folder)
    with pytest.raises(ConfigError, match="moved as a whole"):
        run(folder / "cell0.h5", move=True)
    assert rows_of_tables(database) == before
    both = run(folder, also=True)
    assert both.new == 2 and len(Recording()) == 8
    assert run(folder).unchanged == run(folder, lab="wronglab").unchanged == 2
    ingest.forget(both.source)
    assert rows_of_tables(database) == before
    moved = run(folder, move=True)
    assert (moved.changed, moved.failed) == (2, 0)
    assert run(folder).unchanged == 2
    found = rows_of_tables(database)
    assert found == alone(database, folder)


@pytest.mark.parametrize("kind", [adapters.TestAlf(), adapters.TestOneData()], ids=lambda kind: kind.adapter)
def test_a_dry_run_of_a_move_counts_as_the_move(database, tmp_path, kind):
    """Records of files stay when their datasets are the other lab's."""
    for number in (0, 1):
        kind.write_unit(tmp_path, number)
    ingest.run(kind.adapter, tmp_path, lab="wronglab", **kind.options)
    would, did = (
        ingest.run(kind.adapter, tmp_path, lab="testlab", move=True, dry_run=is_dry, **kind.options)
        for is_dry in (True, False)
    )
    assert would.failed == did.failed == 0 and would.removed["dataset.Dataset"] == 4
    assert (would.removed, would.rows) == (did.removed, did.rows)


def test_two_labs_have_file_records_of_their_own(database, tmp_path):
    alf = tmp_path / "data/m1/2026-01-02/001/alf"
    alf.mkdir(parents=True)
    np.save(alf / "a.b.npy", np.zeros(3))
    ingest.run("alf", tmp_path / "data", lab="one")
    before = rows_of_tables(database)
    second = ingest.run("alf", tmp_path / "data", lab="two", also=True)
    assert len(dataset.FileRecord & {"present": True}) == len(dataset.Dataset & {"is_present": True}) == 2
    for name in ("one", "two"):
        assert ingest.run("alf", tmp_path / "data", lab=name).unchanged == 1
    ingest.forget(second.source)
    assert rows_of_tables(database) == before


def test_again_undoes_edits_and_says_how_many(database, folder):
    run(folder)
    before = rows_of_tables(database)
    (key,) = (Recording & {"cell": "cell0"}).keys(limit=1)
    Recording.update1({**key, "reader": "igor"})
    Cell.update1({name: key[name] for name in ("eid", "cell")} | {"cell_type": "basket"})
    assert run(folder).unchanged == 2
    shown = run(folder, again=True, dry_run=True)
    report = run(folder, again=True)
    assert shown.corrected == report.corrected == 2
    assert "2 rows were edited by hand" in str(report)
    assert rows_of_tables(database) == before
    assert run(folder, again=True).corrected == 0


def test_what_is_forgotten_stays_away_until_it_is_wanted(database, folder):
    source = run(folder).source
    both = rows_of_tables(database)
    shutil.move(folder / "cell1.h5", folder.parent)
    one = alone(database, folder)
    shutil.move(folder.parent / "cell1.h5", folder)
    run(folder)
    shown = ingest.forget(source, ["cell1.h5"], dry_run=True)
    assert rows_of_tables(database) == both
    told = ingest.forget(source, ["cell1.h5"])
    assert (told.removed, told.units) == (shown.removed, ["cell1.h5"]) and told.removed["recording.Recording"] == 2
    assert rows_of_tables(database) == one
    again = run(folder)
    assert (again.seen, again.unchanged, again.forgotten) == (2, 1, 1)
    assert rows_of_tables(database) == one
    with pytest.raises(ConfigError, match="no unit 'nothing'"):
        ingest.forget(source, ["nothing"])
    ingest.forget(source)
    assert not Recording() and run(folder).forgotten == 2 and not Recording()
    assert len(ingest.forget(source, undo=True).units) == 2
    assert run(folder).new == 2
    assert rows_of_tables(database) == both


def test_rows_of_before_units_knew_theirs_are_theirs(database, folder):
    run(folder, subject="m2")
    ingestion.Given.delete_quick()
    ingestion.Shared.delete_quick()
    assert run(folder, subject="m2").failed == 0
    run(folder)
    found = rows_of_tables(database)
    assert found == alone(database, folder)


@pytest.mark.parametrize("wrong", [{"subject": "m2"}, {"lab": "wronglab"}])
def test_older_units_are_read_as_before_when_the_command_is_corrected(database, folder, wrong):
    run(folder, **wrong)
    ingestion.Given.delete_quick()
    ingestion.Shared.delete_quick()
    would_be = run(folder, move="lab" in wrong, dry_run=True)
    assert would_be.notes[0].startswith("would be read first as before, with ")
    report = run(folder, move="lab" in wrong)
    assert (report.failed, report.removed["recording.Recording"]) == (0, 4)
    assert f"read first as before, with {' '.join(*wrong.items())}, " in str(report)
    assert not run(folder).notes
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_recordings_whose_files_are_away_enter_no_new_result(database, folder):
    run(folder)
    populate.run(["RecordingStimulus", "Rheobase"])
    made = len(rheobase.Rheobase())
    shutil.move(folder / "cell0.h5", folder.parent)
    report = run(folder)
    assert report.vanished == ["cell0.h5"] and len(Recording & {"recording_vanished": report.run}) == 2
    assert populate.run(["Rheobase"]).made == 0 and len(rheobase.Rheobase()) == made
    rheobase.Rheobase.delete_quick()
    populate.run(["Rheobase"])
    assert set(rheobase.Rheobase().to_arrays("cell")) == {"cell1"}
    shutil.move(folder.parent / "cell0.h5", folder)
    run(folder)
    populate.run(["Rheobase"])
    assert len(rheobase.Rheobase()) == made


def test_what_a_server_has_too_stays(database, folder):
    run(folder, subject="m2")
    disown(database.connection, subject.Subject, [{"lab": "testlab", "subject": "m2"}])  # as a sync does
    Session = session.Session
    Session.update1({"eid": Session().fetch1("eid"), "source_stamp": "2026-01-02 10:00:00"})
    report = run(folder)
    assert report.failed == 0 and sorted(subject.Subject().to_arrays("subject").tolist()) == ["m1", "m2"]
    assert len(Session()) == 2 and len(Cell()) == 2


def test_a_subject_renamed_by_a_server_keeps_its_name(database, folder):
    run(folder)
    key = subject.Subject().fetch1("KEY")
    set_values(subject.Subject, {"subject": "M-1"}, key)
    before = rows_of_tables(database)
    for _ in range(2):
        report = run(folder)
        assert report.failed == 0 and rows_of_tables(database) == before
    assert (report.unchanged, report.restored) == (2, 0)


def test_a_folder_that_can_not_be_read_is_a_failure(database, folder, monkeypatch):
    """Root may read every folder, so the system's answer is put in its place."""
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refuse(path="."):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = run(folder)
    assert (report.new, report.failed) == (2, 1)
    assert report.failures[0].path == "locked" and "Permission denied" in report.failures[0].message


def test_a_copy_is_one_failure_that_names_both(database, folder):
    run(folder)
    before = rows_of_tables(database)
    shutil.copy(folder / "cell0.h5", folder / "copy of cell0.h5")
    report = run(folder)
    assert (report.unchanged, report.failed) == (2, 1)
    assert re.search(r"copy of cell0.h5 has the same bytes as \S+/cell0.h5, .*--allow-copies", str(report))
    assert rows_of_tables(database) == before
    assert run(folder / "cell0.h5").failed == 1  # the same file by another way
    (folder / "cell0.h5").unlink()
    assert run(folder).failed == 0  # it was moved
    assert rows_of_tables(database) != before


def test_two_commands_at_once_count_each_unit_once(database, database_url, folder):
    for number in range(2, 12):
        shifted = [{**sweep, "voltage": sweep["voltage"] + number} for sweep in sweeps_of(0)[:2]]
        write_cell(folder, number, sweeps=shifted)
    for subject_name in ("m2", "m1"):
        command = [sys.executable, "-m", "labweave", "--database", database_url, "--prefix", database.prefix]
        command += ["ingest", "ephys", str(folder), "--lab", "testlab", "--subject", subject_name]
        command += ["--session-date", "2026-01-02"]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in "ab"]
        told = [process.communicate(timeout=300)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], told
        check_counts()
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_moving_alf_folders_keeps_their_records(database, tmp_path):
    for number in (1, 2):
        alf = tmp_path / f"data/m1/2026-01-02/{number:03d}/alf"
        alf.mkdir(parents=True)
        np.save(alf / "a.b.npy", np.full(3, number))
        np.save(alf / f"c.d.0a0a0a0a-1b1b-4c4c-8d8d-0e0e0e0e0e0{number}.npy", np.full(3, number))
    ingest.run("alf", tmp_path / "data", lab="wronglab")
    moved = ingest.run("alf", tmp_path / "data", lab="testlab", move=True)
    assert moved.failed == 0
    found = rows_of_tables(database)
    empty(database)
    ingest.run("alf", tmp_path / "data", lab="testlab")
    assert found == rows_of_tables(database)


def test_a_folder_whose_files_were_never_hashed_is_known_at_its_new_place(database, tmp_path):
    for number in (0, 1):
        adapters.TestAlf().write_unit(tmp_path / "a", number)
    ingest.run("alf", tmp_path / "a", lab="testlab", no_hash=True)
    (tmp_path / "a").rename(tmp_path / "b")
    ingest.run("alf", tmp_path / "b", lab="testlab", no_hash=True)
    found, expected = fresh(database, "alf", tmp_path / "b", no_hash=True)
    assert found == expected


def test_a_folder_that_was_emptied_keeps_its_rows_marked(database, tmp_path):
    alf = tmp_path / "m1/2026-01-02/001/alf"
    alf.mkdir(parents=True)
    np.save(alf / "a.b.npy", np.zeros(3))
    ingest.run("alf", tmp_path, lab="testlab")
    (alf / "a.b.npy").unlink()
    report = ingest.run("alf", tmp_path, lab="testlab")
    assert report.vanished == ["m1/2026-01-02/001/alf/a.b.npy"] and report.removed == {}
    assert len(dataset.Dataset & {"dataset_vanished": report.run}) == 1


def test_swapped_files_are_no_copies(database, folder):
    run(folder)
    for old, new in (("cell0", "aside"), ("cell1", "cell0"), ("aside", "cell1")):
        (folder / f"{old}.h5").rename(folder / f"{new}.h5")
    report = run(folder)
    assert (report.changed, report.failed) == (2, 0), report
    found = rows_of_tables(database)
    assert found == alone(database, folder)


def test_subjects_that_were_swapped(database, folder):
    facts = {"session_date": "2026-01-02", "sex": "F"}
    mapping = {
        "files_metadata": {c: {"IDrest": [{"filepath": f"{c}.h5"}]} for c in ("cell0", "cell1")},
        "cells": {"cell0": {"subject": "m1", **facts}, "cell1": {"subject": "m2", **facts}},
    }
    for _ in range(2):
        (folder / "metadata.yaml").write_text(yaml.safe_dump(mapping))
        assert run(folder).failed == 0
        for c, name in (("cell0", "m2"), ("cell1", "m1")):
            mapping["cells"][c] = {"subject": name, "session_date": "2026-01-02"}  # and no sex
    found = rows_of_tables(database)
    assert {row["sex"] for row in subject.Subject().to_dicts()} == {"U"}
    assert found == alone(database, folder)


def test_results_that_a_person_s_rows_hang_on_are_not_deleted(database, folder):
    run(folder, subject="m2")
    populate.run(["RecordingStimulus"])
    schema = dj.Schema(
        f"{database.prefix}own2", {"RecordingStimulus": RecordingStimulus}, connection=database.connection
    )

    @schema
    class Curated(dj.Manual):
        definition = """
        -> RecordingStimulus
        """

    try:
        (key,) = (RecordingStimulus & {"cell": "cell0"}).keys(limit=1)
        Curated.insert1(key)
        report = run(folder)
        assert (report.failed, report.changed) == (1, 1)
        assert "Curated" in str(report) or "own2" in report.failures[0].message
        assert len(Curated()) == 1
    finally:
        schema.drop(prompt=False)


def test_a_source_s_name_is_not_taken_by_another_place(database, folder, tmp_path):
    run(folder, source="x")
    other = shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"The source x is .*lab, read by the adapter ephys"):
        run(other, source="x")


def forget_vanished():
    gone = (ingestion.SourceFile & {"file_status": "vanished"}).to_dicts()
    for source, unit in {(row["source"], row["unit"]) for row in gone}:
        ingest.forget(source, [unit])


def stytra(folder):
    report = ingest.run("stytra", folder, lab="testlab")
    assert report.failed == 0, report


@pytest.mark.parametrize("gone", ["okr", "copies"])
def test_a_copy_of_a_stytra_session_comes_in_when_its_original_is_gone(database, tmp_path, gone):
    write_session(tmp_path / "okr")
    stytra(tmp_path)
    shutil.copytree(tmp_path / "okr", tmp_path / "copies")  # and is now the first of the two
    stytra(tmp_path)
    found, expected = fresh(database, "stytra", tmp_path)
    assert found == expected
    shutil.rmtree(tmp_path / gone)
    stytra(tmp_path)
    forget_vanished()
    found, expected = fresh(database, "stytra", tmp_path)
    assert found == expected and len(found["task.TaskRun"]) == 1


def test_a_copy_that_was_written_into_is_no_copy(database, tmp_path):
    write_session(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    stytra(tmp_path)
    with (tmp_path / "a/okr/240305_f7/140709_behavior_log.csv").open("a") as file:
        file.write("5;1.0;0.4\n")
    stytra(tmp_path)
    found, expected = fresh(database, "stytra", tmp_path)
    assert found == expected and len(found["task.TaskRun"]) == 2


def test_metadata_that_come_later_leave_nothing_of_the_session_without(database, tmp_path):
    folder = write_session(tmp_path / "lab")
    (folder / "140709_metadata.json").rename(tmp_path / "kept")
    stytra(tmp_path / "lab")
    (tmp_path / "kept").rename(folder / "140709_metadata.json")
    stytra(tmp_path / "lab")
    found, expected = fresh(database, "stytra", tmp_path / "lab")
    assert found == expected


def test_an_animal_is_what_its_last_session_says_now(database, tmp_path):
    def write(*ages, **more):
        for day, age in enumerate(ages):
            write_session(tmp_path, start=START + dt.timedelta(days=day), animal={"age": age, **more})
        stytra(tmp_path)

    write(6, 7)
    write(6, 7, genotype="mitfa")  # corrected on both days, which no longer agree with the tables
    shutil.rmtree(tmp_path / "okr/240306_f7")
    stytra(tmp_path)
    assert subject.Subject().fetch1("subject_json")["stytra"]["age"] == 6
    (path,) = tmp_path.glob("okr/*/*_metadata.json")
    path.unlink()  # only the log is left, which says nothing
    stytra(tmp_path)
    forget_vanished()
    found, expected = fresh(database, "stytra", tmp_path)
    assert found == expected


def test_a_file_of_two_labs_is_read_again_for_both(database, folder):
    run(folder, lab="wronglab")
    run(folder, also=True)
    write_cell(folder, 0, sweeps=sweeps_of(0)[:1])
    for lab_name in ("wronglab", "testlab"):
        report = run(folder, lab=lab_name)
        assert (report.changed, report.failed) == (1, 0), report


def write_trials(root, x):
    folder = root / "p0/reaching"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trials.csv").write_text(f"x,block,trial\n{x},0,0\n2.5,0,1\n")


def test_a_data_root_that_was_moved_and_then_edited_is_the_same_experiment(database, tmp_path):
    table = tmp_path / "a/root/p0/reaching/trials.csv"
    table.parent.mkdir(parents=True)
    table.write_text("x,block,trial\n1.5,0,0\n2.5,0,1\n")
    ingest.run("axopy", tmp_path / "a/root", lab="testlab")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b/root/p0/reaching/trials.csv").write_text("x,block,trial\n3.5,0,0\n")
    ingest.run("axopy", tmp_path / "b/root", lab="testlab")
    for source in ingestion.Source().to_dicts():
        if not Path(source["location"]).exists():
            ingest.forget(source["source"])
    found, expected = fresh(database, "axopy", tmp_path / "b/root")
    assert found == expected


def variables(root, **files):
    one = OneDataSession("M1", "2024-01-02", "7", root=root)
    for name, value in files.items():
        one.saveone(value, name.replace("_", "."))
    report = ingest.run("onedata", root, lab="testlab")
    return one, report


def test_a_file_does_not_replace_a_recipe_that_a_person_made(database, tmp_path):
    variables(tmp_path, mpci_times=np.zeros(3))
    eid = session.Session().fetch1("eid")
    save_recipe(eid, LoadingRecipe("constant", None, value=1.5, shape=[3]), "mpci.gain")
    before = rows_of_tables(database)
    one, report = variables(tmp_path, mpci_gain=np.ones(3))
    assert report.failed == 1 and "mpci.gain is a recipe in the database alone" in report.failures[0].message
    assert rows_of_tables(database) == before
    one.clear_one_data(["mpci.gain"], certainty=True)
    assert variables(tmp_path)[1].failed == 0
    assert rows_of_tables(database) == before
    remove_recipe(eid, "mpci.gain")
    variables(tmp_path, mpci_gain=np.ones(3))
    found, expected = fresh(database, "onedata", tmp_path)
    assert found == expected


def test_the_first_of_two_folders_is_the_session_whichever_came_first(database, tmp_path):
    for session_id in ("7", "07"):
        one = OneDataSession("M1", "2024-01-02", session_id, root=tmp_path)
        one.saveone(np.zeros(3), "mpci.times")
        report = ingest.run("onedata", tmp_path, lab="testlab")
    (failure,) = report.failures
    assert failure.path == "M1/2024-01-02/7" and "are the same session, M1 2024-01-02 7" in failure.message
    shutil.rmtree(tmp_path / "M1/2024-01-02/7")
    ingest.run("onedata", tmp_path, lab="testlab")
    forget_vanished()
    found, expected = fresh(database, "onedata", tmp_path)
    assert found == expected


def rename(table, attribute, name):
    """Rename rows by SQL, where the server lets anybody."""
    try:
        set_values(table, {attribute: "renamed"}, {attribute: name})
    except IntegrityError:
        pytest.skip("MySQL 9.7 lets no key change that tables further down refer to")


@pytest.mark.parametrize(("table", "attribute", "name"), [(Cell, "cell", "cell0"), (Protocol, "protocol", "IDrest")])
def test_what_was_renamed_in_the_database_is_called_as_its_source_says(database, folder, table, attribute, name):
    run(folder)
    populate.run(["RecordingStimulus"])
    before = rows_of_tables(database)
    rename(table, attribute, name)
    report = run(folder)
    assert report.failed == 0 and report.corrected == 1
    assert rows_of_tables(database) == before  # and its results are there


def test_what_was_renamed_before_its_folder_was_moved_is_there_once(database, tmp_path):
    write_trials(tmp_path / "a", 1.5)
    ingest.run("axopy", tmp_path / "a", lab="testlab")
    rename(task.Task, "task", "reaching")
    (tmp_path / "a").rename(tmp_path / "b")
    assert ingest.run("axopy", tmp_path / "b", lab="testlab").corrected == 1
    found, expected = fresh(database, "axopy", tmp_path / "b")
    assert found == expected


def test_rows_that_were_renamed_are_forgotten_with_their_unit(database, tmp_path):
    write_trials(tmp_path / "a", 1.5)
    source = ingest.run("axopy", tmp_path / "a", lab="testlab").source
    rename(task.Task, "task", "reaching")
    ingest.forget(source, ["p0/reaching"])
    assert len(task.TaskRun()) == len(task.Task()) == len(session.Session()) == 0


def test_what_was_renamed_of_a_unit_that_is_gone_leaves_nothing_behind(database, tmp_path):
    """Another unit gives the same task, for the first time after it was renamed."""
    write_trials(tmp_path, 1.5)
    source = ingest.run("axopy", tmp_path, lab="testlab").source
    (tmp_path / "p0").rename(tmp_path / "p1")
    rename(task.Task, "task", "reaching")
    ingest.run("axopy", tmp_path, lab="testlab")
    ingest.forget(source, ["p0/reaching"])
    found, expected = fresh(database, "axopy", tmp_path)
    assert found == expected


def test_a_person_s_run_is_not_taken_for_one_that_was_renamed(database, tmp_path):
    write_trials(tmp_path / "a", 1.5)
    ingest.run("axopy", tmp_path / "a", lab="testlab")
    own = {**task.TaskRun().keys()[0], "task": "mine"}
    task.Task.insert1({"task": "mine"})
    task.TaskRun.insert1({**own, "run_status": "complete", "n_run_trials": 0})
    (task.TaskRun & {"task": "reaching"}).delete(prompt=False)
    assert ingest.run("axopy", tmp_path / "a", lab="testlab").restored == 1
    assert (task.TaskRun & own).fetch1("n_run_trials") == 0
    assert sorted(task.TaskRun().to_arrays("task")) == ["mine", "reaching"]


@pytest.mark.parametrize("is_run_deleted", [False, True])
def test_what_a_forgotten_unit_said_otherwise_is_said_again_by_the_next_ingest(database, tmp_path, is_run_deleted):
    for day in (0, 1):
        last = write_session(tmp_path, start=START + dt.timedelta(days=day), animal={"id": "f1", "age": 5 + day})
    source = ingest.run("stytra", tmp_path, lab="testlab").source
    gone = ingestion.SourceFile().to_arrays("unit", order_by="unit").tolist()[-1]
    shutil.rmtree(last)
    if is_run_deleted:
        (task.TaskRun & {"run_path": gone}).delete(prompt=False)
    ingest.run("stytra", tmp_path, lab="testlab")
    assert subject.Subject().fetch1("subject_json")["stytra"]["age"] == 5
    report = ingest.forget(source, [gone])
    assert f"{source} gives some of the same rows, with other values: ingest it again" in str(report)
    assert ingest.run("stytra", tmp_path, lab="testlab").failed == 0
    found, expected = fresh(database, "stytra", tmp_path)
    assert found == expected and subject.Subject().fetch1("subject_json")["stytra"]["age"] == 5

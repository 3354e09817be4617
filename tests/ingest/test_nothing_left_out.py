"""What could not be ingested is named, remembered until it is solved, and not read again before it changes."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import test_every_adapter as every
from igor_files import write_pairs, write_wave
from simulated import LAB, OPTIONS, write_cell, write_cells

from labweave import ingest
from labweave.errors import ConfigError, SourceError
from labweave.formats.onedata import FOLDERS
from labweave.ingest import loading
from labweave.schemas import ingestion, recording, session, task
from labweave.testing import empty, rows_of_tables


def run(folder, **options):
    return ingest.run("ephys", folder, **{**OPTIONS, **options})


def still_failing():
    return sorted(ingestion.OpenFailure().to_arrays("path").tolist())


def damage_unseen(path):
    """Damage a file, size and time left as they are, and return its sound bytes."""
    sound, stat = path.read_bytes(), path.stat()
    path.write_bytes(b"damaged!" + sound[8:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return sound


def repair_unseen(path, sound):
    stat = path.stat()
    path.write_bytes(sound)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_bad_file_is_not_read_again_before_it_changes(database, tmp_path):
    write_cells(tmp_path, 2)
    sound = damage_unseen(tmp_path / "cell1.h5")
    first = run(tmp_path)
    assert (first.new, first.failed, first.known_failures, first.exit_code) == (1, 1, 0, 1)
    repair_unseen(tmp_path / "cell1.h5", sound)
    second = run(tmp_path)
    assert (second.unchanged, second.failed, second.known_failures, second.exit_code) == (1, 1, 1, 1)
    assert second.failures == [] and "1 known failures, unchanged" in str(second)
    assert still_failing() == ["cell1.h5"]
    third = run(tmp_path, again=True)
    assert (third.failed, third.known_failures, third.exit_code) == (0, 0, 0)
    assert len(recording.Cell()) == 2 and still_failing() == []


@pytest.mark.parametrize("what", ["time", "option"])
def test_a_bad_file_is_read_again_when_something_changes(database, tmp_path, what):
    sound = damage_unseen(write_cell(tmp_path, 0))
    run(tmp_path)
    repair_unseen(tmp_path / "cell0.h5", sound)
    assert run(tmp_path).known_failures == 1
    if what == "time":
        (tmp_path / "cell0.h5").touch()
    report = run(tmp_path, **({"cell_type": "PC"} if what == "option" else {}))
    assert (report.new, report.failed, still_failing()) == (1, 0, [])


def test_what_may_pass_though_the_file_stays_is_tried_by_every_run(database, tmp_path):
    write_cells(tmp_path, 1)
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "cell1.h5"
    copy.write_bytes((tmp_path / "cell0.h5").read_bytes())
    assert run(tmp_path).failed == 1
    second = run(tmp_path)
    assert (second.failed, second.known_failures, len(second.failures)) == (1, 0, 1)
    (tmp_path / "cell0.h5").unlink()
    third = run(tmp_path)
    assert (third.new, third.failed, still_failing()) == (1, 0, [])


@pytest.mark.parametrize("how", ["removed", "forgotten", "left out of a mapping"])
def test_a_failure_is_gone_with_its_unit(database, tmp_path, how):
    write_cells(tmp_path, 2)
    damage_unseen(tmp_path / "cell1.h5")
    source = run(tmp_path).source
    assert still_failing() == ["cell1.h5"]
    if how == "removed":
        (tmp_path / "cell1.h5").unlink()
        assert run(tmp_path).failed == 0
    elif how == "forgotten":
        ingest.forget(source, ["cell1.h5"])
        assert still_failing() == []
        assert run(tmp_path).forgotten == 1
    else:
        (tmp_path / "metadata.csv").write_text("cell,protocol,filepath\ncell0,IDrest,cell0.h5\n")
        assert run(tmp_path).failed == 0
    assert still_failing() == []


def test_a_dry_run_remembers_nothing(database, tmp_path):
    damage_unseen(write_cell(tmp_path, 0))
    assert run(tmp_path, dry_run=True).failed == 1
    assert still_failing() == []


def test_a_file_that_is_no_recording_is_refused_before_it_is_hashed(database, tmp_path):
    write_cells(tmp_path, 1)
    with (tmp_path / "cell1.h5").open("wb") as file:
        file.truncate(1 << 40)  # hashing it would take half an hour
    report = run(tmp_path)
    assert (report.new, report.failed) == (1, 1) and "HDF5" in report.failures[0].message


def test_a_forgotten_option_leaves_no_failures(database, tmp_path):
    write_cells(tmp_path, 3)
    for _ in range(2):
        with pytest.raises(ConfigError, match="none says its subject"):
            ingest.run("ephys", tmp_path, lab=OPTIONS["lab"])
        assert still_failing() == []
    assert run(tmp_path).new == 3


def test_a_file_that_becomes_bad_keeps_its_rows(database, tmp_path):
    write_cells(tmp_path, 2)
    run(tmp_path)
    before = rows_of_tables(database)
    path = tmp_path / "cell1.h5"
    sound = path.read_bytes()
    path.write_bytes(sound[:1000])  # it is being copied
    assert [run(tmp_path).known_failures for _ in range(2)] == [0, 1]
    assert rows_of_tables(database) == before
    path.write_bytes(sound)
    assert run(tmp_path).failed == 0 and still_failing() == []
    found = rows_of_tables(database)
    empty(database)
    run(tmp_path)
    assert rows_of_tables(database) == found == before


def test_a_bad_file_refuses_itself_and_not_its_cell(database, tmp_path):
    cell = tmp_path / "cell7"
    write_pairs(cell, 20)
    write_pairs(tmp_path / "cell8", 1, "IV", 50)
    (cell / "X (1).ibw").write_bytes((cell / "X_IDrest_ch0_3.ibw").read_bytes())
    (cell / "X_IDrest_ch0_98.ibw").touch()
    write_wave(cell / "X_IDrest_ch0_99.ibw", "pA", 99)
    first = run(tmp_path)
    bad = [f"cell7/{name}" for name in ("X (1).ibw", "X_IDrest_ch0_98.ibw", "X_IDrest_ch0_99.ibw")]
    assert (first.seen, first.new, first.failed, first.refused, first.exit_code) == (2, 2, 0, 3, 1)
    assert sorted(failure.path for failure in first.failures) == bad == still_failing()
    assert len(recording.Recording & {"cell": "cell7"}) == 20
    second = run(tmp_path)
    assert (second.unchanged, second.refused, second.known_failures, second.exit_code) == (2, 3, 3, 1)
    assert still_failing() == bad
    write_wave(cell / "X_IDrest_ch0_98.ibw", "pA", 98)
    write_wave(cell / "X_IDrest_ch1_98.ibw", "mV", -98.5)
    write_wave(cell / "X_IDrest_ch1_99.ibw", "mV", -99.5)
    (cell / "X (1).ibw").unlink()
    third = run(tmp_path)
    assert (third.changed, third.unchanged, third.refused, third.exit_code) == (1, 1, 0, 0)
    assert len(recording.Recording & {"cell": "cell7"}) == 22 and still_failing() == []


def mapped(folder, **protocols):
    cells = {"c": {"subject": "m1", "session_date": "2026-01-02"}}
    (folder / "metadata.json").write_text(json.dumps({"files_metadata": {"c": protocols}, "cells": cells}))


def test_a_bad_file_of_a_mapping_is_named_and_the_others_go_in(database, tmp_path):
    write_cells(tmp_path, 3)
    (tmp_path / "cell1.h5").write_bytes(b"damaged")
    write_pairs(tmp_path, 2)
    (tmp_path / "X_IDrest_ch1_1.ibw").write_bytes(b"")
    pairs = [{"v_file": f"X_IDrest_ch1_{n}.ibw", "i_file": f"X_IDrest_ch0_{n}.ibw"} for n in (0, 1)]
    files = [{"filepath": f"cell{n}.h5", "sweep": "sweep_000"} for n in (0, 1)]
    mapped(tmp_path, IDrest=[*files, {"filepath": "cell2.h5", "sweep": ["sweep_001", "sweep_777"]}], IV=pairs)
    for known in (0, 3):
        report = run(tmp_path)
        assert (report.failed, report.refused, report.known_failures) == (0, 3, known)
    assert still_failing() == ["X_IDrest_ch1_1.ibw", "cell1.h5", "cell2.h5#sweep_777"]
    names = sorted(recording.Recording().to_arrays("recording").tolist())
    assert names == ["X_IDrest_ch1_0", "cell0#sweep_000", "cell2#sweep_001"]


@pytest.mark.parametrize("kind", ["folder", "mapping"])
def test_what_a_file_that_becomes_bad_gave_stays_until_it_can_be_read(database, tmp_path, kind):
    write_pairs(tmp_path / "cell7", 3)
    if kind == "mapping":
        mapped(
            tmp_path,
            IDrest=[
                {role: f"cell7/X_IDrest_ch{ch}_{n}.ibw" for role, ch in (("i_file", 0), ("v_file", 1))}
                for n in range(3)
            ],
        )
    run(tmp_path)
    before = rows_of_tables(database)
    path = tmp_path / "cell7" / "X_IDrest_ch1_1.ibw"
    sound = path.read_bytes()
    path.write_bytes(sound[:400])
    report = run(tmp_path)
    assert report.refused > 0 and report.removed == {} and rows_of_tables(database) == before
    path.write_bytes(sound)
    assert run(tmp_path).refused == 0 and rows_of_tables(database) == before and still_failing() == []
    for half in path, path.with_name("X_IDrest_ch0_1.ibw"):
        half.unlink()
    if kind == "folder":
        assert run(tmp_path).removed["recording.Recording"] == 1


def test_a_corrected_subject_takes_along_what_a_bad_file_gave(database, tmp_path):
    write_pairs(tmp_path / "cell7", 3)
    run(tmp_path, subject="wrong")
    (tmp_path / "cell7" / "X_IDrest_ch1_1.ibw").write_bytes(b"")
    report = run(tmp_path, subject="right")
    assert report.refused == 2 and report.removed["recording.Recording"] == 3
    assert session.Session().to_arrays("subject").tolist() == ["right"] and len(recording.Recording()) == 2


@pytest.fixture
def locked(monkeypatch):
    """Names of folders that can't be read; root may read every folder, so the system's answer is put in its place."""
    names = {"locked"}

    def refusing(real):
        def look(path="."):
            if Path(path).name in names:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        return look

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    return names


EVERY = (every.TestEphys, every.TestAlf, every.TestAxopy, every.TestStytra, every.TestOneData)


@pytest.mark.parametrize("adapter", EVERY, ids=lambda each: each.adapter)
def test_a_folder_that_can_not_be_read_is_a_failure(database, tmp_path, locked, adapter):
    adapter().write_unit(tmp_path, 0)
    (tmp_path / "locked").mkdir()
    report = ingest.run(adapter.adapter, tmp_path, lab=LAB, **adapter.options)
    assert (report.new, report.failed, report.failures[0].path) == (1, 1, "locked")
    assert report.failures[0].message.startswith(f"{tmp_path / 'locked'}: Permission denied.")
    assert still_failing() == ["locked"]
    locked.clear()
    assert ingest.run(adapter.adapter, tmp_path, lab=LAB, **adapter.options).failed == 0 and still_failing() == []


@pytest.mark.parametrize("adapter", EVERY[1:], ids=lambda each: each.adapter)
def test_what_was_in_a_folder_stays_while_it_can_not_be_read(database, tmp_path, locked, adapter):
    for number in (0, 1):
        adapter().write_unit(tmp_path, number)
    run_it = functools.partial(ingest.run, adapter.adapter, tmp_path, lab=LAB, **adapter.options)
    run_it()
    before = rows_of_tables(database)
    locked.add(next(path.name for path in sorted(tmp_path.rglob("*")) if path.is_dir() and path.name != "locked"))
    report = run_it()
    assert report.failed > 0 and report.removed == {} and report.vanished == []
    assert rows_of_tables(database) == before
    locked.clear()
    assert run_it().failed == 0 and rows_of_tables(database) == before


def test_a_location_that_can_not_be_read_says_so(database, tmp_path, locked):
    (tmp_path / "locked").mkdir()
    for adapter in ("ephys", "alf", "axopy", "stytra", "onedata"):
        with pytest.raises(SourceError, match="locked: Permission denied"):
            ingest.run(adapter, tmp_path / "locked", lab=LAB)


NFC, NFD = "z\u00e9", "ze\u0301"


def two_cells(folder, one, other):
    """Write two cells into folders or files of these names."""
    for number, name in enumerate((one, other)):
        write_cell(
            folder / name if not name.endswith(".h5") else folder, number, file=name if name.endswith(".h5") else None
        )


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("day1", "Day1", "case"),
        ("a.h5", "A.h5", "case"),
        (NFC, NFD, "NFC, NFD"),
        (f"{NFC}.h5", f"{NFD}.h5", "NFC, NFD"),
    ],
)
@pytest.mark.parametrize("window", [20_000, 1])
def test_names_that_differ_by_case_or_form_alone_are_refused_together(
    database, tmp_path, monkeypatch, one, other, how, window
):
    monkeypatch.setattr(loading, "WINDOW_FILES", window)
    two_cells(tmp_path, one, other)
    write_cell(tmp_path, 2)
    report = run(tmp_path)
    assert (report.seen, report.new, report.failed) == (3, 1, 2)
    for failure in report.failures:
        assert all(text in failure.message for text in (str(tmp_path / one), str(tmp_path / other), how))
    assert recording.Cell().to_arrays("cell").tolist() == ["cell2"]
    assert run(tmp_path).failed == 2
    allowed = run(tmp_path, allow_case=True)
    assert allowed.failed == (0 if how == "case" else 2)
    (tmp_path / other).rename(tmp_path / f"else {other}")
    assert run(tmp_path, allow_case=True).failed == 0 and len(recording.Cell()) == 3 and still_failing() == []


def test_a_forgotten_unit_clashes_with_nothing(database, tmp_path):
    two_cells(tmp_path, "a.h5", "A.h5")
    ingest.forget(run(tmp_path).source, ["A.h5"])
    assert (run(tmp_path).new, still_failing()) == (1, [])


@pytest.mark.parametrize("adapter", EVERY, ids=lambda each: each.adapter)
def test_folders_that_differ_by_case_are_refused_by_every_adapter(database, tmp_path, adapter):
    for name in ("s", "S"):
        (tmp_path / name).mkdir()
        adapter().write_unit(tmp_path / name, 0)
    inner = next(path for path in sorted((tmp_path / "s").iterdir()))
    outer = tmp_path / "root"
    outer.mkdir()
    inner.rename(outer / inner.name)
    twin = inner.name.swapcase() if inner.is_dir() or adapter is not every.TestEphys else f"{inner.stem.upper()}.h5"
    (tmp_path / "S" / inner.name).rename(outer / twin)
    report = ingest.run(adapter.adapter, outer, lab=LAB, **adapter.options)
    assert (report.new, report.failed) == (0, 2), report
    assert all(str(outer / name) in failure.message for name in (inner.name, twin) for failure in report.failures)


def test_a_control_character_in_a_name_is_refused_and_spelled_out(database, tmp_path):
    write_cell(tmp_path / "day\n1", 0)
    write_pairs(tmp_path / "cell7", 2)
    (tmp_path / "cell7" / "X_IDrest_ch0_1.ibw").rename(tmp_path / "cell7" / "X\x07_IDrest_ch0_1.ibw")
    report = run(tmp_path)
    assert (report.new, report.failed, report.refused) == (1, 2, 1)
    paths = sorted(failure.path for failure in report.failures)
    assert paths == ["cell7/X\\x07_IDrest_ch0_1.ibw", "cell7/X_IDrest_ch1_1.ibw", "day\\n1/cell0.h5"] == still_failing()
    assert all("control character" in f.message and "\n" not in f.message for f in report.failures if "\\" in f.path)


@pytest.mark.parametrize("adapter", EVERY, ids=lambda each: each.adapter)
@pytest.mark.parametrize("where", ["out", "nowhere", "in", "round"])
def test_a_link_to_a_folder_is_named_and_one_that_leaves_the_root_fails(database, tmp_path, adapter, where):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
        adapter().write_unit(folder, 0)
    inner = next(path for path in sorted(root.iterdir()))
    link = root / "linked"
    link.symlink_to({"out": outside, "nowhere": tmp_path / "gone", "in": inner.parent, "round": link}[where])
    run_it = functools.partial(ingest.run, adapter.adapter, root, lab=LAB, **adapter.options)
    report = run_it()
    assert report.new == 1
    if where == "in":
        assert (report.failed, report.exit_code) == (0, 0)
        assert any("linked: links to folders are not followed" in note for note in report.notes)
    else:
        assert (report.failed, report.exit_code, report.failures[0].path) == (1, 1, "linked"), report
        leads = "nowhere" if where == "round" else f"out of {root}"
        assert f"{link}: the link leads {leads}" in report.failures[0].message
        assert still_failing() == ["linked"]
    link.unlink()
    again = run_it()
    assert (again.unchanged, again.failed, again.notes, still_failing()) == (1, 0, [], [])


@pytest.mark.parametrize("adapter", EVERY, ids=lambda each: each.adapter)
@pytest.mark.parametrize("where", ["out", "nowhere", "in"])
def test_a_link_to_a_file_that_leaves_the_root_is_refused(database, tmp_path, adapter, where):
    root = tmp_path / "root"
    root.mkdir()
    adapter().write_unit(root, 0)
    files = {"ephys": "cell0.h5", "alf": "*/*/*/alf/spikes.times.npy", "axopy": "p0/reaching/emg.hdf5"}
    files |= {"stytra": "*/*/*_behavior_log.*", "onedata": "*/*/*/oneData/mpci.times.npy"}
    path = next(root.glob(files[adapter.adapter]))
    target = (tmp_path if where == "out" else root / "store") / path.name
    target = target.with_name("stored") if where == "in" else target
    target.parent.mkdir(exist_ok=True)
    (path.unlink if where == "nowhere" else functools.partial(path.rename, target))()
    path.symlink_to(target)
    report = ingest.run(adapter.adapter, root, lab=LAB, **adapter.options)
    if where == "in":
        assert (report.new, report.exit_code) == (1, 0), report
    else:
        assert report.exit_code == 1, report
        assert any(path.relative_to(root).as_posix() in failure.message for failure in report.failures), report
        assert len(still_failing()) == 1


@pytest.mark.parametrize("adapter", EVERY, ids=lambda each: each.adapter)
def test_a_link_to_a_file_that_no_adapter_reads_is_no_failure(database, tmp_path, adapter):
    (tmp_path / "notes.md").write_text("of the lab")
    root = tmp_path / "root"
    root.mkdir()
    adapter().write_unit(root, 0)
    (root / "notes.md").symlink_to(tmp_path / "notes.md")
    assert ingest.run(adapter.adapter, root, lab=LAB, **adapter.options).exit_code == 0


def test_a_damaged_log_of_stytra_is_named_and_what_it_gave_stays(database, tmp_path):
    every.TestStytra().write_unit(tmp_path, 0)
    run_it = functools.partial(ingest.run, "stytra", tmp_path, lab=LAB)
    run_it()
    logs = task.EventLog().to_arrays("log_name").tolist()
    path = next(tmp_path.rglob("*_behavior_log.*"))
    sound = path.read_bytes()
    path.write_bytes(b"\xff\xfe\x00damaged")
    report = run_it()
    assert (report.failed, report.refused, report.exit_code) == (0, 1, 1), report
    assert path.name in report.failures[0].message and len(still_failing()) == 1
    assert task.EventLog().to_arrays("log_name").tolist() == logs
    assert run_it().known_failures == 1
    task.EventLog.delete_quick()  # it can't be made again before it can be read
    report = run_it(again=True)
    assert (report.failed, report.refused, len(task.EventLog())) == (0, 1, len(logs) - 1), report
    path.write_bytes(sound)
    assert run_it().exit_code == 0 and still_failing() == []
    assert task.EventLog().to_arrays("log_name").tolist() == logs


@pytest.mark.parametrize(
    ("adapter", "damaged"), [(every.TestAlf, "*/*/*/alf/_ibl_trials.choice.npy"), (every.TestAxopy, "p0/reaching/*")]
)
def test_trials_that_can_not_be_read_any_more_are_named_and_stay(database, tmp_path, adapter, damaged):
    """Those that somebody has deleted meanwhile don't come back before they can be read."""
    adapter().write_unit(tmp_path, 0)
    run_it = functools.partial(ingest.run, adapter.adapter, tmp_path, lab=LAB, **adapter.options)
    run_it()
    before = rows_of_tables(database)
    sound = {path: path.read_bytes() for path in tmp_path.glob(damaged)}
    for path, content in sound.items():
        path.write_bytes(content[: len(content) // 2])
    report = run_it()
    assert (report.failed, report.refused, report.exit_code) == (0, 1, 1), report
    assert len(still_failing()) == 1 and report.removed == {}
    assert task.TaskRun().fetch1("run_status", "n_run_trials") == ("damaged", len(task.Trial()))
    assert all(
        rows == before[table] for table, rows in rows_of_tables(database).items() if table.startswith("task.Tri")
    )
    (task.Trial & "trial = 1").delete(prompt=False)
    assert run_it(again=True).exit_code == 1 and 1 not in task.Trial().to_arrays("trial")
    for path, content in sound.items():
        path.write_bytes(content)
    assert run_it().exit_code == 0 and still_failing() == [] and rows_of_tables(database) == before


def test_a_damaged_array_file_of_axopy_is_named(database, tmp_path):
    every.TestAxopy().write_unit(tmp_path, 0)
    (tmp_path / "p0" / "reaching" / "emg.hdf5").write_bytes(b"damaged")
    report = ingest.run("axopy", tmp_path, lab=LAB)
    assert (report.new, report.refused, report.exit_code) == (1, 1, 1)
    assert "emg.hdf5" in report.failures[0].message and len(task.Trial()) == 2


def test_variables_of_onedata_that_can_not_be_used_are_named(database, tmp_path):
    every.TestOneData().write_unit(tmp_path, 0)
    folder = next(path for path in tmp_path.rglob("*") if path.name in FOLDERS)
    (folder / "mpci.bad.npy").write_bytes(b"damaged")
    np.save(folder / "trials.startTimes.npy", np.arange(3.0))
    np.save(folder / "trials.phase.npy", np.arange(3) * 1j)
    report = ingest.run("onedata", tmp_path, lab=LAB)
    assert (report.new, report.failed) == (1, 0)
    assert any("mpci.bad.npy: " in note for note in report.notes)
    assert "trials.phase is of the type complex128" in (task.TaskRun & {"task": "vr"}).fetch1("run_problems")[0]

"""AxoPy experiments in the tables: every trial and array, what grew, what is broken, what is dangerous."""

import hashlib
import json
import math
import pickle
import shutil
import subprocess
import sys
import zipfile

import datajoint as dj
import h5py
import numpy as np
import pandas as pd
import pytest

from labweave import ingest
from labweave.analysis import trials_frame
from labweave.analysis.trials import FIXED_COLUMNS
from labweave.errors import ReadError, SchemaError, SourceError
from labweave.formats.axopy import Storage, TaskReader, Trial, recover, storage_to_zip, write_hdf5
from labweave.formats.axopy.arrays import ArrayFile
from labweave.ingest.axopy import AxopyAdapter
from labweave.schemas import dataset, ingestion, session, subject, task

LAB = "axolab"


def write_trials(writer, numbers, **more):
    for n in numbers:
        trial = Trial(
            {"target": "left" if n % 2 else "right", "x": n / 3, "hit": n > 1, **more, "block": 0, "trial": n}
        )
        trial.add_array("emg", data=np.full((2, n + 1), n, "f4"))
        trial.add_array("events", data=np.arange(n))
        writer.write(trial)


@pytest.fixture
def root(tmp_path):
    """Return a data root of one subject with a task of three trials."""
    storage = Storage(str(tmp_path / "root"))
    storage.subject_id = "p0"
    writer = storage.create_task("reaching")
    write_trials(writer, range(3))
    writer.close()
    return tmp_path / "root"


def run(location, **options):
    return ingest.run("axopy", location, lab=LAB, **options)


def test_an_experiment_goes_into_the_tables(database, root):
    report = run(root)
    assert (report.seen, report.new, report.failed) == (1, 1, 0)
    assert (subject.Subject & {"lab": LAB}).fetch1("subject") == "p0"
    assert session.Session().fetch1("session_date") is None
    one = task.TaskRun().fetch1()
    assert (one["task"], one["run_status"], one["n_run_trials"], one["run_path"], one["run_problems"]) == (
        "reaching", "complete", 3, "p0/reaching", None,
    )  # fmt: skip
    assert one["run_columns"] == [["target", "text"], ["x", "float"], ["hit", "bool"]]
    trials = task.Trial().to_dicts(order_by="trial")
    assert [(row["trial"], row["block"], row["block_trial"]) for row in trials] == [(0, 0, 0), (1, 0, 1), (2, 0, 2)]
    assert trials[2]["trial_attributes"] == {"target": "right", "x": 2 / 3, "hit": True}
    rows = (task.TrialArray & {"array_name": "emg"}).to_dicts(order_by="trial")
    for n, row in enumerate(rows):
        assert (row["array_shape"], row["array_dtype"]) == ([2, n + 1], "<f4")
        np.testing.assert_array_equal(row["trial_array"], np.full((2, n + 1), n, "f4"))
    assert (task.TrialArray & {"array_name": "events", "trial": 2}).fetch1("trial_array").tolist() == [0, 1]
    again = run(root)
    assert (again.new, again.changed, again.unchanged, again.rows) == (0, 0, 1, {})


@pytest.mark.parametrize("place", ["..", "p0", "p0/reaching"])
def test_a_folder_above_or_below_a_data_root_is_refused(database, root, place):
    with pytest.raises(SourceError, match=f"Ingest {root} instead"):
        run(root / place)
    assert len(subject.Subject()) == len(task.TaskRun()) == 0


def test_a_root_without_a_table_yet_is_none_the_worse_for_a_hidden_copy(database, root):
    (root / "p0").rename(root / "kept")
    shutil.copytree(root / "kept", root / ".copies" / "p0")
    (root / "kept" / "reaching" / "trials.csv").unlink()
    report = run(root)
    assert report.failed == 0 and not len(task.Trial())


def test_the_database_holds_only_where_an_array_is(database, root):
    run(root)
    table, quote = task.TrialArray.full_table_name, database.connection.adapter.quote_identifier
    text = database.connection.query(
        f"select {quote('trial_array')} from {table} where array_name = 'emg' and trial = 1"
    ).fetchone()[0]
    stored = json.loads(text) if isinstance(text, (str, bytes)) else text
    assert stored == {
        "source": ingestion.Source().fetch1("source"),
        "path": "p0/reaching/emg.hdf5",
        "dataset": "1",
        "sha256": hashlib.sha256(np.full((2, 2), 1, "f4").tobytes()).hexdigest(),
    }


def test_a_task_that_grew_gets_only_its_new_trials(database, tmp_path):
    storage = Storage(str(tmp_path))
    storage.subject_id = "p0"
    writer = storage.create_task("t")
    write_trials(writer, range(4))
    run(tmp_path)
    write_trials(writer, range(4, 6))
    shown = run(tmp_path, dry_run=True)
    report = run(tmp_path)
    for one in (shown, report):
        assert one.rows["task.Trial"] == (2, 0, 4)
        assert one.rows["task.TrialArray"] == (4, 0, 8)
        assert (one.new, one.changed) == (0, 1)
    assert task.TaskRun().fetch1("n_run_trials") == 6
    assert [
        array.shape for array in (task.TrialArray & {"array_name": "emg"}).to_arrays("trial_array", order_by="trial")
    ] == [(2, n + 1) for n in range(6)]


def test_a_task_that_was_overwritten_has_its_new_trials_alone(database, tmp_path):
    storage = Storage(str(tmp_path), allow_overwrite=True)
    storage.subject_id = "p0"
    write_trials(storage.create_task("t"), range(4))
    run(tmp_path)
    write_trials(storage.create_task("t"), range(2), target="middle")
    report = run(tmp_path)
    assert (report.changed, report.failed, report.removed["task.Trial"]) == (1, 0, 2)
    assert task.Trial().to_arrays("trial_vanished", order_by="trial").astype(bool).tolist() == [False, False]
    assert trials_frame({"task": "t"})["target"].tolist() == ["middle", "middle"]
    old = [row["old_values"] for row in (ingestion.Change & {"table_name": "task.Trial"}).to_dicts()]
    assert {"trial_attributes": {"target": "right", "x": 0.0, "hit": False}} in old
    assert not task.TrialArray & {"trial": 3}


def test_an_array_that_changed_or_is_gone_is_an_error(database, root):
    run(root)
    array = task.TrialArray & {"array_name": "emg", "trial": 1}
    with h5py.File(root / "p0" / "reaching" / "emg.hdf5", "r+") as file:
        file["1"][0, 0] = 99
    with pytest.raises(ReadError, match=r"emg.hdf5: the dataset 1 is not the one that was ingested. Ingest its source"):
        array.fetch1("trial_array")
    assert (task.TrialArray & {"array_name": "emg", "trial": 2}).fetch1("trial_array")[0, 0] == 2
    assert run(root).rows["task.TrialArray"] == (0, 1, 5)
    assert array.fetch1("trial_array")[0, 0] == 99
    (root / "p0" / "reaching" / "emg.hdf5").unlink()
    with pytest.raises(ReadError, match="emg.hdf5: the file is gone"):
        array.fetch1("trial_array")


def test_an_array_outside_the_source_is_not_read(database, root, tmp_path):
    run(root)
    write_hdf5(tmp_path / "secret.hdf5", [1.0], "1")
    key = (task.TrialArray & {"array_name": "emg", "trial": 1}).fetch1("KEY")
    source = ingestion.Source().fetch1("source")
    from labweave.database import upsert

    upsert(
        task.TrialArray,
        [{**key, "trial_array": {"source": source, "path": "../secret.hdf5", "dataset": "1", "sha256": "0" * 64}}],
    )
    with pytest.raises(Exception, match="leaves the source's folder"):
        (task.TrialArray & key).fetch1("trial_array")


def test_crashed_empty_and_damaged_tasks(database, root):
    folder = root / "p0"
    (folder / "not_started").mkdir()
    shutil.copytree(folder / "reaching", folder / "crashed")
    with (folder / "crashed" / "trials.csv").open("a") as file:
        file.write("left,9.0,True,0,3\nrig")
    shutil.copytree(folder / "reaching", folder / "damaged")
    (folder / "damaged" / "emg.hdf5").write_bytes(b"")
    shutil.copytree(folder / "reaching", folder / "broken_table")
    (folder / "broken_table" / "trials.csv").write_text("a,b\n1\n1,2\n")
    (folder / ".hidden").mkdir()
    (root / "notes.txt").write_text("no subject")
    report = run(root)
    assert (report.seen, report.failed) == (5, 1)
    assert report.notes[1] == "  p0/.hidden: it is hidden"
    assert "broken_table" in report.failures[0].path
    assert "trial 0 has 1 values" in report.failures[0].message
    runs = {row["task"]: row for row in task.TaskRun().to_dicts()}
    assert {name: (row["run_status"], row["n_run_trials"]) for name, row in runs.items()} == {
        "not_started": ("empty", 0),
        "reaching": ("complete", 3),
        "crashed": ("half_written", 4),
        "damaged": ("damaged", 3),
    }
    assert runs["crashed"]["run_problems"] == [
        "trial 4 is half-written: its line in trials.csv is cut",
        "trial 3 is half-written: no emg",
        "trial 3 is half-written: no events",
    ]
    assert "emg.hdf5: the file is empty" in runs["damaged"]["run_problems"][0]
    assert len(task.TrialArray & {"task": "damaged"}) == 3
    again = run(root)
    assert (again.new, again.changed, again.unchanged, again.failed) == (0, 0, 4, 1)


def test_the_trials_of_a_killed_writer_are_ingested(database, tmp_path):
    storage = Storage(str(tmp_path / "live"))
    storage.subject_id = "p0"
    writer = storage.create_task("reaching")
    write_trials(writer, range(3))
    shutil.copytree(tmp_path / "live", tmp_path / "killed")
    run(tmp_path / "killed")
    assert task.TaskRun().fetch1("run_status") == "complete"
    assert len(task.Trial()) == 3
    assert recover(tmp_path / "killed" / "p0" / "reaching") == ["emg.hdf5", "events.hdf5", "trials.csv"]
    again = run(tmp_path / "killed")
    assert (again.vanished, again.failed, again.rows["task.Trial"], again.rows["task.TrialArray"]) == (
        [], 0, (0, 0, 3), (0, 0, 6),
    )  # fmt: skip


def test_an_interrupted_ingest_leaves_nothing_of_a_task_and_goes_on(database, root, monkeypatch):
    shutil.copytree(root / "p0" / "reaching", root / "p0" / "second")
    real, read = ArrayFile.read, []

    def interrupted(self, dataset):
        read.append(self.path)
        if len(set(read)) == 4 and dataset == "1":  # in the last array of the second task
            raise KeyboardInterrupt
        return real(self, dataset)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ArrayFile, "read", interrupted)
        run(root)
    assert task.TaskRun().to_arrays("task").tolist() == ["reaching"]
    report = run(root)
    assert (report.new, report.unchanged, report.failed) == (1, 1, 0)
    assert (len(task.Trial()), len(task.TrialArray())) == (6, 12)


def test_two_ingests_at_once_make_each_row_once(database, database_url, root):
    """The second begins, and ends, between what the first reads and what it writes."""
    run(root)
    with (root / "p0" / "reaching" / "trials.csv").open("a") as file:
        file.write("left,9.0,True,0,3\n")
    real, printed = AxopyAdapter.read, []
    code = (
        "import sys, labweave; from labweave import ingest\n"
        "with labweave.connect(sys.argv[1], prefix=sys.argv[2]):\n"
        f"    print(ingest.run('axopy', sys.argv[3], lab={LAB!r}).rows['task.Trial'])"
    )

    def read(self, unit, sha256):
        yield from real(self, unit, sha256)
        command = [sys.executable, "-c", code, database_url, database.prefix, str(root)]
        printed.append(subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AxopyAdapter, "read", read)
        report = run(root)
    assert printed == ["UpsertCounts(inserted=1, updated=0, unchanged=3)\n"]
    assert (report.failed, report.rows["task.Trial"]) == (0, (0, 0, 4))
    assert (len(task.Trial()), len(task.TrialArray())) == (4, 6)


def test_results_are_made_again_of_trials_that_changed_and_of_no_others(database, root):
    own = dj.Schema(f"{database.connection.prefix}ownwork", connection=database.connection, context=globals())

    class Doubled(dj.Computed):
        definition = """
        # one number that somebody's own pipeline computes
        -> task.Trial
        ---
        doubled : float64
        """

        def make(self, key):
            self.insert1({**key, "doubled": 2 * (task.Trial & key).fetch1("trial_attributes")["x"]})

    doubled = own(Doubled)
    try:
        run(root)
        doubled.populate()
        table = root / "p0" / "reaching" / "trials.csv"
        lines = table.read_text().splitlines(keepends=True)
        table.write_text(lines[0] + lines[1].replace(",0.0,", ",5.0,") + lines[2])  # shorter by one, and other
        shown = run(root, dry_run=True)
        report = run(root)
        assert report.outdated == shown.outdated == {"ownwork.Doubled": 2}
        assert doubled().to_arrays("trial").tolist() == [1]
        doubled.populate()
        assert (doubled & {"trial": 0}).fetch1("doubled") == 10
        assert task.TaskRun().fetch1("n_run_trials") == 2
        assert len(trials_frame({"task": "reaching"})) == 2
    finally:
        own.drop(prompt=False)


def test_pickles_are_datasets_that_nobody_opens(database, root, tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "loaded"), "w"))

    (root / "p0" / "reaching" / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    (root / "p0" / "reaching" / "calib.pkl").write_bytes(content := pickle.dumps({"gain": 2.5, "names": ["a"]}))
    run(root)
    assert not (tmp_path / "loaded").exists()
    row = (dataset.Dataset & {"dataset_name": "calib.pkl"}).fetch1()
    assert (row["collection"], row["data_format"], row["file_size"]) == ("reaching", "pkl", len(content))
    assert row["dataset_json"] == {
        "source": ingestion.Source().fetch1("source"),
        "path": "p0/reaching/calib.pkl",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (root / "p0" / "reaching" / "bomb.pkl").unlink()
    run(root, trust_pickles=True)
    row = (dataset.Dataset & {"dataset_name": "calib.pkl"}).fetch1()
    assert row["dataset_json"]["content"] == {"gain": 2.5, "names": ["a"]}


def test_an_archive_is_ingested_in_place(database, root, tmp_path):
    (root / "p0" / "empty").mkdir()
    archive = storage_to_zip(str(root), str(tmp_path / "archive.zip"))
    run(root)
    in_folder = trials_frame()
    eids = session.Session().to_arrays("eid").tolist()
    shutil.rmtree(root)
    report = run(archive)
    assert (report.seen, report.new, report.failed) == (1, 1, 0)
    assert session.Session().to_arrays("eid").tolist() == eids
    pd.testing.assert_frame_equal(trials_frame(), in_folder)
    assert (task.TrialArray & {"array_name": "emg", "trial": 2}).fetch1("trial_array").tolist() == [[2] * 3] * 2
    assert len(task.TaskRun & {"run_status": "empty"}) == 1
    assert run(archive).unchanged == 1


@pytest.mark.parametrize("names", [["data/trials.csv", "data/emg.hdf5"], ["data/../../p/t/trials.csv"], ["readme.txt"]])
def test_an_archive_without_folders_is_refused(database, tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x\n1\n")
    report = run(tmp_path / "a.zip")
    assert report.failed == 1
    assert len(task.TaskRun()) == 0


def test_a_session_of_a_given_day_is_found_again(database, root, tmp_path):
    run(root, session_date="2026-03-04", session_number=2)
    one = session.Session().fetch1()
    assert (str(one["session_date"]), one["session_number"]) == ("2026-03-04", 2)
    other = shutil.copytree(root, tmp_path / "other" / "root")
    run(other, session_date="2026-03-04", session_number=2)
    assert len(session.Session()) == 1


def test_another_experiment_in_a_root_of_the_same_name_overwrites_nothing(database, root, tmp_path):
    run(root)
    moved = tmp_path / "moved" / "root"
    shutil.copytree(root, moved)
    assert run(moved).failed == 0
    moved = shutil.copytree(moved, tmp_path / "edited" / "root")
    (moved / "p0" / "reaching" / "trials.csv").write_text("target,x,hit,block,trial\nleft,7.5,True,0,0\n")
    report = run(moved, source="elsewhere")
    assert "another experiment" in report.failures[0].message
    assert trials_frame()["x"].tolist() == [0, 1 / 3, 2 / 3]
    assert run(moved, source="elsewhere", session_date="2026-01-02").failed == 0
    assert len(task.TaskRun()) == 2


def test_subjects_that_differ_by_case_are_refused_unless_told(database, root):
    run(root)
    shutil.copytree(root / "p0", root / "P0")
    assert "by case alone" in run(root).failures[0].message
    assert run(root, allow_case=True).failed == 0


def test_types_and_texts_of_attributes(database, tmp_path):
    folder = tmp_path / "p" / "t"
    folder.mkdir(parents=True)
    (folder / "trials.csv").write_text(
        "zeros,na,whole,holes,real,logic,some,text,none,big,block\n"
        "007,NA,1,5,1.5000,True,True,a,,123456789012345678901,0\n"
        '008,nan,-2,,inf,False,,"b, ""c""\nd",,1,1\n'
        "009,x,3,7,-0.0,True,False,,,2,1\n",
        encoding="utf-8",
    )
    run(tmp_path)
    frame = trials_frame({"lab": LAB, "subject": "p", "task": "t"})
    names = ["zeros", "na", "whole", "holes", "real", "logic", "some", "text", "none", "big"]
    assert list(frame.columns) == [*FIXED_COLUMNS, *names]
    assert frame["zeros"].tolist() == ["007", "008", "009"]
    assert frame["na"].tolist() == ["NA", "nan", "x"]
    assert frame["big"].tolist() == ["123456789012345678901", "1", "2"]
    assert [str(frame[name].dtype) for name in ("whole", "holes", "real", "logic", "some")] == [
        "int64",
        "Int64",
        "float64",
        "bool",
        "boolean",
    ]
    assert frame["holes"].isna().tolist() == [False, True, False]
    assert frame["real"].tolist() == [1.5, math.inf, -0.0]
    assert math.copysign(1, frame["real"][2]) == -1
    assert frame["text"][1] == 'b, "c"\nd'
    assert frame["text"].isna().tolist() == [False, False, True]
    assert frame["block"].tolist() == [0, 1, 1]
    assert task.Trial().to_arrays("trial_text", order_by="trial").tolist() == [
        {"real": "1.5000"},
        {"real": "inf"},
        {"real": "-0.0"},
    ]


def test_frames_of_several_tasks_and_none(database, root):
    folder = root / "p1" / "other"
    folder.mkdir(parents=True)
    (folder / "trials.csv").write_text("x,task,eid\n1,a,\n2,b,\n")
    assert len(trials_frame()) == 0
    run(root)
    frame = trials_frame()
    assert (len(frame), str(frame["x"].dtype)) == (5, "float64")
    both = trials_frame("task = 'other'")
    assert (both["x"].tolist(), both["task_attribute"].tolist(), both["task"].tolist()) == (
        [1, 2],
        ["a", "b"],
        ["other"] * 2,
    )
    assert len(trials_frame({"subject": "p1", "trial": 1})) == 1
    assert len(trials_frame({"run_status": "half_written"})) == 0
    with pytest.raises(SchemaError, match="no attribute subjct"):
        trials_frame({"subjct": "p1"})


def test_real_experiments(database, shared, tmp_path):
    folder = shared / "data" / "axopy"
    expected = json.loads((folder / "expected.json").read_text())
    shutil.copytree(folder / "data", tmp_path / "data")
    for name in expected["empty_folders"]:
        (tmp_path / "data" / name).mkdir(exist_ok=True)
    monkey = tmp_path / "PICKLE_WAS_LOADED"
    report = run(tmp_path / "data")
    assert (report.seen, report.new, report.failed) == (7, 7, 0)
    assert not monkey.exists()
    for subject_name, tasks in expected["subjects"].items():
        for name, facts in tasks["tasks"].items():
            key = {"eid": (session.Session & {"subject": subject_name}).fetch1("eid"), "task": name}
            one = (task.TaskRun & key).fetch1()
            assert (one["run_status"], one["n_run_trials"]) == (facts["status"], facts["n_trials"])
            frame = trials_frame(key)
            for column, total in facts.get("numeric_sums", {}).items():
                found = frame["block_trial" if column == "trial" else column]
                assert float(pd.to_numeric(found).sum()) == pytest.approx(total, rel=1e-12)
            for array, facts_of_array in facts.get("arrays", {}).items():
                rows = (task.TrialArray & key & {"array_name": array}).to_dicts()
                assert {str(row["trial"]) for row in rows} == set(facts_of_array["trials"])
                for row in rows:
                    truth = facts_of_array["trials"][str(row["trial"])]
                    assert (row["array_shape"], row["array_dtype"]) == (truth["shape"], truth["dtype"])
                    assert hashlib.sha256(row["trial_array"].tobytes()).hexdigest() == truth["sha256"]
    assert sorted(dataset.Dataset().to_arrays("dataset_name")) == ["calib.pkl", "model.pkl"]
    again = run(tmp_path / "data")
    assert (again.new, again.changed, again.unchanged, again.failed) == (0, 0, 7, 0)
    lossy = run(folder / "archive_by_tool.zip")
    assert "storage_to_zip" in lossy.failures[0].message


def test_the_command(database, root, labweave_command):
    out = labweave_command("ingest", "axopy", str(root), "--lab", LAB, check=0).stdout
    assert "task.Trial" in out
    assert "--trust-pickles" in labweave_command("ingest", "axopy", "--help", check=0).stdout
    assert TaskReader(root / "p0" / "reaching").trials.shape == (3, 5)

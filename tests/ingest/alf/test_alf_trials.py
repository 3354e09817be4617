"""Trials objects of ALF sessions as rows of task.Trial."""

import math

import numpy as np
import pandas as pd
import pytest

from labweave import ingest
from labweave.analysis import trials_frame
from labweave.database import upsert
from labweave.schemas import session, subject, task

SESSION = "lab1/Subjects/m1/2020-01-02/001"


def run(root, **options):
    return ingest.run("alf", root, lab="lab1", trials=True, **options)


def save(root, **arrays):
    for name, array in arrays.items():
        path = root / SESSION / name.replace("__", "/", 1) if "__" in name else root / SESSION / "alf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        array.to_parquet(path) if isinstance(array, pd.DataFrame) else np.save(path, array)


@pytest.fixture
def root(tmp_path):
    files = {
        "_ibl_trials.intervals.npy": np.array([[0.0, 1.0], [2.0, 3.5], [4.0, np.nan]]),
        "_ibl_trials.choice.npy": np.array([-1, 0, 1], dtype=np.int8),
        "_ibl_trials.rewarded.npy": np.array([True, False, True]),
        "_ibl_trials.goCue_times.npy": np.array([0.1, np.nan, np.inf]),
        "_ibl_trials.position.npy": np.arange(6.0).reshape(3, 2),
        "wheel.position.npy": np.arange(9.0),
    }
    save(tmp_path, **files)
    return tmp_path


def test_trials_have_their_types(database, root):
    assert run(root).failed == 0
    one = task.TaskRun().fetch1()
    assert (one["task"], one["run_status"], one["n_run_trials"], one["run_problems"]) == ("trials", "complete", 3, None)
    assert one["run_path"] == f"{SESSION}/alf/trials"
    rows = task.Trial().to_dicts(order_by="trial")
    assert [(row["trial_start"], row["trial_stop"]) for row in rows] == [(0.0, 1.0), (2.0, 3.5), (4.0, None)]
    assert rows[2]["trial_attributes"] == {
        "choice": 1, "rewarded": True, "goCue_times": None, "position_0": 4.0, "position_1": 5.0,
    }  # fmt: skip
    assert rows[2]["trial_text"] == {"goCue_times": "inf"} and rows[1]["trial_text"] is None
    frame = trials_frame({"task": "trials", "subject": "m1"})
    assert frame["choice"].dtype == np.int64 and frame["rewarded"].dtype == bool
    assert frame["goCue_times"].tolist()[::2] == [0.1, math.inf] and math.isnan(frame["goCue_times"][1])
    again = run(root)
    assert (again.unchanged, again.rows) == (1, {})


def test_changed_shorter_and_damaged_files(database, root):
    run(root)
    save(
        root, **{f"_ibl_trials.{name}.npy": np.arange(2) for name in ("intervals", "choice", "rewarded", "goCue_times")}
    )
    report = run(root)
    assert report.changed == 1
    one = task.TaskRun().fetch1()
    assert (one["n_run_trials"], one["run_status"]) == (2, "half_written")
    assert "position_0 has 3 rows, most others have 2" in one["run_problems"]
    gone = task.Trial().to_arrays("trial_vanished", order_by="trial").astype(bool).tolist()
    assert gone == [False, False] and len(trials_frame({"task": "trials"})) == 2
    (root / SESSION / "alf/_ibl_trials.choice.npy").write_bytes(b"rubbish")
    assert run(root).failed == 0
    one = task.TaskRun().fetch1()
    assert one["run_status"] == "damaged" and "_ibl_trials.choice.npy" in " ".join(one["run_problems"])
    assert [name for name, _ in one["run_columns"] if name == "choice"] == []


def test_tables_collections_namespaces_and_revisions(database, tmp_path):
    table = pd.DataFrame(
        {"intervals_0": [0.0, 1.0], "intervals_1": [0.5, 1.5], "choice": [1.0, -1.0], "side": ["l", "r"]}
    )
    save(
        tmp_path,
        **{
            "alf__task_00/_ibl_trials.table.pqt": table,
            "_av_trials.choice.npy": np.arange(4),
            "trials.choice.npy": np.arange(5),
            "#2024-01-01#/trials.choice.npy": np.arange(6),
        },
    )
    assert run(tmp_path).failed == 0
    runs = {row["task"]: row["n_run_trials"] for row in task.TaskRun().to_dicts()}
    assert runs == {"trials/task_00": 2, "trials/av": 4, "trials": 6}
    rows = (task.Trial & {"task": "trials/task_00"}).to_dicts(order_by="trial")
    assert [row["trial_attributes"] for row in rows] == [{"choice": 1.0, "side": "l"}, {"choice": -1.0, "side": "r"}]
    assert [row["trial_stop"] for row in rows] == [0.5, 1.5]


def test_the_protocol_names_the_task_and_it_keeps_its_name(database, root):
    eid = "0b0b0b0b-0000-4000-8000-000000000001"
    subject_row = {"lab": "lab1", "subject": "m1", "subject_uuid": eid}
    from labweave.schemas import lab

    upsert(lab.Lab, [{"lab": "lab1"}])
    upsert(subject.Subject, [subject_row])
    row = {"eid": eid, "lab": "lab1", "subject": "m1", "session_date": "2020-01-02", "session_number": 1}
    upsert(session.Session, [{**row, "task_protocol": "choiceWorld 1"}])
    run(root)
    assert task.TaskRun().fetch1("eid", "task") == (eid, "choiceWorld 1")
    upsert(session.Session, [{**row, "task_protocol": "choiceWorld 2"}])
    save(root, **{"_ibl_trials.choice.npy": np.array([5, 6, 7])})
    run(root)
    assert task.TaskRun().fetch1("task") == "choiceWorld 1" and len(task.Trial()) == 3


def test_trials_of_another_tool_are_not_overwritten(database, root):
    from labweave.schemas import ingestion

    ingest.run("alf", root, lab="lab1")
    eid = session.Session().fetch1("eid")
    upsert(ingestion.Source, [{"source": "other", "adapter": "axopy", "location": "/", "source_lab": "lab1"}])
    upsert(task.Task, [{"task": "trials"}])
    upsert(
        task.TaskRun, [{"eid": eid, "task": "trials", "source": "other", "run_status": "complete", "n_run_trials": 1}]
    )
    report = run(root)
    assert report.failed == 1 and "from the source other" in report.failures[0].message


class Stranger:
    """Something that no column can hold."""


def test_values_that_no_column_can_hold_stay_in_their_file(database, root):
    save(root, **{"trials.phase.npy": np.array([1j, 2j, 3j]), "trials.tag.npy": np.array([b"a", b"b", b"c"])})
    assert run(root).failed == 0
    one = task.TaskRun().fetch1()
    assert sorted(problem.partition(":")[0] for problem in one["run_problems"]) == ["phase", "tag"]
    assert {name for name, _ in one["run_columns"]} >= {"choice", "rewarded"} and one["n_run_trials"] == 3


def test_pickles_are_read_when_they_are_trusted(database, root):
    save(root, **{"trials.side.npy": np.array(["left", None, "right"], dtype=object)})
    save(root, **{"trials.odd.npy": np.array([Stranger(), 1, 2], dtype=object)})
    assert run(root).failed == 0
    one = task.TaskRun().fetch1()
    assert one["run_status"] == "damaged" and "--trust-pickles" in " ".join(one["run_problems"])
    report = run(root, trust_pickles=True)
    assert (report.changed, report.failed) == (1, 0), str(report)
    rows = task.Trial().to_dicts(order_by="trial")
    assert [row["trial_attributes"]["side"] for row in rows] == ["left", None, "right"]
    assert task.TaskRun().fetch1("run_problems") == ["odd: Stranger can't be written as JSON; it stays in its file"]

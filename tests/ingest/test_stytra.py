"""Stytra sessions in the tables: real ones, crashed and copied ones, what changed, what is refused."""

import datetime as dt
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labweave import ingest
from labweave.analysis import read_event_log, trials_frame
from labweave.errors import ReadError, SchemaError, SourceError
from labweave.formats.stytra import JournalWriter, read_log, recover_log, write_log
from labweave.schemas import ingestion, session, subject, task

LAB = "fishlab"
START = dt.datetime(2024, 3, 5, 14, 7, 9, 123456)


def run(location, **options):
    return ingest.run("stytra", location, lab=LAB, **options)


def write_session(root, prefix="140709", start=START, animal=None, logs=("behavior",), format="csv", **more):
    """Write a session as Stytra does, and return its folder."""
    animal = {"id": 7, "species": "Danio rerio", "genotype": "TL", **(animal or {})}
    folder = root / "okr" / f"{start:%y%m%d}_f{animal['id']}"
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "general": {
            "animal": animal,
            "basic": {"experimenter_name": "Łukasz", "session_id": 3, "setup_name": "rig-1"},
            "fish_id": folder.name,
            "t_protocol_start": start.isoformat(),
            "t_protocol_end": (start + dt.timedelta(seconds=9)).isoformat(),
            "program_version": {"name": "/home/lukasz/run.py", "arguments": {"log_format": format}},
        },
        "stimulus": {
            "protocol": {"okr": {"n_repeats": 2}},
            "log": [
                {"name": "pause", "t_start": 0.5, "t_stop": 1.5, "duration": 1.0, "real_time_stop": 0},
                {"name": "gratings", "t_start": 1.5, "t_stop": 4.0, "duration": 2.5, "color": [255, 0, 0]},
                {},
            ],
        },
        "tracking": {f"{log}_log": f"{prefix}_{log}_log.{format}" for log in logs},
        "imaging": {"gain": float("nan")},
    }
    for key, value in more.items():
        metadata["general"][key] = value
    (folder / f"{prefix}_metadata.json").write_text(json.dumps(metadata))
    for log in logs:
        write_log({"x": np.arange(5) / 3, "t": np.arange(5) / 10 - 0.1}, folder / f"{prefix}_{log}_log", format)
    return folder


def one_run():
    return (task.TaskRun * session.Session).fetch1()


def test_a_session_goes_into_the_tables(database, tmp_path):
    write_session(tmp_path, logs=("behavior", "estimator", "stimulus"), format="feather")
    report = run(tmp_path)
    assert (report.seen, report.new, report.failed) == (1, 1, 0)
    found = one_run()
    assert (found["subject"], found["start_time"], found["session_date"]) == ("7", START, START.date())
    assert found["end_time"] == START + dt.timedelta(seconds=9)
    assert (found["task"], found["task_protocol"], found["session_location"]) == ("okr", "okr", "rig-1")
    assert (found["run_status"], found["n_run_trials"], found["run_problems"]) == ("complete", 3, None)
    assert (found["run_parameters"], found["run_json"]["log_format"]) == ({"n_repeats": 2}, "feather")
    facts = found["session_json"]
    assert (facts["fish_id"], facts["file_prefix"], facts["experimenter"]) == ("240305_f7", "140709", "Łukasz")
    assert (facts["basic_session_id"], facts["not_finite"]) == (3, {"imaging/gain": "nan"})
    assert facts["metadata"]["general"]["program_version"]["name"] == facts["program"]["script"] == "run.py"
    animal = (subject.Subject & {"lab": LAB}).fetch1()
    assert (animal["species"], animal["subject_json"]["stytra"]["genotype"]) == ("Danio rerio", "TL")
    trials = trials_frame({"task": "okr"})
    assert trials["trial_start"].tolist()[:2] == [0.5, 1.5]
    assert trials["trial_stop"].isna().tolist() == [False, False, True]
    assert trials["name"].tolist()[:2] == ["pause", "gratings"]
    assert trials["color"][1] == [255, 0, 0]
    assert trials["real_time_stop"].isna().all()
    logs = {row["log_name"]: row for row in task.EventLog().to_dicts()}
    assert set(logs) == {"behavior", "estimator", "stimulus"}
    assert (logs["behavior"]["n_log_rows"], logs["behavior"]["log_columns"]) == (5, ["x", "t"])
    assert logs["behavior"]["log_file"]["statistics"]["t"] == {"min": -0.1, "max": pytest.approx(0.3), "n_missing": 0}
    again = run(tmp_path)
    assert (again.new, again.changed, again.unchanged, again.rows) == (0, 0, 1, {})


def test_logs_are_read_from_their_files(database, tmp_path):
    folder = write_session(tmp_path)
    run(tmp_path)
    pd.testing.assert_frame_equal(
        read_event_log({"log_name": "behavior"}), read_log(folder / "140709_behavior_log.csv")
    )
    with pytest.raises(SchemaError, match="0 event logs"):
        read_event_log({"log_name": "estimator"})
    with (folder / "140709_behavior_log.csv").open("a") as file:
        file.write("5;1.0;0.4\n")
    with pytest.raises(ReadError, match="not the one that was ingested"):
        read_event_log({"log_name": "behavior"})
    report = run(tmp_path)
    assert (report.changed, report.rows["task.EventLog"]) == (1, (0, 1, 0))
    assert len(read_event_log({"log_name": "behavior"})) == 6
    (folder / "140709_behavior_log.csv").unlink()
    with pytest.raises(ReadError, match="gone"):
        read_event_log({"log_name": "behavior"})


def test_a_crash_leaves_a_journal(database, tmp_path):
    folder = tmp_path / "okr" / "240305_f7"
    folder.mkdir(parents=True)
    journal = JournalWriter(folder / "140709_behavior_log.journal")
    journal.begin("tracking", START.isoformat(), ["x"])
    journal.write("f", [np.arange(4.0)], np.arange(4) / 10)
    run(tmp_path)
    found = one_run()
    assert (found["run_status"], found["start_time"], found["task"], found["subject"]) == (
        "half_written",
        START,
        "okr",
        "7",
    )
    assert any("not saved" in problem for problem in found["run_problems"])
    assert read_event_log()["x"].tolist() == [0, 1, 2, 3]
    journal.write("f", [np.arange(4.0)], np.arange(4) / 10 + 1)  # the program was not dead: it saves now
    journal.close()
    (folder / "140709_behavior_log.journal").unlink()
    write_session(tmp_path)
    assert run(tmp_path).failed == 0
    found = one_run()
    assert (found["run_status"], found["run_problems"], len(read_event_log())) == ("complete", None, 5)


def test_an_experiment_that_was_killed(database, tmp_path):
    pytest.importorskip("PyQt5.QtCore")
    folder = tmp_path / "okr" / "240305_f7"
    folder.mkdir(parents=True)
    experiment = runpy.run_path(str(Path(__file__).parents[1] / "acquisition" / "killed_experiment.py"))
    experiment["run_and_kill"](folder / "140709_estimator_log")
    assert (run(tmp_path).new, run(tmp_path).unchanged) == (1, 1)
    found = one_run()
    assert (found["run_status"], found["start_time"], found["subject"]) == ("half_written", START, "7")
    rows = read_event_log({"log_name": "estimator"})
    assert rows["n"].tolist() == list(range(experiment["N_ROWS"]))
    assert (rows["label"][1], rows["vigor"][2], rows["t"][2999]) == ("σ1", 2 / 3, 2.999)
    recover_log(folder / "140709_estimator_log.journal", "hdf5")
    assert (run(tmp_path).failed, len(task.TaskRun())) == (0, 1)
    assert task.EventLog().fetch1("log_file")["format"] == "hdf5"
    pd.testing.assert_frame_equal(read_event_log().drop(columns="label"), rows.drop(columns="label"), check_exact=True)


def test_sessions_without_their_metadata_get_them_later(database, tmp_path):
    folder = write_session(tmp_path)
    (folder / "140709_metadata.json").rename(tmp_path / "kept")
    run(tmp_path)
    before = one_run()
    assert (before["run_json"]["status"], before["start_time"], before["n_run_trials"]) == ("no_metadata", None, 0)
    assert (before["subject"], before["session_date"]) == ("7", START.date())
    (tmp_path / "kept").rename(folder / "140709_metadata.json")
    run(tmp_path)
    after = one_run()
    assert (after["start_time"], after["n_run_trials"]) == (START, 3)


def test_what_is_wrong_is_said(database, tmp_path):
    folder = write_session(tmp_path, logs=("behavior", "estimator", "stimulus"))
    metadata = json.loads((folder / "140709_metadata.json").read_text())
    metadata["general"]["t_protocol_end"] = 0
    metadata["stimulus"]["stimulus_log"] = "140000_stimulus_log.csv"
    (folder / "140709_metadata.json").write_text(json.dumps(metadata))
    (folder / "140709_behavior_log.csv").unlink()
    (folder / "140709_estimator_log.csv").write_bytes(b"")
    write_log({"x": np.zeros(1), "t": np.zeros(1)}, folder / "140709_stimulus_log", "json")
    (folder / "140709_video.mp4").write_bytes(b"x")
    run(tmp_path)
    found = one_run()
    assert (found["run_status"], found["run_json"]["status"]) == ("damaged", "missing_log")
    assert found["run_json"]["other_files"] == ["140709_video.mp4"]
    said = "\n".join(found["run_problems"])
    for part in (
        "estimator: 140709_estimator_log.csv: the file is empty",
        "behavior: the metadata name 140709_behavior_log.csv, which is missing",
        "140709_stimulus_log.csv is taken, 140709_stimulus_log.json left out",
        "stimulus: the metadata name 140000_stimulus_log.csv, which is of another run",
        "no end",
    ):
        assert part in said


def test_one_bad_session_does_not_stop_the_others(database, tmp_path):
    write_session(tmp_path)
    bad = write_session(tmp_path, animal={"id": 8})
    (bad / "140709_metadata.json").write_text('{"general": {')
    nameless = tmp_path / "somewhere"
    nameless.mkdir()
    write_log({"t": np.zeros(1)}, nameless / "101010_behavior_log", "csv")
    report = run(tmp_path)
    assert (report.seen, report.new, report.failed) == (3, 1, 2)
    said = {failure.path: failure.message for failure in report.failures}
    assert "no complete metadata" in said["okr/240305_f8/140709"]
    assert "which animal" in said["somewhere/101010"]
    with pytest.raises(SourceError, match="Give the folder"):
        run(bad / "140709_metadata.json")


def test_copies_are_seen(database, tmp_path):
    write_session(tmp_path / "rig")
    run(tmp_path / "rig")
    eid = one_run()["eid"]
    shutil.copytree(tmp_path / "rig", tmp_path / "server")
    report = run(tmp_path / "server")
    told = report.notes[1]
    assert report.failed == 0 and f"a copy of {tmp_path}/rig/okr/240305_f7/140709" in told
    assert one_run()["run_path"] == "okr/240305_f7/140709"  # still one
    shutil.rmtree(tmp_path / "rig")
    run(tmp_path / "server")
    assert one_run()["eid"] == eid
    assert read_event_log()["x"].tolist() == (np.arange(5) / 3).tolist()
    write_session(tmp_path / "server" / "converted", format="json")
    run(tmp_path / "server")
    runs = task.TaskRun().to_dicts(order_by="run_path")
    assert len(runs) == 2
    assert runs[0]["run_problems"] is None  # the first of two is taken for the original
    assert any("one is a copy" in problem for problem in runs[1]["run_problems"])


def test_ids_that_begin_anew_each_day(database, tmp_path):
    write_session(tmp_path)
    write_session(tmp_path, start=START + dt.timedelta(days=1), animal={"genotype": "mitfa"})
    report = run(tmp_path)
    assert report.failed == 1
    assert "--subject-from fish_id" in report.failures[0].message
    assert run(tmp_path, subject_from="fish_id").failed == 0
    assert {"240305_f7", "240306_f7"} <= set(subject.Subject().to_arrays("subject"))


def test_the_last_session_describes_the_animal(database, tmp_path):
    later = START + dt.timedelta(days=1)
    write_session(tmp_path, prefix="100000", start=later, animal={"age": 7})
    run(tmp_path)
    write_session(tmp_path, animal={"age": 6})
    run(tmp_path)
    animal = subject.Subject().fetch1()
    assert animal["subject_json"]["stytra"]["age"] == 7
    assert len(session.Session()) == 2


def test_fields_that_stytra_filled_in(database, tmp_path):
    write_session(tmp_path, animal={"comments": "dim"})
    write_session(tmp_path, prefix="150000", start=START + dt.timedelta(hours=1), animal={"id": 8, "comments": "dim"})
    run(tmp_path)
    facts = {row["subject"]: row["session_json"] for row in session.Session().to_dicts()}
    assert facts["8"]["carried_over"] == ["comments", "genotype", "species"]
    assert "carried_over" not in facts["7"]


def test_real_sessions(database, shared, tmp_path):
    root = shared / "data" / "stytra"
    expected = json.loads((root / "expected.json").read_text())["sessions"]
    report = run(root)
    assert (report.seen, report.new, report.failed) == (len(expected), len(expected), 0)
    runs = {row["run_path"]: row for row in (task.TaskRun * session.Session).to_dicts()}
    assert set(runs) == set(expected)
    logs = task.EventLog().to_dicts()
    for path, facts in expected.items():
        found = runs[path]
        assert found["run_json"]["status"] == facts.get("status", "ok")
        assert found["session_json"].get("fish_id", "") == (facts.get("fish_id") or path.split("/")[-2])
        start = facts.get("t_protocol_start")
        assert found["start_time"] == (dt.datetime.fromisoformat(start) if start else None)
        if facts.get("protocol"):
            assert {found["task"]: found["run_parameters"]} == facts["protocol"]
        assert found["n_run_trials"] == (facts.get("n_stimuli") or 0)
        trials = (task.Trial & {"eid": found["eid"]}).to_dicts(order_by="trial")
        assert [row["trial_attributes"].get("name") for row in trials] == (facts.get("stimulus_names") or [])
        assert [row["trial_start"] for row in trials] == (facts.get("stimulus_t_start") or [])
        assert [row["trial_stop"] for row in trials] == (facts.get("stimulus_t_stop") or [])
        mine = {f"{row['log_name']}_log": row for row in logs if row["eid"] == found["eid"]}
        assert set(mine) == set(facts["logs"])
        for name, truth in facts["logs"].items():
            assert (mine[name]["n_log_rows"], mine[name]["log_columns"]) == (truth["n_rows"], truth["columns"])
            assert mine[name]["log_file"]["sha256"] == facts["files"][truth["file"]]["sha256"]
            low = mine[name]["log_file"]["statistics"]["t"]["min"]
            assert low == pytest.approx(truth["t"]["min"], rel=1e-12)
        if facts.get("problems"):
            other = [one for one in facts["problems"] if one.startswith("declared")]
            assert bool(found["run_problems"]) == bool(other or facts["status"] == "no_metadata")
    assert run(root).unchanged == len(expected)
    assert len(ingestion.Failure()) == 0


def test_the_command(database, tmp_path, labweave_command):
    write_session(tmp_path)
    out = labweave_command("ingest", "stytra", str(tmp_path), "--lab", LAB, "--subject-from", "fish_id", check=0).stdout
    assert "task.EventLog" in out
    assert subject.Subject().fetch1("subject") == "240305_f7"

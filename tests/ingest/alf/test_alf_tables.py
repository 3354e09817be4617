"""ONE cache tables in the tables: today's and those of older clients, sound and odd."""

import datetime as dt
import json
import shutil
import uuid
from pathlib import Path

import numpy as np
import one_lab
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from one_lab import EIDS, S1, S4, S8

from labweave import ingest
from labweave.ingest.alf import tables
from labweave.schemas import dataset, session


def run(location, **options):
    return ingest.run("alf", location, lab="smithlab", **options)


@pytest.fixture(scope="module")
def lab_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    one_lab.write_files(folder)
    return folder


@pytest.fixture
def cache(lab_root, tmp_path):
    """A folder with tables and no files."""
    one_lab.write_tables(lab_root, tmp_path)
    return tmp_path


def rewrite(path: Path, change):
    """Write a table as `change` gives it back, in its order."""
    schema = pq.read_schema(path)
    frame = change(pd.read_parquet(path).reset_index())
    metadata = {b"one_metadata": schema.metadata[b"one_metadata"]}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.replace_schema_metadata({**metadata, **(table.schema.metadata or {})}), path)


def test_tables_go_in_and_files_find_their_datasets(database, lab_root, tmp_path):
    root = shutil.copytree(lab_root, tmp_path / "copy")
    one_lab.write_tables(lab_root, root)
    report = run(root)
    assert (report.seen, report.failed, report.notes) == (9, 0, [])
    truth = one_lab.datasets(lab_root).set_index("dataset_id")
    rows = {row["dataset_id"]: row for row in dataset.Dataset().to_dicts()}
    assert rows.keys() == set(truth.index)
    for name in ("eid", "collection", "dataset_name", "file_size", "hash", "dataset_qc", "is_default"):
        assert [rows[key][name] for key in truth.index] == truth[name].tolist(), name
    for known in one_lab.SESSIONS.itertuples():
        row = (session.Session & {"eid": known.eid}).fetch1()
        assert (row["lab"], row["subject"], str(row["session_date"]), row["session_number"], row["task_protocol"]) == (
            known.lab, known.subject, known.date, known.number, known.protocol,
        )  # fmt: skip
        assert sorted((session.SessionProject & {"eid": known.eid}).to_arrays("project")) == sorted(known.projects)
    pids = {row["probe_name"]: row["pid"] for row in (session.ProbeInsertion & {"eid": S4}).to_dicts()}
    assert pids == one_lab.PIDS
    assert len(dataset.FileRecord()) == len(truth) == len(dataset.FileRecord & {"present": True})
    again = run(root)
    assert (again.unchanged, again.rows) == (9, {})


def test_tables_beside_folders_that_came_first_give_the_ids(database, lab_root, tmp_path):
    root = shutil.copytree(lab_root, tmp_path / "copy")
    run(root)
    one_lab.write_tables(lab_root, root)
    assert run(root).failed == 0
    assert set(session.Session().to_arrays("eid")) == set(EIDS.values())
    assert set(dataset.Dataset().to_arrays("dataset_id")) == set(one_lab.datasets(lab_root).dataset_id)
    assert set(dataset.Dataset().to_arrays("dataset_qc")) == {"NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"}


def test_tables_alone_in_small_parts_and_any_order(database, cache, monkeypatch):
    monkeypatch.setattr(tables, "BATCH", 7)
    rewrite(cache / "datasets.pqt", lambda frame: frame.sample(frac=1, random_state=1))
    shown, report = run(cache, dry_run=True), run(cache)
    assert (report.seen, report.new, report.failed, shown.failed) == (1, 1, 0, 0)
    for name in ("dataset.Dataset", "dataset.FileRecord", "session.Session", "session.ProbeInsertion"):
        assert shown.rows[name].inserted == report.rows[name].inserted > 0
    n_datasets = len(pd.read_parquet(cache / "datasets.pqt"))
    assert len(dataset.Dataset()) == len(dataset.FileRecord & {"present": True}) == n_datasets
    assert len(session.Session()) == 8 and len(dataset.Dataset & {"eid": S8}) == 0

    def forget(frame):
        return frame[frame.rel_path != "alf/licks.times.npy"].assign(qc="PASS")

    rewrite(cache / "datasets.pqt", forget)
    changed = run(cache)
    assert changed.changed == 1 and set(dataset.Dataset().to_arrays("dataset_qc")) == {"PASS"}
    assert changed.removed == {"dataset.FileRecord": 1, "dataset.Dataset": 1, "dataset.DatasetType": 1}
    assert not dataset.Dataset & {"dataset_name": "licks.times.npy"}
    assert run(cache).unchanged == 1


def test_what_one_can_not_take_is_refused_and_the_rest_goes_in(database, cache):
    def odd_sessions(frame):
        frame["id"] = frame["id"].astype(object)
        frame.loc[frame.id == EIDS["s2"], "lab"] = "my-lab"
        frame.loc[frame.id == EIDS["s3"], "subject"] = "ZM 11"
        frame.loc[frame.id == EIDS["s5"], "id"] = "c9bf9e57-1685-11ef-9c9d-0242ac120002"
        twin = frame[frame.id == EIDS["s6"]].assign(id=str(uuid.uuid4()))
        return pd.concat([frame.astype({"number": float}), twin])

    def odd_datasets(frame):
        frame.loc[(frame.eid == EIDS["s7"]) & frame.rel_path.str.contains("choice"), "id"] = str(uuid.uuid1())
        frame.loc[frame.rel_path == "root.file.npy", "rel_path"] = "my file.npy"
        frame["default_revision"] = True  # three of s4's spikes.times
        return frame

    rewrite(cache / "sessions.pqt", odd_sessions)
    rewrite(cache / "datasets.pqt", odd_datasets)
    report = run(cache)
    told = "\n".join(failure.message for failure in report.failures)
    for text in (
        "my-lab",
        "ZM 11",
        "not a UUID of version 3 or 4",
        "and so is",
        "two default revisions",
        "is not in sessions.pqt",
    ):
        assert text in told, text
    n_refused = len(report.failures)
    assert (report.new, report.failed, report.refused) == (1, 0, n_refused) and "my file.npy" in str(report)
    assert set(session.Session().to_arrays("eid")) >= {S1, EIDS["s6"], EIDS["s7"], S8}
    assert not session.Session & [{"eid": EIDS[name]} for name in ("s2", "s3", "s5")]
    assert len(dataset.Dataset & {"eid": EIDS["s7"]}) == 4 and not dataset.Dataset & {"eid": S4}
    again = run(cache, again=True)
    assert again.refused == n_refused
    assert again.rows["dataset.Dataset"].inserted == again.rows["dataset.Dataset"].updated == 0


def test_tables_that_can_not_be_read(database, cache):
    (cache / "datasets.pqt").write_bytes((cache / "datasets.pqt").read_bytes()[:-50])
    report = run(cache)
    assert report.failed == 1 and "can't be read" in report.failures[0].message


def test_missing_columns_and_values(database, cache):
    def bare(frame):
        return frame[["eid", "id", "rel_path"]].assign(file_size=np.nan, hash=None, exists=frame.eid != S1)

    rewrite(cache / "datasets.pqt", bare)
    rewrite(cache / "sessions.pqt", lambda frame: frame.drop(columns=["projects", "task_protocol"]).assign(lab=""))
    (cache / "insertions.pqt").unlink()
    assert run(cache).failed == 0
    assert set(session.Session().to_arrays("lab")) == {"smithlab"}
    rows = dataset.Dataset & {"eid": S4, "dataset_name": "spikes.times.npy", "collection": "alf/probe00/pykilosort"}
    assert {row["revision"]: (row["is_default"], row["file_size"], row["hash"]) for row in rows.to_dicts()} == {
        None: (False, None, ""), "2022-01-01": (False, None, ""), "2024-05-06": (True, None, ""),
    }  # fmt: skip
    absent = dataset.FileRecord & {"present": False}
    assert len(absent) == len(dataset.Dataset & {"eid": S1})


def test_the_table_of_older_clients(database, lab_root, tmp_path):
    truth = one_lab.datasets(lab_root)
    sessions = one_lab.SESSIONS.loc[truth.eid]

    def halves(ids):
        return np.array([np.frombuffer(uuid.UUID(item).bytes, dtype=np.int64) for item in ids]).T

    (id_0, id_1), (eid_0, eid_1) = halves(truth.dataset_id), halves(truth.eid)
    plain = truth.revision.isna().to_numpy()
    frame = pd.DataFrame(
        {
            **{"id_0": id_0, "id_1": id_1, "eid_0": eid_0, "eid_1": eid_1},
            "name": truth.dataset_name.to_numpy(),
            "dataset_type": truth.dataset_type.to_numpy(),
            "file_size": truth.file_size.to_numpy(float),
            "hash": truth.hash.to_numpy(),
            "collection": truth.collection.to_numpy(),
            "subject": sessions.subject.to_numpy(),
            "lab": sessions.lab.to_numpy(),
            "start_time": pd.to_datetime(sessions.date + "T" + sessions.start, format="ISO8601").to_numpy(),
            "number": sessions.number.to_numpy(),
            "task_protocol": sessions.protocol.to_numpy(),
        }
    )[plain]
    frame.to_parquet(tmp_path / ".one_cache.parquet")
    report = run(tmp_path)
    assert (report.new, report.failed, report.notes) == (1, 0, [])
    expected = truth[plain].set_index("dataset_id")
    rows = {row["dataset_id"]: row for row in dataset.Dataset().to_dicts()}
    assert rows.keys() == set(expected.index)
    for name in ("eid", "collection", "dataset_name", "dataset_type", "file_size", "hash"):
        assert [rows[key][name] for key in expected.index] == expected[name].tolist(), name
    row = (session.Session & {"eid": S4}).fetch1()
    assert (row["session_date"], row["start_time"]) == (dt.date(2019, 4, 11), dt.datetime(2019, 4, 11, 11))
    assert run(tmp_path / ".one_cache.parquet").rows["dataset.Dataset"].unchanged == len(expected)


def test_tables_that_labweave_wrote(database, cache, tmp_path):
    from labweave.one.export import export_tables

    run(cache)
    export_tables(tmp_path / "out")
    before, after = (pd.read_parquet(folder / "datasets.pqt") for folder in (cache, tmp_path / "out"))
    pd.testing.assert_frame_equal(before, after, check_dtype=False)
    assert (
        json.loads(pq.read_schema(tmp_path / "out" / "sessions.pqt").metadata[b"one_metadata"])["origin"] == "labweave"
    )

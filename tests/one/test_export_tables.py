"""Cache tables that labweave writes, opened by an unmodified ONE-api."""

import json
import uuid
import warnings

import numpy as np
import one_lab
import pandas as pd
import pyarrow.parquet as pq
import pytest
from one_lab import EIDS, S1, S4, S8

from labweave.database import upsert
from labweave.errors import SourceError
from labweave.one.export import export_tables
from labweave.schemas import dataset, ingestion, session, subject

TABLES = ("sessions", "datasets", "insertions")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    one_lab.write_files(folder)
    return folder


@pytest.fixture
def filled(database, root):
    one_lab.fill(root)
    return database


def open_peer(root, tables):
    api = pytest.importorskip("one.api")
    api.ONE.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return api.OneAlyx(base_url="https://localhost", cache_dir=root, tables_dir=tables, mode="local", silent=True)


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, pd.DataFrame):
        return a.equals(b)
    return np.array_equal(a, b)


def test_one_api_answers_from_exported_tables_as_from_its_own(filled, root, tmp_path):
    (tmp_path / "own").mkdir()
    one_lab.write_tables(root, tmp_path / "own")
    written = export_tables(tmp_path / "ours")
    assert (written.n_sessions, written.n_datasets, written.n_insertions, written.n_undated) == (
        8, len(one_lab.datasets(root)), 2, 0,
    )  # fmt: skip
    own, ours = open_peer(root, tmp_path / "own"), open_peer(root, tmp_path / "ours")
    queries = (
        *({}, {"subject": "ZM_11"}, {"lab": "cortex"}, {"date_range": ["2019-05-01", None]}, {"number": [2, 10]}),
        *({"task_protocol": "ephys"}, {"projects": "practice"}, {"datasets": "_ibl_trials.choice.npy"}),
        {"datasets": "_ibl_trials.intervals.npy", "dataset_qc_lte": "PASS"},
    )
    for query in queries:
        found, details = ours.search(details=True, **query)
        expected, expected_details = own.search(details=True, **query)
        assert found == expected and [dict(one) for one in details or ()] == [
            dict(one) for one in expected_details or ()
        ]
        assert found, query
    for eid in map(uuid.UUID, EIDS.values()):
        assert ours.eid2path(eid) == own.eid2path(eid) and ours.path2eid(own.eid2path(eid)) == eid
        pd.testing.assert_frame_equal(ours.list_datasets(eid, details=True), own.list_datasets(eid, details=True))
        pd.testing.assert_frame_equal(
            ours.list_datasets(eid, details=True, qc="CRITICAL"), own.list_datasets(eid, details=True, qc="CRITICAL")
        )
        assert ours.list_collections(eid) == own.list_collections(eid)
        assert ours.eid2pid(eid) == own.eid2pid(eid)
    for name, place in (("spikes", "alf/probe00/pykilosort"), ("wheel", "alf")):
        assert same(ours.load_object(S4, name, collection=place), own.load_object(S4, name, collection=place))
    for revision in (None, "2023-01-01"):
        arrays = [
            one.load_dataset(S4, "spikes.times.npy", collection="alf/probe00/pykilosort", revision=revision)
            for one in (ours, own)
        ]
        assert np.array_equal(*arrays) and len(arrays[0]) == (150 if revision is None else 10)
    assert ours.list_subjects() == own.list_subjects()


def test_labweave_and_one_api_answer_alike(filled, root, tmp_path):
    api = pytest.importorskip("labweave.one.api")
    export_tables(tmp_path)
    peer, ours = open_peer(root, tmp_path), api.One(cache_dir=root)
    for query in ({}, {"subject": "ZM_11"}, {"lab": ["cortexlab", "zadorlab"]}, {"datasets": "spikes.times.npy"}):
        assert sorted(map(str, ours.search(**query))) == sorted(map(str, peer.search(**query)))
    for eid in EIDS.values():
        listed = peer.list_datasets(eid)
        assert list(ours.list_datasets(eid)) == (list(listed) if eid != S8 else [])
    assert same(dict(ours.load_object(S1, "wheel")), dict(peer.load_object(S1, "wheel")))


def test_tables_are_the_same_every_time_and_have_the_types_of_one(filled, root, tmp_path):
    for name in ("a", "b"):
        export_tables(tmp_path / name)
    for table in TABLES:
        assert (tmp_path / "a" / f"{table}.pqt").read_bytes() == (tmp_path / "b" / f"{table}.pqt").read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(f"{name}.pqt" for name in TABLES)
    schemas = {name: pq.read_schema(tmp_path / "a" / f"{name}.pqt") for name in TABLES}
    assert str(schemas["sessions"].field("date").type) == "date32[day]"
    assert str(schemas["sessions"].field("number").type) == "uint16"
    assert str(schemas["datasets"].field("file_size").type) == "uint64"
    for schema in schemas.values():
        assert json.loads(schema.metadata[b"one_metadata"]).keys() == {"date_created", "origin"}
    qc = pd.read_parquet(tmp_path / "a" / "datasets.pqt")["qc"]
    assert qc.cat.ordered and list(qc.cat.categories) == one_lab.QC_ORDER


def test_a_lab_or_project_alone(filled, root, tmp_path):
    assert export_tables(tmp_path, labs=["cortexlab"]).n_sessions == 3
    assert set(pd.read_parquet(tmp_path / "sessions.pqt")["lab"]) == {"cortexlab"}
    assert set(pd.read_parquet(tmp_path / "datasets.pqt").index.get_level_values("eid")) == {S4, EIDS["s5"]}
    assert export_tables(tmp_path, projects=["practice"]).n_insertions == 2
    with pytest.raises(SourceError, match="no session"):
        export_tables(tmp_path, labs=["nobody"])
    assert len(pd.read_parquet(tmp_path / "sessions.pqt")) == 3


def test_unknown_sizes_and_hashes_do_not_stop_a_client(filled, root, tmp_path, caplog):
    rows = dataset.Dataset().proj().to_dicts()
    upsert(dataset.Dataset, [{**row, "file_size": None, "hash": ""} for row in rows])
    export_tables(tmp_path)
    peer = open_peer(root, tmp_path)
    with caplog.at_level("WARNING", "one.api"):
        assert len(peer.load_dataset(S1, "_ibl_trials.intervals.npy")) == 100
    assert "mismatch" not in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eid": "c9bf9e57-1685-11ef-9c9d-0242ac120002"}, "no UUID of version 3 or 4"),
        ({"lab": "my-lab"}, "a lab has letters"),
        ({"subject": "mouse 1"}, "a subject has letters"),
        ({"session_number": 1000}, "from 0 to 999"),
        ({"path_lab": "other"}, "is 2 sessions"),
    ],
)
def test_what_one_can_not_take_is_refused(database, tmp_path, change, said):
    key = {"eid": S1, "lab": "lab1", "subject": "m1", "session_date": "2020-01-01", "session_number": 1}
    rows = [{**key, **change}] + ([key | {"eid": S4}] if "path_lab" in change else [])
    from labweave.schemas import lab

    upsert(lab.Lab, [{"lab": row["lab"]} for row in rows])
    upsert(
        subject.Subject,
        [{"lab": row["lab"], "subject": row["subject"], "subject_uuid": str(uuid.uuid4())} for row in rows[:1]],
    )
    upsert(session.Session, rows)
    with pytest.raises(SourceError, match=said):
        export_tables(tmp_path / "out")
    assert not list(tmp_path.rglob("*.pqt"))


def test_two_default_revisions_are_refused_and_the_old_tables_stay(filled, root, tmp_path):
    export_tables(tmp_path)
    before = (tmp_path / "datasets.pqt").read_bytes()
    upsert(dataset.Dataset, [{**row, "is_default": True} for row in (dataset.Dataset & {"eid": S4}).proj().to_dicts()])
    with pytest.raises(SourceError, match=r"pykilosort/spikes.times.npy has 3 default revisions"):
        export_tables(tmp_path)
    assert (tmp_path / "datasets.pqt").read_bytes() == before and len(list(tmp_path.iterdir())) == 3


def test_sessions_without_a_date_are_left_out_and_the_command_says_so(filled, root, tmp_path, labweave_command):
    key = (subject.Subject & {"subject": "KS005"}).fetch1("KEY")
    upsert(session.Session, [{"eid": str(uuid.uuid4()), **key}])
    result = labweave_command("export", "one-cache", str(tmp_path / "out"), check=0)
    assert "8 sessions" in result.stdout and "1 sessions without a date were left out" in result.stderr
    assert len(ingestion.Run()) == 0

"""The front end of ONE-api's names: what the table of edge cases does not ask."""

import datetime as dt
import inspect
import uuid

import numpy as np
import one_lab
import pandas as pd
import pytest
from one_lab import DATA_URL, HOT, OLD, PIDS, S1, S2, S3, S4, S5, S7, S8, SESSIONS, UNKNOWN

import labweave
from labweave.errors import LabweaveError
from labweave.formats.alf.exceptions import ALFMultipleCollectionsFound, ALFObjectNotFound, ALFWarning
from labweave.formats.alf.qc import QC
from labweave.one.api import One
from labweave.one.search.frames import datasets_frame
from labweave.one.search.rows import DatasetRow

SORTED = "alf/probe00/pykilosort"


@pytest.fixture
def one(one_lab):
    return One(one_lab)


def texts(found):
    return [str(each) for each in found]


def test_every_name_of_one_api_is_there():
    """Whatever ONE-api's two classes have for users, with the arguments that are asked for by name."""
    peer = pytest.importorskip("one.api")
    not_ours = {"refresh_cache", "get_from_cache"}
    lacking = {}
    for name, theirs in inspect.getmembers(peer.OneAlyx):
        if name.startswith("_") or name in not_ours:
            continue
        if not hasattr(One, name):
            lacking[name] = "missing"
        elif callable(theirs):
            wanted = [
                p.name for p in inspect.signature(theirs).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
            ]
            signature = inspect.signature(getattr(One, name)).parameters.values()
            ours = {p.name for p in signature} | ({"id"} & set(wanted))
            left = [p for p in wanted if p not in ours and p != "self"]
            if left and not any(p.kind is p.VAR_KEYWORD for p in signature):
                lacking[name] = left
    assert lacking == {}


def test_searching_with_details(one):
    eids, details = one.search(subject="ZM_1150", details=True)
    assert texts(eids) == [S2, S1] and [each.number for each in details] == [2, 1]
    assert details[1].start_time == "2019-05-07T10:00:00" and details[1]["projects"] == "brainwide"
    assert details[1].local_path == str(one.cache_dir / SESSIONS.path[S1])
    assert one.to_eid(details) == eids
    assert one.search(subject="nobody", details=True) == ([], [])


def test_filters_that_one_api_asks_its_server_for(one):
    assert texts(one.search(users="ines")) == [S2, S5]
    assert texts(one.search(location="^ephys", performance_gte=60)) == [S4]
    assert texts(one.search(dataset_types=["spikes.times", "trials.choice"])) == [S4]
    assert texts(one.search(django="subject__nickname,ZM_11")) == [S3]
    assert texts(one.search(lab="cortex", django="number,2")) == [S8]
    assert one.search(django="subject__nickname,nobody") == []


def test_wildcards_are_read_at_each_call(one):
    assert one.list_datasets(S1, ".*wheel.*") == []
    one.wildcards = False
    assert len(one.list_datasets(S1, ".*wheel.*")) == 4 and one.search(subject="^ZM") == []
    assert texts(one.search(subject="ZM_11", number=2)) == [S2]
    one.wildcards = True
    assert len(one.search(subject="^ZM")) == 3


def test_what_is_listed_can_be_loaded(one):
    """The paths of list_datasets, and its frame, mean exactly these revisions."""
    for eid in (S1, S4):
        listed = one.list_datasets(eid, qc="CRITICAL")
        assert sorted(listed) == sorted(one_lab.contents()[eid])
        for path in one.list_datasets(eid):
            found = one.load_dataset(eid, path, download_only=True)
            assert found == one.cache_dir / SESSIONS.path[eid] / path
    with pytest.warns(ALFWarning, match="newer revisions"):
        paths, records = one.load_datasets(S4, one.list_datasets(S4), download_only=True)
    assert [each.rel_path for each in records] == one.list_datasets(S4) and all(paths)
    frame = one.list_datasets(S4, "spikes*", collection=SORTED, revision=OLD, details=True)
    with pytest.warns(ALFWarning):
        [times], _ = one.load_datasets(S4, frame)
    assert times.shape == (10,)


def test_frames_are_those_of_one_api(one, one_lab):
    peer = pytest.importorskip("one.api")
    import one_lab as lab

    lab.write_tables(one_lab)
    theirs = peer.One(cache_dir=one_lab)
    for options in ({}, {"keep_eid_index": True}):
        expected = theirs.list_datasets(S4, details=True, **options)
        given = one.list_datasets(S4, details=True, **options).sort_index()
        pd.testing.assert_frame_equal(given, expected.sort_index()[list(given)], check_dtype=False)
        assert given.qc.cat.ordered and given.index.names == expected.index.names
    assert one.list_datasets(S8, details=True).empty and list(one.list_datasets(S8, details=True)) == list(given)
    for method in ("list_collections", "list_revisions"):
        details = getattr(one, method)(S4, details=True)
        assert sorted(details) == sorted(getattr(theirs, method)(S4, details=True))
        assert sorted(getattr(one, method)()) == sorted(getattr(theirs, method)())
    assert sorted(one.list_datasets()) == sorted(theirs.list_datasets())
    assert sorted(one.list_datasets(None, "*times*", collection="alf")) == sorted(
        theirs.list_datasets(None, "*times*", collection="alf")
    )
    assert one.list_datasets(S4, default_revisions_only=True) == theirs.list_datasets(S4, default_revisions_only=True)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_frames_are_those_of_the_constructor(n):
    ids = [str(uuid.uuid4()) for _ in range(n)]
    rows = [
        DatasetRow(S4, "alf", f"a.b{i}.npy", "", ("PASS", "FAIL", "NOT_SET")[i], i == 1, ids[i], i or None, "ab" * i)
        for i in range(n)
    ]
    frame = datasets_frame(rows)
    expected = pd.DataFrame(
        {
            "rel_path": pd.Series([f"alf/a.b{i}.npy" for i in range(n)], dtype="str"),
            "file_size": pd.array(range(n), dtype="UInt64"),
            "hash": pd.Series([None, "ab", "abab"][:n], dtype="str"),
            "exists": np.ones(n, dtype=bool),
            "default_revision": np.arange(n) == 1,
            "qc": pd.Categorical(["PASS", "FAIL", "NOT_SET"][:n], categories=list(QC), ordered=True),
        }
    ).set_index(pd.Index([uuid.UUID(each) for each in ids], name="id", dtype=object))
    if isinstance(pd.api.types.pandas_dtype("str"), pd.StringDtype):
        pd.testing.assert_frame_equal(frame, expected)
    else:
        assert frame.equals(expected.where(expected.notna(), None).astype(frame.dtypes))
    frame.loc[:, "exists"] = False
    frame.loc[frame.index[:1], "hash"] = "x"
    assert (
        not frame.exists.any() and frame.default_revision.sum() == (n > 1) and list(frame.hash[:1]) == ["x"] * (n > 0)
    )
    assert list(datasets_frame(rows, with_eid=True).index) == [(uuid.UUID(S4), uuid.UUID(each)) for each in ids]


def test_contents_are_those_of_the_files(one):
    files = one_lab.contents()[S1]
    np.testing.assert_array_equal(one.load_dataset(S1, "trials.choice"), files["alf/_ibl_trials.choice.npy"])
    trials = one.load_object(S1, "trials", attribute=["choice", "intervals"])
    np.testing.assert_array_equal(trials.intervals, files["alf/_ibl_trials.intervals.npy"])
    [wheel], [record] = one.load_datasets(S1, [{"object": "wheel", "attribute": "position"}])
    np.testing.assert_array_equal(wheel, files["alf/_ibl_wheel.position.npy"])
    assert one.load_dataset_from_id(record.id, download_only=True).name == "_ibl_wheel.position.npy"
    loaded, series = one.load_dataset_from_id(str(record.id), details=True)
    assert loaded.shape == (3000,) and series.rel_path == record.rel_path and series.qc == "WARNING"
    with pytest.raises(ALFObjectNotFound):
        one.load_dataset_from_id(UNKNOWN)
    with pytest.raises(ValueError, match="UUID"):
        one.load_dataset_from_id("foo")


def test_load_datasets_with_a_collection_for_each(one):
    found, _ = one.load_datasets(
        S4, ["spikes.times", "spikes.times"], collections=["alf/probe01", SORTED], revisions=[None, OLD]
    )
    assert [each.size for each in found] == [120, 10]
    [path], _ = one.load_datasets(S1, ["root.file.npy"], collections="", download_only=True)
    assert path == one.eid2path(S1) / "root.file.npy"
    with pytest.raises(ALFObjectNotFound):
        one.load_datasets(S1, ["_ibl_trials.choice.npy"], collections=[""])
    for wrong in ({"collections": ["alf"]}, {"revisions": ["a", "b", "c"]}):
        with pytest.raises(ValueError, match="items for 2"):
            one.load_datasets(S4, ["spikes.times", "spikes.amps"], **wrong)
    with pytest.raises(ValueError, match="names only"):
        one.load_datasets(S4, ["spikes.times", {"object": "spikes"}])
    with pytest.raises(ALFMultipleCollectionsFound):
        one.load_datasets(S4, ["spikes.times"])


def test_whole_collections(one):
    found = one.load_collection(S4, SORTED)
    assert {name: sorted(each) for name, each in found.items()} == {
        "spikes": ["amps", "clusters", "times"],
        "clusters": ["channels", "depths"],
        "channels": ["localCoordinates"],
    }
    assert found.spikes.times.shape == (150,)
    assert list(one.load_collection(S4, SORTED, object="clusters", attribute="depths").clusters) == ["depths"]
    with pytest.raises(ALFObjectNotFound):
        one.load_collection(S4, SORTED, object="nothing")


def test_ids_of_many_at_once(one):
    eids = one.search()
    paths = one.eid2path(eids)
    assert one.path2eid(paths) == eids and one.to_eid(paths) == eids
    refs = one.eid2ref(eids, as_dict=False)
    assert one.ref2eid(refs) == eids and one.ref2path(refs) == paths
    assert one.eid2ref(eids[0]) == {"subject": "SWC-043.2", "date": dt.date(2020, 6, 20), "sequence": 10}
    assert one.ref2dict(refs)[0] == one.eid2ref(eids[0]) == one.path2ref(paths[0])
    assert one.dict2ref(one.eid2ref(eids)) == refs and one.is_exp_ref(refs) == [True] * 8 and not one.is_exp_ref("foo")
    assert one.path2ref("/x/y") is None and one.dict2ref(None) is None


def test_either_name_of_the_first_argument(one):
    for word in ("id", "eid"):
        assert one.get_details(**{word: S1})["subject"] == "ZM_1150"
        assert one.eid2path(**{word: S1}) == one.eid2path(S1)
    with pytest.raises(TypeError, match="twice"):
        one.load_dataset(S1, "trials.choice", eid=S1)


def test_details(one):
    found = one.get_details(S1)
    assert found.name == uuid.UUID(S1) and found.date == dt.date(2019, 5, 7) and found["lab"] == "mainenlab"
    full = one.get_details(S1, full=True)
    assert len(full) == 28 and set(full.subject) == {"ZM_1150"}
    record = one.get_details(S1, full=True, query_type="remote")
    assert record["n_trials"] == 100 and record["data_dataset_session_related"]


def test_insertions(one):
    pids = list(map(uuid.UUID, PIDS.values()))
    assert one.eid2pid(S4) == (pids, list(PIDS)) and one.pid2eid([*pids, UNKNOWN])[1:] == [
        (uuid.UUID(S4), "probe01"),
        (None, None),
    ]
    assert one.eid2pid(S4, name="probe01")[0] == pids[1:] and one.eid2pid(S4, details=True)[2][0]["model"] == "3B2"
    assert one.eid2pid(S1, details=True) == (None, None, None)
    assert one.search_insertions(subject="KS005", name="probe00") == pids[:1]
    assert one.search_insertions(lab="mainenlab") == []
    found, records = one.search_insertions(session=S4, details=True)
    assert sorted(found) == pids and {record["session"] for record in records} == {S4}
    with pytest.raises(TypeError, match="datasets"):
        one.search_insertions(dataset=["a"])
    with pytest.raises(ValueError, match="search term"):
        one.search_insertions(foo=1)


def test_regions_come_from_a_package_where_no_server_gave_them(one):
    try:
        import iblatlas  # noqa: F401
    except ImportError:
        with pytest.raises(LabweaveError, match=r"pip install labweave\[atlas\]"):
            one.search_insertions(atlas_acronym="root")
    else:
        assert one.search_insertions(atlas_acronym="no region") == []


def test_records_and_addresses(one):
    path = one.load_dataset(S4, "spikes.times", collection=SORTED, revision=OLD, download_only=True)
    record = one.path2record(path)
    assert record.rel_path == f"{SORTED}/#{OLD}#/spikes.times.npy" and record.name[0] == uuid.UUID(S4)
    url = f"{DATA_URL}/{SESSIONS.path[S4]}/{SORTED}/%23{OLD}%23/spikes.times.{record.name[1]}.npy"
    assert one.path2url(path) == one.record2url(record) == url and one.record2path(record) == path
    frame = one.list_datasets(S4, "spikes.times*", keep_eid_index=True, details=True)
    assert one.record2path(frame) == [one.path2record(each).pipe(one.record2path) for each in one.record2path(frame)]
    assert one.path2record(one.eid2path(S1))["subject"] == "ZM_1150"
    assert one.path2record("/x/mainenlab/Subjects/ZM_1150/2019-05-07/001/alf/no.such.npy") is None
    assert one.path2url([path, "/nowhere/x.y.npy"]) == [url, None]
    for method in (one.record2url, one.record2path):
        with pytest.raises(TypeError, match="Series"):
            method("text")


def test_types_and_revisions(one, capsys):
    assert one.dataset2type("spikes.times.npy") == "spikes.times"
    assert one.type2datasets(S1, "trials.choice") == ["alf/_ibl_trials.choice.npy"]
    assert len(one.type2datasets(S1, ["trials.choice", "wheel.position"], details=True)) == 2
    assert one.describe_dataset("_ibl_trials.choice.npy")["name"] == "trials.choice"
    assert {"trials.choice", "spikes.times"} <= {each["name"] for each in one.describe_dataset()}
    with pytest.raises(ValueError, match="no.such"):
        one.describe_dataset("no.such")
    assert one.describe_revision("nope") is None and "not found" in capsys.readouterr().out
    assert one.describe_revision(HOT, full=True)["name"] == HOT


def test_loaded_ids_are_kept_when_asked(one_lab, tmp_path):
    one = One(one_lab, tables_dir=tmp_path)
    one.load_dataset(S1, "trials.choice")
    with pytest.warns(UserWarning, match="record_loaded"):
        assert one.save_loaded_ids() == ([], None)
    one.record_loaded = True
    one.load_object(S1, "wheel")
    ids, path = one.save_loaded_ids(clear_list=False)
    assert len(ids) == 2 and path.read_text().split() == ["dataset_uuid", *texts(ids)]
    ids, path = one.save_loaded_ids(sessions_only=True)
    assert texts(ids) == [S1] and path.parent == tmp_path


def test_the_factory_gives_the_same_instance_again(one_lab):
    one = labweave.ONE(cache_dir=one_lab, mode="local")
    assert labweave.ONE(cache_dir=one_lab, mode="local") is one and one.offline
    assert not labweave.ONE(cache_dir=one_lab).offline and labweave.ONE.version == labweave.__version__
    labweave.ONE.cache_clear()
    assert labweave.ONE.setup(one_lab).cache_dir == one_lab
    with pytest.raises(ValueError, match="local or remote"):
        labweave.ONE(mode="sideways")


def test_nothing_is_asked_or_written_by_opening(one_lab, monkeypatch, tmp_path):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    one = One(tmp_path / "cache")
    one.load_cache()
    assert len(one.search()) == 8 and one.list_datasets(S7) and not (tmp_path / "cache").exists()
    assert hasattr(one, "alyx") and one._web_client is one.alyx and one._cache.sessions.empty

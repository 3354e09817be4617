"""What changes in the tables shows at once: lost sessions and copies, other labs, aggregates."""

import uuid

import numpy as np
import one_lab
import pytest
from one_lab import S1, S2, S3, S4, S5, S6, S7, S8, UNKNOWN

import labweave
from labweave.database import upsert
from labweave.formats.alf.exceptions import ALFMultipleObjectsFound, ALFObjectNotFound
from labweave.one.api import One
from labweave.one.core import Core
from labweave.one.search.questions import Finder
from labweave.one.search.rows import Holding, SessionFilter
from labweave.schemas import dataset, session


def eids(finder, limit=None, lab=None, **wanted):
    return finder.eids(SessionFilter({} if lab is None else {"lab": lab}, **wanted), limit)


def texts(found):
    return [str(each) for each in found]


def test_missing_dates_and_lost_sessions_and_copies(database, tmp_path):
    """Sessions without a date come last on every server; what vanished or has no copy is left out."""
    one_lab.write_files(tmp_path)
    one_lab.fill(tmp_path)
    finder = Finder(labweave.database.current().connection)
    upsert(session.Session, [{"eid": S7, "session_date": None, "start_time": None}, {"eid": S3, "start_time": None}])
    assert eids(finder) == [S3, S2, S1, S5, S8, S4, S6, S7]
    assert eids(finder, limit=2) == [S3, S2]
    assert Core(tmp_path).session_paths([S7, UNKNOWN]) == [None, None]
    upsert(session.Session, [{"eid": S1, "session_vanished": UNKNOWN}, {"eid": S2, "path_lab": "elsewhere"}])
    assert S1 not in eids(finder) and finder.datasets([S1]) == [] and Core(tmp_path).session_paths([S1]) == [None]
    assert eids(finder, lab=["elsewhere"]) == [S2] and eids(finder, lab=["mainenlab"]) == [S3]
    assert "elsewhere" in finder.names("lab") and "/elsewhere/Subjects/ZM_1150/" in str(
        Core(tmp_path).session_paths([S2])[0]
    )
    [choice] = [row for row in finder.datasets([S2]) if row.name == "_ibl_trials.choice.npy"]
    [copy] = (dataset.FileRecord & {"dataset_id": choice.id}).to_dicts()
    holding = [Holding(names=("_ibl_trials.choice.npy",))]
    assert S2 in eids(finder, holding=holding)
    upsert(dataset.FileRecord, [{**copy, "present": False}])
    assert S2 not in eids(finder, holding=holding)
    assert finder.datasets_with([choice.id])[choice.id].exists is False and not finder.copies([choice.id])
    upsert(dataset.Dataset, [{"dataset_id": choice.id, "dataset_vanished": UNKNOWN}])
    assert finder.datasets_with([choice.id]) == {}


def test_a_session_of_two_labs_is_told_apart_by_its_lab(database, tmp_path):
    one_lab.write_files(tmp_path)
    one_lab.fill(tmp_path)
    upsert(session.Session, [{"eid": S2, "path_lab": "zadorlab", "session_number": 1}])
    core = Core(tmp_path)
    assert core.to_eid("zadorlab/Subjects/ZM_1150/2019-05-07/001") == S2
    assert core.to_eid("mainenlab/Subjects/ZM_1150/2019-05-07/001") == S1
    with pytest.raises(ALFMultipleObjectsFound, match=f"{S1}.*{S2}|{S2}.*{S1}"):
        core.to_eid("ZM_1150/2019-05-07/001")


def test_aggregates(database, tmp_path):
    one_lab.write_files(tmp_path)
    one_lab.fill(tmp_path)
    ids = [str(uuid.uuid4()) for _ in range(2)]
    paths = [
        "aggregates/Subjects/mainenlab/ZM_1150/_ibl_subjectTrials.table.npy",
        "public/aggregates/Tags/a_tag/clusters.table.npy",
    ]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / path, np.arange(3))
    upsert(
        dataset.Dataset,
        [{"dataset_id": id, "dataset_name": path.rpartition("/")[2]} for id, path in zip(ids, paths, strict=True)],
    )
    upsert(
        dataset.FileRecord,
        [
            {
                "file_record_id": str(uuid.uuid4()),
                "dataset_id": id,
                "repository": one_lab.SERVER,
                "relative_path": path,
                "present": True,
            }
            for id, path in zip(ids, paths, strict=True)
        ],
    )
    one = One(tmp_path)
    found = one.list_aggregates("subjects")
    assert texts(found.index) == ids[:1] and list(found.identifier) == ["mainenlab/ZM_1150"]
    assert list(one.list_aggregates("tags", "a_tag").rel_path) == ["aggregates/Tags/a_tag/clusters.table.npy"]
    assert one.list_aggregates("subjects", "nobody").empty
    assert list(one.load_aggregate("subjects", "ZM_1150", "_ibl_subjectTrials.table")) == [0, 1, 2]
    with pytest.raises(ALFObjectNotFound):
        one.load_aggregate("subjects", "ZM_1150", "no.such")
    assert len(one.list_datasets(S1)) == 27, "aggregates are of no session"
    record = one.path2record(f"{tmp_path}/{paths[0].removesuffix('.npy')}.{ids[0]}.npy")
    assert str(record.name) == ids[0] and record.rel_path == paths[0]


def test_what_is_listed_is_loaded_by_its_path_whatever_its_name(database, tmp_path):
    one_lab.write_files(tmp_path)
    one_lab.fill(tmp_path)
    names = ["notes.txt", "spike_train.npy", "a-b.c.npy"]
    upsert(
        dataset.Dataset,
        [{"dataset_id": str(uuid.uuid4()), "eid": S1, "collection": "alf", "dataset_name": name} for name in names],
    )
    one = One(tmp_path)
    session = one.eid2path(S1)
    for name in names:
        (session / "alf" / name).write_bytes(b"1")
    found = [path for name in names for path in one.list_datasets(S1, name)]
    assert found == [f"alf/{name}" for name in names]
    assert one.load_datasets(S1, found, download_only=True)[0] == [session / path for path in found]
    assert [one.load_dataset(S1, path, download_only=True) for path in found] == [session / path for path in found]

"""A folder that `ingest alf` has read, asked by both front ends: what is loaded is what was saved."""

import uuid

import numpy as np
import pandas as pd
import pytest

from labweave import ingest
from labweave.errors import ReadError
from labweave.ingest.base import NAMESPACE
from labweave.one import ONE
from labweave.one.api import One

EID = str(uuid.uuid3(NAMESPACE, "session/lab1/m1/2020-01-02/001"))
TIMES = np.linspace(0.0, 9.0, 10)
OBJECTS = np.array([{"a": 1}, None], dtype=object)


@pytest.fixture
def root(database, tmp_path):
    folder = tmp_path / "lab1/Subjects/m1/2020-01-02/001/alf/probe00"
    (folder / "#2024-01-01#").mkdir(parents=True)
    np.save(folder / "spikes.times.npy", TIMES[::2])
    np.save(folder / "#2024-01-01#/spikes.times.npy", TIMES)
    np.save(folder / "spikes.clusters.npy", np.arange(10))
    np.save(folder / "extras.objects.npy", OBJECTS, allow_pickle=True)
    pd.DataFrame({"intervals_0": TIMES, "intervals_1": TIMES + 1}).to_parquet(folder.parent / "_ibl_trials.table.pqt")
    assert ingest.run("alf", tmp_path, lab="elsewhere").failed == 0
    return tmp_path


@pytest.mark.filterwarnings("ignore::labweave.formats.alf.exceptions.ALFWarning")
def test_both_front_ends_answer(root):
    one, seed = One(), ONE(silent=True)
    assert one.search(subject="m1", datasets="spikes.times.npy") == [uuid.UUID(EID)]
    assert seed.search(subject="M1", dataset_types=["spikes.times"]) == [EID]
    folder = root / "lab1/Subjects/m1/2020-01-02/001"
    assert one.eid2path(EID) == one.eid2path(seed.eid_from_path(folder)) and str(one.path2eid(folder)) == EID
    assert one.list_datasets(EID, "spikes.*") == [
        "alf/probe00/#2024-01-01#/spikes.times.npy",
        "alf/probe00/spikes.clusters.npy",
        "alf/probe00/spikes.times.npy",
    ]
    spikes = one.load_object(EID, "spikes", collection="alf/probe00")
    assert np.array_equal(spikes.times, TIMES) and np.array_equal(spikes.clusters, np.arange(10))
    assert np.array_equal(one.load_dataset(EID, "spikes.times.npy", revision="2023"), TIMES[::2])
    assert np.array_equal(seed.load(EID, ["spikes.clusters"])[0], np.arange(10))
    assert one.load_object(EID, "trials").intervals.shape == (10, 2)
    path = one.load_dataset(EID, "extras.objects.npy", download_only=True)
    assert path == folder / "alf/probe00/extras.objects.npy"


def test_pickles_are_loaded_only_when_they_are_trusted(root):
    calls = (
        lambda one: one.load_dataset(EID, "extras.objects.npy"),
        lambda one: one.load_object(EID, "extras", collection="alf/probe00")["objects"],
    )
    more = {
        One: (
            lambda one: one.load_datasets(EID, ["extras.objects.npy"])[0][0],
            lambda one: one.load_collection(EID, "alf/probe00", object="extras")["extras"]["objects"],
            lambda one: one.load_dataset_from_id(one.list_datasets(EID, "extras*", details=True).index[0]),
        ),
        ONE: (lambda one: one.load(EID, ["extras.objects"])[0],),
    }
    for make, own in more.items():
        for call in (*calls, *own):
            with pytest.raises(ReadError, match="trust_pickles=True"):
                call(make(silent=True))
            assert call(make(silent=True, trust_pickles=True)).tolist() == OBJECTS.tolist()

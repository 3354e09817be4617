"""ONE sees the variables of onedata sessions, and follows their recipes."""

import uuid

import numpy as np
import pytest
from test_onedata import LAB, make_session, run

import labweave
from labweave.formats.alf.exceptions import ALFObjectNotFound, ALFWarning
from labweave.formats.onedata import LoadingRecipe
from labweave.ingest.onedata import save_recipe
from labweave.one.legacy.face import ONE
from labweave.schemas import session


def test_one_loads_variables_and_follows_recipes(database, tmp_path):
    written = make_session(tmp_path / "root")
    written.saveone(LoadingRecipe("numpy", "gone.npy"), "x.gone")
    run(tmp_path / "root")
    eid = session.Session().fetch1("eid")
    expected = written.loadone("mpci.roiActivityF")
    one = labweave.ONE(cache_dir=tmp_path / "cache")
    assert one.search(subject="M1", lab=LAB) == [uuid.UUID(eid)]
    assert "oneData/mpci.roiActivityF.npy" in one.list_datasets(eid)
    for name in ("mpci.roiActivityF.npy", "oneData/mpci.roiActivityF.npy"):
        np.testing.assert_array_equal(one.load_dataset(eid, name), expected)
    mpci = one.load_object(eid, "mpci", collection="oneData")
    np.testing.assert_array_equal(mpci["roiActivityF"], expected)
    np.testing.assert_array_equal(mpci["times"], np.arange(5.0))
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        one.load_dataset(eid, "x.gone.npy")
    save_recipe(eid, LoadingRecipe("S2P", "F", ["index(0)"]), "mpci.first")
    assert "oneData/mpci.first.npy" in one.list_datasets(eid)
    np.testing.assert_array_equal(one.load_dataset(eid, "mpci.first.npy"), expected[:, 0])


def test_both_front_ends_load_objects_with_recipes(database, tmp_path):
    """One that has a file, and one that is in the database alone."""
    written = make_session(tmp_path / "root")
    run(tmp_path / "root")
    eid = session.Session().fetch1("eid")
    whole = written.loadone("mpci.roiActivityF")
    save_recipe(eid, LoadingRecipe("S2P", "F", ["index(0)"]), "mpci.first")
    save_recipe(eid, LoadingRecipe("S2P", "F", ["index(1)"]), "alone.roi")
    expected = {"roiActivityF": whole, "times": np.arange(5.0), "first": whole[:, 0]}

    def check(bunch):
        assert set(bunch) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(bunch[name], values)

    one, old = labweave.ONE(cache_dir=tmp_path / "cache"), ONE(cache_dir=tmp_path / "cache")
    check(one.load_object(eid, "mpci"))
    check(one.load_object(eid, "mpci", collection="oneData"))
    check(old.load_object(eid, "mpci", collection="oneData"))
    check(old.load_object(eid, "mpci", collection="all"))
    check(one.load_collection(eid, "oneData")["mpci"])
    names = ["mpci.first.npy", "mpci.times.npy", "alone.roi.npy", "mpci.roiActivityF.npy"]
    truth = [whole[:, 0], np.arange(5.0), whole[:, 1], whole]
    for found in (
        one.load_datasets(eid, names)[0],
        [one.load_dataset(eid, name) for name in names],
        [old.load_dataset(eid, name) for name in names],
        old.load(eid, dataset_types=[name.removesuffix(".npy") for name in names]),
    ):
        for values, wanted in zip(found, truth, strict=True):
            np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(one.load_object(eid, "alone")["roi"], whole[:, 1])
    np.testing.assert_array_equal(old.load_object(eid, "alone", "oneData")["roi"], whole[:, 1])
    assert {f"oneData/{name}" for name in names} <= set(map(str, old.list(eid)))
    assert {f"oneData/{name}" for name in names} <= set(one.list_datasets(eid))
    assert {record["name"] for record in old.list(eid, details=True)} >= set(names)
    with pytest.warns(ALFWarning, match=r"mpci\.first\.npy"):
        paths = one.load_object(eid, "mpci", download_only=True)
    assert sorted(path.name for path in paths) == ["mpci.roiActivityF.npy", "mpci.times.npy"]
    for front in (one, old):
        with pytest.raises(FileNotFoundError if front is old else ALFObjectNotFound):
            front.load_dataset(eid, "mpci.first.npy", download_only=True)

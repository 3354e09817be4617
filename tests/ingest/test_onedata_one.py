"""ONE sees the variables of onedata sessions, and follows their recipes."""

import uuid

import numpy as np
import pytest
from test_onedata import LAB, make_session, run

import labweave
from labweave.formats.onedata import LoadingRecipe
from labweave.ingest.onedata import save_recipe
from labweave.one.legacy import ONE
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
    old = ONE(cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(old.load_dataset(eid, "mpci.roiActivityF.npy"), expected)

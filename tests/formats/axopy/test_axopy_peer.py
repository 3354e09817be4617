"""Beside AxoPy itself, where it is installed: each reads what the other wrote, value for value."""

import numpy as np
import pandas as pd
import pytest

from labweave.formats import axopy as ours

theirs = pytest.importorskip("axopy.storage", reason="AxoPy is not installed")
their_design = pytest.importorskip("axopy.design")
np.set_printoptions(legacy=False)  # AxoPy changes it for the whole process


def experiment(storage_of, design_of, root):
    """Write the same experiment with either program."""
    rng = np.random.default_rng(4)
    storage = storage_of(str(root))
    storage.subject_id = "p0"
    writer = storage.create_task("reaching")
    block = design_of().add_block()
    for n in range(15):
        attrs = {
            "target": ["left", "right"][n % 2],
            "gain": n / 3,
            "count": n,
            "hit": n % 3 == 0,
            "note": ["", 'a, "b"'][n % 2],
        }
        trial = block.add_trial(attrs)
        trial.add_array("emg", data=rng.normal(size=(3, 2 + n % 4)))
        trial.add_array("cursor", stack_axis=0)
        for _ in range(3):
            trial.arrays["cursor"].stack(rng.normal(size=(1, 2)).astype("f4"))
        trial.add_array("mask", data=rng.random(5) > 0.5)
        trial.add_array("spec", data=np.exp(1j * rng.random(4)).astype("c8"))
        writer.write(trial)
    writer.pickle({"gain": 3}, "calib")
    return root / "p0" / "reaching"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    mine = experiment(ours.Storage, ours.Design, tmp_path_factory.mktemp("ours"))
    peers = experiment(theirs.Storage, their_design.Design, tmp_path_factory.mktemp("theirs"))
    return mine, peers


@pytest.mark.parametrize("reader_of", [ours.TaskReader, theirs.TaskReader])
@pytest.mark.parametrize("array", ["emg", "cursor", "mask", "spec"])
def test_arrays_are_equal_whoever_wrote_and_reads(folders, reader_of, array):
    mine, peers = (list(reader_of(str(folder)).iterarray(array)) for folder in folders)
    assert len(mine) == len(peers) == 15
    for one, other in zip(mine, peers, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@pytest.mark.parametrize("reader_of", [ours.TaskReader, theirs.TaskReader])
def test_tables_are_equal_whoever_wrote_and_reads(folders, reader_of):
    mine, peers = (reader_of(str(folder)).trials for folder in folders)
    pd.testing.assert_frame_equal(mine, peers, rtol=1e-11)  # AxoPy rounds to 12 digits
    assert ours.TaskReader(str(folders[0])).trials["gain"].tolist() == [n / 3 for n in range(15)]


def test_files_have_the_same_objects(folders):
    import h5py

    for name in ("emg", "cursor", "mask", "spec"):
        mine, peers = ((folder / f"{name}.hdf5").read_bytes() for folder in folders)
        assert mine[8] == peers[8] == 0
        with h5py.File(folders[0] / f"{name}.hdf5") as one, h5py.File(folders[1] / f"{name}.hdf5") as other:
            assert list(one) == list(other)
            assert all(one[key].id.get_type() == other[key].id.get_type() for key in one)
            assert all(one[key].chunks is None and not one[key].attrs for key in one)


def test_axopys_own_trials_can_be_stored(tmp_path):
    trial = their_design.Design().add_block().add_trial({"x": 1})
    trial.add_array("a", data=np.arange(3))
    (tmp_path / "t").mkdir()
    ours.TaskWriter(str(tmp_path / "t")).write(trial)
    assert trial.arrays["a"].data is None
    assert theirs.TaskReader(str(tmp_path / "t")).trials["x"].tolist() == [1]


def test_single_files_and_pickles_are_exchanged(folders, tmp_path):
    theirs.write_hdf5(str(tmp_path / "x.hdf5"), np.eye(3))
    ours.write_hdf5(tmp_path / "x.hdf5", np.ones(2), "more")
    assert ours.read_hdf5(tmp_path / "x.hdf5").tolist() == np.eye(3).tolist()
    assert theirs.read_hdf5(str(tmp_path / "x.hdf5"), "more").tolist() == [1, 1]
    assert [theirs.TaskReader(str(folder)).pickle("calib") for folder in folders] == [{"gain": 3}] * 2
    assert [ours.TaskReader(str(folder), trust_pickles=True).pickle("calib") for folder in folders] == [{"gain": 3}] * 2

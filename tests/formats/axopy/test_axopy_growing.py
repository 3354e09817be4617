"""Array files made without HDF5: what HDF5 itself reads of them, and makes of them."""

import random

import h5py
import numpy as np
import pytest

from labweave.errors import ReadError
from labweave.formats.axopy.arrays import storable
from labweave.formats.axopy.growing import FORMAT, GrowingArrayFile
from labweave.formats.axopy.names import StorageError

SEED = 3
SHAPES = [(), (3,), (2, 0), (2, 3, 4), (1,) * 32]
NUMBERS = ["?", "i1", "u2", ">i4", "u8", "f2", "f4", "f8", ">f8", "c8", "c16", "S7", "V5", "M8[ms]", "m8[D]"]
FIELDS = [("place", "i2", (2, 3)), ("hit", "?"), ("name", "S4")]


def add_all(path, values):
    """Add arrays, in the order of the mapping."""
    growing = GrowingArrayFile(path)
    for name, value in values.items():
        growing.add(name, np.asarray(value)).apply(path.parent)
    growing.close()


def check_all(path, values):
    with h5py.File(path, locking=False) as file:
        assert list(file) == sorted(values)
        assert {name: int(file[name][()]) for name in file} == values


@pytest.mark.parametrize("dtype", [*NUMBERS, FIELDS, np.dtype([("a", "i1"), ("b", "f8")], align=True)], ids=str)
def test_hdf5_gives_a_dataset_the_type_and_shape_that_it_gives_its_own(tmp_path, dtype):
    noise = np.random.default_rng(SEED).integers(0, 2, 24 * 64, dtype="u1")
    growing, arrays = GrowingArrayFile(tmp_path / "a.hdf5"), {}
    for number, shape in enumerate(SHAPES):
        array = storable(np.ndarray(shape, dtype, noise.tobytes()), "a")
        growing.add(str(number), array).apply(tmp_path)
        arrays[str(number)] = array
    growing.close()
    with h5py.File(tmp_path / "a.hdf5") as ours, h5py.File(tmp_path / "b.hdf5", "w", libver=FORMAT) as theirs:
        for name, array in arrays.items():
            theirs[name] = array
            assert ours[name].id.get_type().equal(theirs[name].id.get_type())
            assert ours[name].shape == array.shape
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name][...].tobytes() == theirs[name][...].tobytes() == array.tobytes()


def test_text_keeps_its_encoding(tmp_path):
    texts = {"0": np.array(["tâche", ""]), "1": np.array([b"abcdef", b""])}
    add_all(tmp_path / "a.hdf5", {name: storable(value, name) for name, value in texts.items()})
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file["0"].asstr()[()].tolist() == ["tâche", ""]
        assert file["1"][()].tolist() == [b"abcdef", b""]
        assert [h5py.check_string_dtype(file[name].dtype).encoding for name in file] == ["utf-8", "ascii"]


@pytest.mark.parametrize("in_order", [True, False])
def test_hdf5_finds_every_name_and_goes_on_with_the_file(tmp_path, in_order):
    """Enough names for a tree of three levels, and for each of its nodes to be cut."""
    path, names = tmp_path / "a.hdf5", list(map(str, range(6000)))
    if not in_order:
        random.Random(SEED).shuffle(names)
    values = {name: number for number, name in enumerate(names)}
    add_all(path, values)
    check_all(path, values)
    with h5py.File(path, "a", libver=FORMAT) as file:
        for number in range(0, 6000, 6):
            file[f"{number}b"] = number
            values[f"{number}b"] = number
            del file[str(number)], values[str(number)]
    more = {f"{number}c": number for number in range(1000)}
    add_all(path, more)
    check_all(path, values | more)


def test_a_file_that_is_opened_anew_for_each_trial_does_not_grow_more(tmp_path):
    values = {str(number): number for number in range(300)}
    add_all(tmp_path / "once.hdf5", values)
    for name, value in values.items():
        add_all(tmp_path / "anew.hdf5", {name: value})
    check_all(tmp_path / "anew.hdf5", values)
    assert (tmp_path / "anew.hdf5").stat().st_size == (tmp_path / "once.hdf5").stat().st_size


def test_what_is_written_per_trial_does_not_grow(tmp_path):
    growing, sizes = GrowingArrayFile(tmp_path / "a.hdf5"), []
    for number in range(8000):
        change = growing.add(str(number), np.zeros(3))
        change.apply(tmp_path)
        sizes.append(change.after - change.before + sum(len(piece) for _, piece in change.pieces))
    growing.close()
    quarters = [sum(sizes[start : start + 2000]) for start in range(0, 8000, 2000)]
    assert max(quarters) < 1.5 * quarters[0]
    assert quarters[-1] / 2000 < 1500


def test_a_name_that_is_there_is_refused_and_nothing_changes(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w", libver=FORMAT) as file:
        file["0"] = 7
    growing = GrowingArrayFile(path)
    with pytest.raises(StorageError, match="has a dataset 0 already"):
        growing.add("0", np.zeros(3))
    growing.close()
    check_all(path, {"0": 7})


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"userblock_size": 512}])
def test_files_of_another_form_are_refused(tmp_path, options):
    with h5py.File(tmp_path / "a.hdf5", "w", **options) as file:
        file["x"] = 1
    with pytest.raises(ReadError, match="HDF5 file"):
        GrowingArrayFile(tmp_path / "a.hdf5")


def test_a_file_that_is_cut_is_refused(tmp_path):
    path = tmp_path / "a.hdf5"
    add_all(path, {str(number): number for number in range(50)})
    whole = path.read_bytes()
    for length in (0, 50, 500, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ReadError, match="not a complete HDF5 file"):
            GrowingArrayFile(path)


def test_more_axes_than_hdf5_has_are_refused(tmp_path):
    growing = GrowingArrayFile(tmp_path / "a.hdf5")
    with pytest.raises(TypeError, match="33 axes"):
        growing.add("0", np.zeros((1,) * 33))
    growing.close()

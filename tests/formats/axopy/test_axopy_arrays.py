"""Array files as a writer leaves them: what HDF5 itself reads of them, and makes of them."""

import random

import h5py
import numpy as np
import pytest

from labweave.errors import ReadError
from labweave.formats.axopy import TaskReader, TaskWriter, Trial, recover, write_hdf5
from labweave.formats.axopy.arrays import FORMAT, encode_array
from labweave.formats.axopy.journal import NAME
from labweave.formats.axopy.names import StorageError
from labweave.formats.axopy.recovery import complete

SEED = 3
SHAPES = [(), (3,), (2, 0), (2, 3, 4), (1,) * 32]
NUMBERS = ["?", "i1", "u2", ">i4", "u8", "f2", "f4", "f8", ">f8", "c8", "c16", "S7", "V5", "M8[ms]", "m8[D]"]
FIELDS = [("place", "i2", (2, 3)), ("hit", "?"), ("name", "S4")]


def trial(n, **arrays):
    made = Trial({"n": n})
    for name, data in arrays.items():
        made.add_array(name, data=data)
    return made


def bytes_of(array):
    """Return the bytes that count; those between aligned fields do not."""
    return [array[name].tobytes() for name in array.dtype.names] if array.dtype.names else array.tobytes()


def write_all(folder, arrays):
    """Write a trial for each array."""
    writer = TaskWriter(folder)
    for n, array in enumerate(arrays):
        writer.write(trial(n, a=array))
    return writer


@pytest.mark.parametrize("dtype", [*NUMBERS, FIELDS, np.dtype([("a", "i1"), ("b", "f8")], align=True)], ids=str)
def test_hdf5_gives_a_dataset_the_type_and_shape_that_it_gives_its_own(tmp_path, dtype):
    noise = np.random.default_rng(SEED).integers(0, 2, 24 * 64, dtype="u1")
    arrays = [np.ndarray(shape, dtype, noise.tobytes()) for shape in SHAPES]
    writer = write_all(tmp_path, arrays)
    for journaled, array in zip(TaskReader(tmp_path).iterarray("a"), arrays, strict=True):
        assert (journaled.dtype, journaled.shape, bytes_of(journaled)) == (array.dtype, array.shape, bytes_of(array))
    writer.close()
    opaque = np.dtype(dtype).kind in "mM"
    with h5py.File(tmp_path / "a.hdf5") as ours, h5py.File(tmp_path / "b.hdf5", "w", libver=FORMAT) as theirs:
        for n, array in enumerate(arrays):
            name = str(n)
            theirs[name] = array.astype(h5py.opaque_dtype(array.dtype)) if opaque else array
            assert ours[name].id.get_type().equal(theirs[name].id.get_type())
            assert (ours[name].shape, ours[name].dtype) == (array.shape, theirs[name].dtype)
            assert bytes_of(np.asarray(ours[name])) == bytes_of(np.asarray(theirs[name])) == bytes_of(array)


@pytest.mark.parametrize("array", [np.ones(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)), [np.nan], ["é"]])
def test_an_array_that_is_in_the_file_and_in_the_journal_is_one(tmp_path, array):
    """As after a crash between the last file and the new journal."""
    writer = write_all(tmp_path, [np.array(array)])
    journal = (tmp_path / NAME).read_bytes()
    writer.close()
    (tmp_path / NAME).write_bytes(journal)
    assert TaskReader(tmp_path).examine().problems == []
    assert recover(tmp_path) == []
    assert not (tmp_path / NAME).exists()


def test_text_keeps_its_encoding(tmp_path):
    write_all(tmp_path, [np.array(["tâche", ""]), np.array([b"abcdef", b""])]).close()
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file["0"].asstr()[()].tolist() == ["tâche", ""]
        assert file["1"][()].tolist() == [b"abcdef", b""]
        assert [h5py.check_string_dtype(file[name].dtype).encoding for name in file] == ["utf-8", "ascii"]


def test_the_files_are_written_anew_in_growing_steps(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(
        "labweave.formats.axopy.writer.complete", lambda *args, **more: (steps.append(n), complete(*args, **more))
    )
    writer = TaskWriter(tmp_path)
    for n in range(1000):
        writer.write(trial(n, a=[n]))
    assert steps == [63, 127, 255, 511]
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert len(file) == 512
    writer.close()
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert {name: file[name][0] for name in file} == {str(n): n for n in range(1000)}


def test_a_name_that_is_there_is_refused_and_nothing_changes(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["0"] = 7
    with pytest.raises(StorageError, match="has a dataset 0 already"):
        TaskWriter(tmp_path).write(trial(0, a=[1]))
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert (list(file), file["0"][()]) == (["0"], 7)
    assert [path.name for path in tmp_path.iterdir()] == ["a.hdf5"]


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"userblock_size": 512}])
def test_a_file_of_another_program_is_gone_on_with(tmp_path, options):
    with h5py.File(tmp_path / "a.hdf5", "w", **options) as file:
        file["x"] = 1
    write_all(tmp_path, [np.arange(3)]).close()
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert (file["x"][()], file["0"][()].tolist()) == (1, [0, 1, 2])


def test_a_file_that_is_cut_is_refused(tmp_path):
    for n in range(50):
        write_hdf5(tmp_path / "a.hdf5", [n], f"x{n}")
    whole = (tmp_path / "a.hdf5").read_bytes()
    for length in (0, 50, 500, len(whole) - 1):
        (tmp_path / "a.hdf5").write_bytes(whole[:length])
        with pytest.raises(ReadError, match="not a complete HDF5 file|the file is empty"):
            TaskWriter(tmp_path).write(trial(0, a=[1]))


def test_more_axes_or_fields_than_hdf5_has_are_refused():
    with pytest.raises(TypeError, match="33 axes"):
        encode_array(np.zeros((1,) * 33), "a")
    with pytest.raises(TypeError, match="too many fields"):
        encode_array(np.zeros(1, [(f"field{n}", "f8") for n in range(3000)]), "a")


def test_hdf5_finds_every_name_and_goes_on_with_the_file(tmp_path):
    writer = write_all(tmp_path, [[n] for n in range(700)])
    writer.close()
    removed = random.Random(SEED).sample(range(700), 100)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        for n in removed:
            del file[str(n)]
    for n in range(700, 900):
        writer.write(trial(n, a=[n]))
    writer.close()
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert {name: file[name][0] for name in file} == {str(n): n for n in range(900) if n not in removed}
    assert TaskReader(tmp_path).examine().missing == {"a": sorted(removed)}

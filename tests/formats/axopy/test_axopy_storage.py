"""AxoPy's storage API: what goes in comes out, and every row of the table of edge cases."""

import hashlib
import json
import pickle
import shutil
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest

from labweave.errors import ReadError, SourceError
from labweave.formats.axopy import (
    Array,
    Block,
    Design,
    Storage,
    TaskReader,
    TaskWriter,
    Trial,
    TrialWriter,
    makedirs,
    read_hdf5,
    storage_to_zip,
    write_hdf5,
)
from labweave.formats.axopy.arrays import ArrayFile

FLOATS = [3.032293515515602, 0.1, 1e-300, 1.7976931348623157e308, 5e-324, -0.0, 2.5]
ARRAYS = [
    np.array([1.5, -2.5]),
    np.arange(6, dtype="<i2").reshape(2, 3),
    np.arange(6, dtype=">f4").reshape(3, 2),
    np.array([1 + 2j, 3 - 4j], dtype="c8"),
    np.array([[True], [False]]),
    np.zeros((0, 2)),
    np.array(5),
    np.array([b"ab", b"c"]),
    np.array(["müde", "", "é\u0301"]),
    np.array(["2026-01-02T03:04:05.678901", "NaT"], dtype="M8[us]"),
    np.array([1, 2], dtype="m8[ns]"),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(24)[::2].reshape(3, 4).T,
]


@pytest.fixture
def storage(tmp_path):
    made = Storage(str(tmp_path / "data"))
    made.subject_id = "p0"
    return made


def trial(attrs, **arrays):
    made = Trial(attrs)
    for name, data in arrays.items():
        made.add_array(name, data=data)
    return made


def reader(storage, task="t"):
    return storage.require_task(task)


def table_text(storage, task="t"):
    with open(f"{storage.root}/p0/{task}/trials.csv", encoding="utf-8", newline="") as file:
        return file.read()


def test_an_experiment_is_written_and_read(storage):
    design = Design()
    for _ in range(2):
        block = design.add_block()
        for target in ("left", "right", "left"):
            block.add_trial({"target": target})
    writer = storage.create_task("reaching")
    for block in design:
        for one in block:
            one.add_array("emg")
            one.add_array("cursor", stack_axis=0)
            for sample in range(4):
                one.arrays["emg"].stack(np.full((3, 2), sample))
                one.arrays["cursor"].stack(np.array([[sample, block.index]], dtype="f4"))
            one.attrs["time"] = 0.25
            writer.write(one)
            assert one.arrays["emg"].data is None
    read = storage.require_task("reaching")
    assert list(read.trials.columns) == ["target", "block", "trial", "time"]
    assert read.trials["block"].tolist() == [0, 0, 0, 1, 1, 1]
    assert read.trials["trial"].tolist() == [0, 1, 2, 0, 1, 2]
    emg = list(read.iterarray("emg"))
    assert [values.shape for values in emg] == [(3, 8)] * 6
    assert emg[0][0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert read.array("cursor").shape == (24, 2)
    assert read.array("cursor")[-1].tolist() == [3, 1]
    assert (list(storage.subject_ids), list(storage.task_ids)) == (["p0"], ["reaching"])
    assert (read.array_names(), read.examine().status, read.examine().problems) == (["cursor", "emg"], "complete", [])


@pytest.mark.parametrize("values", ARRAYS, ids=lambda values: f"{values.dtype}-{values.shape}")
def test_arrays_come_back_as_they_were(storage, values):
    storage.create_task("t").write(trial({"x": 1}, a=values))
    (found,) = reader(storage).iterarray("a")
    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    np.testing.assert_array_equal(found, values)
    (again,) = reader(storage).iterarray("a")
    assert again.tobytes() == np.ascontiguousarray(values).tobytes()


@pytest.mark.parametrize("value", FLOATS)
def test_floats_keep_all_their_digits(storage, value):
    writer = storage.create_task("t")
    for one in (value, np.float64(value)):
        writer.write(trial({"x": one}))
    assert [repr(float(found)) for found in reader(storage).trials["x"]] == [repr(value)] * 2


def test_the_table_has_the_text_that_axopy_writes(storage):
    writer = storage.create_task("t")
    writer.write(trial({"i": 3, "b": True, "f": 0.5, "s": 'say "x", y', "n": None, "l": [1, 2], "inf": float("inf")}))
    writer.write(
        trial(
            {
                "i": np.int64(4),
                "b": np.False_,
                "f": np.float32(0.5),
                "s": "two\nlines",
                "n": float("nan"),
                "l": (1,),
                "inf": -np.inf,
            }
        )
    )
    writer.close()
    assert table_text(storage) == (
        'i,b,f,s,n,l,inf\n3,True,0.5,"say ""x"", y",,"[1, 2]",inf\n4,False,0.5,"two\nlines",,"(1,)",-inf\n'
    )


def test_new_attributes_are_empty_before_and_missing_ones_after(storage):
    writer = storage.create_task("t")
    for attrs in ({"x": 1}, {"x": 2, "note": "late"}, {"note": "alone"}, {"x": 4}):
        writer.write(trial(attrs, a=[1]))
    writer.close()
    assert table_text(storage) == "x,note\n1,\n2,late\n,alone\n4,\n"
    assert writer.trials.data == {"x": [1, 2, None, 4], "note": [None, "late", "alone", None]}
    assert reader(storage).examine().status == "complete"


def test_an_int_stays_an_int_when_a_later_one_is_missing(storage):
    writer = storage.create_task("t")
    writer.write(trial({"x": 1, "y": 0}))
    writer.write(trial({"x": None, "y": 0}))
    writer.close()
    assert table_text(storage) == "x,y\n1,0\n,0\n"


def test_a_trial_needs_neither_block_nor_number(storage):
    storage.create_task("t").write(Trial({"x": 1}))
    assert reader(storage).trials["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"good": [1], "never": None}, TypeError),
        ({"good": [1], "objects": np.array([{}, 1], dtype=object)}, TypeError),
        ({"a/b": [1]}, ValueError),
    ],
)
def test_a_trial_that_is_refused_leaves_nothing(storage, arrays, error):
    writer = storage.create_task("t")
    writer.write(trial({"x": 1}, good=[0]))
    with pytest.raises(error):
        writer.write(trial({"x": 2}, **arrays))
    writer.close()
    assert table_text(storage) == "x\n1\n"
    assert reader(storage).examine().problems == []
    writer.write(trial({"x": 3}, good=[3]))
    assert [values.tolist() for values in reader(storage).iterarray("good")] == [[0], [3]]


def test_a_trial_written_twice_is_refused_the_second_time(storage):
    writer, one = storage.create_task("t"), trial({"x": 1}, a=[1])
    writer.write(one)
    with pytest.raises(TypeError, match="'a' holds no data"):
        writer.write(one)
    writer.close()
    assert table_text(storage) == "x\n1\n"


def test_a_trial_without_attributes_is_refused(storage):
    with pytest.raises(ValueError, match="no attribute"):
        storage.create_task("t").write(Trial({}))


def test_a_second_writer_on_a_task_is_refused(storage):
    storage.create_task("t").write(trial({"x": 1}, a=[1]))
    with pytest.raises(ValueError, match="earlier writer"):
        TaskWriter(f"{storage.root}/p0/t").write(trial({"x": 2}, a=[2]))
    with pytest.raises(ValueError, match="earlier writer"):
        TrialWriter(f"{storage.root}/p0/t/trials.csv").write({"x": 2})
    assert table_text(storage) == "x\n1\n"


def test_a_writer_goes_on_after_it_was_closed(storage):
    writer = storage.create_task("t")
    writer.write(trial({"x": 1}, a=[1]))
    writer.close()
    assert sorted(path.name for path in (writer._folder).iterdir()) == ["a.hdf5", "trials.csv"]
    writer.write(trial({"x": 2}, a=[2]))
    assert reader(storage).array("a").tolist() == [[1], [2]]


def test_the_root_is_made_with_its_parents(tmp_path):
    storage = Storage(str(tmp_path / "x" / "y"))
    assert (tmp_path / "x" / "y").is_dir()
    assert (list(storage.subject_ids), list(storage.task_ids), storage.subject_id) == ([], [], None)
    with pytest.raises(ValueError, match="subject_id first"):
        storage.create_task("t")
    with pytest.raises(ValueError, match="None"):
        storage.require_task("t")


@pytest.mark.parametrize("value", [None, 3])
def test_a_subject_id_that_is_no_text_is_refused(storage, value):
    with pytest.raises(TypeError):
        storage.subject_id = value
    assert storage.subject_id == "p0"


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "a\\b", "../esc", "/abs", "x\0y", "C:x", "n" * 65])
def test_names_that_leave_their_folder_are_refused(storage, value, tmp_path):
    with pytest.raises(ValueError, match="can't be a subject id"):
        storage.subject_id = value
    with pytest.raises(ValueError, match="can't be a task id"):
        storage.create_task(value)
    with pytest.raises(ValueError, match="can't be a pickle name"):
        storage.create_task("t").pickle(1, value)
    with pytest.raises(ValueError):
        storage.require_task(value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "p0", "t"]


def test_a_file_in_the_place_of_a_folder_is_an_error_at_once(storage, tmp_path):
    (tmp_path / "data" / "taken").write_text("x")
    with pytest.raises(FileExistsError):
        storage.subject_id = "taken"
    assert (storage.subject_id, list(storage.subject_ids)) == ("p0", ["p0"])
    (tmp_path / "data" / "p0" / "t").write_text("x")
    storage.allow_overwrite = True
    with pytest.raises(ValueError, match="is a file"):
        storage.create_task("t")


def test_a_task_is_started_once_unless_overwriting_is_allowed(storage):
    writer = storage.create_task("tâche 1")
    writer.write(trial({"x": 1}, a=[1]))
    writer.pickle({"y": 1}, "model")
    with pytest.raises(ValueError, match="p0 has started task tâche 1 already"):
        storage.create_task("tâche 1")
    storage.allow_overwrite = True
    storage.create_task("tâche 1").write(trial({"z": 2}))
    read = reader(storage, "tâche 1")
    assert (read.trials.columns.tolist(), read.array_names(), read.pickle_names()) == (["z"], [], [])


def test_an_empty_task_has_no_trials(storage):
    storage.create_task("t")
    read = reader(storage)
    assert (len(read.trials), read.examine().status) == (0, "empty")
    with pytest.raises(FileNotFoundError):
        next(read.iterarray("a"))


def test_trials_are_read_once_until_they_are_refreshed(storage):
    writer = storage.create_task("t")
    writer.write(trial({"x": 1}))
    read = reader(storage)
    assert read.trials is read.trials
    writer.write(trial({"x": 2}))
    assert len(read.trials) == 1
    read.refresh()
    assert read.trials["x"].tolist() == [1, 2]


def test_a_trial_may_lack_an_array(storage):
    writer = storage.create_task("t")
    writer.write(trial({"x": 0}, a=[[1, 2]], b=[1]))
    writer.write(trial({"x": 1}, a=[[3, 4], [5, 6]]))
    writer.write(trial({"x": 2}, a=[[7, 8]], b=[2]))
    read = reader(storage)
    assert [None if v is None else v.tolist() for v in read.iterarray("b")] == [[1], None, [2]]
    assert [v.tolist() for v in read.iterarray("b", skip_missing=True)] == [[1], [2]]
    assert read.array("a").tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert read.array("b").tolist() == [[1], [2]]
    state = read.examine()
    assert (state.status, state.missing, state.problems) == (
        "half_written",
        {"b": [1]},
        ["trial 1 is half-written: no b"],
    )


def test_arrays_of_different_length_can_not_be_joined(storage):
    writer = storage.create_task("t")
    writer.write(trial({"x": 0}, a=[1, 2, 3]))
    writer.write(trial({"x": 1}, a=[1, 2, 3, 4]))
    with pytest.raises(ValueError):
        reader(storage).array("a")


def test_pickles_are_whole_or_absent(storage):
    writer = storage.create_task("t")
    writer.pickle({"gain": 2}, "calib")
    writer.pickle({"gain": 3}, "calib")
    with pytest.raises(ReadError, match="trust_pickles=True"):
        reader(storage).pickle("calib")
    storage.trust_pickles = True
    assert reader(storage).pickle("calib") == {"gain": 3}
    with pytest.raises((pickle.PicklingError, AttributeError)):
        writer.pickle(lambda: 1, "calib")
    assert reader(storage).pickle("calib") == {"gain": 3}
    with pytest.raises(FileNotFoundError):
        reader(storage).pickle("absent")
    shutil.rmtree(f"{storage.root}/p0/t")
    with pytest.raises(SourceError, match="create_task"):
        writer.pickle(1, "x")


def test_trial_writer_alone(tmp_path):
    path = tmp_path / "trials.csv"
    writer = TrialWriter(str(path))
    writer.write({})
    assert not path.exists()
    writer.write({"x": None})
    writer.write({"x": 0.1})
    assert path.read_text() == 'x\n""\n0.1\n'
    assert (writer.data, writer.df["x"].iloc[1], writer.filepath) == ({"x": [None, 0.1]}, 0.1, str(path))


def test_design_copies_and_checks(tmp_path):
    array, block, given = Array(), Block(0), {"a": 1}
    data = np.zeros(2)
    array.stack(data)
    data[0] = 5
    array.stack([1.0])
    assert array.data.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="stack_axis is 3"):
        Array(stack_axis=3)
    assert [block.add_trial(given).attrs["trial"] for _ in range(3)] == [0, 1, 2]
    assert (given, [one.attrs["trial"] for one in block]) == ({"a": 1}, [0, 1, 2])
    block.shuffle(seed=3, reset_index=False)
    assert sorted(one.attrs["trial"] for one in block) == [0, 1, 2]
    block.shuffle(seed=3)
    assert [one.attrs["trial"] for one in block] == [0, 1, 2]
    deep = Array(np.zeros((2, 3)), stack_axis=2)
    deep.stack(np.ones((2, 3)))
    assert deep.data.shape == (2, 3, 2)
    assert str(Trial({"b": 1})) == "{'b': 1}"


def test_single_hdf5_files(tmp_path):
    path = tmp_path / "x.hdf5"
    write_hdf5(str(path), [1, 2, 3])
    write_hdf5(path, np.eye(2), dataset="g/h")
    assert read_hdf5(str(path)).tolist() == [1, 2, 3]
    assert read_hdf5(path, "g/h").tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="has a dataset data already"):
        write_hdf5(path, [1])
    with pytest.raises(TypeError, match="holds no data"):
        write_hdf5(tmp_path / "none.hdf5", None)
    assert not (tmp_path / "none.hdf5").exists()
    for name in ("absent", "g", "data/x"):
        with pytest.raises(TypeError, match="no dataset"):
            read_hdf5(path, name)
    for call in (lambda: read_hdf5(tmp_path / "no.hdf5"), lambda: write_hdf5(tmp_path / "no" / "x.hdf5", [1])):
        with pytest.raises(FileNotFoundError):
            call()
    with h5py.File(path) as file:
        assert (file["data"].chunks, file["data"].compression, len(file["data"].attrs)) == (None, None, 0)
    assert path.read_bytes()[8] == 0  # superblock of the earliest format


def test_makedirs(tmp_path):
    makedirs(tmp_path / "a" / "b")
    makedirs(tmp_path / "a" / "b", exist_ok=True)
    with pytest.raises(FileExistsError):
        makedirs(tmp_path / "a" / "b")


@pytest.mark.parametrize("options", [{}, {"userblock_size": 512}])
@pytest.mark.parametrize("kind", ["external", "soft", "virtual", "other file", "huge"])
def test_hdf5_files_that_leave_themselves_are_refused(tmp_path, kind, options):
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "trials.csv").write_text("x\n1\n")
    write_hdf5(tmp_path / "secret.hdf5", [42.0])
    (tmp_path / "raw").write_bytes(np.array([42.0]).tobytes())
    with h5py.File(folder / "a.hdf5", "w", **options) as file:
        if kind == "external":
            file["0"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "/data")
        elif kind == "soft":
            file["0"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((1,), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.hdf5"), "data", (1,))
            file.create_virtual_dataset("0", layout)
        elif kind == "other file":
            file.create_dataset("0", shape=(1,), dtype="f8", external=[(str(tmp_path / "raw"), 0, 8)])
        else:
            file.create_dataset("0", shape=(10**12,), dtype="f8", chunks=(1000,))
    with pytest.raises(ReadError, match="link|other file|no dataset 0|can't hold"):
        list(TaskReader(folder).iterarray("a"))
    with pytest.raises(ReadError):
        read_hdf5(folder / "a.hdf5", "0")


def test_datasets_of_other_programs_are_read_too(tmp_path):
    (tmp_path / "trials.csv").write_text("x\n" + "1\n" * 6)
    with h5py.File(tmp_path / "a.hdf5", "w", userblock_size=512) as file:
        file.create_dataset("0", data=np.arange(1000.0), chunks=(10,), compression="gzip")
        file.create_dataset("1", data=["müde", "x"])
        file.create_dataset("2", data=np.arange(5.0))
        file.create_dataset("3", shape=(3,), dtype="i4", fillvalue=7)
        file.create_dataset("4", data=np.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")]))
        file.create_dataset("5", shape=(1,), dtype=h5py.ref_dtype)
    arrays = TaskReader(tmp_path).iterarray("a")
    assert next(arrays).tolist() == list(range(1000))
    assert next(arrays).tolist() == ["müde", "x"]
    assert next(arrays).tolist() == [0, 1, 2, 3, 4]
    assert next(arrays).tolist() == [7, 7, 7]
    assert next(arrays).tolist() == [(1, 2.5)]
    with pytest.raises(ReadError, match="no plain values"):
        next(arrays)


@pytest.mark.parametrize("options", [{}, {"userblock_size": 512}, {"libver": "latest"}, {"track_order": True}])
def test_files_that_other_programs_lay_out_otherwise_are_read_too(tmp_path, options):
    with h5py.File(tmp_path / "a.hdf5", "w", **options) as file:
        for n in range(12):
            file.create_dataset(str(n), data=np.arange(6.0) + n, track_times=n > 6)
        file.create_dataset("12", shape=(6,), dtype="f8")
        file.create_dataset("13", shape=(6,), dtype="f8", fillvalue=7)
        file.create_dataset("14", data=np.arange(6.0), compression="gzip")
    with ArrayFile(tmp_path, "a.hdf5") as file:
        assert file.rows() == list(range(15))
        found = [file.read(str(row)).tolist() for row in file.rows()]
    assert found == [*([n + x for x in range(6)] for n in range(12)), [0] * 6, [7] * 6, [*range(6)]]


def test_damaged_files_are_named(storage):
    writer = storage.create_task("t")
    writer.write(trial({"x": 1}, a=[1], b=[1]))
    writer.close()
    folder = writer._folder
    (folder / "a.hdf5").write_bytes(b"")
    (folder / "c.hdf5").write_bytes(b"not hdf5")
    state = reader(storage).examine()
    assert state.status == "damaged"
    assert any("a.hdf5: the file is empty" in text for text in state.problems)
    assert any("c.hdf5: not a complete HDF5 file" in text for text in state.problems)
    with pytest.raises(ReadError, match="empty"):
        list(reader(storage).iterarray("a"))
    (folder / "trials.csv").write_bytes(b"x\n\xff\n")
    with pytest.raises(ReadError, match="byte 2 is not UTF-8"):
        reader(storage).examine()
    (folder / "trials.csv").write_text("x,y\n1,2\n1\n2,3\n")
    with pytest.raises(ReadError, match="trial 1 has 1 values, the header 2 columns"):
        reader(storage).examine()


@pytest.mark.parametrize(
    ("text", "n_rows", "problem"),
    [
        ("x,y\n1,2\n3", 1, "trial 1 is half-written: its line in trials.csv is cut"),
        ('x,y\n1,2\n3,"a', 1, "trial 1 is half-written: its line in trials.csv is cut"),
        ("x,y\n1,2\n3,4", 2, "trial 1 may be half-written, and later ones missing: its line in trials.csv has no end"),
    ],
)
def test_a_cut_last_line_is_said(tmp_path, text, n_rows, problem):
    (tmp_path / "trials.csv").write_text(text)
    state = TaskReader(tmp_path).examine()
    assert (len(state.table.rows), state.status, state.problems) == (n_rows, "half_written", [problem])


def test_datasets_beyond_the_last_row_are_said(storage):
    writer = storage.create_task("t")
    writer.write(trial({"x": 1}, a=[1]))
    writer.close()
    write_hdf5(writer._folder / "a.hdf5", [2], "1")
    state = reader(storage).examine()
    assert (state.arrays, state.problems) == ({"a": [0]}, ["a has datasets of trial 1, not in trials.csv"])


def test_an_archive_keeps_every_path(storage, tmp_path):
    for subject in ("p0", "p1"):
        storage.subject_id = subject
        storage.create_task("t").write(trial({"x": subject}, a=[1]))
        storage.create_task("empty")
    made = storage.to_zip()
    assert made == str(tmp_path / "data.zip")
    with zipfile.ZipFile(made) as archive:
        assert sorted(archive.namelist()) == sorted(
            f"data/{subject}/{name}" for subject in ("p0", "p1") for name in ("t/trials.csv", "t/a.hdf5", "empty/")
        )
        archive.extractall(tmp_path / "out")
    again = Storage(str(tmp_path / "out" / "data"))
    again.subject_id = "p1"
    assert again.require_task("t").trials["x"].tolist() == ["p1"]
    assert storage_to_zip(storage.root + "/") == made
    inside = storage_to_zip(storage.root, f"{storage.root}/all.zip")
    with zipfile.ZipFile(storage_to_zip(storage.root, inside)) as archive:
        assert "data/all.zip" not in archive.namelist()
    with pytest.raises(FileNotFoundError):
        storage_to_zip(str(tmp_path / "nope"))


def test_real_folders_are_read_as_expected(shared):
    expected = json.loads((shared / "data" / "axopy" / "expected.json").read_text())
    seen = 0
    for subject, tasks in expected["subjects"].items():
        for name, facts in tasks["tasks"].items():
            folder = shared / "data" / "axopy" / "data" / subject / name
            if not folder.is_dir():
                continue
            read = TaskReader(folder)
            state = read.examine()
            assert (state.status, len(state.table.rows)) == (facts["status"], facts["n_trials"])
            assert (state.missing, read.pickle_names()) == (facts["missing_datasets"], facts["pickles"])
            assert (state.table.columns, list(read.trials.columns)) == (facts["columns"], facts["columns"])
            dtypes = {column: str(dtype).replace("str", "object") for column, dtype in read.trials.dtypes.items()}
            assert dtypes == facts["reader_dtypes"]
            assert read.trials.isna().sum().to_dict() == facts["null_counts"]
            for row, values in ((0, facts["first_row"]), (-1, facts["last_row"])):
                found = {c: None if pd.isna(v) else v for c, v in read.trials.iloc[row].to_dict().items()}
                assert found == values
            for row, texts in ((0, facts["raw_text_first"]), (-1, facts["raw_text_last"])):
                assert dict(zip(state.table.columns, state.table.rows[row], strict=True)) == texts
            for array, one in facts["arrays"].items():
                found = {str(i): v for i, v in enumerate(read.iterarray(array)) if v is not None}
                assert list(found) == list(one["trials"])
                for row, values in found.items():
                    truth = one["trials"][row]
                    assert (list(values.shape), values.dtype.str) == (truth["shape"], truth["dtype"])
                    assert hashlib.sha256(np.ascontiguousarray(values).data).hexdigest() == truth["sha256"]
                if "shape" in one["array_call"]:
                    assert list(read.array(array).shape) == one["array_call"]["shape"]
            seen += 1
    assert seen == 6

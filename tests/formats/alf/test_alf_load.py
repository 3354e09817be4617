"""What ALF files and objects are loaded into and saved from, against values written by other programs."""

import copy
import json
import logging
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labweave.errors import FileMissing, LabweaveError, ReadError
from labweave.formats import alf
from labweave.formats.alf import exceptions


def quietly(function, *args, **kwargs):
    """Call a function that may not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*args, **kwargs)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each format."""
    folder = tmp_path_factory.mktemp("formats")
    np.save(folder / "o.vector.npy", np.arange(4))
    np.save(folder / "o.column.npy", np.arange(4.0)[:, None])
    np.save(folder / "o.grid.npy", np.arange(8, dtype="u2").reshape(4, 2))
    np.save(folder / "o.objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    np.savez(folder / "o.single.npz", np.eye(2))
    np.savez(folder / "o.several.npz", a=np.arange(3), b=np.ones(2))
    for extension, sep in {"csv": ",", "tsv": "\t", "htsv": "\t", "ssv": " "}.items():
        (folder / f"o.two.{extension}").write_text(f"x{sep}y\n1{sep}a\n2{sep}b\n")
        (folder / f"o.one.{extension}").write_text("x\n1.5\n2.5\n")
    (folder / "o.dict.json").write_bytes(b'\xef\xbb\xbf{"caf\xc3\xa9": [1, NaN]}')
    (folder / "o.bad.json").write_text("{'a': 1}")
    (folder / "o.deep.json").write_text("[" * 200_000)
    (folder / "o.lines.jsonable").write_text('{"a": 1}\n\n{"a": "é"}\n', encoding="utf-8")
    (folder / "o.lines.bad.jsonable").write_text('{"a": 1}\n{"a": \n')
    pd.DataFrame({"x": [1, 2], "t": ["a", None]}).to_parquet(folder / "o.frame.pqt")
    (folder / "o.notes.yaml").write_text("a: 1\nb: [x, é]\n", encoding="utf-8")
    (folder / "o.notes.yml").write_text("- 1\n- 2\n")
    (folder / "o.evil.yaml").write_text("!!python/object/apply:os.getcwd []\n")
    for name in ("o.text.txt", "o.frame.parquet", "o.vector.NPY", "o.video.mp4", "README"):
        (folder / name).write_text("?")
    for name in ("o.empty.npy", "o.empty.json", "o.empty.txt"):
        (folder / name).touch()
    for extension in ("npy", "npz", "pqt", "csv", "yaml"):
        (folder / f"o.foreign.{extension}").write_bytes(b"\x00\xff\xfe: [\x01" * 9)
    (folder / "o.whitespace.csv").write_text("\n \n")
    (folder / "o.cut.npy").write_bytes((folder / "o.vector.npy").read_bytes()[:-5])
    head = (folder / "o.vector.npy").read_bytes()
    (folder / "o.huge.npy").write_bytes(head.replace(b"(4,), }" + b" " * 15, b"(4" + b"0" * 15 + b",), }"))
    (folder / "o.folder.npy").mkdir()
    return folder


@pytest.mark.parametrize(
    "name, value",
    [
        ("o.vector.npy", np.arange(4)),
        ("o.column.npy", np.arange(4.0)),
        ("o.grid.npy", np.arange(8, dtype="u2").reshape(4, 2)),
        ("o.single.npz", np.eye(2)),
    ],
)
def test_arrays(files, name, value):
    found = quietly(alf.load_file, files / name)
    assert type(found) is np.ndarray and found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


def test_archives_of_several_arrays(files):
    with quietly(alf.load_file, files / "o.several.npz") as found:
        assert isinstance(found, np.lib.npyio.NpzFile)
        assert {name: found[name].tolist() for name in found} == {"a": [0, 1, 2], "b": [1, 1]}


@pytest.mark.parametrize("extension", ["csv", "tsv", "htsv", "ssv"])
def test_text_tables(files, extension):
    frame = quietly(alf.load_file, files / f"o.two.{extension}")
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}))
    series = quietly(alf.load_file, str(files / f"o.one.{extension}"))
    pd.testing.assert_series_equal(series, pd.Series([1.5, 2.5], name="x"))


def test_other_formats(files):
    assert json.dumps(quietly(alf.load_file, files / "o.dict.json"), ensure_ascii=False) == '{"café": [1, NaN]}'
    assert quietly(alf.load_file, files / "o.lines.jsonable") == [{"a": 1}, {"a": "é"}]
    assert quietly(alf.load_file, files / "o.notes.yaml") == {"a": 1, "b": ["x", "é"]}
    assert quietly(alf.load_file, files / "o.notes.yml") == [1, 2]
    frame = quietly(alf.load_file, files / "o.frame.pqt")
    assert frame["x"].tolist() == [1, 2] and frame["t"].isna().tolist() == [False, True]


@pytest.mark.parametrize("name", ["o.text.txt", "o.frame.parquet", "o.vector.NPY", "o.video.mp4", "README"])
def test_the_path_stands_for_everything_else(files, name):
    found = quietly(alf.load_file, files / name)
    assert found == files / name and isinstance(found, Path) and hasattr(found, "collection")


@pytest.mark.parametrize("name", ["o.empty.npy", "o.empty.json", "o.empty.txt", "o.bad.json", "o.deep.json"])
def test_what_is_empty_or_no_json_is_none_with_a_warning(files, name):
    with pytest.warns(exceptions.ALFWarning, match=name):
        assert alf.load_file(files / name) is None


def test_legacy_loads_what_one_did_before(files):
    def load(name):
        return quietly(alf.load_file, files / name, legacy=True)

    assert load("o.column.npy").shape == (4, 1)
    assert load("o.one.csv").shape == load("o.one.tsv").shape == (2, 1)
    assert load("o.lines.jsonable") == [{"a": 1}, {"a": "é"}]
    assert load("o.frame.pqt").shape == (2, 2)
    for name in ("o.single.npz", "o.two.htsv", "o.notes.yaml", "o.notes.yml"):
        assert load(name) == files / name


@pytest.mark.parametrize(
    "name, said",
    [
        ("o.objects.npy", "trust_pickles=True"),
        ("o.foreign.npy", "does not begin as an npy file"),
        ("o.foreign.npz", "not a zip file"),
        ("o.foreign.pqt", "can't be read as pqt"),
        ("o.foreign.csv", "can't be read as csv"),
        ("o.foreign.yaml", "can't be read as yaml"),
        ("o.evil.yaml", "can't be read as yaml"),
        ("o.whitespace.csv", "can't be read as csv"),
        ("o.lines.bad.jsonable", "line 2 is no JSON"),
        ("o.cut.npy", "can't be read as npy"),
        ("o.huge.npy", "can't be read as npy"),
        ("o.folder.npy", "Is a directory"),
    ],
)
def test_what_cant_be_read_is_told_with_its_name(files, name, said):
    with pytest.raises(ReadError, match=name) as caught:
        alf.load_file(files / name)
    assert said in str(caught.value)


def test_pickles_are_loaded_when_they_are_trusted(files):
    assert alf.load_file(files / "o.objects.npy", trust_pickles=True).tolist() == [{"a": 1}, None]


def test_a_file_that_is_not_there_is_told(files):
    with pytest.raises(FileNotFoundError, match="no such file") as caught:
        alf.load_file(files / "o.none.npy")
    assert isinstance(caught.value, FileMissing)


def test_sparse_arrays_need_their_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sparse", None)
    file = tmp_path / "o.attr.sparse_npz"
    np.savez(file.with_suffix(".npz"), data=np.ones(2))
    file.with_suffix(".npz").rename(file)
    with pytest.warns(exceptions.ALFWarning, match="pip install sparse"):
        assert alf.load_file(file) == file
    assert quietly(alf.load_file, file, legacy=True) == file


def test_sparse_arrays_are_loaded(tmp_path):
    sparse = pytest.importorskip("sparse", reason="the package sparse is not installed")
    array = sparse.COO(np.eye(3))
    sparse.save_npz(tmp_path / "x.npz", array)
    (tmp_path / "x.npz").rename(tmp_path / "o.attr.sparse_npz")
    np.testing.assert_array_equal(alf.load_file(tmp_path / "o.attr.sparse_npz").todense(), np.eye(3))


# --- objects


def save(folder, **contents):
    """Write npy files; __ in a name stands for a dot."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, value in contents.items():
        np.save(folder / f"{name.replace('__', '.')}.npy", value)
    return folder


def test_an_object_has_its_attributes(tmp_path):
    folder = save(tmp_path, spikes__times=np.arange(3.0), spikes__clusters=np.arange(3), other__times=np.arange(9))
    save(folder, spikes__times_clock=np.arange(3), spikes__depths__raw__v1=np.ones((3, 1)))
    (folder / "not a name.npy").touch()
    spikes = alf.load_object(folder, "spikes")
    assert set(spikes) == {"times", "clusters", "times_clock", "depths.raw.v1"}
    assert isinstance(spikes, alf.AlfBunch) and spikes.times.tolist() == [0, 1, 2]
    assert set(alf.load_object(folder, "spikes", short_keys=True)) == {"times", "clusters", "times_clock", "depths"}
    assert set(alf.load_object(folder / "spikes.times.npy")) == set(spikes)
    assert set(alf.load_object(str(folder), "spikes", attribute=["times"], timescale=None)) == {"times"}
    assert set(alf.load_object(folder, "spikes", extra="v1.raw")) == {"depths.raw.v1"}
    assert set(alf.load_object(folder, "spi.*s$", wildcards=False, attribute="(?!times).*")) == {
        "clusters",
        "depths.raw.v1",
    }
    assert list(alf.load_object([folder / "spikes.clusters.npy", folder / "spikes.times.npy"])) == ["clusters", "times"]


def test_files_of_an_object_may_come_from_several_folders(tmp_path):
    old = save(tmp_path / "alf", spikes__times=np.arange(3), spikes__depths=np.arange(3))
    new = save(tmp_path / "alf" / "#2022#", spikes__times=np.arange(3) + 10)
    alf.save_metadata(new / "spikes.times.npy", {"unit": "s"})
    spikes = alf.load_object([new / "spikes.times.npy", old / "spikes.depths.npy"])
    assert spikes.times.tolist() == [10, 11, 12] and spikes.timesmetadata == {"unit": "s"}
    assert alf.load_object(old, "spikes").times.tolist() == [0, 1, 2]


def test_objects_that_are_not_one_are_refused(tmp_path):
    folder = save(tmp_path, wheel__times=np.arange(2), wheelMoves__times=np.arange(3))
    with pytest.raises(exceptions.ALFMultipleObjectsFound, match="wheel, wheelMoves"):
        alf.load_object(folder, "wheel*")
    assert alf.load_object(folder, "wheel").times.shape == (2,)
    for missing in [(folder, "trials"), (folder / "none", "wheel"), (folder / "wheel.none.npy",), ([],)]:
        with pytest.raises(exceptions.ALFObjectNotFound):
            alf.load_object(*missing)
    with pytest.raises(ValueError, match="name of the object"):
        alf.load_object(folder)
    with pytest.raises(exceptions.ALFInvalid):
        alf.load_object([folder / "no name.npy"])
    with pytest.raises(TypeError, match="no part of an ALF name"):
        alf.load_object(folder, "wheel", foo="x")
    with pytest.raises(exceptions.ALFInvalid, match="no regular expression"):
        alf.load_object(folder, "whe(", wildcards=False)


def test_two_files_of_one_attribute_are_refused(tmp_path):
    folder = save(tmp_path, _ibl_trials__choice=np.arange(2), _av_trials__choice=np.arange(2))
    with pytest.raises(AssertionError, match="_av_trials.choice.npy, _ibl_trials.choice.npy") as caught:
        alf.load_object(folder, "trials")
    assert isinstance(caught.value, LabweaveError)
    assert set(alf.load_object(folder, "trials", namespace="ibl")) == {"choice"}
    save(folder, x__a__one=np.arange(2), x__a__two=np.arange(2))
    with pytest.raises(exceptions.ALFAmbiguousAttributes):
        alf.load_object(folder, "x", short_keys=True)


def test_an_object_with_a_file_that_is_empty_has_the_rest(tmp_path):
    folder = save(tmp_path, x__a=np.arange(2))
    (folder / "x.b.npy").touch()
    (folder / "x.table.pqt").touch()
    with pytest.warns(exceptions.ALFWarning, match=r"x\.b\.npy is empty"):
        found = alf.load_object(folder, "x")
    assert found.b is None and found.table is None and found.a.tolist() == [0, 1]


def test_metadata_split_an_array_into_columns(tmp_path):
    folder = save(tmp_path, x__grid=np.arange(6).reshape(3, 2), x__gridded=np.zeros(3), x__one=np.arange(3)[:, None])
    path = alf.save_metadata(folder / "x.grid.npy", {"columns": ["left", "right"], "unit": "um"})
    assert path == folder / "x.grid.metadata.json"
    alf.save_metadata(folder / "x.one.npy", {"columns": ["single"]})
    for legacy in (False, True):
        found = alf.load_object(folder, "x", legacy=legacy)
        assert set(found) == {"left", "right", "gridmetadata", "gridded", "single"}
        assert found.left.tolist() == [0, 2, 4] and found.right.tolist() == [1, 3, 5]
        assert found.gridmetadata == {"unit": "um"} and found.single.tolist() == [0, 1, 2]
    assert set(alf.load_object(folder, "x", short_keys=True)) == set(found)
    assert set(alf.load_object(folder, "x", extension="npy", attribute="grid")) == {"left", "right", "gridmetadata"}


def test_metadata_belong_to_the_file_of_their_name(tmp_path):
    folder = save(tmp_path, x__a__raw=np.arange(2), x__a__proc=np.arange(2), x__ab=np.arange(2), x__c=np.arange(2))
    for name in ("x.a.raw.npy", "x.a.proc.npy", "x.ab.npy"):
        alf.save_metadata(folder / name, {"of": name})
    (folder / "x.c_clock.0b.metadata.json").write_text('{"of": "attribute*"}')
    (folder / "x.d.metadata.json").write_text('{"of": "nothing"}')
    found = alf.load_object(folder, "x")
    assert {key: value["of"] for key, value in found.items() if key.endswith("metadata")} == {
        "a.rawmetadata": "x.a.raw.npy",
        "a.procmetadata": "x.a.proc.npy",
        "abmetadata": "x.ab.npy",
        "cmetadata": "attribute*",
    }


def test_metadata_that_dont_fit(tmp_path):
    folder = save(tmp_path, x__a=np.arange(4).reshape(2, 2))
    (folder / "x.a.metadata.json").write_text("[1]")
    assert set(alf.load_object(folder, "x")) == {"a"}
    (folder / "x.a.metadata.json").write_text("{")
    with pytest.warns(exceptions.ALFWarning):
        assert set(alf.load_object(folder, "x")) == {"a"}
    for columns in (["i", "j", "k"], 3, {"i": 0}, [["i"], "j"]):
        (folder / "x.a.metadata.json").write_text(json.dumps({"columns": columns}))
        with pytest.raises(ReadError, match=r"x\.a\.metadata\.json"):
            alf.load_object(folder, "x")
    (folder / "x.b.bin").write_bytes(b"12")
    alf.save_metadata(folder / "x.b.bin", {"columns": ["i"], "dtype": "u1"})
    (folder / "x.a.metadata.json").unlink()
    found = alf.load_object(folder, "x")
    assert found.b == folder / "x.b.bin" and found.bmetadata == {"columns": ["i"], "dtype": "u1"}


def test_tables_become_attributes(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "ok": [True, False], "t": ["x", "y"], "i_0": [0.0, 1.0], "i_1": [2.0, 3.0]})
    frame["lone_0"] = [7, 8]
    frame.to_parquet(tmp_path / "_ns_trials.table.pqt")
    save(tmp_path, _ns_trials__a=np.array([9, 9]), _ns_trials__b=np.array([5, 6]))
    trials = alf.load_object(tmp_path, "trials")
    assert set(trials) == {"a", "ok", "t", "i", "lone_0", "b"}
    assert trials.a.tolist() == [1, 2] and trials.i.tolist() == [[0, 2], [1, 3]]
    assert trials.ok.dtype == bool and trials.a.dtype == np.int64
    assert trials.to_df().columns.tolist() == ["a", "b", "ok", "t", "lone_0", "i_0", "i_1"]
    legacy = alf.load_object(tmp_path, "trials", legacy=True)
    pd.testing.assert_frame_equal(legacy.table, frame)
    assert set(legacy) == {"a", "b", "table"}


def test_tables_with_timescale_and_extra(tmp_path):
    pd.DataFrame({"a": [1, 2], "i_0": [0.0, 1.0], "i_1": [2.0, 3.0]}).to_parquet(tmp_path / "x.table_clock.raw.pqt")
    (tmp_path / "y.table.csv").write_text("only\n1\n2\n")
    found = alf.load_object(tmp_path, "x")
    assert set(found) == {"a_clock.raw", "i_clock.raw"} and found["i_clock.raw"].shape == (2, 2)
    assert alf.load_object(tmp_path, "y").only.tolist() == [1, 2]


@pytest.mark.parametrize(
    "pairs, times",
    [
        ([[0, 10.0], [4, 14.0]], [10, 11, 12, 13, 14]),
        ([[1, 0.0], [3, 4.0]], [0, 0, 2, 4, 4]),
        ([[0, 0.0], [1, 1.0], [4, 7.0]], [0, 1, 3, 5, 7]),
        ([[2, 5.0]], [5, 5, 5, 5, 5]),
    ],
)
def test_timestamps_become_a_time_per_row(tmp_path, pairs, times):
    folder = save(tmp_path, _ibl_wheel__position=np.arange(5.0), _ibl_wheel__timestamps=np.array(pairs))
    wheel = alf.load_object(folder, "wheel")
    assert wheel.timestamps.tolist() == times and wheel.check_dimensions == 0
    assert alf.load_object(folder, "wheel", legacy=True).timestamps.tolist() == pairs
    found, values = alf.read_ts(folder / "_ibl_wheel.position.npy")
    assert found.tolist() == times and values.tolist() == [0, 1, 2, 3, 4]


def test_times_of_a_series_need_one_file(tmp_path):
    folder = save(tmp_path, wheel__position=np.arange(3)[:, None], wheel__timestamps=np.arange(3.0)[:, None])
    times, values = alf.read_ts(folder / "wheel.position.npy")
    assert times.tolist() == values.tolist() == [0, 1, 2]
    save(folder, _b_wheel__timestamps=np.arange(3.0))
    assert alf.read_ts(folder / "wheel.position.npy")[0].tolist() == [0, 1, 2]
    save(folder, wheel__times=np.arange(3))
    with pytest.raises(FileNotFoundError, match="2 files"):
        alf.read_ts(folder / "wheel.position.npy")
    with pytest.raises(FileNotFoundError, match="no files"):
        alf.read_ts(save(tmp_path / "b", x__y=np.arange(2)) / "x.y.npy")
    with pytest.raises(ValueError, match="no ALF name"):
        alf.read_ts(folder / "x.npy")
    with pytest.raises(ValueError, match="shape"):
        alf.read_ts(save(tmp_path / "c", x__y=np.arange(2), x__times=np.ones((2, 2, 2))) / "x.y.npy")


def test_different_lengths_are_told_in_the_log_only(tmp_path, caplog):
    folder = save(tmp_path, x__a=np.arange(3), x__b=np.arange(2), x__scalar=np.array(3), x__timestamps=np.eye(2))
    with caplog.at_level(logging.WARNING):
        found = alf.load_object(folder, "x")
    assert "different lengths" in caplog.text and "a (3,), b (2,)" in caplog.text
    assert found.timestamps.shape == (2, 2) and found.scalar == 3


# --- bunches


def test_bunches_are_dictionaries_with_attributes():
    bunch = alf.AlfBunch(times=np.arange(3), values=1)
    assert bunch.times is bunch["times"] and "times" in dir(bunch)
    bunch.depths = 2
    assert bunch["depths"] == 2 and list(bunch.values())[-1] == 2
    del bunch.depths
    assert not hasattr(bunch, "depths")
    with pytest.raises(AttributeError, match="'none' among times, values"):
        _ = bunch.none
    with pytest.raises(AttributeError):
        del bunch.none
    for copied in (copy.deepcopy(bunch), pickle.loads(pickle.dumps(bunch)), bunch.copy(), bunch.copy(deep=True)):
        assert type(copied) is alf.AlfBunch and copied.times.tolist() == [0, 1, 2]
    assert bunch.copy().times is bunch.times and bunch.copy(deep=True).times is not bunch.times


def test_bunches_are_appended(caplog):
    one = alf.AlfBunch(a=np.arange(2), b=[1, 2], c=pd.DataFrame({"x": [1, 2]}))
    two = {"a": np.arange(3), "b": [3], "c": pd.DataFrame({"x": [3]})}
    both = one.append(two)
    assert both.a.tolist() == [0, 1, 0, 1, 2] and both.b == [1, 2, 3] and len(both.c) == 2
    assert "c is a DataFrame" in caplog.text and "different lengths" in caplog.text
    assert one.a.tolist() == [0, 1] and one.b == [1, 2]
    assert one.append({}).keys() == one.keys() and alf.AlfBunch().append(two).keys() == one.keys()
    with pytest.raises(NotImplementedError, match="d"):
        one.append({"a": 1, "d": 2})
    assert one.append(two, inplace=True) is one and one.b == [1, 2, 3]
    empty = alf.AlfBunch()
    empty.append(two, inplace=True)
    assert empty.b == [3]


def test_bunches_become_frames(caplog):
    bunch = alf.AlfBunch(
        a=np.arange(3), b=np.ones((3, 2)), c=np.ones((3, 1)), wide=np.ones((3, 12)), s=pd.Series("xyz")
    )
    bunch["s"] = pd.Series(list("xyz"))
    bunch["cube"] = np.ones((3, 1, 1))
    frame = bunch.to_df()
    assert frame.columns.tolist() == ["a", "b_0", "b_1", "c", *(f"wide_{i}" for i in range(10)), "s"]
    assert "cube has 3 dimensions" in caplog.text
    back = alf.AlfBunch.from_df(frame)
    assert back.b.tolist() == [[1, 1]] * 3 and back.s.tolist() == ["x", "y", "z"]
    for bad in ({"a": [1, 2]}, {"a": pd.DataFrame({"x": [1]})}, {"a": np.arange(2), "b": np.arange(3)}, {"a": None}):
        with pytest.raises(ValueError):
            alf.AlfBunch(bad).to_df()
    with pytest.raises(ValueError, match="different lengths"):
        alf.AlfBunch(a=np.arange(2), b=np.arange(1)).to_df()
    assert alf.AlfBunch().to_df().empty


@pytest.mark.parametrize(
    "shapes, status",
    [
        ({}, 0),
        ({"a": (3,), "b": (3, 2), "c": (1,)}, 0),
        ({"a": (3,), "b": (2,)}, 1),
        ({"a": (0,), "b": (0, 4)}, 0),
        ({"a": (5,), "timestamps": (2, 2)}, 0),
        ({"a": (5,), "timestamps_bpod": (3, 2)}, 1),
        ({"a": (5,), "timestamps": (5, 1)}, 0),
        ({"a": (5,), "timestamps": (4,)}, 1),
    ],
)
def test_dimensions_are_checked(shapes, status):
    bunch = {key: np.zeros(shape) for key, shape in shapes.items()} | {"list": [1], "text": "x"}
    assert alf.check_dimensions(bunch) == status == alf.AlfBunch(bunch).check_dimensions
    assert alf.check_dimensions({"a": np.zeros(2), "f": pd.DataFrame({"x": [1, 2, 3]})}) == 1
    with pytest.raises(IndexError):
        alf.check_dimensions({"a": np.array(1)})


# --- saving


def test_an_object_is_saved_and_loaded_again(tmp_path):
    arrays = {"times": np.arange(3.0), "my_depths": np.ones((3, 2), "f4"), "stimOn_times": np.arange(3)}
    files = alf.save_object_npy(tmp_path / "new" / "alf", arrays, "spikes", ["raw"], "ibl", "clock")
    assert [file.name for file in files] == [
        "_ibl_spikes.times_clock.raw.npy",
        "_ibl_spikes.myDepths_clock.raw.npy",
        "_ibl_spikes.stimOn_times_clock.raw.npy",
    ]
    found = alf.load_object(tmp_path / "new" / "alf", "spikes", short_keys=True)
    for array, key in zip(arrays.values(), ["times_clock", "myDepths_clock", "stimOn_times_clock"], strict=True):
        np.testing.assert_array_equal(found[key], array)
    assert sorted(file.name for file in (tmp_path / "new" / "alf").iterdir()) == sorted(file.name for file in files)


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": np.arange(3), "b": np.arange(2)},
        {"a": np.arange(2), "b": np.array([None, {}])},
        {"my_a": np.arange(2), "myA": np.arange(2)},
        {"a": np.arange(2), "../b": np.arange(2)},
    ],
)
def test_what_cant_be_saved_leaves_nothing(tmp_path, arrays):
    with pytest.raises(ValueError):
        alf.save_object_npy(tmp_path, arrays, "x")
    assert not list(tmp_path.iterdir())


def test_metadata_that_cant_be_saved_leave_the_old(tmp_path):
    path = alf.save_metadata(tmp_path / "x.a.npy", {"unit": "µm"})
    with pytest.raises(ValueError, match="JSON"):
        alf.save_metadata(tmp_path / "x.a.npy", {"unit": object()})
    with pytest.raises(ValueError, match="no ALF name"):
        alf.save_metadata(tmp_path / "x.npy", {})
    assert alf.load_file(path) == {"unit": "µm"} and len(list(tmp_path.iterdir())) == 1

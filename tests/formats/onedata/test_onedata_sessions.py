"""Session objects and recipes: names, arguments, files and errors of vrAnalysis, as its edge-case table says."""

import datetime as dt
import json
import os
import shutil
import sys
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from labweave.errors import ConfigError, ReadError
from labweave.formats import onedata
from labweave.formats.onedata import (
    B2Session,
    BadFile,
    LoadingRecipe,
    NotSaved,
    OneDataSession,
    RecipeError,
    RecipeRefused,
    SessionData,
    UnknownLoader,
    UnknownTransform,
)
from labweave.formats.onedata.describe import content_sha256


@dataclass
class LabSession(SessionData):
    """A lab's own class, as one would write it for vrAnalysis."""

    folder: str = "."

    def _init_data_path(self):
        return Path(self.folder) / self.mouse_name / self.date

    @property
    def spks(self):
        return self.loadone("spks")


class LoadingSession(LabSession):
    @property
    def recipe_loaders(self):
        return {"ones": lambda n, value=1: np.full(int(n), value), "three": lambda: np.full(3, 3.0)}

    @property
    def recipe_transforms(self):
        return {"double": lambda x: 2 * x, "plus1": lambda x: x + 1}


@pytest.fixture
def one(tmp_path):
    return OneDataSession("M1", "2024-01-02", "701", root=tmp_path)


@pytest.fixture
def lab(tmp_path):
    return LoadingSession("M1", "2024-01-02", folder=str(tmp_path))


# ---- names, dates, values


def test_a_base_session_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        SessionData("m", "2024-01-02")


@pytest.mark.parametrize(
    "date, expected",
    [
        ("2024-1-2", "2024-01-02"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.datetime(2024, 1, 2, 23, 59, tzinfo=dt.timezone(dt.timedelta(hours=-5))), "2024-01-02"),
        (dt.datetime(2024, 1, 2, 12).timestamp(), "2024-01-02"),
    ],
)
def test_dates_come_in_one_form(date, expected):
    assert LabSession("m", date).date == expected


@pytest.mark.parametrize("date", ["20240102", "2024-01-02 10:00", "2024-02-30", "24-1-2", 1704153600, None])
def test_what_is_no_date_is_refused(date):
    with pytest.raises(ValueError, match="no date"):
        LabSession("m", date)


def test_names_of_a_session(one):
    assert one.session_name == ("M1", "2024-01-02", "701")
    assert one.session_print() == "M1/2024-01-02/701"
    assert one.session_print("_") == "M1_2024-01-02_701"
    assert one.session_uid == "M1.2024-01-02.701"
    assert LabSession("M1", "2024-01-02", "").session_name == ("M1", "2024-01-02")
    assert LabSession("M1", "2024-01-02") == LabSession("M1", "2024-1-2", "")
    assert len({LabSession("M1", "2024-01-02"), LabSession("M1", "2024-1-2"), one}) == 2
    assert one.one_path == one.data_path / "oneData"
    for bad in ("a/b", "..", ""):
        with pytest.raises(ValueError, match="can't be the"):
            OneDataSession(bad, "2024-01-02")


def test_names_of_variables(one):
    assert one.get_one_filename("mpci", "roiActivityF") == "mpci.roiActivityF.npy"
    assert one.get_one_filename("x.npy") == "x.npy.npy"
    for bad in ((), ("a/b",), ("..",), ("a\\b",), ("",)):
        with pytest.raises(ValueError):
            one.get_one_filename(*bad)
    with pytest.raises(TypeError):
        one.get_one_filename(3)


def test_values(one):
    one.set_value("any name", [1])
    assert one.get_value("any name") == [1]
    with pytest.raises(AttributeError):
        one.get_value("zz")


# ---- arrays


def test_an_array_is_saved_and_loaded(one):
    a = np.arange(6.0).reshape(2, 3)
    one.saveone(a, "x", "y")
    assert list(one.one_cache) == ["x.y.npy"]
    for force in (False, True):
        loaded = one.loadone("x", "y", force=force)
        np.testing.assert_array_equal(loaded, a)
        assert loaded is not a
    a[0, 0] = 99
    assert one.loadone("x", "y")[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        one.loadone("x", "y")[0, 0] = 5
    np.testing.assert_array_equal(np.load(one.one_path / "x.y.npy"), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "data",
    [[1, 2, 3], 5, 2.5, "text", True, np.zeros((0, 3)), np.float16([1, np.nan]), np.array(["a", "bé"]),
     np.asfortranarray(np.arange(12).reshape(3, 4)), np.array([1.5], ">f8"), np.array([(1, 2.0)], "i2,f8"),
     np.array(["2024-02-29"], "M8[ms]"), np.array([1j])],
)  # fmt: skip
def test_what_is_saved_is_what_numpy_saves(one, data, tmp_path):
    one.saveone(data, "v")
    np.save(tmp_path / "truth.npy", data)
    truth = np.load(tmp_path / "truth.npy")
    for loaded in (one.loadone("v"), one.loadone("v", force=True), one.loadone("v", mmap=True)):
        assert (type(loaded) in (np.ndarray, np.memmap), loaded.dtype, loaded.shape) == (True, truth.dtype, truth.shape)
        np.testing.assert_array_equal(loaded, truth)
    assert (one.one_path / "v.npy").read_bytes() == (tmp_path / "truth.npy").read_bytes()


@pytest.mark.parametrize("data", [{"k": 1}, None, [object()], [[1], [1, 2]], sparse.csc_array(np.eye(2))])
def test_objects_are_refused_and_leave_nothing(one, data):
    with pytest.raises(ValueError):
        one.saveone(data, "d")
    assert (list(one.one_cache), one.get_saved_one()) == ([], [])


def test_a_failed_write_leaves_the_old_file_and_the_old_value(one, monkeypatch):
    one.saveone(np.zeros(3), "x")

    def fail(*args, **kwargs):
        args[0].write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        one.saveone(np.ones(3), "x")
    assert [path.name for path in one.one_path.iterdir()] == ["x.npy"]
    assert one.loadone("x", force=True).tolist() == one.loadone("x").tolist() == [0, 0, 0]


def test_a_missing_variable_names_those_that_are_there(one):
    with pytest.raises(NotSaved, match=r"no x\.npy\. Saved in .*: nothing\."):
        one.loadone("x")
    one.saveone(np.zeros(1), "y")
    with pytest.raises(ValueError, match=r"y\.npy"):
        one.loadone("x")
    assert one.loadone("y").tolist() == [0]


def test_saved_variables_are_listed(one):
    assert one.get_saved_one() == []
    for name in ("b.b", "a.a"):
        one.saveone(np.zeros(1), name)
    one.saveone(sparse.csc_array(np.eye(2)), "a.a", sparse=True)
    (one.one_path / "notes.txt").write_text("no variable")
    assert [path.name for path in one.get_saved_one()] == ["a.a.npy", "b.b.npy", "a.a.npz"]
    assert one.print_saved_one() == ["a.a", "b.b", "a.a"]
    assert one.print_saved_one(include_extension=True) == ["a.a.npy", "b.b.npy", "a.a.npz"]
    assert one.print_saved_one(include_path=True)[0] == one.one_path / "a.a"


def test_the_cache_can_be_cleared_and_forced(one):
    for name in ("a", "b", "c"):
        one.saveone(np.zeros(2), name)
    np.save(one.one_path / "a.npy", np.ones(2))
    assert one.loadone("a").tolist() == [0, 0]
    assert one.loadone("a", force=True).tolist() == one.loadone("a").tolist() == [1, 1]
    one.clear_cache([])
    one.clear_cache(["a", "b.npy", "unknown"])
    assert list(one.one_cache) == ["c.npy"]
    one.clear_cache()
    assert len(one.one_cache) == 0


def test_the_cache_holds_no_more_than_its_bytes(tmp_path):
    one = OneDataSession("M1", "2024-01-02", root=tmp_path, cache_bytes=250)
    for name in ("a", "b", "c"):
        one.saveone(np.zeros(12), name)
        one.loadone("a")
    assert sorted(one.one_cache) == ["a.npy", "c.npy"]
    assert one.one_cache.n_bytes == 192
    one.saveone(np.zeros(100), "large")
    assert one.loadone("large").shape == (100,)
    assert sorted(one.one_cache) == ["a.npy", "c.npy"]


def test_variables_are_deleted_only_on_purpose(one):
    for name in ("rewards.times", "rn", "sp"):
        one.saveone(np.zeros(1), name)
    one.saveone(sparse.csc_array(np.eye(2)), "sp", sparse=True)
    with pytest.warns(UserWarning, match="Nothing is deleted"):
        one.clear_one_data()
    with pytest.warns(UserWarning, match=r"rn\.npy is not saved"):
        one.clear_one_data(["rn.npy"], certainty=True)
    with pytest.raises(ValueError, match="empty list"):
        one.clear_one_data([], certainty=True)
    with pytest.raises(TypeError):
        one.clear_one_data("rewards.times", certainty=True)
    assert len(one.get_saved_one()) == 4
    one.clear_one_data(["sp"], certainty=True)
    assert one.print_saved_one() == ["rewards.times", "rn"]
    with pytest.raises(ValueError):
        one.loadone("sp")
    (one.one_path / "below").mkdir()
    one.clear_one_data(certainty=True)
    assert [path.name for path in one.one_path.iterdir()] == ["below"]
    with pytest.raises(ValueError):
        one.loadone("rn")


# ---- sparse


def test_sparse_variables(one):
    dense = np.diag([1.0, 0, 3])
    array = sparse.csc_array(dense)
    one.saveone(array, "mpci.roi.v2", sparse=True)
    assert [path.name for path in one.get_saved_one()] == ["mpci.roi.v2.npz"]
    first = one.loadone("mpci.roi.v2", sparse=True)
    assert type(first) is np.ndarray
    np.testing.assert_array_equal(first, dense)
    kept = one.loadone("mpci.roi.v2", sparse=True, keep_sparse=True)
    assert type(kept) is sparse.csc_array
    assert (kept @ np.ones(3)).tolist() == [1, 0, 3]
    assert one.loadone("mpci.roi.v2", sparse=True) is first
    with pytest.raises(ValueError, match=r"There is mpci\.roi\.v2\.npz: load it with sparse=True"):
        one.loadone("mpci.roi.v2")
    with pytest.raises(ValueError, match="read-only"):
        kept.data[0] = 5
    np.testing.assert_array_equal(sparse.load_npz(one.one_path / "mpci.roi.v2.npz").toarray(), dense)
    one.saveone(sparse.csc_array(np.eye(2)), "mpci.roi.v2", sparse=True)
    assert one.loadone("mpci.roi.v2", sparse=True).shape == (2, 2)


def test_twins_are_two_variables(one):
    one.saveone(np.zeros(3), "sp")
    one.saveone(sparse.csc_array(np.eye(2)), "sp", sparse=True)
    assert one.loadone("sp").shape == (3,)
    assert one.loadone("sp", sparse=True).shape == (2, 2)
    one.clear_one_data(["sp"], certainty=True)
    one.saveone(np.zeros(3), "sp")
    with pytest.raises(ValueError, match="without sparse=True"):
        one.loadone("sp", sparse=True)


@pytest.mark.parametrize("data", [sparse.csr_array(np.eye(2)), sparse.csc_matrix(np.eye(2)), np.eye(2)])
def test_other_than_csc_is_refused_or_converted(one, data):
    with pytest.raises(ValueError, match="csc_array"):
        one.saveone(data, "x", sparse=True)
    if sparse.issparse(data):
        one.saveone(data, "x", sparse=True, convert=True)
        assert type(one.loadone("x", sparse=True, keep_sparse=True)) is sparse.csc_array


def test_a_matrix_of_old_scipy_comes_back_as_an_array(one):
    one.one_path.mkdir(parents=True)
    sparse.save_npz(one.one_path / "x.npz", sparse.csc_matrix(np.eye(3)))
    assert type(one.loadone("x", sparse=True, keep_sparse=True)) is sparse.csc_array


# ---- recipes


def test_a_recipe_is_a_dictionary_with_a_marker():
    recipe = LoadingRecipe("S2P", "F", ["transpose"], concatenate=False)
    assert list(recipe.to_dict().items()) == [
        ("marker", "__LOADING_RECIPE__"),
        ("loader_type", "S2P"),
        ("source_arg", "F"),
        ("transforms", ["transpose"]),
        ("kwargs", {"concatenate": False}),
    ]
    assert LoadingRecipe.from_dict(recipe.to_dict()) == recipe
    assert LoadingRecipe("numpy", "x").transforms == []
    with pytest.raises(KeyError):
        LoadingRecipe.from_dict({"loader_type": "S2P", "source_arg": "F", "transforms": []})
    with pytest.raises(TypeError):
        LoadingRecipe.from_dict({**recipe.to_dict(), "kwargs": {"source_arg": 1}})


def test_what_is_a_recipe():
    held = LoadingRecipe("S2P", "F").to_dict()
    for array in (np.array(held, object), np.array([held], object)):
        assert LoadingRecipe.is_recipe(array)
    for other in (held, np.array([held, held], object), np.zeros(1), "text", np.array({"marker": "x"}, object)):
        assert not LoadingRecipe.is_recipe(other)


def test_a_recipe_is_followed_from_left_to_right(lab):
    lab.saveone(LoadingRecipe("ones", "2", ["double", "plus1"], value=5), "x")
    assert lab.loadone("x").tolist() == [11, 11]
    assert list(lab.one_cache) == ["x.npy"]
    lab.saveone(LoadingRecipe("three", None), "y")
    assert lab.loadone("y").tolist() == [3, 3, 3]
    lab.saveone(LoadingRecipe("ones", "", []), "z")
    with pytest.raises(ValueError):
        lab.loadone("z")
    assert "z.npy" not in lab.one_cache


def test_a_new_recipe_replaces_what_was_cached(lab):
    lab.saveone(np.zeros(3), "x")
    lab.saveone(LoadingRecipe("ones", "2"), "x")
    assert lab.loadone("x").tolist() == [1, 1]


def test_an_object_with_the_marker_is_a_recipe(lab):
    class Other:
        RECIPE_MARKER = "__LOADING_RECIPE__"

        def to_dict(self):
            return LoadingRecipe("ones", "1").to_dict()

    lab.saveone(Other(), "x", sparse=True)
    assert lab.loadone("x").tolist() == [1]
    with pytest.raises(ValueError, match="without sparse"):
        lab.loadone("x", sparse=True)


def test_a_recipe_in_an_array_of_one_is_followed_and_two_are_not(lab):
    held = LoadingRecipe("ones", "1").to_dict()
    lab.one_path.mkdir(parents=True)
    np.save(lab.one_path / "one.npy", np.array([held], object))
    np.save(lab.one_path / "two.npy", np.array([held, held], object))
    assert lab.loadone("one").tolist() == [1]
    assert lab.loadone("two").tolist() == [held, held]
    assert onedata.describe(lab.one_path / "two.npy").kind == "object"


def test_unknown_loaders_and_transforms_are_noticed_before_loading(lab, tmp_path):
    lab.saveone(LoadingRecipe("unknown", "F"), "x")
    lab.saveone(LoadingRecipe("ones", "no number", ["zscore"]), "y")
    for error in (UnknownLoader, KeyError, NotImplementedError):
        with pytest.raises(error, match="no loader is called 'unknown', only ones, three"):
            lab.loadone("x")
    with pytest.raises(UnknownTransform, match="no transform is called 'zscore', only double, plus1"):
        lab.loadone("y")
    bare = LabSession("M1", "2024-01-02", folder=str(tmp_path))
    with pytest.raises(NotImplementedError):
        bare.loadone("x")


def test_arguments_that_a_loader_does_not_declare_are_refused(lab):
    lab.saveone(LoadingRecipe("ones", "2", evil=1), "x")
    with pytest.raises(RecipeRefused, match="evil"):
        lab.loadone("x")
    for bad in ({"a": object()}, {"a": [np.array([None])]}, {"transforms": 1}, {"a": {1: 2}}):
        recipe = LoadingRecipe("ones", "2")
        recipe.kwargs = bad
        with pytest.raises(RecipeRefused):
            lab.saveone(recipe, "y")
    with pytest.raises(RecipeRefused, match="limit"):
        lab.saveone(LoadingRecipe("ones", "2", long=["x"] * 70_000), "y")
    assert lab.print_saved_one() == ["x"]


def test_recipes_of_another_numpy_are_read(one, tmp_path):
    """Protocols 2 to 4, module names of numpy 1 and 2."""
    (one.data_path / "src.npy").parent.mkdir(parents=True)
    np.save(one.data_path / "src.npy", np.arange(3))
    one.one_path.mkdir()
    held = LoadingRecipe("numpy", "src.npy").to_dict()
    import pickle

    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    for protocol in (2, 3, 4):
        content = pickle.dumps(np.array(held, object), protocol)
        for old, new in ((b"numpy._core.", b"numpy._core."), (b"numpy._core.multiarray", b"numpy.core.multiarray")):
            if protocol == 4 and old != new:
                content_new = content.replace(b"\x8c\x16" + old, b"\x8c\x15" + new)
                frame = int.from_bytes(content_new[3:11], "little") - 1
                content_new = content_new[:3] + frame.to_bytes(8, "little") + content_new[11:]
            else:
                content_new = content.replace(old, new)
            (one.one_path / "x.npy").write_bytes(header.ljust(127) + b"\n" + content_new)
            assert one.loadone("x", force=True).tolist() == [0, 1, 2], protocol


# ---- built-in loaders and transforms


def sources(one):
    folder = one.data_path / "src"
    folder.mkdir(parents=True)
    a = np.arange(24.0).reshape(4, 6)
    np.save(folder / "a.npy", a)
    np.savez(folder / "b.npz", arr_0=a, u=a[:, 0])
    sparse.save_npz(folder / "s.npz", sparse.csc_array(np.eye(3)))
    with h5py.File(folder / "h.h5", "w") as file:
        file["group/a"] = a
        file["names"] = ["x", "yé"]
        file["soft"] = h5py.SoftLink("/group/a")
        file["out"] = h5py.ExternalLink("other.h5", "/secret")
        file["external"] = h5py.SoftLink("/nowhere")
        file["refs"] = np.array([file["group"].ref], h5py.ref_dtype)
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "a", (4,))
        file.create_virtual_dataset("virtual", layout)
    return a


@pytest.mark.parametrize(
    "recipe, expected",
    [
        (LoadingRecipe("numpy", "src/a.npy"), lambda a: a),
        (LoadingRecipe("numpy", "src/a.npy", mmap=True), lambda a: a),
        (LoadingRecipe("numpy", "src/a.npy", ["transpose"]), lambda a: a.T),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="soft"), lambda a: a),
        (LoadingRecipe("numpy", "src/a.npy", ["transpose", "transpose"]), lambda a: a),
        (LoadingRecipe("numpy", "src/a.npy", ["idx_column1"]), lambda a: a[:, 1]),
        (LoadingRecipe("numpy", "src/a.npy", ["index(1:3)"]), lambda a: a[1:3]),
        (LoadingRecipe("numpy", "src/a.npy", ["index(..., -1)"]), lambda a: a[..., -1]),
        (LoadingRecipe("numpy", "src/a.npy", ["index(2, ::-2)"]), lambda a: a[2, ::-2]),
        (LoadingRecipe("numpy", "src/a.npy", ["transpose", "index(0:2, 1)"]), lambda a: a.T[0:2, 1]),
        (LoadingRecipe("numpy", "src/a.npy", ["transpose", "index(3)", "index(1:)"]), lambda a: a.T[3][1:]),
        (LoadingRecipe("numpy", "src/a.npy", ["scale(-0.5)", "abs", "astype(f4)"]), lambda a: (a / 2).astype("f4")),
        (LoadingRecipe("numpy", "src/a.npy", ["transpose(1, 0)", "ravel"]), lambda a: a.T.ravel()),
        (LoadingRecipe("numpy", "src/a.npy", ["index(0:1)", "squeeze"]), lambda a: a[0]),
        (LoadingRecipe("npz", "src/b.npz"), lambda a: a),
        (LoadingRecipe("npz", "src/b.npz", key="u"), lambda a: a[:, 0]),
        (LoadingRecipe("sparse", "src/s.npz"), lambda a: np.eye(3)),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="/group/a"), lambda a: a),
        (LoadingRecipe("hdf5", "src/h.h5", ["transpose", "index(1:3, 2)"], dataset="group/a"), lambda a: a.T[1:3, 2]),
        (LoadingRecipe("hdf5", "src/h.h5", ["index(::-1)"], dataset="group/a"), lambda a: a[::-1]),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="names"), lambda a: np.array(["x", "yé"])),
        (LoadingRecipe("constant", None, value=1.5, shape=[2, 2]), lambda a: np.full((2, 2), 1.5)),
    ],
)
def test_built_in_loaders_and_transforms(one, recipe, expected):
    wanted = expected(sources(one))
    one.saveone(recipe, "x")
    for loaded in (one.loadone("x"), one.loadone("x", mmap=True)):
        assert (loaded.dtype, loaded.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(loaded, wanted)
        assert not loaded.flags.writeable


@pytest.mark.parametrize(
    "recipe, message",
    [
        (LoadingRecipe("numpy", "../../out.npy"), "leaves the folder"),
        (LoadingRecipe("numpy", "/etc/passwd"), "leaves the folder"),
        (LoadingRecipe("numpy", "src/../src/a.npy"), "leaves the folder"),
        (LoadingRecipe("numpy", "C:\\a.npy"), "leaves the folder"),
        (LoadingRecipe("numpy", "src/link.npy"), "leaves the folder"),
        (LoadingRecipe("numpy", "oneData/x.npy"), "is a recipe itself"),
        (LoadingRecipe("session", "M1/2024-01-02/701", name="x"), "leads back to itself"),
        (LoadingRecipe("session", "../M1", name="x"), "name of a session"),
        (LoadingRecipe("session", "M1", name="x"), "names no session"),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="external"), "no dataset"),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="out"), "link to another file"),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="virtual"), "in other files"),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="refs"), "references"),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="nothing"), "no dataset"),
        (LoadingRecipe("hdf5", "src/h.h5", dataset="group"), "no dataset"),
        (LoadingRecipe("npz", "src/b.npz", key="v"), "no array 'v', only arr_0, u"),
        (LoadingRecipe("numpy", "src/a.npy", ["astype(object)"]), "astype"),
        (LoadingRecipe("numpy", "src/a.npy", ["index(__import__)"]), "no part of an index"),
        (LoadingRecipe("S2P", "F"), "no plane"),
        (LoadingRecipe("S2P", "../F"), "no plane"),
    ],
)
def test_recipes_that_are_refused(one, recipe, message, tmp_path):
    sources(one)
    np.save(tmp_path / "out.npy", np.zeros(1))
    (one.data_path / "src" / "link.npy").symlink_to(tmp_path / "out.npy")
    one.saveone(recipe, "x")
    with pytest.raises((RecipeError, ReadError), match=message):
        one.loadone("x")
    assert len(one.one_cache) == 0


def test_a_missing_source_is_a_missing_file(one):
    one.saveone(LoadingRecipe("numpy", "gone.npy"), "x")
    with pytest.raises(FileNotFoundError, match=r"gone\.npy: the source of the recipe is missing"):
        one.loadone("x")
    assert len(one.one_cache) == 0


def test_a_variable_of_another_session(one):
    other = one.beside("M2", "2024-01-03")
    assert other.data_path == one.data_path.parents[2] / "M2" / "2024-01-03"
    other.saveone(np.arange(3), "a.b")
    other.saveone(LoadingRecipe("session", "M1/2024-01-02/701", name="y"), "loop")
    one.saveone(LoadingRecipe("session", "M2/2024-01-03", name="a.b"), "x")
    one.saveone(LoadingRecipe("session", "M2/2024-01-03", name="loop"), "y")
    with onedata.sources_opened() as opened:
        assert one.loadone("x").tolist() == [0, 1, 2]
    assert opened == [(other.one_path / "a.b.npy").resolve()]
    with pytest.raises(RecipeRefused, match="leads back to itself"):
        one.loadone("y")


def test_parts_of_another_session(one):
    """A part of a variable, of one that is a recipe itself, of a sparse one, and of an array file by its path."""
    other = one.beside("M2", "2024-01-03")
    whole = np.arange(24.0).reshape(4, 6)
    other.saveone(whole, "a")
    other.saveone(LoadingRecipe("session", "M2/2024-01-03", ["transpose"], name="a"), "turned")
    other.saveone(sparse.csc_array(np.diag(np.arange(5.0))), "diagonal", sparse=True)
    (other.data_path / "alf").mkdir()
    np.save(other.data_path / "alf" / "spikes.times.npy", whole[0])
    for recipe, expected in (
        (LoadingRecipe("session", "M2/2024-01-03", ["index(1:3, 2)"], name="a"), whole[1:3, 2]),
        (LoadingRecipe("session", "M2/2024-01-03", ["transpose", "index(1:3, 2)"], name="turned"), whole[1:3, 2]),
        (LoadingRecipe("session", "M2/2024-01-03", ["index(2:, 3)"], name="diagonal", sparse=True), [0, 3, 0]),
        (LoadingRecipe("session", "M2/2024-01-03", name="alf/spikes.times.npy"), whole[0]),
        (LoadingRecipe("session", "M2/2024-01-03", ["index(::2)"], name="alf/spikes.times.npy"), whole[0, ::2]),
    ):
        one.saveone(recipe, "x")
        np.testing.assert_array_equal(one.loadone("x"), expected)
    for name, error in (("gone", FileNotFoundError), ("../x.npy", RecipeRefused), ("alf/../../x.npy", RecipeRefused)):
        one.saveone(LoadingRecipe("session", "M2/2024-01-03", name=name), "x")
        with pytest.raises(error):
            one.loadone("x")


@pytest.mark.parametrize("index", ["2", "-1, 3", ":, 1", "1:3", "::-1, 2:0:-1", "...", "4, :"])
def test_a_part_of_a_sparse_array_is_that_of_the_dense(one, index):
    dense = np.where(np.random.default_rng(1).random((6, 5)) < 0.5, 0, np.arange(30.0).reshape(6, 5))
    one.saveone(sparse.csc_array(dense), "roi", sparse=True)
    one.saveone(LoadingRecipe("sparse", "oneData/roi.npz", [f"index({index})"]), "x")
    expected = eval(f"dense[{index}]", {"dense": dense})
    assert one.loadone("x").shape == expected.shape
    np.testing.assert_array_equal(one.loadone("x"), expected)


def test_a_part_of_a_large_source_takes_the_memory_of_the_part(one, tmp_path):
    """Sources of 3 GB each, which take no disk: of what is not written, zeros are read."""
    shape = (3000, 2**17)
    folder = one.data_path / "suite2p" / "plane0"
    folder.mkdir(parents=True)
    with (folder / "F.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        offset = file.tell()
        file.truncate(offset + 8 * shape[0] * shape[1])
        file.seek(offset + 8 * (7 * shape[1] + 11))
        file.write(np.float64(1.5).tobytes())
    with h5py.File(one.data_path / "F.h5", "w") as file:
        file.create_dataset("F", shape, "f8", chunks=(100, 1000))[7, 11] = 1.5
    recipes = {
        "numpy": LoadingRecipe("numpy", "suite2p/plane0/F.npy", ["transpose", "index(10:20, 5:9)"]),
        "S2P": LoadingRecipe("S2P", "F", ["transpose", "index(10:20, 5:9)"]),
        "hdf5": LoadingRecipe("hdf5", "F.h5", ["transpose", "index(10:20, 5:9)"], dataset="F"),
        "session": LoadingRecipe("session", "M1/2024-01-02/701", ["index(10:20, 5:9)"], name="numpy whole"),
        "numpy whole": LoadingRecipe("numpy", "suite2p/plane0/F.npy", ["transpose"]),
    }
    expected = np.zeros((10, 4))
    expected[1, 2] = 1.5
    for name, recipe in recipes.items():
        one.saveone(recipe, name)
    for name in ("numpy", "S2P", "hdf5", "session"):
        tracemalloc.start()
        loaded = one.loadone(name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(loaded, expected)
        assert peak < 20e6, name


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    """Two threads and this one: what is loaded is always one of the arrays, never a part or a mixture."""
    n, n_rounds = 50_000, 30
    done = threading.Event()

    def write(value):
        writer = OneDataSession("M1", "2024-01-02", root=tmp_path, cache_bytes=0)
        for _ in range(n_rounds):
            writer.saveone(np.full(n, value), "x")
            writer.saveone(LoadingRecipe("constant", None, value=value, shape=[n]), "y")

    write(0.0)
    reader = OneDataSession("M1", "2024-01-02", root=tmp_path, cache_bytes=0)
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write, value) for value in (1.0, 2.0)]
        for future in writers:
            future.add_done_callback(lambda _: all(each.done() for each in writers) and done.set())
        seen = set()
        while not done.is_set():
            for name in ("x", "y"):
                values = reader.loadone(name)
                assert values.shape == (n,)
                assert values[0] == values[-1] == values.mean()
                seen.add(values[0])
        for future in writers:
            future.result()
    assert seen & {1.0, 2.0}
    assert sorted(path.name for path in reader.one_path.iterdir()) == ["x.npy", "y.npy"]


def test_a_lab_registers_its_own(one, tmp_path, monkeypatch):
    """By a call, and by an entry point, so that workers in other processes know it too."""

    @onedata.register_loader("test_zeros")
    def zeros(session, n, value=0.0):
        return np.full(int(n), value)

    @onedata.register_transform("test_plus")
    def plus(data, more):
        return data + float(more)

    one.saveone(LoadingRecipe("test_zeros", "2", ["test_plus(1.5)"], value=1), "x")
    assert one.loadone("x").tolist() == [2.5, 2.5]
    with pytest.raises(ConfigError, match="is there already"):
        onedata.register_loader("numpy")(zeros)
    (tmp_path / "lab_loaders.py").write_text(
        "from labweave.formats.onedata import register_loader\n"
        "@register_loader('test_from_package')\ndef load(session):\n    return [1, 2]\n"
    )
    info = tmp_path / "lab_loaders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-loaders\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[labweave.onedata]\nlab = lab_loaders\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from labweave.formats.onedata.registry import _load_packages

    _load_packages.cache_clear()
    assert "test_from_package" in one.recipe_loaders
    one.saveone(LoadingRecipe("test_from_package", None), "y")
    loaded = one.loadone("y")
    loaded.append(3)
    assert one.loadone("y") == [1, 2]
    sys.modules.pop("lab_loaders")


# ---- suite2p and registration


def register(one, planes, **values):
    """Write suite2p's output and the registered values; planes are (name, ROIs, frames) in registered order."""
    rng = np.random.default_rng(0)
    for name, n_rois, n_frames in planes:
        folder = one.data_path / "suite2p" / name
        folder.mkdir(parents=True)
        for variable in ("F", "Fneu"):
            np.save(folder / f"{variable}.npy", rng.normal(size=(n_rois, n_frames)).astype("f4"))
        stat = [
            {"xpix": np.array([1, 2, 9]) + n, "ypix": np.array([4, 4, 5]), "lam": np.array([1, 1, 2], "f4")}
            for n in range(n_rois)
        ]
        np.save(folder / "stat.npy", np.array(stat, object))
        np.save(folder / "ops.npy", np.array({"Ly": np.int64(3), "fs": 6.0}, object))
    one.opts = {"neuropilCoefficient": 0.7}
    known = {
        "planeNames": [name for name, _, _ in planes],
        "planeIDs": [int(name[-1]) for name, _, _ in planes],
        "available": ["F", "Fneu", "stat", "ops", "spks"],
        "roiPerPlane": [n_rois for _, n_rois, _ in planes],
        "numFrames": min(n_frames for _, _, n_frames in planes),
    }
    for name, value in {**known, **values}.items():
        one.set_value(name, value)
    one.save_session_prms()
    return [np.load(one.data_path / f"suite2p/{name}/F.npy") for name, _, _ in planes]


def test_planes_are_joined_in_registered_order_and_cut(one):
    planes = register(one, [("plane2", 2, 228), ("plane0", 3, 229), ("plane1", 1, 228)])
    joined = np.concatenate([plane[:, :228] for plane in planes])
    np.testing.assert_array_equal(one.load_s2p("F"), joined)
    assert [part.shape for part in one.load_s2p("F", concatenate=False)] == [(2, 228), (3, 228), (1, 228)]
    assert one.load_s2p("ops") == [{"Ly": 3, "fs": 6.0}] * 3
    assert one.get_plane_idx().tolist() == [2, 2, 0, 0, 0, 1]
    assert one.get_plane_idx().dtype == np.uint8
    assert one.get_roi_position()[:2].tolist() == [[(1 + 2 + 18) / 4, 4.5, 2], [(1 + 2 + 18) / 4 + 1, 4.5, 2]]
    assert one.get_roi_position("median")[0].tolist() == [2, 4, 2]
    with pytest.raises(AssertionError, match="no F_chan2"):
        one.load_s2p("F_chan2")
    with pytest.raises(FileNotFoundError):
        one.load_s2p("spks")


@pytest.mark.parametrize(
    "index", ["0:2", "1:5, 3", "-1", "3, 1:4", "::2, ::3", "::-1", "4:1:-2, -1", "5:5", "2", "..., 0:1", "0:100, 7"]
)
def test_a_part_of_joined_planes_is_that_of_the_whole(one, index):
    register(one, [("plane2", 2, 8), ("plane0", 3, 9), ("plane1", 1, 8)])
    whole = one.load_s2p("F")
    expected = eval(f"whole[{index}]", {"whole": whole})
    one.saveone(LoadingRecipe("S2P", "F", [f"index({index})"]), "x")
    loaded = one.loadone("x")
    assert loaded.shape == expected.shape
    np.testing.assert_array_equal(loaded, expected)
    one.saveone(LoadingRecipe("S2P", "F", ["transpose", f"index({index})"]), "y")
    try:
        expected = eval(f"whole[{index}]", {"whole": whole.T})
    except IndexError:
        with pytest.raises(IndexError):
            one.loadone("y")
    else:
        np.testing.assert_array_equal(one.loadone("y"), expected)


def test_corrected_traces(one):
    f = np.concatenate(register(one, [("plane0", 3, 10)]))
    neuropil = np.load(one.data_path / "suite2p/plane0/Fneu.npy")
    centred = neuropil - neuropil.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(one.loadfcorr(), f - 0.7 * centred, rtol=1e-5)
    np.testing.assert_allclose(one.loadfcorr(mean_adjusted=False), f - 0.7 * neuropil, rtol=1e-5)
    for name, source in (("mpci.roiActivityF", "F"), ("mpci.roiNeuropilActivityF", "Fneu")):
        one.saveone(LoadingRecipe("S2P", source, ["transpose"]), name)
    np.testing.assert_allclose(one.loadfcorr(), f - 0.7 * centred, rtol=1e-5)
    again = OneDataSession.open(one.data_path, neuropil_coefficient=0, spks_type="corrected")
    np.testing.assert_array_equal(again.spks, f.T)
    again.spks_type = "raw"
    np.testing.assert_array_equal(again.spks, f.T)
    again.spks_type = "unknown"
    with pytest.raises(ValueError, match="kind of spikes"):
        _ = again.spks


def test_a_session_that_is_not_registered(one):
    one.data_path.mkdir(parents=True)
    root = one.data_path.parents[2]
    with pytest.raises(ValueError, match="not registered"):
        B2Session.create("M1", "2024-01-02", "701", root=root)
    with pytest.raises(TypeError):
        B2Session.create("M1", "2024-01-02", None, root=root)
    with pytest.raises(ValueError, match="no neuropil coefficient"):
        register(one, [("plane0", 1, 3)])
        (one.data_path / "vrExperimentOptions.json").unlink()
        OneDataSession.open(one.data_path).loadfcorr()


def test_options_of_a_registered_session(one):
    root = one.data_path.parents[2]
    new = B2Session.create("M1", "2024-01-02", "701", for_registration=True, root=root)
    assert (new.opts, new.preprocessing, vars(new.values)) == ({}, [], {})
    register(one, [("plane0", 2, 3)])
    opened = B2Session.create("M1", "2024-01-02", "701", {"spks_type": "raw", "neuropil_coefficient": 0.5}, root=root)
    assert (opened.spks_type, opened.neuropil_coefficient, opened.opts) == ("raw", 0.5, one.opts)
    assert opened == one
    for params in ({"good_labels": ["c"]}, ["raw"], {"unknown": 1}):
        with pytest.raises(ValueError, match="params"):
            B2Session.create("M1", "2024-01-02", "701", params, root=root)


def test_behaviour_of_a_session(one):
    one.saveone(np.array([0.0, 0.5, 1.0, 1.5, 2.0]), "positionTracking.times")
    one.saveone(np.array([1.0, 2, 3, 1, 2]), "positionTracking.position")
    one.saveone(np.array([0, 0, 1, 1, 2]), "positionTracking.mpci")
    one.saveone(np.array([0, 3]), "trials.positionTracking")
    one.saveone(np.array([2, -1], "i2"), "trials.environmentIndex")
    one.saveone(np.array([100.0, 200]), "trials.roomLength")
    one.saveone(np.array([0.25, 1, 63]), "mpci.times")
    one.saveone(np.array([True, False]), "mpciROIs.redCellIdx")
    one.set_value("numTrials", 2)
    times, position, trials, frames = one.positions
    assert trials.tolist() == [0, 0, 0, 1, 1]
    assert (times[-1], position[-1], frames[-1]) == (2, 2, 2)
    assert (one.environments.tolist(), one.env_length.tolist(), one.num_trials) == ([-1, 2], [100, 200], 2)
    assert (one.spontaneous_length(), one.has_spontaneous(), one.has_spontaneous(61)) == (61, True, False)
    assert one.get_red_idx().tolist() == [True, False]
    one.saveone(np.array([False, True]), "mpciROIs.redCellIdxCoherent")
    one.saveone(np.array([10.0]), "trials.roomlength")
    assert (one.get_red_idx().tolist(), one.env_length.tolist()) == ([False, True], [10])


def test_registered_values_are_written_whole_or_not_at_all(one):
    register(one, [("plane0", 1, 3)], note="naïve – день", number=np.float32(1.5), array=np.arange(2), nan=float("nan"))
    path = one.data_path / "vrExperimentValues.json"
    text = path.read_text(encoding="utf-8")
    assert '"note": "naïve – день"' in text
    assert '"nan": NaN' in text
    again = B2Session.create("M1", "2024-1-2", "701", root=one.data_path.parents[2])
    assert (again.values.number, again.values.array, again.values.planeNames) == (1.5, [0, 1], ["plane0"])
    assert again.opts == one.opts
    again.set_value("bad", object())
    with pytest.raises(TypeError):
        again.save_session_prms()
    assert path.read_text(encoding="utf-8") == text
    path.write_text('{"cut": ')
    with pytest.raises(ReadError, match="no JSON"):
        OneDataSession.open(one.data_path)


def test_a_folder_spelled_as_in_the_manual_is_read(one):
    (one.data_path / "onedata").mkdir(parents=True)
    np.save(one.data_path / "onedata" / "a.npy", np.zeros(2))
    if os.path.samestat(one.one_path.stat(), (one.data_path / "onedata").stat()):
        assert one.loadone("a").tolist() == [0, 0]
    one.saveone(np.ones(1), "b")
    assert one.print_saved_one() == ["a", "b"]
    assert onedata.load_file(one.one_path / "b.npy").tolist() == [1]


# ---- files of vrAnalysis


def test_sessions_of_the_peer(shared, tmp_path, monkeypatch):
    source = shared / "data" / "onedata"
    expected = json.loads((source / "expected.json").read_text())["sessions"]
    shutil.copytree(source / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    lab7 = {"first_col": lambda x: x[:, 0]}
    for facts in expected.values():
        one = OneDataSession.open(tmp_path / facts["path"])
        monkeypatch.setattr(
            OneDataSession,
            "recipe_transforms",
            property(lambda self: {**onedata.registry.transforms(), **lab7}),
        )
        assert (list(one.session_name), one.session_uid) == (facts["session_name"], facts["session_uid"])
        assert sorted(path.name for path in one.get_saved_one()) == sorted(facts["one_files"])
        assert one.opts == (facts["vrExperimentOptions"] or {})
        assert one.preprocessing == (facts["vrExperimentPreprocessing"] or [])
        for name, truth in facts["one_files"].items():
            check_file(one, name, truth)
        if facts.get("fcorr_mean_adjusted"):
            assert content_sha256(one.loadfcorr()) == facts["fcorr_mean_adjusted"]["sha256_c_order"]
            np.testing.assert_array_equal(one.get_roi_position(), one.loadone("mpciROIs.stackPosition"))
    assert not list(tmp_path.rglob("PICKLE_WAS_LOADED"))


def check_file(one, name, truth):
    """Compare one file with what the peer makes of it."""
    stem, kind = truth["stem"], truth["kind"]
    found = onedata.describe(one.one_path / name)
    assert found.kind == {"unsafe_pickle": "unsafe"}.get(kind, kind), name
    if kind == "array":
        array = one.loadone(stem)
        assert list(array.shape) == truth["shape"]
        assert found.dtype == truth["dtype"] or json.loads(found.dtype) == truth["dtype"]
        assert content_sha256(array) == found.content_sha256 == truth.get("sha256_c_order", found.content_sha256)
    elif kind == "sparse":
        assert content_sha256(one.loadone(stem, sparse=True)) == truth["dense"]["sha256_c_order"]
        assert one.loadone(stem, sparse=True, keep_sparse=True).nnz == found.n_stored == truth["nnz"]
    elif kind == "object":
        assert list(one.loadone(stem).shape) == truth["shape"]
        if truth["value_keys"]:
            assert sorted(one.loadone(stem).item()) == truth["value_keys"]
    elif kind in ("unsafe_pickle", "unreadable"):
        with pytest.raises(ValueError):
            one.loadone(stem)
    elif "resolve_error" in truth:
        peer = {"AssertionError": AssertionError, "KeyError": KeyError, "FileNotFoundError": FileNotFoundError}
        wanted = RecipeRefused if name == "ephys.outsideSession.npy" else peer[truth["resolve_error"]]
        with pytest.raises(wanted):
            one.loadone(stem)
    else:
        assert found.recipe is not None
        assert found.recipe.to_dict() == truth["recipe"]
        compare(one.loadone(stem), truth["resolved"])


def compare(value, truth):
    """Compare what a recipe gives with what it gave the peer."""
    if "sha256_c_order" in truth:
        assert content_sha256(np.asarray(value)) == truth["sha256_c_order"]
    elif truth.get("python") == "list":
        assert len(value) == truth["length"]
        for item, fact in zip(value, truth["items"], strict=True):
            compare(item, fact)
    elif truth.get("python") == "dict":
        assert sorted(value) == truth["keys"]
    else:
        assert (list(value.shape), value.dtype) == (truth["shape"], object)


def test_what_is_written_is_what_the_peer_reads(one):
    """The recipe file is what ``numpy.load`` and the peer's four keys expect."""
    recipe = LoadingRecipe("S2P", "F", ["transpose"], concatenate=True)
    one.saveone(recipe, "x")
    loaded = np.load(one.one_path / "x.npy", allow_pickle=True)
    assert (loaded.shape, loaded.dtype, loaded.item()) == ((), object, recipe.to_dict())
    assert list(loaded.item()) == ["marker", "loader_type", "source_arg", "transforms", "kwargs"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(loaded.item()["transforms"]) is list
    with pytest.raises(BadFile):
        onedata.read_npy(Path(__file__))

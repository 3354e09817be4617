"""Files that want to run code, swell, or read beyond themselves: nothing of that happens."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from scipy import sparse

from labweave.formats import onedata
from labweave.formats.onedata import BadFile, LoadingRecipe, OneDataSession, UnsafeFile, read_npy
from labweave.formats.onedata.objects import load_objects

HEADER = "{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


def npy(path, content, descr="|O", shape="()", version=1):
    text = HEADER.format(descr=descr, shape=shape).encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + text + content)
    return path


class Bomb:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.npy"


def attacks(target):
    """Return pickles that would write a file, by name."""
    write = Bomb(open, str(target), "w")
    return {
        "bare": pickle.dumps(write),
        "in an array": pickle.dumps(np.array(write, object), 4),
        "in a dictionary": pickle.dumps(np.array({"marker": "__LOADING_RECIPE__", "x": [write]}, object), 4),
        "of protocol 0": b"cbuiltins\nopen\n(V" + str(target).encode() + b"\nVw\ntR.",
        "os.system": f"cos\nsystem\n(Vtouch {target}\ntR.".encode(),
        "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nV__class__\ntR.",
        "numpy.load": b"cnumpy\nload\n(V" + str(target).encode() + b"\ntR.",
        "numpy.ndarray called": b"cnumpy\nndarray\n((I3\ntR.",
        "ndarray by attribute": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.tofile\x93.",
        "runstring": b"cnumpy.testing\nrundocs\n(tR.",
        "build on a class": b"cnumpy\nndarray\n}(Vx\nI1\nsb.",
        "persistent id": b"Pid\n.",
        "extension": b"\x80\x02\x82\x01.",
    }


@pytest.mark.parametrize("name", attacks("x"))
def test_pickles_run_nothing(path, tmp_path, name):
    target = tmp_path / "was_run"
    npy(path, attacks(target)[name])
    with pytest.raises(UnsafeFile, match="not read"):
        read_npy(path)
    assert onedata.describe(path).kind == "unsafe"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["x.npy"]


def test_pickles_run_only_for_those_who_trust_them(tmp_path):
    one = OneDataSession("M1", "2024-01-02", root=tmp_path)
    one.one_path.mkdir(parents=True)
    np.save(one.one_path / "set.npy", np.array({1, 2}, object))
    npy(one.one_path / "bomb.npy", pickle.dumps(np.array(Bomb(open, str(tmp_path / "was_run"), "w"), object)))
    for name in ("set", "bomb"):
        with pytest.raises(ValueError, match="trust_pickles=True"):
            one.loadone(name)
    assert not (tmp_path / "was_run").exists()
    trusting = OneDataSession("M1", "2024-01-02", root=tmp_path, trust_pickles=True)
    assert trusting.loadone("set").item() == {1, 2}


def state(shape, dtype, content, fortran=False):
    """Return a pickle of an array with any state; numpy itself would not look at all of it."""
    array = np.empty(0, "b")

    class Crafted:
        def __reduce__(self):
            return array.__reduce__()[0], array.__reduce__()[1], (1, shape, np.dtype(dtype), fortran, content)

    return pickle.dumps(Crafted(), 2)


@pytest.mark.parametrize(
    "content, found",
    [
        (state((10**9,), "O", [None]), "does not fit"),
        (state((3,), "O", [1, 2]), "does not fit"),
        (state((3,), "O", b"123456789012345678901234"), "does not fit"),
        (state((3,), "f8", [1.0, 2.0, 3.0]), "does not fit"),
        (state((10**12,), "f8", b"1"), "does not fit"),
        (state((-1,), "f8", b""), "damaged shape"),
        (state((2**70,), "V0", b""), "damaged"),
        (state([1], "f8", bytes(8)), "damaged shape"),
        (state((1,) * 33, "f8", bytes(8)), "damaged shape"),
        (state((1,), np.dtype([("a", "O")]), [1]), "objects in a structured dtype"),
        (state((1,), np.dtype((np.dtype("f8"), (2,))), bytes(16)), ""),
        (b"", "damaged pickle"),
        (b"\x80\x04", "damaged pickle"),
        (b"\x80\x04N.", "no array"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", ""),
    ],
)
def test_arrays_with_crafted_states_are_refused(content, found):
    array, reason = load_objects(content)
    assert array is None
    assert found in reason
    assert reason


def test_values_that_swell_are_refused(path):
    bomb = "x"
    for _ in range(40):
        bomb = [bomb, bomb]
    array = np.empty((), object)
    array[()] = bomb
    npy(path, pickle.dumps(array))
    with pytest.raises(UnsafeFile, match="without end"):
        read_npy(path)
    loop = []
    loop.append(loop)
    array[()] = loop
    npy(path, pickle.dumps(array))
    with pytest.raises(UnsafeFile, match="without end"):
        read_npy(path)


def test_plain_objects_are_read_as_they_were(path):
    value = {
        "text": "é", "bytes": b"\x00\xff", "none": None, "flag": True, "big": 2**80, "nan": float("inf"), "z": 1j,
        "tuple": (1, [2.5]), "array": np.arange(6, dtype=">i2").reshape(2, 3), "fortran": np.asfortranarray(np.eye(2, 3)),
        "names": np.array(["a", "bc"]), "table": np.array([(1, 2.5)], [("a", "i2"), ("b", "f8")]),
        "number": np.float32(1.5), "objects": np.array([None, {"x": np.arange(2)}], object), "empty": np.empty((0, 2)),
    }  # fmt: skip
    for protocol in (2, 3, 4):
        held = np.empty((), object)
        held[()] = value
        npy(path, pickle.dumps(held, protocol))
        loaded = read_npy(path).item()
        assert list(loaded) == list(value)
        for key, truth in value.items():
            if isinstance(truth, (np.ndarray, np.generic)) and key != "objects":
                assert (loaded[key].dtype, loaded[key].shape) == (truth.dtype, truth.shape), key
                np.testing.assert_array_equal(loaded[key], truth)
            elif key != "objects":
                assert loaded[key] == truth
        assert loaded["objects"][1]["x"].tolist() == [0, 1]
        assert loaded["fortran"].flags.f_contiguous


def test_large_files_of_objects_are_not_read_as_variables(path):
    np.save(path, np.array(["x" * 100] * 1000, object))
    with path.open("ab") as file:
        file.write(bytes(1 << 16))
    with pytest.raises(UnsafeFile, match="bytes of Python objects"):
        read_npy(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00v\x00",
        b"PK\x03\x04",
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f",
        b"\x93NUMPY\x01\x00\x76\x00{'descr'",
    ],
)
def test_what_is_no_array_file_is_unreadable(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_npy(path)
    assert onedata.describe(path).kind == "unreadable"


@pytest.mark.parametrize(
    "descr, shape",
    [
        ("<f8", "(1000000000000,)"),
        ("<f8", "(-1,)"),
        ("<f8", "(True,)"),
        ("<f8", "[3]"),
        ("<f8", "__import__('os').system('touch x')"),
        ("nonsense", "(1,)"),
        ("<f8", "(" + "1," * 64 + ")"),
        ("<f8", "(9" + "9" * 30 + ",)"),
    ],
)
def test_headers_that_lie_are_unreadable(path, descr, shape):
    npy(path, bytes(64), descr, shape)
    with pytest.raises(BadFile):
        read_npy(path)
    with pytest.raises(BadFile):
        read_npy(path, mmap=True)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_the_format(path, version):
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.arange(3.0), version=(version, 0))
    assert read_npy(path).tolist() == [0, 1, 2]
    names = np.zeros(2, [("größe", "f8")])
    with path.open("wb") as file:
        np.lib.format.write_array(file, names)
    assert read_npy(path).dtype == names.dtype


# ---- archives


def sparse_file(path, **changes):
    array = sparse.csc_array(np.eye(3))
    members = {"indices": array.indices, "indptr": array.indptr, "format": b"csc", "shape": array.shape}
    np.savez(path, **{**members, "data": array.data, **changes})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"indices": np.array([0, 1, 10**6], "i4")},
        {"indices": np.array([0, -1, 2], "i4")},
        {"indptr": np.array([0, 1, 2, 1000], "i4")},
        {"indptr": np.array([0, 3, 1, 3], "i4")},
        {"shape": (3, 2)},
        {"shape": (-3, 3)},
        {"format": b"evil"},
        {"data": np.array(["a", "b", "c"], object)},
        {"indices": np.array([0.5, 1, 2])},
    ],
)
def test_damaged_sparse_files_are_unreadable(tmp_path, changes):
    path = sparse_file(tmp_path / "x.npz", **changes)
    assert onedata.describe(path).kind == "unreadable"


def test_other_archives_are_unreadable(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(2))
    assert "it has a, not data, format" in onedata.describe(path).problem
    path.write_bytes(sparse_file(tmp_path / "y.npz").read_bytes()[:300])
    assert onedata.describe(path).kind == "unreadable"
    content = bytearray(sparse_file(tmp_path / "y.npz").read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    assert onedata.describe(path).kind == "unreadable"


def test_archives_that_swell_are_not_unpacked(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", bytes(300 << 20))
    assert os.path.getsize(path) < 400_000
    assert "the archive claims 314,572,800 bytes" in onedata.describe(path).problem
    one = OneDataSession("M1", "2024-01-02", root=tmp_path)
    one.saveone(sparse.csc_array((10**6, 10**6)), "wide", sparse=True)
    with pytest.raises(ValueError, match="keep_sparse=True"):
        one.loadone("wide", sparse=True)
    assert one.loadone("wide", sparse=True, keep_sparse=True).shape == (10**6, 10**6)


def test_a_pickle_in_a_source_of_a_recipe_runs_nothing(tmp_path):
    one = OneDataSession("M1", "2024-01-02", root=tmp_path)
    for name in ("suite2p/plane0/stat.npy", "a.npy", "suite2p/plane0/F.npy"):
        path = one.data_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        npy(path, pickle.dumps(np.array([Bomb(open, str(tmp_path / "was_run"), "w")], object)), shape="(1,)")
    recipes = [LoadingRecipe("S2P", "stat"), LoadingRecipe("roiPosition", None), LoadingRecipe("numpy", "a.npy")]
    for recipe in [*recipes, LoadingRecipe("S2P", "F", ["index(0)"])]:
        one.saveone(recipe, "x")
        with pytest.raises(ValueError):
            one.loadone("x")
    assert not (tmp_path / "was_run").exists()
    buffer = io.BytesIO()
    np.savez(buffer, arr_0=np.array([Bomb(open, str(tmp_path / "was_run"), "w")], object))
    (one.data_path / "b.npz").write_bytes(buffer.getvalue())
    one.saveone(LoadingRecipe("npz", "b.npz"), "x")
    with pytest.raises(ValueError):
        one.loadone("x")
    assert not (tmp_path / "was_run").exists()

"""Beside ONE-api, where it is installed: the same names, paths, files and objects.

Differences that are wanted, and so not compared here: names that end in a line break and digits that are not ASCII are
refused; a path is understood as a whole or not at all; a session needs a subject and a number of at most three digits;
names that are made are ALF names; columns of a table keep their types; timestamps of other than two points are
expanded; metadata belong to the file of their whole name first; files without an ALF name are not listed.
"""

import json
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from labweave.formats import alf
from labweave.formats.alf import exceptions, names
from labweave.formats.alf.path import OwnPath

spec = pytest.importorskip("one.alf.spec", reason="ONE-api is not installed")
io = pytest.importorskip("one.alf.io")
peer_path = pytest.importorskip("one.alf.path")
peer_exceptions = pytest.importorskip("one.alf.exceptions")

ID = "a976e418-c8b8-4d24-be47-d05120b18341"
N = int(os.environ.get("LABWEAVE_TEST_EXAMPLES", 0))
many = settings(max_examples=N or 100, deadline=None, derandomize=not N)
few = settings(max_examples=N or 30, deadline=None, derandomize=not N, suppress_health_check=[HealthCheck.too_slow])

PIECE = st.sampled_from(
    [
        "a",
        "obj",
        "times",
        "_times",
        "_intervals",
        "_timestamps",
        "_",
        "__",
        ".",
        "..",
        "-",
        "_ns_",
        "Z9",
        "é",
        ID,
        " ",
        "#",
    ]
)
NAMES = st.lists(PIECE, max_size=9).map("".join) | st.text("ab_.-é Z0", max_size=14)
# Structured names with every part now and then absent or odd.
GOOD = st.builds(
    "{}{}.{}{}{}.{}".format,
    st.sampled_from(["", "", "_ibl_", "_a1_", "_", "__x__", "_é_"]),
    st.sampled_from(["obj", "ephysData_g0_t0", "a", "données", "_o", "o-o"]),
    st.sampled_from(["times", "goCue_times", "x_intervals", "_phy_ids", "a1", "my_attr", "x_timestamps", "größe"]),
    st.sampled_from(["", "", "_bpod", "_ephysClock_minutes", "_times", "_é"]),
    st.sampled_from(["", "", ".raw", f".{ID}", ".a-b.v12", "..x", ".é"]),
    st.sampled_from(["npy", "gz", "csv", "n-y", "", "é"]),
)


@many
@given(NAMES | GOOD)
def test_names_are_valid_and_parsed_alike(name):
    theirs = peer_path.filename_parts(name, assert_valid=False)
    parsed = names.parse_name(name)
    assert (tuple(parsed[6:]) if parsed else (None,) * 6) == theirs
    assert names.is_valid(name) == spec.is_valid(name)


FOLDER = st.sampled_from(
    [
        "lab",
        "my-lab",
        "Subjects",
        "s x",
        "é",
        "2019-05-07",
        "001",
        "0012",
        "alf",
        "#2022-01-01#",
        "#a b#",
        ".",
        "v1.0.0",
    ]
)
SESSION = st.builds(
    "/".join,
    st.tuples(
        st.sampled_from(["/data/lab/Subjects", "lab/Subjects", "my-lab/Subjects", "/root", "x/Subjects/y", "Subjects"]),
        st.sampled_from(["KS005", "SWC-043.2", "s x", "é"]),
        st.sampled_from(["2019-05-07", "2019-13-07", "2019-02-30"]),
        st.sampled_from(["001", "1", "27"]),
    ),
)
REST = st.lists(FOLDER, max_size=3).map("/".join)


@many
@given(st.builds("/".join, st.tuples(SESSION, REST, GOOD)) | st.builds("/".join, st.tuples(REST, SESSION, REST)))
def test_paths_are_parsed_alike(path):
    path = Path(path).as_posix()
    ours, theirs = names.parse_path(path), peer_path.full_path_parts(path, assert_valid=False)
    if ours is not None:
        assert tuple(ours) == tuple(theirs)
    else:
        # not understood as a whole: an odd name, or folders after those that theirs names
        end = spec.regex(spec.SESSION_SPEC + "(?=/|$)").search(path).end()
        file = Path(path).name if Path(path).name.count(".") >= 2 else ""
        folders = path[end + 1 : len(path) - len(file)]
        assert (file and not spec.is_valid(file)) or not spec.regex(f"^{spec.COLLECTION_SPEC}$").match(
            folders + "/" if folders and not folders.endswith("/") else folders
        )


@many
@given(st.builds("/".join, st.tuples(SESSION, REST)))
def test_sessions_are_found_alike(path):
    assert names.is_session_path(path) == spec.is_session_path(path)
    assert tuple(names.parse_session(path)) == peer_path.session_path_parts(path)
    theirs = peer_path.get_session_path(path)
    assume(theirs is None or len(theirs.name) <= 3)
    found = names.session_path(path)
    assert (found and Path(found)) == theirs
    if found:
        assert Path(names.padded_sequence(path)) == Path(peer_path.padded_sequence(path))
        parts = names.parse_session(found)
        assert (
            OwnPath(path).session_path_short(True) == peer_path.ALFPath(path).session_path_short(True) or not parts.lab
        )


PLAIN = ["spikes", "mpci ROIs", "my_attr", "passive_RFM", "FooBar", "a_b_times", "a b c", "ROIs"]
WORDS = st.sampled_from([*PLAIN, "_x", "x_timestamps", "é", "a-b", "a.b", "", "x__y"])
SOME_WORDS = st.none() | WORDS | st.lists(WORDS, max_size=2)


@many
@given(WORDS, WORDS, st.sampled_from(["npy", ".csv", "n-y"]), st.none() | WORDS, SOME_WORDS, SOME_WORDS)
def test_names_are_made_alike(object, attribute, extension, namespace, timescale, extra):
    try:
        ours = names.to_alf(object, attribute, extension, namespace, timescale, extra)
    except exceptions.ALFInvalid:
        # a word that can't be in its place
        scales = [timescale] if isinstance(timescale, str) else timescale or []
        fine = [*PLAIN, "spikes", None]
        odd = {object, attribute, *scales} - set(fine) or extension == "n-y" or namespace not in (None, "", "spikes")
        assert odd or extra or "_" in object + attribute
        return
    extra = [word for word in extra if word] if isinstance(extra, list) else extra  # theirs leaves two dots
    assert ours == spec.to_alf(object, attribute, extension, namespace, timescale, extra)


@many
@given(GOOD, REST)
def test_parts_of_valid_names_are_changed_alike(name, folder):
    assume(names.is_valid(name))
    path = Path(folder, name)
    assert names.with_uuid(path, ID) == peer_path.add_uuid_string(path, ID)
    assert names.without_uuid(path) == peer_path.remove_uuid_string(path)
    theirs = peer_path.rel_path_parts(path, assert_valid=False)
    if theirs[3]:
        found = names.split_rel_path(path.as_posix())
        assert (found.collection or None, found.revision or None) == theirs[:2] and found.name == name


@many
@given(st.builds("/".join, st.tuples(SESSION, st.sampled_from(["alf", "alf/probe00", "alf/#r#", "#r#"]), GOOD)))
def test_paths_have_the_same_properties(path):
    ours, theirs = OwnPath(path), peer_path.PureALFPath(path)
    assume(names.is_valid(ours.name))
    for name in (
        "session_parts",
        "dataset_name_parts",
        "alf_parts",
        "lab",
        "subject",
        "date",
        "sequence",
        "collection",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("revision", "namespace", "object", "attribute", "timescale", "extra"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.parse_alf_path() == dict(theirs.parse_alf_path())
    assert ours.parse_alf_name() == dict(theirs.parse_alf_name())
    assert str(ours.without_uuid()) == str(theirs.without_uuid())
    if theirs.session_path():
        assert str(ours.session_path()) == str(theirs.session_path())
        assert str(ours.relative_to_session()) == str(theirs.relative_to_session())
        assert str(ours.without_revision()) == str(theirs.without_revision())


def test_errors_are_caught_by_the_peers_classes(tmp_path):
    for name in ("ALFError", "ALFObjectNotFound", "ALFMultipleObjectsFound", "ALFMultipleCollectionsFound"):
        assert issubclass(getattr(exceptions, name), getattr(peer_exceptions, name))
    for name in ("ALFMultipleRevisionsFound", "AlyxSubjectNotFound", "ALFInvalid", "ALFWarning"):
        assert issubclass(getattr(exceptions, name), getattr(peer_exceptions, name))
    with pytest.raises(peer_exceptions.ALFObjectNotFound):
        alf.load_object(tmp_path, "x")
    assert type(alf.alf_path("x")) is type(peer_path.ALFPath("x"))


# --- objects


def same(ours, theirs, key=""):
    """Assert that two values are equal; numbers of a table may be of another type."""
    if isinstance(theirs, dict):
        assert type(ours).__name__ == type(theirs).__name__ and set(ours) == set(theirs)
        for name in theirs:
            same(ours[name], theirs[name], name)
    elif isinstance(theirs, np.ndarray):
        assert type(ours) is np.ndarray and ours.shape == theirs.shape, key
        assert ours.tolist() == theirs.tolist() or np.array_equal(ours, theirs, equal_nan=True), key
    elif isinstance(theirs, (pd.DataFrame, pd.Series)):
        (pd.testing.assert_frame_equal if theirs.ndim == 2 else pd.testing.assert_series_equal)(ours, theirs)
    else:
        assert type(ours) is type(theirs) and ours == theirs, key


def frame(n, wide, rng):
    columns = {"a": rng.normal(size=n), "b": rng.integers(5, size=n)}
    if wide:
        columns |= {
            "x_0": rng.normal(size=n),
            "x_1": rng.normal(size=n),
            "t": ["left", "right"] * (n // 2) + ["q"] * (n % 2),
        }
    return pd.DataFrame(columns)


def write(folder: Path, file: str, kind: str, n: int, rng) -> None:
    """Write one file of n rows."""
    path = folder / file
    extension = path.suffix
    if extension == ".npy":
        shape = {"vector": (n,), "column": (n, 1), "grid": (n, 3), "pairs": (2, 2), "row": (1,)}[kind]
        array = rng.normal(size=shape) if kind != "vector" else rng.integers(9, size=shape)
        np.save(path, np.array([[0, 1.0], [n, 3.0]]) if kind == "pairs" else array)
    elif extension in (".csv", ".tsv", ".htsv", ".ssv"):
        sep = {".csv": ",", ".ssv": " "}.get(extension, "\t")
        table = frame(n, True, rng)
        (table[["a"]] if kind == "column" else table).to_csv(path, sep=sep, index=False)
    elif extension == ".pqt":
        frame(n, kind != "vector", rng).to_parquet(path)
    elif extension == ".npz":
        np.savez(path, rng.normal(size=n))
    elif extension in (".json", ".jsonable", ".yaml"):
        path.write_text(json.dumps({"a": [1, None, "é"], "n": n}) + "\n", encoding="utf-8")
    else:
        path.write_text("?")


ATTRIBUTES = st.sampled_from(["times", "a", "position", "intervals", "goCue_times", "clusters"])
FILES = st.lists(
    st.tuples(
        st.sampled_from(["", "", "", "_ibl_", "_av_"]),
        ATTRIBUTES,
        st.sampled_from(["", "", "", "_bpod"]),
        st.sampled_from(["", "", "", ".raw", ".raw.v2"]),
        st.sampled_from(
            ["npy", "npy", "npy", "npy", "npz", "csv", "tsv", "htsv", "ssv", "json", "jsonable", "pqt", "yaml", "txt"]
        ),
        st.sampled_from(["vector", "column", "grid"]),
    ),
    min_size=1,
    max_size=5,
)


@few
@given(
    files=FILES,
    table=st.sampled_from([None, None, "table.pqt", "table_bpod.pqt", "table.raw.csv"]),
    timestamps=st.sampled_from([None, "pairs", "vector", "column"]),
    described=st.booleans(),
    odd=st.booleans(),
    filters=st.fixed_dictionaries(
        {},
        optional={
            "namespace": st.sampled_from([None, "ibl", ["ibl", "av"], "*"]),
            "timescale": st.sampled_from([None, "bpod", "b*"]),
            "extra": st.sampled_from([None, "raw", ["v2"]]),
            "extension": st.sampled_from(["npy", ["npy", "pqt"], "*sv"]),
            "attribute": st.sampled_from(["t*", ["times", "a", "table"], "[!t]*"]),
        },
    ),
    short_keys=st.booleans(),
    seed=st.integers(0, 99),
)
def test_objects_are_loaded_alike(files, table, timestamps, described, odd, filters, short_keys, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, (namespace, attribute, timescale, extra, extension, kind) in enumerate(files):
            file = f"{namespace}obj.{attribute}{timescale}{extra}.{extension}"
            write(folder, file, kind, n + (odd and i == 0), rng)
            if described and extension == "npy" and kind == "grid" and not (timescale or extra):
                alf.save_metadata(folder / file, {"columns": ["i", "j", "k"], "unit": "s"} if i % 2 else {"unit": "s"})
        if table:
            write(folder, f"obj.{table}", "grid", n, rng)
        if timestamps:
            write(folder, "obj.timestamps.npy", timestamps, n, rng)
        write(folder, "objects.times.npy", "vector", n, rng)
        listed = [[str(file) for file in found[0]] for found in (alf.filter_by(folder), io.filter_by(folder))]
        assert listed[0] == listed[1]
        found, theirs = alf.filter_by(folder, object="obj", **filters), io.filter_by(folder, object="obj", **filters)
        assert [str(file) for file in found[0]] == [str(file) for file in theirs[0]] and found[1] == theirs[1]
        results = []
        for load, error, say in (
            (alf.load_object, exceptions.ALFError, "error"),
            (io.load_object, Exception, "ignore"),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter(say)
                try:
                    results.append(load(folder, "obj", short_keys=short_keys, **filters))
                except error as raised:
                    results.append(raised)
        ours, theirs = results
        if isinstance(ours, Exception):
            assert isinstance(theirs, (AssertionError, peer_exceptions.ALFError)), repr(theirs)
            assert isinstance(ours, type(theirs))
        elif isinstance(theirs, Exception):
            # what theirs takes for two attributes or can't expand, ours loads
            alone = (short_keys or described) and isinstance(theirs, AssertionError)
            assert alone or isinstance(theirs, (AttributeError, StopIteration, TypeError)), repr(theirs)
        elif odd and timestamps and any(isinstance(value, pd.Series) for value in ours.values()):
            assert set(ours) == set(theirs)  # a series may be longer: theirs expands to the first attribute
        elif set(filters) & {"extra", "extension", "attribute"} and described:
            assert set(ours) >= set(theirs) - {"a.metadata"}
        else:
            same(ours, theirs)
            assert ours.check_dimensions == theirs.check_dimensions


@few
@given(st.lists(st.tuples(st.sampled_from(["l/Subjects/", ""]), st.sampled_from(["s1", "s2", "s-1"]),
       st.sampled_from(["2020-01-01", "2019-12-31", "2020-13-01"]), st.sampled_from(["001", "1", "002", "0003", "x"]),
       st.sampled_from(["alf/", "alf/#r#/", "", "raw/x/"]), st.sampled_from(["a.b.c", "_n_a.b.c", "a.bc.d", "a.b.x.c"])),
       max_size=6))  # fmt: skip
def test_folders_are_walked_alike(files):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for *parts, file in files:
            folder = root / f"{parts[0]}{parts[1]}/{parts[2]}/{parts[3]}/{parts[4]}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        ours, theirs = list(alf.iter_sessions(root)), list(io.iter_sessions(root))
        assert ours == theirs
        for session in ours:
            datasets = list(alf.iter_datasets(session))
            assert datasets == list(io.iter_datasets(session))
            # theirs fails on days that are not
            paths = [session / path for path in datasets if names.session_path(session)]
            for options in ({}, {"namespace": False}, {"extra": False, "extension": False}):
                found, expected = alf.find_variants(paths, **options), io.find_variants(paths, **options)
                assert {key: set(value) for key, value in found.items()} == {
                    key: set(value) for key, value in expected.items()
                }


def test_time_series_are_read_alike(tmp_path):
    for pairs in (
        [[0, 10.0], [4, 14.0]],
        [[1, 0.0], [3, 4.0], [4, 9.0]],
        [5.0, 6, 7, 8, 9],
        [[5.0], [6], [7], [8], [9]],
    ):
        np.save(tmp_path / "_ibl_wheel.timestamps.npy", np.array(pairs))
        np.save(tmp_path / "_ibl_wheel.position.npy", np.arange(5)[:, None])
        for ours, theirs in zip(
            *(f(tmp_path / "_ibl_wheel.position.npy") for f in (alf.read_ts, io.read_ts)), strict=True
        ):
            same(ours, theirs)


def test_each_loads_what_the_other_saved(tmp_path):
    arrays = {"times": np.arange(4.0), "my_attr": np.ones((4, 2)), "goCue_times": np.arange(4)}
    saved = []
    for module, save in ((alf, alf.save_object_npy), (io, io.save_object_npy)):
        folder = tmp_path / module.__name__
        folder.mkdir()
        saved.append([file.name for file in save(folder, arrays, "trials", "raw", "ibl", "bpod")])
        alf.save_metadata(folder / saved[0][1], {"columns": ["x", "y"], "unit": "s"})
        same(alf.load_object(folder, "trials"), io.load_object(folder, "trials"))
    assert saved[0] == saved[1]


@few
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["vector", "grid", "column", "cube", "list", "frame"])),
       min_size=1, max_size=3), st.lists(st.integers(0, 4), min_size=2, max_size=2))  # fmt: skip
def test_bunches_do_alike(columns, lengths):
    def make(kind, n):
        shapes = {"vector": (n,), "grid": (n, 12), "column": (n, 1), "cube": (n, 2, 2)}
        values = {"list": lambda: list(range(n)), "frame": lambda: pd.DataFrame({"x": range(n)})}
        return values[kind]() if kind in values else np.arange(np.prod(shapes[kind])).reshape(shapes[kind])

    columns = dict(columns)
    # theirs fails to tell the lengths of what has none
    assume("list" not in columns.values() or "frame" not in columns.values())
    parts = [{name: make(kind, n) for name, kind in columns.items()} for n in lengths]
    ours, theirs = alf.AlfBunch(parts[0]).append(parts[1]), io.AlfBunch(parts[0]).append(io.AlfBunch(parts[1]))
    same(ours, theirs)
    assert ours.check_dimensions == theirs.check_dimensions
    results = []
    for bunch in (ours, theirs):
        try:
            results.append(bunch.to_df())
        except (ValueError, AttributeError, pd.errors.InvalidIndexError) as error:
            results.append(error)
    if isinstance(results[1], Exception):
        assert isinstance(results[0], ValueError)
    else:
        pd.testing.assert_frame_equal(*results)

"""Stytra's files: what real ones hold, what comes back of what was written, and what is refused."""

import json
import math

import h5py
import numpy as np
import pandas as pd
import pytest

from labweave.errors import ReadError
from labweave.formats.stytra import find_sessions, open_log, read_log, read_metadata, write_log

FORMATS = ("csv", "feather", "hdf5", "json")


def columns(n_rows=50):
    text = np.empty(n_rows, object)
    text[:] = ["a;b", 'σ "x"', "line\nbreak", "NA", "007"] * (n_rows // 5)
    return {
        "x": np.where(np.arange(n_rows) % 5, np.arange(n_rows) / 7, np.nan),
        "n": np.arange(n_rows) - 2**53,
        "flag": np.arange(n_rows) % 2 == 0,
        "label": text,
        "t": np.arange(n_rows) / 10 - 0.3,
    }


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_written_comes_back(tmp_path, format):
    written = columns()
    assert write_log(written, tmp_path / "log", format) == tmp_path / f"log.{format}"
    found = read_log(tmp_path / f"log.{format}")
    truth = pd.DataFrame(written)
    if format == "csv":
        truth["flag"] = truth["flag"].astype("int64")
    pd.testing.assert_frame_equal(found, truth, check_exact=True)


def test_the_layout_is_that_of_stytra(tmp_path):
    write_log(
        {"x": np.array([0.1, np.nan]), "on": np.array([True, False]), "t": np.array([-1.0, 1e-7])},
        tmp_path / "a",
        "csv",
    )
    assert (tmp_path / "a.csv").read_text() == ";x;on;t\n0;0.1;1;-1.0\n1;;0;1e-07\n"
    write_log({"x": np.array([0.1, np.nan]), "t": np.array([-1.0, 2.0])}, tmp_path / "a", "json")
    assert (tmp_path / "a.json").read_text() == '{"x": {"0": 0.1, "1": NaN}, "t": {"0": -1.0, "1": 2.0}}'


def test_files_are_those_of_stytra_byte_for_byte(shared, tmp_path):
    """The same rows, saved by Stytra's collectors and by ours."""
    truth = open_log(shared / "data/stytra/collector_only/feather/140709_behavior_log.feather").frame
    rows = {name: truth[name].to_numpy(object if name == "label" else None) for name in truth.columns}
    for format in ("csv", "json"):
        theirs = shared / f"data/stytra/collector_only/{format}/140709_behavior_log.{format}"
        assert write_log(rows, tmp_path / "ours", format).read_bytes() == theirs.read_bytes()


def test_real_logs(shared):
    root = shared / "data" / "stytra"
    expected = json.loads((root / "expected.json").read_text())["sessions"]
    found = {session.path: session for session in find_sessions(root)}
    assert set(found) == set(expected)
    n_checked = 0
    for path, facts in expected.items():
        assert {log.removesuffix("_log") for log in facts["logs"]} == set(found[path].logs)
        for truth in facts["logs"].values():
            log = open_log(root / found[path].folder / truth["file"])
            assert (log.columns, len(log.frame)) == (truth["columns"], truth["n_rows"])
            for column in log.frame.columns:
                values = log.frame[column]
                assert int(values.isna().sum()) == truth["nan_counts"][column]
                if column in truth["sums"]:
                    assert math.isclose(values.sum(), truth["sums"][column], rel_tol=1e-9, abs_tol=1e-9)
                if truth["dtypes"][column] != "object":
                    assert str(values.dtype) == truth["dtypes"][column]
                for row, where in ((truth["first_row"], 0), (truth["last_row"], -1)):
                    value = values.iloc[where]
                    same = value == row[column] or (
                        isinstance(value, float) and math.isclose(value, float(row[column]), rel_tol=1e-12)
                    )
                    assert same or (row[column] == "nan" and value != value)
                n_checked += 1
            left_out = set(log.columns) - set(log.frame.columns)
            assert bool(left_out) == bool(log.problems)
            assert not left_out or "hdf5" in path
    assert n_checked > 150


def test_pickles_and_links_in_hdf5_are_not_opened(tmp_path):
    write_log({"x": np.arange(3.0), "n": np.arange(3), "t": np.arange(3.0)}, tmp_path / "log", "hdf5")
    path = tmp_path / "log.hdf5"
    with h5py.File(path, "r+") as file:
        del file["data/block1_values"]
        blob = file["data"].create_dataset("block1_values", (1,), h5py.vlen_dtype("u1"))
        blob[0] = np.frombuffer(b"cos\nsystem\n(S'touch /tmp/never'\ntR.", "u1")
    log = open_log(path)
    assert (list(log.frame.columns), log.columns) == (["x", "t"], ["x", "n", "t"])
    assert "pickled" in log.problems[0]
    with h5py.File(path, "r+") as file:
        del file["data/block0_values"]
        file["data/block0_values"] = h5py.ExternalLink("other.hdf5", "/secret")
    with pytest.raises(ReadError, match="is a link"):
        read_log(path)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_logs(tmp_path, format):
    path = write_log(columns(500), tmp_path / "log", format)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    if format == "csv":  # whole lines of it are good
        log = open_log(path)
        assert log.problems == ["its last line is cut"]
        assert 200 < len(log.frame) < 300
    else:
        with pytest.raises(ReadError, match="complete"):
            read_log(path)
    path.write_bytes(b"")
    with pytest.raises(ReadError, match="the file is empty"):
        read_log(path)
    path.unlink()
    with pytest.raises(ReadError, match="gone"):
        read_log(path)


def test_other_files(tmp_path):
    for name, content in {"a.json": "[1]", "b.json": '{"x": {"0": 1}}', "c.csv": "a;b\n1;2\n", "d.txt": "x"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ReadError):
            read_log(tmp_path / name)
    (tmp_path / "deep.json").write_text('{"x": ' * 100_000)
    with pytest.raises(ReadError):
        read_log(tmp_path / "deep.json")


def test_metadata(tmp_path):
    path = tmp_path / "140709_metadata.json"
    path.write_text(
        '{"general": {"t_protocol_start": "2024-03-05T14:07:09", "program_version": {"version": 0, "name": "C:\\\\u\\\\run.py"}},'
        '"imaging": {"a": [1, NaN], "b": -Infinity}, "tracking": {"behavior_log": "../../x_behavior_log.csv"},'
        '"stimulus": {"protocol": {"okr": {"v1": {"speed": 3}}}, "log": [{}, 0]}}'
    )
    found = read_metadata(path)
    assert (found.start.isoformat(), found.end) == ("2024-03-05T14:07:09", None)
    assert found.not_finite == {"imaging/a/1": "nan", "imaging/b": "-inf"}
    assert found.content["imaging"] == {"a": [1, None], "b": None}
    assert (found.protocol, found.protocol_version, found.parameters) == ("okr", "v1", {"speed": 3})
    assert (found.stimuli, found.declared("behavior"), found.declared("stimulus")) == (
        [{}, {}],
        "x_behavior_log.csv",
        "",
    )
    assert found.program == {"version": None, "git_hash": None, "dependencies": None, "script": "run.py"}
    for wrong in ('{"general": {', "[]", '{"a":' * 70 + "1" + "}" * 70, "\xff"):
        path.write_text(wrong, encoding="latin-1")
        with pytest.raises(ReadError):
            read_metadata(path)

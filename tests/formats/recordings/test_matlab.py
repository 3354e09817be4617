"""MATLAB files of the [time, current], [time, voltage] layout, old and new (HDF5) formats."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io

from labweave.errors import ReadError
from labweave.formats import recordings
from labweave.formats.recordings import READERS, read_file

UNITS = {"t_unit": "s", "v_unit": "V", "i_unit": "A"}
TIME = np.arange(5) * 1e-4


def trace(value, start=0.0):
    return np.column_stack([TIME + start, np.full(5, float(value))])


SWEEPS = {
    "Trace_1_1_1_1": trace(1),
    "Trace_1_1_1_2": trace(2),
    "Trace_1_1_2_1": trace(3, start=1.0),
    "Trace_1_1_2_2": trace(4, start=1.0),
    "other": np.eye(3),
}


def write_v5(path, variables):
    scipy.io.savemat(path, variables)
    return path


def write_v4(path, variables):
    scipy.io.savemat(path, variables, format="4")
    return path


def write_v73(path, variables):
    """As MATLAB does: HDF5 behind a text block, arrays transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            file.create_dataset(name, data=np.asarray(values).T)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512))
    return path


FORMATS = pytest.mark.parametrize("write", [write_v4, write_v5, write_v73])


@FORMATS
def test_pairs_of_variables_are_sweeps(tmp_path, write):
    sweeps = read_file({"filepath": write(tmp_path / "x.MAT", SWEEPS), **UNITS})
    assert [(s["id"], s["current"].tolist(), s["voltage"].tolist()) for s in sweeps] == [
        ("Trace_1_1_1_1", [1.0] * 5, [2.0] * 5),
        ("Trace_1_1_2_1", [3.0] * 5, [4.0] * 5),
    ]
    for sweep in sweeps:
        assert sweep["dt"] == pytest.approx(1e-4)
        assert {key: sweep[key] for key in UNITS} == UNITS


@FORMATS
def test_one_sweep_is_read_by_its_name(tmp_path, write):
    metadata = {"filepath": write(tmp_path / "x.mat", SWEEPS), **UNITS}
    assert [sweep.name for sweep in recordings.open(metadata).sweeps] == ["Trace_1_1_1_1", "Trace_1_1_2_1"]
    (sweep,) = read_file({**metadata, "sweep": "Trace_1_1_2_1"})
    assert sweep["voltage"][0] == 4.0
    with pytest.raises(ReadError, match="no sweep Trace_9"):
        read_file({**metadata, "sweep": "Trace_9"})


@FORMATS
@pytest.mark.parametrize("unit", UNITS)
def test_a_missing_unit_is_named(tmp_path, write, unit):
    metadata = {"filepath": write(tmp_path / "x.mat", SWEEPS), **UNITS, unit: None}
    for read in (read_file, recordings.open):
        with pytest.raises(ReadError, match=f"no {unit} in the file"):
            read(metadata)


@FORMATS
@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"x": np.eye(2)}, "no variable is called like Trace_1_1_1_1"),
        ({"Trace_1": trace(1)}, "no variable Trace_2"),
        ({"Trace_1": trace(1), "Trace_2": trace(2)[:3]}, "differ in length"),
        ({"Trace_1": trace(1), "Trace_2": np.eye(3)}, r"Trace_2 has shape \(3, 3\)"),
        ({"Trace_1": trace(1)[::-1], "Trace_2": trace(2)}, "time does not advance"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, write, variables, found):
    path = write(tmp_path / "x.mat", variables)
    with pytest.raises(ReadError, match=found) as caught:
        read_file({"filepath": path, **UNITS})
    assert caught.value.path == str(path)


@FORMATS
@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "foreign"])
def test_files_that_are_not_whole_are_named(tmp_path, write, how):
    path = write(tmp_path / "x.mat", SWEEPS)
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes({"empty": b"", "truncated": content[: len(content) * 2 // 3], "foreign": b"GIF89a" * 99}[how])
    with pytest.raises(ReadError) as caught:
        read_file({"filepath": path, **UNITS})
    assert caught.value.path == str(path)


@FORMATS
def test_recordings_are_told_from_other_mat_files(tmp_path, write):
    assert READERS["matlab"].holds_recordings(write(tmp_path / "x.mat", SWEEPS))
    assert not READERS["matlab"].holds_recordings(write(tmp_path / "y.mat", {"x": np.eye(2)}))

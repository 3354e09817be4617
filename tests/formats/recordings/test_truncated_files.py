"""Whatever is cut off a file of any format: it is read as before, or refused by name. Nothing else."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from abf_files import write_abf1, write_abf2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nwb_files import write_aibs, write_bbp, write_scala, write_trt, write_vu
from test_csv_lccr import METADATA, TABLE
from test_matlab import SWEEPS, UNITS, write_v4, write_v5, write_v73

from labweave.errors import ReadError
from labweave.formats import recordings
from labweave.formats.recordings import read_file, write_recordings


def list_sweeps(metadata):
    return recordings.open(metadata).sweeps


def write_table(path):
    path.write_text(TABLE)
    return path


def write_hdf5(path):
    samples = {"voltage": np.arange(50.0), "current": np.arange(50.0)}
    units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}
    return write_recordings(path, [{**samples, **units}] * 1, cell="c", protocol="IDrest")


FILES = {
    "abf1": ("x.abf", write_abf1, {}),
    "abf2": ("x.abf", write_abf2, {}),
    "bbp": ("x.nwb", write_bbp, {}),
    "aibs": ("x.nwb", write_aibs, {}),
    "trt": ("x.nwb", write_trt, {}),
    "scala": ("x.nwb", write_scala, {}),
    "vu": ("x.nwb", write_vu, {}),
    "csv_lccr": ("x.txt", write_table, METADATA),
    "mat4": ("x.mat", lambda path: write_v4(path, SWEEPS), UNITS),
    "mat5": ("x.mat", lambda path: write_v5(path, SWEEPS), UNITS),
    "mat73": ("x.mat", lambda path: write_v73(path, SWEEPS), UNITS),
    "hdf5": ("x.h5", write_hdf5, {}),
}


@pytest.fixture(scope="module", params=FILES)
def written(request, tmp_path_factory):
    """The folder, the bytes of a whole file, its name and its metadata."""
    if request.param.startswith("abf"):
        pytest.importorskip("neo")
    folder = tmp_path_factory.mktemp(request.param)
    name, write, metadata = FILES[request.param]
    return folder, write(folder / name).read_bytes(), name, metadata


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_a_read_error(written, data):
    folder, content, name, metadata = written
    size = data.draw(st.integers(0, len(content) - 1), label="bytes left")
    path = folder / f"cut {name}"
    path.write_bytes(content[:size])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = read_file({"filepath": folder / name, **metadata})
        for read in (read_file, list_sweeps):
            try:
                found = read({"filepath": path, **metadata})
            except ReadError as error:
                assert error.path == str(path)
                assert error.advice
            else:
                assert len(found) <= len(whole)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=2000))
def test_a_foreign_file_is_a_read_error(written, content):
    folder, _, name, metadata = written
    path = folder / f"foreign {name}"
    path.write_bytes(content)
    for read in (read_file, list_sweeps):
        with pytest.raises(ReadError) as caught, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read({"filepath": path, **metadata})
        assert caught.value.path == str(path)

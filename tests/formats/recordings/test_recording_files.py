"""Readers and the writer of recordings: roundtrip, real Igor waves, and files that can't be read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from labweave.ephys import read_recordings_of_file
from labweave.errors import ReadError, SourceError
from labweave.formats import recordings
from labweave.formats.recordings import (
    READERS,
    ListedSweep,
    find_reader,
    read_file,
    write_recordings,
)

SHARED = Path(os.environ.get("LABWEAVE_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data/ephys"
V_FILE, I_FILE = SHARED / "B6/B6_Ch3_IDRest_181.ibw", SHARED / "B6/B6_Ch0_IDRest_181.ibw"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real recordings are not at {SHARED}; set LABWEAVE_SHARED"
)


def sweeps(n_sweeps=2):
    random = np.random.default_rng(0)
    return [
        {
            "name": f"s{index}",
            "voltage": random.normal(-70.0, 1.0, 500).astype(np.float32),
            "current": random.normal(0.0, 1.0, 500),
            "dt": 0.1,
            "t_unit": "ms",
            "v_unit": "mV",
            "i_unit": "pA",
            "protocol": "IDrest" if index else "IV",
            "ton": 10.0,
            "toff": 40.0,
            "start_time": "2026-01-02T03:04:05",
        }
        for index in range(n_sweeps)
    ]


@pytest.fixture
def file(tmp_path):
    return write_recordings(
        tmp_path / "a.h5", sweeps(3), cell="c1", subject="mouse 1", session_number=2, ljp=14.0, lab=None
    )


def test_written_sweeps_come_back(file):
    found = read_file({"filepath": str(file)})
    assert [sweep["id"] for sweep in found] == ["s0", "s1", "s2"]
    for sweep, written in zip(found, sweeps(3), strict=True):
        np.testing.assert_array_equal(sweep["voltage"], written["voltage"])
        np.testing.assert_array_equal(sweep["current"], written["current"])
        assert (sweep["voltage"].dtype, sweep["current"].dtype) == (np.float32, np.float64)
        assert {key: sweep[key] for key in ("dt", "t_unit", "v_unit", "i_unit", "protocol")} == {
            key: written[key] for key in ("dt", "t_unit", "v_unit", "i_unit", "protocol")
        }
        assert sweep["metadata"] == {"ton": 10.0, "toff": 40.0, "ljp": 14.0}


def test_sweeps_are_picked_by_name_and_protocol(file):
    def names(**metadata):
        return [sweep["id"] for sweep in read_file({"filepath": file, **metadata})]

    assert names(sweep="s1") == ["s1"]
    assert names(sweep=["s2", "s0"]) == ["s2", "s0"]
    assert names(protocol_name="idREST") == ["s1", "s2"]
    assert names(protocol_name=["IV", "APWaveform"]) == ["s0"]
    assert names(protocol_name="Ramp") == []
    with pytest.raises(ReadError, match="no sweep s9"):
        names(sweep="s9")


def test_timings_in_the_file_are_ms(file):
    found = read_recordings_of_file("IDrest", {"filepath": file})
    assert [(r.ton, r.toff, r.timing) for r in found] == [(pytest.approx(10.0), pytest.approx(40.0), "given")] * 2
    assert found[0].voltage.mean() == pytest.approx(-84.0, abs=0.2)  # ljp of the file


def test_what_a_file_holds_is_told_without_the_samples(file):
    with h5py.File(file, "r+") as handle:
        for sweep in handle["sweeps"].values():
            del sweep["voltage"], sweep["current"]
    opened = recordings.open(file)
    assert opened.facts == {"subject": "mouse 1", "session_number": 2, "ljp": 14.0}
    assert opened.sweeps == [
        ListedSweep("s0", "IV", "c1"),
        ListedSweep("s1", "IDrest", "c1"),
        ListedSweep("s2", "IDrest", "c1"),
    ]
    with pytest.raises(ReadError, match="no usable dataset 'voltage'"):
        opened.read()


@pytest.mark.parametrize(
    "change", [{"dt": None}, {"i_unit": None}, {"protocol": None}, {"voltage": np.zeros(3)}, {"name": "s0"}]
)
def test_incomplete_sweeps_leave_the_old_file_alone(file, change):
    before = file.read_bytes()
    with pytest.raises(ValueError, match="sweep"):
        write_recordings(file, [sweeps(1)[0], {**sweeps(2)[1], **change}], cell="c1")
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        write_recordings(tmp_path / "new.h5", sweeps(), cell="c1", strange=object())
    assert list(tmp_path.iterdir()) == []


def test_no_sweeps_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no sweeps"):
        write_recordings(tmp_path / "new.h5", [], cell="c1")


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("a.ibw", "igor"),
        ("a.IBW", "igor"),
        ("a.bwav", "igor"),
        ("a.H5", "hdf5"),
        ("a.hdf5", "hdf5"),
        ("a.ABF", "axon"),
        ("a.Nwb", "nwb"),
        ("a.TXT", "csv_lccr"),
        ("a.mat", "matlab"),
    ],
)
def test_suffixes_choose_the_reader_in_any_case(name, reader):
    assert find_reader(name) is find_reader(Path("x.zip") / name) is READERS[reader]


@pytest.mark.parametrize("name", ["x.dat", "x", "x.h5.bak"])
def test_unknown_suffixes(name):
    """Row 39, but capital letters are fine."""
    with pytest.raises(ReadError, match="no reader for the suffix"):
        read_file({"filepath": name})


def test_readers_by_name_and_by_function(file, tmp_path):
    plain = shutil.copy(file, tmp_path / "plain.data")
    assert len(read_file({"filepath": plain}, "HDF5")) == 3
    with pytest.raises(ReadError, match="no reader called 'plx'"):
        read_file({"filepath": plain}, "plx")
    metadata = {"filepath": "anything"}
    assert read_file(metadata, lambda given: [{"seen": given["filepath"]}]) == [{"seen": "anything"}]
    assert read_recordings_of_file("IDrest", metadata, lambda given: []) == []
    assert metadata == {"filepath": "anything"}


def test_metadata_without_a_path():
    with pytest.raises(SourceError, match="names no file"):
        read_file({"i_file": "a.ibw"})


# --- files that can't be read -----------------------------------------------------------------------


def broken(tmp_path, source: Path, how: str) -> Path:
    path = tmp_path / f"broken_IDrest_ch0_1{source.suffix}"
    content = source.read_bytes()
    if how == "missing":
        return path
    path.write_bytes(
        {"empty": b"", "truncated": content[: len(content) // 2], "foreign": b"\x89PNG not this" * 99}[how]
    )
    return path


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "foreign"])
def test_broken_hdf5_files_are_read_errors(tmp_path, file, how):
    path = broken(tmp_path / "..", file, how) if how == "missing" else broken(tmp_path, file, how)
    for read in (recordings.open, lambda p: read_file({"filepath": p})):
        with pytest.raises(ReadError) as caught:
            read(path)
        assert (caught.value.path, bool(caught.value.advice)) == (str(path), True)


def test_other_hdf5_files_are_foreign(tmp_path, file):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as handle:
        handle["x"] = [1.0]
    with pytest.raises(ReadError, match="not of labweave recordings"):
        read_file({"filepath": other})


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda handle: handle.attrs.modify("version", 2), "version 2"),
        (lambda handle: handle["sweeps/s1"].attrs.__delitem__("i_unit"), "sweep s1 has no i_unit"),
        (lambda handle: handle["sweeps/s1"].__delitem__("current"), "no usable dataset 'current'"),
        (lambda handle: handle.__delitem__("sweeps"), "no group of sweeps"),
    ],
)
def test_incomplete_hdf5_files_are_read_errors(file, damage, found):
    with h5py.File(file, "r+") as handle:
        damage(handle)
    with pytest.raises(ReadError, match=found):
        read_file({"filepath": file})


@needs_shared
@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "foreign"])
def test_broken_igor_files_are_read_errors(tmp_path, how):
    path = broken(tmp_path, V_FILE, how)
    with pytest.raises(ReadError) as caught:
        read_file({"v_file": path, "i_file": I_FILE, "t_unit": "s"})
    assert (caught.value.path, bool(caught.value.advice)) == (str(path), True)
    found, bad = READERS["igor"].recordings_among([path])
    assert found == [] and isinstance(bad[path], ReadError)


# --- Igor -------------------------------------------------------------------------------------------


@needs_shared
def test_igor_pair():
    (sweep,) = read_file({"v_file": V_FILE, "i_file": str(I_FILE), "t_unit": "s"})
    assert sweep["voltage"].shape == sweep["current"].shape == (12000,)
    assert (sweep["dt"], sweep["v_unit"], sweep["i_unit"], sweep["t_unit"]) == (0.00025, "mV", "pA", "s")
    assert sweep["voltage"][:2] == pytest.approx([-69.09038, -69.09038])


@needs_shared
def test_swapped_igor_files_are_swapped_back():
    """Row 73."""
    with pytest.warns(UserWarning, match="swapped"):
        (sweep,) = read_file({"v_file": I_FILE, "i_file": V_FILE, "t_unit": "s"})
    assert (sweep["v_unit"], sweep["i_unit"]) == ("mV", "pA")
    assert sweep["voltage"][0] == pytest.approx(-69.09038)


@needs_shared
def test_an_igor_wave_without_a_time_unit_needs_it_in_the_metadata():
    with pytest.raises(ReadError, match="no t_unit"):
        read_file({"v_file": V_FILE, "i_file": I_FILE})
    with pytest.raises(ReadError, match="two waves"):
        read_file({"v_file": V_FILE, "t_unit": "s"})
    version_2 = {
        "v_file": SHARED / "C060109A1-SR-C1/X_IV_ch1_266.ibw",
        "i_file": SHARED / "C060109A1-SR-C1/X_IV_ch0_266.ibw",
    }
    assert read_file(version_2)[0]["t_unit"] == "s"


@needs_shared
def test_igor_waves_of_different_sweeps_are_refused():
    with pytest.raises(ReadError, match="12000 samples"):
        read_file({"v_file": V_FILE, "i_file": SHARED / "C060109A1-SR-C1/X_IV_ch0_266.ibw", "t_unit": "s"})


@needs_shared
@pytest.mark.parametrize("paths", [[V_FILE, I_FILE], [I_FILE, V_FILE]])
def test_igor_waves_are_paired_and_their_units_tell_voltage_from_current(paths):
    (pair,), bad = READERS["igor"].recordings_among(paths)
    assert not bad
    assert pair == {"v_file": V_FILE, "i_file": I_FILE}
    assert recordings.open(pair).sweeps == [ListedSweep(None, "IDRest")]

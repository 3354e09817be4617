"""Axon files, versions 1 and 2: hand-written ones, and a real one against BluePyEfe's results."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from abf_files import CHANNELS, write_abf1, write_abf2

from labweave.ephys import read_recordings_of_file
from labweave.errors import ConfigError, ReadError
from labweave.formats import recordings
from labweave.formats.recordings import read_file

pytest.importorskip("neo")

WRITERS = pytest.mark.parametrize("write", [write_abf1, write_abf2])


@WRITERS
def test_sweeps_come_in_the_units_of_their_channels(tmp_path, write):
    sweeps = read_file({"filepath": write(tmp_path / "x.ABF")})
    assert len(sweeps) == 3
    for number, sweep in enumerate(sweeps):
        counted = np.arange(40) + 100 * number
        np.testing.assert_allclose(sweep["voltage"], 0.5 * counted, rtol=1e-6)
        np.testing.assert_allclose(sweep["current"], -2.0 * counted, rtol=1e-6)
        assert sweep["voltage"].dtype == sweep["current"].dtype == np.float32
        assert (sweep["dt"], sweep["t_unit"], sweep["v_unit"], sweep["i_unit"]) == (1e-4, "s", "mV", "pA")


@WRITERS
def test_one_sweep_is_read_by_its_name(tmp_path, write):
    path = write(tmp_path / "x.abf")
    assert [sweep.name for sweep in recordings.open(path).sweeps] == ["sweep_000", "sweep_001", "sweep_002"]
    (sweep,) = read_file({"filepath": str(path), "sweep": "sweep_002"})
    assert sweep["voltage"][0] == pytest.approx(100.0)
    with pytest.raises(ReadError, match=r"no sweep sweep_003\. The file has sweep_000"):
        read_file({"filepath": path, "sweep": "sweep_003"})


@WRITERS
def test_units_choose_the_channels_in_any_order(tmp_path, write):
    (sweep,) = read_file({"filepath": write(tmp_path / "x.abf", 1, channels=CHANNELS[::-1])})
    assert (sweep["current"][1], sweep["voltage"][1]) == (pytest.approx(2.0), pytest.approx(-0.5))
    assert (sweep["v_unit"], sweep["i_unit"]) == ("mV", "pA")


@WRITERS
def test_units_that_the_file_lacks_come_from_the_metadata(tmp_path, write):
    """Row 77: an error when neither knows; here the metadata does, and the first channel is the voltage."""
    channels = [("Vm", "", "voltage"), ("Im", "", "current")]
    path = write(tmp_path / "x.abf", 1, channels=channels)
    with pytest.raises(ReadError, match=r"don't tell voltage from current \(Vm in no unit, Im in no unit\)") as caught:
        read_file({"filepath": path, "t_unit": "s", "v_unit": "mV"})
    assert str(path) in str(caught.value) and "v_unit and i_unit" in str(caught.value)
    (sweep,) = read_file({"filepath": path, "v_unit": "mV", "i_unit": "nA"})
    assert (sweep["v_unit"], sweep["i_unit"], sweep["voltage"][1]) == ("mV", "nA", pytest.approx(0.5))


@WRITERS
def test_units_of_the_metadata_win(tmp_path, write):
    path = write(tmp_path / "x.abf", 1)
    (sweep,) = read_file({"filepath": path, "i_unit": "nA"})
    assert (sweep["v_unit"], sweep["i_unit"]) == ("mV", "nA")


@WRITERS
@pytest.mark.parametrize(("interval_us", "dt_s"), [(100.0, 1e-4), (30.0, 30e-6), (12.5, 12.5e-6)])
def test_the_interval_is_that_of_a_channel(tmp_path, write, interval_us, dt_s):
    path = write(tmp_path / "x.abf", 1, interval_us=interval_us)
    assert read_file({"filepath": path})[0]["dt"] == pytest.approx(dt_s, rel=1e-6)
    assert read_file({"filepath": path, "t_unit": "ms"})[0]["dt"] == pytest.approx(1e3 * dt_s, rel=1e-6)


@WRITERS
@pytest.mark.parametrize("channels", [CHANNELS[:1], [*CHANNELS, ("Cmd", "pA", "current")]])
def test_other_than_two_channels_are_refused(tmp_path, write, channels):
    path = write(tmp_path / "x.abf", channels=[*channels])
    with pytest.raises(ReadError, match=f"{len(channels)} channels"):
        read_file({"filepath": path})


@WRITERS
def test_the_header_is_described(tmp_path, write):
    file = recordings.open(write(tmp_path / "x.abf"))
    assert [sweep.protocol for sweep in file.sweeps] == ["IDRest"] * 3
    assert file.facts == {"session_date": "2020-01-02"}
    assert {(sweep["v_unit"], sweep["i_unit"]) for sweep in file.read()} == {("mV", "pA")}
    untitled = recordings.open(write(tmp_path / "y.abf", protocol="(untitled)"))
    assert [sweep.protocol for sweep in untitled.sweeps] == [None] * 3


@WRITERS
@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "foreign"])
def test_files_that_are_not_whole_are_named(tmp_path, write, how):
    path = write(tmp_path / "x.abf")
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes({"empty": b"", "truncated": content[: len(content) * 2 // 3], "foreign": b"GIF89a" * 999}[how])
    for read in (read_file, recordings.open):
        with pytest.raises(ReadError) as caught:
            read({"filepath": path})
        assert caught.value.path == str(path)


def test_without_neo_the_install_line_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "neo.rawio", None)
    with pytest.raises(ConfigError, match=r"pip install labweave\[abf\]"):
        read_file({"filepath": write_abf2(tmp_path / "x.abf")})


REFERENCE = [  # BluePyEfe 2.3.63: mean voltage in mV and mean current in pA of each sweep
    (-28.45907387, -50.752254447),
    (-22.184737931, -38.548355011),
    (-15.867865396, -25.947996098),
    (-9.6024316, -13.470488519),
    (-3.330512762, -1.099639835),
    (-0.204688858, 5.110763219),
    (2.968429287, 11.402190271),
    (9.287200177, 23.892744108),
    (15.595382802, 36.326660187),
    (21.848798969, 48.696483655),
    (28.238660988, 61.418621362),
    (34.481849723, 73.698471113),
    (40.794247028, 86.178291367),
    (47.123440037, 98.660240222),
    (59.699138809, 123.4995194),
    (72.415389951, 148.750152632),
]


@pytest.mark.parametrize("units", [{}, {"i_unit": "pA", "v_unit": "mV", "t_unit": "s"}])
def test_a_real_file_gives_the_samples_of_the_reference(shared, units):
    path = shared / "data/ephys/abf/2020_03_02_0000.abf"
    found = read_file({"filepath": path, **units})
    means = [(s["voltage"].mean(dtype=float), s["current"].mean(dtype=float)) for s in found]
    np.testing.assert_allclose(means, REFERENCE, rtol=1e-8)
    assert {len(sweep["voltage"]) for sweep in found} == {20000}
    np.testing.assert_array_equal(found[3]["voltage"][:2], np.float32([-3.3569334, -3.2043455]))
    np.testing.assert_array_equal(found[3]["current"][:2], np.float32([-0.30517578, 6.103515]))


def test_a_real_file_gives_the_recordings_of_the_reference(shared):
    path = shared / "data/ephys/abf/2020_03_02_0000.abf"
    expected = json.loads((shared / "data/ephys/expected_recordings.json").read_text())["other_readers"]["ABF_passive"]
    found = read_recordings_of_file("Step", {"filepath": path, "ton": 131.3, "toff": 631.4})
    assert [recording.name for recording in found] == [reference["name"] for reference in expected]
    for recording, reference in zip(found, expected, strict=True):
        assert recording.tend == pytest.approx(reference["params"]["tend"], rel=1e-9)
        assert recording.dt == pytest.approx(reference["params"]["dt"], rel=1e-9)
        assert recording.amp == pytest.approx(reference["params"]["amp"], abs=2e-3)  # nA, another base window


def test_a_damaged_list_of_sections_is_refused(tmp_path):
    """An empty section that claims millions of entries would keep neo busy for hours."""
    path = write_abf2(tmp_path / "x.abf")
    content = bytearray(path.read_bytes())
    content[76 + 16 * 11 + 8 : 76 + 16 * 11 + 12] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    with pytest.raises(ReadError, match="section 11 of its header is damaged"):
        read_file({"filepath": path})

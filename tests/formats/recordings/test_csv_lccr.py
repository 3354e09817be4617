"""Tables of voltages: small ones by hand, and the shared one against BluePyEfe's behaviour."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labweave.ephys import EphysWarning, read_recordings_of_file
from labweave.errors import ReadError, SourceError
from labweave.formats import recordings
from labweave.formats.recordings import READERS, read_file

METADATA = {
    "dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA", "amplitudes": [10, 20], "hypamp": -5, "ton": 0.2, "toff": 0.5,
}  # fmt: skip
TABLE = "".join(f"{-number}\t{-10 - number}\n" for number in range(10))


@pytest.fixture
def write(tmp_path):
    def write(text, **metadata):
        path = tmp_path / "x.txt"
        path.write_bytes(text.encode("latin-1"))
        return {"filepath": str(path), **METADATA, **metadata}

    return write


def test_a_column_is_a_sweep_and_the_current_is_rebuilt(write):
    sweeps = read_file(write(TABLE))
    assert len(sweeps) == 2
    assert sweeps[1]["voltage"].tolist() == [-10.0 - number for number in range(10)]
    assert sweeps[0]["current"].tolist() == [-5, -5, 5, 5, 5, -5, -5, -5, -5, -5]
    assert sweeps[1]["current"].tolist() == [-5, -5, 15, 15, 15, -5, -5, -5, -5, -5]
    assert sweeps[1]["metadata"] == {"ton": 0.2, "toff": 0.5, "hypamp": -5.0, "amp": 20.0}
    assert (sweeps[0]["dt"], sweeps[0]["t_unit"], sweeps[0]["i_unit"]) == (0.1, "ms", "pA")


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n"])
def test_line_ends_do_not_matter(write, ending):
    table = TABLE.rstrip("\n")
    table = table.replace("\n", "\r\n") if "\r" in ending else table
    assert [len(sweep["voltage"]) for sweep in read_file(write(table + ending))] == [10, 10]


@pytest.mark.parametrize(("amplitudes", "n_sweeps"), [([1], 1), ([1, 2, 3], 2), ("10 -20", 2), (7.0, 1), ("7;8,9", 2)])
def test_the_shorter_of_amplitudes_and_columns_counts(write, amplitudes, n_sweeps):
    """Row 74."""
    metadata = write(TABLE, amplitudes=amplitudes)
    assert len(read_file(metadata)) == len(recordings.open(metadata).sweeps) == n_sweeps


def test_one_sweep_is_read_by_its_name(write):
    metadata = write(TABLE)
    assert [sweep.name for sweep in recordings.open(metadata).sweeps] == ["sweep_000", "sweep_001"]
    (sweep,) = read_file({**metadata, "sweep": "sweep_001"})
    assert (sweep["voltage"][0], sweep["metadata"]["amp"]) == (-10.0, 20.0)
    with pytest.raises(ReadError, match="no sweep sweep_002"):
        read_file({**metadata, "sweep": "sweep_002"})


@pytest.mark.parametrize("absent", ["-", "", " "])
def test_missing_samples_count_as_zero_with_a_warning(write, absent):
    with pytest.warns(EphysWarning, match="1 missing samples count as 0"):
        sweeps = read_file(write(TABLE.replace("-3\t", f"{absent}\t", 1)))
    assert sweeps[0]["voltage"][3] == 0.0


def test_an_empty_last_column_is_no_sweep(write):
    assert len(read_file(write(TABLE.replace("\n", "\t\n"), amplitudes=[1, 2, 3]))) == 2


@pytest.mark.parametrize("cut", [True, "true", "Yes"])
def test_the_last_100_ms_can_be_left_out(write, cut):
    sweeps = read_file(write(TABLE, dt=50, ton=50, toff=150, remove_last_100ms=cut))
    assert sweeps[0]["current"].tolist() == [-5, 5, 5, -5, -5, -5, -5, -5]
    assert len(sweeps[0]["voltage"]) == 8


def test_a_step_in_ms_fits_an_interval_in_s(write):
    assert read_file(write(TABLE, dt=1e-4, t_unit="s"))[0]["current"].tolist() == [
        -5,
        -5,
        5,
        5,
        5,
        -5,
        -5,
        -5,
        -5,
        -5,
    ]


@pytest.mark.parametrize("name", METADATA)
def test_what_the_metadata_lacks_is_named(write, name):
    for nothing in (None, ""):
        for read in (read_file, recordings.open):
            with pytest.raises(ReadError, match=f"says nothing of {name}"):
                read(write(TABLE, **{name: nothing}))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"toff": 5.0}, "step from 0.2 to 5 ms is not within the 1 ms"),
        ({"ton": 0.5}, "step from 0.5 to 0.5 ms"),
        ({"ton": -0.1}, "step from -0.1"),
        ({"dt": "fast"}, "'fast' where a number is expected"),
        ({"dt": 0}, "no sampling interval"),
        ({"amplitudes": []}, "no amplitudes"),
        ({"remove_last_100ms": "maybe"}, "'maybe'"),
        ({"remove_last_100ms": True}, "is not within"),
    ],
)
def test_metadata_that_contradicts_the_file(write, change, found):
    with pytest.raises(ReadError, match=found) as caught:
        read_file(write(TABLE, **change))
    assert "x.txt" in str(caught.value)


def test_an_unknown_time_unit_is_a_source_error(write):
    with pytest.raises(SourceError, match="Time unit 'min' is unknown"):
        read_file(write(TABLE, t_unit="min"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "the file is empty"),
        ("a\tb\n" + TABLE, "line 1: could not convert string to float: 'a'"),
        (TABLE + "-11\n", "line 11 has 1 columns, the first 2"),
        (TABLE.replace("\t", ","), "line 1: could not convert"),
        ("\x89PNG\xff\n" + TABLE, "not ASCII"),
    ],
)
def test_files_that_are_no_table_are_named(write, text, found):
    with pytest.raises(ReadError, match=found) as caught:
        read_file(write(text))
    assert "x.txt" in caught.value.path


def test_a_missing_file(tmp_path):
    with pytest.raises(ReadError, match="no such file") as caught:
        read_file({"filepath": tmp_path / "no.txt", **METADATA})
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    ("text", "expected"), [(TABLE, True), ("notes\tof the day\n", False), ("", False), ("-65.1\n-65.2\n", True)]
)
def test_tables_are_told_from_notes(tmp_path, text, expected):
    (tmp_path / "x.txt").write_text(text)
    assert READERS["csv_lccr"].holds_recordings(tmp_path / "x.txt") == expected


def test_the_shared_table(shared):
    """Amplitudes and holding current as the reference has them; 27 sweeps of 14000 samples less 100 ms."""
    folder = shared / "data/ephys"
    (metadata,) = json.loads((folder / "metadata.json").read_text())["files_metadata"]["LCCR_dummy"]["Step"]
    metadata["filepath"] = folder / metadata["filepath"]
    found = read_recordings_of_file("Step", metadata)
    assert len(found) == 27
    np.testing.assert_allclose([recording.amp for recording in found], np.array(metadata["amplitudes"]) * 1e-3)
    assert {(recording.ton, recording.toff, recording.hypamp) for recording in found} == {(200.0, 800.0, -0.02)}
    assert {len(recording.voltage) for recording in found} == {13000}
    assert found[0].voltage[0] == pytest.approx(-65.08 - 14.0)

"""NWB files in every layout: samples known by hand, choices as BluePyEfe 2.3.63 made them on the same files."""

from __future__ import annotations

import h5py
import numpy as np
import nwb_files
import pytest
from nwb_files import ramp

from labweave.ephys import EphysWarning, read_recordings_of_file
from labweave.errors import ReadError, SourceError
from labweave.formats import recordings
from labweave.formats.recordings import (
    NWBInspectionError,
    inspect_nwb,
    read_file,
)

PROTOCOLS = ["IDThresh", "IDRest", "IV", "Step", "SpikeRec", "PinkNoise", "Ramp", "SineSpec", "CapCheck"]


def ids(path, **metadata):
    return [sweep["id"] for sweep in read_file({"filepath": path, **metadata})]


def check(sweep, start, bias_pa=0.0):
    """A voltage from `start` mV and a current from `start` pA, each one more per sample."""
    np.testing.assert_allclose(sweep["voltage"], ramp(start) * 1e-3, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(sweep["current"], (ramp(start) + bias_pa) * 1e-12, rtol=1e-6, atol=1e-18)
    assert sweep["voltage"].dtype == sweep["current"].dtype == np.float32
    assert (sweep["dt"], sweep["t_unit"]) == (1e-4, "seconds")


# --- BBP --------------------------------------------------------------------------------------------


def test_bbp_sweeps_of_a_protocol(tmp_path):
    path = nwb_files.write_bbp(tmp_path / "x.NWB")
    sweeps = read_file({"filepath": str(path), "protocol_name": "IDRest"})
    assert [(s["id"], s["repetition"], s["protocol"]) for s in sweeps] == [
        ("ic__1", 1, "IDRest"),
        ("ic__2", 2, "IDRest"),
        ("ic__4", 1, "IDRest"),
    ]
    for sweep, start in zip(sweeps, (0.0, 100.0, 300.0), strict=True):
        check(sweep, start)
        assert (sweep["v_unit"], sweep["i_unit"]) == ("volts", "amperes")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"protocol_name": "idrest"}, ["ic__1", "ic__2", "ic__4"]),
        ({"protocol_name": "IV"}, ["ccs_3"]),
        ({"protocol_name": ["IDRest", "IV"]}, ["ic__1", "ic__2", "ic__4", "ccs_3"]),
        ({"protocol_name": "Foo"}, []),
        ({"protocol_name": "IDRest", "repetition": 1}, ["ic__1", "ic__4"]),
        ({"protocol_name": "IDRest", "repetition": "2"}, ["ic__2"]),
        ({"protocol_name": "IDRest", "repetition": [1, 2]}, ["ic__1", "ic__2", "ic__4"]),
        ({"protocol_name": "IDRest", "sweep": "ic__2"}, ["ic__2"]),
    ],
)
def test_bbp_choices(tmp_path, metadata, expected):
    assert ids(nwb_files.write_bbp(tmp_path / "x.nwb"), **metadata) == expected


def test_the_same_case_wins_in_each_cell(tmp_path):
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    with h5py.File(path, "r+") as file:
        file.copy("data_organization/cell1/IV", "data_organization/cell1/idrest")
    assert sorted(ids(path, protocol_name="idrest")) == ["ccs_3", "ic__4"]
    assert ids(path, protocol_name="IDRest") == ["ic__1", "ic__2", "ic__4"]


def test_an_absent_repetition_is_empty_with_a_warning(tmp_path):
    """Row 75."""
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    with pytest.warns(EphysWarning, match=r"x\.nwb: no repetition 9 of the protocol; the file has 1, 2"):
        assert ids(path, protocol_name="IDRest", repetition=9) == []
    with pytest.warns(EphysWarning, match="no repetition 9"):
        assert ids(path, protocol_name="IDRest", repetition=[2, 9]) == ["ic__2"]
    with pytest.raises(SourceError, match="repetition 'first' is no number"):
        ids(path, repetition="first")


@pytest.mark.parametrize(
    ("description", "v_file", "found"),
    [
        ("A_1.ibw", "A_1.ibw", True),
        ("raw/A_1.ibw", "A_1.ibw", True),
        ("A_1.ibw", "folder/A_1.ibw", True),
        ("A_1.ibw", "1.ibw", False),
        ("A_1", "A_1.ibw", False),
    ],
)
def test_the_original_file_picks_a_sweep(tmp_path, description, v_file, found):
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    with h5py.File(path, "r+") as file:
        file["acquisition/ic__1"].attrs["description"] = description
    assert ids(path, protocol_name="IDRest", v_file=v_file) == (["ic__1"] if found else [])


# --- AIBS and TRT -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Long Square", ["Sweep_0", "Sweep_2"]),
        ("long square", ["Sweep_0", "Sweep_2"]),
        ("Ramp", ["Sweep_1"]),
        ("x", []),
    ],
)
def test_aibs_stimulus_names_in_any_case(tmp_path, name, expected):
    path = nwb_files.write_aibs(tmp_path / "x.nwb")
    sweeps = read_file({"filepath": path, "protocol_name": name})
    assert [sweep["id"] for sweep in sweeps] == expected
    for sweep in sweeps:
        check(sweep, 100.0 * int(sweep["id"][-1]))
        assert (sweep["v_unit"], sweep["i_unit"], sweep["repetition"]) == ("Volts", "Amps", None)


@pytest.mark.parametrize("swapped", [False, True])
def test_trt_pairs_and_swapped_units(tmp_path, swapped):
    path = nwb_files.write_trt(tmp_path / "x.nwb", swapped)
    for name in ("Step", "genericstep"):
        sweeps = read_file({"filepath": path, "protocol_name": name})
        assert [sweep["id"] for sweep in sweeps] == ["index_00", "index_02", "index_10_0"]
        for sweep, start in zip(sweeps, (0.0, 100.0, 200.0), strict=True):
            check(sweep, start)
            assert (sweep["v_unit"], sweep["i_unit"]) == ("volts", "amperes")
    with pytest.warns(EphysWarning, match="hold Step only, IDRest was asked"):
        assert ids(path, protocol_name="IDRest") == []


# --- Scala and PyNWB --------------------------------------------------------------------------------

undescribed = pytest.mark.filterwarnings("ignore:.*without stimulus_description")


@undescribed
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Step", ["001", "003", "005"]),
        ("STEP", ["001", "003", "005"]),
        ("Ramp", ["002"]),
        ("GenericStep", ["004"]),
        ("Step_150", []),
        ("Foo", []),
    ],
)
def test_scala_descriptions(tmp_path, name, expected):
    """Row 76, and that all kinds of steps are Step."""
    path = nwb_files.write_scala(tmp_path / "x.nwb")
    sweeps = read_file({"filepath": path, "protocol_name": name})
    assert [sweep["id"] for sweep in sweeps] == [f"CurrentClampSeries_{number}" for number in expected]
    for sweep in sweeps:
        check(sweep, 100.0 * (int(sweep["id"][-1]) - 1))


def test_a_sweep_without_description_is_a_step_with_a_warning(tmp_path):
    with pytest.warns(EphysWarning, match="CurrentClampSeries_005 without stimulus_description: taken as Step"):
        ids(nwb_files.write_scala(tmp_path / "x.nwb"))


@undescribed
@pytest.mark.parametrize(
    ("repetition", "expected"), [(0, ["001", "005"]), (1, ["003"]), ([0, 1], ["001", "003", "005"])]
)
def test_scala_repetitions(tmp_path, repetition, expected):
    """13.27: also repetition 0, which the reference ignores."""
    found = ids(nwb_files.write_scala(tmp_path / "x.nwb"), protocol_name="Step", repetition=repetition)
    assert found == [f"CurrentClampSeries_{number}" for number in expected]


@pytest.fixture
def pynwb_file(tmp_path):
    """Two current-clamp sweeps and one of voltage clamp as PyNWB writes them, in tables."""
    pynwb = pytest.importorskip("pynwb")
    from datetime import datetime, timezone

    file = pynwb.NWBFile("a session", "id-1", datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc))
    file.subject = pynwb.file.Subject(subject_id="m12", species="Mus musculus", sex="F", age="P30D")
    electrode = file.create_icephys_electrode(name="e", description="one", device=file.create_device(name="amplifier"))

    def series(cls, name, start, **more):
        return cls(
            name=name,
            data=ramp(start).astype(np.int16),
            electrode=electrode,
            gain=1.0,
            stimulus_description="IDRest",
            **{"rate": 10000.0, **more},
        )

    for number in (0, 1):
        regular = {"rate": None, "timestamps": np.arange(2000) / 10000.0} if number else {}
        file.add_intracellular_recording(
            electrode=electrode,
            stimulus=series(pynwb.icephys.CurrentClampStimulusSeries, f"injected {number}", 100.0 * number, conversion=1e-12),
            response=series(pynwb.icephys.CurrentClampSeries, f"membrane {number}", 100.0 * number, conversion=1e-3, **regular),
        )  # fmt: skip
    file.add_intracellular_recording(
        electrode=electrode,
        stimulus=series(pynwb.icephys.VoltageClampStimulusSeries, "command", 0.0),
        response=series(pynwb.icephys.VoltageClampSeries, "holding", 0.0),
    )
    path = tmp_path / "tables.nwb"
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def test_tables_of_pynwb_pair_the_series(pynwb_file):
    sweeps = read_file({"filepath": pynwb_file, "protocol_name": "IDRest"})
    assert [sweep["id"] for sweep in sweeps] == ["membrane 0", "membrane 1"]
    for sweep, start in zip(sweeps, (0.0, 100.0), strict=True):
        np.testing.assert_allclose(sweep["voltage"], ramp(start) * 1e-3, rtol=1e-6)
        np.testing.assert_allclose(sweep["current"], ramp(start) * 1e-12, rtol=1e-6)
        assert sweep["dt"] == pytest.approx(1e-4, rel=1e-9)
        assert (sweep["v_unit"], sweep["i_unit"]) == ("volts", "amperes")


def test_subject_and_day_are_told(pynwb_file):
    file = recordings.open(pynwb_file)
    assert file.facts == {"subject": "m12", "species": "Mus musculus", "sex": "F", "session_date": "2024-05-06"}
    assert [sweep.name for sweep in file.sweeps] == ["membrane 0", "membrane 1"]


# --- VU ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeseries", [False, True])
@pytest.mark.parametrize(
    ("description", "protocol"),
    [
        ("X1PS_SubThresh_DA_0", "IV"),
        ("X2LP_Search_DA_0", "IDThresh"),
        ("X5SP_Search_DA_0", "IDThresh"),
        ("X3LP_Rheo_DA_0", "IDRest"),
        ("X4PS_SupraThresh_DA_0", "IDRest"),
        ("X6SP_Rheo_DA_0", "IDRest"),
        ("X4PT_C2NSD1SHORT_DA_0", "PinkNoise"),
        ("X4PU_C2NSD2SHORT_DA_0", "PinkNoise"),
        ("X6SQ_C2SSTRIPLE_DA_0", "SpikeRec"),
        ("X7Ramp_DA_0", "Ramp"),
        ("X8_CHIRP_DA_0", "SineSpec"),
        ("X9_C1SQCAPCHK_DA_0", "CapCheck"),
        ("CCSteps_DA_0", "Step"),
        ("steps_DA_0", "Step"),
    ],
)
def test_vu_stimuli_are_translated(tmp_path, description, protocol, timeseries):
    path = nwb_files.write_vu(tmp_path / "x.nwb", description, timeseries)
    for name in PROTOCOLS:
        expected = ["data_00001_DA0", "data_00002_DA0"] if name == protocol else []
        assert ids(path, protocol_name=name) == ids(path, protocol_name=name.lower()) == expected


def test_vu_sweeps_that_are_no_stimuli_are_skipped(tmp_path):
    assert ids(nwb_files.write_vu(tmp_path / "x.nwb", "TestPulse_DA_0"), protocol_name=PROTOCOLS) == []


def test_vu_bias_current_is_added(tmp_path):
    for number, sweep in enumerate(read_file({"filepath": nwb_files.write_vu(tmp_path / "x.nwb")})):
        check(sweep, 100.0 * number, bias_pa=5.0)


@pytest.mark.parametrize("description", ["CCSteps_DA_0", "X1PS_SubThresh_DA_0", "X4PS_SupraThresh_DA_0"])
def test_vu_settling_is_held(tmp_path, description):
    """The sample is number 899, as the reference counts 90 ms at 10 kHz."""
    sweep = read_file({"filepath": nwb_files.write_vu(tmp_path / "x.nwb", description)})[0]
    np.testing.assert_allclose(sweep["voltage"][:901], [*[0.899] * 900, 0.9], rtol=1e-6)
    np.testing.assert_allclose(sweep["current"][:901], [*[904e-12] * 900, 905e-12], rtol=1e-6)


def test_vu_sweeps_end_where_the_current_does(tmp_path):
    path = nwb_files.write_vu(tmp_path / "x.nwb", "CCSteps_DA_0", nan_at=1500)
    assert [len(sweep["voltage"]) for sweep in read_file({"filepath": path})] == [1500, 1500]
    assert len(ids(path, toff=140.0)) == 2
    assert ids(path, toff=160.0) == []  # 13.27: the reference goes on with the dropped sweep


def test_vu_sweep_without_any_current_is_refused(tmp_path):
    path = nwb_files.write_vu(tmp_path / "x.nwb", nan_at=0)
    with pytest.raises(SourceError, match="nan"):
        read_recordings_of_file("IDThresh", {"filepath": path, "ton": 10.0, "toff": 50.0})


def test_repetitions_of_files_without_any_are_absent(tmp_path):
    """13.27: the reference ignores the wish."""
    for path, name in (
        (nwb_files.write_vu(tmp_path / "v.nwb"), "IDThresh"),
        (nwb_files.write_aibs(tmp_path / "a.nwb"), "Ramp"),
        (nwb_files.write_trt(tmp_path / "t.nwb"), "Step"),
    ):
        with pytest.warns(EphysWarning, match="no numbered ones"):
            assert ids(path, protocol_name=name, repetition=1) == []


# --- for all ----------------------------------------------------------------------------------------

WRITERS = {
    "BBPNWBReader": (nwb_files.write_bbp, ["IDRest", "IV"], 4),
    "AIBSNWBReader": (nwb_files.write_aibs, ["Long Square", "Ramp"], 3),
    "TRTNWBReader": (nwb_files.write_trt, ["Step"], 3),
    "ScalaNWBReader": (nwb_files.write_scala, ["Step", "Ramp", "genericstep"], 5),
    "VUNWBReader": (nwb_files.write_vu, ["IDThresh"], 2),
}


@undescribed
@pytest.mark.parametrize("reader", WRITERS)
def test_inspection_says_layout_and_protocols(tmp_path, reader):
    write, protocols, n_sweeps = WRITERS[reader]
    path = write(tmp_path / "x.nwb")
    with h5py.File(path, "r+") as file:
        file["identifier"], file["session_start_time"] = "id-1", "2020-01-02T03:04:05+01:00"
        file.attrs["nwb_version"] = "2.2"
    found = inspect_nwb(path)
    assert (found["reader"], found["protocols"], len(found["traces"])) == (reader, protocols, n_sweeps)
    assert found["metadata"] == {
        "nwb_version": "2.2",
        "identifier": "id-1",
        "session_start_time": "2020-01-02T03:04:05+01:00",
    }
    assert len(inspect_nwb(path, protocols[-1])["traces"]) < n_sweeps or len(protocols) == 1


@undescribed
@pytest.mark.parametrize("reader", WRITERS)
def test_listed_sweeps_can_be_read_one_by_one(tmp_path, reader):
    path = WRITERS[reader][0](tmp_path / "x.nwb")
    whole = {sweep["id"]: sweep for sweep in read_file({"filepath": path})}
    listed = recordings.open(path).sweeps
    assert [(sweep.name, sweep.protocol) for sweep in listed] == [(k, s["protocol"]) for k, s in whole.items()]
    for sweep in listed:
        (alone,) = read_file({"filepath": path, "sweep": sweep.name, "protocol_name": sweep.protocol})
        np.testing.assert_array_equal(alone["voltage"], whole[sweep.name]["voltage"])


def test_inspection_of_what_can_not_be_read(tmp_path):
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    with pytest.raises(NWBInspectionError, match="protocols in the file: IDRest, IV"):
        inspect_nwb(path, ["Foo"])
    with pytest.raises(NWBInspectionError, match="no such file"):
        inspect_nwb(tmp_path / "nowhere.nwb")
    (tmp_path / "foreign.nwb").write_bytes(b"GIF89a" * 99)
    with pytest.raises(NWBInspectionError, match="not a complete HDF5 file"):
        inspect_nwb(tmp_path / "foreign.nwb")


@pytest.mark.parametrize(
    ("damage", "metadata", "found"),
    [
        (lambda f: f["acquisition/ic__1/data"].attrs.__delitem__("unit"), {}, "no v_unit in the series /acquisition/ic__1"),
        (lambda f: f["acquisition/ic__1/starting_time"].attrs.__delitem__("rate"), {}, "neither rate nor timestamps"),
        (lambda f: f["acquisition/ic__1"].create_dataset("timestamps", data=[0.0, 1.0, 5.0]), {}, None),
        (lambda f: [f.__delitem__("acquisition"), f.__delitem__("stimulus")], {}, "without acquisition and stimulus"),
        (lambda f: None, {"sweep": "ic__9"}, "no sweep ic__9"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path, damage, metadata, found):
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    with h5py.File(path, "r+") as file:
        damage(file)
    if found is None:  # a rate is there: timestamps beside it don't count
        assert ids(path, repetition=1) == ["ic__1", "ic__4", "ccs_3"]
        return
    with pytest.raises(ReadError, match=found) as caught:
        ids(path, **metadata)
    assert caught.value.path == str(path)


def test_metadata_completes_units_and_interval(tmp_path):
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    with h5py.File(path, "r+") as file:
        del file["acquisition/ic__1/data"].attrs["unit"]
        del file["acquisition/ic__1/starting_time"]
    metadata = {"filepath": path, "sweep": "ic__1", "v_unit": "V", "dt": 0.1, "t_unit": "ms"}
    (sweep,) = read_file(metadata)
    assert (sweep["v_unit"], sweep["dt"], sweep["t_unit"]) == ("V", pytest.approx(0.1), "ms")
    (recording,) = read_recordings_of_file("IDRest", {**metadata, "ton": 50.0, "toff": 100.0})
    assert recording.dt == pytest.approx(0.1)


def test_irregular_timestamps_are_refused(tmp_path):
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    with h5py.File(path, "r+") as file:
        del file["acquisition/ic__1/starting_time"]
        file["acquisition/ic__1/timestamps"] = np.arange(2000.0) ** 2
    with pytest.raises(ReadError, match="timestamps of /acquisition/ic__1 are not regular"):
        ids(path)


def test_a_time_unit_of_the_metadata_does_not_change_the_time(tmp_path):
    path = nwb_files.write_bbp(tmp_path / "x.nwb")
    for unit in ("s", "ms"):
        metadata = {"filepath": path, "sweep": "ic__1", "t_unit": unit, "ton": 50.0, "toff": 100.0}
        assert read_recordings_of_file("IDRest", metadata)[0].tend == pytest.approx(200.0)

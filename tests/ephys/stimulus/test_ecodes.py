"""Stimuli of synthetic sweeps against values worked out by hand (specification, sections 13 and 15)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from synthetic import DT, sweep

from labweave.ephys import ECODES, Recording, StimulusError, StimulusWarning, UnknownProtocol, find_ecode
from labweave.errors import ReadError, SourceError

FILE = {"filepath": "cell/sweep_1.h5"}


def step(metadata=None, protocol="IDrest", **kwargs):
    return Recording(protocol, {**FILE, **(metadata or {})}, sweep(**kwargs))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("IDRest", "Step"),
        ("RampStep", "Step"),
        ("Conductive", "Step"),
        ("APThreshold", "Ramp"),
        ("sAHP_1", "SAHP"),
        ("IDhyperpol", "SAHP"),
        ("HyperDePol", "HyperDePol"),
        ("DeHyperPol", "DeHyperPol"),
        ("SpikeRec", "SpikeRec"),
        ("SineSpec", "SineSpec"),
        ("PinkNoise", "PinkNoise"),
        ("CapCheck", "CapCheck"),
        ("PosCheops", "PosCheops"),
        ("NegCheops", "NegCheops"),
    ],
)
def test_the_name_of_a_protocol_gives_its_family(name, family):
    assert find_ecode(name).name == family


def test_every_listed_name_finds_a_family_it_is_part_of():
    assert all(find_ecode(name) is ECODES[next(k for k in ECODES if k in name)] for name in ECODES)


def test_an_unknown_protocol_is_a_key_error():
    with pytest.raises(KeyError, match="'Foo'"):
        step(protocol="Foo")
    assert issubclass(UnknownProtocol, KeyError)


def test_a_clean_step_is_detected():
    """Row 19: the detected end is the last sample of the step."""
    recording = step()
    assert (recording.ton, recording.toff, recording.timing) == pytest.approx((200.0, 699.9, "detected"))
    assert (recording.amp, recording.hypamp, recording.tend) == pytest.approx((0.2, -0.05, 1000.0))
    assert all(type(value) is float for value in recording.get_params().values() if value is not None)


@pytest.mark.parametrize(("toff", "found"), [(690, 690.0), (999.9, 999.9), (1000, 999.9)])
def test_given_timings_are_used_and_the_end_of_the_sweep_is_its_last_sample(toff, found):
    """Rows 20 to 22, 13.16."""
    recording = step({"ton": 210, "toff": toff})
    assert (recording.ton, recording.toff, recording.timing) == pytest.approx((210.0, found, "given"))


def test_an_end_far_behind_the_sweep_warns():
    with pytest.warns(StimulusWarning, match="clipped"):
        assert step({"ton": 200, "toff": 5000}).toff == pytest.approx(999.9)


@pytest.mark.parametrize("timings", [{"ton": 0, "toff": 700}, {"ton": 700, "toff": 200}, {"ton": 1500, "toff": 1600}])
def test_impossible_timings_are_errors(timings):
    """Rows 23 and 24."""
    with pytest.raises(StimulusError, match="in the metadata"):
        step(timings)


def test_a_step_from_the_first_sample_needs_a_given_holding_current():
    recording = step({"ton": 0, "toff": 700, "hypamp": -0.05}, ton=0.0, spikes=[300.0])
    assert recording.amp == pytest.approx(0.2)
    assert recording.auto_threshold == pytest.approx(-50.0)
    assert recording.spikecount == 1


def test_a_given_holding_current_works_without_timings():
    """Row 29, 13.18."""
    assert step({"hypamp": -0.04}).amp == pytest.approx(0.19)


def test_timings_of_a_reader_are_samples_and_of_metadata_ms():
    """Row 30, 13.15; a reader that knows ms puts them under metadata."""
    by_reader = Recording("IDrest", FILE, sweep(**{"reader_ton": 0}) | {"ton": 2000, "toff": 7000})
    by_own_reader = Recording("IDrest", FILE, sweep() | {"metadata": {"ton": 200.0, "toff": 700.0}})
    assert (by_reader.ton, by_reader.toff) == pytest.approx((200.0, 700.0))
    assert (by_own_reader.ton, by_own_reader.toff, by_own_reader.timing) == pytest.approx((200.0, 700.0, "given"))


@pytest.mark.parametrize(("i_unit", "factor"), [("nA", 1.0), ("pA", 1e-3), ("uA", 1e3), ("mA", 1e6), ("AMPS", 1e9)])
def test_current_units(i_unit, factor):
    assert step({"i_unit": i_unit, "ton": 200, "toff": 700}).amp == pytest.approx(0.2 * factor)


@pytest.mark.parametrize(
    ("key", "unit"), [("i_unit", "na"), ("i_unit", "fA"), ("t_unit", "MS"), ("t_unit", "us"), ("v_unit", "MV")]
)
def test_unknown_units(key, unit):
    """Rows 31 and 32."""
    with pytest.raises(SourceError, match=f"unit '{unit}' is unknown"):
        step({key: unit})


def test_seconds_in_any_case():
    recording = step({"t_unit": "SECONDS", "dt": 1e-4, "ton": 200, "toff": 700})
    assert (recording.tend, recording.ton, recording.dt) == pytest.approx((1000.0, 200.0, 0.1))


@pytest.mark.parametrize(
    ("metadata", "base"), [({"ljp": 14}, -84.0), ({"v_corr": -65}, -65.0), ({"ljp": 10, "v_corr": -65}, -75.0)]
)
def test_voltage_corrections(metadata, base):
    """Row 33."""
    assert step(metadata).voltage[0] == pytest.approx(base)


def test_a_junction_potential_of_a_users_reader_is_ignored():
    """Row 34."""
    assert Recording("IDrest", FILE, sweep() | {"ljp": 14.0}).voltage[0] == pytest.approx(-70.0)


@pytest.mark.parametrize(
    ("key", "message"),
    [("dt", "sampling interval"), ("t_unit", "Time unit"), ("i_unit", "Current unit"), ("v_unit", "Voltage unit")],
)
def test_missing_units_are_read_errors(key, message):
    """Row 35."""
    data = sweep()
    del data[key]
    with pytest.raises(ReadError, match=f"{message} not configured"):
        Recording("IDrest", FILE, data)


@pytest.mark.parametrize("n_samples", [0, 1, 10])
def test_very_short_sweeps_are_clear_errors(n_samples):
    """Row 36."""
    data = sweep()
    short = {**data, "voltage": data["voltage"][:n_samples], "current": data["current"][:n_samples]}
    with pytest.raises(StimulusError, match=f"{n_samples} samples"):
        Recording("IDrest", FILE, short)


def test_a_sweep_with_nan_is_refused():
    data = sweep()
    data["voltage"][5] = np.nan
    with pytest.raises(SourceError, match="nan"):
        Recording("IDrest", FILE, data)


def test_metadata_and_sweep_are_not_changed():
    """13.29 and 13.10."""
    metadata, data = {**FILE, "ton": 100, "tmid": 600}, sweep(tend=1200.0)
    before = (dict(metadata), set(data))
    with pytest.warns(StimulusWarning, match="toff 970"):
        Recording("HyperDePol", metadata, data)
    assert (metadata, set(data)) == before


def test_hyperdepol_fills_only_the_missing_timing():
    """Row 69, 13.10."""
    with pytest.warns(StimulusWarning, match="toff 970 ms"):
        recording = step({"ton": 100, "tmid": 600}, protocol="HyperDePol", tend=1200.0)
    assert (recording.ton, recording.tmid, recording.toff) == pytest.approx((100.0, 600.0, 970.0))


def test_hyperdepol_and_dehyperpol_amplitudes():
    data = sweep(amp=-0.2, ton=200.0, toff=500.0)
    data["current"][5000:7000] += 0.3
    for protocol in ("HyperDePol", "DeHyperPol"):
        recording = Recording(protocol, {**FILE, "ton": 200, "tmid": 500, "toff": 700}, data)
        assert (recording.amp, recording.amp2, recording.hypamp) == pytest.approx((-0.2, 0.3, -0.05))


def test_sinespec_defaults_are_ms():
    """Row 70, 13.11."""
    data = sweep(tend=6000.0)
    with pytest.warns(StimulusWarning, match="150 ms"):
        recording = Recording("SineSpec", FILE, data)
    assert (recording.ton, recording.toff) == pytest.approx((150.0, 5100.0))


def test_cheops_on_a_short_sweep_is_a_clear_error():
    """Row 72."""
    with pytest.raises(StimulusError, match="behind the end of the sweep"):
        step(protocol="PosCheops")


def test_a_ramp_needs_its_start_and_finds_its_top():
    """Rows 66 and 67: the median filter shortens a noiseless ramp."""
    data = sweep(amp=0.0)
    data["current"][2000:7000] += np.linspace(0.0, 0.5, 5000)
    with pytest.raises(StimulusError, match="Give ton"):
        Recording("Ramp", FILE, data)
    detected = Recording("Ramp", {**FILE, "ton": 200}, data)
    assert (detected.toff, detected.amp) == pytest.approx((695.7, 0.4952), abs=1e-3)
    given = Recording("Ramp", {**FILE, "ton": 200, "toff": 700}, data)
    assert (given.toff, given.amp, given.timing) == pytest.approx((700.0, 0.4995, "given"), abs=1e-3)


def test_a_step_on_a_step_is_detected():
    """Row 68."""
    data = sweep(amp=0.1, ton=200.0, toff=1200.0, tend=2000.0)
    data["current"][5000:6000] += 0.1
    recording = Recording("sAHP", FILE, data)
    found = (recording.ton, recording.tmid, recording.tmid2, recording.toff)
    assert found == pytest.approx((200.0, 500.0, 599.9, 1199.9))
    assert (recording.amp, recording.amp2, recording.timing) == pytest.approx((0.1, 0.2, "detected"))


def test_pulses_are_found_and_measured_from_holding():
    """Row 71, 13.21: amp 1.0 and a threshold, where the reference has 0.95 and nan."""
    dt = 0.05
    current = np.full(4000, -0.05)
    voltage = np.full(4000, -70.0)
    for start in (10.0, 40.0, 70.0):
        current[round(start / dt) : round((start + 3.5) / dt)] += 1.0
    data = {"voltage": voltage, "current": current, "dt": dt, "t_unit": "ms", "v_unit": "mV", "i_unit": "nA"}
    recording = Recording("SpikeRec", FILE, data)
    assert recording.get_params()["tspike"] == pytest.approx([9.95, 39.95, 69.95])
    assert (recording.delta, recording.amp, recording.hypamp) == pytest.approx((26.5, 1.0, -0.05))
    assert (recording.spike_duration, recording.auto_threshold) == pytest.approx((3.5, -50.0))


@pytest.mark.parametrize("protocol", ["PinkNoise", "CapCheck"])
def test_irregular_stimuli_keep_their_shape(protocol):
    data = sweep(amp=0.0)
    shape = np.tile(np.r_[np.full(200, 0.5), np.full(300, -1.0)], 10)
    data["current"][2000:7000] += 0.3 * shape
    recording = Recording(protocol, FILE, data)
    assert (recording.ton, recording.toff, recording.amp) == pytest.approx((200.0, 700.0, 0.3))
    np.testing.assert_allclose(recording.waveform, shape, atol=1e-12)


def test_relative_amplitudes():
    recording = step()
    assert recording.get_params()["amp_rel"] is None
    recording.compute_relative_amp(0.1)
    assert (recording.amp_rel, recording.hypamp_rel) == pytest.approx((200.0, -50.0))


def test_names_and_files():
    assert (step().name, step().files) == ("sweep_1", ["cell/sweep_1.h5"])
    pair = Recording("IDrest", {"i_file": "a/ch0.ibw", "v_file": "a/ch1.ibw"}, sweep())
    assert (pair.name, pair.files) == ("ch1", ["a/ch0.ibw", "a/ch1.ibw"])
    assert Recording("IDrest", FILE, sweep(id="sweep_7")).name == "sweep_7"


def test_spikes_are_counted_inside_the_stimulus_only():
    """Rows 1 and 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent, before, two = step(), step(spikes=[100.0]), step(spikes=[300.0, 400.05])
    assert (silent.spikecount, silent.peak_time.tolist()) == (0, [])
    assert before.spikecount == 0
    loose = Recording("IDrest", FILE, sweep(spikes=[100.0]), {"strict_stiminterval": False})
    assert loose.spikecount == 1
    assert two.peak_time == pytest.approx([300.0, 400.05], abs=DT)


def test_automatic_threshold():
    """20 mV above the higher of base and plateau, at most 50 mV."""
    data = sweep()
    data["voltage"][2000:6999] = -50.0
    assert Recording("IDrest", FILE, data).auto_threshold == pytest.approx(-30.0)
    data["voltage"][2000:6999] = -90.0
    assert Recording("IDrest", FILE, data).auto_threshold == pytest.approx(-50.0)
    data["voltage"][2000:6999] = 40.0
    assert Recording("IDrest", FILE, data).auto_threshold == pytest.approx(50.0)

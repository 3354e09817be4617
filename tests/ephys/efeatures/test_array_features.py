"""Features by arrays are those of eFEL, to the last digit, on any trace; eFEL itself is the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shared_results
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from synthetic import sweep

from labweave import ephys
from labweave.ephys.auto_targets import PRESETS
from labweave.ephys.efeatures.arrays import FEATURES, array_efeatures
from labweave.ephys.efeatures.efel_core import call_efel, efel_session, known_efeatures
from labweave.ephys.efeatures.interpolation import efel_grid

DEFAULT = ephys.DEFAULT_EFEL_SETTINGS


def differences_from_efel(t, voltage, start, stop, settings) -> dict:
    """Features whose two values are not the same, with both; those that arrays leave to eFEL are not looked at."""
    grid = efel_grid(t, settings.get("interp_step", 0.1))
    on_grid = grid.interpolate(voltage)
    found = array_efeatures(grid, on_grid, list(FEATURES), settings, start, stop)
    expected = call_efel(
        grid, on_grid, np.zeros(len(t)), list(found), settings, {"stim_start": [start], "stim_end": [stop]}
    )
    return {name: (found[name], expected[name]) for name in found if not is_same(found[name], expected[name])}


def is_same(values, expected) -> bool:
    if values is None or expected is None:
        return values is expected
    return values.dtype == expected.dtype and np.array_equal(values, expected, equal_nan=True)


def trace(spikes=(), tend=300.0, dt=0.1, rest=-70.0, step=0.0, window=(100.0, 200.0), noise=0.0):
    """Return times and a membrane that follows a step, with spikes of 3 ms and an undershoot."""
    t = np.arange(round(tend / dt)) * dt
    response = np.where(t < window[0], 0, 1 - np.exp(-(t - window[0]) / 10))
    back = np.where(t < window[1], 1.0, np.exp(-(t - window[1]) / 10))
    voltage = rest + step * np.clip(response, 0, 1) * back
    for peak in spikes:
        late = np.clip(t - peak, 0, None)
        voltage += 100 * np.exp(-(((t - peak) / 0.4) ** 2)) - np.where(late > 0, 8 * late * np.exp(-late / 2), 0)
    return t, voltage + noise * np.random.default_rng(0).standard_normal(len(t))


def test_every_feature_of_the_presets_is_known():
    names = {name for preset in PRESETS.values() for name in preset["efeatures"]}
    assert names <= set(FEATURES) <= known_efeatures()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("step", [0.025, 0.1])
@pytest.mark.parametrize(
    "given_trace",
    [
        pytest.param({}, id="flat"),
        pytest.param({"noise": 0.3, "step": -15.0}, id="hyperpolarised"),
        pytest.param({"noise": 0.3, "step": 12.0}, id="silent"),
        pytest.param({"spikes": [150.0]}, id="one spike"),
        pytest.param({"spikes": [120.0, 130.0], "step": 10.0}, id="two spikes"),
        pytest.param({"spikes": [110.0, 116.0, 125.0, 140.0, 160.0, 190.0], "step": 8.0, "noise": 0.2}, id="a train"),
        pytest.param({"spikes": np.arange(104.0, 199.0, 4.0), "step": 15.0, "noise": 1.0}, id="a noisy train"),
        pytest.param({"spikes": [50.0, 150.0, 250.0]}, id="also outside the stimulus"),
        pytest.param({"spikes": [99.0, 100.0, 199.5, 200.0]}, id="at the edges of the stimulus"),
        pytest.param({"spikes": [0.0, 1.0, 150.0, 298.9, 299.9]}, id="at the edges of the trace"),
        pytest.param({"spikes": [150.0, 150.9, 151.7]}, id="melted spikes"),
    ],
)
def test_values_are_those_of_efel(given_trace, step, strict):
    t, voltage = trace(**given_trace)
    settings = {"Threshold": -20.0, "interp_step": step, "strict_stiminterval": strict, "stimulus_current": 0.2}
    with efel_session():
        for start, stop in [(100.0, 200.0), (0.0, 300.0), (30.05, 150.0), (145.0, 400.0), (280.0, 299.95)]:
            assert differences_from_efel(t, voltage, start, stop, settings) == {}


@pytest.mark.parametrize(
    "more",
    [
        {"voltage_base_mode": "median"},
        {"voltage_base_mode": "mode"},
        {"voltage_base_start_perc": 0.2, "voltage_base_end_perc": 0.5},
        {"voltage_base_start_perc": 0.5, "voltage_base_end_perc": 0.5},
        {"precision_threshold": 0.3},
        {"DerivativeThreshold": 20.0, "DerivativeWindow": 7, "DownDerivativeThreshold": -40.0},
        {"DerivativeWindow": 1},
        {"rise_start_perc": 0.1, "rise_end_perc": 0.9},
        {"rise_start_perc": 2.0, "rise_end_perc": -1.0},
        {"ignore_first_ISI": False},
        {"spike_skipf": 0.4, "max_spike_skip": 5},
        {"spike_skipf": 1.5},
        {"offset": 20.0},
        {"offset": 20},
        {"AP_phaseslope_range": 5},
        {"decay_start_after_stim": 5.0, "decay_end_after_stim": 40.0},
        {"decay_start_after_stim": 20.0},
        {"stimulus_current": 0.0},
        {"stimulus_current": 1},
        {"Threshold": "-30"},
        {"min_spike_height": 50.0},
    ],
    ids=str,
)
def test_settings_mean_what_they_mean_to_efel(more):
    settings = {**DEFAULT, "stimulus_current": -0.1, **more}
    with efel_session():
        for values in (
            {"spikes": [110.0, 116.0, 125.0, 140.0, 160.0, 190.0], "step": 8.0, "noise": 0.2},
            {"step": -20.0, "noise": 0.2},
        ):
            t, voltage = trace(**values)
            assert differences_from_efel(t, voltage, 100.0, 200.0, settings) == {}


@st.composite
def any_trace(draw):
    """Times, voltage, window and settings; voltages often on a coarse scale, so that samples meet thresholds."""
    n_samples, dt = draw(st.integers(4, 400)), draw(st.sampled_from([0.05, 0.1, 0.25]))
    scale = draw(st.sampled_from([10.0, 2.5, 1e-9]))
    noise = draw(st.sampled_from([0.0, 1.0, 15.0]))
    voltage = -70 + noise * np.random.default_rng(draw(st.integers(0, 99))).standard_normal(n_samples)
    for position, height, width in draw(
        st.lists(st.tuples(st.floats(0, 1), st.floats(-60, 120), st.floats(0.5, 20)), max_size=9)
    ):
        voltage += height * np.exp(-(((np.arange(n_samples) - position * n_samples) / width) ** 2))
    t = np.arange(n_samples) * dt
    edges = st.one_of(st.sampled_from(t.tolist()), st.floats(0, t[-1] * 1.2))
    start, stop = sorted([draw(edges), draw(edges)])
    settings = {
        "Threshold": draw(st.sampled_from([-20.0, -40.0, -50.0])),
        "interp_step": draw(st.sampled_from([0.025, 0.1])),
        "strict_stiminterval": draw(st.booleans()),
        "voltage_base_mode": draw(st.sampled_from(["mean", "median"])),
        "stimulus_current": 0.1,
    }
    return t, np.round(voltage / scale) * scale, start, max(stop, math.nextafter(start, math.inf)), settings


_PLATEAU = np.array([-70, -70, -20, -20, 0, 0, -20, -70, 10, -20, 10, -70, -70, -20, 30, -20, -20, -70, -70.0])


@pytest.fixture(scope="module", autouse=True)
def one_session():
    with efel_session():
        yield


@given(any_trace())
@example((np.arange(19) * 0.1, _PLATEAU, 0.1, 1.5, DEFAULT))
@example((np.arange(19) * 0.1, _PLATEAU, 0.0, 9.0, {"interp_step": 0.1, "strict_stiminterval": False}))
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace(made):
    assert differences_from_efel(*made) == {}


@pytest.mark.parametrize(
    ("voltage", "settings"),
    [
        ([-70.0, math.nan], {}),
        ([-70.0, math.inf], {}),
        ([-70.0], {"voltage_base": -60.0}),
        ([-70.0], {"peak_indices": 3}),
    ],
)
def test_nothing_is_answered_where_efel_may_differ(voltage, settings):
    grid = efel_grid(np.arange(50.0), 0.1)
    assert array_efeatures(grid, np.resize(voltage, len(grid.t)), list(FEATURES), settings, 10.0, 40.0) == {}


def test_a_value_from_behind_the_vector_is_left_to_efel():
    """The fall of the last spike is not back before the trace ends, so eFEL has one end less than onsets."""
    t, voltage = trace(spikes=[150.0, 160.0], tend=161.0)
    grid = efel_grid(t, 0.1)
    found = array_efeatures(grid, grid.interpolate(voltage), list(FEATURES), {"Threshold": -50.0}, 100.0, 155.0)
    assert [len(found[name]) for name in ("AP_begin_time", "AP_end_indices")] == [2, 1]
    assert set(FEATURES) - set(found) == {"AP_fall_indices", "AP_duration_half_width"}


def test_a_setting_of_the_wrong_type_is_refused():
    grid = efel_grid(np.arange(50.0), 0.1)
    with pytest.raises(ValueError, match="Threshold"):
        array_efeatures(grid, np.zeros(len(grid.t)), ["Spikecount"], {"Threshold": "high"}, 10.0, 40.0)


def test_features_by_arrays_and_by_efel_come_together_in_the_order_asked():
    """Three spikes at hand-set times; burst_number and min_between_peaks_values are eFEL's alone."""
    names = ["burst_number", "mean_frequency", "min_between_peaks_values", "all_ISI_values", "AP2_peak"]
    assert not {"burst_number", "min_between_peaks_values"} & set(FEATURES)
    recording = ephys.Recording(
        "IDrest", {"filepath": "sweep.h5", "ton": 200, "toff": 700}, sweep(spikes=[300.0, 400.0, 600.0])
    )
    found = ephys.compute_efeatures(recording, names, DEFAULT)
    assert list(found) == names
    assert found["burst_number"].tolist() == [0]
    assert found["mean_frequency"] == pytest.approx([3 / 0.4])
    assert found["all_ISI_values"] == pytest.approx([100.0, 200.0])
    assert found["AP2_peak"] == pytest.approx([30.0])
    assert found["min_between_peaks_values"] == pytest.approx([-70.0] * 3)


def test_real_recordings(shared):
    """Every protocol of every cell, its first two files."""
    n_traces = 0
    for cell in ("B6", "B95", "C060109A1-SR-C1"):
        for protocol, files in shared_results.files(cell).items():
            recordings = [one for file in files[:2] for one in ephys.read_recordings_of_file(protocol, file)[:3]]
            for recording in recordings:
                for more in ({}, {"Threshold": recording.auto_threshold, "strict_stiminterval": False}):
                    settings = {**DEFAULT, "interp_step": 0.1, "stimulus_current": recording.amp, **more}
                    window = float(recording.ton), float(recording.toff)
                    assert differences_from_efel(recording.t, recording.voltage, *window, settings) == {}
                    n_traces += 1
    assert n_traces >= 20

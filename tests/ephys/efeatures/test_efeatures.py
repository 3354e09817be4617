"""Rheobase, features and targets on values worked out by hand (specification, section 15)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from synthetic import sweep

from labweave import ephys
from labweave.errors import ConfigError

FILE = {"filepath": "sweep.h5"}
SETTINGS = ephys.DEFAULT_EFEL_SETTINGS


# --- rheobase ---------------------------------------------------------------------------------------


def test_rheobase_is_the_lowest_step_with_a_spike_in_any_order():
    """Row 3."""
    result = ephys.find_rheobase([0.25, 0.05, 0.15, 0.1, 0.2], [5, 0, 1, 0, 3])
    assert (result.rheobase, result.n_recordings) == (0.15, 5)
    assert "1 or more" in result.reason


def test_spike_threshold():
    """Row 10."""
    assert ephys.find_rheobase([0.05, 0.1, 0.15, 0.2], [1, 2, 3, 4], settings={"spike_threshold": 3}).rheobase == 0.15


@pytest.mark.parametrize(
    ("amps", "counts", "rheobase"), [([-0.1, 0.1], [1, 1], 0.1), ([0.0, 0.1, 0.2], [1, 0, 2], 0.2)]
)
def test_only_positive_steps_count(amps, counts, rheobase):
    """Rows 15 and 16, 13.20."""
    assert ephys.find_rheobase(amps, counts).rheobase == rheobase


@pytest.mark.parametrize(("amps", "counts"), [([0.1, 0.2], [0, 0]), ([], []), ([np.nan, 0.1], [4, None])])
def test_no_rheobase_is_none_with_a_warning(amps, counts):
    with pytest.warns(ephys.RheobaseWarning, match="No rheobase"):
        assert ephys.find_rheobase(amps, counts).rheobase is None


def test_a_suspiciously_low_rheobase_warns():
    with pytest.warns(ephys.RheobaseWarning, match="suspiciously low"):
        assert ephys.find_rheobase([0.005, 0.1], [1, 2]).rheobase == 0.005


def test_unknown_strategies_and_settings():
    """Rows 11 and 12."""
    with pytest.raises(ConfigError, match="'foo'"):
        ephys.find_rheobase([0.1], [1], "foo")
    with pytest.raises(TypeError, match="flush_length"):
        ephys.find_rheobase([0.1], [1], "absolute", {"flush_length": 1})
    with pytest.raises(ValueError, match="1 amplitudes"):
        ephys.find_rheobase([0.1], [1, 2])


# --- features ---------------------------------------------------------------------------------------


def recording(**kwargs):
    return ephys.Recording("IDrest", {**FILE, "ton": 200, "toff": 700}, sweep(**kwargs))


def test_features_of_a_known_sweep():
    found = ephys.compute_efeatures(
        recording(spikes=[300.0, 400.0, 600.0]), ["Spikecount", "ISI_values", "voltage_base", "peak_voltage"], SETTINGS
    )
    assert found["Spikecount"].tolist() == [3]
    assert found["voltage_base"] == pytest.approx([-70.0])
    assert found["peak_voltage"] == pytest.approx([30.0, 30.0, 30.0])
    assert all(values.dtype == np.float64 for values in found.values() if values is not None)


def test_a_silent_sweep_has_a_count_and_no_frequency():
    """Row 48."""
    found = ephys.compute_efeatures(recording(), ["Spikecount", "mean_frequency"], SETTINGS)
    assert found["Spikecount"].tolist() == [0.0]
    assert math.isnan(ephys.efeature_mean(found["mean_frequency"]))


def test_a_window_in_the_settings_replaces_the_stimulus():
    """Row 61: two of three spikes before 450 ms."""
    settings = {**SETTINGS, "stim_start": 0.0, "stim_end": 450.0}
    assert ephys.compute_efeatures(recording(spikes=[300.0, 400.0, 600.0]), ["Spikecount"], settings)["Spikecount"] == [
        2
    ]


def test_without_a_threshold_the_automatic_one_is_used():
    """Row 59: spikes that stay below -20 mV are only seen by the automatic threshold of -50 mV."""
    data = sweep(spikes=[300.0])
    data["voltage"] = np.where(data["voltage"] > -70.0, -70.0 + (data["voltage"] + 70.0) * 0.4, -70.0)
    small = ephys.Recording("IDrest", {**FILE, "ton": 200, "toff": 700}, data)
    strict = {"strict_stiminterval": True}
    assert ephys.compute_efeatures(small, ["Spikecount"], strict)["Spikecount"] == [1]
    assert ephys.compute_efeatures(small, ["Spikecount"], {**strict, "Threshold": -20.0})["Spikecount"] == [0]


def test_settings_do_not_leak_into_the_next_call():
    import efel

    one = recording(spikes=[300.0])
    high = ephys.compute_efeatures(one, ["Spikecount"], {**SETTINGS, "Threshold": 50.0, "made_up": 3.0})
    assert high["Spikecount"] == [0]
    assert efel.get_settings() == efel.Settings()
    assert not hasattr(efel.get_settings(), "made_up")
    assert ephys.compute_efeatures(one, ["Spikecount"], SETTINGS)["Spikecount"] == [1]


def test_the_input_resistance_uses_the_step_amplitude():
    """13.19: float32 data give a value; 10 mV for -0.1 nA are 100 MOhm."""
    data = sweep(amp=-0.1)
    data["voltage"][2010:7100] = -80.0  # past both ends, so that no window of eFEL has an edge
    data = {key: value.astype(np.float32) if key in ("voltage", "current") else value for key, value in data.items()}
    one = ephys.Recording("IV", {**FILE, "ton": 200, "toff": 700, "hypamp": -0.05}, data)
    found = ephys.compute_efeatures(one, ["ohmic_input_resistance_vb_ssse"], SETTINGS)
    assert found["ohmic_input_resistance_vb_ssse"] == pytest.approx([100.0], rel=1e-5)
    assert type(one.amp) is float


def test_multiple_decay_time_constants_are_there():
    """13.22: never there in the reference. For one pulse it is the single constant, for two there are two."""
    data = sweep(amp=-0.1)
    t = np.arange(10000) * 0.1
    data["voltage"][2000:7000] = -80.0
    data["voltage"][7000:] = -70.0 - 10.0 * np.exp(-(t[7000:] - 700.0) / 20.0)
    one = ephys.Recording("IV", {**FILE, "ton": 200, "toff": 700}, data)
    several, single = "multiple_decay_time_constant_after_stim", "decay_time_constant_after_stim"
    found = ephys.compute_efeatures(one, [several, single], SETTINGS)
    assert found[several] == pytest.approx(found[single])
    assert len(found[single]) == 1
    pulses = {**SETTINGS, "multi_stim_start": [200.0, 710.0], "multi_stim_end": [700.0, 720.0]}
    assert len(ephys.compute_efeatures(one, [several], pulses)[several]) == 2


def test_unknown_features_are_named_with_close_ones():
    """Row 49, 13.26."""
    with pytest.raises(ephys.UnknownFeature, match=r"'Spikecuont'.*Spikecount"):
        ephys.validate_efeatures(["Spikecuont"])
    ephys.validate_efeatures(["Spikecount", "mean_frequency"], SETTINGS)


@pytest.mark.parametrize("settings", [{"Threshold": None}, {"stim_start": 300.0, "stim_end": 300.0}])
def test_impossible_settings(settings):
    """Rows 60 and 62."""
    with pytest.raises(ValueError, match="Threshold|stim_end"):
        ephys.compute_efeatures(recording(), ["Spikecount"], settings)


@pytest.mark.parametrize(
    ("values", "mean"),
    [([1.0, 2.0, 6.0], 3.0), ([1.0, None, 3.0], 2.0), ([np.nan, 4.0], 4.0), (np.array([5]), 5.0)],
)
def test_mean_of_the_values_there_are(values, mean):
    assert ephys.efeature_mean(values) == mean


@pytest.mark.parametrize("values", [None, [], [None], [np.nan], [1.0, np.inf]])
def test_no_finite_mean_is_nan(values):
    assert math.isnan(ephys.efeature_mean(values))


# --- targets ----------------------------------------------------------------------------------------


def summary(cell="a", amp=0.15, rheobase=0.1, value=1.0, settings=SETTINGS, efeature="Spikecount", **more):
    params = {"ton": 200.0, "toff": 700.0, "tend": 1000.0, "amp": amp, "hypamp": -0.05, "dt": 0.1, "amp_rel": None}
    one = ephys.RecordingSummary(
        protocol_name="IDRest",
        params=params,
        amp=amp,
        hypamp=-0.05,
        auto_threshold=more.pop("auto_threshold", -47.0),
        files=[f"{cell}.h5"],
        efeature_values={ephys.value_key(efeature, settings): value},
    )
    if rheobase is not None:
        one.compute_relative_amp(rheobase)
    return one


def target(amplitude=150, tolerance=10.0, **more):
    return ephys.Target(
        **{"efeature": "Spikecount", "protocol": "IDRest", **more}, amplitude=amplitude, tolerance=tolerance
    )


def group(recordings, targets, rheobases, **kwargs):
    """Group the recordings of cells with these rheobases; a recording's file is named after its cell."""
    cells = [
        ephys.Cell(name, [one for one in recordings if one.files == [f"{name}.h5"]], rheobase)
        for name, rheobase in rheobases.items()
    ]
    how = {"efel_settings": SETTINGS}
    for key in ("absolute_amplitude", "use_global_rheobase", "protocol_mode", "efel_settings", "compat"):
        if key in kwargs:
            how[key] = kwargs.pop(key)
    absolute = how.get("absolute_amplitude", False)
    protocols = ephys.group_efeatures(cells, targets, **how)
    return ephys.describe_protocols(cells, protocols, absolute_amplitude=absolute, **kwargs)


@pytest.mark.filterwarnings("ignore::labweave.ephys.FeatureWarning")
@pytest.mark.parametrize(("amplitude", "tolerance"), [(140, 10.0), (150, 0.0), (200, 10.0)])
def test_the_edge_of_a_tolerance_does_not_match(amplitude, tolerance):
    """Rows 40 and 41; amp 0.15 of rheobase 0.1 is 150 %."""
    one = summary(amp=0.1875, rheobase=0.125)
    assert ephys.effective_amplitude(one) == 150.0
    assert "IDRest_150" in group([one], [target(150, 1e-6)], {"a": 0.125})[0]
    assert group([one], [target(amplitude, tolerance)], {"a": 0.125})[:2] == ({}, {})


def test_mean_and_population_deviation_over_cells():
    """Row 58, and row 53: a cell without rheobase only counts for the holding current."""
    recordings = [summary(cell=c, value=v) for c, v in zip("abc", (1.0, 2.0, 6.0), strict=True)]
    silent = summary(cell="d", rheobase=None)
    features, protocols, currents = group(
        [*recordings, silent], [target()], {"a": 0.1, "b": 0.1, "c": 0.1, "d": None, "e": None}
    )
    entry = features["IDRest_150"]["soma"][0]
    assert entry["val"] == pytest.approx([3.0, math.sqrt(14.0 / 3.0)])
    assert (entry["n"], entry["efel_settings"], entry["efeature_name"]) == (3, SETTINGS, "Spikecount")
    assert protocols["IDRest_150"]["holding"] == pytest.approx(
        {"delay": 0.0, "amp": -0.05, "duration": 1000.0, "totduration": 1000.0}
    )
    assert protocols["IDRest_150"]["step"] == pytest.approx(
        {"delay": 200.0, "amp": 0.15, "thresh_perc": 150.0, "duration": 500.0, "totduration": 1000.0}
    )
    assert currents["all_holding_current"] == dict.fromkeys("abcd", -0.05) | {"e": None}
    assert currents["all_threshold_current"] == {"a": 0.1, "b": 0.1, "c": 0.1}
    assert currents["threshold_current"] == pytest.approx([0.1, 1e-3])
    json.dumps((features, protocols, currents), allow_nan=False)


def test_the_step_of_the_mean_stimulus_uses_the_mean_rheobase():
    """Row 64: rheobases 0.1 and 0.3, both at 200 %."""
    recordings = [summary("a", amp=0.2, rheobase=0.1), summary("b", amp=0.6, rheobase=0.3)]
    _, protocols, _ = group(recordings, [target(200)], {"a": 0.1, "b": 0.3})
    assert protocols["IDRest_200"]["step"]["amp"] == pytest.approx(0.4)
    _, protocols, _ = group(recordings, [target(200)], {"a": 0.1, "b": 0.3}, use_global_rheobase=False)
    assert protocols["IDRest_200"]["step"]["amp"] == pytest.approx(0.4)
    _, protocols, _ = group(
        recordings, [target(200)], {"a": 0.1, "b": 0.3}, use_global_rheobase=False, protocol_mode="max"
    )
    assert protocols["IDRest_200"]["step"]["amp"] == pytest.approx(0.6)


def test_absolute_amplitudes():
    """Row 55: null where the reference writes NaN."""
    features, protocols, currents = group(
        [summary(rheobase=None)], [target(0.15, 0.01)], {"a": None}, absolute_amplitude=True
    )
    assert list(features) == ["IDRest_0.15"]
    assert protocols["IDRest_0.15"]["step"]["thresh_perc"] is None
    assert protocols["IDRest_0.15"]["step"]["amp"] == pytest.approx(0.15)
    assert (currents["threshold_current"], currents["all_threshold_current"]) == ([None, None], {})


def test_one_stimulus_for_150_and_150_0():
    """Row 43."""
    features, _, _ = group([summary()], [target(150), target(150.0, efeature_name="again")], {"a": 0.1})
    assert [entry["efeature_name"] for entry in features["IDRest_150"]["soma"]] == ["Spikecount", "again"]


def test_the_same_feature_with_two_settings_has_two_values():
    """Rows 44 and 45."""
    one = summary(value=3.0)
    high = target(efel_settings={"Threshold": 50.0})
    one.efeature_values[ephys.value_key("Spikecount", ephys.complete_settings(SETTINGS, high))] = 0.0
    features, _, _ = group([one], [target(), high], {"a": 0.1})
    assert [entry["val"][0] for entry in features["IDRest_150"]["soma"]] == [3.0, 0.0]


def test_too_few_values_leave_a_feature_and_its_stimulus_out():
    """Rows 47 and 50."""
    with pytest.warns(ephys.FeatureWarning, match="fewer than 2"):
        assert group([summary()], [target()], {"a": 0.1}, threshold_nvalue_save=2)[:2] == ({}, {})
    with pytest.warns(ephys.FeatureWarning, match="0 values"):
        assert group([summary(value=math.nan)], [target()], {"a": 0.1})[0] == {}


def test_arguments_are_checked_first():
    """Rows 51 and 57, 13.4 and 13.25."""
    with pytest.raises(ValueError, match="lnmc"):
        group([], [], {}, protocol_mode="lnmc")
    with pytest.raises(ValueError, match="threshold_nvalue_save"):
        group([], [], {}, threshold_nvalue_save=0)


def test_without_a_threshold_the_median_automatic_one_is_reported():
    """Row 59."""
    recordings = [summary(c, auto_threshold=v, settings={}) for c, v in zip("abc", (-48.0, -47.0, -40.0), strict=True)]
    features, _, _ = group(recordings, [target()], dict.fromkeys("abc", 0.1), efel_settings={})
    assert features["IDRest_150"]["soma"][0]["efel_settings"] == {"Threshold": -47.0}


def test_files_behind_each_feature():
    """13.8."""
    recordings = [summary("a"), summary("b", value=math.nan), summary("c")]
    features, _, _ = group(recordings, [target()], dict.fromkeys("abc", 0.1), save_files_used=True)
    assert features["IDRest_150"]["soma"][0]["files"] == ["a.h5", "c.h5"]


def test_no_targets_still_give_the_currents():
    """Row 56."""
    features, protocols, currents = group([summary()], [], {"a": 0.1})
    assert (features, protocols) == ({}, {})
    assert currents["holding_current"] == [-0.05, 1e-3]


def test_settings_are_the_same_key_in_any_order_and_number_type():
    assert ephys.settings_key({"a": 1, "b": 2.0}) == ephys.settings_key({"b": 2, "a": 1.0})
    assert ephys.settings_key({"a": True}) != ephys.settings_key({"a": False})


def test_legacy_targets():
    legacy = {
        "IDRest": {"amplitudes": [150, 200], "tolerances": [20.0], "efeatures": {"Spikecount": {"Threshold": -30.0}}}
    }
    assert ephys.convert_legacy_targets(legacy) == [
        {
            "efeature": "Spikecount",
            "protocol": "IDRest",
            "amplitude": amplitude,
            "tolerance": 20.0,
            "efel_settings": {"Threshold": -30.0},
        }
        for amplitude in (150, 200)
    ]
    as_list = {"IV": {"amplitudes": [1, 2, 3], "tolerances": [1, 1], "efeatures": ["Spikecount"], "location": "soma"}}
    with pytest.raises(ValueError, match="3 amplitudes"):
        ephys.convert_legacy_targets(as_list)

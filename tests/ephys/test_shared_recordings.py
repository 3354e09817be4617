"""Same recordings, same numbers as BluePyEfe 2.3.63 with compat="bluepyefe", and better ones without.

What differs on purpose even then (specification, section 13): SpikeRec (13.21), silent sweeps have 0 spikes (13.1),
NaN is None (13.24), and errors come before anything is read (13.4, 13.25, 13.26).
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import pytest
from shared_results import (
    at_once,
    combos,
    differences,
    files,
    load,
    needs_shared,
    settings_of,
    step_by_step,
    without_spikerec_amplitudes,
)

from labweave import ephys
from labweave.ephys import extract

pytestmark = [needs_shared, pytest.mark.filterwarnings("ignore")]

COMBOS = combos()
ERRORS = [name for name in COMBOS if "__error__" in load("expected_features")[name]]
RUNS = [name for name in COMBOS if name not in ERRORS]
PARTS = ("features", "protocols", "currents")


@cache
def cells_and_results(name):
    return step_by_step(COMBOS[name])


def recordings_and_expected(name):
    cells, _ = cells_and_results(name)
    for cell, expected in zip(cells, load("expected_recordings")[name].values(), strict=True):
        yield from zip(cell.recordings, expected, strict=True)


def differs_on_purpose(name, protocol):
    """13.21: SpikeRec has an automatic threshold (the reference's is NaN, so it sees no spike)."""
    return protocol.startswith("SpikeRec") and "Threshold" not in settings_of(COMBOS[name])


@pytest.mark.parametrize("name", RUNS)
def test_stimulus_parameters(name):
    for recording, expected in recordings_and_expected(name):
        found = {
            key: value.tolist() if hasattr(value, "tolist") else value for key, value in recording.get_params().items()
        }
        params = dict(expected["params"])
        if recording.protocol_name == "SpikeRec":  # 13.21: amp is relative to the holding current
            params["amp"] = params["amp"] - params["hypamp"]
            params["amp_rel"] = found["amp_rel"] = None
        assert differences(found, params)[1] == [], recording.name
        assert (recording.ecode.name, recording.name) == (expected["ecode"], expected["name"])


@pytest.mark.parametrize("name", RUNS)
def test_spikes_and_thresholds(name):
    for recording, expected in recordings_and_expected(name):
        if differs_on_purpose(name, recording.protocol_name):
            assert expected["spikecount"] is None and recording.spikecount > 0
            continue
        assert recording.spikecount == (expected["spikecount"] or 0), recording.name  # 13.1: silent is 0
        if "peak_time" in expected:
            assert differences(recording.peak_time.tolist(), expected["peak_time"] or [])[1] == []
        if "auto_threshold" in expected and recording.protocol_name != "SpikeRec":
            assert differences(recording.auto_threshold, expected["auto_threshold"])[1] == []


@pytest.mark.parametrize("name", [name for name in RUNS if COMBOS[name]["recordings"] == "full"])
def test_feature_values_of_every_recording(name):
    compared, listed = 0, []
    for recording, expected in recordings_and_expected(name):
        if not differs_on_purpose(name, recording.protocol_name):
            n, different = differences(
                {key: recording.efeatures[key] for key in expected["efeatures"]}, expected["efeatures"]
            )
            compared, listed = compared + n, listed + [(recording.name, *d) for d in different]
            assert recording.efeatures.keys() == expected["efeatures"].keys()
    assert listed == []
    assert compared > 0


@pytest.mark.parametrize("name", RUNS)
def test_rheobase(name):
    cells, _ = cells_and_results(name)
    assert differences({cell.name: cell.rheobase for cell in cells}, load("expected_rheobase")[name])[1] == []


@pytest.mark.parametrize("name", RUNS)
def test_features_protocols_and_currents(name, tmp_path):
    """Function by function, and all at once."""
    _, results = cells_and_results(name)
    for part, one, other in zip(PARTS, results, at_once(COMBOS[name], tmp_path), strict=True):
        one, other, expected = (
            without_spikerec_amplitudes(part, dict(found)) for found in (one, other, load(f"expected_{part}")[name])
        )
        for found in (one, other, expected):
            for stimulus in [key for key in found if differs_on_purpose(name, key)]:
                del found[stimulus]
        assert differences(one, expected)[1] == [], part
        assert one == other, part
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("error_lnmc", ValueError, "lnmc"),
        ("error_unknown_feature", ValueError, "not_a_feature"),
        ("error_targets_none_absolute", ValueError, "absolute_amplitude needs targets"),
    ],
)
def test_errors_come_before_reading(name, error, message, tmp_path):
    combo = {**COMBOS[name], "cells": {}}

    def never(file_metadata):
        raise AssertionError("read a file")

    with pytest.raises(error, match=message):
        extract.extract_efeatures(
            tmp_path, {"a": {"IDRest": [{"filepath": "a.h5"}]}}, combo["targets"], recording_reader=never, **combo["kwargs"]
        )  # fmt: skip


def test_majority_without_spikes_is_no_rheobase(tmp_path):
    """13.3: an exception in the reference."""
    features, _, currents = at_once(COMBOS["error_majority_no_spikes"], tmp_path)
    assert features == {}
    assert currents["threshold_current"] == [None, None]


@pytest.mark.parametrize("how", ["pool", "low memory", "futures"])
def test_the_same_results_however_the_work_is_done(how, tmp_path):
    combo = COMBOS["default_relative"]
    _, expected = cells_and_results("default_relative")
    if how == "low memory":
        assert at_once(combo, tmp_path, low_memory_mode=True) == expected
        return
    with ProcessPoolExecutor(2) as pool:
        submit = lambda work, chunks: [pool.submit(work, chunk) for chunk in chunks]  # noqa: E731
        assert at_once(combo, tmp_path, map_function=pool.map if how == "pool" else submit) == expected


def test_one_feature_with_two_settings_keeps_both_values(tmp_path):
    """13.5: the reference has 0 for both, the value at the last threshold computed."""
    features, _, _ = at_once(COMBOS["bug_clobber"], tmp_path, compat=None)
    assert features["IDRest_150"]["soma"][0]["val"][0] == 50.0
    assert features["IDRest_150"]["soma"][0]["efel_settings"]["Threshold"] == -20.0
    assert features["IDRest_200"]["soma"][0]["val"][0] == 0.0
    assert features["IDRest_200"]["soma"][0]["efel_settings"]["Threshold"] == 20.0


def test_each_target_keeps_its_own_tolerance(tmp_path):
    """13.6: 150 +- 5 matches the sweep at 147 %, 150 +- 60 those at 100, 147 and 200 %."""
    features, _, _ = at_once(COMBOS["bug_first_tolerance"], tmp_path, compat=None)
    narrow, wide = features["IDRest_150"]["soma"]
    assert (narrow["efeature_name"], narrow["n"]) == ("Spikecount", 1)
    assert (wide["efeature_name"], wide["n"]) == ("AP1_amp", 3)


def test_failed_detections_of_the_reference_are_flagged():
    """13.13: 17 of 18 IDthresh sweeps have a window from 2 ms to the end, and say so."""
    cell = extract.read_recordings({"c": files("C060109A1-SR-C1", ["IDthresh"])}, compat="bluepyefe")[0]
    flags = [recording.timing for recording in cell.recordings]
    assert (flags.count("not detected"), flags.count("detected")) == (17, 1)


def test_pickles_can_be_read_again(tmp_path):
    import pickle

    expected = at_once(COMBOS["peer_test_like"], tmp_path, pickle_cells=True)
    cells = pickle.loads(extract.cells_pickle_output_path(tmp_path).read_bytes())
    protocols = pickle.loads(extract.protocols_pickle_output_path(tmp_path).read_bytes())
    assert [cell.name for cell in cells] == ["B6"]
    assert cells[0].rheobase == pytest.approx(load("expected_rheobase")["peer_test_like"]["B6"], rel=1e-9)
    assert extract.create_feature_protocol_files(cells, protocols, write_files=False) == expected


def test_files_of_all_cells_and_of_each(tmp_path):
    """13.7 and row 79: those of a cell have the settings and the amplitudes of the whole."""
    combo = COMBOS["absolute_amplitude"]
    features, protocols, currents = at_once(combo, tmp_path, write_files=True, extract_per_cell=True)
    texts = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.json")}
    names = ("features", "protocols", "holding_threshold_currents")
    assert sorted(texts) == sorted(f"{place}{name}.json" for place in ("", "B6/", "C060109A1-SR-C1/") for name in names)
    written = [json.loads(texts[f"{name}.json"]) for name in names]
    assert written == [features, protocols, currents]
    of_cell = json.loads(texts["B6/features.json"])
    alone, _, _ = at_once({**combo, "cells": {"B6": "all"}}, tmp_path)
    assert of_cell == alone and len(of_cell) > 0
    settings = [entry["efel_settings"] for one in of_cell.values() for entry in one["soma"]]
    assert {one["Threshold"] for one in settings} == {ephys.DEFAULT_EFEL_SETTINGS["Threshold"]}

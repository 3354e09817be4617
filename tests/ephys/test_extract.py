"""The functions of labweave.ephys.extract on sweeps made by hand; rows are those of the specification, section 15.

A cell has 1 s sweeps with a step from 200 to 700 ms at -50 pA holding: 50, 100, 150 and 200 pA with 0, 1, 3 and 4
spikes. Its rheobase is 100 pA, so the steps are 50, 100, 150 and 200 %.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from synthetic import sweep

from labweave import ephys
from labweave.ephys import extract
from labweave.errors import ComputeError, ReadError
from labweave.formats.recordings import write_recordings

pytestmark = pytest.mark.filterwarnings("ignore::labweave.ephys.EphysWarning")

SETTINGS = {"strict_stiminterval": True, "Threshold": -20.0, "interp_step": 0.025}
STAIRCASE = {0.05: 0, 0.1: 1, 0.15: 3, 0.2: 4}

# Names, arguments and defaults as documented for bluepyefe.extract 2.3.
SIGNATURES = """
cells_pickle_output_path(output_directory)
compute_rheobase(cells, protocols_rheobase, rheobase_strategy='absolute', rheobase_settings=None)
convert_legacy_targets(targets)
create_feature_protocol_files(cells, protocols, output_directory=None, threshold_nvalue_save=1, write_files=True, save_files_used=False, default_std_value=0.001)
extract_efeatures(output_directory, files_metadata, targets=None, threshold_nvalue_save=1, protocols_rheobase=None, absolute_amplitude=False, recording_reader=None, map_function=<class 'map'>, write_files=False, plot=False, low_memory_mode=False, protocol_mode='mean', efel_settings=None, extract_per_cell=False, rheobase_strategy='absolute', rheobase_settings=None, auto_targets=None, pickle_cells=False, default_std_value=0.001)
extract_efeatures_at_targets(cells, targets, map_function=<class 'map'>, efel_settings=None)
extract_efeatures_per_cell(files_metadata, cells, output_directory, targets, protocol_mode, threshold_nvalue_save, write_files, default_std_value=0.001)
group_efeatures(cells, targets, absolute_amplitude=False, use_global_rheobase=True, protocol_mode='mean', efel_settings=None)
plot_recordings(files_metadata, output_directory='./figures/', recording_reader=None, map_function=<class 'map'>)
protocols_pickle_output_path(output_directory)
read_recordings(files_metadata, recording_reader=None, map_function=<class 'map'>, efel_settings=None)
"""


def make_sweep(file_metadata) -> list[dict]:
    """Reader of files that are not there: the metadata say what is in them."""
    n_spikes = file_metadata["n_spikes"]
    spikes = [250.0 + 400.0 / n_spikes * i for i in range(n_spikes)]
    return [sweep(file_metadata["step"], spikes, rest=file_metadata.get("rest", -70.0))]


def cell_files(staircase=STAIRCASE, name="a", **more) -> list[dict]:
    return [{"filepath": f"{name}_{step}.dat", "step": step, "n_spikes": n, **more} for step, n in staircase.items()]


def target(amplitude=150, tolerance=10.0, efeature="Spikecount", **more):
    return {"efeature": efeature, "protocol": "IDRest", "amplitude": amplitude, "tolerance": tolerance, **more}


def run(targets, cells=None, folder="nowhere", **kwargs):
    """extract_efeatures of cells given by their staircases."""
    cells = {"a": STAIRCASE} if cells is None else cells
    files = {name: {"IDRest": cell_files(steps, name)} for name, steps in cells.items()}
    how = {"protocols_rheobase": ["IDRest"], "recording_reader": make_sweep, "efel_settings": SETTINGS, **kwargs}
    return extract.extract_efeatures(folder, files, targets, **how)


def values(features, stimulus="IDRest_150"):
    """Mean and number of values of each feature of a stimulus."""
    return [(entry["val"][0], entry["n"]) for entry in features[stimulus]["soma"]]


# --- the interface ----------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", SIGNATURES.split("\n")[1:-1])
def test_names_arguments_and_defaults_are_those_of_bluepyefe(signature):
    """What labweave adds stands at the end and has a default."""
    name = signature.partition("(")[0]
    found = inspect.signature(getattr(extract, name))
    n, empty = signature.count(",") + 1, inspect.Parameter.empty
    parameters = [parameter.replace(annotation=empty) for parameter in found.parameters.values()]
    theirs, ours = parameters[:n], parameters[n:]
    assert name + str(inspect.Signature(theirs)) == signature
    assert all(parameter.default is not empty for parameter in ours)


def test_what_is_given_is_not_changed():
    """13.29: the reference adds protocol names, timings, locations and settings."""
    files = {"a": {"IDRest": cell_files(), "PosCheops": []}, "b": {"IDRest": cell_files(name="b")}}
    targets = [target(efel_settings={"Threshold": -30.0}), target(200, efeature="AP1_amp")]
    settings, rheobase = dict(SETTINGS), {"spike_threshold": 1}
    given = (files, targets, settings, rheobase)
    before = copy.deepcopy(given)
    extract.extract_efeatures(
        "nowhere", files, targets, protocols_rheobase=["IDRest"], recording_reader=make_sweep,
        efel_settings=settings, rheobase_settings=rheobase,
    )  # fmt: skip
    assert given == before


def test_one_metadata_dict_under_two_protocols():
    """13.29: the reader is asked for each protocol by its name."""
    seen = []

    def reader(file_metadata):
        seen.append(file_metadata["protocol_name"])
        return make_sweep(file_metadata)

    shared_dict = cell_files({0.15: 3})[0]
    cells = extract.read_recordings({"a": {"IDRest": [shared_dict], "Step": [shared_dict]}}, reader)
    assert seen == ["IDRest", "Step"]
    assert [recording.protocol_name for recording in cells[0].recordings] == ["IDRest", "Step"]
    assert "protocol_name" not in shared_dict


def test_defaults_are_announced():
    with pytest.warns(ephys.FeatureWarning, match="efel_settings is not given") as caught:
        features, _, _ = run([target()], efel_settings=None, protocols_rheobase=None)
    assert any("protocols_rheobase is not given" in str(one.message) for one in caught)
    assert features["IDRest_150"]["soma"][0]["efel_settings"] == SETTINGS


def test_targets_in_the_older_form():
    older = {"IDRest": {"amplitudes": [150], "tolerances": [10.0], "efeatures": ["Spikecount"], "location": "soma"}}
    with pytest.warns(ephys.FeatureWarning, match="older form"):
        assert run(older) == run([target()])


# --- rows of the specification ----------------------------------------------------------------------


@pytest.mark.parametrize(("amplitude", "tolerance", "matches"), [(140, 10.0, 0), (145, 10.0, 1), (150, 0.0, 0)])
def test_a_tolerance(amplitude, tolerance, matches):
    """Rows 40 and 41; the sweep is at 150 %."""
    features, _, _ = run([target(amplitude, tolerance)])
    assert sum(n for name in features for _, n in values(features, name)) == matches


def test_each_target_has_its_own_tolerance():
    """Row 42: 150 +- 1 and 150 +- 100; all four sweeps but the one at 50 % are nearer than 100."""
    features, _, _ = run([target(tolerance=1.0, efeature_name="near"), target(tolerance=99.0, efeature_name="far")])
    assert values(features) == [(3.0, 1), (pytest.approx(8 / 3), 3)]


def test_150_and_150_0_are_one_stimulus():
    """Row 43."""
    features, protocols, _ = run([target(150), target(150.0, efeature="AP1_amp")])
    assert list(features) == list(protocols) == ["IDRest_150"]


@pytest.mark.parametrize("names", [{}, {"names": ("SC_a", "SC_b")}])
def test_one_feature_with_two_thresholds(names):
    """Rows 44 and 45: 3 spikes above -20 mV, none above 50 mV."""
    low, high = target(efel_settings={"Threshold": -20.0}), target(efel_settings={"Threshold": 50.0})
    for one, name in zip((low, high), names.get("names", ()), strict=False):
        one["efeature_name"] = name
    features, _, _ = run([low, high])
    assert values(features) == [(3.0, 1), (0.0, 1)]
    assert [one["efel_settings"]["Threshold"] for one in features["IDRest_150"]["soma"]] == [-20.0, 50.0]


def test_the_same_target_twice_is_there_twice():
    """Row 46."""
    features, _, _ = run([target(), target()])
    assert values(features) == [(3.0, 1), (3.0, 1)]


def test_a_feature_without_values_is_left_out_with_its_stimulus():
    """Row 47: a sweep with one spike has no second one."""
    with pytest.warns(ephys.FeatureWarning, match="AP2_amp at IDRest_100: 0 values"):
        features, protocols, _ = run([target(100, efeature="AP2_amp")])
    assert (features, protocols) == ({}, {})


def test_a_silent_sweep_has_a_count_only():
    """Row 48."""
    features, _, _ = run([target(50, efeature="mean_frequency"), target(50)])
    (entry,) = features["IDRest_50"]["soma"]
    assert (entry["feature"], entry["val"], entry["n"]) == ("Spikecount", [0.0, 1e-3], 1)


def never(file_metadata):
    raise AssertionError(f"read {file_metadata}")


@pytest.mark.parametrize(
    ("error", "message", "targets", "kwargs"),
    [
        pytest.param(ephys.UnknownFeature, "foo_bar", [target(efeature="foo_bar")], {}, id="row 49"),
        pytest.param(ValueError, "threshold_nvalue_save is 0", [target()], {"threshold_nvalue_save": 0}, id="row 51"),
        pytest.param(ValueError, "'lnmc'", [target()], {"protocol_mode": "lnmc"}, id="row 57"),
        pytest.param(ValueError, "Threshold", [target()], {"efel_settings": {"Threshold": None}}, id="row 60"),
        pytest.param(
            ValueError, "stim_end", [target(efel_settings={"stim_start": 300.0, "stim_end": 300.0})], {}, id="row 62"
        ),
        pytest.param(ValueError, "low_memory_mode", [target()], {"plot": True, "low_memory_mode": True}, id="row 80"),
        pytest.param(ValueError, "choose one", [target()], {"auto_targets": []}, id="both kinds of targets"),
        pytest.param(ValueError, "absolute_amplitude", None, {"absolute_amplitude": True}, id="automatic and absolute"),
        pytest.param(ValueError, "nothing to extract", [target()], {"cells": {}}, id="no files"),
        pytest.param(ValueError, "amplitude, tolerance missing", [{"efeature": "Spikecount"}], {}, id="half a target"),
        pytest.param(TypeError, "flush_length", [target()], {"rheobase_settings": {"flush_length": 1}}, id="row 11"),
        pytest.param(Exception, "'foo'", [target()], {"rheobase_strategy": "foo"}, id="row 12"),
    ],
)
def test_mistakes_are_noticed_before_anything_is_read(error, message, targets, kwargs):
    kwargs = {"cells": {"a": STAIRCASE}, "recording_reader": never, **kwargs}
    with pytest.raises(error, match=message):
        run(targets, **kwargs)


def test_fewer_values_than_wanted():
    """Row 50."""
    with pytest.warns(ephys.FeatureWarning, match="the results are empty"):
        features, protocols, _ = run([target()], threshold_nvalue_save=2)
    assert (features, protocols) == ({}, {})


def test_no_spikes_anywhere(tmp_path):
    """Row 52: null where the reference writes NaN, which is not JSON."""
    features, protocols, currents = run([target()], {"a": {0.1: 0, 0.2: 0}}, tmp_path, write_files=True)
    assert (features, protocols) == ({}, {})
    assert currents["threshold_current"] == [None, None]
    assert currents["all_threshold_current"] == {}
    assert currents["holding_current"] == [pytest.approx(-0.05), 1e-3]
    written = json.loads((tmp_path / "holding_threshold_currents.json").read_text(), parse_constant=never)
    assert written == currents


def test_a_cell_without_rheobase_only_counts_for_the_holding_current():
    """Row 53."""
    features, _, currents = run([target()], {"a": STAIRCASE, "b": {0.15: 0}})
    assert values(features) == [(3.0, 1)]
    assert currents["all_holding_current"] == pytest.approx({"a": -0.05, "b": -0.05})
    assert list(currents["all_threshold_current"]) == ["a"]


def test_a_cell_without_recordings():
    """Row 54."""
    features, _, currents = run([target()], {"a": STAIRCASE, "b": {}})
    assert values(features) == [(3.0, 1)]
    assert currents["all_holding_current"] == {"a": pytest.approx(-0.05), "b": None}
    assert currents["holding_current"] == [pytest.approx(-0.05), 1e-3]


def test_absolute_amplitudes():
    """Row 55."""
    features, protocols, currents = run([target(0.15, 0.01)], absolute_amplitude=True)
    assert values(features, "IDRest_0.15") == [(3.0, 1)]
    assert protocols["IDRest_0.15"]["step"]["thresh_perc"] is None
    assert currents["threshold_current"] == [None, None]


def test_no_targets():
    """Row 56."""
    with pytest.warns(ephys.FeatureWarning, match="results are empty"):
        features, protocols, currents = run([])
    assert (features, protocols) == ({}, {})
    assert currents["threshold_current"] == [pytest.approx(0.1), 1e-3]


@pytest.mark.parametrize(("mode", "percent"), [("mean", 150), ("median", 150), ("min", 100), ("max", 200)])
def test_modes_of_the_mean_stimulus(mode, percent):
    """Row 57: the matched steps are 100, 150 and 200 %; the statistics of features stay means."""
    features, protocols, _ = run([target(150, 60.0)], protocol_mode=mode)
    assert protocols["IDRest_150"]["step"]["thresh_perc"] == pytest.approx(percent)
    assert protocols["IDRest_150"]["step"]["amp"] == pytest.approx(percent / 1000)
    assert values(features) == [(pytest.approx(8 / 3), 3)]


def test_mean_and_population_deviation_of_three_cells():
    """Row 58: 1, 2 and 6 spikes."""
    features, _, _ = run([target()], {name: {0.1: 1, 0.15: n} for name, n in zip("abc", (1, 2, 6), strict=True)})
    entry = features["IDRest_150"]["soma"][0]
    assert (entry["val"], entry["n"]) == ([pytest.approx(3.0), pytest.approx(math.sqrt(14 / 3))], 3)


def test_the_automatic_threshold_is_reported_per_stimulus():
    """Row 59: 20 mV above the base, -67 mV at 100 % and the median of -70 and -66 mV at 200 %."""
    files = [
        *cell_files({0.1: 1}, rest=-67.0), *cell_files({0.2: 4}, rest=-70.0), *cell_files({0.2: 5}, rest=-66.0)
    ]  # fmt: skip
    features, _, _ = extract.extract_efeatures(
        "nowhere", {"a": {"IDRest": files}}, [target(100), target(200)], protocols_rheobase=["IDRest"],
        recording_reader=make_sweep, efel_settings={},
    )  # fmt: skip
    found = {name: one["soma"][0]["efel_settings"] for name, one in features.items()}
    assert found == {"IDRest_100": {"Threshold": -47.0}, "IDRest_200": {"Threshold": -48.0}}


def test_a_window_in_the_settings_of_a_target():
    """Row 61: the spikes of the sweep at 150 % are at 250, 383 and 517 ms."""
    features, _, _ = run([target(efel_settings={"stim_start": 0.0, "stim_end": 300.0}), target(efeature_name="all")])
    assert values(features) == [(1.0, 1), (3.0, 1)]


def test_a_setting_that_efel_does_not_know_is_reported():
    """Row 63."""
    features, _, _ = run([target(efel_settings={"made_up": 3.0})])
    assert features["IDRest_150"]["soma"][0]["efel_settings"] == {**SETTINGS, "made_up": 3.0}


def test_the_step_is_a_share_of_the_mean_rheobase():
    """Row 64: rheobases of 0.1 and 0.3 nA, both cells at 200 %."""
    cells = {"a": {0.1: 1, 0.2: 2}, "b": {0.3: 1, 0.6: 2}}
    features, protocols, currents = run([target(200)], cells)
    assert values(features, "IDRest_200") == [(2.0, 2)]
    assert protocols["IDRest_200"]["step"]["amp"] == pytest.approx(0.4)
    assert protocols["IDRest_200"]["step"]["thresh_perc"] == pytest.approx(200)
    assert currents["threshold_current"] == pytest.approx([0.2, 0.1])


def test_a_rheobase_set_by_hand_needs_relative_amplitudes():
    """Row 65."""
    cells = extract.read_recordings({"a": {"IDRest": cell_files()}}, make_sweep, efel_settings=SETTINGS)
    extract.extract_efeatures_at_targets(cells, [target()], efel_settings=SETTINGS)
    cells[0].rheobase = 0.1
    with pytest.raises(ComputeError, match="compute_relative_amp"):
        extract.group_efeatures(cells, [target()])
    cells[0].compute_relative_amp()
    assert extract.group_efeatures(cells, [target()], efel_settings=SETTINGS)[0].feature_targets[0].values == [3.0]


def test_nothing_is_written_unless_asked_for(tmp_path, monkeypatch):
    """Row 78."""
    monkeypatch.chdir(tmp_path)
    run([target()], folder=tmp_path, extract_per_cell=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("absolute", "amplitude", "tolerance"), [(False, 150, 10.0), (True, 0.15, 0.01)])
def test_files_of_each_cell_are_those_of_the_cell_alone(tmp_path, absolute, amplitude, tolerance):
    """Row 79, 13.7: with the amplitudes, settings and default deviation of the whole."""
    cells = {"a": STAIRCASE, "b": {0.1: 1, 0.15: 2}}
    how = {"absolute_amplitude": absolute, "default_std_value": 0.5}
    run([target(amplitude, tolerance)], cells, tmp_path, write_files=True, extract_per_cell=True, **how)
    for name, steps in cells.items():
        alone = run([target(amplitude, tolerance)], {name: steps}, **how)
        parts = ("features", "protocols", "holding_threshold_currents")
        assert [json.loads((tmp_path / name / f"{part}.json").read_text()) for part in parts] == list(alone)
        assert alone[0][f"IDRest_{amplitude}"]["soma"][0]["val"][1] == 0.5


# --- files and readers ------------------------------------------------------------------------------


@pytest.fixture
def two_files(tmp_path):
    """A good file of labweave's own format, and one that is cut in the middle."""
    sweeps = [make_sweep(one)[0] | {"name": f"sweep_{i}"} for i, one in enumerate(cell_files())]
    good = write_recordings(tmp_path / "good.h5", sweeps, cell="a", protocol="IDRest")
    bad = tmp_path / "cut.h5"
    bad.write_bytes(good.read_bytes()[:3000])
    return good, bad


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_text_or_path_objects(two_files, kind):
    cells = extract.read_recordings({"a": {"IDRest": [{"filepath": kind(two_files[0])}]}})
    assert [recording.spikecount for recording in cells[0].recordings] == [0, 1, 3, 4]
    assert {name for recording in cells[0].recordings for name in recording.files} == {str(two_files[0])}


@pytest.mark.parametrize("how", [{}, {"low_memory_mode": True}])
def test_an_unreadable_file_is_left_out_and_the_others_go_on(two_files, how):
    """13.33."""
    good, bad = two_files
    files = {"a": {"IDRest": [{"filepath": good}]}, "b": {"IDRest": [{"filepath": bad}, {"filepath": "gone.ibw"}]}}
    with pytest.warns(ephys.ReadingWarning) as caught:
        features, _, currents = extract.extract_efeatures(
            "nowhere", files, [target()], protocols_rheobase=["IDRest"], efel_settings=SETTINGS, **how
        )
    messages = [str(one.message) for one in caught if one.category is ephys.ReadingWarning]
    assert len(messages) == 2 and str(bad) in messages[0] and "gone.ibw" in messages[1]
    assert values(features) == [(3.0, 1)]
    assert currents["all_holding_current"]["b"] is None


def test_no_readable_file_is_an_error(two_files):
    with pytest.raises(ReadError, match="cut.h5"), pytest.warns(ephys.ReadingWarning):
        extract.read_recordings({"a": {"IDRest": [{"filepath": two_files[1]}]}})


def test_an_unknown_protocol_is_an_error_before_reading():
    """Row 38."""
    with pytest.raises(KeyError, match="Foo"):
        extract.read_recordings({"a": {"Foo": cell_files()}}, never)


def test_a_reader_may_give_no_or_several_sweeps():
    """Row 37."""
    files = {"none": {"IDRest": cell_files()}, "three": {"IDRest": cell_files({0.1: 1})}}

    def reader(file_metadata):
        return [] if file_metadata["filepath"].startswith("none") else make_sweep(file_metadata) * 3

    files["none"]["IDRest"] = cell_files(name="none")
    assert [len(cell.recordings) for cell in extract.read_recordings(files, reader)] == [0, 3]
    assert extract.read_recordings({}) == []


# --- how the work is done ---------------------------------------------------------------------------

MANY_CELLS = {name: {0.05: 0, 0.1: 1, 0.15: n, 0.2: n + 1} for n, name in enumerate("abcdefg", start=2)}
SEVERAL = [target(efeature=name) for name in ("Spikecount", "AP1_amp", "mean_AP_amplitude", "current_base")] + [
    target(200, efeature="voltage_base", efel_settings={"Threshold": -30.0})
]


@pytest.mark.parametrize("how", ["threads", "thread futures", "processes", "process futures", "list", "low memory"])
def test_the_same_results_however_the_work_is_done(how):
    expected = run(SEVERAL, MANY_CELLS)
    assert values(expected[0])[0] == (5.0, 7)
    if how == "list":
        assert run(SEVERAL, MANY_CELLS, map_function=lambda work, items: [work(item) for item in items]) == expected
    elif how == "low memory":
        assert run(SEVERAL, MANY_CELLS, low_memory_mode=True) == expected
        with pytest.warns(UserWarning, match="map_function is not used"):
            assert run(SEVERAL, MANY_CELLS, low_memory_mode=True, map_function=never) == expected
    else:
        pool_class = ThreadPoolExecutor if how.startswith("thread") else ProcessPoolExecutor
        with pool_class(2) as pool:
            submit = lambda work, items: [pool.submit(work, item) for item in items]  # noqa: E731
            assert run(SEVERAL, MANY_CELLS, map_function=submit if "futures" in how else pool.map) == expected


def test_step_by_step_in_processes_is_the_same_as_at_once():
    files = {name: {"IDRest": cell_files(steps, name)} for name, steps in MANY_CELLS.items()}
    with ProcessPoolExecutor(2) as pool:
        cells = extract.read_recordings(files, make_sweep, pool.map, SETTINGS)
        extract.extract_efeatures_at_targets(cells, SEVERAL, pool.map, SETTINGS)
    assert len(cells[0].recordings[0].voltage) == 10000
    extract.compute_rheobase(cells, ["IDRest"])
    protocols = extract.group_efeatures(cells, SEVERAL, efel_settings=SETTINGS)
    assert extract.create_feature_protocol_files(cells, protocols, write_files=False) == run(SEVERAL, MANY_CELLS)


@pytest.mark.parametrize("how", ["here", "threads"])
def test_efel_itself_works_as_before(how):
    """Its own calls and settings are the same before and after, with the settings of the user."""
    import efel

    one = sweep(0.2, [300.0, 400.0, 600.0])
    trace = {"T": np.arange(10000) * 0.1, "V": one["voltage"], "stim_start": [200.0], "stim_end": [700.0]}
    names = ["spike_count", "ISIs", "AP_amplitude", "AHP_depth", "voltage_base", "inv_fifth_ISI"]

    def by_efel():
        found = efel.get_feature_values([trace], names, raise_warnings=False)[0]
        return {name: None if value is None else value.tolist() for name, value in found.items()}

    efel.set_setting("Threshold", -25.0)
    efel.set_setting("interp_step", 0.05)
    try:
        before, settings = by_efel(), copy.deepcopy(vars(efel.get_settings()))
        assert before["spike_count"] == [3]
        with ThreadPoolExecutor(2) as pool:
            run(SEVERAL, MANY_CELLS, map_function=map if how == "here" else pool.map)
        assert vars(efel.get_settings()) == settings
        assert by_efel() == before
    finally:
        efel.reset()


MEMORY = """
import sys
from pathlib import Path

import numpy as np
from labweave.ephys import extract

def reader(metadata):
    t = np.arange(100_000) * 0.1
    voltage = -70.0 + 90.0 * (np.abs((t % 1000.0) - 500.0) < 0.5)
    current = np.where((t >= 2000.0) & (t < 8000.0), 0.1, 0.0)
    return [{"voltage": voltage, "current": current, "dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "nA"}]

n_cells = int(sys.argv[1])
one = {"ton": 2000.0, "toff": 8000.0, "amp": 0.1, "hypamp": 0.0}
files = {f"{i}": {"IDRest": [{**one, "filepath": f"{i}_{j}"} for j in range(4)]} for i in range(n_cells)}
target = {"efeature": "Spikecount", "protocol": "IDRest", "amplitude": 100, "tolerance": 10}
features, _, _ = extract.extract_efeatures(
    "nowhere", files, [target], protocols_rheobase=["IDRest"], recording_reader=reader,
    efel_settings={"Threshold": -20.0, "interp_step": 0.1}, low_memory_mode=True,
)
assert features["IDRest_100"]["soma"][0]["n"] == 4 * n_cells
print(*(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_cells():
    """A sweep is 1.6 MB, or 2.4 MB with its times: 144 more would be 230 MB."""
    few, many = (
        int(subprocess.run([sys.executable, "-c", MEMORY, n], check=True, capture_output=True).stdout) / 1024
        for n in ("4", "40")
    )
    assert many < few + 40


@pytest.mark.parametrize("name", ["..", "../elsewhere", "a/b"])
def test_files_of_a_cell_stay_below_the_output_directory(name, tmp_path):
    output = tmp_path / "output"
    with pytest.raises(ValueError, match="name of a folder"):
        extract.extract_efeatures_per_cell({name: {}}, [extract.Cell(name)], output, [], "mean", 1, True)
    assert list(tmp_path.iterdir()) == []

"""Automatic targets: what is chosen from which recordings, and the presets."""

from types import SimpleNamespace

import efel
import pytest
from shared_results import load, needs_shared

from labweave import ephys
from labweave.ephys.auto_targets import (
    AutoTarget,
    auto_targets_from_presets,
    choose_auto_targets,
    default_auto_targets,
)
from labweave.errors import ConfigError


def cell(**amplitudes):
    """Make a cell with recordings at % of rheobase by protocol."""
    return SimpleNamespace(
        recordings=[
            SimpleNamespace(protocol_name=protocol, amp_rel=amp_rel)
            for protocol, values in amplitudes.items()
            for amp_rel in values
        ]
    )


def places(targets):
    return list(dict.fromkeys((target["protocol"], target["amplitude"]) for target in targets))


def test_the_first_protocols_and_amplitudes_with_enough_recordings_are_used():
    wish = AutoTarget(["Step", "IDrest"], [200, 150, 100], ["AP1_amp", "Spikecount"], 2, 2, 10.0)
    cells = [cell(Step=[151.0], IDrest=[195.0, 99.0]), cell(Step=[190.0, 149.0], IDrest=[205.0, 91.0, None])]
    assert choose_auto_targets(cells, [wish]) == [
        {"efeature": name, "protocol": protocol, "amplitude": amplitude, "tolerance": 10.0, "efel_settings": {}}
        for protocol, amplitude in (("Step", 150), ("IDrest", 200))
        for name in ("AP1_amp", "Spikecount")
    ]
    assert wish.is_valid() and wish.active_ecode == ["Step", "IDrest"] and wish.active_amplitudes == [150, 200]


def test_the_tolerance_is_strict_and_names_are_exact():
    wish = AutoTarget(["IDrest"], [200], ["Spikecount"], 1)
    for recordings in (cell(IDrest=[190.0, 210.0]), cell(IDRest=[200.0]), cell(IDrest=[float("nan"), None])):
        wish.select_ecode_and_amplitude(recordings.recordings)
        assert not wish.is_valid() and wish.generate_targets() == []


def test_ten_recordings_and_one_place_are_wanted_without_other_words():
    wish = AutoTarget(["IDrest"], [200, 150], ["Spikecount"])
    assert places(choose_auto_targets([cell(IDrest=[200.0] * 10 + [150.0] * 10)], [wish])) == [("IDrest", 200)]
    assert places(choose_auto_targets([cell(IDrest=[200.0] * 9 + [150.0] * 10)], [wish])) == [("IDrest", 150)]


def test_used_again_an_earlier_choice_is_forgotten():
    wish = AutoTarget(["IDrest"], [200, 150], ["Spikecount"], 1, 2)
    assert places(choose_auto_targets([cell(IDrest=[150.0])], [wish])) == [("IDrest", 150)]
    assert places(choose_auto_targets([cell(IDrest=[200.0])], [wish])) == [("IDrest", 200)]
    with pytest.warns(ephys.FeatureWarning, match="0 of 1 recordings"):
        assert choose_auto_targets([cell(IDrest=[None])], [wish]) == []
    assert not wish.is_valid()


def test_presets_share_their_places_and_ask_for_features_that_efel_has():
    one = cell(IDrest=[95.0, 150.0, 210.0, 290.0], APWaveform=[330.0], IV=[-104.0])
    targets = choose_auto_targets([one], default_auto_targets())
    assert places(targets) == [("IDrest", 200), ("IDrest", 150), ("APWaveform", 350), ("IV", -100)]
    assert len(targets) == 2 * 19 + 10 + 11
    assert {target["efeature"] for target in targets} <= set(efel.get_feature_names())
    assert {(target["protocol"], target["tolerance"]) for target in targets} == {
        ("IDrest", 25.0), ("APWaveform", 25.0), ("IV", 10.0),
    }  # fmt: skip


def test_presets_by_name():
    (wish,) = auto_targets_from_presets(["iv"])
    assert (wish.protocols, wish.amplitudes) == (("IV", "Step"), (-50, -100))
    assert auto_targets_from_presets("iv") == [wish]
    wish.select_ecode_and_amplitude(cell(IV=[-50.0]).recordings)
    assert not auto_targets_from_presets(["iv"])[0].is_valid(), "each call gives new ones"
    with pytest.raises(ConfigError, match="subthreshold.*firing_pattern, ap_waveform, iv"):
        auto_targets_from_presets(["subthreshold"])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"min_recordings_per_amplitude": 0}, "min_recordings_per_amplitude.*1 or more"),
        ({"preferred_number_protocols": 0}, "preferred_number_protocols"),
        ({"tolerance": 0}, "tolerance.*above 0"),
        ({"protocols": "IDrest"}, "protocols.*'IDrest'.*list"),
    ],
)
def test_what_could_never_choose_is_refused(changed, says):
    with pytest.raises(ConfigError, match=says):
        AutoTarget(**{"protocols": ["IDrest"], "amplitudes": [200], "efeatures": ["Spikecount"], **changed})


@needs_shared
@pytest.mark.parametrize("name", ["auto_targets_default", "auto_targets_flush4"])
def test_real_cells_get_the_stimuli_that_bluepyefe_chose(name):
    """From the amplitudes that BluePyEfe read."""
    cells = []
    for cell_name, rows in load("expected_recordings")[name].items():
        found = load("expected_rheobase")[name][cell_name]
        sweeps = [(row["protocol"], 100.0 * float(row["params"]["amp"]) / found) for row in rows]
        recordings = [SimpleNamespace(protocol_name=protocol, amp_rel=amp_rel) for protocol, amp_rel in sweeps]
        cells.append(SimpleNamespace(recordings=recordings))
    targets = choose_auto_targets(cells, default_auto_targets())
    expected = load("expected_features")[name]
    assert [f"{protocol}_{amplitude}" for protocol, amplitude in places(targets)] == list(expected)
    for stimulus, somas in expected.items():
        asked = [t["efeature"] for t in targets if f"{t['protocol']}_{t['amplitude']}" == stimulus]
        found = [entry["feature"] for entry in somas["soma"]]
        assert found == [efeature for efeature in asked if efeature in found], "some have no value"

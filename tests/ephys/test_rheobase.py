"""Rheobase strategies against values worked out by hand, BluePyEfe's, and real cells."""

import math
import warnings

import numpy as np
import pytest
from shared_results import load, needs_shared

from labweave import ephys
from labweave.ephys.rheobase import UnknownSetting, validate_settings
from labweave.errors import ConfigError

STEPS = (0.05, 0.10, 0.15, 0.20, 0.25)
MIXED = (-0.1, 0.0, 0.05, 0.1, 0.1, 0.15, 0.2, 0.25)


def rheobase(amps, counts, strategy="absolute", compat=None, **settings):
    """Return the current alone; no rheobase and a low one warn, which other tests check."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ephys.RheobaseWarning)
        return ephys.find_rheobase(amps, counts, strategy, settings, compat=compat).rheobase


@pytest.mark.parametrize(
    ("counts", "strategy", "settings", "expected"),
    [
        ((0, 0, 1, 3, 5), "absolute", {}, 0.15),
        ((1, 2, 3, 4, 4), "absolute", {"spike_threshold": 3}, 0.15),
        ((0, 0, 0, 0, 0), "absolute", {}, None),
        ((0, 0, 1, 3, 5), "flush", {}, 0.15),
        ((1, 0, 2, 3, 4), "flush", {}, 0.15),  # the first spike is alone
        ((1, 2, 0, 3, 4), "flush", {}, 0.05),
        ((1, 2, 0, 3, 4), "flush", {"flush_length": 2}, None),  # 0.2 has only one recording after it
        ((1, 2, 3, 0, 4), "flush", {"flush_length": 2}, 0.05),
        ((0, 0, 0, 0, 2), "flush", {}, None),  # nothing follows
        ((0, 0, 0, 5, 7), "flush", {"upper_bound_spikecount": 4}, None),
        ((0, 0, 0, 4, 7), "flush", {"upper_bound_spikecount": 4}, 0.20),
        ((1, 0, 6, 2, 2), "flush", {"upper_bound_spikecount": 5}, None),  # ends at 6, before 0.2
        ((0, 0, 1, 3, 5), "majority", {}, 0.155),
        ((0, 0, 0, 0, 2), "majority", {}, 0.255),  # the last bin counts
        ((0, 0, 0, 0, 0), "majority", {}, None),
        ((0, 1, 0, 1, 1), "majority", {"min_step": 0.1}, 0.1),  # [0.05, 0.15): 1 of 2
        ((0, 1, 0, 1, 1), "majority", {"min_step": 0.1, "majority": 0.6}, 0.3),  # 1 of 2, 1 of 2, 1 of 1
        ((0, 0, 1, 1, 1), "majority", {"min_step": 1.0, "majority": 0.6}, 0.55),  # one bin for all: 3 of 5
        ((0, 0, 0, 0, 0), "interpolation", {}, None),
        ((1, 2, 3, 4, 5), "interpolation", {}, None),  # silence is not known
        ((0, 0, 1, 2, 3), "interpolation", {}, 0.15),  # a straight line through 0.10, 0.15, ...
        ((0, 2, 4, 6, 8), "interpolation", {}, 0.075),  # 1 spike is between two steps
    ],
)
def test_a_strategy_finds_what_its_rule_says(counts, strategy, settings, expected):
    order = [3, 0, 4, 1, 2]  # the order of recordings does not matter
    found = rheobase([STEPS[i] for i in order], [counts[i] for i in order], strategy, **settings)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_interpolation_is_least_squares_over_all_recordings_from_the_last_silent_one_on():
    """Counts 0, 1, 3, 5 at 0.10 to 0.25: mean count 2.25, mean amplitude 0.175, slope 0.425 / 14.75."""
    expected = 0.175 + 0.425 / 14.75 * (1 - 2.25)
    assert rheobase(STEPS, (0, 0, 1, 3, 5), "interpolation") == pytest.approx(expected, rel=1e-12)


def test_a_fit_below_zero_is_no_rheobase():
    """Mean count 2.6, mean amplitude 0.22, slope 1.41 / 9.2: -0.025 at one spike."""
    with pytest.warns(ephys.RheobaseWarning, match="-0.02522 nA for one spike"):
        result = ephys.find_rheobase([0.01, 0.02, 0.03, 0.04, 1.0], [0, 3, 3, 3, 4], "interpolation")
    assert result.rheobase is None


@pytest.mark.parametrize("strategy", ephys.STRATEGIES)
def test_without_recordings_or_spikes_there_is_none_with_a_warning(strategy):
    for amps, counts in (([], []), ([0.1, 0.2], [0, 0]), ([0.1], [None]), ([math.nan], [2]), ([-0.1, 0.0], [1, 1])):
        with pytest.warns(ephys.RheobaseWarning, match=rf"No rheobase \({strategy}\)"):
            assert ephys.find_rheobase(amps, counts, strategy).rheobase is None


@pytest.mark.parametrize(
    ("strategy", "expected"), [("absolute", 0.1), ("flush", 0.1), ("majority", 0.105), ("interpolation", None)]
)
def test_only_positive_currents_count(strategy, expected):
    """Spikes at -0.1 and 0 nA are rebound and spontaneous ones."""
    found = rheobase([-0.1, 0.0, 0.1, 0.2, 0.3], [2, 1, 2, 3, 4], strategy)
    assert found == (None if expected is None else pytest.approx(expected))


def test_majority_puts_an_amplitude_at_a_bin_edge_into_the_bin_that_begins_there():
    """0.05 + 10 * 0.01 is more than 0.15 in floating point; the sweep at 0.15 belongs to [0.15, 0.16) all the same."""
    for first in (1, 3, 7, 12):
        amps = np.arange(first, first + 40) * 0.01
        for step in range(40):
            found = rheobase(amps, np.arange(40) >= step, "majority")
            assert found == pytest.approx(0.01 * (first + step) + 0.005, rel=1e-9)


# Recorded from bluepyefe 2.3.63: silent sweeps with a spikecount of None, as eFEL 5.4 and later make it.
AS_BLUEPYEFE = [
    ((0, 0, 0, 0, 1, 0, 3, 5), "absolute", {}, 0.1),
    ((2, 0, 0, 0, 1, 0, 3, 5), "absolute", {}, -0.1),
    ((0, 1, 0, 0, 1, 0, 3, 5), "absolute", {}, None),  # 0 nA
    ((0, 0, 1, 0, 0, 0, 2, 3), "flush", {}, 0.05),  # the gap is not seen
    ((0, 0, 1, 0, 0, 0, 2, 3), "flush", {"flush_length": 2}, 0.05),
    ((0, 0, 1, 0, 0, 0, 2, 3), "flush", {"flush_length": 3}, None),
    ((0, 0, 0, 0, 0, 0, 5, 7), "flush", {"upper_bound_spikecount": 4}, None),
    ((0, 0, 0, 0, 0, 1, 3, 5), "majority", {}, 0.165),
    ((0, 0, 0, 0, 0, 1, 3, 5), "majority", {"min_step": 0.02, "majority": 1.0}, 0.18),
    ((0, 0, 0, 0, 0, 0, 0, 5), "majority", {}, None),
    ((0, 0, 0, 0, 1, 0, 3, 5), "interpolation", {}, None),
]


@pytest.mark.parametrize(("counts", "strategy", "settings", "expected"), AS_BLUEPYEFE)
@pytest.mark.parametrize("silent", [0, None])
def test_compat_finds_what_bluepyefe_does(counts, strategy, settings, expected, silent):
    found = rheobase(MIXED, [count or silent for count in counts], strategy, "bluepyefe", **settings)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_compat_majority_without_spikes_is_none_and_not_an_error():
    with pytest.warns(ephys.RheobaseWarning, match="no recording with a spike"):
        assert ephys.find_rheobase(STEPS, [0] * 5, "majority", compat="bluepyefe").rheobase is None


@pytest.mark.parametrize(
    ("strategy", "settings", "error", "says"),
    [
        ("absolute", {"flush_length": 1}, TypeError, "absolute.*flush_length.*spike_threshold"),
        ("interpolation", {"min_step": 0.1}, UnknownSetting, "interpolation.*no settings"),
        ("majority", {"spike_threshold": 1}, ConfigError, "majority.*min_step, majority"),
        ("absolute", {"spike_threshold": 0}, ConfigError, "spike_threshold.*0.*1 or more"),
        ("absolute", {"spike_threshold": 1.5}, ConfigError, "whole number"),
        ("flush", {"flush_length": 0}, ConfigError, "flush_length"),
        ("flush", {"flush_length": True}, ConfigError, "flush_length"),
        ("flush", {"upper_bound_spikecount": "4"}, ConfigError, "upper_bound_spikecount.*'4'"),
        ("majority", {"min_step": 0}, ConfigError, "min_step.*above 0, in nA"),
        ("majority", {"min_step": math.nan}, ConfigError, "min_step"),
        ("majority", {"min_step": math.inf}, ConfigError, "min_step"),
        ("majority", {"majority": 1.01}, ConfigError, "majority.*up to 1"),
        ("majority", {"majority": 0}, ConfigError, "majority"),
        ("foo", {}, ConfigError, "foo.*absolute, flush, majority, interpolation"),
    ],
)
def test_what_can_not_be_used_is_refused_by_name(strategy, settings, error, says):
    with pytest.raises(error, match=says):
        ephys.find_rheobase([0.1], [1], strategy, settings)
    with pytest.raises(error, match=says):
        validate_settings(strategy, settings)


def test_an_unknown_compat_is_refused():
    with pytest.raises(ConfigError, match="elephant.*bluepyefe"):
        ephys.find_rheobase([0.1], [1], compat="elephant")


def real_sweeps(run, cell, protocols=None):
    """Return amplitudes (nA) and spike counts of a cell, as BluePyEfe read them."""
    rows = [row for row in load("expected_recordings")[run][cell] if protocols is None or row["protocol"] in protocols]
    return [float(row["params"]["amp"]) for row in rows], [row["spikecount"] for row in rows]


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "default_relative", "rheobase_spike_threshold", "rheobase_flush", "rheobase_flush_upper4", "rheobase_majority",
        "rheobase_interpolation", "auto_targets_flush4", "no_rheobase",
    ],
)  # fmt: skip
def test_real_cells_have_the_rheobases_that_bluepyefe_found(name):
    kwargs = next(combo for combo in load("combos")["combos"] if combo["name"] == name)["kwargs"]
    strategy, settings = kwargs.get("rheobase_strategy", "absolute"), kwargs.get("rheobase_settings", {})
    for cell, expected in load("expected_rheobase")[name].items():
        amps, counts = real_sweeps(name, cell, kwargs["protocols_rheobase"])
        found = rheobase(amps, counts, strategy, "bluepyefe", **settings)
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-9))


@needs_shared
def test_majority_of_real_sweeps_without_spikes_is_none():
    """BluePyEfe ends with an error there (run error_majority_no_spikes)."""
    amps, counts = real_sweeps("no_rheobase", "C060109A1-SR-C1", ["IV"])
    assert len(amps) > 10 and set(counts) == {None}
    assert rheobase(amps, counts, "majority", "bluepyefe") is None
    assert rheobase(amps, [0] * len(amps), "majority") is None


@needs_shared
def test_the_majority_bin_of_a_real_cell_holds_its_first_spiking_sweep():
    """B6: bins of 0.02 nA from the lowest sweep, which is at 0.1187 nA and spikes; BluePyEfe is one bin higher."""
    amps, counts = real_sweeps("rheobase_majority", "B6", ["IDRest"])
    assert min(amps) == min(a for a, n in zip(amps, counts, strict=True) if n) == pytest.approx(0.1187, abs=1e-4)
    assert rheobase(amps, counts, "majority", min_step=0.02) == pytest.approx(0.12874420754611492, rel=1e-9)
    assert rheobase(amps, counts, "majority", "bluepyefe", min_step=0.02) == pytest.approx(
        0.14874420754611492, rel=1e-9
    )

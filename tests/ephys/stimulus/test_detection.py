"""Detection of stimuli in clean, noisy and empty sweeps, and what compat="bluepyefe" changes."""

from __future__ import annotations

import json
import warnings
from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import median_filter
from synthetic import sweep

from labweave.ephys import Recording, StimulusError, StimulusWarning, find_rheobase, read_recordings_of_file
from labweave.ephys.stimulus.detection import find_away
from labweave.ephys.stimulus.levels import fit_levels
from labweave.ephys.stimulus.sweep import Sweep
from labweave.errors import ConfigError

FILE = {"filepath": "cell/sweep_1.h5"}
COMPAT = {"compat": "bluepyefe"}


def amplifier_noise(n_samples, seed=0):
    """Noise like that of the amplifiers that defeat a threshold: a tone near half the sampling rate, drifting."""
    rng = np.random.default_rng(seed)
    frequency = 0.47 + 0.01 * np.sin(np.arange(n_samples) / 3000.0)  # cycles per sample
    tone = 0.12 * np.sin(2.0 * np.pi * np.cumsum(frequency) + rng.uniform(0.0, 6.0))
    return tone + rng.normal(0.0, 0.02, n_samples)


def record(metadata=None, protocol="IDrest", noise=None, data=None, **kwargs):
    data = dict(data or sweep(**kwargs))
    if noise is not None:
        data["current"] = data["current"] + noise
    return Recording(protocol, {**FILE, **(metadata or {})}, data)


def without_warning(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return record(*args, **kwargs)


# --- BluePyEfe's rule -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"amp": 0.0}, (2.0, 997.9, 0.0, -0.05)),
        ({"toff": 203.0}, (2.0, 997.9, 0.0, -0.05)),
        ({"ton": 1.0}, (2.0, 997.9, 0.0, 0.15)),
    ],
    ids=["constant current", "step of 3 ms", "starts within 2 ms"],
)
def test_compat_gives_the_numbers_of_bluepyefe_and_flags_them(kwargs, found):
    """Rows 25, 27, 28: all but 2 ms at both ends, with a warning that BluePyEfe does not give."""
    with pytest.warns(StimulusWarning, match="not detected"):
        one = record(COMPAT, **kwargs)
    assert (one.ton, one.toff, one.amp, one.hypamp) == pytest.approx(found)
    assert one.timing == "not detected"


def test_compat_does_not_see_a_step_in_noise():
    """Row 26."""
    with pytest.warns(StimulusWarning, match="not detected"):
        one = record(COMPAT, amp=0.01, noise=np.random.default_rng(1).normal(0.0, 0.01, 10000))
    assert (one.ton, one.toff) == pytest.approx((2.0, 997.9))


def test_an_unknown_compat_is_refused():
    with pytest.raises(ConfigError, match="'bluepyefe1'"):
        record({"compat": "bluepyefe1"})


@pytest.mark.parametrize("amp", [-0.3, -0.05, -0.02, 0.02, 0.1, 0.6])
@pytest.mark.parametrize("protocol", ["IDrest", "sAHP"])
def test_clean_steps_are_the_same_to_the_last_digit(protocol, amp):
    data = sweep(amp=amp, ton=200.0, toff=1700.0, tend=2000.0)
    if protocol == "sAHP":
        data["current"][5000:7000] += 2.0 * amp
    data["current"] = (data["current"] + np.random.default_rng(3).normal(0.0, 0.002, 20000)).astype(np.float32)
    ours, reference = (without_warning(metadata, protocol, data=data) for metadata in ({}, COMPAT))
    assert ours.get_params() == reference.get_params()
    assert ours.timing == reference.timing == "detected"


def test_the_filtered_current_is_not_needed_to_find_where_it_is_away():
    """Against a running median by scipy, at every edge case of short sweeps and equal values."""
    rng = np.random.default_rng(0)
    n_found = 0
    for case in range(300):
        n_samples = int(rng.integers(100, 900))
        current = rng.normal(0.0, 1.0, n_samples)
        start, stop = sorted(rng.integers(0, n_samples, 2))
        current[start:stop] += rng.choice([-2.0, 2.0])
        current = np.round(current) if case % 3 == 0 else current.astype(np.float32)
        first, last = int(rng.integers(0, 50)), n_samples - 1 - int(rng.integers(0, 50))
        filtered = median_filter(current.astype(np.float64), 85)
        away = np.flatnonzero(np.abs(filtered[first : last + 1] - 0.5) > 1.0) + first
        found = find_away(Sweep(np.arange(n_samples) * 0.1, current), 0.5, 1.0, first, last)
        assert (found is None) == (len(away) == 0)
        if found:
            n_found += 1
            assert (found.start, found.stop) == (away[0], away[-1])
    assert n_found > 100


# --- the fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_changes", [1, 2, 3])
def test_the_fit_is_the_best_of_all(n_changes):
    """Against every possible set of changes."""
    rng = np.random.default_rng(n_changes)
    for _ in range(5):
        samples = np.repeat(rng.normal(0.0, 1.0, n_changes + 1), 8) + rng.normal(0.0, 0.3, 8 * (n_changes + 1))

        def error(changes, samples=samples):
            return sum(np.sum((part - part.mean()) ** 2) for part in np.split(samples, changes))

        best = min(combinations(range(1, len(samples)), n_changes), key=error)
        assert error(fit_levels(samples, n_changes, 1, 1).changes) == pytest.approx(error(best))


def test_a_step_from_2_ms_on_is_detected_in_the_noise():
    """13.12: the holding current is that before the step, and not of the first 300 samples."""
    for seed, amp in enumerate((-0.3, -0.1, -0.03, 0.03, 0.1, 0.3)):
        one = without_warning(amp=amp, ton=12.0, toff=712.0, noise=amplifier_noise(10000, seed))
        assert (one.ton, one.toff) == pytest.approx((12.0, 711.9), abs=1.0)
        assert (one.amp, one.hypamp) == pytest.approx((amp, -0.05), abs=0.02)
        assert one.timing == "detected"


def test_what_bluepyefe_misses_is_detected():
    """Rows 26 and 27."""
    noisy = without_warning(amp=0.01, noise=np.random.default_rng(1).normal(0.0, 0.01, 10000))
    assert (noisy.ton, noisy.toff) == pytest.approx((200.0, 699.9), abs=1.0)
    assert (noisy.amp, noisy.hypamp) == pytest.approx((0.01, -0.05), abs=1.5e-3)
    short = without_warning(toff=203.0)
    assert (short.ton, short.toff, short.amp, short.timing) == pytest.approx((200.0, 202.9, 0.2, "detected"))


@pytest.mark.parametrize("kwargs", [{"amp": 0.0}, {"ton": 1.0}], ids=["constant current", "starts within 2 ms"])
def test_what_can_not_be_known_is_flagged(kwargs):
    """Rows 25 and 28."""
    with pytest.warns(StimulusWarning, match="not detected"):
        one = record(**kwargs)
    assert (one.timing, one.ton, one.toff) == pytest.approx(("not detected", 2.0, 997.9))
    assert one.amp == pytest.approx(0.0)


@pytest.mark.parametrize("kind", ["white", "tone", "hum", "drift", "ramp", "two steps", "never back"])
def test_no_step_is_made_up(kind):
    rng = np.random.default_rng(7)
    t = np.arange(10000) * 0.1
    for _ in range(10):
        noise = {
            "white": rng.normal(0.0, 0.1, 10000),
            "tone": amplifier_noise(10000, rng.integers(1000)),
            "hum": 0.1 * np.sin(0.1 * np.pi * t + rng.uniform(0.0, 6.0)) + rng.normal(0.0, 0.02, 10000),
            "drift": np.cumsum(rng.normal(0.0, 0.002, 10000)) + rng.normal(0.0, 0.02, 10000),
            "ramp": 0.0005 * t + rng.normal(0.0, 0.02, 10000),
            "two steps": 0.2 * ((t > 100) & (t < 300) | (t > 500) & (t < 700)) + rng.normal(0.0, 0.1, 10000),
            "never back": 0.2 * (t > 400) + rng.normal(0.0, 0.1, 10000),
        }[kind]
        with pytest.warns(StimulusWarning, match="not detected"):
            assert record(amp=0.0, noise=noise).timing == "not detected"


def test_a_given_time_wins_and_the_other_is_detected():
    noise = amplifier_noise(10000)
    by_ton = without_warning({"ton": 190}, amp=0.05, noise=noise)
    by_toff = without_warning({"toff": 650}, amp=0.05, noise=noise)
    assert (by_ton.ton, by_ton.toff) == pytest.approx((190.0, 699.9), abs=1.0)
    assert (by_toff.ton, by_toff.toff) == pytest.approx((200.0, 650.0), abs=1.0)
    amplitude = without_warning({"amp": 0.07, "hypamp": -0.04}, amp=0.05, noise=noise)
    assert (amplitude.amp, amplitude.hypamp) == pytest.approx((0.07, -0.04))


def test_times_that_hum_can_move_get_a_warning():
    hum = 0.05 * np.sin(0.1 * np.pi * np.arange(10000) * 0.1) + np.random.default_rng(0).normal(0.0, 0.01, 10000)
    with pytest.warns(StimulusWarning, match="moved the detected times by more than 5 ms"):
        one = record(amp=0.08, noise=hum)
    assert one.timing == "detected"
    assert (one.ton, one.toff) == pytest.approx((200.0, 699.9), abs=15.0)


def test_a_test_pulse_is_left_out_and_mentioned():
    data = sweep(ton=400.0, toff=900.0)
    data["current"][500:600] -= 0.1
    with pytest.warns(StimulusWarning, match="also changes outside"):
        one = record(data=data)
    assert (one.ton, one.toff, one.amp, one.hypamp) == pytest.approx((400.0, 899.9, 0.2, -0.05))


# --- other families ---------------------------------------------------------------------------------


def step_on_a_step(long=0.1, short=0.3, ton=50.0):
    data = sweep(amp=long, ton=ton, toff=1200.0, tend=1300.0)
    data["current"][5000:6000] += short - long
    return data


@pytest.mark.parametrize(("long", "short"), [(0.1, 0.3), (-0.1, 0.3), (0.1, -0.2)])
@pytest.mark.parametrize("metadata", [{}, {"ton": 10.0}])
def test_a_step_on_a_step_is_detected_in_the_noise(long, short, metadata):
    data = step_on_a_step(long, short, ton=10.0)
    one = without_warning(metadata, "sAHP", data=data, noise=amplifier_noise(13000))
    found = (one.ton, one.tmid, one.tmid2, one.toff)
    assert found == pytest.approx((10.0, 500.0, 599.9, 1199.9), abs=1.0)
    assert (one.amp, one.amp2, one.hypamp, one.timing) == pytest.approx((long, short, -0.05, "detected"), abs=0.02)


def test_given_times_of_a_step_on_a_step_win():
    """BluePyEfe ignores tmid, tmid2 and toff unless all are given."""
    one = without_warning({"tmid": 510}, "sAHP", data=step_on_a_step())
    assert (one.ton, one.tmid, one.tmid2, one.toff) == pytest.approx((50.0, 510.0, 599.9, 1199.9))
    assert record({"tmid": 510, **COMPAT}, "sAHP", data=step_on_a_step()).tmid == pytest.approx(500.0)


def test_a_single_step_is_no_step_on_a_step():
    with pytest.warns(StimulusWarning, match="short step"):
        assert record(protocol="sAHP", noise=amplifier_noise(10000)).timing == "not detected"
    with pytest.raises(StimulusError, match="long step"):
        record(protocol="sAHP", toff=208.0)


@pytest.mark.parametrize("amp", [-0.5, 0.5])
def test_the_end_of_a_ramp_is_where_the_current_jumps(amp):
    data = sweep(amp=0.0)
    data["current"][2000:7000] += np.linspace(0.0, amp, 5000)
    one = without_warning({"ton": 200}, "Ramp", data=data, noise=amplifier_noise(10000))
    assert (one.toff, one.timing) == pytest.approx((700.0, "detected"), abs=5.0)
    assert one.amp == pytest.approx(amp, abs=0.06)


def test_a_ramp_without_an_end_is_flagged():
    data = sweep(amp=0.0)
    data["current"][2000:] += np.linspace(0.0, 0.5, 8000)
    with pytest.warns(StimulusWarning, match="end of the ramp"):
        assert record({"ton": 200}, "Ramp", data=data).timing == "not detected"


@pytest.mark.parametrize("protocol", ["PinkNoise", "CapCheck"])
def test_irregular_stimuli_are_found_in_noise(protocol):
    data = sweep(amp=0.0)
    data["current"][2000:7000] += 0.3 * np.tile(np.r_[np.full(200, 0.5), np.full(300, -1.0)], 10)
    noise = np.random.default_rng(0).normal(0.0, 0.01, 10000)
    one = without_warning({}, protocol, data=data, noise=noise)
    assert (one.ton, one.toff, one.timing) == pytest.approx((200.0, 700.0, "detected"), abs=2.0)
    with pytest.warns(StimulusWarning, match="not detected"):
        assert record({}, protocol, amp=0.0, noise=noise).timing == "not detected"


def test_hum_is_no_pulse():
    with pytest.warns(StimulusWarning, match="no pulse"):
        one = record(protocol="SpikeRec", amp=0.0, noise=0.1 * np.sin(0.1 * np.pi * np.arange(10000) * 0.1))
    assert (one.timing, len(one.tspike)) == ("not detected", 0)


# --- real recordings --------------------------------------------------------------------------------

STEP_MS = {"IDrest": (700.5, 2700.5), "IDthresh": (700.5, 2700.5), "IV": (20.5, 1020.5), "APWaveform": (5.0, 55.0)}


def real_recordings(shared, cell, protocol, metadata):
    folder = shared / "data/ephys"
    files = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))["files_metadata"][cell][protocol]
    for file in files:
        timings = ("ton", "tmid", "tmid2", "toff")
        known = {key: value for key, value in file.items() if key not in timings}
        paths = {key: str(folder / file[key]) for key in ("i_file", "v_file")}
        yield from read_recordings_of_file(protocol, {**known, **paths, **metadata})


@pytest.mark.parametrize(
    ("protocol", "n_detected", "n_by_bluepyefe"),
    [("IDrest", 32, 24), ("IDthresh", 18, 1), ("IV", 27, 0), ("APWaveform", 24, 24)],
)
@pytest.mark.filterwarnings("ignore::labweave.ephys.StimulusWarning")
def test_real_steps_in_noise(shared, protocol, n_detected, n_by_bluepyefe):
    """True times: where the averages over the sweeps of a protocol change. Three IV sweeps have no step."""
    found = list(real_recordings(shared, "C060109A1-SR-C1", protocol, {}))
    detected = [one for one in found if one.timing == "detected"]
    assert len(detected) == n_detected
    for one in detected:
        assert (one.ton, one.toff) == pytest.approx(STEP_MS[protocol], abs=1.5), one.name
    for one in found:
        if one not in detected:
            assert abs(one.amp) < 0.006, one.name
    by_bluepyefe = list(real_recordings(shared, "C060109A1-SR-C1", protocol, COMPAT))
    assert sum(one.timing == "detected" for one in by_bluepyefe) == n_by_bluepyefe


@pytest.mark.filterwarnings("ignore::labweave.ephys.StimulusWarning")
def test_real_steps_of_an_iv_curve_are_equally_spaced(shared):
    """Ten amplitudes 36.8 pA apart, three times over; -24 pA holding."""
    found = [one.amp for one in real_recordings(shared, "C060109A1-SR-C1", "IV", {})]
    expected = np.tile((np.arange(10) - 6) * 0.0368, 3)
    np.testing.assert_allclose(found, expected, atol=0.015)


def test_real_steps_on_a_step(shared):
    for one in real_recordings(shared, "C060109A1-SR-C1", "IDhyperpol", {}):
        found = (one.ton, one.tmid, one.tmid2, one.toff)
        assert found == pytest.approx((100.5, 700.5, 2700.5, 2900.5), abs=1.0)
        assert one.amp == pytest.approx(-0.129, abs=0.01)


def test_real_ramps_end_where_the_current_falls(shared):
    """2002.3 ms, where their average does."""
    for one in real_recordings(shared, "C060109A1-SR-C1", "APThreshold", {"ton": 10.0}):
        assert (one.toff, one.timing) == pytest.approx((2002.3, "detected"), abs=0.5)


@pytest.mark.parametrize(("metadata", "rheobase"), [({}, 0.179), (COMPAT, 0.110)])
@pytest.mark.filterwarnings("ignore::labweave.ephys.StimulusWarning")
def test_the_rheobase_of_a_noisy_cell(shared, metadata, rheobase):
    """13.13: 0.179 nA by the true window."""
    found = list(real_recordings(shared, "C060109A1-SR-C1", "IDthresh", metadata))
    result = find_rheobase([one.amp for one in found], [one.spikecount for one in found])
    assert result.rheobase == pytest.approx(rheobase, abs=5e-4)

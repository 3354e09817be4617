"""Stimuli rebuilt from their parameters, against BluePyEfe 2.3.63 and against what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from labweave.ephys.stimulus.ecodes import FAMILIES, find_ecode
from labweave.ephys.stimulus.sweep import Sweep

HOLD = {"tend": 1000.0, "hypamp": -0.05, "dt": 0.1}
TWO_STEPS = {**HOLD, "tend": 1200.0, "ton": 200.0, "tmid": 500.0, "toff": 700.0, "amp": -0.2, "amp2": 0.1}
TRIANGLES = {**HOLD, "ton": 100.0, "t1": 300.0, "t2": 400.0, "t3": 600.0, "t4": 700.0, "toff": 900.0}
CHIRP = {f"chirp_frequency_{key}": value for key, value in (("base", 1.0), ("scale", 1.0), ("denominator", 5.15))}
SHAPE = np.tile(np.r_[np.full(200, 0.5), np.full(300, -1.0)], 10)

# family, parameters, samples of the current, its sum and sum of squares: what generate() of BluePyEfe gives
REFERENCE = [
    (
        "Step",
        {**HOLD, "ton": 200.0, "toff": 699.9, "amp": 0.2},
        {1999: -0.05, 2000: 0.15, 6998: 0.15, 6999: -0.05},
        499.8,
        124.98,
    ),
    (
        "Ramp",
        {**HOLD, "ton": 200.0, "toff": 700.0, "amp": 0.4995499099819964},
        {2000: -0.05, 2001: -0.04990007, 6997: 0.44935005, 6999: 0.44954991, 7000: -0.05},
        748.8747749549909,
        316.07097678163035,
    ),
    (
        "HyperDePol",
        TWO_STEPS,
        {1999: -0.05, 2000: -0.25, 5000: 0.05, 6999: 0.05, 7000: -0.05},
        -1000.0,
        210.0,
    ),
    ("DeHyperPol", TWO_STEPS, {2000: -0.25, 5000: 0.05, 7000: -0.05}, -1000.0, 210.0),
    (
        "PosCheops",
        {**TRIANGLES, "amp": 0.2937},
        {1000: -0.05, 1001: -0.049706, 1999: 0.2437, 2000: 0.2437, 2001: 0.243406, 2999: -0.05, 8999: -0.05},
        381.1,
        109.49572603603602,
    ),
    (
        "NegCheops",
        {**TRIANGLES, "amp": -0.2937},
        {1001: -0.050294, 1999: -0.3437, 4999: -0.3437, 7999: -0.3437, 9000: -0.05},
        -1381.1,
        285.71572603603613,
    ),
    (
        "SineSpec",
        {**HOLD, "ton": 100.0, "toff": 900.0, "amp": 0.19997381435148848, "chirp_time_offset": 0.1, **CHIRP},
        {1000: -0.05, 1001: -0.04984995, 5001: -0.03034706, 8999: -0.07034369, 9000: -0.05},
        -482.09772919132,
        185.69937542301147,
    ),
    (
        "PinkNoise",
        {**HOLD, "ton": 200.0, "toff": 700.0, "amp": 0.3, "waveform": SHAPE},
        {1999: -0.05, 2000: 0.1, 2200: -0.35, 6999: -0.35, 7000: -0.05},
        -1100.0,
        400.0,
    ),
]


@pytest.mark.parametrize(("family", "params", "samples", "total", "squares"), REFERENCE, ids=[r[0] for r in REFERENCE])
def test_generated_stimuli_are_those_of_bluepyefe(family, params, samples, total, squares):
    t, current = FAMILIES[family].generate(params)
    assert len(t) == len(current) == round(params["tend"] / 0.1)
    assert (t[0], t[-1]) == pytest.approx((0.0, params["tend"] - 0.1))
    assert [current[index] for index in samples] == pytest.approx(list(samples.values()), abs=1e-6)
    assert (current.sum(), np.square(current).sum()) == pytest.approx((total, squares))


def test_every_family_says_how_to_generate():
    assert all(callable(family.generate) for family in FAMILIES.values())


ROUND_TRIP = [
    ("IDrest", {**HOLD, "ton": 200.0, "toff": 700.0, "amp": 0.2}, ("ton", "toff")),
    ("IV", {**HOLD, "ton": 200.0, "toff": 700.0, "amp": -0.2}, ("ton", "toff")),
    (
        "sAHP",
        {**HOLD, "ton": 100.0, "tmid": 300.0, "tmid2": 400.0, "toff": 800.0, "amp": 0.1, "amp2": 0.3},
        ("ton", "tmid", "tmid2", "toff"),
    ),
    ("HyperDePol", TWO_STEPS, ("ton", "tmid", "toff")),
    ("DeHyperPol", TWO_STEPS, ("ton", "tmid", "toff")),
    ("PinkNoise", {**HOLD, "ton": 200.0, "toff": 700.0, "amp": 0.3, "waveform": SHAPE}, ()),
    ("CapCheck", {**HOLD, "ton": 200.0, "toff": 700.0, "amp": 0.3, "waveform": SHAPE}, ()),
    ("SpikeRec", {**HOLD, "tspike": [9.9, 39.9, 69.9], "spike_duration": 3.5, "delta": 26.5, "amp": 1.0}, ()),
]


@pytest.mark.parametrize(("protocol", "params", "given"), ROUND_TRIP, ids=[r[0] for r in ROUND_TRIP])
def test_measuring_a_generated_stimulus_gives_its_parameters(protocol, params, given):
    family = find_ecode(protocol)
    t, current = family.generate(params)
    found = family.measure(Sweep(t, current, {key: params[key] for key in given}))
    for key in set(params) - {"tend", "dt"}:
        assert found[key] == pytest.approx(params[key], abs=1e-9), key


@pytest.mark.parametrize(
    ("protocol", "params"),
    [
        ("Ramp", {**HOLD, "ton": 200.0, "toff": 700.0, "amp": 0.5}),
        ("PosCheops", {**TRIANGLES, "amp": 0.3}),
        ("NegCheops", {**TRIANGLES, "amp": -0.3}),
        ("SineSpec", {**HOLD, "ton": 100.0, "toff": 900.0, "amp": 0.2, "chirp_time_offset": 0.1, **CHIRP}),
    ],
)
def test_the_top_of_a_generated_shape_is_filtered_a_little(protocol, params):
    """The amplitude is that of the median-filtered current, or of its last ten samples for a ramp."""
    family = find_ecode(protocol)
    timings = {key: params[key] for key in ("ton", "t1", "t2", "t3", "t4", "toff") if key in params}
    found = family.measure(Sweep(*family.generate(params), timings))
    assert found["amp"] == pytest.approx(params["amp"], rel=0.025)
    assert {key: found[key] for key in timings} == pytest.approx(timings)


def test_a_detected_step_starts_where_it_did():
    family = find_ecode("IDrest")
    found = family.measure(Sweep(*family.generate({**HOLD, "ton": 200.0, "toff": 700.0, "amp": 0.2})))
    assert (found["ton"], found["toff"], found["amp"]) == pytest.approx((200.0, 699.9, 0.2))

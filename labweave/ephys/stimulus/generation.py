"""Stimuli rebuilt from their parameters: times in ms and the current in nA, as `Recording.get_params` gives them.

A stimulus lasts from its first sample up to the one before its end, as in the median of the current that
measures it. Timings fall on the nearest sample.
"""

from __future__ import annotations

import numpy as np


def generate_step(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """One step from ton to toff.

    Examples
    --------
    >>> from labweave.ephys.stimulus.generation import generate_step
    >>> step = {"ton": 1.0, "toff": 3.0, "tend": 4.0, "amp": 0.2, "hypamp": -0.05, "dt": 0.5}
    >>> t_ms, current_na = generate_step(step)
    >>> current_na.round(2)
    array([-0.05, -0.05,  0.15,  0.15,  0.15,  0.15, -0.05, -0.05])
    """
    t, current, at = _holding(params)
    current[at("ton") : at("toff")] += params["amp"]
    return t, current


def generate_ramp(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """From the holding current at ton up to amp at toff."""
    t, current, at = _holding(params)
    current[at("ton") : at("toff")] += np.linspace(0.0, params["amp"], at("toff") - at("ton"))
    return t, current


def generate_sahp(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """A long step of amp, and amp2 in the middle of it."""
    t, current, at = _holding(params)
    current[at("ton") : at("toff")] += params["amp"]
    current[at("tmid") : at("tmid2")] += params["amp2"] - params["amp"]
    return t, current


def generate_two_steps(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """A step of amp up to tmid, then one of amp2 up to toff."""
    t, current, at = _holding(params)
    current[at("ton") : at("tmid")] += params["amp"]
    current[at("tmid") : at("toff")] += params["amp2"]
    return t, current


def generate_triangles(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of height amp from ton to t1, t2 to t3 and t4 to toff."""
    t, current, at = _holding(params)
    for first, last in (("ton", "t1"), ("t2", "t3"), ("t4", "toff")):
        start, stop = at(first), at(last)
        top = (start + stop) // 2
        current[start:top] += np.linspace(0.0, params["amp"], top - start)
        current[top:stop] += np.linspace(params["amp"], 0.0, stop - top)
    return t, current


def generate_pulses(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """Pulses of amp that start one sample after each tspike and last spike_duration."""
    t, current, at = _holding(params)
    for tspike in params["tspike"]:
        start = round(tspike / params["dt"]) + 1
        current[start : start + at("spike_duration")] += params["amp"]
    return t, current


def generate_chirp(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """A sine between ton and toff whose frequency rises with time."""
    t, current, at = _holding(params)
    window = slice(at("ton"), at("toff"))
    seconds = t[window] / 1000.0 - params["chirp_time_offset"]
    base, scale, denominator = (params[f"chirp_frequency_{key}"] for key in ("base", "scale", "denominator"))
    frequency_hz = base + scale / (denominator - seconds)
    current[window] += params["amp"] * np.sin(2.0 * np.pi * frequency_hz * seconds)
    return t, current


def generate_waveform(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """The recorded waveform, scaled to amp, from ton to toff."""
    t, current, at = _holding(params)
    current[at("ton") : at("toff")] += params["amp"] * np.asarray(params["waveform"])
    return t, current


def _holding(params: dict):
    """Times of the samples, the holding current, and a function from a parameter in ms to a sample."""
    dt = params["dt"]
    t = np.arange(round(params["tend"] / dt)) * dt
    return t, np.full(len(t), float(params["hypamp"])), lambda key: round(params[key] / dt)

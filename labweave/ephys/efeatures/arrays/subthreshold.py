"""Features of the voltage before, during and after the stimulus."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from labweave.ephys.efeatures.arrays.trace import NOTHING, OnlyEfelKnows, Trace, total


def voltage_deflection(trace: Trace) -> np.ndarray:
    """Some points at the end of the stimulus, less all before it."""
    end = int(np.searchsorted(trace.t, trace.stop, side="right"))
    if trace.ton == 0 or not 10 <= end < trace.n_points:
        return NOTHING
    return np.array([trace.mean(end - 10, end - 5) - trace.mean(0, trace.ton)])


def voltage_deflection_begin(trace: Trace) -> np.ndarray:
    """A tenth of the stimulus near its start, less all before it."""
    begin = trace.start + (trace.stop - trace.start) * 0.05
    end = begin + (trace.stop - trace.start) * 0.1
    first, last = np.searchsorted(trace.t, [begin, end], side="right")
    return np.array([trace.mean(first, last) - trace.mean(0, trace.ton)])


def voltage_after_stim(trace: Trace) -> np.ndarray:
    """Mean of the middle half of what follows the stimulus."""
    rest = trace.t[-1] - trace.stop
    begin = trace.index(trace.stop + rest * 0.25)
    end = min(int(np.searchsorted(trace.t, trace.stop + rest * 0.75, side="right")) + 1, trace.n_points)
    return np.array([trace.mean(begin, end)]) if begin < end else NOTHING


def resistance(trace: Trace, deflection: np.ndarray) -> np.ndarray:
    """Deflection over the current of the stimulus, in MOhm."""
    current = trace.float_setting("stimulus_current", 0.0)
    return deflection / current if current != 0 else NOTHING


def sag_ratio(trace: Trace, sag: np.ndarray) -> np.ndarray:
    """Part of the deflection that the sag takes back."""
    deflection = trace.base - trace.minimum
    return sag / deflection if len(deflection) and trace.base[0] != trace.minimum[0] else NOTHING


def sag_time_constant(trace: Trace) -> np.ndarray:
    """Of the return from the minimum to nine tenths of the sag, in ms."""
    if not len(trace.sag):
        return NOTHING
    begin = int(np.argmax(trace.v <= trace.minimum[0]))
    is_back = trace.v[begin:] >= trace.plateau[0] - trace.sag[0] * 0.1
    if not is_back.any():
        raise OnlyEfelKnows
    end = begin + int(np.argmax(is_back))
    return _time_constant(trace, begin, end, trace.v[end]) if end - begin >= 10 else NOTHING


def decay_time_constant_after_stim(trace: Trace) -> np.ndarray:
    """Of the way back to the voltage at the start of the stimulus, in ms."""
    first = trace.float_setting("decay_start_after_stim", 1.0)
    last = trace.float_setting("decay_end_after_stim", 10.0)
    if first >= last:
        return NOTHING
    if trace.ton == trace.n_points:
        raise OnlyEfelKnows
    begin, end = trace.index(trace.stop + first), trace.index(trace.stop + last)
    return _time_constant(trace, begin, end, trace.v[trace.ton]) if begin < end else NOTHING


def _time_constant(trace: Trace, begin: int, end: int, reference: float) -> np.ndarray:
    """From the slope of a straight line through the logarithm of the distance to a reference."""
    distances = np.abs(trace.v[begin:end] - reference).tolist()
    # math.log is the C library's, as eFEL's; numpy's differs in the last digit on some processors
    y = np.array([math.log(distance) if distance else -math.inf for distance in distances])
    x, n = trace.t[begin:end], end - begin
    sum_x, sum_y = total(x), total(y)
    slope = (n * total(x * y) - sum_x * sum_y) / (n * total(x * x) - sum_x * sum_x)
    return np.array([abs(1.0 / slope)])


FEATURES: dict[str, Callable[[Trace], np.ndarray | None]] = {
    "voltage_base": lambda trace: trace.base,
    "steady_state_voltage_stimend": lambda trace: trace.plateau,
    "voltage_after_stim": voltage_after_stim,
    "minimum_voltage": lambda trace: trace.minimum,
    "maximum_voltage": lambda trace: trace.maximum,
    "maximum_voltage_from_voltagebase": lambda trace: trace.maximum - trace.base,
    "voltage_deflection": voltage_deflection,
    "voltage_deflection_begin": voltage_deflection_begin,
    "voltage_deflection_vb_ssse": lambda trace: trace.plateau - trace.base,
    "ohmic_input_resistance": lambda trace: resistance(trace, voltage_deflection(trace)),
    "ohmic_input_resistance_vb_ssse": lambda trace: resistance(trace, trace.plateau - trace.base),
    "sag_amplitude": lambda trace: trace.sag,
    "sag_ratio1": lambda trace: sag_ratio(trace, trace.sag),
    "sag_ratio2": lambda trace: sag_ratio(trace, trace.base - trace.plateau),
    "sag_time_constant": sag_time_constant,
    "decay_time_constant_after_stim": decay_time_constant_after_stim,
}

"""Features of the shape of the spikes and of what lies between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labweave.ephys.efeatures.arrays.trace import NOTHING, NOWHERE, OnlyEfelKnows, Trace, first_within, total


def ap_amplitude(trace: Trace) -> np.ndarray:
    """Peak above onset, of the spikes inside the stimulus."""
    heights, begins = trace.peak_voltage[trace.is_in_stimulus], trace.begins
    return heights - trace.v[begins[: len(heights)]] if len(heights) <= len(begins) else NOTHING


def ap_width(trace: Trace) -> np.ndarray:
    """Time above the threshold, between the minima."""
    threshold, minima = trace.settings.Threshold, trace.ahps
    if not len(minima):
        return NOTHING
    first = 0
    if trace.settings.strict_stiminterval:
        first = trace.ton
        minima = minima[(minima > first) & (minima < trace.toff)]
    begins = np.append(first, minima[:-1])[: len(minima)]
    up = first_within(np.flatnonzero(trace.v >= threshold), begins, minima)
    down = first_within(np.flatnonzero(trace.v <= threshold), up, minima)
    return trace.t[down] - trace.t[up]


def ap_duration(trace: Trace) -> np.ndarray:
    """Time from onset to end."""
    begins, ends = _paired(trace.begins, trace.ends)
    return trace.t[ends] - trace.t[begins]


def ap_duration_half_width(trace: Trace) -> np.ndarray:
    """Time from the rise to the fall through half of the height."""
    rises = ap_rise_indices(trace)
    return trace.t[ap_fall_indices(trace)] - trace.t[rises] if len(rises) else NOTHING


def ap_rise_indices(trace: Trace) -> np.ndarray:
    """Point between onset and peak that is nearest to half of the height."""
    begins, peaks = _paired(trace.begins, trace.peaks)
    return NOWHERE if (peaks < begins).any() else _nearest_to_half(trace, begins, peaks, begins, peaks)


def ap_fall_indices(trace: Trace) -> np.ndarray:
    """Point between peak and end that is nearest to half of the height; 0 for an end before the peak."""
    begins, peaks = _paired(trace.begins, trace.peaks)
    if not len(trace.ends):
        return NOWHERE
    if len(trace.ends) < len(begins):
        raise OnlyEfelKnows
    ends = trace.ends[: len(begins)]
    return np.where(peaks > ends, 0, _nearest_to_half(trace, begins, peaks, peaks, ends))


def _nearest_to_half(trace, begins, peaks, firsts, ends) -> np.ndarray:
    halves = (trace.v[peaks] + trace.v[begins]) / 2.0
    return np.array(
        [
            first + np.abs(trace.v[first:end] - half).argmin() if first < end else first
            for first, end, half in zip(firsts.tolist(), ends.tolist(), halves, strict=True)
        ],
        dtype=np.intp,
    )


def _paired(*points: np.ndarray) -> list[np.ndarray]:
    """Points of as many spikes as all have."""
    n_spikes = min(map(len, points))
    return [of_spikes[:n_spikes] for of_spikes in points]


def _begins_and_peaks(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    begins, peaks = trace.begins, trace.peaks
    n_spikes = min(len(begins), len(peaks))
    peaks = peaks[peaks > begins[0]] if n_spikes else peaks
    if len(peaks) < n_spikes:
        raise OnlyEfelKnows
    return begins[:n_spikes], peaks[:n_spikes]


def _peaks_and_ends(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    n_spikes = min(len(trace.peaks), len(trace.ends))
    peaks = trace.peaks[trace.peak_time > trace.start]
    if len(peaks) < n_spikes:
        raise OnlyEfelKnows
    return peaks[:n_spikes], trace.ends[:n_spikes]


def ap_rise_time(trace: Trace) -> np.ndarray:
    """Time between two heights of the rise, given as parts of the amplitude."""
    begins, peaks = _begins_and_peaks(trace)
    onset = trace.v[begins]
    amplitude = trace.v[peaks] - onset
    low = onset + trace.settings.rise_start_perc * amplitude - 1e-13
    high = onset + trace.settings.rise_end_perc * amplitude + 1e-13
    firsts, lasts = begins.copy(), peaks.copy()
    for spike in np.flatnonzero((onset < low) & (begins < peaks)):
        rise = trace.v[begins[spike] : peaks[spike]] >= low[spike]
        firsts[spike] += rise.argmax() if rise.any() else len(rise)
    for spike in np.flatnonzero((trace.v[peaks] > high) & (begins < peaks)):
        rise = trace.v[begins[spike] + 1 : peaks[spike] + 1][::-1] <= high[spike]
        lasts[spike] -= rise.argmax() if rise.any() else len(rise)
    return trace.t[lasts] - trace.t[firsts]


def ap_fall_time(trace: Trace) -> np.ndarray:
    """Time from peak to end."""
    peaks, ends = _peaks_and_ends(trace)
    return trace.t[ends] - trace.t[peaks]


def ap_rise_rate(trace: Trace) -> np.ndarray:
    """Slope from onset to peak."""
    begins, peaks = _begins_and_peaks(trace)
    return (trace.v[peaks] - trace.v[begins]) / (trace.t[peaks] - trace.t[begins])


def ap_fall_rate(trace: Trace) -> np.ndarray:
    """Slope from peak to end."""
    peaks, ends = _peaks_and_ends(trace)
    return (trace.v[ends] - trace.v[peaks]) / (trace.t[ends] - trace.t[peaks])


def ap_peak_upstroke(trace: Trace) -> np.ndarray:
    """Steepest rise between each onset and the next peak that is not taken."""
    begins, peaks = trace.begins.tolist(), iter(trace.peaks.tolist())
    pairs = ((begin, next((peak for peak in peaks if peak >= begin), None)) for begin in begins)
    return np.array([trace.slope[begin : max(peak, begin + 1)].max() for begin, peak in pairs if peak is not None])


def ap_peak_downstroke(trace: Trace) -> np.ndarray:
    """Steepest fall between peak and minimum."""
    pairs = zip(trace.peaks.tolist(), trace.ahps.tolist(), strict=False)
    return np.array([trace.slope[peak : max(ahp, peak + 1)].min() for peak, ahp in pairs])


def ap_phaseslope(trace: Trace) -> np.ndarray:
    """Slope of dV/dt over V at the onset."""
    reach, begins = trace.settings.AP_phaseslope_range, trace.begins
    before, behind = begins - reach, begins + reach
    if len(begins) and (min(before.min(), behind.min()) < 0 or max(before.max(), behind.max()) >= trace.n_points):
        raise OnlyEfelKnows
    rise = trace.v[behind] - trace.v[before]
    return NOTHING if (rise == 0).any() else (trace.slope[behind] - trace.slope[before]) / rise


def spike_half_width(trace: Trace) -> np.ndarray:
    """Time above half of the height over the minimum behind the peak, between points of the grid."""
    minima = trace.ahps.tolist()
    return np.array(
        [
            _half_width(trace, before, peak, minimum)
            for before, peak, minimum in zip([trace.ton, *minima], trace.peaks.tolist(), minima, strict=False)
        ]
    )


def _half_width(trace: Trace, before: int, peak: int, minimum: int) -> float:
    t, v = trace.t, trace.v
    half = (v[peak] + v[minimum]) / 2.0
    if before > peak:
        raise OnlyEfelKnows
    up, down = _first_true(v[before:peak] >= half, before), _first_true(v[peak:minimum] <= half, peak)
    if up == 0 or down == 0:
        raise OnlyEfelKnows
    up_ms, down_ms = ((t[point] - t[point - 1]) * (half - v[point]) / (v[point] - v[point - 1]) for point in (up, down))
    return t[down] - up_ms - t[up] + down_ms


def _first_true(flags: np.ndarray, begin: int) -> int:
    return begin + (int(flags.argmax()) if flags.any() else len(flags))


def fast_ahp(trace: Trace) -> np.ndarray:
    """Onset above the minimum behind the spike, all but the last."""
    begins, minima = trace.begins[:-1], trace.ahps
    if not len(minima):
        return NOTHING
    if len(minima) < len(begins):
        raise OnlyEfelKnows
    return trace.v[begins] - trace.v[minima[: len(begins)]]


def ahp_depth_from_peak(trace: Trace) -> np.ndarray:
    """Peak above the minimum behind it."""
    peaks, minima = _paired(trace.peaks, trace.ahps)
    return trace.v[peaks] - trace.v[minima]


def ahp_time_from_peak(trace: Trace) -> np.ndarray:
    """Time from the peak to the minimum behind it."""
    peaks, minima = _paired(trace.peaks, trace.ahps)
    return trace.t[minima] - trace.t[peaks]


def depolarized_base(trace: Trace) -> np.ndarray:
    """Mean voltage from the end of a spike to the onset of the next."""
    begins, ends = _paired(trace.begins, trace.ends)
    if len(begins) < 3:
        return NOTHING
    pieces = [trace.v[end:begin] for end, begin in zip(ends[:-1], begins[1:], strict=True) if end < begin]
    return np.array([total(piece) / len(piece) for piece in pieces])


def min_voltage_between_spikes(trace: Trace) -> np.ndarray:
    """Lowest voltage of each interval."""
    return np.minimum.reduceat(trace.v, trace.peaks)[:-1] if len(trace.peaks) else NOTHING


def above_base(trace: Trace, voltages: np.ndarray) -> np.ndarray:
    """Voltages above the base."""
    return voltages - trace.base if len(trace.base) else NOTHING


def differences(values: np.ndarray) -> np.ndarray:
    """Change from each value to the next."""
    return values[1:] - values[:-1]


FEATURES: dict[str, Callable[[Trace], np.ndarray | None]] = {
    "peak_voltage": lambda trace: trace.peak_voltage,
    "AP_height": lambda trace: trace.peak_voltage,
    "AP1_peak": lambda trace: trace.peak_voltage[:1],
    "AP2_peak": lambda trace: trace.peak_voltage[1:2],
    "AP2_AP1_peak_diff": lambda trace: differences(trace.peak_voltage[:2]),
    "amp_drop_first_second": lambda trace: -differences(trace.peak_voltage[:2]),
    "AP_begin_indices": lambda trace: trace.begins,
    "AP_begin_time": lambda trace: trace.t[trace.begins],
    "AP_begin_voltage": lambda trace: trace.v[trace.begins],
    "AP1_begin_voltage": lambda trace: trace.v[trace.begins[:1]],
    "AP2_begin_voltage": lambda trace: trace.v[trace.begins[1:2]],
    "AP_end_indices": lambda trace: trace.ends,
    "AP_rise_indices": ap_rise_indices,
    "AP_fall_indices": ap_fall_indices,
    "AP_amplitude": ap_amplitude,
    "AP1_amp": lambda trace: ap_amplitude(trace)[:1],
    "AP2_amp": lambda trace: ap_amplitude(trace)[1:2],
    "APlast_amp": lambda trace: ap_amplitude(trace)[-1:],
    "AP2_AP1_diff": lambda trace: differences(ap_amplitude(trace)[:2]),
    "AP_amplitude_diff": lambda trace: differences(ap_amplitude(trace)),
    "AP_amplitude_from_voltagebase": lambda trace: above_base(trace, trace.peak_voltage),
    "AP_width": ap_width,
    "AP_duration": ap_duration,
    "AP_duration_half_width": ap_duration_half_width,
    "AP_rise_time": ap_rise_time,
    "AP_fall_time": ap_fall_time,
    "AP_rise_rate": ap_rise_rate,
    "AP_fall_rate": ap_fall_rate,
    "AP_peak_upstroke": ap_peak_upstroke,
    "AP_peak_downstroke": ap_peak_downstroke,
    "AP_phaseslope": ap_phaseslope,
    "spike_half_width": spike_half_width,
    "AP1_width": lambda trace: spike_half_width(trace)[:1],
    "AP2_width": lambda trace: spike_half_width(trace)[1:2],
    "APlast_width": lambda trace: spike_half_width(trace)[-1:],
    "min_AHP_indices": lambda trace: trace.ahps,
    "min_AHP_values": lambda trace: trace.v[trace.ahps],
    "AHP_depth_abs": lambda trace: trace.v[trace.ahps],
    "AHP_depth": lambda trace: above_base(trace, trace.v[trace.ahps]),
    "AHP_depth_diff": lambda trace: differences(above_base(trace, trace.v[trace.ahps])),
    "AHP_depth_from_peak": ahp_depth_from_peak,
    "AHP1_depth_from_peak": lambda trace: ahp_depth_from_peak(trace)[:1],
    "AHP2_depth_from_peak": lambda trace: ahp_depth_from_peak(trace)[1:2],
    "AHP_time_from_peak": ahp_time_from_peak,
    "fast_AHP": fast_ahp,
    "depolarized_base": depolarized_base,
    "min_voltage_between_spikes": min_voltage_between_spikes,
}

"""Features of the times of the spikes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from labweave.ephys.efeatures.arrays.trace import NOTHING, Trace, total


def mean_frequency(trace: Trace) -> np.ndarray:
    """Spikes inside the stimulus per second, up to the last of them."""
    times = trace.peak_time[trace.is_in_stimulus]
    last = times[-1] if len(times) else 0.0
    if not len(trace.peaks) or last == trace.start:
        return NOTHING
    return np.array([len(times) * 1000 / (last - trace.start)])


def adaptation_index(trace: Trace) -> np.ndarray:
    """Mean relative change of the interval, some first spikes left out."""
    fraction = trace.settings.spike_skipf
    if not 0 <= fraction < 1:
        return NOTHING
    times = _times_with_offset(trace)
    n_skipped = min(int(len(times) * fraction + 0.5), trace.settings.max_spike_skip)
    return _adaptation(times[max(n_skipped, 0) :], 4)


def adaptation_index2(trace: Trace) -> np.ndarray:
    """Mean relative change of the interval from the second one on."""
    return _adaptation(_times_with_offset(trace)[1:], 3)


def _times_with_offset(trace: Trace) -> np.ndarray:
    offset = trace.float_setting("offset", 0.0)
    times = trace.peak_time
    return times[(times >= trace.start - offset) & (times <= trace.stop + offset)]


def _adaptation(times: np.ndarray, fewest: int) -> np.ndarray:
    if len(times) < fewest:
        return NOTHING
    isi = np.diff(times)
    return np.array([total((isi[1:] - isi[:-1]) / (isi[1:] + isi[:-1])) / (len(isi) - 1)])


def isi_cv(trace: Trace) -> np.ndarray:
    """Coefficient of variation of the intervals."""
    isi = trace.isi_of_interest
    return np.array([np.std(isi, ddof=1) / np.mean(isi)]) if len(isi) > 1 else NOTHING


def isi_log_slope(trace: Trace) -> np.ndarray:
    """Slope of the logarithms of the intervals over that of their number."""
    isi = trace.isi_of_interest
    x = np.log(np.arange(1, len(isi) + 1))
    if not x.any():
        return NOTHING
    try:
        return np.polyfit(x, np.log(isi), 1)[:1]
    except np.linalg.LinAlgError:
        return NOTHING


def isi_values(trace: Trace) -> np.ndarray | None:
    """Intervals; an empty array, not None, when the one there is does not count."""
    return trace.isi_of_interest if len(trace.isi) else None


FEATURES: dict[str, Callable[[Trace], np.ndarray | None]] = {
    "peak_indices": lambda trace: trace.peaks,
    "peak_time": lambda trace: trace.peak_time,
    "spike_count": lambda trace: np.array([len(trace.peaks)]),
    "Spikecount": lambda trace: np.array([len(trace.peaks)]),
    "spike_count_stimint": lambda trace: np.array([trace.is_in_stimulus.sum()]),
    "Spikecount_stimint": lambda trace: np.array([trace.is_in_stimulus.sum()]),
    "mean_frequency": mean_frequency,
    "time_to_first_spike": lambda trace: trace.peak_time[:1] - trace.start,
    "time_to_second_spike": lambda trace: trace.peak_time[1:2] - trace.start,
    "time_to_last_spike": lambda trace: trace.peak_time[-1:] - trace.start,
    "inv_time_to_first_spike": lambda trace: 1000.0 / (trace.peak_time[:1] - trace.start),
    "doublet_ISI": lambda trace: trace.isi[:1],
    "all_ISI_values": lambda trace: trace.isi,
    "ISIs": lambda trace: trace.isi,
    "ISI_values": isi_values,
    "ISI_CV": isi_cv,
    "ISI_log_slope": isi_log_slope,
    "inv_ISI_values": lambda trace: 1000.0 / trace.isi,
    "inv_first_ISI": lambda trace: 1000.0 / trace.isi[:1],
    "inv_second_ISI": lambda trace: 1000.0 / trace.isi[1:2],
    "inv_third_ISI": lambda trace: 1000.0 / trace.isi[2:3],
    "inv_fourth_ISI": lambda trace: 1000.0 / trace.isi[3:4],
    "inv_fifth_ISI": lambda trace: 1000.0 / trace.isi[4:5],
    "inv_last_ISI": lambda trace: 1000.0 / trace.isi[-1:],
    "adaptation_index": adaptation_index,
    "adaptation_index2": adaptation_index2,
}

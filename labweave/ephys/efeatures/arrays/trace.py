"""One trace on eFEL's grid, and what several features share: spikes, their begins and ends, base and plateau.

An empty array means that there is no value, as in eFEL. It stays empty through slices and differences.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from labweave.ephys.efeatures.interpolation import Grid
from labweave.ephys.efeatures.spikes import peak_indices

NOTHING = np.empty(0)
NOWHERE = np.empty(0, dtype=np.intp)


class OnlyEfelKnows(Exception):
    """eFEL reads outside its vectors here, so only eFEL can give its value."""


class Trace:
    """Voltage (mV, on the grid) of one recording, the stimulus from ``start`` to ``stop`` (ms), and eFEL's settings."""

    def __init__(self, grid: Grid, voltage: np.ndarray, settings: Any, start: float, stop: float):
        self.t, self.v = grid.t, voltage
        self.settings, self.start, self.stop = settings, start, stop
        self.n_points = len(voltage)

    def float_setting(self, name: str, default: float) -> float:
        """Return a setting that has no default in eFEL. eFEL takes it only when it is a float."""
        value = getattr(self.settings, name, default)
        return value if isinstance(value, float) else default

    def index(self, time: float) -> int:
        """Return the first point at a time (ms) or later; n_points for a time behind the end."""
        return int(np.searchsorted(self.t, time))

    def mean(self, begin: int, end: int) -> float:
        """Return the mean of points, added one after the other as eFEL does; nan for none."""
        return total(self.v[begin:end]) / np.float64(end - begin)

    @cached_property
    def ton(self) -> int:
        """First point of the stimulus."""
        return self.index(self.start)

    @cached_property
    def toff(self) -> int:
        """First point behind the stimulus."""
        return self.index(self.stop)

    @cached_property
    def slope(self) -> np.ndarray:
        """Central differences, shape (n_points,), in mV/ms."""
        v, t = self.v, self.t
        slope = np.empty(self.n_points)
        np.subtract(v[2:], v[:-2], out=slope[1:-1])
        slope[1:-1] /= t[2:] - t[:-2]
        slope[0] = (v[1] - v[0]) / (t[1] - t[0])
        slope[-1] = (v[-1] - v[-2]) / (t[-1] - t[-2])
        return slope

    # --- spikes: points of the grid, shape (n_spikes,) or shorter ------------------------------------

    @cached_property
    def peaks(self) -> np.ndarray:
        """Peaks of the spikes."""
        threshold = self.settings.Threshold
        if not self.v.max() > threshold:
            return NOWHERE
        peaks = peak_indices(self.v, threshold)
        if self.settings.strict_stiminterval:
            times = self.t[peaks]
            peaks = peaks[(times >= self.start) & (times <= self.stop)]
        return peaks

    @cached_property
    def peak_time(self) -> np.ndarray:
        """Times of the peaks, in ms."""
        return self.t[self.peaks]

    @cached_property
    def peak_voltage(self) -> np.ndarray:
        """Heights of the peaks, in mV."""
        return self.v[self.peaks]

    @cached_property
    def is_in_stimulus(self) -> np.ndarray:
        """Of each spike, bool."""
        return (self.peak_time >= self.start) & (self.peak_time <= self.stop)

    @cached_property
    def late_peaks(self) -> np.ndarray:
        """Peaks behind the first point of the stimulus."""
        return self.peaks[self.peaks > self.ton]

    @cached_property
    def isi(self) -> np.ndarray:
        """Intervals between spikes, in ms, shape (n_spikes - 1,)."""
        return np.diff(self.peak_time)

    @cached_property
    def isi_of_interest(self) -> np.ndarray:
        """Intervals between spikes, without the first if the settings say so."""
        return self.isi[1:] if self.settings.ignore_first_ISI else self.isi

    @cached_property
    def ahps(self) -> np.ndarray:
        """First minimum behind each peak: a point below which the next two don't fall, else the lowest point.

        The last spike has none when its minimum is the last point looked at.
        """
        if not len(self.peaks):
            return NOWHERE
        v, first = self.v, self.peaks[0]
        last = self.toff if self.settings.strict_stiminterval else self.n_points
        ends = np.append(self.peaks[1:], last)
        here = v[first : max(ends[-1], first + 2)]
        low = np.flatnonzero((here[1:-1] >= here[:-2]) & (here[2:] >= here[:-2])) + first
        ahps = first_within(low, self.peaks, ends - 2)
        for spike in np.flatnonzero(ahps >= ends - 2):
            peak, end = self.peaks[spike], ends[spike]
            ahps[spike] = peak + v[peak:end].argmin() if peak < end else end
        return ahps[ahps != last - 1]

    @cached_property
    def begins(self) -> np.ndarray:
        """Onset of each spike of the stimulus: where the slope has passed a threshold and stays above it.

        Spikes without an onset behind the minimum before them are left out.
        """
        threshold, window = self.settings.DerivativeThreshold, self.settings.DerivativeWindow
        peaks = self.late_peaks
        if not len(peaks):
            return NOWHERE
        if window < 1 or peaks[-1] > self.n_points - window:
            raise OnlyEfelKnows
        minima = np.append(max(self.ton - 2, 0), self.ahps[self.ahps > self.ton])
        if len(minima) < len(peaks):
            return NOWHERE
        slope = self.slope
        flat = np.flatnonzero((slope[:-1] <= threshold) & (slope[1:] >= threshold))
        flat = flat[flat < self.n_points - window]
        for ahead in range(2, window + 1):
            flat = flat[slope[flat + ahead] >= threshold]
        nth = np.searchsorted(flat, peaks)
        minima, latest = minima[: len(peaks)][nth > 0], flat[nth[nth > 0] - 1]
        return latest[latest >= minima] + 1

    @cached_property
    def ends(self) -> np.ndarray:
        """End of each spike of the stimulus: where the slope is back from its steepest fall."""
        peaks = self.late_peaks
        if not len(peaks):
            return NOWHERE
        slope, ends = self.slope, np.append(peaks[1:], self.n_points - 1)
        is_apart = peaks + 1 < ends
        peaks, ends = peaks[is_apart], ends[is_apart]
        steepest = [peak + 1 + slope[peak + 1 : end].argmin() for peak, end in zip(peaks, ends, strict=True)]
        back = first_within(np.flatnonzero(slope >= self.settings.DownDerivativeThreshold), steepest, ends)
        return back[back < ends]

    # --- below threshold: mV, shape (1,) or empty ----------------------------------------------------

    @cached_property
    def base(self) -> np.ndarray:
        """Voltage before the stimulus."""
        settings = self.settings
        begin_ms = self.start * settings.voltage_base_start_perc
        end_ms = self.start * settings.voltage_base_end_perc
        if begin_ms >= end_ms or settings.voltage_base_mode not in ("mean", "median"):
            return NOTHING
        # eFEL compares the difference, so its rounding counts
        begin = self.index(begin_ms)
        begin = 0 if begin == self.n_points else begin
        end = self.index(end_ms + settings.precision_threshold)
        while end < self.n_points and self.t[end] - end_ms < settings.precision_threshold:
            end += 1
        while end > 0 and not self.t[end - 1] - end_ms < settings.precision_threshold:
            end -= 1
        end = self.n_points if end < 2 else end
        if end <= begin:
            raise OnlyEfelKnows
        if settings.voltage_base_mode == "median":
            return np.array([np.median(self.v[begin:end])])
        return np.array([self.mean(begin, end)])

    @cached_property
    def plateau(self) -> np.ndarray:
        """Voltage in the last tenth of the stimulus."""
        begin = self.index(self.stop - 0.1 * (self.stop - self.start))
        return np.array([self.mean(begin, self.toff)]) if begin < self.toff else NOTHING

    @cached_property
    def stimulus(self) -> np.ndarray:
        """All of the voltage inside the stimulus, at least one point; empty if it starts behind the trace."""
        if self.start > self.t[-1]:
            return NOTHING
        toff = self.index(min(self.stop, self.t[-1]))
        return self.v[self.ton : max(toff, self.ton + 1)]

    @cached_property
    def minimum(self) -> np.ndarray:
        """Lowest voltage inside the stimulus."""
        return np.array([self.stimulus.min()]) if len(self.stimulus) else NOTHING

    @cached_property
    def maximum(self) -> np.ndarray:
        """Highest voltage inside the stimulus."""
        return np.array([self.stimulus.max()]) if len(self.stimulus) else NOTHING

    @cached_property
    def sag(self) -> np.ndarray:
        """Plateau above the minimum, when the plateau is not above the base."""
        deflection = self.plateau - self.base
        return self.plateau - self.minimum if len(deflection) and deflection[0] <= 0 else NOTHING


def total(values: np.ndarray) -> np.float64:
    """Sum from the first to the last; numpy's own sum goes in pairs, with other last digits."""
    return values.cumsum()[-1] if len(values) else np.float64(0.0)


def first_within(positions: np.ndarray, begins, ends) -> np.ndarray:
    """First of some sorted positions in each piece from begin to before end; the end where there is none."""
    if not len(positions):
        return np.array(ends)
    nth = np.searchsorted(positions, begins)
    found = positions.take(nth, mode="clip")
    return np.where((nth < len(positions)) & (found < ends), found, ends)

"""Impedance from the response to a chirp, and its figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labweave.ephys.plots.common import COLORS, SPIKE, draw_labels, file_name, folder_of_cell, one_axes, write_figures

SMOOTHING_HZ = 0.5  # deviation of the Gaussian that averages over frequencies


def impedance(recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the impedance of a cell from its response to a chirp, between ton and toff.

    Parameters
    ----------
    recording : Recording

    Returns
    -------
    frequency_hz, magnitude_mohm, smoothed_mohm : ndarray, shape (n_frequencies,)
        At the chirp's frequencies: from the first with a third of the current's largest amplitude, those with at
        least a hundredth of it. The magnitude is the ratio of the Fourier transforms. The smoothed one is the ratio
        of the averaged cross spectrum to the averaged power spectrum, which noise in the voltage doesn't bias.
    """
    from scipy.ndimage import gaussian_filter1d

    first, last = np.searchsorted(recording.t, [recording.ton, recording.toff])
    current, voltage = (
        np.fft.rfft(samples[first:last] - np.mean(samples[first:last], dtype=float))
        for samples in (recording.current, recording.voltage)
    )
    frequency = np.fft.rfftfreq(last - first, recording.dt / 1000)
    width = max(SMOOTHING_HZ / frequency[1], 1.0)
    raw_power = np.abs(current) ** 2
    power = gaussian_filter1d(raw_power, width)
    cross = voltage * current.conj()
    cross = gaussian_filter1d(cross.real, width) + 1j * gaussian_filter1d(cross.imag, width)
    slowest = np.argmax(raw_power >= 0.1 * raw_power.max())
    used = (power >= 1e-4 * power.max()) & (raw_power > 0) & (np.arange(len(frequency)) >= slowest)
    return frequency[used], np.abs(voltage[used] / current[used]), np.abs(cross[used] / power[used])


def draw_impedance(recording) -> Figure:
    """Draw the magnitude of a cell's impedance over the frequency, and where it is largest."""
    frequency, magnitude, smoothed = impedance(recording)
    figure, axes = one_axes()
    peak = int(np.argmax(smoothed))
    axes.plot(frequency, magnitude, color="#BBBBBB", lw=0.7)
    axes.plot(frequency, smoothed, color=COLORS[0], lw=1.6)
    axes.plot(frequency[peak], smoothed[peak], "o", color=SPIKE, ms=6)
    axes.set(xlabel="frequency (Hz)", ylabel="|Z| (MOhm)", xscale="log", ylim=(0, 1.3 * smoothed.max()))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(f"{recording.protocol_name} {recording.name}: impedance", size=11, parse_math=False)
    handles = [
        Line2D([], [], color="#BBBBBB", lw=0.9),
        Line2D([], [], color=COLORS[0], lw=1.6),
        Line2D([], [], color=SPIKE, marker="o", ls="", ms=6),
    ]
    largest = f"largest: {smoothed[peak]:.3g} MOhm\nat {frequency[peak]:.3g} Hz"
    draw_labels(figure, handles, ["each frequency", "smoothed", largest], loc="outside right upper")
    return figure


def plot_cell_impedance(cell, output_directory, format: str = "pdf") -> list[Path]:
    """Write the impedance from each chirp to ``<cell>/impedance/<cell>_<protocol>_<i>_<name>_impedance.pdf``."""
    folder, stem = folder_of_cell(output_directory, cell)
    chirps = [recording for recording in cell.recordings if recording.ecode.name == "SineSpec"]
    paths = []
    for index, chirp in enumerate(chirps):
        name = f"{stem}_{file_name(chirp.protocol_name)}_{index}_{file_name(chirp.name)}_impedance.{format}"
        paths += write_figures([draw_impedance(chirp)], folder / "impedance" / name)
    return paths

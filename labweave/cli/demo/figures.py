"""The demo's figure, drawn with matplotlib: a sweep with its spikes, and f-I curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def draw_cells(path: Path, sweep: Mapping[str, Any], curves: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a sweep with its spikes marked, and every cell's firing rate against the step.

    Parameters
    ----------
    path : Path
        Ends in .png, .svg or .pdf.
    sweep : mapping
        title, t (ms), voltage (mV), current (nA), each (n_samples,), and spike_times (ms).
    curves : mapping of str to mapping
        Cell -> amp (nA, rising) and rate (spikes per s), each (n_sweeps,), and rheobase (nA or None).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1), width_ratios=(1.25, 1))
    voltage = figure.add_subplot(grid[0, 0])
    current = figure.add_subplot(grid[1, 0], sharex=voltage)
    rates = figure.add_subplot(grid[:, 1])

    t, peaks = sweep["t"], sweep["spike_times"]
    voltage.plot(t, sweep["voltage"], color="#333333", lw=0.7)
    top = float(np.max(sweep["voltage"])) + 8
    voltage.plot(
        peaks, np.full(len(peaks), top), "v", color="#d62728", ms=5, clip_on=False, label=f"{len(peaks)} spikes"
    )
    voltage.set(ylabel="voltage (mV)", title=sweep["title"])
    voltage.set_ylim(top=top + 22)
    voltage.legend(loc="upper right", frameon=False, handletextpad=0.2)
    voltage.tick_params(labelbottom=False)
    current.plot(t, 1000 * sweep["current"], color="#1f77b4", lw=0.7)
    current.set(xlabel="time (ms)", ylabel="current (pA)", xlim=(t[0], t[-1]))
    figure.align_ylabels((voltage, current))

    for index, (cell, curve) in enumerate(sorted(curves.items())):
        color = COLORS[index % len(COLORS)]
        amplitude = 1000 * np.asarray(curve["amp"])
        rheobase = curve["rheobase"]
        label = cell if rheobase is None else f"{cell}  {1000 * rheobase:.0f} pA"
        rates.plot(amplitude, curve["rate"], "o-", color=color, ms=3, lw=1.2, label=label)
        if rheobase is not None:
            at = 1000 * rheobase
            rates.plot(at, np.interp(at, amplitude, curve["rate"]), "o", ms=8, mfc="none", mec=color, mew=1.5)
    rates.set(xlabel="step above holding (pA)", ylabel="firing rate in the step (Hz)", title="f-I curves")
    rates.set_xlim(left=0)
    rates.set_ylim(bottom=-2)
    rates.legend(title="cell, rheobase (circle)", loc="upper left", frameon=False)
    for axes in (voltage, current, rates):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


COLORS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#d8b70a")
"""From the first cell to the last, dark to light."""

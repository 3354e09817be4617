"""Figures of sweeps: current and voltage, stimulus and spikes, and the firing rate over the amplitude."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from labweave.ephys.plots.common import (
    CURRENT,
    GREY,
    SPIKE,
    VOLTAGE,
    cell_style,
    counted,
    decimate,
    draw_labels,
    file_name,
    folder_of_cell,
    one_axes,
    write_figures,
)

PER_PAGE = 12
COLUMNS_PER_INCH = 144
DASHES = (0, (5, 5))


def draw_recordings(cell, protocol_name: str) -> Iterator[Figure]:
    """Draw every sweep of a cell under one protocol, 12 on a page, the current above the voltage.

    Sweeps are sorted by amplitude and share the scales of all axes. The dashed line is the stimulus as its parameters
    say; ticks above the voltage are spikes.

    Examples
    --------
    >>> from labweave.ephys import Cell, read_recordings_of_file
    >>> from labweave.ephys.plots import draw_recordings
    >>> recordings = read_recordings_of_file("IDrest", {"filepath": "labweave-demo/recordings/sim01.h5"})
    >>> cell = Cell("sim01", recordings)
    >>> for figure in draw_recordings(cell, "IDrest"):
    ...     figure.savefig("sim01_IDrest.png")
    """
    recordings = sorted((r for r in cell.recordings if r.protocol_name == protocol_name), key=lambda r: r.amp)
    n_pages = math.ceil(len(recordings) / PER_PAGE)
    if not n_pages:
        return
    n_columns = min(len(recordings), 4)
    n_rows = min(math.ceil(len(recordings) / n_columns), PER_PAGE // 4)
    limits = {
        "t": (0.0, max(r.tend for r in recordings)),
        "current": _limits([r.current for r in recordings]),
        "voltage": _limits([r.voltage for r in recordings]),
    }
    title = f"{cell.name}, {protocol_name}: {counted(len(recordings), 'sweep')}"
    if cell.rheobase is not None:
        title += f", rheobase {cell.rheobase:.3g} nA"
    for page in range(n_pages):
        width, height = (6.5, 4.6) if len(recordings) == 1 else (11.69, 1.25 + 2.34 * n_rows)
        figure = Figure(figsize=(width, height))
        grid = figure.add_gridspec(
            n_rows,
            n_columns,
            left=0.75 / width,
            right=1 - 0.3 / width,
            bottom=0.5 / height,
            top=1 - 0.95 / height,
            wspace=0.13,
            hspace=0.3,
        )
        of_page = recordings[page * PER_PAGE : (page + 1) * PER_PAGE]
        for index, recording in enumerate(of_page):
            _draw_recording(
                figure,
                grid[divmod(index, n_columns)],
                recording,
                limits,
                is_left=index % n_columns == 0,
                is_bottom=index + n_columns >= len(of_page),
            )
        heading = f"{title} (page {page + 1} of {n_pages})" if n_pages > 1 else title
        figure.text(0.2 / width, 1 - 0.14 / height, heading, size=11, weight="bold", va="top", parse_math=False)
        draw_labels(
            figure,
            [
                Line2D([], [], color=CURRENT, lw=1.2),
                Line2D([], [], color="black", lw=0.7, ls=DASHES),
                Line2D([], [], color=VOLTAGE, lw=1.2),
                Line2D([], [], color=SPIKE, marker="|", ls="", ms=6, mew=1.2),
            ],
            ["current", "stimulus", "voltage", "spike"],
            loc="upper left",
            bbox_to_anchor=(0.12 / width, 1 - 0.34 / height),
            ncols=4,
        )
        yield figure


def draw_firing_rates(cell) -> Figure:
    """Draw the firing rate of a cell over the amplitude of its steps, a line per protocol, and the rheobase.

    Each sweep is a point. Lines go through the means of sweeps whose amplitudes differ by less than 1 pA or 2 % of the
    range.

    Examples
    --------
    >>> from labweave.ephys import Cell, read_recordings_of_file
    >>> from labweave.ephys.plots import draw_firing_rates
    >>> recordings = read_recordings_of_file("IDrest", {"filepath": "labweave-demo/recordings/sim01.h5"})
    >>> cell = Cell("sim01", recordings)
    >>> draw_firing_rates(cell).savefig("firing_rates.png")
    """
    figure, axes = one_axes()
    protocols: dict[str, list] = {}
    for recording in cell.recordings:
        if recording.ecode.name == "Step" and recording.timing != "not detected":
            protocols.setdefault(recording.protocol_name, []).append(recording)
    handles, labels = [], []
    for index, (name, recordings) in enumerate(protocols.items()):
        color, marker = cell_style(index)
        amplitudes = np.array([r.amp for r in recordings])
        rates = np.array([1000 * len(r.peak_time) / (r.toff - r.ton) for r in recordings])
        axes.plot(amplitudes, rates, marker, color=color, ms=4, alpha=0.6, mew=0)
        axes.plot(*_means(amplitudes, rates), color=color, lw=1.2)
        handles.append(Line2D([], [], color=color, marker=marker, ms=4, lw=1.2))
        labels.append(f"{name}, {counted(len(recordings), 'sweep')} of {_duration(recordings)}")
    if cell.rheobase is not None:
        axes.axvline(cell.rheobase, color=GREY, lw=0.9, ls="--")
        handles.append(Line2D([], [], color=GREY, lw=0.9, ls="--"))
        labels.append(f"rheobase {cell.rheobase:.3g} nA")
    axes.set(xlabel="amplitude above holding (nA)", ylabel="firing rate in the step (Hz)")
    axes.set_title(f"{cell.name}: firing rate", size=11, parse_math=False)
    draw_labels(figure, handles, labels, loc="outside right upper")
    return figure


def plot_cell_recordings(cell, output_directory, format: str = "pdf") -> list[Path]:
    """Write the sweeps of a cell to ``<cell>/<cell>_<protocol>_recordings.pdf``, and return the paths.

    The format "png" gives a file for each page.
    """
    folder, stem = folder_of_cell(output_directory, cell)
    paths = []
    for protocol in dict.fromkeys(recording.protocol_name for recording in cell.recordings):
        path = folder / f"{stem}_{file_name(protocol)}_recordings.{format}"
        paths += write_figures(draw_recordings(cell, protocol), path)
    return paths


def plot_firing_rates(cell, output_directory, format: str = "pdf") -> list[Path]:
    """Write `draw_firing_rates` to ``<cell>/<cell>_firing_rates.pdf`` (or png); parameters as above."""
    folder, stem = folder_of_cell(output_directory, cell)
    return write_figures([draw_firing_rates(cell)], folder / f"{stem}_firing_rates.{format}")


def _draw_recording(figure: Figure, place: SubplotSpec, recording, limits, *, is_left: bool, is_bottom: bool) -> None:
    grid = place.subgridspec(2, 1, height_ratios=(1, 2.2), hspace=0.08)
    current, voltage = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    n_columns = math.ceil(place.get_position(figure).width * figure.get_figwidth() * COLUMNS_PER_INCH)
    current.plot(*decimate(recording.t, recording.current, n_columns), color=CURRENT, lw=1.1)
    voltage.plot(*decimate(recording.t, recording.voltage, n_columns), color=VOLTAGE, lw=0.6)
    if recording.timing != "not detected":
        t, stimulus = recording.ecode.generate({**recording.get_params(), "dt": recording.dt})
        current.plot(*decimate(t, stimulus, n_columns), color="black", lw=0.7, ls=DASHES)
    low, high = limits["voltage"]
    top = high + 0.1 * (high - low)
    spikes = recording.peak_time
    voltage.plot(spikes, np.full(len(spikes), high + 0.05 * (high - low)), "|", color=SPIKE, ms=5, mew=0.6)
    current.set(xlim=limits["t"], ylim=limits["current"])
    voltage.set(xlim=limits["t"], ylim=(low, top))
    for axes, label in ((current, "I (nA)"), (voltage, "V (mV)")):
        axes.tick_params(labelsize=7, length=2.5, labelleft=is_left, labelbottom=is_bottom and axes is voltage)
        axes.locator_params(axis="x", nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
        if is_left:
            axes.set_ylabel(label, size=8)
            axes.yaxis.set_label_coords(-0.42 / (place.get_position(figure).width * figure.get_figwidth()), 0.5)
    current.locator_params(axis="y", nbins=3)
    voltage.locator_params(axis="y", nbins=5)
    if is_bottom:
        voltage.set_xlabel("time (ms)", size=8, labelpad=2)
    current.set_title(_describe(recording), size=7, loc="left", pad=3, linespacing=1.15, parse_math=False)


def _describe(recording) -> str:
    name = recording.name if len(recording.name) <= 40 else f"{recording.name[:18]}...{recording.name[-19:]}"
    if recording.timing == "not detected":
        return f"{name}\nstimulus not detected"
    facts = [f"{recording.amp:.3g} nA", counted(len(recording.peak_time), "spike")]
    if recording.amp_rel is not None:
        facts.insert(1, f"{recording.amp_rel:.0f} %")
    return f"{name}\n{', '.join(facts)}"


def _means(amplitudes, rates) -> tuple[list[float], list[float]]:
    """Return mean amplitude and rate of sweeps that repeat a step, from the lowest step to the highest."""
    order = np.argsort(amplitudes, kind="stable")
    width = max(1e-3, 0.02 * float(np.ptp(amplitudes)))
    groups: list[list[int]] = []
    for index in order:
        if not groups or amplitudes[index] - amplitudes[groups[-1][0]] >= width:
            groups.append([])
        groups[-1].append(index)
    return [float(amplitudes[group].mean()) for group in groups], [float(rates[group].mean()) for group in groups]


def _limits(traces: Sequence[np.ndarray]) -> tuple[float, float]:
    low = min(float(trace.min()) for trace in traces)
    high = max(float(trace.max()) for trace in traces)
    margin = 0.05 * (high - low) or 1e-3
    return low - margin, high + margin


def _duration(recordings) -> str:
    shortest, longest = (what(r.toff - r.ton for r in recordings) for what in (min, max))
    return f"{longest:.0f} ms" if longest - shortest < 1 else f"{shortest:.0f} to {longest:.0f} ms"

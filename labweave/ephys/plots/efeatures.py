"""Figures of efeatures over the amplitude, of one cell and of many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labweave.ephys.efeatures.units import efeature_unit
from labweave.ephys.grouping import effective_amplitude
from labweave.ephys.plots.common import (
    GREY,
    cell_style,
    counted,
    draw_labels,
    file_name,
    folder_of_cell,
    one_axes,
    write_figures,
)

CELLS_IN_A_LEGEND = 12


class ErrorBar(NamedTuple):
    """Mean and deviation of an efeature at one amplitude, in the unit of the axis it is drawn on."""

    amplitude: float
    tolerance: float
    mean: float
    std: float
    sample_size: int


def draw_efeature(
    cells: Sequence[Any],
    protocol_name: str,
    efeature: str,
    *,
    relative: bool,
    targets: Iterable[Any] = (),
    unit: str | None = None,
    show_legend: bool = True,
) -> Figure:
    """Draw an efeature over the amplitude: a point per sweep, a colour and marker per cell.

    Parameters
    ----------
    cells : list
        Their recordings have ``efeatures``, values by name. What is nan or missing is left out.
    protocol_name, efeature : str
    relative : bool
        Amplitudes are in percent of rheobase instead of nA.
    targets : iterable, optional
        Targets of this efeature, with mean, std, sample_size, and amplitude and tolerance in the unit of the axis. They
        are drawn as error bars, unless they have no mean.
    unit : str, optional
        Unit of the efeature; by default eFEL's, if eFEL has an efeature of this name.
    show_legend : bool
        Draw the legend, beside the axes.
    """
    n_legend_columns = math.ceil((len(cells) + 1) / 20) if show_legend else 0
    figure, axes = one_axes(width=5.6 + 1.6 * n_legend_columns)
    handles, labels = [], []
    n_values = 0
    for index, cell in enumerate(cells):
        color, marker = cell_style(index)
        points = _points(cell, protocol_name, efeature, relative)
        n_values += len(points)
        axes.plot(*points.T, marker, color=color, ms=4.5, mew=0, alpha=0.8)
        handles.append(Line2D([], [], color=color, marker=marker, ls="", ms=4.5))
        labels.append(cell.name)
    bars = [bar for bar in targets if bar.sample_size and np.isfinite(bar.mean)]
    for bar in bars:
        style = {"fmt": "_", "color": "black", "ms": 9, "mew": 1.6, "elinewidth": 1.0, "capsize": 3, "zorder": 3}
        axes.errorbar(bar.amplitude, bar.mean, xerr=bar.tolerance, yerr=bar.std, **style)
        axes.annotate(f"n={bar.sample_size}", (bar.amplitude, bar.mean), (4, 4), textcoords="offset points", size=7)
    if bars:
        handles.append(Line2D([], [], color="black", marker="+", ls="", ms=9, mew=1.2))
        labels.append("target: mean ± std,\namplitude ± tolerance")
    if relative:
        axes.axvline(100, color=GREY, lw=0.8, ls=":")
    unit = efeature_unit(efeature) if unit is None else unit
    axes.set_xlabel(_amplitude_label(cells, protocol_name, relative))
    axes.set_ylabel(f"{efeature} ({unit})" if unit else efeature, parse_math=False)
    whose = cells[0].name if len(cells) == 1 else f"{len(cells)} cells"
    axes.set_title(f"{whose}, {protocol_name}: {counted(n_values, 'sweep')}", size=11, parse_math=False)
    if show_legend:
        draw_labels(figure, handles, labels, loc="outside right upper", ncols=n_legend_columns)
    return figure


def draw_legend(cells: Sequence[Any]) -> Figure:
    """Draw the colour and marker of each cell, as `draw_efeature` uses them."""
    n_columns = max(1, math.ceil(len(cells) / 30))
    figure = Figure(figsize=(2.2 * n_columns, 0.4 + 0.22 * math.ceil(len(cells) / n_columns)))
    styles = [cell_style(index) for index in range(len(cells))]
    handles = [Line2D([], [], color=color, marker=marker, ls="", ms=5) for color, marker in styles]
    draw_labels(figure, handles, [cell.name for cell in cells], loc="center", ncols=n_columns)
    return figure


def plot_all_efeatures(
    cells: Sequence[Any], protocols: Iterable[Any], output_directory, *, absolute_amplitude: bool = False
) -> list[Path]:
    """Write every efeature of the protocols over the amplitude, for all cells together and for each.

    Parameters
    ----------
    cells : list
        Their recordings have ``efeatures``.
    protocols : iterable of Protocol
    output_directory : str or Path
    absolute_amplitude : bool
        Amplitudes of the targets are in nA instead of percent of rheobase.

    Returns
    -------
    list of Path
        ``<protocol>_<efeature>_amp.pdf`` and ``..._amp_rel.pdf``, with several cells also
        ``<cell>/<cell>_<protocol>_<efeature>_amp.pdf``, and ``legend.pdf``. An efeature without any value gives no
        file, and without any rheobase there are none in percent. Targets are converted between nA and percent by
        the mean rheobase of the cells drawn.
    """
    wanted: dict[tuple[str, str], list[Any]] = {}
    for protocol in protocols:
        for target in protocol.feature_targets:
            wanted.setdefault((protocol.name, target.efeature_name), []).append(target)
    groups = [(cells, Path(output_directory), "")] if len(cells) > 1 else []
    for cell in cells:
        folder, stem = folder_of_cell(output_directory, cell)
        groups.append(([cell], folder, f"{stem}_"))
    paths: list[Path] = []
    for (protocol_name, efeature), targets in wanted.items():
        unit = efeature_unit(targets[0].efel_feature_name)
        name = f"{file_name(protocol_name)}_{file_name(efeature)}_amp"
        for members, folder, prefix in groups:
            for relative in (False, True):
                if not any(len(_points(cell, protocol_name, efeature, relative)) for cell in members):
                    continue
                figure = draw_efeature(
                    members,
                    protocol_name,
                    efeature,
                    relative=relative,
                    targets=_error_bars(targets, _factor(members, protocol_name, absolute_amplitude, relative)),
                    unit=unit,
                    show_legend=len(members) <= CELLS_IN_A_LEGEND,
                )
                paths += write_figures([figure], folder / f"{prefix}{name}{'_rel' if relative else ''}.pdf")
    return paths + write_figures([draw_legend(cells)], Path(output_directory) / "legend.pdf") if paths else []


def _points(cell, protocol_name: str, efeature: str, relative: bool) -> np.ndarray:
    """Amplitude and value of each sweep that has both, shape (n_sweeps, 2)."""
    points = [
        (effective_amplitude(recording, absolute=not relative), recording.efeatures.get(efeature))
        for recording in cell.recordings
        if recording.protocol_name == protocol_name and not (relative and recording.ecode.effective == "delta")
    ]
    values = np.array(points, dtype=float).reshape(-1, 2)
    return values[np.isfinite(values).all(axis=1)]


def _amplitude_label(cells, protocol_name: str, relative: bool) -> str:
    if relative:
        return "amplitude (% of rheobase)"
    return "gap between pulses (ms)" if _is_gap(cells, protocol_name) else "amplitude above holding (nA)"


def _is_gap(cells, protocol_name: str) -> bool:
    """Whether amplitudes of this protocol are the gaps between pulses, in ms whatever the others are."""
    names = {r.ecode.effective for cell in cells for r in cell.recordings if r.protocol_name == protocol_name}
    return names == {"delta"}


def _factor(cells, protocol_name: str, absolute_amplitude: bool, relative: bool) -> float:
    """Return what turns the amplitudes of targets into the unit of the axis; nan without a rheobase."""
    if absolute_amplitude != relative or _is_gap(cells, protocol_name):
        return 1.0
    rheobases = [cell.rheobase for cell in cells if cell.rheobase]
    percent_per_na = 100 / float(np.mean(rheobases)) if rheobases else math.nan
    return percent_per_na if relative else 1 / percent_per_na


def _error_bars(targets, factor: float) -> list[ErrorBar]:
    bars = [ErrorBar(t.amplitude * factor, t.tolerance * factor, t.mean, t.std, t.sample_size) for t in targets]
    return [bar for bar in bars if math.isfinite(bar.amplitude)]

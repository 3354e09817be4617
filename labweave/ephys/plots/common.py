"""What all figures share: files and their names, colours, legends, and traces thinned to what can be seen."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from labweave.formats.writing import whole_file

PNG_DPI = 150
MOST_BYTES = 60  # three names and the rest of a file name have to be less than 255
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind people can tell apart (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
CURRENT, VOLTAGE, SPIKE, GREY = COLORS[5], "#333333", COLORS[1], "#777777"


def file_name(name: str) -> str:
    """Return a name that is safe as part of a file name.

    Letters, digits and ``._+-`` stay, others become ``_``. A name that had to be changed ends in a hash of
    the old one, so that two cells never share a file; so does a long one, cut to 60 bytes.
    """
    safe = re.sub(r"[^\w.+-]", "_", name).encode()[:MOST_BYTES].decode(errors="ignore").lstrip(".")
    return safe if safe == name and name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def decimate(t, samples, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a trace to what a figure of so many columns can show.

    The first and the last sample stay, and the smallest and the largest of each column. A trace with no more than two
    samples a column is returned whole.
    """
    if len(samples) <= 2 * n_columns:
        return t, samples
    width = math.ceil(len(samples) / n_columns)
    padding = -len(samples) % width
    columns = np.pad(samples, (0, padding), mode="edge").reshape(-1, width)
    starts = np.arange(len(columns)) * width
    extremes = [starts + columns.argmin(axis=1), starts + columns.argmax(axis=1), [0, len(samples) - 1]]
    kept = np.unique(np.concatenate(extremes).clip(max=len(samples) - 1))
    return t[kept], samples[kept]


def write_figures(figures: Iterable[Figure], path: Path) -> list[Path]:
    """Write figures, at least one, as pages of one PDF or as one file each; make the folder."""
    if path.suffix == ".pdf":
        metadata = {"Title": path.stem, "CreationDate": None}
        with whole_file(path) as part, PdfPages(part, metadata=metadata) as pages:
            for figure in figures:
                pages.savefig(figure)
        return [path]
    listed = list(figures)
    paths = [path] if len(listed) == 1 else [path.with_stem(f"{path.stem}_{n}") for n in range(1, len(listed) + 1)]
    for figure, target in zip(listed, paths, strict=True):
        with whole_file(target) as part:
            figure.savefig(part, format=target.suffix[1:], dpi=PNG_DPI)
    return paths


def folder_of_cell(output_directory, cell) -> tuple[Path, str]:
    """Return the folder for a cell's figures, and what their names begin with."""
    stem = file_name(cell.name)
    return Path(output_directory) / stem, stem


def one_axes(width: float = 7.2) -> tuple[Figure, Axes]:
    """Return a figure that is this wide (inches) and its axes."""
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_labels(figure: Figure, handles, labels: Sequence[str], **place) -> None:
    """Show labels as they are: matplotlib alone would hide those with a leading underscore and set $ as formula."""
    legend = figure.legend(handles, [" "] * len(labels), fontsize=8, frameon=False, **place)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=label, parse_math=False)


def cell_style(index: int) -> tuple[str, str]:
    """Return colour and marker of the cell with this index; 56 cells differ."""
    return COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]


def counted(n: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"

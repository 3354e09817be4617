"""Figures of recordings, firing rates, efeatures and impedance, made without a display.

The ``draw_`` functions return matplotlib figures, the ``plot_`` functions write them to files. No state
of matplotlib is changed, so that several threads can draw at once. A cell is any object with ``name``,
``rheobase`` (nA or None) and ``recordings``, the latter as `labweave.ephys.Recording`. File names are
made of the names of cells, protocols and efeatures, see `file_name`.
"""

from labweave.ephys.plots.common import decimate, file_name
from labweave.ephys.plots.efeatures import draw_efeature, draw_legend, plot_all_efeatures
from labweave.ephys.plots.impedance import draw_impedance, impedance, plot_cell_impedance
from labweave.ephys.plots.recordings import (
    draw_firing_rates,
    draw_recordings,
    plot_cell_recordings,
    plot_firing_rates,
)

__all__ = [
    "decimate",
    "draw_efeature",
    "draw_firing_rates",
    "draw_impedance",
    "draw_legend",
    "draw_recordings",
    "file_name",
    "impedance",
    "plot_all_efeatures",
    "plot_cell_impedance",
    "plot_cell_recordings",
    "plot_firing_rates",
]

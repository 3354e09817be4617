"""A window that shows the last seconds of a collector while it runs."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import numpy as np

from labweave.acquisition.accumulators import DataFrameAccumulator
from labweave.acquisition.qt import qt_missing

log = logging.getLogger(__name__)

MOST_POINTS = 2000


def live_view(accumulator: DataFrameAccumulator, *, last_s: float = 5.0, interval_ms: int = 50) -> Any:
    """Return a Qt widget with a trace per monitored column.

    Parameters
    ----------
    accumulator : DataFrameAccumulator
        Shows its ``plot_columns``; all of its columns when it has none of these.
    last_s : float, default: 5.0
        Time window, in s.
    interval_ms : int, default: 50
        How often it is drawn anew.

    Returns
    -------
    QWidget
        With ``refresh()``, which the timer calls. Show it with ``show()``.
    """
    try:
        widgets: Any = importlib.import_module("PyQt5.QtWidgets")
        core: Any = importlib.import_module("PyQt5.QtCore")
    except ImportError as error:
        raise qt_missing("live_view", str(error)) from None
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from matplotlib.figure import Figure

    class LiveView(widgets.QWidget):
        def __init__(self) -> None:
            super().__init__()
            self.setWindowTitle(accumulator.name or type(accumulator).__name__)
            self.resize(800, 500)
            self.canvas: Any = FigureCanvasQTAgg(Figure(layout="constrained"))
            layout = widgets.QVBoxLayout(self)
            layout.addWidget(self.canvas)
            self._lines: dict[str, Any] = {}
            accumulator.sig_acc_reset.connect(self._lines.clear)
            self._timer = core.QTimer(self)
            self._timer.timeout.connect(self._tick)
            self._timer.start(interval_ms)

        def _tick(self) -> None:
            try:
                self.refresh()
            except Exception:  # PyQt ends the program, and the experiment with it, when a slot raises
                self._timer.stop()
                log.exception("the live view stopped")

        def refresh(self) -> None:
            frame = accumulator.get_last_t(last_s)
            if frame is None:
                return
            fields = list(frame.columns[:-1])
            shown = [name for name in accumulator.plot_columns or () if name in fields] or fields
            if list(self._lines) != shown or not self._lines:
                self._arrange(shown)
            step = max(1, len(frame) // MOST_POINTS)
            times = frame["t"].to_numpy()[::step]
            for name, line in self._lines.items():
                line.set_data(times, np.asarray(frame[name], float)[::step])
                line.axes.relim()
                line.axes.autoscale_view(scalex=False)
                line.axes.set_xlim(times[-1] - last_s, times[-1])
            rate = f"{len(accumulator.stored_data):,} rows, {accumulator.get_fps():.0f} Hz"
            self.canvas.figure.axes[0].set_title(rate, loc="right", fontsize="small")
            self.canvas.draw_idle()

        def _arrange(self, shown: list[str]) -> None:
            figure = self.canvas.figure
            figure.clear()
            axes = np.atleast_1d(figure.subplots(max(1, len(shown)), sharex=True))
            self._lines = {
                name: axis.plot([], [], lw=1, color=f"C{index % 10}")[0]
                for index, (name, axis) in enumerate(zip(shown, axes, strict=False))
            }
            for name, axis in zip(shown, axes, strict=False):
                axis.set_ylabel(name)
                axis.spines[["top", "right"]].set_visible(False)
            axes[-1].set_xlabel("t (s)")

    return LiveView()

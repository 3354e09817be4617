"""Samples on eFEL's time grid: the numbers of eFEL's own interpolation, found once per recording."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_GRIDS: deque[Grid] = deque(maxlen=4)
"""The last ones. Most sweeps share one: an extraction of 40 features takes 2.5 times as long without them."""


@dataclass(frozen=True)
class Grid:
    """Where eFEL's grid lies among the samples. Times are in ms, float64."""

    samples: np.ndarray  # times of the samples, shape (n_samples,)
    step: float  # interval of the grid
    t: np.ndarray  # times of the grid, shape (n_points,)
    left: np.ndarray  # index of the sample before each point; that of the last sample behind the end

    @cached_property
    def beyond(self) -> np.ndarray:
        """Distance of each point from the sample before it, in ms; 0 behind the end."""
        behind = self.left == len(self.samples) - 1
        return np.where(behind, 0.0, self.t - self.samples[self.left])

    @cached_property
    def intervals(self) -> np.ndarray:
        """Distances of the samples in ms, one more for the last."""
        return np.append(np.diff(self.samples), 1.0)

    def interpolate(self, values) -> np.ndarray:
        """Values (n_samples,) on the grid, float64, shape (n_points,)."""
        values = np.asarray(values, dtype=np.float64)
        slopes = np.empty_like(values)
        np.subtract(values[1:], values[:-1], out=slopes[:-1])
        slopes[-1] = 0.0
        slopes /= self.intervals
        points = slopes[self.left]
        points *= self.beyond
        points += values[self.left]
        return points


def efel_grid(t, step: float) -> Grid:
    """Return eFEL's grid for samples at some times (rising, in ms) and its ``interp_step`` (ms).

    ValueError for fewer than 3 samples, or a step that is not positive.
    """
    if len(t) < 3 or not step > 0:
        raise ValueError(f"interpolation needs 3 samples or more and a positive interp_step, not {len(t)} and {step}")
    for grid in list(_GRIDS):
        if grid.step == step and np.array_equal(grid.samples, t):
            return grid
    grid = _make_grid(np.asarray(t, dtype=np.float64), step)
    _GRIDS.append(grid)
    return grid


def _make_grid(t, step: float) -> Grid:
    n_points = int(np.ceil((t[-1] - t[0]) / step))
    # eFEL adds the step again and again, so its points drift: a product would give other last digits
    points = np.full(n_points + 1, step)
    points[0] = t[0]
    points = np.cumsum(points)
    if points[-2] >= t[-1]:
        points = points[:-1]
    left = np.minimum(np.searchsorted(t[1:], points, side="left"), len(t) - 1)
    return Grid(t, step, points, left)

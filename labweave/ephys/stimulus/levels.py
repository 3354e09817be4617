"""Steps in a noisy current: the levels that fit it best, and whether the noise could have made them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_BLOCKS = 128  # a coarse search over these comes first
NOISE_FACTOR = 7.0  # pure noise of any colour stays below this
SMALLEST_NA = 1e-5
NORMAL_90 = 1.645  # nine in ten of normal deviates are smaller, in standard deviations


@dataclass(frozen=True)
class Levels:
    """A current that is constant between some changes."""

    changes: tuple[int, ...]  # first sample of each level but the first
    levels: np.ndarray  # mean current of each, in nA, shape (n_changes + 1,)
    certain: bool  # noise, hum and drift can't have made any of the changes
    precise: bool  # nor moved one by much more than the precision asked for

    def alike(self, one: int, other: int) -> bool:
        """Say whether two levels differ by less than half of what separates them from the level in between."""
        between = self.levels[one + 1] - self.levels[one]
        return bool(abs(self.levels[one] - self.levels[other]) < 0.5 * abs(between))


def fit_levels(samples, n_changes: int, fewest: int, precision: int) -> Levels:
    """Fit a current that changes a given number of times, by least squares.

    Parameters
    ----------
    samples : ndarray, shape (n_samples,)
        nA.
    n_changes : int
    fewest : int
        A certain change has at least this many samples before and after it.
    precision : int
        How many samples a change may be off.

    Returns
    -------
    Levels
        In too few samples nothing is certain.

    Notes
    -----
    The height of each change is compared with the noise: the spread of means of what the fit leaves over, each mean
    over as many samples as the shorter of the two levels has (at most 1/32 of all). So hum averages out, but drift
    and other shapes don't.
    """
    if len(samples) < (n_changes + 1) * fewest:
        return Levels((0,) * n_changes, np.zeros(n_changes + 1), False, False)
    mean = float(np.mean(samples))
    sums = np.zeros(len(samples) + 1)
    np.cumsum(samples - mean, out=sums[1:])
    bounds = [0, *_best_changes(sums, n_changes), len(samples)]
    lengths = np.diff(bounds)
    levels = np.diff(sums[bounds]) / lengths
    heights, shorter = np.abs(np.diff(levels)), np.minimum(lengths[:-1], lengths[1:])
    noise = [_noise(sums, bounds, levels, min(int(n), len(samples) // 32)) for n in shorter]
    certain = np.min(shorter) >= fewest and np.all(heights > np.maximum(NOISE_FACTOR * np.array(noise), SMALLEST_NA))
    nearby = [_largest_nearby(sums, bounds, levels, k, precision) for k in range(n_changes)]
    precise = np.all(heights > np.maximum(4.0 * _noise(sums, bounds, levels, precision), 2.0 * np.array(nearby)))
    return Levels(tuple(bounds[1:-1]), levels + mean, bool(certain), bool(precise))


def _best_changes(sums, n_changes: int) -> list[int]:
    """Changes that explain most of the variance: coarse ones are refined, and compete again until nothing is new."""
    n_samples = len(sums) - 1
    candidates = np.linspace(0, n_samples, min(N_BLOCKS, n_samples) + 1).astype(np.int64)
    reach = n_samples // min(N_BLOCKS, n_samples) + 1
    for _ in range(5):
        changes = _refined(sums, _changes_among(sums, candidates, n_changes), reach)
        known, candidates = len(candidates), np.union1d(candidates, changes)
        if len(candidates) == known:
            break
    return changes


def _changes_among(sums, candidates, n_changes: int) -> list[int]:
    """The best changes at some of the candidates, the first and last of which are the ends (dynamic programming)."""
    lengths = candidates[None, :] - candidates[:, None]
    differences = sums[candidates][None, :] - sums[candidates][:, None]
    explained = np.where(lengths > 0, differences * differences / np.where(lengths > 0, lengths, 1), -np.inf)
    best, previous = explained[0], []
    for _ in range(n_changes):
        total = best[:, None] + explained
        previous.append(np.argmax(total, axis=0))
        best = np.max(total, axis=0)
    changes, end = [], len(candidates) - 1
    for before in reversed(previous):
        end = before[end]
        changes.insert(0, int(candidates[end]))
    return changes


def _refined(sums, changes: list[int], reach: int) -> list[int]:
    """Each change at the sample that fits best, within reach of where it was."""
    bounds = [0, *changes, len(sums) - 1]
    for k in range(1, len(bounds) - 1):
        low, high = bounds[k - 1], bounds[k + 1]
        at = np.arange(max(low + 1, bounds[k] - reach), min(high, bounds[k] + reach + 1))
        explained = (sums[at] - sums[low]) ** 2 / (at - low) + (sums[high] - sums[at]) ** 2 / (high - at)
        bounds[k] = int(at[np.argmax(explained)])
    return bounds[1:-1]


def _largest_nearby(sums, bounds, levels, k: int, n_samples: int) -> float:
    """Largest deviation (nA) from its level of a mean over n_samples, among four on each side of a change."""
    change = bounds[k + 1]
    largest = 0.0
    for segment, sign in ((k, -1), (k + 1, 1)):
        room = (bounds[segment + 1] - bounds[segment]) // n_samples
        means = np.diff(sums[change + sign * n_samples * np.arange(min(4, room) + 1)]) * sign / n_samples
        largest = max(largest, float(np.max(np.abs(means - levels[segment]), initial=0.0)))
    return largest


def _noise(sums, bounds, levels, n_samples: int) -> float:
    """Spread (nA) of means over n_samples around their level; one in ten is left out as an artefact."""
    n_samples = max(1, n_samples)
    deviations = [
        np.diff(sums[np.arange(start, stop + 1, n_samples)]) / n_samples - level
        for start, stop, level in zip(bounds[:-1], bounds[1:], levels, strict=True)
    ]
    return float(np.quantile(np.abs(np.concatenate(deviations)), 0.9)) / NORMAL_90

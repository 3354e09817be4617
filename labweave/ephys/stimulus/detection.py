"""Where a stimulus is, from the current alone.

BluePyEfe's rule comes first: the stimulus is where the median-filtered current leaves the holding current by several
standard deviations of the first and last samples. On clean sweeps that is right. With much noise, or when the stimulus
starts early, it is wrong and nobody notices. So the rule counts only when the unfiltered current agrees, or a
least-squares fit of levels does. If neither agrees the fit counts, provided it is certain; else the stimulus is
"not detected".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from labweave.ephys.stimulus.levels import Levels, fit_levels
from labweave.ephys.stimulus.sweep import BASE_SAMPLES, WINDOW, Sweep, median
from labweave.formats.recordings.notices import StimulusError

MARGIN_MS = 2.0  # no step starts or ends closer to the ends of a sweep
AGREEMENT_MS = 1.0  # two rules that find a change this close to each other agree
PRECISION_MS = 5.0  # a change that noise may have moved further gets a warning
PLATEAU_SAMPLES = 50


@dataclass(frozen=True)
class Detection:
    """What was detected: ``indices`` are the stimulus's first sample, the changes inside it, and its last sample."""

    indices: tuple[int, ...]
    found: bool  # False for a guess
    n_base: int = BASE_SAMPLES  # samples before the stimulus that show the holding current
    fitted: bool = False  # the fit was needed


@dataclass(frozen=True)
class Away:
    """Where the filtered current is away from a level: from sample ``start`` to sample ``stop``.

    It is ``clear`` when the unfiltered current agrees: nearly all samples in between are away, and nearly none outside.
    """

    start: int
    stop: int
    clear: bool


def detect_step(sweep: Sweep, ton: int | None = None, toff: int | None = None) -> Detection:
    """Detect start and end of one step, where not given.

    The result's indices are ton and toff; when nothing leaves the holding current, 2 ms from the ends of the sweep.
    """
    first, last = search_limits(sweep)
    first = first if ton is None else ton
    n_base = BASE_SAMPLES if ton is None else ton
    away = find_away(sweep, holding_level(sweep, n_base), noise_threshold(sweep, 4.5), first, last)
    start, stop, found = first, last, False
    if away is not None:
        start, stop = (away.start if ton is None else ton), away.stop
        found = stop < last and (ton is not None or start > first)
    by_rule = Detection((start, stop if toff is None else toff), found, n_base)
    shows_base = ton is not None or start >= BASE_SAMPLES
    if sweep.follows_bluepyefe or (found and shows_base and away and away.clear):
        return by_rule
    n_changes = (ton is None) + (toff is None)
    fit = fit_sweep(sweep, n_changes, ton or 0, toff)
    returns = n_changes == 1 or fit.alike(0, 2)
    if not (fit.certain and returns):
        return Detection(by_rule.indices, False, n_base)
    warn_imprecise(sweep, fit)
    start = fit.changes[0] if ton is None else ton
    stop = fit.changes[-1] - 1 if toff is None else toff
    if found and shows_base and agree(sweep, by_rule.indices, (start, stop)):
        return by_rule
    reach = sweep.in_samples(AGREEMENT_MS)
    if found and shows_base and (by_rule.indices[0] < start - reach or by_rule.indices[1] > stop + reach):
        sweep.warn("the current also changes outside the detected step; check its times")
    return Detection((start, stop), True, start, fitted=True)


def detect_sahp(sweep: Sweep, ton: int | None = None) -> tuple[Detection, float]:
    """Detect a short step on a long one, whose start ``ton`` may be given; StimulusError without a long step.

    The result's indices are ton, tmid, tmid2 and toff; beside it stands the current (nA) at the ends of the long step.
    """
    by_rule, plateau, clear = _sahp_by_rule(sweep, ton)
    if sweep.follows_bluepyefe or clear:
        return _required(sweep, by_rule), plateau
    fit = fit_sweep(sweep, 4 if ton is None else 3, ton or 0)
    before = len(fit.changes) - 4  # -1 when the level before the long step is not in the fit
    returns = fit.alike(before + 1, before + 3) and (ton is not None or fit.alike(0, 4))
    if not (fit.certain and returns):
        guess = _required(sweep, by_rule)
        return Detection(guess.indices, False), plateau
    warn_imprecise(sweep, fit)
    start, tmid, after_tmid2, after_toff = fit.changes if ton is None else (ton, *fit.changes)
    indices = (start, tmid, after_tmid2 - 1, after_toff - 1)
    if by_rule and by_rule.found and start >= BASE_SAMPLES and agree(sweep, by_rule.indices, indices):
        return by_rule, plateau
    return Detection(indices, True, start, fitted=True), plateau


def _sahp_by_rule(sweep: Sweep, ton: int | None) -> tuple[Detection | None, float, bool]:
    """BluePyEfe's detection (None without a long step), the plateau in nA, and whether the current agrees clearly."""
    threshold = noise_threshold(sweep, 2.0)
    first, last = search_limits(sweep)
    first = first if ton is None else ton
    level = holding_level(sweep, 0 if ton == 0 else BASE_SAMPLES)
    away = find_away(sweep, level, threshold, first, last)
    start, stop = (first, last) if away is None else (away.start if ton is None else ton, away.stop)
    if start + PLATEAU_SAMPLES >= stop - PLATEAU_SAMPLES - 1:
        return None, np.nan, False
    ends = [(start, start + PLATEAU_SAMPLES), (stop - PLATEAU_SAMPLES, stop)]
    plateau = median(np.concatenate([sweep.smooth_part(*end) for end in ends]))
    middle = find_away(sweep, plateau, threshold, start + PLATEAU_SAMPLES, stop - PLATEAU_SAMPLES - 1)
    if middle is None or middle.start == middle.stop:
        return Detection((start, start + PLATEAU_SAMPLES, stop - PLATEAU_SAMPLES - 1, stop), False), plateau, False
    found = stop < last and (ton is not None or start > first)
    clear = found and away is not None and away.clear and middle.clear and start >= BASE_SAMPLES
    return Detection((start, middle.start, middle.stop, stop), found), plateau, clear


def _required(sweep: Sweep, detection: Detection | None) -> Detection:
    """Raise StimulusError when there is none."""
    if detection is None:
        raise StimulusError(
            f"{sweep.name}: the long step was not detected. Give ton, tmid, tmid2 and toff in the metadata."
        )
    return detection


def detect_ramp_end(sweep: Sweep, ton: int) -> tuple[int, bool]:
    """Detect the end of a ramp from its start: the sample, and whether it was found.

    BluePyEfe takes the maximum of the filtered current, which comes up to half a window early. It counts when the
    largest jump of the current, between means over a window, is that close; otherwise the jump counts, if it is large.
    """
    highest = ton + int(np.argmax(sweep.smooth[ton:]))
    if sweep.follows_bluepyefe:
        return highest, True
    sums = np.concatenate([[0.0], np.cumsum(sweep.samples[ton:])])
    if len(sums) < 3 * WINDOW:
        return highest, False
    means = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    jumps = np.abs(means[:-WINDOW] - means[WINDOW:])
    largest = int(np.argmax(jumps))
    found = bool(jumps[largest] > max(noise_threshold(sweep, 1.0), 4.0 * median(jumps)))
    end = ton + WINDOW + largest
    return (highest if not found or abs(highest - end) <= WINDOW // 2 + 1 else end), found


def detect_waveform(sweep: Sweep, current, ton: int | None = None, toff: int | None = None) -> Detection:
    """Detect start and end of an irregular stimulus in a current (nA, filtered or not), where not given.

    BluePyEfe takes the noise of the distance from the holding current, which is smaller than that of the current
    itself. So its window counts only when six standard deviations of the current give the same.
    """
    n_base = BASE_SAMPLES if ton is None else ton
    deviation = current - holding_level(sweep, n_base)
    distance = np.abs(deviation)
    n_noise = sweep.in_samples(10.0)
    largest = float(np.max(distance))

    def beyond(threshold: float) -> Detection:
        away = np.flatnonzero(distance > max(threshold, 0.02 * largest, 1e-5))
        if len(away) == 0:
            return Detection((ton or 0, len(current) - 1 if toff is None else toff), False, n_base)
        start = int(away[0]) if ton is None else ton
        stop = min(int(away[-1]) + 1, len(current) - 1) if toff is None else toff
        return Detection((start, stop), bool(away[0] > 0), n_base)

    by_rule = beyond(4.5 * float(np.std(np.concatenate([distance[:n_noise], distance[-n_noise:]]))))
    if sweep.follows_bluepyefe:
        return by_rule
    noise = float(np.std(np.concatenate([deviation[:n_noise], deviation[-n_noise:]])))
    careful = beyond(6.0 * noise)
    if not careful.found or largest < 12.0 * noise:
        return Detection(by_rule.indices, False, n_base)
    return by_rule if by_rule.found and agree(sweep, by_rule.indices, careful.indices) else careful


def find_away(sweep: Sweep, level: float, threshold: float, first: int, last: int) -> Away | None:
    """Find where the filtered current is further than a threshold (nA) from a level (nA).

    Only samples from first to last count; None when none of them is away.

    The median of 85 samples is above a value when 43 of them are. So nothing is filtered: where 43 samples of one
    window are above, so is every median whose window holds them all. Filtering instead makes a whole extraction
    with detection take 1.8 times as long.
    """
    half = WINDOW // 2
    distance = sweep.samples - level
    starts, stops, clear = [], [], False
    for flags in (distance > threshold, distance < -threshold):
        at = np.flatnonzero(np.pad(flags, half, mode="symmetric"))  # counted from half a window before the first
        at = at[np.searchsorted(at, first) : np.searchsorted(at, last + 2 * half, "right")]
        dense = at[half:] - at[: max(0, len(at) - half)] <= 2 * half
        if not dense.any():
            continue
        start = max(first, int(at[np.argmax(dense) + half]) - 2 * half)
        stop = min(last, int(at[len(dense) - 1 - np.argmax(dense[::-1])]))
        inside = np.count_nonzero(flags[start : stop + 1])
        outside = np.count_nonzero(flags[first : last + 1]) - inside
        clear = inside > 0.99 * (stop + 1 - start) and outside <= 0.1 * (last + start - first - stop)
        starts.append(start)
        stops.append(stop)
    if not starts:
        return None
    return Away(min(starts), max(stops), bool(clear) and len(starts) == 1)


def fit_sweep(sweep: Sweep, n_changes: int, first: int = 0, stop: int | None = None) -> Levels:
    """Fit levels to the samples from first up to stop; changes are samples of the sweep."""
    samples = sweep.samples[first:stop]
    fit = fit_levels(samples, n_changes, sweep.in_samples(MARGIN_MS), sweep.in_samples(PRECISION_MS))
    return replace(fit, changes=tuple(change + first for change in fit.changes))


def agree(sweep: Sweep, found: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Say whether two rules put every change within AGREEMENT_MS of each other."""
    return all(abs(f - o) <= sweep.in_samples(AGREEMENT_MS) for f, o in zip(found, other, strict=True))


def warn_imprecise(sweep: Sweep, fit: Levels) -> None:
    """Warn when noise may have moved a change."""
    if not fit.precise:
        sweep.warn(f"noise may have moved the detected times by more than {PRECISION_MS:g} ms; give them")


def holding_level(sweep: Sweep, n_samples: int) -> float:
    """Return the holding current that the samples show, in nA. A given one may be rounded: it counts only without."""
    given = sweep.given_amplitude("hypamp")
    return given if n_samples == 0 and given is not None else sweep.base(n_samples)


def noise_threshold(sweep: Sweep, n_noise: float) -> float:
    """Return some standard deviations of the first and last 50 samples, in nA, at least 1e-5."""
    return max(n_noise * float(np.std(np.concatenate([sweep.current[:50], sweep.current[-50:]]))), 1e-5)


def search_limits(sweep: Sweep) -> tuple[int, int]:
    """First and last sample of a detected step: MARGIN_MS from the ends."""
    margin = sweep.in_samples(MARGIN_MS)
    return margin, len(sweep.t) - 1 - margin

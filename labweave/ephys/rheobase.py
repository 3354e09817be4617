"""Rheobase of a cell: the smallest current that makes it fire, from amplitudes and spike counts.

There are four strategies. Each is a function of amplitudes (rising) and spike counts that returns a current in nA, or
None, and the reason. `find_rheobase` chooses the recordings that count, calls one strategy, and warns.
"""

from __future__ import annotations

import inspect
import math
import numbers
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labweave.errors import ConfigError
from labweave.formats.recordings.notices import RheobaseWarning

DEFAULT_RHEOBASE_PROTOCOLS = (
    "IV", "Step", "FirePattern", "IDrest", "IDRest", "IDthresh", "IDThresh", "IDThres", "IDthres",
)  # fmt: skip
SUSPICIOUSLY_LOW_NA = 0.01
BLUEPYEFE = "bluepyefe"
_ROUNDING = 1e-6
"""Part of a bin by which an amplitude may miss the bin's edge and still belong to it."""

Found = tuple[float | None, str]


class UnknownSetting(ConfigError, TypeError):
    """A setting that the strategy does not have."""


@dataclass(frozen=True)
class RheobaseResult:
    """A rheobase, and how it was found."""

    rheobase: float | None  # nA; None when no recording qualifies
    n_recordings: int  # that were looked at
    reason: str  # for a person


def absolute(amp_na: np.ndarray, n_spikes: np.ndarray, spike_threshold: int = 1) -> Found:
    """Lowest amplitude with at least ``spike_threshold`` spikes."""
    enough = np.flatnonzero(n_spikes >= spike_threshold)
    if len(enough) == 0:
        return None, f"no recording has {spike_threshold} or more spikes"
    found = enough[0]
    return float(amp_na[found]), f"lowest amplitude with {spike_threshold} or more spikes ({n_spikes[found]:g})"


def flush(
    amp_na: np.ndarray, n_spikes: np.ndarray, flush_length: int = 1, upper_bound_spikecount: int | None = None
) -> Found:
    """Lowest amplitude with spikes whose next ``flush_length`` recordings all have spikes too.

    A spurious spike at a low current is skipped. A recording with more than ``upper_bound_spikecount`` spikes ends the
    search without a result: the threshold was passed between two steps.
    """
    for index, amplitude in enumerate(amp_na):
        if upper_bound_spikecount is not None and n_spikes[index] > upper_bound_spikecount:
            return None, (
                f"{n_spikes[index]:g} spikes at {amplitude:.4g} nA, more than {upper_bound_spikecount}, "
                "come before any flush of spiking recordings"
            )
        run = n_spikes[index : index + flush_length + 1]
        if len(run) == flush_length + 1 and np.all(run > 0):
            return float(amplitude), f"lowest amplitude with spikes there and in the next {flush_length} recordings"
    return None, f"no recording with spikes is followed by {flush_length} with spikes"


def majority(amp_na: np.ndarray, n_spikes: np.ndarray, min_step: float = 0.01, majority: float = 0.5) -> Found:
    """Centre of the first bin of amplitudes where at least the share ``majority`` of the recordings spikes.

    Bins are ``min_step`` (nA) wide and begin at the lowest amplitude of all recordings, silent ones
    included: ``[lowest, lowest + min_step)``, ``[lowest + min_step, lowest + 2 min_step)`` and so on, up to the bin
    that holds the highest amplitude. A bin without recordings is passed over.
    """
    bins = np.floor((amp_na - amp_na[:1]) / min_step + _ROUNDING)
    for number in np.unique(bins):
        spiking = n_spikes[bins == number] > 0
        if np.mean(spiking) >= majority:
            centre = float(amp_na[0] + (number + 0.5) * min_step)
            return centre, f"centre of the first bin where {np.sum(spiking)} of {len(spiking)} recordings spike"
    return None, f"in no bin of {min_step:g} nA does a share of {majority:g} of the recordings spike"


def interpolation(amp_na: np.ndarray, n_spikes: np.ndarray) -> Found:
    """Amplitude at one spike on the line fitted to amplitude over spike count.

    Recordings before the first step from silence to spikes are left out of the fit.
    """
    steps = np.flatnonzero((n_spikes[:-1] == 0) & (n_spikes[1:] > 0))
    if len(steps) == 0:
        return None, "no silent recording is followed by one with spikes"
    start = steps[0]
    slope, intercept = np.polyfit(n_spikes[start:], amp_na[start:], 1)
    found = float(slope + intercept)
    if found <= 0:
        return None, f"the line through {len(amp_na) - start} recordings is at {found:.4g} nA for one spike"
    return found, f"one spike on the line through {len(amp_na) - start} recordings"


def _majority_of_bluepyefe(
    amp_na: np.ndarray, n_spikes: np.ndarray, min_step: float = 0.01, majority: float = 0.5
) -> Found:
    """As BluePyEfe: a bin too high, and blind to the last bin. All its candidates spike, so the first bin qualifies."""
    edges = np.arange(amp_na[0], amp_na[-1], min_step) if len(amp_na) else ()
    if len(edges) < 2:
        return None, f"the amplitudes of spiking recordings span no more than one bin of {min_step:g} nA"
    return float(edges[1] + min_step / 2), "one bin above the lowest amplitude with spikes"


Strategy = Callable[..., Found]
STRATEGIES: dict[str, Strategy] = {
    "absolute": absolute,
    "flush": flush,
    "majority": majority,
    "interpolation": interpolation,
}


def find_rheobase(
    amp_na,
    n_spikes,
    strategy: str = "absolute",
    settings: Mapping[str, Any] | None = None,
    compat: str | None = None,
) -> RheobaseResult:
    """Find the rheobase of one cell from its recordings, in any order.

    Parameters
    ----------
    amp_na : array_like, shape (n_recordings,)
        Step amplitudes above holding, in nA.
    n_spikes : array_like, shape (n_recordings,)
        Spikes inside the stimulus; 0 is a count.
    strategy : str
        A name of `STRATEGIES`.
    settings : mapping, optional
        Of the strategy, with their defaults:

        - absolute: ``spike_threshold`` (1)
        - flush: ``flush_length`` (1), ``upper_bound_spikecount`` (None)
        - majority: ``min_step`` (0.01 nA), ``majority`` (0.5)
        - interpolation: none
    compat : {None, "bluepyefe"}
        "bluepyefe": as BluePyEfe 2.3.63 with eFEL 5.4 or later.

    Raises
    ------
    ConfigError
        Unknown strategy or compat, or a setting outside its range.
    UnknownSetting
        A setting that the strategy does not have (also a TypeError).
    ValueError
        Arrays of different length.

    Notes
    -----
    Only positive amplitudes count, since rebound and spontaneous spikes are no rheobase. Recordings without amplitude
    or count (nan) are left out. Where no rheobase is found it is None, with a `RheobaseWarning`.

    BluePyEfe loses silent recordings, so its flush sees no gap and its interpolation finds nothing. Its majority
    answers one bin too high and never looks at the last bin. It accepts spikes at negative currents, and takes a
    rheobase of 0 nA as none. ``compat`` does the same, except that majority without any spike is None, not an error.

    Examples
    --------
    >>> from labweave.ephys import find_rheobase
    >>> find_rheobase([0.05, 0.10, 0.15, 0.20], [0, 0, 1, 4])
    RheobaseResult(rheobase=0.15, n_recordings=4, reason='lowest amplitude with 1 or more spikes (1)')
    >>> find_rheobase([0.05, 0.10, 0.15, 0.20], [1, 0, 1, 4], "flush", {"flush_length": 1}).rheobase
    0.15
    """
    validate_settings(strategy, settings, compat)
    amplitudes = np.asarray(amp_na, dtype=np.float64).reshape(-1)
    counts = np.array([np.nan if count is None else count for count in n_spikes], dtype=np.float64)
    if amplitudes.shape != counts.shape:
        raise ValueError(f"{len(amplitudes)} amplitudes, but {len(counts)} spike counts")
    as_bluepyefe = compat == BLUEPYEFE
    usable = np.isfinite(amplitudes) & np.isfinite(counts) & ((counts if as_bluepyefe else amplitudes) > 0)
    amplitudes, counts = amplitudes[usable], counts[usable]
    order = np.lexsort((counts, amplitudes))
    find = _majority_of_bluepyefe if as_bluepyefe and strategy == "majority" else STRATEGIES[strategy]
    rheobase, reason = find(amplitudes[order], counts[order], **(settings or {}))
    if len(amplitudes) == 0:
        reason = "no recording with a spike" if as_bluepyefe else "no recording with a positive amplitude"
    elif rheobase == 0:
        rheobase, reason = None, "it would be 0 nA, of which no amplitude is a percentage"
    if rheobase is None:
        warnings.warn(f"No rheobase ({strategy}): {reason}.", RheobaseWarning, stacklevel=2)
    elif rheobase < SUSPICIOUSLY_LOW_NA:
        warnings.warn(
            f"A rheobase of {rheobase:.4g} nA is suspiciously low: does the cell fire spontaneously?",
            RheobaseWarning,
            stacklevel=2,
        )
    return RheobaseResult(rheobase, len(amplitudes), reason)


def validate_settings(strategy: str, settings: Mapping[str, Any] | None = None, compat: str | None = None) -> None:
    """Check a strategy and its settings before they are used or kept; arguments and errors of `find_rheobase`."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"Rheobase strategy {strategy!r} is unknown. Use one of {', '.join(STRATEGIES)}.")
    if compat not in (None, BLUEPYEFE):
        raise ConfigError(f"compat {compat!r} is unknown. Use {BLUEPYEFE!r} or None.")
    known = list(inspect.signature(STRATEGIES[strategy]).parameters)[2:]
    for name, value in (settings or {}).items():
        if name not in known:
            what = f"its settings are {', '.join(known)}" if known else "it has no settings"
            raise UnknownSetting(f"The rheobase strategy {strategy!r} has no setting {name!r}; {what}.")
        is_valid, wanted = _ALLOWED[name]
        if not is_valid(value):
            raise ConfigError(f"{name} of the rheobase strategy {strategy!r} is {value!r}, must be {wanted}.")


def _is_count(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1


def _is_positive(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < value < math.inf


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "spike_threshold": (_is_count, "a whole number, 1 or more"),
    "flush_length": (_is_count, "a whole number, 1 or more"),
    "upper_bound_spikecount": (lambda value: value is None or _is_count(value), "None or a whole number, 1 or more"),
    "min_step": (_is_positive, "a number above 0, in nA"),
    "majority": (lambda value: _is_positive(value) and value <= 1, "a share above 0 and up to 1"),
}

"""Spikes inside the stimulus, as eFEL finds them, and the threshold used when nobody gives one."""

from __future__ import annotations

import numpy as np

from labweave.ephys.efeatures.interpolation import efel_grid

EFEL_INTERP_STEP = 0.1  # ms, eFEL's own default


def auto_threshold(voltage_mv, ton: int, toff: int) -> float:
    """Return a spike threshold in mV: 20 above the higher of base and plateau, at most 50.

    ``ton`` is the first sample of the stimulus, ``toff`` the one behind its last. With ton at sample 0 the plateau is
    also the base.
    """
    # in the precision of the samples, as in BluePyEfe, for the same last digits
    precision = np.asarray(voltage_mv).dtype.type
    plateau = precision(np.median(voltage_mv[ton:toff]))
    base = precision(np.median(voltage_mv[:ton])) if ton > 0 else plateau
    return float(np.clip(max(base, plateau) + 20.0, base + 20.0, 50.0))


def peak_indices(voltage_mv, threshold_mv: float) -> np.ndarray:
    """Return the index of the highest point of each excursion above a threshold.

    An excursion goes from a sample above the threshold that follows one below it, to the next sample below that follows
    one above. One that the trace's start or end cuts does not count.
    """
    above, below = voltage_mv > threshold_mv, voltage_mv < threshold_mv
    ups = np.flatnonzero(above[1:] & below[:-1]) + 1
    downs = np.flatnonzero(below[1:] & above[:-1]) + 1
    if len(ups) == 0:
        return np.empty(0, dtype=np.intp)
    downs = downs[np.searchsorted(downs, ups[0]) :]
    peaks = [up + int(np.argmax(voltage_mv[up : down + 1])) for up, down in zip(ups, downs, strict=False) if up <= down]
    return np.array(peaks, dtype=np.intp)


def spike_times(t_ms, voltage_mv, ton_ms, toff_ms, threshold_mv=None, efel_settings=None) -> np.ndarray:
    """Find the times of the spikes of one sweep.

    Parameters
    ----------
    t_ms, voltage_mv : ndarray, shape (n_samples,)
    ton_ms, toff_ms : float
        The stimulus. Only spikes inside count, unless ``strict_stiminterval`` is False. The settings' ``stim_start``
        and ``stim_end`` are not used here, as in BluePyEfe.
    threshold_mv : float, optional
        For settings without ``Threshold``; by default the `auto_threshold` of the sweep.
    efel_settings : dict, optional
        eFEL's settings, of which ``Threshold``, ``interp_step`` (0.1) and ``strict_stiminterval`` (True) matter.

    Returns
    -------
    ndarray of float64, shape (n_spikes,)
        Peaks in ms, those of eFEL's ``peak_time`` to the last digit. Empty for a silent sweep.

    Examples
    --------
    >>> import numpy as np
    >>> from labweave.ephys import spike_times
    >>> t_ms = np.arange(0, 300, 0.1)
    >>> voltage_mv = -70 + 100 * np.exp(-((t_ms - 150) ** 2))
    >>> spike_times(t_ms, voltage_mv, 100, 200, threshold_mv=-20).round(3)
    array([150.])
    """
    settings = efel_settings or {}
    threshold = settings.get("Threshold", threshold_mv)
    if threshold is None:
        ton, toff = np.searchsorted(t_ms, [ton_ms, toff_ms])
        threshold = auto_threshold(voltage_mv, int(ton), int(toff))
    if not np.max(voltage_mv) > threshold:
        return np.empty(0)
    grid = efel_grid(t_ms, interp_step(settings))
    peaks = grid.t[peak_indices(grid.interpolate(voltage_mv), float(threshold))]
    is_strict = settings.get("strict_stiminterval", True)
    return peaks[(peaks >= ton_ms) & (peaks <= toff_ms)] if is_strict else peaks


def interp_step(efel_settings) -> float:
    """Return the interval of eFEL's grid in ms."""
    return float(efel_settings.get("interp_step", EFEL_INTERP_STEP))

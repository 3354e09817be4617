"""Common features of a recording by arrays: eFEL's values to the last digit, without its lists and copies.

A feature belongs here when its value is the same as eFEL's for every trace; where eFEL's own value depends on
what lies behind its vectors in memory, nothing is answered. Three modules have the features, one has what
they share.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import fields

import numpy as np

from labweave.ephys.efeatures.arrays import spike_shape, spike_times, subthreshold
from labweave.ephys.efeatures.arrays.trace import OnlyEfelKnows, Trace
from labweave.ephys.efeatures.interpolation import Grid

FEATURES = {**spike_times.FEATURES, **spike_shape.FEATURES, **subthreshold.FEATURES}
_SETTINGS_WITHOUT_DEFAULT = {"stimulus_current", "offset", "decay_start_after_stim", "decay_end_after_stim"}


def array_efeatures(
    grid: Grid, voltage, efeatures, settings, start: float, stop: float
) -> dict[str, np.ndarray | None]:
    """Values of the features that arrays can give; the others are eFEL's.

    Parameters
    ----------
    grid : Grid
        Of the ``interp_step`` of the settings.
    voltage : ndarray, shape (n_points,)
        mV, on the grid.
    efeatures : list of str
        eFEL's names.
    settings : dict
        On top of eFEL's defaults. One that eFEL does not have may stand for a feature's value there: with such
        a one nothing is answered.
    start, stop : float
        The stimulus, in ms.

    Returns
    -------
    dict
        float64 array per feature, None where eFEL has no value. Features not answered are missing.

    Raises
    ------
    ValueError
        A setting has the wrong type.
    """
    import efel

    complete = efel.Settings()
    for name, value in settings.items():
        complete.set_setting(name, value)
    known = {field.name for field in fields(efel.Settings)} | _SETTINGS_WITHOUT_DEFAULT
    if not (known.issuperset(settings) and math.isfinite(start) and math.isfinite(stop) and start < stop):
        return {}
    if len(voltage) < 3 or not np.isfinite(voltage).all():
        return {}
    trace = Trace(grid, voltage, complete, start, stop)
    found: dict[str, np.ndarray | None] = {}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in efeatures:
            if name not in FEATURES:
                continue
            try:
                values = FEATURES[name](trace)
            except OnlyEfelKnows:
                continue
            is_missing = values is None or (not len(values) and name != "ISI_values")
            found[name] = None if is_missing else np.asarray(values, dtype=np.float64)
    return found

"""Common features of a recording by arrays: eFEL's values to the last digit, without its lists and copies.

A feature belongs here when its value equals eFEL's for every trace. Where eFEL reads what lies behind its vectors in
memory, there is no answer. Seldom asked features are left to eFEL: in an extraction of 20 features of all kinds they
gain nothing here. The features are in `spike_times`, `spike_shape` and `subthreshold`; `trace` has what they share.
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
    """Compute the features that arrays can give: a float64 array for each, None where eFEL has no value.

    The others are missing in the answer. ``voltage`` is on the grid, the stimulus from ``start`` to ``stop`` (ms).
    ``settings`` go on top of eFEL's defaults; ValueError for one of the wrong type. A setting that eFEL does not know
    may take the place of a feature's value there, so with such a setting there is no answer.
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

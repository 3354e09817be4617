"""Sweeps with a known stimulus and known spikes: 1 s at 10 kHz, step from 200 to 700 ms, -50 pA holding."""

from __future__ import annotations

import numpy as np

DT = 0.1


def sweep(amp=0.2, spikes=(), hold=-0.05, ton=200.0, toff=700.0, tend=1000.0, rest=-70.0, **more) -> dict:
    """One sweep in ms, mV, nA; triangular spikes of 2 ms to +30 mV peak at the given times (ms)."""
    t = np.arange(round(tend / DT)) * DT
    current = np.full(t.shape, hold)
    current[round(ton / DT) : round(toff / DT)] += amp
    voltage = np.full(t.shape, rest)
    for peak in spikes:
        voltage = np.maximum(voltage, 30.0 - (30.0 - rest) * np.abs(t - peak))
    return {"voltage": voltage, "current": current, "dt": DT, "t_unit": "ms", "v_unit": "mV", "i_unit": "nA", **more}

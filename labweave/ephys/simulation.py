"""A model cell for demos and tests: Hodgkin-Huxley currents under current clamp.

Fast sodium, delayed-rectifier potassium, slow non-inactivating potassium (M-like) and leak, with the
kinetics of Pospischil et al. 2008 (Biol. Cybern. 99:427, regular-spiking cells; after Traub & Miles
1991), one compartment. Conductances and capacitance are per cell so that cells differ in rheobase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

E_NA, E_K = 45.0, -90.0  # mV
_GRID = np.arange(-150.0, 100.0, 0.05)  # mV, where the gates are tabulated
SPIKE_MV = -20.0
DT_MS = 0.05


@dataclass(frozen=True)
class CellModel:
    """Parameters of one model cell; the conductances ``g_`` are the largest ones."""

    name: str = "model"
    capacitance_pf: float = 100.0
    g_leak_ns: float = 6.0
    g_na_ns: float = 2500.0  # sodium
    g_k_ns: float = 600.0  # delayed rectifier
    g_m_ns: float = 6.0  # M-like
    e_leak_mv: float = -70.0
    v_shift_mv: float = -58.0  # sets the spike threshold: moves sodium and delayed rectifier together
    tau_m_ms: float = 600.0  # slowest time constant of the M-like current


@dataclass(frozen=True)
class StepProtocol:
    """Current steps of one protocol."""

    name: str
    ton_ms: float
    toff_ms: float
    tend_ms: float
    amplitudes_pa: tuple[float, ...]  # above holding, one sweep each


PROTOCOLS = {
    "IDrest": StepProtocol("IDrest", 200.0, 800.0, 1000.0, tuple(np.arange(20.0, 401.0, 20.0).tolist())),
    "IV": StepProtocol("IV", 200.0, 700.0, 1000.0, (-100.0, -80.0, -60.0, -40.0, -20.0, 10.0)),
    "APWaveform": StepProtocol("APWaveform", 20.0, 70.0, 120.0, (300.0, 400.0, 500.0, 600.0)),
}


def example_cells(n_cells: int = 6) -> list[CellModel]:
    """Make cells that differ in size, leak and adaptation. Their rheobases rise from about 60 to about 250 pA."""
    steps = np.linspace(0.0, 1.0, n_cells) if n_cells > 1 else np.zeros(1)
    return [
        replace(
            CellModel(),
            name=f"sim{index + 1:02d}",
            capacitance_pf=80.0 + 80.0 * float(step),
            g_leak_ns=3.5 + 8.0 * float(step),
            g_na_ns=2000.0 + 2000.0 * float(step),
            g_k_ns=480.0 + 480.0 * float(step),
            g_m_ns=4.0 + 5.0 * float(step),
            e_leak_mv=-69.0 - 2.0 * float(step),
        )
        for index, step in enumerate(steps)
    ]


def simulate(cell: CellModel, current_pa, dt_ms: float = DT_MS) -> np.ndarray:
    """Simulate the membrane potential of a cell for given currents, all sweeps at once.

    Parameters
    ----------
    cell : CellModel
    current_pa : array_like, shape (n_sweeps, n_samples)
        Injected current. Each sweep starts from rest at its first sample's current.
    dt_ms : float
        Sampling interval and integration step, at most 0.1.

    Returns
    -------
    ndarray of float64, shape (n_sweeps, n_samples)
        mV, by exponential Euler for gates (tabulated) and voltage.

    Raises
    ------
    ValueError
        dt_ms above 0.1 or not positive, or currents of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from labweave.ephys import CellModel, simulate
    >>> current_pa = np.zeros((2, 4000))
    >>> current_pa[1, 1000:3000] = 200
    >>> voltage_mv = simulate(CellModel(), current_pa)
    >>> voltage_mv.shape, (voltage_mv.max(axis=1) > 0).tolist()
    ((2, 4000), [False, True])
    """
    current = np.asarray(current_pa, dtype=np.float64)
    if current.ndim != 2 or current.shape[1] == 0:
        raise ValueError(f"current_pa must have the shape (n_sweeps, n_samples), not {current.shape}")
    if not 0 < dt_ms <= 0.1:
        raise ValueError(f"dt_ms is {dt_ms}, must be above 0 and at most 0.1")
    steady, decay = _gate_tables(cell, dt_ms)
    voltage, gates = _rest(cell, current[:, 0], steady, decay, dt_ms)
    result = np.empty_like(current)
    for sample in range(current.shape[1]):
        result[:, sample] = voltage
        voltage, gates = _advance(cell, voltage, gates, current[:, sample], steady, decay, dt_ms)
    return result


def simulate_protocol(
    cell: CellModel,
    protocol: StepProtocol | str,
    *,
    amplitudes_pa=None,
    dt_ms: float = DT_MS,
    voltage_noise_mv: float = 0.1,
    current_noise_pa: float = 1.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Simulate the sweeps of one protocol, as a reader of recordings would give them.

    Parameters
    ----------
    cell : CellModel
    protocol : StepProtocol or str
        Or a name of `PROTOCOLS`.
    amplitudes_pa : array_like, optional
        They replace those of the protocol.
    dt_ms : float
        As in `simulate`.
    voltage_noise_mv, current_noise_pa : float
        Standard deviation of the amplifier's white noise, which is added after the simulation.
    seed : int
        Seed of the noise.

    Returns
    -------
    list of dict
        voltage (mV) and current (pA) as float32, dt (ms), units, protocol, and ton and toff (ms) under
        ``metadata``. `Recording` and `write_recordings` take them.

    Examples
    --------
    >>> from labweave.ephys import CellModel, simulate_protocol
    >>> sweeps = simulate_protocol(CellModel(), "IDrest", amplitudes_pa=[50, 200])
    >>> [sweep["voltage"].shape for sweep in sweeps], sweeps[0]["metadata"]
    ([(20000,), (20000,)], {'ton': 200.0, 'toff': 800.0})
    >>> [bool(sweep["voltage"].max() > 0) for sweep in sweeps]  # does the cell fire?
    [False, True]
    """
    if isinstance(protocol, str):
        protocol = PROTOCOLS[protocol]
    amplitudes = np.asarray(protocol.amplitudes_pa if amplitudes_pa is None else amplitudes_pa, dtype=np.float64)
    current = _step_currents(protocol, amplitudes, dt_ms)
    random = np.random.default_rng(seed)
    voltage = simulate(cell, current, dt_ms) + random.normal(0.0, voltage_noise_mv, current.shape)
    current = current + random.normal(0.0, current_noise_pa, current.shape)
    return [
        {
            "voltage": voltage[index].astype(np.float32),
            "current": current[index].astype(np.float32),
            "dt": dt_ms,
            "t_unit": "ms",
            "v_unit": "mV",
            "i_unit": "pA",
            "protocol": protocol.name,
            "metadata": {"ton": protocol.ton_ms, "toff": protocol.toff_ms},
        }
        for index in range(len(amplitudes))
    ]


def true_rheobase(cell: CellModel, duration_ms: float, *, highest_pa: float = 1000.0) -> float:
    """Find the smallest step that makes the noiseless cell fire: pA, at most 1 above the exact value.

    The step lasts ``duration_ms``; ValueError if not even ``highest_pa`` makes the cell fire. Each round divides the
    interval into 32 parts and simulates them together.
    """
    protocol = StepProtocol("search", 5.0, 5.0 + duration_ms, 6.0 + duration_ms, ())
    low, high = 0.0, highest_pa
    if not _fires(cell, protocol, np.array([high]))[0]:
        raise ValueError(f"{cell.name} does not fire at {highest_pa:g} pA within {duration_ms:g} ms")
    while high - low > 1.0:
        amplitudes = np.linspace(low, high, 33)[1:]
        first = int(np.argmax(_fires(cell, protocol, amplitudes)))
        low, high = (low if first == 0 else float(amplitudes[first - 1])), float(amplitudes[first])
    return high


def _step_currents(protocol: StepProtocol, amplitudes, dt_ms: float) -> np.ndarray:
    current = np.zeros((len(amplitudes), round(protocol.tend_ms / dt_ms)))
    current[:, round(protocol.ton_ms / dt_ms) : round(protocol.toff_ms / dt_ms)] += np.reshape(amplitudes, (-1, 1))
    return current


def _fires(cell, protocol, amplitudes) -> np.ndarray:
    voltage = simulate(cell, _step_currents(protocol, amplitudes, DT_MS))
    window = slice(round(protocol.ton_ms / DT_MS), round(protocol.toff_ms / DT_MS))
    return np.asarray(voltage[:, window].max(axis=1) > SPIKE_MV)


def _rest(cell, current, steady, decay, dt_ms):
    """Voltage and gates after settling. The slow gate is kept at its steady state, which it would reach too late."""
    voltage = np.full(current.shape, cell.e_leak_mv)
    gates = steady[_index(voltage)]
    for _ in range(round(300.0 / dt_ms)):
        voltage, gates = _advance(cell, voltage, gates, current, steady, decay, dt_ms)
        gates[:, 3] = steady[_index(voltage), 3]
    return voltage, gates


def _advance(cell, voltage, gates, current, steady, decay, dt_ms):
    """State one step later; gates are the columns m, h, n, p."""
    row = _index(voltage)
    target = steady[row]
    gates = target + (gates - target) * decay[row]
    m, h, n, p = gates.T
    g_na = cell.g_na_ns * m * m * m * h
    n2 = n * n
    g_k = cell.g_k_ns * n2 * n2 + cell.g_m_ns * p
    g_total = g_na + g_k + cell.g_leak_ns
    v_end = (g_na * E_NA + g_k * E_K + cell.g_leak_ns * cell.e_leak_mv + current) / g_total
    return v_end + (voltage - v_end) * np.exp(-dt_ms / cell.capacitance_pf * g_total), gates


def _index(voltage) -> np.ndarray:
    return np.clip((voltage - _GRID[0]) * (1.0 / 0.05) + 0.5, 0, len(_GRID) - 1).astype(np.intp)


def _gate_tables(cell: CellModel, dt_ms: float):
    """Steady states and decay per step of m, h, n, p on the voltage grid, shape (n_grid, 4)."""
    v = _GRID - cell.v_shift_mv
    opening = [
        0.32 * _linoid(v - 13.0, 4.0),
        0.128 * np.exp(-(v - 17.0) / 18.0),
        0.032 * _linoid(v - 15.0, 5.0),
    ]
    closing = [
        0.28 * _linoid(40.0 - v, 5.0),
        4.0 / (1.0 + np.exp(-(v - 40.0) / 5.0)),
        0.5 * np.exp(-(v - 10.0) / 40.0),
    ]
    steady = [a / (a + b) for a, b in zip(opening, closing, strict=True)]
    tau = [1.0 / (a + b) for a, b in zip(opening, closing, strict=True)]
    steady.append(1.0 / (1.0 + np.exp(-(_GRID + 35.0) / 10.0)))
    tau.append(cell.tau_m_ms / (3.3 * np.exp((_GRID + 35.0) / 20.0) + np.exp(-(_GRID + 35.0) / 20.0)))
    return np.stack(steady, axis=1), np.exp(-dt_ms / np.stack(tau, axis=1))


def _linoid(x, scale: float) -> np.ndarray:
    """Return x / (1 - exp(-x / scale)) without the hole at 0."""
    near = np.abs(x) < 1e-6
    safe = np.where(near, 1.0, x)
    return np.where(near, scale, safe / -np.expm1(-safe / scale))

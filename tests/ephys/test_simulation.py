"""The model cell against what is known of it, and through the whole chain to its true rheobase."""

from __future__ import annotations

import numpy as np
import pytest

from labweave import ephys
from labweave.formats.recordings import write_recordings

CELL = ephys.example_cells()[2]


def test_a_passive_cell_follows_ohm_and_its_time_constant():
    passive = ephys.CellModel(capacitance_pf=100.0, g_leak_ns=5.0, g_na_ns=0.0, g_k_ns=0.0, g_m_ns=0.0)
    current = np.zeros((1, 8000))
    current[:, 2000:] = -50.0  # from 100 ms on; tau = 100 pF / 5 nS = 20 ms
    voltage = ephys.simulate(passive, current, 0.05)[0]
    assert voltage[1999] == pytest.approx(-70.0)
    assert voltage[-1] == pytest.approx(-80.0, abs=1e-3)
    assert voltage[2400] == pytest.approx(-70.0 - 10.0 * (1.0 - np.exp(-1.0)), abs=0.02)


def test_the_solution_does_not_depend_on_the_step():
    current = np.full((1, 4000), 0.0)
    current[:, 400:3600] = 150.0
    coarse = ephys.simulate(CELL, current, 0.05)[0]
    fine = ephys.simulate(CELL, np.repeat(current, 4, axis=1), 0.0125)[0]

    def crossings(voltage, dt):
        return np.flatnonzero((voltage[1:] > -20.0) & (voltage[:-1] <= -20.0)) * dt

    assert len(crossings(coarse, 0.05)) == len(crossings(fine, 0.0125)) == 3
    np.testing.assert_allclose(crossings(coarse, 0.05)[0], crossings(fine, 0.0125)[0], atol=1.0)


def test_rest_and_spike_height_are_those_of_a_neuron():
    for cell in ephys.example_cells():
        current = np.zeros((1, 2000))
        current[:, 400:] = 500.0
        voltage = ephys.simulate(cell, current)[0]
        assert -75.0 < voltage[0] < -60.0
        assert 20.0 < voltage.max() < 40.0


def test_the_true_rheobase_separates_silent_from_firing_steps():
    true = ephys.true_rheobase(CELL, 600.0)
    below, at = ephys.simulate_protocol(
        CELL, "IDrest", amplitudes_pa=[true - 2.0, true], voltage_noise_mv=0.0, current_noise_pa=0.0
    )
    assert below["voltage"].max() < -20.0 < at["voltage"].max()
    with pytest.raises(ValueError, match="does not fire"):
        ephys.true_rheobase(CELL, 600.0, highest_pa=20.0)


def test_cells_differ_in_rheobase():
    found = [ephys.true_rheobase(cell, 300.0) for cell in ephys.example_cells(3)]
    assert 50.0 < found[0] < found[1] < found[2] < 300.0


def test_noise_is_the_same_for_the_same_seed():
    steps = {"amplitudes_pa": [50.0]}
    one, again, other = (ephys.simulate_protocol(CELL, "APWaveform", seed=seed, **steps)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["voltage"], again["voltage"])
    assert np.std(one["voltage"] - other["voltage"]) == pytest.approx(0.1 * np.sqrt(2.0), rel=0.1)


def test_the_rheobase_of_written_sweeps_is_the_true_one(tmp_path):
    """From the model through a file, detection, spikes and rheobase: right to one step of 5 pA."""
    true = ephys.true_rheobase(CELL, 600.0)
    steps = np.arange(true - 20.0, true + 20.0, 5.0)
    path = write_recordings(
        tmp_path / "cell.h5",
        ephys.simulate_protocol(CELL, "IDrest", amplitudes_pa=steps),
        cell=CELL.name,
    )
    recordings = ephys.read_recordings_of_file("IDrest", {"filepath": path}, efel_settings=ephys.DEFAULT_EFEL_SETTINGS)
    assert [r.timing for r in recordings] == ["given"] * len(steps)
    assert [r.amp * 1e3 for r in recordings] == pytest.approx(steps, abs=0.5)
    result = ephys.find_rheobase([r.amp for r in recordings], [r.spikecount for r in recordings])
    assert true - 1.0 <= result.rheobase * 1e3 <= true + 5.5

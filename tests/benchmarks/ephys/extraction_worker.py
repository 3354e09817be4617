"""One extraction in a process of its own, and the sweeps it reads.

    python extraction_worker.py bluepyefe|labweave TARGETS FOLDER MODE RESULT

TARGETS is small, wide, or a run of the shared recordings, FOLDER holds files_metadata.json and the cells, MODE is plain,
low (low_memory_mode) or pool (two processes). Results go to the file RESULT and costs to RESULT.costs, both as JSON.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import resource
import sys
import time
import warnings
from pathlib import Path

import h5py
import numpy as np

SPIKES = """
    adaptation_index2 mean_frequency time_to_first_spike time_to_last_spike inv_first_ISI inv_second_ISI inv_third_ISI
    inv_fourth_ISI inv_fifth_ISI inv_last_ISI ISI_CV ISI_log_slope doublet_ISI AP_amplitude AP1_amp APlast_amp AHP_depth
    AHP_time_from_peak AP_width AP_duration_half_width AP_rise_time AP_fall_time AHP_depth_abs voltage_base
    steady_state_voltage_stimend Spikecount all_ISI_values AP2_amp depolarized_base min_voltage_between_spikes
    AP_begin_voltage fast_AHP
"""
PASSIVE = """
    voltage_base steady_state_voltage_stimend ohmic_input_resistance_vb_ssse voltage_deflection voltage_deflection_begin
    decay_time_constant_after_stim Spikecount sag_ratio1 sag_ratio2 sag_amplitude sag_time_constant
"""
SHAPE = """
    AP_amplitude AP1_amp AP2_amp AP_width AP_duration_half_width AP_rise_time AP_fall_time AHP_depth_abs
    AHP_time_from_peak AHP_depth
"""
FEW = "adaptation_index2 mean_frequency AP_amplitude AHP_depth Spikecount voltage_base"
TARGETS = {  # protocol, amplitudes in % of rheobase, features
    "small": [
        ("IDrest", (150, 200, 250), FEW),
        ("IV", (-50, -100), "voltage_base steady_state_voltage_stimend ohmic_input_resistance_vb_ssse"),
        ("APWaveform", (300,), "AP_amplitude AP1_amp AP2_amp AP_width"),
        ("sAHP", (200,), "AHP_depth_abs voltage_base"),
    ],
    "wide": [
        ("IDrest", (120, 150, 200, 250, 300), SPIKES),
        ("IV", (-20, -50, -100), PASSIVE),
        ("APWaveform", (250, 300), SHAPE),
        ("sAHP", (150, 200, 250), "Spikecount AHP_depth_abs voltage_base mean_frequency"),
    ],
}
SETTINGS = {"strict_stiminterval": True, "Threshold": -20.0, "interp_step": 0.025}


def make_targets(name: str) -> list[dict]:
    """The 30 targets of the small or the 225 of the wide set."""
    return [
        {"efeature": efeature, "protocol": protocol, "amplitude": amplitude, "tolerance": 25.0}
        for protocol, amplitudes, efeatures in TARGETS[name]
        for amplitude in amplitudes
        for efeature in efeatures.split()
    ]


def read_sweep(file_metadata) -> list[dict]:
    """Reader of one sweep of a cell."""
    with h5py.File(file_metadata["filepath"], "r") as file:
        sweep = file[file_metadata["sweep"]]
        found = {"voltage": sweep["voltage"][()], "current": sweep["current"][()], "dt": float(sweep.attrs["dt_ms"])}
    return [{**found, "id": file_metadata["sweep"], "i_unit": "nA", "v_unit": "mV", "t_unit": "ms"}]


def write_cells(folder: Path, n_cells: int, n_sweeps: int) -> None:
    """Write model cells: sweeps of 3 s at 20 kHz, float32, half of them IDrest, in the layout of `read_sweep`."""
    from labweave.ephys.simulation import example_cells, simulate, true_rheobase

    plan = [
        ("IDrest", 0.5, 0.6, 3.5),
        ("IV", 0.25, -1.4, 0.4),
        ("APWaveform", 0.125, 2.0, 4.0),
        ("sAHP", 0.125, 1.5, 3.0),
    ]
    t = np.arange(60_000) * 0.05
    files = {}
    for index, cell in enumerate(example_cells(n_cells)):
        rheobase = true_rheobase(cell, 600.0) / 1000.0
        random = np.random.default_rng(index)
        files[cell.name] = {}
        with h5py.File(folder / f"{cell.name}.h5", "w") as file:
            for protocol, share, lowest, highest in plan:
                steps = np.linspace(lowest, highest, round(share * n_sweeps)) * rheobase
                current = np.zeros((len(steps), len(t)))
                if protocol == "sAHP":
                    current[:, (t >= 300.0) & (t < 2700.0)] = 0.4 * rheobase
                    current[:, (t >= 750.0) & (t < 975.0)] = steps[:, None]
                else:
                    ton, toff = (600.0, 650.0) if protocol == "APWaveform" else (700.0, 2700.0)
                    current[:, (t >= ton) & (t < toff)] = steps[:, None]
                voltage = simulate(cell, current * 1000.0, 0.05) + random.normal(0.0, 0.05, current.shape)
                current += random.normal(0.0, 0.002, current.shape)
                names = [f"{protocol}_{i:03d}" for i in range(len(steps))]
                for name, *samples in zip(names, voltage, current, strict=True):
                    for key, values in zip(("voltage", "current"), samples, strict=True):
                        file.create_dataset(f"{name}/{key}", data=values.astype(np.float32))
                    file[name].attrs["dt_ms"] = 0.05
                files[cell.name][protocol] = [{"filepath": f"{cell.name}.h5", "sweep": name} for name in names]
    (folder / "files_metadata.json").write_text(json.dumps(files))


def load_files(folder: Path, name: str = "files_metadata.json") -> dict:
    """files_metadata of a folder, its paths below it."""
    paths = ("filepath", "i_file", "v_file")
    found = json.loads((folder / name).read_text())
    return {
        cell: {
            protocol: [{k: str(folder / v) if k in paths else v for k, v in one.items()} for one in files]
            for protocol, files in protocols.items()
        }
        for cell, protocols in found.get("files_metadata", found).items()
    }


def main(who: str, name: str, folder: Path, mode: str, result: Path) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import efel  # noqa: F401  # both need these two
    import scipy.ndimage  # noqa: F401

    if who == "bluepyefe":
        from bluepyefe.extract import extract_efeatures
    else:
        from labweave.ephys.extract import extract_efeatures
    files = load_files(folder)
    if name in TARGETS:
        targets = make_targets(name)
        kwargs = {"protocols_rheobase": ["IDrest"], "recording_reader": read_sweep, "efel_settings": SETTINGS}
    else:
        run = json.loads((folder / f"{name}.json").read_text())
        targets, kwargs = run["targets"], run["kwargs"]
    if who == "labweave":
        kwargs["compat"] = "bluepyefe"
    before, started_s, import_cpu_s = children_cpu_s(), time.perf_counter(), time.process_time()
    if mode == "pool":
        with multiprocessing.Pool(2) as pool:
            found = extract_efeatures("nowhere", files, targets, map_function=pool.map, **kwargs)
            wall_s = time.perf_counter() - started_s
            pool.close()
            pool.join()
    else:
        found = extract_efeatures("nowhere", files, targets, low_memory_mode=mode == "low", **kwargs)
        wall_s = time.perf_counter() - started_s
    own_cpu_s = time.process_time() - import_cpu_s
    cpu_s = own_cpu_s + children_cpu_s() - before
    result.write_text(json.dumps(found, indent=2, default=float))
    costs = {
        "cpu_s": cpu_s,
        "own_cpu_s": own_cpu_s,
        "cpu_with_imports_s": cpu_s + import_cpu_s,
        "wall_s": wall_s,
        "peak_mb": peak_mb(),
        "n_sweeps": sum(len(sweeps) for cell in files.values() for sweeps in cell.values()),
        "n_targets": len(targets),
    }
    result.with_name(f"{result.name}.costs").write_text(json.dumps(costs))


def peak_mb() -> float:
    """Peak memory of this process; ru_maxrss would begin with that of the one which started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def children_cpu_s() -> float:
    """CPU time of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    _, who, name, folder, mode, result = sys.argv
    main(who, name, Path(folder), mode, Path(result))

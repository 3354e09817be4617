"""The demo's lab: six model cells of three mice, and their recordings as files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

from labweave import processes
from labweave.ephys.simulation import PROTOCOLS, example_cells, simulate_protocol, true_rheobase
from labweave.errors import ComputeError, ReadError
from labweave.formats import recordings

STEP_PA = 20.0
AMPLITUDES_PA = {
    "IDrest": tuple(np.arange(STEP_PA, 461.0, STEP_PA).tolist()),  # twice the highest rheobase is among them
    "IV": PROTOCOLS["IV"].amplitudes_pa,
    "APWaveform": PROTOCOLS["APWaveform"].amplitudes_pa,
}
N_SWEEPS = sum(len(amplitudes) for amplitudes in AMPLITUDES_PA.values())
SESSIONS = (
    {"subject": "mouse1", "sex": "F", "session_date": "2026-03-02"},
    {"subject": "mouse2", "sex": "M", "session_date": "2026-03-03"},
    {"subject": "mouse3", "sex": "F", "session_date": "2026-03-05"},
)


def write_missing(
    folder: Path, *, workers: int = 1, progress: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Simulate and write the cells whose file is missing or incomplete.

    Parameters
    ----------
    folder : Path
        Gets one file per cell; made when missing.
    workers : int, default: 1
        Number of processes; 1 means this one.
    progress : callable, optional
        Called with the number of files written and to write.

    Returns
    -------
    int
        How many files were written.

    Raises
    ------
    ComputeError
        A simulating process ended early.
    OSError
        The folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(len(example_cells())) if not _is_complete(_path(folder, index))]
    if missing and not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    for index in missing:
        _path(folder, index).unlink(missing_ok=True)
    workers = min(workers, len(missing))
    if workers < 2:
        for done, index in enumerate(missing):
            progress(done, len(missing))
            write_cell(folder, index)
        return len(missing)
    writers = [processes.start(_write_cells, folder, missing[first::workers]) for first in range(workers)]
    running = {writer.sentinel for writer in writers}
    while running:
        running -= set(wait(list(running), timeout=0.2))
        progress(sum(_path(folder, index).exists() for index in missing), len(missing))
    for writer in writers:
        writer.join()
        if writer.exitcode:
            raise ComputeError(
                f"A process that was simulating cells ended with exit code {writer.exitcode}. "
                "Run with one worker to see why: labweave --debug demo --workers 1"
            )
    return len(missing)


def write_cell(folder: Path, index: int) -> Path:
    """Simulate one cell under every protocol and write its file.

    The file also holds `model_threshold_pa`, from `true_rheobase`: the smallest step, as long as
    that of IDrest, at which the model fires without noise.
    """
    cell = example_cells()[index]
    idrest = PROTOCOLS["IDrest"]
    sweeps = []
    for number, (name, amplitudes) in enumerate(AMPLITUDES_PA.items()):
        sweeps += simulate_protocol(cell, name, amplitudes_pa=amplitudes, seed=100 * index + number)
    return recordings.write_recordings(
        _path(folder, index),
        sweeps,
        cell=cell.name,
        species="Mus musculus",
        session_number=1,
        cell_type="regular spiking",
        model_threshold_pa=true_rheobase(cell, idrest.toff_ms - idrest.ton_ms),
        **SESSIONS[index % len(SESSIONS)],
    )


def _write_cells(folder: Path, indices: Sequence[int]) -> None:
    """Write some cells, in a process of its own."""
    for index in indices:
        write_cell(folder, index)


def _path(folder: Path, index: int) -> Path:
    return folder / f"{example_cells()[index].name}.h5"


def _is_complete(path: Path) -> bool:
    try:
        file = recordings.open(path)
    except ReadError:
        return False
    return len(file.sweeps) == N_SWEEPS and "model_threshold_pa" in file.facts

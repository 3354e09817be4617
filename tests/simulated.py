"""Small recordings of model cells for tests, and the contents of a database as plain values."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import numpy as np

from labweave.analysis import add_extraction
from labweave.database.connection import LabConnection
from labweave.database.url import parse_url
from labweave.ephys.simulation import StepProtocol, example_cells, simulate_protocol
from labweave.formats.recordings import write_recordings
from labweave.schemas import efeature, rheobase

AMPLITUDES = (-40.0, 50.0, 100.0, 150.0, 200.0, 250.0)
STEP = StepProtocol("IDrest", 20.0, 120.0, 140.0, AMPLITUDES)
LAB = "testlab"
OPTIONS = {"lab": LAB, "subject": "mouse-{cell}", "session_date": "2026-01-02"}


@functools.cache
def sweeps_of(cell_index: int, n_cells: int = 4, amplitudes: tuple[float, ...] = AMPLITUDES) -> tuple[dict, ...]:
    """Return the sweeps of one model cell; simulated once per test run."""
    return tuple(simulate_protocol(example_cells(n_cells)[cell_index], STEP, amplitudes_pa=amplitudes, dt_ms=0.1))


def spikes(sweep: dict) -> int:
    """Count the spikes of a simulated sweep by a rule of our own: peaks above -20 mV within the step."""
    voltage, dt = sweep["voltage"], sweep["dt"]
    above = np.flatnonzero(voltage > -20.0)
    runs = np.split(above, np.flatnonzero(np.diff(above) > 1) + 1) if len(above) else []
    peaks = [(run[0] + np.argmax(voltage[run])) * dt for run in runs]
    return sum(STEP.ton_ms <= peak <= STEP.toff_ms for peak in peaks)


def rheobase_na(sweeps) -> float | None:
    """Return the smallest step that makes a spike, as it was ordered, in nA."""
    firing = [amplitude for amplitude, sweep in zip(AMPLITUDES, sweeps, strict=False) if spikes(sweep)]
    return min(firing) / 1000 if firing else None


def write_cell(
    folder: Path, index: int, name: str | None = None, *, file: str | None = None, sweeps=None, **attributes
) -> Path:
    """Write one model cell as labweave HDF5."""
    name = name or f"cell{index}"
    chosen = [{**sweep, **sweep["metadata"]} for sweep in (sweeps_of(index) if sweeps is None else sweeps)]
    for sweep in chosen:
        sweep.pop("metadata")
    return write_recordings(Path(folder) / (file or f"{name}.h5"), chosen, cell=name, **attributes)


def write_cells(folder: Path, n_cells: int = 2) -> Path:
    """Write cell0, cell1, ... of one file each."""
    for index in range(n_cells):
        write_cell(folder, index)
    return Path(folder)


def damage(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def keep_time(path: Path, other: Path) -> None:
    """Give a file another one's times."""
    shutil.copystat(other, path)


def contents(database) -> dict[str, list[tuple]]:
    """Return every row of every table of a prefix, hidden ones and job queues too, by schema.table."""
    connection = (
        LabConnection(parse_url(database[0]), database[1]) if isinstance(database, tuple) else database.connection
    )
    prefix = connection.prefix
    quote = connection.adapter.quote_identifier
    found = {}
    tables = connection.query("select table_schema, table_name from information_schema.tables").fetchall()
    for schema, table in sorted(tables):
        if schema.startswith(prefix):
            rows = connection.query(f"select * from {quote(schema)}.{quote(table)}", as_dict=True).fetchall()
            found[f"{schema.removeprefix(prefix)}.{table}"] = sorted(
                tuple(sorted((name, str(value)) for name, value in row.items())) for row in rows
            )
    if isinstance(database, tuple):
        connection.close()
    return found


def differences(before: dict[str, list[tuple]], after: dict[str, list[tuple]]) -> dict[str, tuple[int, int]]:
    """Return the tables that differ, with how many rows were lost and came."""
    return {
        name: (
            len(set(before.get(name, [])) - set(after.get(name, []))),
            len(set(after.get(name, [])) - set(before.get(name, []))),
        )
        for name in sorted(before.keys() | after.keys())
        if before.get(name, []) != after.get(name, [])
    }


def ask_for_everything() -> None:
    """Ask for the extractions of every group at all targets, by all methods."""
    for group in efeature.CellGroup().to_arrays("cell_group").tolist():
        for targets in efeature.TargetSet().to_arrays("target_set").tolist():
            for method in rheobase.RheobaseMethod().to_arrays("rheobase_method").tolist():
                add_extraction(group, targets, method)

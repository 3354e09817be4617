"""Tab-separated voltages (.txt) of the LCCR layout: one column per sweep, the current known from elsewhere.

The file has numbers only. Sampling interval, units, timings and amplitudes come from the metadata,
and the current is rebuilt from them: a step on a holding current.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from labweave.errors import ReadError
from labweave.formats.limits import file_size
from labweave.formats.recordings.base import ListedSweep, RecordingFile
from labweave.formats.recordings.files import as_list, numbered_sweeps
from labweave.formats.recordings.notices import EphysWarning
from labweave.formats.recordings.units import to_ms

NEEDED = ("dt", "t_unit", "v_unit", "i_unit", "amplitudes", "hypamp", "ton", "toff")
_ABSENT = ("-", "")
_YES_NO = {True: True, False: False, None: False, "": False, "true": True, "false": False, "yes": True, "no": False}


class LCCRTable(RecordingFile):
    """Sweeps of a table of voltages, as many as there are both amplitudes and columns.

    Metadata: ``dt`` (in ``t_unit``), ``t_unit``, ``v_unit``, ``i_unit``; ``amplitudes`` of the steps, one per column
    (numbers, or one text of numbers), and ``hypamp``, both in ``i_unit``; ``ton`` and ``toff`` in ms;
    ``remove_last_100ms`` (default False); ``sweep`` (sweep_000, ...) picks columns. The ``metadata`` of a sweep has
    its timings and amplitudes. A sample written as ``-`` or left empty counts as 0, with a warning.

    Raises
    ------
    ReadError
        The file is missing, empty, truncated or no table of numbers; the metadata lacks something;
        the step ends after the file.
    """

    reader = "csv_lccr"
    suffixes = (".txt",)
    cell_from = "mapping"

    @contextmanager
    def opened(self):
        """Yield what the metadata says, as numbers, and the cells of the table, as text."""
        yield _known(self.path, self.metadata), _rows(self.path)

    def list_sweeps(self, handle) -> list[ListedSweep]:
        """List all sweeps, whose protocol the file does not say."""
        known, rows = handle
        _numbers(self.path, rows[:1], range(len(rows[0])))
        _step(self.path, known, len(rows))
        return [ListedSweep(name) for name in numbered_sweeps(min(len(known["amplitudes"]), len(rows[0])))]

    def read_sweeps(self, handle, sweeps):
        """Read the voltages and rebuild the currents."""
        known, rows = handle
        columns = [int(sweep.name.removeprefix("sweep_")) for sweep in sweeps]
        voltage = _numbers(self.path, rows, columns)
        n_absent = sum(row[column].strip() in _ABSENT for row in rows for column in columns)
        if n_absent == voltage.size:
            raise ReadError(self.path, "no number is in it", "Check the file; it must hold numbers only")
        if n_absent:
            warnings.warn(f"{self.path}: {n_absent} missing samples count as 0.", EphysWarning, stacklevel=3)
        n_samples, start, stop = _step(self.path, known, len(rows))
        voltage = voltage[:n_samples]
        for position, column in enumerate(columns):
            amplitude = known["amplitudes"][column]
            current = np.full(len(voltage), known["hypamp"])
            current[start:stop] += amplitude
            yield {
                "voltage": np.ascontiguousarray(voltage[:, position]),
                "current": current,
                **{key: known[key] for key in ("dt", "t_unit", "v_unit", "i_unit")},
                "metadata": {**{key: known[key] for key in ("ton", "toff", "hypamp")}, "amp": amplitude},
            }

    @classmethod
    def holds_recordings(cls, path: Path) -> bool:
        """Say whether a text file starts with tab-separated numbers, and not with words; ReadError if it is closed."""
        try:
            with path.open("rb") as file:
                cells = file.read(65536).split(b"\n")[0].strip().split(b"\t")
        except OSError as error:
            raise ReadError(path, f"can't be opened ({error.strerror})", "Check its permissions") from error
        try:
            return bool([float(cell) for cell in cells])
        except ValueError:
            return False


def _known(path, file_metadata) -> dict:
    """What the metadata must say, as numbers and text."""
    file_size(path)
    absent = [key for key in NEEDED if file_metadata.get(key) is None or file_metadata[key] == ""]
    if absent:
        raise ReadError(
            path, f"the file says nothing of {', '.join(absent)}", "Add them to the metadata of this recording"
        )
    known = {key: file_metadata[key] for key in ("t_unit", "v_unit", "i_unit")}
    amplitudes = file_metadata["amplitudes"]
    try:
        known |= {key: float(file_metadata[key]) for key in ("dt", "hypamp", "ton", "toff")}
        if isinstance(amplitudes, str):
            amplitudes = amplitudes.replace(",", " ").replace(";", " ").split()
        known["amplitudes"] = [float(amplitude) for amplitude in as_list(amplitudes)]
        wanted = file_metadata.get("remove_last_100ms")
        known["cut"] = _YES_NO[wanted.lower() if isinstance(wanted, str) else wanted]
    except (TypeError, ValueError, KeyError) as error:
        raise ReadError(
            path, f"its metadata has {error} where a number is expected", "Correct the metadata of this recording"
        ) from None
    if not (known["dt"] > 0 and known["amplitudes"] and np.isfinite(known["amplitudes"]).all()):
        raise ReadError(path, "its metadata has no sampling interval or no amplitudes", "Correct dt and amplitudes")
    return known


def _step(path, known, n_rows) -> tuple[int, int, int]:
    """Samples that count, and the first of the step and the first after it."""
    dt_ms = known["dt"] * to_ms(known["t_unit"])
    n_samples = max(0, n_rows - int(100.0 / dt_ms)) if known["cut"] else n_rows
    start, stop = int(known["ton"] / dt_ms), int(known["toff"] / dt_ms)
    if not 0 <= known["ton"] < known["toff"] or not start < stop <= n_samples:
        raise ReadError(
            path,
            f"the step from {known['ton']:g} to {known['toff']:g} ms is not within the {n_samples * dt_ms:g} ms "
            "of the sweep",
            "Correct ton, toff, dt or t_unit, or copy the file again",
        )
    return n_samples, start, stop


def _rows(path) -> list[list[str]]:
    """The cells of each line, as text; all lines have as many."""
    try:
        lines = path.read_text(encoding="ascii").rstrip("\n").split("\n")
    except ValueError as error:
        raise ReadError(path, "no table of numbers: its text is not ASCII", "Check the file") from error
    rows = [line.rstrip("\r").split("\t") for line in lines]
    while len(rows[0]) > 1 and all(row[-1] == "" for row in rows):
        for row in rows:
            row.pop()
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ReadError(
                path,
                f"line {number} has {len(row)} columns, the first {len(rows[0])}",
                "Copy the file again; each column must be one sweep",
            )
    return rows


def _numbers(path, rows, columns) -> np.ndarray:
    """Columns as numbers, shape (n_samples, n_columns)."""
    voltage = np.empty((len(rows), len(columns)))
    for number, row in enumerate(rows):
        try:
            voltage[number] = [0.0 if row[column].strip() in _ABSENT else float(row[column]) for column in columns]
        except ValueError as error:
            raise ReadError(path, f"line {number + 1}: {error}", "Check the file; it must hold numbers only") from error
    return voltage

"""MATLAB files (.mat, versions 4 to 7 and 7.3) with a variable per channel: [time, current] and [time, voltage].

The layout is that of GigaDB dataset 100535: ``Trace_1_2_3_1`` is the current and ``Trace_1_2_3_2`` the
voltage of one sweep, each of two columns. The file says no units.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labweave.errors import ReadError
from labweave.formats.limits import file_size
from labweave.formats.recordings.base import ListedSweep, RecordingFile
from labweave.formats.recordings.files import need, parsing


class MatlabFile(RecordingFile):
    """Sweeps of a MATLAB file: each variable named ``*Trace*1`` has a current, its pair ``*Trace*2`` the voltage.

    Metadata: ``t_unit``, ``v_unit``, ``i_unit``; ``sweep`` (the variable of the current, or several) picks sweeps.
    ``dt`` is in ``t_unit``, and ``id`` is the variable.

    Raises
    ------
    ReadError
        The file is missing, empty, truncated, foreign or has no such variables; a variable has no
        pair or another shape; a unit is not in the metadata.
    """

    reader = "matlab"
    suffixes = (".mat",)
    cell_from = "mapping"

    def list_sweeps(self, handle) -> list[ListedSweep]:
        """List all sweeps, whose protocol the file does not say."""
        variables = _variables(self.path)
        currents = [name for name in variables if _is_current(name)]
        if not currents:
            raise ReadError(self.path, "no variable is called like Trace_1_1_1_1", "Export the traces by these names")
        for name in currents:
            if (pair := name[:-1] + "2") not in variables:
                raise ReadError(self.path, f"no variable {pair}", "Each current *Trace*1 needs its voltage *Trace*2")
        _units(self.path, self.metadata)
        return [ListedSweep(name) for name in currents]

    def read_sweeps(self, handle, sweeps):
        """Read the variables of the sweeps."""
        path, units = self.path, _units(self.path, self.metadata)
        variables = _load(path, [sweep.name[:-1] + channel for sweep in sweeps for channel in "12"])
        for sweep in sweeps:
            current, voltage = (_channel(path, variables, sweep.name[:-1] + channel) for channel in "12")
            dt = float(current[1, 0] - current[0, 0])
            if len(current) != len(voltage) or not dt > 0:
                fault = f"{sweep.name} and its pair differ in length, or their time does not advance"
                raise ReadError(path, fault, "Export the file again")
            samples = {"voltage": voltage[:, 1].copy(), "current": current[:, 1].copy()}
            yield {**samples, "dt": dt, **units, "id": sweep.name}

    @classmethod
    def holds_recordings(cls, path: Path) -> bool:
        """Say whether a MATLAB file has a variable of the layout; ReadError for a damaged one."""
        return any(_is_current(name) for name in _variables(path))


def _units(path, file_metadata) -> dict:
    return {key: need(file_metadata, key, None, path) for key in ("t_unit", "v_unit", "i_unit")}


def _is_current(name) -> bool:
    return "Trace" in name and name.endswith("1")


def _variables(path) -> list[str]:
    """Names of the variables in the file."""
    if _is_hdf5(path):
        from labweave.formats.hdf5 import open_hdf5

        with open_hdf5(path) as file:
            return list(file)
    from scipy.io import whosmat

    with parsing(path, "MATLAB file"):
        return [name for name, _, _ in whosmat(str(path))]


def _load(path, names) -> dict:
    """The variables of these names, as arrays; absent ones are left out."""
    if _is_hdf5(path):
        from labweave.formats.hdf5 import open_hdf5

        with open_hdf5(path) as file:
            found = {name: file[name] for name in names if name in file}
            return {name: node[()].T for name, node in found.items() if hasattr(node, "shape")}
    from scipy.io import loadmat

    with parsing(path, "MATLAB file"):
        return loadmat(str(path), variable_names=names)


def _channel(path, variables, name) -> np.ndarray:
    values = np.asarray(variables.get(name))
    if values.ndim != 2 or values.shape[1] != 2 or len(values) < 2 or values.dtype.kind not in "fiu":
        raise ReadError(
            path, f"{name} has shape {values.shape} and type {values.dtype}", "Two columns of numbers are expected"
        )
    return values


def _is_hdf5(path) -> bool:
    import h5py

    file_size(path)
    return h5py.is_hdf5(path)

"""labweave's own recordings: one HDF5 file of one cell with one or more sweeps.

Layout, version 1::

    /                      format="labweave-recordings", version=1, cell, and what is known of:
                           subject, species, session_date (ISO), session_number, lab, cell_type, ljp (mV)
    /sweeps/<name>         protocol, dt, t_unit, v_unit, i_unit and, if known, ton, tmid, tmid2, t1..t4,
                           toff (ms), amp, amp2, hypamp (in i_unit), start_time (ISO), repetition
    /sweeps/<name>/voltage, /sweeps/<name>/current    float32 or float64, (n_samples,), gzip
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from labweave.errors import ReadError
from labweave.formats.recordings.base import ListedSweep, RecordingFile
from labweave.formats.recordings.files import as_list
from labweave.formats.writing import whole_file

FORMAT = "labweave-recordings"
VERSION = 1
UNIT_KEYS = ("dt", "t_unit", "v_unit", "i_unit")
METADATA_KEYS = ("ton", "toff", "tmid", "tmid2", "t1", "t2", "t3", "t4", "amp", "amp2", "hypamp", "ljp")


def write_recordings(path, sweeps, *, cell, protocol=None, **attributes) -> Path:
    """Write the sweeps of one cell to one file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; an existing one is replaced when the new one is complete.
    sweeps : list of dict
        Each with ``voltage`` and ``current`` of shape (n_samples,), ``dt``, ``t_unit``, ``v_unit``,
        ``i_unit``; optionally ``name`` (default sweep_000, sweep_001, ...), ``protocol`` and any other
        number or text, stored as attribute. Timings are ms, amplitudes in ``i_unit``.
    cell : str
    protocol : str, optional
        For sweeps without their own.
    **attributes : str or number
        Of the file: subject, species, session_date, session_number, lab, cell_type, ljp (mV), ...
        None is left out.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    ValueError
        No sweep, a name twice, arrays of different length, a missing unit or protocol.

    Examples
    --------
    >>> import numpy as np
    >>> from labweave.formats.recordings import write_recordings
    >>> units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}
    >>> sweep = {"voltage": np.full(500, -70.0), "current": np.zeros(500), "ton": 10, "toff": 40, **units}
    >>> write_recordings("cell1.h5", [sweep], cell="cell1", protocol="IDrest", subject="m12", session_date="2026-03-01")
    PosixPath('cell1.h5')
    """
    import h5py

    path = Path(path)
    prepared = _prepare(sweeps, protocol)
    with whole_file(path) as half_made, h5py.File(half_made, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "cell": str(cell)})
        file.attrs.update({key: value for key, value in attributes.items() if value is not None})
        group = file.create_group("sweeps", track_order=True)
        for name, arrays, sweep_attributes in prepared:
            sweep = group.create_group(name)
            sweep.attrs.update(sweep_attributes)
            for key, samples in arrays.items():
                sweep.create_dataset(key, data=samples, chunks=True, compression="gzip", shuffle=True)
    return path


class LabweaveFile(RecordingFile):
    """Sweeps of a file of labweave's own, in the order of writing.

    Metadata: ``sweep`` (a name or a list) and ``protocol_name`` (str or list, any case) pick sweeps. The
    ``metadata`` of a sweep has timings (ms), amplitudes (in ``i_unit``) and ``ljp`` (mV).

    Raises
    ------
    ReadError
        Missing, truncated or foreign file, a newer version, a sweep name which is not there, a
        sweep without a dataset or unit.
    """

    reader = "hdf5"
    suffixes = (".h5", ".hdf5")

    @contextmanager
    def opened(self):
        """Yield the file, checked to be ours and of a version we know."""
        from labweave.formats.hdf5 import open_hdf5

        with open_hdf5(self.path) as file:
            if file.attrs.get("format") != FORMAT or "cell" not in file.attrs:
                raise ReadError(
                    self.path, "an HDF5 file, but not of labweave recordings", "Convert it, or name its reader"
                )
            version = _attributes(file).get("version")
            if not isinstance(version, int) or version > VERSION:
                raise ReadError(self.path, f"version {version} of the format", "Upgrade labweave")
            yield file

    def list_sweeps(self, handle) -> list[ListedSweep]:
        """List all sweeps."""
        import h5py

        sweeps = handle.get("sweeps")
        if not isinstance(sweeps, h5py.Group) or not all(isinstance(item, h5py.Group) for item in sweeps.values()):
            raise ReadError(self.path, "no group of sweeps in the file", "Write the file again")
        cell = str(handle.attrs["cell"])
        known = {name: _attributes(group) for name, group in sweeps.items()}
        return [ListedSweep(name, of.get("protocol"), cell, of.get("repetition")) for name, of in known.items()]

    def pick(self, handle, sweeps):
        """Choose the sweeps of the wanted names and protocols."""
        protocols = {str(name).lower() for name in as_list(self.metadata.get("protocol_name"))}
        named = super().pick(handle, sweeps)
        return [sweep for sweep in named if not protocols or str(sweep.protocol).lower() in protocols]

    def read_facts(self, handle) -> dict:
        """Say what was written of the subject, the session and the cell."""
        return {key: value for key, value in _attributes(handle).items() if key not in ("format", "version", "cell")}

    def read_sweeps(self, handle, sweeps):
        """Read the samples of each sweep by itself."""
        for sweep in sweeps:
            name = sweep.name
            group = handle["sweeps"][name]
            attributes = _attributes(group)
            absent = [key for key in UNIT_KEYS if key not in attributes]
            if absent:
                raise ReadError(
                    self.path, f"sweep {name} has no {', '.join(absent)}", "Write the file again with units"
                )
            samples = {key: _read_dataset(self.path, name, group, key) for key in ("voltage", "current")}
            if samples["voltage"].shape != samples["current"].shape:
                raise ReadError(
                    self.path, f"sweep {name}: voltage and current differ in length", "Write the file again"
                )
            metadata = {key: attributes[key] for key in METADATA_KEYS if key in attributes}
            if "ljp" in handle.attrs:
                metadata.setdefault("ljp", float(handle.attrs["ljp"]))
            yield {
                **samples,
                **{key: attributes[key] for key in UNIT_KEYS},
                "id": name,
                "protocol": sweep.protocol,
                "repetition": sweep.repetition,
                "metadata": metadata,
            }


def _prepare(sweeps, protocol) -> list[tuple[str, dict, dict]]:
    """Check all sweeps before a byte is written: (name, arrays, attributes) of each."""
    if not sweeps:
        raise ValueError("there are no sweeps to write")
    prepared, names = [], set()
    for index, sweep in enumerate(sweeps):
        name = str(sweep.get("name") or f"sweep_{index:03d}")
        if name in names or "/" in name:
            raise ValueError(f"sweep name {name!r} is there twice or contains '/'")
        names.add(name)
        arrays = {key: _samples(name, key, sweep[key]) for key in ("voltage", "current")}
        if arrays["voltage"].shape != arrays["current"].shape:
            raise ValueError(f"sweep {name}: voltage and current differ in length")
        attributes = {
            key: value for key, value in sweep.items() if key not in ("voltage", "current", "name", "metadata")
        }
        attributes = {**sweep.get("metadata", {}), **attributes}
        attributes.setdefault("protocol", protocol)
        absent = [key for key in ("protocol", *UNIT_KEYS) if attributes.get(key) is None]
        if absent:
            raise ValueError(f"sweep {name}: {', '.join(absent)} missing")
        prepared.append((name, arrays, {key: value for key, value in attributes.items() if value is not None}))
    return prepared


def _samples(name, key, values) -> np.ndarray:
    samples = np.asarray(values)
    if samples.dtype not in (np.float32, np.float64):
        samples = samples.astype(np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"sweep {name}: {key} must be one dimension of samples, not shape {samples.shape}")
    return samples


def _read_dataset(path, name, group, key) -> np.ndarray:
    import h5py

    dataset = group.get(key)
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or dataset.dtype.kind not in "fiu":
        raise ReadError(path, f"sweep {name} has no usable dataset {key!r}", "Write the file again")
    try:
        return dataset[()]
    except OSError as error:
        raise ReadError(path, f"samples of sweep {name} are damaged ({error})", "Copy the file again") from error


def _attributes(node) -> dict:
    """Attributes as plain Python values."""
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in node.attrs.items()}

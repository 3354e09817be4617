"""Neurodata Without Borders files (.nwb): current-clamp sweeps in the layouts of `nwb_layouts`.

Read with h5py alone. Values are ``data`` times ``conversion`` plus ``offset``, as float32, in the ``unit``
of the series; the sampling interval comes from ``rate``, or from ``timestamps`` when they are regular.
"""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager

import numpy as np

from labweave.errors import ReadError, SourceError
from labweave.formats.recordings.base import RecordingFile
from labweave.formats.recordings.files import as_list, need, pick_sweeps
from labweave.formats.recordings.notices import EphysWarning
from labweave.formats.recordings.nwb_layouts import TRT, VU, NWBSweep, find_layout, text, vu_description
from labweave.formats.recordings.units import to_ms, to_na

VU_SETTLING_S = 0.09
_VU_UNSETTLED = ("CCSteps", "X1PS", "X4PS")
_SUBJECT = {"subject": "subject_id", "species": "species", "sex": "sex"}
_UNKNOWN = ("unknown", "na", "n/a")
_INSPECTED = ("nwb_version", "identifier", "session_description", "session_start_time")


class NWBInspectionError(ReadError):
    """An NWB file without sweeps that can be read."""


class NWBFile(RecordingFile):
    """Sweeps of an NWB file.

    Metadata, to pick sweeps: ``protocol_name`` (str or list, the same case wins), ``sweep`` (name of the series, or
    several), ``repetition`` (int, text of one, or list) and ``v_file`` (name of the file that a sweep was converted
    from, the last part of its ``description``). ``v_unit`` and ``i_unit`` replace or complete those of the file;
    ``toff`` (ms) drops VU sweeps that end before.

    A protocol which is not in the file gives an empty list; a repetition which is not there, too, with a warning.
    Voltage and current are float32, ``id`` is the name of the series.

    VU sweeps are cut where their current becomes nan, get their ``bias_current`` (pA) added, and the
    first 90 ms of CCSteps, X1PS and X4PS are replaced by the sample at their end. Volts and amperes that
    TRT files have swapped are put right.

    Raises
    ------
    ReadError
        The file is missing, empty, truncated or no NWB file; a sweep name which is not there; a series
        without samples, rate or unit, or of another length than its pair.
    """

    reader = "nwb"
    suffixes = (".nwb",)

    @contextmanager
    def opened(self):
        """Yield the file and its layout."""
        from labweave.formats.hdf5 import open_hdf5

        with open_hdf5(self.path) as file:
            if not ("acquisition" in file or "stimulus" in file):
                fault = "an HDF5 file, but without acquisition and stimulus"
                raise ReadError(self.path, fault, "Name its reader if it is no NWB")
            yield file, find_layout(file)

    def list_sweeps(self, handle) -> list[NWBSweep]:
        """List all sweeps."""
        file, layout = handle
        return list(layout.sweeps(file))

    def pick(self, handle, sweeps):
        """Choose the sweeps by name, protocol, original file and repetition, in the order of the file."""
        (file, layout), asked = handle, self.metadata
        names = set(pick_sweeps(self.path, asked, [sweep.name for sweep in sweeps]))
        sweeps = [sweep for sweep in sweeps if sweep.name in names]
        protocols = [str(name) for name in as_list(asked.get("protocol_name"))]
        sweeps = _of_protocols(self.path, layout, sweeps, protocols)
        if asked.get("filepath") and (source := _basename(asked.get("v_file"))):
            sweeps = [sweep for sweep in sweeps if _basename(text(file[sweep.voltage], "description")) == source]
        sweeps = _of_repetitions(self.path, sweeps, asked.get("repetition"))
        for sweep in sweeps:
            self._unit(file[sweep.voltage], "v_unit")
            self._unit(file[sweep.current], "i_unit")
        return sweeps

    def read_facts(self, handle) -> dict:
        """Say subject, species, sex and day, as far as the file knows them."""
        file, _ = handle
        subject = file.get("general/subject")
        known = {} if subject is None else {key: text(subject, name) for key, name in _SUBJECT.items()}
        day = re.match(r"\d{4}-\d{2}-\d{2}", text(file, "session_start_time") or "")
        known["session_date"] = day[0] if day else None
        return {key: value for key, value in known.items() if value and value.lower() not in _UNKNOWN}

    def read_sweeps(self, handle, sweeps):
        """Read the samples of each sweep by itself."""
        file, layout = handle
        for sweep in sweeps:
            voltage_series, current_series = file[sweep.voltage], file[sweep.current]
            v_unit = self._unit(voltage_series, "v_unit")
            i_unit = self._unit(current_series, "i_unit")
            v_scale, i_scale = _scale(voltage_series), _scale(current_series)
            if layout is TRT and (v_unit, i_unit, v_scale[0], i_scale[0]) == ("volts", "volts", 1e-12, 1e-3):
                v_scale, i_scale, i_unit = i_scale, v_scale, "amperes"
            voltage = _samples(self.path, voltage_series, v_scale)
            current = _samples(self.path, current_series, i_scale)
            dt_s = _interval_s(self.path, voltage_series, self.metadata)
            if layout is VU:
                voltage, current = _settle_vu(voltage_series, current_series, voltage, current, i_unit, dt_s)
                if float(self.metadata.get("toff") or 0.0) > len(voltage) * dt_s * 1e3:
                    continue
            if len(voltage) != len(current) or len(voltage) == 0:
                fault = f"{sweep.name} has {len(voltage)} voltage and {len(current)} current samples"
                raise ReadError(self.path, fault, "Check the file")
            t_unit = self.metadata.get("t_unit") or "seconds"
            yield {
                "voltage": voltage,
                "current": current,
                "dt": dt_s * 1e3 / to_ms(t_unit),
                "t_unit": t_unit,
                "v_unit": v_unit,
                "i_unit": i_unit,
                "id": sweep.name,
                "protocol": sweep.protocol,
                "repetition": sweep.repetition,
            }

    def _unit(self, series, key) -> str:
        return need(self.metadata, key, text(series["data"], "unit"), self.path, f"the series {series.name}")


def inspect_nwb(filepath, protocol_names=None, repetition=None, v_file=None) -> dict:
    """Read an NWB file and say how it was understood.

    Parameters
    ----------
    filepath : str or Path
    protocol_names : str or list of str, optional
        Default: all.
    repetition, v_file
        As in `NWBFile`.

    Returns
    -------
    dict
        ``reader`` (name of the layout), ``protocols`` (all in the file), ``traces`` (as `NWBFile` gives them)
        and ``metadata`` (nwb_version, identifier, session_description, session_start_time, as far as known).

    Raises
    ------
    NWBInspectionError
        The file can't be read, or no sweep can.

    Examples
    --------
    >>> import h5py
    >>> from labweave.formats.recordings import inspect_nwb
    >>> pair = {"acquisition/Series_1": "volts", "stimulus/presentation/StimulusSeries_1": "amperes"}
    >>> with h5py.File("cell1.nwb", "w") as file:
    ...     for where, unit in pair.items():
    ...         series = file.create_group(where)
    ...         series.attrs["stimulus_description"] = "IDrest"
    ...         series["data"] = np.zeros(500)
    ...         series["data"].attrs["unit"] = unit
    ...         series["starting_time"] = 0.0
    ...         series["starting_time"].attrs["rate"] = 10_000.0
    >>> found = inspect_nwb("cell1.nwb")
    >>> found["reader"], found["protocols"], len(found["traces"])
    ('ScalaNWBReader', ['IDrest'], 1)
    """
    metadata = {"filepath": filepath, "protocol_name": protocol_names, "repetition": repetition, "v_file": v_file}
    try:
        nwb = NWBFile(metadata)
        with nwb.opened() as (file, layout):
            sweeps = list(layout.sweeps(file))
            protocols = list(dict.fromkeys(str(sweep.protocol) for sweep in sweeps))
            known = {key: value for key in _INSPECTED if (value := text(file, key)) is not None}
            traces = list(nwb.read_sweeps((file, layout), nwb.pick((file, layout), sweeps)))
    except ReadError as error:
        raise NWBInspectionError(error.path, error.found, error.advice) from error
    if not traces:
        raise NWBInspectionError(
            filepath,
            f"{layout.name} finds no sweep of what was asked; protocols in the file: {', '.join(protocols) or 'none'}",
            "Ask for one of them, or check which series the file has",
        )
    return {"reader": layout.name, "protocols": protocols, "traces": traces, "metadata": known}


def _of_protocols(path, layout, sweeps, wanted) -> list[NWBSweep]:
    """Sweeps of these protocols: in the same case if the cell has it, else in any case."""
    if not wanted:
        return sweeps
    if layout is TRT:
        if any(name.lower() in ("step", "genericstep") for name in wanted):
            return sweeps
        warnings.warn(
            f"{path}: files of this layout hold Step only, {', '.join(wanted)} was asked. Nothing is read.",
            EphysWarning,
            stacklevel=4,
        )
        return []
    exact = {(sweep.cell, sweep.protocol) for sweep in sweeps}

    def fits(sweep, name):
        return sweep.protocol == name or ((sweep.cell, name) not in exact and sweep.protocol.lower() == name.lower())

    return [sweep for sweep in sweeps if any(fits(sweep, name) for name in wanted)]


def _of_repetitions(path, sweeps, repetition) -> list[NWBSweep]:
    try:
        wanted = [int(number) for number in as_list(repetition)]
    except (TypeError, ValueError):
        raise SourceError(f"{path}: repetition {repetition!r} is no number. Give 1, or a list of numbers.") from None
    if not wanted:
        return sweeps
    found = {sweep.repetition for sweep in sweeps}
    if sweeps and (absent := [str(number) for number in wanted if number not in found]):
        has = ", ".join(str(number) for number in sorted(found - {None})) or "no numbered ones"
        warnings.warn(
            f"{path}: no repetition {', '.join(absent)} of the protocol; the file has {has}.",
            EphysWarning,
            stacklevel=4,
        )
    return [sweep for sweep in sweeps if sweep.repetition in wanted]


def _basename(path) -> str:
    return re.split(r"[/\\]", str(path or "").strip())[-1]


def _scale(series) -> tuple[float, float]:
    """Factor and offset from what is stored to the unit."""
    attributes = series["data"].attrs
    return float(attributes.get("conversion", 1.0)), float(attributes.get("offset", 0.0))


def _samples(path, series, scale) -> np.ndarray:
    data = series["data"]
    if getattr(data, "ndim", None) != 1 or data.dtype.kind not in "fiu":
        raise ReadError(path, f"{series.name} is no row of numbers", "Export each sweep as a series of its own")
    return (data[()].astype(np.float64) * scale[0] + scale[1]).astype(np.float32)


def _interval_s(path, series, file_metadata) -> float:
    """Sampling interval in s: 1 / rate, else that of regular timestamps."""
    start = series.get("starting_time")
    rate = float(start.attrs.get("rate", 0.0)) if start is not None else 0.0
    if rate > 0 and np.isfinite(rate):
        return 1.0 / rate
    times = series["timestamps"][()] if "timestamps" in series else np.empty(0)
    if len(times) > 1:
        steps = np.diff(times)
        if np.median(steps) > 0 and np.allclose(steps, np.median(steps), rtol=1e-3):
            return float((times[-1] - times[0]) / (len(times) - 1))
        raise ReadError(path, f"the timestamps of {series.name} are not regular", "Resample it before")
    if file_metadata.get("dt") is not None:
        return float(file_metadata["dt"]) * to_ms(file_metadata.get("t_unit") or "seconds") / 1e3
    raise ReadError(path, f"{series.name} has neither rate nor timestamps", "Add 'dt' to the metadata")


def _settle_vu(voltage_series, current_series, voltage, current, i_unit, dt_s) -> tuple[np.ndarray, np.ndarray]:
    """Cut at the first nan, add the bias current, and hold what is before the amplifier has settled."""
    missing = np.flatnonzero(np.isnan(current))
    if len(missing) and missing[0] > 0:
        voltage, current = voltage[: missing[0]], current[: missing[0]]
    bias_pa = voltage_series.get("bias_current")
    if bias_pa is not None and np.isfinite(bias_pa[()]):
        current = current + np.float32(float(bias_pa[()]) * 1e-3 / to_na(i_unit))
    settled = int(VU_SETTLING_S / dt_s)
    if vu_description(current_series).startswith(_VU_UNSETTLED) and settled < min(len(voltage), len(current)):
        voltage[:settled], current[:settled] = voltage[settled], current[settled]
    return voltage, current

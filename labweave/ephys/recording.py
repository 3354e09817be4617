"""One sweep of a current-clamp recording: standard units, its stimulus and its spikes."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from labweave.ephys.efeatures.spikes import auto_threshold, spike_times
from labweave.ephys.stimulus.ecodes import find_ecode
from labweave.ephys.stimulus.sweep import Sweep
from labweave.errors import ReadError, SourceError
from labweave.formats.recordings.units import to_ms, to_mv, to_na


class Recording:
    """A sweep in ms, mV and nA with its stimulus.

    Parameters
    ----------
    protocol_name : str
        Chooses the stimulus family, see `find_ecode`.
    file_metadata : dict
        Paths, units, timings (ms), amplitudes (in the current unit), ``ljp`` and ``v_corr`` (mV).
        Not changed.
    sweep : dict
        From a reader: voltage, current, dt and units, see `labweave.formats.recordings`.
    efel_settings : dict, optional
        eFEL's settings for finding spikes.

    Attributes
    ----------
    t, voltage, current : ndarray, shape (n_samples,)
        ms (float64), mV and nA (precision of the file).
    dt, ton, toff, tend, amp, hypamp : float
        ms and nA. Amplitudes are above the holding current ``hypamp``. Some families add tmid, amp2, ...
    timing : str
        How the stimulus times are known: "given", "detected" or "not detected".
    amp_rel, hypamp_rel : float or None
        % of rheobase, after `compute_relative_amp`.
    efeatures, efeature_values : dict
        Values of features by name, and by `value_key` (feature and complete settings); nan where eFEL has none.
    files, id, name, repetition, config_data, reader_data, protocol_name, ecode
        Where the sweep comes from, what was known beforehand, and its stimulus family.

    Raises
    ------
    ReadError
        dt, a unit or a trace is missing.
    SourceError
        A unit is unknown.
    UnknownProtocol
        No stimulus family has this name.
    StimulusError
        Timings contradict the sweep.

    Examples
    --------
    >>> from labweave.ephys import Recording, simulate_protocol, CellModel
    >>> (sweep,) = simulate_protocol(CellModel(), "IDrest", amplitudes_pa=[150])
    >>> recording = Recording("IDrest", {}, sweep)
    >>> round(recording.amp, 2), recording.timing, recording.peak_time[:2].round()
    (0.15, 'given', array([229., 264.]))
    """

    def __init__(self, protocol_name, file_metadata, sweep, efel_settings=None):
        self.protocol_name = protocol_name
        self.ecode = find_ecode(protocol_name)
        self.efel_settings = dict(efel_settings or {})
        metadata = {**sweep.get("metadata", {}), **{k: v for k, v in file_metadata.items() if v is not None}}
        self.config_data = metadata
        self.reader_data = {key: value for key, value in sweep.items() if key not in ("voltage", "current")}
        self.files = _files(metadata)
        self.id = sweep.get("id")
        self.name = Path(self.files[-1]).stem if self.id is None and self.files else str(self.id or "")
        self.repetition = sweep.get("repetition")
        self.location = None

        known = {key: _known(key, metadata, sweep, self.name) for key in _NEEDED}
        current_factor = to_na(known["i_unit"])
        n_samples = len(sweep["voltage"])
        if n_samples != len(sweep["current"]):
            raise ReadError(self.name, f"{n_samples} voltage and {len(sweep['current'])} current samples", "Pair them")
        # Any: None after `drop_traces`
        self.t: Any = _time_axis(n_samples, float(known["dt"]), to_ms(known["t_unit"]))
        self.current: Any = _scaled(sweep["current"], current_factor)
        self.voltage: Any = _corrected(_scaled(sweep["voltage"], to_mv(known["v_unit"])), metadata)
        label = f"{protocol_name} {self.name}".strip()
        standard = Sweep(self.t, self.current, metadata, sweep, current_factor, label)
        self.dt, self.tend = standard.dt, standard.tend
        if not (np.isfinite(self.voltage).all() and np.isfinite(self.current).all()):
            raise SourceError(f"{label}: voltage or current contains nan or inf. Cut or leave out this sweep.")

        parameters = self.ecode.measure(standard)
        self.timing = parameters.pop("timing")
        self.ton, self.toff = parameters["ton"], parameters["toff"]
        self.amp, self.hypamp = parameters["amp"], parameters["hypamp"]
        for key, value in parameters.items():
            setattr(self, key, value)
        self.amp_rel = self.hypamp_rel = self.amp2_rel = None
        self.efeatures: dict[str, float] = {}
        self.efeature_values: dict[tuple[str, str], float] = {}

    @cached_property
    def auto_threshold(self) -> float:
        """Spike threshold in mV for settings that have none."""
        ton, toff = np.searchsorted(self.t, [self.ton, self.toff])
        pulses = getattr(self, "tspike", np.empty(0))
        if self.ecode.name == "SpikeRec" and len(pulses):
            # the sweep as a whole is the stimulus: what comes before the first pulse is the base
            ton = max(0, round(float(pulses[0]) / self.dt))
        return auto_threshold(self.voltage, int(ton), int(toff))

    @cached_property
    def peak_time(self) -> np.ndarray:
        """Times of the spikes inside the stimulus, in ms; empty for a silent sweep."""
        given = self.efel_settings.get("Threshold")
        threshold = self.auto_threshold if given is None else float(given)
        return spike_times(self.t, self.voltage, self.ton, self.toff, threshold, self.efel_settings)

    @property
    def spikecount(self) -> int:
        """Number of spikes inside the stimulus."""
        return len(self.peak_time)

    def drop_traces(self) -> None:
        """Forget t, voltage and current; what was computed from them stays."""
        for computed_when_asked_for in ("peak_time", "auto_threshold"):
            getattr(self, computed_when_asked_for)
        self.t = self.voltage = self.current = None

    @property
    def time(self) -> np.ndarray:
        """The same as ``t``."""
        return self.t

    @property
    def export_attr(self) -> tuple[str, ...]:
        """Names of the parameters that describe the stimulus."""
        return self.ecode.export

    def get_params(self) -> dict:
        """Return the stimulus in ms, nA and % of rheobase (None before `compute_relative_amp`)."""
        return {key: getattr(self, key) for key in self.ecode.export}

    def generate(self) -> tuple[np.ndarray, np.ndarray]:
        """Rebuild the stimulus from its parameters: times in ms and current in nA, shape (n_samples,)."""
        return self.ecode.generate({**self.get_params(), "dt": self.dt, "tend": self.tend})

    def compute_relative_amp(self, rheobase: float) -> None:
        """Set amp_rel, hypamp_rel (and amp2_rel) in % of the rheobase (nA)."""
        for key in ("amp", "hypamp", "amp2"):
            if hasattr(self, key):
                setattr(self, f"{key}_rel", 100.0 * getattr(self, key) / rheobase)


def read_recordings_of_file(protocol_name, file_metadata, reader=None, efel_settings=None) -> list[Recording]:
    """Read all sweeps of one file as recordings; none if the file has no sweep of this protocol.

    Parameters
    ----------
    protocol_name : str
        Protocol of the recordings. It also picks the sweeps, unless the metadata has another ``protocol_name``.
    file_metadata, efel_settings
        As in `Recording`.
    reader : str or callable, optional
        As in `labweave.formats.recordings.read_file`.

    Examples
    --------
    >>> from labweave.ephys import read_recordings_of_file
    >>> recordings = read_recordings_of_file("IDrest", {"filepath": "labweave-demo/recordings/sim01.h5"})

    >>> [(round(1000 * recording.amp), recording.spikecount) for recording in recordings]  # pA, spikes
    [(40, 0), (60, 1), (80, 7), (100, 13), (120, 18), (200, 36)]
    """
    from labweave.formats.recordings import read_file

    metadata = {"protocol_name": protocol_name, **file_metadata}
    sweeps = read_file(metadata, reader)
    return [Recording(protocol_name, metadata, sweep, efel_settings) for sweep in sweeps]


_NEEDED = {
    "dt": "sampling interval",
    "t_unit": "Time unit",
    "i_unit": "Current unit",
    "v_unit": "Voltage unit",
}


def _known(key, metadata, sweep, name):
    """Return what the metadata says, else the reader; ReadError if neither does."""
    value = metadata.get(key)
    value = sweep.get(key) if value is None else value
    if value is None:
        raise ReadError(name or "sweep", f"{_NEEDED[key]} not configured", f"Give {key!r} in the metadata")
    return value


@lru_cache(maxsize=4)
def _time_axis(n_samples: int, dt: float, factor: float) -> np.ndarray:
    """Times of the samples in ms. Sweeps of equal length share them, which saves memory."""
    t = np.arange(n_samples) * dt * factor
    t.flags.writeable = False
    return t


def _scaled(values, factor: float) -> np.ndarray:
    """Samples in standard units; float32 stays float32, everything else becomes float64."""
    samples = np.asarray(values)
    samples = samples if samples.dtype == np.float32 else samples.astype(np.float64, copy=False)
    return samples if factor == 1.0 else samples * factor


def _files(metadata) -> list[str]:
    if metadata.get("filepath"):
        return [str(metadata["filepath"])]
    return [str(metadata[key]) for key in ("i_file", "v_file") if metadata.get(key)]


def _corrected(voltage, metadata) -> np.ndarray:
    """Voltage in mV shifted to ``v_corr`` and by the liquid junction potential."""
    if metadata.get("v_corr") is not None:
        voltage = voltage - np.median(voltage[:100]) + float(metadata["v_corr"])
    if metadata.get("ljp") is not None:
        voltage = voltage - float(metadata["ljp"])
    return voltage

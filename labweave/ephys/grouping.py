"""From values per recording to features per stimulus: matching, mean stimulus, statistics, currents.

Recordings are `Recording` objects, or `RecordingSummary` objects made of database rows. The three results have the
layout of BluePyEfe's features.json, protocols.json and holding_threshold_currents.json.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labweave.ephys.stimulus.ecodes import ECode, find_ecode
from labweave.ephys.targets import Target, complete_settings, value_key
from labweave.errors import ComputeError
from labweave.formats.recordings.notices import FeatureWarning

MODES = {"mean": np.nanmean, "median": np.nanmedian, "min": np.nanmin, "max": np.nanmax}


@dataclass
class RecordingSummary:
    """What grouping needs to know of one recording. See `Recording`, which has the same names.

    ``params`` is the answer of its ``get_params``; `compute_relative_amp` sets the ``_rel`` entries.
    """

    protocol_name: str
    params: dict
    amp: float
    hypamp: float
    auto_threshold: float
    files: list[str] = field(default_factory=list)
    efeature_values: dict[tuple[str, str], float] = field(default_factory=dict)
    ecode: ECode = field(init=False)
    efeatures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self.ecode = find_ecode(self.protocol_name)

    def get_params(self) -> dict:
        """Return the parameters of the stimulus, in ms, nA and % of rheobase."""
        return self.params

    def compute_relative_amp(self, rheobase: float) -> None:
        """Set the amplitudes in % of the rheobase (nA)."""
        for key in ("amp", "hypamp", "amp2"):
            if self.params.get(key) is not None:
                self.params[f"{key}_rel"] = 100.0 * self.params[key] / rheobase


class EFeatureTarget:
    """Values of one feature at one stimulus, and their statistics.

    Parameters
    ----------
    efeature_name, efel_feature_name : str
        Name in the result, and eFEL's name.
    protocol_name, amplitude, tolerance
        As in `Target`.
    efel_settings : dict, optional
        Complete settings.

    Attributes
    ----------
    values, files : list
        The value of each recording that has the feature, and the files behind it.
    key : tuple of str
        The `value_key` under which recordings keep the value.
    """

    def __init__(self, efeature_name, efel_feature_name, protocol_name, amplitude, tolerance, efel_settings=None):
        self.efeature_name = efeature_name
        self.efel_feature_name = efel_feature_name
        self.protocol_name = protocol_name
        self.amplitude = amplitude
        self.tolerance = tolerance
        self.efel_settings = dict(efel_settings or {})
        self.key = value_key(efel_feature_name, self.efel_settings)
        self.clear()

    def clear(self) -> None:
        """Forget all values."""
        self.values: list[float] = []
        self.files: list[list[str]] = []
        self.auto_thresholds: list[float] = []

    def append(self, value: float, files=()) -> None:
        """Add the value of one recording. Nan is left out; TypeError for what is no number."""
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"the value of {self.efeature_name} must be a number, not {value!r}")
        if not math.isnan(value):
            self.values.append(float(value))
            self.files.append([str(name) for name in files])

    @property
    def sample_size(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean of the values, nan without any."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def std(self) -> float:
        """Population standard deviation of the values, nan without any."""
        deviation = _mean_and_std(self.values, 0.0)[1]
        return math.nan if deviation is None else deviation

    def as_dict(self, save_files_used: bool = False, default_std_value: float = 1e-3) -> dict:
        """Return the entry of features.json: feature, val ([mean, std]), n, efel_settings, efeature_name, files.

        Settings without ``Threshold`` get the median automatic one; a deviation of 0 becomes ``default_std_value``.
        """
        settings = dict(self.efel_settings)
        if "Threshold" not in settings and self.auto_thresholds:
            settings["Threshold"] = float(np.median(self.auto_thresholds))
        entry: dict[str, Any] = {
            "feature": self.efel_feature_name,
            "val": _mean_and_std(self.values, default_std_value),
            "n": self.sample_size,
            "efel_settings": settings,
            "efeature_name": self.efeature_name,
        }
        if save_files_used:
            entry["files"] = list(dict.fromkeys(name for names in self.files for name in names))
        return entry


class Protocol:
    """One stimulus: its targets, the recordings that match them, and their mean stimulus.

    Parameters
    ----------
    name, amplitude, tolerance
        Protocol, amplitude and tolerance as in `Target`.
    feature_targets : list of EFeatureTarget, optional
    global_rheobase : float, optional
        nA. The mean stimulus has this times the mean % of rheobase as its amplitude; without, the mean amplitude.
    mode : str
        mean, median, min or max: how several matched stimuli become one.
    """

    def __init__(self, name, amplitude, tolerance, feature_targets=None, global_rheobase=None, mode="mean"):
        check_mode(mode)
        self.name = name
        self.amplitude = amplitude
        self.tolerance = tolerance
        self.feature_targets: list[EFeatureTarget] = list(feature_targets or [])
        self.global_rheobase = global_rheobase
        self.mode = mode
        self.recordings: list = []

    def __repr__(self):
        return f"<Protocol {self.stimulus_name}: {len(self.recordings)} recordings>"

    @property
    def stimulus_name(self) -> str:
        """Key of the stimulus in the results."""
        return f"{self.name}_{self.amplitude}"

    @property
    def n_match(self) -> int:
        """Number of values of all targets."""
        return sum(target.sample_size for target in self.feature_targets)

    @property
    def ecode(self) -> ECode:
        """Stimulus family."""
        return find_ecode(self.name)

    def append(self, recording, feature_targets=None, by_name=False) -> None:
        """Add a recording, and its values to the targets that it matches (default: all).

        Values are found by feature and settings, then by name; with ``by_name`` only by name, as BluePyEfe does.
        """
        for target in self.feature_targets if feature_targets is None else feature_targets:
            value = None if by_name else recording.efeature_values.get(target.key)
            if value is None:
                value = recording.efeatures.get(target.efeature_name)
            if value is not None:
                target.append(value, recording.files)
            if "Threshold" not in target.efel_settings:
                target.auto_thresholds.append(recording.auto_threshold)
        self.recordings.append(recording)

    def get_params(self) -> dict:
        """Return the mean stimulus in ms, nA and % of rheobase: None where unknown, lists for waveforms."""
        params = [recording.get_params() for recording in self.recordings]
        reduced = {key: _reduce([each.get(key) for each in params], self.mode) for key in self.ecode.export}
        for key in ("amp", "amp2"):
            relative = reduced.get(f"{key}_rel")
            if self.global_rheobase and isinstance(relative, float):
                reduced[key] = relative * self.global_rheobase / 100.0
        return reduced

    def as_dict(self) -> dict:
        """Return the entry of protocols.json: ``holding`` and ``step``, None where a number is unknown."""
        params = self.get_params()
        tend = params["tend"]
        holding = {"delay": 0.0, "amp": params["hypamp"], "duration": tend, "totduration": tend}
        return {"holding": holding, "step": {name: _step_value(params, what) for name, what in self.ecode.step}}


def check_mode(protocol_mode: str) -> None:
    """Refuse a mode that `Protocol` does not know: ValueError."""
    if protocol_mode not in MODES:
        raise ValueError(f"protocol_mode {protocol_mode!r} is unknown. Use one of {', '.join(MODES)}.")


def effective_amplitude(recording, absolute: bool = False) -> float | None:
    """Return what a target's amplitude is compared with: % of rheobase, nA, or ms between pulses (SpikeRec)."""
    name = recording.ecode.effective
    if name != "delta" and not absolute:
        name += "_rel"
    return recording.get_params().get(name)


def group_efeatures(
    cells,
    targets,
    absolute_amplitude=False,
    use_global_rheobase=True,
    protocol_mode="mean",
    efel_settings=None,
    compat=None,
) -> list[Protocol]:
    """Group recordings and their features by the targets that they match.

    Parameters
    ----------
    cells : list of Cell
        With recordings that have values and amplitudes in % of rheobase. A cell without rheobase is left out
        unless amplitudes are absolute.
    targets : list of dict or Target
    absolute_amplitude : bool
        Amplitudes of targets are in nA, and rheobases are not used.
    use_global_rheobase : bool
        Take the amplitude of the mean stimulus from the mean rheobase of all cells, not from the recordings.
    protocol_mode : str
        mean, median, min or max: how several matched stimuli become one.
    efel_settings : dict, optional
        Settings for all targets; a target's own settings win.
    compat : str, optional
        "bluepyefe" finds values by name only, and uses the first tolerance of a stimulus for all its targets.

    Returns
    -------
    list of Protocol
        One per protocol and amplitude, in order of appearance. 150 and 150.0 are one; its first spelling counts.

    Raises
    ------
    ValueError
        Unknown mode, or a target with missing or unknown keys.
    ComputeError
        A cell has a rheobase, but its relative amplitudes are missing.
    """
    check_mode(protocol_mode)
    rheobases = [cell.rheobase for cell in cells if cell.rheobase]
    global_rheobase = None
    if rheobases and use_global_rheobase and not absolute_amplitude:
        global_rheobase = float(np.mean(rheobases))
    usable = [recording for cell in cells if absolute_amplitude or cell.rheobase for recording in cell.recordings]
    for recording in usable:
        if not absolute_amplitude and recording.get_params().get("amp_rel", 0.0) is None:
            raise ComputeError(
                f"{recording.protocol_name}: amplitudes in % of rheobase are missing. After setting cell.rheobase "
                "call cell.compute_relative_amp()."
            )
    stimuli: dict[tuple[str, float], list[Target]] = {}
    for target in map(Target.from_dict, targets):
        stimuli.setdefault((target.protocol, float(target.amplitude)), []).append(target)
    protocols = []
    for group in stimuli.values():
        first = group[0]
        feature_targets = [
            EFeatureTarget(
                target.efeature_name,
                target.efeature,
                target.protocol,
                first.amplitude,
                first.tolerance if compat else target.tolerance,
                complete_settings(efel_settings, target),
            )
            for target in group
        ]
        protocol = Protocol(
            first.protocol, first.amplitude, first.tolerance, feature_targets, global_rheobase, protocol_mode
        )
        for recording in usable:
            if recording.protocol_name != protocol.name:
                continue
            amplitude = effective_amplitude(recording, absolute_amplitude)
            if amplitude is None:
                continue
            matching = [target for target in feature_targets if abs(target.amplitude - amplitude) < target.tolerance]
            if matching:
                protocol.append(recording, matching, by_name=compat is not None)
        if not protocol.recordings:
            _warn(f"{protocol.stimulus_name}: no recording matches (protocol, amplitude or rheobase missing), left out")
        protocols.append(protocol)
    return protocols


def describe_protocols(
    cells,
    protocols: list[Protocol],
    threshold_nvalue_save: int = 1,
    save_files_used: bool = False,
    default_std_value: float = 1e-3,
    absolute_amplitude: bool = False,
) -> tuple[dict, dict, dict]:
    """Describe protocols and the currents of cells as dictionaries.

    Parameters
    ----------
    cells : list of Cell
    protocols : list of Protocol
        From `group_efeatures`.
    threshold_nvalue_save : int
        A feature with fewer values is left out; 1 or more.
    save_files_used : bool
        Add ``files``, the files behind each feature.
    default_std_value : float
        Replaces a standard deviation of 0.
    absolute_amplitude : bool
        Give no threshold currents.

    Returns
    -------
    features : dict
        ``{stimulus: {"soma": [{"feature", "val": [mean, std], "n", "efel_settings", "efeature_name"}]}}``
    protocols : dict
        ``{stimulus: {"holding": {...}, "step": {...}}}`` in ms, nA and % of rheobase.
    currents : dict
        ``holding_current`` and ``threshold_current`` ([mean, population std] over cells, nA), and per cell
        ``all_holding_current`` (its mean) and ``all_threshold_current``. What is not known is None.

    Raises
    ------
    ValueError
        A threshold below 1.
    """
    check_threshold_nvalue(threshold_nvalue_save)
    features: dict[str, dict] = {}
    stimuli: dict[str, dict] = {}
    for protocol in protocols:
        entries = []
        for target in protocol.feature_targets if protocol.recordings else ():
            if target.sample_size < threshold_nvalue_save:
                _warn(
                    f"{target.efeature_name} at {protocol.stimulus_name}: {target.sample_size} values, "
                    f"fewer than {threshold_nvalue_save}, left out"
                )
                continue
            entries.append(target.as_dict(save_files_used, default_std_value))
        if entries:
            features[protocol.stimulus_name] = {"soma": entries}
            stimuli[protocol.stimulus_name] = protocol.as_dict()
    return features, stimuli, holding_and_threshold_currents(cells, default_std_value, absolute_amplitude)


def check_threshold_nvalue(threshold_nvalue_save: int) -> None:
    """Refuse a number below 1: ValueError."""
    if threshold_nvalue_save < 1:
        raise ValueError(f"threshold_nvalue_save is {threshold_nvalue_save}, must be 1 or more")


def holding_and_threshold_currents(cells, default_std_value: float = 1e-3, absolute_amplitude: bool = False) -> dict:
    """Return holding currents and rheobases of cells, as `describe_protocols` does, with its arguments."""
    currents = {cell.name: [r.hypamp for r in cell.recordings if np.isfinite(r.hypamp)] for cell in cells}
    holding = {name: float(np.mean(values)) if values else None for name, values in currents.items()}
    threshold = {
        cell.name: float(cell.rheobase) for cell in cells if cell.rheobase is not None and not absolute_amplitude
    }
    return {
        "holding_current": _mean_and_std(holding.values(), default_std_value),
        "threshold_current": _mean_and_std(threshold.values(), default_std_value),
        "all_holding_current": holding,
        "all_threshold_current": threshold,
    }


def _reduce(values: list[Any], mode: str):
    """Make one value of several, as the mode says; None if none is known, the first recording's for arrays."""
    first = values[0]
    if isinstance(first, (np.ndarray, list, tuple)):
        if len(values) > 1:
            _warn("a stimulus has array parameters, those of the first matched recording are used")
        return [float(value) for value in first]
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return None if np.isnan(numbers).all() else float(MODES[mode](numbers))


def _step_value(reduced: dict, what: str):
    """A parameter, or one of the few expressions families use."""
    if what == "tspike[0]":
        return reduced["tspike"][0] if reduced["tspike"] else None
    if what == "len(tspike)":
        return len(reduced["tspike"])
    if "-" in what:
        later, earlier = (reduced[key] for key in what.split("-"))
        return None if later is None or earlier is None else later - earlier
    return reduced[what]


def _mean_and_std(values, default_std_value: float) -> list[float | None]:
    """Mean and population deviation of the known values. Equal values get the default deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return [None, None]
    deviation = float(np.std(known)) if min(known) < max(known) else 0.0
    return [float(np.mean(known)), deviation or float(default_std_value)]


def _warn(message: str) -> None:
    warnings.warn(message + ".", FeatureWarning, stacklevel=3)

"""From values per recording to features per stimulus: matching, mean stimulus, statistics, currents.

Recordings are `Recording` objects or rows of a database (`RecordingSummary`). The three results have the
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
    """What the grouping needs to know of one recording; a `Recording` has the same names.

    Parameters
    ----------
    protocol_name : str
    params : dict
        `Recording.get_params`; the ``_rel`` entries are set by `compute_relative_amp`.
    amp, hypamp : float
        nA.
    auto_threshold : float
        mV.
    files : list of str
    efeature_values : dict
        Float (nan for none) by `value_key` of feature and complete settings.
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
        """The stimulus: ms, nA, % of rheobase."""
        return self.params

    def compute_relative_amp(self, rheobase: float) -> None:
        """Set the amplitudes in % of the rheobase (nA)."""
        for key in ("amp", "hypamp", "amp2"):
            if key in self.params:
                self.params[f"{key}_rel"] = 100.0 * self.params[key] / rheobase


class EFeatureTarget:
    """Values of one feature at one stimulus, and their statistics.

    Parameters
    ----------
    efeature_name, efel_feature_name : str
        Name in the result, and eFEL's.
    protocol_name : str
    amplitude, tolerance : float
        % of rheobase, or nA in absolute mode.
    efel_settings : dict, optional
        Complete settings.

    Attributes
    ----------
    values : list of float
        One per recording that has the feature.
    files : list of list of str
        The files behind each value.
    key : tuple of str
        Where recordings keep the value, see `value_key`.
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
        """Add the value of one recording; nan is left out.

        Raises
        ------
        TypeError
            Not a number.
        """
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
        if not self.values:
            return math.nan
        return float(np.std(self.values)) if min(self.values) < max(self.values) else 0.0

    def as_dict(self, save_files_used: bool = False, default_std_value: float = 1e-3) -> dict:
        """Entry of features.json: feature, val ([mean, std]), n, efel_settings, efeature_name, and files if wanted.

        Without ``Threshold`` in the settings the median automatic one is written; a deviation of 0 becomes
        ``default_std_value``.
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
    name : str
    amplitude, tolerance : float
        % of rheobase, or nA in absolute mode.
    feature_targets : list of EFeatureTarget, optional
    global_rheobase : float, optional
        nA; amplitudes of the mean stimulus are this times the reduced % of rheobase. Default: reduced nA.
    mode : str
        mean, median, min or max: how the matched stimuli become one.
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
        """Add a recording and its values.

        Parameters
        ----------
        recording : Recording or RecordingSummary
        feature_targets : list of EFeatureTarget, optional
            Those of this protocol that it matches, default: all.
        by_name : bool
            Find values by name only, not by feature and settings first.
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
        """Parameters of the mean stimulus: ms, nA, % of rheobase; None where unknown, lists for waveforms."""
        params = [recording.get_params() for recording in self.recordings]
        reduced = {key: _reduce([each.get(key) for each in params], self.mode) for key in self.ecode.export}
        for key in ("amp", "amp2"):
            relative = reduced.get(f"{key}_rel")
            if self.global_rheobase and isinstance(relative, float):
                reduced[key] = relative * self.global_rheobase / 100.0
        return reduced

    def as_dict(self) -> dict:
        """Entry of protocols.json: ``holding`` and ``step``; None where a number is unknown."""
        params = self.get_params()
        tend = params["tend"]
        holding = {"delay": 0.0, "amp": params["hypamp"], "duration": tend, "totduration": tend}
        return {"holding": holding, "step": {name: _step_value(params, what) for name, what in self.ecode.step}}


def check_mode(protocol_mode: str) -> None:
    """ValueError for a mode that `Protocol` does not know."""
    if protocol_mode not in MODES:
        raise ValueError(f"protocol_mode {protocol_mode!r} is unknown. Use one of {', '.join(MODES)}.")


def effective_amplitude(recording, absolute: bool = False) -> float | None:
    """What a target's amplitude is compared with: % of rheobase, nA, or ms between pulses (SpikeRec)."""
    name = recording.ecode.effective
    if name != "delta" and not absolute:
        name += "_rel"
    return recording.get_params().get(name)


def is_match(recording, target, absolute: bool = False) -> bool:
    """Whether a recording's amplitude is nearer to the target's than the tolerance (never at tolerance 0)."""
    return _is_near(effective_amplitude(recording, absolute), target)


def group_efeatures(
    cells,
    targets,
    absolute_amplitude=False,
    use_global_rheobase=True,
    protocol_mode="mean",
    efel_settings=None,
    compat=None,
) -> list[Protocol]:
    """Recordings and their features at the targets that they match.

    Parameters
    ----------
    cells : list of Cell
        With rheobase (None for a cell that is not used in relative mode) and recordings that have values and
        amplitudes in % of rheobase.
    targets : list of dict or Target
        efeature, protocol, amplitude, tolerance, and optionally efel_settings and efeature_name.
    absolute_amplitude : bool
        Amplitudes of targets are nA, rheobases are not used.
    use_global_rheobase : bool
        Amplitude of the mean stimulus from the mean rheobase of all cells, not from the recordings.
    protocol_mode : str
        mean, median, min or max: how the matched stimuli become one.
    efel_settings : dict, optional
        The global ones; those of a target come first.
    compat : str, optional
        "bluepyefe": values by name only, and the first tolerance of a stimulus for all its targets.

    Returns
    -------
    list of Protocol
        One per protocol and amplitude, in order of appearance; 150 and 150.0 are one, the first spelling counts.

    Raises
    ------
    ValueError
        Unknown mode, or a target with missing or unknown keys.
    ComputeError
        A cell's rheobase was set but its relative amplitudes are missing.
    """
    check_mode(protocol_mode)
    rheobases = [cell.rheobase for cell in cells if cell.rheobase]
    global_rheobase = None
    if rheobases and use_global_rheobase and not absolute_amplitude:
        global_rheobase = float(np.mean(rheobases))
    usable = [recording for cell in cells if absolute_amplitude or cell.rheobase for recording in cell.recordings]
    if not absolute_amplitude:
        check_relative(usable)
    protocols = []
    for group in _stimuli(targets).values():
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
            matching = [target for target in feature_targets if _is_near(amplitude, target)]
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
    """Results as dictionaries.

    Parameters
    ----------
    cells : list of Cell
    protocols : list of Protocol
        From `group_efeatures`.
    threshold_nvalue_save : int
        Fewest values of a feature, 1 or more.
    save_files_used : bool
        Adds ``files``, the files behind each feature.
    default_std_value : float
        Instead of a deviation of 0.
    absolute_amplitude : bool
        No threshold currents.

    Returns
    -------
    features : dict
        ``{stimulus: {"soma": [entry, ...]}}``, entries as `EFeatureTarget.as_dict`.
    protocols : dict
        ``{stimulus: {"holding": {...}, "step": {...}}}`` in ms, nA and %.
    currents : dict
        As `holding_and_threshold_currents`.

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
    """ValueError below 1."""
    if threshold_nvalue_save < 1:
        raise ValueError(f"threshold_nvalue_save is {threshold_nvalue_save}, must be 1 or more")


def check_relative(recordings) -> None:
    """ComputeError when a recording has no amplitude in % of rheobase."""
    for recording in recordings:
        if recording.get_params().get("amp_rel", 0.0) is None:
            raise ComputeError(
                f"{recording.protocol_name}: amplitudes in % of rheobase are missing. After setting cell.rheobase "
                "call cell.compute_relative_amp()."
            )


def holding_and_threshold_currents(cells, default_std_value: float = 1e-3, absolute_amplitude: bool = False) -> dict:
    """Holding current and rheobase over cells, in nA.

    Parameters
    ----------
    cells : list of Cell
    default_std_value : float
        Instead of a deviation of 0.
    absolute_amplitude : bool
        No threshold currents.

    Returns
    -------
    dict
        ``holding_current`` and ``threshold_current`` ([mean, population std] over cells, None if
        unknown), ``all_holding_current`` (mean per cell) and ``all_threshold_current``.
    """
    holding = {cell.name: _mean_or_none([r.hypamp for r in cell.recordings if np.isfinite(r.hypamp)]) for cell in cells}
    threshold = {
        cell.name: float(cell.rheobase) for cell in cells if cell.rheobase is not None and not absolute_amplitude
    }
    return {
        "holding_current": _mean_and_std(holding.values(), default_std_value),
        "threshold_current": _mean_and_std(threshold.values(), default_std_value),
        "all_holding_current": holding,
        "all_threshold_current": threshold,
    }


def _is_near(amplitude: float | None, target) -> bool:
    return amplitude is not None and abs(target.amplitude - amplitude) < target.tolerance


def _stimuli(targets) -> dict[tuple[str, float], list[Target]]:
    """Targets by protocol and amplitude in order of appearance."""
    groups: dict[tuple[str, float], list[Target]] = {}
    for target in targets:
        target = target if isinstance(target, Target) else Target.from_dict(target)
        groups.setdefault((target.protocol, float(target.amplitude)), []).append(target)
    return groups


def _reduce(values: list[Any], mode: str):
    """One value for several: the mode's, None for none known; arrays are those of the first recording."""
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


def _mean_or_none(values) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mean_and_std(values, default_std_value: float) -> list[float | None]:
    """Mean and population deviation of the known values; equal values have the default deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return [None, None]
    deviation = float(np.std(known)) if min(known) < max(known) else 0.0
    return [float(np.mean(known)), deviation or float(default_std_value)]


def _warn(message: str) -> None:
    warnings.warn(message + ".", FeatureWarning, stacklevel=3)

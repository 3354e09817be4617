"""Automatic targets: the protocols and amplitudes for which there is data, out of lists of wishes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from labweave.errors import ConfigError
from labweave.formats.recordings.notices import FeatureWarning


@dataclass
class AutoTarget:
    """Efeatures that are wanted at the first protocols and amplitudes with enough recordings.

    Parameters
    ----------
    protocols : sequence of str
        Names of protocols, the most wanted first.
    amplitudes : sequence of float
        % of rheobase, the most wanted first; each is tried for a protocol before the next protocol.
    efeatures : sequence of str
        eFEL's names.
    min_recordings_per_amplitude : int
        So many recordings, of all cells together, must be nearer to the amplitude than the tolerance.
    preferred_number_protocols : int
        How many pairs of protocol and amplitude are used.
    tolerance : float
        % of rheobase, for the choice and in the targets.

    Attributes
    ----------
    active_ecode, active_amplitudes : list
        Protocols and amplitudes of the last choice, pair by pair.

    Raises
    ------
    ConfigError
        A number that can't be used.

    Examples
    --------
    >>> from labweave.ephys import AutoTarget
    >>> wish = AutoTarget(["IDrest", "Step"], [150, 200], ["AP_amplitude"], min_recordings_per_amplitude=3)
    >>> wish.tolerance, wish.preferred_number_protocols
    (10.0, 1)
    """

    protocols: Sequence[str]
    amplitudes: Sequence[float]
    efeatures: Sequence[str]
    min_recordings_per_amplitude: int = 10
    preferred_number_protocols: int = 1
    tolerance: float = 10.0
    active_ecode: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    active_amplitudes: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self):
        for name in ("min_recordings_per_amplitude", "preferred_number_protocols"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of an automatic target is {getattr(self, name)}, must be 1 or more.")
        if not self.tolerance > 0:
            raise ConfigError(f"tolerance of an automatic target is {self.tolerance}, must be above 0.")
        for name in ("protocols", "efeatures"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} of an automatic target is the text {getattr(self, name)!r}; give a list.")

    def select_ecode_and_amplitude(self, recordings: Iterable[Any]) -> None:
        """Choose pairs of protocol and amplitude from the recordings of all cells; an earlier choice is forgotten."""
        known = [(r.protocol_name, r.amp_rel) for r in recordings if r.amp_rel is not None]
        pairs = [
            (protocol, amplitude)
            for protocol in self.protocols
            for amplitude in self.amplitudes
            if sum(name == protocol and abs(found - amplitude) < self.tolerance for name, found in known)
            >= self.min_recordings_per_amplitude
        ][: self.preferred_number_protocols]
        self.active_ecode = [protocol for protocol, _ in pairs]
        self.active_amplitudes = [amplitude for _, amplitude in pairs]

    def is_valid(self) -> bool:
        """Say whether the last choice found anything."""
        return bool(self.active_ecode)

    def generate_targets(self) -> list[dict[str, Any]]:
        """Return the targets of the last choice: efeature, protocol, amplitude, tolerance and efel_settings."""
        return [
            {
                "efeature": efeature,
                "protocol": protocol,
                "amplitude": amplitude,
                "tolerance": self.tolerance,
                "efel_settings": {},
            }
            for protocol, amplitude in zip(self.active_ecode, self.active_amplitudes, strict=True)
            for efeature in self.efeatures
        ]


def choose_auto_targets(cells: Iterable[Any], auto_targets: Iterable[AutoTarget]) -> list[dict[str, Any]]:
    """Return the targets that the recordings of all cells together allow.

    Parameters
    ----------
    cells : iterable
        Each with ``recordings``, these with ``protocol_name`` and ``amp_rel``.
    auto_targets : iterable of AutoTarget

    Returns
    -------
    list of dict
        Empty, with a `FeatureWarning`, when no recording fits, for example for want of a rheobase.

    Examples
    --------
    >>> from labweave.ephys import AutoTarget, choose_auto_targets
    >>> from labweave.ephys.extract import compute_rheobase, read_recordings
    >>> cells = read_recordings({"sim01": {"IDrest": [{"filepath": "labweave-demo/recordings/sim01.h5"}]}})
    >>> compute_rheobase(cells, ["IDrest"])
    >>> wish = AutoTarget(["IDrest"], [200, 150], ["mean_frequency"], min_recordings_per_amplitude=1)
    >>> [(target["efeature"], target["amplitude"]) for target in choose_auto_targets(cells, [wish])]
    [('mean_frequency', 200)]
    """
    recordings = [recording for cell in cells for recording in cell.recordings]
    targets = []
    for auto_target in auto_targets:
        auto_target.select_ecode_and_amplitude(recordings)
        targets += auto_target.generate_targets()
    if not targets:
        n_known = sum(recording.amp_rel is not None for recording in recordings)
        warnings.warn(
            f"No automatic target fits: {n_known} of {len(recordings)} recordings have an amplitude "
            "in % of rheobase, and none of them is near a wanted protocol and amplitude.",
            FeatureWarning,
            stacklevel=2,
        )
    return targets


_STEPS = ("Step", "FirePattern", "IDrest", "IDRest", "IDthresh", "IDThresh", "IDThres", "IDthres", "IV")

PRESETS: dict[str, dict[str, Any]] = {
    "firing_pattern": {
        "protocols": _STEPS,
        "amplitudes": (200, 150, 250, 300),
        "efeatures": (
            "voltage_base", "adaptation_index2", "mean_frequency", "time_to_first_spike", "time_to_last_spike",
            "inv_first_ISI", "inv_second_ISI", "inv_third_ISI", "inv_fourth_ISI", "inv_fifth_ISI", "inv_last_ISI",
            "ISI_CV", "ISI_log_slope", "doublet_ISI", "AP_amplitude", "AP1_amp", "APlast_amp", "AHP_depth",
            "AHP_time_from_peak",
        ),
        "min_recordings_per_amplitude": 1,
        "preferred_number_protocols": 2,
        "tolerance": 25.0,
    },
    "ap_waveform": {
        "protocols": ("APWaveform", "APwaveform", *_STEPS),
        "amplitudes": (300, 350, 250, 400, 200),
        "efeatures": (
            "AP_amplitude", "AP1_amp", "AP2_amp", "AP_width", "AP_duration_half_width", "AP_rise_time",
            "AP_fall_time", "AHP_depth_abs", "AHP_time_from_peak", "AHP_depth",
        ),
        "min_recordings_per_amplitude": 1,
        "preferred_number_protocols": 1,
        "tolerance": 25.0,
    },
    "iv": {
        "protocols": ("IV", "Step"),
        "amplitudes": (-50, -100),
        "efeatures": (
            "voltage_base", "steady_state_voltage_stimend", "ohmic_input_resistance_vb_ssse", "voltage_deflection",
            "voltage_deflection_begin", "decay_time_constant_after_stim", "Spikecount", "sag_ratio1", "sag_ratio2",
            "sag_amplitude", "sag_time_constant",
        ),
        "min_recordings_per_amplitude": 1,
        "preferred_number_protocols": 1,
        "tolerance": 10.0,
    },
}  # fmt: skip
"""Wishes that suit most cells: trains of spikes, the shape of a spike, and the answer below threshold."""


def auto_targets_from_presets(presets: Iterable[str]) -> list[AutoTarget]:
    """Make automatic targets from names of `PRESETS` (firing_pattern, ap_waveform, iv); ConfigError for others."""
    names = [presets] if isinstance(presets, str) else list(presets)
    if unknown := [name for name in names if name not in PRESETS]:
        raise ConfigError(f"No preset of automatic targets is called {unknown[0]!r}. Use {', '.join(PRESETS)}.")
    return [AutoTarget(**PRESETS[name]) for name in names]


def default_auto_targets() -> list[AutoTarget]:
    """Return an automatic target for each preset."""
    return auto_targets_from_presets(PRESETS)

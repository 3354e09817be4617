"""Targets: which feature to average, at which protocol and amplitude, and with which settings of eFEL.

Values are kept by feature and complete settings, so a recording can have one feature with several settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    """One feature at one stimulus.

    Parameters
    ----------
    efeature : str
        eFEL's name.
    protocol : str
        Exact name of the protocol.
    amplitude, tolerance : float
        % of rheobase, or nA in absolute mode. A recording matches when its amplitude is nearer than the tolerance.
    efel_settings : dict
        They win over the settings for all targets.
    efeature_name : str, optional
        Name in the result; by default that of the efeature.

    Examples
    --------
    >>> from labweave.ephys import Target
    >>> Target("AP_amplitude", "IDrest", amplitude=150, tolerance=10).efeature_name
    'AP_amplitude'
    """

    efeature: str
    protocol: str
    amplitude: float
    tolerance: float
    efel_settings: dict = field(default_factory=dict)
    efeature_name: str = ""

    def __post_init__(self):
        object.__setattr__(self, "efel_settings", dict(self.efel_settings or {}))
        object.__setattr__(self, "efeature_name", self.efeature_name or self.efeature)

    @classmethod
    def from_dict(cls, target: dict | Target) -> Target:
        """Make a target of a dict with the names of the parameters; ``location`` is ignored.

        A target is returned as it is. ValueError for a key that is missing or unknown.
        """
        if isinstance(target, Target):
            return target
        given = {key: value for key, value in target.items() if key != "location"}
        needed = ("efeature", "protocol", "amplitude", "tolerance")
        missing = [key for key in needed if key not in given]
        unknown = [key for key in given if key not in (*needed, "efel_settings", "efeature_name")]
        if missing or unknown:
            wrong = f"{', '.join(missing)} missing" if missing else f"{', '.join(unknown)} unknown"
            raise ValueError(f"target {target}: {wrong}. A target has {', '.join(needed)}.")
        return cls(**given)


def complete_settings(efel_settings: dict | None, target: Target) -> dict:
    """Return the settings for all targets, overridden by those of one."""
    return {**(efel_settings or {}), **target.efel_settings}


def settings_key(settings: dict) -> str:
    """Return settings as a text that is the same for the same settings in any order."""
    numbers = {key: float(v) if type(v) is int else v for key, v in settings.items()}
    return json.dumps(numbers, sort_keys=True, default=float)


def value_key(efeature: str, settings: dict) -> tuple[str, str]:
    """Return the key of a feature's value: eFEL's name and the complete settings."""
    return efeature, settings_key(settings)


def convert_legacy_targets(targets: Mapping) -> list[dict]:
    """Convert targets of the form ``{protocol: {amplitudes, tolerances, efeatures, ...}}`` to a list of dicts.

    One tolerance serves all amplitudes; a shorter list raises ValueError.
    """
    keys = ("efeature", "protocol", "amplitude", "tolerance", "efel_settings")
    converted = []
    for protocol, entry in targets.items():
        amplitudes, tolerances, efeatures = entry["amplitudes"], entry["tolerances"], entry["efeatures"]
        if len(tolerances) == 1:
            tolerances = list(tolerances) * len(amplitudes)
        if len(tolerances) < len(amplitudes):
            raise ValueError(f"{protocol}: {len(amplitudes)} amplitudes, but {len(tolerances)} tolerances")
        settings = efeatures if isinstance(efeatures, dict) else dict.fromkeys(efeatures)
        for amplitude, tolerance in zip(amplitudes, tolerances, strict=False):
            for efeature, of_efeature in settings.items():
                values = (efeature, protocol, amplitude, tolerance, dict(of_efeature or {}))
                converted.append(dict(zip(keys, values, strict=True)))
    return converted

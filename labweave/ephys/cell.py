"""One cell: its recordings and its rheobase."""

from __future__ import annotations

from labweave.ephys.efeatures.compute import compute_efeatures, efeature_mean
from labweave.ephys.recording import Recording
from labweave.ephys.targets import settings_key


class Cell:
    """A cell and its recordings.

    Parameters
    ----------
    name : str
    recordings : list of Recording, optional
    rheobase : float, optional
        nA.

    Examples
    --------
    >>> from labweave.ephys import Cell, read_recordings_of_file
    >>> recordings = read_recordings_of_file("IDrest", {"filepath": "labweave-demo/recordings/sim01.h5"})
    >>> Cell("sim01", recordings)
    <Cell sim01: 6 recordings, rheobase None nA>
    """

    def __init__(self, name: str, recordings=None, rheobase: float | None = None):
        self.name = name
        self.recordings: list = list(recordings or [])
        self.rheobase = rheobase

    def __repr__(self):
        return f"<Cell {self.name}: {len(self.recordings)} recordings, rheobase {self.rheobase} nA>"

    def compute_relative_amp(self) -> None:
        """Set the amplitudes of all recordings in % of the rheobase."""
        for recording in self.recordings:
            recording.compute_relative_amp(self.rheobase)


def set_efeatures(recording: Recording, names, efel_settings=None) -> None:
    """Compute features of one recording in one call of eFEL and keep their means.

    Parameters
    ----------
    recording : Recording
    names : iterable of (str, str)
        eFEL's name and the name of the value.
    efel_settings : dict, optional
        Complete settings, see `compute_efeatures`.
    """
    names = list(names)
    vectors = compute_efeatures(recording, [efeature for efeature, _ in names], efel_settings)
    means = {efeature: efeature_mean(vector) for efeature, vector in vectors.items()}
    settings = settings_key(efel_settings or {})
    for efeature, mean in means.items():
        recording.efeature_values[efeature, settings] = mean
    for efeature, name in names:
        recording.efeatures[name] = means[efeature]

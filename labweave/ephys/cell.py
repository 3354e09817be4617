"""One cell: its recordings and its rheobase."""

from __future__ import annotations

from pathlib import Path

from labweave.ephys.efeatures.compute import compute_efeatures, efeature_mean
from labweave.ephys.recording import Recording, read_recordings_of_file
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
    >>> from labweave.ephys import Cell
    >>> cell = Cell("sim01")
    >>> cell.read_recordings([{"filepath": "labweave-demo/recordings/sim01.h5"}], "IDrest")
    >>> cell
    <Cell sim01: 6 recordings, rheobase None nA>
    """

    def __init__(self, name: str, recordings=None, rheobase: float | None = None):
        self.name = name
        self.recordings: list = list(recordings or [])
        self.rheobase = rheobase

    def __repr__(self):
        return f"<Cell {self.name}: {len(self.recordings)} recordings, rheobase {self.rheobase} nA>"

    def get_protocol_names(self) -> list[str]:
        """Names of the protocols, each once, in the order of the recordings."""
        return list(dict.fromkeys(recording.protocol_name for recording in self.recordings))

    def get_recordings_by_protocol_name(self, protocol_name: str) -> list:
        """Recordings of one protocol."""
        return [recording for recording in self.recordings if recording.protocol_name == protocol_name]

    def get_recordings_id_by_protocol_name(self, protocol_name: str) -> list[int]:
        """Positions in ``recordings`` of those of one protocol."""
        return [index for index, recording in enumerate(self.recordings) if recording.protocol_name == protocol_name]

    def read_recordings(self, protocol_data, protocol_name, recording_reader=None, efel_settings=None) -> None:
        """Read files of one protocol, and add their recordings.

        ``protocol_data`` is a list of ``file_metadata``; the other arguments are those of
        `labweave.ephys.extract.read_recordings`.
        """
        for file_metadata in protocol_data:
            self.recordings += read_recordings_of_file(protocol_name, file_metadata, recording_reader, efel_settings)

    def reader(self, config_data, recording_reader=None) -> list[dict]:
        """Read the sweeps of one file, see `labweave.formats.recordings.read_file`."""
        from labweave.formats.recordings import read_file

        return read_file(config_data, recording_reader)

    def plot_recordings(self, protocol_name, output_dir) -> list[Path]:
        """Draw the recordings of one protocol into ``<output_dir>/<cell>/``."""
        from labweave.ephys.plots import plot_cell_recordings

        chosen = Cell(self.name, self.get_recordings_by_protocol_name(protocol_name), self.rheobase)
        return plot_cell_recordings(chosen, output_dir)

    def plot_all_recordings(self, output_dir) -> list[Path]:
        """Draw the recordings of every protocol into ``<output_dir>/<cell>/``."""
        from labweave.ephys.plots import plot_cell_recordings

        return plot_cell_recordings(self, output_dir)

    def extract_efeatures(self, protocol_name, efeatures, efeature_names=None, efel_settings=None) -> None:
        """Compute features (eFEL's names) of all recordings of one protocol, see `compute_efeatures`.

        ``efeature_names`` are the names of the values, by default eFEL's.
        """
        for recording in self.get_recordings_by_protocol_name(protocol_name):
            set_efeatures(recording, zip(efeatures, efeature_names or efeatures, strict=True), efel_settings)

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

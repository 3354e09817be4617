"""Recordings and cells from what a database keeps of them: rows as dicts, files as paths and hashes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from labweave.ephys.cell import Cell
from labweave.ephys.grouping import Protocol, RecordingSummary, describe_protocols, group_efeatures
from labweave.ephys.recording import Recording, read_recordings_of_file
from labweave.ephys.targets import Target, value_key
from labweave.errors import ComputeError
from labweave.formats.hashing import sha256_of_file
from labweave.formats.places import folder_of
from labweave.formats.recordings.notices import FeatureWarning


def read_stored_recording(
    row: Mapping[str, Any], location: str, efel_settings: Mapping[str, Any] | None = None
) -> Recording:
    """Read a recording from its files.

    Parameters
    ----------
    row : mapping
        Of the table `recording.Recording`.
    location : str
        Of its source.
    efel_settings : mapping, optional
        To count spikes with.

    Raises
    ------
    ComputeError
        A file is not the one that was ingested.
    ReadError
        A file can't be read.
    """
    metadata = dict(row["metadata"])
    for role, file in row["files"].items():
        path = folder_of(location) / file["path"]
        if (found := sha256_of_file(path)) != file["sha256"]:
            raise ComputeError(
                f"{path} is not the file that was ingested (sha256 {found[:12]}..., then {file['sha256'][:12]}...). "
                f"Ingest its source again: labweave ingest ephys {location}"
            )
        metadata[role] = str(path)
    if row["sweep"]:
        metadata["sweep"] = row["sweep"]
    sweeps = read_recordings_of_file(row["protocol"], metadata, reader=row["reader"], efel_settings=efel_settings)
    if len(sweeps) != 1:
        raise ComputeError(
            f"{', '.join(f['path'] for f in row['files'].values())}: found {len(sweeps)} sweeps "
            f"for {row['recording']!r}, expected 1. Ingest the source again."
        )
    return sweeps[0]


class ExtractionInputs(NamedTuple):
    """The rows that an extraction is made from."""

    target_set: Mapping[str, Any]
    """Of `TargetSet`."""
    targets: Sequence[Mapping[str, Any]]
    """Of `Target`, in order, each with the ``settings`` of its feature set."""
    members: Sequence[Mapping[str, Any]]
    """``eid`` and ``cell`` of each cell of the group, in order."""
    rheobases: Iterable[Mapping[str, Any]]
    sweeps: Iterable[Mapping[str, Any]]
    """Of `RecordingStimulus`, in order."""
    values: Iterable[Mapping[str, Any]]
    """Of `RecordingEFeatures.Value`."""

    @property
    def is_absolute(self) -> bool:
        """Whether amplitudes are in nA instead of percent of rheobase."""
        return bool(self.target_set["absolute_amplitude"])


def cells_of_rows(inputs: ExtractionInputs) -> dict[tuple[str, str], Cell]:
    """Return the cells of an extraction by eid and name, each with its rheobase and summaries of its sweeps."""
    names = [row["cell"] for row in inputs.members]
    rheobases = {(row["eid"], row["cell"]): row["rheobase"] for row in inputs.rheobases}
    cells: dict[tuple[str, str], Cell] = {}
    for row in inputs.members:
        place = (row["eid"], row["cell"])
        label = row["cell"] if names.count(row["cell"]) == 1 else f"{row['cell']} {row['eid']}"
        cells[place] = Cell(label, rheobase=rheobases.get(place))
    sweeps = {}
    for row in inputs.sweeps:
        cell = cells[row["eid"], row["cell"]]
        sweep = RecordingSummary(
            row["protocol"], dict(row["params"]), row["amp"], row["hypamp"], row["auto_threshold"], [row["recording"]]
        )
        if cell.rheobase and not inputs.is_absolute:
            sweep.compute_relative_amp(cell.rheobase)
        cell.recordings.append(sweep)
        sweeps[_place(row)] = sweep
    settings = {row["feature_set"]: row["settings"] for row in inputs.targets}
    for row in inputs.values:
        value = float("nan") if row["value"] is None else row["value"]
        sweeps[_place(row)].efeature_values[value_key(row["efeature"], settings[row["feature_set"]])] = value
    return cells


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["eid"], row["cell"], row["protocol"], row["recording"]


def group_cells(inputs: ExtractionInputs, cells: Sequence[Cell]) -> tuple[dict, dict, dict, list[str]]:
    """Group cells at the targets of an extraction.

    Parameters
    ----------
    inputs : ExtractionInputs
    cells : sequence of Cell
        Some or all of `cells_of_rows`.

    Returns
    -------
    features, protocols, currents : dict
        As `labweave.ephys.describe_protocols`.
    notes : list of str
        What was left out, and why.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FeatureWarning)
        results = describe_protocols(
            cells,
            _group(inputs, cells),
            threshold_nvalue_save=inputs.target_set["min_values"],
            default_std_value=inputs.target_set["default_std"],
            absolute_amplitude=inputs.is_absolute,
        )
    notes = [str(note.message) for note in caught if issubclass(note.category, FeatureWarning)]
    return (*results, notes)


def group_at_targets(inputs: ExtractionInputs, cells: Sequence[Cell]) -> list[Protocol]:
    """Return the protocols of `group_cells`, whose targets have the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FeatureWarning)
        return _group(inputs, cells)


def _group(inputs: ExtractionInputs, cells: Sequence[Cell]) -> list[Protocol]:
    return group_efeatures(
        cells,
        [_target(row) for row in inputs.targets],
        absolute_amplitude=inputs.is_absolute,
        protocol_mode=inputs.target_set["protocol_mode"],
    )


def _target(row: Mapping[str, Any]) -> Target:
    amplitude = int(row["amplitude"]) if row["amplitude"].is_integer() else row["amplitude"]  # it names the stimulus
    return Target(row["efeature"], row["protocol"], amplitude, row["tolerance"], row["settings"], row["efeature_name"])


def hash_of_cells(cells: Mapping[tuple[str, str], Cell]) -> str:
    """Return one sha256 of everything that grouping looks at."""
    contents = [
        (
            place,
            cell.rheobase,
            sorted(
                (
                    *(sweep.protocol_name, sweep.files, sweep.amp, sweep.hypamp),
                    *(sorted(sweep.params.items()), sorted(sweep.efeature_values.items())),
                )
                for sweep in cell.recordings
            ),
        )
        for place, cell in sorted(cells.items())
    ]
    return hashlib.sha256(repr(contents).encode()).hexdigest()

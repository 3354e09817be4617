"""Features of cells at targets, with the functions of bluepyefe.extract: read, extract, rheobase, group, write.

Every function has the name, arguments, defaults and results of ``bluepyefe.extract`` in BluePyEfe 2.3
(https://bluepyefe.readthedocs.io). Where BluePyEfe is wrong these functions are not: docs/differences.md lists
the cases, and ``compat="bluepyefe"`` brings its numbers back.
"""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from labweave.ephys.auto_targets import choose_auto_targets, default_auto_targets
from labweave.ephys.cell import Cell, set_efeatures
from labweave.ephys.efeatures.compute import validate_efeatures
from labweave.ephys.efeatures.efel_core import DEFAULT_EFEL_SETTINGS, efel_session
from labweave.ephys.grouping import (
    EFeatureTarget,
    Protocol,
    check_mode,
    check_threshold_nvalue,
    describe_protocols,
    group_efeatures,
)
from labweave.ephys.recording import Recording, read_recordings_of_file
from labweave.ephys.rheobase import DEFAULT_RHEOBASE_PROTOCOLS, find_rheobase, validate_settings
from labweave.ephys.stimulus.ecodes import find_ecode
from labweave.ephys.targets import Target, complete_settings, convert_legacy_targets, settings_key
from labweave.errors import LabweaveError
from labweave.formats.recordings.notices import FeatureWarning, ReadingWarning
from labweave.formats.writing import whole_file

__all__ = [
    "EFeatureTarget",
    "Protocol",
    "cells_pickle_output_path",
    "compute_rheobase",
    "convert_legacy_targets",
    "create_feature_protocol_files",
    "extract_efeatures",
    "extract_efeatures_at_targets",
    "extract_efeatures_per_cell",
    "group_efeatures",
    "plot_recordings",
    "protocols_pickle_output_path",
    "read_recordings",
    "write_feature_files",
]

FILES_PER_CALL = 8


def cells_pickle_output_path(output_directory) -> Path:
    """Path of the cells' pickle: ``cells.pkl`` in the output directory."""
    return Path(output_directory) / "cells.pkl"


def protocols_pickle_output_path(output_directory) -> Path:
    """Path of the protocols' pickle: ``protocols.pkl`` in the output directory."""
    return Path(output_directory) / "protocols.pkl"


def read_recordings(
    files_metadata, recording_reader=None, map_function=map, efel_settings=None, compat=None
) -> list[Cell]:
    """Read recordings of cells.

    Parameters
    ----------
    files_metadata : dict
        ``{cell: {protocol: [file_metadata, ...]}}``. A file_metadata has ``filepath`` (or ``v_file`` and
        ``i_file``), what its reader needs, and optionally ``dt``, ``t_unit``, ``v_unit``, ``i_unit``, ``ljp`` and
        ``v_corr`` (mV), timings (ms) and amplitudes (in the unit of the current). It is not changed.
    recording_reader : callable or str, optional
        ``reader(file_metadata) -> list of dict``, or a name of `labweave.formats.recordings.READERS`; by default
        the suffix of the file decides.
    map_function : callable
        ``map``, the map of a process pool, or ``client.map`` of Dask. It works on a few files at a time.
    efel_settings : dict, optional
        eFEL's settings for finding spikes.
    compat : str, optional
        "bluepyefe" detects stimuli as BluePyEfe does, even where that fails.

    Returns
    -------
    list of Cell
        In the order of the dictionary.

    Raises
    ------
    UnknownProtocol
        A protocol belongs to no known stimulus family.
    LabweaveError
        No file could be read: the error of the first one. If only some can't be read, each gives a `ReadingWarning`.

    Examples
    --------
    >>> from labweave.ephys.extract import read_recordings
    >>> read_recordings({"sim01": {"IDrest": [{"filepath": "labweave-demo/recordings/sim01.h5"}]}})
    [<Cell sim01: 6 recordings, rheobase None nA>]
    """
    work = partial(_read, reader=recording_reader, efel_settings=efel_settings)
    return _mapped(work, files_metadata, map_function, compat)


def extract_efeatures_at_targets(cells, targets, map_function=map, efel_settings=None) -> list[Cell]:
    """Compute the features of targets for all recordings of their protocols.

    Parameters
    ----------
    cells : list of Cell
        With traces.
    targets : list of dict or Target
        See `labweave.ephys.Target`. They are not changed.
    map_function : callable
        As in `read_recordings`.
    efel_settings : dict, optional
        eFEL's settings for all targets; a target's own settings win. Without ``Threshold`` each recording gets its
        automatic threshold.

    Returns
    -------
    list of Cell
        The same cells. Their recordings now have ``efeatures`` (by name) and ``efeature_values`` (by feature and
        complete settings).
    """
    groups = _settings_groups(map(Target.from_dict, targets), efel_settings)
    recordings = [recording for cell in cells for recording in cell.recordings if recording.protocol_name in groups]
    results = _map(partial(_extract, groups=groups), recordings, map_function)
    for recording, (efeatures, values, peak_time) in zip(recordings, results, strict=True):
        recording.efeatures.update(efeatures)
        recording.efeature_values.update(values)
        recording.peak_time = peak_time
    return cells


def compute_rheobase(
    cells, protocols_rheobase, rheobase_strategy="absolute", rheobase_settings=None, compat=None
) -> None:
    """Set the rheobase of cells, and the amplitudes of their recordings in % of it.

    Parameters
    ----------
    cells : list of Cell
        A cell for which no rheobase is found keeps the one it has.
    protocols_rheobase : list of str or str
        Exact names of the protocols to use.
    rheobase_strategy, rheobase_settings, compat
        As in `labweave.ephys.find_rheobase`, which also says what is raised.
    """
    names = [protocols_rheobase] if isinstance(protocols_rheobase, str) else list(protocols_rheobase)
    for cell in cells:
        candidates = [recording for recording in cell.recordings if recording.protocol_name in names]
        result = find_rheobase(
            [recording.amp for recording in candidates],
            [recording.spikecount for recording in candidates],
            rheobase_strategy,
            rheobase_settings,
            compat,
        )
        if result.rheobase is not None:
            cell.rheobase = result.rheobase
        if cell.rheobase is not None and (math.isnan(cell.rheobase) or cell.rheobase == 0.0):
            warnings.warn(f"The rheobase of cell {cell.name} is {cell.rheobase}, taken as none.", stacklevel=2)
            cell.rheobase = None
        if cell.rheobase is not None:
            cell.compute_relative_amp()


def create_feature_protocol_files(
    cells,
    protocols,
    output_directory=None,
    threshold_nvalue_save=1,
    write_files=True,
    save_files_used=False,
    default_std_value=1e-3,
) -> tuple[dict, dict, dict]:
    """Describe protocols as dictionaries, and write these to JSON files.

    Parameters
    ----------
    output_directory : str or Path, optional
        Needed for writing; ValueError without it.
    write_files : bool
        Write features.json, protocols.json and holding_threshold_currents.json.
    cells, protocols, threshold_nvalue_save, save_files_used, default_std_value
        As in `labweave.ephys.describe_protocols`, which says what is returned.
    """
    if write_files and output_directory is None:
        raise ValueError("output_directory is missing: where should the files be written?")
    results = describe_protocols(cells, protocols, threshold_nvalue_save, save_files_used, default_std_value)
    if write_files:
        write_feature_files(output_directory, *results)
    return results


def write_feature_files(output_directory, features: dict, protocols: dict, currents: dict) -> list[Path]:
    """Write features.json, protocols.json and holding_threshold_currents.json, each whole or not at all."""
    contents = {"features": features, "protocols": protocols, "holding_threshold_currents": currents}
    paths = []
    for name, content in contents.items():
        text = json.dumps(content, indent=2, allow_nan=False)
        paths.append(Path(output_directory) / f"{name}.json")
        with whole_file(paths[-1]) as path:
            path.write_text(text, encoding="utf-8")
    return paths


def extract_efeatures_per_cell(
    files_metadata,
    cells,
    output_directory,
    targets,
    protocol_mode,
    threshold_nvalue_save,
    write_files,
    default_std_value=1e-3,
    absolute_amplitude=False,
    efel_settings=None,
    compat=None,
) -> None:
    """Group each cell by itself, and write its files into ``<output_directory>/<cell>/``.

    ``files_metadata`` names the cells to write; ``cells`` have features and rheobase. The other arguments are
    those of `extract_efeatures`.
    """
    for cell in cells:
        if cell.name not in files_metadata:
            continue
        settings = {"protocol_mode": protocol_mode, "efel_settings": efel_settings, "compat": compat}
        protocols = group_efeatures([cell], targets, absolute_amplitude, **settings)
        if cell.name in ("", ".", "..") or "/" in cell.name or "\\" in cell.name:
            raise ValueError(f"cell name {cell.name!r} can't be the name of a folder. Give the cell another name.")
        directory = Path(output_directory) / cell.name
        create_feature_protocol_files(
            [cell], protocols, directory, threshold_nvalue_save, write_files, default_std_value=default_std_value
        )


def extract_efeatures(
    output_directory,
    files_metadata,
    targets=None,
    threshold_nvalue_save=1,
    protocols_rheobase=None,
    absolute_amplitude=False,
    recording_reader=None,
    map_function=map,
    write_files=False,
    plot=False,
    low_memory_mode=False,
    protocol_mode="mean",
    efel_settings=None,
    extract_per_cell=False,
    rheobase_strategy="absolute",
    rheobase_settings=None,
    auto_targets=None,
    pickle_cells=False,
    default_std_value=1e-3,
    compat=None,
) -> tuple[dict, dict, dict]:
    """Read recordings, compute features, find rheobases, and average the features at targets.

    Parameters
    ----------
    output_directory : str or Path
        Where files, pickles and figures go. Nothing is written unless you ask for it.
    files_metadata, recording_reader, map_function
        As in `read_recordings`. Workers send back numbers only, no traces.
    targets : list of dict, optional
        As in `extract_efeatures_at_targets`, with amplitudes in % of rheobase, or in nA with
        ``absolute_amplitude``. The older form, a dict by protocol, is converted. Default: automatic targets.
    threshold_nvalue_save : int
        A feature with fewer values is left out.
    protocols_rheobase : list of str, optional
        Protocols for the rheobase, default: `labweave.ephys.DEFAULT_RHEOBASE_PROTOCOLS`.
    absolute_amplitude : bool
        Use no rheobase at all.
    write_files : bool
        Write the three JSON files of `create_feature_protocol_files`.
    plot : bool
        Draw recordings and features.
    low_memory_mode : bool
        Read one file after the other in this process, without ``map_function``.
    protocol_mode : str
        mean, median, min or max: how several matched stimuli become one.
    efel_settings : dict, optional
        Replaces the default ``{"strict_stiminterval": True, "Threshold": -20.0, "interp_step": 0.025}`` as a whole.
    extract_per_cell : bool
        With ``write_files``, write the same files for each cell alone, too.
    rheobase_strategy, rheobase_settings
        As in `labweave.ephys.find_rheobase`.
    auto_targets : list of AutoTarget, optional
        Instead of targets. Without either, the presets are used.
    pickle_cells : bool
        Write ``cells.pkl`` and ``protocols.pkl``.
    default_std_value : float
        Replaces a standard deviation of 0.
    compat : str, optional
        "bluepyefe" gives the numbers of BluePyEfe where it is wrong (docs/differences.md).

    Returns
    -------
    features, protocols, currents : dict
        As in `labweave.ephys.describe_protocols`; empty, with a warning, when nothing matches.

    Raises
    ------
    ValueError
        No files, targets of both kinds, plots in low memory mode, or an unknown mode, feature or setting. All of
        these are found before anything is read.
    LabweaveError
        As in `read_recordings` and `compute_rheobase`.

    Examples
    --------
    >>> from labweave.ephys import DEFAULT_EFEL_SETTINGS
    >>> from labweave.ephys.extract import extract_efeatures
    >>> files = {"sim01": {"IDrest": [{"filepath": "labweave-demo/recordings/sim01.h5"}]}}
    >>> target = {"efeature": "mean_frequency", "protocol": "IDrest", "amplitude": 200, "tolerance": 10}
    >>> features, protocols, currents = extract_efeatures(
    ...     "results", files, [target], protocols_rheobase=["IDrest"], efel_settings=DEFAULT_EFEL_SETTINGS
    ... )
    >>> entry = features["IDrest_200"]["soma"][0]
    >>> entry["feature"], round(entry["val"][0], 1), entry["n"]
    ('mean_frequency', 30.2, 1)
    >>> round(currents["threshold_current"][0], 2)
    0.06
    """
    if not files_metadata:
        raise ValueError("files_metadata is empty: there is nothing to extract efeatures from.")
    if targets is not None and auto_targets is not None:
        raise ValueError("targets and auto_targets are both given; choose one.")
    if plot and low_memory_mode:
        raise ValueError("plot needs the traces, which low_memory_mode does not keep; choose one.")
    if absolute_amplitude and targets is None:
        raise ValueError("absolute_amplitude needs targets: automatic ones are in % of rheobase.")
    check_mode(protocol_mode)
    check_threshold_nvalue(threshold_nvalue_save)
    validate_settings(rheobase_strategy, rheobase_settings, compat)
    if efel_settings is None:
        efel_settings = dict(DEFAULT_EFEL_SETTINGS)
        warnings.warn(f"efel_settings is not given, taken as {efel_settings}.", FeatureWarning, stacklevel=2)
    if protocols_rheobase is None and not absolute_amplitude:
        protocols_rheobase = DEFAULT_RHEOBASE_PROTOCOLS
        warnings.warn(
            f"protocols_rheobase is not given, taken as {', '.join(protocols_rheobase)}.", FeatureWarning, stacklevel=2
        )
    if isinstance(targets, Mapping):
        warnings.warn("targets are in the older form, by protocol; converted.", FeatureWarning, stacklevel=2)
        targets = convert_legacy_targets(targets)
    if low_memory_mode and map_function is not map:
        warnings.warn("low_memory_mode works in this process, map_function is not used.", stacklevel=2)
        map_function = map

    def read(targets, keep):
        groups = _settings_groups(targets, efel_settings)
        work = partial(_read, reader=recording_reader, efel_settings=efel_settings, groups=groups, keep=keep)
        return _mapped(work, files_metadata, map_function, compat)

    def find_rheobases(cells):
        if not absolute_amplitude:
            compute_rheobase(cells, protocols_rheobase, rheobase_strategy, rheobase_settings, compat)

    if targets is None:
        wishes = auto_targets or default_auto_targets()
        cells = read([], keep=False)
        find_rheobases(cells)
        targets = choose_auto_targets(cells, wishes)
    targets = [Target.from_dict(target) for target in targets]
    cells = read(targets, keep=plot)
    find_rheobases(cells)
    protocols = group_efeatures(
        cells, targets, absolute_amplitude, protocol_mode=protocol_mode, efel_settings=efel_settings, compat=compat
    )
    results = describe_protocols(cells, protocols, threshold_nvalue_save, False, default_std_value, absolute_amplitude)
    if not results[0]:
        warnings.warn("No efeature has enough values: the results are empty.", FeatureWarning, stacklevel=2)
    if write_files:
        write_feature_files(output_directory, *results)
        if extract_per_cell:
            extract_efeatures_per_cell(
                files_metadata,
                cells,
                output_directory,
                targets,
                protocol_mode,
                threshold_nvalue_save,
                write_files,
                default_std_value,
                absolute_amplitude,
                efel_settings,
                compat,
            )
    if pickle_cells:
        pickles = {cells_pickle_output_path: cells, protocols_pickle_output_path: protocols}
        for path_in, content in pickles.items():
            with whole_file(path_in(output_directory)) as path:
                path.write_bytes(pickle.dumps(content))
    if plot:
        from labweave.ephys.plots import plot_all_efeatures, plot_cell_impedance, plot_cell_recordings

        for cell in cells:
            plot_cell_recordings(cell, output_directory)
            plot_cell_impedance(cell, output_directory)
        plot_all_efeatures(cells, protocols, output_directory, absolute_amplitude=absolute_amplitude)
    return results


def plot_recordings(
    files_metadata, output_directory="./figures/", recording_reader=None, map_function=map
) -> list[Path]:
    """Draw recordings to ``<output_directory>/<cell>/<cell>_<protocol>_recordings.pdf``, and return these paths.

    The other arguments are those of `read_recordings`.
    """
    from labweave.ephys.plots import plot_cell_recordings

    cells = read_recordings(files_metadata, recording_reader, map_function)
    return [path for cell in cells for path in plot_cell_recordings(cell, output_directory)]


def _settings_groups(targets: Iterable[Target], efel_settings) -> dict[str, dict[str, tuple[dict, dict]]]:
    """For each protocol, by `settings_key`: complete settings, and the features and names wanted with them as keys."""
    groups: dict[str, dict[str, tuple[dict, dict]]] = {}
    for target in targets:
        settings = complete_settings(efel_settings, target)
        _, names = groups.setdefault(target.protocol, {}).setdefault(settings_key(settings), (settings, {}))
        name = target.efeature, target.efeature_name
        names.pop(name, None)  # of features that share a name the last one keeps it
        names[name] = None
    for of_protocol in groups.values():
        for settings, names in of_protocol.values():
            validate_efeatures([efeature for efeature, _ in names], settings)
    return groups


def _mapped(work: Callable, files_metadata, map_function, compat) -> list[Cell]:
    """Cells with the recordings that ``work`` makes of their files."""
    items = []
    for cell, protocols in files_metadata.items():
        for protocol, files in protocols.items():
            find_ecode(protocol)
            items += [(cell, protocol, {**metadata, "compat": compat} if compat else metadata) for metadata in files]
    cells = {name: Cell(name) for name in files_metadata}
    errors = []
    for (name, _, _), (recordings, error) in zip(items, _map(work, items, map_function), strict=True):
        cells[name].recordings += recordings
        if error is not None:
            errors.append(error)
            warnings.warn(f"Left out: {error}", ReadingWarning, stacklevel=3)
    if errors and len(errors) == len(items):
        raise errors[0]
    return list(cells.values())


def _map(work: Callable, items: list, map_function) -> list:
    """Results of ``work``, a few items a call; the map function may also give futures, as Dask's does."""
    chunks = [items[i : i + FILES_PER_CALL] for i in range(0, len(items), FILES_PER_CALL)]
    results = list(map_function(work, chunks))
    results = [result.result() if hasattr(result, "result") else result for result in results]
    return list(chain.from_iterable(results))


def _read(chunk, reader, efel_settings, groups=None, keep=True) -> list[tuple[list[Recording], Exception | None]]:
    """Read files and extract their features, in a worker: the recordings of each file, or its error."""
    found = []
    with efel_session():
        for _, protocol, file_metadata in chunk:
            try:
                recordings = read_recordings_of_file(protocol, file_metadata, reader, efel_settings)
                for recording in recordings:
                    _set_all(recording, (groups or {}).get(protocol, {}))
                    if not keep:
                        recording.drop_traces()
                found.append((recordings, None))
            except (LabweaveError, OSError) as error:
                found.append(([], error))
    return found


def _extract(chunk: list[Recording], groups) -> list[tuple[dict, dict, Any]]:
    """Extract features, in a worker: for each recording its values by name and by key, and its spikes."""
    with efel_session():
        for recording in chunk:
            _set_all(recording, groups[recording.protocol_name])
    return [(recording.efeatures, recording.efeature_values, recording.peak_time) for recording in chunk]


def _set_all(recording: Recording, groups) -> None:
    for settings, names in groups.values():
        set_efeatures(recording, names, settings)

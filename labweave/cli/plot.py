"""``labweave plot``: figures of the recordings and efeatures in the tables."""

from __future__ import annotations

import difflib
import enum
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from labweave.cli.base import err, open_database, out, progress_bar
from labweave.errors import ComputeError, ConfigError, LabweaveError

Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write into; made when missing")]
Method = Annotated[str, typer.Option("--rheobase-method", help="Method whose rheobase amplitudes are relative to")]
FIGURES = Path("labweave-figures")


class Format(str, enum.Enum):
    """Formats of figure files."""

    pdf = "pdf"
    png = "png"


def cell(
    cell: Annotated[str, typer.Argument(help="Name of the cell")],
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", "-p", help="Only sweeps of this; may be repeated")
    ] = None,
    eid: Annotated[str | None, typer.Option("--eid", help="Its session, when several have a cell of this name")] = None,
    rheobase_method: Method = "absolute",
    output: Output = FIGURES,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="pdf, or png with a file for each page")
    ] = Format.pdf,
) -> None:
    """Draw the sweeps of a cell, a file per protocol, its firing rate against the amplitude, and its impedance.

    For example: labweave plot cell B6 --protocol IDRest --output figures
    """
    from labweave.ephys import plots

    with open_database():
        key = _find_cell(cell, eid)
        rows = _find_sweeps(key, protocol or [])
        drawn = SimpleNamespace(name=cell, rheobase=_rheobase(key, rheobase_method), recordings=[])
        failures = _read_sweeps(drawn, rows)
    paths = plots.plot_cell_recordings(drawn, output, format.value)
    if any(recording.ecode.name == "Step" for recording in drawn.recordings):
        paths += plots.plot_firing_rates(drawn, output, format.value)
    paths += plots.plot_cell_impedance(drawn, output, format.value)
    _say(paths)
    for failure in failures[:5]:
        err.print(f"failed {failure}")
    if failures:
        err.print(f"{len(failures)} of {len(rows)} sweeps could not be read and are not in the figures.")
        raise typer.Exit(1)


def features(
    cell_group: Annotated[str, typer.Argument(help="Name of the group of cells")],
    target_set: Annotated[str | None, typer.Option("--target-set", help="Which, when there are several")] = None,
    rheobase_method: Method = "absolute",
    output: Output = FIGURES,
) -> None:
    """Draw each efeature of a group's sweeps against the amplitude, with the means at the targets.

    There are figures of all cells together and of each, in nA and in percent of rheobase.
    """
    from labweave.ephys import plots

    with open_database():
        key = _find_extraction(cell_group, target_set, rheobase_method)
        cells, protocols, is_absolute = _gather(key)
    folder = output / plots.file_name(cell_group)
    _say(plots.plot_all_efeatures(cells, protocols, folder, absolute_amplitude=is_absolute))


def _say(paths: Sequence[Path]) -> None:
    for path in paths:
        out.print(f"wrote {path}")


def _find_cell(name: str, eid: str | None) -> dict[str, str]:
    """Return the key of the cell of this name; ConfigError if there is none or more than one."""
    from labweave.schemas.recording import Cell
    from labweave.schemas.session import Session

    found = (Session * Cell & {"cell": name}).to_dicts(order_by="session_date, eid")
    if not found:
        names = sorted({str(known) for known in Cell().to_arrays("cell")})
        close = difflib.get_close_matches(name, names, n=5)
        if not names:
            advice = "There is no cell yet. Ingest recordings first: labweave ingest ephys FOLDER --lab LAB"
        else:
            advice = f"Did you mean {', '.join(close)}?" if close else f"There are {_some(names)}."
        raise ConfigError(f"No cell is called {name!r}. {advice}")
    sessions = ", ".join(f"{row['eid']} ({row['subject']}, {row['session_date']})" for row in found)
    if eid is not None:
        found = [row for row in found if row["eid"] == eid.strip().lower()]
        if not found:
            raise ConfigError(f"The session {eid} has no cell {name!r}. It is in {sessions}.")
    if len(found) > 1:
        raise ConfigError(f"{len(found)} sessions have a cell {name!r}. Choose one with --eid: {sessions}.")
    return {"eid": found[0]["eid"], "cell": name}


def _find_sweeps(key: dict[str, str], protocols: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of `Recording` with their stimulus and the location of their source."""
    from labweave.schemas.ingestion import Source
    from labweave.schemas.recording import Recording, RecordingStimulus

    known = sorted({str(name) for name in (Recording & key).to_arrays("protocol")})
    if missing := sorted(set(protocols) - set(known)):
        raise ConfigError(f"The cell {key['cell']!r} has no sweeps of {', '.join(missing)}; it has {_some(known)}.")
    sweeps = Recording & key & ([{"protocol": name} for name in protocols] or True)
    rows = (sweeps * RecordingStimulus * Source.proj("location")).to_dicts(order_by="protocol, recording")
    n_unread = len(sweeps) - len(rows)
    if not rows:
        raise ConfigError(f"None of the {n_unread} sweeps of {key['cell']!r} has been read. Run: labweave populate")
    if n_unread:
        err.print(f"{n_unread} sweeps have not been read yet and are left out. Run: labweave populate")
    return rows


def _read_sweeps(drawn: Any, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Read the sweeps from their files, take stimulus and spikes from the tables, and return what failed."""
    from labweave import ephys

    failures: list[str] = []
    with progress_bar("sweeps were read") as show, warnings.catch_warnings():
        warnings.simplefilter("ignore", ephys.StimulusWarning)  # the figure says it
        for row in rows:
            try:
                recording = ephys.read_stored_recording(row, row["location"], ephys.DEFAULT_EFEL_SETTINGS)
            except LabweaveError as error:
                failures.append(f"{row['protocol']} {row['recording']}: {error}")
                continue
            for name, value in {**row["params"], "timing": row["timing"], "peak_time": row["spike_times"]}.items():
                setattr(recording, name, value)
            if drawn.rheobase:
                recording.compute_relative_amp(drawn.rheobase)
            drawn.recordings.append(recording)
            show("read", len(drawn.recordings), len(failures), len(rows))
    if not drawn.recordings:
        raise ComputeError(f"None of the {len(rows)} sweeps of {drawn.name!r} can be read. The first: {failures[0]}")
    return failures


def _rheobase(key: dict[str, str], method: str) -> float | None:
    """Return the rheobase of a cell in nA; if there is none, say so and return None."""
    from labweave.schemas.rheobase import Rheobase, RheobaseMethod

    methods = [str(name) for name in RheobaseMethod().to_arrays("rheobase_method")]
    if method not in methods:
        raise ConfigError(f"No rheobase method is called {method!r}. There are {_some(sorted(methods))}.")
    rows = (Rheobase & key & {"rheobase_method": method}).to_dicts()
    if not rows:
        err.print(f"The rheobase of {key['cell']} by {method} has not been computed. Run: labweave populate")
        return None
    if rows[0]["rheobase"] is None:
        err.print(f"{key['cell']} has no rheobase by {method}: {rows[0]['reason']}")
    return rows[0]["rheobase"]


def _find_extraction(group: str, target_set: str | None, method: str) -> dict[str, str]:
    """Return the key of the extraction; ConfigError if there is none or more than one."""
    from labweave.schemas.efeature import CellGroup, Extraction

    groups = sorted(str(name) for name in CellGroup().to_arrays("cell_group"))
    if group not in groups:
        raise ConfigError(f"No cell group is called {group!r}. There are {_some(groups)}.")
    found = (Extraction & {"cell_group": group, "rheobase_method": method}).proj().to_dicts(order_by="target_set")
    names = [key["target_set"] for key in found]
    if target_set is not None:
        found = [key for key in found if key["target_set"] == target_set]
    if not found:
        known = f"There are those at {_some(names)}." if names else "Add targets for it, then run: labweave populate"
        asked = f" at the targets {target_set!r}" if target_set else ""
        raise ConfigError(f"{group!r} has no extraction{asked} with the rheobase method {method!r}. {known}")
    if len(found) > 1:
        raise ConfigError(f"{group!r} has {len(found)} extractions. Choose one with --target-set: {', '.join(names)}.")
    return found[0]


def _gather(key: dict[str, str]) -> tuple[list[Any], list[Any], bool]:
    """Return cells with the values of their sweeps, results at the targets, and whether amplitudes are in nA."""
    from labweave import ephys
    from labweave.schemas.efeature import Extraction

    inputs = Extraction.fetch_inputs(key)
    inputs = inputs._replace(targets=_label(inputs.targets))
    cells = list(ephys.cells_of_rows(inputs).values())
    protocols = ephys.group_at_targets(inputs, cells)
    targets = [target for protocol in protocols for target in protocol.feature_targets]
    for target in targets:
        if target.sample_size < inputs.target_set["min_values"]:
            target.clear()
    for cell in cells:
        for sweep in cell.recordings:
            if cell.rheobase:
                sweep.compute_relative_amp(cell.rheobase)
            sweep.efeatures = {
                target.efeature_name: sweep.efeature_values[target.key]
                for target in targets
                if target.protocol_name == sweep.protocol_name and target.key in sweep.efeature_values
            }
    return cells, protocols, inputs.is_absolute


def _label(targets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return targets whose values have a name that no value with other settings shares."""
    sources: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for row in targets:
        source = (row["feature_set"], row["efeature"])
        sources.setdefault((row["protocol"], row["efeature_name"]), set()).add(source)
    labelled = []
    for row in targets:
        name = row["efeature_name"]
        if len(sources[row["protocol"], name]) > 1:
            name = f"{name} ({row['efeature']}, {row['efel_settings']})"
        labelled.append({**row, "efeature_name": name})
    return labelled


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "none"

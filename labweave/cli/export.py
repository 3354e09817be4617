"""``labweave export``: results from the tables as files for other programs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from labweave.cli.base import err, open_database, out
from labweave.errors import ConfigError

HOLDING = ("delay", "amp", "duration", "totduration")
CURRENTS_OF_CELLS = ("all_holding_current", "all_threshold_current")
CURRENTS = ("holding_current", "threshold_current", *CURRENTS_OF_CELLS)
ONE_EXTRACTION = ("cell_group", "target_set", "rheobase_method")

Contents = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def features(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into; made when missing")],
    cell_group: Annotated[str | None, typer.Option("--cell-group", help="Of the extraction to write")] = None,
    target_set: Annotated[str | None, typer.Option("--target-set", help="Of the extraction to write")] = None,
    rheobase_method: Annotated[str | None, typer.Option("--rheobase-method", help="Of the extraction to write")] = None,
    per_cell: Annotated[bool, typer.Option("--per-cell", help="Also each cell alone, in a folder of its own")] = False,
) -> None:
    """Write features.json, protocols.json and holding_threshold_currents.json, as BluePyEfe does.

    Without options, writes every extraction; when there are several, each gets its own folder.
    Options choose one. Existing files are replaced.
    """
    with open_database():
        written = export_features(
            folder,
            cell_group=cell_group,
            target_set=target_set,
            rheobase_method=rheobase_method,
            per_cell=per_cell,
        )
    for one in written:
        out.print(f"wrote {one.folder}: {one.n_efeatures} efeatures at {one.n_stimuli} stimuli")
        for note in one.notes:
            err.print(f"{one.folder}: {note}")
        if one.is_stale:
            err.print(f"{one.folder}: its sweeps or cells have changed since. Run: labweave populate")


def one_cache(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write into; made when missing")],
    lab: Annotated[list[str] | None, typer.Option("--lab", help="Only this lab; may be repeated")] = None,
    project: Annotated[list[str] | None, typer.Option("--project", help="Only this project; may be repeated")] = None,
    subject: Annotated[list[str] | None, typer.Option("--subject", help="Only this subject; may be repeated")] = None,
) -> None:
    """Write sessions.pqt, datasets.pqt and insertions.pqt, for ONE-api without labweave.

    ONE-api opens them with One(cache_dir=DIR), or One(cache_dir=DATA, tables_dir=DIR) when the
    files are elsewhere. Existing tables are replaced.
    """
    with open_database():
        from labweave.one.export import export_tables

        written = export_tables(folder, labs=lab or (), projects=project or (), subjects=subject or ())
    out.print(
        f"wrote {written.folder}: {written.n_sessions} sessions, {written.n_datasets} datasets, "
        f"{written.n_insertions} insertions"
    )
    if written.n_undated:
        err.print(f"{written.n_undated} sessions without a date were left out: ONE's folders need one")


@dataclass(frozen=True)
class Written:
    """One folder with the three files.

    Parameters
    ----------
    folder : Path
    n_efeatures, n_stimuli : int
    notes : sequence of str
        What the reader should know, above all which targets have no result and why.
    is_stale : bool
        Whether the rows behind the extraction have changed since it was made.
    """

    folder: Path
    n_efeatures: int
    n_stimuli: int
    notes: Sequence[str] = ()
    is_stale: bool = False


def export_features(
    folder: str | Path,
    *,
    cell_group: str | None = None,
    target_set: str | None = None,
    rheobase_method: str | None = None,
    per_cell: bool = False,
) -> list[Written]:
    """Write the extractions of the open database as files, laid out as BluePyEfe's.

    Parameters
    ----------
    folder : str or Path
        Gets the three files; with several extractions, a folder ``GROUP+TARGETS+METHOD`` for each.
    cell_group, target_set, rheobase_method : str, optional
        Choose one extraction; all are written if none of these is given.
    per_cell : bool
        Also write the same files for each cell alone, in a folder named after the cell.

    Returns
    -------
    list of Written

    Raises
    ------
    ConfigError
        No extraction fits, or several fit what was named.
    OSError
        The folder can't be written.

    Notes
    -----
    Currents are in nA, times in ms, efeatures in eFEL's units. Unknown values are null.
    Each file is written under another name and then renamed, so a reader never sees half of one.
    """
    from labweave.database.inputs import out_of_date
    from labweave.schemas.efeature import Extraction

    named = {
        name: value
        for name, value in zip(ONE_EXTRACTION, (cell_group, target_set, rheobase_method), strict=True)
        if value is not None
    }
    keys = _chosen(named)
    stale = [one.key for one in out_of_date(Extraction())]
    written = []
    for key in keys:
        place = Path(folder) if len(keys) == 1 else Path(folder, "+".join(_folder_name(v) for v in key.values()))
        notes = (Extraction & key).fetch1("notes")["left_out"]
        written.append(_write(place, _stored(key), notes, key in stale))
        if per_cell:
            for cell, contents, notes in _each_cell(key):
                written.append(_write(place / _folder_name(cell), contents, notes, key in stale))
    return written


def _chosen(named: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the keys of the extractions to write."""
    from labweave.schemas.efeature import Extraction

    known = [{name: row[name] for name in ONE_EXTRACTION} for row in Extraction().proj().to_dicts()]
    known.sort(key=lambda key: tuple(key.values()))
    if not known:
        raise ConfigError(
            "There is no extraction yet. Add targets and a cell group (labweave.analysis), then run: labweave populate"
        )
    fitting = [key for key in known if all(key[name] == value for name, value in named.items())]
    if not fitting:
        raise ConfigError(f"No extraction has {_options(named)}. There are: {'; '.join(map(_options, known))}.")
    if named and len(fitting) > 1:
        raise ConfigError(
            f"{len(fitting)} extractions have {_options(named)}: {'; '.join(map(_options, fitting))}. "
            "Name one, or give no option to write all."
        )
    return fitting


def _stored(key: Mapping[str, str]) -> Contents:
    """Return features, protocols and currents of an extraction, in the order of its targets."""
    from labweave.schemas.efeature import Extraction

    features: dict[str, dict] = {}
    for row in (Extraction.Feature & key).to_dicts(order_by="feature"):
        entry = {
            "feature": row["efeature"],
            "val": [row["mean"], row["std"]],
            "n": row["n"],
            "efel_settings": row["feature_settings"],
            "efeature_name": row["efeature_name"],
        }
        features.setdefault(row["stimulus"], {"soma": []})["soma"].append(entry)
    rows = {row["stimulus"]: row["stimulus_description"] for row in (Extraction.Protocol & key).to_dicts()}
    return features, {name: rows[name] for name in features}, (Extraction & key).fetch1("currents")


def _each_cell(key: Mapping[str, str]) -> Iterator[tuple[str, Contents, list[str]]]:
    """Yield each cell of an extraction, with its contents and notes when grouped alone."""
    from labweave import ephys
    from labweave.schemas.efeature import Extraction

    inputs = Extraction.fetch_inputs(key)
    for cell in ephys.cells_of_rows(inputs).values():
        features, protocols, currents, notes = ephys.group_cells(inputs, [cell])
        yield cell.name, (features, protocols, currents), notes


def _arranged(features: dict, protocols: dict, currents: dict) -> Contents:
    """Return contents with all names in BluePyEfe's order, which a database does not keep."""
    from labweave.ephys import DEFAULT_EFEL_SETTINGS
    from labweave.ephys.stimulus.ecodes import FAMILIES

    steps = {frozenset(names): names for names in ([name for name, _ in f.step] for f in FAMILIES.values())}
    for places in features.values():
        for entry in places["soma"]:
            entry["efel_settings"] = _in_order(entry["efel_settings"], DEFAULT_EFEL_SETTINGS)
    protocols = {
        name: {
            "holding": _in_order(description["holding"], HOLDING),
            "step": _in_order(description["step"], steps.get(frozenset(description["step"]), ())),
        }
        for name, description in protocols.items()
    }
    currents = _in_order(currents, CURRENTS)
    for name in CURRENTS_OF_CELLS:
        currents[name] = _in_order(currents[name])
    return features, protocols, currents


def _in_order(mapping: Mapping[str, Any], names: Iterable[str] = ()) -> dict[str, Any]:
    """Return a mapping with some names first, the others sorted."""
    first = [name for name in names if name in mapping]
    return {name: mapping[name] for name in [*first, *sorted(mapping.keys() - set(first))]}


def _write(folder: Path, contents: Contents, notes: Sequence[str], is_stale: bool) -> Written:
    """Write the three files of one folder."""
    from labweave.ephys.extract import write_feature_files
    from labweave.formats.plain import plain_json

    write_feature_files(folder, *(plain_json(content) for content in _arranged(*contents)))
    n_efeatures = sum(len(places["soma"]) for places in contents[0].values())
    return Written(folder, n_efeatures, len(contents[0]), tuple(notes), is_stale)


def _options(key: Mapping[str, str]) -> str:
    """Return names and values as command line options."""
    return " ".join(f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in key.items())


def _folder_name(text: str) -> str:
    """Return text as a folder name, with %XX for characters that mean something else to a path or file system."""
    return re.sub(r'^\.|[%+/\\:*?"<>|\x00-\x1f]', lambda found: f"%{ord(found[0]):02X}", text)

"""Patch-clamp recordings: a folder of them, or a mapping of cells, protocols and files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labweave.database.values import to_json
from labweave.errors import Clash, OptionMissing, ReadError, SourceError
from labweave.formats import recordings
from labweave.formats.plain import load_yaml, tidy
from labweave.formats.recordings.files import as_list
from labweave.ingest.base import Adapter, Day, Options, Refused, Row, Unit, inside, unreadable
from labweave.ingest.naming import has_control_character
from labweave.ingest.registry import SUMMARIES
from labweave.ingest.sessions import Subjects, find_session, session_rows
from labweave.schemas import recording, subject
from labweave.schemas.ingestion import Source, SourceFile

MAPPING_NAMES = tuple(
    f"{stem}{suffix}" for stem in ("files_metadata", "metadata") for suffix in (".json", ".yaml", ".yml", ".csv")
)
FILE_ROLES = ("filepath", "v_file", "i_file")
TEXT_COLUMNS = (*FILE_ROLES, "sweep", "reader", "protocol_name", "amplitudes")
CELL_FIELDS = ("subject", "species", "sex", "session_date", "session_number", "cell_type", "ljp")

Sweeps = list[tuple[str, dict[str, Any]]]
"""Protocol of each sweep, with its files by role and what is known of it."""
Cells = dict[str, dict[str, list[dict[str, Any]]]]
"""Cell -> protocol -> the same."""


class EphysOptions(Options):
    """What the files don't say; a value in the mapping or in a file wins over these."""

    subject: str | None = Field(None, description="animal; {cell} in it stands for the cell's name")
    species: str | None = Field(None, description="Latin name, for example Mus musculus")
    session_date: Day | None = Field(None, description="day of the recordings, YYYY-MM-DD")
    session_number: int = Field(1, ge=1, description="which session of that day")
    cell_type: str | None = Field(None, description="for example L5PC")
    allow_case: bool = Field(False, description="take names that differ by case alone as different")
    allow_copies: bool = Field(False, description="take files with the same bytes as recordings of their own")
    mapping: str | None = Field(None, description="mapping file below the folder, where it has another name")


class CellFacts(BaseModel):
    """What is known of one cell."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)

    subject: str = Field(min_length=1, max_length=64)
    session_date: Day
    session_number: int = Field(1, ge=1)
    species: str | None = None
    sex: str | None = None
    cell_type: str | None = None
    ljp: float | None = None


class EphysAdapter(Adapter):
    """Cells and sweeps of a folder: files that say what they hold, or what a mapping lists."""

    name = "ephys"
    summary = SUMMARIES["ephys"]
    options_model = EphysOptions
    results_computed_from: ClassVar = {recording.Recording: ("content_sha256",)}
    joint_results_of: ClassVar = recording.Cell
    vanished_marks: ClassVar = {recording.Recording: "recording_vanished"}

    def __init__(self, location: Path, lab: str, options: EphysOptions):
        super().__init__(location, lab, options)
        self.subjects = Subjects(options.allow_case)

    def discover(self) -> Iterator[Unit]:
        """Yield one unit per cell of a mapping, per file that names its cell, or per folder of a cell's files."""
        mapping = self._mapping_file()
        if mapping is not None:
            yield from self._discover_mapping(mapping)
            return
        if self.location.is_file():
            name = self.location.name
            yield self._unsaid(name) or Unit(name, (name,))
            return
        folders: dict[str, list[str]] = {}
        hidden: list[OSError] = []
        found: list[Path] = []
        for folder, inner, names in os.walk(self.root, onerror=hidden.append):
            inner[:] = [name for name in inner if not name.startswith(".")]
            found += [Path(folder, name) for name in (*inner, *names) if not name.startswith(".")]
        yield from (unreadable(self.root, error) for error in hidden)
        for path in sorted(found):
            relative, cell_from = path.relative_to(self.root).as_posix(), _cell_from(path)
            if path.is_symlink() and (cell_from or not os.path.isfile(path)) and not self.follows(path):  # noqa: PTH113
                continue
            if cell_from is None:
                continue
            try:
                path.stat()
            except OSError as error:  # a folder whose names alone can be read
                yield unreadable(self.root, error)
                continue
            if not path.is_file():
                continue
            if cell_from == "file" or has_control_character(path.name):  # that one fails by itself
                yield Unit(relative, (relative,))
            elif cell_from == "folder":
                folders.setdefault(path.parent.relative_to(self.root).as_posix(), []).append(relative)
            elif (unit := self._unsaid(relative)) is not None:
                yield unit
        for folder, files in folders.items():
            yield Unit(folder if folder != "." else self.root.name, tuple(files))

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield lab, species, subject, session, cell, protocols and recordings of one unit, and its bad files."""
        bad: dict[str, SourceError] = {}
        if unit.content is not None:
            listed: dict[str, list[recordings.ListedSweep]] = {}
            cells = [(name, facts, self._expand(name, sweeps, bad, listed)) for name, facts, sweeps in unit.content]
        else:
            cells = self._read_files(unit, bad)
        yield from (Refused(path, error) for path, error in bad.items())
        if not any(sweeps for _, _, sweeps in cells):
            return
        kept = self._kept(unit, bad)
        for name, facts, sweeps in cells:
            yield from self._rows(tidy(name), facts, sweeps, sha256, kept)

    def _kept(self, unit: Unit, bad: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the recordings that an earlier run has read of files that are bad now."""
        keys = self.gave(unit, recording.Recording) if bad else []
        rows = (recording.Recording & keys).proj("files", "sweep").to_dicts() if keys else []
        return [
            row
            for row in rows
            if any({file["path"], _part(file["path"], row["sweep"])} & bad.keys() for file in row["files"].values())
        ]

    @cached_property
    def _met(self) -> dict[str, dict[tuple[str, str], str]]:
        """Hash of a file -> source and path of those that were ever in with it, and the unit."""
        met: dict[str, dict[tuple[str, str], str]] = {}
        rows = SourceFile.proj("unit", "sha256") * Source.proj("adapter") & {"adapter": self.name}
        for row in rows.to_dicts():
            met.setdefault(row["sha256"], {})[row["source"], row["path"]] = row["unit"]
        return met

    def _still_in(self, source: str, path: str, sha256: str) -> tuple[Path, str] | None:
        """Return where a file is, and its source's lab, if it is in with this hash and has not changed since."""
        rows = (SourceFile * Source & {"source": source, "path": path, "sha256": sha256}).to_dicts()
        if not rows:  # a dry run has written nothing
            return (self.root / path, self.lab) if source == self.source and not self.run else None
        place = Path(rows[0]["location"])
        full = (place.parent if place.is_file() else place) / path
        try:
            stat = full.stat()
        except OSError:
            return None
        is_same = (stat.st_size, stat.st_mtime_ns) == (rows[0]["size"], rows[0]["mtime_ns"])
        return (full, rows[0]["source_lab"]) if is_same and rows[0]["file_status"] == "ingested" else None

    def check(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Refuse a file with the bytes of one that is in as another unit's and still there: a folder was copied."""
        if self.options.allow_copies:
            return
        files = [row.values["files"] for row in rows if row.table is recording.Recording and "files" in row.values]
        main = {file["path"]: file["sha256"] for file in (one.get("filepath") or one["v_file"] for one in files)}
        for path, sha256 in main.items():
            mine = self.root / path
            met = self._met.setdefault(sha256, {})
            met[self.source, path] = unit.path
            for (source, other), its_unit in met.items():
                if (source, other) == (self.source, path) or not (found := self._still_in(source, other, sha256)):
                    continue
                place, lab = found
                if place != mine:
                    raise Clash(
                        f"{mine} has the same bytes as {place}, which is in already ({source}, {its_unit}). "
                        "Remove the one that is a copy, or say --allow-copies when both are recordings.",
                        {its_unit} - {unit.path} if source == self.source else (),
                    )
                if lab == self.lab:
                    raise Clash(
                        f"{place} is in already, by the source {source}. Ingest that one's folder again, or take "
                        f"its rows out first: labweave forget {source}"
                    )

    def _unsaid(self, relative: str) -> Unit | None:
        """Return a unit that fails, for a recording whose file does not say whose it is; None for other files."""
        path = self.root / relative
        if _cell_from(path) != "mapping":
            return None
        try:
            told = recordings.find_reader(path).holds_recordings(path)
        except ReadError as error:
            return Unit(relative, (), problem=str(error))
        return Unit(relative, (), problem=self._needs_mapping(relative)) if told else None

    def _needs_mapping(self, relative: str) -> str:
        return (
            f"{self.root / relative}: the file does not say its cell, protocol and units. "
            "List it with them in a mapping (docs: ephys recordings)."
        )

    def _mapping_file(self) -> Path | None:
        if self.location.is_file() and self.location.suffix.lower() in {".json", ".yaml", ".yml", ".csv"}:
            return self.location
        if self.options.mapping:
            path = self.root / inside(self.root, self.options.mapping)
            if not path.is_file():
                raise SourceError(f"{path}: no such mapping file. Correct --mapping.")
            return path
        if self.location.is_dir():
            return next((path for name in MAPPING_NAMES if (path := self.root / name).is_file()), None)
        return None

    def _discover_mapping(self, mapping: Path) -> Iterator[Unit]:
        """Yield a unit per cell; cells that share a file are one unit."""
        files_metadata, facts = _read_mapping(mapping)
        self.lists_units = True
        units: list[Unit] = []
        for cell, protocols in files_metadata.items():
            try:
                sweeps = [(protocol, self._item(item)) for protocol, items in protocols.items() for item in items]
                if not sweeps:
                    raise SourceError("it lists no file. Add one, or leave the cell out.")
            except SourceError as error:
                units.append(Unit(cell, (), problem=f"{mapping}: cell {cell!r}: {error}"))
                continue
            files = {item[role]: None for _, item in sweeps for role in _roles(item)}
            together = [unit for unit in units if not files.keys().isdisjoint(unit.files)]
            units = [unit for unit in units if unit not in together]
            for unit in together:
                files |= dict.fromkeys(unit.files)
            content = [*(entry for unit in together for entry in unit.content), (cell, facts.get(cell, {}), sweeps)]
            units.append(Unit(content[0][0], tuple(files), content))
        yield from units

    def _item(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return an entry of a mapping without what is empty, its paths below the root."""
        item = {name: value for name, value in item.items() if value not in (None, "")}
        if "filepath" not in item and "v_file" not in item:
            raise SourceError(f"an entry has neither filepath nor v_file: {item}.")
        return {**item, **{role: inside(self.root, str(item[role])) for role in _roles(item)}}

    def _expand(
        self,
        cell: str,
        sweeps: Sweeps,
        bad: dict[str, SourceError],
        listed: dict[str, list[recordings.ListedSweep]],
    ) -> Sweeps:
        """Return an entry per sweep: those that ``sweep`` names, else all of the protocol in the file.

        What can't be read is added to `bad`; `listed` has the sweeps of files that were opened already.
        """
        expanded: Sweeps = []
        for protocol, item in sweeps:
            try:
                named = self._sweeps_of(cell, protocol, item, bad, listed)
            except SourceError as error:
                bad[self._bad_file(item, error)] = error
                continue
            if not named and not item.get("sweep"):
                main = item.get("filepath") or item["v_file"]
                bad[f"{main}: {protocol} of {cell}"] = SourceError(
                    f"{self.root / main}: no sweep of {protocol}, which the mapping asks for cell {cell!r}. "
                    "Correct the protocol, or give protocol_name as the file has it."
                )
            expanded += [(protocol, {**item, "sweep": str(name)} if name is not None else item) for name in named]
        return expanded

    def _sweeps_of(
        self,
        cell: str,
        protocol: str,
        item: Mapping[str, Any],
        bad: dict[str, SourceError],
        listed: dict[str, list[recordings.ListedSweep]],
    ) -> list[str | None]:
        """Return the names of the sweeps that an entry asks for; one that its file does not have is bad."""
        located = {role: str(self.root / item[role]) for role in _roles(item)}
        named = [str(name) for name in as_list(item.get("sweep"))]
        asked = {name: value for name, value in item.items() if name != "sweep"}
        metadata = {**asked, **located} if named else {"protocol_name": protocol, **item, **located}
        if (key := repr(metadata)) not in listed:
            listed[key] = recordings.open(metadata, item.get("reader")).sweeps
        there = [sweep.name for sweep in listed[key]]
        if not named:
            return [sweep.name for sweep in _of_cell(cell, listed[key], item)]
        main = item.get("filepath") or item["v_file"]
        for name in named if there != [None] else ():
            if name not in there:
                found = f"The file has {', '.join(map(str, there))}. Correct the mapping."
                bad[_part(main, name)] = ReadError(self.root / main, f"no sweep {name}", found)
        return [name for name in named if _part(main, name) not in bad]

    def _bad_file(self, item: Mapping[str, Any], error: SourceError) -> str:
        """Return which file of an entry an error is about."""
        files = [item[role] for role in _roles(item)]
        return next((path for path in files if str(self.root / path) == getattr(error, "where", None)), files[0])

    def _read_files(self, unit: Unit, bad: dict[str, SourceError]) -> list[tuple[str, dict[str, Any], Sweeps]]:
        """Return the cells of files that say what they hold: facts that the files agree on, and sweeps."""
        path = self.root / unit.files[0]
        if _cell_from(path) == "mapping":
            raise SourceError(self._needs_mapping(unit.files[0]))
        in_folder = _cell_from(path) == "folder" and not self.location.is_file()
        unnamed = Path(unit.path).name if in_folder else Path(unit.path).stem
        facts: dict[str, list[Any]] = {}
        cells: dict[str, Sweeps] = {}
        for item in self._recordings_among(unit.files, bad):
            try:
                file = recordings.open({role: self.root / path for role, path in item.items()})
                if any(sweep.protocol is None for sweep in file.sweeps):
                    raise SourceError(
                        f"{file.path}: its header names no protocol. "
                        "List it with one in a mapping (docs: ephys recordings)."
                    )
            except SourceError as error:
                bad[self._bad_file(item, error)] = error
                continue
            for name, value in file.facts.items():
                if value not in (known := facts.setdefault(name, [])):
                    known.append(value)
            ljp = {"ljp": file.facts["ljp"]} if file.facts.get("ljp") is not None else {}
            for sweep in file.sweeps:
                named = {} if sweep.name is None else {"sweep": sweep.name}
                cells.setdefault(sweep.cell or unnamed, []).append((str(sweep.protocol), {**item, **named, **ljp}))
        if not cells and not bad:
            raise SourceError(f"{path}: no current-clamp sweep with voltage and current is in it. Leave the file out.")
        agreed = {name: values[0] for name, values in facts.items() if len(values) == 1}
        return [(cell, agreed, sweeps) for cell, sweeps in cells.items()]

    def _recordings_among(self, paths: Sequence[str], bad: dict[str, SourceError]) -> Iterator[dict[str, str]]:
        """Yield the files of each recording, by role, one format after the other."""
        by_reader: dict[type[recordings.RecordingFile], list[Path]] = {}
        for path in paths:
            by_reader.setdefault(recordings.find_reader(path), []).append(self.root / path)
        for reader in sorted(by_reader, key=lambda reader: reader.reader):
            found, unfit = reader.recordings_among(by_reader[reader])
            bad.update({path.relative_to(self.root).as_posix(): error for path, error in unfit.items()})
            for item in found:
                yield {role: path.relative_to(self.root).as_posix() for role, path in item.items()}

    def _rows(
        self,
        cell: str,
        known: Mapping[str, Any],
        sweeps: Sweeps,
        sha256: Mapping[str, str],
        kept: Sequence[Mapping[str, Any]],
    ) -> Iterator[Row]:
        facts = self._facts(cell, known)
        name, date, number = tidy(facts.subject), facts.session_date, facts.session_number
        eid, is_known = find_session(self.lab, name, date, number)
        stays = [row for row in kept if (row["eid"], row["cell"]) == (eid, cell)]
        if not sweeps and not stays:  # none of its files can be read
            return
        more = {key: value for key, value in (facts.model_extra or {}).items() if value not in (None, "")}
        if facts.species:
            yield Row(subject.Species, {"species": facts.species})
        said = {key: value for key, value in (("species", facts.species), ("sex", facts.sex)) if value}
        yield from session_rows(self.subjects, self.lab, name, date, number, eid, is_known=is_known, about=said)
        about = {"cell_type": facts.cell_type or "", "ljp": facts.ljp, "cell_json": more or None}
        yield Row(recording.Cell, {"eid": eid, "cell": cell, **about}, unlike="" if self.options.allow_case else "cell")
        seen: dict[tuple[str, str], dict[str, Any]] = {}
        for protocol, item in sweeps:
            row = self._recording(eid, cell, tidy(protocol), item, sha256)
            yield Row(recording.Protocol, {"protocol": row["protocol"]})
            key = (row["protocol"], row["recording"])
            if key in seen and seen[key] != row:
                raise SourceError(
                    f"{row['recording']} is listed twice for cell {cell!r}, protocol {row['protocol']!r}, "
                    "with different metadata."
                )
            seen[key] = row
            yield Row(recording.Recording, row)
        for row in stays:
            yield Row(recording.Protocol, {"protocol": row["protocol"]})
            yield Row(recording.Recording, {name: row[name] for name in recording.Recording().primary_key})

    def _facts(self, cell: str, known: Mapping[str, Any]) -> CellFacts:
        given = self.options.model_dump(exclude_none=True, exclude={"mapping", "allow_case", "allow_copies"})
        if "subject" in given:
            given["subject"] = given["subject"].replace("{cell}", cell)
        values = {**given, **{name: value for name, value in known.items() if value not in (None, "")}}
        try:
            return CellFacts(**values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = str(problem["loc"][0])
            option = f"--{name.replace('_', '-')}"
            advice = f"Give {option}, or write it into the mapping."
            if problem["type"] == "missing":
                raise OptionMissing(f"Cell {cell!r}: its {name} is not known. {advice}", option) from None
            found = problem["msg"].removeprefix("Value error, ")
            raise SourceError(f"Cell {cell!r}: its {name} is {values.get(name)!r}: {found}. {advice}") from None

    def _recording(
        self, eid: str, cell: str, protocol: str, item: Mapping[str, Any], sha256: Mapping[str, str]
    ) -> dict[str, Any]:
        roles = _roles(item)
        files = {role: {"path": item[role], "sha256": sha256[item[role]]} for role in roles}
        sweep = str(item.get("sweep", ""))
        metadata = {name: value for name, value in item.items() if name not in (*roles, "sweep", "reader")}
        main = item.get("filepath") or item["v_file"]
        content = to_json({"files": files, "sweep": sweep, "metadata": metadata, "protocol": protocol})
        return {
            "eid": eid,
            "cell": cell,
            "protocol": protocol,
            "recording": _recording_name(main, sweep),
            "reader": _reader(item).reader,
            "files": files,
            "sweep": sweep,
            "metadata": metadata,
            "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
            "recording_vanished": None,
        }


def _cell_from(path: Path) -> str | None:
    """Return where a file's cell is found: "file", "folder" or "mapping"; None for other files."""
    try:
        return recordings.find_reader(path).cell_from
    except ReadError:
        return None


def _reader(item: Mapping[str, Any]) -> type[recordings.RecordingFile]:
    return recordings.find_reader(str(item.get("filepath") or item["v_file"]), item.get("reader"))


def _roles(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which values of an entry are files: both of an Igor pair, else the one that is read."""
    return _reader(item).roles(item)


def _of_cell(cell: str, listed: list[recordings.ListedSweep], item: Mapping[str, Any]) -> list[recordings.ListedSweep]:
    """Return the sweeps of a cell, where a file holds several cells."""
    cells = {sweep.cell for sweep in listed if sweep.cell}
    if len(cells) < 2:
        return listed
    if cell not in cells:
        raise SourceError(
            f"{item['filepath']} holds the cells {', '.join(sorted(cells))}, none is called {cell!r}. "
            "Name the cell as the file does."
        )
    return [sweep for sweep in listed if sweep.cell == cell]


def _part(path: str, sweep: str) -> str:
    """Return how one sweep of a file is called in a message."""
    return f"{path}#{sweep}"


def _recording_name(path: str, sweep: str) -> str:
    """Return the file's path without suffix, and the sweep; a long one is cut and marked with a hash."""
    name = path.rpartition(".")[0] + (f"#{sweep}" if sweep else "")
    if len(name) <= 200:
        return name
    return f"{hashlib.sha256(name.encode()).hexdigest()[:12]}...{name[-180:]}"


def _read_mapping(path: Path) -> tuple[Cells, dict[str, dict[str, Any]]]:
    """Return files_metadata and what the mapping says of each cell.

    JSON and YAML hold ``{cell: {protocol: [file metadata, ...]}}``, bare or below
    ``files_metadata``, and optionally ``cells: {cell: {subject, session_date, ...}}``. CSV has a
    row per file with the columns cell, protocol, filepath or v_file and i_file, and any of
    the others.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            return _read_csv(path, text)
        content = json.loads(text) if path.suffix.lower() == ".json" else load_yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise SourceError(f"{path} can't be read as {path.suffix[1:].upper()}: {error}. Correct it.") from None
    if not isinstance(content, dict):
        raise SourceError(f"{path}: a mapping of cells is expected, found {type(content).__name__}.")
    files_metadata = content.get("files_metadata", content)
    facts = (content.get("cells") or {}) if "files_metadata" in content else {}
    for name, value in (("files_metadata", files_metadata), ("cells", facts)):
        if not isinstance(value, dict):
            raise SourceError(f"{path}: {name}: a mapping of cells is expected, found {type(value).__name__}.")
    for cell, protocols in files_metadata.items():
        if not isinstance(protocols, dict):
            raise SourceError(
                f"{path}: cell {cell!r}: protocols with lists of files are expected, found {protocols!r}."
            )
        for protocol, items in protocols.items():
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise SourceError(f"{path}: cell {cell!r}, protocol {protocol!r}: a list of files is expected.")
    for cell, values in facts.items():
        if not isinstance(values, (dict, type(None))):
            raise SourceError(f"{path}: cells: {cell!r}: names and values are expected, found {values!r}.")
        if cell not in files_metadata:
            raise SourceError(f"{path}: cells names {cell!r}, which files_metadata does not have. Write them alike.")
    named = {str(cell): protocols for cell, protocols in files_metadata.items()}
    return named, {str(cell): dict(values or {}) for cell, values in facts.items()}


def _read_csv(path: Path, text: str) -> tuple[Cells, dict[str, dict[str, Any]]]:
    files_metadata: Cells = {}
    facts: dict[str, dict[str, Any]] = {}
    for row in (rows := csv.DictReader(io.StringIO(text))):
        where = f"{path} line {rows.line_num}"
        cell, protocol = (row.pop("cell", None) or "").strip(), (row.pop("protocol", None) or "").strip()
        if not cell or not protocol:
            raise SourceError(
                f"{where}: no {'protocol' if cell else 'cell'}. Each row needs cell, protocol and a file."
            )
        if None in row:
            raise SourceError(f"{where}: more values than columns: {row[None]}. Quote values that hold a comma.")
        said = {name: row.pop(name) for name in list(row) if name in CELL_FIELDS and name != "ljp" and row[name]}
        if facts.setdefault(cell, said) != said:
            raise SourceError(f"{where}: cell {cell!r} has {said}, an earlier row {facts[cell]}. Write them alike.")
        metadata = {name: value if name in TEXT_COLUMNS else _number(value) for name, value in row.items() if value}
        files_metadata.setdefault(cell, {}).setdefault(protocol, []).append(metadata)
    return files_metadata, facts


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in text else text

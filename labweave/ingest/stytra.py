"""Stytra sessions: a folder tree of metadata and logs; animals, runs, stimuli, and logs that stay where they are."""

from __future__ import annotations

import datetime as dt
import filecmp
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from labweave.database.reads import in_parts
from labweave.errors import LabweaveError, ReadError, SourceError
from labweave.formats.columns import kind_of
from labweave.formats.plain import plain_json, tidy
from labweave.formats.stytra.journal import SUFFIX as JOURNAL
from labweave.formats.stytra.logs import Log, open_log
from labweave.formats.stytra.metadata import Metadata, base_name, read_metadata
from labweave.formats.stytra.sessions import SessionFiles, find_sessions, fish_of_folder
from labweave.ingest.base import Adapter, Options, Refused, Row, Unit, make_uuid, unreadable
from labweave.ingest.forgetting import forgotten_units
from labweave.ingest.registry import SUMMARIES
from labweave.ingest.sessions import Subjects, session_rows
from labweave.ingest.trials import run_rows
from labweave.schemas import session, subject, task
from labweave.schemas.ingestion import Source

_UNKNOWN_PROTOCOL = "unknown protocol"
_LOGS = ("behavior", "estimator", "stimulus")
_NO_NUMBER = ("real_time_start", "real_time_stop", "started")  # text; 0 stands for none


class StytraOptions(Options):
    """What the files don't settle."""

    subject_from: Literal["animal_id", "fish_id"] | None = Field(
        None,
        description="name subjects by the animal id as entered, or by Stytra's fish id (240305_f1) where the ids begin "
        "again each day; without it the animal id, and animals that are not the same are refused",
    )
    allow_case: bool = Field(False, description="take subjects that differ by case alone as different")


class StytraAdapter(Adapter):
    """Subjects, sessions, task runs, stimuli and logs of a Stytra folder tree; the logs stay where they are."""

    name = "stytra"
    summary = SUMMARIES["stytra"]
    options_model = StytraOptions
    joint_results_of: ClassVar = task.TaskRun
    vanished_marks: ClassVar = {task.Trial: "trial_vanished"}
    results_computed_from: ClassVar = {
        task.Trial: ("trial_attributes", "trial_start", "trial_stop"),
        task.EventLog: ("log_file",),
    }

    def __init__(self, location: Path, lab: str, options: StytraOptions):
        super().__init__(location, lab, options)
        self.subjects = Subjects(options.allow_case)

    def discover(self) -> Iterator[Unit]:
        """Yield a unit per session."""
        if self.location.is_file():
            raise SourceError(f"{self.location} is a file. Give the folder that it is in, or one above.")
        hidden: list[OSError] = []
        found = list(find_sessions(self.root, hidden.append, self.follows))
        yield from (unreadable(self.root, error) for error in hidden)
        self._found = {files.path: files for files in found}
        relations = self._relations(found)
        for files in found:
            paths = tuple(files.below_root(name) for name in files.names)
            yield Unit(files.path, paths, {"others": files.others, **relations.get(files.path, {})})

    def _relations(self, found: list[SessionFiles]) -> dict[str, dict[str, Any]]:
        """Return, by session, what the others mean for it: whose copy it is, whether it describes its animal last.

        It follows from the files that are there, and not from what earlier runs have made of them.
        """
        forgotten = forgotten_units(self.source)
        known = []
        for files in found:
            try:
                known.append(_Session(self, files).about())
            except (LabweaveError, OSError):  # read() says so
                continue
        relations: dict[str, dict[str, Any]] = {one.path: {} for one in known}
        first: dict[str, _About] = {}
        for one in known:
            if one.path not in forgotten and (other := first.setdefault(one.eid, one)) is not one:
                relations[one.path]["twin"] = other.path, self._stats(other.path)
        for eid, *other in self._runs_elsewhere(first):
            relations[first[eid].path]["elsewhere"] = other
        animals: dict[str, list[_About]] = {}
        for one in first.values():
            if self.options.subject_from is None and (clash := one.clash(animals.get(one.subject, []))):
                relations[one.path]["clash"] = clash
            else:
                animals.setdefault(one.subject, []).append(one)
        for same in animals.values():
            described = [one for one in same if one.has_metadata]
            if described:
                last = max(described, key=lambda one: (one.start or dt.datetime.min, one.path))
                relations[last.path]["describes"] = True
        for path, names in _carried_over(known).items():
            relations[path]["carried_over"] = names
        return relations

    def _stats(self, path: str) -> list[tuple[str, int, int]]:
        """Return name, size and time of a session's files: when they change, its copy may be none any more."""
        files = self._found[path]
        stats = [(name, (self.root / files.below_root(name)).stat()) for name in sorted(files.names)]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]

    def _runs_elsewhere(self, first: Mapping[str, _About]) -> Iterator[tuple[str, str, Any]]:
        """Yield eid, place and hashes of the sessions that other sources gave, and whose files are there."""
        others = (task.TaskRun * Source.proj("location") - {"source": self.source}).proj(
            "run_path", "run_json", "location"
        )
        for part in in_parts(list(first)):
            for row in (others & [{"eid": eid} for eid in part]).to_dicts():
                place = Path(row["location"], row["run_path"])
                if place != self.root / first[row["eid"]].path and any(place.parent.glob(f"{place.name}_*")):
                    yield row["eid"], str(place), (row["run_json"] or {}).get("sha256")

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield subject, session, task, run, stimuli and logs of one session."""
        yield from _Session(self, self._found[unit.path]).rows(unit.content, sha256)

    def is_copy(self, path: str, twin: tuple[str, list[tuple[str, int, int]]], sha256: Mapping[str, str]) -> bool:
        """Say whether a session's files are, byte by byte, those of another one that comes before it."""
        other, stats = twin
        names = [name for name, *_ in stats]
        if set(names) != {one.rpartition("/")[2] for one in sha256}:
            return False
        mine, theirs = (self.root / self._found[one].folder for one in (path, other))
        return not any(filecmp.cmpfiles(mine, theirs, names, shallow=False)[1:])


class _About(NamedTuple):
    """What is kept of a session while the others are looked at."""

    path: str
    eid: str
    subject: str
    start: dt.datetime | None
    animal: dict[str, Any]
    setup: str
    has_metadata: bool

    def clash(self, others: Iterable[_About]) -> tuple[str, str, str, str] | None:
        """Return how this animal differs from another day's one with its id: what, how, on which day it was how."""
        for other in others:
            if self.start is None or other.start is None or self.start.date() == other.start.date():
                continue
            for name in ("species", "genotype"):
                mine, theirs = self.animal.get(name), other.animal.get(name)
                if mine and theirs and mine != theirs:
                    return name, mine, str(other.start.date()), theirs
        return None


def _carried_over(known: Iterable[_About]) -> dict[str, list[str]]:
    """Return session -> fields of its animal that equal those of another animal in the run before.

    Stytra fills in the values of the last run, and perhaps nobody corrected them.
    """
    carried: dict[str, list[str]] = {}
    last: dict[str, dict[str, Any]] = {}
    dated = [one for one in known if one.has_metadata and one.start is not None]
    for one in sorted(dated, key=lambda one: (str(one.start), one.path)):
        animal, before = one.animal, last.get(one.setup, {})
        if before and before.get("id") != animal.get("id"):
            carried[one.path] = sorted(k for k, v in animal.items() if k != "id" and v and v == before.get(k))
        last[one.setup] = animal
    return carried


class _Session:
    """One session, on its way to rows."""

    def __init__(self, adapter: StytraAdapter, files: SessionFiles):
        self.adapter, self.files = adapter, files
        self.problems: list[str] = []
        self.metadata = metadata = (
            read_metadata(adapter.root / files.below_root(files.metadata)) if files.metadata else Metadata({})
        )
        folder = adapter.root / files.folder
        self.fish = fish_of_folder(folder.name)
        protocol = metadata.protocol or (folder.parent.name if self.fish else "")
        self.task = tidy(protocol)[:128] or _UNKNOWN_PROTOCOL
        self.fish_id = metadata.fish_id or (folder.name if self.fish else "")
        self.start = metadata.start or self._start_of_journal()
        self.subject = self._subject()

    def about(self) -> _About:
        """Return what the other sessions need to know of this one."""
        setup = str(self.metadata.basic.get("setup_name", ""))
        facts = self.start, self.metadata.animal, setup, bool(self.files.metadata)
        return _About(self.files.path, self.eid, self.subject, *facts)

    @property
    def eid(self) -> str:
        """The animal and the start say which session it is, wherever its files are; without a start the folder does."""
        if self.start is not None:
            return _make_eid(self.adapter.lab, self.subject, self.start.isoformat())
        return _make_eid(self.adapter.lab, self.task, self.fish_id or self.subject, self.files.prefix)

    @cached_property
    def logs(self) -> dict[str, tuple[str, Log]]:
        """Log -> its file and what is in it, of those that can be read."""
        logs = {}
        for name, candidates in self.files.logs.items():
            declared = self.metadata.declared(name)
            chosen = declared if declared in candidates else candidates[0]
            if len(candidates) > 1:
                others = ", ".join(other for other in candidates if other != chosen)
                self.problems.append(f"{name}: {chosen} is taken, {others} left out")
            try:
                logs[name] = chosen, open_log(self.adapter.root / self.files.below_root(chosen))
            except ReadError as error:
                self.problems.append(f"{name}: {chosen}: {error.found}")
        return logs

    def _start_of_journal(self) -> dt.datetime | None:
        if not any(name.endswith(JOURNAL) for name in self.files.names):
            return None
        t0 = next((found.t0 for _, found in self.logs.values() if found.t0), None)
        return Metadata({"general": {"t_protocol_start": t0}}).start if t0 else None

    def _subject(self) -> str:
        animal = self.metadata.animal.get("id")
        animal = tidy(str(animal)) if animal not in (None, "") else self.fish[1] if self.fish else ""
        name = self.fish_id if self.adapter.options.subject_from == "fish_id" else animal or self.fish_id
        if not tidy(name):
            raise SourceError(
                f"{self.files.path}: neither the metadata nor the folder say which animal it was. "
                "Put the files into a folder named like 240305_f1."
            )
        return tidy(name)

    def rows(self, relations: Mapping[str, Any], sha256: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield the rows, parents first; none for a copy of another session that is there."""
        self.relations, self.sha256 = relations, sha256
        self.damaged = bool(self.files.logs.keys() - self.logs.keys())
        eid = self._own_eid()
        if eid is None:
            return
        self._check_animal()
        self._look_for_problems()
        animal = self._animal_values(eid)
        if animal.get("species"):
            yield Row(subject.Species, {"species": animal["species"]})
        values = self._session_values()
        lab, name, date = self.adapter.lab, self.subject, values.pop("session_date")
        is_known = bool(session.Session & {"eid": eid})
        subjects = self.adapter.subjects
        yield from session_rows(subjects, lab, name, date, None, eid, is_known=is_known, about=animal, **values)
        key = {"eid": eid, "task": self.task}
        yield from run_rows(key, self._run_values(), [_trial_values(one) for one in self.metadata.stimuli])
        for gave in self.adapter.gave(
            Unit(self.files.path, ()), task.EventLog
        ):  # of a log that can't be read, what is in stays
            if gave["log_name"] in self.files.logs.keys() - self.logs.keys() and key.items() <= gave.items():
                yield Row(task.EventLog, gave)
        for name, (file_name, found) in self.logs.items():
            yield Row(task.EventLog, {**key, "log_name": name, **self._log_values(name, file_name, found)})

    def _own_eid(self) -> str | None:
        """Return the eid, another one when the session's is another folder's; None for a copy."""
        if (twin := self.relations.get("twin")) is not None:
            other, is_copy = twin[0], self.adapter.is_copy(self.files.path, twin, self.sha256)
        elif elsewhere := self.relations.get("elsewhere"):
            other, is_copy = elsewhere[0], elsewhere[1] == self._own_sha256()
        else:
            return self.eid
        if is_copy:
            self.adapter.leave_out(self.adapter.root / self.files.path, f"it is a copy of {other}")
            return None
        self.problems.append(f"{other} has the same animal and start, and other files: one is a copy")
        return _make_eid(self.adapter.lab, self.eid, str(self.adapter.root), self.files.path)

    def _own_sha256(self) -> dict[str, str]:
        """Return file name -> sha256 of the session's files."""
        return {path.rpartition("/")[2]: digest for path, digest in sorted(self.sha256.items())}

    def _check_animal(self) -> None:
        """Refuse an animal that has the id of another day's animal, but another species or genotype."""
        clash = self.relations.get("clash")
        if clash is None and self.adapter.options.subject_from is None and self.start is not None:
            clash = self.about().clash(self._sessions_elsewhere())
        if clash is not None:
            name, mine, day, theirs = clash
            raise SourceError(
                f"{self.files.path}: animal {self.subject} has the {name} {mine!r}, on {day} it was {theirs!r}. "
                "Are these two animals? Then say --subject-from fish_id; if it is one, say --subject-from animal_id."
            )

    def _sessions_elsewhere(self) -> Iterator[_About]:
        """Yield the sessions of the animal that other sources gave."""
        animal = {"lab": self.adapter.lab, "subject": self.subject}
        others = (task.TaskRun - {"source": self.adapter.source}).proj()
        for row in (session.Session & animal & others).proj("start_time", "session_json").to_dicts():
            described = (row["session_json"] or {}).get("animal") or {}
            yield _About("", row["eid"], self.subject, row["start_time"], described, "", bool(described))

    def _look_for_problems(self) -> None:
        if not self.files.metadata:
            self.problems.append("there are no metadata: the program ended before it saved them")
        elif self.metadata.start is None:
            self.problems.append("the metadata do not say when the protocol started")
        elif self.metadata.end is None:
            self.problems.append("the protocol has no end: the program ended before it")
        for name in _LOGS:
            declared = self.metadata.declared(name)
            if declared and declared not in self.files.logs.get(name, []):
                fate = "of another run" if name in self.logs else "missing"
                self.problems.append(f"{name}: the metadata name {declared}, which is {fate}")
        for name, (file_name, found) in self.logs.items():
            self.problems += [f"{name}: {file_name}: {problem}" for problem in found.problems]

    @property
    def status(self) -> str:
        """Return ok, missing_log or no_metadata."""
        if not self.files.metadata:
            return "no_metadata"
        missing = any(self.metadata.declared(name) and name not in self.files.logs for name in _LOGS)
        return "missing_log" if missing else "ok"

    def _animal_values(self, eid: str) -> dict[str, Any]:
        """Return what this session says of its animal; nothing when a later one does."""
        elsewhere = [one for one in self._sessions_elsewhere() if one.eid != eid and one.has_metadata and one.start]
        if not self.relations.get("describes") or any(one.start > (self.start or one.start) for one in elsewhere):
            return {}
        species = tidy(str(self.metadata.animal.get("species") or ""))[:255]
        entered = {name: value for name, value in self.metadata.animal.items() if name not in ("id", "comments")}
        known = (subject.Subject & {"lab": self.adapter.lab, "subject": self.subject}).to_arrays("subject_json")
        others = (known[0] or {}) if len(known) else {}  # what a server says
        return {"species": species or None, "subject_json": {**others, "stytra": plain_json(entered)}}

    def _session_values(self) -> dict[str, Any]:
        metadata, carried = self.metadata, self.relations.get("carried_over", [])
        day = self.start.date() if self.start else _day(self.fish[0]) if self.fish else None
        facts = {
            "fish_id": self.fish_id,
            "file_prefix": self.files.prefix,
            "animal": metadata.animal,
            "carried_over": carried,
            "experimenter": metadata.basic.get("experimenter_name"),
            "basic_session_id": metadata.basic.get("session_id"),
            "program": metadata.program,
            "metadata": _without_places(metadata.content),
            "not_finite": metadata.not_finite,
        }
        return {
            "session_date": day,
            "start_time": self.start,
            "end_time": metadata.end,
            "session_type": "Experiment",
            "task_protocol": self.task[:1023] if self.task != _UNKNOWN_PROTOCOL else "",
            "session_location": str(metadata.basic.get("setup_name") or "")[:255],
            "n_trials": len(metadata.stimuli) if self.files.metadata else None,
            "session_json": {
                name: plain_json(value) for name, value in facts.items() if value not in (None, "", [], {})
            },
        }

    def _run_values(self) -> dict[str, Any]:
        has_journal = any(found.t0 for _, found in self.logs.values())
        has_no_end = self.files.metadata and self.metadata.end is None
        is_whole = self.status == "ok" and not has_journal and not has_no_end
        status = "damaged" if self.damaged else "complete" if is_whole else "half_written"
        names = dict.fromkeys(name for stimulus in self.metadata.stimuli for name in _attributes(stimulus))
        kinds = [[name, kind_of(_attributes(one).get(name) for one in self.metadata.stimuli)] for name in names]
        formats = {name.rpartition(".")[2] for name, _ in self.logs.values()}
        return {
            "run_path": self.files.path,
            "run_status": status,
            "run_columns": kinds,
            "run_problems": self.problems or None,
            "run_parameters": plain_json(self.metadata.parameters) or None,
            "run_json": {
                "status": self.status,
                "log_format": self.metadata.log_format or (formats.pop() if len(formats) == 1 else None),
                "protocol_version": self.metadata.protocol_version or None,
                "other_files": self.files.others,
                "sha256": self._own_sha256(),
            },
        }

    def _log_values(self, name: str, file_name: str, found: Log) -> dict[str, Any]:
        path = self.files.below_root(file_name)
        statistics = {}
        for column in found.frame.columns:
            values = found.frame[column]
            numeric = values.dtype.kind in "fiub" and len(values)
            low, high = (float(values.min()), float(values.max())) if numeric else (None, None)
            statistics[column] = {"min": low, "max": high, "n_missing": int(values.isna().sum())}
        return {
            "n_log_rows": len(found.frame),
            "log_columns": found.columns,
            "log_file": plain_json(
                {
                    "source": self.adapter.source,
                    "path": path,
                    "format": file_name.rpartition(".")[2],
                    "sha256": self.sha256[path],
                    "bytes": (self.adapter.root / path).stat().st_size,
                    "declared_name": self.metadata.declared(name) or None,
                    "dtypes": {column: str(kind) for column, kind in found.frame.dtypes.items()},
                    "statistics": statistics,
                    "problems": found.problems,
                }
            ),
        }


def _make_eid(*identity: str) -> str:
    return make_uuid("/".join(("stytra", *identity)))


def _attributes(stimulus: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a stimulus but its times; a time of 0, which stands for none, is None."""
    found = {name: value for name, value in stimulus.items() if name not in ("t_start", "t_stop")}
    return {name: None if name.endswith(_NO_NUMBER) and value == 0 else value for name, value in found.items()}


def _trial_values(stimulus: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "trial_start": _number(stimulus.get("t_start")),
        "trial_stop": _number(stimulus.get("t_stop")),
        "trial_attributes": plain_json(_attributes(stimulus)),
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _day(text: str) -> dt.date | None:
    try:
        return dt.datetime.strptime(text, "%y%m%d").date()
    except ValueError:
        return None


def _without_places(content: dict[str, Any]) -> dict[str, Any]:
    """Return metadata without the window's bytes, the log of stimuli (they are trials) and folders of users."""
    kept = {name: value for name, value in content.items() if name != "gui"}
    if isinstance(kept.get("stimulus"), dict):
        kept["stimulus"] = {name: value for name, value in kept["stimulus"].items() if name != "log"}
    return _base_names(kept)


def _base_names(value: Any) -> Any:
    """Return a value in which absolute paths are cut to their last part: they name users and machines."""
    if isinstance(value, dict):
        return {name: _base_names(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_base_names(item) for item in value]
    if isinstance(value, str) and "\n" not in value and (value[:1] in ("/", "\\") or value[1:3] in (":\\", ":/")):
        return base_name(value)
    return value

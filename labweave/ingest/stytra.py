"""Stytra sessions: a folder tree of metadata and logs; animals, runs, stimuli, and logs that stay where they are."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from labweave.errors import ReadError, SourceError
from labweave.formats.columns import kind_of
from labweave.formats.plain import plain_json, tidy
from labweave.formats.stytra.logs import Log, open_log
from labweave.formats.stytra.metadata import Metadata, base_name, read_metadata
from labweave.formats.stytra.sessions import SessionFiles, find_sessions, fish_of_folder
from labweave.ingest.base import Adapter, Options, Row, Unit, inside, make_uuid
from labweave.ingest.registry import SUMMARIES
from labweave.ingest.sessions import Subjects
from labweave.ingest.trials import run_rows
from labweave.schemas import session, subject, task
from labweave.schemas.ingestion import Source

log = logging.getLogger(__name__)

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
        found = list(find_sessions(self.root))
        self._found = {files.path: files for files in found}
        carried = self._carried_over(found)
        for files in found:
            names = [name for name in (files.metadata, *(n for ns in files.logs.values() for n in ns)) if name]
            content = {"others": files.others, "carried_over": carried.get(files.path, [])}
            yield Unit(files.path, tuple(files.below_root(name) for name in names), content)

    def _carried_over(self, found: list[SessionFiles]) -> dict[str, list[str]]:
        """Return session -> fields of its animal that equal those of another animal in the run before.

        Stytra fills in the values of the last run, and perhaps nobody corrected them.
        """
        runs: list[tuple[dt.datetime, str, str, dict[str, Any]]] = []
        for files in found:
            try:
                metadata = read_metadata(self.root / files.below_root(files.metadata)) if files.metadata else None
            except (ReadError, OSError):  # read() says so
                continue
            if metadata is not None and metadata.start is not None:
                setup = str(metadata.basic.get("setup_name", ""))
                runs.append((metadata.start, files.path, setup, metadata.animal))
        carried, last = {}, {}
        for _, path, setup, animal in sorted(runs, key=lambda run: run[:2]):
            before = last.get(setup, {})
            if before and before.get("id") != animal.get("id"):
                carried[path] = sorted(k for k, v in animal.items() if k != "id" and v and v == before.get(k))
            last[setup] = animal
        return carried

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row]:
        """Yield subject, session, task, run, stimuli and logs of one session."""
        for path in unit.files:
            inside(self.root, path)
        yield from _Session(self, unit, self._found[unit.path], sha256).rows()


class _Session:
    """One session, on its way to rows."""

    def __init__(self, adapter: StytraAdapter, unit: Unit, files: SessionFiles, sha256: Mapping[str, str]):
        self.adapter, self.unit, self.files, self.sha256 = adapter, unit, files, sha256
        self.problems: list[str] = []
        self.metadata = metadata = (
            read_metadata(adapter.root / files.below_root(files.metadata)) if files.metadata else Metadata({})
        )
        self.logs = self._open_logs()
        self.damaged = bool(files.logs.keys() - self.logs.keys())
        folder = adapter.root / files.folder
        self.fish = fish_of_folder(folder.name)
        protocol = metadata.protocol or (folder.parent.name if self.fish else "")
        self.task = tidy(protocol)[:128] or _UNKNOWN_PROTOCOL
        self.fish_id = metadata.fish_id or (folder.name if self.fish else "")
        self.start = metadata.start or self._start_of_journal()
        self.subject = self._subject()

    def _open_logs(self) -> dict[str, tuple[str, Log]]:
        """Return log -> its file and what is in it, of those that can be read."""
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
        t0 = next((found.t0 for _, found in self.logs.values() if found.t0), None)
        return Metadata({"general": {"t_protocol_start": t0}}).start if t0 else None

    def _subject(self) -> str:
        animal = self.metadata.animal.get("id")
        animal = tidy(str(animal)) if animal not in (None, "") else self.fish[1] if self.fish else ""
        name = self.fish_id if self.adapter.options.subject_from == "fish_id" else animal or self.fish_id
        if not tidy(name):
            raise SourceError(
                f"{self.unit.path}: neither the metadata nor the folder say which animal it was. "
                "Put the files into a folder named like 240305_f1."
            )
        return tidy(name)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, parents first."""
        animal = {"lab": self.adapter.lab, "subject": self.subject}
        eid = self._eid()
        if eid is None:
            return
        self._check_animal(eid)
        self._look_for_problems()
        yield from self._subject_rows(animal, eid)
        yield Row(session.Session, {"eid": eid, **animal, **self._session_values()})
        key = {"eid": eid, "task": self.task}
        yield from run_rows(key, self._run_values(), [_trial_values(one) for one in self.metadata.stimuli])
        for name, (file_name, found) in self.logs.items():
            yield Row(task.EventLog, {**key, "log_name": name, **self._log_values(name, file_name, found)})

    def _eid(self) -> str | None:
        """Return the eid; None for a copy of a session that is there.

        The animal and the start say which session it is, wherever its files are; without metadata the folder does.
        """
        own_place = {"source": self.adapter.source, "run_path": self.unit.path}
        for known in (task.TaskRun * session.Session & own_place).proj("start_time", "subject").to_dicts():
            if known["subject"] == self.subject and (
                known["start_time"] is None or self.start is None or known["start_time"] == self.start
            ):
                return known["eid"]
        by_place = _make_eid(self.adapter.lab, self.task, self.fish_id or self.subject, self.files.prefix)
        if self.start is None:
            return by_place
        eid = _make_eid(self.adapter.lab, self.subject, self.start.isoformat())
        others = (task.TaskRun & {"eid": eid}).proj("source", "run_path", "run_json").to_dicts()
        others = [other for other in others if {name: other[name] for name in own_place} != own_place]
        if not others:
            return eid
        other = others[0]
        if other["run_json"] and other["run_json"].get("sha256") == self._own_sha256():
            if self._is_there(other):
                log.info("a copy of %s is left out: %s", other["run_path"], self.unit.path)
                return None
            return eid
        self.problems.append(f"{other['run_path']} has the same animal and start, and other files: one is a copy")
        return _make_eid(self.adapter.lab, eid, self.adapter.source, self.unit.path)

    def _own_sha256(self) -> dict[str, str]:
        """Return file name -> sha256 of the session's files."""
        return {path.rpartition("/")[2]: digest for path, digest in sorted(self.sha256.items())}

    def _is_there(self, other: Mapping[str, Any]) -> bool:
        """Say whether the files of another run are where they were."""
        location = (Source & {"source": other["source"]}).to_arrays("location").tolist()
        folder = Path(location[0], other["run_path"]).parent if location else None
        return folder is not None and any(folder.glob(f"{self.files.prefix}_*"))

    def _check_animal(self, eid: str) -> None:
        """Refuse an animal that has the id of another day's animal, but another species or genotype."""
        if self.adapter.options.subject_from is not None or self.start is None:
            return
        mine = {name: self.metadata.animal.get(name) for name in ("species", "genotype")}
        same = session.Session & {"lab": self.adapter.lab, "subject": self.subject}
        for other in same.proj("session_date", "session_json").to_dicts():
            theirs = (other["session_json"] or {}).get("animal")
            if other["eid"] == eid or not theirs or other["session_date"] in (None, self.start.date()):
                continue
            for name, value in mine.items():
                if value and theirs.get(name) and theirs[name] != value:
                    raise SourceError(
                        f"{self.unit.path}: animal {self.subject} has the {name} {value!r}, on {other['session_date']} "
                        f"it was {theirs[name]!r}. Are these two animals? Then say --subject-from fish_id; if it is "
                        "one, say --subject-from animal_id."
                    )

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

    def _subject_rows(self, animal: dict[str, str], eid: str) -> Iterator[Row]:
        """Yield the animal as its last session describes it."""
        species = tidy(str(self.metadata.animal.get("species") or ""))[:255]
        if species:
            yield Row(subject.Species, {"species": species})
        known = (subject.Subject & animal).to_dicts()
        later = []
        if known and self.start is not None:
            own = session.Session & animal & f"eid <> '{eid}'"
            later = (own & f"start_time > '{self.start.isoformat(sep=' ')}'").to_arrays("eid").tolist()
        values: dict[str, Any] = {}
        if self.files.metadata and not later:
            entered = {name: value for name, value in self.metadata.animal.items() if name not in ("id", "comments")}
            before = (known[0]["subject_json"] or {}) if known else {}
            values = {"species": species or None, "subject_json": {**before, "stytra": plain_json(entered)}}
        yield from self.adapter.subjects.rows(animal["lab"], animal["subject"], **values)

    def _session_values(self) -> dict[str, Any]:
        metadata, carried = self.metadata, self.unit.content["carried_over"]
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
            "run_path": self.unit.path,
            "run_status": status,
            "run_columns": kinds,
            "run_problems": self.problems or None,
            "run_parameters": plain_json(self.metadata.parameters) or None,
            "run_json": {
                "status": self.status,
                "log_format": self.metadata.log_format or (formats.pop() if len(formats) == 1 else None),
                "protocol_version": self.metadata.protocol_version or None,
                "other_files": self.unit.content["others"],
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

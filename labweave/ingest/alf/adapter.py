"""The adapter: session folders below a location, each a unit, and the ONE cache tables beside them."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import Field

from labweave.database.reads import rows_among
from labweave.errors import SourceError
from labweave.formats.alf.names import is_uuid, split_rel_path, without_uuid
from labweave.formats.hashing import NO_HASH, sha256_and_md5_of_file
from labweave.formats.plain import tidy
from labweave.ingest.alf.rows import (
    STORED,
    Found,
    Kinds,
    Plan,
    Repository,
    Stored,
    dataset_rows,
    plan_datasets,
    stored_datasets,
)
from labweave.ingest.alf.tables import CacheTables
from labweave.ingest.alf.tree import SessionFolder, find_datasets, find_session_folders, folder_problem
from labweave.ingest.alf.trials import trial_rows
from labweave.ingest.base import Adapter, Options, Refused, Row, Unit, make_eid
from labweave.ingest.sessions import Subjects, check_lab, find_session, new_session
from labweave.schemas import dataset, task

log = logging.getLogger(__name__)

SHOWN = 5
"""So many of the files that were left out are named."""


class AlfOptions(Options):
    """What is done with the files."""

    no_hash: bool = Field(False, description="leave the hashes to a later run without this option")
    trials: bool = Field(False, description="also read the trials objects into the table of trials")
    trust_pickles: bool = Field(False, description="load trials that are pickles, which can run any code")
    allow_case: bool = Field(False, description="take subjects that differ by case alone as different")


class AlfAdapter(Adapter):
    """Subjects, sessions, datasets and where their files are; the files stay where they are."""

    name = "alf"
    summary = "ALF sessions: folders subject/date/number, with or without lab/Subjects, or ONE cache tables"
    options_model = AlfOptions
    batch_rows = 5000
    joint_results_of: ClassVar = task.TaskRun
    results_computed_from: ClassVar = {task.Trial: ("trial_attributes", "trial_start", "trial_stop", "trial_vanished")}

    def __init__(self, location: Path, lab: str, options: Any):
        super().__init__(location, lab, options)
        check_lab(lab)
        self._md5: dict[str, str] = {}
        self._left_out: list[tuple[str, str]] = []
        self._n_left_out = 0
        self.subjects = Subjects(options.allow_case)
        self._repository: Repository | None = None
        self._kinds: Kinds | None = None
        self._tables = CacheTables.find(location)

    def discover(self) -> Iterator[Unit]:
        """Yield the cache tables, which are one unit, and a unit per session folder."""
        if self._tables is not None:
            yield Unit(self._tables.name, self._tables.files, in_parts=True)
        if self.location.is_file():
            return
        seen: dict[tuple[str, ...], str] = {}
        for folder in find_session_folders(self.location, self._leave_out):
            self._md5.clear()  # of units that are done
            if not isinstance(folder, SessionFolder):
                path, problem = folder
                yield Unit(self._below(path), (), {"problem": problem})
                continue
            self._find_root(folder)
            yield self._unit(folder, seen)

    def _unit(self, folder: SessionFolder, seen: dict[tuple[str, ...], str]) -> Unit:
        """Return the unit of a session folder; what is wrong with it, `read` will say."""
        name = "/".join(folder.path.parts[-3:]) if folder.path == self.location else self._below(folder.path)
        problem, files = folder_problem(folder), ()
        identity = (folder.lab or self.lab, tidy(folder.subject), folder.date, str(folder.number))
        other = seen.setdefault(identity, name)
        if problem is None and other != name:
            problem = (
                f"{folder.path} and {other} are both session {folder.number} of {folder.subject} on {folder.date}. "
                "Rename or move one of them."
            )
        if problem is None:
            try:
                below = "" if folder.path == self.location else f"{name}/"
                files = tuple(below + path for path in find_datasets(folder.path, self.location, self._leave_out))
            except OSError as error:
                problem = f"{error.filename or folder.path}: {error.strerror or error}. Is it readable?"
        # That a file is gone makes the unit change, too.
        digest = hashlib.sha256("\0".join(files).encode("utf-8", "surrogateescape")).hexdigest()
        return Unit(name, files if problem is None else (), {"files": digest, "problem": problem, "folder": folder})

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row]:
        """Yield subject, session, datasets and file records of one session folder, then its trials."""
        if unit.content["problem"]:
            raise SourceError(unit.content["problem"])
        folder: SessionFolder = unit.content["folder"]
        lab, name = folder.lab or self.lab, tidy(folder.subject)
        date = dt.date.fromisoformat(folder.date)
        eid = find_session(lab, name, date, folder.number)
        stored: list[Stored] = []
        if eid is None:
            eid = make_eid(lab, name, folder.date, folder.number)
            yield from new_session(self.subjects, lab, name, date, folder.number, eid, {})
        else:
            stored = stored_datasets([eid])
        repository, kinds = self._places()
        yield from repository.rows(lab)
        plan = self._plan(eid, folder, unit, sha256, stored, repository, kinds)
        yield from dataset_rows(plan, stored, repository, kinds)
        if self.options.trials:
            yield from trial_rows(
                eid, repository.root, self._below(folder.path), plan, stored, self.source, self.options.trust_pickles
            )

    def _plan(
        self,
        eid: str,
        folder: SessionFolder,
        unit: Unit,
        sha256: Mapping[str, str],
        stored: list[Stored],
        repository: Repository,
        kinds: Kinds,
    ) -> Plan:
        below = folder.path.relative_to(repository.root).as_posix()
        known = {one.place: one for one in stored}
        found = []
        for path in unit.files:
            full = self.root / path
            inside = full.relative_to(folder.path).as_posix()
            uuid = PurePosixPath(inside).stem.rpartition(".")[2]
            place = split_rel_path(tidy(without_uuid(inside)))
            found.append(
                Found(
                    place,
                    f"{below}/{inside}",
                    full.stat().st_size,
                    self._md5_of(path, full, sha256[path], known.get(place)),
                    dataset_id=uuid.lower() if len(uuid) == 36 and is_uuid(uuid) else None,
                )
            )
        missing = {one.dataset_id for one in stored} - {
            known[file.place].dataset_id for file in found if file.place in known
        }
        return plan_datasets(eid, found, stored, self._live_elsewhere(missing, below) if missing else set(), kinds)

    def _md5_of(self, path: str, full: Path, sha256: str, known: Stored | None) -> str | None:
        """Return the md5 of a file, "" when it is left for a later run, None when the table has it already."""
        if md5 := self._md5.get(str(full)):
            return md5
        if sha256 == NO_HASH:
            return ""
        return None if known and known.hash else sha256_and_md5_of_file(full)[1]

    def hash_file(self, path: Path) -> str:
        """Return the sha256 of a file, and keep its md5 for `read`."""
        if self.options.no_hash:
            return NO_HASH
        sha256, self._md5[str(path)] = sha256_and_md5_of_file(path)
        return sha256

    def read_parts(self, unit: Unit) -> Iterator[list[Row | Refused]]:
        """Yield the rows of the cache tables."""
        assert self._tables is not None
        if self._repository is None:
            self._repository = Repository(self.root)
        repository, kinds = self._places()
        yield from self._tables.read(self.lab, self.subjects, repository, kinds, self._leave_out)

    def vanished_rows(self, paths: Sequence[str]) -> Iterator[Row]:
        """Mark the records of files that are gone, and datasets of this adapter that have no other copy."""
        if self._repository is None:
            self._repository = Repository(self.root)
        repository = self._repository
        below = "" if self.root == repository.root else f"{self.root.relative_to(repository.root).as_posix()}/"
        ids = [repository.record_id(f"{below}{path}") for path in paths]
        records = dict(rows_among(dataset.FileRecord, "file_record_id", ids, ("file_record_id", "dataset_id")))
        for record_id in records:
            yield Row(
                dataset.FileRecord, {"file_record_id": record_id, "present": False, "file_vanished": self.run or None}
            )
        live = _live(set(records.values()), lambda record_id, *_: record_id in records)
        rows = rows_among(dataset.Dataset, "dataset_id", set(records.values()) - live, STORED)
        for one in map(Stored._make, rows):
            if one.stamp is None and one.vanished is None:
                yield Row(
                    dataset.Dataset,
                    {"dataset_id": one.dataset_id, "dataset_vanished": self.run or None, "is_default": False},
                )

    def notes(self) -> list[str]:
        """Say which files were left out, and why."""
        if not self._n_left_out:
            return []
        lines = [f"{path}: {reason}" for path, reason in self._left_out]
        more = self._n_left_out - len(lines)
        return [
            f"{self._n_left_out} files or folders were left out, being no ALF datasets:",
            *(f"  {line}" for line in lines),
            *([f"  and {more} more; --debug names them all"] if more else []),
        ]

    def _leave_out(self, path: str, reason: str) -> None:
        self._n_left_out += 1
        shown = self._below(Path(path)).encode("utf-8", "backslashreplace").decode()
        if len(self._left_out) < SHOWN:
            self._left_out.append((shown, reason))
        log.info("left out: path=%s reason=%s", shown, reason)

    def _below(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _find_root(self, folder: SessionFolder) -> None:
        """Choose the root of the repository: the folder of labs or subjects, also when the location is in it."""
        if self._repository is None:
            base = folder.base
            self._repository = Repository(base if self.location.is_relative_to(base) else self.location)

    def _places(self) -> tuple[Repository, Kinds]:
        assert self._repository is not None
        if self._kinds is None:
            self._kinds = Kinds.read()
        return self._repository, self._kinds

    def _live_elsewhere(self, ids: set[str], below: str) -> set[str]:
        """Return the datasets that have a copy elsewhere than in a session folder of this repository."""
        here = self._repository.name if self._repository else ""
        return _live(ids, lambda _, repository, path: repository == here and path.startswith(f"{below}/"))


def _live(ids: set[str], is_other: Any) -> set[str]:
    """Return the datasets with a copy; those that `is_other` tells by record id, repository and path don't count."""
    wanted = ("dataset_id", "file_record_id", "repository", "relative_path", "present", "file_vanished")
    rows = rows_among(dataset.FileRecord, "dataset_id", sorted(ids), wanted)
    return {row[0] for row in rows if row[4] and row[5] is None and not is_other(*row[1:4])}

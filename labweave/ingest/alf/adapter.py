"""The adapter: session folders below a location, each a unit, and the ONE cache tables beside them."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import Field

from labweave.errors import Clash
from labweave.formats.alf.names import is_uuid, split_rel_path, without_uuid
from labweave.formats.hashing import NO_HASH
from labweave.formats.plain import tidy
from labweave.ingest.alf.rows import (
    DatasetAdapter,
    Found,
    Plan,
    Stored,
    dataset_rows,
    kind_rows,
    make_dataset_id,
    plan_datasets,
    present_copies,
    stored_datasets,
)
from labweave.ingest.alf.tables import CacheTables
from labweave.ingest.alf.tree import SessionFolder, find_datasets, find_session_folders, folder_problem
from labweave.ingest.alf.trials import trial_rows
from labweave.ingest.base import Options, Refused, Row, Unit
from labweave.ingest.keys import Keys, name_of
from labweave.ingest.registry import SUMMARIES
from labweave.ingest.sessions import check_lab, find_session, session_rows
from labweave.schemas import dataset, session, task
from labweave.schemas.ingestion import SourceFile


class AlfOptions(Options):
    """What is done with the files."""

    no_hash: bool = Field(False, description="leave the hashes to a later run without this option")
    trials: bool = Field(False, description="also read the trials objects into the table of trials")
    trust_pickles: bool = Field(False, description="load trials that are pickles, which can run any code")
    allow_case: bool = Field(False, description="take subjects that differ by case alone as different")


class AlfAdapter(DatasetAdapter):
    """Subjects, sessions, datasets and where their files are; the files stay where they are."""

    name = "alf"
    summary = SUMMARIES["alf"]
    options_model = AlfOptions
    batch_rows = 5000
    joint_results_of: ClassVar = task.TaskRun
    vanished_marks: ClassVar = {task.Trial: "trial_vanished"}
    results_computed_from: ClassVar = {task.Trial: ("trial_attributes", "trial_start", "trial_stop", "trial_vanished")}

    def __init__(self, location: Path, lab: str, options: Any):
        super().__init__(location, lab, options)
        check_lab(lab)
        self._tables = CacheTables.find(location)

    def discover(self) -> Iterator[Unit]:
        """Yield the cache tables, which are one unit, and a unit per session folder."""
        if self._tables is not None:
            yield Unit(self._tables.name, self._tables.files, in_parts=True)
        if self.location.is_file():
            return
        seen: dict[tuple[str, ...], str] = {}
        for folder in find_session_folders(self.location, self):
            self._md5.clear()  # of units that are done
            if not isinstance(folder, SessionFolder):
                path, problem = folder
                yield Unit(self._below(path), (), problem=problem)
                continue
            if "repository" not in vars(self):  # the folder of labs or subjects, even if the location is inside it
                base = folder.base
                self.repository = self.repository_at(base if self.location.is_relative_to(base) else self.location)
            yield self._unit(folder, seen)

    def _unit(self, folder: SessionFolder, seen: dict[tuple[str, ...], str]) -> Unit:
        """Return the unit of a session folder, with what is wrong with it."""
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
                files = tuple(below + path for path in find_datasets(folder.path, self))
            except OSError as error:
                problem = f"{error.filename or folder.path}: {error.strerror or error}. Is it readable?"
        # A file that is gone makes the unit change, too.
        digest = hashlib.sha256("\0".join(files).encode("utf-8", "surrogateescape")).hexdigest()
        return Unit(name, () if problem else files, {"files": digest, "folder": folder}, problem=problem or "")

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield subject, session, datasets and file records of one session folder, then its trials."""
        folder: SessionFolder = unit.content["folder"]
        lab, name = folder.lab or self.lab, tidy(folder.subject)
        date = dt.date.fromisoformat(folder.date)
        eid, is_known = find_session(lab, name, date, folder.number, self._sessions_of_ours)
        stored = stored_datasets([eid]) if is_known else []
        ours = self._ours([eid]).get(eid, {}).get(name_of(dataset.Dataset), ()) if stored else ()
        others = [one for one in stored if one.stamp is not None or (one.dataset_id,) not in ours]
        yield from session_rows(self.subjects, lab, name, date, folder.number, eid, is_known=is_known)
        yield from self.repository.rows(lab)
        plan, refused = self._plan(eid, folder, unit, sha256, stored, others)
        yield from refused
        yield from kind_rows([file.place for file, _, values in plan.files if values], self.kinds)
        yield from dataset_rows(plan, others, self.repository)
        if self.options.trials:
            below, gave = self._below(folder.path), functools.partial(self.gave, unit)
            root, trust_pickles = self.repository.root, self.options.trust_pickles
            yield from trial_rows(eid, root, below, plan, others, self.source, gave, trust_pickles)

    def _ours(self, eids: list[str]) -> Keys:
        """Return the keys in some sessions that session folders of this source alone gave.

        What these rows hold follows from the folders again; only what others gave is taken as it is.
        """
        return self.given.ours(eids, but=self._tables.name if self._tables else "")

    def _sessions_of_ours(self, eids: list[str]) -> set[str]:
        return {eid for eid, keys in self._ours(eids).items() if keys.get(name_of(session.Session))}

    def _plan(
        self,
        eid: str,
        folder: SessionFolder,
        unit: Unit,
        sha256: Mapping[str, str],
        stored: list[Stored],
        others: list[Stored],
    ) -> tuple[Plan, list[Refused]]:
        """Return the plan of a session's datasets, and files with the id of another one in their names.

        `others` are those of the stored datasets that another source gave.
        """
        below = folder.path.relative_to(self.repository.root).as_posix()
        by_place, by_id = {one.place: one for one in others}, {one.dataset_id: one for one in stored}
        found, refused = [], []
        by_named_id: dict[str, str] = {}
        for path in unit.files:
            full = self.root / path
            inside = full.relative_to(folder.path).as_posix()
            uuid = PurePosixPath(inside).stem.rpartition(".")[2]
            place = split_rel_path(tidy(without_uuid(inside)))
            has_id = len(uuid) == 36 and is_uuid(uuid) and not self.is_second_lab  # the first lab's datasets have it
            dataset_id = uuid.lower() if has_id else None
            if dataset_id and (other := by_named_id.setdefault(dataset_id, path)) != path:
                refused.append(Refused(path, _same_id(full, self.root / other, dataset_id)))
                continue
            before = by_place.get(place) or by_id.get(dataset_id or make_dataset_id(eid, place))
            md5 = "" if sha256[path] == NO_HASH else self.md5_of(full, before)
            if md5 is None and before is not None and place not in by_place:
                md5 = before.hash
            found.append(Found(place, f"{below}/{inside}", full.stat().st_size, md5, dataset_id=dataset_id))
        places = {file.place for file in found}
        missing = {one.dataset_id for one in others if one.place not in places}
        live_elsewhere = {
            dataset_id
            for dataset_id, _, repository, path in present_copies(missing)
            if repository != self.repository.name or not path.startswith(f"{below}/")
        }
        return plan_datasets(eid, found, others, live_elsewhere, self.kinds), refused

    def check(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Refuse a session with a file that has the id of another session's file in its name: it was copied."""
        records = (row.values for row in rows if row.table is dataset.FileRecord)
        named = {
            one["dataset_id"]: one["relative_path"]
            for one in records
            if one["dataset_id"] in one["relative_path"].lower()
        }
        root, below = self.repository.root, f"{unit.content['folder'].path.relative_to(self.repository.root)}/"
        for dataset_id, _, repository, path in present_copies(named):
            other = root / path
            if repository == self.repository.name and not path.startswith(below) and other.exists():
                of_source = {"source": self.source, "path": self._below(other)}
                raise Clash(
                    _same_id(root / named[dataset_id], other, dataset_id),
                    (SourceFile & of_source).to_arrays("unit").tolist(),
                )

    def hash_file(self, path: Path) -> str:
        """Return the sha256 of a file, or leave it to a later run."""
        return NO_HASH if self.options.no_hash else super().hash_file(path)

    def read_parts(self, unit: Unit) -> Iterator[list[Row | Refused]]:
        """Yield the rows of the cache tables."""
        assert self._tables is not None
        yield from self._tables.read(self, self.leave_out)


def _same_id(path: Path, other: Path, dataset_id: str) -> str:
    return (
        f"{path} and {other} have the same id in their names, {dataset_id}: they can't be two datasets. "
        "Remove the one that is a copy, or take the id out of its name."
    )

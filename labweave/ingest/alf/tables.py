"""ONE cache tables: sessions.pqt with datasets.pqt, or the one table of older clients, in parts of whole sessions."""

from __future__ import annotations

import datetime as dt
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from labweave.database.reads import rows_among, rows_in_order
from labweave.database.values import is_missing
from labweave.errors import ReadError, SourceError
from labweave.formats.alf.names import (
    RelativePath,
    fits,
    join_rel_path,
    path_problem,
    rel_path_problem,
    session_folder,
    split_rel_path,
)
from labweave.formats.plain import tidy
from labweave.ingest.alf.rows import (
    STORED,
    DatasetAdapter,
    Found,
    Stored,
    dataset_rows,
    plan_datasets,
    present_copies,
)
from labweave.ingest.base import Refused, Row
from labweave.ingest.sessions import new_session
from labweave.schemas import dataset, session
from labweave.schemas import lab as lab_schema

BATCH = 20_000
"""Rows read at once."""

MODERN = ("sessions.pqt", "datasets.pqt")
INSERTIONS = "insertions.pqt"
OLD = ".one_cache.parquet"

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[34][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").fullmatch


class TableSession(NamedTuple):
    """One session as a table has it."""

    lab: str
    subject: str
    date: dt.date
    number: int
    start_time: dt.datetime | None
    task_protocol: str
    projects: tuple[str, ...]


class Known(NamedTuple):
    """One session that is in the database already."""

    eid: str
    is_served: bool
    """A server follows it: what that says of it counts."""


@dataclass(frozen=True)
class CacheTables:
    """The tables in one folder.

    Parameters
    ----------
    root : Path
    files : tuple of str
        Their names: two of today's, or one of the older kind.
    """

    root: Path
    files: tuple[str, ...]

    @classmethod
    def find(cls, location: Path) -> CacheTables | None:
        """Return the tables at a location, a folder or one of the files; None when there are none."""
        root = location if location.is_dir() else location.parent
        if not location.is_dir() and location.name not in (*MODERN, OLD):
            return None
        old_is_meant = location.name == OLD
        if not old_is_meant and all((root / name).is_file() for name in MODERN):
            return cls(root, (*MODERN, INSERTIONS) if (root / INSERTIONS).is_file() else MODERN)
        return cls(root, (OLD,)) if (root / OLD).is_file() else None

    @property
    def name(self) -> str:
        """What the unit is called."""
        return "+".join(self.files[:2])

    @property
    def datasets(self) -> str:
        """The table of datasets."""
        return MODERN[1] if self.files[0] == MODERN[0] else OLD

    def read(self, adapter: DatasetAdapter, tell: Callable[[str, str], None]) -> Iterator[list[Row | Refused]]:
        """Yield the rows of some hundred sessions at a time.

        Parameters
        ----------
        adapter : DatasetAdapter
            Whose lab the sessions get that the tables name none for.
        tell : callable
            Gets datasets that are left out, and why.
        """
        sessions, refused = self._sessions(adapter.lab)
        yield list(refused)
        parts = _Parts(self, sessions, adapter, tell)
        for rows in self._whole_sessions():
            yield list(parts.of(rows))
        yield from parts.without_datasets()
        if INSERTIONS in self.files:
            for rows in self._batches(INSERTIONS, "eid", ("id", "name", "model", "serial")):
                yield list(parts.insertions(rows))

    def _sessions(self, lab: str) -> tuple[dict[str, TableSession], list[Refused]]:
        """Return every session by its id, and what can't be one."""
        sessions: dict[str, TableSession] = {}
        refused: list[Refused] = []
        identities: dict[tuple[str, str, dt.date, int], str] = {}
        own = ("lab", "subject", "date", "start_time", "number", "task_protocol", "projects", "project")
        told: set[str] = set()
        for rows in self._batches(self.files[0], "eid" if self.files[0] == OLD else "id", own):
            for values in rows:
                eid = str(values["key"])
                if eid in sessions or eid in told:
                    continue
                try:
                    found = _parse_session(eid, values, lab)
                    other = identities.setdefault(found[:4], eid)
                    if other != eid:
                        raise SourceError(f"it is {'/'.join(map(str, found[:4]))}, and so is {other}. Remove one.")
                except SourceError as error:
                    told.add(eid)
                    refused.append(Refused(f"{self.files[0]}: session {eid}", f"Session {eid}: {error}"))
                else:
                    sessions[eid] = found
        return sessions, refused

    def _whole_sessions(self) -> Iterator[list[dict[str, Any]]]:
        """Yield rows of datasets, in lists that hold all rows of their sessions."""
        own = ("id", "rel_path", "collection", "name", "file_size", "hash", "exists", "default_revision", "qc")
        kept: list[dict[str, Any]] = []
        for rows in self._batches(self.datasets, "eid", (*own, "dataset_type"), in_groups=True):
            kept += rows
            last = kept[-1]["key"]
            n_open = sum(1 for row in kept if row["key"] == last)
            if n_open < len(kept):
                yield kept[:-n_open]
                kept = kept[-n_open:]
        if kept:
            yield kept

    def _batches(
        self, name: str, key: str, wanted: Iterable[str], in_groups: bool = False
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield rows of a table in batches, with the key as ``key``; ids that are two integers are joined."""
        import pyarrow.lib
        import pyarrow.parquet as pq

        path = self.root / name
        try:
            with pq.ParquetFile(path) as file:
                there = set(file.schema_arrow.names)
                halved = f"{key}_0" in there
                if not halved and key not in there:
                    raise ReadError(path, f"there is no column {key!r}", "Is it a table of ONE?")
                names = [item for item in wanted if item in there]
                ids = [key, *(["id"] if "id" in wanted and key != "id" else [])]
                id_columns = [f"{item}_{half}" for item in ids for half in (0, 1)] if halved else ids
                columns = list(dict.fromkeys([*id_columns, *names]))
                if in_groups and not _is_grouped(file, id_columns[:2] if halved else [key]):
                    order = [(item, "ascending") for item in (id_columns[:2] if halved else [key])]
                    batches = file.read(columns).sort_by(order).to_batches(BATCH)
                else:
                    batches = file.iter_batches(BATCH, columns=columns)
                for batch in batches:
                    found = batch.to_pydict()
                    if halved:
                        for item in ids:
                            found[item] = _join_halves(found.pop(f"{item}_0"), found.pop(f"{item}_1"))
                    found["key"] = found[key] if key == "id" else found.pop(key)
                    names = list(found)
                    if rows := [dict(zip(names, row, strict=True)) for row in zip(*found.values(), strict=True)]:
                        yield rows
        except (pyarrow.lib.ArrowException, OSError) as error:
            raise ReadError(
                path, f"the table can't be read ({error})", "Is it complete? Write or copy it again."
            ) from None


def _is_grouped(file: Any, names: list[str]) -> bool:
    """Say whether the rows of each session stand together."""
    seen: set[tuple] = set()
    last: tuple | None = None
    for batch in file.iter_batches(BATCH * 5, columns=names):
        for value in zip(*batch.to_pydict().values(), strict=True):
            if value != last:
                if value in seen:
                    return False
                seen.add(value)
                last = value
    return True


def _join_halves(first: list[int], second: list[int]) -> list[str]:
    return [str(uuid.UUID(bytes=struct.pack("<qq", a, b))) for a, b in zip(first, second, strict=True)]


def _text(value: Any) -> str:
    return "" if is_missing(value) else str(value)


def _parse_session(eid: str, values: Mapping[str, Any], lab: str) -> TableSession:
    """Return a session as it goes into the database.

    Raises
    ------
    SourceError
        Its id, or a part of its path, is none that ONE takes.
    """
    if not _ID(eid):
        raise SourceError("its id is no UUID of version 3 or 4 in lower case, which ONE needs.")
    time: Any = values.get("date") if not is_missing(values.get("date")) else values.get("start_time")
    if isinstance(time, str):
        try:
            time = dt.datetime.fromisoformat(time)
        except ValueError:
            raise SourceError(f"its date {time!r} is none.") from None
    number = values.get("number")
    if is_missing(time) or is_missing(number) or float(str(number)) != int(float(str(number))):
        raise SourceError(f"it has the date {time} and the number {number}; both are needed, the number whole.")
    date = time.date() if isinstance(time, dt.datetime) else time
    name, path_lab = tidy(_text(values.get("subject"))), _text(values.get("lab")) or lab
    if not fits("lab", path_lab):
        raise SourceError(f"its lab {path_lab!r} is none of letters, digits and _.")
    try:
        problem = path_problem(session_folder(path_lab, name, date, int(float(str(number)))))
    except ValueError as error:
        problem = str(error)
    if problem:
        raise SourceError(f"{problem.rstrip('.')}.")
    start = values.get("start_time")
    projects = _text(values.get("projects", values.get("project")))
    return TableSession(
        path_lab,
        name,
        date,
        int(float(str(number))),
        start if isinstance(start, dt.datetime) else None,
        _text(values.get("task_protocol")),
        tuple(sorted({tidy(item) for item in projects.split(",")} - {""})),
    )


@lru_cache(maxsize=50_000)
def _judge(path: str) -> tuple[RelativePath, str | None]:
    """Return the parts of a dataset's path, and what keeps it from being one."""
    return split_rel_path(path), rel_path_problem(path)


def _eid_of(known: Known | None, given: str) -> str:
    return known.eid if known else given


class _Parts:
    """Makes the database's rows, part by part; which sessions were there before is looked up once."""

    def __init__(
        self,
        tables: CacheTables,
        sessions: Mapping[str, TableSession],
        adapter: DatasetAdapter,
        tell: Callable[[str, str], None],
    ):
        self.tables, self.sessions, self.tell = tables, sessions, tell
        self.subjects, self.repository, self.kinds = adapter.subjects, adapter.repository, adapter.kinds
        self.by_eid: dict[str, Known] = {}
        self.by_identity: dict[tuple[str, str, dt.date, int], Known] = {}
        names = ("eid", "lab", "path_lab", "subject", "session_date", "session_number", "source_stamp")
        for eid, lab, path_lab, name, date, number, stamp in rows_in_order(session.Session, "eid", names, {}):
            known = Known(eid, stamp is not None)
            if eid in sessions:
                self.by_eid[eid] = known
            if date is not None and number is not None:
                self.by_identity.setdefault((path_lab or lab, name, date, number), known)
        self.done: set[str] = set()
        self.written: set[str] = set()

    def of(self, rows: list[dict[str, Any]]) -> Iterator[Row | Refused]:
        """Yield the rows of some datasets, given as rows of the table, and of their sessions."""
        grouped = [(eid, list(group)) for eid, group in groupby(rows, itemgetter("key"))]
        known = {eid: self._known(eid) for eid, _ in grouped}
        stored: dict[str, list[Stored]] = {}
        eids = [found.eid for found in known.values() if found]
        for one in map(Stored._make, rows_among(dataset.Dataset, "eid", eids, STORED)):
            stored.setdefault(one.eid, []).append(one)
        planned = []
        for given, group in grouped:
            self.done.add(given)
            if given not in self.sessions:
                yield Refused(
                    f"{self.tables.datasets}: session {given}",
                    f"Session {given} has {len(group)} datasets, but is not in {self.tables.files[0]}, or was refused.",
                )
                continue
            eid = _eid_of(known[given], given)
            try:
                found, problem = self._found(given, group)
                own_rows = list(self._session_rows(given))
                here = stored.get(eid, [])
                planned.append((eid, own_rows, found, here))
            except SourceError as error:
                yield Refused(f"{self.tables.files[0]}: session {given}", str(error))
                continue
            if problem:
                yield Refused(f"{self.tables.datasets}: session {given}", problem)
        gone, live = self._copies_of_missing(planned)
        for lab in sorted({self.sessions[given].lab for given, _ in grouped if given in self.sessions}):
            yield from self.repository.rows(lab)
        for eid, own_rows, found, here in planned:
            try:
                plan = plan_datasets(eid, found, here, live, self.kinds)
            except SourceError as error:
                yield Refused(f"{self.tables.datasets}: session {eid}", str(error))
                continue
            self.written.add(eid)
            yield from own_rows
            yield from (
                Row(dataset.DatasetType, {"dataset_type": name})
                for name in {file.more["dataset_type"] for file in found if "dataset_type" in file.more}
            )
            yield from dataset_rows(plan, here, self.repository, self.kinds)
        for record_id in gone:
            yield Row(dataset.FileRecord, {"file_record_id": record_id, "present": False})

    def without_datasets(self) -> Iterator[list[Row | Refused]]:
        """Yield the rows of the sessions that have no dataset."""
        part: list[Row | Refused] = []
        for eid in sorted(self.sessions.keys() - self.done):
            try:
                part += self._session_rows(eid)
                self.written.add(_eid_of(self._known(eid), eid))
            except SourceError as error:
                part.append(Refused(f"{self.tables.files[0]}: session {eid}", str(error)))
            if len(part) >= BATCH:
                yield part
                part = []
        if part:
            yield part

    def insertions(self, rows: list[dict[str, Any]]) -> Iterator[Row | Refused]:
        """Yield the rows of probe insertions; those that a server follows are left as they are."""
        eids = {row["key"]: _eid_of(self._known(row["key"]), row["key"]) for row in rows}
        wanted = ("eid", "probe_name", "insertion_stamp")
        there = rows_among(session.ProbeInsertion, "eid", sorted(set(eids.values())), wanted)
        served = {(eid, name) for eid, name, stamp in there if stamp is not None}
        for row in rows:
            eid, name, pid = eids[row["key"]], _text(row.get("name")), str(row["id"])
            if eid not in self.written or not name or not _ID(pid):
                yield Refused(
                    f"{INSERTIONS}: insertion {pid}",
                    f"Insertion {pid} of session {row['key']} has no name, an id that is no UUID of version 3 or 4, "
                    "or a session that is not there or was refused.",
                )
            elif (eid, name) not in served:
                yield from self._session_rows(row["key"])
                more = {key: _text(row.get(key)) for key in ("model", "serial")}
                yield Row(session.ProbeInsertion, {"eid": eid, "probe_name": name, "pid": pid, **more})

    def _known(self, eid: str) -> Known | None:
        found = self.sessions.get(eid)
        return self.by_eid.get(eid) or (self.by_identity.get(found[:4]) if found else None)

    def _session_rows(self, given: str) -> Iterator[Row]:
        found, known = self.sessions[given], self._known(given)
        if known is not None and known.is_served:
            return
        eid = _eid_of(known, given)
        more: dict[str, Any] = {"task_protocol": found.task_protocol}
        if found.start_time is not None:
            more["start_time"] = found.start_time
        if known is not None and known.eid != given:  # another source has brought it
            yield Row(session.Session, {"eid": eid, **more})
        else:
            yield from new_session(self.subjects, *found[:4], eid, **more)
        for project in found.projects:
            yield Row(lab_schema.Project, {"project": project})
            yield Row(session.SessionProject, {"eid": eid, "project": project})

    def _found(self, given: str, group: list[dict[str, Any]]) -> tuple[list[Found], str | None]:
        """Return the datasets of a session, and what is wrong with one of them, if so."""
        folder = session_folder(*self.sessions[given][:4])
        found: list[Found] = []
        problem = None
        for values in group:
            path = values.get("rel_path") or join_rel_path(values.get("collection"), "", values.get("name") or "")
            place, left_out = _judge(path)
            if left_out:
                self.tell(f"{self.tables.root}/{folder}/{path}", left_out)
                continue
            dataset_id = str(values["id"])
            if not _ID(dataset_id):
                problem = problem or (
                    f"The id {dataset_id} of {path} in session {given} is no UUID of version 3 or 4 in lower case, "
                    "which ONE needs."
                )
                continue
            size: Any = values.get("file_size")
            more: dict[str, Any] = {}
            if not is_missing(values.get("qc")):
                more["dataset_qc"] = values["qc"]
            if not is_missing(values.get("dataset_type")):
                more["dataset_type"] = tidy(values["dataset_type"])
            flag = values.get("default_revision")
            found.append(
                Found(
                    place,
                    f"{folder}/{path}",
                    None if is_missing(size) or int(size) < 0 else int(size),
                    _text(values.get("hash")).lower(),
                    None if is_missing(flag) else bool(flag),
                    dataset_id,
                    bool(values.get("exists", True)),
                    more,
                )
            )
        return found, problem

    def _copies_of_missing(
        self, planned: list[tuple[str, list[Row], list[Found], list[Stored]]]
    ) -> tuple[list[str], set[str]]:
        """Return, of datasets that the tables no longer list, our records without a file and the ids with a copy."""
        missing = set()
        for _, _, found, here in planned:
            places = {file.place for file in found}
            missing.update(one.dataset_id for one in here if one.place not in places)
        gone, live = [], set()
        for dataset_id, record_id, repository, path in present_copies(missing):
            if repository == self.repository.name and not (self.repository.root / path).exists():
                gone.append(record_id)
            else:
                live.add(dataset_id)
        return gone, live

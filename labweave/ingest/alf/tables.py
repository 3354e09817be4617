"""ONE cache tables: sessions.pqt with datasets.pqt, or the one table of older clients, in parts of whole sessions."""

from __future__ import annotations

import datetime as dt
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, repeat
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
    DatasetAdapter,
    Found,
    Stored,
    dataset_rows,
    plan_datasets,
    present_copies,
    stored_datasets,
)
from labweave.ingest.base import Refused, Row
from labweave.ingest.sessions import session_rows
from labweave.ingest.spelling import differs
from labweave.schemas import dataset, session, subject
from labweave.schemas import lab as lab_schema

BATCH = 20_000
"""Rows read at once."""

MODERN = ("sessions.pqt", "datasets.pqt")
INSERTIONS = "insertions.pqt"
OLD = ".one_cache.parquet"

SESSION_COLUMNS = ("lab", "subject", "date", "start_time", "number", "task_protocol", "projects", "project")
DATASET_COLUMNS = ("id", "rel_path", "collection", "name", "file_size", "hash", "exists", "default_revision")
DATASET_COLUMNS += ("qc", "dataset_type")
INSERTION_COLUMNS = ("id", "name", "model", "serial")
DEFAULTS = {"exists": True}
"""What stands for a column that a table does not have; None for others."""

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
        yield from parts.with_datasets(self._rows(self.datasets, "eid", DATASET_COLUMNS, in_groups=True))
        yield from parts.without_datasets()
        if INSERTIONS in self.files:
            yield list(parts.insertions(list(self._rows(INSERTIONS, "eid", INSERTION_COLUMNS))))

    def _sessions(self, lab: str) -> tuple[dict[str, TableSession], list[Refused]]:
        """Return every session by its id, and what can't be one."""
        sessions: dict[str, TableSession] = {}
        refused: list[Refused] = []
        identities: dict[tuple[str, str, dt.date, int], str] = {}
        told: set[str] = set()
        for key, *values in self._rows(self.files[0], "eid" if self.files[0] == OLD else "id", SESSION_COLUMNS):
            eid = str(key)
            if eid in sessions or eid in told:
                continue
            try:
                found = _parse_session(eid, dict(zip(SESSION_COLUMNS, values, strict=True)), lab)
                other = identities.setdefault(found[:4], eid)
                if other != eid:
                    raise SourceError(f"it is {'/'.join(map(str, found[:4]))}, and so is {other}. Remove one.")
            except SourceError as error:
                told.add(eid)
                refused.append(Refused(f"{self.files[0]}: session {eid}", f"Session {eid}: {error}"))
            else:
                sessions[eid] = found
        return sessions, refused

    def _rows(self, name: str, key: str, wanted: Sequence[str], in_groups: bool = False) -> Iterator[tuple]:
        """Yield the rows of a table: the key, then the wanted columns. Ids that are two integers are joined."""
        import pyarrow.lib
        import pyarrow.parquet as pq

        path = self.root / name
        try:
            with pq.ParquetFile(path) as file:
                there = set(file.schema_arrow.names)
                halved = f"{key}_0" in there
                if not halved and key not in there:
                    raise ReadError(path, f"there is no column {key!r}", "Is it a table of ONE?")
                ids = [key, *(["id"] if "id" in wanted else [])]
                id_columns = [f"{item}_{half}" for item in ids for half in (0, 1)] if halved else ids
                columns = list(dict.fromkeys([*id_columns, *(item for item in wanted if item in there)]))
                key_columns = id_columns[:2] if halved else [key]
                if in_groups and not _is_grouped(file, key_columns):
                    order = [(item, "ascending") for item in key_columns]
                    batches = file.read(columns).sort_by(order).to_batches(BATCH)
                else:
                    batches = file.iter_batches(BATCH, columns=columns)
                for batch in batches:
                    found = batch.to_pydict()
                    if halved:
                        for item in ids:
                            found[item] = _join_halves(found.pop(f"{item}_0"), found.pop(f"{item}_1"))
                    given = (found.get(item, repeat(DEFAULTS.get(item))) for item in wanted)
                    yield from zip(found[key], *given)  # noqa: B905 - a default is repeated without end
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
        ONE does not take its id or a part of its path.
    """
    if not _ID(eid):
        raise SourceError("its id is not a UUID of version 3 or 4 in lower case, which ONE needs.")
    time: Any = values["start_time"] if is_missing(values["date"]) else values["date"]
    if isinstance(time, str):
        try:
            time = dt.datetime.fromisoformat(time)
        except ValueError:
            raise SourceError(f"its date {time!r} is not a date.") from None
    number = values["number"]
    if is_missing(time) or is_missing(number) or not float(number).is_integer():
        raise SourceError(f"it has the date {time} and the number {number}; both are needed, the number whole.")
    date, number = time.date() if isinstance(time, dt.datetime) else time, int(float(number))
    name, path_lab = tidy(_text(values["subject"])), _text(values["lab"]) or lab
    if not fits("lab", path_lab):
        raise SourceError(f"its lab {path_lab!r} has other characters than letters, digits and _.")
    try:
        problem = path_problem(session_folder(path_lab, name, date, number))
    except ValueError as error:
        problem = str(error)
    if problem:
        raise SourceError(f"{problem.rstrip('.')}.")
    start = values["start_time"]
    projects = _text(values["projects"]) or _text(values["project"])
    return TableSession(
        path_lab,
        name,
        date,
        number,
        start if isinstance(start, dt.datetime) else None,
        _text(values["task_protocol"]),
        tuple(sorted({tidy(item) for item in projects.split(",")} - {""})),
    )


@lru_cache(maxsize=50_000)
def _judge(path: str) -> tuple[RelativePath, str | None]:
    """Return the parts of a dataset's path, and what keeps it from being one."""
    return split_rel_path(path), rel_path_problem(path)


@lru_cache(maxsize=1000)
def _more(qc: Any, dataset_type: Any) -> dict[str, Any]:
    """Return other attributes of a dataset; one dictionary serves the many that have the same."""
    more = {} if is_missing(qc) else {"dataset_qc": qc}
    return more if is_missing(dataset_type) else {**more, "dataset_type": tidy(dataset_type)}


def _eid_of(known: Known | None, given: str) -> str:
    return known.eid if known else given


def _spelled_otherwise(sessions: Mapping[str, TableSession]) -> dict[tuple[str, str], str]:
    """Return lab and name of subjects -> the name from which each differs by case alone."""
    names: dict[tuple[str, str], dict[str, None]] = {}
    for lab, name in zip(*subject.Subject().to_arrays("lab", "subject"), strict=True):
        names.setdefault((lab, name.casefold()), {})[name] = None
    unlike = {}
    for lab, name, *_ in sessions.values():
        others = names.setdefault((lab, name.casefold()), {name: None})
        if name not in others:
            unlike[lab, name] = next(iter(others))
    return unlike


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
        self.unlike = {} if adapter.options.allow_case else _spelled_otherwise(sessions)
        self.done: set[str] = set()
        self.written: set[str] = set()

    def with_datasets(self, rows: Iterable[tuple]) -> Iterator[list[Row | Refused]]:
        """Yield the rows of datasets, given as rows of the table session by session, and of these sessions."""
        refused: list[Refused] = []
        found: dict[str, list[Found]] = {}
        n_found = 0
        for given, group in groupby(rows, itemgetter(0)):
            self.done.add(given)
            if given in self.sessions:
                found[given], problem = self._found(given, group)
                n_found += len(found[given])
            else:
                problem = (
                    f"Session {given} has {sum(1 for _ in group)} datasets, but is not in {self.tables.files[0]}, "
                    "or was refused."
                )
            if problem:
                refused.append(Refused(f"{self.tables.datasets}: session {given}", problem))
            if n_found >= BATCH:
                yield [*refused, *self._rows_of(found)]
                refused, found, n_found = [], {}, 0
        yield [*refused, *self._rows_of(found)]

    def _rows_of(self, found: Mapping[str, list[Found]]) -> Iterator[Row | Refused]:
        """Yield the rows of sessions and of the datasets found in the table."""
        known = {given: self._known(given) for given in found}
        stored: dict[str, list[Stored]] = {}
        for one in stored_datasets([one.eid for one in known.values() if one]):
            stored.setdefault(one.eid, []).append(one)
        planned = []
        for given, files in found.items():
            eid = _eid_of(known[given], given)
            try:
                planned.append((eid, list(self._session_rows(given)), files, stored.get(eid, [])))
            except SourceError as error:
                yield Refused(f"{self.tables.files[0]}: session {given}", str(error))
        gone, live = self._copies_of_missing(planned)
        for lab in sorted({self.sessions[given].lab for given in found}):
            yield from self.repository.rows(lab)
        for eid, own_rows, files, here in planned:
            try:
                plan = plan_datasets(eid, files, here, live, self.kinds)
            except SourceError as error:
                yield Refused(f"{self.tables.datasets}: session {eid}", str(error))
                continue
            self.written.add(eid)
            yield from own_rows
            for name in {file.more["dataset_type"] for file in files if "dataset_type" in file.more}:
                yield Row(dataset.DatasetType, {"dataset_type": name})
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

    def insertions(self, rows: list[tuple]) -> Iterator[Row | Refused]:
        """Yield the rows of probe insertions; those that a server follows are left as they are."""
        eids = {row[0]: _eid_of(self._known(row[0]), row[0]) for row in rows}
        wanted = ("eid", "probe_name", "insertion_stamp")
        there = rows_among(session.ProbeInsertion, "eid", sorted(set(eids.values())), wanted)
        served = {(eid, name) for eid, name, stamp in there if stamp is not None}
        for given, pid, name, model, serial in rows:
            eid, name, pid = eids[given], _text(name), str(pid)
            if eid not in self.written or not name or not _ID(pid):
                yield Refused(
                    f"{INSERTIONS}: insertion {pid}",
                    f"Insertion {pid} of session {given} has no name, an id that is not a UUID of version 3 or 4, "
                    "or a session that is not there or was refused.",
                )
            elif (eid, name) not in served:
                yield from self._session_rows(given)
                more = {"model": _text(model), "serial": _text(serial)}
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
            if other := self.unlike.get(found[:2]):
                raise SourceError(differs("subject", found[1], other))
            yield from session_rows(self.subjects, *found[:4], eid, **more)
        for project in found.projects:
            yield Row(lab_schema.Project, {"project": project})
            yield Row(session.SessionProject, {"eid": eid, "project": project})

    def _found(self, given: str, group: Iterable[tuple]) -> tuple[list[Found], str | None]:
        """Return the datasets of a session, and what is wrong with one of them, if so."""
        folder = session_folder(*self.sessions[given][:4])
        found: list[Found] = []
        problem = None
        for _, dataset_id, rel_path, collection, name, size, md5, exists, is_default, qc, kind in group:
            path = rel_path or join_rel_path(collection, "", name or "")
            place, left_out = _judge(path)
            if left_out:
                self.tell(f"{self.tables.root}/{folder}/{path}", left_out)
                continue
            dataset_id = str(dataset_id)
            if not _ID(dataset_id):
                problem = problem or (
                    f"The id {dataset_id} of {path} in session {given} is not a UUID of version 3 or 4 in lower case, "
                    "which ONE needs."
                )
                continue
            found.append(
                Found(
                    place,
                    f"{folder}/{path}",
                    None if is_missing(size) or int(size) < 0 else int(size),
                    _text(md5).lower(),
                    None if is_missing(is_default) else bool(is_default),
                    dataset_id,
                    bool(exists),
                    _more(qc, kind),
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

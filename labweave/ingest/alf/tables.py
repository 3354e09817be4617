"""ONE cache tables: sessions.pqt with datasets.pqt, or the one table of older clients, in parts of whole sessions."""

from __future__ import annotations

import datetime as dt
import re
import struct
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, groupby, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pandas.core.util.hashing import hash_array

from labweave.database.reads import in_parts, rows_among, rows_in_order
from labweave.database.values import is_missing
from labweave.errors import Clash, ReadError, SourceError
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
    Plan,
    Stored,
    dataset_rows,
    kind_rows,
    plan_datasets,
    present_copies,
    stored_datasets,
)
from labweave.ingest.base import Refused, Row, make_eid, make_uuid
from labweave.ingest.keys import Keys, name_of
from labweave.ingest.sessions import Subjects, session_rows
from labweave.ingest.spelling import differs
from labweave.schemas import dataset, session, subject
from labweave.schemas import lab as lab_schema

BATCH = 20_000
"""Rows read at once."""

MANY = 10_000
"""Of more ids that several datasets have, none is named."""

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

    eid: str
    lab: str
    subject: str
    date: dt.date
    number: int
    start_time: dt.datetime | None
    task_protocol: str
    projects: tuple[str, ...]
    keeps_ids: bool
    """False for another lab's copy of sessions whose ids the first lab has."""

    @property
    def identity(self) -> tuple[str, str, dt.date, int]:
        """What its path says."""
        return self.lab, self.subject, self.date, self.number


class Insertion(NamedTuple):
    """One probe insertion as a table has it."""

    pid: str
    name: str
    model: str
    serial: str


class Known(NamedTuple):
    """One session that is in the database already."""

    eid: str
    lab: str
    """Of its path."""
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
        """Return the tables at a location, a folder or one of the files; None when there are none.

        Of today's two one may be missing: looking at it fails, and says so.
        """
        root = location if location.is_dir() else location.parent
        if not location.is_dir() and location.name not in (*MODERN, OLD):
            return None
        are_there = [(root / name).is_file() for name in MODERN]
        if (location.name == OLD or not all(are_there)) and (root / OLD).is_file():
            return cls(root, (OLD,))
        if location.name == OLD or not any(are_there):
            return None
        return cls(root, (*MODERN, INSERTIONS) if (root / INSERTIONS).is_file() else MODERN)

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
        sessions, refused = self._sessions(adapter, tell)
        insertions, odd = self._insertions(sessions, tell)
        clashes = self._ids_of_several()
        yield [*refused, *odd, *(Refused(f"{self.datasets}: dataset {key}", text) for key, text in clashes.items())]
        parts = _Parts(self, sessions, insertions, clashes.keys(), adapter, tell)
        yield from parts.with_datasets(self._rows(self.datasets, "eid", DATASET_COLUMNS, in_groups=True))
        yield from parts.without_datasets()

    def _sessions(
        self, adapter: DatasetAdapter, tell: Callable[[str, str], None]
    ) -> tuple[dict[str, TableSession], list[Refused]]:
        """Return every session by its id, and what can't be one."""
        sessions: dict[str, TableSession] = {}
        seen: dict[str, tuple] = {}
        problems: dict[str, str] = {}
        identities: dict[tuple[str, str, dt.date, int], str] = {}
        is_old = self.files[0] == OLD  # it has a row for each dataset
        for key, *values in self._rows(self.files[0], "eid" if is_old else "id", SESSION_COLUMNS):
            eid, given = str(key), tuple(values)
            if eid in problems or (is_old and seen.get(eid) == given):
                continue
            try:
                found = _parse_session(eid, dict(zip(SESSION_COLUMNS, values, strict=True)), adapter)
                if sessions.get(eid, found) != found:
                    raise SourceError(f"it is {_named(sessions.pop(eid))}, and in another row {_named(found)}.")
                if eid in sessions and not is_old:
                    tell(f"{self.root}/{self.files[0]}: session {eid}", "the same row is there twice")
                if (other := identities.setdefault(found.identity, eid)) != eid:
                    raise SourceError(f"it is {_named(found)}, and so is {other}. Remove one.")
            except SourceError as error:
                problems[eid] = str(error)
            else:
                sessions[eid], seen[eid] = found, given
        named = self.files[0]
        return sessions, [
            Refused(f"{named}: session {eid}", f"Session {eid}: {problems[eid]}", eid) for eid in problems
        ]

    def _insertions(
        self, sessions: Mapping[str, TableSession], tell: Callable[[str, str], None]
    ) -> tuple[dict[str, dict[str, Insertion]], list[Refused]]:
        """Return the probe insertions of each session by name, and what can't be one."""
        found: dict[str, dict[str, Insertion]] = {}
        names: dict[str, tuple[str, str]] = {}
        refused: list[Refused] = []
        rows = self._rows(INSERTIONS, "eid", INSERTION_COLUMNS) if INSERTIONS in self.files else ()
        for key, pid, name, model, serial in rows:
            eid, one = str(key), Insertion(str(pid), _text(name), _text(model), _text(serial))
            problem = ""
            if eid not in sessions or not one.name or not _ID(one.pid):
                problem = (
                    "has no name, an id that is not a UUID of version 3 or 4, "
                    "or a session that is not there or was refused."
                )
            elif (other := names.setdefault(one.pid, (eid, one.name))) != (eid, one.name):
                problem = f"is {one.name}, but also {other[1]} of session {other[0]}. Correct one of the ids."
            elif (twin := found.setdefault(eid, {}).get(one.name, one)) != one:
                problem = f"is {one.name}, and so is {twin.pid}, or this row has another model or serial. Remove one."
            elif one.name in found[eid]:
                tell(f"{self.root}/{INSERTIONS}: insertion {pid}", "the same row is there twice")
            else:
                found[eid][one.name] = one
            if problem:
                refused.append(Refused(f"{INSERTIONS}: insertion {pid}", f"Insertion {pid} of session {eid} {problem}"))
        return found, refused

    def _ids_of_several(self) -> dict[str, str]:
        """Return what is wrong with each id that is in the table for several datasets: ONE can't tell them apart.

        The ids are hashed first, since all of them would not fit into memory.
        """
        hashes = np.concatenate([np.empty(0, np.uint64), *self._hashes()])
        ordered = np.sort(hashes)
        several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(several) > MANY:
            raise SourceError(
                f"{self.root / self.datasets}: {len(several)} ids are there more than once. Write the table again."
            )
        places: dict[str, dict[str, None]] = {}
        rows = self._rows(self.datasets, "eid", ("id", "rel_path", "collection", "name"))
        suspect = compress(rows, np.isin(hashes, several)) if len(several) else ()
        for eid, dataset_id, path, collection, name in suspect:
            if _ID(str(dataset_id)):
                place = f"{path or join_rel_path(collection, '', name or '')} in session {eid}"
                places.setdefault(str(dataset_id), {})[place] = None
        return {
            key: f"The id {key} is that of {' and of '.join(found)}. ONE can't tell them apart: correct one of the ids."
            for key, found in places.items()
            if len(found) > 1
        }

    def _hashes(self) -> Iterator[Any]:
        """Yield a hash of the id of each dataset, many at a time."""
        for batch in self._batches(self.datasets, ["id"], []):
            arrays = [hash_array(column.to_numpy(zero_copy_only=False)) for column in batch.columns]
            yield arrays[0] if len(arrays) == 1 else arrays[0] * np.uint64(3) + arrays[1]

    def _rows(self, name: str, key: str, wanted: Sequence[str], in_groups: bool = False) -> Iterator[tuple]:
        """Yield the rows of a table: the key, then the wanted columns. Ids that are two integers are joined."""
        ids = [key, *(["id"] if "id" in wanted else [])]
        for batch in self._batches(name, ids, wanted, in_groups):
            found = batch.to_pydict()
            for item in ids:
                if item not in found:
                    found[item] = _join_halves(found.pop(f"{item}_0"), found.pop(f"{item}_1"))
            given = (found.get(item, repeat(DEFAULTS.get(item))) for item in wanted)
            yield from zip(found[key], *given)  # noqa: B905 - a default is repeated without end

    def _batches(self, name: str, ids: Sequence[str], wanted: Sequence[str], in_groups: bool = False) -> Iterator[Any]:
        """Yield a table's columns of ids, which may be two integers each, and those wanted columns that it has."""
        import pyarrow.lib
        import pyarrow.parquet as pq

        path, key = self.root / name, ids[0]
        try:
            with pq.ParquetFile(path) as file:
                there = set(file.schema_arrow.names)
                halved = f"{key}_0" in there
                if not halved and key not in there:
                    raise ReadError(path, f"there is no column {key!r}", "Is it a table of ONE?")
                id_columns = [f"{item}_{half}" for item in ids for half in (0, 1)] if halved else list(ids)
                columns = list(dict.fromkeys([*id_columns, *(item for item in wanted if item in there)]))
                key_columns = id_columns[:2] if halved else [key]
                if in_groups and not _is_grouped(file, key_columns):
                    order = [(item, "ascending") for item in key_columns]
                    yield from file.read(columns).sort_by(order).to_batches(BATCH)
                else:
                    yield from file.iter_batches(BATCH, columns=columns)
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


def _named(found: TableSession) -> str:
    return "/".join(map(str, found.identity))


def _parse_session(eid: str, values: Mapping[str, Any], adapter: DatasetAdapter) -> TableSession:
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
    name, path_lab = tidy(_text(values["subject"])), _text(values["lab"]) or adapter.lab
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
    keeps_ids = bool(_text(values["lab"])) or not adapter.is_second_lab
    return TableSession(
        eid if keeps_ids else make_eid(path_lab, name, date.isoformat(), number),
        path_lab,
        name,
        date,
        number,
        start if isinstance(start, dt.datetime) else None,
        _text(values["task_protocol"]),
        tuple(sorted({tidy(item) for item in projects.split(",")} - {""})),
        keeps_ids,
    )


@lru_cache(maxsize=50_000)
def _judge(path: str) -> tuple[RelativePath, str | None]:
    """Return the parts of a dataset's path, and what keeps it from being one."""
    return split_rel_path(path), rel_path_problem(path)


@lru_cache(maxsize=1000)
def _more(qc: Any, dataset_type: Any) -> dict[str, Any]:
    """Return other attributes of a dataset; one dictionary serves the many that have the same."""
    more = {"dataset_qc": None if is_missing(qc) else qc}
    return more if is_missing(dataset_type) else {**more, "dataset_type": tidy(dataset_type)}


def _spelled_otherwise(
    sessions: Mapping[str, TableSession], leaving: Container[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """Return lab and name of subjects -> the name from which each differs by case alone.

    Names that would be `leaving` are given by an earlier state of the tables alone.
    """
    now = {(found.lab, found.subject): None for found in sessions.values()}
    names: dict[tuple[str, str], dict[str, None]] = {}
    for lab, name in zip(*subject.Subject().to_arrays("lab", "subject"), strict=True):
        if (lab, name) in now or (lab, name) not in leaving:
            names.setdefault((lab, name.casefold()), {})[name] = None
    unlike = {}
    for lab, name in now:
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
        insertions: Mapping[str, Mapping[str, Insertion]],
        clashes: Iterable[str],
        adapter: DatasetAdapter,
        tell: Callable[[str, str], None],
    ):
        self.tables, self.sessions, self.insertions = tables, sessions, insertions
        self.unclear, self.adapter, self.tell = set(clashes), adapter, tell
        self.repository, self.kinds = adapter.repository, adapter.kinds
        named = {found.eid for found in sessions.values()}
        identities = {found.identity for found in sessions.values()}
        self.by_eid: dict[str, Known] = {}
        self.by_identity: dict[tuple[str, str, dt.date, int], list[Known]] = {}
        names = ("eid", "lab", "path_lab", "subject", "session_date", "session_number", "source_stamp")
        for eid, lab, path_lab, name, date, number, stamp in rows_in_order(session.Session, "eid", names, {}):
            identity = (path_lab or lab, name, date, number)
            known = Known(eid, path_lab or lab, stamp is not None)
            if eid in named:
                self.by_eid[eid] = known
            elif identity in identities:
                self.by_identity.setdefault(identity, []).append(known)
        leaving = adapter.given.only_by(tables.name, subject.Subject)
        self.unlike = {} if adapter.options.allow_case else _spelled_otherwise(sessions, leaving)
        self.subjects = Subjects(allow_case=True)  # as these have been compared
        self.done: set[str] = set()

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

    def without_datasets(self) -> Iterator[list[Row | Refused]]:
        """Yield the rows of the sessions that have no dataset."""
        for part in in_parts(sorted(self.sessions.keys() - self.done), max(BATCH // 10, 1)):
            yield list(self._rows_of({given: [] for given in part}))

    def _rows_of(self, found: Mapping[str, list[Found]]) -> Iterator[Row | Refused]:
        """Yield the rows of sessions, of the datasets found in the table, and of insertions."""
        known, ours = self._known(found)
        eids = {given: one.eid if one else self.sessions[given].eid for given, one in known.items()}
        stored: dict[str, list[Stored]] = {}
        for one in stored_datasets([one.eid for one in known.values() if one]):
            stored.setdefault(one.eid, []).append(one)
        mine = {eid: keys.get(name_of(dataset.Dataset), ()) for eid, keys in ours.items()}
        others = {
            eid: [one for one in rows if one.stamp is not None or (one.dataset_id,) not in mine.get(eid, ())]
            for eid, rows in stored.items()
        }
        live = {
            dataset_id for dataset_id, *_ in present_copies(one.dataset_id for rows in others.values() for one in rows)
        }
        for lab in sorted({self.sessions[given].lab for given in found}):
            yield from self.repository.rows(lab)
        planned: dict[str, tuple[list[Row], Plan]] = {}
        for given, files in found.items():
            eid = eids[given]
            try:
                rows = list(self._session_rows(given, known[given], ours))
                plan = plan_datasets(eid, files, others.get(eid, []), live, self.kinds)
                planned[given] = rows, plan
            except SourceError as error:
                n_rows = f" None of its {len(files)} datasets went in." if files else ""
                kind = Clash if isinstance(error, Clash) else SourceError
                yield Refused(f"{self.tables.files[0]}: session {given}", kind(f"{error}{n_rows}"), eid)
        files = [file for _, plan in planned.values() for file, _, values in plan.files if values]
        yield from kind_rows([file.place for file in files], self.kinds)
        for name in sorted({file.more["dataset_type"] for file in files if "dataset_type" in file.more}):
            yield Row(dataset.DatasetType, {"dataset_type": name})
        for rows, plan in planned.values():
            yield from rows
            yield from dataset_rows(plan, others.get(plan.eid, []), self.repository)
            yield from self._rows_that_stay(plan.eid, stored.get(plan.eid, []))
        yield from self._insertion_rows({given: plan.eid for given, (_, plan) in planned.items()})

    def _rows_that_stay(self, eid: str, stored: Iterable[Stored]) -> Iterator[Row]:
        """Yield what is there of datasets whose ids are not clear: it stays as it is until they are corrected."""
        ids = [one.dataset_id for one in stored if one.dataset_id in self.unclear]
        if not ids:
            return
        yield from (Row(dataset.Dataset, {"dataset_id": one}, eid) for one in ids)
        for (record_id,) in rows_among(dataset.FileRecord, "dataset_id", ids, ["file_record_id"]):
            yield Row(dataset.FileRecord, {"file_record_id": record_id}, eid)

    def _insertion_rows(self, eids: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield the rows of probe insertions; those that a server follows are left as they are."""
        rows = [(given, one) for given in eids for one in self.insertions.get(given, {}).values()]
        table, wanted = session.ProbeInsertion, ("eid", "probe_name", "pid", "insertion_stamp")
        there = list(rows_among(table, "eid", {eids[given] for given, _ in rows}, wanted))
        there += rows_among(table, "pid", [one.pid for _, one in rows], wanted)
        served = {(eid, name) for eid, name, _, stamp in there if stamp is not None}
        owners = {pid: (eid, name) for eid, name, pid, _ in there}
        new = []
        for given, one in rows:
            eid, keeps_ids = eids[given], self.sessions[given].keeps_ids
            pid = one.pid if keeps_ids else make_uuid(f"insertion/{eid}/{one.name}")
            if (eid, one.name) not in served:
                owner = owners.get(pid, (eid, one.name))
                if owner in served:
                    yield Refused(
                        f"{INSERTIONS}: insertion {pid}",
                        Clash(
                            f"Insertion {pid} is {one.name} of session {eid}, but a server says {owner[1]} of "
                            f"{owner[0]}."
                        ),
                    )
                    continue
                if owner != (eid, one.name):  # the id is free once the row that has it now has another one
                    key = {"eid": owner[0], "probe_name": owner[1]}
                    yield Row(table, {**key, "pid": str(uuid.uuid4())}, is_given=False)
                key = {"eid": eid, "probe_name": one.name}
                new.append(Row(table, {**key, "pid": pid, "model": one.model, "serial": one.serial}))
        yield from new

    def _known(self, found: Iterable[str]) -> tuple[dict[str, Known | None], Keys]:
        """Return which session of the database each one is, and the keys that this source alone gave in them.

        One that this source alone gave under another id than its table's gets the table's.
        """
        by_identity = {given: self.by_identity.get(self.sessions[given].identity, []) for given in found}
        by_eid = {given: self.by_eid.get(self.sessions[given].eid) for given in found}
        eids = {one.eid for listed in by_identity.values() for one in listed}
        ours = self.adapter.given.ours(sorted(eids | {one.eid for one in by_eid.values() if one}))
        known: dict[str, Known | None] = {}
        for given, listed in by_identity.items():
            others = (one for one in listed if one.is_served or not self._is_ours(one.eid, ours))
            known[given] = by_eid[given] or next(others, None)
        return known, ours

    @staticmethod
    def _is_ours(eid: str, ours: Keys) -> bool:
        return name_of(session.Session) in ours.get(eid, {})

    def _session_rows(self, given: str, known: Known | None, ours: Keys) -> Iterator[Row]:
        found = self.sessions[given]
        if known is not None and known.is_served:
            return
        if known is not None and known.lab != found.lab and not self._is_ours(known.eid, ours):
            raise Clash(
                f"Session {given} is {known.lab}'s already, by another source or by hand, and here it is {found.lab}'s."
            )
        more: dict[str, Any] = {"task_protocol": found.task_protocol, "start_time": found.start_time}
        if known is not None and known.eid != found.eid:  # another source has brought it
            eid = known.eid
            yield Row(
                session.Session, {"eid": eid, **{name: value for name, value in more.items() if value is not None}}
            )
        else:
            if other := self.unlike.get((found.lab, found.subject)):
                raise Clash(differs("subject", found.subject, other))
            eid = found.eid
            yield from session_rows(self.subjects, *found.identity, eid, **more)
        for project in found.projects:
            yield Row(lab_schema.Project, {"project": project})
            yield Row(session.SessionProject, {"eid": eid, "project": project})

    def _found(self, given: str, group: Iterable[tuple]) -> tuple[list[Found], str]:
        """Return the datasets of a session, and what is wrong with others, if so."""
        keeps_ids = self.sessions[given].keeps_ids
        folder = session_folder(*self.sessions[given].identity)
        found: dict[str, Found] = {}
        ids: dict[str, str] = {}
        odd: list[str] = []
        for _, dataset_id, rel_path, collection, name, size, md5, exists, is_default, qc, kind in group:
            path = rel_path or join_rel_path(collection, "", name or "")
            place, left_out = _judge(path)
            dataset_id = str(dataset_id)
            if ids.get(path) == dataset_id:
                left_out = "the same row is there twice"
            if left_out:
                self.tell(f"{self.tables.root}/{folder}/{path}", left_out)
                continue
            if not _ID(dataset_id):
                odd.append(f"the id {dataset_id} of {path} is not a UUID of version 3 or 4 in lower case")
                continue
            if path in ids:
                odd.append(f"{path} has the ids {ids[path]} and {dataset_id}")
                self.unclear.update((ids[path], dataset_id))
                found.pop(path, None)
                continue
            ids[path] = dataset_id
            if dataset_id in self.unclear:
                continue
            found[path] = Found(
                place,
                f"{folder}/{path}",
                None if is_missing(size) or int(size) < 0 else int(size),
                _text(md5).lower(),
                None if is_missing(is_default) else bool(is_default),
                dataset_id if keeps_ids else None,
                bool(exists),
                _more(qc, kind),
            )
        return list(found.values()), f"Session {given}: {'; '.join(odd)}. Correct them, for ONE." if odd else ""

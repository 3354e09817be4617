"""What the tables say, as plain rows and as ONE-api's frames; the only module of ONE's core that asks the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import labweave.database
from labweave.database.finding import Finder, FoundCopy, FoundDataset, FoundInsertion, FoundSession, Wanted
from labweave.formats.alf.names import join_rel_path
from labweave.one.matching import QC, severity

if TYPE_CHECKING:
    import pandas as pd

LARGE = 1000
"""Ids in one statement."""


class SessionRow(NamedTuple):
    """One session.

    Attributes
    ----------
    eid, lab, subject : str
        The lab is that of its path.
    date : date or None
    number : int
        0 where the session has none.
    start_time : datetime or None
    task_protocol : str
    projects : tuple of str
        Empty where they were not asked for.
    """

    eid: str
    lab: str
    subject: str
    date: dt.date | None
    number: int
    start_time: dt.datetime | None
    task_protocol: str
    projects: tuple[str, ...] = ()

    @property
    def folder(self) -> str | None:
        """Its path below the cache folder, None without a date."""
        return session_folder(self.lab, self.subject, self.date, self.number)


class DatasetRow(NamedTuple):
    """One dataset.

    Attributes
    ----------
    id : str
    eid : str or None
        None for an aggregate.
    session_path : str
        lab/Subjects/subject/date/NNN; "" for an aggregate.
    rel_path : str
        collection/#revision#/name below that.
    collection, revision, name : str
    type : str
        Its dataset type; "" for none.
    size : int or None
    hash : str
    exists : bool
        A copy of it is there.
    is_default : bool
    qc : str
    severity : int
        The value of `qc`.
    version : str
    """

    id: str
    eid: str | None
    session_path: str
    rel_path: str
    collection: str
    revision: str
    name: str
    type: str
    size: int | None
    hash: str
    exists: bool
    is_default: bool
    qc: str
    severity: int
    version: str

    @property
    def path(self) -> str:
        """Its path below the cache folder."""
        return f"{self.session_path}/{self.rel_path}" if self.session_path else self.rel_path


class PathRow(NamedTuple):
    """The path of datasets in any number of sessions."""

    rel_path: str
    collection: str
    revision: str
    severity: int = 0
    is_default: bool = True


def session_folder(lab: str | None, subject: str | None, date: dt.date | None, number: int | None) -> str | None:
    """Return lab/Subjects/subject/date/NNN, None without a date."""
    if date is None:
        return None
    return f"{f'{lab}/Subjects/' if lab else ''}{subject}/{date.isoformat()}/{number or 0:03d}"


class Tables:
    """Questions to the open database of this process."""

    @property
    def _finder(self) -> Finder:
        return Finder(labweave.database.current().connection)

    # -- sessions

    def eids(self, wanted: Wanted, limit: int | None = None) -> str:
        """Return the ids of sessions, newest first, in one text: see `labweave.one.uuids`."""
        return self._finder.eids(wanted, limit)

    def sessions(self, wanted: Wanted, limit: int | None = None) -> list[SessionRow]:
        """Return sessions with their projects, newest first."""
        projects = self._finder.projects(wanted)
        return [_session(row, projects.get(row.eid, ())) for row in self._finder.sessions(wanted, limit)]

    def sessions_of(self, eids: Sequence[str]) -> dict[str, SessionRow]:
        """Return the sessions among these, without their projects."""
        rows = (row for some in _parts(eids) for row in self._finder.sessions(Wanted(eids=some)))
        return {row.eid: _session(row) for row in rows}

    def sessions_at(
        self, places: Iterable[tuple[str, dt.date, int]]
    ) -> dict[tuple[str, dt.date, int], list[SessionRow]]:
        """Return the sessions of a subject on a day with a number; as a rule there is one."""
        found: dict[tuple[str, dt.date, int], list[SessionRow]] = {}
        for row in self._finder.sessions_at(sorted(set(places))):
            found.setdefault((row.subject, row.date, row.number), []).append(_session(row))  # type: ignore[arg-type]
        return found

    def names(self, column: str, fits: Callable[[str], Any] | None = None) -> list[str]:
        """Return the distinct values of a column that fit, sorted; see `labweave.database.finding.NAMES`."""
        return sorted(name for name in self._finder.names(column) if fits is None or fits(name))

    # -- datasets

    def datasets(self, eids: Sequence[str]) -> list[DatasetRow]:
        """Return the datasets of sessions, by session, collection, name and revision."""
        return [_dataset(row) for some in _parts(eids) for row in self._finder.datasets(eids=some)]

    def datasets_with(self, ids: Sequence[str]) -> dict[str, DatasetRow]:
        """Return the datasets among these ids."""
        return {row.dataset_id: _dataset(row) for some in _parts(ids) for row in self._finder.datasets(ids=some)}

    def aggregates(self) -> list[DatasetRow]:
        """Return the datasets of no session."""
        return [_dataset(row) for row in self._finder.datasets(is_aggregate=True)]

    def paths(self, outcomes: Sequence[str]) -> list[PathRow]:
        """Return the distinct paths of all datasets of sessions with these outcomes of quality control."""
        rows = self._finder.paths(outcomes)
        return [PathRow(join_rel_path(folder, revision, name), folder, revision) for folder, revision, name in rows]

    def dataset_names(self, first: str = "", before: str | None = None) -> list[str]:
        """Return the distinct file names from `first` on, up to but without `before`."""
        return self._finder.dataset_names(first, before)

    def copies(self, ids: Sequence[str]) -> dict[str, list[FoundCopy]]:
        """Return where copies of datasets are that exist, servers first."""
        found: dict[str, list[FoundCopy]] = {}
        for some in _parts(ids):
            for row in self._finder.copies(some):
                found.setdefault(row.dataset_id, []).append(row)
        return found

    def dataset_types(self) -> list[tuple[str, str, str]]:
        """Return name, pattern of file names and description of each dataset type, sorted."""
        return self._finder.dataset_types()

    def revisions(self) -> dict[str, str]:
        """Return the description of each revision."""
        return self._finder.revisions()

    # -- insertions

    def insertions(self, wanted: Wanted, **given: Sequence[str] | None) -> list[FoundInsertion]:
        """Return insertions of sessions; `given` are pids, names, models and serials."""
        return self._finder.insertions(wanted, **given)


def _parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + LARGE] for at in range(0, len(ids), LARGE))


def _session(row: FoundSession, projects: Sequence[str] = ()) -> SessionRow:
    return SessionRow(
        row.eid, row.lab, row.subject, row.date, row.number or 0, row.start_time, row.task_protocol, tuple(projects)
    )


def _dataset(row: FoundDataset) -> DatasetRow:
    if row.eid is None:
        path, folder = row.relative_path or join_rel_path(row.collection, row.revision, row.name), ""
    else:
        path = join_rel_path(row.collection, row.revision, row.name)
        folder = session_folder(row.lab, row.subject, row.date, row.number) or ""
    return DatasetRow(
        row.dataset_id, row.eid, folder, path, row.collection, row.revision, row.name, row.dataset_type or "",
        row.file_size, row.hash, bool(row.exists), bool(row.is_default), row.qc, severity(row.qc), row.version,
    )  # fmt: skip


# --- frames


def datasets_frame(rows: Sequence[DatasetRow], *, with_eid: bool = False) -> pd.DataFrame:
    """Return datasets as ONE-api's frame, indexed by id, or by eid and id, as UUIDs."""
    import numpy as np
    import pandas as pd

    from labweave.one.uuids import make_uuids

    ids: Any = pd.Index(make_uuids("".join(row.id for row in rows)), name="id", dtype=object)
    if with_eid:
        eids = make_uuids("".join(row.eid or "" for row in rows))
        ids = pd.MultiIndex.from_arrays([pd.Index(eids, dtype=object), ids], names=["eid", "id"])
    return pd.DataFrame(
        {
            "rel_path": pd.array([row.rel_path for row in rows], dtype="str"),
            "file_size": pd.array([row.size or 0 for row in rows], dtype="UInt64"),
            "hash": pd.array([row.hash or None for row in rows], dtype="str"),
            "exists": np.array([row.exists for row in rows], dtype=bool),
            "default_revision": np.array([row.is_default for row in rows], dtype=bool),
            "qc": pd.Categorical([row.qc for row in rows], categories=list(QC), ordered=True),
        },
        index=ids,
    )

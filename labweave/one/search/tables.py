"""What the tables say, as plain rows and as ONE-api's frames; the only module of ONE's core that asks the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import labweave.database
from labweave.database.connection import LabConnection
from labweave.formats.alf.names import join_rel_path
from labweave.one.search import warm
from labweave.one.search.matching import QC
from labweave.one.search.questions import Finder, FoundCopy, FoundDataset, FoundInsertion, FoundSession, Wanted
from labweave.one.search.uuids import make_uuids, split_eids

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
    """What is listed: a dataset of a session, or the path of datasets in any number of sessions.

    The attributes are those of `DatasetRow`; from `id` on they are set where they were asked for.
    """

    rel_path: str
    collection: str
    revision: str
    severity: int = 0
    is_default: bool = True
    qc: str = "NOT_SET"
    eid: str | None = None
    id: str = ""
    size: int | None = None
    hash: str = ""
    exists: bool = True


def session_folder(lab: str | None, subject: str | None, date: dt.date | None, number: int | None) -> str | None:
    """Return lab/Subjects/subject/date/NNN, None without a date."""
    if date is None:
        return None
    return f"{f'{lab}/Subjects/' if lab else ''}{subject}/{date.isoformat()}/{number or 0:03d}"


class Tables:
    """Questions to the open database of this process."""

    def __init__(self) -> None:
        self._last: tuple[LabConnection, Finder] | None = None

    @property
    def _finder(self) -> Finder:
        connection = labweave.database.current().connection
        if self._last is None or self._last[0] is not connection:
            self._last = connection, Finder(connection)
        return self._last[1]

    # -- sessions

    def eids(self, wanted: Wanted, limit: int | None = None) -> list[str]:
        """Return the ids of sessions, newest first."""
        return self._ask(
            warm.covers(wanted) and (limit is None or limit >= 0),
            lambda kept: kept.eids(wanted, limit),
            lambda: split_eids(self._finder.eids(wanted, limit)),
        )

    def uuids(self, wanted: Wanted) -> list[UUID]:
        """Return the ids of sessions, newest first."""
        return self._ask(
            warm.covers(wanted),
            lambda kept: kept.uuids(wanted),
            lambda: make_uuids(self._finder.eids(wanted)),
        )

    def sessions(self, wanted: Wanted, limit: int | None = None) -> list[SessionRow]:
        """Return sessions with their projects, newest first."""

        def of_server() -> list[SessionRow]:
            projects = self._finder.projects(wanted)
            return [_session(row, projects.get(row.eid, ())) for row in self._finder.sessions(wanted, limit)]

        return self._ask(
            warm.covers(wanted) and (limit is None or limit >= 0),
            lambda kept: [_session(*found) for found in kept.found(wanted, limit)],
            of_server,
        )

    def sessions_of(self, eids: Sequence[str]) -> dict[str, SessionRow]:
        """Return the sessions among these; their projects may be left out."""

        def of_server() -> dict[str, SessionRow]:
            rows = (row for some in _parts(eids) for row in self._finder.sessions(Wanted(eids=some)))
            return {row.eid: _session(row) for row in rows}

        wanted = Wanted(eids=eids)
        return self._ask(
            warm.covers(wanted), lambda kept: {row.eid: _session(row) for row, _ in kept.found(wanted)}, of_server
        )

    def folders(self, eids: Sequence[str | UUID]) -> list[str | None]:
        """Return the path of each session below the cache folder, None for an unknown one or one without a date."""

        def of_server() -> list[str | None]:
            texts = list(map(str, eids))
            parts = _parts(list(dict.fromkeys(texts)))
            rows = (row for some in parts for row in self._finder.sessions(Wanted(eids=some)))
            found = {row.eid: session_folder(row.lab, row.subject, row.date, row.number) for row in rows}
            return [found.get(text) for text in texts]

        return self._ask(len(eids) > warm.FEW, lambda kept: kept.folders(eids), of_server)

    def sessions_at(
        self, places: Iterable[tuple[str, dt.date, int]]
    ) -> dict[tuple[str, dt.date, int], list[SessionRow]]:
        """Return the sessions of a subject on a day with a number; as a rule there is one."""
        found: dict[tuple[str, dt.date, int], list[SessionRow]] = {}
        for row in self._finder.sessions_at(sorted(set(places))):
            found.setdefault((row.subject, row.date, row.number), []).append(_session(row))  # type: ignore[arg-type]
        return found

    def names(
        self,
        column: str,
        take: Callable[[Collection[str]], Iterable[str]] | None = None,
        *,
        to_search: bool = False,
    ) -> list[str]:
        """Return the distinct values of a column, or what to `take` of them, sorted.

        The columns are those of `labweave.one.search.questions.NAMES`. Values that no session has may be left out where
        they are only searched by.
        """
        kept_column = {"subject_with_sessions": "subject", "task_protocol": "task_protocol"}.get(column)
        if to_search and column in ("lab", "subject", "project"):
            kept_column = column
        found = self._ask(
            kept_column is not None,
            lambda kept: kept.names(str(kept_column)),
            lambda: self._finder.names(column),
        )
        return sorted(found if take is None else take(found))

    def _ask(self, can_be_kept: bool, of_kept: Callable[[warm.Sessions], Any], of_server: Callable[[], Any]) -> Any:
        """Return the answer of the sessions in memory, else that of the server."""
        if not can_be_kept:
            return of_server()
        keeper = warm.keeper_of(labweave.database.current())
        if (kept := keeper.sessions()) is not None:
            return of_kept(kept)
        with keeper.asking():
            return of_server()

    # -- datasets

    def datasets(self, eids: Sequence[str]) -> list[DatasetRow]:
        """Return the datasets of sessions, by session, collection, name and revision."""
        return _datasets(row for some in _parts(eids) for row in self._finder.datasets(eids=some))

    def listed(self, eid: str, *, whole: bool = False) -> list[PathRow]:
        """Return what a list of a session's datasets shows, in the same order; as a `whole` what a frame shows."""
        found = []
        for folder, name, revision, qc, is_default, *more in self._finder.listed(eid, whole=whole):
            path = f"#{revision}#/{name}" if revision else name
            path = f"{folder}/{path}" if folder else path
            id, size, hash, exists = more or ("", 0, "", 1)
            parts = path, folder, revision, QC[qc], is_default in _TRUE, qc, eid, id, int(size), hash, exists in _TRUE
            found.append(tuple.__new__(PathRow, parts))  # as its _make, without looking at the length
        return found

    def datasets_with(self, ids: Sequence[str]) -> dict[str, DatasetRow]:
        """Return the datasets among these ids."""
        rows = _datasets(row for some in _parts(ids) for row in self._finder.datasets(ids=some))
        return {row.id: row for row in rows}

    def aggregates(self) -> list[DatasetRow]:
        """Return the datasets of no session."""
        return _datasets(self._finder.datasets(is_aggregate=True))

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


_TRUE = (1, "1", "t")
"""As a value and in a text."""


def _parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + LARGE] for at in range(0, len(ids), LARGE))


def _session(row: FoundSession, projects: Sequence[str] = ()) -> SessionRow:
    return SessionRow(
        row.eid, row.lab, row.subject, row.date, row.number or 0, row.start_time, row.task_protocol, tuple(projects)
    )


def _datasets(rows: Iterable[FoundDataset]) -> list[DatasetRow]:
    found, eid, folder = [], None, ""
    for row in rows:
        if row.eid != eid:  # the datasets of one session follow each other
            eid = row.eid
            folder = session_folder(row.lab, row.subject, row.date, row.number) or "" if eid else ""
        path = join_rel_path(row.collection, row.revision, row.name)
        found.append(
            DatasetRow(
                row.dataset_id, eid, folder, path if eid else row.relative_path or path, row.collection, row.revision,
                row.name, row.dataset_type or "", row.file_size, row.hash, bool(row.exists), bool(row.is_default),
                row.qc, QC[row.qc], row.version,
            )
        )  # fmt: skip
    return found


# --- frames


def datasets_frame(rows: Sequence[DatasetRow | PathRow], *, with_eid: bool = False) -> pd.DataFrame:
    """Return datasets as ONE-api's frame, indexed by id, or by eid and id, as UUIDs."""
    import numpy as np
    import pandas as pd

    text, qc, names = _frame_types()
    ids = _index([row.id for row in rows], "id")
    if with_eid:
        ids = pd.MultiIndex.from_arrays([_index([row.eid or "" for row in rows], "eid"), ids])
    flags = np.array([[row.exists for row in rows], [row.is_default for row in rows]], bool)
    parts = (
        (_texts([row.rel_path for row in rows], text), [0]),
        (pd.arrays.IntegerArray(np.array([row.size or 0 for row in rows], np.uint64), np.zeros(len(rows), bool)), [1]),
        (_texts([row.hash or None for row in rows], text), [2]),
        (flags, [3, 4]),
        (pd.Categorical.from_codes(np.array([_CODES[row.qc] for row in rows], np.int8), dtype=qc, validate=False), [5]),
    )
    return _frame(parts, ids, names)


_CODES = {qc: code for code, qc in enumerate(QC)}


@lru_cache(maxsize=1)
def _frame_types() -> tuple[Any, Any, Any]:
    """Return the types of text and of quality control, and the columns: pandas takes long to make them from names."""
    import pandas as pd

    names = ["rel_path", "file_size", "hash", "exists", "default_revision", "qc"]
    return pd.api.types.pandas_dtype("str"), pd.CategoricalDtype(list(QC), ordered=True), pd.Index(names)


def _texts(values: list[str | None], kind: Any) -> Any:
    import pandas as pd

    if not isinstance(kind, pd.StringDtype):  # before pandas 3, text has no type of its own
        return _objects(values)
    if kind.storage != "pyarrow":
        return pd.array(values, dtype=kind)
    import pyarrow as pa

    return pd.arrays.ArrowStringArray(pa.array(values, pa.large_string()), dtype=kind)  # twice as fast


def _index(ids: Sequence[str], name: str) -> Any:
    """Return UUIDs, given as texts, as an index; its constructor would look at each of them."""
    import pandas as pd

    return pd.Index._simple_new(_objects(make_uuids("".join(ids))), name)  # type: ignore[attr-defined]


def _frame(parts: Iterable[tuple[Any, list[int]]], index: Any, names: Any) -> pd.DataFrame:
    """Return a frame of arrays, each with the places of its columns, as pandas keeps them: which is sooner done."""
    import numpy as np
    import pandas as pd

    try:
        from pandas.api.internals import create_dataframe_from_blocks
    except ImportError:  # before pandas 3
        columns: dict[int, Any] = {}
        for values, places in parts:
            columns.update(zip(places, values if len(places) > 1 else [values], strict=True))
        return pd.DataFrame(columns, index=index).set_axis(names, axis=1)
    return create_dataframe_from_blocks([(values, np.array(at)) for values, at in parts], index, names.view())


def _objects(values: Sequence[Any]) -> Any:
    import numpy as np

    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found

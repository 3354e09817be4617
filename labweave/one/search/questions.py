"""Questions to the database: sessions, datasets, copies of files and probe insertions, one statement for each.

The statements are plain SQL, as DataJoint's own fetch is too slow for whole tables. They compare text by code point on
every server. The plans that the servers make are in ``docs/one-queries.md``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from operator import itemgetter
from typing import Any

from labweave.database.connection import LabConnection
from labweave.database.reads import among, in_parts
from labweave.formats.alf.names import split_rel_path
from labweave.one.search.rows import (
    COLUMNS,
    DATASET_COLUMNS,
    CopyRow,
    DatasetRow,
    Holding,
    InsertionRow,
    SessionFilter,
    SessionRow,
    rank_of_repository,
)

FEW = 100
"""Sessions, sorted by subject, that are asked for by their places in one statement."""

SESSION_SQL = ", ".join(column.sql for name, column in COLUMNS.items() if name != "projects")
IS_THERE = "s.session_vanished is null"
DATASET_IS_THERE = f"d.dataset_vanished is null and {IS_THERE}"
DATASETS_AND_AGGREGATES = (
    f"select {', '.join(DATASET_COLUMNS.values())} from {{dataset}} d left join {{session}} s on s.eid = d.eid"
    f" where {DATASET_IS_THERE}"
)


class Finder:
    """Questions to one lab database."""

    def __init__(self, connection: LabConnection):
        self._connection = connection
        adapter = connection.adapter
        places = {
            "lab": "lab project",
            "subject": "subject",
            "session": "session session_project session_user probe_insertion",
            "dataset": "dataset file_record repository dataset_type revision",
        }
        self._tables = {
            table: adapter.make_full_table_name(connection.prefix + module, table)
            for module, tables in places.items()
            for table in tables.split()
        }
        self._tables["q_user"] = adapter.quote_identifier("user")

    # -- sessions ---------------------------------------------------------------------------

    def count(self) -> int:
        """Return how many sessions there are."""
        return self._rows(f"select count(*) from {{session}} s where {IS_THERE}")[0][0]

    def eids(self, wanted: SessionFilter, limit: int | None = None) -> list[str]:
        """Return the ids of sessions, newest first."""
        where, values = self._where(wanted)
        sql = f"select s.eid from {{session}} s where {where}{self._newest_first()}{_at_most(limit)}"
        return [row[0] for row in self._rows(sql, values)]

    def sessions(self, wanted: SessionFilter, limit: int | None = None) -> list[SessionRow]:
        """Return sessions, newest first."""
        return self._sessions(*self._where(wanted), self._newest_first() + _at_most(limit))

    def sessions_of(self, eids: Sequence[str]) -> dict[str, SessionRow]:
        """Return the sessions among these ids."""
        parts = in_parts(list(dict.fromkeys(eids)))
        return {row.eid: row for some in parts for row in self.sessions(SessionFilter({"eid": some}))}

    def sessions_at(self, places: Iterable[tuple[str, dt.date, int]]) -> list[SessionRow]:
        """Return the sessions of a subject on a day with a number, for any number of those; without their projects."""
        found: list[SessionRow] = []
        for part in in_parts(sorted(set(places)), FEW):
            days: dict[str, list[dt.date]] = {}
            for subject, day, _ in part:
                days.setdefault(subject, []).append(day)
            # Every server has an index for this. MariaDB looks through the whole table for `(a, b, c) in (...)`, and
            # through all sessions of these days for `a in (...) and b in (...)`.
            fits = " or ".join(f"s.subject = %s and {among('s.session_date', each)}" for each in days.values())
            sql = f"select {SESSION_SQL} from {{session}} s where {IS_THERE} and ({fits})"
            rows = self._rows(sql, [value for subject, each in days.items() for value in (subject, *each)])
            wanted = set(part)
            found += [row for row in starmap(SessionRow, rows) if (row.subject, row.date, row.number) in wanted]
        return found

    def _sessions(self, where: str, values: list[Any], after: str = "") -> list[SessionRow]:
        rows = self._rows(f"select {SESSION_SQL} from {{session}} s where {where}{after}", values)
        if not rows:
            return []
        source = f"{{session_project}} l join {{session}} s on s.eid = l.eid where {where}"
        projects: dict[str, list[str]] = {}
        for eid, project in self._rows(f"select l.eid, l.project from {source} order by l.eid, l.project", values):
            projects.setdefault(eid, []).append(project)
        return [SessionRow(*row, projects=tuple(projects.get(row[0], ()))) for row in rows]

    def names(self, column: str) -> list[str]:
        """Return the distinct values of a column of sessions, in no order."""
        source = "{session} s"
        if column == "projects":
            source = "{session_project} l join {session} s on s.eid = l.eid"
        return [row[0] for row in self._rows(f"select distinct {COLUMNS[column].sql} from {source} where {IS_THERE}")]

    # -- datasets ---------------------------------------------------------------------------

    def datasets(self, eids: Sequence[str]) -> list[DatasetRow]:
        """Return the datasets of sessions, sorted by session, collection, file name and revision."""
        columns = ", ".join(DATASET_COLUMNS.values())
        sql = f"select {columns} from {{dataset}} d join {{session}} s on s.eid = d.eid where {DATASET_IS_THERE}"
        return _sorted(_dataset(row) for row in self._rows_among(sql, "d.eid", eids))

    def datasets_of(self, eid: str, first: int) -> list[DatasetRow]:
        """Return the datasets of one session, sorted alike, of which only the first attributes are read.

        A list of `LISTED` of them takes half of the time. Servers plan this faster than a join.
        """
        columns = ", ".join([*DATASET_COLUMNS.values()][1:first])
        session = f"(select s.eid from {{session}} s where s.eid = %s and {IS_THERE})"
        sql = f"select {columns} from {{dataset}} d where d.eid = {session} and d.dataset_vanished is null"
        return _sorted(_dataset((eid, *row)) for row in self._rows(sql, [eid]))

    def datasets_with(self, ids: Sequence[str]) -> dict[str, DatasetRow]:
        """Return the datasets among these ids."""
        found = map(_dataset, self._rows_among(DATASETS_AND_AGGREGATES, "d.dataset_id", ids))
        return {row.id: row for row in self._aggregates_by_path(list(found))}

    def aggregates(self) -> list[DatasetRow]:
        """Return the datasets of no session, sorted as `datasets`."""
        found = map(_dataset, self._rows(f"{DATASETS_AND_AGGREGATES} and d.eid is null"))
        return _sorted(self._aggregates_by_path(list(found)))

    def _aggregates_by_path(self, rows: list[DatasetRow]) -> list[DatasetRow]:
        """Return datasets, those of no session with the folders that a copy of them has: their row has none."""
        sql = "select f.dataset_id, min(f.relative_path) from {file_record} f where f.file_vanished is null"
        ids = [row.id for row in rows if row.eid is None]
        paths = dict(self._rows_among(sql, "f.dataset_id", ids, " group by f.dataset_id"))
        return [row._replace(**split_rel_path(paths[row.id])._asdict()) if row.id in paths else row for row in rows]

    def paths(self, outcomes: Sequence[str]) -> list[DatasetRow]:
        """Return the distinct paths of the datasets of all sessions, with these outcomes of quality control."""
        fits, values = _outcome(outcomes)
        rows = self._rows(
            "select distinct d.collection, d.dataset_name, coalesce(d.revision, '') from {dataset} d"
            f" where d.eid is not null and d.dataset_vanished is null and {fits}",
            values,
        )
        return [DatasetRow(None, *row) for row in rows]

    def dataset_names(self, first: str, before: str | None) -> list[str]:
        """Return the distinct file names from `first` on, up to but without `before`.

        There are few names and many datasets, so each name is one step in the index to the next larger one.
        """
        found: list[str] = []
        until = "" if before is None else " and dataset_name < %s"
        while True:
            beyond = "> %s" if found else ">= %s"
            values = [found[-1] if found else first, *([] if before is None else [before])]
            sql = f"select min(dataset_name) from {{dataset}} where dataset_name {beyond}{until}"
            [(name,)] = self._rows(sql, values)
            if name is None:
                return found
            found.append(name)

    def copies(self, ids: Sequence[str]) -> dict[str, list[CopyRow]]:
        """Return where the copies of datasets are: of each dataset those on servers first, then by name."""
        sql = (
            "select f.dataset_id, r.repository, r.repository_kind, r.data_url, r.root_path, r.hostname, f.relative_path"
            " from {file_record} f join {repository} r on r.repository = f.repository"
            " where f.present and f.file_vanished is null and r.repository_vanished is null"
        )
        found: dict[str, list[CopyRow]] = {}
        for id, *copy in self._rows_among(sql, "f.dataset_id", ids):
            found.setdefault(id, []).append(CopyRow(*copy))
        for copies in found.values():
            copies.sort(key=lambda copy: (rank_of_repository(copy.kind), copy.repository, copy.relative_path))
        return found

    def dataset_types(self) -> list[tuple[str, str, str]]:
        """Return name, pattern of file names and description of each dataset type, sorted."""
        sql = "select dataset_type, filename_pattern, type_description from {dataset_type} where type_vanished is null"
        return sorted(tuple(row) for row in self._rows(sql))

    def revisions(self) -> dict[str, str]:
        """Return the description of each revision."""
        return dict(self._rows("select revision, revision_description from {revision} where revision_vanished is null"))

    # -- insertions -------------------------------------------------------------------------

    def insertions(self, wanted: SessionFilter, pids: Sequence[str] | None = None) -> list[InsertionRow]:
        """Return the probe insertions of sessions, the newest session first, by name; only those among `pids`."""
        where, values = self._where(wanted)
        if pids is not None:
            where += f" and i.pid in {_marks(pids)}"
            values += pids
        sql = (
            "select i.pid, i.eid, i.probe_name, i.model, i.serial from {probe_insertion} i"
            f" join {{session}} s on s.eid = i.eid where i.insertion_vanished is null and {where}"
            f"{self._newest_first()}, i.probe_name"
        )
        return [InsertionRow(*row) for row in self._rows(sql, values)]

    # -- SQL --------------------------------------------------------------------------------

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        return list(self._connection.query(sql.format_map(self._tables), tuple(values)).fetchall())

    def _rows_among(self, sql: str, column: str, values: Sequence[Any], after: str = "") -> Iterator[tuple]:
        for some in in_parts(values):
            yield from self._rows(f"{sql} and {column} in {_marks(some)}{after}", some)

    def _newest_first(self) -> str:
        """Order by the clock of the lab, then as ONE-api sorts; missing values come last."""
        columns = ("session_date", "start_time", "subject", "session_number")
        return " order by " + ", ".join(f"s.{name} desc{self._connection.adapter.nulls_last}" for name in columns)

    def _where(self, wanted: SessionFilter) -> tuple[str, list[Any]]:
        """Return the condition of a filter, and the values in it in their order."""
        where, values = [IS_THERE], []
        for name, given in wanted.among.items():
            column = COLUMNS[name]
            among = column.among or f"{column.sql} in {{}}"
            where.append(among.replace("{}", _marks(given)))
            values += list(given) * among.count("{}")
        for operator, day in ((">=", wanted.first), ("<=", wanted.last)):
            if day is not None:
                where.append(f"s.session_date {operator} %s")
                values.append(day)
        for operator, share in ((">=", wanted.at_least), ("<=", wanted.at_most)):
            if share is not None:
                where.append(f"s.n_trials > 0 and s.n_correct_trials * 100 {operator} s.n_trials * %s")
                values.append(share)
        for user in wanted.users:
            where.append("exists (select 1 from {session_user} u where u.eid = s.eid and u.{q_user} = %s)")
            values.append(user)
        for holding in wanted.holding:
            condition, more = _holding(holding)
            where.append(condition)
            values += more
        return " and ".join(where), values


def _marks(values: Sequence[Any]) -> str:
    """Return the list for ``in``; nothing is equal to null, so that stands for an empty one."""
    return f"({', '.join(['%s'] * len(values))})" if values else "(null)"


def _at_most(limit: int | None) -> str:
    return "" if limit is None else f" limit {int(limit)}"


def _dataset(row: Sequence[Any]) -> DatasetRow:
    eid, collection, name, revision, qc, is_default, *more = row
    if more:
        more[3] = bool(more[3])  # it exists: MySQL and MariaDB say 1
    return DatasetRow(eid, collection, name, revision, qc, bool(is_default), *more)


def _sorted(rows: Iterable[DatasetRow]) -> list[DatasetRow]:
    return sorted(rows, key=itemgetter(0, 1, 2, 3))  # either all have a session, or none


def _outcome(outcomes: Sequence[str]) -> tuple[str, list[str]]:
    fits = f"d.dataset_qc in {_marks(outcomes)}"
    return f"(d.dataset_qc is null or {fits})" if "NOT_SET" in outcomes else fits, list(outcomes)


def _holding(holding: Holding) -> tuple[str, list[str]]:
    """Return the condition that a session has such a dataset: a semi-join, so that it comes once whatever it has."""
    fits, values = ["d.eid = s.eid", "d.dataset_vanished is null", "d.is_present = true"], []
    for column, given in (("d.dataset_name", holding.names), ("d.dataset_type", holding.types)):
        if given is not None:
            fits.append(f"{column} in {_marks(given)}")
            values += given
    if holding.outcomes:
        condition, more = _outcome(holding.outcomes)
        fits.append(condition)
        values += more
    return f"exists (select 1 from {{dataset}} d where {' and '.join(fits)})", values

"""Finding sessions, datasets, insertions and copies of files: plain rows, one statement for each question.

`labweave.one` asks these questions thousands of times, and whole tables at once, which DataJoint's own fetch is too
slow for. Text is compared by code point on every server. What plans the servers make is in ``docs/one-queries.md``.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from labweave.database.connection import LabConnection
from labweave.database.reads import among
from labweave.errors import DatabaseError

NAMES = {
    "lab": "select l.lab from {lab} l union select s.path_lab from {session} s where s.path_lab > ''",
    "subject": "select distinct a.subject from {subject} a",
    "subject_with_sessions": "select distinct a.subject from {subject} a where exists"
    " (select 1 from {session} s where s.subject = a.subject and s.lab = a.lab and s.session_vanished is null)",
    "task_protocol": "select distinct s.task_protocol from {session} s where s.session_vanished is null",
    "session_location": "select distinct s.session_location from {session} s where s.session_vanished is null",
    "project": "select p.project from {project} p where exists"
    " (select 1 from {session_project} l where l.project = p.project)",
    "user": "select distinct u.{q_user} from {session_user} u",
    "model": "select distinct i.model from {probe_insertion} i where i.insertion_vanished is null",
    "serial": "select distinct i.serial from {probe_insertion} i where i.insertion_vanished is null",
    "probe_name": "select distinct i.probe_name from {probe_insertion} i where i.insertion_vanished is null",
}
"""What gives each distinct value of a column that sessions and insertions are searched by."""

LAB = "case when s.path_lab <> '' then s.path_lab else s.lab end"

SEPARATOR = "\x1f"
"""Between values that come as one text; where one of them has it, they come as rows."""

_plan_numbers = itertools.count(1)


@dataclass(frozen=True)
class Holding:
    """A dataset that a session must have, with a copy that is there.

    Attributes
    ----------
    names, types : tuple of str or None
        One of these file names, or of these dataset types; None for any.
    outcomes : tuple of str
        Of quality control; datasets without one are taken too if NOT_SET is among them.
    """

    names: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    outcomes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """Which sessions: all that is given must be true; None and empty stand for any.

    Attributes
    ----------
    eids, labs, subjects, protocols, locations : sequence of str or None
        One of these.
    containing : mapping
        Column -> texts, one of which its value must contain.
    projects : sequence of str or None
        The session belongs to one of these.
    users : sequence of str
        All of them ran it.
    numbers : sequence of int or None
    first, last : date or None
        Days, both included.
    at_least, at_most : float or None
        Right answers in percent of the trials.
    holding : sequence of Holding
        All of them.
    """

    eids: Sequence[str] | None = None
    labs: Sequence[str] | None = None
    subjects: Sequence[str] | None = None
    protocols: Sequence[str] | None = None
    locations: Sequence[str] | None = None
    containing: dict[str, Sequence[str]] = field(default_factory=dict)
    projects: Sequence[str] | None = None
    users: Sequence[str] = ()
    numbers: Sequence[int] | None = None
    first: dt.date | None = None
    last: dt.date | None = None
    at_least: float | None = None
    at_most: float | None = None
    holding: Sequence[Holding] = ()


class FoundSession(NamedTuple):
    """One session."""

    eid: str
    lab: str
    subject: str
    date: dt.date | None
    number: int | None
    start_time: dt.datetime | None
    task_protocol: str


class FoundDataset(NamedTuple):
    """One dataset, and the session it is of; that is None for aggregates."""

    dataset_id: str
    eid: str | None
    collection: str
    revision: str
    name: str
    dataset_type: str | None
    file_size: int | None
    hash: str
    is_default: bool
    qc: str
    version: str
    exists: bool
    lab: str | None
    subject: str | None
    date: dt.date | None
    number: int | None
    relative_path: str | None
    """Of a copy, for aggregates."""


class FoundCopy(NamedTuple):
    """One copy of a dataset that is there."""

    dataset_id: str
    repository: str
    kind: str
    data_url: str
    root_path: str
    hostname: str
    relative_path: str


class FoundInsertion(NamedTuple):
    """One probe in the brain."""

    pid: str
    eid: str
    probe_name: str
    model: str
    serial: str


Where = tuple[list[str], list[Any]]


class Finder:
    """Questions to one lab database.

    Parameters
    ----------
    connection : LabConnection
    """

    def __init__(self, connection: LabConnection):
        self._connection = connection
        self._is_mysql = connection.adapter.backend == "mysql"
        self._plans: tuple[Any, dict[str, str]] = None, {}
        name, quote = connection.adapter.make_full_table_name, connection.adapter.quote_identifier
        places = {
            "lab": "lab project",
            "subject": "subject",
            "session": "session session_project session_user probe_insertion",
            "dataset": "dataset file_record repository dataset_type revision",
        }
        self._tables = {t: name(connection.prefix + module, t) for module, ts in places.items() for t in ts.split()}
        self._tables["q_user"] = quote("user")

    # -- sessions ---------------------------------------------------------------------------

    def names(self, column: str) -> list[str]:
        """Return the distinct values of a column of `NAMES`, in no order."""
        found = None
        if self._is_mysql:
            name = "subject" if column == "subject_with_sessions" else column
            name = self._connection.adapter.quote_identifier(name)
            found = self._at_once([f"q.{name}"], f"from ({NAMES[column]}) q", ())
        return [row[0] for row in (self._rows(NAMES[column]) if found is None else found)]

    def eids(self, wanted: Wanted, limit: int | None = None) -> str:
        """Return the ids of sessions, newest first, one after the other in one text."""
        where, values = self._where(wanted)
        rows = f"from {{session}} s where {' and '.join(where)}"
        most = f" limit {int(limit)}" if limit is not None else ""
        if self._is_mysql:
            # A derived table keeps its order only with a limit.
            ordered = f"select s.eid {rows}{self._order()}{most or f' limit {2**63}'}"
            [(text, n)] = self._rows(f"select group_concat(eid separator ''), count(*) from ({ordered}) q", values)
        elif limit is None:
            # The index is read backwards, which puts missing values first: right as long as there are none.
            ordered = f"select s.eid, s.session_date, s.start_time, s.session_number {rows}{self._order('')}"
            [(text, n, n_times, n_gaps)] = self._rows(
                "select string_agg(eid, ''), count(*), count(start_time),"
                f" count(*) filter (where session_date is null or session_number is null) from ({ordered}) q",
                values,
            )
            n = n if n_gaps == 0 and n_times in (0, n) else -1
        else:
            text, n = "", -1
        if len(text or "") == 36 * n:
            return text or ""
        # Also for more than the server puts into one value.
        return "".join(row[0] for row in self._rows(f"select s.eid {rows}{self._order()}{most}", values))

    def sessions(self, wanted: Wanted, limit: int | None = None) -> list[FoundSession]:
        """Return sessions, newest first."""
        where, values = self._where(wanted)
        most = f" limit {int(limit)}" if limit is not None else ""
        sql = (
            f"select s.eid, {LAB}, s.subject, s.session_date, s.session_number, s.start_time, s.task_protocol"
            f" from {{session}} s where {' and '.join(where)}{self._order()}{most}"
        )
        return [FoundSession(*row) for row in self._rows(sql, values)]

    def projects(self, wanted: Wanted) -> dict[str, list[str]]:
        """Return the projects of each session that has some, sorted."""
        where, values = self._where(wanted)
        sql = (
            "select l.eid, l.project from {session_project} l join {session} s on s.eid = l.eid"
            f" where {' and '.join(where)} order by l.eid, l.project"
        )
        found: dict[str, list[str]] = {}
        for eid, project in self._rows(sql, values):
            found.setdefault(eid, []).append(project)
        return found

    def sessions_at(self, places: Iterable[tuple[str, dt.date, int]]) -> list[FoundSession]:
        """Return the sessions of a subject on a day with a number, for any number of those."""
        rows = [(subject, day.isoformat(), number) for subject, day, number in places]
        if self._is_mysql:
            unicode = f"character set utf8mb4 collate {self._connection.adapter.collation}"
            source = (
                "json_table(%s, '$[*]' columns (subject varchar(64) " + unicode + " path '$[0]',"
                " day date path '$[1]', number int path '$[2]')) k"
            )
            values: list[Any] = [json.dumps(rows, ensure_ascii=False)]
        else:
            source = "unnest(%s::text[], %s::date[], %s::int[]) k (subject, day, number)"
            values = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
        sql = (
            f"select s.eid, {LAB}, s.subject, s.session_date, s.session_number, s.start_time, s.task_protocol"
            f" from {source} join {{session}} s on s.subject = k.subject and s.session_date = k.day"
            " and s.session_number = k.number where s.session_vanished is null"
        )
        return [FoundSession(*row) for row in self._rows(sql, values)] if rows else []

    # -- datasets ---------------------------------------------------------------------------

    def datasets(
        self, *, eids: Sequence[str] | None = None, ids: Sequence[str] | None = None, is_aggregate: bool = False
    ) -> list[FoundDataset]:
        """Return the datasets of sessions, or those with certain ids, or those of no session.

        Sorted by session, collection, file name and revision.
        """
        where, values = ["d.dataset_vanished is null"], []
        for column, given in (("d.eid", eids), ("d.dataset_id", ids)):
            if given is not None:
                where.append(self._among(column, given, values))
        where.append("d.eid is null" if is_aggregate else "(d.eid is null or s.session_vanished is null)")
        if eids is not None:
            where[-1] = "s.session_vanished is null"
        path = "null"
        if eids is None:
            path = (
                "case when d.eid is null then (select min(f.relative_path) from {file_record} f"
                " where f.dataset_id = d.dataset_id and f.file_vanished is null) end"
            )
        sql = (
            "select d.dataset_id, d.eid, d.collection, coalesce(d.revision, ''), d.dataset_name, d.dataset_type,"
            " d.file_size, d.hash, d.is_default, coalesce(d.dataset_qc, 'NOT_SET'), d.version,"
            f" d.is_present, {LAB}, s.subject, s.session_date, s.session_number, {path}"
            f" from {{dataset}} d {'' if eids is not None else 'left '}join {{session}} s on s.eid = d.eid"
            f" where {' and '.join(where)}"
        )
        found = [FoundDataset(*row) for row in self._rows(sql, values)]
        return sorted(found, key=lambda row: (row.eid or "", row.collection, row.name, row.revision))

    def listed(self, eid: str, *, whole: bool = False) -> list[tuple[Any, ...]]:
        """Return the datasets of a session, sorted as `datasets`.

        Each is a collection, file name, revision, quality control and whether it is the default, all of which an index
        has; as a `whole` also its id, size, hash and whether a copy is there.
        """
        columns = ["d.collection", "d.dataset_name", "coalesce(d.revision, '')", "coalesce(d.dataset_qc, 'NOT_SET')"]
        columns += ["d.is_default"]
        if whole:
            columns += ["d.dataset_id", "coalesce(d.file_size, 0)", "d.hash", "d.is_present"]
        source = (
            "from {dataset} d where d.eid = %s and d.dataset_vanished is null"
            " and exists (select 1 from {session} s where s.eid = %s and s.session_vanished is null)"
        )
        found = self._at_once(columns, source, (eid, eid))
        if found is None:
            found = self._rows(f"select {', '.join(columns)} {source}", (eid, eid))
        return sorted(found, key=itemgetter(0, 1, 2))

    def _at_once(self, columns: Sequence[str], source: str, values: Sequence[Any]) -> list[tuple[str, ...]] | None:
        """Return rows as text, which come as one value: the driver takes long for each row. None if they can't."""
        fields = f", '{SEPARATOR}', ".join(columns)
        if self._is_mysql:
            text = f"group_concat({fields} separator '{SEPARATOR}')"
        else:
            text = f"string_agg(concat({fields}), '{SEPARATOR}')"
        [(text, n)] = self._planned(f"select {text}, count(*) {source}", values)
        parts = (text or "").split(SEPARATOR) if n else []
        return list(zip(*[iter(parts)] * len(columns), strict=True)) if len(parts) == n * len(columns) else None

    def paths(self, outcomes: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return the distinct collections, revisions and file names of all datasets of sessions."""
        values: list[Any] = []
        sql = (
            "select distinct d.collection, coalesce(d.revision, ''), d.dataset_name from {dataset} d"
            f" where d.eid is not null and d.dataset_vanished is null and {self._outcome(outcomes, values)}"
        )
        return [tuple(row) for row in self._rows(sql, values)]

    def dataset_names(self, first: str, before: str | None) -> list[str]:
        """Return the distinct file names from `first` on, up to but without `before`: a step in the index for each."""
        if self._is_mysql:  # which makes these steps for a plain question only
            until, values = ("", [first]) if before is None else (" and dataset_name < %s", [first, before])
            rows = self._rows(f"select distinct dataset_name from {{dataset}} where dataset_name >= %s{until}", values)
            return [row[0] for row in rows]
        until, values = "", [first]
        if before is not None:
            until = " and dataset_name < %s"
            values = [first, before, before]
        sql = (
            "with recursive names (name) as (select min(dataset_name) from {dataset} where dataset_name >= %s" + until
            + " union all select (select min(dataset_name) from {dataset} where dataset_name > names.name" + until
            + ") from names where names.name is not null) select name from names where name is not null"
        )  # fmt: skip
        return [row[0] for row in self._planned(sql, values)]

    def copies(self, dataset_ids: Sequence[str]) -> list[FoundCopy]:
        """Return where copies of datasets are: for each dataset servers first, by name."""
        values: list[Any] = []
        sql = (
            "select f.dataset_id, r.repository, r.repository_kind, r.data_url, r.root_path, r.hostname, f.relative_path"
            " from {file_record} f join {repository} r on r.repository = f.repository"
            f" where {self._among('f.dataset_id', dataset_ids, values)} and f.present and f.file_vanished is null"
            " and r.repository_vanished is null"
        )
        order = ("server", "bucket")
        found = [FoundCopy(*row) for row in self._rows(sql, values)]
        return sorted(
            found,
            key=lambda r: (r.dataset_id, order.index(r.kind) if r.kind in order else 2, r.repository, r.relative_path),
        )

    def dataset_types(self) -> list[tuple[str, str, str]]:
        """Return name, pattern of file names and description of each dataset type, sorted."""
        sql = "select dataset_type, filename_pattern, type_description from {dataset_type} where type_vanished is null"
        return sorted(tuple(row) for row in self._rows(sql))

    def revisions(self) -> dict[str, str]:
        """Return the description of each revision."""
        return dict(self._rows("select revision, revision_description from {revision} where revision_vanished is null"))

    # -- insertions -------------------------------------------------------------------------

    def insertions(
        self,
        wanted: Wanted,
        *,
        pids: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        serials: Sequence[str] | None = None,
    ) -> list[FoundInsertion]:
        """Return insertions of sessions, the newest session first, by name."""
        where, values = self._where(wanted)
        for column, given in (("pid", pids), ("probe_name", names), ("model", models), ("serial", serials)):
            if given is not None:
                where.append(self._among(f"i.{column}", given, values))
        sql = (
            "select i.pid, i.eid, i.probe_name, i.model, i.serial from {probe_insertion} i"
            f" join {{session}} s on s.eid = i.eid where i.insertion_vanished is null and {' and '.join(where)}"
            f"{self._order()}, i.probe_name"
        )
        return [FoundInsertion(*row) for row in self._rows(sql, values)]

    # -- SQL --------------------------------------------------------------------------------

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple]:
        return list(self._connection.query(sql.format_map(self._tables), tuple(values)).fetchall())

    def _planned(self, sql: str, values: Sequence[Any]) -> list[tuple]:
        """Return the rows of a statement that is asked often: PostgreSQL plans it once, half of the time it takes."""
        if self._is_mysql:
            return self._rows(sql, values)
        session = self._connection._conn
        if self._plans[0] is not session:
            self._plans = session, {}
        names = self._plans[1]
        if sql not in names:
            name = f"labweave_{next(_plan_numbers)}"
            marks = iter(range(1, len(values) + 1))
            self._connection.query(
                f"prepare {name} as " + re.sub("%s", lambda _: f"${next(marks)}", sql.format_map(self._tables))
            )
            names[sql] = name
        try:
            return self._rows(f"execute {names[sql]} ({', '.join(['%s'] * len(values))})", values)
        except DatabaseError:
            if self._connection._conn is session:
                raise
        return self._planned(sql, values)  # the session was lost, and its plans with it

    def _order(self, nulls: str = " nulls last") -> str:
        """Newest first, by the clock of the lab, then as ONE-api sorts; missing values last."""
        columns = ("session_date", "start_time", "subject", "session_number")
        return " order by " + ", ".join(f"s.{name} desc{'' if self._is_mysql else nulls}" for name in columns)

    def _among(self, column: str, given: Sequence[Any], values: list[Any]) -> str:
        if not given:
            return "1 = 0"
        values.extend(given)
        return among(column, given) if len(given) > 1 else f"{column} = %s"

    def _contains(self, column: str, texts: Sequence[str], values: list[Any]) -> str:
        values.extend(texts)
        one = f"locate(%s, {column}) > 0" if self._is_mysql else f"strpos({column}, %s) > 0"
        return f"({' or '.join([one] * len(texts))})" if texts else "1 = 0"

    def _outcome(self, outcomes: Sequence[str], values: list[Any]) -> str:
        fits = self._among("d.dataset_qc", outcomes, values)
        return f"(d.dataset_qc is null or {fits})" if "NOT_SET" in outcomes else fits

    def _where(self, wanted: Wanted) -> Where:
        where, values = ["s.session_vanished is null"], []
        for column, given in (
            ("s.eid", wanted.eids),
            ("s.subject", wanted.subjects),
            ("s.task_protocol", wanted.protocols),
            ("s.session_location", wanted.locations),
            ("s.session_number", wanted.numbers),
        ):
            if given is not None:
                where.append(self._among(column, given, values))
        if wanted.labs is not None:
            where.append(self._of_labs(wanted.labs, values))
        for column, texts in wanted.containing.items():
            where.append(self._contains(f"s.{column}", texts, values))
        if wanted.first is not None:
            where.append("s.session_date >= %s")
            values.append(wanted.first)
        if wanted.last is not None:
            where.append("s.session_date <= %s")
            values.append(wanted.last)
        for operator, share in ((">=", wanted.at_least), ("<=", wanted.at_most)):
            if share is not None:
                where.append(f"s.n_trials > 0 and s.n_correct_trials * 100 {operator} s.n_trials * %s")
                values.append(share)
        if wanted.projects is not None:
            fits = self._among("l.project", wanted.projects, values)
            where.append(f"exists (select 1 from {{session_project}} l where l.eid = s.eid and {fits})")
        for user in wanted.users:
            where.append("exists (select 1 from {session_user} u where u.eid = s.eid and u.{q_user} = %s)")
            values.append(user)
        for holding in wanted.holding:
            where.append(self._holding(holding, values))
        return where, values

    def _of_labs(self, labs: Sequence[str], values: list[Any]) -> str:
        """Few sessions, or none, lie in another lab's folder than their subject's; without them an index is enough."""
        own = f"s.path_lab = '' and {self._among('s.lab', labs, values)}"
        folders = {row[0] for row in self._rows("select distinct s.path_lab from {session} s where s.path_lab > ''")}
        if others := sorted(folders.intersection(labs)):
            return f"({own} or {self._among('s.path_lab', others, values)})"
        return own

    def _holding(self, holding: Holding, values: list[Any]) -> str:
        fits = ["d.eid = s.eid", "d.dataset_vanished is null", "d.is_present = true"]
        for column, given in (("d.dataset_name", holding.names), ("d.dataset_type", holding.types)):
            if given is not None:
                fits.append(self._among(column, given, values))
        if holding.outcomes:
            fits.append(self._outcome(holding.outcomes, values))
        return f"exists (select 1 from {{dataset}} d where {' and '.join(fits)})"

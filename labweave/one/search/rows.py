"""What ONE finds: sessions, datasets, copies of their files, and probe insertions.

A row is made once, from the database, and keeps these names on its whole way through ONE. The columns of a session are
declared here and nowhere else: searches, details, ONE's cache tables and the sessions in memory follow from them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, get_type_hints

from labweave.formats.alf.names import join_rel_path, parse_name


class Column(NamedTuple):
    """Where a column of a session comes from, and how people ask for it.

    Attributes
    ----------
    sql : str
        What gives its value; `s` is the table of sessions.
    search : str
        Its name in ONE-api's searches, if they look for its text.
    legacy : tuple of str
        Its names in the seed's searches.
    is_whole : bool
        The seed's searches compare the whole text, else they look for a part of it.
    in_tables : str
        Its type in ONE's cache tables, if they have it.
    among : str
        The condition that the value is one of several, which stand in each ``{}``; ``sql in {}`` if left out.
    """

    sql: str
    search: str = ""
    legacy: tuple[str, ...] = ()
    is_whole: bool = False
    in_tables: str = ""
    among: str = ""


_LAB = Column(
    "case when s.path_lab <> '' then s.path_lab else s.lab end",
    search="laboratory",
    legacy=("lab", "labs"),
    is_whole=True,
    in_tables="string",
    # The same condition on bare columns, which an index can answer.
    among="(s.path_lab = '' and s.lab in {} or s.path_lab in {})",
)
_SUBJECT = Column("s.subject", search="subject", legacy=("subject", "subjects"), is_whole=True, in_tables="string")
_PROTOCOL = Column("s.task_protocol", search="task_protocol", legacy=("task_protocol", "task"), in_tables="string")
_LOCATION = Column("s.session_location", search="location", legacy=("location", "lab_location"))
_PROJECTS = Column(
    "l.project",
    search="projects",
    legacy=("project",),
    in_tables="string",
    among="exists (select 1 from {session_project} l where l.eid = s.eid and l.project in {})",
)


class SessionRow(NamedTuple):
    """One session: each attribute is a column, in the order in which details show them.

    The lab is that of its path, which can be another than the subject's. Projects are sorted. Details leave out the
    location.
    """

    eid: Annotated[str, Column("s.eid")]
    lab: Annotated[str, _LAB]
    subject: Annotated[str, _SUBJECT]
    date: Annotated[dt.date | None, Column("s.session_date", in_tables="date32")]
    number: Annotated[int | None, Column("s.session_number", in_tables="uint16")]
    start_time: Annotated[dt.datetime | None, Column("s.start_time")]
    task_protocol: Annotated[str, _PROTOCOL]
    location: Annotated[str, _LOCATION]
    projects: Annotated[tuple[str, ...], _PROJECTS] = ()

    @property
    def folder(self) -> str | None:
        """Its path below the cache folder, None without a date."""
        return _folder(self.lab, self.subject, self.date, self.number)

    def details(self) -> dict[str, Any]:
        """Return what searches show: the id and the columns, times as text, and 0 for a missing number."""
        shown = {name: value for name, value in self._asdict().items() if name not in ("eid", "location")}
        start = None if self.start_time is None else self.start_time.isoformat()
        projects = ",".join(self.projects)
        return {"id": self.eid, **shown, "number": self.number or 0, "start_time": start, "projects": projects}


def _annotations(row: type) -> dict[str, Any]:
    hints = get_type_hints(row, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}


COLUMNS: dict[str, Column] = _annotations(SessionRow)
"""The columns of a session by name."""

TABLE_COLUMNS = {name: column.in_tables for name, column in COLUMNS.items() if column.in_tables}
"""Those in ONE's cache tables, besides the id, and their types."""


class CopyRow(NamedTuple):
    """One copy of a dataset's file that is there, below the root of a repository.

    The root is an address, and a folder of the repository's own machine; "" if there is none.
    """

    repository: str
    kind: str
    data_url: str
    root_path: str
    hostname: str
    relative_path: str


def rank_of_repository(kind: str) -> int:
    """Return in which order copies are asked for: those on servers, in buckets, elsewhere."""
    return {"server": 0, "bucket": 1}.get(kind, 2)


class DatasetRow(NamedTuple):
    """One dataset; each attribute from the database has its SQL beside it, where `d` is the dataset, `s` its session.

    Attributes
    ----------
    eid : str or None
        None for an aggregate, which belongs to no session.
    collection, name, revision : str
    qc : str
    is_default : bool
        It is the revision to load when none is named.
    id : str
        Lists have the attributes before this one, and frames those before the type; the others are empty there.
    size : int or None
    hash, type, version : str
        "" for none; the type is its dataset type.
    exists : bool
        A copy of it is there.
    lab, subject, date, number
        Of its session.
    copies : tuple of CopyRow
        Servers first; only where its file is asked for.
    """

    eid: Annotated[str | None, "d.eid"]
    collection: Annotated[str, "d.collection"]
    name: Annotated[str, "d.dataset_name"]
    revision: Annotated[str, "coalesce(d.revision, '')"] = ""
    qc: Annotated[str, "coalesce(d.dataset_qc, 'NOT_SET')"] = "NOT_SET"
    is_default: Annotated[bool, "d.is_default"] = True
    id: Annotated[str, "d.dataset_id"] = ""
    size: Annotated[int | None, "d.file_size"] = None
    hash: Annotated[str, "d.hash"] = ""
    exists: Annotated[bool, "d.is_present"] = True
    type: Annotated[str, "coalesce(d.dataset_type, '')"] = ""
    version: Annotated[str, "d.version"] = ""
    lab: Annotated[str | None, _LAB.sql] = None
    subject: Annotated[str | None, "s.subject"] = None
    date: Annotated[dt.date | None, "s.session_date"] = None
    number: Annotated[int | None, "s.session_number"] = None
    copies: tuple[CopyRow, ...] = ()

    @property
    def object(self) -> str:
        """Its ALF object, "" for a name that is none of ALF."""
        parts = parse_name(self.name)
        return (parts.object if parts else None) or ""

    @property
    def rel_path(self) -> str:
        """Its path below the session: collection/#revision#/name."""
        return join_rel_path(self.collection, self.revision, self.name)

    @property
    def session_path(self) -> str:
        """Return lab/Subjects/subject/date/NNN; "" for an aggregate, and for a session without a date."""
        return _folder(self.lab, self.subject, self.date, self.number) or ""

    @property
    def path(self) -> str:
        """Its path below the cache folder."""
        return f"{self.session_path}/{self.rel_path}" if self.session_path else self.rel_path


DATASET_COLUMNS: dict[str, str] = _annotations(DatasetRow)
"""The attributes of a dataset and their SQL."""

LISTED, IN_FRAMES = 6, 10
"""How many of them, from the first on, a list of datasets needs, which an index has; and how many ONE-api's frames."""


class InsertionRow(NamedTuple):
    """One probe in the brain."""

    pid: str
    eid: str
    probe_name: str
    model: str
    serial: str


@dataclass(frozen=True)
class Holding:
    """A dataset that a session must have, with a copy that is there.

    It has one of these file names, one of these dataset types (None for any), and one of these outcomes of quality
    control (datasets without one are taken too if NOT_SET is among them).
    """

    names: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    outcomes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions: all that is given must be true, so the empty filter takes all.

    `among` maps names of columns to values, one of which the session must have; none of them fits no session. All
    `users` ran it. It is from the day `first` to the day `last`, both included. Its right answers are from `at_least`
    to `at_most` percent of the trials. It has datasets for all in `holding`.
    """

    among: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    users: Sequence[str] = ()
    first: dt.date | None = None
    last: dt.date | None = None
    at_least: float | None = None
    at_most: float | None = None
    holding: Sequence[Holding] = ()


def _folder(lab: str | None, subject: str | None, date: dt.date | None, number: int | None) -> str | None:
    """Return the path of a session as it is, also where `labweave.formats.alf.names.session_folder` refuses it."""
    if date is None:
        return None
    return f"{f'{lab}/Subjects/' if lab else ''}{subject}/{date.isoformat()}/{number or 0:03d}"

"""What each endpoint of Alyx offers: its fields, stamps and filters, and which table its records go to.

Only what is listed here is ever asked: Alyx ignores a filter that it does not know and
sends everything.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labweave.formats.alyx import records
from labweave.formats.alyx.fields import FIELDS, KINDS, Field, last_part
from labweave.formats.alyx.records import Facts, Mapped


@dataclass(frozen=True)
class Resource:
    """One kind of record.

    Attributes
    ----------
    name : str
        Also of its parts, cursors and records in the tables; its fields are ``FIELDS[name]``, and
        `records.COMPLETE` has what adds to its rows.
    table : str
        Where its rows go, for example ``session.Session``.
    stem : str
        What the columns begin with that each of these tables has: ``<stem>_json`` for what has no column, and
        ``<stem>_vanished`` for the run in which the record was gone.
    key : tuple of str
        The columns by which the rows of its lists of names belong to its own.
    identity : str
        The column that holds the record's uuid where the table's key is a name, which may change.
    ranged : str
        The field whose value lies in an id range, for lists that take ``django=``; empty for those that are asked
        whole.
    stamp : str
        The field to filter changes by.
    session_path : str or None
        How a filter reaches the session; None where it can't.
    by_nickname : bool
        Its records name their subject by nickname alone, which two labs may share.
    """

    name: str
    table: str
    stem: str
    key: tuple[str, ...] = ()
    identity: str = ""
    ranged: str = "id"
    stamp: str = ""
    session_path: str | None = None
    by_nickname: bool = False

    @property
    def path(self) -> str:
        """The path of the endpoint."""
        return "/sessions" if self.name == "session-details" else f"/{self.name}"

    @property
    def subject_path(self) -> str | None:
        """How a filter reaches the subject; None where it can't."""
        if self.name == "subjects":
            return ""
        if self.by_nickname:
            return "subject__"
        return None if self.session_path is None else f"{self.session_path}subject__"

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of its records."""
        return FIELDS[self.name]

    @property
    def mark(self) -> str:
        """The column that says in which run a row had vanished."""
        return f"{self.stem}_vanished"

    @property
    def json(self) -> str:
        """The column of what has no column; empty for the list of sessions, which is not all of a session."""
        return "" if self.name == "sessions" else f"{self.stem}_json"

    @property
    def stamp_field(self) -> str:
        """The field that shows a record's stamp; empty where only the filter knows it."""
        return self.stamp if self.stamp in {field.name for field in self.fields} else ""

    @functools.cached_property
    def volatile(self) -> frozenset[str]:
        """The fields that are not compared."""
        return frozenset(field.name for field in self.fields if field.is_volatile)

    @functools.cached_property
    def _used(self) -> frozenset[str]:
        return frozenset(
            {"subject_uuid", "procedure_names", *(field.name for field in self.fields if field.kind != "extra")}
        )

    @functools.cached_property
    def _columns(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.has_column)

    @functools.cached_property
    def lists(self) -> tuple[tuple[str, str, str], ...]:
        """The field of each list of names, and the table and column they go to."""
        found = [(field.name, field.column.rpartition(".")) for field in self.fields if field.kind == "names"]
        return tuple((name, table, column) for name, (table, _dot, column) in found)

    def to_rows(self, record: Mapping[str, Any], facts: Facts) -> Mapped:
        """Return the rows of a record.

        Raises
        ------
        Postponed
            It names something that is not in the tables yet.
        KeyError
            A field is missing without which there is no row.
        """
        row: dict[str, Any] = facts.subject(record.get("subject_uuid")) if self.by_nickname else {}
        for field in self._columns:
            value = record[field.name] if field.is_required else record.get(field.name)
            row[field.column] = facts.utc(value) if field.kind == "stamp" else KINDS[field.kind].to_column(value)
        if self.json:
            row[self.json] = records.leftover(record, self._used)
        links = {}
        for name, table, column in self.lists:
            owner = {key: row[key] for key in self.key}
            links[table] = [{**owner, column: item} for item in records.tidy_names(record.get(name))]
        mapped = Mapped([(self.table, row)], links)
        if complete := records.COMPLETE.get(self.name):
            complete(record, facts, mapped)
        return mapped

    def to_record(self, row: Mapping[str, Any], base_url: str) -> dict[str, Any]:
        """Return a row as a record: what its columns say, and what its json keeps."""
        record = {field.name: field.default for field in self.fields if field.kind == "extra"}
        if self.json:
            record |= row[self.json] or {}
        if self.by_nickname:
            record["subject"] = row["subject"]
        for field in self._columns:
            if field.is_shown:
                value = KINDS[field.kind].to_alyx(row[field.column])
                is_address = field.kind == "id" and field.of and value
                record[field.name] = f"{base_url}/{field.of}/{value}" if is_address else value
        return record

    def record_id(self, record: Mapping[str, Any]) -> str:
        """Return what identifies a record: its uuid, or its name where it has none."""
        if self.name == "water-restriction":
            return f"{record.get('subject_uuid', '')}@{record['start_time']}"
        if self.name == "locations":
            return f"{record.get('lab') or ''}/{record['name']}"
        if record.get("id") not in (None, ""):
            return str(record["id"]).lower()
        if self.ranged:
            return last_part(record["url"])
        return str(record["name"])

    def digest(self, record: Mapping[str, Any]) -> str:
        """Return a hash of a record: without what the server computes, names in order, null as ''."""
        names, head = _compared(tuple(record), self.volatile)
        values = [value if type(value := record[name]) in _PLAIN else _canonical(name, value) for name in names]
        return hashlib.sha256(head + repr(tuple(values)).encode("utf-8", "surrogatepass")).hexdigest()


_PLAIN = {str, int, float, bool}
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, check_circular=False).encode


@functools.lru_cache(maxsize=200)
def _compared(fields: tuple[str, ...], volatile: frozenset[str]) -> tuple[list[str], bytes]:
    """Return the fields that are compared, and what a hash begins with."""
    names = sorted(set(fields) - volatile)
    return names, f"{records.VERSION} {names} ".encode()


def _canonical(name: str, value: Any) -> Any:
    """Return the value of a field; those that mean the same are equal, and of one form."""
    if value is None:
        return ""
    if type(value) is list and name not in records.FREE_FIELDS:  # a server names them in any order
        if set(map(type, value)) <= {str}:
            return sorted(value)
        return sorted(map(_encode, value)), "json"
    return _encode(value), "json"


_LISTED = (
    Resource("data-repository", "dataset.Repository", "repository", ranged=""),
    Resource("procedures", "session.Procedure", "procedure", identity="procedure_uuid", ranged=""),
    Resource("data-formats", "dataset.DataFormat", "format", identity="data_format_uuid", ranged=""),
    Resource("dataset-types", "dataset.DatasetType", "type", identity="dataset_type_uuid", ranged=""),
    Resource("revisions", "dataset.Revision", "revision", identity="revision_uuid", ranged=""),
    Resource("tags", "dataset.Tag", "tag", identity="tag_uuid", ranged=""),
    Resource("labs", "lab.Lab", "lab", ("lab",), ranged=""),
    Resource("users", "lab.LabMember", "member", ("user",), identity="user_uuid", ranged=""),
    Resource("projects", "lab.Project", "project", ("project",), ranged=""),
    Resource("locations", "lab.Location", "location", ranged=""),
    Resource("brain-regions", "session.BrainRegion", "region", ranged=""),
    Resource("subjects", "subject.Subject", "subject", ("lab", "subject"), identity="subject_uuid"),
    Resource("weighings", "subject.Weighing", "weighing", by_nickname=True),
    Resource("water-administrations", "subject.WaterAdministration", "administration", by_nickname=True),
    Resource("water-restriction", "subject.WaterRestriction", "restriction", ranged="subject__id", by_nickname=True),
    Resource("surgeries", "subject.Surgery", "surgery", by_nickname=True),
    Resource(
        "sessions", "session.Session", "session", ("eid",), stamp="auto_datetime", session_path="", by_nickname=True
    ),
    Resource("session-details", "session.Session", "session", ("eid",), stamp="auto_datetime", session_path=""),
    Resource("notes", "session.SessionNote", "note"),
    Resource(
        "insertions",
        "session.ProbeInsertion",
        "insertion",
        identity="pid",
        stamp="auto_datetime",
        session_path="session__",
    ),
    Resource(
        "trajectories", "session.Trajectory", "trajectory", stamp="datetime", session_path="probe_insertion__session__"
    ),
    Resource(
        "channels",
        "session.Channel",
        "channel",
        stamp="trajectory_estimate__datetime",
        session_path="trajectory_estimate__probe_insertion__session__",
    ),
    Resource(
        "datasets", "dataset.Dataset", "dataset", ("dataset_id",), stamp="auto_datetime", session_path="session__"
    ),
    Resource("files", "dataset.FileRecord", "file", stamp="dataset__auto_datetime", session_path="dataset__session__"),
)

RESOURCES: dict[str, Resource] = {resource.name: resource for resource in _LISTED}
"""Every resource that is synced, those that others need first."""

"""What each endpoint of Alyx offers: filters, order, stamps, and which table its records go to.

Only what is listed here is ever asked: Alyx ignores a filter that it does not know and
sends everything.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labweave.formats.alyx import records
from labweave.formats.alyx.records import Facts, Mapped


@dataclass(frozen=True)
class Resource:
    """One kind of record.

    Attributes
    ----------
    name : str
        Also of its parts, cursors and records in the tables.
    path : str
        Of the endpoint.
    table : str
        Where its rows go, for example ``session.Session``.
    mark : str
        The attribute that says in which run a row had vanished.
    to_rows : callable
        Record and `Facts` -> `Mapped`.
    identity : str
        The attribute that holds the record's uuid where the table's key is a name, which
        may change.
    ranged : str
        The field whose value lies in an id range, for lists that take ``django=``; empty for
        those that are asked whole.
    stamp : str
        The field to filter changes by.
    stamp_field : str
        Where a row shows its stamp; empty where only the filter knows it.
    volatile : tuple of str
        Fields that the server computes, or that have a list of their own.
    subject_path, session_path : str or None
        How a filter reaches the subject and the session; None where it can't.
    by_nickname : bool
        Its records name their subject by nickname alone, which two labs may share.
    """

    name: str
    path: str
    table: str
    mark: str
    to_rows: Callable[[Mapping[str, Any], Facts], Mapped]
    identity: str = ""
    ranged: str = "id"
    stamp: str = ""
    stamp_field: str = ""
    volatile: tuple[str, ...] = ()
    subject_path: str | None = None
    session_path: str | None = None
    by_nickname: bool = False

    def record_id(self, record: Mapping[str, Any]) -> str:
        """Return what identifies a record: its uuid, or its name where it has none."""
        if self.name == "water-restriction":
            return f"{record.get('subject_uuid', '')}@{record['start_time']}"
        if self.name == "locations":
            return f"{record.get('lab') or ''}/{record['name']}"
        if record.get("id"):
            return str(record["id"]).lower()
        if self.ranged:
            return records.tail(record["url"])
        return str(record["name"])

    def digest(self, record: Mapping[str, Any]) -> str:
        """Return a hash of a record: without what the server computes, names in order, null as ''."""
        return self.digests([record])[0]

    def digests(self, found: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return the `digest` of each record; field by field, which is faster."""
        digests: list[str] = []
        for fields, group in itertools.groupby(found, key=tuple):
            listed = list(group)
            names = sorted(name for name in fields if name not in self.volatile)
            columns = [_canonical(name, [record[name] for record in listed]) for name in names]
            head = f"{records.VERSION} {names} ".encode()
            rows = map(repr, zip(*columns, strict=True)) if columns else ["()"] * len(listed)
            digests += [hashlib.sha256(head + row.encode("utf-8", "surrogatepass")).hexdigest() for row in rows]
        return digests


_PLAIN = {str, int, float, bool}
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, check_circular=False).encode


def _canonical(name: str, values: list[Any]) -> Iterable[Any]:
    """Return the values of one field; those that mean the same are equal, and of one form."""
    if set(map(type, values)) <= _PLAIN:
        return values
    is_ordered = name in records.FREE_FIELDS
    return [value if type(value) in _PLAIN else _canonical_value(value, is_ordered) for value in values]


def _canonical_value(value: Any, is_ordered: bool) -> Any:
    if value is None:
        return ""
    if type(value) is list and not is_ordered:  # a server names them in any order
        if set(map(type, value)) <= {str}:
            return sorted(value)
        return sorted(map(_encode, value)), "json"
    return _encode(value), "json"


_SUBJECT_VOLATILE = (
    "url",
    "age_weeks",
    "alive",
    "reference_weight",
    "last_water_restriction",
    "expected_water",
    "remaining_water",
    "session_projects",
)
_DETAIL_VOLATILE = (
    "url",
    "wateradmin_session_related",
    "data_dataset_session_related",
    "probe_insertion",
    "field_of_view",
    "notes",
)

_LISTED = (
    Resource(
        "data-repository",
        "/data-repository",
        "dataset.Repository",
        "repository_vanished",
        records.repository,
        ranged="",
    ),
    Resource(
        "procedures",
        "/procedures",
        "session.Procedure",
        "procedure_vanished",
        records.procedure,
        identity="procedure_uuid",
        ranged="",
    ),
    Resource(
        "data-formats",
        "/data-formats",
        "dataset.DataFormat",
        "format_vanished",
        records.data_format,
        identity="data_format_uuid",
        ranged="",
    ),
    Resource(
        "dataset-types",
        "/dataset-types",
        "dataset.DatasetType",
        "type_vanished",
        records.dataset_type,
        identity="dataset_type_uuid",
        ranged="",
    ),
    Resource(
        "revisions",
        "/revisions",
        "dataset.Revision",
        "revision_vanished",
        records.revision,
        identity="revision_uuid",
        ranged="",
    ),
    Resource("tags", "/tags", "dataset.Tag", "tag_vanished", records.tag, identity="tag_uuid", ranged=""),
    Resource("labs", "/labs", "lab.Lab", "lab_vanished", records.lab, ranged=""),
    Resource(
        "users",
        "/users",
        "lab.LabMember",
        "member_vanished",
        records.user,
        identity="user_uuid",
        ranged="",
        volatile=("subjects_responsible",),
    ),
    Resource("projects", "/projects", "lab.Project", "project_vanished", records.project, ranged=""),
    Resource("locations", "/locations", "lab.Location", "location_vanished", records.location, ranged=""),
    Resource(
        "subjects",
        "/subjects",
        "subject.Subject",
        "subject_vanished",
        records.subject,
        identity="subject_uuid",
        volatile=_SUBJECT_VOLATILE,
        subject_path="",
    ),
    Resource(
        "weighings",
        "/weighings",
        "subject.Weighing",
        "weighing_vanished",
        records.weighing,
        volatile=("url", "subject"),
        subject_path="subject__",
        by_nickname=True,
    ),
    Resource(
        "water-administrations",
        "/water-administrations",
        "subject.WaterAdministration",
        "administration_vanished",
        records.water_administration,
        volatile=("url", "subject"),
        subject_path="subject__",
        by_nickname=True,
    ),
    Resource(
        "water-restriction",
        "/water-restriction",
        "subject.WaterRestriction",
        "restriction_vanished",
        records.water_restriction,
        ranged="subject__id",
        volatile=("subject",),
        subject_path="subject__",
        by_nickname=True,
    ),
    Resource(
        "surgeries",
        "/surgeries",
        "subject.Surgery",
        "surgery_vanished",
        records.surgery,
        volatile=("subject",),
        subject_path="subject__",
        by_nickname=True,
    ),
    Resource(
        "sessions",
        "/sessions",
        "session.Session",
        "session_vanished",
        records.listed_session,
        stamp="auto_datetime",
        volatile=("url",),
        subject_path="subject__",
        session_path="",
        by_nickname=True,
    ),
    Resource(
        "session-details",
        "/sessions",
        "session.Session",
        "session_vanished",
        records.session,
        stamp="auto_datetime",
        stamp_field="auto_datetime",
        volatile=_DETAIL_VOLATILE,
        subject_path="subject__",
        session_path="",
    ),
    Resource("notes", "/notes", "session.SessionNote", "note_vanished", records.note),
    Resource(
        "insertions",
        "/insertions",
        "session.ProbeInsertion",
        "insertion_vanished",
        records.insertion,
        identity="pid",
        stamp="auto_datetime",
        stamp_field="auto_datetime",
        volatile=("session_info", "datasets"),
        subject_path="session__subject__",
        session_path="session__",
    ),
    Resource(
        "trajectories",
        "/trajectories",
        "session.Trajectory",
        "trajectory_vanished",
        records.trajectory,
        stamp="datetime",
        stamp_field="datetime",
        volatile=("session", "probe_name"),
        subject_path="probe_insertion__session__subject__",
        session_path="probe_insertion__session__",
    ),
    Resource(
        "channels",
        "/channels",
        "session.Channel",
        "channel_vanished",
        records.channel,
        stamp="trajectory_estimate__datetime",
        subject_path="trajectory_estimate__probe_insertion__session__subject__",
        session_path="trajectory_estimate__probe_insertion__session__",
    ),
    Resource(
        "datasets",
        "/datasets",
        "dataset.Dataset",
        "dataset_vanished",
        records.dataset,
        stamp="auto_datetime",
        stamp_field="auto_datetime",
        volatile=("url", "file_records", "protected", "public", "experiment_number"),
        subject_path="session__subject__",
        session_path="session__",
    ),
    Resource(
        "files",
        "/files",
        "dataset.FileRecord",
        "file_vanished",
        records.file_record,
        stamp="dataset__auto_datetime",
        volatile=("url",),
        subject_path="dataset__session__subject__",
        session_path="dataset__session__",
    ),
)

RESOURCES: dict[str, Resource] = {resource.name: resource for resource in _LISTED}
"""Every resource that is synced, those that others need first."""

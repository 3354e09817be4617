"""Alyx's fields and where labweave keeps them: one line a field.

Rows of records (`labweave.formats.alyx.records`), records of rows (`labweave.one.alyx.records`), filters and the
table in the guide follow from these lines. Only what joins tables, or nests one record in another, is written there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labweave.formats.plain import tidy


def last_part(url: str) -> str:
    """Return the id at the end of an address."""
    return url.rstrip("/").rpartition("/")[2].lower()


def _name(value: Any) -> str:
    if value is None:
        raise ValueError("its name is null")
    return tidy(value)


def _object(value: Any) -> Any:
    """Return a JSON value that every backend gives back: bare text is put into an object."""
    return None if value in (None, "") else {"value": value} if isinstance(value, str) else value


def _bare(value: Any) -> Any:
    """Return JSON as the source had it."""
    is_wrapped = isinstance(value, dict) and value.keys() == {"value"} and isinstance(value["value"], str)
    return value["value"] if is_wrapped else value


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


def _iso(value: Any) -> str | None:
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value


@dataclass(frozen=True)
class Kind:
    """How values of one kind are converted.

    Attributes
    ----------
    compared_as : str
        How filters compare: "text", "uuid", "number", "time", "date", "bool", "qc" or "json".
    to_column : callable
        Alyx's value -> the column's.
    to_alyx : callable
        The column's value -> Alyx's.
    """

    compared_as: str
    to_column: Callable[[Any], Any] = lambda value: value
    to_alyx: Callable[[Any], Any] = lambda value: value


KINDS = {
    "name": Kind("text", _name),
    "link": Kind(
        "text", lambda value: None if value is None else tidy(value) or None
    ),  # the name of something that has a table of its own
    "label": Kind("text", _as_text, lambda value: value or None),  # the name of something that has none
    "text": Kind("text", _as_text),
    "optional": Kind("text", lambda value: value or None),
    "raw": Kind("text"),
    "uuid": Kind("uuid"),
    "id": Kind("uuid", lambda value: last_part(value) if value else None),  # Alyx may send an address
    "number": Kind("number"),
    "flag": Kind("bool", bool, bool),
    "date": Kind("date", lambda value: value or None, _iso),
    "time": Kind("time", lambda value: value or None, _iso),
    "stamp": Kind("time", to_alyx=_iso),  # by the server's clock; `records.Facts.utc` converts it
    "qc": Kind("qc", lambda value: value or None, lambda value: value or "NOT_SET"),
    "json": Kind("json", _object, _bare),
    "names": Kind("text"),  # a list of names, each a row of a table between the two
}
"""Kind -> how it is converted. Two more have no column: "extra" stays in the row's json, "other" is worked out."""


@dataclass(frozen=True)
class Field:
    """One field of Alyx's records.

    Attributes
    ----------
    name : str
        Alyx's.
    column : str
        Of the resource's table; of "names", table and column, for example ``lab.ProjectMember.user``.
    kind : str
        One of `KINDS`, "extra" or "other".
    filter : {"", "path", "exact", "iexact", "icontains"}
        No filter; a field of ``django=`` only; also a filter of its own name, with this lookup.
    of : str
        The resource that the value names; of an "id", that Alyx shows it as the address of such a record.
    is_volatile : bool
        The server computes it, or it has a list of its own: not compared, not kept in the row's json.
    is_required : bool
        A record without it is refused.
    is_shown : bool
        It is in the records that the tables answer with.
    default : any
        What an "extra" is shown as where the source has none.
    """

    name: str
    column: str = ""
    kind: str = "extra"
    filter: str = ""
    of: str = ""
    is_volatile: bool = False
    is_required: bool = False
    is_shown: bool = True
    default: Any = None

    @property
    def has_column(self) -> bool:
        """Say whether it is a column of the resource's own table."""
        return self.kind not in ("extra", "other", "names")


def _computed(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, kind="other", is_volatile=True) for name in names)


_JSON = Field("json")
_SEARCHED_JSON = Field("json", filter="path")
_URL = Field("url", kind="other", is_volatile=True)
_OF_SUBJECT = Field("subject", kind="other", is_volatile=True)
_BY_USER = Field("user", "user", "link", "exact", of="users")


def _id(column: str, *, filter: str = "exact", is_required: bool = True, is_shown: bool = True) -> Field:
    return Field("id", column, "uuid", filter, is_required=is_required, is_shown=is_shown)


def _named(column: str, *others: Field, **of_id: Any) -> tuple[Field, ...]:
    """Return the fields of what is known by its name, which is the column, and may have an id."""
    name = Field("name", column, "name", "exact", is_required=True)
    return _id(f"{column}_uuid", is_required=False, **of_id), name, *others, _JSON


_LISTED_SESSION = (
    _id("eid"),
    Field("subject", kind="other"),
    Field("lab", kind="other"),
    Field("start_time", "start_time", "time", "exact"),
    Field("number", "session_number", "number", "exact"),
    Field("task_protocol", "task_protocol", "text", "icontains"),
    Field("projects", "session.SessionProject.project", "names", "icontains", of="projects"),
    _URL,
)

FIELDS: dict[str, tuple[Field, ...]] = {
    "data-repository": (
        Field("name", "repository", "name", "exact", is_required=True),
        Field("data_url", "data_url", "text", "path"),
        Field("globus_path", "root_path", "text"),
        Field("hostname", "hostname", "text", "path"),
        Field("timezone", "repository_time_zone", "text"),
        Field("globus_is_personal"),
        Field("globus_endpoint_id"),
        Field("repository_type"),
        _JSON,
    ),
    "procedures": _named("procedure", Field("description", "procedure_description", "text"), filter=""),
    "data-formats": _named(
        "data_format",
        Field("description", "format_description", "text"),
        Field("file_extension", "file_extension", "text"),
    ),
    "dataset-types": _named(
        "dataset_type",
        Field("description", "type_description", "text"),
        Field("filename_pattern", "filename_pattern", "text", "exact"),
    ),
    "revisions": _named(
        "revision",
        Field("description", "revision_description", "text"),
        Field("created_datetime", "revision_created", "stamp"),
    ),
    "tags": _named(
        "tag",
        Field("description", "tag_description", "text"),
        Field("protected", "is_protected", "flag", "exact"),
        Field("public", "is_public", "flag", "exact"),
        Field("hash", "tag_hash", "text"),
    ),
    "labs": _named(
        "lab",
        Field("institution", "institution", "text", "exact"),
        Field("address", "address", "text"),
        Field("timezone", "time_zone", "optional", "exact"),
        Field("repositories", "dataset.LabRepository.repository", "names", of="data-repository"),
        filter="",
        is_shown=False,
    ),
    "users": (
        _id("user_uuid"),
        Field("username", "user", "name", "exact", is_required=True),
        Field("email", "email", "text"),
        Field("is_stock_manager", "is_stock_manager", "flag"),
        Field("lab", "lab.LabMembership.lab", "names", of="labs"),
        Field("allowed_users", "lab.Delegation.delegate", "names", of="users"),
        *_computed("subjects_responsible"),
    ),
    "projects": (
        Field("name", "project", "name", "exact", is_required=True),
        Field("description", "project_description", "text"),
        Field("users", "lab.ProjectMember.user", "names", of="users"),
    ),
    "locations": _named("location", Field("lab", "lab", "link", "exact", of="labs"), filter="", is_shown=False),
    "brain-regions": (
        Field("id", "brain_region", "number", "exact", is_required=True),
        Field("acronym", "acronym", "name", "iexact", is_required=True),
        Field("name", "region_name", "text", "icontains"),
        Field("description", "region_description", "label", "icontains"),
        Field("parent", "parent_region", "number", "exact"),
        *_computed("related_descriptions"),
    ),
    "subjects": (
        _id("subject_uuid"),
        Field("nickname", "subject", "name", "exact", is_required=True),
        Field("lab", "lab", "link", "exact", of="labs"),
        Field("sex", "sex", "text", "exact"),
        Field("birth_date", "birth_date", "date", "exact"),
        Field("death_date", "death_date", "date", "exact"),
        Field("species", "species", "link", "exact"),
        Field("strain", "strain", "link", "exact"),
        Field("line", "line", "link", "exact"),
        Field("litter", "litter", "label", "exact"),
        Field("source", "breeder", "link", "exact"),
        Field("responsible_user", "responsible_user", "link", "exact", of="users"),
        Field("description", "subject_description", "text", "exact"),
        Field("projects", "subject.SubjectProject.project", "names", "exact", of="projects"),
        Field("genotype", kind="other"),
        _URL,
        *_computed("alive", "age_weeks", "session_projects", "last_water_restriction", "reference_weight"),
        *_computed("expected_water", "remaining_water"),
        _SEARCHED_JSON,
    ),
    "weighings": (
        Field("url", "weighing_uuid", "id", "exact", of="weighings", is_volatile=True, is_required=True),
        _OF_SUBJECT,
        Field("date_time", "weighing_time", "time", "exact"),
        Field("weight", "weight", "number", "exact", is_required=True),
        _BY_USER,
    ),
    "water-administrations": (
        Field(
            "url", "administration_uuid", "id", "exact", of="water-administrations", is_volatile=True, is_required=True
        ),
        _OF_SUBJECT,
        Field("date_time", "administration_time", "time", "exact"),
        Field("water_administered", "volume", "number", "exact"),
        Field("water_type", "water_type", "label", "exact"),
        Field("adlib", "adlib", "flag", "exact"),
        Field("session", "given_in_eid", "id", "exact"),
        _BY_USER,
    ),
    "water-restriction": (
        _OF_SUBJECT,
        Field("start_time", "restriction_start", "time", "exact", is_required=True),
        Field("end_time", "restriction_end", "time", "exact"),
        Field("reference_weight", "reference_weight", "number", "path"),
    ),
    "surgeries": (
        _id("surgery_uuid"),
        _OF_SUBJECT,
        Field("start_time", "surgery_start", "time"),
        Field("end_time", "surgery_end", "time"),
        Field("name", "surgery_name", "text"),
        Field("outcome_type", "surgery_outcome", "text"),
        Field("narrative", "surgery_narrative", "text"),
        *(Field(name) for name in ("lab", "location", "users", "procedures", "implant_weight")),
        _JSON,
    ),
    "sessions": _LISTED_SESSION,
    "session-details": (
        *_LISTED_SESSION,
        Field("end_time", "end_time", "time", "exact"),
        Field("type", "session_type", "text", "iexact"),
        Field("location", "session_location", "label", "icontains"),
        Field("qc", "qc", "qc", "exact"),
        Field("extended_qc", "extended_qc", "json", "path"),
        Field("narrative", "narrative", "text", "exact"),
        Field("n_trials", "n_trials", "number", "exact"),
        Field("n_correct_trials", "n_correct_trials", "number", "exact"),
        Field("parent_session", "parent_eid", "id", "exact", of="sessions"),
        Field("auto_datetime", "source_stamp", "stamp", "exact"),
        Field("users", "session.SessionUser.user", "names", "path", of="users"),
        Field("procedures", "session.SessionProcedure.procedure", "names", "icontains", of="procedures"),
        *_computed("wateradmin_session_related", "data_dataset_session_related", "probe_insertion", "field_of_view"),
        *_computed("notes"),
        _SEARCHED_JSON,
    ),
    "notes": (
        _id("note_uuid"),
        Field("content_type", kind="other"),
        Field("object_id", "eid", "uuid", "exact", is_required=True),
        Field("date_time", "note_time", "time", "path"),
        Field("text", "note_text", "text", "path"),
        _BY_USER,
        Field("image"),
        _SEARCHED_JSON,
    ),
    "insertions": (
        _id("pid"),
        Field("session", "eid", "id", is_required=True),
        Field("name", "probe_name", "name", "exact", is_required=True),
        Field("model", "model", "label", "exact"),
        Field("serial", "serial", "text", "exact"),
        Field("auto_datetime", "insertion_stamp", "stamp", "exact"),
        Field("chronic_insertion"),
        *_computed("session_info", "datasets"),
        _SEARCHED_JSON,
    ),
    "trajectories": (
        _id("trajectory_uuid"),
        Field("probe_insertion", kind="other"),
        Field("provenance", "provenance", "text", "exact"),
        *(Field(name, name, "number", "exact") for name in ("x", "y", "z", "depth", "theta", "phi", "roll")),
        Field("coordinate_system", "coordinate_system", "label", "exact"),
        Field("datetime", "trajectory_stamp", "stamp", "exact"),
        Field("chronic_insertion"),
        *_computed("session", "probe_name"),
        _SEARCHED_JSON,
    ),
    "channels": (
        _id("channel_uuid"),
        Field("trajectory_estimate", "trajectory_uuid", "uuid", is_required=True),
        Field("name", "channel_name", "text", "exact"),
        Field("axial", "axial", "number", "exact"),
        Field("lateral", "lateral", "number", "exact"),
        Field("x", "channel_x", "number", "exact"),
        Field("y", "channel_y", "number", "exact"),
        Field("z", "channel_z", "number", "exact"),
        Field("brain_region", "brain_region", "number", "exact"),
        _SEARCHED_JSON,
    ),
    "datasets": (
        Field("url", "dataset_id", "id", "exact", of="datasets", is_volatile=True, is_required=True),
        Field("session", "eid", "id", of="sessions"),
        Field("collection", "collection", "text", "exact"),
        Field("revision", "revision", "link", "exact", of="revisions"),
        Field("name", "dataset_name", "raw", "exact", is_required=True),
        Field("dataset_type", "dataset_type", "link", "exact", of="dataset-types"),
        Field("data_format", "data_format", "link", "exact", of="data-formats"),
        Field("file_size", "file_size", "number", "exact"),
        Field("hash", "hash", "text", "exact"),
        Field("version", "version", "text", "exact"),
        Field("qc", "dataset_qc", "qc", "exact"),
        Field("default_dataset", "is_default", "flag", "exact"),
        Field("created_by", "created_by", "link", "exact", of="users"),
        Field("created_datetime", "created", "stamp", "exact"),
        Field("auto_datetime", "dataset_stamp", "stamp", "exact"),
        Field("tags", "dataset.DatasetTag.tag", "names", "exact", of="tags"),
        *_computed("file_records", "protected", "public", "experiment_number"),
        _SEARCHED_JSON,
    ),
    "files": (
        Field("url", "file_record_id", "id", "exact", of="files", is_volatile=True, is_required=True),
        Field("dataset", "dataset_id", "id", of="datasets", is_required=True),
        Field("data_repository", "repository", "link", "exact", of="data-repository", is_required=True),
        Field("relative_path", "relative_path", "raw", "exact", is_required=True),
        Field("exists", "present", "flag", "exact", is_required=True),
        Field("name", default=""),
        _JSON,
    ),
}
"""Resource -> its fields."""

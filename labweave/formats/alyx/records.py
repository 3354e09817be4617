"""Alyx's records as table rows: one function per kind of record, plain dictionaries in and out.

Every field goes to an attribute, to a linked row, or into the row's ``<table>_json`` under
Alyx's own name; left out is only what the server computes from other records.
"""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from labweave.formats.plain import tidy

VERSION = 1
"""Counts up when the same record gives other rows, so that every record is written again."""

FREE_FIELDS = frozenset({"json", "extended_qc", "arguments"})
"""Fields that hold any JSON; the order of a list means something there."""

ZYGOSITY = {"-/-": "Absent", "+/-": "Heterozygous", "+/+": "Homozygous", "+": "Present"}
OUTCOMES = {"a": "acute", "r": "recovery", "n": "non-recovery"}

Row = tuple[str, dict[str, Any]]
"""Table, for example ``lab.Lab``, and values."""


class Postponed(Exception):
    """The record names something that is not in the tables yet."""


@dataclass(frozen=True)
class Facts:
    """What a record does not say itself.

    Attributes
    ----------
    subjects : mapping
        Subject uuid -> lab and name of the subject.
    procedures : mapping
        Procedure uuid -> name.
    zone : ZoneInfo or None
        Of the server, for its stamps; UTC without.
    """

    subjects: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    procedures: Mapping[str, str] = field(default_factory=dict)
    zone: ZoneInfo | None = None

    def subject(self, subject_uuid: str | None) -> dict[str, str]:
        """Return the key of a subject."""
        if subject_uuid is None or subject_uuid not in self.subjects:
            raise Postponed(f"subject.Subject {subject_uuid}")
        lab, name = self.subjects[subject_uuid]
        return {"lab": lab, "subject": name}

    def utc(self, stamp: str | None) -> dt.datetime | None:
        """Return a stamp of the server in UTC, without a zone."""
        if not stamp:
            return None
        time = dt.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
        if time.tzinfo is None and self.zone is None:
            return time
        time = time if time.tzinfo is not None else time.replace(tzinfo=self.zone)
        return time.astimezone(dt.timezone.utc).replace(tzinfo=None)


@dataclass
class Mapped:
    """The rows of one record.

    Attributes
    ----------
    rows : list of (table, values)
        Parents first, the record's own row last.
    links : dict
        Table -> the only rows that the record has there.
    """

    rows: list[Row]
    links: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def tail(url: str) -> str:
    """Return the id at the end of an address."""
    return url.rstrip("/").rpartition("/")[2].lower()


def row_key(resource: str, record_id: str) -> tuple[str, ...]:
    """Return the key of a record's row, for the records whose id makes the key."""
    if resource == "water-restriction":
        return (str(uuid.uuid3(uuid.NAMESPACE_URL, f"alyx:water-restriction:{record_id}")),)
    if resource == "locations":
        lab, _, name = record_id.partition("/")
        return tidy(lab), tidy(name)
    return (tidy(record_id),)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _name(value: Any) -> str | None:
    """Return a name, or None for none."""
    return tidy(value) or None if value is not None else None


def _names(values: Any) -> list[str]:
    return sorted({tidy(value) for value in values or ()})


def _rest(record: Mapping[str, Any], *used: str) -> dict[str, Any] | None:
    """Return the fields that have no attribute and are not empty."""
    rest = {}
    for name in _unused(tuple(record), used):
        value = record[name]
        if value is not None and value != "":
            rest[name] = _in_order(name, value)
    return rest or None


@functools.lru_cache(maxsize=200)
def _unused(fields: tuple[str, ...], used: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in fields if name not in used)


def _in_order(name: str, value: Any) -> Any:
    """Return a list of names sorted: the server sends them in any order."""
    names = name not in FREE_FIELDS and isinstance(value, list) and all(isinstance(item, str) for item in value)
    return sorted(value) if names else value


def _day(time: str | None) -> str | None:
    return time[:10] if time else None


def repository(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/data-repository``."""
    extra = record.get("json")
    if isinstance(extra, dict) and extra.get("bucket_name"):
        kind = "bucket"
    elif record.get("globus_is_personal"):
        kind = "personal"
    else:
        kind = "server" if record.get("data_url") else "other"
    row = {
        "repository": tidy(record["name"]),
        "repository_kind": kind,
        "data_url": _text(record.get("data_url")),
        "root_path": _text(record.get("globus_path")),
        "hostname": _text(record.get("hostname")),
        "repository_time_zone": _text(record.get("timezone")),
        "repository_json": _rest(record, "name", "data_url", "globus_path", "hostname", "timezone"),
    }
    return Mapped([("dataset.Repository", row)])


def procedure(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/procedures``."""
    row = {
        "procedure": tidy(record["name"]),
        "procedure_uuid": record.get("id"),
        "procedure_description": _text(record.get("description")),
        "procedure_json": _rest(record, "id", "name", "description"),
    }
    return Mapped([("session.Procedure", row)])


def data_format(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/data-formats``."""
    row = {
        "data_format": tidy(record["name"]),
        "data_format_uuid": record.get("id"),
        "file_extension": _text(record.get("file_extension")),
        "format_description": _text(record.get("description")),
        "format_json": _rest(record, "id", "name", "file_extension", "description"),
    }
    return Mapped([("dataset.DataFormat", row)])


def dataset_type(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/dataset-types``."""
    row = {
        "dataset_type": tidy(record["name"]),
        "dataset_type_uuid": record.get("id"),
        "filename_pattern": _text(record.get("filename_pattern")),
        "type_description": _text(record.get("description")),
        "type_json": _rest(record, "id", "name", "filename_pattern", "description"),
    }
    return Mapped([("dataset.DatasetType", row)])


def revision(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/revisions``."""
    row = {
        "revision": tidy(record["name"]),
        "revision_uuid": record.get("id"),
        "revision_description": _text(record.get("description")),
        "revision_created": facts.utc(record.get("created_datetime")),
        "revision_json": _rest(record, "id", "name", "description", "created_datetime"),
    }
    return Mapped([("dataset.Revision", row)])


def tag(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/tags``."""
    row = {
        "tag": tidy(record["name"]),
        "tag_uuid": record.get("id"),
        "is_protected": bool(record.get("protected")),
        "is_public": bool(record.get("public")),
        "tag_hash": _text(record.get("hash")),
        "tag_description": _text(record.get("description")),
        "tag_json": _rest(record, "id", "name", "protected", "public", "hash", "description"),
    }
    return Mapped([("dataset.Tag", row)])


def lab(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/labs``."""
    name = tidy(record["name"])
    row = {
        "lab": name,
        "institution": _text(record.get("institution")),
        "address": _text(record.get("address")),
        "time_zone": _text(record.get("timezone")) or None,
        "lab_uuid": record.get("id"),
        "lab_json": _rest(record, "id", "name", "institution", "address", "timezone", "repositories"),
    }
    used = [{"lab": name, "repository": item} for item in _names(record.get("repositories"))]
    return Mapped([("lab.Lab", row)], {"dataset.LabRepository": used})


def user(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/users``."""
    name = tidy(record["username"])
    row = {
        "user": name,
        "user_uuid": record["id"],
        "email": _text(record.get("email")),
        "is_stock_manager": bool(record.get("is_stock_manager")),
        "member_json": _rest(
            record, "id", "username", "email", "is_stock_manager", "subjects_responsible", "lab", "allowed_users"
        ),
    }
    return Mapped(
        [("lab.LabMember", row)],
        {
            "lab.LabMembership": [{"lab": item, "user": name} for item in _names(record.get("lab"))],
            "lab.Delegation": [{"user": name, "delegate": item} for item in _names(record.get("allowed_users"))],
        },
    )


def project(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/projects``."""
    name = tidy(record["name"])
    row = {
        "project": name,
        "project_description": _text(record.get("description")),
        "project_json": _rest(record, "name", "description", "users"),
    }
    members = [{"project": name, "user": item} for item in _names(record.get("users"))]
    return Mapped([("lab.Project", row)], {"lab.ProjectMember": members})


def location(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/locations``."""
    row = {
        "lab": _name(record.get("lab")),
        "location": tidy(record["name"]),
        "location_uuid": record.get("id"),
        "location_json": _rest(record, "id", "name", "lab"),
    }
    return Mapped([("lab.Location", row)])


def subject(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/subjects``; species, strain, line and breeder are known by their names alone."""
    key = {"lab": _name(record.get("lab")), "subject": tidy(record["nickname"])}
    names = {
        "species": _name(record.get("species")),
        "strain": _name(record.get("strain")),
        "line": _name(record.get("line")),
        "breeder": _name(record.get("source")),
    }
    tables = {"species": "Species", "strain": "Strain", "line": "Line", "breeder": "Breeder"}
    rows: list[Row] = [(f"subject.{tables[name]}", {name: value}) for name, value in names.items() if value]
    row = {
        **key,
        "subject_uuid": record["id"],
        "sex": record.get("sex") or "U",
        "birth_date": record.get("birth_date") or None,
        "death_date": record.get("death_date") or None,
        "litter": _text(record.get("litter")),
        **names,
        "responsible_user": _name(record.get("responsible_user")),
        "subject_description": _text(record.get("description")),
        "subject_json": _rest(
            record,
            *("id", "url", "nickname", "lab", "sex", "birth_date", "death_date", "litter", "species", "strain", "line"),
            *("source", "responsible_user", "description", "projects", "genotype", "session_projects", "age_weeks"),
            *("alive", "reference_weight", "last_water_restriction", "expected_water", "remaining_water"),
        ),
    }
    genotype = {}
    for text in record.get("genotype") or ():
        text = tidy(text)
        allele, sign = text.rpartition(" ")[::2]
        known = bool(allele) and sign in ZYGOSITY
        genotype[allele if known else text] = ZYGOSITY[sign] if known else ""
    return Mapped(
        [*rows, ("subject.Subject", row)],
        {
            "subject.SubjectProject": [{**key, "project": item} for item in _names(record.get("projects"))],
            "subject.SubjectGenotype": [
                {**key, "allele": allele, "zygosity": zygosity} for allele, zygosity in genotype.items()
            ],
        },
    )


def weighing(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/weighings``."""
    row = {
        "weighing_uuid": tail(record["url"]),
        **facts.subject(record.get("subject_uuid")),
        "weighing_time": record.get("date_time") or None,
        "weight": record["weight"],
        "user": _name(record.get("user")),
        "weighing_json": _rest(record, "url", "subject", "subject_uuid", "date_time", "weight", "user"),
    }
    return Mapped([("subject.Weighing", row)])


def water_administration(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/water-administrations``."""
    used = ("url", "subject", "subject_uuid", "date_time", "water_administered", "water_type", "adlib", "session")
    row = {
        "administration_uuid": tail(record["url"]),
        **facts.subject(record.get("subject_uuid")),
        "administration_time": record.get("date_time") or None,
        "volume": record.get("water_administered"),
        "water_type": _text(record.get("water_type")),
        "adlib": bool(record.get("adlib")),
        "given_in_eid": tail(record["session"]) if record.get("session") else None,
        "user": _name(record.get("user")),
        "administration_json": _rest(record, *used, "user"),
    }
    return Mapped([("subject.WaterAdministration", row)])


def water_restriction(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/water-restriction``, whose records have no id: subject and start make one."""
    (key,) = row_key("water-restriction", f"{record['subject_uuid']}@{record['start_time']}")
    row = {
        "restriction_uuid": key,
        **facts.subject(record["subject_uuid"]),
        "restriction_start": record["start_time"],
        "restriction_end": record.get("end_time") or None,
        "reference_weight": record.get("reference_weight"),
        "restriction_json": _rest(record, "subject", "subject_uuid", "start_time", "end_time", "reference_weight"),
    }
    return Mapped([("subject.WaterRestriction", row)])


def surgery(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/surgeries``, which name procedures by their ids."""
    ids = sorted(record.get("procedures") or ())
    if unknown := [item for item in ids if item not in facts.procedures]:
        raise Postponed(f"session.Procedure {unknown[0]}")
    outcome = _text(record.get("outcome_type"))
    row = {
        "surgery_uuid": record["id"],
        **facts.subject(record.get("subject_uuid")),
        "surgery_start": record.get("start_time") or None,
        "surgery_end": record.get("end_time") or None,
        "surgery_name": _text(record.get("name")),
        "surgery_outcome": OUTCOMES.get(outcome, outcome),
        "surgery_narrative": _text(record.get("narrative")),
        "surgery_procedures": sorted(facts.procedures[item] for item in ids) or None,
        "surgery_json": _rest(
            record,
            *("id", "subject", "subject_uuid", "start_time", "end_time", "name", "outcome_type", "narrative"),
        ),
    }
    return Mapped([("subject.Surgery", row)])


def listed_session(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map a row of the list ``/sessions``: whose it is, when, and in which projects."""
    key = facts.subject(record.get("subject_uuid"))
    path_lab = tidy(record.get("lab") or "")
    row = {
        "eid": record["id"],
        **key,
        "path_lab": "" if path_lab == key["lab"] else path_lab,
        **_session_times(record),
    }
    return Mapped([("session.Session", row)], {"session.SessionProject": _linked(record, "projects", "project")})


def session(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/sessions/<eid>``: what the list does not say; the list says whose session it is."""
    row = {
        "eid": record["id"],
        **_session_times(record),
        "end_time": record.get("end_time") or None,
        "session_type": _text(record.get("type")),
        "session_location": _text(record.get("location")),
        "qc": record.get("qc") or None,
        "extended_qc": _as_object(record.get("extended_qc")),
        "narrative": _text(record.get("narrative")),
        "n_trials": record.get("n_trials"),
        "n_correct_trials": record.get("n_correct_trials"),
        "parent_eid": tail(record["parent_session"]) if record.get("parent_session") else None,
        "source_stamp": facts.utc(record.get("auto_datetime")),
        "session_json": _rest(
            record,
            *("id", "url", "subject", "lab", "start_time", "number", "task_protocol", "end_time", "type", "location"),
            *("qc", "extended_qc", "narrative", "n_trials", "n_correct_trials", "parent_session", "auto_datetime"),
            *("users", "projects", "procedures", "wateradmin_session_related", "data_dataset_session_related"),
            *("probe_insertion", "field_of_view", "notes"),
        ),
    }
    return Mapped(
        [("session.Session", row)],
        {
            "session.SessionUser": _linked(record, "users", "user"),
            "session.SessionProject": _linked(record, "projects", "project"),
            "session.SessionProcedure": _linked(record, "procedures", "procedure"),
        },
    )


def _session_times(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "session_date": _day(record.get("start_time")),
        "session_number": record.get("number"),
        "start_time": record.get("start_time") or None,
        "task_protocol": _text(record.get("task_protocol")),
    }


def _linked(record: Mapping[str, Any], names: str, attribute: str) -> list[dict[str, Any]]:
    return [{"eid": record["id"], attribute: name} for name in _names(record.get(names))]


def _as_object(value: Any) -> Any:
    """Return a JSON value that every backend gives back: bare text is put into an object."""
    return None if value in (None, "") else {"value": value} if isinstance(value, str) else value


def note(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/notes`` on sessions and subjects; there is no table for notes on anything else."""
    owner = str(record.get("content_type")).rpartition(".")[2]
    row = {
        "note_uuid": record["id"],
        "note_time": record.get("date_time") or None,
        "note_text": _text(record.get("text")),
        "user": _name(record.get("user")),
        "note_json": _rest(record, "id", "content_type", "object_id", "date_time", "text", "user"),
    }
    if owner == "session":
        return Mapped([("session.SessionNote", {**row, "eid": record["object_id"]})])
    if owner == "subject":
        return Mapped([("subject.SubjectNote", {**row, **facts.subject(record["object_id"])})])
    return Mapped([])


def insertion(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/insertions``."""
    row = {
        "eid": tail(record["session"]),
        "probe_name": tidy(record["name"]),
        "pid": record["id"],
        "model": _text(record.get("model")),
        "serial": _text(record.get("serial")),
        "insertion_stamp": facts.utc(record.get("auto_datetime")),
        "insertion_json": _rest(
            record, "id", "session", "session_info", "name", "model", "serial", "auto_datetime", "datasets"
        ),
    }
    return Mapped([("session.ProbeInsertion", row)])


def trajectory(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/trajectories``."""
    row: dict[str, Any] = {
        "trajectory_uuid": record["id"],
        "eid": None,
        "probe_name": None,
        "provenance": _text(record.get("provenance")),
        **{name: record.get(name) for name in ("x", "y", "z", "depth", "theta", "phi", "roll")},
        "coordinate_system": _text(record.get("coordinate_system")),
        "trajectory_stamp": facts.utc(record.get("datetime")),
        "trajectory_json": _rest(
            record,
            *("id", "probe_insertion", "session", "probe_name", "provenance", "coordinate_system", "datetime"),
            *("x", "y", "z", "depth", "theta", "phi", "roll"),
        ),
    }
    if record.get("probe_insertion"):
        row |= {"eid": record["session"]["id"], "probe_name": tidy(record["probe_name"])}
    return Mapped([("session.Trajectory", row)])


def channel(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/channels``."""
    row = {
        "channel_uuid": record["id"],
        "trajectory_uuid": record["trajectory_estimate"],
        "channel_name": _text(record.get("name")),
        "axial": record.get("axial"),
        "lateral": record.get("lateral"),
        **{f"channel_{name}": record.get(name) for name in ("x", "y", "z")},
        "brain_region": record.get("brain_region"),
        "channel_json": _rest(
            record, "id", "trajectory_estimate", "name", "axial", "lateral", "x", "y", "z", "brain_region"
        ),
    }
    return Mapped([("session.Channel", row)])


def dataset(record: Mapping[str, Any], facts: Facts) -> Mapped:
    """Map ``/datasets``; its file records have a list of their own, the number is that of its session."""
    key = tail(record["url"])
    row = {
        "dataset_id": key,
        "eid": tail(record["session"]) if record.get("session") else None,
        "collection": _text(record.get("collection")),
        "revision": _name(record.get("revision")),
        "dataset_name": record["name"],
        "dataset_type": _name(record.get("dataset_type")),
        "data_format": _name(record.get("data_format")),
        "file_size": record.get("file_size"),
        "hash": _text(record.get("hash")),
        "version": _text(record.get("version")),
        "dataset_qc": record.get("qc") or None,
        "is_default": bool(record.get("default_dataset")),
        "created_by": _name(record.get("created_by")),
        "created": facts.utc(record.get("created_datetime")),
        "dataset_stamp": facts.utc(record.get("auto_datetime")),
        "dataset_json": _rest(record, *_DATASET_FIELDS),
    }
    tags = [{"dataset_id": key, "tag": item} for item in _names(record.get("tags"))]
    links = {"dataset.DatasetTag": tags, "dataset.AggregateDataset": [] if row["eid"] else _aggregate(record, key)}
    return Mapped([("dataset.Dataset", row)], links)


def _aggregate(record: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return whose a dataset without a session is: its files lie in ``aggregates/<relation>/<identifier>``."""
    for file in record.get("file_records") or ():
        root, *folders = str(file.get("relative_path") or "").split("/")[:-1]
        folders = [name for name in folders if not (name.startswith("#") and name.endswith("#"))]
        if root == "aggregates" and len(folders) > 1:
            relation, identifier = tidy(folders[0])[:64], tidy("/".join(folders[1:]))[:255]
            return [{"dataset_id": key, "aggregate_relation": relation, "aggregate_identifier": identifier}]
    return []


_DATASET_FIELDS = (
    *(
        "url",
        "session",
        "collection",
        "revision",
        "name",
        "dataset_type",
        "data_format",
        "file_size",
        "hash",
        "version",
    ),
    *("qc", "default_dataset", "created_by", "created_datetime", "auto_datetime", "tags", "file_records"),
    *("protected", "public", "experiment_number"),
)


def file_record(record: Mapping[str, Any], _: Facts) -> Mapped:
    """Map ``/files``."""
    row = {
        "file_record_id": tail(record["url"]),
        "dataset_id": tail(record["dataset"]),
        "repository": tidy(record["data_repository"]),
        "relative_path": record["relative_path"],
        "present": bool(record["exists"]),
        "file_json": _rest(record, "url", "dataset", "data_repository", "relative_path", "exists"),
    }
    return Mapped([("dataset.FileRecord", row)])

"""What the tables must hold after a sync, straight from the rows of the server, by the mapping of the specification.

`expected` reads a `Base` and knows nothing of how labweave reads Alyx; `found` reads the tables. Both give plain
values by table and key, so that they can be compared and their differences printed.
"""

from __future__ import annotations

import datetime as dt
import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from alyx_filters import last_part
from alyx_rows import Base, Row

from labweave.schemas import dataset, lab, session, subject

Values = dict[str, Any]
Rows = dict[tuple, Values]
TRAJECTORY = ("x", "y", "z", "depth", "theta", "phi", "roll", "provenance", "coordinate_system")


def subject_of(base: Base, nickname: str, lab_name: str | None = None) -> Values:
    """Return the subject of a nickname, of a lab where two have it."""
    rows = [row.shown for row in base.named("subjects", "nickname", nickname)]
    same_lab = [row for row in rows if row["lab"] == lab_name]
    return (same_lab or rows)[0]


def session_values(base: Base, row: Row) -> Values:
    shown, detail = row.shown, row.detail or {}
    owner = subject_of(base, shown["subject"], shown["lab"])
    return {
        "lab": owner["lab"],
        "subject": shown["subject"],
        "path_lab": shown["lab"] if shown["lab"] != owner["lab"] else "",
        "session_date": (shown["start_time"] or "")[:10],
        "session_number": shown["number"],
        "start_time": moment(shown["start_time"]),
        "end_time": moment(detail["end_time"]),
        "session_type": detail["type"],
        "task_protocol": shown["task_protocol"],
        "session_location": detail["location"],
        "qc": detail["qc"],
        "narrative": detail["narrative"],
        "n_trials": detail["n_trials"],
        "n_correct_trials": detail["n_correct_trials"],
        "extended_qc": detail["extended_qc"],
        "parent_eid": last_part(detail["parent_session"]),
        "source_stamp": moment(detail["auto_datetime"]),
    }


def dataset_values(base: Base, row: Row) -> Values:
    shown = row.shown
    return {
        "eid": last_part(shown["session"]),
        "collection": shown["collection"],
        "revision": shown["revision"],
        "dataset_name": shown["name"],
        "dataset_type": shown["dataset_type"],
        "data_format": shown["data_format"],
        "file_size": shown["file_size"],
        "hash": shown["hash"],
        "version": shown["version"],
        "dataset_qc": shown["qc"],
        "is_default": shown["default_dataset"],
        "created_by": shown["created_by"],
        "created": moment(shown["created_datetime"]),
        "dataset_stamp": moment(shown["auto_datetime"]),
    }


def subject_values(base: Base, row: Row) -> Values:
    names = {"breeder": "source", "subject": "nickname", "subject_description": "description"}
    same = ("lab", "sex", "birth_date", "death_date", "species", "strain", "line", "litter", "responsible_user")
    return {name: row.shown[names.get(name, name)] for name in [*same, *names]}


def owned_by_subject(base: Base, row: Row) -> Values:
    """Return subject and lab of a row that names its subject."""
    (owner,) = base.owners(row)
    return {"subject": row.shown["subject"], "lab": owner.shown["lab"]}


def moment(text: str | None) -> str:
    """Return a time as text with microseconds."""
    return dt.datetime.fromisoformat(text).isoformat(sep=" ", timespec="microseconds") if text else ""


# resource -> (table, its key, the key in a row of the server, its values)
TABLES: dict[str, tuple[Any, tuple[str, ...], Callable[[Base, Row], tuple], Callable[[Base, Row], Values]]] = {
    "labs": (
        lab.Lab,
        ("lab",),
        lambda base, row: (row.shown["name"],),
        lambda base, row: {
            "institution": row.shown["institution"],
            "address": row.shown["address"],
            "time_zone": row.shown["timezone"],
        },
    ),
    "users": (
        lab.LabMember,
        ("user_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            "user": row.shown["username"],
            "email": row.shown["email"],
            "is_stock_manager": row.shown["is_stock_manager"],
        },
    ),
    "projects": (
        lab.Project,
        ("project",),
        lambda base, row: (row.shown["name"],),
        lambda base, row: {"project_description": row.shown["description"]},
    ),
    "locations": (
        lab.Location,
        ("lab", "location"),
        lambda base, row: (row.shown["lab"], row.shown["name"]),
        lambda base, row: {},
    ),
    "procedures": (
        session.Procedure,
        ("procedure_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {"procedure": row.shown["name"], "procedure_description": row.shown["description"]},
    ),
    "data-formats": (
        dataset.DataFormat,
        ("data_format",),
        lambda base, row: (row.shown["name"],),
        lambda base, row: {
            "data_format_uuid": row.id,
            "file_extension": row.shown["file_extension"],
            "format_description": row.shown["description"],
        },
    ),
    "dataset-types": (
        dataset.DatasetType,
        ("dataset_type_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            "dataset_type": row.shown["name"],
            "filename_pattern": row.shown["filename_pattern"],
            "type_description": row.shown["description"],
        },
    ),
    "data-repository": (
        dataset.Repository,
        ("repository",),
        lambda base, row: (row.shown["name"],),
        lambda base, row: {
            "data_url": row.shown["data_url"],
            "hostname": row.shown["hostname"],
            "repository_time_zone": row.shown["timezone"],
            "root_path": row.shown["globus_path"],
        },
    ),
    "revisions": (
        dataset.Revision,
        ("revision_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            "revision": row.shown["name"],
            "revision_description": row.shown["description"],
            "revision_created": moment(row.shown["created_datetime"]),
        },
    ),
    "tags": (
        dataset.Tag,
        ("tag_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            "tag": row.shown["name"],
            "is_protected": row.shown["protected"],
            "is_public": row.shown["public"],
            "tag_hash": row.shown["hash"],
            "tag_description": row.shown["description"],
        },
    ),
    "subjects": (subject.Subject, ("subject_uuid",), lambda base, row: (row.id,), subject_values),
    "weighings": (
        subject.Weighing,
        ("weighing_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            **owned_by_subject(base, row),
            "weighing_time": moment(row.shown["date_time"]),
            "weight": row.shown["weight"],
            "user": row.shown["user"],
        },
    ),
    "water-administrations": (
        subject.WaterAdministration,
        ("administration_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            **owned_by_subject(base, row),
            "administration_time": moment(row.shown["date_time"]),
            "volume": row.shown["water_administered"],
            "water_type": row.shown["water_type"],
            "adlib": row.shown["adlib"],
            "given_in_eid": row.shown["session"],
            "user": row.shown["user"],
        },
    ),
    "water-restriction": (
        subject.WaterRestriction,
        ("lab", "subject", "restriction_start"),
        lambda base, row: (*reversed(owned_by_subject(base, row).values()), moment(row.shown["start_time"])),
        lambda base, row: {
            **owned_by_subject(base, row),
            "restriction_end": moment(row.shown["end_time"]),
            "reference_weight": row.shown["reference_weight"],
        },
    ),
    "surgeries": (
        subject.Surgery,
        ("surgery_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            **owned_by_subject(base, row),
            "surgery_start": moment(row.shown["start_time"]),
            "surgery_end": moment(row.shown["end_time"]),
            "surgery_name": row.shown["name"],
            "surgery_narrative": row.shown["narrative"],
        },
    ),
    "sessions": (session.Session, ("eid",), lambda base, row: (row.id,), session_values),
    "insertions": (
        session.ProbeInsertion,
        ("pid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            "eid": row.shown["session"],
            "probe_name": row.shown["name"],
            "model": row.shown["model"],
            "serial": row.shown["serial"],
            "insertion_stamp": moment(row.shown["auto_datetime"]),
        },
    ),
    "trajectories": (
        session.Trajectory,
        ("trajectory_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            **{name: row.shown[name] for name in TRAJECTORY},
            "trajectory_stamp": moment(row.shown["datetime"]),
        },
    ),
    "channels": (
        session.Channel,
        ("channel_uuid",),
        lambda base, row: (row.id,),
        lambda base, row: {
            "trajectory_uuid": row.shown["trajectory_estimate"],
            "channel_name": row.shown["name"],
            "brain_region": row.shown["brain_region"],
            "axial": row.shown["axial"],
            "lateral": row.shown["lateral"],
            **{f"channel_{axis}": row.shown[axis] for axis in "xyz"},
        },
    ),
    "datasets": (dataset.Dataset, ("dataset_id",), lambda base, row: (row.id,), dataset_values),
    "files": (
        dataset.FileRecord,
        ("file_record_id",),
        lambda base, row: (row.id,),
        lambda base, row: {
            "dataset_id": last_part(row.shown["dataset"]),
            "repository": row.shown["data_repository"],
            "relative_path": row.shown["relative_path"],
            "present": row.shown["exists"],
        },
    ),
}

# table -> (its key, the keys that the server's rows give)
LINKS: dict[str, tuple[Any, tuple[str, ...], Callable[[Base], Iterator[tuple]]]] = {
    "lab.ProjectMember": (
        lab.ProjectMember,
        ("project", "user"),
        lambda base: ((row.shown["name"], user) for row in base.rows("projects") for user in row.shown["users"]),
    ),
    "dataset.LabRepository": (
        dataset.LabRepository,
        ("lab", "repository"),
        lambda base: ((row.shown["name"], name) for row in base.rows("labs") for name in row.shown["repositories"]),
    ),
    "subject.SubjectProject": (
        subject.SubjectProject,
        ("lab", "subject", "project"),
        lambda base: (
            (row.shown["lab"], row.shown["nickname"], name)
            for row in base.rows("subjects")
            for name in row.shown["projects"]
        ),
    ),
    "session.SessionUser": (
        session.SessionUser,
        ("eid", "user"),
        lambda base: ((row.id, name) for row in base.rows("sessions") for name in (row.detail or {})["users"]),
    ),
    "session.SessionProject": (
        session.SessionProject,
        ("eid", "project"),
        lambda base: ((row.id, name) for row in base.rows("sessions") for name in row.shown["projects"]),
    ),
    "session.SessionProcedure": (
        session.SessionProcedure,
        ("eid", "procedure"),
        lambda base: ((row.id, name) for row in base.rows("sessions") for name in (row.detail or {})["procedures"]),
    ),
    "session.SessionNote": (
        session.SessionNote,
        ("eid", "note_uuid"),
        lambda base: (
            (row.shown["object_id"], row.id)
            for row in base.rows("notes")
            if row.shown["object_id"] in base.resources["sessions"]
        ),
    ),
    "dataset.DatasetTag": (
        dataset.DatasetTag,
        ("dataset_id", "tag"),
        lambda base: ((row.id, name) for row in base.rows("datasets") for name in row.shown["tags"]),
    ),
}


def plain(value: Any) -> Any:
    """Return a value as both sides can be compared: '' for none, text in NFC, times as text, flags as numbers."""
    if value is None:
        return ""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="microseconds")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return float(value)


def expected(base: Base, resource: str) -> Rows:
    """Return the rows that the table of a resource must hold, vanished ones left out."""
    _, _, key_of, values_of = TABLES[resource]
    return {
        tuple(map(plain, key_of(base, row))): {name: plain(value) for name, value in values_of(base, row).items()}
        for row in base.rows(resource)
    }


def found(resource: str) -> Rows:
    """Return the rows that the table of a resource holds, vanished ones left out."""
    table, key, _, _ = TABLES[resource]
    return {tuple(plain(row[name]) for name in key): row for row in present(table)}


def present(table: Any) -> list[Values]:
    """Return the rows of a table that have not vanished."""
    rows = table().to_dicts()
    mark = next((name for name in table().heading.names if name.endswith("_vanished")), None)
    return [row for row in rows if mark is None or row[mark] is None]


def vanished(resource: str) -> dict[tuple, str | None]:
    """Return for each row of a table the run that no longer found it."""
    table, key, _, _ = TABLES[resource]
    mark = next(name for name in table().heading.names if name.endswith("_vanished"))
    return {tuple(plain(row[name]) for name in key): row[mark] for row in table().to_dicts()}


def wrong(base: Base, resource: str) -> list[str]:
    """Return what is missing, too much or different in the table of a resource, as lines."""
    wanted, held = expected(base, resource), found(resource)
    lines = [f"{resource} {key} is missing" for key in wanted.keys() - held.keys()]
    lines += [f"{resource} {key} should not be there" for key in held.keys() - wanted.keys()]
    for key in wanted.keys() & held.keys():
        for name, value in wanted[key].items():
            if plain(held[key][name]) != value and not is_beginning(held[key], name, value):
                lines.append(f"{resource} {key} {name}: {plain(held[key][name])!r}, the server says {value!r}")
    return sorted(lines)


def is_beginning(row: Values, name: str, value: Any) -> bool:
    """Say whether a text that is too long for its column is there in part, and whole in the row's JSON."""
    held = plain(row[name])
    if not isinstance(held, str) or len(held) < 255 or not str(value).startswith(held):
        return False
    return any(contains(content, value) for column, content in row.items() if column.endswith("_json"))


def wrong_links(base: Base, name: str) -> list[str]:
    """Return what is missing or too much in a table that only links; links of vanished rows don't count."""
    table, key, keys_of = LINKS[name]
    wanted = {tuple(map(plain, one)) for one in keys_of(base)}
    gone = {
        "eid": base.resources["sessions"],
        "dataset_id": base.resources["datasets"],
        "project": {row.shown["name"] for row in base.rows("projects")},
    }
    held = {
        tuple(plain(row[column]) for column in key)
        for row in present(table)
        if all(row[column] in gone.get(column, [row[column]]) for column in key)
    }
    return sorted([f"{name} {one} is missing" for one in wanted - held] + [f"{name} {one}?" for one in held - wanted])


def contains(container: Any, value: Any) -> bool:
    """Say whether a value is somewhere in JSON."""
    if container == value:
        return True
    if isinstance(container, dict):
        return any(contains(one, value) for one in container.values())
    return isinstance(container, list) and any(contains(one, value) for one in container)


def all_wrong(base: Base) -> list[str]:
    """Return every difference between the tables and the rows of a server."""
    lines = [line for resource in TABLES for line in wrong(base, resource)]
    return lines + [line for name in LINKS for line in wrong_links(base, name)]

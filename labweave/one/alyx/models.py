"""The names of Alyx's fields, and what ``django=`` filters mean on labweave's tables.

A filter is a path of field names with two underscores between them and an optional lookup at its end
(``session__subject__nickname__icontains``). Text is compared in Python with the distinct values of the
column, so that every database gives the same answer; the rest becomes a restriction of the table.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import datajoint as dj

from labweave.schemas import dataset, lab, session, subject

LOOKUPS = (
    "exact",
    "iexact",
    "contains",
    "icontains",
    "in",
    "gte",
    "lte",
    "gt",
    "lt",
    "isnull",
    "startswith",
    "regex",
)
AS_TEXT = frozenset({"iexact", "contains", "icontains", "startswith", "regex"})
"""Lookups whose value is never anything but a text."""
COMPARISONS = {"gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}
QC = {row["qc"]: row["severity"] for row in session.QC.contents}


@dataclass(frozen=True)
class Column:
    """One field of a record.

    Attributes
    ----------
    attribute : str
        Of the table.
    kind : {"text", "uuid", "number", "time", "date", "bool", "qc", "json"}
    inside : str
        For JSON: the key below which the field lies in the attribute; empty for the whole of it.
    equal : str
        For a flag that the table holds as a word: the word that means true.
    otherwise : str
        The attribute that counts where this one is empty.
    """

    attribute: str
    kind: str = "text"
    inside: str = ""
    equal: str = ""
    otherwise: str = ""


@dataclass(frozen=True)
class Link:
    """Another kind of record that this one names, and the attributes that both tables share."""

    model: str
    on: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """One kind of record: its table and what filters may name."""

    table: Any
    vanished: str
    columns: dict[str, Column]
    links: dict[str, Link] = field(default_factory=dict)

    def rows(self) -> Any:
        """Return the rows that are still at their source."""
        return self.table() & f"{self.vanished} is null" if self.vanished else self.table()


def _uuid(attribute: str) -> dict[str, Column]:
    return {"id": Column(attribute, "uuid"), "pk": Column(attribute, "uuid")}


def _named(attribute: str, *names: str) -> dict[str, Column]:
    return {name: Column(attribute) for name in names}


def _numbers(*names: str, prefix: str = "") -> dict[str, Column]:
    return {name: Column(prefix + name, "number") for name in names}


_OF_SUBJECT = {
    **_named("subject", "subject", "subject__nickname"),
    **_named("lab", "subject__lab", "subject__lab__name"),
}
_TO_SUBJECT = {"subject": Link("subjects", ("lab", "subject"))}
_USER = _named("user", "user", "user__username")

MODELS: dict[str, Model] = {
    "sessions": Model(
        session.Session,
        "session_vanished",
        {
            **_uuid("eid"),
            **_OF_SUBJECT,
            "lab": Column("path_lab", otherwise="lab"),
            "lab__name": Column("path_lab", otherwise="lab"),
            **_numbers("n_trials", "n_correct_trials"),
            "number": Column("session_number", "number"),
            "start_time": Column("start_time", "time"),
            "start_time__date": Column("session_date", "date"),
            "end_time": Column("end_time", "time"),
            "type": Column("session_type"),
            "task_protocol": Column("task_protocol"),
            **_named("session_location", "location", "location__name"),
            "qc": Column("qc", "qc"),
            "extended_qc": Column("extended_qc", "json"),
            "json": Column("session_json", "json", "json"),
            "narrative": Column("narrative"),
            "parent_session": Column("parent_eid", "uuid"),
            "auto_datetime": Column("source_stamp", "time"),
        },
        {
            **_TO_SUBJECT,
            "projects": Link("session-projects", ("eid",)),
            "project": Link("session-projects", ("eid",)),
            "users": Link("session-users", ("eid",)),
            "procedures": Link("session-procedures", ("eid",)),
            "data_dataset_session_related": Link("datasets", ("eid",)),
            "probe_insertion": Link("insertions", ("eid",)),
        },
    ),
    "session-projects": Model(session.SessionProject, "", _named("project", "name", "pk")),
    "session-users": Model(session.SessionUser, "", _named("user", "username", "pk")),
    "session-procedures": Model(session.SessionProcedure, "", _named("procedure", "name", "pk")),
    "datasets": Model(
        dataset.Dataset,
        "dataset_vanished",
        {
            **_uuid("dataset_id"),
            "name": Column("dataset_name"),
            "collection": Column("collection"),
            **_named("revision", "revision", "revision__name"),
            **_named("dataset_type", "dataset_type", "dataset_type__name"),
            **_named("data_format", "data_format", "data_format__name"),
            "file_size": Column("file_size", "number"),
            "hash": Column("hash"),
            "version": Column("version"),
            "qc": Column("dataset_qc", "qc"),
            "default_dataset": Column("is_default", "bool"),
            **_named("created_by", "created_by", "created_by__username"),
            "created_datetime": Column("created", "time"),
            "auto_datetime": Column("dataset_stamp", "time"),
            "json": Column("dataset_json", "json", "json"),
        },
        {
            "session": Link("sessions", ("eid",)),
            "tags": Link("dataset-tags", ("dataset_id",)),
            "file_records": Link("files", ("dataset_id",)),
        },
    ),
    "dataset-tags": Model(dataset.DatasetTag, "", _named("tag", "name", "pk"), {"tag": Link("tags", ("tag",))}),
    "files": Model(
        dataset.FileRecord,
        "file_vanished",
        {
            **_uuid("file_record_id"),
            "exists": Column("present", "bool"),
            "relative_path": Column("relative_path"),
            **_named("repository", "data_repository", "data_repository__name"),
        },
        {
            "dataset": Link("datasets", ("dataset_id",)),
            "data_repository": Link("data-repository", ("repository",)),
        },
    ),
    "insertions": Model(
        session.ProbeInsertion,
        "insertion_vanished",
        {
            **_uuid("pid"),
            "name": Column("probe_name"),
            **_named("model", "model", "model__name"),
            "serial": Column("serial"),
            "auto_datetime": Column("insertion_stamp", "time"),
            "json": Column("insertion_json", "json", "json"),
        },
        {
            "session": Link("sessions", ("eid",)),
            "trajectory_estimate": Link("trajectories", ("eid", "probe_name")),
        },
    ),
    "trajectories": Model(
        session.Trajectory,
        "trajectory_vanished",
        {
            **_uuid("trajectory_uuid"),
            **_numbers("x", "y", "z", "depth", "theta", "phi", "roll"),
            "provenance": Column("provenance"),
            **_named("coordinate_system", "coordinate_system", "coordinate_system__name"),
            "datetime": Column("trajectory_stamp", "time"),
            "json": Column("trajectory_json", "json", "json"),
        },
        {
            "probe_insertion": Link("insertions", ("eid", "probe_name")),
            "session": Link("sessions", ("eid",)),
            "channels": Link("channels", ("trajectory_uuid",)),
        },
    ),
    "channels": Model(
        session.Channel,
        "channel_vanished",
        {
            **_uuid("channel_uuid"),
            "name": Column("channel_name"),
            **_numbers("axial", "lateral"),
            **_numbers("x", "y", "z", prefix="channel_"),
            "brain_region": Column("brain_region", "number"),
            "brain_region__id": Column("brain_region", "number"),
            "json": Column("channel_json", "json", "json"),
        },
        {"trajectory_estimate": Link("trajectories", ("trajectory_uuid",))},
    ),
    "subjects": Model(
        subject.Subject,
        "subject_vanished",
        {
            **_uuid("subject_uuid"),
            "nickname": Column("subject"),
            **_named("lab", "lab", "lab__name"),
            "sex": Column("sex"),
            "birth_date": Column("birth_date", "date"),
            "death_date": Column("death_date", "date"),
            "description": Column("subject_description"),
            **_named("responsible_user", "responsible_user", "responsible_user__username"),
            **_named("species", "species", "species__name"),
            **_named("strain", "strain", "strain__name"),
            **_named("line", "line", "line__name"),
            **_named("litter", "litter", "litter__name"),
            **_named("breeder", "source", "source__name"),
            "json": Column("subject_json", "json", "json"),
        },
        {
            "projects": Link("subject-projects", ("lab", "subject")),
            "actions_sessions": Link("sessions", ("lab", "subject")),
            "weighings": Link("weighings", ("lab", "subject")),
        },
    ),
    "subject-projects": Model(subject.SubjectProject, "", _named("project", "name", "pk")),
    "weighings": Model(
        subject.Weighing,
        "weighing_vanished",
        {
            **_uuid("weighing_uuid"),
            **_OF_SUBJECT,
            **_USER,
            "date_time": Column("weighing_time", "time"),
            "weight": Column("weight", "number"),
        },
        _TO_SUBJECT,
    ),
    "water-administrations": Model(
        subject.WaterAdministration,
        "administration_vanished",
        {
            **_uuid("administration_uuid"),
            **_OF_SUBJECT,
            **_USER,
            "date_time": Column("administration_time", "time"),
            "water_administered": Column("volume", "number"),
            **_named("water_type", "water_type", "water_type__name"),
            "adlib": Column("adlib", "bool"),
            "session": Column("given_in_eid", "uuid"),
        },
        _TO_SUBJECT,
    ),
    "water-restriction": Model(
        subject.WaterRestriction,
        "restriction_vanished",
        {
            **_OF_SUBJECT,
            "start_time": Column("restriction_start", "time"),
            "end_time": Column("restriction_end", "time"),
            "reference_weight": Column("reference_weight", "number"),
        },
        _TO_SUBJECT,
    ),
    "notes": Model(
        session.SessionNote,
        "note_vanished",
        {
            **_uuid("note_uuid"),
            **_USER,
            "object_id": Column("eid", "uuid"),
            "text": Column("note_text"),
            "date_time": Column("note_time", "time"),
            "json": Column("note_json", "json", "json"),
        },
    ),
    "labs": Model(
        lab.Lab,
        "lab_vanished",
        {**_named("lab", "name", "pk"), "institution": Column("institution"), "timezone": Column("time_zone")},
    ),
    "users": Model(lab.LabMember, "member_vanished", {**_uuid("user_uuid"), **_named("user", "username")}),
    "projects": Model(lab.Project, "project_vanished", _named("project", "name", "pk")),
    "locations": Model(
        lab.Location, "location_vanished", {**_named("location", "name"), **_named("lab", "lab", "lab__name")}
    ),
    "procedures": Model(session.Procedure, "procedure_vanished", _named("procedure", "name", "pk")),
    "revisions": Model(dataset.Revision, "revision_vanished", {**_uuid("revision_uuid"), **_named("revision", "name")}),
    "tags": Model(
        dataset.Tag,
        "tag_vanished",
        {
            **_uuid("tag_uuid"),
            **_named("tag", "name"),
            "protected": Column("is_protected", "bool"),
            "public": Column("is_public", "bool"),
        },
    ),
    "dataset-types": Model(
        dataset.DatasetType,
        "type_vanished",
        {
            **_uuid("dataset_type_uuid"),
            **_named("dataset_type", "name"),
            "filename_pattern": Column("filename_pattern"),
        },
    ),
    "data-formats": Model(
        dataset.DataFormat, "format_vanished", {**_uuid("data_format_uuid"), **_named("data_format", "name")}
    ),
    "data-repository": Model(
        dataset.Repository,
        "repository_vanished",
        {
            **_named("repository", "name", "pk"),
            "hostname": Column("hostname"),
            "data_url": Column("data_url"),
            "globus_is_personal": Column("repository_kind", "bool", equal="personal"),
        },
    ),
}


def literal(text: Any) -> Any:
    """Return the value of a filter's text: None, True, False, a list in brackets, else the text."""
    if not isinstance(text, str):
        return text
    if text in ("None", "True", "False"):
        return ast.literal_eval(text)
    if text[:1] + text[-1:] in ("[]", "()"):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):  # [a,b]
            return [one.strip() for one in text[1:-1].split(",")]
    return text


def split(text: str) -> list[str]:
    """Return the parts of a text between its commas, those in brackets left together."""
    return [part.strip() for part in re.findall(r"(?:\[[^\]]*\]|\([^)]*\)|[^,])+|(?<=,)(?=,|$)", text)]


def django(name: str, query: Any, text: str) -> Any:
    """Restrict the rows of a model by a ``django=`` filter: ``path,value,path,value``, each with ~ to exclude."""
    parts = split(text)
    if not parts or len(parts) % 2:
        raise ValueError(
            f"django={text!r} on {name}: names and values must alternate, separated by commas, "
            "for example django=subject__nickname,KS005."
        )
    for path, value in zip(parts[::2], parts[1::2], strict=True):
        query = restrict(name, query, path, value)
    return query


def restrict(name: str, query: Any, path: str, value: Any) -> Any:
    """Restrict rows of a model to those where a field fits.

    Parameters
    ----------
    name : str
        Of the model, a key of `MODELS`.
    query : query
        Rows of its table.
    path : str
        Field names and an optional lookup, with two underscores between them; ~ in front excludes what fits.
    value : str or any
        What to compare with, as in an address.

    Raises
    ------
    ValueError
        No such field or lookup, or a value that does not suit the field.
    """
    if path.startswith("~"):
        return query - restrict(name, query, path[1:], value).proj()
    model, parts = MODELS[name], path.split("__")
    for n in range(len(parts), 0, -1):
        head, tail = "__".join(parts[:n]), parts[n:]
        if column := model.columns.get(head):
            if column.kind == "json":
                is_text = bool(tail) and tail[-1] in AS_TEXT
                return _by_json(query, column, tail, value if is_text else literal(value))
            if not tail or (len(tail) == 1 and tail[0] in LOOKUPS):
                lookup = tail[0] if tail else "exact"
                try:
                    return _by_column(query, column, lookup, value if lookup in AS_TEXT else literal(value))
                except (TypeError, ValueError, re.error) as error:
                    raise ValueError(f"The filter {path} of {name} can't take the value {value!r}: {error}.") from None
        if link := model.links.get(head):
            return _by_link(query, link, tail, value)
    raise ValueError(
        f"{name} can't be filtered by {path!r}: no such field, or a lookup other than {', '.join(LOOKUPS)}. "
        f"Fields of {name}: {', '.join(sorted({*model.columns, *model.links}))}."
    )


def _by_link(query: Any, link: Link, tail: list[str], value: Any) -> Any:
    """Keep rows with a linked row that fits, or without one for ``isnull,True``."""
    linked = MODELS[link.model].rows()
    if tail == ["isnull"]:
        having = query & linked.proj(*link.on)
        return query - having.proj() if literal(value) in (True, 1, "1", "true") else having
    if not tail or tail[0] in LOOKUPS:
        tail = ["pk", *tail]
    return query & restrict(link.model, linked, "__".join(tail), value).proj(*link.on)


def _by_column(query: Any, column: Column, lookup: str, value: Any) -> Any:
    attribute = column.attribute
    if column.otherwise:
        without = query & {attribute: ""}
        own = _by_column(query - without.proj(), Column(attribute, column.kind), lookup, value)
        other = _by_column(without, Column(column.otherwise, column.kind), lookup, value)
        return query & [own.proj(), other.proj()]
    if lookup == "isnull":
        empty: list[Any] = [f"{attribute} is null"]
        if column.kind == "text":
            empty.append({attribute: ""})
        return query & empty if _as_bool(value) else query - (query & empty).proj()
    if column.kind == "qc":
        return query & _qc_restriction(attribute, lookup, value)
    if value is None:
        return _by_column(query, column, "isnull", True)
    if column.kind == "bool":
        if lookup != "exact":
            raise ValueError(f"lookup {lookup} on a flag")
        if column.equal:
            fitting = query & {attribute: column.equal}
            return fitting if _as_bool(value) else query - fitting.proj()
        return query & {attribute: _as_bool(value)}
    if column.kind in ("number", "time", "date") and lookup in ("exact", "in", *COMPARISONS):
        convert = {"number": _number, "time": _time, "date": _date}[column.kind]
        values = [convert(one) for one in _as_list(value)] if lookup == "in" else [convert(value)]
        operator = COMPARISONS.get(lookup, "=")
        return query & [f"{attribute} {operator} {one}" for one in values]
    if lookup in ("exact", "in"):
        clean = str.lower if column.kind == "uuid" else str
        return query & [{attribute: clean(str(one))} for one in (_as_list(value) if lookup == "in" else [value])]
    fits = TEXT_LOOKUPS[lookup](value)
    held = [row[attribute] for row in (dj.U(attribute) & query).to_dicts()]
    return query & [{attribute: one} for one in held if one is not None and fits(str(one))]


def _text_regex(value: Any) -> Callable[[str], bool]:
    pattern = re.compile(str(value))
    return lambda held: pattern.search(held) is not None


TEXT_LOOKUPS: dict[str, Callable[[Any], Callable[[str], bool]]] = {
    "iexact": lambda value: lambda held: held.casefold() == str(value).casefold(),
    "contains": lambda value: lambda held: str(value) in held,
    "icontains": lambda value: lambda held: str(value).casefold() in held.casefold(),
    "startswith": lambda value: lambda held: held.startswith(str(value)),
    "regex": _text_regex,
    "gt": lambda value: lambda held: held > str(value),
    "gte": lambda value: lambda held: held >= str(value),
    "lt": lambda value: lambda held: held < str(value),
    "lte": lambda value: lambda held: held <= str(value),
}


def qc_fits(lookup: str, value: Any) -> list[str]:
    """Return the outcomes of quality control that fit; a value is a name or a number."""
    if lookup == "in":
        return [name for one in _as_list(value) for name in qc_fits("exact", one)]
    name = str(value).upper()
    number = QC[name] if name in QC else int(value) if str(value).isdecimal() else None
    if number is None or (lookup == "exact" and number not in QC.values()):
        raise ValueError(f"{value!r} is not one of {', '.join(QC)}")
    tests: dict[str, Callable[[int], bool]] = {
        "exact": lambda held: held == number,
        "iexact": lambda held: held == number,
        "gt": lambda held: held > number,
        "gte": lambda held: held >= number,
        "lt": lambda held: held < number,
        "lte": lambda held: held <= number,
    }
    if lookup not in tests:
        raise ValueError(f"lookup {lookup} on an outcome of quality control")
    return [name for name, severity in QC.items() if tests[lookup](severity)]


def _qc_restriction(attribute: str, lookup: str, value: Any) -> list[Any]:
    names = qc_fits(lookup, value)
    without: list[Any] = [f"{attribute} is null"] if "NOT_SET" in names else []
    return [{attribute: name} for name in names] + without


def _by_json(query: Any, column: Column, tail: list[str], value: Any) -> Any:
    """Keep rows whose JSON has a fitting value at a path; JSON is compared in Python."""
    lookup = tail[-1] if tail and tail[-1] in LOOKUPS else "exact"
    path = tail[:-1] if tail and tail[-1] in LOOKUPS else tail
    keys = [column.inside, *path] if column.inside else path
    held = (query & f"{column.attribute} is not null").proj(column.attribute).to_dicts()
    found = {json.dumps(_key(query, row)): value_at(row[column.attribute], keys) for row in held}
    if lookup == "isnull":
        there = [json.loads(key) for key, one in found.items() if one is not None]
        return query - (query & there).proj() if _as_bool(value) else query & there
    return query & [json.loads(key) for key, one in found.items() if one is not None and json_fits(lookup, one, value)]


def _key(query: Any, row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in query.primary_key}


def value_at(document: Any, keys: list[str]) -> Any:
    """Return the value at a path of keys in JSON, None without."""
    for key in keys:
        if isinstance(document, list) and key.isdecimal() and int(key) < len(document):
            document = document[int(key)]
        elif isinstance(document, dict):
            document = document.get(key)
        else:
            return None
    return document


def json_fits(lookup: str, held: Any, value: Any) -> bool:
    """Say whether a value in JSON fits a filter."""
    if lookup in ("exact", "in"):
        values = _as_list(value) if lookup == "in" else [value]
        return any(held == one or (type(held) is not type(one) and str(held) == str(one)) for one in values)
    if lookup in COMPARISONS and isinstance(held, (int, float)) and not isinstance(held, bool):
        number = float(value)
        return {"gt": held > number, "gte": held >= number, "lt": held < number, "lte": held <= number}[lookup]
    text = held if isinstance(held, str) else json.dumps(held, ensure_ascii=False)
    return TEXT_LOOKUPS[lookup](value)(text)


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    return split(value) if isinstance(value, str) else [value]


def _as_bool(value: Any) -> bool:
    text = str(value).casefold()
    if text in ("true", "1", "yes", "false", "0", "no"):
        return text in ("true", "1", "yes")
    raise ValueError(f"{value!r} is neither True nor False")


def _number(value: Any) -> str:
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{value!r} is not a finite number")
    return str(int(number)) if number.is_integer() else repr(number)


def _time(value: Any) -> str:
    time = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    if time.tzinfo is not None:
        time = time.astimezone(dt.timezone.utc).replace(tzinfo=None)
    return f"'{time.isoformat(sep=' ', timespec='microseconds')}'"


def _date(value: Any) -> str:
    return f"'{dt.date.fromisoformat(str(value)[:10]).isoformat()}'"

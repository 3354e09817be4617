"""What Alyx's filters mean: lookups of ``django=`` and the named filters of each list.

The observed behaviour of Alyx 3.6.1. A value in brackets is parsed as a literal, never evaluated.
"""

from __future__ import annotations

import ast
import datetime as dt
import re
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alyx_rows import Base, Row

QC = {"NOT_SET": 0, "PASS": 10, "WARNING": 30, "FAIL": 40, "CRITICAL": 50}


class BadFilter(Exception):
    """A filter that Alyx answers with 400 or 500."""

    def __init__(self, status: int, body: dict[str, Any]):
        super().__init__(body)
        self.status, self.body = status, body


class UnknownFilter(Exception):
    """A filter that Alyx may have and this replay does not."""


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def last_part(value: Any) -> Any:
    """Return the uuid that ends a url; anything else as it is."""
    if isinstance(value, dict):
        value = value.get("id")
    return value.rsplit("/", 1)[1] if isinstance(value, str) and value.startswith("http") else value


def literal(text: str) -> Any:
    """Return the value of a django filter; lists are parsed as literals, never evaluated."""
    if text in ("None", "True", "False"):
        return ast.literal_eval(text)
    if text.isdecimal():
        return int(text)
    if text[:1] in "[(" and text:
        return list(ast.literal_eval(text))
    return text


def comparable(value: Any) -> Any:
    """Return a value with its type's order: times as times, uuids and names as text, QC as its number."""
    if isinstance(value, list):
        return [comparable(one) for one in value]
    if isinstance(value, str):
        if value in QC:
            return QC[value]
        if re.match(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d|$)", value):
            moment = dt.datetime.fromisoformat(value.replace("Z", "+00:00"))
            return moment.astimezone(dt.timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment
    return value


def alike(held: Any, wanted: Any) -> bool:
    return held == wanted or (type(held) is not type(wanted) and held is not None and str(held) == str(wanted))


def contains(held: Any, wanted: Any) -> bool:
    return held is not None and str(wanted).casefold() in str(held).casefold()


LOOKUPS: dict[str, Callable[[Any, Any], bool]] = {
    "exact": alike,
    "iexact": lambda held, wanted: held is not None and str(held).casefold() == str(wanted).casefold(),
    "in": lambda held, wanted: any(alike(held, one) for one in wanted),
    "isnull": lambda held, wanted: (held is None) is wanted,
    "icontains": contains,
    "contains": lambda held, wanted: held is not None and str(wanted) in str(held),
    "startswith": lambda held, wanted: held is not None and str(held).startswith(str(wanted)),
    "regex": lambda held, wanted: held is not None and re.search(str(wanted), str(held)) is not None,
    "gt": lambda held, wanted: held is not None and held > wanted,
    "gte": lambda held, wanted: held is not None and held >= wanted,
    "lt": lambda held, wanted: held is not None and held < wanted,
    "lte": lambda held, wanted: held is not None and held <= wanted,
}

Filter = Callable[["Base", "Row", str], bool]


def is_text(*path: str) -> Filter:
    """Equal to the text at a path from the row, whose first part is the row's resource."""
    resource, *names = path
    return lambda base, row, text: any(str(value) == text for value in base.values(resource, row, names))


def has_text(*path: str) -> Filter:
    """Contains a text, in any case, at a path from the row."""
    resource, *names = path
    return lambda base, row, text: any(contains(value, text) for value in base.values(resource, row, names))


def in_dates(base: Base, row: Row, text: str) -> bool:
    first, last = text.split(",")
    return first <= (row.shown["start_time"] or "")[:10] <= last


def a_number(base: Base, row: Row, text: str) -> bool:
    if not text.lstrip("-").isdecimal():
        raise BadFilter(400, {"number": ["Enter a number."], "status_code": 400})
    return row.shown["number"] == int(text)


def of_session(base: Base, row: Row, text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        raise BadFilter(400, {"session": [f"“{text}” is not a valid UUID."], "status_code": 400}) from None
    if text not in base.resources["sessions"]:
        message = "Select a valid choice. That choice is not one of the available choices."
        raise BadFilter(400, {"session": [message], "status_code": 400})
    return last_part(row.shown["session"]) == text


def has_files(base: Base, row: Row, text: str) -> bool:
    records = row.shown["file_records"]
    return any(record["exists"] for record in records) if text == "True" else any(not r["exists"] for r in records)


FILTERS: dict[str, dict[str, Filter]] = {
    "sessions": {
        "subject": lambda base, row, text: row.shown["subject"].casefold() == text.casefold(),
        "lab": is_text("sessions", "lab", "name"),
        "number": a_number,
        "task_protocol": has_text("sessions", "task_protocol"),
        "project": has_text("sessions", "projects", "name"),
        "projects": has_text("sessions", "projects", "name"),
        "qc": lambda base, row, text: (row.detail or {}).get("qc") == text,
        "date_range": in_dates,
    },
    "datasets": {
        "session": of_session,
        "name": is_text("datasets", "name"),
        "collection": is_text("datasets", "collection"),
        "revision": is_text("datasets", "revision", "name"),
        "qc": is_text("datasets", "qc"),
        "tag": is_text("datasets", "tags", "name"),
        "lab": is_text("datasets", "session", "lab", "name"),
        "subject": is_text("datasets", "session", "subject", "nickname"),
        "auto_datetime": is_text("datasets", "auto_datetime"),
    },
    "files": {
        "dataset": is_text("files", "dataset", "id"),
        "data_repository": is_text("files", "data_repository", "name"),
        "exists": is_text("files", "exists"),
    },
    "subjects": {
        "nickname": is_text("subjects", "nickname"),
        "lab": is_text("subjects", "lab", "name"),
        "id": is_text("subjects", "id"),
        "responsible_user": is_text("subjects", "responsible_user", "username"),
        "project": is_text("subjects", "projects", "name"),
    },
    "insertions": {
        "session": of_session,
        "subject": is_text("insertions", "session", "subject", "nickname"),
        "name": is_text("insertions", "name"),
    },
    "trajectories": {
        "probe_insertion": is_text("trajectories", "probe_insertion", "id"),
        "probe": is_text("trajectories", "probe_name"),
        "provenance": is_text("trajectories", "provenance"),
        "session": is_text("trajectories", "probe_insertion", "session", "id"),
    },
    "channels": {"probe_insertion": is_text("channels", "trajectory_estimate", "probe_insertion", "id")},
    "weighings": {"subject": is_text("weighings", "subject", "nickname")},
    "tags": {"name": is_text("tags", "name")},
    "revisions": {"name": is_text("revisions", "name")},
    "data-repository": {"name": is_text("data-repository", "name")},
}

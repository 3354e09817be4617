"""The rows of an Alyx base, and how Alyx filters, orders and pages them.

Rows come from recorded answers of a real Alyx (`alyx_recordings`) or are invented (`alyx_small_base`). What is written
here is the observed behaviour of Alyx 3.6.1; where a filter is not known, `UnknownFilter` says so rather than giving
rows that the real server would not give.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from alyx_filters import FILTERS, LOOKUPS, BadFilter, UnknownFilter, as_list, comparable, last_part, literal

ORIGIN = "http://alyx.example.org"
PAGE_SIZE, MAX_LIMIT = 250, 1000

# What a detail is asked by, where that is not the uuid.
NAMED_BY = {
    "labs": "name",
    "users": "username",
    "projects": "name",
    "locations": "name",
    "subjects": "nickname",
    "dataset-types": "name",
    "data-formats": "name",
    "data-repository": "name",
    "data-repository-type": "name",
    "water-type": "name",
    "revisions": "name",
    "tags": "name",
}
RESOURCES = (
    "labs", "users", "projects", "locations", "procedures", "water-type", "data-formats", "data-repository-type",
    "data-repository", "dataset-types", "revisions", "tags", "data-notices", "downloads", "tasks", "notes",
    "weighings", "water-restriction", "water-administrations", "surgeries", "subjects", "sessions", "insertions",
    "trajectories", "channels", "chronic-insertions", "fields-of-view", "fov-location", "imaging-stack",
    "brain-regions", "datasets", "files",
)  # fmt: skip
WITH_DJANGO = {
    "sessions", "datasets", "files", "subjects", "weighings", "water-administrations", "water-restriction",
    "surgeries", "insertions", "trajectories", "channels", "notes", "downloads", "users", "labs", "tasks",
    "chronic-insertions", "brain-regions", "data-notices", "fields-of-view",
}  # fmt: skip
UNORDERED = {
    "datasets", "files", "weighings", "water-administrations", "trajectories", "channels", "notes", "projects", "labs",
    "locations", "downloads",
}  # fmt: skip
# (resource, field) -> (resource its names or ids point to, what they name there)
POINTS_TO = {
    ("subjects", "lab"): ("labs", "name"),
    ("subjects", "projects"): ("projects", "name"),
    ("subjects", "responsible_user"): ("users", "username"),
    ("sessions", "subject"): ("subjects", "nickname"),
    ("sessions", "lab"): ("labs", "name"),
    ("sessions", "projects"): ("projects", "name"),
    ("sessions", "procedures"): ("procedures", "name"),
    ("sessions", "users"): ("users", "username"),
    ("sessions", "location"): ("locations", "name"),
    ("datasets", "session"): ("sessions", "id"),
    ("datasets", "dataset_type"): ("dataset-types", "name"),
    ("datasets", "data_format"): ("data-formats", "name"),
    ("datasets", "revision"): ("revisions", "name"),
    ("datasets", "tags"): ("tags", "name"),
    ("datasets", "created_by"): ("users", "username"),
    ("files", "dataset"): ("datasets", "id"),
    ("files", "data_repository"): ("data-repository", "name"),
    ("insertions", "session"): ("sessions", "id"),
    ("trajectories", "probe_insertion"): ("insertions", "id"),
    ("channels", "trajectory_estimate"): ("trajectories", "id"),
    ("weighings", "subject"): ("subjects", "nickname"),
    ("water-administrations", "subject"): ("subjects", "nickname"),
    ("water-administrations", "session"): ("sessions", "id"),
    ("water-restriction", "subject"): ("subjects", "nickname"),
    ("surgeries", "subject"): ("subjects", "nickname"),
    ("tasks", "session"): ("sessions", "id"),
    ("downloads", "dataset"): ("datasets", "id"),
    ("downloads", "user"): ("users", "username"),
}
REVERSE = {
    ("subjects", "actions_sessions"): ("sessions", "subject"),
    ("subjects", "weighings"): ("weighings", "subject"),
    ("sessions", "data_dataset_session_related"): ("datasets", "session"),
    ("sessions", "wateradmin_session_related"): ("water-administrations", "session"),
    ("sessions", "probe_insertion"): ("insertions", "session"),
    ("datasets", "file_records"): ("files", "dataset"),
    ("insertions", "trajectory_estimate"): ("trajectories", "probe_insertion"),
    ("trajectories", "channels"): ("channels", "trajectory_estimate"),
}


@dataclass
class Row:
    """One row: as a list shows it, and as its detail does where that differs.

    A list names subjects by nickname; where two have it, `owner` is the id of the one whose row this is.
    """

    id: str
    shown: dict[str, Any]
    detail: dict[str, Any] | None = None
    detail_status: int = 200
    text: str = ""
    owner: str = ""

    def as_json(self) -> str:
        """Return the row of a list as JSON, made once."""
        if not self.text:
            self.text = json.dumps(self.shown, ensure_ascii=False)
        return self.text


@dataclass
class Page:
    """One answer to a list request."""

    count: int
    rows: list[Row]
    limit: int
    offset: int

    @property
    def has_next(self) -> bool:
        return self.offset + self.limit < self.count


@dataclass
class Base:
    """All rows of one Alyx at one moment."""

    resources: dict[str, dict[str, Row]] = field(default_factory=lambda: {name: {} for name in RESOURCES})
    fixed: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    lossy: dict[str, list[str]] = field(default_factory=dict)
    parameters: dict[str, set[str]] = field(default_factory=dict)
    openapi: dict[str, Any] | None = None
    _found: dict[tuple[str, str], dict[Any, list[Row]]] = field(default_factory=dict)
    _reached: dict[tuple[str, ...], dict[str, list[Any]]] = field(default_factory=dict)

    def put(
        self, resource: str, shown: dict[str, Any], detail: dict[str, Any] | None = None, status=200, owner: str = ""
    ) -> Row:
        """Add a row, or put another in its place."""
        row = Row(identity(resource, shown), shown, detail, status, owner=owner)
        self.resources[resource][row.id] = row
        self.changed()
        return row

    def remove(self, resource: str, row_id: str) -> None:
        """Delete a row; a session takes its datasets, files and insertions with it, a dataset its files."""
        for (owner, _), (child, name) in REVERSE.items():
            if owner == resource and resource != "subjects":
                for row in list(self.resources[child].values()):
                    if last_part(row.shown.get(name)) == row_id:
                        self.remove(child, row.id)
        del self.resources[resource][row_id]
        self.changed()

    def edit(self, resource: str, row_id: str, **values: Any) -> None:
        """Change a row; the keys of `values` that its list does not show go to its detail."""
        row = self.resources[resource][row_id]
        row.text = ""
        for name, value in values.items():
            if name in row.shown:
                row.shown[name] = value
            if row.detail is not None and (name in row.detail or name not in row.shown):
                row.detail[name] = value
        self.changed()

    def copy(self) -> Base:
        return copy.deepcopy(self)

    def changed(self) -> None:
        """Forget what was known of the rows as they were recorded."""
        self._found.clear()
        self._reached.clear()
        self.lossy.clear()
        self.fixed = {path: answer for path, answer in self.fixed.items() if answer[0] != 200}

    def rows(self, resource: str) -> Iterable[Row]:
        return self.resources[resource].values()

    def named(self, resource: str, attribute: str, value: Any) -> list[Row]:
        """Return the rows whose attribute is a value; of lists and urls, the last part of each counts."""
        key = (resource, attribute)
        if key not in self._found:
            found: dict[Any, list[Row]] = {}
            for row in self.rows(resource):
                held = row.id if attribute == "id" else row.shown.get(attribute)
                for one in held if isinstance(held, list) else [held]:
                    found.setdefault(last_part(one), []).append(row)
            self._found[key] = found
        return self._found[key].get(value, [])

    def owners(self, row: Row) -> list[Row]:
        """Return the subject that a row names, or both that may be meant."""
        return self._pointed_at(row, "subjects", "nickname", row.shown["subject"])

    def one(self, resource: str, name: str) -> list[Row]:
        """Return the rows that a detail request names."""
        attribute = NAMED_BY.get(resource)
        if attribute:
            return self.named(resource, attribute, name)
        return [self.resources[resource][name]] if name in self.resources[resource] else []

    def values(self, resource: str, row: Row, path: list[str]) -> list[Any]:
        """Return what a field path like ``session__subject__nickname`` reaches from a row."""
        name, rest = path[0], path[1:]
        if name in ("id", "pk"):
            return [row.id]
        if (resource, name) in REVERSE:
            child, attribute = REVERSE[resource, name]
            key = row.shown["nickname"] if resource == "subjects" else row.id
            reached = [(child, other) for other in self.named(child, attribute, key)]
        elif (resource, name) in POINTS_TO:
            target, attribute = POINTS_TO[resource, name]
            reached = [
                (target, other)
                for value in as_list(self._field(resource, row, name))
                for other in self._pointed_at(row, target, attribute, last_part(value))
            ]
        else:
            if rest and (rest != [NAMES_ALONE.get((resource, name))]):
                raise self._cannot_resolve(resource, rest[0])
            return as_list(self._field(resource, row, name)) or [None]
        if not rest:
            rest = ["id"]
        return [value for target, other in reached for value in self.values(target, other, rest)] or [None]

    def _pointed_at(self, row: Row, target: str, attribute: str, value: Any) -> list[Row]:
        found = self.named(target, attribute, value) if value is not None else []
        if target == "subjects" and len(found) > 1:
            if owned := [other for other in found if other.id == row.owner]:
                return owned
            lab = row.shown.get("lab")
            return [other for other in found if other.shown["lab"] == lab] or found
        return found

    def _field(self, resource: str, row: Row, name: str) -> Any:
        for place in (row.shown, row.detail or {}):
            if name in place:
                return place[name]
        raise self._cannot_resolve(resource, name)

    def _cannot_resolve(self, resource: str, name: str) -> BadFilter:
        choices = sorted(next(iter(self.rows(resource))).shown) if self.resources[resource] else []
        text = f"Cannot resolve keyword '{name}' into field. Choices are: {', '.join(choices)}"
        return BadFilter(500, {"status_code": 500, "detail": text})

    def ordered(self, resource: str) -> list[Row]:
        """Return all rows in the order of the resource, or, where it has none, as they lie."""
        rows = list(self.rows(resource))
        if resource == "sessions":
            rows.sort(key=lambda row: (row.shown["start_time"] is None, row.shown["start_time"] or ""), reverse=True)
        elif resource == "subjects":
            rows.sort(key=lambda row: row.shown["birth_date"] or "9999", reverse=True)
            rows.sort(key=lambda row: row.shown["nickname"])
        elif resource == "insertions":
            rows.sort(key=lambda row: row.shown["name"])
            rows.sort(key=lambda row: row.shown["session_info"].get("start_time") or "9999", reverse=True)
        elif resource == "water-restriction":
            rows.sort(key=lambda r: (r.shown["end_time"] or "9999", r.shown["start_time"]), reverse=True)
        return rows

    def list(self, resource: str, query: list[tuple[str, str]]) -> Page:
        """Answer a list request as Alyx does, row-losing offsets of unordered resources included."""
        given = dict(query)
        rows = self.ordered(resource)
        for name, value in query:
            if name in ("limit", "offset"):
                continue
            if name == "django":
                if resource in WITH_DJANGO:
                    rows = self._django(resource, rows, value)
            elif name in FILTERS.get(resource, {}):
                rows = [row for row in rows if FILTERS[resource][name](self, row, value)]
            elif name in self.parameters.get(resource, set()):
                raise UnknownFilter(f"{resource}?{name}=")
        limit, offset = whole(given.get("limit")), whole(given.get("offset"))
        limit = min(limit, MAX_LIMIT) if limit else PAGE_SIZE
        if resource in UNORDERED:
            rows = by_plan(rows, offset, limit)
        return Page(len(rows), rows[offset : offset + limit], limit, offset)

    def _django(self, resource: str, rows: list[Row], text: str) -> list[Row]:
        parts = [part.strip() for part in re.split(r",(?![^\[(]*[\])])", text)]
        if len(parts) % 2:
            raise BadFilter(500, {"status_code": 500, "detail": "list index out of range"})
        for name, value in zip(parts[::2], parts[1::2], strict=True):
            path = name.removeprefix("~").split("__")
            lookup = path.pop() if len(path) > 1 and path[-1] in LOOKUPS else "exact"
            passes, wanted = LOOKUPS[lookup], literal(value)
            if path in (["number"], ["n_trials"]) and isinstance(wanted, str):
                detail = f"Field '{path[0]}' expected a number but got '{value}'."
                raise BadFilter(500, {"status_code": 500, "detail": detail})
            keep = not name.startswith("~")
            if path in (["id"], ["pk"]) and isinstance(wanted, str):
                rows = [row for row in rows if passes(row.id, wanted) is keep]
                continue
            reached = self._reached.setdefault((resource, *path), {})
            for row in rows:
                if row.id not in reached:
                    reached[row.id] = [comparable(value) for value in self.values(resource, row, path)]
            bound = comparable(wanted)
            rows = [row for row in rows if any(passes(value, bound) for value in reached[row.id]) is keep]
        return rows


NAMES_ALONE = {("insertions", "model"): "probe_model", ("trajectories", "coordinate_system"): "name"}
"""What rows name that has no list of its own."""


def by_plan(rows: list[Row], offset: int, limit: int) -> list[Row]:
    """Return rows in the order of the plan that a page gets: beyond the middle another, so that offsets lose rows."""
    if len(rows) <= PAGE_SIZE or offset + limit <= len(rows) // 2 or not offset:
        return rows
    return sorted(rows, key=lambda row: hashlib.md5(row.id.encode(), usedforsecurity=False).digest())


def whole(text: str | None) -> int:
    """Return a natural number, 0 for anything that is none."""
    return int(text) if text and text.isdecimal() else 0


def page_path(path: str, query: list[tuple[str, str]], limit: int, offset: int) -> str:
    """Return path and query of another page, its names in order as Alyx writes them."""
    names = {**dict(query), "limit": str(limit), "offset": str(offset)}
    if not offset:
        names.pop("offset")
    return path + "?" + "&".join(f"{name}={quote(names[name], safe='')}" for name in sorted(names))


def identity(resource: str, shown: dict[str, Any]) -> str:
    """Return the id of a row; what shows none gets one made from all that names it, as the server has one inside."""
    for name in ("id", "url"):
        found = str(last_part(shown.get(name, "")))
        if resource == "brain-regions" or re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found):
            return found
    named = "/".join(str(shown.get(name, "")) for name in ("name", "lab", "subject", "start_time"))
    return made_uuid(f"{resource}/{named}")


def made_uuid(text: str) -> str:
    """Return the same random-looking uuid4 for the same text."""
    return str(uuid.UUID(bytes=hashlib.md5(text.encode(), usedforsecurity=False).digest(), version=4))


def parameters_of(openapi: dict[str, Any]) -> dict[str, set[str]]:
    """Return the query names that each list has."""
    return {
        path[1:]: {parameter["name"] for parameter in methods["get"].get("parameters", [])}
        for path, methods in openapi["paths"].items()
        if "get" in methods and path[1:] in RESOURCES
    }


def own_openapi() -> dict[str, Any]:
    """Return a schema that lists the filters of this replay, for a base without a recorded one."""
    paths = {}
    for resource in RESOURCES:
        names = ["limit", "offset", *FILTERS.get(resource, {}), *(["django"] if resource in WITH_DJANGO else [])]
        parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
        paths[f"/{resource}"] = {"get": {"operationId": f"{resource}_list", "parameters": parameters}}
    return {"openapi": "3.0.3", "info": {"title": "Alyx", "version": "3.6.1"}, "paths": paths}

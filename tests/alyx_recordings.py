"""Recorded answers of a real Alyx as a `Base`, and larger bases made of one."""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from alyx_filters import last_part
from alyx_rows import NAMED_BY, ORIGIN, RESOURCES, Base, Row, identity, made_uuid, own_openapi, parameters_of


def read_body(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def normal(path: str) -> str:
    """Return a path with its query decoded and in one order."""
    parts = urlsplit(path)
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    return unquote(parts.path) + ("?" + query if query else "")


def recorded_requests(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the entries of a folder of recordings, each with its body under "body"."""
    for entry in json.loads((folder / "index.json").read_text("utf-8"))["requests"]:
        yield {**entry, "body": read_body(folder / entry["file"]) if "file" in entry else b""}


def is_lasting(entry: dict[str, Any]) -> bool:
    """Say whether a recorded answer holds as long as the rows do, for a client with a good token."""
    passing = entry["status"] in (406, 429) or entry.get("note", "").startswith("while ")
    return entry["method"] == "GET" and entry.get("auth") == "valid" and not passing


def load_recordings(folder: Path) -> Base:
    """Return the base that a folder of recorded answers shows."""
    base = Base()
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in RESOURCES}
    details: dict[str, dict[str, tuple[int, Any]]] = {name: {} for name in RESOURCES}
    fixed: dict[str, tuple[int, str, bytes]] = {}
    lossy: dict[str, list[str]] = {}
    for entry in recorded_requests(folder):
        path, group, body = normal(entry["path"]), entry["group"], entry["body"]
        resource = path.split("/")[1].split("?")[0]
        if entry["path"] == "/api/schema":
            base.openapi = json.loads(body)
        elif group in ("sync", "sync_by_id_range"):
            lists[resource] += json.loads(body)["results"]
        elif group == "detail":
            details[resource][unquote(path.split("/")[2])] = (entry["status"], json.loads(body))
        elif group == "paging_lossy":
            lossy[path] = [identity(resource, row) for row in json.loads(body)["results"]]
        elif group in ("filters", "incremental", "errors", "misc", "cache") and is_lasting(entry):
            fixed.setdefault(path, (entry["status"], entry["headers"]["content-type"], body))
    for resource, rows in lists.items():
        for shown in rows:
            status, detail = details[resource].get(str(shown.get(NAMED_BY.get(resource, ""), "")), (200, None))
            if detail is None:
                status, detail = details[resource].get(identity(resource, shown), (200, None))
            base.put(resource, shown, detail, status)
    _find_owners(base)
    base.fixed, base.lossy = fixed, lossy
    if base.openapi is None:
        base.openapi = own_openapi()
    base.parameters = parameters_of(base.openapi)
    return base


def _find_owners(base: Base) -> None:
    """Find whose the rows are that name a subject by a nickname which two have, by what else is recorded of the two.

    Nothing happens to an animal before it is born; the list of subjects shows the last water restriction of each; and
    water is restricted, given and weighed by the user who is responsible for the animal.
    """
    for resource, when in (
        ("weighings", "date_time"), ("water-administrations", "date_time"), ("water-restriction", "start_time"),
        ("surgeries", "start_time"),
    ):  # fmt: skip
        for row in base.rows(resource):
            found = base.named("subjects", "nickname", row.shown["subject"])
            if len(found) < 2:
                continue
            for says_so in (
                lambda animal: (animal["birth_date"] or "") <= row.shown[when],  # noqa: B023
                lambda animal: animal["last_water_restriction"] == row.shown[when],  # noqa: B023
                lambda animal: animal["responsible_user"] == row.shown.get("user"),  # noqa: B023
            ):
                found = [animal for animal in found if says_so(animal.shown)] or found
            assert len(found) == 1, f"{resource} {row.id}: whose is it?"
            row.owner = found[0].id


def multiplied(base: Base, copies: int) -> Base:
    """Give a base `copies` of each dataset and its files, each with ids and paths of its own."""
    for resource in ("datasets", "files"):
        for row in list(base.rows(resource)):
            for number in range(1, copies):
                shown = _copied(resource, row.shown, number)
                new = Row(identity(resource, shown), shown)
                base.resources[resource][new.id] = new
    base.changed()
    return base


def _copied(resource: str, shown: dict[str, Any], number: int) -> dict[str, Any]:
    new = copy.deepcopy(shown)

    def other(text: str) -> str:
        return f"{text.rsplit('/', 1)[0]}/{made_uuid(f'{text}/{number}')}"

    def moved(path: str) -> str:
        return re.sub(r"/(#[^/]*#/)?([^/]+)$", rf"/copy{number:03d}/\1\2", path)

    new["url"] = other(new["url"])
    if resource == "files":
        new["dataset"] = other(new["dataset"])
        new["relative_path"] = moved(new["relative_path"])
        return new
    new["collection"] = f"{new['collection']}/copy{number:03d}"
    for record in new["file_records"]:
        record["id"] = last_part(other(f"{ORIGIN}/files/{record['id']}"))
        record["relative_path"] = moved(record["relative_path"])
        if record["data_url"]:
            record["data_url"] = moved(record["data_url"])
    return new

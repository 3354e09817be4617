"""What the tables must hold after a sync, straight from the rows of the server.

Which column holds a field is declared once, in `labweave.formats.alyx.fields`; the values are converted here in their
own way. `expected` reads a `Base`, `found` reads the tables. Both give plain values by table and key, so that they
can be compared and their differences printed.
"""

from __future__ import annotations

import datetime as dt
import json
import unicodedata
from typing import Any

from alyx_filters import last_part
from alyx_rows import Base, Row

from labweave.formats.alyx import RESOURCES
from labweave.formats.alyx.fields import Field
from labweave.schemas import dataset, lab, session, subject

Values = dict[str, Any]
Rows = dict[tuple, Values]
SCHEMAS = {"dataset": dataset, "lab": lab, "session": session, "subject": subject}
WORDED = {("surgeries", "outcome_type")}
"""What is stored in other words."""


def table(label: str) -> Any:
    """Return a table by its label."""
    schema, _, name = label.partition(".")
    return getattr(SCHEMAS[schema], name)


def fields_of(resource: str) -> tuple[Field, ...]:
    return RESOURCES["session-details" if resource == "sessions" else resource].fields


def owner_of(base: Base, row: Row, resource: str) -> Values:
    """Return lab and name of the subject that a row names."""
    if resource == "sessions":
        named = [other.shown for other in base.named("subjects", "nickname", row.shown["subject"])]
        animal = ([shown for shown in named if shown["lab"] == row.shown["lab"]] or named)[0]
    else:
        animal = base.owners(row)[0].shown
    return {"lab": animal["lab"], "subject": animal["nickname"]}


def values_of(base: Base, row: Row, resource: str) -> Values:
    """Return what the columns of a row must say, converted in its own way."""
    record = {**row.shown, **((row.detail or {}) if resource == "sessions" else {})}
    values = {}
    for field in fields_of(resource):
        if field.has_column and (resource, field.name) not in WORDED and field.name in record:
            value = record[field.name]
            is_time = isinstance(value, str) and field.kind in ("time", "stamp")
            is_id = field.kind in ("id", "uuid")
            values[field.column] = moment(value) if is_time else last_part(value) if is_id else value
    if RESOURCES[resource].by_nickname:
        values |= owner_of(base, row, resource)
    if resource == "sessions":
        path_lab = record["lab"] if record["lab"] != values["lab"] else ""
        values |= {"path_lab": path_lab, "session_date": (record["start_time"] or "")[:10]}
    return values


def key_of(resource: str) -> tuple[str, ...]:
    """Return the columns that tell rows apart: the uuid where Alyx has one."""
    if resource == "water-restriction":
        return ("lab", "subject", "restriction_start")
    columns = {field.name: field.column for field in fields_of(resource) if field.has_column and field.is_shown}
    if resource == "locations":
        return columns["lab"], columns["name"]
    return (columns.get("id") or columns.get("url") or columns["name"],)


def moment(text: str | None) -> str:
    """Return a time as text with microseconds."""
    return dt.datetime.fromisoformat(text).isoformat(sep=" ", timespec="microseconds") if text else ""


TABLES = [name for name in RESOURCES if name not in ("session-details", "notes")]
"""The resources of which each record is one row."""

LISTS = {
    field.column.rpartition(".")[0]: (name, field.name, field.column.rpartition(".")[2])
    for name in TABLES
    for field in fields_of(name)
    if field.kind == "names"
}
"""Table between two others -> resource, field of its names, column that holds a name."""


def links_of(base: Base, label: str) -> set[tuple]:
    """Return the rows that a table between two others must hold."""
    resource, field, column = LISTS[label]
    found = set()
    for row in base.rows(resource):
        values = values_of(base, row, resource)
        for name in {**row.shown, **(row.detail or {})}[field]:
            found.add(tuple(plain(name if key == column else values[key]) for key in table(label).primary_key))
    return found


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
    rows = {}
    for row in base.rows(resource):
        values = {name: plain(value) for name, value in values_of(base, row, resource).items()}
        rows[tuple(values[name] for name in key_of(resource))] = values
    return rows


def found(resource: str) -> Rows:
    """Return the rows that the table of a resource holds, vanished ones left out."""
    return {
        tuple(plain(row[name]) for name in key_of(resource)): row for row in present(table(RESOURCES[resource].table))
    }


def present(of: Any) -> list[Values]:
    """Return the rows of a table that have not vanished."""
    rows = of().to_dicts()
    mark = next((name for name in of().heading.names if name.endswith("_vanished")), None)
    return [row for row in rows if mark is None or row[mark] is None]


def vanished(resource: str) -> dict[tuple, str | None]:
    """Return for each row of a table the run that no longer found it."""
    rows, mark = table(RESOURCES[resource].table)().to_dicts(), RESOURCES[resource].mark
    return {tuple(plain(row[name]) for name in key_of(resource)): row[mark] for row in rows}


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
    wanted, key = links_of(base, name), table(name).primary_key
    gone = {
        "eid": base.resources["sessions"],
        "dataset_id": base.resources["datasets"],
        "project": {row.shown["name"] for row in base.rows("projects")},
    }
    held = {
        tuple(plain(row[column]) for column in key)
        for row in present(table(name))
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
    return lines + [line for name in LISTS for line in wrong_links(base, name)]

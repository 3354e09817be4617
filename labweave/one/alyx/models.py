"""What ``django=`` filters mean on labweave's tables.

The fields are declared in `labweave.formats.alyx.fields`; which records name which others is said here.

A filter is a path of field names with two underscores between them and an optional lookup at its end
(``session__subject__nickname__icontains``). Text is compared in Python with the distinct values of the
column, so that every database gives the same answer; the rest becomes a restriction of the table.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import datajoint as dj

from labweave.formats.alf.qc import QC
from labweave.formats.alyx import RESOURCES, Resource
from labweave.formats.alyx.fields import KINDS, Field
from labweave.one.search.expressions import Expression
from labweave.schemas import dataset, lab, session, subject

Comparison = Callable[[Any, Any], bool]

AS_TEXT: dict[str, Comparison] = {
    "iexact": lambda held, text: held.casefold() == text.casefold(),
    "contains": lambda held, text: text in held,
    "icontains": lambda held, text: text.casefold() in held.casefold(),
    "startswith": lambda held, text: held.startswith(text),
    "regex": lambda held, expression: expression.search(held),
}
"""Lookups whose value is never anything but a text."""
COMPARISONS: dict[str, tuple[str, Comparison]] = {
    "gte": (">=", operator.ge), "lte": ("<=", operator.le), "gt": (">", operator.gt), "lt": ("<", operator.lt)
}  # fmt: skip
ORDER = {name: compare for name, (_, compare) in COMPARISONS.items()}
TEXT_LOOKUPS = AS_TEXT | ORDER
LOOKUPS = ("exact", "in", "isnull", *AS_TEXT, *COMPARISONS)


@dataclass(frozen=True)
class Column:
    """One field of a record: an attribute of its table, and what it is compared as.

    `inside` is, for JSON, the key below which the field lies in the attribute, empty for the whole of it. `equal` is,
    for a flag that the table holds as a word, the word that means true. `otherwise` is the attribute that counts where
    this one is empty.
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
    links: dict[str, Link]

    def rows(self) -> Any:
        """Return the rows that are still at their source."""
        return self.table() & f"{self.vanished} is null" if self.vanished else self.table()


TABLES = {"dataset": dataset, "lab": lab, "session": session, "subject": subject}
NAMED_BY = {"users": "username"}
"""Resource -> the field that its records are named by, where that is not the name."""

_SUBJECT = {"subject": Link("subjects", ("lab", "subject"))}
_SESSION = {"session": Link("sessions", ("eid",))}

LINKS: dict[str, dict[str, Link]] = {
    "sessions": {
        **_SUBJECT,
        "data_dataset_session_related": Link("datasets", ("eid",)),
        "probe_insertion": Link("insertions", ("eid",)),
    },
    "datasets": {**_SESSION, "file_records": Link("files", ("dataset_id",))},
    "files": {
        "dataset": Link("datasets", ("dataset_id",)),
        "data_repository": Link("data-repository", ("repository",)),
    },
    "insertions": {**_SESSION, "trajectory_estimate": Link("trajectories", ("eid", "probe_name"))},
    "trajectories": {
        **_SESSION,
        "probe_insertion": Link("insertions", ("eid", "probe_name")),
        "channels": Link("channels", ("trajectory_uuid",)),
    },
    "channels": {"trajectory_estimate": Link("trajectories", ("trajectory_uuid",))},
    "subjects": {
        "actions_sessions": Link("sessions", ("lab", "subject")),
        "weighings": Link("weighings", ("lab", "subject")),
    },
    **dict.fromkeys(("weighings", "water-administrations", "water-restriction", "surgeries"), _SUBJECT),
}
"""Endpoint -> the records that its own name, or that name them."""

_NICKNAME = {
    **dict.fromkeys(("subject", "subject__nickname"), Column("subject")),
    **dict.fromkeys(("subject__lab", "subject__lab__name"), Column("lab")),
}
COLUMNS: dict[str, dict[str, Column]] = {
    "sessions": {
        **dict.fromkeys(("lab", "lab__name"), Column("path_lab", otherwise="lab")),
        "start_time__date": Column("session_date", "date"),
    },
    "channels": {"brain_region__id": Column("brain_region", "number")},
    "data-repository": {"globus_is_personal": Column("repository_kind", "bool", equal="personal")},
}
"""Endpoint -> what its filters may name besides its fields."""


def resource_of(endpoint: str) -> Resource:
    """Return the resource whose fields are those of an endpoint: a session has those of its details."""
    return RESOURCES["session-details" if endpoint == "sessions" else endpoint]


def table_of(label: str) -> Any:
    """Return a table by its label, for example ``session.Session``."""
    schema, _, name = label.partition(".")
    return getattr(TABLES[schema], name)


def filter_name(field: Field) -> str:
    """Return what filters call a field: an address is that of the record's own id."""
    return "id" if field.name == "url" else field.name


def _columns_of(resource: Resource) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for field in resource.fields:
        name = filter_name(field)
        if not field.filter or field.kind == "names":
            continue
        if field.kind == "extra":
            columns[name] = Column(resource.json, "json", field.name)
            continue
        columns[name] = Column(field.column, KINDS[field.kind].compared_as)
        if field.kind in ("link", "label"):
            columns[f"{name}__{NAMED_BY.get(field.of, 'name')}"] = columns[name]
    names_one = resource.name != "locations"  # two labs may have locations of one name
    key = columns.get("id", columns.get("name") if names_one else None)
    return {**columns, "pk": key} if key else columns


def _models() -> dict[str, Model]:
    """Return a model for each endpoint, and for each list of names in its records."""
    models: dict[str, Model] = {}
    for endpoint in RESOURCES.keys() - {"session-details"}:
        resource, links = resource_of(endpoint), dict(LINKS.get(endpoint, {}))
        for field in resource.fields:
            if field.kind == "names" and field.filter:
                label, _, attribute = field.column.rpartition(".")
                links[field.name] = Link(f"{endpoint}.{field.name}", resource.key)
                columns = dict.fromkeys((NAMED_BY.get(field.of, "name"), "pk"), Column(attribute))
                own = {attribute: Link(field.of, (attribute,))}
                models[f"{endpoint}.{field.name}"] = Model(table_of(label), "", columns, own)
        if endpoint == "sessions":
            links["project"] = links["projects"]
        named = _NICKNAME if RESOURCES[endpoint].by_nickname else {}
        columns = {**_columns_of(resource), **named, **COLUMNS.get(endpoint, {})}
        models[endpoint] = Model(table_of(resource.table), resource.mark, columns, links)
    return models


MODELS = _models()


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
            return [item.strip() for item in text[1:-1].split(",")]
    return text


def split(text: str) -> list[str]:
    """Return the parts of a text between its commas, those in brackets left together."""
    return [part.strip() for part in re.findall(r"(?:\[[^\]]*\]|\([^)]*\)|[^,])+|(?<=,)(?=,|$)", text)]


def django(name: str, query: Any, text: str) -> Any:
    """Restrict the rows of a model by a ``django=`` filter: ``path,value,path,value``, each with ~ to exclude."""
    for path, value in pairs(f"django={text!r} on {name}", "subject__nickname,KS005", split(text)):
        query = restrict(name, query, path, value)
    return query


def pairs(asked: str, example: str, parts: list[Any]) -> Iterable[tuple[Any, Any]]:
    """Return names and values that alternate as pairs, or raise ValueError."""
    if not parts or len(parts) % 2:
        raise ValueError(f"{asked}: names and values must alternate, separated by commas, for example {example}.")
    return zip(parts[::2], parts[1::2], strict=True)


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
                except (TypeError, ValueError) as error:
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
        names = qc_fits(lookup, value)
        unset: list[Any] = [f"{attribute} is null"] if "NOT_SET" in names else []
        return query & ([{attribute: name} for name in names] + unset)
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
        values = [convert(item) for item in as_list(value)] if lookup == "in" else [convert(value)]
        sign = COMPARISONS[lookup][0] if lookup in COMPARISONS else "="
        return query & [f"{attribute} {sign} {item}" for item in values]
    if lookup in ("exact", "in"):
        clean = str.lower if column.kind == "uuid" else str
        return query & [{attribute: clean(str(item))} for item in (as_list(value) if lookup == "in" else [value])]
    fits, text = TEXT_LOOKUPS[lookup], _text(lookup, value)
    held = [row[attribute] for row in (dj.U(attribute) & query).to_dicts()]
    return query & [{attribute: item} for item in held if item is not None and fits(str(item), text)]


def qc_fits(lookup: str, value: Any) -> list[str]:
    """Return the outcomes of quality control that fit; a value is a name or a number."""
    if lookup == "in":
        return [name for item in as_list(value) for name in qc_fits("exact", item)]
    name = str(value).upper()
    number = QC[name] if name in QC else int(value) if str(value).isdecimal() else None
    if number is None or (lookup == "exact" and number not in QC.values()):
        raise ValueError(f"{value!r} is not one of {', '.join(QC)}")
    fits = {"exact": operator.eq, "iexact": operator.eq, **ORDER}.get(lookup)
    if fits is None:
        raise ValueError(f"lookup {lookup} on an outcome of quality control")
    return [name for name, severity in QC.items() if fits(severity, number)]


def _by_json(query: Any, column: Column, tail: list[str], value: Any) -> Any:
    """Keep rows whose JSON has a fitting value at a path; JSON is compared in Python."""
    lookup = tail[-1] if tail and tail[-1] in LOOKUPS else "exact"
    path = tail[:-1] if tail and tail[-1] in LOOKUPS else tail
    keys = [column.inside, *path] if column.inside else path
    rows = (query & f"{column.attribute} is not null").proj(column.attribute).to_dicts()
    found = [({name: row[name] for name in query.primary_key}, value_at(row[column.attribute], keys)) for row in rows]
    held = [(key, item) for key, item in found if item is not None]
    value = _text(lookup, value) if lookup in AS_TEXT else value
    if lookup == "isnull":
        there = query & [key for key, _ in held]
        return query - there.proj() if _as_bool(value) else there
    return query & [key for key, item in held if json_fits(lookup, item, value)]


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
        values = as_list(value) if lookup == "in" else [value]
        return any(held == item or (type(held) is not type(item) and str(held) == str(item)) for item in values)
    if lookup in COMPARISONS and isinstance(held, (int, float)) and not isinstance(held, bool):
        return ORDER[lookup](held, float(value))
    text = held if isinstance(held, str) else json.dumps(held, ensure_ascii=False)
    return TEXT_LOOKUPS[lookup](text, value if lookup in AS_TEXT else str(value))


def _text(lookup: str, value: Any) -> Any:
    """Return the text that others are compared with, an expression for ``regex``."""
    return Expression(str(value)) if lookup == "regex" else str(value)


def as_list(value: Any) -> list[Any]:
    """Return the values of a filter: those of a list, and those between the commas of a text."""
    if isinstance(value, (list, tuple, set)):
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

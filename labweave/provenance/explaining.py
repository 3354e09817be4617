"""Why a value is what it is: what it was made from, down to the files, the programs and the people."""

from __future__ import annotations

import datetime as dt
import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from labweave.database import current
from labweave.database.inputs import find_table, inputs_of, is_name_of_results, made_id, out_of_date, tables_in
from labweave.database.reads import rows_among, table_label
from labweave.database.values import to_json
from labweave.errors import SchemaError
from labweave.formats.hashing import sha256_of_file
from labweave.formats.places import folder_of
from labweave.schemas.ingestion import Change, Run, Source, SourceFile
from labweave.schemas.provenance import Code, Made, Verified
from labweave.schemas.recording import Recording
from labweave.schemas.through import Through

ROWS_SHOWN = 100
"""How many rows of one table are listed."""

UNITS = frozenset(
    ("nA", "pA", "mV", "V", "MOhm", "pF", "s", "ms", "ns", "Hz", "g", "ml", "bytes", "um", "degrees", "rad")
)
"""First words of an attribute's comment that are its unit."""


@dataclass
class Node:
    """One line of an explanation, with what stands below it."""

    text: str
    nodes: list[Node] = field(default_factory=list)

    def add(self, text: str) -> Node:
        """Add a line below, and return it."""
        node = Node(text)
        self.nodes.append(node)
        return node


@dataclass
class Explanation:
    """Why a row is what it is.

    Attributes
    ----------
    table : str
    key : dict
    root : Node
        As a tree of lines; `str` gives its text, and a notebook shows it.
    """

    table: str
    key: dict[str, Any]
    root: Node

    def __str__(self) -> str:
        return "\n".join([self.root.text, *_lines(self.root.nodes, "")])

    def _repr_html_(self) -> str:
        return _html(self.root, is_open=True)


def explain(query: Any) -> Explanation:
    """Say why a row is what it is.

    Parameters
    ----------
    query : DataJoint table, restricted to one row
        A result, a part of one, or a row that came from files or a server.

    Returns
    -------
    Explanation
        Values with units; when, by whom and by which programs it was made, and whether it would come out otherwise
        now; the rows it rests on; their files, and whether these are the same; what was overwritten before.

    Raises
    ------
    SchemaError
        Not exactly one row fits.

    Examples
    --------
    >>> import labweave
    >>> from labweave.schemas.rheobase import Rheobase
    >>> print(labweave.explain(Rheobase & {"cell": "sim01"}))
    rheobase.Rheobase ... cell=sim01 rheobase_method=absolute
    ├─ rheobase = ... nA   (null when there is none)
    ...
    ├─ recording.RecordingStimulus: ... rows
    ...
    """
    current()
    table = query() if isinstance(query, type) else query
    rows = table.to_dicts(limit=2)
    if len(rows) != 1:
        found = "No row fits" if not rows else f"{len(table)} rows fit"
        raise SchemaError(f"{found} {table_label(table)}. Restrict it to one by {', '.join(table.primary_key)}.")
    (row,) = rows
    key = {name: row[name] for name in table.primary_key}
    root = Node(f"{table_label(table)} {_key_text(key)}")
    _add_values(root, table, row)
    result = find_table(table.connection, _result_of(table))
    own = {name: key[name] for name in result.primary_key if name in key}
    used: dict[str, tuple[Any, dict[tuple, dict[str, Any]]]] = {}
    if is_name_of_results(result.full_table_name):
        _add_make(root, result, own)
        _collect(result, own, used)
    used.setdefault(table_label(result), (result, {}))[1][tuple(own.values())] = own
    _add_rows(root, used, table_label(result))
    _add_files(root, used)
    _add_changes(root, used)
    return Explanation(table_label(table), key, root)


def _result_of(table: Any) -> str:
    """Return the full name of a table, or of the master of a part."""
    master = getattr(table, "_master", None)
    return master.full_table_name if master else table.full_table_name


def _collect(table: Any, key: Mapping[str, Any], used: dict[str, tuple[Any, dict[tuple, dict[str, Any]]]]) -> None:
    """Collect the rows that a result rests on, and those that these rest on, by table."""
    for given in inputs_of(table, key).values():
        expression = given.rows * given.way if isinstance(given, Through) else given
        for part in tables_in(expression):
            names = [name for name in part.primary_key if name in expression.heading.names]
            if len(names) < len(part.primary_key):
                continue
            rows = used.setdefault(table_label(part), (part, {}))[1]
            new = []
            wanted = expression.proj(*(name for name in names if name not in expression.primary_key))
            for row in wanted.to_dicts(order_by=names):
                own = {name: row[name] for name in part.primary_key}
                if tuple(own.values()) not in rows:
                    rows[tuple(own.values())] = own
                    new.append(own)
            if is_name_of_results(part.full_table_name) and len(new) <= ROWS_SHOWN:
                for own in new:
                    _collect(part, own, used)


def _add_values(node: Node, table: Any, row: Mapping[str, Any]) -> None:
    for name in table.heading.secondary_attributes:
        if row[name] in (None, "") and name != table.heading.secondary_attributes[0]:
            continue
        about = re.sub(r"^:[^:]*:", "", table.heading[name].comment or "")
        first, _, rest = (part.strip() for part in re.split(r"([,;])", about + ",", maxsplit=1))
        unit, about = (f" {first}", rest.rstrip(",")) if first in UNITS else ("", about)
        value = "none" if row[name] is None else _value_text(row[name]) + unit
        node.add(f"{name} = {value}" + (f"   ({about})" if about else ""))


def _add_make(root: Node, table: Any, key: Mapping[str, Any]) -> None:
    """Add when, by whom and by which programs a result was made, and whether it is out of date."""
    where = (table & dict(key)).where_clause()
    (made,) = table.connection.query(
        f"select {made_id(table, 't')} from {table.full_table_name} t{where} limit 1"
    ).fetchone()
    found = ((Made * Code) & {"made": made}).to_dicts()
    if not found:
        root.add("made: nobody kept when and from what (before labweave did, or inserted by hand)")
    for row in found:
        by = (
            f"made {_time(row['made_at'])} by {row['made_by'] or 'somebody'} on {row['host']} in {row['seconds']:.3g} s"
        )
        node = root.add(by)
        node.add(", ".join(f"{name} {version}" for name, version in sorted(row["versions"].items())))
        if row["git"]:
            node.add(f"checkout at {row['git']['commit'][:12]}" + " with changed files" * row["git"]["changed"])
        node.add(row["platform"])
    for one in out_of_date(table & dict(key)):
        root.add(f"would be made again: {'; '.join(one.reasons)}")
    for row in (Verified & {"made": made}).to_dicts(order_by="verified_at desc", limit=1):
        root.add(f"verified {_time(row['verified_at'])} by {row['verified_by']}: {row['outcome']}")


def _add_rows(root: Node, used: Mapping[str, tuple[Any, dict[tuple, dict[str, Any]]]], own: str) -> None:
    """Add the rows that a result rests on, a node for each table."""
    for label, (table, keys) in used.items():
        if label == own or not keys:
            continue
        node = root.add(f"{label}: {len(keys)} row{'s' * (len(keys) != 1)}")
        listed = list(keys.values())[:ROWS_SHOWN]
        names = [name for name in table.heading.secondary_attributes if not _is_long(table, name)]
        for row in (table & listed).to_dicts(order_by="KEY"):
            values = " ".join(f"{name}={_value_text(row[name])}" for name in names if row[name] not in (None, ""))
            node.add(
                f"{_key_text({name: row[name] for name in table.primary_key if name != 'eid'})}   {values}".rstrip()
            )
        if len(keys) > ROWS_SHOWN:
            node.add(f"and {len(keys) - ROWS_SHOWN} more")


def _is_long(table: Any, name: str) -> bool:
    attribute = table.heading[name]
    return attribute.is_blob or attribute.codec is not None or name in ("files", "metadata", "content_sha256", "params")


def _add_files(root: Node, used: Mapping[str, tuple[Any, dict[tuple, dict[str, Any]]]]) -> None:
    """Add the files of recordings: whether they are the same now, and who ingested them."""
    _, keys = used.get("recording.Recording", (None, {}))
    rows = (Recording & list(keys.values())[:ROWS_SHOWN]).to_dicts(order_by="KEY") if keys else []
    files = {(row["source"], file["path"]): file["sha256"] for row in rows for file in row["files"].values()}
    for source in sorted({source for source, _ in files}):
        about = (Source & {"source": source}).to_dicts()
        place = about[0]["location"] if about else ""
        node = root.add(f"files of the source {source}, {place}")
        paths = [path for name, path in files if name == source]
        runs = dict(rows_among(SourceFile, "path", paths, ("path", "run"), {"source": source}))
        told = (
            {row["run"]: row for row in (Run & [{"run": run} for run in set(runs.values())]).to_dicts()} if runs else {}
        )
        for path in paths:
            run = told.get(runs.get(path, ""))
            who = f", ingested {_time(run['started'])} by {run['started_by']} on {run['host']}" if run else ""
            digest = files[source, path]
            node.add(f"{path}  sha256 {digest[:12]}…  {_state(place, path, digest)}{who}")


def _state(place: str, path: str, digest: str) -> str:
    full = folder_of(place) / path
    if not full.exists():
        return "gone"
    return "the same" if sha256_of_file(full) == digest else "changed since"


def _add_changes(root: Node, used: Mapping[str, tuple[Any, dict[tuple, dict[str, Any]]]]) -> None:
    """Add what was overwritten or deleted before in these rows."""
    connection = Change.connection
    text = connection.adapter.text_of("row_key", False)
    node = Node("overwritten before")
    for label, (_, keys) in used.items():
        wanted = {to_json({name: _plain(value) for name, value in key.items()}) for key in keys.values()}
        anchors = {str(next(iter(key.values()))) for key in keys.values() if key}
        for anchor in anchors:
            found = connection.query(
                f"select row_key, old_values, new_values, changed_at, run from {Change.full_table_name}"
                f" where table_name = %s and {text} like %s order by changed_at",
                (label, f"%{anchor}%"),
            ).fetchall()
            for row_key, old, new, when, run in found:
                if to_json(_parsed(row_key)) in wanted:
                    values = _parsed(new)
                    told = ", ".join(f"{name} was {_value_text(value)}" for name, value in (_parsed(old) or {}).items())
                    by = f" by the run {run[:8]}" if run else ""
                    what = "deleted: " if values is None else ""
                    node.add(f"{_time(when)} {label} {_key_text(_parsed(row_key))}: {what}{told}{by}")
    if node.nodes:
        root.nodes.append(node)


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) else str(value)


def _key_text(key: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in key.items())


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = to_json(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _time(value: dt.datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC"


def _lines(nodes: list[Node], before: str) -> Iterator[str]:
    for at, node in enumerate(nodes, 1):
        is_last = at == len(nodes)
        yield f"{before}{'└─' if is_last else '├─'} {node.text}"
        yield from _lines(node.nodes, f"{before}{'   ' if is_last else '│  '}")


def _html(node: Node, is_open: bool = False) -> str:
    text = html.escape(node.text)
    if not node.nodes:
        return f"<div style='margin-left:1.2em'>{text}</div>"
    inner = "".join(_html(one) for one in node.nodes)
    return f"<details style='margin-left:1.2em'{' open' if is_open else ''}><summary>{text}</summary>{inner}</details>"

"""An explanation as a tree of lines, for people: as text, and as HTML that opens and closes."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from labweave.database.values import to_json

if TYPE_CHECKING:
    from labweave.provenance.explanation import Explanation, File, FromSource, Make, UsedRow

Item = TypeVar("Item")

SHOWN = 17
"""How many of a list are shown when there are more than a few more."""

LITTLE = {"recording.RecordingStimulus": ("amp", "n_spikes"), "recording.Recording": ("reader", "sweep")}
"""Of tables with many attributes, those that are shown."""

COUNTED = frozenset({"recording.Recording", "efeature.RecordingEFeatures"})
"""Tables of which several rows are only counted: their sweeps are listed already, unless they changed."""

LONG = frozenset({"files", "metadata", "params", "content_sha256"})
"""Attributes that a line has no room for."""

WIDTH = 80
"""How many characters of a value are shown."""

CHANGED = "   <- changed since"

STATES = {"same": "the same", "changed": "changed since", "gone": "gone"}


@dataclass
class Node:
    """One line, with what stands below it; `is_news` where something is no longer as it was."""

    text: str
    nodes: list[Node] = field(default_factory=list)
    is_news: bool = False

    def add(self, text: str, is_news: bool = False) -> Node:
        """Add a line below, and return it."""
        node = Node(text, is_news=is_news)
        self.nodes.append(node)
        return node


def tree_text(found: Explanation) -> str:
    """Return an explanation as lines of text."""
    root = make_tree(found)
    return "\n".join([root.text, *_lines(root.nodes, "")])


def tree_html(found: Explanation) -> str:
    """Return an explanation as HTML for a notebook."""
    return f'<div style="font-family: monospace; line-height: 1.5">{_html(make_tree(found), depth=0)}</div>'


def make_tree(found: Explanation) -> Node:
    """Return an explanation as a tree of lines; long lists are cut."""
    root = Node(f"{found.table} {_key_text(found.key)}")
    for one in found.values:
        value = f"{one.name} = {_value_text(one.value)}{' ' if one.unit else ''}{one.unit}"
        root.add(value + (f"   ({one.about})" if one.about else ""))
    _add_standing(root, found)
    for label, rows in found.rows.items():
        _add_rows(root, found, label, rows)
    for source in found.sources:
        _add_source(root, found, source)
    if found.overwritten:
        _add_overwritten(root, found)
    return root


def _add_standing(root: Node, found: Explanation) -> None:
    """Add when the row was made, and whether it would be made again."""
    if found.make:
        _add_make(root, found.make)
    elif found.would_be_made_again:
        root.add("made: nobody kept when and from what (before labweave did, or inserted by hand)")
    for reason in found.would_be_made_again:
        root.add(f"would be made again: {reason}", is_news=True)
    states = [file.state for _, file in found.files()]
    lost = [f"{states.count(state)} {state}" for state in ("changed", "gone") if state in states]
    if lost:
        root.add(f"files since it was ingested: {' and '.join(lost)}; labweave ingest sees that", is_news=True)
    if (verified := found.verified) is not None:
        by = f" by {verified['verified_by']}" if verified["verified_by"] else ""
        root.add(f"verified {_time(verified['verified_at'])}{by}: {verified['outcome']}")


def _add_make(root: Node, make: Make) -> None:
    by = f" by {make.made_by}" if make.made_by else ""
    node = root.add(f"made {_time(make.made_at)}{by} on {make.host} in {make.seconds:.3g} s")
    node.add(", ".join(f"{name} {version}" for name, version in sorted(make.versions.items())))
    if make.git:
        node.add(f"checkout at {make.git['commit'][:12]}" + " with changed files" * make.git["changed"])
    node.add(make.platform)
    for name, (then, now) in make.other_versions.items():
        root.add(f"{name} was {then or 'not there'}, is {now or 'not there'} now", is_news=True)
    if make.is_altered:
        root.add("changed by hand: these are not the values that its make gave", is_news=True)


def _add_rows(root: Node, found: Explanation, label: str, rows: Sequence[UsedRow]) -> None:
    """Add the rows of one table that a result rests on, the changed ones first."""
    names = [name for name in rows[0].values if name in LITTLE.get(label, rows[0].values) and name not in LONG]
    units = found.units[label]
    if len(rows) == 1:
        (row,) = rows
        own = {name: value for name, value in row.key.items() if found.key.get(name) != value}
        node = root.add(f"{label} {_key_text(own)}".rstrip() + CHANGED * row.is_changed, row.is_changed)
        for name in names:
            if row.values[name] not in (None, ""):
                node.add(f"{name} = {_value_text(row.values[name], 3 * WIDTH)} {units.get(name, '')}".rstrip())
        return
    node = root.add(f"{label}: {len(rows)} rows")
    told = [row for row in rows if row.is_changed]
    told += [row for row in rows if not row.is_changed and label not in COUNTED]
    same = {name for name in rows[0].key if len({row.key[name] for row in rows}) == 1}
    for row in _cut(node, told):
        key = _key_text({name: value for name, value in row.key.items() if name not in same & found.key.keys()})
        values = [
            f"{name}={_value_text(row.values[name])} {units.get(name, '')}".rstrip()
            for name in names
            if row.values[name] not in (None, "")
        ]
        node.add("   ".join(filter(None, (key, ", ".join(values)))) + CHANGED * row.is_changed, row.is_changed)


def _add_source(root: Node, found: Explanation, source: FromSource) -> None:
    """Add the units or records of one source that gave rows, and their files."""
    by = f", by labweave ingest {source.adapter}" if source.adapter else ""
    node = root.add(f"from the source {source.source}, {source.location}{by}")
    units = sorted(source.given, key=lambda given: all(file.state == "same" for file in given.files))
    for given in _cut(node, units):
        gave = ", ".join(f"{_counted(len(keys), 'row')} of {label}" for label, keys in given.gave.items())
        if given.record:
            told = f"record {given.record} gave {gave}; its server was read last in {_run_text(found, given.run)}"
            node.add(told + (f"; gone since {_run_text(found, given.vanished_in)}" if given.vanished_in else ""))
            continue
        told = f"gave {gave}; " * bool(gave) + f"ingested in {_run_text(found, given.run)}"
        files = sorted(given.files, key=lambda file: file.state == "same")
        if [file.path for file in files] == [given.unit]:
            node.add(f"{_file_text(files[0])}; {told}", files[0].state != "same")
            continue
        below = node.add(f"{given.unit or 'files'}: {told}")
        for file in _cut(below, files):
            below.add(_file_text(file), file.state != "same")


def _file_text(file: File) -> str:
    how = " by size and time" * (file.state == "same" and not file.is_read)
    return f"{file.path}  sha256 {file.sha256[:12]}…  {STATES[file.state]}{how}"


def _add_overwritten(root: Node, found: Explanation) -> None:
    """Add what the rows held before."""
    node = root.add("overwritten before")
    for one in _cut(node, found.overwritten):
        told = ", ".join(f"{name} was {_value_text(value)}" for name, value in one.old.items())
        what = "" if one.kind == "updated" else f"{one.kind}: "
        by = f", in {_run_text(found, one.run)}" if one.run else f", by {one.by}" * bool(one.by)
        node.add(f"{_time(one.changed_at)} {one.table} {_key_text(one.key)}: {what}{told}{by}")


def _cut(node: Node, items: Sequence[Item]) -> Iterator[Item]:
    """Yield the items to show below a node, and then say there how many there are more."""
    n_shown = len(items) if len(items) <= SHOWN + 3 else SHOWN
    yield from items[:n_shown]
    if n_shown < len(items):
        node.add(f"and {len(items) - n_shown} more")


def _run_text(found: Explanation, run: str | None) -> str:
    row = found.runs.get(run or "")
    if row is None:
        return "a run that is not known"
    by = f" by {row['started_by']}" if row["started_by"] else ""
    return f"the run {str(run)[:8]} of {_time(row['started'])}{by} on {row['host']}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _key_text(key: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value_text(value)}" for name, value in key.items())


def _value_text(value: Any, width: int = WIDTH) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = to_json(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _time(value: dt.datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC"


def _lines(nodes: Sequence[Node], before: str) -> Iterator[str]:
    for at, node in enumerate(nodes, 1):
        is_last = at == len(nodes)
        yield f"{before}{'└─' if is_last else '├─'} {node.text}"
        yield from _lines(node.nodes, f"{before}{'   ' if is_last else '│  '}")


def _html(node: Node, depth: int) -> str:
    """Return a line that opens what is below it; open already on the way to news."""
    text = html.escape(node.text)
    text = f'<b style="color: #b3261e">{text}</b>' if node.is_news else text
    style = ' style="margin-left: 1.4em"' if depth else ""
    if not node.nodes:
        return f"<div{style}>{text}</div>"
    inner = "".join(_html(one, depth + 1) for one in node.nodes)
    is_open = depth == 0 or _has_news(node)
    return f"<details{style}{' open' * is_open}><summary>{text}</summary>{inner}</details>"


def _has_news(node: Node) -> bool:
    return any(one.is_news or _has_news(one) for one in node.nodes)

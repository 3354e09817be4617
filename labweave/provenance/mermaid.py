"""An explanation as a Mermaid diagram, which GitHub, JupyterLab and many wikis draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labweave.provenance.explanation import Explanation, UsedRow


def mermaid_text(found: Explanation) -> str:
    """Return a flow chart: sources, the tables with rows of them, and the result; a box for many rows."""
    return "\n".join(["flowchart LR", *(f"  {line}" for line in _lines(found))])


def _lines(found: Explanation) -> Iterator[str]:
    boxes = {label: f"t{at}" for at, label in enumerate(found.rows)}
    values = [f"{one.name} = {one.value} {one.unit}".rstrip() for one in found.values[:2]]
    yield f"result[{_text(found.table, *_key_lines(found.key), *values)}]"
    for label, rows in found.rows.items():
        yield f"{boxes[label]}[{_text(label, *_rows_lines(rows))}]"
    if found.make:
        made = f"{found.make.made_at:%Y-%m-%d %H:%M} UTC"
        yield f"make({_text('made', made, f'by {found.make.made_by} on {found.make.host}')})"
        yield from (f"{box} --> make" for label, box in boxes.items() if label != found.table)
        yield "make --> result"
    for at, source in enumerate(found.sources):
        n_files = sum(len(given.files) for given in source.given)
        told = f"{len(source.given)} units or records, {n_files} files"
        yield f"s{at}[({_text(source.source, source.location, told)})]"
        gave = {label for given in source.given for label in given.gave}
        yield from (f"s{at} --> {boxes.get(label, 'result')}" for label in sorted(gave))
    yield from (f"why{at}{{{{{_text(text)}}}}} -.-> result" for at, text in enumerate(found.would_be_made_again))


def _rows_lines(rows: Sequence[UsedRow]) -> list[str]:
    return _key_lines(rows[0].key) if len(rows) == 1 else [f"{len(rows)} rows"]


def _key_lines(key: dict[str, object]) -> list[str]:
    return [f"{name} {value}" for name, value in key.items() if name != "eid"]


def _text(*lines: str) -> str:
    """Return lines as Mermaid quotes them."""
    quoted = (line.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;") for line in lines)
    return f'"{"<br/>".join(quoted)}"'

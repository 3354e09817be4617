"""``labweave sql`` and ``labweave diagram``: look at what is there."""

from __future__ import annotations

import csv
import datetime as dt
import enum
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labweave.cli.base import err, open_database, out, print_table, write_data

if TYPE_CHECKING:
    import pandas as pd


MOST_ROWS = 1000
"""That anybody looks through on a screen."""


class Format(str, enum.Enum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


Safe = Annotated[
    bool, typer.Option("--safe", help="In csv, put ' before text that a spreadsheet would take for a formula")
]
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What text begins with that spreadsheets compute; see OWASP, "CSV injection"."""


def sql(
    query: Annotated[str, typer.Argument(help="For example: select cell, rheobase from {prefix}rheobase.__rheobase")],
    format: Annotated[Format, typer.Option("--format", "-f", help="Output format")] = Format.table,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds after which the server ends it")] = 60,
    safe: Safe = False,
) -> None:
    """Run one SQL query, read-only, and print its rows.

    {prefix} stands for the prefix of the schema names. Names of computed tables begin with two
    underscores, of imported ones with one, of lookups with a number sign.
    """
    with open_database() as database:
        frame = database.query(query, timeout_s=timeout)
    print_frame(frame, format, safe)


def print_frame(frame: pd.DataFrame, format: Format, safe: bool = False) -> None:
    """Print a frame, without its index; missing values are shown as missing."""
    columns = [str(name) for name in frame.columns]
    rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
    if format is Format.csv:
        lines = _Lines()
        writer = csv.writer(lines, lineterminator="\r\n")  # it quotes text with a line end, if it is one of these
        cell = _no_formula if safe else _text
        writer.writerow(map(cell, columns))
        writer.writerows(map(cell, row) for row in rows)
        write_data("".join([line.removesuffix("\r\n") + "\n" for line in lines]))
    elif format is Format.json:
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        write_data(json.dumps(found, default=_text, ensure_ascii=False) + "\n")
    else:
        shown = [[_short(value) for value in row] for row in itertools.islice(rows, MOST_ROWS)]
        if len(frame) > MOST_ROWS:
            err.print(f"{len(frame) - MOST_ROWS:,} more rows are not shown; --format csv gives all.")
        if sum(map(len, columns)) + 2 * len(columns) <= out.width:
            print_table(columns, shown)
            return
        for row in shown:  # not even the names of so many columns fit side by side
            print_table(("", ""), zip(columns, row, strict=True))
            out.print()


class _Lines(list[str]):
    write = list.append


def _text(value: Any) -> Any:
    """Return a value as CSV and JSON show it: documents as JSON, bytes as hexadecimal digits, times in ISO 8601."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return value if isinstance(value, (int, float, str, type(None))) else str(value)


def _no_formula(value: Any) -> Any:
    text = _text(value)
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA) else text


def _short(value: Any) -> Any:
    return f"<{len(value)} bytes>" if isinstance(value, (bytes, memoryview)) else _text(value)


def diagram(
    path: Annotated[Path, typer.Argument(help="File to write: .svg or .png")] = Path("labweave.svg"),
    modules: Annotated[
        list[str] | None, typer.Option("--schema", help="Only these schemas, for example recording")
    ] = None,
) -> None:
    """Draw the tables and the references between them."""
    from labweave.cli.draw import draw_tables

    with open_database():
        draw_tables(path, modules)
    out.print(f"wrote {path}")

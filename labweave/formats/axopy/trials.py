"""The text of ``trials.csv``: how values are written, and what types the columns have."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from labweave.errors import ReadError

_INTEGER = re.compile(r"0|-?[1-9]\d*").fullmatch
_FLOAT = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|inf)").fullmatch
_needs_quotes = re.compile(r'[,"\r\n]').search


def cell_text(value: Any) -> str:
    """Return a value as it stands in the file: floats with all their digits, nothing for None and NaN."""
    if isinstance(value, str):
        return str(value)
    if value is None or value is pd.NaT or value is pd.NA:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else repr(float(value))
    return str(complex(value)) if isinstance(value, np.complexfloating) else str(value)


def line_of(texts: Iterable[str]) -> bytes:
    """Return one line of the file, quoted where it is needed."""
    quoted = ['"' + text.replace('"', '""') + '"' if _needs_quotes(text) else text for text in texts]
    return ("\n" if not quoted else ",".join(quoted) + "\n" if quoted != [""] else '""\n').encode()


@dataclass
class TrialTable:
    """The rows of a ``trials.csv`` as text.

    Attributes
    ----------
    columns : list of str
        In the order of the file.
    rows : list of list of str
        One text per column.
    problems : list of str
        What is wrong with the last line.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def parse_trials(content: bytes, path: Any) -> TrialTable:
    """Split the file into cells.

    Parameters
    ----------
    content : bytes
    path : path
        For messages.

    Returns
    -------
    TrialTable
        A last line that was cut is left out when it has too few cells; `problems` says it.

    Raises
    ------
    ReadError
        It is not UTF-8, or a line has too many or too few cells.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(path, f"byte {error.start} is not UTF-8", "Save the table as UTF-8.") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    table = TrialTable()
    is_cut = bool(text) and not text.endswith("\n")
    try:
        table.columns = next(lines, [])
        for cells in lines:
            if cells:
                table.rows.append(cells)
    except csv.Error as error:
        if not is_cut:
            raise ReadError(path, f"line {lines.line_num}: {error}", "Correct the quotes of the line.") from None
        table.problems.append(f"trial {len(table.rows)} is half-written: its line in {path.name} is cut")
        is_cut = False
    if len(set(table.columns)) < len(table.columns):
        raise ReadError(path, "two columns have one name", "Rename one.")
    n_columns = len(table.columns)
    if is_cut and table.rows:
        row = len(table.rows) - 1
        if len(table.rows[-1]) < n_columns:
            table.rows.pop()
            table.problems.append(f"trial {row} is half-written: its line in {path.name} is cut")
        else:
            table.problems.append(f"trial {row} may be half-written: its line in {path.name} has no end")
    for row, cells in enumerate(table.rows):
        if len(cells) != n_columns:
            raise ReadError(
                path, f"trial {row} has {len(cells)} values, the header {n_columns} columns", "Correct the line."
            )
    return table


def type_column(texts: list[str]) -> tuple[str, list[Any]]:
    """Return the type that all texts of a column agree on, and the values.

    Returns
    -------
    kind : {"int", "float", "bool", "text", "null"}
        ``007`` and ``NA`` are text; int are those of 64 bits; null is a column without any text.
    values : list
        None for an empty text.
    """
    filled = [text for text in texts if text]
    if not filled:
        return "null", [None] * len(texts)
    if all(map(_INTEGER, filled)) and all(len(text) < 19 or -(2**63) <= int(text) < 2**63 for text in filled):
        return "int", [int(text) if text else None for text in texts]
    if all(map(_FLOAT, filled)) and not all(map(_INTEGER, filled)):
        return "float", [float(text) if text else None for text in texts]
    if set(filled) <= {"True", "False"}:
        return "bool", [text == "True" if text else None for text in texts]
    return "text", [text or None for text in texts]


def tells_more(text: str, value: Any) -> bool:
    """Say whether the text of a float holds what JSON loses: digits, an infinity or the sign of zero."""
    return text != repr(value) or not math.isfinite(value) or (value == 0 and text[0] == "-")

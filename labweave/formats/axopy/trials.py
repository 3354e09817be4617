"""The table of trials: how values are written, what types the columns have, and which rows the journal adds.

The last line of a table has no line end until its writer is closed. A folder that has lost its journal shows so, and
other programs read the table all the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from labweave.errors import ReadError
from labweave.formats.axopy.journal import Journal, open_journal
from labweave.formats.limits import check_columns

TABLE = "trials.csv"
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
    damage : str
        Why the table does not go with the journal beside it.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    damage: str = ""

    def to_bytes(self, is_closed: bool) -> bytes:
        """Return the file; the line end of the last line says that its writer is closed."""
        content = b"".join([line_of(self.columns), *map(line_of, self.rows)]) if self.columns else b""
        return content if is_closed else content[:-1]


def parse_trials(content: bytes, path: Any) -> TrialTable:
    """Split the file into cells; a last line that was cut is left out when it has too few, and `problems` says it."""
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
    if is_cut and not table.rows:
        table.problems.append(f"trials may be missing: the header of {path.name} has no end")
    if is_cut and table.rows:
        row = len(table.rows) - 1
        if len(table.rows[-1]) < n_columns:
            table.rows.pop()
            table.problems.append(f"trial {row} is half-written: its line in {path.name} is cut")
        else:
            table.problems.append(
                f"trial {row} may be half-written, and later ones missing: its line in {path.name} has no end"
            )
    for row, cells in enumerate(table.rows):
        if len(cells) != n_columns:
            raise ReadError(
                path, f"trial {row} has {len(cells)} values, the header {n_columns} columns", "Correct the line."
            )
    return table


def read_table(folder: Any, known: Journal | None = None) -> TrialTable:
    """Return the trials of a folder, a Path or zipfile.Path, with those that only the journal holds; none: empty."""
    before: str | None = ""
    while True:
        journal = known = open_journal(folder, known)
        table = parse_trials(_read(folder), folder / TABLE)
        if journal is not None:
            journal.close()
            _join(table, journal)
        state = None if journal is None else journal.state
        # A writer may have gone on between one file and the other.
        if state == before or not (table.problems or table.damage):
            return table
        before = state


def read_table_bytes(folder: Any, known: Journal | None = None) -> bytes:
    """Return ``trials.csv`` with the trials that only the journal holds; ReadError when the two don't go together."""
    journal = open_journal(folder, known)
    if journal is None:
        return _read(folder)
    journal.close()
    table = read_table(folder, journal)
    if table.damage:
        raise ReadError(folder / TABLE, table.damage, "Restore it, or move the journal away.")
    return table.to_bytes(is_closed=True)


def table_sha256(content: bytes) -> str:
    """Return the sha256 of a table without its last line end, whether its writer is closed or not."""
    return hashlib.sha256(content.removesuffix(b"\n")).hexdigest()


def _read(folder: Any) -> bytes:
    try:
        with (folder / TABLE).open("rb") as file:
            content = file.read()
    except (FileNotFoundError, KeyError):
        return b""
    check_columns(folder / TABLE, content, ",")
    return content


def _join(table: TrialTable, journal: Journal) -> None:
    """Add the trials of the journal to a table: it is as before them, or as with them, else it is damaged."""
    columns, start = table.columns, journal.start
    if table_sha256(table.to_bytes(is_closed=False)) == start.table_sha256 and len(table.rows) == start.n_trials:
        table.problems = []
        columns += [column for column in dict.fromkeys(chain(*journal.texts)) if column not in columns]
        for cells in table.rows:
            cells += [""] * (len(columns) - len(cells))
        table.rows += [[texts.get(column, "") for column in columns] for texts in journal.texts]
        return
    added = [dict(zip(columns, cells, strict=True)) for cells in table.rows[start.n_trials :]]
    expected = [{**dict.fromkeys(columns, ""), **texts} for texts in journal.texts]
    if added[: len(expected)] == expected and len(table.rows) >= start.n_trials:
        if len(added) == len(expected):  # else more trials came after this journal: only a line end says that all did
            table.problems = []
        return
    table.damage = (
        f"damaged: the table is neither as it was when the journal began, after {start.n_trials} trials, nor as it is "
        f"with the {len(expected)} trials of the journal"
    )


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

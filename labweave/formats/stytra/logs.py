"""Log tables: written as Stytra writes them, and read in all its formats and from journals."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labweave.errors import ReadError, SourceError
from labweave.formats.columns import EXACT_FLOATS
from labweave.formats.limits import check_columns
from labweave.formats.stytra import hdf5
from labweave.formats.stytra.journal import SUFFIX as JOURNAL
from labweave.formats.stytra.journal import read_journal
from labweave.formats.writing import whole_file

FORMATS = ("csv", "feather", "hdf5", "json")
SUFFIXES = (".feather", ".hdf5", ".h5", ".csv", ".json", JOURNAL)  # the one to take first where there are several
_DAMAGED = (OSError, ValueError, TypeError, KeyError, RecursionError, MemoryError)


class UnknownFormat(SourceError, NotImplementedError):
    """A format that logs are not written in."""


def write_log(columns: Mapping[str, np.ndarray], path: str | Path, format: str) -> Path:
    """Write a log as Stytra does, whole or not at all.

    Parameters
    ----------
    columns : mapping
        Column -> values, in order; the time is the last, ``t``.
    path : str or Path
        Without extension; a file that is there is replaced.
    format : {"csv", "feather", "hdf5", "json"}

    Returns
    -------
    Path
        ``<path>.<format>``.

    Raises
    ------
    UnknownFormat
        Also a NotImplementedError.
    FileNotFoundError
        The folder is missing.
    """
    if format not in FORMATS:
        raise UnknownFormat(f"Logs can't be written as {format!r}. Choose one of: {', '.join(FORMATS)}.")
    target = Path(f"{path}.{format}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {target.parent} is missing. Make it before you save {target.name}.")
    with whole_file(target) as new:
        _WRITERS[format](columns, new)
    return target


def _write_csv(columns: Mapping[str, np.ndarray], path: Path) -> None:
    cells = {index: _without_booleans(values) for index, values in enumerate(columns.values())}
    frame = pd.DataFrame(cells)
    frame.to_csv(path, sep=";", header=list(columns), lineterminator="\n", encoding="utf-8")


def _without_booleans(values: np.ndarray) -> np.ndarray:
    """Return 1 and 0 for booleans, as Stytra's tables have them, also among other values."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "O":
        values = values.copy()
        values[:] = [int(value) if isinstance(value, bool) else value for value in values]
    return values


def _write_feather(columns: Mapping[str, np.ndarray], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather

    arrays = [_arrow(values) for values in columns.values()]
    feather.write_feather(pa.table(arrays, names=list(columns)), str(path))


def _arrow(values: np.ndarray) -> Any:
    """Return values as Arrow keeps them; what is of several kinds as text."""
    import pyarrow as pa

    if values.dtype.kind != "O":
        return pa.array(values)
    cells = [None if value is None or value != value else value for value in values.tolist()]
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in cells])


def _write_json(columns: Mapping[str, np.ndarray], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, (name, values) in enumerate(columns.items()):
            column = json.dumps(dict(enumerate(values.tolist())), default=str)
            file.write(f"{', ' if number else '{'}{json.dumps(name)}: {column}")
        file.write("}")


_WRITERS: dict[str, Any] = {
    "csv": _write_csv,
    "feather": _write_feather,
    "hdf5": lambda columns, path: hdf5.write_table(columns, path),
    "json": _write_json,
}


@dataclass
class Log:
    """A log that was read.

    Attributes
    ----------
    frame : DataFrame
        The columns that could be read, in the order of the file.
    columns : list of str
        All of the file.
    problems : list of str
        In words.
    t0 : str or None
        ISO time that a journal counts from.
    """

    frame: pd.DataFrame
    columns: list[str]
    problems: list[str] = field(default_factory=list)
    t0: str | None = None


def read_log(path: str | Path) -> pd.DataFrame:
    """Read a log of any format, or what a journal holds.

    Parameters
    ----------
    path : str or Path
        ``.csv``, ``.feather``, ``.hdf5`` (``.h5``), ``.json`` or ``.journal``.

    Returns
    -------
    DataFrame
        Columns in the order of the file, the time (s from the start of the protocol) last as ``t``. Pickled columns
        of HDF5 files are left out: unpickling could run any code.

    Raises
    ------
    ReadError
        The file is damaged, or no log.

    Examples
    --------
    >>> from labweave.formats.stytra import read_log, write_log
    >>> path = write_log({"vigor": np.array([0.5, 1.5]), "t": np.array([0.0, 0.01])}, "140709_estimator_log", "csv")
    >>> read_log(path)
       vigor     t
    0    0.5  0.00
    1    1.5  0.01
    """
    return open_log(path).frame


def open_log(path: str | Path) -> Log:
    """Read a log, with what is wrong with it; ReadError when it is damaged, or no log."""
    path = Path(path)
    if path.suffix not in _READERS:
        raise ReadError(path, "no log", f"Logs end in {', '.join(SUFFIXES)}.")
    try:
        if not path.stat().st_size:
            raise ReadError(path, "the file is empty", "Copy it again.")
        log = _READERS[path.suffix](path)
    except FileNotFoundError:
        raise ReadError(path, "the file is gone", "Is its disk mounted?") from None
    except ReadError:
        raise
    except _DAMAGED as error:
        raise ReadError(path, f"no complete log ({error})", "Copy it again.") from None
    if "t" not in log.columns:
        raise ReadError(path, "no log of Stytra: it has no column t", "Take it out of the folder.")
    return log


def _read_csv(path: Path) -> Log:
    content = path.read_bytes()
    problems = []
    if content and not content.endswith(b"\n"):
        content = content[: content.rfind(b"\n") + 1]
        while content.count(b'"') % 2:  # the cut is in a text of several lines
            content = content[: content.rfind(b"\n", 0, -1) + 1]
        problems.append("its last line is cut")
    check_columns(path, content, ";")
    text: Any = io.BytesIO(content)
    frame = pd.read_csv(text, sep=";", encoding="utf-8", keep_default_na=False, na_values=[""], **EXACT_FLOATS)
    frame = frame.drop(columns=[name for name in frame.columns[:1] if name == "Unnamed: 0"])
    return Log(frame, list(frame.columns), problems)


def _read_feather(path: Path) -> Log:
    import pyarrow as pa
    from pyarrow import feather

    try:
        frame = feather.read_table(str(path), memory_map=False).to_pandas()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    return Log(frame, list(frame.columns))


def _read_hdf5(path: Path) -> Log:
    frame, columns, refused = hdf5.read_table(path)
    return Log(frame, columns, [f"column {name}: {reason}" for name, reason in refused.items()])


def _read_json(path: Path) -> Log:
    with path.open(encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict) or not all(isinstance(column, dict) for column in content.values()):
        raise ValueError("no table of columns")
    rows = [list(column) for column in content.values()]
    if any(keys != rows[0] for keys in rows[1:]):
        raise ValueError("its columns have other rows")
    frame = pd.DataFrame({name: _json_column(list(column.values())) for name, column in content.items()})
    return Log(frame, list(content))


def _json_column(values: list[Any]) -> Any:
    """Return values as pandas keeps them; booleans among numbers, and beside missing ones, are 1 and 0."""
    types = set(map(type, values))
    if types <= {bool, float, int, type(None)} and (float in types or (bool in types and types != {bool})):
        return np.array([math.nan if value is None else value for value in values], float)
    return pd.Series(values, dtype=None if values else float)


def _read_journal(path: Path) -> Log:
    tables = read_journal(path)
    if not tables:
        return Log(pd.DataFrame({"t": np.empty(0)}), ["t"], ["the journal holds no row"])
    last = tables[-1]
    problems = ["it was not saved: the rows are those that its journal holds"]
    if len(tables) > 1:
        problems.append(f"{len(tables) - 1} earlier tables with other columns are in the same journal")
    return Log(last.frame, list(last.frame.columns), problems, last.t0)


_READERS: dict[str, Any] = {
    ".csv": _read_csv,
    ".feather": _read_feather,
    ".hdf5": _read_hdf5,
    ".h5": _read_hdf5,
    ".json": _read_json,
    JOURNAL: _read_journal,
}


def recover_log(path: str | Path, format: str = "csv") -> list[Path]:
    """Write the tables of a journal as logs beside it, as saving would have done, and remove the journal.

    Parameters
    ----------
    path : str or Path
        A ``.journal`` file.
    format : {"csv", "feather", "hdf5", "json"}, default: "csv"

    Returns
    -------
    list of Path
        The log, and before it those with other columns, ``<name>_before_<n>``; empty when the journal holds no row.

    Raises
    ------
    ReadError
        It is no journal.
    SourceError
        There is a log of this name already.

    Examples
    --------
    >>> from labweave.formats.stytra import JournalWriter, recover_log
    >>> journal = JournalWriter("140709_behavior_log.journal")
    >>> journal.begin("behavior", None, ["tail"])
    >>> journal.write("f", [np.array([0.1, 0.2])], np.array([0.0, 0.002]))
    >>> journal.close()
    >>> recover_log("140709_behavior_log.journal")
    [...Path('140709_behavior_log.csv')]
    """
    path = Path(path)
    written = []
    tables = [table for table in read_journal(path) if len(table.frame)]
    for number, table in enumerate(tables, 1):
        target = path.with_suffix("")
        if number < len(tables):
            target = earlier_path(target, number)
        if Path(f"{target}.{format}").exists():
            raise SourceError(f"{target}.{format} is there already. Move one of them away, or remove {path.name}.")
        written.append(write_log({name: table.frame[name].to_numpy() for name in table.frame.columns}, target, format))
    path.unlink()
    return written


def earlier_path(path: str | Path, number: int) -> Path:
    """Return where the rows go that came before the columns changed; bouter does not take it for the log itself."""
    return Path(f"{path}_before_{number}")

"""The journal of a log: rows on disk while an experiment runs, and what is left of it after a crash.

A file starts with eight bytes that name the format. Records follow: a letter, crc32 and length of the
content, then the content. ``H`` begins a table: JSON with ``name``, ``t0`` and ``fields``. ``D`` holds rows of it:
the length of a JSON header, that header (``n_rows``, ``kinds``, and the columns that are no numbers as ``objects``),
the times, and a block per column of numbers. A record that is cut, as the last one after a crash, ends the file.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from labweave.errors import ReadError
from labweave.formats.columns import join
from labweave.formats.plain import plain_json
from labweave.formats.writing import write_all

SUFFIX = ".journal"
_MAGIC = b"LWLOG\x00\x01\n"
_RECORD = struct.Struct("<cIQ")
_DTYPES = {"f": np.dtype("<f8"), "i": np.dtype("<i8"), "b": np.dtype("?")}


class JournalWriter:
    """Writes a journal; what `write` returned from survives the end of the program, after `sync` that of the machine.

    Parameters
    ----------
    path : str or Path
        Replaced when it is there.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: BinaryIO = self.path.open("wb", buffering=0)
        write_all(self._file, _MAGIC)

    def begin(self, name: str, t0: str | None, fields: Sequence[str]) -> None:
        """Begin a table.

        Parameters
        ----------
        name : str
            Of the collector.
        t0 : str or None
            ISO time that its times count from.
        fields : sequence of str
            Columns, without the time.
        """
        self._record(b"H", json.dumps({"name": name, "t0": t0, "fields": list(fields)}).encode())

    def write(self, kinds: str, columns: Sequence[np.ndarray], times: np.ndarray) -> None:
        """Add rows.

        Parameters
        ----------
        kinds : str
            A letter per column: f, i, b or o for float, integer, boolean and everything else.
        columns : sequence of ndarray
        times : ndarray
            In s.
        """
        blocks, objects = [np.ascontiguousarray(times, "<f8").tobytes()], []
        for kind, column in zip(kinds, columns, strict=True):
            if kind == "o":
                objects.append([_json_value(value) for value in column])
            else:
                blocks.append(np.ascontiguousarray(column, _DTYPES[kind]).tobytes())
        header = json.dumps({"n_rows": len(times), "kinds": kinds, "objects": objects}).encode()
        self._record(b"D", b"".join([struct.pack("<I", len(header)), header, *blocks]))

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and leave it there."""
        self._file.close()

    def _record(self, letter: bytes, content: bytes) -> None:
        write_all(self._file, _RECORD.pack(letter, zlib.crc32(content), len(content)) + content)


@dataclass
class JournalTable:
    """One table of a journal.

    Attributes
    ----------
    name : str
        Of the collector.
    t0 : str or None
        ISO time that the times count from.
    frame : DataFrame
        Columns in their order, the times last as ``t``.
    """

    name: str
    t0: str | None
    frame: pd.DataFrame


def read_journal(path: str | Path) -> list[JournalTable]:
    """Return the tables of a journal, oldest first, as far as they were written.

    Raises
    ------
    ReadError
        It is no journal, or damaged before its end.
    """
    path = Path(path)
    data = memoryview(path.read_bytes())
    if bytes(data[: len(_MAGIC)]) != _MAGIC:
        if len(data) < len(_MAGIC) and _MAGIC.startswith(bytes(data)):
            return []
        raise ReadError(path, "no journal of a labweave collector", "Rename the file.")
    tables: list[tuple[dict[str, Any], list[list[np.ndarray]]]] = []  # header, and the columns of some rows each
    at = len(_MAGIC)
    while at + _RECORD.size <= len(data):
        letter, checksum, length = _RECORD.unpack_from(data, at)
        content = data[at + _RECORD.size : at + _RECORD.size + length]
        if len(content) < length or zlib.crc32(content) != checksum:
            break
        at += _RECORD.size + length
        try:
            if letter == b"H":
                header = json.loads(bytes(content))
                if not all(isinstance(name, str) for name in [*header["fields"], header["name"], header["t0"] or ""]):
                    raise ValueError("names that are no text")
                tables.append((header, []))
            elif letter == b"D":
                header, parts = tables[-1]
                parts.append(_columns(content, len(header["fields"])))
        except (ValueError, KeyError, IndexError, TypeError, struct.error, RecursionError) as error:
            raise ReadError(path, f"the record before byte {at} is damaged ({error})", "Copy the file again.") from None
    return [_table(header, parts) for header, parts in tables]


def _columns(content: memoryview, n_fields: int) -> list[np.ndarray]:
    """Return the columns of some rows, and their times as the last."""
    (n_header,) = struct.unpack_from("<I", content)
    header = json.loads(bytes(content[4 : 4 + n_header]))
    n_rows, kinds, objects, at = int(header["n_rows"]), header["kinds"], header["objects"], 4 + n_header
    if len(kinds) != n_fields or not 0 <= n_rows <= len(content):
        raise ValueError("rows do not fit their table")
    columns: list[np.ndarray] = []
    for kind in f"f{kinds}":  # the times come first
        if kind == "o":
            array = np.fromiter(objects.pop(0), object, n_rows)
        else:
            array = np.frombuffer(content, _DTYPES[kind], n_rows, at)
            at += array.nbytes
        columns.append(array)
    return [*columns[1:], columns[0]]


def _table(header: dict[str, Any], parts: list[list[np.ndarray]]) -> JournalTable:
    names = [*header["fields"], "t"]
    columns = [join(column) for column in zip(*parts, strict=True)] if parts else [np.empty(0)] * len(names)
    frame = pd.DataFrame(dict(enumerate(columns)))
    return JournalTable(header["name"], header["t0"], frame.set_axis(names, axis=1))


def _json_value(value: Any) -> Any:
    """Return what JSON can hold of a value; of what it can't, the text."""
    try:
        return value if isinstance(value, float) else plain_json(value)
    except ValueError:
        return str(value)

"""The tables as ONE cache tables, which an unmodified ONE-api opens in local mode."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labweave.database.reads import in_parts
from labweave.errors import SourceError
from labweave.formats.alf.names import fits, is_uuid
from labweave.formats.alf.qc import QC
from labweave.formats.writing import whole_file
from labweave.one.search.rows import TABLE_COLUMNS, DatasetRow, SessionFilter, SessionRow
from labweave.one.search.tables import Tables, open_tables
from labweave.schemas.dataset import Dataset
from labweave.schemas.ingestion import Run

SESSIONS_AT_ONCE = 2000
SHOWN = 3


@dataclass(frozen=True)
class ExportedTables:
    """What was written: the folder, and the rows of sessions.pqt, datasets.pqt and insertions.pqt.

    `n_undated` sessions have no date, so they have no place in ONE's folders and were left out.
    """

    folder: Path
    n_sessions: int
    n_datasets: int
    n_insertions: int
    n_undated: int


def export_tables(
    folder: str | Path, *, labs: Sequence[str] = (), projects: Sequence[str] = (), subjects: Sequence[str] = ()
) -> ExportedTables:
    """Write sessions.pqt, datasets.pqt and insertions.pqt; files of these names are replaced.

    The same rows give the same files. A reader never sees half of one.

    Parameters
    ----------
    folder : str or Path
        Made when it is missing. For a client to load data, the files are to be at
        ``folder/lab/Subjects/subject/date/number``.
    labs, projects, subjects : sequence of str
        Only sessions of one of these; all without.

    Returns
    -------
    ExportedTables

    Raises
    ------
    SourceError
        No session fits, or an id or name is one that ONE can't take; nothing is written.
    OSError
        The folder can't be written.

    Examples
    --------
    >>> from labweave.one.export import export_tables
    >>> written = export_tables("tables", labs=["cortexlab"])
    >>> written.n_sessions, written.n_insertions
    (3, 2)
    >>> sorted(path.name for path in written.folder.iterdir())
    ['datasets.pqt', 'insertions.pqt', 'sessions.pqt']
    """
    tables, given = open_tables(), {"lab": labs, "projects": projects, "subject": subjects}
    wanted = SessionFilter({name: values for name, values in given.items() if values})
    found = sorted(tables.sessions(wanted), key=lambda row: row.eid)
    sessions = [row for row in found if row.date is not None]
    if not sessions:
        raise SourceError("There is no session with a date to export. Was another lab, project or subject meant?")
    _refuse("sessions", (problem for row in sessions if (problem := _session_problem(row))))
    _refuse("sessions", _clashes(sessions))
    eids = [row.eid for row in sessions]
    insertions = sorted(tables.insertions(wanted), key=lambda row: (row.eid, row.pid))
    _refuse("insertions", (f"{row.pid}: {_NO_ID}" for row in insertions if not is_uuid(row.pid)))
    dated = set(eids)
    insertions = [row for row in insertions if row.eid in dated]
    metadata = {"one_metadata": json.dumps({"date_created": _last_change(), "origin": "labweave"}).encode()}
    folder = Path(folder)
    with contextlib.ExitStack() as files:
        parts = {
            name: files.enter_context(whole_file(folder / f"{name}.pqt"))
            for name in ("sessions", "datasets", "insertions")
        }
        types, rows = {"id": "string", **TABLE_COLUMNS}, [row.details() for row in sessions]
        columns = {name: [row[name] for row in rows] for name in types}
        _write(parts["sessions"], ["id"], types, [columns], metadata)
        pages = (_dataset_columns(tables, some) for some in in_parts(eids, SESSIONS_AT_ONCE))
        n_datasets = _write(parts["datasets"], ["eid", "id"], _dataset_schema(), pages, metadata)
        columns = [{name: [getattr(row, field) for row in insertions] for name, field in _INSERTIONS.items()}]
        _write(parts["insertions"], ["eid", "id"], dict.fromkeys(_INSERTIONS, "string"), columns, metadata)
    return ExportedTables(folder, len(sessions), n_datasets, len(insertions), len(found) - len(sessions))


_INSERTIONS = {"eid": "eid", "id": "pid", "name": "probe_name", "model": "model", "serial": "serial"}
_NO_ID = "its id is no UUID of version 3 or 4, which ONE needs"


def _session_problem(row: SessionRow) -> str | None:
    """Say what ONE can't take of a session, or None."""
    what = f"{row.eid} ({row.lab}/{row.subject}/{row.date}/{row.number})"
    checks = (
        (is_uuid(row.eid), _NO_ID),
        (fits("lab", row.lab), "a lab has letters, digits and _ only"),
        (fits("subject", row.subject), "a subject has letters, digits, _ . and - only"),
        (0 <= (row.number or 0) <= 999, "a number is from 0 to 999"),
    )
    return next((f"{what}: {problem}" for is_right, problem in checks if not is_right), None)


def _clashes(sessions: Iterable[SessionRow]) -> Iterator[str]:
    """Yield what ONE can't tell apart: it finds sessions by subject, date and number, whatever the lab."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for row in sessions:
        found.setdefault((row.subject, row.date, row.number or 0), []).append(row.lab)
    for (subject, date, number), labs in sorted(found.items()):
        if len(labs) > 1:
            advice = "; --lab chooses one lab's" if len(set(labs)) > 1 else ""
            yield f"{subject}/{date}/{number:03d} is {len(labs)} sessions{advice}"


def _refuse(what: str, problems: Iterable[str]) -> None:
    listed = list(problems)
    if listed:
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        raise SourceError(
            f"Cache tables can't hold {len(listed)} of the {what}: {'; '.join(listed[:SHOWN])}{more}. "
            "Correct them, or export others: --lab, --project, --subject."
        )


def _last_change() -> str:
    """Return when something last came into the database, so that a second export of the same rows is the same."""
    started = Run().to_arrays("started", order_by="started DESC", limit=1).tolist()
    last = started[0] if started else dt.datetime(2026, 1, 1)
    return last.isoformat(sep=" ", timespec="seconds")


def _dataset_columns(tables: Tables, eids: Sequence[str]) -> dict[str, Any]:
    import pandas as pd
    import pyarrow as pa

    rows = sorted(tables.datasets(eids), key=lambda row: (row.eid or "", row.id))
    _refuse("datasets", (f"{row.id} ({row.path}): {_NO_ID}" for row in rows if not is_uuid(row.id)))
    _refuse("datasets", _two_defaults(rows))
    return {
        "eid": [row.eid for row in rows],
        "id": [row.id for row in rows],
        "rel_path": [row.rel_path for row in rows],
        "file_size": [row.size or 0 for row in rows],
        "hash": [row.hash.lower() if len(row.hash) == 32 else None for row in rows],
        "exists": [row.exists for row in rows],
        "default_revision": [row.is_default for row in rows],
        "qc": pa.array(pd.Categorical([row.qc for row in rows], list(QC), ordered=True)),
    }


def _two_defaults(rows: Iterable[DatasetRow]) -> Iterator[str]:
    counts = Counter((row.session_path, row.collection, row.name) for row in rows if row.is_default)
    for place, count in counts.items():
        if count > 1:
            yield f"{'/'.join(filter(None, place))} has {count} default revisions"


def _dataset_schema() -> dict[str, Any]:
    import pyarrow as pa

    # ONE-api compares no hashes where the type of the column is null.
    has_hash = bool(Dataset & "hash != ''")
    return {
        "eid": "string",
        "id": "string",
        "rel_path": "string",
        "file_size": "uint64",
        "hash": "string" if has_hash else "null",
        "exists": "bool",
        "default_revision": "bool",
        "qc": pa.dictionary(pa.int8(), pa.string(), ordered=True),
    }


def _write(path: Path, index: list[str], types: dict[str, Any], pages: Iterable[dict[str, Any]], metadata: dict) -> int:
    """Write pages of columns as one table with an index, and return how many rows that are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(types.items()))
    empty = schema.empty_table().to_pandas().set_index(index)
    if "file_size" in empty:
        empty = empty.astype({"file_size": "UInt64"})  # the type of ONE-api's own frames
    described = pa.Schema.from_pandas(empty).metadata or {}
    schema = schema.with_metadata({**described, **metadata})
    n_rows = 0
    with pq.ParquetWriter(path, schema) as writer:
        for columns in pages:
            table = pa.table(columns, schema=schema)
            writer.write_table(table)
            n_rows += table.num_rows
    return n_rows

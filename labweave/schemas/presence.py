"""Whether a copy of a dataset is there: ``Dataset.is_present``, which follows from ``FileRecord``.

A search for sessions by their datasets reads it from the index that it reads anyway; to look among the copies of
each dataset takes four times as long. `upsert` keeps it right in the transaction that writes the copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DATASETS, COPIES = "dataset.Dataset", "dataset.FileRecord"
DERIVED = {DATASETS: frozenset({"is_present"})}
"""Table -> what follows from other tables: new rows may have it, an upsert of a row that is there leaves it alone."""

CHUNK = 1000
EXISTS = (
    "exists (select 1 from {file_record} f"
    " where f.dataset_id = d.dataset_id and f.present = true and f.file_vanished is null)"
)


def with_presence(datasets: Iterable[Mapping[str, Any]], copies: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of datasets that say whether a copy of them is there: among those written with them.

    Parameters
    ----------
    datasets, copies : iterable of mapping
        Rows for ``Dataset`` and ``FileRecord``.
    """
    present = {row.get("dataset_id") for row in copies if row.get("present") and row.get("file_vanished") is None}
    return [{**row, "is_present": row["dataset_id"] in present} for row in datasets]


def update_presence(connection: Any, dataset_ids: Iterable[str] | None = None) -> int:
    """Make ``Dataset.is_present`` say what the copies say, and return in how many rows it did not.

    Parameters
    ----------
    connection : LabConnection
    dataset_ids : iterable of str, optional
        Only of these datasets, in the transaction of the caller.
    """
    name = connection.adapter.make_full_table_name
    tables = {table: name(f"{connection.prefix}dataset", table) for table in ("dataset", "file_record")}
    change = "update {dataset} d set is_present = not d.is_present where d.is_present <> " + EXISTS
    change = change.format_map(tables)
    if dataset_ids is None:
        return connection.query(change).rowcount
    n_changed, listed = 0, sorted(set(dataset_ids))
    for start in range(0, len(listed), CHUNK):
        part = listed[start : start + CHUNK]
        among = f"d.dataset_id in ({', '.join(['%s'] * len(part))})"
        # Who writes other copies of these datasets at the same time goes on when this transaction has ended.
        lock = "update" if connection.adapter.backend == "mysql" else "no key update"
        connection.query(
            f"select d.dataset_id from {tables['dataset']} d where {among} order by d.dataset_id for {lock}",
            tuple(part),
        ).fetchall()
        n_changed += connection.query(f"{change} and {among}", tuple(part)).rowcount
    return n_changed


def datasets_of(connection: Any, file_record_ids: Sequence[str]) -> set[str]:
    """Return the ids of the datasets that some copies are of."""
    table = connection.adapter.make_full_table_name(f"{connection.prefix}dataset", "file_record")
    found: set[str] = set()
    for start in range(0, len(file_record_ids), CHUNK):
        part = file_record_ids[start : start + CHUNK]
        marks = ", ".join(["%s"] * len(part))
        rows = connection.query(f"select dataset_id from {table} where file_record_id in ({marks})", tuple(part))
        found.update(row[0] for row in rows.fetchall())
    return found

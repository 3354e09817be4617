"""Upsert: insert what is new, update what changed, leave what is equal, and say how many.

Each batch is compared on the server, in a constant number of statements: PostgreSQL
takes it by COPY into a temporary table, MySQL and MariaDB as one JSON document that
JSON_TABLE opens. What an update overwrites is kept in ``ingestion.Change``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from datajoint.errors import DataJointError, DuplicateError, IntegrityError

from labweave.database.batches import Batch, Changed
from labweave.database.changes import record_changes
from labweave.database.connection import ATTEMPTS, LabConnection
from labweave.database.derived import Filled, derived_attributes
from labweave.database.reads import among, in_parts, rows_among, table_label
from labweave.database.values import Column, convert_rows, is_missing, make_columns
from labweave.errors import RowError, SchemaError

BATCH_ROWS = 10_000


class UpsertCounts(NamedTuple):
    """How many rows an upsert inserted, updated and left as they were."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: object) -> UpsertCounts:
        """Add two counts, field by field."""
        return UpsertCounts(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[call-overload]


def upsert(
    table: Any,
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
    *,
    update: bool | Sequence[str] = True,
    run: str | None = None,
) -> UpsertCounts:
    """Insert new rows, update changed ones, leave equal ones.

    Parameters
    ----------
    table : DataJoint table class or instance
        Bound to an open labweave database.
    rows : iterable of mapping, or DataFrame
        All with the whole primary key. A row without some other field leaves that field
        as it is; None, NaN, NaT and ``pandas.NA`` are NULL, or the column's default when
        it can't be NULL. Times with a zone are stored in UTC, fractions of a second and of
        decimals are cut to the column's digits, JSON loses NaN (null). Of two rows with one
        key the last one counts.
    update : bool or sequence of str, default: True
        The attributes that may be updated; False leaves existing rows alone. ``Dataset.is_present`` is none of them:
        it follows the rows of ``FileRecord``.
    run : str, optional
        The ``ingestion.Run`` that overwrites, for ``ingestion.Change``.

    Returns
    -------
    UpsertCounts
        `inserted`, `updated`, `unchanged`.

    Raises
    ------
    SchemaError
        An attribute that the table does not have, or a row without its key.
    RowError
        A value that the column can't hold, a parent row that does not exist, or a clash on
        a second unique index. Batches before it (10,000 rows) stay written, unless the call
        is inside a transaction.

    Examples
    --------
    >>> from labweave.database import upsert
    >>> from labweave.schemas.lab import Lab
    >>> upsert(Lab, [{"lab": "newlab", "institution": "UCL"}])
    UpsertCounts(inserted=1, updated=0, unchanged=0)
    >>> upsert(Lab, [{"lab": "newlab", "institution": "ENS"}])
    UpsertCounts(inserted=0, updated=1, unchanged=0)
    """
    return write_rows(table, rows, update=update, run=run)[0]


def write_rows(
    table: Any,
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
    *,
    update: bool | Sequence[str] = True,
    run: str | None = None,
    record: bool = True,
    filled: Filled | None = None,
) -> tuple[UpsertCounts, list[Changed]]:
    """Upsert, and also return the rows that changed; arguments and errors as in `upsert`.

    Without `record`, nothing goes to ``ingestion.Change``. `filled` is what `fill_derived` returned for the rows of
    this transaction: the derived attributes of new rows among them are already right.
    """
    table = table() if isinstance(table, type) else table
    connection: LabConnection = table.connection
    columns = make_columns(table)
    label = table_label(table)
    updatable = _updatable(table, columns, update, label)
    filled = {} if filled is None else filled
    counts, all_changed = UpsertCounts(), []
    for chunk in _chunks(table, _records(rows), columns, label):
        writes = []
        for names, group in chunk.items():
            chosen = [columns[name] for name in names]
            changing = [column for column in chosen if not column.in_key and column.name in updatable]
            batch = connection.adapter.batch(connection, table.full_table_name, chosen, changing)
            writes.append((batch, convert_rows(chosen, _by_key(group), label)))
        inserted, changed = _write(table, writes, run, record, filled)
        n_rows = sum(len(converted) for _, converted in writes)
        counts += UpsertCounts(inserted, len(changed), n_rows - inserted - len(changed))
        all_changed += changed
    if type(table) in filled and (counts.updated or counts.unchanged):
        del filled[type(table)]  # some rows existed: only the database knows their derived attributes
    return counts, all_changed


def _records(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    if isinstance(rows, pd.DataFrame):
        names = list(rows.columns)
        return (dict(zip(names, values, strict=True)) for values in rows.itertuples(index=False, name=None))
    return iter(rows)


def _updatable(table: Any, columns: Mapping[str, Column], update: bool | Sequence[str], label: str) -> set[str]:
    if isinstance(update, bool):
        return set(columns) - derived_attributes(table) if update else set()
    if unknown := set(update) - set(columns):
        raise SchemaError(f"{label} has no attribute {', '.join(sorted(unknown))}. It has: {', '.join(columns)}.")
    return set(update) - derived_attributes(table)


_Chunk = dict[tuple[str, ...], dict[tuple, Mapping[str, Any]]]


def _chunks(
    table: Any, rows: Iterator[Mapping[str, Any]], columns: Mapping[str, Column], label: str
) -> Iterator[_Chunk]:
    """Cut the rows into chunks of one transaction each: rows with the same fields together, each key once."""
    key_names = table.primary_key
    defaulted = {name for name, column in columns.items() if column.has_default and not column.nullable}
    while listed := list(itertools.islice(rows, BATCH_ROWS)):
        chunk: _Chunk = {}
        for names, group in itertools.groupby(listed, key=tuple):
            alike = list(group)
            if unknown := [name for name in names if name not in columns]:
                raise SchemaError(f"{label} has no attribute {', '.join(unknown)}. It has: {', '.join(columns)}.")
            if lacking := [name for name in key_names if name not in names]:
                raise SchemaError(f"{label}: a row has no {lacking[0]}, which is in the primary key: {dict(alike[0])}.")
            keys = zip(*([row[name] for row in alike] for name in key_names), strict=True)
            ordered = tuple(sorted(names))
            filled = [name for name in names if name in defaulted and _may_miss([row[name] for row in alike])]
            if not filled:
                chunk.setdefault(ordered, {}).update(zip(keys, alike, strict=True))
                continue
            for key, row in zip(keys, alike, strict=True):
                left_out = {name for name in filled if is_missing(row[name])}
                given = tuple([name for name in ordered if name not in left_out]) if left_out else ordered
                chunk.setdefault(given, {})[key] = row
        yield chunk


def _may_miss(values: list[Any]) -> bool:
    return not set(map(type, values)) <= {str, int, bool}


def _by_key(group: dict[tuple, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if set(map(type, itertools.chain.from_iterable(group))) == {str}:
        return [group[key] for key in sorted(group)]
    return [group[key] for key in sorted(group, key=lambda key: tuple(map(str, key)))]


def _write(
    table: Any, writes: list[tuple[Batch, list[tuple]]], run: str | None, record: bool, filled: Filled
) -> tuple[int, list[Changed]]:
    """Write one chunk in one transaction; a race for the same new rows is run again."""
    connection, label = table.connection, table_label(table)

    def work() -> tuple[int, list[Changed]]:
        inserted, changed = 0, []
        for batch, rows in writes:
            more, found = batch.write(rows)
            inserted, changed = inserted + more, changed + found
        if changed and record:
            record_changes(connection, table, changed, run)
        if (decides := getattr(table, "decides", None)) and (inserted or changed):
            keys = _parents(table, decides["key"], writes if inserted else [], changed)
            connection.update_derived(type(table), keys - filled.get(decides["table"], set()))
        return inserted, changed

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return connection.run_transaction(work)
        except DuplicateError as error:
            if attempt == ATTEMPTS or connection.in_transaction or writes[0][0].clash_is_final:
                raise RowError(
                    f"{label}: a row clashes with another on a unique index: {_first_line(error)}."
                ) from None
        except IntegrityError as error:
            raise RowError(f"{label}: a row names a parent that does not exist: {_first_line(error)}.") from None
        except RowError as error:
            raise RowError(f"{label}: {error}") from None
        except DataJointError as error:
            if "NULL" in str(error) or "default value" in str(error) or "null value" in str(error):
                raise RowError(f"{label}: a new row lacks a value: {_first_line(error)}.") from None
            raise
    raise AssertionError("unreachable")


def _parents(table: Any, name: str, writes: list[tuple[Batch, list[tuple]]], changed: list[Changed]) -> set[Any]:
    """Return the keys of the parents that the written rows have now, and of those that they had before."""
    (own,) = table.primary_key
    keys = {row[0] for row in rows_among(table, own, [item.key[own] for item in changed], [name])}
    keys.update(item.old[name] for item in changed if name in item.old)
    for batch, rows in writes:
        names = [column.name for column in batch.columns]
        if name in names:
            at = names.index(name)
            keys.update([row[at] for row in rows])
    return keys


def _first_line(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())[:400]


def set_values(
    table: Any,
    changes: Mapping[str, Any],
    fixed: Mapping[str, Any],
    attribute: str | None = None,
    values: Sequence[Any] = (),
) -> None:
    """Set attributes of many rows to the same values, in the transaction of the caller.

    Keys can be set too: foreign keys follow. Nothing goes to ``ingestion.Change``.

    Parameters
    ----------
    table : DataJoint table class
    changes : mapping
        Attribute -> new value.
    fixed : mapping
        Attributes that must have one value.
    attribute : str, optional
        One that must have one of `values`.
    values : sequence
    """
    table = table() if isinstance(table, type) else table
    quote = table.connection.adapter.quote_identifier
    assign = ", ".join(f"{quote(name)} = %s" for name in changes)
    same = [f"{quote(name)} = %s" for name in fixed]
    for part in in_parts(values) if attribute else [()]:
        listed = [among(quote(attribute), part)] if attribute else []
        table.connection.query(
            f"update {table.full_table_name} set {assign} where {' and '.join(same + listed)}",
            (*changes.values(), *fixed.values(), *part),
        )

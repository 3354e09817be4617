"""Upsert: insert what is new, update what changed, leave what is equal, and say how many.

Each batch is compared on the server, in a constant number of statements: PostgreSQL
takes it by COPY into a temporary table, MySQL and MariaDB as one JSON document that
JSON_TABLE opens. What an update overwrites is kept in ``ingestion.Change``.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import io
import itertools
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import pandas as pd
from datajoint.errors import DataJointError, DuplicateError, IntegrityError

from labweave.database.connection import ATTEMPTS, LabConnection
from labweave.database.reads import among, in_parts, table_label
from labweave.database.values import Column, JsonDocument, QuotedRows, convert_rows, is_missing, make_columns, to_json
from labweave.errors import RowError, SchemaError
from labweave.schemas.presence import COPIES, DERIVED, datasets_of, update_presence

BATCH_ROWS = 10_000
BATCH_BYTES = 8 * 2**20


class UpsertCounts(NamedTuple):
    """How many rows an upsert inserted, updated and left as they were."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: object) -> UpsertCounts:
        """Add two counts, field by field."""
        return UpsertCounts(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[call-overload]


class Changed(NamedTuple):
    """One row whose stored values differ: its key, the old and the new values."""

    key: dict[str, Any]
    old: dict[str, Any]
    new: dict[str, Any]


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
    """
    return write_rows(table, rows, update=update, run=run)[0]


def write_rows(
    table: Any,
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
    *,
    update: bool | Sequence[str] = True,
    run: str | None = None,
    record: bool = True,
    settled: Set[str] = frozenset(),
) -> tuple[UpsertCounts, list[Changed]]:
    """Upsert, and also return the rows that changed; arguments and errors as in `upsert`.

    Without `record` nothing goes to ``ingestion.Change``: what is overwritten was never known. `settled` are datasets
    that this transaction has made with what its copies say; see `labweave.schemas.presence`.
    """
    table = table() if isinstance(table, type) else table
    connection: LabConnection = table.connection
    columns = make_columns(table)
    label = table_label(table)
    updatable = _updatable(table, columns, update, label)
    counts, all_changed = UpsertCounts(), []
    for chunk in _chunks(table, _records(rows), columns, label):
        writes = []
        for names, group in chunk.items():
            chosen = [columns[name] for name in names]
            changing = [column for column in chosen if not column.in_key and column.name in updatable]
            batch = (_PostgreSQLBatch if connection.adapter.backend == "postgresql" else _MySQLBatch)(
                connection, table.full_table_name, chosen, changing
            )
            writes.append((batch, convert_rows(chosen, _by_key(group), label)))
        inserted, changed = _write(connection, writes, label, run, table, record, settled)
        n_rows = sum(len(converted) for _, converted in writes)
        counts += UpsertCounts(inserted, len(changed), n_rows - inserted - len(changed))
        all_changed += changed
    return counts, all_changed


def _records(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> Iterator[Mapping[str, Any]]:
    if isinstance(rows, pd.DataFrame):
        names = list(rows.columns)
        return (dict(zip(names, values, strict=True)) for values in rows.itertuples(index=False, name=None))
    return iter(rows)


def _updatable(table: Any, columns: Mapping[str, Column], update: bool | Sequence[str], label: str) -> set[str]:
    if isinstance(update, bool):
        return set(columns) - DERIVED.get(label, set()) if update else set()
    if unknown := set(update) - set(columns):
        raise SchemaError(f"{label} has no attribute {', '.join(sorted(unknown))}. It has: {', '.join(columns)}.")
    return set(update) - DERIVED.get(label, set())


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
    connection: LabConnection,
    writes: list[tuple[_Batch, list[tuple]]],
    label: str,
    run: str | None,
    table: Any,
    record: bool,
    settled: Set[str],
) -> tuple[int, list[Changed]]:
    """Write one chunk in one transaction; a race for the same new rows is run again."""

    def work() -> tuple[int, list[Changed]]:
        inserted, changed = 0, []
        for batch, rows in writes:
            more, found = batch.write(rows)
            inserted, changed = inserted + more, changed + found
        if changed and record:
            record_changes(connection, table, changed, run)
        if label == COPIES and (inserted or changed):
            update_presence(connection, _datasets_of(connection, writes if inserted else [], changed) - settled)
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


def _datasets_of(
    connection: LabConnection, writes: list[tuple[_Batch, list[tuple]]], changed: list[Changed]
) -> set[str]:
    """Return the datasets whose copies may be new or changed, also those that a copy was of before."""
    ids = datasets_of(connection, [item.key["file_record_id"] for item in changed])
    ids.update(item.old["dataset_id"] for item in changed if "dataset_id" in item.old)
    for batch, rows in writes:
        names = [column.name for column in batch.columns]
        if "dataset_id" in names:
            at = names.index("dataset_id")
            ids.update([row[at] for row in rows])
    return ids


def _first_line(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())[:400]


class _Batch:
    """Writes rows with the same fields into one table."""

    clash_is_final = False
    """A duplicate can't come from a race for the same primary key."""

    def __init__(self, connection: LabConnection, full_name: str, columns: list[Column], changing: list[Column]):
        quote = connection.adapter.quote_identifier
        self.connection, self.full_name, self.columns, self.changing = connection, full_name, columns, changing
        self.keys = [column for column in columns if column.in_key]
        self.q = {column.name: quote(column.name) for column in columns}
        self.names = ", ".join(self.q[column.name] for column in columns)
        self.join = " and ".join(f"s.{self.q[key.name]} = t.{self.q[key.name]}" for key in self.keys)
        self.key_order = ", ".join(f"s.{self.q[key.name]}" for key in self.keys)
        self.both = ", ".join(
            [f"t.{self.q[key.name]}" for key in self.keys]
            + [f"t.{self.q[column.name]}" for column in changing]
            + [f"s.{self.q[column.name]}" for column in changing]
        )

    def write(self, rows: list[tuple]) -> tuple[int, list[Changed]]:
        """Write a batch and return how many rows were inserted, and those that changed."""
        raise NotImplementedError

    def _first_exists(self, rows: list[tuple]) -> bool:
        names = [column.name for column in self.columns]
        values = tuple(rows[0][names.index(key.name)] for key in self.keys)
        where = " and ".join(f"{self.q[key.name]} = %s" for key in self.keys)
        return bool(self.connection.query(f"select 1 from {self.full_name} where {where}", values).fetchall())

    def _changed(self, rows: Iterable[Sequence[Any]]) -> list[Changed]:
        found = []
        n_keys, n = len(self.keys), len(self.changing)
        for values in rows:
            key = dict(zip((column.name for column in self.keys), values, strict=False))
            pairs = zip(self.changing, values[n_keys : n_keys + n], values[n_keys + n :], strict=True)
            differing = [
                (column.name, old, new)
                for column, old, new in ((c, _shown(c, a), _shown(c, b)) for c, a, b in pairs)
                if old != new
            ]
            found.append(
                Changed(key, {name: old for name, old, _ in differing}, {name: new for name, _, new in differing})
            )
        return found


class _PostgreSQLBatch(_Batch):
    """COPY where all rows are new; else COPY into a temporary table, and compare there."""

    clash_is_final = True  # ON CONFLICT covers the primary key, so it is on a second unique index

    def __init__(self, *args: Any):
        super().__init__(*args)
        digest = hashlib.sha256((self.full_name + self.names).encode()).hexdigest()[:16]
        self.stage = f'pg_temp."stage_{digest}"'
        self.differs = " or ".join(f"t.{self.q[c.name]} is distinct from s.{self.q[c.name]}" for c in self.changing)

    def write(self, rows: list[tuple]) -> tuple[int, list[Changed]]:
        query, text = self.connection.query, _copy_text(rows)
        if not self._first_exists(rows) and self._copy_new(text):
            return len(rows), []
        query(
            f"create temporary table if not exists {self.stage.removeprefix('pg_temp.')} as"
            f" select {self.names} from {self.full_name} with no data; truncate {self.stage}"
        )
        self._copy(self.stage, text)
        keys = ", ".join(self.q[key.name] for key in self.keys)
        inserted = query(
            # A row that is there may lack a field that a new one needs: it must not be tried.
            f"insert into {self.full_name} ({self.names}) select {self.names} from {self.stage} s"
            f" where not exists (select 1 from {self.full_name} t where {self.join})"
            f" order by {self.key_order} on conflict ({keys}) do nothing"
        ).rowcount
        if inserted == len(rows) or not self.changing:
            return inserted, []
        source = f"from {self.stage} s"
        changed = self._changed(
            query(
                f"select {self.both} {source} join {self.full_name} t on {self.join}"
                f" where {self.differs} order by {self.key_order} for update of t"
            )
        )
        if changed:
            assign = ", ".join(f"{self.q[c.name]} = s.{self.q[c.name]}" for c in self.changing)
            query(f"update {self.full_name} t set {assign} {source} where {self.join} and ({self.differs})")
        return inserted, changed

    def _copy_new(self, text: str) -> bool:
        """Insert all rows, or none and return False when one of them exists."""
        try:
            with self.connection.savepoint(DuplicateError):
                self._copy(self.full_name, text)
        except DuplicateError:
            return False
        return True

    def _copy(self, target: str, text: str) -> None:
        cursor = self.connection.adapter.get_cursor(self.connection._conn)
        try:
            cursor.copy_expert(f"copy {target} ({self.names}) from stdin", io.StringIO(text))
        except Exception as error:
            raise self.connection.adapter.translate_error(error) from None


_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_needs_escape = re.compile(r"[\\\t\n\r]").search


def _copy_text(rows: list[tuple]) -> str:
    """Return rows in PostgreSQL's COPY text format."""
    columns = [_copy_column(column) for column in zip(*rows, strict=True)]
    return "\n".join(map("\t".join, zip(*columns, strict=True))) + "\n"


def _copy_column(values: tuple[Any, ...]) -> Iterable[str]:
    types = set(map(type, values))
    has_null = type(None) in types
    types.discard(type(None))
    if types <= {int, float, dt.datetime, dt.date}:
        return ["\\N" if value is None else str(value) for value in values] if has_null else map(str, values)
    if types == {str}:
        if not has_null:
            return map(_copy_field, values) if _needs_escape("".join(values)) else values
        if not _needs_escape("".join([value for value in values if value is not None])):
            return ["\\N" if value is None else value for value in values]
    return map(_copy_field, values)


def _copy_field(value: Any) -> str:
    if type(value) is str:
        return value.translate(_COPY_ESCAPES) if _needs_escape(value) else value
    if value is None:
        return "\\N"
    if type(value) is bytes:
        return "\\\\x" + value.hex()
    return str(value)


class _MySQLBatch(_Batch):
    """Inserted at once where all are new; else one JSON document, opened by JSON_TABLE on the server."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        fields = ", ".join(
            f"{self.q[column.name]} {self._json_type(column)} path '$[{index}]' error on error"
            for index, column in enumerate(self.columns)
        )
        self.source = f"json_table(%s, '$[*]' columns (ord for ordinality, {fields})) s"
        self.values = ", ".join(self._value(column) for column in self.columns)
        self.both = ", ".join(
            [f"t.{self.q[key.name]}" for key in self.keys]
            + [f"t.{self.q[column.name]}" for column in self.changing]
            + [self._value(column) for column in self.changing]
        )
        self.differs = " or ".join(self._differs(column) for column in self.changing)

    def _json_type(self, column: Column) -> str:
        collation = "utf8mb4_bin" if column.kind == "json" else self.connection.adapter.collation
        unicode = f"character set utf8mb4 collate {collation}"
        if column.kind in {"json", "bytes"} or "text" in column.sql_type:
            return f"longtext {unicode}"
        if column.kind == "text":
            return f"{column.sql_type if 'char' in column.sql_type else 'varchar(255)'} {unicode}"
        return {"integer": "bigint", "bool": "tinyint", "float": column.sql_type, "decimal": column.sql_type}.get(
            column.kind, "char(26)"
        )

    def _value(self, column: Column) -> str:
        name = f"s.{self.q[column.name]}"
        if column.kind == "bytes":
            # MariaDB 10.11 loses the bytes of a bare unhex(column) when it sorts.
            return f"unhex(concat({name}, ''))"
        if column.kind == "json" and not self.connection.is_mariadb:
            return f"cast({name} as json)"
        return name

    def _differs(self, column: Column) -> str:
        old, new = f"t.{self.q[column.name]}", self._value(column)
        if column.kind == "json" and self.connection.is_mariadb:
            return f"not ({old} <=> {new} or coalesce(json_equals({old}, {new}), 0))"
        if column.kind == "bytes":
            return f"not (hex({old}) <=> s.{self.q[column.name]})"
        if column.kind in {"date", "datetime"}:
            new = f"cast({new} as {column.sql_type})"
        return f"not ({old} <=> {new})"

    def write(self, rows: list[tuple]) -> tuple[int, list[Changed]]:
        inserted, changed = 0, []
        if not self._first_exists(rows):
            inserted = self._insert_new(rows)
            rows = rows[inserted:]
        for part in self._parts(rows) if rows else ():
            more, found = self._write_part(*part)
            inserted, changed = inserted + more, changed + found
        return inserted, changed

    def _insert_new(self, rows: list[tuple]) -> int:
        """Insert rows from the first on, until there is one that exists, and return how many went in."""
        texts = self.connection.adapter.quote_rows(rows)
        start = 0
        while start < len(texts):
            end, n_characters = start + 1, len(texts[start])
            while end < len(texts) and n_characters + len(texts[end]) < BATCH_BYTES // 2:
                n_characters += len(texts[end])
                end += 1
            document = QuotedRows(",".join(texts[start:end]))
            try:
                self.connection.query(f"insert into {self.full_name} ({self.names}) values %s", (document,))
            except DuplicateError:  # only this statement is rolled back
                break
            start = end
        return start

    def _parts(self, rows: list[tuple]) -> Iterator[tuple[list[tuple], JsonDocument]]:
        """Cut a batch where its document would outgrow the server's packet limit."""
        document = JsonDocument(_encode_rows(rows))
        n_parts = -(-len(document.text) // (BATCH_BYTES // 2))
        if n_parts == 1 or len(rows) == 1:
            yield rows, document
            return
        del document
        size = -(-len(rows) // n_parts)
        for part in in_parts(rows, size):
            yield from self._parts(part)

    def _write_part(self, rows: list[tuple], document: JsonDocument) -> tuple[int, list[Changed]]:
        query = self.connection.query
        missing = f"t.{self.q[self.keys[0].name]} is null"
        if self._first_exists(rows):
            # Most rows are there: look for what differs, and insert or update only that.
            condition = f"{missing} or {self.differs}" if self.changing else missing
            found = query(
                f"select s.ord, {missing} from {self.source}"
                f" left join {self.full_name} t on {self.join} where {condition}",
                (document,),
            ).fetchall()
            if not found:
                return 0, []
            rows = [rows[int(order) - 1] for order, _ in found]
            any_new, any_changed = any(is_new for _, is_new in found), any(not is_new for _, is_new in found)
            document = JsonDocument(_encode_rows(rows))
        else:
            any_new = any_changed = True
        inserted = 0
        if any_new:
            inserted = query(
                f"insert into {self.full_name} ({self.names}) select {self.values} from {self.source}"
                f" left join {self.full_name} t on {self.join} where {missing} order by s.ord",
                (document,),
            ).rowcount
        if inserted == len(rows) or not self.changing or not any_changed:
            return inserted, []
        where = f"from {self.source} join {self.full_name} t on {self.join} where {self.differs}"
        lock = "for update" if self.connection.is_mariadb else "for update of t"
        found = query(f"select s.ord, {self.both} {where} order by s.ord {lock}", (document,)).fetchall()
        if found:
            # Not by the condition again: MariaDB 10.11 fails on JSON that it has just made longer.
            document = JsonDocument(_encode_rows([rows[int(order) - 1] for order, *_ in found]))
            assign = ", ".join(f"t.{self.q[c.name]} = {self._value(c)}" for c in self.changing)
            query(f"update {self.full_name} t join {self.source} on {self.join} set {assign}", (document,))
        return inserted, self._changed([row[1:] for row in found])


_encode_rows = json.JSONEncoder(
    ensure_ascii=False,
    separators=(",", ":"),
    check_circular=False,
    default=lambda value: value.hex().upper() if type(value) is bytes else str(value),
).encode


def record_changes(connection: LabConnection, table: Any, changed: list[Changed], run: str | None) -> None:
    """Keep what is being overwritten, in the transaction that overwrites it."""
    change = connection.adapter.make_full_table_name(f"{connection.prefix}ingestion", "change")
    quote = connection.adapter.quote_identifier
    names = ", ".join(
        map(quote, ("change_id", "table_name", "row_key", "old_values", "new_values", "run", "changed_at"))
    )
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    label = table_label(table)
    for part in in_parts(changed):
        rows = [
            (str(uuid.uuid4()), label, to_json(item.key), to_json(item.old), to_json(item.new), run, now)
            for item in part
        ]
        marks = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(rows))
        connection.query(
            f"insert into {change} ({names}) values {marks}", tuple(value for row in rows for value in row)
        )


def _shown(column: Column, value: Any) -> Any:
    """Return a stored value as `ingestion.Change` keeps it."""
    if value is None:
        return None
    if column.kind == "json":
        return json.loads(value) if isinstance(value, (str, bytes)) else value
    if column.kind == "bool":
        return bool(value)
    if isinstance(value, (bytes, memoryview)):
        return {"n_bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, decimal.Decimal):
        return str(value)
    if column.kind == "datetime":
        return str(value)
    if column.kind == "date":
        return str(value)
    return value


def set_values(
    table: Any,
    changes: Mapping[str, Any],
    fixed: Mapping[str, Any],
    attribute: str | None = None,
    values: Sequence[Any] = (),
) -> None:
    """Set attributes of rows to one value each, in the transaction of the caller; keys too, which foreign keys follow.

    Nothing goes to ``ingestion.Change``.

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

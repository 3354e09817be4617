"""Reads of many rows, and what every statement about many rows needs: a condition for a list of values, in parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from datajoint.table import FreeTable
from datajoint.utils import to_camel_case

from labweave.database.values import Column, make_columns

Values = TypeVar("Values", bound=Sequence[Any])

VALUES_AT_ONCE = 1000
"""How many values one statement lists."""

KEYS_AT_ONCE = 200
"""How many keys of several attributes one condition lists."""


def in_parts(values: Values, size: int = VALUES_AT_ONCE) -> Iterator[Values]:
    """Yield a sequence in parts of at most `size` items."""
    for start in range(0, len(values), size):
        yield values[start : start + size]  # pyright: ignore[reportReturnType]


def among(column: str, values: Sequence[Any]) -> str:
    """Return the SQL condition that a column has one of some values, with a mark for each value."""
    return f"{column} in ({', '.join(['%s'] * len(values))})"


def table_label(table: Any) -> str:
    """Return the name people use for a table (a class or an instance), for example ``efeature.TargetSet.Target``."""
    table = table() if isinstance(table, type) else table
    name = type(table).__name__
    if isinstance(table, FreeTable):  # as its class, defined elsewhere, is called
        name = ".".join(map(to_camel_case, str(table.table_name).lstrip("#_~").split("__")))
    if master := getattr(table, "_master", None):  # of a part
        name = f"{master.__name__}.{name}"
    return f"{table.database.removeprefix(table.connection.prefix)}.{name}"


def _select(table: Any, wanted: Sequence[str], fixed: Mapping[str, Any]) -> tuple[Any, Callable[[str], str], str]:
    """Return a table's connection, what quotes a name, and the beginning of a query that other conditions follow."""
    table = table() if isinstance(table, type) else table
    quote = table.connection.adapter.quote_identifier
    conditions = "".join(f"{quote(name)} = %s and " for name in fixed)
    return (
        table.connection,
        quote,
        f"select {', '.join(map(quote, wanted))} from {table.full_table_name} where {conditions}",
    )


def rows_among(
    table: Any, attribute: str, values: Iterable[Any], wanted: Sequence[str], fixed: Mapping[str, Any] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows in which an attribute has one of some values.

    Parameters
    ----------
    table : DataJoint table class
    attribute : str
    values : iterable
        Of numbers, text or dates.
    wanted : sequence of str
        The attributes to return, as the database holds them: no codec, no JSON.
    fixed : mapping, optional
        Attributes that must have one value.
    """
    fixed = fixed or {}
    connection, quote, select = _select(table, wanted, fixed)
    for part in in_parts(list(values)):
        yield from connection.query(f"{select}{among(quote(attribute), part)}", (*fixed.values(), *part)).fetchall()


def rows_of_keys(table: Any, keys: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of some keys with some attributes more, in the order of their keys."""
    for part in in_parts(keys, KEYS_AT_ONCE):
        yield from (table & list(part)).proj(*wanted).to_dicts(order_by="KEY")


def rows_between(
    table: Any, attribute: str, low: str, high: str, wanted: Sequence[str], fixed: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Return the rows whose text is at least `low` and below `high`; an empty `high` sets no upper limit.

    Parameters
    ----------
    table : DataJoint table class
    attribute : str
    low, high : str
    wanted : sequence of str
        The attributes to return, as the database holds them.
    fixed : mapping
        Attributes that must have one value.
    """
    connection, quote, select = _select(table, wanted, fixed)
    until = f" and {quote(attribute)} < %s" if high else ""
    values = (*fixed.values(), low, *([high] if high else []))
    return list(connection.query(f"{select}{quote(attribute)} >= %s{until}", values).fetchall())


def rows_in_order(
    table: Any, order: str, wanted: Sequence[str], fixed: Mapping[str, Any], page: int = 10_000
) -> Iterator[tuple[Any, ...]]:
    """Yield rows in the order of an attribute that is different in each of them, a page at a time.

    Parameters
    ----------
    table : DataJoint table class
    order : str
        The attribute.
    wanted : sequence of str
        The attributes to return.
    fixed : mapping
        Attributes that must have one value.
    page : int
        Rows in memory at once.
    """
    connection, quote, select = _select(table, (order, *wanted), fixed)
    after: list[Any] = []
    while True:
        beyond = f"{quote(order)} > %s" if after else "1 = 1"
        query = f"{select}{beyond} order by {quote(order)} limit {page:d}"
        rows = connection.query(query, (*fixed.values(), *after)).fetchall()
        for row in rows:
            yield row[1:]
        if len(rows) < page:
            return
        after = [rows[-1][0]]


def missing_keys(table: Any, keys: Collection[tuple]) -> set[tuple]:
    """Return those of some primary keys that no row of a table has.

    Parameters
    ----------
    table : DataJoint table class or instance
    keys : collection of tuple
        Of numbers and text; times, dates and decimals as text.
    """
    table = table() if isinstance(table, type) else table
    names = table.primary_key
    if len(names) == 1:  # counting spares fetching what is nearly always all there
        part: list[tuple]
        quoted = table.connection.adapter.quote_identifier(names[0])
        suspect: list[tuple] = []
        for part in in_parts(list(keys)):
            values = tuple([key[0] for key in part])
            query = f"select count(*) from {table.full_table_name} where {among(quoted, values)}"
            if table.connection.query(query, values).fetchone()[0] != len(part):
                suspect += part
        keys = suspect
    if not keys:
        return set()
    columns = make_columns(table)
    as_text = [_as_text(columns[name]) for name in names]

    def compared(key: tuple) -> tuple[str, ...]:
        return tuple([text(value) for text, value in zip(as_text, key, strict=True)])

    there = {compared(key) for key in rows_among(table, names[0], {key[0] for key in keys}, names)}
    return {key for key in keys if compared(key) not in there}


def _as_text(column: Column) -> Callable[[Any], str]:
    """Return what makes a value of a column the same text, whether it was kept or the database gives it back."""
    if column.kind == "float" and not column.sql_type.startswith("double"):
        return lambda value: f"{float(value):.6g}"  # so many digits of a float32 MySQL and MariaDB give back
    return str

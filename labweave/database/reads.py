"""Reads of many rows by a list of values: one statement for a thousand of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

CHUNK = 1000


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
    table = table() if isinstance(table, type) else table
    quote = table.connection.adapter.quote_identifier
    fixed = fixed or {}
    names = ", ".join(map(quote, wanted))
    same = "".join(f"{quote(name)} = %s and " for name in fixed)
    listed = list(values)
    for start in range(0, len(listed), CHUNK):
        part = listed[start : start + CHUNK]
        marks = ", ".join(["%s"] * len(part))
        yield from table.connection.query(
            f"select {names} from {table.full_table_name} where {same}{quote(attribute)} in ({marks})",
            (*fixed.values(), *part),
        ).fetchall()


def rows_between(
    table: Any, attribute: str, low: str, high: str, wanted: Sequence[str], fixed: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Return the rows in which a text lies from `low` up to but without `high`; without end when that is empty.

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
    table = table() if isinstance(table, type) else table
    quote = table.connection.adapter.quote_identifier
    conditions = [*(f"{quote(name)} = %s" for name in fixed), f"{quote(attribute)} >= %s"]
    values = [*fixed.values(), low]
    if high:
        conditions.append(f"{quote(attribute)} < %s")
        values.append(high)
    return list(
        table.connection.query(
            f"select {', '.join(map(quote, wanted))} from {table.full_table_name} where {' and '.join(conditions)}",
            tuple(values),
        ).fetchall()
    )


def rows_in_order(
    table: Any, order: str, wanted: Sequence[str], fixed: Mapping[str, Any], page: int = 10_000
) -> Iterator[tuple[Any, ...]]:
    """Yield rows by the values of an attribute that no two of them share, a page at a time.

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
    table = table() if isinstance(table, type) else table
    quote = table.connection.adapter.quote_identifier
    names = ", ".join(map(quote, (order, *wanted)))
    same = " and ".join([f"{quote(name)} = %s" for name in fixed] or ["1 = 1"])
    after: list[Any] = []
    while True:
        beyond = f" and {quote(order)} > %s" if after else ""
        rows = table.connection.query(
            f"select {names} from {table.full_table_name} where {same}{beyond} order by {quote(order)} limit {page:d}",
            (*fixed.values(), *after),
        ).fetchall()
        for row in rows:
            yield row[1:]
        if len(rows) < page:
            return
        after = [rows[-1][0]]

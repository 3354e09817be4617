"""Attributes that follow from rows of another table: whoever writes those rows keeps them right.

The other table says so by ``decides``: ``FileRecord`` decides whether its ``Dataset`` is present. The writer asks each
table for it and knows none by name. A search reads the attribute from an index that it reads anyway; to look among
the rows instead takes four times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from labweave.database.reads import among, in_parts

Filled = dict[Any, set[str]]
"""Table -> the keys of its rows for which `fill_derived` has filled in what follows."""


def derived_attributes(table: Any) -> frozenset[str]:
    """Return the attributes that an upsert of rows that exist leaves alone."""
    return getattr(table, "derived", frozenset())


def fill_derived(tables: MutableMapping[Any, Any]) -> Filled:
    """Fill in what rows that one transaction writes say of each other, and say for which keys.

    New rows that are right at once need no update: that is half of the work of the server.

    Parameters
    ----------
    tables : mapping
        Table class -> rows.
    """
    filled: Filled = {}
    for table, rows in list(tables.items()):
        if (decides := getattr(table, "decides", None)) is None or decides["table"] not in tables:
            continue
        key, needed = decides["key"], decides["needs"].items()
        true_for = {row.get(key) for row in rows if all(row.get(name) == value for name, value in needed)}
        parent = decides["table"]
        tables[parent] = [{**row, decides["attribute"]: row[key] in true_for} for row in tables[parent]]
        filled[parent] = {row[key] for row in tables[parent]}
    return filled


def update_derived(connection: Any, table: Any, keys: Iterable[str] | None = None) -> int:
    """Make what a table decides true of its rows, and return in how many parents it was not.

    Parameters
    ----------
    connection : LabConnection
    table : DataJoint table class
        One with ``decides``.
    keys : iterable of str, optional
        Only of these parents, in the transaction of the caller.
    """
    attribute, key, needs = (table.decides[name] for name in ("attribute", "key", "needs"))
    conditions = [f"r.{key} = p.{key}"]
    conditions += [
        f"r.{name} is null" if value is None else f"r.{name} = {value}".lower() for name, value in needs.items()
    ]
    parent = table.decides["table"].full_table_name
    change = (
        f"update {parent} p set {attribute} = not p.{attribute} where p.{attribute} <>"
        f" exists (select 1 from {table.full_table_name} r where {' and '.join(conditions)})"
    )
    if keys is None:
        return connection.query(change).rowcount
    n_changed = 0
    for part in in_parts(sorted(set(keys))):
        listed = among(f"p.{key}", part)
        # Another transaction that writes rows of the same parents waits here until this one has ended.
        lock = f"select p.{key} from {parent} p where {listed} order by p.{key} for {connection.adapter.row_lock}"
        connection.query(lock, tuple(part)).fetchall()
        n_changed += connection.query(f"{change} and {listed}", tuple(part)).rowcount
    return n_changed

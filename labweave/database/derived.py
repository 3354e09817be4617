"""Derived attributes: columns of a table that follow from the rows of another one.

The other table declares them in ``decides``: the rows of ``FileRecord`` decide whether their ``Dataset`` is present.
Whoever writes those rows updates the attribute in the same transaction, without knowing which table it is. A search
then reads the attribute from an index that it uses anyway; looking at the other table's rows takes four times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from labweave.database.reads import among, in_parts

Filled = dict[Any, set[str]]
"""Table -> the keys of its rows whose derived attribute `fill_derived` has set."""


def derived_attributes(table: Any) -> frozenset[str]:
    """Return a table's derived attributes, which an upsert does not change in existing rows."""
    return getattr(table, "derived", frozenset())


def fill_derived(tables: MutableMapping[Any, Any]) -> Filled:
    """Set the derived attributes in the rows that one transaction will write, and return the keys of those rows.

    New rows then need no update after they are written, which halves the work of the server.

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
    """Update the attribute that a table's rows decide, and return in how many parent rows it was wrong.

    Parameters
    ----------
    connection : LabConnection
    table : DataJoint table class
        One with ``decides``.
    keys : iterable of str, optional
        Look at these parents only, in the transaction of the caller.
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
        # A transaction that writes rows of the same parents waits here until this one ends.
        lock = f"select p.{key} from {parent} p where {listed} order by p.{key} for {connection.adapter.row_lock}"
        connection.query(lock, tuple(part)).fetchall()
        n_changed += connection.query(f"{change} and {listed}", tuple(part)).rowcount
    return n_changed

"""Results of rows that changed: foreign keys find them, and they are deleted so that populate makes them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labweave.database import UpsertCounts
from labweave.database.batches import Changed
from labweave.database.changes import OUTDATED
from labweave.database.declare import every_table
from labweave.database.inputs import find_table, is_name_of_results
from labweave.database.reads import in_parts, table_label
from labweave.errors import Clash
from labweave.ingest.base import Adapter
from labweave.ingest.keys import plain

KEYS_PER_QUERY = 500


class RowsHang(Clash):
    """Rows can't go, because others hang on them.

    Parameters
    ----------
    message : str
    rows : mapping
        Key of a row -> what is to be done.
    """

    def __init__(self, message: str, rows: Mapping[tuple, str]):
        self.rows = dict(rows)
        super().__init__(message)


@dataclass(frozen=True)
class Link:
    """One table that refers to another by a foreign key, on the way to results.

    Attributes
    ----------
    table : DataJoint table
    renamed : mapping
        Its attributes -> those of the table that it refers to.
    results : DataJoint table or None
        The result itself, or the result that the table is a part of; None for a table in between.
    links : list of Link
        What refers to a table in between.
    """

    table: Any
    renamed: Mapping[str, str]
    results: Any
    links: list[Link]

    def rows_of(self, keys: Sequence[Mapping[str, Any]]) -> Any:
        """Return the rows that refer to some rows, given by their keys; None when the keys don't say it."""
        names = [(own, theirs) for own, theirs in self.renamed.items() if theirs in keys[0]]
        return self.table & [{own: key[theirs] for own, theirs in names} for key in keys] if names else None


def results_of(table: Any) -> list[Link]:
    """Return the ways to the computed tables that depend on one by foreign keys, in any schema that is in use."""
    instance = table() if isinstance(table, type) else table
    instance.connection.dependencies.load()
    return _links(instance)


def _links(table: Any) -> list[Link]:
    found = []
    for child, reference in table.children(as_objects=True, foreign_key_info=True):
        own, renamed = find_table(table.connection, child.full_table_name), reference["attr_map"]
        result = own if is_name_of_results(own.full_table_name) else _master(own)
        if result is None or not is_name_of_results(result.full_table_name):
            if links := _links(own):
                found.append(Link(own, renamed, None, links))
        elif result.full_table_name != table.full_table_name:  # what a result has parts for goes with it
            found.append(Link(own, renamed, result, _links(result)))
    return found


def _master(table: Any) -> Any:
    """Return the table that another one is a part of."""
    name, _, part = table.table_name.rpartition("__")
    if not name.strip("_") or not part:
        return None
    adapter = table.connection.adapter
    return find_table(table.connection, adapter.make_full_table_name(table.database, name))


def delete_results(links: Sequence[Link], keys: Sequence[Mapping[str, Any]], deleted: dict[str, int]) -> None:
    """Delete the results of some keys, and their failed jobs; `deleted` counts rows by table."""
    for link in links:
        for part in in_parts(keys, KEYS_PER_QUERY):
            if (rows := link.rows_of(part)) is None:
                continue
            if link.results is None:
                delete_results(link.links, rows.keys(), deleted)
                continue
            found = (rows if link.results is link.table else link.results & rows.proj()).keys()
            if found:
                doomed = link.results & found  # by keys: what it refers to may go first
                _refuse_manual_rows(link.results, doomed, part)
                delete_results(link.links, found, deleted)
                label = table_label(link.results)
                deleted[label] = deleted.get(label, 0) + len(found)
                with doomed.connection.deleting(OUTDATED):
                    doomed.delete(transaction=False, prompt=False)
            if link.results is link.table and type(link.table) in every_table():  # a lab's own may have no queue
                failed = link.table.jobs & {"status": "error"}
                names = {own: theirs for own, theirs in link.renamed.items() if own in failed.primary_key}
                (failed & [{own: key[names[own]] for own in names if names[own] in key} for key in part]).delete_quick()


def _refuse_manual_rows(result: Any, doomed: Any, keys: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to delete results that a person's own rows hang on: nobody could make these again.

    Raises
    ------
    RowsHang
        Names the row.
    """
    for child in result.children(as_objects=True):
        if not is_name_of_results(child.full_table_name) and "__" not in child.table_name.lstrip("_"):
            for row in (child & doomed.proj()).keys(limit=1):
                hanging = ", ".join(f"{name} {value}" for name, value in row.items())
                message = (
                    f"{table_label(result)} is to be made again, but the row {hanging} of {table_label(child)} hangs "
                    "on it. Delete that row, then ingest again."
                )
                made_from = [key for key in keys if all(key[name] == row[name] for name in key.keys() & row.keys())]
                raise RowsHang(message, {tuple(map(plain, key.values())): message for key in made_from})


def delete_outdated(
    adapter: Adapter | type[Adapter],
    tables: Mapping[type, Sequence[Mapping[str, Any]]],
    counts: Mapping[str, UpsertCounts],
    changed: Mapping[type, Sequence[Changed]],
    removed: Mapping[str, Sequence[Mapping[str, Any]]],
    deleted: dict[str, int],
) -> None:
    """Delete results made from rows that changed, came or went, so that populate makes them again.

    Parameters
    ----------
    adapter : Adapter
        Says which attributes results are computed from.
    tables : mapping
        Table -> rows written.
    counts : mapping
        Table's label -> how many of them were new or changed.
    changed : mapping
        Table -> rows that changed.
    removed : mapping
        Table's label -> keys of rows that were taken out, with what was made from each alone.
    deleted : dict
        Table's label -> number of results deleted; is added to.
    """
    joint = adapter.joint_results_of
    of_one: set[str] = set()
    joint_keys: list[dict[str, Any]] = []
    for table, attributes in adapter.results_computed_from.items():
        label = table_label(table)
        rows = [row for row in changed.get(table, []) if not row.new.keys().isdisjoint(attributes)]
        gone = removed.get(label, [])
        if gone or (table in tables and (rows or counts[label].inserted)):
            links = results_of(table)
            of_one.update(_names_of_results(links))
            delete_results(links, [row.key for row in rows], deleted)
        if joint is not None:
            joint_keys += [{name: key[name] for name in joint().primary_key} for key in gone]
    if joint is not None and of_one:
        names = joint().primary_key
        joint_keys += [{name: row[name] for name in names} for row in tables.get(joint, [])]
        links = [link for link in results_of(joint) if not of_one.issuperset(_names_of_results([link]))]
        # An extraction, which has parts for its cells, is left to populate: it may come out the same.
        delete_results([link for link in links if link.results in (None, link.table)], joint_keys, deleted)


def _names_of_results(links: Sequence[Link]) -> Iterator[str]:
    for link in links:
        if link.results is not None:
            yield link.results.full_table_name
        yield from _names_of_results(link.links)

"""Results of rows that changed: foreign keys find them, and they are deleted so that populate makes them again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from datajoint.table import FreeTable

from labweave.database import UpsertCounts
from labweave.database.batches import Changed
from labweave.database.declare import every_table, is_computed
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


def results_of(table: Any) -> list[Any]:
    """Return the computed tables that depend on one by foreign keys, in any schema that is in use, parents first."""
    instance = table() if isinstance(table, type) else table
    connection = instance.connection
    connection.dependencies.load()
    own = {cls.full_table_name: cls for cls in every_table() if is_computed(cls)}
    found = []
    for name in instance.descendants():
        if name in own:
            found.append(own[name]())
        elif _is_name_of_results(name):
            found.append(FreeTable(connection, name))
    return [result for result in found if result.full_table_name != instance.full_table_name]


_is_name_of_results = re.compile(r".*[.`\"]__?[a-z](?!.*__)[a-z0-9_]*[`\"]").fullmatch
"""DataJoint marks computed and imported tables so; parts have another __ inside."""


def delete_results(results: Sequence[Any], keys: Sequence[Mapping[str, Any]], deleted: dict[str, int]) -> None:
    """Delete the results of some keys, and their failed jobs; `deleted` counts rows by table."""
    result: Any
    for result in reversed(results):  # children first: they are counted before a parent's delete takes them along
        for part in in_parts(keys, KEYS_PER_QUERY):
            heading: Any = result.heading
            shared = part[0].keys() & set(heading.names)
            if not shared:
                continue
            doomed: Any = result & [{name: key[name] for name in shared} for key in part]
            if count := len(doomed):
                _refuse_manual_rows(result, doomed, part)
                label = table_label(result)
                deleted[label] = deleted.get(label, 0) + count
                doomed.delete(transaction=False, prompt=False)
            if isinstance(result, FreeTable):
                continue
            jobs = result.jobs & [{name: key[name] for name in shared & set(result.primary_key)} for key in part]
            (jobs & {"status": "error"}).delete_quick()


def _refuse_manual_rows(result: Any, doomed: Any, keys: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to delete results that a person's own rows hang on: nobody could make these again.

    Raises
    ------
    RowsHang
        Names the row.
    """
    for child in result.children(as_objects=True):
        if not _is_name_of_results(child.full_table_name) and "__" not in child.table_name.lstrip("_"):
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
            results = results_of(table)
            of_one.update(result.full_table_name for result in results)
            delete_results(results, [row.key for row in rows], deleted)
        if joint is not None:
            joint_keys += [{name: key[name] for name in joint().primary_key} for key in gone]
    if joint is not None and of_one:
        names = joint().primary_key
        joint_keys += [{name: row[name] for name in names} for row in tables.get(joint, [])]
        delete_results([r for r in results_of(joint) if r.full_table_name not in of_one], joint_keys, deleted)

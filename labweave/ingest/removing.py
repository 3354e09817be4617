"""Rows that are taken out, with the results that were computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from datajoint.errors import IntegrityError

from labweave.database.batches import Changed, shown
from labweave.database.changes import record_changes
from labweave.database.connection import LabConnection
from labweave.database.inputs import find_table
from labweave.database.reads import in_parts, table_label
from labweave.database.values import make_columns
from labweave.ingest.keys import name_of, order_of_tables, plain, table_called
from labweave.ingest.results import Link, RowsHang, delete_results, results_of

KEYS_PER_DELETE = 200


class Remover:
    """Deletes rows by their kept keys.

    Parameters
    ----------
    connection : LabConnection
    """

    def __init__(self, connection: LabConnection):
        self.connection = connection
        self._results: dict[str, list[Link]] = {}

    def delete(
        self,
        tables: Mapping[str, set[tuple]],
        run: str,
        results: dict[str, int],
        *,
        may_stay: bool = False,
        moving: Mapping[str, set[tuple]] = MappingProxyType({}),
    ) -> dict[str, list[dict[str, Any]]]:
        """Delete rows and what was computed from them, children first, and return the keys of those deleted.

        A row that others hang on is an error; with `may_stay`, it stays. Rows that are `moving`, which a dry run has
        not hung on others, go without being counted.
        """
        deleted: dict[str, list[dict[str, Any]]] = {}
        for name in sorted(tables, key=lambda name: order_of_tables().get(name, len(order_of_tables())), reverse=True):
            called, _, attribute = name.partition(":")
            table = table_called(self.connection, called)
            keys = [dict(zip(table.primary_key, key, strict=True)) for key in sorted(tables[name], key=str)]
            if attribute:
                for row in (table & keys).proj(attribute).to_dicts():
                    key = {part: row[part] for part in table.primary_key}
                    where = (table & key).where_clause()
                    self.connection.query(f"update {table.full_table_name} set {attribute} = default{where}")
                    record_changes(
                        self.connection,
                        table,
                        [Changed(key, {attribute: row[attribute]}, {attribute: None})],
                        run or None,
                    )
                continue
            if name not in self._results:
                self._results[name] = results_of(table)
            for part in in_parts(keys, 1 if may_stay else KEYS_PER_DELETE):
                if moving and (hanging := _hanging_on(table, part, moving)):
                    self.delete(hanging, run, {}, moving=moving)
                if gone := self._delete_part(table, part, run, results, self._results[name], may_stay):
                    deleted.setdefault(table_label(table), []).extend(gone)
        return deleted

    def _delete_part(
        self,
        table: Any,
        keys: list[dict[str, Any]],
        run: str,
        results: dict[str, int],
        results_of_table: list[Link],
        may_stay: bool,
    ) -> list[dict[str, Any]]:
        doomed = table & keys
        for stamp in (name for name in table.heading.names if name.endswith("_stamp")):
            doomed &= f"{stamp} is null"  # a server follows the others
        there = doomed.keys()
        if not there:
            return []
        with_results = dict(results)
        try:
            with self.connection.savepoint((IntegrityError, RowsHang)), self.connection.deleting(run=run):
                delete_results(results_of_table, there, with_results)
                doomed.delete_quick()
            results.update(with_results)
        except (IntegrityError, RowsHang) as error:
            if may_stay:
                return []
            if isinstance(error, RowsHang):
                raise
            hanging = _what_hangs_on(table, keys)
            raise RowsHang(next(iter(hanging.values()), f"{table_label(table)}: {error}"), hanging) from None
        columns = make_columns(table)
        return [{name: shown(columns[name], value) for name, value in key.items()} for key in there]


def _hanging_on(table: Any, keys: list[dict[str, Any]], among: Mapping[str, set[tuple]]) -> dict[str, set[tuple]]:
    """Return which of some rows, by table, hang on others."""
    found: dict[str, set[tuple]] = {}
    for child, reference in table.children(as_objects=True, foreign_key_info=True):
        name = name_of(type(find_table(table.connection, child.full_table_name)))
        if own := among.get(name):
            hanging = child & [{ours: key[theirs] for ours, theirs in reference["attr_map"].items()} for key in keys]
            found[name] = own & {tuple(map(plain, key.values())) for key in hanging.keys()}  # noqa: SIM118  not whole rows
    return {name: own for name, own in found.items() if own}


def _what_hangs_on(table: Any, keys: list[dict[str, Any]]) -> dict[tuple, str]:
    """Return, for those of some rows that others hang on, what is to be done."""
    found: dict[tuple, str] = {}
    for child, reference in table.children(as_objects=True, foreign_key_info=True):
        for key in keys:
            own = {ours: key[theirs] for ours, theirs in reference["attr_map"].items() if theirs in key}
            if hanging := (child & own).keys(limit=1):
                found[tuple(key.values())] = (
                    f"{table_label(table)} {_in_words(key)} is no longer in the source, but the row "
                    f"{_in_words(hanging[0])} of {table_label(child)} hangs on it. "
                    "Delete that row, or hang it on another one; then ingest again."
                )
    return found


def _in_words(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in key.items())

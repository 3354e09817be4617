"""Keeping rows as the server has their records: rename them, write what differs, unlink what is gone."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labweave.database import UpsertCounts, upsert
from labweave.database.batches import Changed
from labweave.database.changes import record_changes
from labweave.database.connection import LabConnection
from labweave.database.declare import schema_modules, short_name, table_classes
from labweave.database.derived import Filled, fill_derived
from labweave.database.reads import in_parts
from labweave.database.values import convert_rows, make_columns
from labweave.database.writes import set_values, write_rows
from labweave.errors import RowError
from labweave.formats.alyx import Resource
from labweave.formats.alyx.records import Mapped, row_key
from labweave.ingest.alyx.tables import SourceRecord
from labweave.ingest.given import disown
from labweave.ingest.results import delete_results, results_of
from labweave.schemas.ingestion import Failure, OpenFailure

INPUTS = {
    "dataset.Dataset": ("eid", "collection", "revision", "dataset_name", "file_size", "hash"),
    "session.Trajectory": ("x", "y", "z", "depth", "theta", "phi", "roll", "coordinate_system"),
    "session.Channel": ("axial", "lateral", "channel_x", "channel_y", "channel_z", "brain_region"),
}
"""Table -> the attributes that its results are made from. Results of sessions and subjects are made from files, and the
adapters of these files know when they change."""

Key = tuple[Any, ...]
Batch = dict[str, tuple[dict[str, Any], Mapped]]


@functools.cache
def tables() -> dict[str, type]:
    """Return every table by its label, for example ``session.Session``, parents first."""
    return {f"{short_name(module)}.{cls.__name__}": cls for module in schema_modules() for cls in table_classes(module)}


class Mirror:
    """Writes the records of one resource, in the transaction of the caller.

    Attributes
    ----------
    counts : dict
        Table -> `UpsertCounts`.
    refused : dict
        Record id -> why it can't be stored.
    postponed : dict
        Record id -> its parent, which is not there yet.
    outdated : dict
        Table -> how many of its results were deleted, because what they were made from changed.
    """

    def __init__(self, connection: LabConnection, run: str, resource: Resource):
        self.connection, self.run, self.resource = connection, run, resource
        self.counts: dict[str, UpsertCounts] = defaultdict(UpsertCounts)
        self.refused: dict[str, str] = {}
        self.postponed: dict[str, str] = {}
        self.outdated: dict[str, int] = {}

    def write(self, batch: Batch, record: bool = True) -> set[str]:
        """Write records whole, and return the ids of those that are in now.

        Without `record`, `Change` does not keep what is overwritten.
        """
        if not batch:
            return set()
        if not self.resource.identity:
            counts = self.counts.copy()
            try:
                with self.connection.savepoint(RowError):
                    self._write(batch, record)
                return set(batch)
            except RowError:  # rare: only now is it worth finding out which records can't be stored
                self.counts = counts
        batch = self._without_orphans(batch)
        for sent, mapped in batch.values():
            for label, values in mapped.rows:
                _fit(sent, values, _limits(label))
        batch = self._without_misfits(batch)
        if self.resource.identity:
            batch = self._rename(batch)
        self._write(batch, record)
        return set(batch)

    def _write(self, batch: Batch, record: bool) -> None:
        rows: dict[str, list[dict[str, Any]]] = {}
        linked: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for key, (_, mapped) in batch.items():
            for label, values in mapped.rows:
                rows.setdefault(label, []).append(values)
            for label, items in mapped.links.items():
                linked.setdefault(label, {})[key] = items
        together = {table: rows[label] for label, table in tables().items() if label in rows}
        n_new, filled = 0, fill_derived(together)
        for label in [label for label in tables() if label in rows]:
            counts = self._upsert(label, together[tables()[label]], record, filled)
            n_new += counts.inserted if label == self.resource.table else 0
        for label in [label for label in tables() if label in linked]:
            if n_new < len(batch):
                self._unlink(label, linked[label], batch)
            self._upsert(label, [values for items in linked[label].values() for values in items])

    def _upsert(
        self, label: str, rows: list[dict[str, Any]], record: bool = True, filled: Filled | None = None
    ) -> UpsertCounts:
        if not rows:
            return UpsertCounts()
        counts, changed = write_rows(tables()[label], rows, run=self.run, record=record, filled=filled)
        disown(self.connection, tables()[label], rows)
        self.counts[label] += counts
        outdated = [item.key for item in changed if not item.new.keys().isdisjoint(INPUTS.get(label, ()))]
        if outdated:
            with self.connection.deleting(run=self.run):
                delete_results(results_of(tables()[label]), outdated, self.outdated)
        return counts

    def _without_orphans(self, batch: Batch) -> Batch:
        """Postpone the records that name a parent which is not there."""
        rows = _by_table(batch)
        if self.resource.name == "session-details":  # the list says whose they are
            eids = {(values["eid"],): key for key, values in rows.get("session.Session", [])}
            for value in _missing("session.Session", ["eid"], eids):
                self.postponed[eids[value]] = f"session.Session {value[0]}"
        for label, found in rows.items():
            for parent, names in _parents()[label]:
                wanted: dict[Key, list[str]] = {}
                for key, values in found:
                    value = tuple(values.get(child) for child in names)
                    if None not in value:
                        wanted.setdefault(value, []).append(key)
                coming = {tuple(values.get(name) for name in names.values()) for _, values in rows.get(parent, ())}
                missing = _missing(parent, list(names.values()), wanted.keys() - coming)
                for value in missing:
                    for key in wanted[value]:
                        self.postponed[key] = f"{parent} {'/'.join(map(str, value))}"
        return {key: item for key, item in batch.items() if key not in self.postponed}

    def _without_misfits(self, batch: Batch) -> Batch:
        """Refuse the records that can't be stored."""
        columns = {label: make_columns(tables()[label]()) for label in {*_by_table(batch)}}
        for key, (_, mapped) in batch.items():
            try:
                for label, values in mapped.every_row():
                    own = columns[label]
                    given = [own[name] for name in values if values[name] is not None or not own[name].has_default]
                    convert_rows(given, [values], label)
            except RowError as error:
                self.refused[key] = str(error)
        return {key: item for key, item in batch.items() if key not in self.refused}

    def _rename(self, batch: Batch) -> Batch:
        """Give rows that are there the key that their record has now."""
        table, identity = tables()[self.resource.table](), self.resource.identity
        names = table.primary_key
        own = {key: _own_row(self.resource, mapped) for key, (_, mapped) in batch.items()}
        now = _rows_with(table, [identity], {(row[identity],) for row in own.values()})
        keys = {row[identity]: tuple(row[name] for name in names) for row in now}
        taken = {value: uuid for uuid, value in keys.items()}
        for row in _rows_with(table, names, {tuple(row[name] for name in names) for row in own.values()}):
            taken[tuple(row[name] for name in names)] = row[identity]
        for record_id, row in own.items():
            uuid, wanted = row[identity], tuple(row[name] for name in names)
            before, occupant = keys.get(uuid), taken.get(wanted)
            if before == wanted:
                continue
            if wanted in taken and occupant != uuid:
                if occupant is not None and SourceRecord & {"resource": self.resource.name, "record_id": occupant}:
                    spare = (*wanted[:-1], f"{str(wanted[-1])[:240]} ({occupant[:8]})")
                    self._move(table, names, wanted, spare)
                    taken.pop(wanted)
                    keys[occupant], taken[spare] = spare, occupant
                elif before is not None:
                    self.refused[record_id] = (
                        f"its name {'/'.join(map(str, wanted))} belongs to a row of {self.resource.table} that did not "
                        "come from this server. Rename or merge one of the two."
                    )
                    continue
            if before is not None:
                self._move(table, names, before, wanted)
                taken.pop(before, None)
            keys[uuid], taken[wanted] = wanted, uuid
        return {key: item for key, item in batch.items() if key not in self.refused}

    def _move(self, table: Any, names: Sequence[str], before: Key, after: Key) -> None:
        """Change a key; the foreign keys carry it along."""
        changes = {n: (a, b) for n, a, b in zip(names, before, after, strict=True) if a != b}
        old, new = ({name: pair[i] for name, pair in changes.items()} for i in (0, 1))
        key = dict(zip(names, before, strict=True))
        set_values(table, new, key)
        changed = Changed(key, old, new)
        record_changes(self.connection, table, [changed], self.run)

    def _unlink(self, label: str, linked: Mapping[str, list[dict[str, Any]]], batch: Batch) -> None:
        """Delete the links of records that the server does not have."""
        table = tables()[label]()
        owner = [name for name in tables()[self.resource.table]().primary_key if name in table.heading.names]
        owners = {tuple(_own_row(self.resource, batch[key][1])[name] for name in owner) for key in linked}
        wanted = {tuple(values[name] for name in table.primary_key) for items in linked.values() for values in items}
        rows = _rows_with(table, owner, owners)
        gone = [row for row in rows if tuple(row[name] for name in table.primary_key) not in wanted]
        keys = [{name: row[name] for name in table.primary_key} for row in gone]
        with self.connection.deleting(run=self.run):
            for part in in_parts(keys):
                (table & part).delete_quick()
        if keys:
            self.counts[label] += UpsertCounts(updated=len(keys))


def record_failures(run: str, source: str, name: str, reasons: Mapping[str, str]) -> None:
    """Remember records that could not be stored, until they are: a later run, or part of this one, may store them."""
    facts = [
        {
            "run": run,
            "path": f"{name}/{key}"[:512],
            "error_class": "RecordRefused",
            "message": f"{name} {key}: {reason}"[:2000],
        }
        for key, reason in reasons.items()
    ]
    upsert(Failure, facts)
    still_open = [{**row, "source": source, "unit": row["path"], "state_sha256": ""} for row in facts]
    write_rows(OpenFailure, still_open, record=False)


def solve_failures(source: str, name: str, ids: Iterable[str]) -> None:
    """Forget the failures of records that are stored now."""
    stored = {f"{name}/{key}"[:512] for key in ids}
    still_open = (OpenFailure & {"source": source}).to_arrays("path").tolist() if stored else []
    for part in in_parts(sorted(stored.intersection(still_open))):
        (OpenFailure & {"source": source} & [{"path": path} for path in part]).delete_quick()


def mark_vanished(resource: Resource, ids: Sequence[str], run: str) -> None:
    """Say of the rows of some records, in every table that holds them, that this run no longer found them."""
    labels = [resource.table, "subject.SubjectNote"] if resource.name == "notes" else [resource.table]
    for label in labels:
        table = tables()[label]
        names = table.primary_key
        if resource.identity:
            chosen = [(resource.identity,), [(item,) for item in ids]]
        else:
            chosen = [tuple(names), [row_key(resource.name, item) for item in ids]]
        rows = [{**{name: row[name] for name in names}, resource.mark: run} for row in _rows_with(table, *chosen)]
        write_rows(table, rows, update=[resource.mark], run=run)


def _by_table(batch: Batch) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return table -> the id of a record and one of its rows there."""
    rows: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for key, (_, mapped) in batch.items():
        for label, values in mapped.every_row():
            rows.setdefault(label, []).append((key, values))
    return rows


def _own_row(resource: Resource, mapped: Mapped) -> dict[str, Any]:
    return next((values for label, values in reversed(mapped.rows) if label == resource.table), {})


def _rows_with(table: Any, names: Sequence[str], values: Iterable[Key]) -> list[dict[str, Any]]:
    """Return the rows in which some attributes have one of some values."""
    keys = [dict(zip(names, value, strict=True)) for value in values]
    return [row for part in in_parts(keys) for row in (table & part).to_dicts()]


@functools.cache
def _parents() -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Return table -> the tables that it hangs on, with its attributes -> theirs; the same in every database."""
    labels = {cls().full_table_name: label for label, cls in tables().items()}
    SourceRecord().connection.dependencies.load()
    return {
        label: [
            (labels[parent], dict(link["attr_map"]))
            for parent, link in cls().parents(foreign_key_info=True)
            if parent in labels
        ]
        for label, cls in tables().items()
    }


def _missing(parent: str, names: list[str], values: Iterable[Key]) -> set[Key]:
    """Return those of the keys that a table does not have."""
    wanted = set(values)
    rows = _rows_with(tables()[parent]().proj(), names, wanted)
    return wanted - {tuple(row[name] for name in names) for row in rows}


@functools.cache
def _limits(label: str) -> dict[str, int]:
    """Return the widths of the attributes of a table that hold free text; the same in every database."""
    table = tables()[label]()
    linked = {child for _, names in _parents()[label] for child in names}
    limits = {}
    for name, attribute in table.heading.attributes.items():
        width = re.match(r"(?:varchar|character varying)\((\d+)\)", attribute.original_type or attribute.type)
        if width and not attribute.in_key and name not in linked:
            limits[name] = int(width[1])
    return limits


def _fit(record: Mapping[str, Any], values: dict[str, Any], limits: Mapping[str, int]) -> None:
    """Cut what is too long for its attribute; the row's json keeps it whole."""
    cut: dict[str, Any] = {}
    for name, value in values.items():
        if type(value) is str and len(value) > (limit := limits.get(name, len(value))):
            column = next(item for item in values if item.endswith("_json"))
            field = next((item for item, given in record.items() if given == value), name)
            cut[name] = value[:limit]
            cut[column] = {**(cut.get(column) or values[column] or {}), field: value}
    values.update(cut)

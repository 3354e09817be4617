"""Which records of a server gave rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from labweave.database.reads import rows_among, rows_of_keys
from labweave.formats.alyx import RESOURCES, Resource
from labweave.formats.alyx.records import row_key
from labweave.ingest.alyx.mirror import tables
from labweave.ingest.alyx.tables import SourceRecord

Key = dict[str, Any]
Rows = Mapping[str, tuple[Any, Sequence[Key]]]
"""Table, by its label, and keys of some of its rows."""

WITH_OTHERS = {
    "subject.SubjectGenotype": "subjects",
    "subject.SubjectNote": "notes",
    "dataset.AggregateDataset": "datasets",
}
"""Tables beside those that resources name -> the resource whose records give their rows."""


def records_of(servers: Sequence[str], rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield the records that gave some rows, each with its source, what it gave, and whether it is gone."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for label, (table, keys) in rows.items():
        for resource in RESOURCES.values():
            ids: dict[str, list[Key]] = {}
            for record_id, key in _record_ids(resource, label, table, keys, servers):
                ids.setdefault(record_id, []).append(key)
            for source in servers if ids else ():
                fixed = {"source": source, "resource": resource.name}
                for record_id, vanished in rows_among(
                    SourceRecord, "record_id", ids, ("record_id", "vanished_in"), fixed
                ):
                    new = {
                        "source": source,
                        "record": f"{resource.name}/{record_id}",
                        "vanished_in": vanished,
                        "gave": {},
                    }
                    origin = found.setdefault((source, resource.name, record_id), new)
                    origin["gave"].setdefault(label, []).extend(ids[record_id])
    yield from found.values()


def _record_ids(
    resource: Resource, label: str, table: Any, keys: Sequence[Key], servers: Sequence[str]
) -> Iterator[tuple[str, Key]]:
    """Yield the ids that the records of some rows would have, each with the row's key."""
    linked = {table_name for _, table_name, _ in resource.lists}
    if label not in linked | {resource.table} and WITH_OTHERS.get(label) != resource.name:
        return
    if resource.name == "water-restriction":  # the key can be had from the record's id, but not its id from the key
        wanted = {tuple(key.values()): key for key in keys}
        for source in servers:
            ids = (SourceRecord & {"source": source, "resource": resource.name}).to_arrays("record_id")
            yield from ((one, wanted[at]) for one in ids if (at := row_key(resource.name, one)) in wanted)
        return
    owner = table if label in (resource.table, "subject.SubjectNote") else tables()[resource.table]()
    names = owner.primary_key
    of_key = {tuple(key[name] for name in names): "/".join(str(key[name]) for name in names) for key in keys}
    if resource.identity:
        rows = rows_of_keys(owner, [dict(zip(names, at, strict=True)) for at in of_key], [resource.identity])
        of_key = {tuple(row[name] for name in names): row[resource.identity] for row in rows}
    yield from ((record_id, key) for key in keys if (record_id := of_key.get(tuple(key[name] for name in names))))

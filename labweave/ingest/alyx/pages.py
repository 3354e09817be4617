"""One part of a sync: compared with what is known, and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labweave.database.connection import LabConnection
from labweave.database.reads import rows_among, rows_between
from labweave.database.writes import set_values, write_rows
from labweave.formats.alyx import RESOURCES, Resource
from labweave.formats.alyx.records import Facts, Mapped, Postponed
from labweave.formats.hashing import NO_HASH
from labweave.ingest.alyx.mirror import Batch, Mirror, record_failures, solve_failures
from labweave.ingest.alyx.pull import Pulled, subjects_of, zone_of
from labweave.ingest.alyx.scopes import LAST_ID, id_text
from labweave.ingest.alyx.tables import SourceRecord
from labweave.schemas.subject import Subject


@dataclass
class Compared:
    """Which records of a part are new, changed or gone."""

    new: dict[str, dict[str, Any]]
    changed: dict[str, dict[str, Any]]
    absent: list[str]
    digests: dict[str, str]
    """Id -> hash of every record of the part."""


def compare(source: str, name: str, scope: Mapping[str, Any], pulled: Pulled) -> Compared:
    """Compare the records of a part with those that were written last."""
    resource = RESOURCES[name]
    records = {resource.record_id(record): record for record in pulled.records}
    own, wanted = {"source": source, "resource": name}, ("record_id", "record_sha256", "vanished_in")
    if scope.get("complete"):
        low, high = scope.get("range", ("", ""))
        rows = rows_between(SourceRecord, "record_id", low, high, wanted, own)
    else:
        rows = rows_among(SourceRecord, "record_id", records, wanted, own)
    known = {key: (digest, vanished is not None) for key, digest, vanished in rows}
    digests = {key: resource.digest(record) for key, record in records.items()}
    new = {key: record for key, record in records.items() if key not in known}
    changed = {key: record for key, record in records.items() if key in known and known[key] != (digests[key], False)}
    absent = []
    if scope.get("complete"):
        broken = [(id_text(low), id_text(min(high, LAST_ID - 1))) for (low, high), _ in pulled.broken]
        absent = [
            key
            for key, (_, vanished) in known.items()
            if key not in records and not vanished and not any(low <= key <= high for low, high in broken)
        ]
    return Compared(new, changed, sorted(absent), digests)


def write(
    connection: LabConnection, run: str, source: str, name: str, scope: Mapping[str, Any], pulled: Pulled
) -> dict[str, Any]:
    """Write what is new or changed in a part, in the transaction of the caller, and return the row of its page."""
    resource, compared = RESOURCES[name], compare(source, name, scope, pulled)
    mirror = Mirror(connection, run, resource)
    facts = _facts(source, resource)
    mapped: dict[str, tuple[dict[str, Any], Mapped]] = {}
    for key, record in {**compared.new, **compared.changed}.items():
        try:
            mapped[key] = (record, resource.to_rows(record, facts))
            for _, values in mapped[key][1].rows[-1:]:
                values[resource.mark] = None
        except Postponed as reason:
            mirror.postponed[key] = str(reason)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            mirror.refused[key] = f"the record has another form than Alyx 3 gives it ({type(error).__name__}: {error})"
    made = mirror.write(_stand_ins(pulled))
    mirror.refused |= pulled.unreadable
    # The list of sessions has already made their rows: what the first details overwrite is no change.
    first = mapped.keys() & compared.new.keys() if name == "session-details" else set()
    done = mirror.write({key: item for key, item in mapped.items() if key in first}, record=False)
    done |= mirror.write({key: item for key, item in mapped.items() if key not in first})
    # `Change` does not keep old hashes; by NO_HASH every sync tries a record again.
    own = {"source": source, "resource": name}
    rows = [{**own, "record_id": key, "record_sha256": compared.digests[key], "vanished_in": None} for key in done]
    write_rows(SourceRecord, rows, update=not done.isdisjoint(compared.changed), record=False)
    unwritten = sorted(mirror.postponed.keys() | mirror.refused.keys() | made)
    rows = [{**own, "record_id": key, "record_sha256": NO_HASH} for key in unwritten]
    write_rows(SourceRecord, rows, update=["record_sha256"], record=False)
    if name == "sessions" and done:
        # Read and write their details again, whatever they say.
        details = {"source": source, "resource": "session-details"}
        set_values(SourceRecord, {"record_sha256": NO_HASH}, details, "record_id", sorted(done))
    for (low, _), found in pulled.broken:
        if stand_in := pulled.stand_ins.get(low):
            mirror.refused[stand_in.subject_uuid] = stand_in.reason
        else:
            mirror.refused[f"{id_text(low)}..."] = f"the server fails on this one ({found}); look into its log"
    solve_failures(source, name, done)
    record_failures(run, source, name, mirror.refused)
    stamps = [record[resource.stamp_field] for record in pulled.records if record.get(resource.stamp_field)]
    return {
        "n_records": len(compared.digests),
        "n_new": len(done & compared.new.keys()),
        "n_changed": len(done & compared.changed.keys()),
        "n_refused": len(mirror.refused),
        "n_unread": len(pulled.broken),
        "largest_stamp": max(stamps, default=None),
        "absent": compared.absent,
        "postponed": mirror.postponed,
        "written": {table: list(counts) for table, counts in mirror.counts.items()},
        "outdated": mirror.outdated,
    }


def _facts(source: str, resource: Resource) -> Facts:
    needs_subjects = resource.by_nickname or resource.name == "notes"
    return Facts(subjects_of(source) if needs_subjects else {}, zone_of(source))


def _stand_ins(pulled: Pulled) -> Batch:
    """Return rows for the subjects that the server can't show; what is there already says more."""
    rows = {stand_in.subject_uuid: stand_in.row for stand_in in pulled.stand_ins.values() if stand_in.row}
    there = set(rows_among(Subject, "subject_uuid", rows, ("subject_uuid",), {}))
    values = {key: {**row, "subject_vanished": None} for key, row in rows.items() if (key,) not in there}
    return {key: (row, Mapped([("subject.Subject", row)])) for key, row in values.items()}

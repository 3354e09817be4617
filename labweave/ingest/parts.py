"""A unit in parts, such as ONE cache tables: written some hundred sessions at a time, each part whole or not at all.

A part takes out what its own sessions no longer give. Sessions that were not met go at the end of a pass, then the rows
of no session. Before the first part the unit is marked as not read, so that a pass that was stopped is made again,
whatever its files are then.
"""

from __future__ import annotations

from datajoint.errors import LostConnectionError

from labweave.errors import Clash, LabweaveError, ServerUnavailable, SourceError
from labweave.ingest.base import Refused, Row, Unit
from labweave.ingest.files import NOT_READ, NOT_READ_OLDER
from labweave.ingest.given_parts import GivenInParts
from labweave.ingest.keys import keys_of
from labweave.ingest.writing import Writer


def write_in_parts(writer: Writer, unit: Unit, given: GivenInParts) -> list[Refused]:
    """Write a unit part by part, take out what it no longer gives, and return what was refused."""
    files = [file for file in writer.known.values() if file["unit"] == unit.path]
    older = any(file["options_sha256"] == NOT_READ_OLDER for file in files) or (bool(files) and not given.knows_any())
    if not writer.dry_run:
        writer.read_again([unit.path], NOT_READ_OLDER if older else NOT_READ)
    refused: list[Refused] = []
    for part in writer.adapter.read_parts(unit):
        refused += [item for item in part if isinstance(item, Refused)]
        refused += _write_sessions(writer, given, [item for item in part if isinstance(item, Row)], older)
    given.met.update(item.eid for item in refused)
    for page in given.sessions():
        if not_met := [eid for eid, _ in page if eid and eid not in given.met]:
            refused += _take_out_sessions(writer, given, not_met)
    if not refused:  # else the rows of no session may be needed
        writer.write([], [], (), given, given.claim_shared_met)
    return refused


def _write_sessions(writer: Writer, given: GivenInParts, rows: list[Row], older: bool) -> list[Refused]:
    """Write the rows of some sessions together; when that can't be, each session by itself."""
    keys = keys_of(rows, given.source)
    try:
        writer.write([], rows, (), given, lambda: given.claim({given.unit: keys}, {given.unit} if older else ()))
    except (LostConnectionError, ServerUnavailable):
        raise
    except LabweaveError as error:
        eids = sorted({eid for row in rows if (eid := _eid_of(row))})
        if len(eids) < 2:
            return [Refused(f"{given.unit}: session {eid}", Clash(str(error)), eid) for eid in eids or [""]]
        parts = [[row for row in rows if _eid_of(row) in {"", *half}] for half in _halves(eids)]
        return [item for part in parts for item in _write_sessions(writer, given, part, older)]
    return []


def _take_out_sessions(writer: Writer, given: GivenInParts, eids: list[str]) -> list[Refused]:
    """Take out sessions that the unit no longer has, together; when that can't be, each by itself."""
    try:
        writer.write([], [], (), given, lambda: given.claim_not_met(eids))
    except SourceError as error:
        if len(eids) < 2:
            return [Refused(f"{given.unit}: session {eid}", Clash(str(error)), eid) for eid in eids]
        return [item for half in _halves(eids) for item in _take_out_sessions(writer, given, half)]
    return []


def _halves(eids: list[str]) -> tuple[list[str], list[str]]:
    return eids[: len(eids) // 2], eids[len(eids) // 2 :]


def _eid_of(row: Row) -> str:
    return row.eid or row.values.get("eid") or ""

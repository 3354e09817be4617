"""How a group of units is written: rows in, rows out, results and what is kept of the units, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labweave.database import UpsertCounts, upsert
from labweave.database.connection import LabConnection
from labweave.database.declare import every_table
from labweave.database.derived import fill_derived
from labweave.database.reads import in_parts, table_label
from labweave.database.writes import write_rows
from labweave.errors import Clash
from labweave.ingest.base import Adapter, Row, Unit
from labweave.ingest.disputes import Disputes, Units, mark_unread
from labweave.ingest.files import NOT_READ, read_again
from labweave.ingest.forgetting import drop_units
from labweave.ingest.given import GivenRows
from labweave.ingest.given_parts import GivenInParts
from labweave.ingest.keys import Keys, key_of, keys_of
from labweave.ingest.report import IngestReport
from labweave.ingest.results import delete_outdated
from labweave.ingest.spelling import Spellings, differs
from labweave.schemas.ingestion import Source, SourceFile


class _DryRun(Exception):
    """Rolls a unit back after it has shown what it would write."""


Failed = tuple[str, Exception, str]
"""A unit or a file of it that can't be read, why, and the state in which it would fail again."""


@dataclass
class Pending:
    """A unit that was read and is to be written."""

    unit: Unit
    files: Mapping[str, Mapping[str, Any]]
    rows: list[Row]
    is_new: bool
    is_same: bool
    """It has not changed since an earlier run."""
    failed: Sequence[Failed] = ()
    """Files of it that can't be read; the rest goes in without them."""


class Writer:
    """Writes the units of one run.

    Parameters
    ----------
    connection : LabConnection
    adapter : Adapter
    given : GivenRows
        What the source's units gave.
    report : IngestReport
        Counts rows, results and what was taken out.
    """

    def __init__(self, connection: LabConnection, adapter: Adapter, given: GivenRows, report: IngestReport):
        self.connection, self.adapter, self.given, self.report = connection, adapter, given, report
        self.source, self.dry_run = report.source, report.dry_run
        self.options = {"lab": adapter.lab, **adapter.options.model_dump(mode="json", exclude_none=True)}
        if adapter.is_second_lab:
            self.options["also"] = True
        self.spellings = Spellings()
        self.vanished: set[tuple[str, str]] = set()
        self.order: dict[str, int] = {}
        self.disputes = Disputes(self.source, self.order)
        self.marked: Units = set()
        self.known: dict[str, dict[str, Any]] = {}
        self.shown: dict[type, set[tuple]] = {}
        self.shown_own: dict[str, Keys] = {}

    def source_row(self) -> dict[str, Any]:
        """Return the row of the source in ``ingestion.Source``."""
        return {
            "source": self.source,
            "adapter": self.adapter.name,
            "location": str(self.adapter.location),
            "source_lab": self.adapter.lab,
            "options": self.options,
        }

    def write(
        self,
        group: Sequence[Pending],
        rows: Sequence[Row],
        withdrawn: Sequence[str] = (),
        part: GivenInParts | None = None,
        claim: Callable[[], dict[str, Keys]] | None = None,
    ) -> bool:
        """Write rows and the files of the units they came from, and say whether a row was new or different.

        Parameters
        ----------
        group : sequence of Pending
        rows : sequence of Row
        withdrawn : sequence of str
            Units whose rows are taken out.
        part : GivenInParts, optional
            What the unit gave of which the rows are a part.
        claim : callable, optional
            Returns what that unit gives now.

        Raises
        ------
        Clash
            A unit does not go with what others hold, or a row hangs on one that would go; `units` says which, also
            of those that are `withdrawn`.
        """
        given = part or self.given
        tables: dict[type, list[Mapping[str, Any]]] = {}
        kept: dict[type, set[str]] = {}
        for row in rows:
            tables.setdefault(row.table, []).append(row.values)
            if row.first:
                kept.setdefault(row.table, set()).update(row.first)
        updates = {table: sorted(set(table().heading.names) - names) for table, names in kept.items()}
        if len(group) != 1:  # of one unit the adapter gives parents first; of several they are mixed
            order = {cls: at for at, cls in enumerate(every_table())}
            tables = {table: tables[table] for table in sorted(tables, key=lambda table: order.get(table, len(order)))}
        for table, values in tables.items():
            if "source" in table().heading.names:  # no adapter needs to say it
                tables[table] = [{**row, "source": self.source} for row in values]
        filled = fill_derived(tables)
        keys = {pending.unit.path: keys_of(pending.rows, self.source) for pending in group}
        keys |= {unit: {} for unit in withdrawn}
        older = {
            unit.path
            for unit in (pending.unit for pending in group)
            if not self.given.knows(unit.path)
            and any(self.known[path]["unit"] == unit.path for path in unit.files if path in self.known)
        }

        def work() -> tuple[dict[str, UpsertCounts], dict[str, int], dict[str, list[dict[str, Any]]]]:
            counts, changed = {}, {}
            if self.dry_run:
                upsert(Source, [self.source_row()], update=False)
            own = claim() if claim else given.claim(keys, older)
            for table, values in tables.items():
                again = self._shown_before(table, values) if self.dry_run else 0
                count, changed[table] = write_rows(
                    table, values, update=updates.get(table, True), run=self.report.run or None, filled=filled
                )
                counts[table_label(table)] = count + UpsertCounts(-again, 0, again)
            outdated: dict[str, int] = {}
            removed = given.take_out(own, self.report.run, outdated)
            with self.connection.deleting(run=self.report.run):
                delete_outdated(self.adapter, tables, counts, changed, removed, outdated)
            if part:
                self.read_again(part.neighbours(own, changed))
            if not self.dry_run:
                if not part:
                    self._mark_unread(self.disputes.to_read_again(own, given.lost, changed))
                given.keep({unit: kept for unit, kept in own.items() if unit not in withdrawn})
                for pending in group:
                    if given.knows(pending.unit.path):  # a file that it no longer has may come back to it
                        (SourceFile & {"source": self.source, "unit": pending.unit.path}).delete_quick()
                    if pending.files:
                        self.put_files(pending.unit, pending.files)
            drop_units(self.given, withdrawn)
            self._refuse_clashes(group, rows, keys)
            if self.dry_run:
                raise _DryRun(counts, outdated, {} if part else own, removed if part else {})
            return counts, outdated, removed

        try:
            counts, outdated, removed = self.connection.run_whole(work)
        except _DryRun as shown:
            counts, outdated, own, removed = shown.args
            self.shown_own |= own
            for table, values in tables.items():
                self.shown.setdefault(table, set()).update(_keys(table, values))
        for table, count in counts.items():
            self.report.rows[table] = self.report.rows.get(table, UpsertCounts()) + count
        self.count_deleted(outdated, removed)
        return any(count.inserted or count.updated for count in counts.values()) or bool(removed)

    def _refuse_clashes(self, group: Sequence[Pending], rows: Sequence[Row], keys: Mapping[str, Keys]) -> None:
        """Refuse units that do not go with what others hold, once all is written and taken out."""
        clashes: dict[str, Clash] = {}
        for pending in group:
            try:
                self.adapter.check(pending.unit, pending.rows)
            except Clash as error:
                clashes[pending.unit.path] = error
        for row, other in self.spellings.alike(rows, self.shown):
            other_row = replace(row, values={**row.values, row.unlike: other})
            (name, eid, key), (_, _, other_key) = key_of(row, self.source), key_of(other_row, self.source)
            if self.given.is_only_of(self.vanished, name, eid, other_key):
                continue
            message = differs(row.unlike, row.values[row.unlike], other)
            others = {unit for unit, own in keys.items() if other_key in own.get(eid, {}).get(name, ())}
            for unit, own in keys.items():
                if key in own.get(eid, {}).get(name, ()):
                    clashes.setdefault(unit, Clash(message, others - {unit}))
            if not keys:
                raise Clash(message)
        if clashes:
            raise Clash(str(next(iter(clashes.values()))), units=clashes)

    def _mark_unread(self, units: Units) -> None:
        mark_unread(self.connection, units)
        self.marked |= units
        for file in self.known.values():
            if (self.source, file["unit"]) in units:
                file["options_sha256"] = NOT_READ

    def is_left_unread(self) -> bool:
        """Say whether units are marked as not read that the run had met before."""
        units = [unit for source, unit in self.marked if source == self.source and unit in self.order]
        unread = SourceFile & {"source": self.source, "options_sha256": NOT_READ, "file_status": "ingested"}
        return any(unread & [{"unit": unit} for unit in part] for part in in_parts(units))

    def read_again(self, units: Sequence[str], mark: str = NOT_READ) -> None:
        """Mark units as not read: the next look at them reads all of their files."""
        read_again(self.connection, self.source, units, mark)
        for file in self.known.values():
            if file["unit"] in units:
                file["options_sha256"] = mark

    def show_removed(self) -> None:
        """Count, in a dry run, the rows that would go: one that several units gave would go with the last of them."""

        def work() -> None:
            raise _DryRun(self.given.take_out(self.given.claim(self.shown_own), "", {}, are_written=False))

        try:
            if self.shown_own:
                self.connection.run_transaction(work)
        except _DryRun as shown:
            self.count_deleted({}, shown.args[0])
        finally:
            self.shown_own = {}

    def count_deleted(self, outdated: Mapping[str, int], removed: Mapping[str, list[dict[str, Any]]]) -> None:
        """Add results and rows that were deleted to the report."""
        for table, count in outdated.items():
            self.report.outdated[table] = self.report.outdated.get(table, 0) + count
        for table, gone in removed.items():
            self.report.removed[table] = self.report.removed.get(table, 0) + len(gone)

    def _shown_before(self, table: type, rows: list[Mapping[str, Any]]) -> int:
        """Return how many of these rows the dry run has already counted as new, with an earlier unit."""
        names = table().primary_key
        again = [dict(zip(names, key, strict=True)) for key in _keys(table, rows) & self.shown.get(table, set())]
        return len(again) - len(table & again) if again else 0

    def facts_sha256(self, unit: Unit) -> str:
        """Return a hash of all but the files that decides what is read: options, and what discovery found."""
        facts = repr((sorted(self.options.items()), unit.path, unit.files, unit.content))
        return hashlib.sha256(facts.encode("utf-8", "backslashreplace")).hexdigest()

    def put_files(self, unit: Unit, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Record files as they are now; delete and insert, so that `Change` does not keep their old state."""
        (SourceFile & [{"source": self.source, "path": path} for path in files]).delete_quick()
        facts_sha256 = self.facts_sha256(unit)
        rows = [
            {
                "source": self.source,
                "path": path,
                "unit": unit.path,
                **file,
                "adapter_version": self.adapter.version,
                "options_sha256": facts_sha256,
                "file_status": "ingested",
                "run": self.report.run,
            }
            for path, file in files.items()
        ]
        upsert(SourceFile, rows)


def _keys(table: type, rows: list[Mapping[str, Any]]) -> set[tuple]:
    return {tuple(row[name] for name in table().primary_key) for row in rows}

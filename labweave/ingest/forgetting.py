"""Sources and units that are not wanted: their rows are taken out, and later runs leave them out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from datajoint.errors import IntegrityError

from labweave.database import current, upsert
from labweave.database.connection import LabConnection
from labweave.database.reads import in_parts
from labweave.errors import ConfigError
from labweave.ingest.base import Adapter, Service
from labweave.ingest.disputes import Disputes, Units, mark_unread
from labweave.ingest.files import read_again
from labweave.ingest.given import GivenRows
from labweave.ingest.given_parts import GivenInParts
from labweave.ingest.keys import Keys
from labweave.ingest.registry import find_adapter
from labweave.ingest.renamed import rename_back
from labweave.ingest.results import delete_outdated
from labweave.schemas.ingestion import Failure, Forgotten, OpenFailure, Run, Source, SourceFile

UNITS_AT_ONCE = 100
"""How many units go in one transaction."""


class _DryRun(Exception):
    """Rolls back what was deleted, once it is counted."""


@dataclass
class ForgetReport:
    """What `forget` did, or would do.

    Attributes
    ----------
    source : str
    units : list of str
        Those that had rows, or that are wanted again.
    removed : dict
        Table -> rows taken out; ``ingestion.Change`` has them.
    outdated : dict
        Computed table -> results deleted, because what they were made from is gone.
    unread : set of tuple
        Source and name of the units that the next ingest reads again: they gave other values for the same rows.
    undo, dry_run : bool
    """

    source: str
    units: list[str] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)
    outdated: dict[str, int] = field(default_factory=dict)
    unread: Units = field(default_factory=set)
    undo: bool = False
    dry_run: bool = False

    def __str__(self) -> str:
        would = "would be " * self.dry_run
        if self.undo:
            return f"{self.source}: {len(self.units)} {would}wanted again; the next ingest brings their rows"
        lines = [f"{self.source}: {len(self.units)} units {would}forgotten"]
        lines += [f"  {table}: {count} rows {would}taken out" for table, count in self.removed.items()]
        lines += [f"  {table}: {count} results {would}deleted" for table, count in self.outdated.items()]
        for source in sorted({source for source, _ in self.unread}):
            lines.append(f"  {source} gives some of the same rows, with other values: ingest it again")
        return "\n".join(lines)


def forget(source: str, units: Sequence[str] = (), *, undo: bool = False, dry_run: bool = False) -> ForgetReport:
    """Take out the rows of a source or of some of its units, and leave them out of later runs.

    Parameters
    ----------
    source : str
        Name of the source, as ``labweave sources`` lists it.
    units : sequence of str, optional
        As ``labweave sources NAME`` lists them; without any, the whole source.
    undo : bool, default: False
        Want them again: the next ingest brings their rows back.
    dry_run : bool, default: False
        Change nothing; the report says what would go.

    Returns
    -------
    ForgetReport

    Raises
    ------
    ConfigError
        No source or unit is called so, or it is an Alyx server, whose records a sync would bring back.
    SourceError
        A row that no source gave hangs on one of the rows; the units before it are forgotten.

    Examples
    --------
    >>> import numpy as np
    >>> from labweave import ingest
    >>> from labweave.formats.recordings import write_recordings
    >>> sweep = {"voltage": np.full(500, -70.0), "current": np.zeros(500), "protocol": "IDrest"}
    >>> units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}
    >>> path = write_recordings("day1/c1.h5", [sweep | units], cell="c1", subject="m12", session_date="2026-01-02")
    >>> source = ingest.run("ephys", "day1", lab="mylab").source
    >>> ingest.forget(source, ["c1.h5"]).removed["recording.Recording"]
    1
    >>> ingest.run("ephys", "day1", lab="mylab").forgotten
    1
    >>> report = ingest.forget(source, ["c1.h5"], undo=True)
    >>> ingest.run("ephys", "day1", lab="mylab").new
    1
    """
    connection = current().connection
    found = (Source & {"source": source}).to_dicts()
    if not found:
        raise ConfigError(f"No source is called {source!r}. See: labweave sources")
    adapter = find_adapter(found[0]["adapter"])
    if issubclass(adapter, Service):
        raise ConfigError(f"{source} is a server: its next sync would bring the rows back. Delete the records there.")
    given = GivenRows(connection, source)
    fixed = {"source": source}
    known = given.units() | set((SourceFile & fixed).to_arrays("unit").tolist())
    failed = set((Failure * Run & fixed).to_arrays("path").tolist())
    forgotten = forgotten_units(source)
    if unknown := sorted(set(units) - known - failed - forgotten):
        raise ConfigError(f"{source} has no unit {unknown[0]!r}. See: labweave sources {source}")
    report = ForgetReport(source, undo=undo, dry_run=dry_run)
    if undo:
        report.units = sorted(forgotten & set(units or forgotten) - {""})
        if not dry_run:
            (Forgotten & fixed & [{"unit": unit} for unit in [*report.units, ""]]).delete_quick()
        return report
    report.units = sorted(units or known)
    large = given.units_in_parts() & set(report.units)
    small = [unit for unit in report.units if unit not in large]
    parts = [*in_parts(small, max(len(small), 1) if dry_run else UNITS_AT_ONCE), *([unit] for unit in sorted(large))]
    for part in parts:
        counts = report.outdated, report.removed
        if large.isdisjoint(part):
            report.unread |= withdraw(given, adapter, part, dry_run, *counts)
        else:
            withdraw_in_parts(GivenInParts(connection, source, part[0]), adapter, "", dry_run, *counts)
        if not dry_run:
            upsert(Forgotten, [{**fixed, "unit": unit} for unit in part])
            (OpenFailure & fixed & [{"unit": unit} for unit in part]).delete_quick()
    if not dry_run and not units:
        upsert(Forgotten, [{**fixed, "unit": ""}])
        (OpenFailure & fixed).delete_quick()
    return report


def forgotten_units(source: str) -> set[str]:
    """Return the units of a source that are not wanted; "" stands for all."""
    return set((Forgotten & {"source": source}).to_arrays("unit").tolist())


def drop_units(given: GivenRows, units: Sequence[str]) -> None:
    """Keep nothing of units whose rows were taken out."""
    if units:
        given.drop(units)
        (SourceFile & {"source": given.source} & [{"unit": unit} for unit in units]).delete_quick()


def withdraw(
    given: GivenRows,
    adapter: type[Adapter],
    units: Sequence[str],
    dry_run: bool,
    outdated: dict[str, int],
    removed: dict[str, int],
) -> Units:
    """Take out all that some units gave, count the results and rows that went, by table, and return units left unread.

    Raises
    ------
    SourceError
        A row that no unit gave hangs on one of them.
    """
    unread: Units = set()

    def work() -> tuple[dict[str, int], dict[str, int]]:
        nonlocal unread
        nothing: dict[str, Keys] = {unit: {} for unit in units}
        counts = _take_out(given, adapter, given.claim(nothing), "")
        unread = Disputes(given.source, {}).to_read_again(nothing, given.lost, {})
        mark_unread(given.connection, unread)
        drop_units(given, units)
        if dry_run:
            raise _DryRun(*counts)
        return counts

    for lost in given.lost_rows(units if not dry_run else ()):
        with contextlib.suppress(IntegrityError):  # MySQL 9.7 may refuse it: the rows that hang on others are named
            rename_back(given.connection, given.source, set().union(*lost.values()), "")
    _count(given.connection, work, outdated, removed)
    return unread


def withdraw_in_parts(
    given: GivenInParts,
    adapter: Adapter | type[Adapter],
    run: str,
    dry_run: bool,
    outdated: dict[str, int],
    removed: dict[str, int],
) -> None:
    """Take out all that a unit in parts gave, some hundred sessions at a time; the rows of no session go last.

    Its files are dropped first: when this is stopped, an ingest reads them again.

    Raises
    ------
    SourceError
        A row that no unit gave hangs on one of them.
    """
    connection, files = given.connection, SourceFile & {"source": given.source, "unit": given.unit}

    def take_out(eids: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
        own = given.claim_not_met(eids) if eids != [""] else given.claim_shared_met()
        counts = _take_out(given, adapter, own, run)
        read_again(connection, given.source, given.neighbours(own, {}))
        given.keep(own)
        return counts

    def all_of_it() -> tuple[dict[str, int], dict[str, int]]:
        for page in given.sessions():
            for total, counts in zip((outdated, removed), take_out([eid for eid, _ in page]), strict=True):
                _add(total, counts)
        raise _DryRun({}, {})

    if dry_run:
        _count(connection, all_of_it, outdated, removed)
        return
    connection.run_transaction(files.delete_quick)
    for page in given.sessions():
        eids = [eid for eid, _ in page]
        _count(connection, functools.partial(take_out, eids), outdated, removed)


def _take_out(
    given: GivenRows, adapter: Adapter | type[Adapter], own: Mapping[str, Keys], run: str
) -> tuple[dict[str, int], dict[str, int]]:
    results: dict[str, int] = {}
    removed = given.take_out(own, run, results)
    with given.connection.deleting(run=run):
        delete_outdated(adapter, {}, {}, {}, removed, results)
    return results, {table: len(keys) for table, keys in removed.items()}


def _count(
    connection: LabConnection,
    work: Callable[[], tuple[dict[str, int], dict[str, int]]],
    outdated: dict[str, int],
    removed: dict[str, int],
) -> None:
    """Do something in a transaction, and add what it counts, also when it was a dry run."""
    try:
        counts = connection.run_whole(work)
    except _DryRun as shown:
        counts = shown.args
    _add(outdated, counts[0])
    _add(removed, counts[1])


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for table, count in counts.items():
        total[table] = total.get(table, 0) + count

"""One ingest run: finds what is new or changed, and writes it unit by unit.

The way of a unit, from its files to the report:

1. `run` finds the adapter by its name (`registry`), and validates its options. The adapter's `discover` yields a `Unit`
   for each piece of work: a name, and the files whose change makes it change. When options or lab have changed and
   units are older than the keeping of their rows, the source is first read as before (`older`).
2. `_find_lost_rows` finds units of which rows are gone, which are read again; rows that were renamed in the database
   get their keys back (`renamed`). Then units are taken in windows of `WINDOW_FILES` files. `_known_files` reads what
   earlier runs have recorded of these files in ``ingestion.SourceFile``.
3. `Files` (`files`) takes size and time of a unit's files; a file with those of before is not read. When `Failures`
   (`failures`) knows that the unit would fail again, or `_is_unchanged` says that hashes, options and the adapter's
   version are those of before, the unit is done.
4. The adapter's `read` opens the files with a reader of `labweave.formats`, and yields a `Row` (table and values) for
   each row, parents first, and a `Refused` for each file that is bad. Only then a new file is hashed. A unit too large
   for memory comes in parts, by `read_parts`; `parts` writes these, and `given_parts` keeps their keys by session.
5. `Writer.write` (`writing`) puts the rows into their tables with `database.writes.write_rows`, in one transaction with
   the unit's rows of ``SourceFile``: all or nothing. Small units wait (`_write_waiting`) and are written together,
   until they have the adapter's `batch_rows`; if one of them can't be written, each is tried by itself.
6. In the same transaction, `given` takes out (by `removing`) the rows that the units gave before and do not give now,
   and `results.delete_outdated` deletes the results of rows that changed, so that populate makes them again. It asks
   the adapter: `results_computed_from`, `joint_results_of`.
7. A unit that does not go with what others hold, such as a name that differs by case alone, waits (`Clash`): another
   one may give up what it needs. Those that clash are written together at the end (`_settle_clashes`).
8. An error on the way makes the unit a row in ``ingestion.Failure``, and in ``ingestion.OpenFailure`` until it is
   solved (`_fail`), and the next unit comes.
   A unit that changes rows which others give, too, or no longer gives them, has these read again (`disputes`): those
   that were met already by a second pass.
9. `_settle_unseen` looks for files and units of earlier runs that are gone, and asks the adapter's `vanished_rows`
   what that changes. The `IngestReport` has counted all of it; `runs.finish` keeps it in ``ingestion.Run``.

A dry run does the same, and rolls each transaction back; where session folders find rows of a unit in parts, such as
tables beside them, all of it is one transaction (`_undone`).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datajoint.errors import IntegrityError, LostConnectionError

from labweave.database import current, upsert
from labweave.database.connection import LabConnection
from labweave.database.patience import patience
from labweave.database.reads import in_parts, rows_among
from labweave.errors import Clash, ConfigError, OptionMissing, ReadError, ServerUnavailable, SourceError
from labweave.formats.hashing import NO_HASH
from labweave.ingest import runs
from labweave.ingest.base import Adapter, Refused, Row, Service, Unit
from labweave.ingest.failures import Failures, state_of, will_fail_again
from labweave.ingest.files import NOT_READ_OLDER, Files
from labweave.ingest.forgetting import UNITS_AT_ONCE, forgotten_units, withdraw_in_parts
from labweave.ingest.given import GivenRows, vanished_units
from labweave.ingest.given_parts import GivenInParts
from labweave.ingest.locations import check_readable, source_of, take_over
from labweave.ingest.naming import Names
from labweave.ingest.older import Before, options_before
from labweave.ingest.parts import write_in_parts
from labweave.ingest.registry import find_adapter, make_options
from labweave.ingest.renamed import rename_back
from labweave.ingest.report import IngestReport
from labweave.ingest.unseen import find_earlier_files
from labweave.ingest.writing import Failed, Pending, Writer
from labweave.schemas.ingestion import Source, SourceFile

Progress = Callable[..., None]
"""Called with three numbers: units done, failed, and in all (None while discovery goes on).

A `Service` puts the name of what it counts before them."""

log = logging.getLogger(__name__)

WINDOW_FILES = 20_000
"""How many files, with what is known of them, are in memory at once."""


def _tell_nobody(*where: Any) -> None:
    pass


@patience()
def run(
    adapter: str | type[Adapter] | type[Service],
    location: str | Path,
    *,
    lab: str | None = None,
    source: str | None = None,
    dry_run: bool = False,
    again: bool = False,
    move: bool = False,
    also: bool = False,
    settle_s: float = 0.0,
    max_vanished: float = 1.0,
    progress: Progress = _tell_nobody,
    **options: Any,
) -> IngestReport:
    """Ingest a location: what is new goes in, what changed is updated, the rest is left.

    Parameters
    ----------
    adapter : str or Adapter class
        Its name, as in ``labweave ingest NAME``.
    location : path or str
        Folder or file; address of a server.
    lab : str
        The lab that the rows belong to; for a server, whose records name theirs, the labs to
        keep to.
    source : str, optional
        Name for the source; without one it is made from adapter, lab and location.
    dry_run : bool, default: False
        Write nothing; the report says what would be written and which results would be
        made again.
    again : bool, default: False
        Read every unit, also those that have not changed: rows that were edited in the
        database are as the source says again.
    move : bool, default: False
        The location was ingested for another lab: its rows become this lab's.
    also : bool, default: False
        The location was ingested for another lab: both keep their rows.
    settle_s : float, default: 0
        Units with a file that was written in the last so many seconds wait for a later run: it may be half copied.
    max_vanished : float, default: 1
        When a larger part of the known files is gone, nothing is marked or taken out, which is a failure: a disk is
        away, or half of it. A server has a guard of its own (``allow_vanished``).
    progress : callable, optional
        Called with the numbers of units done, failed and in all; None while more are looked for.
    **options
        Of the adapter.

    Returns
    -------
    IngestReport
        One bad unit does not stop the others: it is in ``failures`` and in
        ``ingestion.Failure``.

    Raises
    ------
    ConfigError
        No database is open, no lab is named, an unknown adapter or option, a location that
        was ingested for another lab.
    SourceError
        The location does not exist or nothing in it can be read by the adapter.

    Examples
    --------
    A folder of recordings, first to see what would happen:

    >>> import numpy as np
    >>> from labweave import ingest
    >>> from labweave.formats.recordings import write_recordings
    >>> sweep = {"voltage": np.full(500, -70.0), "current": np.zeros(500), "protocol": "IDrest"}
    >>> units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}
    >>> path = write_recordings("day1/c1.h5", [sweep | units], cell="c1", subject="m12", session_date="2026-01-02")
    >>> ingest.run("ephys", "day1", lab="mylab", dry_run=True).new
    1
    >>> report = ingest.run("ephys", "day1", lab="mylab")
    >>> report.new, report.failed, report.rows["recording.Recording"]
    (1, 0, UpsertCounts(inserted=1, updated=0, unchanged=0))
    >>> ingest.run("ephys", "day1", lab="mylab").unchanged
    1
    """
    connection = current().connection
    cls = find_adapter(adapter) if isinstance(adapter, str) else adapter
    chosen = make_options(cls, options)
    if issubclass(cls, Service):
        return cls.sync(str(location), chosen, lab=lab, source=source, dry_run=dry_run, progress=progress)
    place = Path(location).expanduser().resolve()
    check_readable(place)
    if not lab:
        raise ConfigError(f"Which lab do the rows of {place} belong to? Say --lab NAME, or set lab in labweave.toml.")
    reader = cls(place, lab, chosen)
    found = source_of(cls, place, lab, source, move=move, also=also)
    notes: list[str] = []
    if (before := options_before(cls, found, lab, chosen)) and not dry_run:
        notes = [_read_as_before(cls, place, found.name, before)]
        found = source_of(cls, place, lab, source, move=move, also=also)
    elif before:
        notes = [f"would be read first as before, with {before.text}; what is then taken out is not counted here"]
    reader.source, reader.is_second_lab = found.name, found.is_second_lab
    windows = _windows(_units(reader), cls)
    first = next(windows, None)
    if first is None and not (reader.lists_units and Source & {"source": found.name}):
        raise SourceError(
            f"Nothing in {place} can be read by the adapter {cls.name}. See: labweave ingest {cls.name} --help"
        )
    if dry_run and first and len(first[0]) > 1 and any(unit.in_parts for unit in first[0]):
        given = {"lab": lab, "source": source, "again": again, "move": move, "also": also, "progress": progress}
        guards = {"settle_s": settle_s, "max_vanished": max_vanished}
        return _undone(connection, lambda: run(cls, location, **given, **guards, **options))
    ingest = _Ingest(connection, reader, dry_run, again, settle_s, max_vanished)
    report = ingest.run(itertools.chain([first] if first else [], windows), progress, found.moved_from)
    report.notes += notes
    if ingest.writer.is_left_unread():
        reader = cls(place, lab, chosen)
        reader.source, reader.is_second_lab = found.name, found.is_second_lab
        second = _Ingest(connection, reader, False, False, settle_s, max_vanished)
        report.add(second.run(_windows(_units(reader), cls), _tell_nobody))
    return report


class _Undone(Exception):
    """Rolls back a whole run that was a dry one."""


def _undone(connection: LabConnection, work: Callable[[], IngestReport]) -> IngestReport:
    """Do a run in one transaction, roll it back, and return its report.

    What one unit writes, the next ones see: session folders find the rows of the tables beside them.
    """

    def doing() -> None:
        raise _Undone(work())

    try:
        connection.run_transaction(doing)
    except _Undone as undone:
        report: IngestReport = undone.args[0]
        report.run, report.dry_run = "", True
        return report
    raise AssertionError("unreachable")


def _read_as_before(cls: type[Adapter], place: Path, source: str, before: Before) -> str:
    """Read a source as it was read before, so that its units know their rows, and say what became of it."""
    try:
        report = run(cls, place, source=source, **before.options)
    except (ConfigError, SourceError) as error:
        return f"could not be read first as before, with {before.text}, so that rows of then may have stayed: {error}"
    left = f"; {report.failed} units failed, and rows of theirs may have stayed" if report.failed else ""
    return f"read first as before, with {before.text}, since older units did not know their rows{left}"


def _units(reader: Adapter) -> Iterator[Unit]:
    """Yield the units below a location, then the links on the way that can't be followed."""
    yield from reader.discover()
    yield from reader.bad_links


def _windows(units: Iterator[Unit], cls: type[Adapter]) -> Iterator[tuple[list[Unit], bool]]:
    """Yield the units in lists of a bounded number of files, and whether a list is the last one.

    A file in two units of a list is refused: whether it is unchanged could not be said of either.
    """
    window: list[Unit] = []
    owners: dict[str, str] = {}
    for unit in units:
        if len(owners) + len(window) >= WINDOW_FILES:
            yield window, False
            window, owners = [], {}
        for path in unit.files:
            if path in owners:
                raise SourceError(f"{path} is in two units of the adapter {cls.name}: {owners[path]} and {unit.path}.")
            owners[path] = unit.path
        window.append(unit)
    if window:
        yield window, True


class _Ingest:
    """One run of one adapter over one source."""

    def __init__(
        self,
        connection: LabConnection,
        adapter: Adapter,
        dry_run: bool,
        again: bool,
        settle_s: float,
        max_vanished: float,
    ):
        self.connection, self.adapter, self.dry_run = connection, adapter, dry_run
        self.again, self.settle_s, self.max_vanished = again, settle_s, max_vanished
        self.source = source = adapter.source
        adapter.run = ""
        self.report = IngestReport(source=source, dry_run=dry_run)
        self.given = adapter.given = GivenRows(connection, source)
        self.writer = Writer(connection, adapter, self.given, self.report)
        self.waiting: list[Pending] = []
        self.large: set[str] = set()
        self.lost: set[str] = set()
        self.seen: set[str] = set()
        self.done: dict[str, str] = {}
        self.failed: set[str] = set()
        self.clashing: list[Unit] = []
        self.is_settling = False
        self.hidden: set[str] = set()
        self.forgotten = forgotten_units(source)
        self.missing: set[Any] = set()
        self.failures = Failures(self.report)
        self.names = Names(adapter)
        adapter.gave = lambda unit, table: self.given.keys(unit.path, table)

    def run(self, windows: Iterable[tuple[list[Unit], bool]], progress: Progress, moved_from: str = "") -> IngestReport:
        report = self.report
        if not self.dry_run:
            report.run = self.adapter.run = runs.begin(self.writer.source_row())
            if moved_from:
                take_over(self.connection, moved_from, self.source)
        try:
            self.large = self.given.units_in_parts()
            self._find_lost_rows()
            found = 0
            for window, is_last in windows:
                units = self._named(window)
                found += len(units)
                total = found if is_last else None
                progress(report.seen, report.failed, total)
                self.writer.known = self._known_files(units)
                for unit in units:
                    self._ingest(unit)
                    progress(report.seen - len(self.waiting), report.failed, total)
                self._write_waiting()
                self._show_removed()
                progress(report.seen, report.failed, total)
            self._settle_unseen()
            self._show_removed()
        except BaseException as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        others = sorted({source for source, _ in self.writer.marked} - {self.source})
        report.notes = self.adapter.notes()
        report.notes += [f"{source} gives rows that this source no longer gives: ingest it again" for source in others]
        self.failures.solve_others(self.seen | self.failed)
        self._finish("finished", "")
        if report.failed == report.seen > 1 and len(self.missing) == 1 and None not in self.missing:
            option = self.missing.pop()
            self.failures.solve_others(())  # the command was wrong, not the files
            raise ConfigError(
                f"Nothing went in: of {report.seen} units, none says its {option.strip('-').replace('-', ' ')}. "
                f"Give {option}, or write it into the files or their mapping."
            )
        return report

    def _named(self, window: list[Unit]) -> list[Unit]:
        """Return units with what is wrong with their names; earlier ones whose names clash with theirs fail, too."""
        forgotten = [unit for unit in window if not self.forgotten.isdisjoint((unit.path, ""))]
        units, earlier = self.names.meet([unit for unit in window if unit not in forgotten] if forgotten else window)
        for unit in earlier:
            counted = self.done.pop(unit.path, "")
            if counted:
                setattr(self.report, counted, getattr(self.report, counted) - 1)
            if counted == "new":
                self.writer.write([], [], [unit.path])
            if counted:
                self._fail(unit, SourceError(unit.problem))
        return [*units, *forgotten]

    def _find_lost_rows(self) -> None:
        """Find units of which rows are gone from the database; rows that were renamed there get their keys again.

        All units count, also those whose files are gone: a row that they share with others has its old key before one
        of the others makes it anew.
        """
        for lost in self.given.lost_rows(sorted(self.given.units() - self.large)):
            self.lost |= lost.keys()
            if not self.dry_run:
                try:
                    eids = set().union(*lost.values())
                    self.report.corrected += rename_back(self.connection, self.source, eids, self.report.run)
                except IntegrityError as error:  # MySQL 9.7 lets no key change that tables further down refer to
                    text = f"Rows were renamed in the database, and it refuses to give them their names again: {error}"
                    self._fail_all("renamed rows", SourceError(f"{text}. Delete them; the others come back."))

    def _known_files(self, units: list[Unit]) -> dict[str, dict[str, Any]]:
        """Return what earlier runs have recorded of the files of some units."""
        names = ("path", "unit", "size", "mtime_ns", "sha256", "adapter_version", "options_sha256", "file_status")
        paths = [path for unit in units for path in unit.files if _is_storable(path)]
        rows = rows_among(SourceFile, "path", paths, names, {"source": self.source})
        return {row[0]: dict(zip(names, row, strict=True)) for row in rows}

    def _finish(self, status: str, message: str) -> None:
        if not self.dry_run:
            runs.finish(self.report, status, message)

    def _ingest(self, unit: Unit) -> None:
        """Look at one unit, and write it whole or not at all: now, or together with the next ones."""
        self.report.seen += 1
        self.seen.add(unit.path)
        self.writer.order[unit.path] = len(self.writer.order)
        if not self.forgotten.isdisjoint((unit.path, "")):
            self.report.forgotten += 1
            self.failures.solve(unit.path)
            return
        if unit.problem:
            self.hidden.add(unit.path)
            self._fail(unit, SourceError(unit.problem))
            return
        if not unit.files and self.given.knows(unit.path) and SourceFile & {"source": self.source, "unit": unit.path}:
            self.report.seen -= 1
            self.seen.discard(unit.path)  # its folder is there, and empty: `_settle_unseen` looks for its files
            return
        if unit.in_parts or not unit.files:  # it is written alone: we must know whether it changed anything
            self._write_waiting()
        files = None
        try:
            files = Files(self.adapter, unit, {} if self.again else self.writer.known)
            if self.settle_s and files.are_younger(self.settle_s):
                self.report.waiting += 1
                return
            failing = self.failures.of(unit.path)
            is_known = all(state == self._state(unit, files, path) for path, state in failing.items())
            if failing and is_known and not self.again and self._is_all_that_failed(unit, files, failing):
                self._count_known(unit, len(failing))
                return
            is_same = is_known and self._is_unchanged(unit, files, failing)
            if is_same and not self.again:
                if self._is_all_there(unit):
                    self._count(unit, "unchanged")
                    self.report.refused += len(failing)
                    self.report.known_failures += len(failing)
                    return
                self.report.restored += unit.path in self.lost
            if unit.in_parts:
                self._write_parts(unit, files)
                return
            pending = self._read(unit, files, is_same)
        except (LostConnectionError, ServerUnavailable):
            raise
        except Exception as error:
            self._fail(unit, error, files)
            return
        if pending.failed and not pending.rows:
            self._refuse(unit, pending.failed)
            return
        if self.waiting and self.waiting[-1].is_same != is_same:
            self._write_waiting()
        self.waiting.append(pending)
        if not unit.files or sum(len(pending.rows) for pending in self.waiting) >= self.adapter.batch_rows:
            self._write_waiting()

    def _is_all_that_failed(self, unit: Unit, files: Files, failing: Mapping[str, str]) -> bool:
        """Say whether nothing of a unit went in: it failed, each of its files did, or what was asked of new files."""
        items = failing.keys() - files.facts.keys()
        return unit.path in failing or failing.keys() >= files.facts.keys() or bool(items and self._is_new(unit))

    def _read(self, unit: Unit, files: Files, is_same: bool) -> Pending:
        found = list(self.adapter.read(unit, files))
        rows = [item for item in found if isinstance(item, Row)]
        refused = {item.path: item.error for item in found if isinstance(item, Refused)}
        facts = {} if refused and not rows else files.read(path for path in files if path not in refused)
        failed = [(path, error, self._state(unit, files, path)) for path, error in refused.items()]
        return Pending(unit, facts, rows, self._is_new(unit), is_same, failed)

    def _is_new(self, unit: Unit) -> bool:
        return not any(path in self.writer.known for path in unit.files)

    def _write_waiting(self) -> None:
        """Write the units that wait, together; when one of them can't be written, each by itself."""
        waiting, self.waiting = self.waiting, []
        if len(waiting) > 1:
            try:
                self._write(waiting)
                return
            except (LostConnectionError, ServerUnavailable):
                raise
            except Exception:
                log.debug("%d units can't be written together", len(waiting), exc_info=True)
        self._write_each(waiting)

    def _write_each(self, group: Iterable[Pending], withdrawn: Iterable[str] = ()) -> None:
        """Write units, each by itself, or take out their rows."""
        for pending, unit in [*((one, one.unit) for one in group), *((None, Unit(name, ())) for name in withdrawn)]:
            try:
                self._write([pending] if pending else [], [] if pending else [unit.path])
            except (LostConnectionError, ServerUnavailable):
                raise
            except Exception as error:
                self._refuse(unit, [(unit.path, error, "")], pending)

    def _write(self, group: Sequence[Pending], withdrawn: Sequence[str] = ()) -> None:
        """Write units, and count them."""
        before = dict(self.report.rows)
        wrote = self.writer.write(group, [row for pending in group for row in pending.rows], withdrawn)
        for pending in group:
            self.report.refused += len(pending.failed)
            self._record(pending.unit.path, pending.failed)
            if not pending.unit.files and not wrote:  # without a hash, only the writing shows it
                self.report.rows = before
                self._count(pending.unit, "unchanged")
            else:
                self._count(pending.unit, "new" if pending.is_new else "changed")
        if self.again and group and all(pending.is_same for pending in group):
            n_updated = [sum(count.updated for count in rows.values()) for rows in (before, self.report.rows)]
            self.report.corrected += n_updated[1] - n_updated[0]

    def _count(self, unit: Unit, what: str) -> None:
        """Count a unit that is done as new, changed or unchanged."""
        self.done[unit.path] = what
        setattr(self.report, what, getattr(self.report, what) + 1)

    def _write_parts(self, unit: Unit, files: Files) -> None:
        """Write a unit part by part. It fails when something was refused that may go in though its files stay."""
        facts, is_new = files.read(files), self._is_new(unit)
        refused = write_in_parts(self.writer, unit, GivenInParts(self.connection, self.source, unit.path))
        state = self._state(unit, files, unit.path)
        self._record(unit.path, [(item.path, item.error, state) for item in refused])
        if not all(will_fail_again(item.error) for item in refused) or (refused and self._is_older(unit)):
            self.failed.add(unit.path)
            self.report.failed += 1
            return
        self.report.refused += len(refused)
        if not self.dry_run:
            self.connection.run_transaction(lambda: self.writer.put_files(unit, facts))
        self._count(unit, "new" if is_new else "changed")

    def _is_older(self, unit: Unit) -> bool:
        """Say whether a unit was last read whole before labweave kept keys."""
        return any(self.writer.known.get(path, {}).get("options_sha256") == NOT_READ_OLDER for path in unit.files)

    def _is_unchanged(self, unit: Unit, files: Files, failing: Container[str]) -> bool:
        """Say whether files and options are those of the last time, files that are known to be bad left out."""
        adapter_version, options_sha256 = self.adapter.version, self.writer.facts_sha256(unit)
        touched = []
        for path, file in files.facts.items():
            if path in failing:
                continue
            known = self.writer.known.get(path)
            if known is None or known["size"] != file["size"]:
                return False
            if (known["adapter_version"], known["options_sha256"], known["file_status"]) != (
                adapter_version,
                options_sha256,
                "ingested",
            ):
                return False
            is_touched = known["mtime_ns"] != file["mtime_ns"]
            if known["sha256"] != files[path] or (is_touched and files[path] == NO_HASH):
                return False
            touched += [path] if is_touched else []
        if touched and not self.dry_run:
            facts = files.read(touched)
            self.connection.run_transaction(lambda: self.writer.put_files(unit, facts))
        return bool(files)

    def _state(self, unit: Unit, files: Files | None, path: str) -> str:
        """Return what decides whether a unit, or the file of it that is at a path, would fail again."""
        if not files:
            return ""
        facts = files.facts if path not in files else {path: files.facts[path]}
        return state_of(facts, f"{self.adapter.version} {self.writer.facts_sha256(unit)}")

    def _is_all_there(self, unit: Unit) -> bool:
        """Say whether it is known what a unit gave, and all of it is there."""
        if unit.in_parts:
            given = GivenInParts(self.connection, self.source, unit.path)
            if given.has_lost_rows():
                self.lost.add(unit.path)
            return unit.path not in self.lost and given.knows_any()
        return unit.path not in self.lost and self.given.knows(unit.path)

    def _show_removed(self) -> None:
        try:
            self.writer.show_removed()
        except SourceError as error:
            self.failures.add("", "dry run", error)
            self.report.failed += 1

    def _fail(self, unit: Unit, error: Exception, files: Files | None = None) -> None:
        """Record that a unit can't be ingested; what it gave before stays."""
        is_its_own = isinstance(error, (ReadError, OptionMissing))  # others may be about rows in the database
        self._refuse(unit, [(unit.path, error, self._state(unit, files, unit.path) if is_its_own else "")])

    def _refuse(self, unit: Unit, failed: Sequence[Failed], pending: Pending | None = None) -> None:
        """Record what of a unit, or all of it, can't be read; nothing of it is written. One that clashes is kept."""
        if isinstance(failed[0][1], Clash) and not self.is_settling and not unit.in_parts:
            self.clashing.append(unit)
            return
        self.report.failed += 1
        self.failed.update((unit.path, *unit.files))
        self._record(unit.path, [*failed, *(pending.failed if pending else ())])

    def _record(self, unit: str, failed: Sequence[Failed]) -> None:
        for path, error, state in failed:
            self.missing.add(getattr(error, "option", None))
            self.failures.add(unit, path, error, state)
        self.failures.solve(unit, but=[path for path, *_ in failed])

    def _count_known(self, unit: Unit, n_known: int) -> None:
        """Count a unit that failed in an earlier run, and would fail again."""
        self.failed.update((unit.path, *unit.files))
        self.missing.add(None)
        self.report.failed += 1
        self.report.known_failures += n_known

    def _settle_unseen(self) -> None:
        """Find what became of earlier runs' files and units that were not met now.

        Rows of a unit whose files are gone stay, marked: its disk may be away. A unit that the source no longer has
        although its files are there, such as a cell that was taken out of a mapping, takes its rows along.
        """
        found = find_earlier_files(self.source, self.adapter.root, self.hidden)
        n_known = len(found.gone) + sum(map(len, found.here.values()))
        if len(found.gone) > self.max_vanished * n_known:
            self._hold_back(len(found.gone), n_known)
            self._settle_clashes({})
            return
        vanished = set(found.gone.values()) - self.seen - found.here.keys()
        self.report.vanished = [path for path, unit in found.gone.items() if unit in vanished]
        for part in in_parts(sorted(vanished), UNITS_AT_ONCE):
            self._mark_vanished(part, [path for path, unit in found.gone.items() if unit in part])
        clashing = {path for unit in self.clashing for path in unit.files}
        unseen = self.given.units() - self.seen - (found.away - found.here.keys()) - found.hidden
        left: dict[str, list[str]] = {}
        for unit in sorted(unseen):
            files = found.here.get(unit, [])
            if not self.failed.isdisjoint(files):
                continue
            try:
                if unit in self.large:
                    self._take_out_parts(unit)
                elif clashing.isdisjoint(files):
                    self._write([], [unit])
                else:
                    left[unit] = files
            except Clash:
                left[unit] = files
        self._settle_clashes(left)
        gone = [path for path, unit in found.gone.items() if unit in self.done]
        for part in in_parts([] if self.dry_run else gone):
            (SourceFile & {"source": self.source} & [{"path": path} for path in part]).delete_quick()

    def _fail_all(self, what: str, error: Exception) -> None:
        """Record a failure of the whole source, not of one unit."""
        self.failures.add("", what, error)
        self.failed.add("")
        self.report.failed += 1

    def _hold_back(self, n_gone: int, n_known: int) -> None:
        """Fail for files that are gone, instead of marking them."""
        error = SourceError(
            f"{n_gone} of {n_known} files are gone, more than the part of {self.max_vanished:g} that may be. Nothing "
            "was marked or taken out. Is the disk whole? If they are gone for good, ingest this source by hand."
        )
        self._fail_all("vanished files", error)

    def _take_out_parts(self, unit: str) -> None:
        given, report = GivenInParts(self.connection, self.source, unit), self.report
        try:
            withdraw_in_parts(given, self.adapter, report.run, self.dry_run, report.outdated, report.removed)
        except SourceError as error:
            self._refuse(Unit(unit, (), in_parts=True), [(unit, error, "")])

    def _settle_clashes(self, unseen: dict[str, list[str]]) -> None:
        """Write the units that clash with others together: what one of them takes from another is then free.

        Those that still clash fail, and the rest is tried again. A unit that an earlier one excludes takes its rows
        along, as if it had never been in. `unseen` are units that the source no longer has, with their files.
        """
        units, self.is_settling = self.clashing, True
        self.writer.known = self._known_files(units)
        self.writer.vanished = vanished_units() if units else set()
        group: dict[str, Pending] = {}
        excluded: list[str] = []
        for unit in units:
            try:
                files = Files(self.adapter, unit, self.writer.known)
                group[unit.path] = self._read(unit, files, self._is_unchanged(unit, files, ()))
            except (LostConnectionError, ServerUnavailable):
                raise
            except Exception as error:
                self._fail(unit, error)
        while group or unseen or excluded:
            try:
                self._write(list(group.values()), [*unseen, *excluded])
                break
            except (LostConnectionError, ServerUnavailable):
                raise
            except Exception as error:
                refused = _refused(error, [*group, *unseen, *excluded])
            if not refused:
                self._write_each(group.values(), unseen)
                break
            for unit, clash in refused.items():
                if unit in excluded:
                    excluded.remove(unit)
                    continue
                if clash.others & group.keys() and self.given.knows(unit):
                    excluded.append(unit)
                pending = group.pop(unit, None)
                self._refuse(pending.unit if pending else Unit(unit, ()), [(unit, clash, "")], pending)
            unseen = {
                unit: files for unit, files in unseen.items() if unit not in refused and self.failed.isdisjoint(files)
            }

    def _mark_vanished(self, units: Sequence[str], paths: list[str]) -> None:
        """Mark the rows of units whose files are gone, and the files."""
        given = self.given.only_of([unit for unit in units if unit not in self.large])
        rows = list(self.adapter.vanished_rows(paths, given))
        if self.dry_run:
            self.writer.write([], rows)
            return

        def work() -> None:
            self.writer.write([], rows)
            mark = [{"source": self.source, "path": path, "file_status": "vanished"} for path in paths]
            upsert(SourceFile, mark, update=["file_status"], run=self.report.run)

        self.connection.run_transaction(work)


def _refused(error: Exception, units: Sequence[str]) -> dict[str, Clash]:
    """Return which of some units can't be written together with the others, and why: of two, the later one."""
    clashes = getattr(error, "units", {})
    refused: dict[str, Clash] = {}
    for at, unit in enumerate(units):
        if unit in clashes:
            others = clashes[unit].others & set(units)
            if not others or others & (set(units[:at]) - refused.keys()):
                refused[unit] = clashes[unit]
    return refused


def _is_storable(text: str) -> bool:
    """Say whether a database can hold a name: one whose bytes are no UTF-8 was never stored."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text

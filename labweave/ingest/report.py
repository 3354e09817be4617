"""What one ingest run did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field

from labweave.database import UpsertCounts


@dataclass(frozen=True)
class IngestFailure:
    """One unit that could not be ingested."""

    path: str
    error_class: str
    message: str


@dataclass
class IngestReport:
    """What one run of an adapter did; with `dry_run`, what it would do.

    Attributes
    ----------
    run : str
        Id of its row in ``ingestion.Run``; empty for a dry run.
    source : str
        Name of its row in ``ingestion.Source``.
    seen, new, changed, unchanged, failed : int
        Units of work.
    refused : int
        Bad files of units that went in without them.
    waiting : int
        Units with files so young that they may be half copied; a later run takes them.
    known_failures : int
        Units and files that failed in an earlier run and have not changed: they were not read again, and are not
        among ``failures``.
    rows : dict
        Table -> `UpsertCounts`.
    outdated : dict
        Computed table -> rows deleted, because what they were made from changed.
    removed : dict
        Table -> rows taken out, because their unit no longer gives them; ``ingestion.Change`` has them.
    restored : int
        Unchanged units of which rows were lost in the database; they were read again.
    corrected : int
        Rows of unchanged units that somebody had edited, and that are as the source says again.
    forgotten : int
        Units left out, because they are not wanted (`labweave.ingest.forget`).
    vanished : list of str
        Files that were there in an earlier run; their rows are marked, not deleted.
    failures : list of IngestFailure
    notes : list of str
        What else a person should know, for example which files were left out.
    dry_run : bool

    Examples
    --------
    >>> from labweave.ingest import IngestReport
    >>> report = IngestReport("ephys-day1", seen=3, new=1, unchanged=2)
    >>> print(report)
    ephys-day1: 3 units; 1 new, 0 changed, 2 unchanged, 0 failed
    >>> report.exit_code
    0
    """

    source: str
    run: str = ""
    dry_run: bool = False
    seen: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    refused: int = 0
    waiting: int = 0
    known_failures: int = 0
    rows: dict[str, UpsertCounts] = field(default_factory=dict)
    outdated: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    restored: int = 0
    corrected: int = 0
    forgotten: int = 0
    vanished: list[str] = field(default_factory=list)
    failures: list[IngestFailure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when every unit went in whole, 1 when some failed, or files of them."""
        return 1 if self.failed or self.refused else 0

    def add(self, second: IngestReport) -> None:
        """Add what a second pass did, which read some units again."""
        for table, counts in second.rows.items():
            self.rows[table] = self.rows.get(table, UpsertCounts()) + counts
        for mine, theirs in ((self.outdated, second.outdated), (self.removed, second.removed)):
            for table, count in theirs.items():
                mine[table] = mine.get(table, 0) + count
        known = {failure.path for failure in self.failures}
        self.failures += [failure for failure in second.failures if failure.path not in known]
        if second.changed:
            self.notes.append(
                f"{second.changed} units were read again, because they share rows with units that changed"
            )

    def counts(self) -> dict[str, object]:
        """Return the numbers as ``ingestion.Run`` keeps them."""
        return {
            "seen": self.seen,
            "new": self.new,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "refused": self.refused,
            "waiting": self.waiting,
            "known_failures": self.known_failures,
            "rows": {table: counts._asdict() for table, counts in self.rows.items()},
            "outdated": self.outdated,
            "removed": self.removed,
            "restored": self.restored,
            "vanished": len(self.vanished),
        }

    def __str__(self) -> str:
        head = "would be: " if self.dry_run else ""
        lines = [
            f"{self.source}: {self.seen} units; {head}{self.new} new, {self.changed} changed, "
            f"{self.unchanged} unchanged, {self.failed} failed"
            + (f"; {self.refused} files of these units refused" if self.refused else "")
        ]
        if self.rows:
            width = max(map(len, self.rows))
            lines.append(f"  {'table':<{width}}  {'inserted':>8}  {'updated':>8}  {'equal':>8}")
            lines += [
                f"  {t:<{width}}  {c.inserted:>8}  {c.updated:>8}  {c.unchanged:>8}" for t, c in self.rows.items()
            ]
        for table, count in self.outdated.items():
            lines.append(f"  {table}: {count} results out of date, {'would be ' * self.dry_run}made again")
        if self.removed:
            listed = ", ".join(f"{count} of {table}" for table, count in self.removed.items())
            lines.append(f"  rows no longer in the source, {'would be ' * self.dry_run}taken out: {listed}")
        were, are = ("would be", "would be") if self.dry_run else ("were", "are")
        if self.restored:
            lines.append(f"  {self.restored} units had lost rows and {were} read again")
        if self.corrected:
            lines.append(f"  {self.corrected} rows were edited by hand; they {are} as the source says again")
        if self.forgotten:
            lines.append(f"  {self.forgotten} units are forgotten and were left out")
        if self.vanished:
            shown = ", ".join(self.vanished[:3]) + (", ..." if len(self.vanished) > 3 else "")
            lines.append(f"  {len(self.vanished)} files are no longer there: {shown}. Their rows stay, marked.")
        if self.waiting:
            lines.append(f"  {self.waiting} units have files that were written just now; a later run takes them")
        if self.known_failures:
            lines.append(f"  {self.known_failures} known failures, unchanged. See: labweave errors")
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  failed {failure.path}: {failure.message}" for failure in self.failures]
        return "\n".join(lines)

"""What one sync did: new, changed and gone records of each resource."""

from __future__ import annotations

from dataclasses import dataclass, field

from labweave.ingest.report import IngestReport


@dataclass
class ResourceCounts:
    """What became of the records of one resource."""

    seen: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    failed: int = 0


@dataclass
class SyncReport(IngestReport):
    """What a sync did; with `dry_run`, what it would do.

    Attributes
    ----------
    resources : dict
        Resource -> `ResourceCounts`.
    failed_parts : int
        Parts that could not be pulled; their jobs wait for ``labweave retry``.
    left_out : dict
        Resource -> how many records were left out because the server no longer has what they belong to.
    held_back : list of str
        Resources of which suspiciously many records are gone, with numbers; nothing was marked there.
    url : str
        Address of the server.
    """

    resources: dict[str, ResourceCounts] = field(default_factory=dict)
    failed_parts: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    held_back: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def exit_code(self) -> int:
        """0 when everything went in, 1 when some of it did not."""
        return 1 if self.failed or self.failed_parts or self.held_back else 0

    @property
    def question(self) -> str:
        """What a person must say, because suspiciously many records are gone; empty without a question."""
        if not self.held_back:
            return ""
        return (
            f"{self.url} no longer has {', '.join(self.held_back)}. None of them was marked; all else is in. Did "
            "somebody delete them, or may this login no longer see them? If it is right: "
            f"labweave ingest alyx {self.url} --allow-vanished"
        )

    def add_up(self) -> None:
        """Set the sums over all resources."""
        counts = self.resources.values()
        self.seen, self.new = sum(c.seen for c in counts), sum(c.new for c in counts)
        self.changed, self.failed = sum(c.changed for c in counts), sum(c.failed for c in counts)
        self.unchanged = max(0, self.seen - self.new - self.changed - self.failed)

    def counts(self) -> dict[str, object]:
        """Return the numbers as ``ingestion.Run`` keeps them."""
        resources = {name: vars(counts) for name, counts in self.resources.items()}
        return {
            **super().counts(),
            "resources": resources,
            "failed_parts": self.failed_parts,
            "left_out": self.left_out,
            "held_back": self.held_back,
        }

    def __str__(self) -> str:
        head = "would be: " if self.dry_run else ""
        gone = sum(counts.gone for counts in self.resources.values())
        lines = [
            f"{self.source}: {self.seen} records; {head}{self.new} new, {self.changed} changed, {gone} gone, "
            f"{self.unchanged} unchanged, {self.failed} failed"
        ]
        shown = {name: c for name, c in self.resources.items() if c.seen or c.gone or c.failed}
        if shown:
            names = ("seen", "new", "changed", "gone", "failed")
            table = [("resource", *names), *((name, *(getattr(c, n) for n in names)) for name, c in shown.items())]
            width = max(map(len, ("resource", *shown)))
            lines += [f"  {name:<{width}}" + "".join(f"  {count:>8}" for count in counts) for name, *counts in table]
        lines += [
            f"  {count} {name} left out: what they belong to is no longer on the server"
            for name, count in self.left_out.items()
        ]
        lines += [f"  {table}: {count} results to be made again" for table, count in self.outdated.items()]
        lines += [f"  failed {failure.path}: {failure.message}" for failure in self.failures[:20]]
        if len(self.failures) > 20:
            lines.append(f"  and {len(self.failures) - 20} more: ingestion.Failure has them all")
        if self.failed_parts:
            lines.append(
                f"  {self.failed_parts} parts could not be pulled (labweave errors); the next sync tries them again"
            )
        if self.held_back:
            lines.append(f"  {self.question}")
        return "\n".join(lines)

"""``labweave populate``, ``status``, ``errors`` and ``retry``: make results and see how it went."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labweave.cli.base import Restrict, open_database, out, parse_restriction, print_table, progress_bar
from labweave.cli.sources import failed_units, print_failed_units, print_sources

if TYPE_CHECKING:
    from labweave.populate import PopulateReport

Tables = Annotated[list[str] | None, typer.Argument(help="Only these tables, for example Rheobase")]


def populate(
    tables: Tables = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Number of processes")] = 1,
    restrict: Restrict = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make nothing; list what would be made, what again, and why")
    ] = False,
) -> None:
    """Make every result that is missing, and again those that rest on something that changed.

    Start it on as many machines as you like: they share one queue. A job that fails stays
    in the queue with its reason (see labweave errors), and the others go on.
    """
    from labweave.populate import run

    with open_database(waits=True), progress_bar("jobs are done; the same command goes on") as show:
        chosen = parse_restriction(restrict or [])
        _check_values(chosen)
        report = run(tables or None, chosen or None, workers=workers, dry_run=dry_run, progress=show)
    out.print(str(report))
    print_failures(report)
    if report.failed:
        out.print(f"{report.failed} {_jobs(report.failed)} failed. See: labweave errors")
        raise typer.Exit(1)


def _check_values(restriction: dict[str, str]) -> None:
    """Refuse a value that no row has: it is misspelt."""
    from labweave.database.declare import every_table
    from labweave.errors import ConfigError

    for name, value in restriction.items():
        tables = [table for table in every_table() if name in table().primary_key]
        if tables and not any(table & {name: value} for table in tables):
            raise ConfigError(f"No {name} is called {value!r}.")


def status(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="One line for health checks. Exit code 0: good; 1: the last night failed, died or is overdue; 2: the "
            "database does not answer or needs an upgrade",
        ),
    ] = False,
) -> None:
    """Show the sources and their last runs, the rows of each table, and what is pending or failed."""
    if check:
        _check()
    from labweave.database.declare import every_table
    from labweave.database.reads import table_label
    from labweave.populate import queue

    with open_database() as database:
        out.print(f"{database.url}, prefix {database.prefix}\n")
        print_sources()
        computed = {type(table): table for table in queue.computed_tables()}
        rows = []
        for cls in every_table():
            if cls in computed:
                counts = queue.counts(computed[cls])
                waiting = counts["pending"] + counts["reserved"]
                rows.append((table_label(cls), counts["made"], waiting, counts["failed"]))
            elif n := len(cls()):
                rows.append((table_label(cls), n, None, None))
        out.print()
        print_table(("table", "rows", "pending", "failed"), rows)
        n_failed = sum(row[3] or 0 for row in rows)
        if not_in := len(failed_units()):
            out.print(f"\n{not_in} units or files not ingested. See: labweave errors")
        if n_failed:
            out.print(f"\n{n_failed} failed {_jobs(n_failed)}. See: labweave errors")


def _check() -> None:
    from labweave.nightly.watch import look

    code, line = look()
    out.print(line)
    raise typer.Exit(code)


def errors(
    tables: Tables = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Also show each job's traceback")] = False,
) -> None:
    """List what could not be ingested, and the failed jobs with their reasons, the newest first."""
    from labweave import populate

    with open_database():
        found = populate.errors(tables or None)
        if not tables:
            print_failed_units()
    for error in found:
        out.print(f"{error.table} {_key(error.key)} {_minute(error.time) or ''}\n  {error.reason}")
        if traceback:
            out.print("  " + error.traceback.rstrip().replace("\n", "\n  "))
    out.print(
        f"{len(found)} failed {_jobs(len(found))}" + (". When the cause is gone: labweave retry" if found else "")
    )


def retry(tables: Tables = None, restrict: Restrict = None) -> None:
    """Put failed jobs back into their queues, for the next populate."""
    from labweave import populate

    with open_database():
        count = populate.retry(tables or None, parse_restriction(restrict or []) or None)
    out.print(f"{count} {_jobs(count)} put back. Next: labweave populate")


def print_failures(report: PopulateReport) -> None:
    """Print the first failed jobs of a run, each with its reason."""
    for table, outcome in report.failures[:5]:
        out.print(f"failed {table} {_key(outcome.key)}: {outcome.reason}")


def _jobs(count: int) -> str:
    return "job" if count == 1 else "jobs"


def _minute(time: dt.datetime | None) -> str | None:
    return time.strftime("%Y-%m-%d %H:%M") if time else None


def _key(key: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in key.items())

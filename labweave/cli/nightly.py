"""``labweave nightly``: the night, its reports and its timer; ``labweave config check``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labweave.cli.base import err, open_database, out, print_table

if TYPE_CHECKING:
    from labweave.nightly.report import StepDone

Json = Annotated[bool, typer.Option("--json", help="Print it as JSON")]


def night(
    ctx: typer.Context,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="SOURCE", help="Take only this source, do nothing else")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what each step would do")] = False,
    as_json: Json = False,
) -> None:
    """Do one night."""
    if ctx.invoked_subcommand is not None:
        return
    from labweave.nightly import night as nights
    from labweave.nightly import pages
    from labweave.nightly.report import ANOTHER_RUNS
    from labweave.processes import ended_by_sigterm

    def tell(step: StepDone) -> None:
        err.print(f"{step.name}: {step.status}, {pages.duration(step.seconds)}  {step.result.message}".rstrip())

    try:
        with ended_by_sigterm():
            report = nights.run(only or (), dry_run=dry_run, tell=tell)
    except nights.AnotherRuns as error:
        err.print(f"labweave: {error}")
        raise typer.Exit(ANOTHER_RUNS) from None
    out.print(json.dumps(pages.as_json(report)) if as_json else f"\n{pages.as_text(report)}".rstrip())
    raise typer.Exit(report.exit_code)


def report(
    date: Annotated[str | None, typer.Option("--date", help="Nights that began on this day, UTC: 2026-12-01")] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="So many nights")] = 1,
    html: Annotated[bool, typer.Option("--html", help="As a page of HTML")] = False,
    as_json: Json = False,
) -> None:
    """Print what nights did, the newest first."""
    from labweave.nightly import pages

    with open_database():
        found = pages.stored_nights(date, last)
    if not found:
        err.print("no night yet" if date is None else f"no night on {date}")
        raise typer.Exit(1)
    if as_json:
        out.print(json.dumps([pages.as_json(each) for each in found]))
        return
    for each in found:
        out.print(pages.as_html(each) if html else pages.as_text(each))


def check() -> None:
    """List what is wrong in labweave.toml, with line and what was perhaps meant; exit code 1 when anything is."""
    from labweave.nightly.settings import find_mistakes
    from labweave.settings import find_settings_file

    path, mistakes = find_settings_file(), find_mistakes()
    if mistakes:
        rows: list[tuple[Any, ...]] = [(mistake.line, mistake.setting, mistake.what) for mistake in mistakes]
        print_table(("line", "setting", "what"), rows)
    out.print(f"{path or 'no labweave.toml'}: {len(mistakes)} mistakes")
    raise typer.Exit(1 if mistakes else 0)

"""``labweave nightly``: the night, its reports and its timer; ``labweave config check``."""

from __future__ import annotations

import datetime as dt
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
    date: Annotated[
        dt.datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Nights that began on this day, UTC")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="So many nights")] = 1,
    html: Annotated[bool, typer.Option("--html", help="As a page of HTML")] = False,
    as_json: Json = False,
) -> None:
    """Print what nights did, the newest first."""
    from labweave.nightly import pages

    with open_database():
        found = pages.stored_nights(date, last)
    if not found:
        err.print("no night yet" if date is None else f"no night on {date:%Y-%m-%d}")
        raise typer.Exit(1)
    if as_json:
        out.print(json.dumps([pages.as_json(each) for each in found]))
        return
    for each in found:
        out.print(pages.as_html(each) if html else pages.as_text(each))


def install(
    systemd: Annotated[bool, typer.Option("--systemd", help="A timer of systemd")] = False,
    cron: Annotated[bool, typer.Option("--cron", help="A line in your crontab")] = False,
    compose: Annotated[bool, typer.Option("--compose", help="Print a service for compose (docker/README.md)")] = False,
    user: Annotated[bool, typer.Option("--user", help="With --systemd: a timer of your own, without root")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; print what would be written")] = False,
) -> None:
    """Have nights begin by themselves, at the time that labweave.toml says. Safe to repeat: it renews what is there."""
    from labweave.nightly import timer, units

    if systemd + cron + compose != 1 or (user and not systemd):
        raise typer.BadParameter("Choose one of --systemd [--user], --cron and --compose.")
    job = timer.find_job("systemd" if systemd and not user else "")
    if compose:
        out.print(units.compose_service(job).rstrip())
    elif dry_run and cron:
        out.print(units.cron_line(job))
    elif dry_run:
        for unit in units.systemd_units(job):
            out.print(f"# {unit.name}\n{unit.text}")
    else:
        for line in timer.install_cron(job) if cron else timer.install_systemd(job):
            out.print(line)
    if secrets := [] if compose else timer.hidden_secrets(job):
        place = "use file: in labweave.toml" if cron else f"write them into {job.config.with_name('labweave.env')}"
        err.print(f"labweave: a timer does not have the variables {', '.join(secrets)} of labweave.toml; {place}")


def uninstall() -> None:
    """Take out what install has written, and nothing else."""
    from labweave.nightly import timer

    out.print("\n".join(timer.uninstall()) or "nothing is installed")


def status() -> None:
    """Show what begins the nights, when the next one is due and how the last one went; exit code 1 if nothing does."""
    import time

    from labweave.nightly import clock, timer, watch
    from labweave.nightly.settings import load_night

    found = timer.installed()
    for one in found:
        renew = "" if one.is_current else ", not as labweave.toml says now: install it again"
        out.print(f"{one.kind}: {one.place}{renew}")
    if found:
        begin = dt.datetime.fromtimestamp(clock.next_begin(load_night().nightly.at, time.time()))
        out.print(f"next night: {begin:%Y-%m-%d %H:%M}")
    else:
        out.print("nothing begins a night. See: labweave nightly install --help")
    out.print(watch.look()[1])
    raise typer.Exit(0 if found else 1)


def wait() -> None:
    """Wait until the next night begins, at once if one was missed: for containers, as wait && labweave nightly."""
    from labweave.nightly import clock
    from labweave.nightly.settings import load_night

    clock.wait(load_night(), err.print)


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

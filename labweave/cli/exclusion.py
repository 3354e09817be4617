"""``labweave exclude`` and ``labweave include``: sweeps that are not to be used."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labweave.cli.base import open_database, out, parse_restriction, print_table

Sweeps = Annotated[
    list[str], typer.Argument(metavar="NAME=VALUE…", help="Which sweeps, for example cell=c1 recording=day1/c1#sweep3")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; list the sweeps")]


def exclude(
    sweeps: Sweeps,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who ask later")] = "",
    dry_run: DryRun = False,
) -> None:
    """Use some sweeps for no rheobase and no extraction; populate makes these results again."""
    from labweave import analysis

    with open_database():
        _print(analysis.exclude(parse_restriction(sweeps), reason, dry_run=dry_run), "excluded", dry_run)


def include(sweeps: Sweeps, dry_run: DryRun = False) -> None:
    """Use excluded sweeps again."""
    from labweave import analysis

    with open_database():
        _print(analysis.include(parse_restriction(sweeps), dry_run=dry_run), "included", dry_run)


def _print(keys: list[dict[str, Any]], what: str, dry_run: bool) -> None:
    if not keys:
        out.print(f"Nothing to do: these sweeps are {'excluded already' if what == 'excluded' else 'not excluded'}")
        return
    print_table(("cell", "protocol", "recording"), [(k["cell"], k["protocol"], k["recording"]) for k in keys])
    sweeps = "1 sweep" if len(keys) == 1 else f"{len(keys)} sweeps"
    out.print(f"{sweeps} {'would be ' * dry_run}{what}" + ("" if dry_run else ". Next: labweave populate"))

"""``labweave check``: find what has broken since it went in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labweave.cli.base import open_database, out, parse_restriction, print_table, progress_bar, show

Restrict = Annotated[
    list[str] | None, typer.Option("--restrict", "-r", metavar="NAME=VALUE", help="Only these, for example subject=M12")
]

check = typer.Typer(
    help="""
Find what has broken since it went in.

EXAMPLES

    labweave check recipes
    labweave check recipes --again -r subject=M12
""",
    no_args_is_help=True,
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(check, name="check")


@check.command("recipes")
def recipes(
    restrict: Restrict = None,
    again: Annotated[
        bool, typer.Option("--again", help="Follow the broken ones once more, for example after a loader was corrected")
    ] = False,
) -> None:
    """Follow the onedata recipes that are new or whose sources changed, and list the broken ones.

    Exit code 1 says that there are some.
    """
    from labweave.populate import queue, run
    from labweave.populate.queue import check_restriction
    from labweave.schemas.onedata import OneSession, RecipeCheck
    from labweave.schemas.session import Session

    restriction = parse_restriction(restrict or [])
    bars: dict[str, Any] = {}
    with open_database(), progress_bar() as progress:
        check_restriction(restriction)
        recipes = queue.restrict(RecipeCheck(), restriction)
        checks = RecipeCheck & (recipes.proj() if recipes is not None else [])
        if again and (keys := (checks - {"recipe_state": "resolved"}).keys()):
            (RecipeCheck & keys).delete(prompt=False)
        report = run(
            ["RecipeCheck"],
            restriction or None,
            progress=lambda table, done, failed, total: show(progress, bars, table, done, failed, total),
        )
        sessions = (OneSession * Session.proj("subject", "session_date")).proj(
            "subject", "session_date", "one_session_id"
        )
        n_recipes = len(checks)
        broken = checks - {"recipe_state": "resolved"}
        broken = (broken * sessions).to_dicts(order_by="subject, session_date, eid, one_name")
    if broken:
        print_table(
            ("session", "variable", "state", "reason"),
            [
                (
                    "/".join(filter(None, (row["subject"], str(row["session_date"]), row["one_session_id"]))),
                    row["one_name"],
                    row["recipe_state"],
                    row["reason"],
                )
                for row in broken
            ],
        )
    out.print(f"{n_recipes} recipes, {len(broken)} broken")
    if report.failed:
        out.print(f"{report.failed} could not be looked at. See: labweave errors RecipeCheck", markup=False)
    if broken or report.failed:
        raise typer.Exit(1)

"""``labweave check``: find what has broken since it went in."""

from __future__ import annotations

from typing import Annotated

import typer

from labweave.cli.base import Restrict, open_database, out, parse_restriction, print_table, progress_bar


def recipes(
    restrict: Restrict = None,
    again: Annotated[
        bool, typer.Option("--again", help="Follow the broken ones again, for example after you corrected a loader")
    ] = False,
) -> None:
    """Follow the onedata recipes that are new or whose sources changed, and list the broken ones.

    The exit code is 1 when there are any.

    For example: labweave check recipes --again -r subject=M12
    """
    from labweave.populate import queue, run
    from labweave.schemas.onedata import OneSession, RecipeCheck
    from labweave.schemas.session import Session

    restriction = parse_restriction(restrict or [])
    with open_database(), progress_bar("recipes are checked; the same command goes on") as show:
        queue.check_restriction(restriction)
        checks = RecipeCheck & queue.restrict(RecipeCheck(), restriction).proj()
        if again and (keys := (checks - {"recipe_state": "resolved"}).keys()):
            (RecipeCheck & keys).delete(prompt=False)
        report = run(["RecipeCheck"], restriction or None, progress=show)
        names = ("subject", "session_date", "one_session_id")
        sessions = (OneSession * Session.proj(*names[:2])).proj(*names)
        n_recipes = len(checks)
        broken = checks - {"recipe_state": "resolved"}
        broken = (broken * sessions).to_dicts(order_by="subject, session_date, eid, one_name")
    if broken:
        rows = []
        for row in broken:
            session = "/".join(filter(None, (row["subject"], str(row["session_date"]), row["one_session_id"])))
            rows.append((session, row["one_name"], row["recipe_state"], row["reason"]))
        print_table(("session", "variable", "state", "reason"), rows)
    out.print(f"{n_recipes} recipes, {len(broken)} broken")
    if report.failed:
        out.print(f"{report.failed} could not be looked at. See: labweave errors RecipeCheck")
    if broken or report.failed:
        raise typer.Exit(1)

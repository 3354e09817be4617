"""``labweave verify``: whether results come out the same again."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from labweave.cli.base import Restrict, open_database, out, parse_restriction, progress_bar

SHOWN = 20
"""How many results that differ are listed."""


def verify(
    tables: Annotated[list[str] | None, typer.Argument(help="Only these tables, for example Rheobase")] = None,
    restrict: Restrict = None,
    sample: Annotated[int | None, typer.Option("--sample", min=1, help="So many of each table, by chance")] = None,
    rtol: Annotated[float, typer.Option("--rtol", min=0.0, help="Relative difference that counts as close")] = 1e-9,
) -> None:
    """Make results again without storing them, and list those that come out otherwise."""
    from labweave import provenance
    from labweave.populate import queue

    restriction = parse_restriction(restrict or []) or None
    with open_database(), progress_bar("results are verified") as show:
        queue.check_restriction(restriction)
        chosen = [table for table in queue.computed_tables(tables or None) if _is_result(table)]
        if restriction:
            chosen = [table & queue.restrict(table, restriction).proj() for table in chosen]
        found = list(provenance.verify(chosen, sample=sample, rtol=rtol, progress=show))
    bad = [one for one in found if one.outcome not in ("equal", "close")]
    for one in bad[:SHOWN]:
        out.print(f"{one.table} {' '.join(f'{name}={value}' for name, value in one.key.items())}: {one.outcome}")
        for text in one.differences[:5]:
            out.print(f"  {text}")
    if len(bad) > SHOWN:
        out.print(f"and {len(bad) - SHOWN} more; provenance.Verified has them all")
    counts = Counter(one.outcome for one in found)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    out.print(f"{len(found)} results verified" + (f": {told}" if found else ""))
    if bad:
        raise typer.Exit(1)


def _is_result(table: object) -> bool:
    """Leave out what a sync has pulled from a server: it is no computation."""
    return not type(table).__module__.startswith("labweave.ingest.")

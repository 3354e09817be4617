"""``labweave verify``: whether results come out the same again."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labweave.cli.base import Restrict, open_database, out, parse_restriction, progress_bar

if TYPE_CHECKING:
    from labweave.provenance import Verification

SHOWN = 20
"""How many results that differ are listed."""

OF_EACH = 3
"""How many differences of each."""


def verify(
    tables: Annotated[list[str] | None, typer.Argument(help="Only these tables, for example Rheobase")] = None,
    restrict: Restrict = None,
    sample: Annotated[int | None, typer.Option("--sample", min=1, help="So many of each table, by chance")] = None,
    rtol: Annotated[float, typer.Option("--rtol", min=0.0, help="Relative difference that counts as close")] = 1e-9,
) -> None:
    """Make results again without storing them, and list those that come out otherwise.

    Exit code 1 when a result is different, or can't be made because a file is gone or its make failed.
    """
    from labweave import provenance
    from labweave.populate import queue

    restriction = parse_restriction(restrict or []) or None
    with open_database(), progress_bar("results are verified") as show:
        queue.check_restriction(restriction)
        chosen = [table for table in queue.computed_tables(tables or None) if provenance.is_result(table)]
        if restriction:
            chosen = [table & queue.restrict(table, restriction).proj() for table in chosen]
        found = list(provenance.verify(chosen, sample=sample, rtol=rtol, progress=show))
    bad = [one for one in found if one.outcome not in ("equal", "close")]
    _print_different([one for one in bad if one.outcome == "different"])
    _print_not_made([one for one in bad if one.outcome != "different"])
    counts = Counter(one.outcome for one in found)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    out.print(f"{len(found)} results verified" + (f": {told}" if found else ""))
    if bad:
        raise typer.Exit(1)


def _print_different(found: list[Verification]) -> None:
    """Print what differs, in columns below each result, the results that are farthest apart first."""
    shown = sorted(found, key=lambda one: -one.differences[0].apart)[:SHOWN]
    listed = [item for one in shown for item in one.differences[:OF_EACH]]
    columns = {id(item): (item.place, _value(item.stored), _value(item.now), _size(item.apart)) for item in listed}
    widths = [max(map(len, column)) for column in zip(*columns.values(), strict=True)]
    for one in shown:
        out.print(f"{_name(one)}: different")
        for item in one.differences[:OF_EACH]:
            place, stored, now, apart = (text.ljust(w) for text, w in zip(columns[id(item)], widths, strict=True))
            out.print(f"  {place}  stored {stored}  now {now}  {apart}".rstrip())
        if len(one.differences) > OF_EACH:
            out.print(f"  and {len(one.differences) - OF_EACH} more")
        for reason in one.would_be_made_again:
            out.print(f"  would be made again: {reason}")
    if len(found) > SHOWN:
        out.print(f"and {len(found) - SHOWN} more results; provenance.Verified has them all")


def _print_not_made(found: list[Verification]) -> None:
    """Print why results could not be made, each reason once."""
    reasons: dict[tuple[str, str], list[Verification]] = {}
    for one in found:
        reasons.setdefault((one.outcome, one.reason), []).append(one)
    for (outcome, reason), those in list(reasons.items())[:SHOWN]:
        more = f" and {len(those) - 1} more" if len(those) > 1 else ""
        out.print(f"{outcome}: {_name(those[0])}{more}\n  {reason}")
    if len(reasons) > SHOWN:
        out.print(f"and {len(reasons) - SHOWN} more reasons; provenance.Verified has them all")


def _name(one: Verification) -> str:
    """Return table and key; the id of the session only where nothing else tells."""
    key = {name: value for name, value in one.key.items() if name != "eid"} or one.key
    return f"{one.table} {' '.join(f'{name}={value}' for name, value in key.items())}"


def _value(value: Any) -> str:
    text = f"{value:.9g}" if isinstance(value, float) else "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _size(apart: float) -> str:
    """Return a relative difference as people write it."""
    if not math.isfinite(apart):
        return ""
    return f"{100 * apart:.3g} % apart" if apart >= 1e-4 else f"{apart:.1e} apart"

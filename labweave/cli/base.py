"""What every command shares: how a database is chosen, how things are printed, how errors end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=True)


def open_database(upgrade: bool = False) -> Any:
    """Connect to the database that options, environment and labweave.toml choose."""
    import labweave

    return labweave.connect(upgrade=upgrade)


def choose_database(database: str | None, prefix: str | None) -> None:
    """Make ``--database`` and ``--prefix`` win over the environment, also in worker processes."""
    if database:
        os.environ["LABWEAVE_DATABASE_URL"] = database
    if prefix:
        os.environ["LABWEAVE_PREFIX"] = prefix


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print rows in aligned columns; numbers to the right, missing values as a dash."""
    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float, type(None))) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row))
    if out.is_terminal:
        out.print(table)
    else:
        Console(highlight=False, width=200).print(table)


def parse_restriction(pairs: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` pairs as a dictionary."""
    restriction = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(
                f"{pair!r} is not of the form NAME=VALUE, for example subject=M12", param_hint="--restrict"
            )
        restriction[name.strip()] = value.strip()
    return restriction


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show rate and time left on a terminal; be quiet elsewhere."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        yield progress


def show(progress: Progress, bars: dict[str, Any], name: str, done: int, failed: int, total: int | None) -> None:
    """Move the bar called `name`; without a total it only counts."""
    if name not in bars:
        bars[name] = progress.add_task(name, total=total, rate="")
    task = progress.tasks[progress.task_ids.index(bars[name])]
    rate = f"{task.speed:.1f}/s" if task.speed else ""
    progress.update(bars[name], completed=done, total=total, rate=rate + (f"  {failed} failed" if failed else ""))

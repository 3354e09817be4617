"""What every command shares: how a database is chosen, how things are printed, how errors end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

Restrict = Annotated[
    list[str] | None, typer.Option("--restrict", "-r", metavar="NAME=VALUE", help="Only these, for example subject=M12")
]

out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Group(TyperGroup):
    """A group of commands whose help has the first sentence of each command whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(1000)) for name, command in found.items() if command])


def add_group(app: typer.Typer, name: str, help: str, *commands: Callable[..., None], cls: Any = Group) -> None:
    """Add a group of commands that are called like their functions."""
    group = typer.Typer(cls=cls, no_args_is_help=True, help=help)
    group.callback()(lambda: None)  # a group, also of one command
    add_commands(group, *commands)
    app.add_typer(group, name=name)


def add_commands(app: typer.Typer, *commands: Callable[..., None]) -> None:
    """Add commands that are called like their functions."""
    for command in commands:
        app.command(command.__name__.rstrip("_").replace("_", "-"))(command)


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
def progress_bar() -> Iterator[Callable[[str, int, int, int | None], None]]:
    """Show rate and time left on a terminal; be quiet elsewhere.

    Gives a function that takes the name of a bar, jobs done, failed and in all; without a total a bar only counts.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        bars: dict[str, Any] = {}

        def show(name: str, done: int, failed: int, total: int | None) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, rate="")
            task = progress.tasks[progress.task_ids.index(bars[name])]
            rate = (f"{task.speed:.1f}/s" if task.speed else "") + (f"  {failed} failed" if failed else "")
            progress.update(bars[name], completed=done, total=total, rate=rate)

        yield show

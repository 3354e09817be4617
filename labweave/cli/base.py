"""What the commands share: choosing a database, printing, restrictions, progress."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

Restrict = Annotated[
    list[str] | None, typer.Option("--restrict", "-r", metavar="NAME=VALUE", help="Only these, for example subject=M12")
]

TableName = Annotated[str, typer.Argument(help="For example Rheobase, or RecordingEFeatures.Value")]
Key = Annotated[
    list[str], typer.Argument(metavar="NAME=VALUE…", help="Which row: as much as tells it apart, for example cell=c1")
]

# All but tab and line feed, and those that turn the direction of writing: they can make a terminal, or a reader, take
# a text for another one.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Return a text with its control characters written out, as ``\x1b``."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class TextConsole(Console):
    """Prints what the lab has written as text: no markup in brackets, no names of emoji, no control characters."""

    def __init__(self, **options: Any):
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Any:
        """Return a text, also that of a cell of a table, as it is shown."""
        return super().render_str(visible(text), **options)


out = TextConsole(width=None if sys.stdout.isatty() else 200)
err = TextConsole(stderr=True)


def write_data(text: str) -> None:
    """Write data for other programs as they are; a terminal gets no control characters."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)


class Group(TyperGroup):
    """A group of commands whose help shows the whole first sentence of each command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(1000)) for name, command in found.items() if command])


def add_group(
    app: typer.Typer,
    name: str,
    help: str,
    *commands: Callable[..., None],
    cls: Any = Group,
    alone: Callable[..., None] | None = None,
) -> None:
    """Add a group of commands, named after their functions; `alone` is what its name does without any of them."""
    group = typer.Typer(cls=cls, no_args_is_help=alone is None, invoke_without_command=alone is not None, help=help)
    group.callback()(alone or (lambda: None))  # keeps it a group, even with one command
    add_commands(group, *commands)
    app.add_typer(group, name=name)


def add_commands(app: typer.Typer, *commands: Callable[..., None]) -> None:
    """Add commands, named after their functions."""
    for command in commands:
        app.command(command.__name__.rstrip("_").replace("_", "-"))(command)


def open_database(make: bool = False, upgrade: bool = False, waits: bool = False) -> Any:
    """Connect to the database that options, environment and labweave.toml choose; only on demand make a lab there.

    What runs unattended waits for a server that is away.
    """
    import labweave
    from labweave.database.patience import patience

    with patience() if waits else nullcontext():
        database = labweave.connect(make=make, upgrade=upgrade)
    if database.n_made:
        err.print(f"made a lab with prefix {database.prefix}, {database.n_made} tables, in {database.url}")
    return database


def choose_database(database: str | None, prefix: str | None) -> None:
    """Let ``--database`` and ``--prefix`` override the environment, in worker processes too."""
    if database:
        os.environ["LABWEAVE_DATABASE_URL"] = database
    if prefix:
        os.environ["LABWEAVE_PREFIX"] = prefix


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows in aligned columns: numbers on the right, a dash for a missing value."""
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float, type(None))) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row))
    out.print(table, soft_wrap=False)


def parse_restriction(pairs: Sequence[str], option: str = "--restrict") -> dict[str, str]:
    """Return ``NAME=VALUE`` pairs as a dictionary."""
    restriction = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(
                f"{pair!r} is not of the form NAME=VALUE, for example subject=M12", param_hint=option
            )
        restriction[name.strip()] = value.strip()
    return restriction


def find_rows(table: str, key: Sequence[str]) -> Any:
    """Return a table by the name that people use for it, restricted by ``NAME=VALUE`` pairs.

    Raises
    ------
    SchemaError
        There is no such table or attribute, or a value that it can't hold: MySQL would take 5x for 5, and x for 0.
    """
    from labweave.database.declare import every_table
    from labweave.database.reads import table_label
    from labweave.database.values import make_columns
    from labweave.errors import SchemaError

    known = {table_label(cls).lower(): cls for cls in every_table()}
    known |= {label.partition(".")[2]: cls for label, cls in known.items()}
    if table.lower() not in known:
        raise SchemaError(f"No table is called {table}. See: labweave status")
    chosen, restriction = known[table.lower()](), parse_restriction(key)
    columns = make_columns(chosen)
    if unknown := sorted(set(restriction) - set(columns)):
        raise SchemaError(f"{table} has no {', '.join(unknown)}. It has: {', '.join(columns)}.")
    for name, value in restriction.items():
        if columns[name].kind in ("integer", "float", "decimal", "date", "datetime"):
            try:
                columns[name].convert(value)
            except (ValueError, ArithmeticError) as error:
                raise SchemaError(f"{table} has no {name} {value}: {error}.") from None
    return chosen & restriction


Show = Callable[[str, int, int, "int | None"], None]
"""Takes the name of a bar, and how many are done, failed and there in all; without a total the bar only counts."""

LINE_SECONDS = 60
"""How often a long run tells how far it is where there is no terminal."""


class Stopped(SystemExit):
    """A command that Ctrl-C or SIGTERM ended: its exit code, and what was done.

    Parameters
    ----------
    code : int
    done : str
        How far it came.
    """

    def __init__(self, code: int, done: str):
        super().__init__(code)
        self.done = done


@contextmanager
def progress_bar(done: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Show]:
    """Show rate and time left on a terminal, a line a minute elsewhere, and on a stop how far it came.

    Parameters
    ----------
    done : str
        What has become of those that are done, as in "12 of 40 units are in".
    clock : callable
        Gives seconds.

    Raises
    ------
    Stopped
        The block was ended by Ctrl-C or SIGTERM.
    """
    counts: dict[str, tuple[int, int, int | None]] = {}
    last = clock()
    with _bars() if err.is_terminal else nullcontext(lambda *told: None) as draw:

        def show(name: str, n_done: int, failed: int, total: int | None) -> None:
            nonlocal last
            counts[name] = (n_done, failed, total)
            draw(name, n_done, failed, total)
            if not err.is_terminal and clock() - last >= LINE_SECONDS:
                last = clock()
                err.print(f"{name}: {n_done}{f' of {total}' if total else ''}, {failed} failed")

        try:
            yield show
        except (KeyboardInterrupt, SystemExit) as error:
            code = 130 if isinstance(error, KeyboardInterrupt) else error.code
            if not isinstance(code, int) or code <= 128 or not counts:
                raise
            n_good = sum(n_done - failed for n_done, failed, _ in counts.values())
            totals = [total for _, _, total in counts.values()]
            of = "" if None in totals else f" of {sum(totals)}"  # type: ignore[arg-type]
            raise Stopped(code, f"{n_good}{of} {done}") from None


@contextmanager
def _bars() -> Iterator[Show]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        bars: dict[str, Any] = {}

        def show(name: str, done: int, failed: int, total: int | None) -> None:
            if name not in bars:
                bars[name] = progress.add_task(visible(name), total=total, rate="")
            task = progress.tasks[progress.task_ids.index(bars[name])]
            rate = (f"{task.speed:.1f}/s" if task.speed else "") + (f"  {failed} failed" if failed else "")
            progress.update(bars[name], completed=done, total=total, rate=rate)

        yield show

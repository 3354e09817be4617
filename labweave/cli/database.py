"""``labweave db``: the database itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from labweave.cli.base import err, open_database, out, print_table
from labweave.errors import ConfigError


def _server() -> Any:
    """Return the embedded server that the settings choose."""
    from labweave.database.url import find_url
    from labweave.embedded.server import EmbeddedServer

    source = find_url()
    if not source.embedded:
        raise ConfigError(f"{source} is a server of its own; labweave starts and stops the embedded one only.")
    return EmbeddedServer(source.data_dir)


def start() -> None:
    """Start the embedded server and keep it running when the last program leaves."""
    server = _server()
    server.start()
    out.print(f"running, data in {server.status()['data_dir']}")


def stop() -> None:
    """Stop the embedded server, even while programs use it: they start it again."""
    _server().stop()
    out.print("stopped")


def status() -> None:
    """Show whether the embedded server runs, where its data is and how large it is."""
    facts = _server().status()
    shown = {**facts, "users": ", ".join(map(str, facts["users"] or ())), "size": f"{facts['size'] / 1e6:.1f} MB"}
    print_table(("", ""), [(name, None if value in (None, "") else str(value)) for name, value in shown.items()])
    raise typer.Exit(0 if facts["running"] else 1)


def url() -> None:
    """Print the address in use, with its password masked."""
    from labweave.database.url import find_url
    from labweave.settings import load_settings

    out.print(f"{find_url()} prefix={load_settings().database.prefix}")


def upgrade() -> None:
    """Bring the tables of an older labweave up to date. Back up first."""
    with open_database(upgrade=True) as database:
        steps = database.upgrade(progress=lambda step: err.print(step))
        out.print(f"{database.url}: {len(steps)} steps applied")


def check() -> None:
    """Compare the tables with those that this labweave expects, and name each difference."""
    with open_database(upgrade=True) as database:
        problems = database.check()
    if problems:
        print_table(("table", "problem", "what to do"), [(p.table, p.problem, p.advice) for p in problems])
    out.print(f"{len(problems)} problems")
    raise typer.Exit(1 if problems else 0)


def backup(
    path: Annotated[Path, typer.Argument(help="File to write, or a folder, in which it is named by prefix and time")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there")] = False,
    keep: Annotated[
        str | None,
        typer.Option(metavar="daily=7,weekly=5,monthly=12", help="Delete older backups in the folder but for these"),
    ] = None,
) -> None:
    """Write every table of this prefix into one file."""
    with open_database(upgrade=True) as database:
        path = database.backup(path, overwrite=overwrite, keep=keep, tell=out.print)
    out.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def restore(
    path: Annotated[Path, typer.Argument(help="File that labweave db backup wrote")],
    replace: Annotated[bool, typer.Option("--replace", help="Drop the tables that are there now")] = False,
) -> None:
    """Restore a backup under the prefix in use, into the database it came from or one of the same kind."""
    from labweave.database import restore as restore_backup

    restore_backup(path, replace=replace, tell=err.print)
    out.print(f"restored {path}")


def verify(path: Annotated[Path, typer.Argument(help="File that labweave db backup wrote")]) -> None:
    """Restore a backup beside your tables, compare each table with what was backed up, and drop it again."""
    from labweave.database import verify_backup

    wrong = verify_backup(path, tell=err.print)
    if wrong:
        print_table(("table", "problem"), wrong)
    out.print(f"{path}: {len(wrong)} tables differ" if wrong else f"{path} is good")
    raise typer.Exit(1 if wrong else 0)

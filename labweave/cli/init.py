"""``labweave init``: make the tables, and write labweave.toml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labweave.cli.base import err, open_database, out
from labweave.errors import ConfigError


def init(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the settings as they are")] = False,
    lab: Annotated[str | None, typer.Option(help="Lab that rows belong to when a command names none")] = None,
) -> None:
    """Make labweave's tables in the chosen database, and a labweave.toml in this folder.

    Safe to repeat: what exists stays as it is.
    """
    from labweave.secret import stranger_writing
    from labweave.settings import find_settings_file

    is_new = find_settings_file() is None
    if is_new and not lab and not yes and sys.stdin.isatty():
        lab = typer.prompt("Short name of your lab", default="mylab")
    if lab is not None and not lab.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"{lab!r} can't be the short name of a lab. Use letters, digits, - and _.")
    with open_database(make=True) as database:
        made = database.n_made
        if problems := database.check():  # else this may be somebody who has no right to make tables
            made += database.declare()
            problems = database.check()
        if is_new and (doubt := stranger_writing(Path.cwd())):
            err.print(f"no labweave.toml is written: {doubt}")
        elif is_new:
            err.print(f"wrote {_write_settings(lab, database.prefix)}")
        out.print(f"{database.url}, prefix {database.prefix}: {made} tables made, {len(problems)} problems")
        for problem in problems:
            out.print(f"  {problem.table}: {problem.problem}; {problem.advice}")
    if problems:
        raise typer.Exit(1)


def _write_settings(lab: str | None, prefix: str) -> Path:
    from labweave.settings import FILE_NAME

    path = Path.cwd() / FILE_NAME
    text = f"""{f'lab = "{lab}"' if lab else '# lab = "mylab"'}

[database]
# url = "mysql://user@host:3306"
# password = "keyring:labweave/user"     # or file:/path, env:NAME, prompt:
prefix = "{prefix}"
"""
    path.write_text(text, encoding="utf-8")
    return path

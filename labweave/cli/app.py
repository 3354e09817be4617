"""The command line itself: options for all commands, exit codes, errors as one line."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer

from labweave import __version__
from labweave.cli import (
    check,
    database,
    delete,
    exclusion,
    explain,
    export,
    nightly,
    one,
    plot,
    populate,
    query,
    rights,
    sources,
    verify,
)
from labweave.cli.base import Group, Stopped, add_commands, add_group, choose_database, err, out, visible
from labweave.cli.demo.command import demo
from labweave.cli.ingest import AdapterGroup
from labweave.cli.init import init
from labweave.errors import LabweaveError, text_of

INTERRUPTED, TERMINATED = 130, 143

# Typer has its own copy of click in newer versions; both have this class.
UsageError: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    cls=Group,
    name="labweave",
    help="""
Put a neuroscience lab's data into one database, and compute results from it.

A first session:

\b
    labweave demo                                   a simulated lab, from files to rheobase
    labweave ingest ephys FOLDER --lab smithlab     your recordings
    labweave populate                               rheobase and efeatures
    labweave status                                 what is there, what failed

The data goes into an embedded database of your own, which needs no set-up. To use a server, give
LABWEAVE_DATABASE_URL or --database. Exit codes: 0 all good, 1 something failed, 2 nothing could start.
""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help in boxes takes a third longer to come
    context_settings={"help_option_names": ["-h", "--help"]},
)
add_commands(app, init, demo, populate.populate, populate.status, populate.errors, populate.retry)
add_commands(app, exclusion.exclude, exclusion.include, explain.explain, verify.verify)
add_commands(app, sources.sources, sources.forget, delete.delete, query.sql, query.diagram)
add_group(app, "ingest", "Bring data in: labweave ingest ADAPTER LOCATION --lab LAB.", cls=AdapterGroup)
add_group(app, "check", "Find what has broken since it went in.", check.recipes)
add_group(
    app, "one", "Search, list and load sessions, with the words of ONE.",
    one.search, one.list_, one.load, one.path, one.id_,
)  # fmt: skip
add_group(
    app, "nightly", """Do one night: every source of labweave.toml, populate, checks and backup; or see how nights went.

Exit codes: 0 all good, 1 something new failed, 2 could not start, 3 another night runs, 4 the budget ended, 5 a check
or the backup failed. What is known from the night before is no new failure.
""",
    nightly.report, nightly.install, nightly.uninstall, nightly.status, nightly.wait, alone=nightly.night,
)  # fmt: skip
add_group(app, "source", "Sources of the nights to come.", sources.add)
add_group(app, "config", "Check labweave.toml.", nightly.check)
add_group(app, "export", "Write results as files for other programs.", export.features, export.one_cache)
add_group(app, "plot", "Draw recordings and efeatures into files.", plot.cell, plot.features)
add_group(
    app, "db", """The database itself: start, stop, upgrade, back up, who may do what.

Addresses for --database and LABWEAVE_DATABASE_URL: embedded: (the default, in your data folder),
embedded:///path, mysql://user:password@host:port (MySQL or MariaDB), postgresql://user:password@host:port/dbname.
""",
    database.start, database.stop, database.status, database.url,
    database.upgrade, database.check, database.backup, database.restore, database.verify,
    rights.grant, rights.revoke, rights.roles,
)  # fmt: skip


class _LogLines(logging.StreamHandler):
    """Log lines on stderr; the names of files that they tell of are text, whatever is in them."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"labweave {__version__}")
        raise typer.Exit


@app.callback()
def options(
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="Database to use; see: labweave db --help")
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Beginning of its schema names")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and log lines")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit")
    ] = False,
) -> None:
    """Choose the database for the command that follows."""
    level, form = logging.INFO if debug else logging.ERROR, "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=level, format=form, handlers=[_LogLines()])
    # What bears on safety, and why nothing happens, is always told.
    for name in ("labweave.settings", "labweave.database.tls", "labweave.database.patience"):
        logging.getLogger(name).setLevel(logging.INFO if debug else logging.WARNING)
    choose_database(database, prefix)


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 2."""
    debug, done = "--debug" in sys.argv, ""
    try:
        code = app(prog_name="labweave", standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except UsageError as error:
        error.show()
        code = 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Stopped as error:
        code, done = error.code, f": {error.done}"
    except SystemExit as error:
        code = error.code
    except Exception as error:
        if debug or not _is_expected(error):
            raise
        err.print(f"labweave: {' '.join(text_of(error).split())}")
        code = 2
    if code in (INTERRUPTED, TERMINATED):
        err.print(f"stopped{done}")
    sys.exit(code if isinstance(code, int) else 0)


def _is_expected(error: Exception) -> bool:
    if isinstance(error, (LabweaveError, OSError)):
        return True
    from datajoint.errors import DataJointError  # takes a second, which ``labweave --help`` need not wait for

    return isinstance(error, DataJointError)

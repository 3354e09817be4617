"""``labweave sources`` and ``labweave forget``: where data came from, and what of it is not wanted."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labweave.cli.base import open_database, out, parse_restriction, print_table


def sources(
    source: Annotated[str | None, typer.Argument(help="List the units of this one")] = None,
) -> None:
    """List the sources with their last runs; or the units of one source, and what became of them."""
    with open_database():
        if source is None:
            print_sources()
        else:
            _print_units(source)


def forget(
    source: Annotated[str, typer.Argument(help="As labweave sources lists it")],
    units: Annotated[list[str] | None, typer.Argument(help="As labweave sources SOURCE lists them; else all")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Want them again: the next ingest brings them back")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; list what would go")] = False,
) -> None:
    """Take out the rows of a source, or of some of its units, and leave them out of later runs."""
    from labweave import ingest

    with open_database():
        out.print(str(ingest.forget(source, units or (), undo=undo, dry_run=dry_run)))


def add(
    name: Annotated[str, typer.Argument(help="For the source, for example rig1")],
    adapter: Annotated[str, typer.Argument(help="As in labweave ingest ADAPTER")],
    location: Annotated[str, typer.Argument(help="Folder or file; address of a server")],
    lab: Annotated[str | None, typer.Option(help="Lab that the rows belong to; or lab in labweave.toml")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="NAME=VALUE", help="Of the adapter")
    ] = None,
    require_mount: Annotated[
        bool, typer.Option("--require-mount", help="Absent or empty, it is a disk that is away: no failure")
    ] = False,
    expect_every: Annotated[
        str | None, typer.Option(help="Quiet for longer it is stale, for example 3d; three times as long is a failure")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try it and show what it has; write nothing")] = False,
) -> None:
    """Try a source, show what it has, and write it into labweave.toml for the nights to come."""
    from pathlib import Path

    from labweave.ingest.base import Service
    from labweave.ingest.registry import find_adapter
    from labweave.nightly import adding

    if not issubclass(find_adapter(adapter), Service):
        location = str(Path(location).expanduser().absolute())
    values: dict[str, Any] = {"name": name, "adapter": adapter, "location": location}
    given = {"lab": lab, "options": parse_restriction(options or [], "--option")}
    given |= {"require_mount": require_mount, "expect_every": expect_every}
    values |= {name: value for name, value in given.items() if value}
    source = adding.new_source(values)
    with open_database():
        found = adding.try_source(source)
    out.print(str(found.report))
    if found.written:
        out.print(f"newest file: {found.newest}, {found.written:%Y-%m-%d %H:%M}")
    if found.report.exit_code:
        out.print("Some of it can't be read; nights tell of that. Mend it, or go on.")
    if dry_run:
        out.print(adding.as_toml(values).strip())
    else:
        out.print(f"added to {adding.append(values)}. Next: labweave nightly --only {name}")


def print_sources() -> None:
    """Print a line for each source, with its last run."""
    from labweave.schemas.ingestion import Forgotten, Run, Source

    rows = []
    for source in Source().to_dicts():
        key = {"source": source["source"]}
        runs = (Run & key).to_dicts(order_by="started desc", limit=1)
        last: dict[str, Any] = runs[0] if runs else {}
        counts = last.get("counts") or {}
        started = f"{last['started']:%Y-%m-%d %H:%M}" if last else None
        units = (Forgotten & key).to_arrays("unit").tolist()
        forgotten = "all" if "" in units else len(units) or None
        facts = [source[name] for name in ("source", "source_lab", "location")]
        rows.append((*facts, started, last.get("status"), counts.get("seen"), counts.get("failed"), forgotten))
    if rows:
        print_table(("source", "lab", "location", "last run (UTC)", "status", "units", "failed", "forgotten"), rows)
    else:
        out.print("No source yet. Try: labweave ingest ephys FOLDER --lab LAB")


def failed_units() -> list[tuple[str, str, str]]:
    """Return source, path and reason of all that could not be ingested, and still can't."""
    from labweave.schemas.ingestion import OpenFailure

    return sorted((row["source"], row["path"], row["message"]) for row in OpenFailure().proj("message").to_dicts())


def print_failed_units() -> None:
    """Print what could not be ingested."""
    failed = failed_units()
    for source, path, message in failed:
        out.print(f"{source} {path}\n  {message}")
    if failed:
        out.print(f"{len(failed)} units or files not ingested. When the cause is gone, ingest again\n")


def _print_units(source: str) -> None:
    from labweave.errors import ConfigError
    from labweave.ingest.forgetting import forgotten_units
    from labweave.schemas.ingestion import Source, SourceFile

    if not Source & {"source": source}:
        raise ConfigError(f"No source is called {source!r}. See: labweave sources")
    files: dict[str, list[str]] = {}
    for row in (SourceFile & {"source": source}).proj("unit", "file_status").to_dicts():
        files.setdefault(row["unit"], []).append(row["file_status"])
    forgotten = forgotten_units(source)
    for unit in forgotten - {""}:
        files.setdefault(unit, [])
    if "" in forgotten:
        out.print("All of this source is forgotten. To want it again: labweave forget SOURCE --undo")
    rows = [
        (unit, len(states), "forgotten" if unit in forgotten else "vanished" if "vanished" in states else "ingested")
        for unit, states in sorted(files.items())
    ]
    print_table(("unit", "files", "status"), rows)

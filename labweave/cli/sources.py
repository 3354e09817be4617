"""``labweave sources`` and ``labweave forget``: where data came from, and what of it is not wanted."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from labweave.cli.base import open_database, out, print_table


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

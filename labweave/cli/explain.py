"""``labweave explain``: why a value is what it is."""

from __future__ import annotations

from typing import Annotated

import typer

from labweave.cli.base import open_database, out, parse_restriction


def explain(
    table: Annotated[str, typer.Argument(help="For example Rheobase, or RecordingEFeatures.Value")],
    key: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…", help="Which row: as much as tells it apart")],
    form: Annotated[
        str, typer.Option("--format", help="tree, json, prov (PROV-JSON), crate (ro-crate-metadata.json) or mermaid")
    ] = "tree",
) -> None:
    """Say what a row was made from: settings, sweeps, files, programs and people, and whether that is still so."""
    from labweave import provenance
    from labweave.database.declare import every_table
    from labweave.database.reads import table_label
    from labweave.errors import SchemaError

    with open_database():
        known = {table_label(cls).lower(): cls for cls in every_table()}
        known |= {label.partition(".")[2]: cls for label, cls in known.items()}
        if table.lower() not in known:
            raise SchemaError(f"No table is called {table}. See: labweave status")
        chosen = known[table.lower()]()
        restriction = parse_restriction(key)
        if unknown := sorted(set(restriction) - set(chosen.heading.names)):
            raise SchemaError(f"{table} has no {', '.join(unknown)}. It has: {', '.join(chosen.heading.names)}.")
        out.print(provenance.render(provenance.explain(chosen & restriction), form))

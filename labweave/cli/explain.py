"""``labweave explain``: why a value is what it is."""

from __future__ import annotations

from typing import Annotated

import typer

from labweave.cli.base import Key, TableName, find_rows, open_database, out


def explain(
    table: TableName,
    key: Key,
    form: Annotated[
        str, typer.Option("--format", help="tree, json, prov (PROV-JSON), crate (ro-crate-metadata.json) or mermaid")
    ] = "tree",
) -> None:
    """Say what a row was made from: settings, sweeps, files, programs and people, and whether that is still so."""
    from labweave import provenance

    with open_database():
        out.print(provenance.render(provenance.explain(find_rows(table, key)), form))

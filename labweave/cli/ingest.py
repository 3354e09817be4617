"""``labweave ingest``: one subcommand per adapter, with options made from the adapter's own."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from labweave.cli.base import Group, open_database, out, progress_bar
from labweave.processes import ended_by_sigterm


class AdapterGroup(Group):
    """The installed adapters; each is imported only when its command is."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the adapters."""
        from labweave.ingest.registry import adapters

        return list(adapters())

    def get_command(self, ctx: Any, cmd_name: str) -> Any | None:
        """Return the command of an adapter, or None if there is no such adapter."""
        return _command(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of an adapter; a name that none has is compared with theirs."""
        self.commands = dict.fromkeys(self.list_commands(ctx))  # type: ignore[assignment]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of adapters."""
        from labweave.ingest.registry import summary_of

        with formatter.section("Commands"):
            formatter.write_dl([(name, f"{summary_of(name)}.") for name in self.list_commands(ctx)])


def _command(name: str) -> Any:
    """Return the command of one adapter."""
    from labweave.ingest.base import Service
    from labweave.ingest.registry import find_adapter
    from labweave.settings import load_settings

    adapter = find_adapter(name)
    served = issubclass(adapter, Service)
    if served:
        place, labs = "Address of the server", "Only these labs, separated by commas"
    else:
        place, labs = "Folder or file to read", "Lab that the rows belong to; or lab in labweave.toml"
    described: list[tuple[str, Any, str]] = [
        ("lab", str | None, labs),
        ("source", str | None, "Name for the source; by default one is made from the location"),
        ("dry_run", bool, "Write nothing; list what would change"),
    ]
    if not served:
        described += [
            ("again", bool, "Read everything, also what has not changed; undo edits of rows"),
            ("move", bool, "It was ingested for another lab: move its rows to this one"),
            ("also", bool, "It was ingested for another lab: both labs keep it"),
        ]
    for field_name, field in adapter.options_model.model_fields.items():
        shown = field.default not in (None, False, ()) and not field.is_required()
        text = (field.description or "") + (f" [{field.default}]" if shown else "")
        text = text[:1].upper() + text[1:]
        described.append((field_name, bool if field.annotation is bool else str | None, text))

    def command(location: str, lab: str | None, source: str | None, dry_run: bool, **options: Any) -> None:
        from labweave import ingest

        if not served:
            lab = lab or load_settings().lab
        options = {key: value for key, value in options.items() if value is not None}
        done = ("parts" if served else "units") + " are in; the same command goes on"
        with (
            open_database(make=not dry_run, waits=True),
            progress_bar(done) as show,
            nullcontext() if served else ended_by_sigterm(),
        ):

            def tell(*told: Any) -> None:
                what, done, failed, total = told if len(told) == 4 else ("ingest", *told)
                show(what, done, failed, total)

            report = ingest.run(name, location, lab=lab, source=source, dry_run=dry_run, progress=tell, **options)
        out.print(str(report))
        raise typer.Exit(report.exit_code)

    only = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("location", only, annotation=Annotated[str, typer.Argument(metavar="LOCATION", help=place)])
    ]
    for option, kind, text in described:
        annotation = Annotated[kind, typer.Option(f"--{option.replace('_', '-')}", help=text)]
        default = False if kind is bool else None
        parameters.append(inspect.Parameter(option, only, default=default, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = f"{adapter.summary}."
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(command)
    return typer.main.get_command(single)

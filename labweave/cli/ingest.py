"""``labweave ingest``: one subcommand per adapter, its options made from the adapter's own."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from labweave.cli.base import Group, open_database, out, progress_bar


class AdapterGroup(Group):
    """Lists the installed adapters; imports one only when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the adapters."""
        from labweave.ingest.registry import adapters

        return list(adapters())

    def get_command(self, ctx: Any, cmd_name: str) -> Any | None:
        """Return the command of an adapter, None where there is none."""
        return _command(cmd_name) if cmd_name in self.list_commands(ctx) else None

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
    parameters = [
        inspect.Parameter(
            "location",
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[
                str, typer.Argument(help="Address of the server" if served else "Folder or file to read")
            ],
        ),
        *_options(
            (
                "lab",
                str | None,
                "Only these labs, with commas" if served else "Lab that the rows belong to; or lab in labweave.toml",
            ),
            ("source", str | None, "Name for the source; without it one is made from the location"),
        ),
        *_options(("dry_run", bool, "Write nothing, list what would change")),
    ]
    for field_name, field in adapter.options_model.model_fields.items():
        shown = field.default not in (None, False, ()) and not field.is_required()
        text = (field.description or "") + (f" [{field.default}]" if shown else "")
        parameters += _options((field_name, bool if field.annotation is bool else str | None, text))

    def command(**values: Any) -> None:
        if not served:
            values["lab"] = values["lab"] or load_settings().lab
        _ingest(name, values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = f"{adapter.summary}."
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(command)
    return typer.main.get_command(single)


def _options(*described: tuple[str, Any, str]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if kind is bool else None,
            annotation=Annotated[kind, typer.Option(f"--{name.replace('_', '-')}", help=text)],
        )
        for name, kind, text in described
    ]


def _ingest(name: str, values: dict[str, Any]) -> None:
    from labweave import ingest

    location = values.pop("location")
    common = {key: values.pop(key) for key in ("lab", "source", "dry_run")}
    options = {key: value for key, value in values.items() if value is not None}
    with open_database(), progress_bar() as show:

        def tell(*where: Any) -> None:
            what, done, failed, total = where if len(where) == 4 else ("ingest", *where)
            show(what, done, failed, total)

        report = ingest.run(name, location, progress=tell, **common, **options)
    out.print(str(report), markup=False)
    raise typer.Exit(report.exit_code)

"""A source comes into labweave.toml: tried first, then written behind what is there, which stays as it is."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from labweave import ingest
from labweave.errors import ConfigError
from labweave.formats.writing import whole_file
from labweave.ingest.base import Service
from labweave.ingest.registry import find_adapter, make_options
from labweave.ingest.report import IngestReport
from labweave.nightly.settings import NightSource, find_mistakes, load_night
from labweave.settings import find_settings_file

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


class Found(NamedTuple):
    """What a source holds.

    Attributes
    ----------
    report : IngestReport
        Of a dry run.
    newest : str
        Its newest file; empty for a server.
    written : datetime or None
        When that was written, on the clock of this machine.
    """

    report: IngestReport
    newest: str = ""
    written: dt.datetime | None = None


def settings_file() -> Path:
    """Return the labweave.toml that sources go into.

    Raises
    ------
    ConfigError
        There is none.
    """
    path = find_settings_file()
    if path is None:
        raise ConfigError("There is no labweave.toml that the source could go into. Make one: labweave init")
    return path


def new_source(values: dict[str, Any]) -> NightSource:
    """Return a source as labweave.toml would have it.

    Raises
    ------
    ConfigError
        One of that name is there, or a value is wrong.
    """
    settings_file()
    load_night()
    if mistakes := find_mistakes(added=values):
        raise ConfigError(f"{mistakes[0].setting.split('.', 2)[-1]}: {mistakes[0].what}")
    return NightSource(**values)


def try_source(source: NightSource) -> Found:
    """Read a source without writing anything, into the database that is open.

    Raises
    ------
    ConfigError, SourceError
        It is not there, nothing in it can be read, or an option is missing.
    """
    lab = source.lab or load_night().lab
    report = ingest.run(source.adapter, source.location, lab=lab, source=source.name, dry_run=True, **source.options)
    cls = find_adapter(source.adapter)
    if issubclass(cls, Service):
        return Found(report)
    reader = cls(Path(source.location).expanduser().resolve(), lab or "", make_options(cls, source.options))
    reader.source = source.name
    times = {path: (reader.root / path).stat().st_mtime for unit in reader.discover() for path in unit.files}
    newest = max(times, key=times.__getitem__, default="")
    return Found(report, newest, dt.datetime.fromtimestamp(times[newest]) if newest else None)


def append(values: dict[str, Any]) -> Path:
    """Write a source behind what labweave.toml has, and return the file.

    Raises
    ------
    ConfigError
        The file says all its sources in one list, which nothing can be written behind.
    """
    path = settings_file()
    text = path.read_bytes().decode()  # with its ends of lines
    text += ("" if text.endswith("\n") else "\n") + as_toml(values)
    try:
        tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        raise ConfigError(
            f"{path} has its sources in one list (sources = […]). Add it there:{as_toml(values)}"
        ) from None
    target = path.resolve()
    with whole_file(target) as half_made:
        half_made.touch(mode=0o600)  # it may hold a password
        half_made.write_bytes(text.encode())
        shutil.copymode(target, half_made)
    return path


def as_toml(values: dict[str, Any]) -> str:
    """Return a source as a table of labweave.toml.

    Examples
    --------
    >>> from labweave.nightly.adding import as_toml
    >>> print(as_toml({"name": "rig1", "adapter": "ephys", "location": "/mnt/rig1"}))
    <BLANKLINE>
    [[sources]]
    name = "rig1"
    adapter = "ephys"
    location = "/mnt/rig1"
    <BLANKLINE>
    """
    lines = [f"{name} = {_value(value)}" for name, value in values.items()]
    return "\n".join(["", "[[sources]]", *lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_value(item)}" for name, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")

"""What a lab says of its nights in labweave.toml: sources, when, backup, alerts; and where a mistake in it is."""

from __future__ import annotations

import datetime as dt
import difflib
import importlib.util
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import platformdirs
from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, Field, SecretStr, ValidationError

from labweave.database.backup.keeping import parse_keep
from labweave.errors import ConfigError
from labweave.settings import Settings, read_values

UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400}
LONGEST = dt.timedelta(days=36500)


def parse_duration(text: Any) -> Any:
    """Return a number with a unit as a duration.

    Examples
    --------
    >>> from labweave.nightly.settings import parse_duration
    >>> parse_duration("30min")
    datetime.timedelta(seconds=1800)
    """
    if isinstance(text, dt.timedelta):
        return text
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)\s*", str(text))
    if not found:
        raise ValueError(f"{text!r} is not a time; write a number with s, min, h or d, for example 30min")
    seconds = float(found[1]) * UNITS_S[found[2]]
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text!r} is longer than {LONGEST.days}d")
    return dt.timedelta(seconds=seconds)


def _check_clock(text: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError(f"{text!r} is not a time of day; write it as 02:00")
    return text


def _check_keep(text: str) -> str:
    try:
        parse_keep(text)
    except ConfigError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return text


Duration = Annotated[dt.timedelta, BeforeValidator(parse_duration)]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class _Table(BaseModel, extra="forbid", validate_default=True):
    pass


class NightSource(_Table):
    """One of ``[[sources]]``.

    Attributes
    ----------
    name : str
        As ``labweave sources`` lists it.
    adapter : str
        As in ``labweave ingest ADAPTER``.
    location : str
        Folder or file; address of a server.
    lab : str or None
        The lab that the rows belong to; without one, ``lab`` of labweave.toml.
    options : dict
        Of the adapter.
    settle : timedelta
        Files that are younger wait for a later night: they may be half copied.
    require_mount : bool
        A location that is absent or empty is a disk that is away, which is no failure.
    expect_every : timedelta or None
        A source that brought nothing new for longer is stale; three times as long is a failure.
    max_vanished : float
        When a larger part of the known files is gone, nothing is marked.
    timeout : timedelta or None
    full_every : timedelta or None
        Of a server: how often everything is read, not only what changed.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    adapter: str
    location: Annotated[str, Field(min_length=1)]
    lab: str | None = None
    options: dict[str, Any] = {}
    settle: Duration = parse_duration("30min")
    require_mount: bool = False
    expect_every: Duration | None = None
    max_vanished: Annotated[float, Field(ge=0, le=1)] = 0.1
    timeout: Duration | None = None
    full_every: Duration | None = None


class When(_Table):
    """The table ``[nightly]``: when a night begins, how long it may take, and where its logs are."""

    at: Annotated[str, AfterValidator(_check_clock)] = "02:00"
    budget: Duration = parse_duration("5h")
    workers: Annotated[int, Field(ge=1)] = 1
    min_free: ByteSize = ByteSize(10 * 10**9)
    log_dir: Folder = Field(default_factory=lambda: platformdirs.user_log_path("labweave"))
    keep_logs: Duration = parse_duration("90d")
    verify_sample: Annotated[int, Field(ge=0)] = 20


class Backup(_Table):
    """The table ``[backup]``: without `to` there is none."""

    to: Folder | None = None
    keep: Annotated[str, AfterValidator(_check_keep)] = "daily=7,weekly=5,monthly=12"
    verify_every: Duration = parse_duration("7d")


Event = Literal["new_failure", "stale", "recovered"]


class Alert(_Table):
    """The table ``[alert]``: who is told, and of what."""

    to: list[SecretStr] = []
    healthchecks: SecretStr = SecretStr("")
    on: list[Event] = ["new_failure", "stale", "recovered"]


class Metrics(_Table):
    """The table ``[metrics]``: a file that a collector of Prometheus reads."""

    textfile: Folder | None = None


class NightSettings(Settings):
    """All of labweave.toml, with what it says of nights."""

    sources: list[NightSource] = Field(default_factory=list)
    nightly: When = When()
    backup: Backup = Backup()
    alert: Alert = Alert()
    metrics: Metrics = Metrics()


class Mistake(NamedTuple):
    """What is wrong in labweave.toml: line, setting, and what is wrong with it or was perhaps meant."""

    line: int | None
    setting: str
    what: str


def load_night() -> NightSettings:
    """Read labweave.toml, with what it says of nights.

    Raises
    ------
    ConfigError
        It has a mistake; ``labweave config check`` lists all of them.
    """
    path, values = read_values()
    if mistakes := find_mistakes():
        first = mistakes[0]
        at = f":{first.line}" if first.line else ""
        more = f" {len(mistakes) - 1} more: labweave config check" if mistakes[1:] else ""
        raise ConfigError(f"{path or 'environment'}{at}: {first.setting}: {first.what}{more}")
    return NightSettings(**values)


def load_for_alerts() -> NightSettings | None:
    """Return who is to be told, although there are mistakes elsewhere; None when there are some in that, too."""
    _, values = read_values()
    try:
        return NightSettings(**{name: values[name] for name in ("database", "nightly", "alert") if name in values})
    except ValidationError:
        return None


def find_mistakes(added: dict[str, Any] | None = None) -> list[Mistake]:
    """Return what is wrong in labweave.toml, of nights and of the rest; or what would be with one more source."""
    path, values = read_values()
    if added:
        values["sources"] = [*values.get("sources", []), added]
    text = path.read_text(encoding="utf-8-sig") if path else ""
    try:
        found = list(_mistakes_of_sources(NightSettings(**values)))
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)
        misspelt = {(*each["loc"][:-1], _meant(each)) for each in errors if each["type"] == "extra_forbidden"}
        found = [(each["loc"], _in_words(each)) for each in errors if each["loc"] not in misspelt]
    return [Mistake(_line_of(text, place), ".".join(map(str, place)), what) for place, what in found]


def _in_words(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing."
    if error["type"] != "extra_forbidden":
        return f"{error['msg'].removeprefix('Value error, ')}."
    if meant := _meant(error):
        return f"not known; did you mean {meant}?"
    return f"not known. Known are: {', '.join(_names_at(error['loc'][:-1]))}."


def _meant(error: Any) -> str | None:
    """Return the setting whose name is most like one that there is not."""
    return next(iter(difflib.get_close_matches(str(error["loc"][-1]), _names_at(error["loc"][:-1]), 1)), None)


def _names_at(place: tuple[int | str, ...]) -> list[str]:
    model: Any = NightSettings
    for part in place:
        if isinstance(part, str):
            kind = model.model_fields[part].annotation
            model = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
    return list(model.model_fields)


def _mistakes_of_sources(night: NightSettings) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Yield what pydantic does not see: adapters and options that there are not, and names that are there twice."""
    from labweave.ingest.base import Service
    from labweave.ingest.registry import adapters, find_adapter, make_options

    names = set[str]()
    if night.alert.to and importlib.util.find_spec("apprise") is None:
        yield ("alert", "to"), "needs a package: pip install 'labweave[nightly]'."
    for at, source in enumerate(night.sources):
        if source.name in names:
            yield ("sources", at, "name"), f"{source.name} is the name of another source, too."
        names.add(source.name)
        if source.adapter not in adapters():
            close = difflib.get_close_matches(source.adapter, adapters(), 1)
            known = f"did you mean {close[0]}?" if close else f"there are: {', '.join(adapters())}."
            yield ("sources", at, "adapter"), f"no adapter is called {source.adapter}; {known}"
            continue
        cls = find_adapter(source.adapter)
        try:
            make_options(cls, source.options)
        except ConfigError as error:
            yield ("sources", at, "options"), str(error)
        if source.lab is None and night.lab is None and not issubclass(cls, Service):
            yield ("sources", at), 'no lab; say lab = "…" here, or at the beginning of the file.'


def _line_of(text: str, place: tuple[int | str, ...]) -> int | None:
    """Return the number of the line where a setting is, or where its table begins."""
    table, index, name = str(place[0]), 0, ""
    for part in place[1:]:
        if isinstance(part, int) and not name:
            index = part
        elif isinstance(part, str) and not name:
            name = part
    begin, at = None, -1
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            if begin is not None:
                break
            if header[1].split(".")[0] == table:
                at += 1
                begin = number if at == index else None
        elif begin is not None and name and re.match(rf"\s*\"?{re.escape(name)}\"?\s*[=.]", line):
            return number
    return begin

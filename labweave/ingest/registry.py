"""Which adapters there are, labweave's own and those of other packages, by entry point; and their options."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from labweave.errors import ConfigError

if TYPE_CHECKING:
    from labweave.ingest.base import Adapter, Service

GROUP = "labweave.adapters"

SUMMARIES = {
    "alf": "ALF sessions: folders subject/date/number, with or without lab/Subjects, or ONE cache tables",
    "alyx": "An Alyx server over REST: subjects, sessions, datasets and what belongs to them",
    "axopy": "AxoPy experiments: a data root (subject/task/trials.csv and array files), or a zip archive of one",
    "ephys": "Patch-clamp recordings: labweave .h5, NWB, Axon .abf, Igor .ibw, MATLAB .mat and LCCR .txt, "
    "by folder or mapping (JSON, YAML, CSV)",
    "onedata": "onedata sessions of vrAnalysis: a data root of mouse/date/id/oneData, or a folder below it",
    "stytra": "Stytra sessions: a folder tree with <HHMMSS>_metadata.json and logs, or journals after a crash",
}
"""The summaries of labweave's own adapters, which take a second to import."""


def adapters() -> dict[str, EntryPoint]:
    """Return the entry points of every installed adapter, by name; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def find_adapter(name: str) -> type[Adapter] | type[Service]:
    """Return an adapter class by its name.

    Raises
    ------
    ConfigError
        No installed package has an adapter of that name, or it can't be imported.
    """
    known = adapters()
    if name not in known:
        raise ConfigError(f"No adapter is called {name!r}. Installed: {', '.join(known) or 'none'}.")
    try:
        return known[name].load()
    except ImportError as error:
        raise ConfigError(f"The adapter {name!r} ({known[name].value}) can't be imported: {error}.") from error


def summary_of(name: str) -> str:
    """Return the summary of an adapter; one of another package is imported for it."""
    return SUMMARIES[name] if name in SUMMARIES else find_adapter(name).summary


def make_options(cls: type[Adapter] | type[Service], options: Mapping[str, Any]) -> Any:
    """Return options as the adapter's model has them.

    Raises
    ------
    ConfigError
        The adapter has no such option, or it has another value than it may have.
    """
    try:
        return cls.options_model(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        found, option = first["msg"].removeprefix("Value error, "), ".".join(map(str, first["loc"]))
        if option in cls.options_model.model_fields:
            raise ConfigError(f"Option {option} of the adapter {cls.name} is {first['input']!r}: {found}.") from None
        raise ConfigError(
            f"Option {option} of the adapter {cls.name}: {found}. "
            f"Its options: {', '.join(cls.options_model.model_fields) or 'none'}."
        ) from None

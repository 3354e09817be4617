"""Which adapters there are: labweave's own, and those of other packages, by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from labweave.errors import ConfigError
from labweave.ingest.base import Adapter, Service

GROUP = "labweave.adapters"


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

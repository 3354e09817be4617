"""How data gets in: one adapter per source, one base, one registry."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labweave.ingest.base import Adapter, Row, Service, Unit, make_uuid
    from labweave.ingest.forgetting import forget
    from labweave.ingest.loading import run
    from labweave.ingest.registry import adapters, find_adapter
    from labweave.ingest.report import IngestReport
    from labweave.ingest.sessions import Subjects

_MODULES = {"IngestReport": "report", "Subjects": "sessions", "adapters": "registry", "find_adapter": "registry"}
_MODULES |= {"run": "loading", "forget": "forgetting"}

__all__ = [
    "Adapter",
    "IngestReport",
    "Row",
    "Service",
    "Subjects",
    "Unit",
    "adapters",
    "find_adapter",
    "forget",
    "make_uuid",
    "run",
]


def __getattr__(name: str) -> Any:
    """Load a module when a name of it is first asked for: every connection imports `labweave.ingest.alyx.tables`."""
    if name not in __all__:
        raise AttributeError(f"module 'labweave.ingest' has no attribute {name!r}")
    return getattr(import_module(f"labweave.ingest.{_MODULES.get(name, 'base')}"), name)

"""How data gets in: one adapter per source, one base, one registry."""

from labweave.ingest.base import Adapter, Row, Service, Unit, make_uuid
from labweave.ingest.registry import adapters, find_adapter
from labweave.ingest.report import IngestReport
from labweave.ingest.run import run
from labweave.ingest.sessions import Subjects

__all__ = [
    "Adapter",
    "IngestReport",
    "Row",
    "Service",
    "Subjects",
    "Unit",
    "adapters",
    "find_adapter",
    "make_uuid",
    "run",
]

"""How data gets in: one adapter per source, one base, one registry."""

from labweave.ingest.base import Adapter, Row, Service, Unit
from labweave.ingest.registry import adapters, find_adapter
from labweave.ingest.report import IngestReport
from labweave.ingest.run import run

__all__ = ["Adapter", "IngestReport", "Row", "Service", "Unit", "adapters", "find_adapter", "run"]

"""PostgreSQL in a folder, started on demand and shared by processes; it knows nothing of labweave but its errors."""

from labweave.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]

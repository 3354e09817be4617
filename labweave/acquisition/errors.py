"""What the collectors raise on purpose; each is also the builtin error that Stytra's raise in the same place."""

from __future__ import annotations

from labweave.errors import ConfigError, LabweaveError, SourceError


class AcquisitionError(LabweaveError):
    """Data or arguments that a collector can't use."""


class RefusedValue(AcquisitionError, ValueError):
    """An argument or field name that can't be used."""


class RefusedType(AcquisitionError, TypeError):
    """An item, time or entry of a type that can't be used."""


class NoSuchRow(AcquisitionError, IndexError):
    """No row at or before the time that is asked for."""


class MissingPath(SourceError, FileNotFoundError):
    """A folder or file name that is missing."""


class QtMissing(ConfigError, ImportError):
    """PyQt5 is not installed."""

"""What labweave raises on purpose.

::

    LabweaveError
    ├── ConfigError            a setting, option or URL that can't be used; a missing extra
    ├── DatabaseError          the database can't be reached, refuses, or is in the wrong state
    │   ├── ServerUnavailable  nothing answers at the address
    │   ├── AccessDenied       wrong user or password, or a right is missing
    │   ├── VersionError       made by a newer labweave, or not upgraded yet
    │   └── RowError           a row the database refuses: table, key and column named
    ├── SourceError            a file or a location of a source
    │   └── PlaceError         what is wrong at one place, a file or an address
    │       └── ReadError      a file that can't be read: truncated, foreign, unit-less
    ├── SchemaError            code and database disagree, unknown table or attribute
    └── ComputeError           a result that can't be computed from sound input

A message has three parts: what was being done and to which file or row, what was
found, what to do next.
"""

from __future__ import annotations


class LabweaveError(Exception):
    """Root of everything labweave raises on purpose."""


class ConfigError(LabweaveError):
    """A setting, option or URL that can't be used, or an extra that is not installed."""


class DatabaseError(LabweaveError):
    """The database can't be reached, refuses, or is in the wrong state."""


class ServerUnavailable(DatabaseError):
    """Nothing answers at the address."""


class AccessDenied(DatabaseError):
    """Wrong user or password, or a right is missing."""


class VersionError(DatabaseError):
    """The database was made by a newer labweave, or has not been upgraded yet."""


class RowError(DatabaseError):
    """A row that the database refuses; the message names table, key and column."""


class SourceError(LabweaveError):
    """A file or location of a source that can't be used."""


class OptionMissing(SourceError):
    """What neither the files nor an option say, for example whose cell it is.

    Parameters
    ----------
    message : str
    option : str
        The one that would say it, for example ``--subject``.
    """

    def __init__(self, message: str, option: str):
        self.option = option
        super().__init__(message)

    def __reduce__(self):
        return type(self), (str(self), self.option)


class PlaceError(SourceError):
    """What is wrong at one place, a file or an address.

    Parameters
    ----------
    where : str or Path
        The file, or the address without credentials.
    found : str
        What was found in it, or answered.
    advice : str
        What to do about it.
    status : int, optional
        Of a server's answer.
    """

    def __init__(self, where, found: str, advice: str, status: int | None = None):
        self.where, self.found, self.advice, self.status = str(where), found, advice, status
        super().__init__(f"{where}: {found}. {advice}")

    def __reduce__(self):
        return type(self), (self.where, self.found, self.advice, self.status)


class ReadError(PlaceError):
    """A file that can't be read: missing, truncated, foreign or without units."""

    @property
    def path(self) -> str:
        """The file."""
        return self.where


class FileMissing(ReadError, FileNotFoundError):
    """A file that is not there."""


class SchemaError(LabweaveError):
    """Code and database disagree, or a table or attribute is not known."""


class ComputeError(LabweaveError):
    """A result that can't be computed from sound input."""

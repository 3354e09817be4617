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
    │   ├── ReadError          a file that can't be read: truncated, foreign, unit-less
    │   └── AnswerError        a server's answer that can't be used, or none
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


class ReadError(SourceError):
    """A file that can't be read: missing, truncated, foreign or without units.

    Parameters
    ----------
    path : str or Path
        The file.
    found : str
        What was found in it.
    advice : str
        What to do about it.
    """

    def __init__(self, path, found: str, advice: str):
        self.path, self.found, self.advice = str(path), found, advice
        super().__init__(f"{path}: {found}. {advice}")

    def __reduce__(self):
        return type(self), (self.path, self.found, self.advice)


class FileMissing(ReadError, FileNotFoundError):
    """A file that is not there."""


class AnswerError(SourceError):
    """An answer of a server that can't be used, or that did not come.

    Parameters
    ----------
    where : str
        Address, without credentials.
    found : str
        What was answered.
    advice : str
        What to do about it.
    status : int, optional
        Of the answer.
    """

    def __init__(self, where: str, found: str, advice: str, status: int | None = None):
        self.where, self.found, self.advice, self.status = where, found, advice, status
        super().__init__(f"{where}: {found}. {advice}")

    def __reduce__(self):
        return type(self), (self.where, self.found, self.advice, self.status)


class SchemaError(LabweaveError):
    """Code and database disagree, or a table or attribute is not known."""


class ComputeError(LabweaveError):
    """A result that can't be computed from sound input."""

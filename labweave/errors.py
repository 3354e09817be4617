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
    │   ├── Clash              a unit that does not go with rows of others
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


def text_of(error: BaseException) -> str:
    """Return what an error says, as a person reads it.

    Drivers and DataJoint put several things into one error, which Python shows as a tuple; the system leaves out what
    it was about.

    Examples
    --------
    >>> from labweave.errors import text_of
    >>> text_of(RuntimeError(1045, "Access denied for user 'bob'"))
    "Access denied for user 'bob' (error 1045)"
    """
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    if len(error.args) < 2 or type(error).__str__ not in (BaseException.__str__, OSError.__str__):
        return str(error) or type(error).__name__
    parts = dict.fromkeys(str(part).strip() for part in error.args if isinstance(part, (str, BaseException)) and part)
    code = error.args[0] if isinstance(error.args[0], int) else None
    return " ".join(parts) + (f" (error {code})" if code is not None else "")


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


class Clash(SourceError):
    """A unit that does not go with what the database holds of others; it may when these are written, or gone.

    Parameters
    ----------
    message : str
    others : iterable of str, optional
        The units of the same source that it does not go with; none when the row is a person's.
    units : mapping, optional
        Unit -> its own error, where several were written together.
    """

    def __init__(self, message: str, others=(), units=None):
        self.others, self.units = frozenset(others), dict(units or {})
        super().__init__(message)

    def __reduce__(self):
        return type(self), (str(self), self.others, self.units)


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

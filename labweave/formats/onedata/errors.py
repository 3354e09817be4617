"""What can go wrong with onedata: each error is also the class that vrAnalysis raises there."""

from __future__ import annotations

from typing import ClassVar

from labweave.errors import ReadError, SourceError


class NotSaved(SourceError, ValueError):
    """No variable of that name and form is saved in the session."""


class NotRegistered(SourceError, ValueError):
    """A session folder without the files that its registration writes."""


class BadFile(ReadError, ValueError):
    """An array file that is cut off, empty or no array file."""


class UnsafeFile(ReadError, ValueError):
    """A file with Python objects that only unpickling could make."""


class RecipeError(SourceError):
    """A recipe that can't be followed.

    Attributes
    ----------
    state : str
        As in the table ``RecipeCheck``: ``missing_source``, ``unknown_loader``, ``unknown_transform``, ``refused``
        or ``failed``.
    """

    state: ClassVar[str] = "failed"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UnknownLoader(RecipeError, KeyError, NotImplementedError):
    """A recipe whose loader the session does not have."""

    state = "unknown_loader"


class UnknownTransform(RecipeError, KeyError, NotImplementedError):
    """A recipe with a transform that the session does not have."""

    state = "unknown_transform"


class RecipeRefused(RecipeError, ValueError):
    """A recipe that would leave its session's folder, go in a circle, or is no plain data."""

    state = "refused"


class SourceNotAvailable(RecipeError, AssertionError):
    """A suite2p variable that the session says it doesn't have."""

    state = "missing_source"

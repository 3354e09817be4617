"""Errors of ALF names, files and searches.

::

    ALFError                            (LabweaveError)
    ├── ALFObjectNotFound
    │   └── ReferenceNotFound           (AssertionError)
    ├── ALFMultipleObjectsFound
    │   └── ALFAmbiguousAttributes      (AssertionError)
    ├── ALFMultipleCollectionsFound
    ├── ALFMultipleRevisionsFound
    ├── AlyxSubjectNotFound
    ├── ALFInvalid                      (ValueError)
    ├── ALFNotTabular                   (ValueError)
    └── ALFKeysDiffer                   (NotImplementedError)

Where ONE-api is installed, each class is also a subclass of the one with its name in ``one.alf.exceptions``, so that
code which catches those catches these.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from labweave.errors import LabweaveError

_one: Any = None
with suppress(ImportError):
    from one.alf import exceptions as _one


def _peer(name: str, otherwise: type = Exception) -> Any:
    """Return ONE-api's class of this name."""
    return getattr(_one, name, otherwise)


class ALFError(LabweaveError, _peer("ALFError")):
    """Root of the ALF errors.

    Parameters
    ----------
    *args : object
        The message. Several values, or one that is not text, are listed in quotes.
    terse : bool, default: False
        Leave out the advice of the class.
    """

    explanation = ""

    def __init__(self, *args: object, terse: bool = False):
        Exception.__init__(self, *args)
        self.terse = terse
        self.message = args[0] if len(args) == 1 and isinstance(args[0], str) else ", ".join(f'"{arg}"' for arg in args)

    def __str__(self):
        return self.message if self.terse else " ".join(filter(None, (self.message, self.explanation)))


class ALFObjectNotFound(ALFError, _peer("ALFObjectNotFound")):
    """No dataset or object fits the question."""

    explanation = "The name without its namespace is the object: that of _ibl_trials.intervals.npy is trials."


class ReferenceNotFound(ALFObjectNotFound, AssertionError):
    """No session has this reference. ONE-api raises an AssertionError here, so this is one as well."""

    explanation = ""


class ALFMultipleObjectsFound(ALFError, _peer("ALFMultipleObjectsFound")):
    """Datasets of several objects, or several datasets, fit where one is expected."""

    explanation = "Give the whole name, or the object, namespace or attribute of the one that is meant."


class ALFAmbiguousAttributes(ALFMultipleObjectsFound, AssertionError):
    """Two files of an object have the same attribute. ONE-api raises an AssertionError here, so this is one as well."""

    explanation = "Give the namespace, timescale, extra parts or extension of the ones that are meant."


class ALFMultipleCollectionsFound(ALFError, _peer("ALFMultipleCollectionsFound")):
    """The datasets that fit lie in several collections."""

    explanation = "Give the collection: the folders between the session and the file, such as alf/probe01."


class ALFMultipleRevisionsFound(ALFError, _peer("ALFMultipleRevisionsFound")):
    """Several revisions fit, and none or more than one is the default."""

    explanation = "Give the revision."


class AlyxSubjectNotFound(ALFError, _peer("AlyxSubjectNotFound")):
    """The subject is not in the database."""

    explanation = "The subject is not in the database."


class ALFInvalid(ALFError, _peer("ALFInvalid", ValueError)):
    """A name or path does not follow ALF."""

    explanation = (
        "ALF paths have the form lab/Subjects/subject/2020-01-31/001/collection/#revision#/"
        "_namespace_object.attribute_timescale.extra.extension; all before the object, the timescale and the extra "
        "parts may be absent."
    )


class ALFNotTabular(ALFError, ValueError):
    """The attributes of an object can't be columns of one table: their lengths differ, or they are no arrays."""


class ALFKeysDiffer(ALFError, NotImplementedError):
    """Bunches with different attributes can't be joined."""


class ALFWarning(_peer("ALFWarning", Warning)):
    """The data that were loaded may not be the data that were meant."""

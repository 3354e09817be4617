"""Paths that know their ALF parts: those of ONE-api where it is installed, else the same properties here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import UUID

from labweave.formats.alf import names
from labweave.formats.alf.exceptions import ALFInvalid


class OwnPath(type(Path())):
    """A path whose ALF parts are properties; "" for what is absent."""

    def parse_alf_path(self, as_dict: bool = True) -> dict[str, str | None] | tuple[str | None, ...]:
        """Return all parts of the path, None for absent ones."""
        parts = names.parse_path(self) or names.Parts()
        return parts._asdict() if as_dict else tuple(parts)

    def parse_alf_name(self, as_dict: bool = True) -> dict[str, str | None] | tuple[str | None, ...]:
        """Return the parts of the file name, None for absent ones."""
        parts = names.parse_name(self.name) or names.Parts()
        return dict(list(parts._asdict().items())[6:]) if as_dict else tuple(parts[6:])

    @property
    def session_parts(self) -> tuple[str, ...]:
        """Lab, subject, date and number."""
        return tuple(part or "" for part in names.parse_session(self) or ("",) * 4)

    @property
    def dataset_name_parts(self) -> tuple[str, ...]:
        """Namespace, object, attribute, timescale, extra and extension."""
        return tuple(part or "" for part in self.parse_alf_name(as_dict=False))

    @property
    def alf_parts(self) -> tuple[str, ...]:
        """All parts, from lab to extension."""
        return tuple(part or "" for part in self.parse_alf_path(as_dict=False))

    @property
    def lab(self) -> str:
        """Lab."""
        return self.session_parts[0]

    @property
    def subject(self) -> str:
        """Subject."""
        return self.session_parts[1]

    @property
    def date(self) -> str:
        """Date, as 2020-01-31."""
        return self.session_parts[2]

    @property
    def sequence(self) -> str:
        """Number of the session on its day, as it is in the path."""
        return self.session_parts[3]

    @property
    def collection(self) -> str:
        """Folders between session and file, without the revision."""
        return self.alf_parts[4]

    @property
    def revision(self) -> str:
        """Revision, without #."""
        return self.alf_parts[5]

    @property
    def namespace(self) -> str:
        """Namespace, without underscores."""
        return self.dataset_name_parts[0]

    @property
    def object(self) -> str:
        """Object."""
        return self.dataset_name_parts[1]

    @property
    def attribute(self) -> str:
        """Attribute."""
        return self.dataset_name_parts[2]

    @property
    def timescale(self) -> str:
        """Timescale."""
        return self.dataset_name_parts[3]

    @property
    def extra(self) -> str:
        """Extra parts, with dots."""
        return self.dataset_name_parts[4]

    def is_dataset(self) -> bool:
        """Say whether the name is that of a dataset and no folder is there."""
        return names.is_valid(self.name) and not self.is_dir()

    def is_session_path(self) -> bool:
        """Say whether the path ends in subject, date and number and no file is there."""
        return names.is_session_path(self) and not self.is_file()

    def is_valid_alf(self) -> bool:
        """Say whether the path is that of a dataset, of a session, or of a folder in a session."""
        return names.parse_path(self) is not None

    def session_path(self) -> OwnPath | None:
        """Return the path up to the session's number, or None."""
        return names.session_path(self)

    def session_path_short(self, include_lab: bool = False) -> str | None:
        """Return subject/date/number, or lab/subject/date/number, or None."""
        return "/".join(filter(None, self.session_parts[0 if include_lab else 1 :])) or None

    def relative_to_session(self) -> OwnPath:
        """Return the path below the session.

        Raises
        ------
        ALFInvalid
            There is no session in the path.
        """
        below = names.without_session(self)
        if below is None:
            raise ALFInvalid(f"{self} has no subject/date/number.")
        return type(self)(below)

    def with_padded_sequence(self) -> OwnPath:
        """Return the path with its session's number in three digits."""
        return names.padded_sequence(self)

    def without_revision(self) -> OwnPath:
        """Return the path without its #revision# folder."""
        return names.without_revision(self)

    def with_uuid(self, uuid: str | UUID) -> OwnPath:
        """Return the path with a UUID before the extension."""
        return names.with_uuid(self, uuid)

    def without_uuid(self) -> OwnPath:
        """Return the path without a UUID before the extension."""
        return names.without_uuid(self)

    def iter_datasets(self, recursive: bool = False) -> Iterator[OwnPath]:
        """Yield the datasets in this folder, sorted; with those in folders below it if `recursive`."""
        for path in sorted(self.rglob("*.*.*") if recursive else self.glob("*.*.*")):
            if path.is_dataset():
                yield path


@cache
def path_class() -> type:
    """Return ``one.alf.path.ALFPath`` if it can be imported, else `OwnPath`; ONE-api is imported at the first call."""
    try:
        from one.alf.path import ALFPath
    except ImportError:
        return OwnPath
    return ALFPath


def alf_path(*parts: str | PathLike[str]) -> Any:
    """Return a path as ALFPath, the class that `path_class` gives.

    It has the properties lab, subject, date, sequence, collection, revision, namespace, object, attribute, timescale
    and extra.
    """
    return path_class()(*parts)


def paths_below(root: str | PathLike[str], folders: Sequence[str | None]) -> list[Any]:
    """Return ``alf_path(root, folder)`` for each folder, None for None."""
    start = alf_path(root)
    text = "/".join(["", *(folder for folder in folders if folder is not None), ""])
    if sys.version_info >= (3, 12) or os.name != "posix" or "//" in text or "/./" in text:
        return [None if folder is None else start / folder for folder in folders]
    # Until Python 3.12 a path is parsed when it is made, which takes longer than to find the session.
    make, parts = type(start)._from_parsed_parts, start._parts
    return [None if folder is None else make(start._drv, start._root, parts + folder.split("/")) for folder in folders]

"""Paths that know their ALF parts: those of ONE-api where it is installed, else a class of the same names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from labweave.formats.alf import names
from labweave.formats.alf.exceptions import ALFInvalid


def _part(group: str, place: int) -> Any:
    """Return a property that is one item of another property."""
    return property(lambda path: getattr(path, group)[place])


class OwnPath(type(Path())):
    """A path whose ALF parts are properties; a missing part is "".

    The methods and properties are those of ``one.alf.path.ALFPath``.
    """

    def parse_alf_path(self, as_dict: bool = True) -> dict[str, str | None] | tuple[str | None, ...]:
        """Return all parts of the path, None for missing ones."""
        parts = names.parse_path(self) or names.Parts()
        return parts._asdict() if as_dict else tuple(parts)

    def parse_alf_name(self, as_dict: bool = True) -> dict[str, str | None] | tuple[str | None, ...]:
        """Return the parts of the file name, None for missing ones."""
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

    lab = _part("session_parts", 0)
    subject = _part("session_parts", 1)
    date = _part("session_parts", 2)
    sequence = _part("session_parts", 3)
    collection = _part("alf_parts", 4)
    revision = _part("alf_parts", 5)
    namespace = _part("dataset_name_parts", 0)
    object = _part("dataset_name_parts", 1)
    attribute = _part("dataset_name_parts", 2)
    timescale = _part("dataset_name_parts", 3)
    extra = _part("dataset_name_parts", 4)

    # Functions of paths, as methods.
    session_path = names.session_path
    with_padded_sequence = names.padded_sequence
    without_revision = names.without_revision
    with_uuid = names.with_uuid
    without_uuid = names.without_uuid

    def is_dataset(self) -> bool:
        """Say whether the name is that of a dataset, and no folder has it."""
        return names.is_valid(self.name) and not self.is_dir()

    def is_session_path(self) -> bool:
        """Say whether the path ends in subject, date and number, and no file is there."""
        return names.is_session_path(self) and not self.is_file()

    def is_valid_alf(self) -> bool:
        """Say whether the path is that of a dataset, of a session, or of a folder in a session."""
        return names.parse_path(self) is not None

    def session_path_short(self, include_lab: bool = False) -> str | None:
        """Return subject/date/number, or lab/subject/date/number, or None."""
        return "/".join(filter(None, self.session_parts[0 if include_lab else 1 :])) or None

    def relative_to_session(self) -> OwnPath:
        """Return the path below the session; ALFInvalid when it has none."""
        below = names.without_session(self)
        if below is None:
            raise ALFInvalid(f"{self} has no subject/date/number.")
        return type(self)(below)

    def iter_datasets(self, recursive: bool = False) -> Iterator[OwnPath]:
        """Yield the datasets in this folder, sorted; with `recursive` also those in the folders below."""
        return (path for path in sorted(self.rglob("*.*.*") if recursive else self.glob("*.*.*")) if path.is_dataset())


@cache
def path_class() -> type:
    """Return ``one.alf.path.ALFPath`` if it can be imported, else `OwnPath`; the first call imports ONE-api."""
    try:
        from one.alf.path import ALFPath
    except ImportError:
        return OwnPath
    return ALFPath


def alf_path(*parts: str | PathLike[str]) -> Any:
    """Return a path whose ALF parts are properties.

    These are lab, subject, date, sequence, collection, revision, namespace, object, attribute, timescale and extra.

    Examples
    --------
    >>> from labweave.formats.alf import alf_path
    >>> path = alf_path("/data/smithlab/Subjects/M12/2020-01-31/001", "alf/spikes.times.npy")
    >>> path.subject, path.collection, path.object, path.attribute
    ('M12', 'alf', 'spikes', 'times')
    """
    return path_class()(*parts)

"""Folders of ALF files: what is in them, found by their parts, and walked in order without holding much."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from labweave.formats.alf.exceptions import ALFInvalid, ALFObjectNotFound
from labweave.formats.alf.names import Parts, is_session_path, is_valid, parse_name, parse_path, without_revision
from labweave.formats.alf.path import alf_path, path_class

_log = logging.getLogger(__name__)

NAME_PARTS = Parts._fields[6:]
"""What files can be chosen by."""


def filter_by(alf_path: str | PurePath, wildcards: bool = True, **parts: Any) -> tuple[list[Any], list[tuple]]:
    """Return the ALF files of a folder that fit all of the given parts.

    Parameters
    ----------
    alf_path : str or Path
        The folder; one that is missing has no files.
    wildcards : bool, default: True
        Parts are shell patterns; else regular expressions that fit the beginning of the part.
    **parts : str, list of str or None
        namespace, object, attribute, timescale, extra, extension. None or "" stand for absent; one of a list is
        enough. Of ``extra`` all elements must be there, in any order, without patterns.

    Returns
    -------
    files : list of ALFPath
        Names, sorted.
    parts : list of tuple
        Namespace, object, attribute, timescale, extra and extension of each, None where absent.

    Raises
    ------
    TypeError
        A keyword that is no part.
    ALFInvalid
        A pattern that is no regular expression.
    """
    found = choose(dataset_names(alf_path), wildcards, **parts)
    make = path_class()
    return [make(name) for name, _ in found], [tuple(each[6:]) for _, each in found]


def exists(
    alfpath: str | PurePath, object: str | list[str], attributes: str | list[str] | None = None, **parts: Any
) -> bool:
    """Say whether an object is in a folder, with all of the given attributes; parts as in `filter_by`."""
    found = {each[2] for each in filter_by(alfpath, object=object, **parts)[1]}
    wanted = {attributes} if isinstance(attributes, str) else set(attributes or ())
    return bool(found) and wanted <= found


def choose(names: Iterable[str], wildcards: bool = True, **parts: Any) -> list[tuple[str, Parts]]:
    """Return those of the file names that are ALF and fit all of the given parts, as in `filter_by`."""
    if unknown := set(parts) - set(NAME_PARTS):
        raise TypeError(f"{sorted(unknown)[0]!r} is no part of an ALF name; those are {', '.join(NAME_PARTS)}.")
    wanted = [
        (part, value.split(".") if part == "extra" and isinstance(value, str) else value)
        for part, value in parts.items()
    ]
    found = ((name, each) for name in names if (each := parse_name(name)))
    return [
        (name, each)
        for name, each in found
        if all(_fits(part, getattr(each, part), value, wildcards) for part, value in wanted)
    ]


def dataset_names(folder: str | PurePath) -> list[str]:
    """Return the names of the ALF files in a folder, sorted; none if it is missing."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if is_valid(entry.name) and not entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def iter_sessions(root_dir: str | PurePath, pattern: str = "*") -> Iterator[Any]:
    """Yield the session folders in a folder, sorted by their path.

    What is inside of a session is not looked at, links to folders are not followed, and only one folder per level is
    held. A folder that may not be read is named in the log.

    Parameters
    ----------
    root_dir : str or Path
        A session folder is yielded itself.
    pattern : str, default: "*"
        Shell pattern that the end of the path must fit, as ``*/Subjects/*/????-??-??/*``.
    """
    root = os.fspath(root_dir)
    make = path_class()
    if is_session_path(Path(root)):
        if Path(root).is_dir():
            yield make(root)
        return
    for folder in _session_folders(root):
        if pattern == "*" or PurePath(folder).relative_to(root).match(pattern):
            yield make(folder)


def iter_datasets(session_path: str | PurePath) -> Iterator[Any]:
    """Yield the ALF files of a session as ALFPath below it, sorted by their path."""
    make = path_class()
    for rel_path, entry in iter_files(session_path):
        if is_valid(entry.name):
            yield make(rel_path)


def iter_files(session_path: str | PurePath) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all files of a session: their path below it with ``/``, and their entry, sorted by their path.

    Links to folders are not followed.
    """
    yield from _files(os.fspath(session_path), "")


def find_variants(
    file_list: Iterable[str | PurePath],
    namespace: bool = True,
    timescale: bool = True,
    extra: bool = True,
    extension: bool = True,
) -> dict[Any, list[Any]]:
    """Return, for each file, the others on disk that hold the same dataset in another form.

    These have the same folder (without revision), object and attribute.

    Parameters
    ----------
    file_list : iterable of str or Path
        Datasets.
    namespace, timescale, extra, extension : bool, default: True
        Whether variants have this part in common, too.

    Raises
    ------
    ALFInvalid
        A path is not that of a dataset.
    """
    given = {"namespace": namespace, "timescale": timescale, "extra": extra, "extension": extension}
    same = ["object", "attribute", *(part for part, wanted in given.items() if wanted)]
    variants = {}
    for file in map(alf_path, file_list):
        own = parse_path(file)
        if own is None or own.object is None:
            raise ALFInvalid(f"{file} is not the path of an ALF dataset.")
        folder = without_revision(file).parent
        folders = [folder, *(path for path in sorted(folder.glob("#*#")) if path.is_dir())]
        variants[file] = [
            path
            for path in (each / name for each in folders for name in dataset_names(each))
            if path != file
            and (other := parse_name(path.name))
            and all(getattr(own, part) == getattr(other, part) for part in same)
        ]
    return variants


def object_files(alfpath: str | PurePath, object: Any = None, **parts: Any) -> tuple[Path, list[tuple[str, Parts]]]:
    """Return the folder and the files in it of one object, which a folder and its name or one of its files give.

    Raises
    ------
    ALFObjectNotFound
        There are none.
    ALFInvalid
        A folder without the name of the object.
    """
    folder = Path(alfpath)
    if folder.is_dir():
        if object is None:
            raise ALFInvalid(f"{folder} is a folder: give the name of the object as well.", terse=True)
    else:
        own = parse_name(folder.name) if folder.exists() else None
        folder, object = folder.parent, own and own.object
    found = choose(dataset_names(folder), object=object, **parts) if object else []
    if not found:
        said = f"files of object {object!r}" if object else "ALF files"
        raise ALFObjectNotFound(f"No {said} were found at {alfpath}.", terse=True)
    return folder, found


def _fits(part: str, value: str | None, wanted: Any, wildcards: bool) -> bool:
    """Say whether a part has the value that is wanted."""
    if not wanted:
        return value is None
    if part == "extra":
        return value is not None and {element for element in wanted if element} <= set(value.split("."))
    if not isinstance(wanted, str):
        return any(_fits(part, value, each, wildcards) for each in wanted)
    if value is None:
        return False
    if wildcards:
        return fnmatchcase(value, wanted)
    try:
        return re.match(wanted, value) is not None
    except re.error as error:
        raise ALFInvalid(f"{wanted!r} is no regular expression for the {part}: {error}.", terse=True) from None


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        _log.warning("%s can't be listed: %s", folder, error.strerror or error)
        return []


def _session_folders(folder: str) -> Iterator[str]:
    for entry in _entries(folder):
        if not entry.is_dir():
            continue
        # A session's number is the cheap part of the test.
        if entry.name.isdigit() and is_session_path(Path(entry.path)):
            yield entry.path
        elif not entry.is_symlink():
            yield from _session_folders(entry.path)


def _files(folder: str, above: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    for entry in _entries(folder):
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _files(entry.path, f"{above}{entry.name}/")
        else:
            yield above + entry.name, entry

"""Folders of ALF files: find files by the parts of their names, and walk folders in order with little memory."""

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
"""The parts by which files are chosen."""


def filter_by(alf_path: str | PurePath, wildcards: bool = True, **parts: Any) -> tuple[list[Any], list[tuple]]:
    """Return the ALF files of a folder that fit all of the given parts.

    Parameters
    ----------
    alf_path : str or Path
        The folder; a missing one has no files.
    wildcards : bool, default: True
        The parts are shell patterns, else regular expressions that fit the beginning of a part.
    **parts : str, list of str or None
        namespace, object, attribute, timescale, extra, extension. None or "" means that the name lacks the part; one
        value of a list must fit. ``extra`` takes no patterns: the name must have all its elements, in any order.

    Returns
    -------
    files : list of ALFPath
        Names, sorted.
    parts : list of tuple
        Namespace, object, attribute, timescale, extra and extension of each, None for missing ones.

    Raises
    ------
    TypeError
        A keyword that is no part.
    ALFInvalid
        A pattern is not a regular expression.

    Examples
    --------
    >>> from labweave.formats.alf import filter_by, save_object_npy
    >>> _ = save_object_npy("alf", {"times": np.arange(3.0), "clusters": np.zeros(3)}, "spikes")
    >>> files, parts = filter_by("alf", object="spikes", attribute="t*")
    >>> [str(file) for file in files], parts[0][2]
    (['spikes.times.npy'], 'times')
    """
    found = choose(dataset_names(alf_path), wildcards, **parts)
    make = path_class()
    return [make(name) for name, _ in found], [tuple(each[6:]) for _, each in found]


def exists(
    alfpath: str | PurePath, object: str | list[str], attributes: str | list[str] | None = None, **parts: Any
) -> bool:
    """Say whether a folder has an object with all of the given attributes; the other parts are those of `filter_by`."""
    found = {each[2] for each in filter_by(alfpath, object=object, **parts)[1]}
    wanted = {attributes} if isinstance(attributes, str) else set(attributes or ())
    return bool(found) and wanted <= found


def choose(names: Iterable[str], wildcards: bool = True, **parts: Any) -> list[tuple[str, Parts]]:
    """Return the file names, with their parts, that are ALF names and fit the given parts as in `filter_by`."""
    if unknown := set(parts) - set(NAME_PARTS):
        raise TypeError(f"{sorted(unknown)[0]!r} is no part of an ALF name; those are {', '.join(NAME_PARTS)}.")
    wanted = [
        (part, value.split(".") if part == "extra" and isinstance(value, str) else value)
        for part, value in parts.items()
    ]
    return [
        (name, own)
        for name in names
        if (own := parse_name(name))
        and all(_fits(part, getattr(own, part), value, wildcards) for part, value in wanted)
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

    It does not look into sessions or follow links to folders, and holds the entries of one folder per level only. The
    log names folders that can't be read.

    Parameters
    ----------
    root_dir : str or Path
        If it is a session folder, it is the one that is yielded.
    pattern : str, default: "*"
        Shell pattern that the end of the path must fit, for example ``*/Subjects/*/????-??-??/*``.

    Examples
    --------
    >>> from labweave.formats.alf import iter_sessions, save_object_npy
    >>> _ = save_object_npy("smithlab/Subjects/M12/2020-01-31/001/alf", {"times": np.arange(3.0)}, "spikes")
    >>> [(session.subject, session.date) for session in iter_sessions(".")]
    [('M12', '2020-01-31')]
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
    """Yield the paths of the ALF files of a session, relative to it and sorted, as ALFPath.

    Examples
    --------
    >>> from labweave.formats.alf import iter_datasets, save_object_npy
    >>> _ = save_object_npy("M12/2020-01-31/001/alf", {"times": np.arange(3.0)}, "spikes")
    >>> [str(path) for path in iter_datasets("M12/2020-01-31/001")]
    ['alf/spikes.times.npy']
    """
    make = path_class()
    for rel_path, entry in iter_files(session_path):
        if is_valid(entry.name):
            yield make(rel_path)


def iter_files(session_path: str | PurePath, above: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the path and the entry of every file of a session, sorted; the path is relative to it and has ``/``.

    Links to folders are not followed. All paths begin with `above`.
    """
    for entry in _entries(os.fspath(session_path)):
        if not entry.is_dir():
            yield above + entry.name, entry
        elif not entry.is_symlink():
            yield from iter_files(entry.path, f"{above}{entry.name}/")


def find_variants(
    file_list: Iterable[str | PurePath],
    namespace: bool = True,
    timescale: bool = True,
    extra: bool = True,
    extension: bool = True,
) -> dict[Any, list[Any]]:
    """Return, for each file, the other files on disk that hold the same dataset in another form.

    They have the same folder (without its revision), object and attribute.

    Parameters
    ----------
    file_list : iterable of str or Path
        Paths of datasets.
    namespace, timescale, extra, extension : bool, default: True
        Variants have this part in common as well.

    Raises
    ------
    ALFInvalid
        A path is not the path of a dataset.
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


def object_files(alfpath: str | PurePath, object: Any = None, **parts: Any) -> list[tuple[Path, str, Parts]]:
    """Return folder, name and parts of the files of an object, given by the folder and its name, or by a file of it."""
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
    return [(folder, name, each) for name, each in found]


def _fits(part: str, value: str | None, wanted: Any, wildcards: bool) -> bool:
    """Say whether a part fits what is wanted of it."""
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
        # The digits are a quick test before the regular expression.
        if entry.name.isdigit() and is_session_path(Path(entry.path)):
            yield entry.path
        elif not entry.is_symlink():
            yield from _session_folders(entry.path)

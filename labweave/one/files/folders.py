"""Places of files: paths below a folder, which nothing in the tables can lead out of, and addresses of copies."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from labweave.errors import SourceError
from labweave.formats.alf.names import is_uuid_string, with_uuid, without_uuid
from labweave.one.search.rows import CopyRow, DatasetRow

_SESSION_PATH = re.compile(r"(?:^|/)((?:\w+/Subjects/)?[\w.-]+/\d{4}-\d{2}-\d{2}/\d{1,3}/.+)$")


class PathEscapes(SourceError, ValueError):
    """A path in the tables leads out of its folder."""


class Folder:
    """A folder whose files have registered paths, which may not leave it."""

    def __init__(self, root: Path):
        self.root, self._real = root, os.path.realpath(root)
        self._inside: set[str] = set()

    def path(self, relative: str) -> Path:
        """Return a file's path below the folder; PathEscapes if it, or a link on its way, leads out of it."""
        parts = relative.split("/")
        if not all(parts) or "." in parts or ".." in parts or "\\" in relative or "\0" in relative:
            raise PathEscapes(
                f"{relative!r} is registered as the path of a file, but is none below {self.root}. Correct it."
            )
        target, parent = self.root.joinpath(*parts), relative.rpartition("/")[0]
        is_link = target.is_symlink()
        if is_link or parent not in self._inside:  # the links on the way to a folder are followed once
            real = os.path.realpath(target if is_link else target.parent)
            if os.path.commonpath([self._real, real]) != self._real:
                raise PathEscapes(
                    f"{target} leads out of {self.root} by a link. Remove the link, or make the root what it leads to."
                )
        if not is_link:
            self._inside.add(parent)
        return target


def is_file(path: Path) -> bool:
    """Say whether a file is there and can be seen."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises in a closed folder


def path_in_url(url: str) -> str:
    """Return the path of an address, decoded; a ``#`` belongs to it."""
    return unquote(urlsplit(url, allow_fragments=False).path)


def path_of_url(url: str) -> str | None:
    """Return the path in the cache folder of a session's file at an address, without its UUID.

    None if the address is not one of a session's file. The server and the folders above the session don't matter.
    """
    found = _SESSION_PATH.search(path_in_url(url))
    return without_uuid(found[1]) if found else None


def name_with_uuid(path: str, dataset_id: str) -> str:
    """Return the path that a dataset's file has on a data server, which keeps the UUID in the name."""
    return with_uuid(path, dataset_id) if is_uuid_string(dataset_id) else path


def names_of_copy(row: DatasetRow, copy: CopyRow) -> list[str]:
    """Return the paths that a copy may have below its repository: as registered, and with the UUID."""
    plain = copy.relative_path.strip("/")
    return list(dict.fromkeys([plain, name_with_uuid(plain, row.id)]))


def urls_of_copy(row: DatasetRow, copy: CopyRow) -> list[str]:
    """Return the addresses that a copy may have, the likelier first; none if its repository has no address."""
    if not copy.data_url:
        return []
    names = names_of_copy(row, copy)
    if any(part in (".", "..") for name in names for part in name.split("/")):
        raise PathEscapes(f"{names[0]!r} in repository {copy.repository} is no path below its root. Correct it.")
    if scheme_of(copy.data_url) in ("http", "https"):
        names = [quote(name, safe="/") for name in names]  # which keeps #revision# in the address
    return [f"{copy.data_url.rstrip('/')}/{name.lstrip('/')}" for name in reversed(names)]


def url_of(row: DatasetRow) -> str | None:
    """Return the address of a dataset's first copy that has one: with the UUID, and with ``#`` percent-encoded."""
    return next((urls_of_copy(row, copy)[0] for copy in row.copies if copy.data_url), None)


def scheme_of(url: str) -> str:
    """Return the scheme of an address in lower case, "" if it has none."""
    scheme, colon, _ = url.partition("://")
    return scheme.lower() if colon else ""

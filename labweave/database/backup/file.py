"""The file of a backup: what it says about itself, its dump, and whether that is whole."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import IO

from labweave.errors import ReadError, VersionError

FORMAT = 2
MANIFEST = "labweave-backup.json"
CHUNK_BYTES = 1 << 20
ADVICE = "Choose a file written by labweave db backup"

Sums = dict[str, dict[str, list[str]]]
"""Schema -> table -> the number of its rows and their checksum; see `labweave.database.backup.tables.sums`."""


@dataclass(frozen=True)
class BackupInfo:
    """What a backup says about itself.

    Parameters
    ----------
    backend : {"mysql", "postgresql"}
    product : {"mysql", "mariadb", "postgresql"}
        MySQL and MariaDB don't read each other's table definitions.
    server_version : str
    prefix : str
        Of the schema names, as in the settings.
    schemas : list of str
    created : str
        UTC, ISO 8601.
    labweave_version : str
    sha256 : str
        Of the dump.
    n_bytes : int
        Size of the dump, not compressed.
    longest_statement_bytes : int
        What was written at once; a MySQL server must take at least this in one packet.
    format : int
        Layout of the file.
    database : str
        Where it was, without the password. Since format 2.
    tables : dict
        Of each schema and table, how many rows it has and their checksum. Since format 2.
    """

    backend: str
    product: str
    server_version: str
    prefix: str
    schemas: list[str]
    created: str
    labweave_version: str
    sha256: str
    n_bytes: int
    longest_statement_bytes: int
    format: int = FORMAT
    database: str = ""
    tables: Sums = field(default_factory=dict)


class Body:
    """Writes the dump and keeps its size and checksum."""

    def __init__(self, member: IO[bytes]):
        self.member, self.sha256 = member, hashlib.sha256()
        self.n_bytes = self.longest_write_bytes = 0

    def write(self, data: bytes) -> None:
        """Write a piece of the dump, on MySQL one statement."""
        self.member.write(data)
        self.sha256.update(data)
        self.n_bytes += len(data)
        self.longest_write_bytes = max(self.longest_write_bytes, len(data))


def read_info(path: str | os.PathLike) -> BackupInfo:
    """Read what a backup says about itself, without reading the data."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(MANIFEST))
        if int(found["format"]) > FORMAT:
            raise VersionError(f"{path} was made by labweave {found.get('labweave_version')}. Install that or later.")
        needed = {one.name for one in fields(BackupInfo) if one.default is one.default_factory is MISSING}
        known = needed | ({one.name for one in fields(BackupInfo)} & found.keys())
        return BackupInfo(**{name: found[name] for name in known})
    except OSError as error:
        raise ReadError(path, f"can't be read: {error.strerror}", ADVICE) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError) as error:
        raise ReadError(path, "not a labweave backup, or not complete", ADVICE) from error


@contextmanager
def open_body(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open the dump of a backup."""
    with zipfile.ZipFile(path) as archive, archive.open(name) as body:
        yield body


def check_body(path: Path, name: str, info: BackupInfo) -> None:
    """Compare the dump with its checksum."""
    sha256 = hashlib.sha256()
    try:
        with open_body(path, name) as body:
            while chunk := body.read(CHUNK_BYTES):
                sha256.update(chunk)
        good = sha256.hexdigest() == info.sha256
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError):
        good = False
    if not good:
        raise ReadError(path, "the data are damaged: they don't agree with their checksum", "Take another copy")

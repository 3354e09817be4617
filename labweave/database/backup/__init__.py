"""One file with everything in some schemas, and the way back.

A backup is a zip with two members, readable without labweave:

``labweave-backup.json``
    What it holds, when it was made and by whom, and the SHA-256 of the other member.
``dump.pgdump`` or ``dump.sql``
    PostgreSQL: what ``pg_dump -Fc`` writes (``pg_restore`` reads it). MySQL and MariaDB: SQL with
    one statement a line (``unzip -p FILE dump.sql | mysql`` reads it), written here, so that it
    needs no client programs and is the same for all servers.

Both are consistent: they hold the state of one moment, while others go on writing. Tables with
their rows are kept; rights and users are not, and on MySQL neither are views, triggers and routines.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from labweave.database.backup import mysql, postgresql
from labweave.database.connection import LabConnection
from labweave.database.reads import among
from labweave.database.url import DatabaseUrl
from labweave.errors import ConfigError, ReadError, SchemaError, VersionError
from labweave.formats.writing import whole_file
from labweave.version import __version__

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "labweave-backup.json"
CHUNK_BYTES = 1 << 20

SERVERS = {"postgresql": postgresql, "mysql": mysql}
"""Backend -> its way: BODY and COMPRESSION of the dump, LINKS between tables, dump, restore."""


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
    longest_statement_bytes: int = 0
    format: int = FORMAT


def backup(
    url: DatabaseUrl, path: str | os.PathLike, schemas: Iterable[str], *, prefix: str = "", overwrite: bool = False
) -> BackupInfo:
    """Write schemas into one file, which appears when it is complete.

    Parameters
    ----------
    url : DatabaseUrl
    path : str or Path
        The file; only its owner can read it.
    schemas : iterable of str
        Names in the database, with prefix. With a schema come all that its foreign keys point to.
    prefix : str
        Noted in the file.
    overwrite : bool, default: False
        Replace the file if it exists.

    Returns
    -------
    BackupInfo

    Raises
    ------
    ConfigError
        The file exists or can't be written.
    SchemaError
        A schema doesn't exist, or points to one that is left out.
    VersionError
        The PostgreSQL server is newer than the programs here.
    ServerUnavailable, AccessDenied, DatabaseError
        What the server says.
    """
    path, schemas = Path(path), sorted(schemas)
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists. Name another file, or allow to overwrite it.")
    server = SERVERS[url.backend]
    with contextlib.closing(LabConnection(url, prefix)) as connection:
        if missing := sorted(set(schemas) - _existing(connection, schemas)):
            raise SchemaError(f"Can't back up {url}: no schema {', '.join(missing)}. Check the prefix.")
        if outside := _references(connection, schemas, leaving=True):
            raise SchemaError(
                f"Can't back up {', '.join(schemas)} alone, foreign keys point elsewhere: {outside}. Add those schemas."
            )
        try:
            path.parent.stat()  # a folder that is missing is not made
            with whole_file(path, durable=True) as half_made:
                half_made.touch(mode=0o600)
                with zipfile.ZipFile(half_made, "w", server.COMPRESSION, compresslevel=1) as archive:
                    with archive.open(server.BODY, "w", force_zip64=True) as member:
                        body = Body(member)
                        server.dump(connection, schemas, body)
                    info = BackupInfo(
                        url.backend, connection.adapter.product, connection.server_version, prefix, schemas,
                        datetime.now(timezone.utc).isoformat(timespec="seconds"), __version__,
                        body.sha256.hexdigest(), body.n_bytes, body.longest_write_bytes,
                    )  # fmt: skip
                    archive.writestr(MANIFEST, json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ConfigError(f"Can't write the backup {path}: {error.strerror or error}.") from error
    log.info("backup of %s in %s, %d bytes of data", url, path, info.n_bytes)
    return info


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


def restore(url: DatabaseUrl, path: str | os.PathLike, *, replace: bool = False) -> BackupInfo:
    """Put the schemas of a backup into a database, under the names they had.

    All is checked before anything is changed: checksum, backend, names. On PostgreSQL a
    restore that fails changes nothing. MySQL can't undo changes to tables: a restore that
    fails there is incomplete, and is repeated with ``replace=True``.

    Parameters
    ----------
    url : DatabaseUrl
    path : str or Path
    replace : bool, default: False
        Drop the schemas of the backup that exist, with all their tables, first.

    Returns
    -------
    BackupInfo

    Raises
    ------
    ReadError
        The file is damaged or isn't a backup.
    ConfigError
        It was made from another kind of database.
    SchemaError
        A schema exists and ``replace`` is False, or tables that stay refer to it.
    ServerUnavailable, AccessDenied, DatabaseError, VersionError
        What the server says.
    """
    path = Path(path)
    info = read_info(path)
    _verify(path, info)
    if info.backend != url.backend:
        raise ConfigError(f"{path} is a backup of {info.backend}, the database is {url}. They don't mix.")
    server = SERVERS[url.backend]
    with contextlib.closing(LabConnection(url, info.prefix)) as connection:
        product = connection.adapter.product
        if info.product != product:
            raise ConfigError(f"{path} was made by {info.product}, the server is {product}. They don't mix.")
        existing = sorted(_existing(connection, info.schemas))
        if existing and not replace:
            raise SchemaError(
                f"{url} already has {', '.join(existing)}; nothing was restored. Give replace (--replace) to "
                "drop them first."
            )
        if inside := _references(connection, info.schemas, leaving=False):
            raise SchemaError(f"Can't replace {', '.join(existing)}: other tables refer to them: {inside}.")
        with zipfile.ZipFile(path) as archive, archive.open(server.BODY) as body:
            server.restore(connection, info, existing, body)
    log.info("restored %s into %s", path, url)
    return info


def read_info(path: str | os.PathLike) -> BackupInfo:
    """Read what a backup says about itself, without reading the data."""
    advice = "Choose a file written by labweave db backup"
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(MANIFEST))
        if int(found["format"]) > FORMAT:
            raise VersionError(f"{path} was made by labweave {found.get('labweave_version')}. Install that or later.")
        return BackupInfo(**{field.name: found[field.name] for field in fields(BackupInfo)})
    except OSError as error:
        raise ReadError(path, f"can't be read: {error.strerror}", advice) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError) as error:
        raise ReadError(path, "not a labweave backup, or not complete", advice) from error


def _verify(path: Path, info: BackupInfo) -> None:
    """Compare the dump with its checksum."""
    sha256 = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive, archive.open(SERVERS[info.backend].BODY) as body:
            while chunk := body.read(CHUNK_BYTES):
                sha256.update(chunk)
        good = sha256.hexdigest() == info.sha256
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError):
        good = False
    if not good:
        raise ReadError(path, "the data are damaged: they don't agree with their checksum", "Take another copy")


def _existing(connection: LabConnection, schemas: list[str]) -> set[str]:
    query = f"select schema_name from information_schema.schemata where {among('schema_name', schemas)}"
    return {name for (name,) in connection.query(query, tuple(schemas)).fetchall()}


def _references(connection: LabConnection, schemas: list[str], *, leaving: bool) -> str:
    """Foreign keys that cross the border of the schemas, outwards or inwards, as text."""
    inside, outside = ("child", "parent") if leaving else ("parent", "child")
    found = connection.query(
        f"select child, child_table, parent, parent_table from ({SERVERS[connection.adapter.backend].LINKS}) links"
        f" where {among(inside, schemas)} and not {among(outside, schemas)} order by 1, 2, 3, 4",
        (*schemas, *schemas),
    ).fetchall()
    text = ", ".join(f"{row[0]}.{row[1]} -> {row[2]}.{row[3]}" for row in found[:3])
    return text + (f" and {len(found) - 3} more" if len(found) > 3 else "")

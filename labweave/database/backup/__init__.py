"""One file with everything in some schemas, and the way back.

A backup is a zip with two members, readable without labweave:

``labweave-backup.json``
    What it holds, when it was made and by whom, the SHA-256 of the other member, and of each table the number of its
    rows and their checksum.
``dump.pgdump`` or ``dump.sql``
    PostgreSQL: what ``pg_dump -Fc`` writes (``pg_restore`` reads it). MySQL and MariaDB: SQL with
    one statement a line (``unzip -p FILE dump.sql | mysql`` reads it), written here, so that it
    needs no client programs and is the same for all servers.

Both are consistent: they hold the state of one moment, while others go on writing. Tables with
their rows are kept; rights and users are not, and on MySQL neither are views, triggers and routines.

A restore loads into schemas beside the lab's, whose names end with ``_restoring``, compares them with the backup, and
swaps: in one step the lab's old tables go into schemas that end with ``_replaced``, which are dropped, and the new ones
take their place. Killed at any moment, it leaves the old lab or the new one, whole; the next restore drops the rest.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from datajoint.errors import DataJointError

from labweave.database import declare
from labweave.database.backup import mysql, postgresql
from labweave.database.backup.file import MANIFEST, BackupInfo, Body, check_body, open_body, read_info
from labweave.database.backup.tables import (
    NAMING,
    count_rows,
    differences,
    existing_schemas,
    existing_tables,
    references,
    rename_inside,
    sums,
)
from labweave.database.connection import LabConnection
from labweave.database.rights import Rights
from labweave.database.url import DatabaseUrl
from labweave.errors import ConfigError, DatabaseError, SchemaError, text_of
from labweave.formats.writing import whole_file
from labweave.version import __version__

log = logging.getLogger(__name__)

RESTORING, REPLACED, VERIFYING = declare.BESIDE
"""Ends of the names of schemas that a restore or verification makes; what is found of them later, a dead one left."""

SERVERS: dict[str, Any] = {"postgresql": postgresql, "mysql": mysql}
"""Backend -> its way: BODY and COMPRESSION of the dump, LINKS between tables, EXACT text of values, and functions."""

NAMED = 12
"""So many tables are named with their rows, where tables are dropped."""

Tell = Callable[[str], None]


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
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no file that could be replaced, such as a device. Name another file.")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists. Name another file, or allow to overwrite it (--overwrite).")
    server = SERVERS[url.backend]
    with contextlib.closing(LabConnection(url, prefix)) as connection:
        if missing := sorted(set(schemas) - set(existing_schemas(connection, schemas))):
            raise SchemaError(f"Can't back up {url}: no schema {', '.join(missing)}. Check the prefix.")
        if outside := references(connection, server, schemas, leaving=True):
            raise SchemaError(
                f"Can't back up {', '.join(schemas)} alone, foreign keys point elsewhere: {outside}. Add those schemas."
            )
        try:
            path.parent.stat()  # a folder that is missing is not made
            with whole_file(path, durable=True) as half_made:
                half_made.touch(mode=0o600)
                snapshot = server.start_snapshot(connection)
                tables = sums(connection, server, schemas)
                with zipfile.ZipFile(half_made, "w", server.COMPRESSION, compresslevel=1) as archive:
                    with archive.open(server.BODY, "w", force_zip64=True) as member:
                        body = Body(member)
                        server.dump(connection, schemas, body, snapshot)
                    info = BackupInfo(
                        url.backend, connection.adapter.product, connection.server_version, prefix, schemas,
                        datetime.now(timezone.utc).isoformat(), __version__,
                        body.sha256.hexdigest(), body.n_bytes, body.longest_write_bytes,
                        database=str(url), tables=tables,
                    )  # fmt: skip
                    archive.writestr(MANIFEST, json.dumps(asdict(info), indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ConfigError(f"Can't write the backup {path}: {error.strerror or error}.") from error
    log.info("backup of %s in %s, %d bytes of data", url, path, info.n_bytes)
    return info


def restore(
    url: DatabaseUrl,
    path: str | os.PathLike,
    *,
    prefix: str | None = None,
    replace: bool = False,
    tell: Tell = lambda line: None,
) -> BackupInfo:
    """Put the schemas of a backup into a database, beside what is there, and swap when all is there and right.

    Parameters
    ----------
    url : DatabaseUrl
    path : str or Path
    prefix : str, optional
        Restore the lab under this prefix, in place of all tables of the lab that has it. Without one, the schemas
        get the names they had, and replace those alone.
    replace : bool, default: False
        Drop the tables that are there now.
    tell : callable
        Takes lines for people: what is dropped, which prefix the backup had, what was left by a restore that died.

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
        There are tables and ``replace`` is False, or tables that stay refer to them.
    ServerUnavailable, AccessDenied, DatabaseError, VersionError
        What the server says; nothing was changed.
    """
    info, names = _read(url, path, prefix)
    server, places = SERVERS[url.backend], sorted({*names.values(), *(declare.schema_names(prefix) if prefix else ())})
    with _session(url, info, prefix) as connection:
        scratch = [place + end for place in places for end in declare.BESIDE]
        if left := existing_schemas(connection, scratch):
            tell(f"dropping what a restore that did not end has left: {', '.join(left)}")
            _drop(connection, scratch, tell)
        if tables := _may_go(connection, places, replace):
            tell(f"dropping {_listed(connection, tables)}")
        if prefix not in (None, info.prefix):
            tell(f"backup of {info.prefix}, restored as {prefix}")
        try:
            loaded = {schema: place + RESTORING for schema, place in names.items()}
            if wrong := _load(connection, path, info, loaded):
                raise DatabaseError(
                    f"What was restored of {path} is not what was backed up, so nothing was changed: "
                    + ", ".join(f"{table} ({what})" for table, what in wrong)
                )
            rename_inside(connection, server, loaded.values(), names)
            with declare.exclusive(connection):
                _may_go(connection, places, replace)  # somebody may have made tables meanwhile
                away = {place: place + REPLACED for place in existing_schemas(connection, places)}
                server.swap(connection, away, {loaded[schema]: place for schema, place in names.items()})
                rights = Rights.of(connection)
                rights.run(rights.renew())
        finally:
            _drop(connection, scratch, tell)
    log.info("restored %s into %s", path, url)
    return info


def verify(
    url: DatabaseUrl, path: str | os.PathLike, *, prefix: str | None = None, tell: Tell = lambda line: None
) -> list[tuple[str, str]]:
    """Restore a backup beside the lab, compare each table with what the backup says of it, and drop it again.

    Parameters
    ----------
    url, path, prefix, tell
        As for `restore`.

    Returns
    -------
    list of (str, str)
        Each table that is not as it was backed up, and what is different.

    Raises
    ------
    LabweaveError
        As `restore`, when it can't be restored at all.
    """
    info, names = _read(url, path, prefix)
    loaded = {schema: place + VERIFYING for schema, place in names.items()}
    if not info.tables:
        tell(f"labweave {info.labweave_version} noted no rows and checksums of tables: only that it restores is tested")
    with _session(url, info, prefix) as connection:
        _drop(connection, loaded.values(), tell)
        try:
            return _load(connection, path, info, loaded)
        finally:
            _drop(connection, loaded.values(), tell)


def left_behind(connection: LabConnection, schemas: Iterable[str]) -> list[str]:
    """Return what a restore or verification that did not end has left beside some schemas; none while one goes on."""
    found = existing_schemas(connection, [name + end for name in schemas for end in declare.BESIDE])
    if not found:
        return []
    with connection.adapter.exclusive(connection, f"{connection.prefix}restore", 1) as none_goes_on:
        return found if none_goes_on else []


def _read(url: DatabaseUrl, path: str | os.PathLike, prefix: str | None) -> tuple[BackupInfo, dict[str, str]]:
    """Return what a whole backup says of itself, and the name to restore each of its schemas under."""
    path = Path(path)
    info = read_info(path)
    check_body(path, SERVERS[info.backend].BODY, info)
    if info.backend != url.backend:
        raise ConfigError(f"{path} is a backup of {info.backend}, the database is {url}. They don't mix.")
    new = info.prefix if prefix is None else prefix
    return info, {schema: new + schema.removeprefix(info.prefix) for schema in info.schemas}


@contextlib.contextmanager
def _session(url: DatabaseUrl, info: BackupInfo, prefix: str | None) -> Iterator[LabConnection]:
    """Open a session that is the only one to restore or verify this lab."""
    with contextlib.closing(LabConnection(url, info.prefix if prefix is None else prefix)) as connection:
        product = connection.adapter.product
        if info.product != product:
            raise ConfigError(f"The backup was made by {info.product}, the server is {product}. They don't mix.")
        Rights.of(connection).require("admin", "A restore")
        with connection.adapter.exclusive(connection, f"{connection.prefix}restore", 1) as is_held:
            if not is_held:
                raise DatabaseError(f"Another restore or verification of {connection.prefix} goes on. Wait for it.")
            yield connection


def _load(
    connection: LabConnection, path: str | os.PathLike, info: BackupInfo, names: dict[str, str]
) -> list[tuple[str, str]]:
    """Load a dump under other names, and return how its tables differ from what the backup says."""
    server = SERVERS[info.backend]
    with open_body(Path(path), server.BODY) as body:
        server.load(connection, info, names, body)
    return list(differences(info.tables, sums(connection, server, names.values()), names)) if info.tables else []


def _may_go(connection: LabConnection, places: list[str], replace: bool) -> list[tuple[str, str]]:
    """Return the tables that are in the way, or refuse to drop them."""
    server, tables = SERVERS[connection.adapter.backend], existing_tables(connection, places)
    if tables and not replace:
        raise SchemaError(
            f"{connection.url} already has {_listed(connection, tables)}; nothing was restored. "
            "Give replace (--replace) to drop them, or another prefix (--prefix)."
        )
    if inside := references(connection, server, places, leaving=False):
        raise SchemaError(f"Can't replace {', '.join(places)}: other tables refer to them: {inside}.")
    return tables


def _listed(connection: LabConnection, tables: list[tuple[str, str]]) -> str:
    own = [(schema, table) for schema, table in tables if table not in NAMING]
    found = count_rows(connection, SERVERS[connection.adapter.backend], own)
    counts = sorted(found.items(), key=lambda item: -item[1])
    shown = [f"{table} ({count} rows)" for table, count in counts[:NAMED]]
    if len(counts) > NAMED:
        shown.append(f"{len(counts) - NAMED} more ({sum(count for _, count in counts[NAMED:])} rows)")
    return f"{len(tables)} tables{': ' * bool(shown)}{', '.join(shown)}"


def _drop(connection: LabConnection, schemas: Iterable[str], tell: Tell) -> None:
    """Drop those of some schemas that exist; what can't be dropped is told, since the lab is whole without it."""
    try:
        connection.query("select 1")  # comes back when the session was lost
        for schema in existing_schemas(connection, schemas):
            SERVERS[connection.adapter.backend].drop(connection, schema)
    except (DataJointError, DatabaseError) as error:
        tell(f"Not all of {', '.join(schemas)} could be dropped; the next restore will: {text_of(error)}")

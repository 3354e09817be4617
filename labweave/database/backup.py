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

import base64
import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from labweave.embedded.users import programs
from labweave.errors import (
    AccessDenied,
    ConfigError,
    DatabaseError,
    ReadError,
    SchemaError,
    ServerUnavailable,
    VersionError,
)
from labweave.version import __version__

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "labweave-backup.json"
BODIES = {"postgresql": "dump.pgdump", "mysql": "dump.sql"}
CHUNK_BYTES = 1 << 20
INSERT_BYTES = 1 << 19  # rows are put together to statements of about this size

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Target:
    """The database to back up or to restore into.

    Parameters
    ----------
    backend : {"mysql", "postgresql"}
    host : str
        Name, address, or the folder (PostgreSQL) or path (MySQL) of a Unix socket.
    port : int
    user : str
    password : str
    dbname : str
        PostgreSQL only.
    """

    backend: str
    host: str
    port: int
    user: str
    password: str = field(default="", repr=False)
    dbname: str = "labweave"

    def __str__(self) -> str:
        return f"{self.backend} at {self.host}:{self.port}"


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
        A MySQL server must take at least this in one packet. 0 for PostgreSQL.
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
    target: Target,
    path: str | os.PathLike,
    schemas: Iterable[str],
    *,
    prefix: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BackupInfo:
    """Write schemas into one file, which appears when it is complete.

    Parameters
    ----------
    target : Target
    path : str or Path
        The file; only its owner can read it.
    schemas : iterable of str
        Names in the database, with prefix. With a schema come all that its foreign keys point to.
    prefix : str
        Noted in the file.
    overwrite : bool, default: False
        Replace the file if it exists.
    progress : callable, optional
        Called as ``progress(what, n_bytes)`` while the file grows.

    Returns
    -------
    BackupInfo

    Raises
    ------
    ConfigError
        The file exists or can't be written, or no schema is named.
    SchemaError
        A schema doesn't exist, or points to one that is left out.
    VersionError
        The PostgreSQL server is newer than the programs here.
    ServerUnavailable, AccessDenied, DatabaseError
        What the server says.
    """
    path, schemas = Path(path), sorted(set(schemas))
    if target.backend not in BODIES:
        raise ConfigError(f"Can't back up {target.backend!r}: the backends are {', '.join(BODIES)}.")
    if not schemas:
        raise ConfigError("Nothing to back up: no schema is named.")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists. Name another file, or allow to overwrite it.")

    with _connection(target) as connection:
        product, version = _product(target, connection)
        if missing := sorted(set(schemas) - _existing(target, connection, schemas)):
            raise SchemaError(f"Can't back up {target}: no schema {', '.join(missing)}. Check the prefix.")
        if outside := _references(target, connection, schemas, leaving=True):
            raise SchemaError(
                f"Can't back up {', '.join(schemas)} alone, foreign keys point elsewhere: {outside}. Add those schemas."
            )
        with _new_file(path) as file:
            compression = zipfile.ZIP_STORED if target.backend == "postgresql" else zipfile.ZIP_DEFLATED
            with zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
                with archive.open(BODIES[target.backend], "w", force_zip64=True) as member:
                    body = _Body(member, progress)
                    if target.backend == "postgresql":
                        _dump_postgresql(target, schemas, version, body)
                    else:
                        _dump_mysql(connection, schemas, body)
                info = BackupInfo(
                    target.backend, product, version, prefix, schemas,
                    datetime.now(timezone.utc).isoformat(timespec="seconds"), __version__,
                    body.sha256.hexdigest(), body.n_bytes, body.longest_write_bytes,
                )  # fmt: skip
                archive.writestr(MANIFEST, json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n")
    log.info("backup of %s in %s, %d bytes of data", target, path, info.n_bytes)
    return info


def restore(
    target: Target, path: str | os.PathLike, *, replace: bool = False, progress: Progress | None = None
) -> BackupInfo:
    """Put the schemas of a backup into a database, under the names they had.

    All is checked before anything is changed: checksum, backend, names. On PostgreSQL a
    restore that fails changes nothing. MySQL can't undo changes to tables: a restore that
    fails there is incomplete, and is repeated with ``replace=True``.

    Parameters
    ----------
    target : Target
    path : str or Path
    replace : bool, default: False
        Drop the schemas of the backup that exist, with all their tables, first.
    progress : callable, optional
        Called as ``progress(what, n_bytes)``.

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
    if info.backend != target.backend:
        raise ConfigError(f"{path} is a backup of {info.backend}, the database is {target}. They don't mix.")
    with _connection(target) as connection:
        product, version = _product(target, connection)
        if info.product != product:
            raise ConfigError(f"{path} was made by {info.product}, the server is {product}. They don't mix.")
        existing = sorted(_existing(target, connection, info.schemas))
        if existing and not replace:
            raise SchemaError(
                f"{target} already has {', '.join(existing)}; nothing was restored. Give replace (--replace) to "
                "drop them first."
            )
        if inside := _references(target, connection, info.schemas, leaving=False):
            raise SchemaError(f"Can't replace {', '.join(existing)}: other tables refer to them: {inside}.")
        with zipfile.ZipFile(path) as archive, archive.open(BODIES[info.backend]) as body:
            if target.backend == "postgresql":
                _restore_postgresql(target, info, version, existing, body, progress)
            else:
                _restore_mysql(connection, info, existing, body, progress)
    log.info("restored %s into %s", path, target)
    return info


# -- the file ------------------------------------------------------------------------------


def read_info(path: str | os.PathLike) -> BackupInfo:
    """Read what a backup says about itself, without reading the data."""
    advice = "Choose a file written by labweave db backup"
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(MANIFEST))
        newer = int(found["format"]) > FORMAT
        info = BackupInfo(**{f.name: found[f.name] for f in fields(BackupInfo)}) if not newer else None
    except OSError as error:
        raise ReadError(path, f"can't be read: {error.strerror}", advice) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError) as error:
        raise ReadError(path, "not a labweave backup, or not complete", advice) from error
    if info is None:
        raise VersionError(f"{path} was made by labweave {found.get('labweave_version')}. Install that or later.")
    return info


def _verify(path: Path, info: BackupInfo) -> None:
    """Compare the dump with its checksum."""
    sha256 = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive, archive.open(BODIES[info.backend]) as body:
            while chunk := body.read(CHUNK_BYTES):
                sha256.update(chunk)
        good = sha256.hexdigest() == info.sha256
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError):
        good = False
    if not good:
        raise ReadError(path, "the data are damaged: they don't agree with their checksum", "Take another copy")


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a private file that gets its name when it is complete and on the disk."""
    half_made = path.with_name(f".{path.name[:100]}.{os.urandom(4).hex()}.part")
    try:
        descriptor = os.open(half_made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            half_made.replace(path)
        finally:
            half_made.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"Can't write the backup {path}: {error.strerror or error}.") from error


class _Body:
    """Writes the dump and keeps its size and checksum."""

    def __init__(self, member: IO[bytes], progress: Progress | None):
        self.member, self.progress = member, progress
        self.sha256 = hashlib.sha256()
        self.n_bytes = self.longest_write_bytes = 0

    def write(self, data: bytes, what: str) -> None:
        self.member.write(data)
        self.sha256.update(data)
        self.n_bytes += len(data)
        if what != "pg_dump":
            self.longest_write_bytes = max(self.longest_write_bytes, len(data))
        if self.progress:
            self.progress(what, self.n_bytes)


# -- questions to any server ---------------------------------------------------------------


@contextlib.contextmanager
def _connection(target: Target) -> Iterator[Any]:
    """Open a connection; what the driver raises inside becomes labweave's errors."""
    if target.backend == "postgresql":
        import psycopg2 as driver

        options: dict = {"host": target.host, "dbname": target.dbname}
    else:
        import pymysql as driver
        from pymysql.converters import conversions

        # Only Python to SQL: what comes back stays text or bytes, as exact as the server sends it.
        options = {"conv": {kind: f for kind, f in conversions.items() if not isinstance(kind, int)}}
        options |= {"charset": "utf8mb4", "autocommit": True, "max_allowed_packet": 1 << 30}
        options |= {"unix_socket" if target.host.startswith("/") else "host": target.host}
    try:
        connection: Any = driver.connect(
            port=target.port, user=target.user, password=target.password, connect_timeout=10, **options
        )
    except driver.Error as error:
        if _is_refusal(error):
            raise AccessDenied(f"{target} refuses user {target.user}. Check user and password.") from error
        raise ServerUnavailable(f"{target} doesn't answer: {_said(error)}. Check that it runs.") from error
    try:
        if target.backend == "postgresql":  # the other has it from the start
            connection.set_session(autocommit=True)
        yield connection
    except driver.Error as error:
        kind = AccessDenied if _is_refusal(error) else DatabaseError
        raise kind(f"{target} failed: {_said(error)}") from error
    finally:
        with contextlib.suppress(driver.Error):
            connection.close()


def _is_refusal(error: Exception) -> bool:
    number = error.args[0] if error.args else None
    state = getattr(error, "pgcode", None) or ""
    return number in (1044, 1045, 1142, 1227, 1698) or state in ("28000", "28P01", "42501") or (
        "authentication failed" in str(error) or "no password supplied" in str(error)
    )  # fmt: skip


def _said(error: Exception) -> str:
    return str(error.args[-1]).strip() if error.args else type(error).__name__


def _ask(connection, query: str, values: tuple = ()) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


def _product(target: Target, connection) -> tuple[str, str]:
    """Who made the server, and its version."""
    if target.backend == "postgresql":
        return "postgresql", _ask(connection, "SHOW server_version")[0][0]
    version = _ask(connection, "SELECT VERSION()")[0][0]
    return ("mariadb" if "mariadb" in version.lower() else "mysql"), version


def _existing(target: Target, connection, schemas: list[str]) -> set[str]:
    if target.backend == "postgresql":
        query = "SELECT nspname FROM pg_namespace WHERE nspname IN %s"
    else:
        query = "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN %s"
    return {name for (name,) in _ask(connection, query, (tuple(schemas),))}


def _references(target: Target, connection, schemas: list[str], *, leaving: bool) -> str:
    """Foreign keys that cross the border of the schemas, outwards or inwards, as text."""
    if target.backend == "postgresql":
        query = """
            SELECT DISTINCT cn.nspname, c.relname, pn.nspname, p.relname
            FROM pg_constraint k
            JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
            JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
            WHERE k.contype = 'f' AND cn.nspname {child} %s AND pn.nspname {parent} %s ORDER BY 1, 2, 3, 4"""
    else:
        query = """
            SELECT DISTINCT constraint_schema, table_name, unique_constraint_schema, referenced_table_name
            FROM information_schema.referential_constraints
            WHERE constraint_schema {child} %s AND unique_constraint_schema {parent} %s ORDER BY 1, 2, 3, 4"""
    child, parent = ("IN", "NOT IN") if leaving else ("NOT IN", "IN")
    found = _ask(connection, query.format(child=child, parent=parent), (tuple(schemas), tuple(schemas)))
    text = ", ".join(f"{row[0]}.{row[1]} -> {row[2]}.{row[3]}" for row in found[:3])
    return text + (f" and {len(found) - 3} more" if len(found) > 3 else "")


# -- PostgreSQL ----------------------------------------------------------------------------


def _dump_postgresql(target: Target, schemas: list[str], version: str, body: _Body) -> None:
    names = [f"--schema={_quote_pg(schema)}" for schema in schemas]
    folder = _client_programs(version)
    with _pg_environment(target) as (environment, messages):
        command = [folder / "pg_dump", "--format=custom", "--no-owner", "--no-privileges", *names]
        with subprocess.Popen(
            [*command, *_pg_address(target)], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=messages,
        ) as dump:  # fmt: skip
            assert dump.stdout is not None
            try:
                while chunk := dump.stdout.read(CHUNK_BYTES):
                    body.write(chunk, "pg_dump")
            except BaseException:
                dump.kill()
                raise
        if dump.returncode != 0:
            raise DatabaseError(f"Can't back up {target}: pg_dump failed:\n{_last_lines(messages)}")


def _restore_postgresql(
    target: Target,
    info: BackupInfo,
    version: str,
    drop: list[str],
    body: IO[bytes],
    progress: Progress | None,
) -> None:
    """Have pg_restore write SQL and psql run it, all in one transaction.

    A pipe that breaks must not commit: COMMIT is sent when pg_restore has ended well.
    """
    folder = _client_programs(version, newest=True)
    with _pg_environment(target) as (environment, messages), contextlib.ExitStack() as stack:
        to_sql = stack.enter_context(subprocess.Popen(
            [folder / "pg_restore", "--no-owner", "--no-privileges", "--file=-"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages,
        ))  # fmt: skip
        psql = stack.enter_context(subprocess.Popen(
            [
                folder / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-",
                *_pg_address(target),
            ],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages,
        ))  # fmt: skip
        assert to_sql.stdin and to_sql.stdout and psql.stdin
        feeder = threading.Thread(target=_feed, args=(body, to_sql.stdin, progress), daemon=True)
        feeder.start()
        try:
            drops = "".join(f"DROP SCHEMA {_quote_pg(name)} CASCADE;\n" for name in drop)
            settings = "SET client_min_messages = warning;\nSET lock_timeout = '30s';\n"
            psql.stdin.write(f"{settings}BEGIN;\n{drops}".encode())
            first = to_sql.stdout.read(CHUNK_BYTES)
            if int(version.split(".")[0]) < 17:  # written by pg_restore 17 and later for servers like itself
                first = first.replace(b"SET transaction_timeout = 0;\n", b"", 1)
            while first:
                psql.stdin.write(first)
                first = to_sql.stdout.read(CHUNK_BYTES)
            if to_sql.wait() == 0:
                psql.stdin.write(b"COMMIT;\n")
            psql.stdin.close()
        except BrokenPipeError:  # psql has ended; it says why
            to_sql.kill()
        except BaseException:
            to_sql.kill()
            psql.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                psql.stdin.close()
            psql.wait()
            to_sql.wait()
            feeder.join()
        if psql.returncode or to_sql.returncode:
            raise DatabaseError(f"Can't restore into {target}, nothing was changed:\n{_last_lines(messages)}")


def _feed(source: IO[bytes], pipe: IO[bytes], progress: Progress | None) -> None:
    """Copy the dump into pg_restore, which may end early when psql does."""
    n_bytes = 0
    with contextlib.suppress(BrokenPipeError), pipe:
        while chunk := source.read(CHUNK_BYTES):
            pipe.write(chunk)
            n_bytes += len(chunk)
            if progress:
                progress("pg_restore", n_bytes)


def _client_programs(server_version: str, *, newest: bool = False) -> Path:
    """Folder of client programs that know a server's version: the wheel's or the system's.

    To dump, those nearest to the server's version: an earlier server may keep things in its
    catalogue that later programs misread (15.20: ``pg_attver``). To restore, the newest, which
    read the files of all.
    """
    needed = int(server_version.split(".")[0])
    folders = []
    with contextlib.suppress(ConfigError):  # the wheel is not installed
        folders.append(programs())
    if system := shutil.which("pg_dump"):
        folders.append(Path(system).parent)
    found = []
    for folder in folders:
        command = [folder / "pg_dump", "--version"]  # "pg_dump (PostgreSQL) 18.6"
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if match := re.search(r" (\d+)", said):
            found.append((int(match.group(1)), folder))
    usable = sorted(version for version in found if version[0] >= needed)
    if not usable:
        versions = ", ".join(f"{version} in {folder}" for version, folder in found)
        raise VersionError(
            f"The server is PostgreSQL {server_version}; pg_dump of version {needed} or later is needed, "
            f"found: {versions or 'none'}. Install the PostgreSQL client programs."
        )
    return usable[-1 if newest else 0][1]


@contextlib.contextmanager
def _pg_environment(target: Target) -> Iterator[tuple[dict[str, str], IO[str]]]:
    """Give an environment whose password is in a private file, and a file for the programs' messages."""
    with tempfile.TemporaryDirectory(prefix="labweave-") as folder, tempfile.TemporaryFile("w+") as messages:
        passwords = Path(folder) / "pgpass"
        passwords.touch(mode=0o600)
        escaped = target.password.replace("\\", "\\\\").replace(":", "\\:")
        passwords.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if name != "PGPASSWORD"}
        yield (
            {**environment, "PGPASSFILE": str(passwords), "LC_ALL": "C", "PGCLIENTENCODING": "UTF8"},
            messages,
        )


def _pg_address(target: Target) -> list[str]:
    address = [f"--host={target.host}", f"--port={target.port}", f"--username={target.user}"]
    return [*address, "--no-password", f"--dbname={target.dbname}"]


def _quote_pg(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _last_lines(messages: IO[str], n_lines: int = 6) -> str:
    messages.seek(0)
    return "\n".join(f"  {line}" for line in messages.read().strip().splitlines()[-n_lines:])


# -- MySQL and MariaDB ---------------------------------------------------------------------

# Settings for writing and reading a dump; no others matter.
SESSION = (
    "SET NAMES utf8mb4",
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION foreign_key_checks = 0",
    "SET SESSION unique_checks = 0",
)


def _dump_mysql(connection, schemas: list[str], body: _Body) -> None:
    for statement in SESSION:
        _ask(connection, statement)
        body.write(statement.encode() + b";\n", "settings")
    _ask(connection, "SET SESSION net_write_timeout = 3600")
    _ask(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    _ask(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    tables = []
    for schema in schemas:
        _write_definition(connection, f"SHOW CREATE DATABASE {_quote_my(schema)}", body)
    for schema in schemas:
        body.write(f"USE {_quote_my(schema)};\n".encode(), schema)
        for name, kind in _ask(connection, f"SHOW FULL TABLES FROM {_quote_my(schema)}"):
            if kind == "BASE TABLE":
                tables.append((schema, name))
                _write_definition(connection, f"SHOW CREATE TABLE {_quote_my(schema)}.{_quote_my(name)}", body)
            else:
                log.warning("not in the backup: %s.%s is a %s", schema, name, kind.lower())
    for schema, name in tables:
        _dump_rows(connection, schema, name, body)


def _write_definition(connection, query: str, body: _Body) -> None:
    """Write what a SHOW CREATE query answers, on one line."""
    answer = _ask(connection, query)[0][1]
    body.write(_one_line(answer).encode() + b";\n", query.rpartition(" ")[2])


def _one_line(statement: str) -> str:
    """Take line breaks out of a statement; those inside of strings are written as escapes."""

    def replace(match: re.Match) -> str:
        part = match.group()
        if part.startswith("'"):
            return part.replace("\n", "\\n").replace("\r", "\\r")
        return part if part.startswith("`") else " "

    one_line = re.sub(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`|[\r\n]+", replace, statement, flags=re.DOTALL)
    if "\n" in one_line:
        raise DatabaseError(f"Can't back up a table with a line break in a name: {statement[:100]!r}. Rename it.")
    return one_line


def _dump_rows(connection, schema: str, table: str, body: _Body) -> None:
    from pymysql.cursors import SSCursor

    columns, values = [], []
    for name, kind, generated in _ask(
        connection,
        "SELECT column_name, data_type, generation_expression FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (schema, table),
    ):
        if not generated:
            columns.append(_quote_my(name))
            # A FLOAT is sent with six digits, a DOUBLE with all.
            values.append(f"{_quote_my(name)} * 1e0" if kind == "float" else _quote_my(name))
    where = f"{_quote_my(schema)}.{_quote_my(table)}"
    start = f"INSERT INTO {where} ({', '.join(columns)}) VALUES "
    with connection.cursor(SSCursor) as cursor:
        cursor.execute(f"SELECT {', '.join(values)} FROM {where}")
        rows, size = [], 0
        for row in cursor:
            text = "(" + ",".join(map(_literal, row)) + ")"
            if rows and size + len(text) > INSERT_BYTES:
                body.write(f"{start}{','.join(rows)};\n".encode(), f"{schema}.{table}")
                rows, size = [], 0
            rows.append(text)
            size += len(text)
        if rows:
            body.write(f"{start}{','.join(rows)};\n".encode(), f"{schema}.{table}")


def _literal(value: str | bytes | None) -> str:
    """SQL for a value as it came from the server. The column's type turns a string into a number or time.

    Bytes are written in base 64: hexadecimal would double them, and a blob that went into the
    database in one packet should come back in one.
    """
    from pymysql.converters import escape_string

    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"FROM_BASE64('{base64.b64encode(value).decode()}')"
    return f"'{escape_string(value)}'"


def _quote_my(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _restore_mysql(connection, info: BackupInfo, drop: list[str], body: IO[bytes], progress: Progress | None) -> None:
    import pymysql

    limit = int(_ask(connection, "SELECT @@max_allowed_packet")[0][0])
    if info.longest_statement_bytes >= limit:
        raise DatabaseError(
            f"The server takes statements of up to {limit} bytes, the backup has one of "
            f"{info.longest_statement_bytes}; nothing was changed. Raise max_allowed_packet and try again."
        )
    done = 0
    try:
        _ask(connection, "SET SESSION lock_wait_timeout = 30")  # for those who use what is dropped
        for statement in (*SESSION, *(f"DROP DATABASE {_quote_my(name)}" for name in drop)):
            connection.query(statement)
        for line in body:  # one statement each
            connection.query(line)
            done += len(line)
            if progress:
                progress("restore", done)
    except pymysql.Error as error:
        raise DatabaseError(
            f"The restore failed after {done} of {info.n_bytes} bytes: {_said(error)}\n"
            f"The schemas {', '.join(info.schemas)} are incomplete. Correct that and restore again with "
            "replace (--replace)."
        ) from error

"""Dumps of PostgreSQL, by its own programs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from labweave.database.backup.file import CHUNK_BYTES, BackupInfo
from labweave.database.backup.tables import existing_schemas, run
from labweave.embedded.users import programs
from labweave.errors import ConfigError, DatabaseError, VersionError

BODY, COMPRESSION = "dump.pgdump", zipfile.ZIP_STORED  # pg_dump has compressed it
LINKS = """
    select distinct cn.nspname as child, c.relname as child_table, pn.nspname as parent, p.relname as parent_table
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid join pg_namespace cn on cn.oid = c.relnamespace
    join pg_class p on p.oid = k.confrelid join pg_namespace pn on pn.oid = p.relnamespace
    where k.contype = 'f'
"""
EXACT: dict[str, str] = {}


def quote(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def start_snapshot(connection: Any) -> str:
    """Start a transaction that reads one state of the database, and return the name by which others read it, too."""
    run(connection, connection.adapter.start_snapshot)
    return run(connection, "SELECT pg_export_snapshot()").fetchone()[0]


def dump(connection: Any, schemas: list[str], body: Any, snapshot: str) -> None:
    """Write what pg_dump says of some schemas, as the open transaction reads them."""
    names = [f"--schema={quote(schema)}" for schema in schemas]
    folder = _client_programs(_major(connection))
    with _environment(connection) as (environment, messages):
        with subprocess.Popen(
            [
                folder / "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}",
                *names, *_address(connection),
            ],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages,
        ) as program:  # fmt: skip
            assert program.stdout is not None
            try:
                while chunk := program.stdout.read(CHUNK_BYTES):
                    body.write(chunk)
            except BaseException:
                program.kill()
                raise
        if program.returncode != 0:
            raise DatabaseError(f"Can't back up {connection.url}: pg_dump failed:\n{_last_lines(messages)}")


def load(connection: Any, info: BackupInfo, names: dict[str, str], body: IO[bytes]) -> None:
    """Have pg_restore write SQL and psql run it, all in one transaction, which then gives the schemas other names.

    Schemas that have the names of the dump get others until then, which nobody sees. A pipe that breaks must not
    commit: COMMIT is sent when pg_restore has ended well.
    """
    aside = {schema: f"{schema}_aside" for schema in existing_schemas(connection, names)}
    back = {new: old for old, new in aside.items()}
    major = _major(connection)
    folder = _client_programs(major, newest=True)
    with (
        _environment(connection) as (environment, messages),
        subprocess.Popen(
            [folder / "pg_restore", "--no-owner", "--no-privileges", "--file=-"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages,
        ) as to_sql,
        subprocess.Popen(
            [folder / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-", *_address(connection)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages,
        ) as psql,
    ):  # fmt: skip
        assert to_sql.stdin and to_sql.stdout and psql.stdin
        feeder = threading.Thread(target=_feed, args=(body, to_sql.stdin), daemon=True)
        feeder.start()
        try:
            settings = "SET client_min_messages = warning;\nSET lock_timeout = '30s';\n"
            psql.stdin.write(f"{settings}BEGIN;\n{_renaming(aside)}".encode())
            first = to_sql.stdout.read(CHUNK_BYTES)
            if major < 17:  # written by pg_restore 17 and later for servers like itself
                first = first.replace(b"SET transaction_timeout = 0;\n", b"", 1)
            psql.stdin.write(first)
            shutil.copyfileobj(to_sql.stdout, psql.stdin, CHUNK_BYTES)
            if to_sql.wait() == 0:
                psql.stdin.write(f"{_renaming(names)}{_renaming(back)}COMMIT;\n".encode())
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
            raise DatabaseError(f"Can't restore into {connection.url}, nothing was changed:\n{_last_lines(messages)}")


def _renaming(names: dict[str, str]) -> str:
    return "".join(f"ALTER SCHEMA {quote(old)} RENAME TO {quote(new)};\n" for old, new in names.items())


def swap(connection: Any, away: dict[str, str], names: dict[str, str]) -> None:
    """Rename some schemas, and others to their place, in one transaction, which statements sent together are."""
    run(connection, _renaming(away) + _renaming(names))


def drop(connection: Any, schema: str) -> None:
    """Drop a schema with all that is in it."""
    run(connection, f"DROP SCHEMA {quote(schema)} CASCADE")


def _feed(source: IO[bytes], pipe: IO[bytes]) -> None:
    """Copy the dump into pg_restore, which may end early when psql does."""
    with contextlib.suppress(BrokenPipeError), pipe:
        shutil.copyfileobj(source, pipe, CHUNK_BYTES)


def _major(connection: Any) -> int:
    return connection._conn.server_version // 10_000


def _client_programs(needed: int, *, newest: bool = False) -> Path:
    """Folder of client programs that know a server's version: the wheel's or the system's.

    To dump, those nearest to the server's version: an earlier server may keep things in its
    catalogue that later programs misread (15.20: ``pg_attver``). To restore, the newest, which
    read the files of all.
    """
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
            f"The server is PostgreSQL {needed}; pg_dump of version {needed} or later is needed, "
            f"found: {versions or 'none'}. Install the PostgreSQL client programs."
        )
    return usable[-1 if newest else 0][1]


@contextlib.contextmanager
def _environment(connection: Any) -> Iterator[tuple[dict[str, str], IO[str]]]:
    """Give an environment with password and encryption of the session, and a file for what the programs say.

    The system shows the environment of a process to nobody else, and nothing of it stays when the process is killed.
    """
    used = {"password": connection.url.password, **connection._conn.info.dsn_parameters}
    own = {f"PG{name.upper()}": used[name] for name in ("password", "sslmode", "sslrootcert") if used.get(name)}
    with tempfile.TemporaryFile("w+") as messages:
        yield {**os.environ, "LC_ALL": "C", "PGCLIENTENCODING": "UTF8", **own}, messages


def _address(connection: Any) -> list[str]:
    info = connection.conn_info
    address = [f"--host={info['host']}", f"--port={info['port']}", f"--username={info['user']}"]
    return [*address, "--no-password", f"--dbname={info['database_name']}"]


def _last_lines(messages: IO[str], n_lines: int = 6) -> str:
    messages.seek(0)
    return "\n".join(f"  {line}" for line in messages.read().strip().splitlines()[-n_lines:])

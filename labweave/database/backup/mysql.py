"""Dumps of MySQL and MariaDB: SQL with one statement a line, written and read here."""

from __future__ import annotations

import base64
import logging
import re
import zipfile
from typing import IO, Any

import pymysql
from pymysql.converters import escape_string
from pymysql.cursors import SSCursor

from labweave.database.backup.file import BackupInfo
from labweave.database.backup.tables import existing_tables, run
from labweave.errors import AccessDenied, DatabaseError

log = logging.getLogger(__name__)

BODY, COMPRESSION = "dump.sql", zipfile.ZIP_DEFLATED
LINKS = """
    select distinct constraint_schema as child, table_name as child_table,
        unique_constraint_schema as parent, referenced_table_name as parent_table
    from information_schema.referential_constraints
"""
EXACT = {"float": "{} * 1e0"}  # a FLOAT is sent with six digits, a DOUBLE with all
INSERT_BYTES = 1 << 19  # rows are put together to statements of about this size
REFUSED = {1044, 1142, 1227}

# Settings for writing and reading a dump; no others matter.
SESSION = (
    "SET NAMES utf8mb4",
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION foreign_key_checks = 0",
    "SET SESSION unique_checks = 0",
)


def quote(name: str) -> str:
    """Return a name as SQL writes it."""
    return "`" + name.replace("`", "``") + "`"


def start_snapshot(connection: Any) -> None:
    """Start a transaction that reads one state of the database."""
    for statement in (
        *SESSION,
        "SET SESSION net_write_timeout = 3600",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    ):
        run(connection, statement)


def dump(connection: Any, schemas: list[str], body: Any, snapshot: None) -> None:
    """Write some schemas, with all their tables and rows, as the open transaction reads them."""
    session = connection._conn
    session.decoders = {}  # what comes back stays text or bytes, as exact as the server sends it
    try:
        for statement in SESSION:
            body.write(statement.encode() + b";\n")
        for schema in schemas:
            body.write(_definition(session, f"DATABASE {quote(schema)}"))
        for schema in schemas:
            body.write(f"USE {quote(schema)};\n".encode())
            for name, kind in _ask(session, f"SHOW FULL TABLES FROM {quote(schema)}"):
                if kind == "BASE TABLE":
                    body.write(_definition(session, f"TABLE {quote(schema)}.{quote(name)}"))
                    _dump_rows(session, schema, name, body)
                else:
                    log.warning("not in the backup: %s.%s is a %s", schema, name, kind.lower())
    except pymysql.Error as error:
        kind = AccessDenied if error.args[0] in REFUSED else DatabaseError
        raise kind(f"{connection.url} failed: {error.args[-1]}") from error


def _ask(session: Any, query: str, values: tuple = ()) -> list[tuple]:
    with session.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


def _definition(session: Any, what: str) -> bytes:
    """Return the statement that makes a schema or table, on one line."""
    return _one_line(_ask(session, f"SHOW CREATE {what}")[0][1]).encode() + b";\n"


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


def _dump_rows(session: Any, schema: str, table: str, body: Any) -> None:
    columns, values = [], []
    for name, kind, generated in _ask(
        session,
        "SELECT column_name, data_type, generation_expression FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (schema, table),
    ):
        if not generated:
            columns.append(quote(name))
            values.append(EXACT.get(kind, "{}").format(quote(name)))
    where = f"{quote(schema)}.{quote(table)}"
    start = f"INSERT INTO {where} ({', '.join(columns)}) VALUES "
    with session.cursor(SSCursor) as cursor:
        cursor.execute(f"SELECT {', '.join(values)} FROM {where}")
        rows, size = [], 0
        for row in cursor:
            text = "(" + ",".join(map(_literal, row)) + ")"
            if rows and size + len(text) > INSERT_BYTES:
                body.write(f"{start}{','.join(rows)};\n".encode())
                rows, size = [], 0
            rows.append(text)
            size += len(text)
        if rows:
            body.write(f"{start}{','.join(rows)};\n".encode())


def _literal(value: str | bytes | None) -> str:
    """SQL for a value as it came from the server. The column's type turns a string into a number or time.

    Bytes are written in base 64: hexadecimal would double them, and a blob that went into the
    database in one packet should come back in one.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"FROM_BASE64('{base64.b64encode(value).decode()}')"
    return f"'{escape_string(value)}'"


def load(connection: Any, info: BackupInfo, names: dict[str, str], body: IO[bytes]) -> None:
    """Run the statements of a dump, with other names for its schemas."""
    limit = int(run(connection, "SELECT @@max_allowed_packet").fetchone()[0])
    if info.longest_statement_bytes >= limit:
        raise DatabaseError(
            f"The server takes statements of up to {limit} bytes, the backup has one of "
            f"{info.longest_statement_bytes}; nothing was changed. Raise max_allowed_packet and try again."
        )
    session, done = connection._conn, 0
    new_names = {quote(old).encode(): quote(new).encode() for old, new in names.items()}
    try:
        for statement in SESSION:
            session.query(statement)
        for line in body:  # one statement each
            session.query(_with_names(line, new_names))
            done += len(line)
    except pymysql.Error as error:
        raise DatabaseError(
            f"Can't restore into {connection.url}, nothing was changed. It ended after {done} of {info.n_bytes} bytes: "
            f"{error.args[-1]}"
        ) from error
    except (KeyboardInterrupt, SystemExit):
        connection.adapter.break_off(connection)
        raise


def _with_names(statement: bytes, names: dict[bytes, bytes]) -> bytes:
    """Return a statement of a dump with other names for schemas: alone, or before the name of a table."""
    is_alone = statement.startswith((b"USE ", b"CREATE DATABASE "))

    def rename(match: re.Match[bytes]) -> bytes:
        name, dot = match.group(1), match.group(2)
        return names.get(name, name) + dot if name and (dot or is_alone) else match.group()

    head, values, rows = statement.partition(b" VALUES ") if statement.startswith(b"INSERT ") else (statement, b"", b"")
    head = re.sub(rb"'(?:[^'\\]|\\.|'')*'|(`(?:[^`]|``)*`)(\.?)", rename, head, flags=re.DOTALL)
    return head + values + rows


def swap(connection: Any, away: dict[str, str], names: dict[str, str]) -> None:
    """Move the tables of some schemas away, and those of others to their place, by one statement.

    Foreign keys follow; a server that dies has done all of it or nothing.
    """
    tables: dict[str, list[str]] = {}
    for schema, table in existing_tables(connection, [*away, *names]):
        tables.setdefault(schema, []).append(quote(table))
    for schema in away.values():
        run(connection, f"CREATE DATABASE IF NOT EXISTS {quote(schema)}")
    for new, schema in names.items():
        charset, collation = connection.query(
            "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata"
            " WHERE schema_name = %s",
            (new,),
        ).fetchone()
        run(connection, f"CREATE DATABASE IF NOT EXISTS {quote(schema)}")
        run(connection, f"ALTER DATABASE {quote(schema)} CHARACTER SET {charset} COLLATE {collation}")
    moves = [
        f"{quote(old)}.{table} TO {quote(new)}.{table}"
        for old, new in (*away.items(), *names.items())
        for table in tables.get(old, ())
    ]
    run(connection, "SET SESSION lock_wait_timeout = 30")  # for those who use what goes
    run(connection, f"RENAME TABLE {', '.join(moves)}")


def drop(connection: Any, schema: str) -> None:
    """Drop a schema with all that is in it."""
    run(connection, "SET SESSION foreign_key_checks = 0")
    run(connection, f"DROP DATABASE {quote(schema)}")

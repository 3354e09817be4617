"""MySQL and MariaDB: how a session is opened and what its errors mean."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pymysql
from datajoint.adapters.mysql import MySQLAdapter
from datajoint.errors import AccessError, DataJointError
from pymysql.constants.SERVER_STATUS import SERVER_STATUS_AUTOCOMMIT, SERVER_STATUS_IN_TRANS

from labweave.database.errors import TransientError
from labweave.database.values import JsonDocument, QuotedRows
from labweave.errors import AccessDenied, DatabaseError, LabweaveError, RowError

TRANSIENT = {1205, 1213, 1020}
LOG_POSITIONS = (
    "show global status like 'Innodb_lsn_current'",  # MariaDB
    # MySQL, with the right BACKUP_ADMIN; its Innodb_redo_log_current_lsn comes some milliseconds late.
    "select 'LSN', json_extract(storage_engines, '$.InnoDB.LSN') from performance_schema.log_status",
)
REFUSED_VALUE = {1048, 1264, 1265, 1292, 1366, 1406, 3140, 3156, 3819, 3966, 4025, 4076}


class Adapter(MySQLAdapter):
    """MySQL and MariaDB; `collation` compares text by code point, also trailing blanks."""

    def connect(self, host, port, user, password, **kwargs):
        connection = super().connect(host, port, user, password, **kwargs)
        # DataJoint hands dictionaries to the driver for <blob@store> on MariaDB.
        connection.encoders = {
            **connection.encoders,
            dict: lambda value, _: connection.literal(json.dumps(value)),
            # JSON has no bare control characters, and the driver takes long over its many quotation marks.
            JsonDocument: lambda value, _: "'" + value.text.replace("\\", "\\\\").replace("'", "\\'") + "'",
            QuotedRows: lambda value, _: value.text,
        }
        with connection.cursor() as cursor:
            cursor.execute("set time_zone = '+00:00', innodb_lock_wait_timeout = 20, group_concat_max_len = 67108864")
            # MySQL can't update from JSON_TABLE while no database is selected, whichever it is.
            cursor.execute("use information_schema")
        return connection

    collation = "utf8mb4_0900_bin"

    def create_schema_sql(self, schema_name):
        # A user's own schema too: foreign keys need the same collation on both sides.
        name = self.quote_identifier(schema_name)
        return f"create database if not exists {name} character set utf8mb4 collate {self.collation}"

    # The log is written a moment before other sessions see the commit.
    mark_settles_s = 0.5
    _log_position: str | None = None

    def descending(self, column: str) -> str:
        """Return the order by a column from its largest value on, with missing ones at the end."""
        return f"{column} desc"

    def write_mark(self, connection) -> str | None:
        """See `LabConnection.write_mark`: the position of InnoDB's log, which every commit moves."""
        status = connection._conn.server_status
        if status & SERVER_STATUS_IN_TRANS or not status & SERVER_STATUS_AUTOCOMMIT:
            return None
        for sql in [self._log_position] if self._log_position else LOG_POSITIONS:
            try:
                row = connection.query(sql).fetchone()
            except (AccessError, LabweaveError):
                continue
            if row is not None and row[1] not in (None, "", "0"):
                self._log_position = sql
                return str(row[1])
        return None

    def translate_error(self, error, query=""):
        translated = super().translate_error(error, query)
        if isinstance(translated, DataJointError) or not isinstance(error, pymysql.Error):
            return translated
        code, text = error.args[0] if error.args else 0, str(error.args[-1]) if error.args else str(error)
        if code in TRANSIENT:
            return TransientError(text)
        if code in REFUSED_VALUE or isinstance(error, pymysql.err.DataError):
            return RowError(f"The database refuses a value: {text}.")
        if code in {1045, 1227, 1698}:
            return AccessDenied(text)
        return DatabaseError(f"{text} (MySQL error {code})")

    def quote_rows(self, rows: list[tuple]) -> list[str]:
        """Return converted rows, each as it stands in a VALUES list; column by column, which is faster."""
        columns = map(_quote_column, zip(*rows, strict=True))
        return [f"({row})" for row in map(",".join, zip(*columns, strict=True))]


def _quote_column(values: tuple[Any, ...]) -> list[str]:
    types = set(map(type, values))
    if types <= {str, type(None), dt.datetime, dt.date}:
        text = "".join([value for value in values if type(value) is str])
        if "\\" not in text and "'" not in text:
            return ["null" if value is None else f"'{value}'" for value in values]
    elif types <= {int, float}:
        return list(map(repr, values))
    return list(map(_quote, values))


def _quote(value: Any) -> str:
    if value is None:
        return "null"
    if type(value) is int or type(value) is float:
        return repr(value)
    if type(value) is bytes:
        return f"x'{value.hex()}'"
    text = value if type(value) is str else str(value)
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

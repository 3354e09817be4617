"""MySQL and MariaDB: how a session is opened and what its errors mean."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pymysql
from datajoint.adapters.mysql import MySQLAdapter
from datajoint.errors import AccessError, DataJointError, DuplicateError
from pymysql.constants.CR import CR_SSL_CONNECTION_ERROR
from pymysql.constants.SERVER_STATUS import SERVER_STATUS_AUTOCOMMIT, SERVER_STATUS_IN_TRANS

from labweave.database import dialect
from labweave.database.batches import Batch, Changed
from labweave.database.dialect import TOO_LONG, Dialect, TransientError, columns_to_name, in_one_text
from labweave.database.reads import in_parts
from labweave.database.rights.mysql import MySQLRights
from labweave.database.tls import context, not_offered, not_trusted
from labweave.database.values import Column
from labweave.errors import AccessDenied, DatabaseError, LabweaveError, RowError

TRANSIENT = {1205, 1213, 1020}
LOG_POSITIONS = (
    "show global status like 'Innodb_lsn_current'",  # MariaDB
    # MySQL, with the right BACKUP_ADMIN; its Innodb_redo_log_current_lsn comes some milliseconds late.
    "select 'LSN', json_extract(storage_engines, '$.InnoDB.LSN') from performance_schema.log_status",
)
SQL_MODE = (  # DataJoint's
    "NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,"
    "ONLY_FULL_GROUP_BY"
)
LOCK_NAME = 64
"""The longest name of a lock."""

REFUSED_VALUE = {1048, 1264, 1265, 1292, 1366, 1406, 3140, 3156, 3819, 3966, 4025, 4076}


@dataclass(frozen=True)
class JsonDocument:
    """A long JSON text; the session quotes it faster than other text."""

    text: str


@dataclass(frozen=True)
class QuotedRows:
    """Rows of a VALUES list, quoted already."""

    text: str


class Adapter(Dialect, MySQLAdapter):
    """MySQL; `collation` compares text by code point, also trailing blanks."""

    product = "mysql"
    collation = "utf8mb4_0900_bin"
    before_transaction = "set transaction isolation level read committed"
    lock_of_join = "for update of t"
    json_value = "cast({} as json)"  # text as a value of a JSON column
    json_differs = "not ({0} <=> {1})"  # a JSON column holds something else than a value

    def of_version(self, version):
        return MariaDB() if "mariadb" in version.lower() else self

    def open_session(self, url, tls):
        login = {"host": url.host, "port": url.port, "user": url.user, "password": url.password, "charset": "utf8mb4"}
        if tls == "off":
            return self.connect(**login, use_tls=False)
        try:
            session = self.connect(**login, use_tls=context(url, tls))
        except pymysql.OperationalError as error:
            cause = getattr(error, "original_exception", None)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise not_trusted(url, cause.verify_message) from None
            if error.args[0] == CR_SSL_CONNECTION_ERROR:
                raise not_offered(url) from None
            raise
        if not session._secure:  # older drivers go on without
            session.close()
            raise not_offered(url)
        return session

    def connect(self, host, port, user, password, use_tls: Any = False, **kwargs) -> Any:
        tls: dict[str, Any] = {"ssl": use_tls} if use_tls else {"ssl_disabled": True}
        login = {"host": host, "port": port, "user": user, "password": password, **kwargs}
        limits: dict[str, Any] = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), dialect.OPENING_S)
        connection: Any = pymysql.connect(**login, **tls, **limits, sql_mode=SQL_MODE, autocommit=True)
        # DataJoint hands dictionaries to the driver for <blob@store> on MariaDB.
        connection.encoders = {
            **connection.encoders,
            dict: lambda value, _: connection.literal(json.dumps(value)),
            # JSON has no bare control characters, and the driver takes long over its many quotation marks.
            JsonDocument: lambda value, _: "'" + value.text.replace("\\", "\\\\").replace("'", "\\'") + "'",
            QuotedRows: lambda value, _: value.text,
        }
        with connection.cursor() as cursor:
            connection.labweave_mark = f"labweave {secrets.token_hex(8)}"
            cursor.execute(
                "set time_zone = '+00:00', innodb_lock_wait_timeout = 20, group_concat_max_len = 67108864,"
                " @labweave_mark = get_lock(%s, 0)",
                (connection.labweave_mark,),
            )
            # MySQL can't update from JSON_TABLE while no database is selected, whichever it is.
            cursor.execute("use information_schema")
        connection._read_timeout = connection._write_timeout = None  # a statement may take hours
        return connection

    def socket_of(self, driver):
        return driver._sock.fileno()

    def mark_of(self, driver):
        return driver.labweave_mark

    def end_session(self, driver, mark):
        with driver.cursor() as cursor:
            cursor.execute("select is_used_lock(%s)", (mark,))
            if (number := cursor.fetchone()[0]) is not None:
                cursor.execute(f"kill {int(number)}")

    def get_connection_id(self, connection):
        return connection.thread_id()

    def is_working(self, driver, number):
        with driver.cursor() as cursor:
            for place in self.process_lists:
                cursor.execute(f"select id, command from {place} where id in (%s, connection_id())", (number,))
                found = dict(cursor.fetchall())
                if driver.thread_id() in found:  # else the list is off, or there is a pool in between
                    return found.get(number, "Sleep") != "Sleep"
        return None

    def is_silence(self, error):
        return isinstance(error, pymysql.Error) and error.args[:1] in {(0,), (2003,), (2006,), (2013,)}

    def text_of(self, column, is_binary):
        return f"sha2({column}, 256)" if is_binary else f"cast({column} as char)"

    def sha256_of(self, text):
        return f"sha2({text}, 256)"

    def number_of(self, digits):
        return f"cast(conv(left({digits}, 15), 16, 10) as unsigned)"

    def key_number(self, columns):
        return self.number_of(self.sha256_of(f"concat_ws(char(31), {', '.join(columns)})"))

    def json_has(self, column, text):
        # json_contains() of MariaDB does not find what is stored with an escape, as \\u00e9.
        pattern = f"replace(replace(replace({text}, '|', '||'), '%', '|%'), '_', '|_')"
        return f"json_search(coalesce(json_keys({column}), {column}), 'one', {pattern}, '|') is not null"

    def create_schema_sql(self, schema_name):
        # A user's own schema too: foreign keys need the same collation on both sides.
        name = self.quote_identifier(schema_name)
        return f"create database if not exists {name} character set utf8mb4 collate {self.collation}"

    # InnoDB writes its log a moment before other sessions see the commit.
    mark_settles_s = 0.5
    _log_position: str | None = None

    def write_mark(self, connection) -> str | None:
        """Return the position of InnoDB's log, which every commit moves."""
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

    def read_only(self, connection, read):
        if connection.in_transaction:
            return read()
        connection.query("set session transaction read only")
        try:
            return connection.run_transaction(read, read_committed=False)
        finally:
            connection.query("set session transaction read write")

    def time_limit(self, seconds: float) -> tuple[str, float]:
        """Return the variable that ends a query, and its value for some seconds."""
        return "max_execution_time", round(seconds * 1000)

    def run_query(self, connection, sql, params, timeout_s):
        def read():
            with connection._conn.cursor() as cursor, connection.waiting(sql):
                cursor.execute(sql, params)
                return [column[0] for column in cursor.description or ()], list(cursor.fetchall())

        variable, limit = self.time_limit(max(timeout_s, 1e-3))
        connection.query(f"set session {variable} = {limit}")
        try:
            return self.read_only(connection, read)
        finally:
            connection.query(f"set session {variable} = default")

    @contextlib.contextmanager
    def exclusive(self, connection, name, timeout_s):
        name = name if len(name) <= LOCK_NAME else hashlib.sha256(name.encode()).hexdigest()
        is_held = bool(connection.query("select get_lock(%s, %s)", (name, timeout_s)).fetchone()[0])
        try:
            yield is_held
        finally:
            if is_held:
                connection.query("select release_lock(%s)", (name,))

    def complete_declaration(self, connection, table):
        """Give each foreign key an index of its own, before any wider index that has nullable columns.

        MySQL 9.7 checks a key by the first index that begins with it, and skips rows where another column is null.
        """
        quote = self.quote_identifier
        indexes: dict[str, list[tuple[str, bool]]] = {}
        for row in connection.query(f"show index from {table.full_table_name}", as_dict=True).fetchall():
            indexes.setdefault(row["Key_name"], []).append((row["Column_name"], row["Null"] == "YES"))
        keys = connection.query(
            "select constraint_name, column_name from information_schema.key_column_usage"
            " where referenced_table_name is not null and table_schema = %s and table_name = %s"
            " order by constraint_name, ordinal_position",
            (table.database, table.table_name),
        )
        columns_of: dict[str, list[str]] = {}
        for name, column in keys.fetchall():
            columns_of.setdefault(name, []).append(column)
        for name, columns in columns_of.items():
            size = len(columns)
            begins = [index for index, parts in indexes.items() if [column for column, _ in parts[:size]] == columns]
            if begins and any(is_nullable for _, is_nullable in indexes[begins[0]][size:]):
                alone = ", ".join(map(quote, columns))
                all_columns = ", ".join(quote(column) for column, _ in indexes[begins[0]])
                connection.query(
                    f"alter table {table.full_table_name} drop index {quote(begins[0])},"
                    f" add index {quote(f'{name}_key')} ({alone}), add index {quote(begins[0])} ({all_columns})"
                )

    def add_column(self, connection, schema, table, name, definition, comment):
        sql = (
            "select count(*) from information_schema.columns"
            " where table_schema = %s and table_name = %s and column_name = %s"
        )
        if not connection.query(sql, (schema, table, name)).fetchone()[0]:
            full_name = self.make_full_table_name(schema, table)
            column = self.quote_identifier(name)
            connection.query(f"alter table {full_name} add column {column} {definition} comment '{comment}'")

    def indexes(self, connection, schema, table):
        sql = (
            "select index_name, column_name from information_schema.statistics"
            " where table_schema = %s and table_name = %s order by index_name, seq_in_index"
        )
        return columns_to_name(connection.query(sql, (schema, table)).fetchall())

    def replace_index(self, connection, schema, table, old, new):
        quote = self.quote_identifier
        parts = [f"drop index {quote(old)}"] if old else []
        parts += [f"add index ({', '.join(map(quote, new))})"] if new else []
        if parts:  # in one statement: a foreign key can't be without its index
            connection.query(f"alter table {self.make_full_table_name(schema, table)} {', '.join(parts)}")

    process_lists = ("performance_schema.processlist", "information_schema.processlist")
    """The first is empty where it is switched off, the second fails while any session's statement has an emoji."""

    def session_ids(self, connection):
        for place in self.process_lists:
            if found := {int(row[0]) for row in connection.query(f"select id from {place}").fetchall()}:
                return found
        return set()

    def break_off(self, connection):
        # PyMySQL is Python: interrupted, it may have read half an answer. The next query connects anew.
        with contextlib.suppress(Exception):
            connection._conn._force_close()

    def translate_error(self, error, query=""):
        translated = super().translate_error(error, query)
        if isinstance(translated, AccessError):
            return self.right_missing(str(error.args[-1]), query)
        if isinstance(translated, DataJointError):
            return in_one_text(translated)
        if not isinstance(error, pymysql.Error):
            return translated
        code, text = error.args[0] if error.args else 0, str(error.args[-1]) if error.args else str(error)
        if code in TRANSIENT:
            return TransientError(text)
        if code in {1969, 3024}:
            return DatabaseError(TOO_LONG)
        if code in REFUSED_VALUE or isinstance(error, pymysql.err.DataError):
            return RowError(f"The database refuses a value: {text}.")
        if code in {1045, 1227, 1698}:
            return AccessDenied(text)
        return DatabaseError(f"{text} (MySQL error {code})")


def _quote_rows(rows: list[tuple]) -> list[str]:
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


class MariaDB(Adapter):
    """MariaDB, whose JSON is text."""

    product = "mariadb"
    collation = "utf8mb4_nopad_bin"
    lock_of_join = "for update"
    json_value = "{}"
    json_differs = "not ({0} <=> {1} or coalesce(json_equals({0}, {1}), 0))"
    process_lists = ("information_schema.processlist",)

    def time_limit(self, seconds):
        return "max_statement_time", seconds

    def complete_declaration(self, connection, table):
        """Leave the indexes as they are: MariaDB checks a foreign key by any of them."""


BATCH_BYTES = 8 * 2**20
"""Less than a server takes in one packet."""


class MySQLBatch(Batch):
    """Inserted at once where all are new; else one JSON document, opened by JSON_TABLE on the server."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        fields = ", ".join(
            f"{self.q[column.name]} {self._json_type(column)} path '$[{index}]' error on error"
            for index, column in enumerate(self.columns)
        )
        self.source = f"json_table(%s, '$[*]' columns (ord for ordinality, {fields})) s"
        self.values = ", ".join(self._value(column) for column in self.columns)

    def _json_type(self, column: Column) -> str:
        collation = "utf8mb4_bin" if column.kind == "json" else self.connection.adapter.collation
        unicode = f"character set utf8mb4 collate {collation}"
        if column.kind in {"json", "bytes"} or "text" in column.sql_type:
            return f"longtext {unicode}"
        if column.kind == "text":
            return f"{column.sql_type if 'char' in column.sql_type else 'varchar(255)'} {unicode}"
        return {"integer": "bigint", "bool": "tinyint", "float": column.sql_type, "decimal": column.sql_type}.get(
            column.kind, "char(26)"
        )

    def _value(self, column: Column) -> str:
        name = f"s.{self.q[column.name]}"
        if column.kind == "bytes":
            # MariaDB 10.11 loses the bytes of a bare unhex(column) when it sorts.
            return f"unhex(concat({name}, ''))"
        return self.connection.adapter.json_value.format(name) if column.kind == "json" else name

    def _differs(self, column: Column) -> str:
        old, new = f"t.{self.q[column.name]}", self._value(column)
        if column.kind == "json":
            return self.connection.adapter.json_differs.format(old, new)
        if column.kind == "bytes":
            return f"not (hex({old}) <=> s.{self.q[column.name]})"
        if column.kind in {"date", "datetime"}:
            new = f"cast({new} as {column.sql_type})"
        return f"not ({old} <=> {new})"

    def write(self, rows: list[tuple]) -> tuple[int, list[Changed]]:
        inserted, changed = 0, []
        if not self._first_exists(rows):
            inserted = self._insert_new(rows)
            rows = rows[inserted:]
        for part in self._parts(rows) if rows else ():
            more, found = self._write_part(*part)
            inserted, changed = inserted + more, changed + found
        return inserted, changed

    def _insert_new(self, rows: list[tuple]) -> int:
        """Insert rows from the first on, until there is one that exists, and return how many went in."""
        texts = _quote_rows(rows)
        start = 0
        while start < len(texts):
            end, n_characters = start + 1, len(texts[start])
            while end < len(texts) and n_characters + len(texts[end]) < BATCH_BYTES // 2:
                n_characters += len(texts[end])
                end += 1
            document = QuotedRows(",".join(texts[start:end]))
            try:
                self.connection.query(f"insert into {self.full_name} ({self.names}) values %s", (document,))
            except DuplicateError:  # only this statement is rolled back
                break
            start = end
        return start

    def _parts(self, rows: list[tuple]) -> Iterator[tuple[list[tuple], JsonDocument]]:
        """Cut a batch where its document would outgrow the server's packet limit."""
        document = JsonDocument(_encode_rows(rows))
        n_parts = -(-len(document.text) // (BATCH_BYTES // 2))
        if n_parts == 1 or len(rows) == 1:
            yield rows, document
            return
        del document
        size = -(-len(rows) // n_parts)
        for part in in_parts(rows, size):
            yield from self._parts(part)

    def _write_part(self, rows: list[tuple], document: JsonDocument) -> tuple[int, list[Changed]]:
        query = self.connection.query
        missing = f"t.{self.q[self.keys[0].name]} is null"
        if self._first_exists(rows):
            # Most rows are there: look for what differs, and insert or update only that.
            condition = f"{missing} or {self.differs}" if self.changing else missing
            found = query(
                f"select s.ord, {missing} from {self.source}"
                f" left join {self.full_name} t on {self.join} where {condition}",
                (document,),
            ).fetchall()
            if not found:
                return 0, []
            rows = [rows[int(order) - 1] for order, _ in found]
            any_new, any_changed = any(is_new for _, is_new in found), any(not is_new for _, is_new in found)
            document = JsonDocument(_encode_rows(rows))
        else:
            any_new = any_changed = True
        inserted = 0
        if any_new:
            inserted = query(
                f"insert into {self.full_name} ({self.names}) select {self.values} from {self.source}"
                f" left join {self.full_name} t on {self.join} where {missing} order by s.ord",
                (document,),
            ).rowcount
        if inserted == len(rows) or not self.changing or not any_changed:
            return inserted, []
        where = f"from {self.source} join {self.full_name} t on {self.join} where {self.differs}"
        lock = self.connection.adapter.lock_of_join
        found = query(f"select s.ord, {self.both} {where} order by s.ord {lock}", (document,)).fetchall()
        if found:
            # Not by the condition again: MariaDB 10.11 fails on JSON that it has just made longer.
            document = JsonDocument(_encode_rows([rows[int(order) - 1] for order, *_ in found]))
            assign = ", ".join(f"t.{self.q[c.name]} = {self._value(c)}" for c in self.changing)
            query(f"update {self.full_name} t join {self.source} on {self.join} set {assign}", (document,))
        return inserted, self._changed([row[1:] for row in found])


_encode_rows = json.JSONEncoder(
    ensure_ascii=False,
    separators=(",", ":"),
    check_circular=False,
    default=lambda value: value.hex().upper() if type(value) is bytes else str(value),
).encode


Adapter.batch, Adapter.rights = MySQLBatch, MySQLRights

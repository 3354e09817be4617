"""PostgreSQL, embedded or on a server: how a session is opened and what its errors mean."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import json
import re
import secrets
from collections.abc import Iterable
from typing import Any

import numpy as np
import psycopg2
import psycopg2.extensions
from datajoint.adapters.postgres import PostgreSQLAdapter
from datajoint.errors import DataJointError, DuplicateError, IntegrityError, LostConnectionError
from datajoint.table import FreeTable

from labweave.database import dialect
from labweave.database.batches import Batch, Changed
from labweave.database.dialect import TOO_LONG, Dialect, TransientError, columns_to_name, in_one_text
from labweave.database.rights.postgresql import PostgreSQLRights
from labweave.database.sessions import answered_within
from labweave.database.tls import authorities, not_offered, not_trusted
from labweave.errors import DatabaseError, RowError

TRANSIENT = {"40001", "40P01", "55P03"}
LOST = {"57P01", "57P02", "57P03", "08000", "08003", "08006"}


class Adapter(Dialect, PostgreSQLAdapter):
    """PostgreSQL, embedded or on a server."""

    product = "postgresql"
    row_lock = "no key update"
    start_snapshot = "begin isolation level repeatable read"
    nulls_last = " nulls last"

    def open_session(self, url, tls):
        login = {"host": url.host, "port": url.port, "user": url.user, "password": url.password, "dbname": url.dbname}
        mode = {"verify": "verify-full", "require": "require", "off": "disable"}[tls]
        trusted = {"sslrootcert": authorities(url)} if tls == "verify" else {}
        try:
            return self.connect(**login, sslmode=mode, **trusted)
        except psycopg2.OperationalError as error:
            text = str(error)
            if "server does not support SSL" in text:
                raise not_offered(url) from None
            if re.search("server certificate|certificate verify failed", text):
                raise not_trusted(url, text.rpartition("failed: ")[2]) from None
            raise

    def connect(self, host, port, user, password, **options):
        login = {"host": host, "port": port, "user": user, "password": password}
        limit, mark = dialect.OPENING_S, f"labweave {secrets.token_hex(8)}"
        connection = psycopg2.connect(**login, connect_timeout=limit, application_name=mark, **options)
        connection.autocommit = True
        self._register_numpy_adapters()
        psycopg2.extensions.register_type(_BYTES, connection)
        psycopg2.extensions.register_adapter(np.datetime64, _adapt_datetime64)
        psycopg2.extensions.register_adapter(dict, lambda value: psycopg2.extensions.adapt(json.dumps(value)))
        with answered_within(dialect.OPENING_S, connection.fileno()), connection.cursor() as cursor:
            # DataJoint doubles backslashes in restrictions, as MySQL wants them.
            cursor.execute(
                "set time zone 'UTC'; set standard_conforming_strings = off; set escape_string_warning = off;"
                "set lock_timeout = '20s'; set client_min_messages = warning;"
                # Disks without moving parts: an index is worth reading.
                "set random_page_cost = 1.1; set work_mem = '32MB';"
                # Compiling a statement takes longer than running any of ours.
                "set jit = off"
            )
        return connection

    def socket_of(self, driver):
        return driver.fileno()

    def mark_of(self, driver):
        return driver.info.parameter_status("application_name")

    def end_session(self, driver, mark):
        with driver.cursor() as cursor:
            cursor.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", (mark,)
            )

    def get_connection_id(self, connection):
        return connection.info.backend_pid

    def is_working(self, driver, number):
        with driver.cursor() as cursor:
            cursor.execute("select pg_backend_pid()")
            if cursor.fetchone()[0] != driver.info.backend_pid:  # a pool in between, which has numbers of its own
                return None
            cursor.execute("select coalesce(state, 'disabled') from pg_stat_activity where pid = %s", (number,))
            row = cursor.fetchone()
        return row is not None and not row[0].startswith("idle")

    def is_silence(self, error):
        return isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) and "FATAL" not in str(error)

    def write_mark(self, connection) -> str | None:
        """Return which transactions are visible, exactly."""
        # A transaction of our own that has written sees more than its snapshot says.
        row = connection.query(
            "select pg_current_snapshot()::text where pg_current_xact_id_if_assigned() is null"
        ).fetchone()
        if row is None:
            return None
        oldest, following, running = row[0].split(":")
        # A standby doesn't say which ones are running.
        return row[0] if running or oldest == following else None

    def read_only(self, connection, read):
        def work():
            connection.query("set transaction read only")
            return read()

        return work() if connection.in_transaction else connection.run_transaction(work)

    def run_query(self, connection, sql, params, timeout_s):
        def read():
            with connection.waiting(sql):
                return _run(connection._conn, sql, params, timeout_s)

        if not connection.url.embedded or connection.in_transaction:
            return self.read_only(connection, read)
        # The owner of the embedded database is its administrator, who may run programs on the machine.
        connection.query(_MAKE_READER)

        def read_as_reader():
            at = connection.conn_info
            try:
                session = self.connect(at["host"], at["port"], READER, "", dbname=at["database_name"])
                with contextlib.closing(session):
                    session.autocommit = False
                    session.readonly = True
                    return _run(session, sql, params, timeout_s)
            except psycopg2.Error as error:
                raise self.translate_error(error, sql) from None

        return connection.run_transaction(read_as_reader)  # again, when the server dies meanwhile

    @contextlib.contextmanager
    def exclusive(self, connection, name, timeout_s):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        connection.query(f"set lock_timeout = '{timeout_s}s'")
        try:
            connection.query("select pg_advisory_lock(%s)", (number,))
            is_held = True
        except TransientError:
            is_held = False
        connection.query("set lock_timeout = '20s'")
        try:
            yield is_held
        finally:
            if is_held:
                connection.query("select pg_advisory_unlock(%s)", (number,))

    def text_of(self, column, is_binary):
        return f"encode(sha256({column}), 'hex')" if is_binary else f"{column}::text"

    def sha256_of(self, text):
        return f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"

    def number_of(self, digits):
        return f"('x' || left({digits}, 15))::bit(60)::bigint"

    def key_number(self, columns):
        return f"hash_record_extended(row({', '.join(columns)}), 0)"

    def json_has(self, column, text):
        return f"jsonb_exists({column}, {text})"

    def create_schema_sql(self, schema_name):
        return f'create schema if not exists "{schema_name}"'

    def complete_declaration(self, connection, table):
        """Give the foreign-key columns the type markers of their parents, which DataJoint leaves out."""
        connection.dependencies.load(force=True)
        parents: list[Any] = table().parents(foreign_key_info=True)
        for parent, link in parents:
            heading: Any = FreeTable(connection, parent).heading
            for child_attribute, parent_attribute in link["attr_map"].items():
                attribute = heading[parent_attribute]
                if attribute.original_type and not table().heading[child_attribute].original_type:
                    comment = f":{attribute.original_type}:{attribute.comment or ''}"
                    ddl = self.column_comment_ddl(table.full_table_name, child_attribute, comment)
                    connection.query(str(ddl).replace("%", "%%"))

    def add_column(self, connection, schema, table, name, definition, comment):
        full_name = self.make_full_table_name(schema, table)
        column = self.quote_identifier(name)
        connection.query(f"alter table {full_name} add column if not exists {column} {definition}")
        connection.query(f"comment on column {full_name}.{column} is '{comment}'")

    def indexes(self, connection, schema, table):
        sql = (
            "select i.indexrelid::regclass::text, a.attname from pg_index i"
            " join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace"
            " join pg_attribute a on a.attrelid = i.indexrelid"
            " where n.nspname = %s and c.relname = %s order by i.indexrelid, a.attnum"
        )
        return columns_to_name(
            (name.rpartition(".")[2].strip('"'), column)
            for name, column in connection.query(sql, (schema, table)).fetchall()
        )

    def replace_index(self, connection, schema, table, old, new):
        if old:  # first: DataJoint cuts the names of indexes, and both may have the same one
            connection.query(f"drop index {self.quote_identifier(schema)}.{self.quote_identifier(old)}")
        if new:
            connection.query(self.create_index_ddl(self.make_full_table_name(schema, table), new))

    def analyze(self, connection, tables):
        # It looks by itself within a minute; until then, it plans as if the tables were empty.
        connection.query(f"analyze {', '.join(tables)}")

    def session_ids(self, connection):
        return {int(row[0]) for row in connection.query("select pid from pg_stat_activity").fetchall()}

    def translate_error(self, error, query=""):
        if not isinstance(error, psycopg2.Error):
            return super().translate_error(error, query)
        code, text = error.pgcode or "", str(error).partition("\nQUERY:")[0].strip()
        if isinstance(error, psycopg2.InterfaceError) or code in LOST:
            return LostConnectionError(text)
        if isinstance(error, psycopg2.OperationalError) and not code:
            return LostConnectionError(text)
        if code in TRANSIENT:
            return TransientError(text)
        if code == "57014" and "statement timeout" in text:  # else somebody has cancelled it
            return DatabaseError(TOO_LONG)
        if code == "23001":
            return IntegrityError(text)
        if code == "42501":
            return self.right_missing(text, query)
        translated = super().translate_error(error, query)
        if isinstance(translated, DataJointError):
            translated.args = tuple(str(part).partition("\nQUERY:")[0] for part in translated.args)
            return in_one_text(translated)
        if code.startswith("22") or code == "23514" or isinstance(error, psycopg2.DataError):
            return RowError(f"The database refuses a value: {text}.")
        return DatabaseError(f"{text} (PostgreSQL error {code})")


READER = "labweave_reader"
_MAKE_READER = f"""do $$ begin
    if not exists (select from pg_roles where rolname = '{READER}') then
        create role {READER} login in role pg_read_all_data;
    end if;
exception when duplicate_object or unique_violation then null;  -- another process was first
end $$"""
_OPEN_CURSOR = (
    "declare labweave_query refcursor := 'labweave_query'; begin open labweave_query no scroll for execute %s; end"
)


def _run(session: Any, sql: str, params: Any, timeout_s: float) -> tuple[list[str], list[tuple]]:
    """Return names and rows of a query; it is sent as a value, of which the server makes a cursor, or refuses."""
    with session.cursor() as cursor:
        cursor.execute("show statement_timeout")
        before = cursor.fetchone()[0]
        cursor.execute(
            f"set local statement_timeout = {max(1, int(timeout_s * 1000))}; set local cursor_tuple_fraction = 1"
        )
        if is_administrator := session.info.parameter_status("is_superuser") == "on":  # files and programs are its, too
            cursor.execute("set local role pg_read_all_data")
        text = cursor.mogrify(sql, params).decode()
        cursor.execute("do %s", (cursor.mogrify(_OPEN_CURSOR, (text,)).decode(),))
        cursor.execute("fetch all from labweave_query")
        names, rows = [column[0] for column in cursor.description], cursor.fetchall()
        if is_administrator:
            cursor.execute("set local role none")
        cursor.execute("close labweave_query; set local statement_timeout = %s", (before,))
    return names, rows


_BYTES = psycopg2.extensions.new_type(
    (17,), "BYTES", lambda value, cursor: None if value is None else bytes(psycopg2.BINARY(value, cursor))
)


def _adapt_datetime64(value: np.datetime64):
    return psycopg2.extensions.adapt(value.astype("datetime64[us]").item())


class PostgreSQLBatch(Batch):
    """COPY where all rows are new; else COPY into a temporary table, and compare there."""

    clash_is_final = True  # ON CONFLICT covers the primary key, so it is on a second unique index

    def __init__(self, *args: Any):
        super().__init__(*args)
        digest = hashlib.sha256((self.full_name + self.names).encode()).hexdigest()[:16]
        self.stage = f'pg_temp."stage_{digest}"'
        self.key_order = ", ".join(self._value(key) for key in self.keys)

    def write(self, rows: list[tuple]) -> tuple[int, list[Changed]]:
        query, text = self.connection.query, _copy_text(rows)
        if not self._first_exists(rows) and self._copy_new(text):
            return len(rows), []
        query(
            f"create temporary table if not exists {self.stage.removeprefix('pg_temp.')} as"
            f" select {self.names} from {self.full_name} with no data; truncate {self.stage}"
        )
        self._copy(self.stage, text)
        keys = ", ".join(self.q[key.name] for key in self.keys)
        inserted = query(
            # A row that is there may lack a field that a new one needs: it must not be tried.
            f"insert into {self.full_name} ({self.names}) select {self.names} from {self.stage} s"
            f" where not exists (select 1 from {self.full_name} t where {self.join})"
            f" order by {self.key_order} on conflict ({keys}) do nothing"
        ).rowcount
        if inserted == len(rows) or not self.changing:
            return inserted, []
        source = f"from {self.stage} s"
        changed = self._changed(
            query(
                f"select {self.both} {source} join {self.full_name} t on {self.join}"
                f" where {self.differs} order by {self.key_order} for update of t"
            )
        )
        if changed:
            assign = ", ".join(f"{self.q[c.name]} = s.{self.q[c.name]}" for c in self.changing)
            query(f"update {self.full_name} t set {assign} {source} where {self.join} and ({self.differs})")
        return inserted, changed

    def _copy_new(self, text: str) -> bool:
        """Insert all rows, or none and return False when one of them exists."""
        try:
            with self.connection.savepoint(DuplicateError):
                self._copy(self.full_name, text)
        except DuplicateError:
            return False
        return True

    def _copy(self, target: str, text: str) -> None:
        cursor = self.connection.adapter.get_cursor(self.connection._conn)
        with self.connection.waiting():
            cursor.copy_expert(f"copy {target} ({self.names}) from stdin", io.StringIO(text))


_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_needs_escape = re.compile(r"[\\\t\n\r]").search


def _copy_text(rows: list[tuple]) -> str:
    """Return rows in PostgreSQL's COPY text format."""
    columns = [_copy_column(column) for column in zip(*rows, strict=True)]
    return "\n".join(map("\t".join, zip(*columns, strict=True))) + "\n"


def _copy_column(values: tuple[Any, ...]) -> Iterable[str]:
    types = set(map(type, values))
    has_null = type(None) in types
    types.discard(type(None))
    if types <= {int, float, dt.datetime, dt.date}:
        return ["\\N" if value is None else str(value) for value in values] if has_null else map(str, values)
    if types == {str}:
        if not has_null:
            return map(_copy_field, values) if _needs_escape("".join(values)) else values
        if not _needs_escape("".join([value for value in values if value is not None])):
            return ["\\N" if value is None else value for value in values]
    return map(_copy_field, values)


def _copy_field(value: Any) -> str:
    if type(value) is str:
        return value.translate(_COPY_ESCAPES) if _needs_escape(value) else value
    if value is None:
        return "\\N"
    if type(value) is bytes:
        return "\\\\x" + value.hex()
    return str(value)


Adapter.batch, Adapter.rights = PostgreSQLBatch, PostgreSQLRights

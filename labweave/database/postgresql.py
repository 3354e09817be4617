"""PostgreSQL, embedded or on a server: how a session is opened and what its errors mean."""

from __future__ import annotations

import json

import numpy as np
import psycopg2
import psycopg2.extensions
from datajoint.adapters.postgres import PostgreSQLAdapter
from datajoint.errors import DataJointError, IntegrityError, LostConnectionError

from labweave.database.errors import TransientError
from labweave.errors import DatabaseError, RowError

TRANSIENT = {"40001", "40P01", "55P03"}
LOST = {"57P01", "57P02", "57P03", "08000", "08003", "08006"}


class Adapter(PostgreSQLAdapter):
    """PostgreSQL, embedded or on a server."""

    def connect(self, host, port, user, password, **kwargs):
        connection = super().connect(host, port, user, password, **kwargs)
        psycopg2.extensions.register_type(_BYTES, connection)
        psycopg2.extensions.register_adapter(np.datetime64, _adapt_datetime64)
        psycopg2.extensions.register_adapter(dict, lambda value: psycopg2.extensions.adapt(json.dumps(value)))
        with connection.cursor() as cursor:
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

    mark_settles_s = 0.0

    def descending(self, column: str) -> str:
        """Return the order by a column from its largest value on, with missing ones at the end."""
        return f"{column} desc nulls last"

    def write_mark(self, connection) -> str | None:
        """See `LabConnection.write_mark`: which transactions are visible, exactly."""
        # A transaction of our own that has written sees more than its snapshot says.
        row = connection.query(
            "select pg_current_snapshot()::text where pg_current_xact_id_if_assigned() is null"
        ).fetchone()
        if row is None:
            return None
        oldest, following, running = row[0].split(":")
        # A standby doesn't say which ones are running.
        return row[0] if running or oldest == following else None

    def translate_error(self, error, query=""):
        if not isinstance(error, psycopg2.Error):
            return super().translate_error(error, query)
        code, text = error.pgcode or "", str(error).strip()
        if isinstance(error, psycopg2.InterfaceError) or code in LOST:
            return LostConnectionError(text)
        if isinstance(error, psycopg2.OperationalError) and not code:
            return LostConnectionError(text)
        if code in TRANSIENT:
            return TransientError(text)
        if code == "23001":
            return IntegrityError(text)
        translated = super().translate_error(error, query)
        if isinstance(translated, DataJointError):
            return translated
        if code.startswith("22") or code == "23514" or isinstance(error, psycopg2.DataError):
            return RowError(f"The database refuses a value: {text}.")
        return DatabaseError(f"{text} (PostgreSQL error {code})")


_BYTES = psycopg2.extensions.new_type(
    (17,), "BYTES", lambda value, cursor: None if value is None else bytes(psycopg2.BINARY(value, cursor))
)


def _adapt_datetime64(value: np.datetime64):
    return psycopg2.extensions.adapt(value.astype("datetime64[us]").item())

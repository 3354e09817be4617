"""Connections: DataJoint's, made to behave alike on MySQL, MariaDB and PostgreSQL.

This module is the only place where sessions are opened, one for each thread. Every session is in UTC,
comes back after a lost or restarted server, gives bytes for bytes, takes numpy and
pandas values and dictionaries, reads backslashes alike, and raises labweave's errors
instead of the driver's. The traps it closes were found on DataJoint 2.3 with
PostgreSQL 15 to 18, MySQL 9.7 and MariaDB 10.11.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import importlib
import itertools
import logging
import os
import random
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import datajoint.table
from datajoint.adapters import ADAPTERS
from datajoint.connection import Connection
from datajoint.dependencies import Dependencies
from datajoint.errors import DataJointError, LostConnectionError
from datajoint.settings import _create_config
from datajoint.utils import user_choice

from labweave.database import changes
from labweave.database.derived import update_derived
from labweave.database.dialect import TransientError
from labweave.database.made import being_made, keep_code, record_made
from labweave.database.patience import LONGEST_PAUSE_S, lasts, open_patiently
from labweave.database.sessions import Session, sessions_of
from labweave.database.silence import Watch
from labweave.database.url import DatabaseUrl
from labweave.embedded.server import EmbeddedServer
from labweave.errors import AccessDenied, ConfigError, LabweaveError, ServerUnavailable

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_savepoints = itertools.count()

ATTEMPTS = 6
"""How often a transaction is tried when it loses a deadlock or a race."""
TRIES = 3
"""How often a statement is tried that loses its session."""


def _of_session(name: str) -> Any:
    """Return a property that is the session's of the thread which asks for it."""

    def read(self: LabConnection) -> Any:
        return getattr(self._session, name)

    def write(self: LabConnection, value: Any) -> None:
        setattr(self._session, name, value)

    return property(read, write)


class LabConnection(Connection):
    """A DataJoint connection to one lab database, for any number of threads: each has a session of its own.

    Parameters
    ----------
    url : DatabaseUrl
        Where the database is.
    prefix : str
        What the names of this lab's schemas begin with.

    Attributes
    ----------
    server_version : str
        As the server says it.
    n_statements : int
        How many this thread has run.
    last_opened : object
        Another one whenever a session was opened: as long as it is the same, none was lost.
    """

    adapter: Any
    _in_transaction = _of_session("in_transaction")
    _making = _of_session("making")
    _began = _of_session("began")
    why_deleted = _of_session("why_deleted")
    n_statements = _of_session("n_statements")

    def __init__(self, url: DatabaseUrl, prefix: str):
        _load_adapter(url.backend)
        self.url, self.prefix = url, prefix
        self.server = EmbeddedServer(url.data_dir) if url.embedded else None
        self.tables: dict[str, Any] = {}
        self.known_code: set[str] = set()
        self.numbers: dict[str, Any] = {}
        self._threads, self._watch = threading.local(), Watch(self)
        self._shape = object()
        with _without_hints():
            config: Any = _create_config()
            if "DJ_LOG_LEVEL" not in os.environ:
                logging.getLogger("datajoint").setLevel(logging.WARNING)
            config.database.backend = url.backend
            super().__init__(
                "labweave", url.user, url.password, url.port, backend=f"labweave-{url.backend}", config_override=config
            )
        row = self.query("select version()").fetchone()
        self.server_version = str(row[0])
        self.adapter = self.adapter.of_version(self.server_version)
        if not url.embedded:
            self.adapter.grant_command = f"labweave --prefix {prefix} db grant {{role}} {url.user}"

    @property
    def _session(self) -> Session:
        try:
            return self._threads.session
        except AttributeError:
            session = self._threads.session = Session(self)
            return session

    @property
    def _conn(self) -> Any:
        """What DataJoint calls the connection of the driver: that of this thread, opened when it is first needed."""
        if (driver := self._session.driver) is not None:
            return driver
        self._open()
        return self._session.driver

    @_conn.setter
    def _conn(self, nothing: None) -> None:
        """Take what DataJoint sets first; `connect` opens sessions."""

    @property
    def connection_id(self) -> int:
        """What the server calls the session of this thread."""
        return self._session.number

    @connection_id.setter
    def connection_id(self, number: int) -> None:
        """Take what DataJoint sets: it is that of the first session."""

    @property
    def dependencies(self) -> Dependencies:
        """DataJoint's graph of foreign keys; each thread has its own."""
        return self._session.dependencies(self._shape)

    @dependencies.setter
    def dependencies(self, empty: Dependencies) -> None:
        """Take what DataJoint sets: `Session.dependencies` makes it."""

    def connect(self) -> None:
        """Open the session of this thread, also after `close`; start the embedded server if it is not running."""
        self._is_closed = False
        self._open()

    def _open(self) -> None:
        if self._is_closed:
            raise self._closed()
        session = self._session
        if session.in_transaction or session.holds:  # what came before is gone
            session.in_transaction = False
            raise LostConnectionError(f"{self.url}: the session of this transaction or lock was lost.")
        open_patiently(self._open_session, self.url)
        self.last_opened = object()
        if self._is_closed:  # by another thread, just now
            self.close()
            raise self._closed()
        if self.server is None:
            self._watch.begin()

    def _open_session(self) -> None:
        driver = self.open_driver()
        try:
            self._session.take(driver)
        except Exception as error:  # whatever the driver raises
            self._session.end()
            raise _connect_error(self.url, error) from error

    def open_driver(self) -> Any:
        """Return a new connection of the driver, which is no thread's session."""
        at = self.url
        if self.server is not None:
            at = dataclasses.replace(at, **vars(self.server.acquire()), tls="off")
        login = {"host": at.host, "port": at.port, "user": at.user, "passwd": at.password}
        self.conn_info = {**login, "database_name": at.dbname}
        try:
            return self.adapter.open(at)
        except LabweaveError:
            raise
        except Exception as error:  # whatever the driver raises
            raise _connect_error(self.url, error) from error

    def _closed(self) -> ConfigError:
        return ConfigError(f"The connection to {self.url} is closed. Call labweave.connect() first.")

    @property
    def in_transaction(self) -> bool:
        """Say whether a transaction is open; a lost session counts as open until a query finds out."""
        return self._in_transaction

    def write_mark(self) -> str | None:
        """Return a text that changes with every commit on the server; None where there is no such text.

        When two marks of one session are equal, statements that ran between them have read the same data. On MySQL and
        MariaDB, the first mark must be `adapter.mark_settles_s` older than the statement. Inside a transaction there
        is no mark.
        """
        if self.in_transaction:
            return None
        try:
            return self.adapter.write_mark(self)
        except LostConnectionError:
            raise
        except (DataJointError, LabweaveError):  # a right is missing
            return None

    def query(self, query: str, args: tuple = (), *, reconnect: bool | None = True, **options: Any) -> Any:
        """Run a statement; notice the first one of a make, and keep what DataJoint deletes.

        A lost session is opened again, and outside a transaction the statement runs again, unless `reconnect` is False.
        """
        if deletion := changes.kept_deletion(self, query):
            return self.run_transaction(lambda: changes.delete(self, *deletion, args))
        if query.startswith(("DROP ", "CREATE ", "ALTER ")):  # a table that is made again may have other attributes
            self.tables, self.numbers, self._shape = {}, {}, object()  # whoever uses the old ones fills the old ones
        session = self._session
        if (making := being_made()) is not session.making[0]:
            session.making = making, time.monotonic()
        session.n_statements += 1
        try:
            for tries_left in reversed(range(TRIES)):
                try:
                    return super().query(query, args, reconnect=False, **options)
                except LostConnectionError as error:
                    if session.in_transaction:
                        session.in_transaction = False
                        raise LostConnectionError(f"Connection was lost during a transaction: {error}") from None
                    if session.holds or not reconnect or not tries_left:
                        raise
                    log.warning("opening another session: %s", error)
        except (KeyboardInterrupt, SystemExit):  # its answer, which nobody has read, would be taken for the next one's
            session.in_transaction = False
            session.end()
            raise

    def _execute_query(self, cursor: Any, query: str, args: Any, suppress_warnings: bool) -> None:
        """Run a statement. DataJoint hides warnings, which drivers give no more, in a way that threads can't share."""
        with self.waiting(query):
            cursor.execute(query, args)

    @contextlib.contextmanager
    def waiting(self, query: str = "") -> Iterator[None]:
        """Wait inside for an answer to what the driver sends; its errors become labweave's."""
        session = self._session
        session.asked = time.monotonic()
        try:
            yield
        except Exception as error:
            if self._is_closed:  # by another thread: it is not to be opened again
                raise self._closed() from None
            found = self.adapter.translate_error(error, query)
            if isinstance(found, LostConnectionError):
                session.lose()
            if session.why_cut:
                raise LostConnectionError(f"{self.url}: {session.why_cut}.") from None
            raise found  # noqa: B904
        finally:
            session.asked = 0.0

    @contextlib.contextmanager
    def exclusive(self, name: str, timeout_s: int) -> Iterator[bool]:
        """Hold a lock of the server, as `Dialect.exclusive` does; the next statement fails when its session is lost."""
        session = self._session
        with self.adapter.exclusive(self, name, timeout_s) as is_held:
            session.holds = is_held
            try:
                yield is_held
            finally:
                session.holds = False

    def start_transaction(self) -> None:
        """Start a transaction that reads one state of the database, as every make does."""
        if self.in_transaction:
            raise DataJointError("A transaction is open already. Transactions can't be nested.")
        keep_code(self)
        self.query(self.adapter.start_snapshot)
        self._in_transaction, self._began = True, time.monotonic()

    def commit_transaction(self) -> None:
        """Commit; the transaction of a make also says what was made."""
        if (making := being_made()) is not None:
            try:
                record_made(self, making, time.monotonic() - min(self._making[1], self._began))
            except BaseException:
                self.cancel_transaction()
                raise
        super().commit_transaction()

    def cancel_transaction(self) -> None:
        """Roll back; a session that is gone has rolled back by itself."""
        self._in_transaction = False
        if self._session.driver is not None:
            super().cancel_transaction()

    def update_derived(self, table: Any, keys: Iterable[str] | None = None) -> int:
        """Update the attributes that follow from a table's rows; see `labweave.database.derived.update_derived`."""
        return update_derived(self, table, keys)

    @property
    def is_connected(self) -> bool:
        """Say whether the server answers."""
        try:
            self.query("select 1", reconnect=False)
        except (DataJointError, LabweaveError):
            return False
        return True

    def close(self) -> None:
        """Close the sessions of all threads; the last to leave the embedded server stops it."""
        self._is_closed = True
        self._watch.end()
        for session in sessions_of(self):
            session.end()
        if self.server is not None:
            self.server.release()

    def now(self) -> dt.datetime:
        """Return the time by the server's clock, in UTC."""
        return self.query("select current_timestamp(6)").fetchone()[0].replace(tzinfo=None)

    def __repr__(self) -> str:
        return f"<labweave connection to {self.url}>"

    def run_transaction(self, work: Callable[[], Result], *, read_committed: bool = True) -> Result:
        """Do `work` in one transaction, again when it loses a deadlock or its connection.

        Inside a transaction that is already open (a ``make()``), `work` simply joins it
        and whoever opened it tries again.

        Parameters
        ----------
        work : callable
            Takes nothing; may run more than once, so it must not have effects elsewhere.
        read_committed : bool, default: True
            On MySQL and MariaDB, read what others have committed, as PostgreSQL does.
        """
        if self.in_transaction:
            return work()
        began = time.monotonic()
        for attempt in itertools.count(1):
            try:
                if read_committed and self.adapter.before_transaction:
                    self.query(self.adapter.before_transaction)
                super().start_transaction()
                try:
                    result = work()
                    super().commit_transaction()
                except BaseException:
                    self.cancel_transaction()
                    raise
                return result
            except (TransientError, LostConnectionError) as error:
                if attempt >= ATTEMPTS and not (isinstance(error, LostConnectionError) and lasts(began)):
                    raise
                log.info("transaction attempt=%d failed: %s", attempt, error)
                time.sleep(random.uniform(0, min(0.05 * 2**attempt, LONGEST_PAUSE_S)))  # noqa: S311
        raise AssertionError("unreachable")

    def run_whole(self, work: Callable[[], Result]) -> Result:
        """Do `work` in one transaction; inside one that is open already, it is undone by itself when it fails."""
        if not self.in_transaction:
            return self.run_transaction(work)
        with self.savepoint(Exception):
            return work()

    @contextlib.contextmanager
    def deleting(self, kind: str | None = None, run: str | None = None) -> Iterator[None]:
        """Say of what is deleted inside, for ``ingestion.Change``, of which kind it is and which run deletes it."""
        before = self.why_deleted
        self.why_deleted = (kind or before[0], run or before[1])
        try:
            yield
        finally:
            self.why_deleted = before

    @contextlib.contextmanager
    def savepoint(self, undoing: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
        """Undo what is done inside on one kind of error, so that the open transaction can go on after it."""
        name = f"labweave_{next(_savepoints)}"
        self.query(f"savepoint {name}")
        try:
            yield
        except LostConnectionError:  # so is the transaction
            raise
        except undoing:
            self.query(f"rollback to savepoint {name}")
            raise
        self.query(f"release savepoint {name}")


def _choice(*question: Any, **options: Any) -> str:
    """Ask as DataJoint does. Ctrl-C means no: it would leave the deletion in an open transaction, which all joins."""
    try:
        return user_choice(*question, **options)
    except KeyboardInterrupt:
        return "no"
    except EOFError:
        log.warning("Nobody can be asked here, so nothing is deleted. To ask nobody: delete(prompt=False)")
        return "no"


datajoint.table.user_choice = _choice


def _load_adapter(backend: str) -> None:
    """Make DataJoint know labweave's adapter of a backend, and load its driver."""
    if (name := f"labweave-{backend}") in ADAPTERS:
        return
    try:
        module = importlib.import_module(f"labweave.database.{backend}")
    except ImportError as error:
        driver = {"mysql": "pymysql", "postgresql": "psycopg2-binary"}[backend]
        raise ConfigError(
            f"The driver for {backend} can't be loaded ({error}). Install it: pip install {driver}"
        ) from None
    ADAPTERS[name] = module.Adapter


@contextlib.contextmanager
def _without_hints() -> Iterator[None]:
    """Hide DataJoint's warnings that do not matter here: no datajoint.json, MariaDB, its call of PyMySQL."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No datajoint.json found")
        warnings.filterwarnings("ignore", message="'passwd' is deprecated")
        warnings.filterwarnings("ignore", message=".*MariaDB is not officially supported.*")
        yield


def _connect_error(url: DatabaseUrl, error: Exception) -> Exception:
    """Return the labweave error for a connection that could not be opened."""
    text = re.sub(r"\s+", " ", str(error.args[-1] if error.args else error)).strip()
    if url.password:
        text = text.replace(url.password, "***")
    code = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if "cryptography" in text:
        return ConfigError(
            f"{url}: this server wants a package for its passwords. Install it: pip install cryptography"
        )
    if code in {1045, 1698} or re.search(
        r"password authentication failed|no password supplied|role .* does not exist", text
    ):
        advice = "Check LABWEAVE_DATABASE_URL or labweave.toml."
        if not url.password:
            advice = "No password was given. To be asked for one: LABWEAVE_DATABASE_PASSWORD=prompt:"
        return AccessDenied(f"{url} refuses the user or password: {text}. {advice}")
    if re.search(r"database .* does not exist", text):
        return ConfigError(f"{url}: {text}. Create it on the server: createdb {url.dbname}")
    return ServerUnavailable(f"Nothing usable answers at {url}: {text}. Is the server running, and the address right?")

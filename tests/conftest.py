"""What the tests share: one database for all, emptied before each test that uses it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import Commands

import labweave.database
from labweave.database import declare
from labweave.database.connection import LabConnection
from labweave.database.sessions import sessions_of
from labweave.database.url import parse_url
from labweave.embedded.server import EmbeddedServer
from labweave.embedded.users import programs
from labweave.schemas import dataset

PREFIX = f"lwtest{os.getpid()}_"
REPOSITORY = Path(__file__).resolve().parents[1]


def find_shared() -> Path | None:
    """Return the folder of real files, if it is beside the checkout or named by LABWEAVE_SHARED."""
    folder = Path(os.environ.get("LABWEAVE_SHARED", REPOSITORY.parent / "shared"))
    return folder if (folder / "data").is_dir() else None


def pytest_addoption(parser):
    parser.addoption(
        "--only-database",
        action="store_true",
        help="leave out the tests that never touch the database under test: they need no second backend",
    )


def pytest_configure():
    """Let Ctrl-C reach what the tests start, also where a shell has started them in the background, without it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Let the slow files begin first, so that the test processes end together."""
    if config.getoption("--only-database"):
        left_out = [item for item in items if "database_url" not in item.fixturenames]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if "database_url" in item.fixturenames]
    slow_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real files written by the real tools."""
    folder = find_shared()
    if folder is None:
        pytest.skip("the folder of real recordings is not beside the checkout (LABWEAVE_SHARED names it)")
    return folder


@pytest.fixture(scope="session")
def durable() -> bool:
    """Whether the embedded server waits for its disk. The tests kill its clients, never the server itself."""
    return False


@pytest.fixture(scope="session")
def database_url(durable):
    """Return the database under test: LABWEAVE_TEST_DATABASE_URL, or an embedded one of this run."""
    if url := os.environ.get("LABWEAVE_TEST_DATABASE_URL"):
        yield url
        return
    # Not below pytest's own folder: as root that is closed to the user the server runs as.
    with tempfile.TemporaryDirectory(prefix="labweave-tests-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedServer(Path(folder) / "data", durable=durable)
        server.acquire()
        yield f"embedded://{folder}/data"
        server.stop()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """Keep the developer's own settings out of the tests."""
    for name in [
        name for name in os.environ if name.startswith("LABWEAVE_") and "TEST" not in name and name != "LABWEAVE_SHARED"
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def _tables(database_url):
    labweave.connect(database_url, prefix=PREFIX).close()
    yield
    drop_schemas(database_url, PREFIX)


@pytest.fixture
def database(_tables, database_url):
    """An open, empty database with the default contents."""
    opened = labweave.connect(database_url, prefix=PREFIX)
    empty(opened)
    yield opened
    while database_is_open():
        if labweave.database.current() is opened:
            check_presence()
        labweave.database.current().close()


@pytest.fixture(scope="module")
def one_lab(_tables, database_url, tmp_path_factory):
    """Folder of the eight sessions of ``one_lab.py``, with their rows in the open database; for tests that only read."""
    import one_lab

    root = tmp_path_factory.mktemp("one_lab")
    one_lab.write_files(root)
    opened = labweave.connect(database_url, prefix=PREFIX)
    empty(opened)
    one_lab.fill(root)
    yield root
    while database_is_open():
        labweave.database.current().close()


@pytest.fixture
def new_prefix(database_url):
    """Return a function that gives prefixes nobody has used; their schemas are dropped afterwards."""
    made = []

    def make() -> str:
        made.append(f"lw{os.getpid()}x{len(made)}_")
        return made[-1]

    yield make
    for prefix in made:
        drop_schemas(database_url, prefix)


class Declared:
    """All tables of a lab as SQL, with which another is made in a moment: declaring them one by one takes seconds."""

    def __init__(self, url: str, prefix: str):
        self.url, self.prefix = url, prefix
        connection = LabConnection(parse_url(url), prefix)
        self.is_postgresql = connection.adapter.backend == "postgresql"
        self.statements = _dumped(connection, prefix) if self.is_postgresql else list(_shown(connection, prefix))
        connection.close()

    def copy(self, prefix: str) -> None:
        """Make the same lab under another prefix."""
        connection = LabConnection(parse_url(self.url), prefix)
        cursor = connection._conn.cursor()
        for statement, *rows in self.statements:
            named = [[v.replace(self.prefix, prefix) if isinstance(v, str) else v for v in row] for row in rows]
            cursor.execute(statement.replace(self.prefix, prefix), *named)
        connection.close()


def _dumped(connection, prefix) -> list[tuple[str]]:
    info = connection.conn_info
    address = [f"--host={info['host']}", f"--port={info['port']}", f"--username={info['user']}"]
    options = ["--no-owner", "--no-privileges", f"--dbname={info['database_name']}"]
    # Other tables may have rows of an earlier test.
    lookups = [f"--table={prefix}{pattern}" for pattern in ("*.#*", "*.~lineage", "meta.*")]
    statements = []
    for chosen in (["--schema-only", f"--schema={prefix}*"], ["--data-only", "--inserts", *lookups]):
        text = subprocess.check_output([programs() / "pg_dump", *address, *options, *chosen], text=True)
        lines = (line for line in text.splitlines() if not line.startswith("\\"))  # those are psql's own
        statements.append(("\n".join(lines),))
    return statements


def _shown(connection, prefix):
    yield ("set foreign_key_checks = 0",)
    sql = "select table_schema, table_name from information_schema.tables where table_schema like %s order by 1, 2"
    tables = connection.query(sql, (prefix.replace("_", r"\_") + "%",)).fetchall()
    for schema in dict.fromkeys(schema for schema, _ in tables):
        yield (connection.query(f"show create database `{schema}`").fetchone()[1],)
    for schema, table in tables:
        place = f"`{schema}`.`{table}`"
        text = connection.query(f"show create table {place}").fetchone()[1]
        yield (f"use `{schema}`",)
        yield (text,)
        for row in connection.query(f"select * from {place}").fetchall():
            yield f"insert into {place} values ({', '.join(['%s'] * len(row))})", row


@pytest.fixture(scope="session")
def _declared(_tables, database_url):
    with labweave.connect(database_url, prefix=PREFIX) as opened:
        empty(opened)
        return Declared(database_url, PREFIX) if opened.backend == "mysql" or is_embedded(database_url) else None


@pytest.fixture
def new_lab(_declared, new_prefix):
    """Return a function that gives prefixes of new labs with all their tables."""

    def make() -> str:
        prefix = new_prefix()
        if _declared:
            _declared.copy(prefix)
        return prefix

    return make


@pytest.fixture(scope="session")
def _commands():
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture
def labweave_command(_commands, database_url, tmp_path):
    """Return a function that runs the ``labweave`` command in a process of its own; its `start` only starts it."""

    def start(*arguments: str, prefix: str = PREFIX, cwd=tmp_path, **environment):
        own = {"LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": prefix, "COLUMNS": "200"}
        return _commands.start(list(map(str, arguments)), cwd, {**os.environ, **own, **environment})

    def run(*arguments: str, check: int | None = None, **options):
        process = start(*arguments, **options)
        out, err = process.communicate()
        if check is not None:
            assert process.returncode == check, out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    run.start = start
    return run


def check_presence() -> None:
    """Whatever a test has written: a dataset is present exactly while one of its copies is."""
    copies = dataset.FileRecord().to_dicts()
    there = {row["dataset_id"] for row in copies if row["present"] and row["file_vanished"] is None}
    said = {row["dataset_id"] for row in dataset.Dataset.proj("is_present").to_dicts() if row["is_present"]}
    assert said == there


def database_is_open() -> bool:
    """Say whether this process has a database open."""
    return labweave.database._open is not None


def drop_schemas(url: str, prefix: str) -> None:
    """Drop every schema of a prefix."""
    connection = LabConnection(parse_url(url), prefix)
    rows = connection.query("select schema_name from information_schema.schemata").fetchall()
    for name in [row[0] for row in rows if row[0].startswith(prefix)]:
        if connection.adapter.backend == "mysql":
            connection.query("set foreign_key_checks = 0")
            connection.query(f"drop database if exists `{name}`")
        else:
            connection.query(f'drop schema if exists "{name}" cascade')
    connection.close()


def tables_of(database) -> list[str]:
    """Return the quoted names of every table of the lab that has rows."""
    connection, quote = database.connection, database.connection.adapter.quote_identifier
    schemas = tuple(declare.schema_name(connection, module) for module in declare.schema_modules())
    rows = connection.query(
        f"select table_schema, table_name from information_schema.tables where table_schema in ({', '.join(['%s'] * len(schemas))})",
        schemas,
    ).fetchall()
    places = [f"{quote(schema)}.{quote(table)}" for schema, table in sorted(rows) if not table.startswith("~lineage")]
    parts = [f"(select {n} from {place} limit 1)" for n, place in enumerate(places)]
    return [places[row[0]] for row in connection.query(" union all ".join(parts)).fetchall()]


@contextmanager
def unchecked(connection):
    """Let no foreign key be checked meanwhile: all rows of a table may go, or come, in any order."""
    name, off, on = "foreign_key_checks", "0", "1"
    if connection.adapter.backend == "postgresql":
        name, off, on = "session_replication_role", "replica", "origin"
    connection.query(f"set {name} = {off}")
    yield
    connection.query(f"set {name} = {on}")


def empty(database) -> None:
    """Delete every row but the default contents of lookups."""
    connection = database.connection
    with unchecked(connection):
        for table in tables_of(database):
            if not re.search(r"\W#\w+\W$", table):
                connection.query(f"delete from {table}")
    for module in declare.schema_modules():
        for cls in declare.table_classes(module):
            contents = list(getattr(cls, "contents", ()))
            if contents and len(cls()) != len(contents):
                connection.query(f"delete from {cls.full_table_name}")
                cls().insert(contents)


def delete_results(database) -> None:
    """Delete every computed row. DataJoint's cascade gives the same, and asks the server for seconds what hangs on what."""
    with unchecked(database.connection):
        for table in tables_of(database):
            if re.search(r"\W__\w+\W$", table):
                database.connection.query(f"delete from {table}")


class SavedRows:
    """The rows of a lab as they are now, to be put back after a test has changed them."""

    def __init__(self, database):
        self.database, self.schema = database, f"{database.prefix}saved"
        connection = database.connection
        cascade = " cascade" if database.backend == "postgresql" else ""
        connection.query(f"drop schema if exists {self.schema}{cascade}")  # of another module's tests
        connection.query(f"create schema {self.schema}")
        self.copies = {table: f"{self.schema}.t{n}" for n, table in enumerate(tables_of(database))}
        for table, copy in self.copies.items():
            connection.query(f"create table {copy} as select * from {table}")

    def restore(self) -> None:
        """Put them back; what came later goes."""
        connection = self.database.connection
        with unchecked(connection):
            for table in {*tables_of(self.database), *self.copies}:
                connection.query(f"delete from {table}")
            for table, copy in self.copies.items():
                connection.query(f"insert into {table} select * from {copy}")


@pytest.fixture(scope="session")
def qt():
    """A Qt application without a screen."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    widgets = pytest.importorskip("PyQt5.QtWidgets")
    yield widgets.QApplication.instance() or widgets.QApplication([])


@pytest.fixture
def experiment(qt):
    """An experiment to collect for."""
    from fish_experiment import Experiment

    return Experiment()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of its own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def kill_session(database) -> None:
    """End the server's side of the open sessions, as a restarted server or a router would, and wait until they are gone."""
    connection = database.connection
    other = LabConnection(connection.url, connection.prefix)
    try:
        for number in [session.number for session in sessions_of(connection) if session.driver is not None]:
            if database.backend == "mysql":
                other.query(f"kill {int(number)}")
                while number in {row[0] for row in other.query("show processlist").fetchall()}:
                    time.sleep(0.01)
            else:
                assert other.query("select pg_terminate_backend(%s, 10000)", (number,)).fetchone()[0]
    finally:
        other.close()


def is_embedded(url: str) -> bool:
    """Say whether a URL is that of the embedded server."""
    return parse_url(url).embedded

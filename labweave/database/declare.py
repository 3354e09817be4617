"""Declaring: which schemas and tables exist, made by one process at a time and kept in a register.

Binding a table class to a database costs no query. Declaring, which DataJoint does
table by table and leaves half done when it fails, happens here under a lock; a
register of what was declared whole makes half-declared tables recognisable, so that
the next run repairs them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from datajoint.heading import Heading
from datajoint.user_tables import AutoPopulate, Part

from labweave.database.connection import LabConnection
from labweave.database.reads import among
from labweave.errors import ConfigError, DatabaseError, SchemaError

log = logging.getLogger(__name__)

MODULES = {
    "ingestion": "labweave.schemas.ingestion",
    "work": "labweave.schemas.work",
    "provenance": "labweave.schemas.provenance",
    "lab": "labweave.schemas.lab",
    "subject": "labweave.schemas.subject",
    "session": "labweave.schemas.session",
    "dataset": "labweave.schemas.dataset",
    "task": "labweave.schemas.task",
    "onedata": "labweave.schemas.onedata",
    "alyx": "labweave.ingest.alyx.tables",
    "recording": "labweave.schemas.recording",
    "rheobase": "labweave.schemas.rheobase",
    "efeature": "labweave.schemas.efeature",
}
"""Schema, without the prefix -> the module that holds its tables; parents first."""

BESIDE = ("_restoring", "_replaced", "_verifying")
"""Ends of the names of schemas that a restore makes beside the lab's, and drops again."""

LOCK_SECONDS = 120


@dataclass(frozen=True)
class Drift:
    """One place where code and database disagree."""

    table: str
    problem: str
    advice: str


@functools.cache
def schema_modules() -> list[ModuleType]:
    """Return the modules that hold tables, parents first."""
    return [importlib.import_module(path) for path in MODULES.values()]


def short_name(module: ModuleType) -> str:
    """Return the name of a module's schema without the prefix, for example ``session``."""
    return next(name for name, path in MODULES.items() if path == module.__name__)


def table_classes(module: ModuleType) -> list[Any]:
    """Return the table classes of a schema module, masters before their parts."""
    return [table for cls, _ in module.schema.declare_list for table in (cls, *_parts(cls))]


def _parts(cls: Any) -> list[Any]:
    return [part for part in vars(cls).values() if inspect.isclass(part) and issubclass(part, Part)]


def every_table() -> list[Any]:
    """Return the table classes of all schemas, those that others refer to first."""
    return [cls for module in schema_modules() for cls in table_classes(module)]


def is_computed(cls: Any) -> bool:
    """Say whether populate fills a table."""
    return issubclass(cls, AutoPopulate)


def schema_names(prefix: str) -> list[str]:
    """Return the names of a lab's schemas in the database, its register included."""
    return [f"{prefix}meta", *(f"{prefix}{name}" for name in MODULES)]


def schema_name(connection: LabConnection, module: ModuleType) -> str:
    """Return the name of a module's schema in the database, for example ``labweave_session``."""
    return connection.prefix + short_name(module)


def bind(connection: LabConnection) -> None:
    """Bind every table class to `connection`, without a query."""
    for module in schema_modules():
        schema = module.schema
        schema.connection, schema.database = connection, schema_name(connection, module)
        schema.create_tables = False
        connection.register(schema)
        for cls, context in schema.declare_list:
            names = {**context, **vars(module), cls.__name__: cls, "self": cls}
            _bind_table(cls, schema, names)
            for part in _parts(cls):
                part._master = cls
                _bind_table(part, schema, {**names, "master": cls, "self": part})


def _bind_table(cls: Any, schema: Any, context: dict[str, Any]) -> None:
    cls.database, cls._connection, cls.declaration_context = schema.database, schema.connection, context
    cls._support = [cls.full_table_name]
    if is_computed(cls):
        cls._jobs = None
    cls._heading = Heading(
        table_info={
            "conn": schema.connection,
            "database": schema.database,
            "table_name": cls.table_name,
            "context": context,
        }
    )


class _Closed:
    """Stands for the connection of a database that was closed."""

    def __getattr__(self, name: str):
        raise ConfigError("The database of this table is closed. Call labweave.connect() first.")


def unbind() -> None:
    """Take every table class off its connection, so that a use after close is an error."""
    for module in schema_modules():
        module.schema.connection = module.schema.database = None
    for cls in every_table():
        cls._connection, cls._heading = _Closed(), None


@contextlib.contextmanager
def exclusive(connection: LabConnection) -> Iterator[None]:
    """Hold this lab's declaration lock; other processes wait for it.

    Raises
    ------
    DatabaseError
        The lock was not free for two minutes.
    """
    name = f"{connection.prefix}declare"
    with connection.exclusive(name, LOCK_SECONDS) as is_held:
        if not is_held:
            raise DatabaseError(
                f"Another process has been declaring tables of {name} for {LOCK_SECONDS} s. Wait for it, or end it."
            )
        yield


class Register:
    """The lab's own book-keeping: its schema version and the tables declared whole."""

    def __init__(self, connection: LabConnection):
        self.connection = connection
        quote = connection.adapter.quote_identifier
        self.schema = f"{connection.prefix}meta"
        self._version = f"{quote(self.schema)}.{quote('version')}"
        self._declared = f"{quote(self.schema)}.{quote('declared')}"

    def exists(self) -> bool:
        """Say whether this prefix holds a labweave database."""
        sql = (
            "select count(*) from information_schema.tables "
            "where table_schema = %s and table_name in ('version', 'declared')"
        )
        return self.connection.query(sql, (self.schema,)).fetchone()[0] == 2

    def create(self) -> None:
        """Make the two tables of the register, if they don't exist."""
        self.connection.query(self.connection.adapter.create_schema_sql(self.schema))
        self.connection.query(
            f"create table if not exists {self._version} (id int primary key, schema_version int not null,"
            " labweave_version varchar(32) not null, changed timestamp(6) not null default current_timestamp(6))"
        )
        self.connection.query(
            f"create table if not exists {self._declared} (schema_name varchar(64) not null,"
            " table_name varchar(64) not null, definition_sha256 char(64) not null,"
            " primary key (schema_name, table_name))"
        )

    def version(self) -> tuple[int, str] | None:
        """Return the schema version and the labweave version that set it."""
        row = self.connection.query(
            f"select schema_version, labweave_version from {self._version} where id = 1"
        ).fetchone()
        return (int(row[0]), str(row[1])) if row else None

    def set_version(self, version: int, labweave_version: str) -> None:
        """Record that the database is at `version`."""
        new = {"schema_version": version, "labweave_version": labweave_version}
        self._replace(self._version, {"id": 1}, new)

    def declared(self) -> dict[tuple[str, str], str]:
        """Return (schema, table) -> sha256 of the definition it was declared with."""
        rows = self.connection.query(f"select schema_name, table_name, definition_sha256 from {self._declared}")
        return {(row[0], row[1]): row[2] for row in rows.fetchall()}

    def set_declared(self, schema: str, table: str, sha256: str) -> None:
        """Record that a table has been declared whole."""
        key = {"schema_name": schema, "table_name": table}
        self._replace(self._declared, key, {"definition_sha256": sha256})

    def _replace(self, table: str, key: dict[str, Any], new: dict[str, Any]) -> None:
        row, conditions = {**key, **new}, " and ".join(f"{name} = %s" for name in key)

        def write():
            self.connection.query(f"delete from {table} where {conditions}", tuple(key.values()))
            marks = ", ".join(["%s"] * len(row))
            self.connection.query(f"insert into {table} ({', '.join(row)}) values ({marks})", tuple(row.values()))

        self.connection.run_transaction(write)


def find_labs(connection: LabConnection) -> list[str]:
    """Return the prefixes of the labs on this server that its user may see."""
    rows = connection.query(
        "select table_schema from information_schema.tables where table_name in ('version', 'declared')"
        " group by table_schema having count(*) = 2 order by table_schema"
    )
    return [row[0].removesuffix("meta") for row in rows.fetchall() if row[0].endswith("meta")]


def definition_sha256(cls: Any) -> str:
    """Return the sha256 of a definition, its comments and white space left out."""
    lines = (re.sub(r"#.*", "", line) for line in str(cls.definition).splitlines())
    text = "\n".join(" ".join(line.split()) for line in lines if line.strip())
    return hashlib.sha256(text.encode()).hexdigest()


def existing_columns(connection: LabConnection) -> dict[tuple[str, str], set[str]]:
    """Return (schema, table) -> the columns of every table in this lab's schemas."""
    names = [schema_name(connection, module) for module in schema_modules()]
    rows = connection.query(
        "select table_schema, table_name, column_name from information_schema.columns"
        f" where {among('table_schema', names)}",
        tuple(names),
    )
    found: dict[tuple[str, str], set[str]] = {}
    for schema, table, column in rows.fetchall():
        found.setdefault((schema, table), set()).add(column)
    return found


def declare_all(connection: LabConnection, progress: Callable[[str], None] = lambda table: None) -> int:
    """Declare what is missing, repair what is half declared; hold the lock while calling this.

    Returns
    -------
    int
        Number of tables declared.
    """
    register = Register(connection)
    declared, existing = register.declared(), existing_columns(connection)
    count = 0
    for module in schema_modules():
        name = schema_name(connection, module)
        connection.query(connection.adapter.create_schema_sql(name))
        for cls in table_classes(module):
            if (name, cls.table_name) in existing:
                if (name, cls.table_name) in declared:
                    continue
                _drop_half_declared(connection, cls)
            progress(f"{name}.{cls.table_name}")
            _declare(connection, cls)
            register.set_declared(name, cls.table_name, definition_sha256(cls))
            count += 1
    return count


def _declare(connection: LabConnection, cls: Any) -> None:
    try:
        with _quiet_datajoint():
            cls().declare(cls.declaration_context)
            cls._heading = Heading(table_info=cls._heading.table_info)
            connection.dependencies.clear()
            connection.adapter.complete_declaration(connection, cls)
            cls._heading = Heading(table_info=cls._heading.table_info)
            if is_computed(cls):
                jobs = cls().jobs
                if not jobs.is_declared:
                    jobs.declare()
            if contents := list(getattr(cls, "contents", ())):
                cls().insert(contents, skip_duplicates=True)
    except Exception:
        with contextlib.suppress(Exception):
            _drop_half_declared(connection, cls)
        raise


def redeclared(connection: LabConnection, names: set[str]) -> None:
    """Record that a migration has brought tables to their definitions of today, and order their indexes."""
    register = Register(connection)
    for cls in every_table():
        if cls.__name__ in names:
            connection.adapter.complete_declaration(connection, cls)
            register.set_declared(cls.database, cls.table_name, definition_sha256(cls))


def _drop_half_declared(connection: LabConnection, cls: Any) -> None:
    """Drop a table whose declaration was not finished; refuse when rows are in it that no declaration made."""
    rows = connection.query(f"select count(*) from {cls.full_table_name}").fetchone()[0]
    if rows > len(list(getattr(cls, "contents", ()))):
        raise SchemaError(
            f"{cls.full_table_name} holds {rows} rows but was never declared whole. "
            "Save them, drop the table, and run: labweave db upgrade"
        )
    adapter = connection.adapter
    if is_computed(cls):
        jobs = adapter.make_full_table_name(cls.database, "~~" + cls.table_name.lstrip("_"))
        connection.query(f"drop table if exists {jobs}")
    log.warning("dropping the half-declared table=%s", cls.full_table_name)
    connection.query(f"drop table {cls.full_table_name}")


@contextlib.contextmanager
def _quiet_datajoint() -> Iterator[None]:
    """DataJoint warns of native types in the jobs tables that it writes itself."""
    logger = logging.getLogger("datajoint")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def find_drift(connection: LabConnection) -> list[Drift]:
    """Compare the code's tables with the database's.

    Returns
    -------
    list of Drift
        Tables that are missing, half declared, declared from another definition, or
        whose columns differ; empty when code and database agree.
    """
    declared, existing = Register(connection).declared(), existing_columns(connection)
    drifts = []
    for cls in every_table():
        place = (cls.database, cls.table_name)
        if place not in existing:
            found = ("the table is missing", "run: labweave db upgrade")
        elif place not in declared:
            found = ("its declaration was not finished", "run: labweave db upgrade")
        elif declared[place] != definition_sha256(cls):
            advice = "run: labweave db upgrade, or install the labweave that made it"
            found = ("it was declared from another definition", advice)
        elif missing := _own_attributes(cls) - existing[place]:
            found = (f"it has no column {', '.join(sorted(missing))}", "restore a backup, or add what was dropped")
        else:
            continue
        drifts.append(Drift(".".join(place), *found))
    return drifts


def _own_attributes(cls: Any) -> set[str]:
    """Return the attributes that a definition names itself, without those of its foreign keys."""
    lines = (line.partition("#")[0].strip() for line in str(cls.definition).splitlines())
    return {match[1] for line in lines if (match := re.match(r"([a-z][a-z0-9_]*)\s*(?:=[^:]*)?:", line))}

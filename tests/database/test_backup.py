"""Backups: what comes back is what went in, on every server; and nothing is lost by accident."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import stat
import subprocess
import tempfile
import threading
import zipfile
from decimal import Decimal
from pathlib import Path

import psycopg2
import pymysql
import pytest
from killing import is_killed_at

from labweave.database import backup as backup_module
from labweave.database.backup import BackupInfo, backup, mysql, postgresql, read_info, restore, verify
from labweave.database.connection import LabConnection
from labweave.database.url import DatabaseUrl, parse_url
from labweave.embedded.server import EmbeddedServer
from labweave.errors import (
    AccessDenied,
    ConfigError,
    DatabaseError,
    ReadError,
    SchemaError,
    ServerUnavailable,
    VersionError,
)

pytestmark = pytest.mark.slow

PREFIX = f"lwbackup{os.getpid()}_"
SUBJECT, SESSION, OTHER = PREFIX + "subject", PREFIX + "session", PREFIX + 'other\'s "α"'
SCHEMAS = [SESSION, SUBJECT]  # the child first

TEXTS = [
    "plain", "", " blanks ", "emoji 🐭🧠 e\u0301 日本", "back\\slash \\n \\' \\", "quote ' '' \" `",
    "a\nb\r\nc\td",
    "\x01\x1a\x7f\u2028\x85", "%s %(x)s {x} $1 ?;", "'); DROP TABLE x; --", "\\.", "NULL", None,
]  # fmt: skip
BLOBS = [
    b"", b"\x00", b"\x00\n\r\x1a'\"\\\xff" * 3, bytes(range(256)), os.urandom(3_000_000), b"\\x00",
    b"\x00" * 1_000_000, None,
]  # fmt: skip
FLOATS = [0.1, -1 / 3, 1e-300, 1.7976931348623157e308, -0.0, 123456789.123456789, 5e-324, None]
SINGLES = [0.1, 1 / 3, 16777217.0, 1.17549435e-38, 3.4028234e38, -0.0, None]
JSONS = [{"a": [1, 2.5, None, True], "é🐭": "x\ny\\\"'"}, [], "text", 1.1, None]
TIMES = [
    datetime.datetime(2024, 2, 29, 23, 59, 59, 999999), datetime.datetime(1999, 1, 1, 0, 0, 0, 1), None,
]  # fmt: skip


SERVERS = {
    "mariadb": os.environ.get("LABWEAVE_TEST_DATABASE_URL") or "mysql://root:@127.0.0.1:3306",
    "mysql": os.environ.get("LABWEAVE_TEST_MYSQL_URL") or "mysql://root:@127.0.0.1:3309",
}


@pytest.fixture(scope="module")
def module_path():
    """A folder that the server's user can reach: pytest closes its own whenever another run starts."""
    with tempfile.TemporaryDirectory(prefix="labweave-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def embedded(module_path):
    server = EmbeddedServer(module_path / "data", durable=False)
    address = server.acquire()
    yield DatabaseUrl(
        "postgresql", host=address.host, port=address.port, user=address.user, dbname=address.dbname, tls="off"
    )
    server.release()


@pytest.fixture(params=["postgresql", "mariadb", "mysql"])
def target(request):
    """A server with no schema of these tests, before and after."""
    if request.param == "postgresql":
        target = request.getfixturevalue("embedded")
    else:
        target = parse_url(SERVERS[request.param])
        try:
            connect(target).close()
        except pymysql.Error as error:
            pytest.skip(f"no server at {target}: {error}")
    drop_all(target)
    yield target
    drop_all(target)


@pytest.fixture
def filled(target):
    fill(target)
    return target


def connect(target, **options):
    if target.backend == "postgresql":
        connection = psycopg2.connect(
            host=target.host, port=target.port, user=target.user, dbname=target.dbname, **options
        )
        connection.autocommit = True
        return connection
    return pymysql.connect(
        host=target.host, port=target.port, user=target.user, password=target.password, charset="utf8mb4",
        autocommit=True, **options,
    )  # fmt: skip


def run(target, *statements):
    with contextlib.closing(connect(target)) as connection, connection.cursor() as cursor:
        for statement, *values in statements:
            cursor.execute(quoted(target, statement), values or None)
        return list(cursor.fetchall()) if cursor.description else None


def quoted(target, statement):
    """Write names in double quotes as the server wants them; ``""`` within them is one quote."""
    if target.backend == "postgresql":
        return statement
    return statement.replace('""', "\0").replace('"', "`").replace("\0", '"')


def name(schema):
    return '"' + schema.replace('"', '""') + '"'


def drop_all(target):
    cascade = " CASCADE" if target.backend == "postgresql" else ""
    off = [] if cascade else [["SET foreign_key_checks = 0"]]
    run(target, *off, *[[f"DROP SCHEMA IF EXISTS {name(schema)}{cascade}"] for schema in (*SCHEMAS, OTHER)])


def fill(target):
    """Two schemas of the kind DataJoint makes: keys across them, odd names, all the types."""
    is_pg = target.backend == "postgresql"
    collation = "" if is_pg else " DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    blob, real, double = ("bytea", "real", "float8") if is_pg else ("longblob", "float", "double")
    moment = "timestamp" if is_pg else "datetime(6)"
    comment = "" if is_pg else r" COMMENT 'one\nline; \\ it''s 🐭'"
    key = "int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY" if is_pg else "int AUTO_INCREMENT PRIMARY KEY"
    run(
        target,
        [f"CREATE SCHEMA {name(SUBJECT)}{collation}"],
        [f"CREATE SCHEMA {name(SESSION)}{collation}"],
        [f'CREATE TABLE {name(SUBJECT)}."#subject" (id {key}, note text{comment}, is_x int DEFAULT 3)'],
        [
            f'CREATE TABLE {name(SESSION)}."__all" (id int PRIMARY KEY, subject int, text text, data {blob},'
            f' number {double}, single {real}, document json, moment {moment}, amount decimal(20,5),'
            ' kind varchar(9) DEFAULT \'a;b\', big bigint, day date, "select" int,'
            f' doubled int GENERATED ALWAYS AS (id * 2) STORED,'
            f' FOREIGN KEY (subject) REFERENCES {name(SUBJECT)}."#subject" (id) ON UPDATE CASCADE)'
        ],
        [f'CREATE TABLE {name(SESSION)}."~empty" (id int PRIMARY KEY, parent int,'
         f' FOREIGN KEY (parent) REFERENCES {name(SESSION)}."__all" (id))'],
        *[[f'INSERT INTO {name(SUBJECT)}."#subject" (note) VALUES (%s)', text] for text in TEXTS],
    )  # fmt: skip
    columns = 'id, subject, text, data, number, single, document, moment, amount, kind, big, day, "select"'
    statement = f'INSERT INTO {name(SESSION)}."__all" ({columns}) VALUES ({", ".join(["%s"] * 13)})'
    rows = []
    for i in range(max(map(len, (TEXTS, BLOBS, FLOATS, JSONS)))):
        document = JSONS[i % len(JSONS)]
        rows.append([
            i, i % len(TEXTS) + 1, TEXTS[i % len(TEXTS)], BLOBS[i % len(BLOBS)], FLOATS[i % len(FLOATS)],
            SINGLES[i % len(SINGLES)], None if document is None else json.dumps(document),
            TIMES[i % len(TIMES)], Decimal("-123456789012345.00001"), "é🐭", -(2**63),
            datetime.date(1, 1, 1), i,
        ])  # fmt: skip
    run(target, *[[statement, *row] for row in rows])


def everything(target):
    """All that a program can see of the two schemas: definitions and rows, as exact as can be."""
    found = {}
    for schema, table in ((SUBJECT, "#subject"), (SESSION, "__all"), (SESSION, "~empty")):
        where = f'{name(schema)}."{table}"'
        found[table] = run(target, [f"SELECT * FROM {where} ORDER BY id"])
        if target.backend == "mysql":
            found[table, "made"] = run(target, [f"SHOW CREATE TABLE {where}"])
            found[schema, "made"] = run(target, [f"SHOW CREATE DATABASE {name(schema)}"])
        found[table, "columns"] = run(target, [
            "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position", schema, table,
        ])  # fmt: skip
    multiply = "single::text" if target.backend == "postgresql" else "single * 1e0"
    found["single"] = run(target, [f'SELECT {multiply} FROM {name(SESSION)}."__all" ORDER BY id'])
    found = {key: [list(map(plain, row)) for row in rows] for key, rows in found.items()}
    for key, rows in found.items():
        if key[-1] == "made":  # MySQL repeats the table's character set when it was once written out
            found[key] = [[text.replace(" CHARACTER SET utf8mb4 COLLATE", " COLLATE") for text in rows[0]]]
    return found


def plain(value):
    value = bytes(value) if isinstance(value, memoryview) else value
    return repr(value)  # so that -0.0 is not 0.0


# -- there and back ------------------------------------------------------------------------


def test_what_is_restored_equals_what_was_backed_up(filled, tmp_path):
    before = everything(filled)
    assert len(before["__all"]) == 13
    path = tmp_path / "all.zip"
    info = backup(filled, path, SCHEMAS, prefix=PREFIX)
    drop_all(filled)
    assert restore(filled, path) == info
    assert everything(filled) == before
    with pytest.raises((psycopg2.IntegrityError, pymysql.IntegrityError)):  # keys across schemas hold
        run(filled, [f'INSERT INTO {name(SESSION)}."__all" (id, subject) VALUES (999, 999)'])
    next_id = [f'INSERT INTO {name(SUBJECT)}."#subject" (note) VALUES (%s)', "next"]
    run(filled, next_id)
    assert run(filled, [f'SELECT max(id) FROM {name(SUBJECT)}."#subject"'])[0][0] == len(TEXTS) + 1


def test_a_schema_that_exists_is_replaced_only_when_told(filled, tmp_path):
    before = everything(filled)
    backup(filled, tmp_path / "b", SCHEMAS)
    run(
        filled,
        [f'UPDATE {name(SUBJECT)}."#subject" SET note = %s', "later"],
        [f"CREATE TABLE {name(SUBJECT)}.later (id int)"],
    )
    later = everything(filled)
    with pytest.raises(SchemaError, match="already has .*; nothing was restored"):
        restore(filled, tmp_path / "b")
    assert everything(filled) == later
    restore(filled, tmp_path / "b", replace=True)
    assert everything(filled) == before
    with pytest.raises((psycopg2.Error, pymysql.Error)):
        run(filled, [f"SELECT * FROM {name(SUBJECT)}.later"])


def test_the_backup_has_the_state_of_one_moment(filled, tmp_path, monkeypatch):
    """Rows that come while it is written are in none of the tables."""
    write, first = backup_module.Body.write, threading.Event()

    def insert_once(body, data):
        if data.startswith((b"PGDMP", b"CREATE")) and not first.is_set():
            first.set()
            run(filled, [f'INSERT INTO {name(SUBJECT)}."#subject" (note) VALUES (%s)', "too late"])
        write(body, data)

    monkeypatch.setattr(backup_module.Body, "write", insert_once)
    backup(filled, tmp_path / "b", SCHEMAS)
    assert first.is_set()
    restore(filled, tmp_path / "b", replace=True)
    assert run(filled, [f'SELECT count(*) FROM {name(SUBJECT)}."#subject"'])[0][0] == len(TEXTS)


def test_odd_schema_names(target, tmp_path):
    run(
        target,
        [f"CREATE SCHEMA {name(OTHER)}"],
        [f'CREATE TABLE {name(OTHER)}."a`b" (id int)'.replace("`", "" if target.backend == "mysql" else "`")],
    )
    backup(target, tmp_path / "b", [OTHER])
    restore(target, tmp_path / "b", replace=True)
    assert run(target, ["SELECT count(*) FROM information_schema.tables WHERE table_schema = %s", OTHER])


# -- the file ------------------------------------------------------------------------------


def test_the_file_is_private_complete_and_tells_what_it_holds(filled, tmp_path):
    info = backup(filled, tmp_path / "b.zip", SCHEMAS, prefix=PREFIX)
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]
    assert stat.S_IMODE((tmp_path / "b.zip").stat().st_mode) == 0o600
    assert read_info(tmp_path / "b.zip") == info
    assert info.schemas == sorted(SCHEMAS) and info.prefix == PREFIX and info.backend == filled.backend
    assert datetime.datetime.fromisoformat(info.created).utcoffset() == datetime.timedelta(0)
    assert zipfile.ZipFile(tmp_path / "b.zip").testzip() is None


def test_a_file_that_exists_is_kept_unless_told(filled, tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        backup(filled, tmp_path / "b", SCHEMAS)
    assert (tmp_path / "b").read_text() == "mine"
    backup(filled, tmp_path / "b", SCHEMAS, overwrite=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no file that could be replaced"):
        backup(filled, tmp_path / "pipe", SCHEMAS, overwrite=True)
    assert read_info(tmp_path / "b").schemas == sorted(SCHEMAS)


def test_a_backup_that_fails_leaves_no_file(filled, tmp_path, monkeypatch):
    def stop(body, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(backup_module.Body, "write", stop)
        backup(filled, tmp_path / "b", SCHEMAS)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="Can't write the backup"):
        backup(filled, tmp_path / "no" / "folder", SCHEMAS)


def test_a_damaged_file_is_refused_before_anything_is_dropped(filled, tmp_path):
    path = tmp_path / "b"
    backup(filled, path, SCHEMAS)
    before = everything(filled)
    whole = path.read_bytes()
    inside = len(whole) // 4  # in random bytes; a flip in the run of zeros may unpack to the same zeros
    damages = {
        "flipped": whole[:inside] + bytes([whole[inside] ^ 1]) + whole[inside + 1 :],
        "short": whole[:-100],
        "empty": b"",
        "foreign": b"PK and so on",
    }
    for damage in damages.values():
        path.write_bytes(damage)
        with pytest.raises(ReadError, match=r"damaged|not a labweave backup"):
            restore(filled, path, replace=True)
    with pytest.raises(ReadError, match="No such file"):
        restore(filled, tmp_path / "missing", replace=True)
    assert everything(filled) == before


def rewrite(path, body=None, **changes):
    """Make a backup that says something else about itself, or holds something else."""
    with zipfile.ZipFile(path) as archive:
        found = json.loads(archive.read("labweave-backup.json"))
        member = next(n for n in archive.namelist() if n.startswith("dump"))
        body = body or archive.read(member)
    if "sha256" not in changes:
        changes["sha256"] = hashlib.sha256(body).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, body)
        archive.writestr("labweave-backup.json", json.dumps({**found, **changes}))


def test_backups_of_other_databases_and_later_versions_are_refused(filled, tmp_path):
    path = tmp_path / "b"
    info = backup(filled, path, SCHEMAS)
    other = {"postgresql": "mysql", "mysql": "mariadb", "mariadb": "mysql"}[info.product]
    rewrite(path, product=other)
    with pytest.raises(ConfigError, match=f"made by {other}"):
        restore(filled, path, replace=True)
    with pytest.raises(ConfigError, match="is a backup of"):
        backend = "mysql" if filled.backend == "postgresql" else "postgresql"
        restore(dataclasses.replace(filled, backend=backend), path, replace=True)
    rewrite(path, product=info.product, format=3, labweave_version="9.9")
    with pytest.raises(VersionError, match=r"labweave 9\.9"):
        restore(filled, path, replace=True)


# -- refusals ------------------------------------------------------------------------------


def test_schemas_that_need_others_are_not_backed_up_alone(filled, tmp_path):
    with pytest.raises(SchemaError, match=r"foreign keys point elsewhere: .*__all -> .*#subject"):
        backup(filled, tmp_path / "b", [SESSION])
    with pytest.raises(SchemaError, match="no schema lw_nothing"):
        backup(filled, tmp_path / "b", [SESSION, "lw_nothing"])
    assert list(tmp_path.iterdir()) == []


def test_schemas_that_others_refer_to_are_not_replaced(filled, tmp_path):
    backup(filled, tmp_path / "b", [SUBJECT])
    with pytest.raises(SchemaError, match=r"other tables refer to them: .*__all -> .*#subject"):
        restore(filled, tmp_path / "b", replace=True)
    assert run(filled, [f'SELECT count(*) FROM {name(SESSION)}."__all"'])[0][0] == 13


def test_a_restore_that_fails_changes_nothing(filled, tmp_path):
    path = tmp_path / "b"
    backup(filled, path, SCHEMAS)
    before = everything(filled)
    body = zipfile.ZipFile(path).read(backup_module.SERVERS[filled.backend].BODY)
    rewrite(path, body=body[: len(body) * 3 // 4])
    with pytest.raises(DatabaseError, match="nothing was changed"):
        restore(filled, path, replace=True)
    assert everything(filled) == before


def test_statements_too_long_for_the_server_are_found_before_anything_is_dropped(filled, tmp_path):
    if filled.backend == "postgresql":
        pytest.skip("PostgreSQL has no such limit")
    backup(filled, tmp_path / "b", SCHEMAS)
    rewrite(tmp_path / "b", longest_statement_bytes=1 << 31)
    before = everything(filled)
    with pytest.raises(DatabaseError, match="Raise max_allowed_packet"):
        restore(filled, tmp_path / "b", replace=True)
    assert everything(filled) == before


def test_passwords_are_in_no_message(target, tmp_path):
    secret = "s3cret:\\pass"
    wrong = dataclasses.replace(target, user="lw_nobody", password=secret)
    with pytest.raises((AccessDenied, ServerUnavailable)) as caught:
        backup(wrong, tmp_path / "b", SCHEMAS)
    assert "s3cret" not in f"{caught.value} {wrong!r} {wrong}"
    nowhere = dataclasses.replace(target, host="127.0.0.1", port=1, password=secret)
    with pytest.raises(ServerUnavailable) as caught:
        backup(nowhere, tmp_path / "b", SCHEMAS)
    assert "s3cret" not in str(caught.value)


def test_a_newer_postgresql_server_says_which_programs_are_missing():
    with pytest.raises(VersionError, match="pg_dump of version 99"):
        postgresql._client_programs(99)


def test_line_breaks_leave_a_definition_but_not_its_strings():
    made = "CREATE TABLE `a` (\n  `b` int COMMENT 'x\ny '' \\' `',\n  `c\\` text -- 'q'\n)"
    one_line = mysql._one_line(made)
    assert "\n" not in one_line and r"'x\ny '' \' `'" in one_line
    with pytest.raises(DatabaseError, match="line break in a name"):
        mysql._one_line("CREATE TABLE `a\nb` (`c` int)")


def test_the_description_of_a_backup_is_complete():
    assert {"sha256", "schemas", "created", "labweave_version", "prefix"} <= {
        field.name for field in dataclasses.fields(BackupInfo)
    }


# -- killed --------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [range(1, 1000, 3)])  # 1 instead of 3 tries every moment, in minutes
def test_a_restore_killed_at_any_step_leaves_the_old_or_the_new(filled, tmp_path, steps):
    new = everything(filled)
    backup(filled, tmp_path / "b", SCHEMAS)
    change = [f'UPDATE {name(SUBJECT)}."#subject" SET note = %s', "old"]
    run(filled, change)
    old, found = everything(filled), []
    for n in steps:
        if not is_killed_at(n, lambda: restore(filled, tmp_path / "b", replace=True)):
            break
        now = everything(filled)
        assert now in (old, new), n
        found.append(now == new)
        if now == new:
            run(filled, change)
    assert everything(filled) == new
    assert True in found and False in found
    schemas = [row[0] for row in run(filled, ["SELECT schema_name FROM information_schema.schemata"])]
    assert {schema for schema in schemas if schema.startswith(PREFIX)} == set(SCHEMAS)


def test_ctrl_c_in_a_restore_leaves_the_old_alone(filled, tmp_path, monkeypatch):
    backup(filled, tmp_path / "b", SCHEMAS)
    before, left = everything(filled), 40
    read, write = pymysql.connections.Connection._read_query_result, postgresql.shutil.copyfileobj

    def stop_at_an_answer(*arguments, **options):  # which is on its way, and stays unread
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return read(*arguments, **options)

    def stop_at_the_rest(source, to, size):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        write(source, to, size)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pymysql.connections.Connection, "_read_query_result", stop_at_an_answer)
        patch.setattr(postgresql.shutil, "copyfileobj", stop_at_the_rest)
        restore(filled, tmp_path / "b", replace=True)
    assert left <= 0 or filled.backend == "postgresql"
    assert everything(filled) == before
    schemas = [row[0] for row in run(filled, ["SELECT schema_name FROM information_schema.schemata"])]
    assert {schema for schema in schemas if schema.startswith(PREFIX)} == set(SCHEMAS)


def test_others_use_the_old_while_the_new_is_loaded(filled, tmp_path, monkeypatch):
    backup(filled, tmp_path / "b", SCHEMAS)
    new, looked = everything(filled), []

    def use(function):
        def call(*arguments):
            if threading.current_thread() is threading.main_thread() and len(looked) < 3:
                run(filled, [f'UPDATE {name(SUBJECT)}."#subject" SET note = %s', f"meanwhile {len(looked)}"])
                looked.append(everything(filled) != new)
            return function(*arguments)

        return call

    monkeypatch.setattr(mysql, "_with_names", use(mysql._with_names))
    monkeypatch.setattr(postgresql.shutil, "copyfileobj", use(postgresql.shutil.copyfileobj))
    restore(filled, tmp_path / "b", replace=True)
    assert looked and all(looked)
    assert everything(filled) == new


# -- compared ------------------------------------------------------------------------------


def test_the_backup_says_how_many_rows_each_table_has(filled, tmp_path):
    info = backup(filled, tmp_path / "b", SCHEMAS)
    assert {schema: {table: rows for table, (rows, _) in tables.items()} for schema, tables in info.tables.items()} == {
        SUBJECT: {"#subject": str(len(TEXTS))},
        SESSION: {"__all": "13", "~empty": "0"},
    }


def test_verification_and_restore_find_what_is_not_as_it_was(filled, tmp_path):
    """The dump of later, with what the backup says of the tables of before."""
    path = tmp_path / "b"
    info = backup(filled, path, SCHEMAS)
    assert verify(filled, path) == []
    run(
        filled,
        [f'UPDATE {name(SESSION)}."__all" SET single = 0.10000001 WHERE id = 0'],  # the next number after 0.1
        [f'INSERT INTO {name(SESSION)}."~empty" VALUES (1, 1)'],
        [f"CREATE TABLE {name(SUBJECT)}.later (id int)"],
    )
    backup(filled, path, SCHEMAS, overwrite=True)
    rewrite(path, tables=info.tables)
    wrong = [
        (f"{SESSION}.__all", "other values than were backed up"),
        (f"{SESSION}.~empty", "1 rows, 0 were backed up"),
        (f"{SUBJECT}.later", "not in the backup's list"),
    ]
    before = everything(filled)
    assert sorted(verify(filled, path)) == sorted(wrong)
    with pytest.raises(DatabaseError, match=r"nothing was changed: .*__all \(other values"):
        restore(filled, path, replace=True)
    assert everything(filled) == before
    rewrite(path, tables={}, format=1)
    told = []
    assert verify(filled, path, tell=told.append) == [] and "noted no rows and checksums" in told[0]
    restore(filled, path, replace=True)
    assert everything(filled) == before


def test_only_one_process_restores_a_lab_at_a_time(filled, tmp_path):
    backup(filled, tmp_path / "b", SCHEMAS, prefix=PREFIX)
    with (
        contextlib.closing(LabConnection(filled, PREFIX)) as other,
        other.adapter.exclusive(other, f"{PREFIX}restore", 1) as is_held,
    ):
        assert is_held
        for work in (restore, verify):
            with pytest.raises(DatabaseError, match="Another restore or verification"):
                work(filled, tmp_path / "b")


def test_a_password_is_in_no_file_and_no_argument_of_the_programs(embedded, tmp_path, monkeypatch):
    started, popen = [], subprocess.Popen

    def start(arguments, *more, **options):
        if "env" in options:
            started.append(([str(one) for one in arguments], options["env"]))
        return popen(arguments, *more, **options)

    monkeypatch.setattr(postgresql.subprocess, "Popen", start)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    target = dataclasses.replace(embedded, password="s3cret:\\pass")  # the server asks for none
    fill(target)
    backup(target, tmp_path / "b", SCHEMAS)
    restore(target, tmp_path / "b", replace=True)
    drop_all(target)
    assert len(started) >= 3 and all("s3cret" not in one for arguments, _ in started for one in arguments)
    assert {env["PGPASSWORD"] for _, env in started if env} == {"s3cret:\\pass"}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]

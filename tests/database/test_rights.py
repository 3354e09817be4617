"""Roles on a server: each does all that it must, and is refused all that it must not, as a real user of the server."""

import os
import re
from urllib.parse import quote

import datajoint as dj
import pytest
from conftest import PREFIX, drop_schemas, empty, is_embedded
from simulated import LAB, write_cells

import labweave
from labweave.database import connect
from labweave.database.connection import LabConnection
from labweave.database.rights import ROLES, Rights, statements_to_grant, statements_to_revoke
from labweave.database.url import parse_url
from labweave.errors import AccessDenied
from labweave.schemas import lab, recording, rheobase
from labweave.testing.lab import rows_of_tables

USER = f"lwr{os.getpid()}"
PASSWORD = "Pass:wo/rd1"
ARGUMENTS = ("--lab", LAB, "--subject", "mouse-{cell}", "--session-date", "2026-01-02")


@pytest.fixture(scope="module")
def server(database_url):
    """The URL of an administrator of a server; the embedded database has no roles."""
    if is_embedded(database_url):
        pytest.skip("roles are those of a database server")
    return parse_url(database_url)


def as_user(server, name) -> str:
    """Return the URL of a user of the tests."""
    end = f"/{server.dbname}" if server.dbname else ""
    return f"{server.backend}://{name}:{quote(PASSWORD, safe='')}@{server.host}:{server.port}{end}"


def forget_user(connection, name) -> None:
    if connection.adapter.backend == "mysql":
        connection.query(f"drop user if exists '{name}'@'%%'")
    elif connection.query("select 1 from pg_roles where rolname = %s", (name,)).fetchall():
        connection.query(f'drop owned by "{name}" cascade; drop role "{name}"')


def forget_roles(connection, prefix) -> None:
    """Drop the roles of a lab whose tables are gone."""
    if connection.adapter.backend == "postgresql":
        for role in ROLES:
            forget_user(connection, f"{prefix}{role}")


@pytest.fixture(scope="module")
def people(server, database_url, _tables):
    """A lab with a user of each role, and one of none: the URL of each."""
    connection = LabConnection(server, PREFIX)
    rights, urls = Rights.of(connection), {}
    names = {role: f"{USER}{role[:3]}" for role in (*ROLES, "none")}
    for role, name in names.items():
        forget_user(connection, name)
        if role == "none":
            rights.run([rights.create_user(rights.name_of(name), PASSWORD)])
        else:
            rights.run(statements_to_grant(rights, role, name, PASSWORD))
        urls[role] = as_user(server, name)
    yield urls
    for name in names.values():
        drop_schemas(database_url, f"{name}_")
        forget_user(connection, name)
    owned = connection.adapter.backend == "postgresql"
    if owned:  # the tables stay, for the tests that follow
        for role in ROLES:
            connection.query(f'reassign owned by "{PREFIX}{role}" to current_user; drop owned by "{PREFIX}{role}"')
            connection.query(f'drop role "{PREFIX}{role}"')
    connection.close()


@pytest.fixture
def filled(people, database_url, tmp_path):
    """The lab with two cells in it, closed."""
    with connect(database_url, prefix=PREFIX) as opened:
        empty(opened)
    write_cells(tmp_path / "cells", 2)
    return people


def run(labweave_command, url, *arguments, **options):
    return labweave_command(*arguments, LABWEAVE_DATABASE_URL=url, **options)


def refused(result, role, url) -> bool:
    """Whether a command was refused for want of a role, in one line that says which grant it needs."""
    user = parse_url(url).user
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr and PASSWORD not in result.stderr
    assert f"labweave --prefix {PREFIX} db grant {role} {user}" in result.stderr, result.stderr
    return True


def state(server) -> dict:
    """Return all rows of the lab but those of its book-keeping, read by the administrator."""
    with connect(server, prefix=PREFIX) as opened:
        return rows_of_tables(opened)


def test_a_scientist_brings_data_in_and_makes_results_and_a_reader_reads_them(labweave_command, filled, server):
    scientist, reader = filled["scientist"], filled["reader"]
    run(labweave_command, scientist, "ingest", "ephys", "cells", *ARGUMENTS, check=0)
    run(labweave_command, scientist, "populate", "--workers", "2", check=0)
    run(labweave_command, scientist, "exclude", "cell=cell0", "protocol=IDrest", check=0)
    run(labweave_command, scientist, "include", "cell=cell0", "protocol=IDrest", check=0)
    run(labweave_command, scientist, "populate", check=0)
    run(labweave_command, scientist, "ingest", "ephys", "cells", *ARGUMENTS, "--again", check=0)
    for command in (
        ("init", "--yes"), ("status",), ("errors",), ("sources",), ("one", "search"),
        ("sql", "select cell, rheobase from {prefix}rheobase.__rheobase"), ("explain", "Rheobase", "cell=cell0"),
        ("explain", "Rheobase", "cell=cell0", "--format", "json"), ("delete", "Cell", "cell=cell0", "--dry-run"),
        ("populate", "--dry-run"), ("ingest", "ephys", "cells", *ARGUMENTS, "--dry-run"), ("diagram", "x.svg"),
    ):  # fmt: skip
        result = run(labweave_command, reader, *command)
        assert result.returncode == 0, (command, result.stdout, result.stderr)
    with connect(reader, prefix=PREFIX):
        assert len(rheobase.Rheobase()) == 2
        assert len(labweave.ONE().search()) == 2
    assert refused(run(labweave_command, reader, "verify"), "scientist", reader)  # it is noted
    run(labweave_command, scientist, "verify", check=0)


READERS_CAN_NOT = [
    ("scientist", ("ingest", "ephys", "cells", *ARGUMENTS)),
    ("scientist", ("populate",)),
    ("scientist", ("exclude", "cell=cell0")),
    ("scientist", ("db", "backup", "b")),
]
SCIENTISTS_CAN_NOT = [
    ("admin", ("delete", "Cell", "cell=cell0", "--yes")),
    ("admin", ("db", "grant", "admin", "{user}")),
    ("admin", ("db", "revoke", "admin", "{admin}")),
]


@pytest.fixture
def with_rows(labweave_command, filled):
    run(labweave_command, filled["scientist"], "ingest", "ephys", "cells", *ARGUMENTS, check=0)
    return filled


@pytest.mark.parametrize(
    "command", [*READERS_CAN_NOT, *SCIENTISTS_CAN_NOT], ids=lambda command: " ".join(command[1][:3])
)
@pytest.mark.parametrize("role", ["reader", "scientist"])
def test_a_command_that_lacks_a_right_changes_nothing_and_names_the_grant(
    labweave_command, with_rows, server, command, role
):
    needed, arguments = command
    if ROLES.index(role) >= ROLES.index(needed):
        pytest.skip("it may")
    before, url = state(server), with_rows[role]
    users = {"user": parse_url(url).user, "admin": parse_url(with_rows["admin"]).user}
    result = run(labweave_command, url, *(users.get(argument.strip("{}"), argument) for argument in arguments))
    assert refused(result, needed, url)
    assert state(server) == before


HOSTILE = {  # least role that may
    "select * from {s}": "reader",
    "insert into {lab} (lab) values ('x')": "scientist",
    "update {lab} set address = 'x'": "scientist",
    "delete from {lab} where lab = 'x'": "scientist",
    "truncate table {schema}.x": "admin",
    "drop table {schema}.x": "admin",
    "alter table {lab} add column x int": "admin",
    "alter table {lab} drop column x": "admin",
    "create table {schema}.y (x int)": "admin",
    "create index i on {lab} (address)": "admin",
}


@pytest.mark.parametrize("role", ["none", *ROLES])
def test_statements_of_each_role(filled, server, role):
    names = {"lab": f"{PREFIX}lab.lab", "schema": f"{PREFIX}lab", "s": f"{PREFIX}session.session"}
    with LabConnectionOf(server) as admin:
        admin.query(f"create table {names['schema']}.x (x int)")
        if server.backend == "postgresql":
            admin.query(f"alter table {names['schema']}.x owner to {PREFIX}admin")
    connection = LabConnection(parse_url(filled[role]), PREFIX)
    tried = []
    for sql, least in HOSTILE.items():
        may = role != "none" and ROLES.index(role) >= ROLES.index(least)
        try:
            connection.query(sql.format(**names))
            passed = True
        except dj.DataJointError as error:
            assert isinstance(error, AccessDenied) and "db grant" in str(error), error
            passed = False
        tried.append((sql, passed, may))
    connection.close()
    with LabConnectionOf(server) as admin:
        admin.query(f"drop table if exists {names['schema']}.x, {names['schema']}.y")
        if role == "admin":
            admin.query(f"drop index i on {names['lab']}" if server.backend == "mysql" else f"drop index {PREFIX}lab.i")
    assert [(sql, passed) for sql, passed, _ in tried] == [(sql, may) for sql, _, may in tried]


class LabConnectionOf:
    """A connection of the administrator of the server, closed at the end."""

    def __init__(self, server):
        self.connection = LabConnection(server, PREFIX)

    def __enter__(self):
        return self.connection

    def __exit__(self, *error):
        self.connection.close()


def test_other_labs_and_the_server_are_closed(filled, server, new_lab):
    """Also a lab whose prefix begins with that of this one, and the server's own tables."""
    other = new_lab()
    longer = f"{PREFIX}b_"
    with LabConnectionOf(server) as admin:
        admin.query(f"create schema {longer}lab")
        admin.query(f"create table {longer}lab.lab (lab int)")
    hostile = [
        f"select * from {other}lab.lab",
        f"select * from {longer}lab.lab",
        f"drop table {longer}lab.lab",
        f"insert into {longer}lab.lab values (1)",
    ]
    if server.backend == "mysql":
        hostile += ["select * from mysql.user", "create user x", "select load_file('/etc/passwd')",
                    f"create schema {longer}new", "create schema anybodys", "insert into mysql.db (user) values ('x')",
                    "set global max_connections = 5"]  # fmt: skip
    else:
        hostile += ["select * from pg_authid", "create role x", "copy (select 1) to program 'id'",
                    "select pg_read_file('/etc/passwd')", "alter system set work_mem = '1MB'"]  # fmt: skip
    passed = []
    for role in ROLES:
        connection = LabConnection(parse_url(filled[role]), PREFIX)
        for sql in hostile:
            try:
                rows = connection.query(sql).fetchall()
            except Exception:
                continue
            if rows not in ((), [], ((None,),)):
                passed.append((role, sql, rows))
        connection.close()
    with LabConnectionOf(server) as admin:
        assert admin.query(f"select count(*) from {longer}lab.lab").fetchone()[0] == 0
        admin.query(f"drop table {longer}lab.lab")
        admin.query(f"drop schema {longer}lab")
    assert passed == []


def test_a_scientist_has_own_schemas_that_hang_on_the_lab(filled, server):
    name = parse_url(filled["scientist"]).user
    with connect(filled["scientist"], prefix=PREFIX) as opened:
        schema = dj.Schema(f"{name}_mine", connection=opened.connection, context={"lab": lab})

        @schema
        class Mine(dj.Manual):
            definition = """
            -> lab.Lab
            ---
            note : varchar(20)
            """

        lab.Lab.insert1({"lab": "mylab"})
        Mine.insert1({"lab": "mylab", "note": "x"})
        assert len(Mine()) == 1
        schema.drop(prompt=False)
        (lab.Lab & {"lab": "mylab"}).delete(prompt=False)
    with connect(filled["reader"], prefix=PREFIX) as opened, pytest.raises(dj.DataJointError):
        dj.Schema(f"{name}_theirs", connection=opened.connection)
        opened.connection.query(f"create table {name}_theirs.x (x int)")


def test_an_admin_deletes_upgrades_grants_and_takes_away(labweave_command, with_rows, server):
    admin, none = with_rows["admin"], parse_url(with_rows["none"]).user
    run(labweave_command, admin, "delete", "Cell", "cell=cell0", "--yes", check=0)
    assert "0 steps applied" in run(labweave_command, admin, "db", "upgrade", check=0).stdout
    with LabConnectionOf(server) as connection:  # a table that an upgrade has to make
        connection.query(f"drop table {PREFIX}recording.sweep_exclusion")
        connection.query(f"delete from {PREFIX}meta.declared where table_name = 'sweep_exclusion'")
    run(labweave_command, admin, "db", "upgrade", check=0)
    run(labweave_command, admin, "db", "check", check=0)
    with connect(with_rows["scientist"], prefix=PREFIX):
        assert len(recording.SweepExclusion()) == 0
        recording.SweepExclusion.insert([], skip_duplicates=True)
    with connect(with_rows["reader"], prefix=PREFIX):
        assert len(recording.SweepExclusion()) == 0  # rights reach what an admin has made
    run(labweave_command, admin, "db", "grant", "reader", none, check=0)
    run(labweave_command, with_rows["none"], "status", check=0)
    shown = run(labweave_command, admin, "db", "roles", check=0).stdout
    assert re.search(rf"{none}(@%)? +reader", shown) and re.search(r" +admin", shown)
    assert "is not scientist but reader" in run(labweave_command, admin, "db", "revoke", "scientist", none).stderr
    run(labweave_command, admin, "db", "revoke", "reader", none, check=0)
    result = run(labweave_command, with_rows["none"], "status")
    assert refused(result, "reader", with_rows["none"])


def test_an_admin_restores_and_a_scientist_only_backs_up(labweave_command, with_rows, server):
    admin, scientist, reader = with_rows["admin"], with_rows["scientist"], with_rows["reader"]
    run(labweave_command, scientist, "db", "backup", "lab.backup", check=0)
    before = state(server)
    for url in (scientist, reader):
        result = run(labweave_command, url, "db", "restore", "lab.backup", "--replace")
        assert refused(result, "admin", url)
        assert refused(run(labweave_command, url, "db", "verify", "lab.backup"), "admin", url)
        assert state(server) == before
    run(labweave_command, admin, "delete", "Cell", "cell=cell0", "--yes", check=0)
    run(labweave_command, admin, "db", "verify", "lab.backup", check=0)
    run(labweave_command, admin, "db", "restore", "lab.backup", "--replace", check=0)
    assert state(server) == before
    run(labweave_command, reader, "status", check=0)  # rights are as before
    run(labweave_command, scientist, "ingest", "ephys", "cells", *ARGUMENTS, "--again", check=0)
    run(labweave_command, admin, "db", "upgrade", check=0)


def test_what_is_shown_is_what_is_run_and_dry_run_changes_nothing(labweave_command, filled, server, database_url):
    none = parse_url(filled["none"]).user
    before = run(labweave_command, database_url, "db", "roles", check=0).stdout
    dry = run(labweave_command, database_url, "db", "grant", "scientist", none, "--dry-run", check=0).stdout
    assert "grant" in dry and none in dry
    assert run(labweave_command, database_url, "db", "roles", check=0).stdout == before
    with LabConnectionOf(server) as connection:
        for line in dry.splitlines():
            connection.query(line.rstrip(";").replace("%", "%%"))
    assert re.search(rf"{none}(@%)? +scientist", run(labweave_command, database_url, "db", "roles", check=0).stdout)
    # A lower role takes the place of a higher one.
    run(labweave_command, database_url, "db", "grant", "reader", none, check=0)
    assert re.search(rf"{none}(@%)? +reader", run(labweave_command, database_url, "db", "roles", check=0).stdout)
    with pytest.raises(AccessDenied), connect(filled["none"], prefix=PREFIX):
        lab.Lab.insert1({"lab": "x"})
    run(labweave_command, database_url, "db", "revoke", "reader", none, check=0)
    assert run(labweave_command, database_url, "db", "roles", check=0).stdout == before


def test_a_user_is_made_with_a_password_that_is_kept_elsewhere(
    labweave_command, people, server, database_url, tmp_path
):
    path, name = tmp_path / "password", f"{USER}new"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    for command in (("--create", PASSWORD), ("--create", "prompt:")):
        result = run(labweave_command, database_url, "db", "grant", "reader", name, *command)
        assert result.returncode == 2 and PASSWORD not in result.stderr
    try:
        made = run(labweave_command, database_url, "db", "grant", "reader", name, "--create", f"file:{path}", check=0)
        assert PASSWORD not in made.stdout and "***" in made.stdout
        run(labweave_command, as_user(server, name), "status", check=0)
        again = run(labweave_command, database_url, "db", "grant", "reader", name, "--create", f"file:{path}")
        assert again.returncode == 2 and "already" in again.stderr
        absent = run(labweave_command, database_url, "db", "grant", "reader", f"{name}x")
        assert absent.returncode == 2 and "no user" in absent.stderr and "--create" in absent.stderr
    finally:
        with LabConnectionOf(server) as connection:
            forget_user(connection, name)


def test_an_admin_makes_a_lab_that_is_not_there_yet(labweave_command, server, database_url, new_prefix):
    prefix, name = new_prefix(), f"{USER}own"
    connection = LabConnection(server, prefix)
    rights = Rights.of(connection)
    try:
        rights.run([rights.create_user(rights.name_of(name), PASSWORD)])
        own = as_user(server, name)
        result = run(labweave_command, own, "init", "--yes", prefix=prefix)
        assert result.returncode == 2 and f"--prefix {prefix} db grant admin {name}" in result.stderr
        rights.run(statements_to_grant(rights, "admin", name))
        run(labweave_command, own, "init", "--yes", prefix=prefix, check=0)
        run(labweave_command, own, "status", prefix=prefix, check=0)
        rights.run(statements_to_revoke(rights, "admin", rights.name_of(name)))
        assert run(labweave_command, own, "status", prefix=prefix).returncode == 2
    finally:
        drop_schemas(database_url, prefix)
        forget_user(connection, name)
        forget_roles(connection, prefix)
        connection.close()


def test_own_schemas_never_are_those_of_a_lab(people, server):
    """A scientist whose name is the beginning of a prefix would have all rights to that lab."""
    if server.backend != "mysql":
        pytest.skip("own schemas go by the name of the user on MySQL and MariaDB only")
    other = f"lw{os.getpid()}other_"
    with LabConnectionOf(server) as connection:
        connection.query(f"create schema {other}meta")
        for table in ("version", "declared"):
            connection.query(f"create table {other}meta.{table} (x int)")
        rights = Rights.of(connection)
        try:
            for name in (other.rstrip("_"), PREFIX.rstrip("_")):
                with pytest.raises(labweave.errors.ConfigError, match="of the lab"):
                    statements_to_grant(rights, "scientist", name, PASSWORD)
                assert statements_to_grant(rights, "reader", name, PASSWORD)
        finally:
            connection.query(f"drop schema {other}meta")


def test_names_that_would_end_a_statement_are_refused(server):
    with LabConnectionOf(server) as connection:
        for name in ("a'b", 'a"b', "a`b", "a\\b", "a\nb", "", "a'@'%", "x" * 80):
            with pytest.raises(labweave.errors.ConfigError, match="can't be the name"):
                statements_to_grant(Rights.of(connection), "reader", name)


def test_the_embedded_database_says_that_it_has_no_roles(labweave_command, database_url):
    if not is_embedded(database_url):
        pytest.skip("of the embedded database only")
    result = labweave_command("db", "grant", "reader", "alice")
    assert result.returncode == 2 and "no roles" in result.stderr

"""`Database.query` and ``labweave sql`` read tables and do nothing else, whatever is asked of them."""

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import kill_session
from datajoint.errors import DataJointError
from generated_statements import statements

from labweave.database.connection import LabConnection
from labweave.database.guard import check_query
from labweave.database.postgresql import _MAKE_READER, READER
from labweave.errors import ConfigError, DatabaseError, LabweaveError
from labweave.schemas import lab

STATEMENTS = int(os.environ.get("LABWEAVE_STATEMENTS", "400"))
HARMLESS = {
    "both": [
        "select 1",
        "with a as (select lab, 1 as n from {prefix}lab.lab) select lab, sum(n) over (order by lab) from a",
        "select lab from {prefix}lab.lab union all select 'x' order by 1 limit 2",
        "select count(distinct lab), max(lab), avg(case when lab = 'a' then 1 else 0 end) from {prefix}lab.lab group by lab",
        "select * from {prefix}lab.lab l join (select 1 as one) q on true where exists (select 1)",
        "with recursive n as (select 1 as x union all select x + 1 from n where x < 5) select * from n",
        "select 'drop table x; -- delete' as text, coalesce(null, 'y')",
        "select lab from {prefix}lab.lab; ",
        "explain select lab from {prefix}lab.lab",
    ],
    "postgresql": [
        "select lab_json->>'a', jsonb_typeof(lab_json::jsonb) from {prefix}lab.lab",
        "select string_agg(lab, ',') filter (where lab ~ '^a'), array_agg(lab order by lab) from {prefix}lab.lab",
        "select date_trunc('month', now()), interval '1 day', percentile_cont(0.5) within group (order by 1.0)",
        "select * from generate_series(1, 3) as g",
        "values (1, 'a'), (2, 'b')",
        "show server_version",
    ],
    "mysql": [
        "select json_extract(lab_json, '$.a') from {prefix}lab.lab",
        "select group_concat(distinct lab order by lab separator ';') from {prefix}lab.lab where lab regexp '^a'",
        "select if(1, 2, 3), date_format(now(), '%Y'), convert('é' using utf8mb4), @@version",
        "show tables from {prefix}lab",
        "describe {prefix}lab.lab",
    ],
}
CORES = {
    "both": [
        "delete from {prefix}lab.lab",
        "update {prefix}lab.lab set institution = 'stolen'",
        "insert into {prefix}lab.lab (lab) values ('evil')",
        "drop table {prefix}lab.lab",
        "create table {prefix}lab.evil (x int)",
        "truncate table {prefix}lab.lab",
        "alter table {prefix}lab.lab add column evil int",
        "grant all on {prefix}lab.lab to public",
        "set transaction read write",
        "commit",
        "rollback",
        "lock table {prefix}lab.lab",
        "call evil()",
        "select * from {prefix}lab.lab for update",
    ],
    "postgresql": [
        "copy {prefix}lab.lab to '{file}'",
        "copy (select 1) to program 'touch {file}'",
        "select pg_read_file('/etc/passwd')",
        "select pg_catalog.pg_read_binary_file('/etc/passwd')",
        "select \"pg_ls_dir\"('/')",
        "select lo_export(1, '{file}')",
        "select lo_import('/etc/passwd')",
        "select pg_file_write('{file}', 'x', false)",
        "select pg_sleep(100)",
        "select set_config('role', 'labweave', false)",
        "select query_to_xml('delete from {prefix}lab.lab returning lab', true, true, '')",
        "select ts_stat('delete from {prefix}lab.lab returning lab')",
        "select 1 into {prefix}lab.evil",
        "with x as (delete from {prefix}lab.lab returning *) select * from x",
        "do $$ begin execute 'delete from {prefix}lab.lab'; end $$",
        "prepare x as delete from {prefix}lab.lab",
        "reset role",
        "set session authorization labweave",
        "select pg_terminate_backend(pg_backend_pid())",
        "select U&\"pg_r\\0065ad_file\"('/etc/passwd')",
        "explain analyze delete from {prefix}lab.lab",
        "load 'evil'",
        "create extension dblink",
    ],
    "mysql": [
        "select * from {prefix}lab.lab into outfile '{file}'",
        "select 1 into dumpfile '{file}'",
        "select load_file('/etc/passwd')",
        "select 1 /*!50000 into outfile '{file}' */",
        "select 1 /*M! into outfile '{file}' */",
        "select sleep(100)",
        "select benchmark(1000000000, sha1('x'))",
        "select get_lock('labweave', 100)",
        "select @a := 1",
        "load data infile '/etc/passwd' into table {prefix}lab.lab",
        "replace into {prefix}lab.lab (lab) values ('evil')",
        "set global read_only = 0",
        "handler {prefix}lab.lab open",
        "explain analyze delete from {prefix}lab.lab",
    ],
}
DISGUISES = [
    "{}",
    "{};",
    "select 1; {}",
    "{}; select 1",
    "commit; {}; select 1",
    "/* x */ {}",
    "-- x\n{}",
    "select 1 as a; -- x\n{}",
    "select * from ({}) as q",
    "with a as ({}) select * from a",
    "select ({})",
    "select 'it''s'; {}",
    "select 1 union {}",
    "explain {}",
    "begin; {}; commit",
]


@pytest.fixture
def guarded(database):
    """A database with a lab, and its dialect."""
    lab.Lab.insert([{"lab": "a", "institution": "x"}, {"lab": "b", "institution": "y"}])
    return database, "postgresql" if database.backend == "postgresql" else "mysql"


def hostile(dialect, file, prefix):
    for core, disguise in itertools.product(CORES["both"] + CORES[dialect], DISGUISES):
        yield disguise.format(core.replace("{file}", str(file)).replace("{prefix}", prefix))
        yield disguise.format(core.upper().replace("{FILE}", str(file)).replace("{PREFIX}", prefix))


def state(database):
    """Return the rows of all tables by name, and what else of a database a statement could change."""
    connection = database.connection
    sql = "select table_schema, table_name from information_schema.tables where table_schema like %s order by 1, 2"
    tables = [
        connection.adapter.make_full_table_name(*names) for names in connection.query(sql, (f"{database.prefix}%",))
    ]
    rows = {name: sorted(map(str, connection.query(f"select * from {name}").fetchall())) for name in tables}
    elsewhere = {
        "postgresql": "select (select count(*) from pg_largeobject_metadata), (select count(*) from pg_roles),"
        " (select count(*) from pg_locks where locktype = 'advisory'), (select string_agg(name || setting, ',')"
        " from pg_settings where source = 'session' and name not like 'transaction%%')",
        "mysql": "select (select count(*) from mysql.user), @@sql_mode, @@time_zone",
    }
    return rows, connection.query(elsewhere[database.backend]).fetchall()


def test_ordinary_analysis_runs(guarded):
    database, dialect = guarded
    for sql in HARMLESS["both"] + HARMLESS[dialect]:
        assert database.query(sql) is not None, sql


def test_hostile_statements_change_nothing_and_make_no_file(guarded, tmp_path):
    database, dialect = guarded
    tmp_path.chmod(0o777)
    file = tmp_path / "evil"
    before, refused, tried = state(database), 0, 0
    for sql in hostile(dialect, file, database.prefix):
        tried += 1
        try:
            database.query(sql, timeout_s=2)
        except (LabweaveError, DataJointError):
            refused += 1
    assert tried == refused > 800
    assert state(database) == before
    assert not file.exists()


def test_what_the_guard_would_let_through_the_server_refuses(guarded, tmp_path):
    """Without reading the text: the session can't write, nor run two statements; on PostgreSQL, reach no files either."""
    database, dialect = guarded
    tmp_path.chmod(0o777)
    before, file = state(database), tmp_path / "evil"
    connection = database.connection
    ours = CORES["both"] + (CORES["postgresql"] if dialect == "postgresql" else [])
    for core, disguise in itertools.product(ours, DISGUISES):
        if "sleep" in core or "terminate" in core:
            continue
        sql = disguise.format(core.replace("{file}", str(file)).replace("{prefix}", database.prefix))
        try:
            names, rows = connection.adapter.run_query(connection, sql, None, 5.0)
        except (LabweaveError, DataJointError):
            pass
        else:
            assert "root:" not in str(rows), sql
    assert state(database) == before
    assert not file.exists()


def test_generated_statements_change_nothing_and_make_no_file(guarded, tmp_path):
    """``LABWEAVE_STATEMENTS=10000`` for more. What the guard lets through is run; what it would not, is sent to no server."""
    database, dialect = guarded
    tmp_path.chmod(0o777)
    file, n_run, n = tmp_path / "evil", 0, STATEMENTS
    database.query("select 1")  # makes the role of readers
    before = state(database)
    for at, sql in enumerate(itertools.islice(statements(database, dialect, file, seed=2026), n)):
        try:
            rows = database.query(sql, timeout_s=2)
        except (LabweaveError, DataJointError):
            continue
        n_run += 1
        assert "root:" not in rows.to_string(), sql
        if at % 50 == 0:
            assert state(database) == before, sql
    print(f"\n{dialect}: {n} statements, {n_run} run")
    assert n_run > n / 100
    assert state(database) == before
    assert not file.exists()


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select 1; select 2", "has 2 statements. Run them one by one"),
        ("delete from x", "It is no query"),
        ("selec 1 form x where", "can't be understood|It is no query"),
        ("", "has 0 statements"),
        ("select load_file('x')", "load_file"),
        ("select * from x for update", "would lock"),
    ],
)
def test_refusals_say_why(sql, words):
    for product in ("postgresql", "mysql", "mariadb"):
        with pytest.raises(ConfigError, match=words):
            check_query(sql, product)


def test_a_query_that_takes_too_long_is_ended(guarded):
    database, dialect = guarded
    rows = {
        "postgresql": "generate_series(1, 2000000000) g",
        "mysql": "information_schema.columns a, information_schema.columns b, information_schema.columns c, information_schema.columns d",
    }
    with pytest.raises(DatabaseError, match="took too long and was ended.*--timeout"):
        database.query(f"select count(*) from {rows[dialect]}", timeout_s=0.3)
    assert database.query("select 1 as x").x.tolist() == [1]


def test_two_processes_make_the_role_of_readers_at_once(guarded):
    database, _ = guarded
    if not database.connection.url.embedded:
        pytest.skip("only the embedded database has such a role")
    first, second = (LabConnection(database.connection.url, database.prefix) for _ in range(2))
    first.query(f"drop role if exists {READER}")
    first.query("begin")
    first.query(_MAKE_READER)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.query, _MAKE_READER)
        blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        deadline = time.monotonic() + 60
        while not database.connection.query(blocked).fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.query("commit")
        waiting.result(60)
    for connection in (first, second):
        connection.close()
    assert len(database.query("select lab from {prefix}lab.lab")) == 2


def test_a_query_whose_session_is_lost_is_asked_again(guarded):
    database, _ = guarded
    kill_session(database)
    assert len(database.query("select lab from {prefix}lab.lab")) == 2


def test_queries_read_their_own_transaction(guarded):
    database, _ = guarded
    with database.connection.transaction:
        lab.Lab.insert1({"lab": "c"})
        assert len(database.query("select lab from {prefix}lab.lab")) == 3
        assert len(database.query("select lab from {prefix}lab.lab where lab = %s", ["c"])) == 1


def test_screens_show_the_first_rows(labweave_command, database, guarded):
    many = {"postgresql": "select generate_series(1, 1500) as n", "mysql": None}[guarded[1]] or (
        "with recursive n as (select 1 as x union all select x + 1 from n where x < 1500) "
        "select /*+ set_var(cte_max_recursion_depth = 2000) */ x as n from n limit 1500"
    )
    if guarded[1] == "mysql":
        pytest.skip("recursion is limited to 1,000 rows on MySQL")
    shown = labweave_command("sql", many)
    assert "500 more rows are not shown; --format csv gives all." in shown.stderr
    assert len(labweave_command("sql", many, "--format", "csv").stdout.splitlines()) == 1501

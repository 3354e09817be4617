"""Connecting: one database at a time, clear errors, sessions that come back."""

import datetime as dt
import os
import threading
import time
from contextlib import suppress

import datajoint as dj
import numpy as np
import psycopg2
import pymysql
import pytest
from conftest import PREFIX, is_embedded, kill_session
from datajoint.table import FreeTable

import labweave
from labweave.database import connect, current, upsert
from labweave.database.connection import LabConnection, TransientError
from labweave.database.url import parse_url
from labweave.errors import AccessDenied, ConfigError, DatabaseError, LabweaveError, ServerUnavailable, VersionError
from labweave.schemas import lab, session, subject


def test_connecting_gives_tables_that_can_be_queried(database):
    assert database.backend in {"mysql", "postgresql"}
    assert database.prefix == PREFIX
    assert current() is database
    assert len(session.QC()) == 5
    assert lab.Lab.database == f"{PREFIX}lab"


def test_importing_a_schema_connects_to_nothing():
    code = "import labweave.schemas.efeature, labweave.database as d; d.current()"
    result = _python(code)
    assert "No database is open" in result.stderr and "ConfigError" in result.stderr


def test_the_science_code_does_not_load_datajoint():
    result = _python("import labweave.ephys, labweave.formats.recordings, sys; sys.exit('datajoint' in sys.modules)")
    assert result.returncode == 0, result.stderr


def _python(code):
    import subprocess
    import sys

    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )


def test_connecting_twice_to_the_same_place_is_one_database(database, database_url):
    again = connect(database_url, prefix=PREFIX)
    assert again is database
    again.close()
    assert len(session.QC()) == 5


def test_a_second_prefix_in_one_process_is_refused_and_works_after_closing(database, database_url, new_lab):
    other = new_lab()
    with pytest.raises(ConfigError, match="Close it before connecting"):
        connect(database_url, prefix=other)
    assert lab.Lab.database == f"{PREFIX}lab"
    upsert(lab.Lab, [{"lab": "here"}])
    database.close()
    with connect(database_url, prefix=other):
        assert len(lab.Lab()) == 0
        upsert(lab.Lab, [{"lab": "there"}])
    with connect(database_url, prefix=PREFIX):
        assert lab.Lab().to_arrays("lab").tolist() == ["here"]


def test_questions_without_a_database_say_so():
    code = """
import labweave.analysis as a
target = {"efeature": "AP_amplitude", "protocol": "IDrest", "amplitude": 150, "tolerance": 20}
for question in (
    a.trials_frame, a.read_event_log, a.read_recording, lambda: a.add_cell_group("all"),
    lambda: a.add_feature_set("all", ["AP_amplitude"]), lambda: a.add_target_set("all", [target]),
    lambda: a.add_auto_targets("all", "all"), lambda: a.add_rheobase_method("all"),
):
    try:
        question()
    except a.targets.ConfigError as error:
        print(error)
"""
    assert _python(code).stdout.count("No database is open in this process. Call labweave.connect() first.") == 8


def test_a_table_can_not_be_used_after_close(_tables, database_url):
    with connect(database_url, prefix=PREFIX):
        pass
    with pytest.raises(ConfigError, match=r"closed. Call labweave.connect\(\)"):
        len(lab.Lab())
    with pytest.raises(dj.DataJointError, match="not properly configured"):
        lab.Lab().to_dicts()
    with pytest.raises(ConfigError, match="No database is open"):
        current()


def test_settings_come_from_the_environment_then_the_file(tmp_path, monkeypatch):
    from labweave.settings import load_settings

    monkeypatch.chdir(tmp_path)
    (tmp_path / "labweave.toml").write_text('lab = "l"\n[database]\nurl = "mysql://u:p@h"\nprefix = "fromfile_"\n')
    assert load_settings().database.prefix == "fromfile_"
    assert load_settings().lab == "l"
    monkeypatch.setenv("LABWEAVE_PREFIX", "fromenv_")
    assert load_settings().database.prefix == "fromenv_"
    assert "u:p" not in repr(load_settings())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[database\n", "not a TOML file"),
        ("[database]\nurll = 'x'\n", "urll"),
        ("database = 1\n", "must be a table"),
        ("[database]\nprefix = 'Big-'\n", "Prefix 'Big-'"),
        ("nonsense = 1\n", "nonsense"),
    ],
)
def test_a_wrong_settings_file_is_named(tmp_path, monkeypatch, text, says):
    from labweave.settings import load_settings

    monkeypatch.chdir(tmp_path)
    (tmp_path / "labweave.toml").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_settings()
    assert "labweave.toml" in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "Upper_", "1lab_", "a-b_", "é_", "x" * 31, "a`b"])
def test_a_prefix_that_is_not_portable_is_refused(prefix):
    from labweave.settings import check_prefix

    with pytest.raises(ConfigError, match="Prefix"):
        check_prefix(prefix)


def test_a_server_that_is_not_running_is_named_without_the_password():
    for url in ("mysql://u:sesame@127.0.0.1:1", "postgresql://u:sesame@127.0.0.1:1/x"):
        with pytest.raises(ServerUnavailable, match="127.0.0.1:1") as caught:
            connect(url, prefix="x_")
        assert "sesame" not in str(caught.value)


def test_a_wrong_password_is_said_and_not_shown(database_url):
    source = parse_url(database_url)
    if source.backend != "mysql":
        pytest.skip("the PostgreSQL servers of the tests trust their users")
    with pytest.raises(AccessDenied, match="refuses the user or password") as caught:
        connect(f"mysql://root:sesame@{source.host}:{source.port}", prefix="x_")
    assert "sesame" not in str(caught.value)


def test_a_user_without_rights_is_told_what_to_ask_for(database, database_url):
    source = parse_url(database_url)
    root = database.connection
    if source.embedded:
        pytest.skip("the embedded server has one user")
    if source.backend == "mysql":
        root.query("create user if not exists 'lw_guest'@'%%' identified by 'guestpw'")
        url = f"mysql://lw_guest:guestpw@{source.host}:{source.port}"
    else:
        root.query("do $$ begin create role lw_guest login; exception when duplicate_object then null; end $$")
        url = f"postgresql://lw_guest@{source.host}:{source.port}/{source.dbname}"
    database.close()
    try:
        with pytest.raises(AccessDenied, match="lwguest_.*db grant admin lw_guest"):
            connect(url, prefix="lwguest_")
    finally:
        with connect(database_url, prefix=PREFIX) as reopened:
            reopened.connection.query(
                "drop user 'lw_guest'@'%%'" if source.backend == "mysql" else "drop role lw_guest"
            )


def test_an_error_of_the_server_is_one_text(database):
    with pytest.raises(dj.DataJointError) as failed:
        database.connection.query(f"select * from {database.prefix}lab.nothing")
    assert "nothing" in str(failed.value) and not str(failed.value).startswith("(")


def test_a_lost_session_comes_back_with_its_settings(database):
    upsert(lab.Lab, [{"lab": "a\\b"}])
    for _ in range(2):
        kill_session(database)
        assert len(lab.Lab()) == 1
        assert len(lab.Lab & {"lab": "a\\b"}) == 1
        shift = database.connection.query("select current_timestamp(6)").fetchone()[0].replace(tzinfo=None)
        assert abs(shift - dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)) < dt.timedelta(seconds=5)


def test_a_session_lost_inside_a_transaction_loses_all_of_it_and_the_next_works(database):
    with pytest.raises(dj.errors.LostConnectionError), database.connection.transaction:
        lab.Lab.insert1({"lab": "a"})
        kill_session(database)
        lab.Lab.insert1({"lab": "b"})
    assert not database.connection.in_transaction
    assert len(lab.Lab()) == 0
    lab.Lab.insert1({"lab": "c"})
    assert len(lab.Lab()) == 1


def test_a_heading_that_was_half_read_when_its_session_was_lost_is_read_again(database, monkeypatch):
    adapter, ask, looks = database.connection.adapter, database.connection.adapter.get_table_info_sql, []

    def lose(schema, table):
        looks.append(table)
        if looks.count("~lineage") == 2:
            kill_session(database)
        return ask(schema, table)

    table = FreeTable(database.connection, subject.Subject.full_table_name)
    monkeypatch.setattr(adapter, "get_table_info_sql", lose)
    with suppress(dj.errors.LostConnectionError), database.connection.transaction:
        _ = table.heading.names
    monkeypatch.undo()
    assert len(table * lab.Lab) == 0  # can be joined: what it knows of its attributes is whole


def test_a_transaction_that_lost_its_session_is_run_again(database):
    tries = []

    def work():
        tries.append(1)
        lab.Lab.insert1({"lab": "a"})
        if len(tries) == 1:
            kill_session(database)
        lab.Lab.insert1({"lab": "b"})

    database.connection.run_transaction(work)
    assert len(tries) == 2
    assert len(lab.Lab()) == 2


def test_a_deadlock_is_run_again_until_both_have_written(database):
    upsert(lab.Lab, [{"lab": "a"}, {"lab": "b"}])
    connections = [LabConnection(database.connection.url, PREFIX) for _ in range(2)]
    barrier, errors, tries = threading.Barrier(2), [], [0, 0]
    name = lab.Lab.full_table_name

    def run(index, order):
        def work():
            tries[index] += 1
            connections[index].query(f"update {name} set address = concat(address, '.') where lab = %s", (order[0],))
            if tries[index] == 1:
                barrier.wait(10)
            connections[index].query(f"update {name} set address = concat(address, '.') where lab = %s", (order[1],))

        try:
            connections[index].run_transaction(work)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(0, "ab")), threading.Thread(target=run, args=(1, "ba"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for connection in connections:
        connection.close()
    assert not errors
    assert sorted(tries) == [1, 2]
    assert lab.Lab().to_arrays("address").tolist() == ["..", ".."]


def test_driver_errors_never_come_through(database):
    bad = [
        "insert into {t} (lab, institution) values ('x', repeat('y', 300))",
        "select * from nowhere.nothing",
        "selec 1",
        "insert into {t} (lab, lab_uuid) values (null, 'x')",
    ]
    for sql in bad:
        with pytest.raises((LabweaveError, dj.DataJointError)) as caught:
            database.connection.query(sql.format(t=lab.Lab.full_table_name))
        assert not isinstance(caught.value, (pymysql.Error, psycopg2.Error)), sql
    with pytest.raises(dj.errors.IntegrityError):
        subject.Subject.insert1({"lab": "nolab", "subject": "s", "subject_uuid": "u"})


def test_a_referenced_row_can_not_be_deleted_quickly(database):
    upsert(lab.Lab, [{"lab": "l"}])
    upsert(subject.Subject, [{"lab": "l", "subject": "s", "subject_uuid": "u" * 36}])
    with pytest.raises(dj.errors.IntegrityError):
        lab.Lab().delete_quick()
    lab.Lab().delete(prompt=False)
    assert len(subject.Subject()) == 0


def test_datajoint_itself_takes_what_the_drivers_do_not(database):
    schema = dj.Schema(f"{PREFIX}traps", connection=database.connection)
    try:

        @schema
        class Trap(dj.Manual):
            definition = """
            path : varchar(100)
            ---
            at : datetime(6)
            raw : bytes
            blob : <blob>
            """

        row = {
            "path": "D:\\x\\y",
            "at": np.datetime64("2026-01-02T03:04:05.000006"),
            "raw": b"\0\xff",
            "blob": {"a": 1},
        }
        Trap.insert1(row)
        stored = (Trap & {"path": "D:\\x\\y"}).fetch1()
        assert stored["raw"] == b"\0\xff" and type(stored["raw"]) is bytes
        assert stored["at"] == dt.datetime(2026, 1, 2, 3, 4, 5, 6)
        Trap.update1({"path": "D:\\x\\y", "raw": b"new"})
        assert (Trap & {"path": "D:\\x\\y"}).fetch1("raw") == b"new"
        assert len(Trap & "path = 'D:\\\\x\\\\y'") == 1
    finally:
        schema.drop(prompt=False)


def test_query_gives_a_frame_with_columns_also_when_empty(database):
    upsert(lab.Lab, [{"lab": "a%", "institution": "100%"}, {"lab": "b"}])
    frame = database.query("select lab, institution from {prefix}lab.lab where lab like 'a%' order by lab")
    assert frame.to_dict("records") == [{"lab": "a%", "institution": "100%"}]
    assert database.query("select lab from {prefix}lab.lab where lab = %s", ("b",)).lab.tolist() == ["b"]
    assert database.query("select lab from {prefix}lab.lab where lab = %(x)s", {"x": "a%"}).lab.tolist() == ["a%"]
    empty = database.query("select lab, lab_json from {prefix}lab.lab where lab = 'none'")
    assert list(empty.columns) == ["lab", "lab_json"] and len(empty) == 0


def test_query_can_not_write(database):
    upsert(lab.Lab, [{"lab": "a"}])
    for sql in (
        "delete from {prefix}lab.lab",
        "update {prefix}lab.lab set address = 'x'",
        "drop table {prefix}lab.location",
    ):
        with pytest.raises((LabweaveError, dj.DataJointError)):
            database.query(sql)
    assert lab.Lab().fetch1("address") == ""
    assert database.check() == []
    lab.Lab.insert1({"lab": "b"})
    assert len(lab.Lab()) == 2


def test_a_wrong_query_is_a_readable_error(database):
    with pytest.raises((LabweaveError, dj.DataJointError)) as caught:
        database.query("select nope from {prefix}lab.lab")
    assert "nope" in str(caught.value)


def test_transient_errors_are_database_errors():
    assert issubclass(TransientError, DatabaseError) and issubclass(VersionError, DatabaseError)


def test_the_embedded_server_comes_back_when_it_was_killed(database, database_url):
    if not is_embedded(database_url):
        pytest.skip("only the embedded server is ours to kill")
    import signal

    # The tests' server is not durable: killed, it may lose what was committed in its last moments.
    database.connection.query("set synchronous_commit = on")
    upsert(lab.Lab, [{"lab": "kept"}])
    os.kill(database.connection.server.status()["pid"], signal.SIGKILL)
    time.sleep(0.2)
    assert lab.Lab().to_arrays("lab").tolist() == ["kept"]


@pytest.mark.parametrize(("url", "driver", "package"), [("postgresql://u@h/x", "psycopg2", "psycopg2-binary")])
def test_a_missing_driver_is_named_with_the_install_line(url, driver, package):
    code = f"import sys; sys.modules[{driver!r}] = None; import labweave; labweave.connect({url!r})"
    result = _python(code)
    assert f"pip install {package}" in result.stderr and "ConfigError" in result.stderr


def test_the_embedded_server_stops_when_the_last_connection_closes_also_after_a_reconnect():
    import tempfile
    from pathlib import Path

    from labweave.embedded.server import EmbeddedServer

    with tempfile.TemporaryDirectory(prefix="labweave-tests-") as folder:
        Path(folder).chmod(0o711)
        connection = LabConnection(parse_url(f"embedded://{folder}/data"), "x_")
        connection.query("select 1")
        connection.connect()
        assert EmbeddedServer(Path(folder) / "data").status()["running"]
        connection.close()
        assert not EmbeddedServer(Path(folder) / "data").status()["running"]


def test_labweave_connect_is_the_same_function():
    assert labweave.connect is connect


@pytest.mark.parametrize("inside", [False, True], ids=["by itself", "in a transaction"])
def test_the_answer_to_a_statement_that_was_interrupted_is_not_taken_for_the_next_one(database, monkeypatch, inside):
    """Ctrl-C or SIGTERM can come when a statement has been sent, and its answer not yet read."""
    connection = database.connection
    if database.backend == "postgresql":
        pytest.skip("libpq has read an answer before Python sees a signal")
    send = connection._conn._write_bytes

    def interrupted(data):
        send(data)
        if b"select 1" in data:
            raise KeyboardInterrupt

    monkeypatch.setattr(connection._conn, "_write_bytes", interrupted)

    def work():
        connection.query("select 1")

    with pytest.raises(KeyboardInterrupt):
        (connection.run_transaction if inside else lambda work: work())(work)
    assert connection.query("select 2").fetchone()[0] == 2 and not connection.in_transaction
    upsert(lab.Lab, [{"lab": "after"}])
    assert lab.Lab().to_arrays("lab").tolist() == ["after"]

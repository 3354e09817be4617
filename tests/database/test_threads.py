"""Threads, forked processes and process pools share a database: each has sessions of its own."""

import multiprocessing
import os
import pickle
import re
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import datajoint as dj
import pytest
from conftest import PREFIX
from datajoint.errors import DataJointError
from many_threads import N_THREADS, in_threads
from simulated import OPTIONS, sweeps_of, write_cells

import labweave
import labweave.one.api
from labweave import ingest, populate
from labweave.database import connect, current
from labweave.database.connection import LabConnection
from labweave.database.declare import bind
from labweave.database.url import parse_url
from labweave.errors import ConfigError
from labweave.populate.worker import Heartbeat
from labweave.schemas import lab, recording, rheobase
from labweave.schemas.dataset import Dataset
from labweave.schemas.work import Worker


def test_threads_load_headings_at_once(database):
    def loaded():
        return len(Dataset.heading.names), len(Dataset.heading.indexes), len(Dataset.parents())

    for _ in range(5):
        bind(database.connection)
        found = in_threads(lambda n: loaded())
        assert set(found) == {loaded()}


def test_a_transaction_is_that_of_its_thread(database):
    connection = database.connection
    with connection.transaction:
        lab.Lab.insert1({"lab": "a"})
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: (connection.in_transaction, len(lab.Lab()))).result() == (False, 0)
            with connection.deleting("outdated"):
                assert pool.submit(lambda: connection.why_deleted[0]).result() == "deleted"
    assert len(lab.Lab()) == 1


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_session_ends_with_its_thread(database):
    numbers = in_threads(lambda n: len(lab.Lab()) or database.connection.connection_id)
    assert len(set(numbers)) == N_THREADS
    connection = database.connection
    wait_until(lambda: not set(numbers) & connection.adapter.session_ids(connection))


def test_closing_ends_the_sessions_of_all_threads(database, database_url):
    connection, are_open, is_closed = database.connection, threading.Barrier(3), threading.Event()
    slow = "select pg_sleep(600)" if database.backend == "postgresql" else "select sleep(600)"

    def ask():
        connection.query("select 1")
        are_open.wait(60)
        connection.query(slow)

    def idle():
        connection.query("select 1")
        number = connection.connection_id
        are_open.wait(60)
        assert is_closed.wait(60)
        with pytest.raises(ConfigError, match="closed"):
            connection.query("select 1")
        return number

    with ThreadPoolExecutor(2) as pool:
        waiting, idling = pool.submit(ask), pool.submit(idle)
        are_open.wait(60)
        database.close()
        is_closed.set()
        with pytest.raises(ConfigError, match="closed"):
            waiting.result(60)
        number = idling.result(60)
    with connect(database_url, prefix=PREFIX) as again:
        wait_until(lambda: number not in again.connection.adapter.session_ids(again.connection))


def labs() -> list[str]:
    return lab.Lab().to_arrays("lab").tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on Linux and macOS")
def test_a_forked_child_has_a_session_of_its_own_and_leaves_its_parent_the_other(database):
    connection = database.connection
    with connection.transaction:
        lab.Lab.insert1({"lab": "parent"})
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
            assert list(pool.map(lab_of_child, range(8))) == [False] * 8
        lab.Lab.insert1({"lab": "later"})
    assert sorted(labs()) == sorted(["later", "parent", *(f"child{n}" for n in range(8))])


def lab_of_child(number: int) -> bool:
    was_open = current().connection.in_transaction or "parent" in labs()
    lab.Lab.insert1({"lab": f"child{number}"})
    return was_open


def test_a_pickle_has_no_password_but_one_that_was_given(database, database_url, monkeypatch):
    place = parse_url(database_url)
    if place.embedded:
        pytest.skip("the embedded server has no passwords")
    database.close()
    password = place.password or "nobody-asks-for-it"
    with_password = f"{place.backend}://{place.user}:{password}@{place.host}:{place.port}/{place.dbname or ''}"
    if place.backend == "mysql":
        admin = LabConnection(place, PREFIX)
        admin.query("create user if not exists lwpickle identified by 'nobody-asks-for-it'")
        admin.query("grant all on *.* to lwpickle")
        with_password = f"mysql://lwpickle:nobody-asks-for-it@{place.host}:{place.port}"
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", with_password)
    monkeypatch.setenv("LABWEAVE_ONE__DATA_PASSWORD", "data-sesame")
    with connect(prefix=PREFIX) as opened:
        one = labweave.one.api.One(silent=True)
        text = pickle.dumps([opened, one, labweave.one.ONE(silent=True)])
        assert b"nobody-asks" not in text and b"sesame" not in text
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert len(pool.submit(opened.query, "select 1 as x").result()) == 1
    with connect(with_password, prefix=PREFIX) as opened:
        assert pickle.loads(pickle.dumps(opened)) is opened
        monkeypatch.delenv("LABWEAVE_DATABASE_URL")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            assert len(pool.submit(opened.query, "select 1 as x").result()) == 1


def test_a_pickled_database_is_not_taken_for_that_of_other_settings(database, database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", database_url)
    database.close()
    with connect(prefix=PREFIX) as opened:
        text, place = pickle.dumps(opened), opened.url
        monkeypatch.setenv("LABWEAVE_DATABASE_URL", f"embedded://{tmp_path}/other")
        assert pickle.loads(text) is opened
    with pytest.raises(ConfigError, match=f"database was {re.escape(place)} .* name embedded:/"):
        pickle.loads(text)
    assert not (tmp_path / "other").exists()


def test_threads_of_one_process_populate_together(database, tmp_path):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    tables, said = ["RecordingStimulus", "Rheobase"], []

    def work(number):
        report = populate.run(tables)
        said.extend(report.failures)
        return report.made

    made = in_threads(work, 3)
    assert said == [] and sum(made) == len(recording.RecordingStimulus()) + len(rheobase.Rheobase())
    assert len(recording.RecordingStimulus()) == 2 * len(sweeps_of(0))
    assert len(Worker()) == 0 and [
        len(table.jobs) for table in (recording.RecordingStimulus(), rheobase.Rheobase())
    ] == [0, 0]


def test_threads_populate_a_table_of_the_labs_own(database, request):
    schema = dj.Schema(f"{database.prefix}own", connection=database.connection)
    request.addfinalizer(lambda: schema.drop(prompt=False))

    @schema
    class Sample(dj.Manual):
        definition = "sample : int32"

    @schema
    class Doubled(dj.Computed):
        definition = """
        -> Sample
        ---
        twice : int32
        """

        def make(self, key):
            (Sample & key).fetch1()
            self.insert1({**key, "twice": 2 * key["sample"]})

    Sample.insert({"sample": number} for number in range(60))
    made = in_threads(lambda n: Doubled.populate(f"sample between {15 * n} and {15 * n + 14}")["success_count"], 4)
    assert made == [15] * 4
    assert {(row["sample"], row["twice"]) for row in Doubled.to_dicts()} == {(n, 2 * n) for n in range(60)}
    with pytest.raises(DataJointError, match="make method"):
        Doubled().insert1({"sample": 0, "twice": 1})


def test_workers_in_one_process_are_one_to_others(database):
    with Heartbeat(database.connection):
        before = Worker().to_dicts()
        with Heartbeat(database.connection):
            assert Worker().to_dicts() == before
        assert Worker().to_dicts() == before
    assert len(Worker()) == 0

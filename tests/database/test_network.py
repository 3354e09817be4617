"""A network that fails: what is written through it is complete, and nothing waits for ever."""

import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import PREFIX, empty, is_embedded
from cutting_proxy import Proxy
from simulated import OPTIONS, sweeps_of, write_cells

import labweave
from labweave import ingest, populate
from labweave.database import connect, patience, silence
from labweave.database.locks import ServerLock
from labweave.database.url import parse_url
from labweave.embedded.postmaster import read_pid_file
from labweave.embedded.server import EmbeddedServer
from labweave.errors import ServerUnavailable
from labweave.schemas import lab, recording, rheobase
from labweave.testing import rows_of_tables

TABLES = ["RecordingStimulus", "Rheobase"]


@pytest.fixture
def proxy(database_url):
    """A proxy before the server under test."""
    place = parse_url(database_url)
    if place.embedded:
        at = EmbeddedServer(place.data_dir).acquire()
        target = f"{at.host}/.s.PGSQL.{at.port}"
    else:
        target = (place.host, place.port)
    opened = Proxy(target)
    yield opened
    opened.close()


@pytest.fixture
def behind(proxy, database_url):
    """The address of the server, by way of the proxy."""
    place = parse_url(database_url)
    if place.backend == "mysql":
        return f"mysql://{place.user}:{place.password}@127.0.0.1:{proxy.port}?tls=off"
    user, dbname = ("labweave", "labweave") if place.embedded else (f"{place.user}:{place.password}", place.dbname)
    return f"postgresql://{user}@127.0.0.1:{proxy.port}/{dbname}?tls=off"


@pytest.fixture
def impatient(monkeypatch):
    """Waiting in seconds instead of minutes."""
    monkeypatch.setattr(silence, "SILENCE_S", 1.0)
    monkeypatch.setattr(silence, "ANSWER_S", 3.0)
    monkeypatch.setattr("labweave.database.dialect.OPENING_S", 3)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.5)


@pytest.fixture
def through(database, behind, impatient):
    """The empty database, by way of the proxy."""
    database.close()
    with connect(behind, prefix=PREFIX) as opened:
        yield opened


@pytest.mark.parametrize("how", ["rst", "fin", "half", "stall"])
def test_a_statement_whose_network_fails_gets_its_answer_by_another(through, proxy, how):
    for _ in range(3):
        assert proxy.cut(how) >= 1
        assert through.query("select 1 as x").x.tolist() == [1]
    with through.connection.transaction:
        lab.Lab.insert1({"lab": "before"})
    tries = []

    def work():
        lab.Lab.insert1({"lab": f"a{len(tries)}"})
        tries.append(1)
        if len(tries) == 1:
            proxy.cut(how)
        lab.Lab.insert1({"lab": "b"})

    through.connection.run_transaction(work)
    assert sorted(lab.Lab().to_arrays("lab")) == ["a1", "b", "before"]


def test_a_silent_network_ends_in_an_error_that_names_the_server(through, proxy):
    proxy.is_silent = True
    with pytest.raises(ServerUnavailable, match=f"127.0.0.1:{proxy.port}"):
        through.connection.query("select 1")
    proxy.is_silent = False
    assert len(lab.Lab()) == 0


def test_a_long_statement_is_left_to_work(through, monkeypatch):
    asked, works = [], through.connection.adapter.is_working
    monkeypatch.setattr(through.connection.adapter, "is_working", lambda *session: asked.append(1) or works(*session))
    sleep = "pg_sleep" if through.backend == "postgresql" else "sleep"
    through.connection.query("select 1")
    number = through.connection.connection_id
    while len(asked) < 3:
        through.connection.query(f"select {sleep}(3)")
    assert through.connection.connection_id == number


def test_a_server_that_is_away_is_waited_for_by_what_runs_unattended(through, proxy, caplog):
    proxy.go_away()
    with pytest.raises(ServerUnavailable):
        through.connection.query("select 1")
    timer = threading.Timer(3, proxy.come_back)
    timer.start()
    with caplog.at_level(logging.WARNING), patience.patience():
        assert len(lab.Lab()) == 0
    timer.join()
    said = [record.message for record in caplog.records if record.name == "labweave.database.patience"]
    assert len(said) == 2 and "waiting for it, up to 5 min" in said[0] and "answers again" in said[1]
    assert all(f"127.0.0.1:{proxy.port}" in text for text in said)


def test_patience_ends(through, proxy, monkeypatch):
    monkeypatch.setattr(patience, "BUDGET_S", 1.0)
    proxy.go_away()
    with patience.patience(), pytest.raises(ServerUnavailable):
        through.connection.query("select 1")
    proxy.come_back()


def test_a_lock_of_the_server_is_not_taken_for_held_after_its_session_was_lost(through, proxy):
    with ServerLock(through.connection, "feeding") as lock:
        assert lock.acquire() and lock.keep()
        proxy.cut("rst")
        with ServerLock(through.connection, "feeding") as other:
            while not other.acquire():  # until the server has noticed
                time.sleep(0.05)
            assert not lock.keep()
        assert lock.keep()
    connection = through.connection
    with connection.exclusive(f"{through.prefix}x", 1) as is_held:
        assert is_held
        proxy.cut("rst")
        with pytest.raises(labweave.database.connection.LostConnectionError):
            connection.query("select 1")
    assert connection.query("select 1").fetchone()[0] == 1


N_CUTS = int(os.environ.get("LABWEAVE_TEST_CUTS", "12"))
KINDS = ("rst", "fin", "half", "stall", "silent", "away")


@contextmanager
def disturbed(proxy, seed):
    """Do something to the network at random moments, a number of times."""
    rng, is_over, done = random.Random(seed), threading.Event(), []

    def run():
        while len(done) < N_CUTS and not is_over.wait(rng.uniform(0.1, 0.8) if done else 0.1):
            done.append(kind := KINDS[(seed + len(done)) % len(KINDS)])
            if kind == "silent":
                proxy.is_silent = True
                is_over.wait(rng.uniform(0.5, 3))
                proxy.cut("stall")
                proxy.is_silent = False
            elif kind == "away":
                proxy.go_away()
                is_over.wait(rng.uniform(0.2, 2))
                proxy.come_back()
            else:
                proxy.cut(kind)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        is_over.set()
        thread.join()


def bring_in(folder) -> None:
    """Ingest recordings and compute from them, until all is there."""
    report = ingest.run("ephys", folder, **OPTIONS)
    assert (report.failed, report.refused) == (0, 0), report
    assert populate.run(TABLES).failures == []


def results(database) -> dict:
    """Return what is in the tables, and which results were made, how often."""
    made = database.query("select made, inputs from {prefix}provenance.made order by made").to_dict("list")
    jobs = [len(table.jobs) for table in (recording.RecordingStimulus(), rheobase.Rheobase())]
    files = database.query("select path, size from {prefix}ingestion.source_file order by path").path.tolist()
    changes = len(database.query("select change_id from {prefix}ingestion.change"))
    return {
        **rows_of_tables(database),
        "made": made,
        "jobs": jobs,
        "files": files,
        "changes": changes,
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("LABWEAVE_TEST_SEEDS", "1"))))
def test_what_is_written_through_a_failing_network_is_complete(database, proxy, behind, impatient, tmp_path, seed):
    write_cells(tmp_path, 3)
    bring_in(tmp_path)
    expected = results(database)
    assert expected["jobs"] == [0, 0] and len(expected["recording.Recording"]) == len(expected["files"]) * len(
        sweeps_of(0)
    )
    empty(database)
    database.close()
    with connect(behind, prefix=PREFIX) as opened:
        with disturbed(proxy, seed) as done:
            bring_in(tmp_path)
        assert done
        assert results(opened) == expected


def test_a_lost_session_leaves_no_locks_behind(through, proxy):
    lab.Lab.insert1({"lab": "a"})
    tries = []

    def work():
        tries.append(1)
        through.connection.query(f"update {lab.Lab.full_table_name} set address = 'b' where lab = 'a'")
        if len(tries) == 1:
            proxy.cut("stall")  # the server has not noticed, and keeps the row locked
            through.connection.query("select 1")

    through.connection.run_transaction(work)
    assert len(tries) == 2 and lab.Lab().fetch1("address") == "b"


@contextmanager
def restarting(restart, n_times):
    """Restart a server at random moments, a number of times."""
    rng, is_over, done = random.Random(1), threading.Event(), []

    def run():
        while len(done) < n_times and not is_over.wait(rng.uniform(0.3, 2) if done else 0.1):
            restart(is_over, rng)
            done.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def brought_in(database, tmp_path):
    """A folder of recordings, and what the tables hold of it; the database is closed."""
    write_cells(tmp_path / "data", 3)
    bring_in(tmp_path / "data")
    expected = results(database)
    database.close()
    return tmp_path / "data", expected


def test_populate_waits_when_it_starts_and_status_does_not(database, proxy, behind, labweave_command):
    database.close()
    proxy.go_away()
    failed = labweave_command("status", LABWEAVE_DATABASE_URL=behind)
    assert failed.returncode == 2 and f"127.0.0.1:{proxy.port}" in failed.stderr and "waiting" not in failed.stderr
    populating = labweave_command.start("populate", LABWEAVE_DATABASE_URL=behind)
    said = populating._path / "err"
    deadline = time.monotonic() + 60
    while not (said.exists() and "waiting for it" in said.read_text()):
        assert time.monotonic() < deadline and populating.poll() is None
        time.sleep(0.05)
    proxy.come_back()
    _, err = populating.communicate()
    assert populating.returncode == 0 and "answers again" in err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_is_written_while_the_embedded_server_restarts_is_complete(brought_in, database_url, how):
    if not is_embedded(database_url):
        pytest.skip("it is the embedded server that restarts")
    folder, expected = brought_in
    place = Path(tempfile.mkdtemp(prefix="labweave-restarts-"))
    place.chmod(0o711)
    server = EmbeddedServer(place / "data")

    def restart(is_over, rng):
        if how == "stop":
            server.stop()
        elif found := read_pid_file(server.cluster):
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)

    try:
        with connect(f"embedded://{place}/data", prefix=PREFIX) as opened:
            with restarting(restart, 4) as done:
                bring_in(folder)
            assert done and results(opened) == expected
    finally:
        server.stop()
        shutil.rmtree(place)


class PrivateMariaDB:
    """A MariaDB of a test, which it may kill."""

    def __init__(self, program, place):
        self._place = place
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        options = [f"--datadir={place}/data", f"--socket={place}/s", f"--pid-file={place}/p", f"--port={self.port}"]
        self._command = [program, "--no-defaults", "--user=mysql", "--bind-address=127.0.0.1", *options]
        self.start()

    def start(self) -> None:
        with open(self._place / "log", "a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.mark.slow
def test_what_is_written_while_mariadb_restarts_is_complete(brought_in, database):
    if database.connection.adapter.product != "mariadb":
        pytest.skip("it is a MariaDB that restarts; other servers keep JSON in another order")
    program, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if not (program and install):
        pytest.skip("MariaDB is not installed here")
    folder, expected = brought_in
    place = Path(tempfile.mkdtemp(prefix="labweave-mariadb-"))
    place.chmod(0o777)
    options = ["--no-defaults", "--user=mysql", "--auth-root-authentication-method=normal", f"--datadir={place}/data"]
    subprocess.run([install, *options], check=True, capture_output=True)
    server = PrivateMariaDB(program, place)

    def restart(is_over, rng):
        server.kill()
        is_over.wait(rng.uniform(0.5, 4))
        server.start()

    try:
        with patience.patience():
            opened = connect(f"mysql://root:@127.0.0.1:{server.port}?tls=off", prefix=PREFIX)
        with opened:
            with restarting(restart, 3) as done:
                bring_in(folder)
            assert done and results(opened) == expected
    finally:
        server.kill()
        shutil.rmtree(place)

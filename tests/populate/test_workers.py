"""Workers that die, are stopped, are slow, or are several: every result once, no job lost, none stolen.

A file that has been replaced by a named pipe holds a worker in the middle of its job for as
long as a test likes.
"""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest
from conftest import PREFIX, delete_results
from simulated import OPTIONS, ask_for_everything, sweeps_of, write_cell, write_cells

from labweave import ingest, populate
from labweave.analysis import add_cell_group, add_target_set
from labweave.database import upsert
from labweave.database.connection import LabConnection
from labweave.database.url import parse_url
from labweave.populate import queue
from labweave.populate.worker import Heartbeat
from labweave.schemas import efeature, recording, rheobase
from labweave.schemas.work import Worker

N_SWEEPS = len(sweeps_of(0))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes"),
]


def until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return result


def jobs(status=None):
    rows = recording.RecordingStimulus().jobs.to_dicts()
    return [row for row in rows if status in (None, row["status"])]


@contextmanager
def ending(process):
    """A process of its own group; whatever is left of it is killed at the end."""
    try:
        yield process
    finally:
        for left in [*descendants(process), process]:
            left.kill()
        process.communicate()


def descendants(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def runs(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def block(path):
    """Replace a file by a named pipe that nobody writes to; return where the file is."""
    kept = path.with_suffix(".kept")
    os.rename(path, kept)
    os.mkfifo(path)
    return kept


@pytest.fixture
def blocked(database, tmp_path):
    """A cell of one file per sweep, the fourth of which blocks its reader."""
    folder = tmp_path / "data"
    for index, sweep in enumerate(sweeps_of(0)):
        write_cell(folder, 0, "c", file=f"s{index}.h5", sweeps=[sweep])
    ingest.run("ephys", folder, **OPTIONS)
    return folder / "s3.h5", block(folder / "s3.h5")


def wait_for_reader(of="s3#sweep_000", but=()):
    """Return the process that has reserved the blocked job."""
    found = until(
        lambda: [row for row in jobs("reserved") if row["recording"] == of and row["pid"] not in but], "a reserved job"
    )
    return found[0]["pid"]


def open_if_read(pipe):
    """Return the pipe opened for writing when some process has it open for reading, else None."""
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


def test_several_workers_make_what_one_makes(database, tmp_path):
    write_cells(tmp_path, 3)
    ingest.run("ephys", tmp_path, **OPTIONS)
    seen = []
    report = populate.run(workers=2, progress=lambda *args: seen.append(args))
    assert {entry.table: entry.made for entry in report.tables} == {
        "alyx.SyncPage": 0,
        "onedata.RecipeCheck": 0,
        "recording.RecordingStimulus": 3 * N_SWEEPS, "rheobase.Rheobase": 3, "efeature.RecordingEFeatures": 0, "efeature.Extraction": 0,
    }  # fmt: skip
    assert seen[-1] == ("rheobase.Rheobase", 3, 0, 3)
    several = results()
    delete_results(database)
    populate.run()
    assert results() == several
    assert len(Worker()) == 0 and jobs() == []


def results():
    return [
        [str(row) for row in table.to_dicts(order_by="KEY")]
        for table in (recording.RecordingStimulus(), rheobase.Rheobase())
    ]


def test_the_job_of_a_killed_worker_is_made_by_another(blocked, labweave_command):
    path, kept = blocked
    with ending(labweave_command.start("populate", "--workers", "2")) as process:
        reader = wait_for_reader()
        assert reader in {child.pid for child in descendants(process)}
        os.replace(kept, path)  # the reader still holds the pipe
        os.kill(reader, signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert len(recording.RecordingStimulus()) == N_SWEEPS and len(rheobase.Rheobase()) == 1
    assert jobs() == [] and populate.errors() == []


def test_a_job_that_kills_its_workers_is_failed_and_the_others_go_on(blocked, labweave_command):
    with ending(labweave_command.start("populate", "--workers", "2")) as process:
        first = wait_for_reader()
        os.kill(first, signal.SIGKILL)
        os.kill(wait_for_reader(but=[first]), signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    (error,) = populate.errors()
    assert error.key["recording"] == "s3#sweep_000"
    assert "WorkerDied" in error.reason and "-9" in error.reason
    assert "WorkerDied" in out and "Traceback" not in err
    assert len(recording.RecordingStimulus()) == N_SWEEPS - 1
    assert rheobase.Rheobase().fetch1("n_recordings") == N_SWEEPS - 1


def test_every_worker_killed_between_two_tables_is_replaced(blocked, labweave_command):
    path, kept = blocked
    with ending(labweave_command.start("populate", "--workers", "2")) as process:
        reader = wait_for_reader()
        until(lambda: len(recording.RecordingStimulus()) == N_SWEEPS - 1, "the other jobs")
        os.replace(kept, path)
        workers = [child for child in descendants(process) if "multiprocessing.spawn" in " ".join(child.cmdline())]
        assert len(workers) == 2 and reader in {worker.pid for worker in workers}
        for worker in workers:
            worker.kill()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert len(recording.RecordingStimulus()) == N_SWEEPS and len(rheobase.Rheobase()) == 1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT to all"])
def test_a_stopped_run_leaves_no_job_reserved_or_failed(blocked, labweave_command, workers, how):
    number = getattr(signal, how.split()[0])
    with ending(labweave_command.start("populate", "--workers", str(workers))) as process:
        wait_for_reader()
        children = descendants(process)
        (os.killpg if how.endswith("all") else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=120)
        until(lambda: not any(map(runs, children)), "the end of the workers")
    assert process.returncode == 128 + number, out + err
    assert "Traceback" not in err
    assert {row["status"] for row in jobs()} == {"pending"}
    assert len(Worker()) == 0


SLOW_START = """
import pathlib, sys, time
if "spawn_main" in " ".join(sys.orig_argv):
    pathlib.Path(__file__).with_name(f"{{time.monotonic_ns()}}.began").touch()
    time.sleep({seconds})
"""


def test_ctrl_c_reaches_no_worker_that_is_just_starting(blocked, labweave_command, tmp_path):
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW_START.format(seconds=600))
    with ending(labweave_command.start("populate", "--workers", "2", PYTHONPATH=str(tmp_path / "slow"))) as process:
        until(lambda: len(list((tmp_path / "slow").glob("*.began"))) == 2, "two workers that start")
        children = descendants(process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
        until(lambda: not any(map(runs, children)), "the end of the workers")
    # Python itself ends by the signal where it came inside exec(), by which dataclasses are made: 130 to a shell, too.
    assert process.returncode in (130, -signal.SIGINT), out + err
    assert "Traceback" not in err and "stopped" in err
    assert jobs("reserved") == [] and len(Worker()) == 0


def test_a_run_that_was_killed_is_taken_up_by_the_next(blocked, labweave_command):
    path, kept = blocked
    with ending(labweave_command.start("populate", "--workers", "2")) as process:
        wait_for_reader()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert "reserved" in {row["status"] for row in jobs()}
    os.replace(kept, path)
    assert populate.run().failed == 0
    assert len(recording.RecordingStimulus()) == N_SWEEPS and jobs() == []


def test_workers_end_when_the_run_that_started_them_is_killed(blocked, labweave_command):
    path, kept = blocked
    with ending(labweave_command.start("populate", "--workers", "2")) as process:
        wait_for_reader()
        children = descendants(process)
        process.kill()
        process.wait()
        path.open("wb").close()  # lets the reader go on: the file is not the one that was ingested
        until(lambda: not any(map(runs, children)), "the end of the workers")
    assert "reserved" not in {row["status"] for row in jobs()}


def test_two_runs_at_once_make_each_result_once(database, labweave_command, tmp_path):
    write_cells(tmp_path / "data", 4)
    ingest.run("ephys", tmp_path / "data", **OPTIONS)
    add_target_set("t", [{"efeature": "Spikecount", "protocol": "IDrest", "amplitude": 200, "tolerance": 50}])
    add_cell_group("all")
    ask_for_everything()
    first, second = labweave_command.start("populate"), labweave_command.start("populate", "--workers", "2")
    with ending(first), ending(second):
        for process in (first, second):
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, out + err
            assert err == "" and "rror" not in out, out + err
    assert populate.errors() == [] and jobs() == []
    expected = [4 * N_SWEEPS, 4, 4 * N_SWEEPS, 1]
    tables = (recording.RecordingStimulus(), rheobase.Rheobase(), efeature.RecordingEFeatures(), efeature.Extraction())
    assert [len(table) for table in tables] == expected
    again = populate.run()
    assert again.made == 0 and not any(entry.remade for entry in again.tables)


BARE = """
import labweave
with labweave.connect():
    from labweave.schemas import recording
    print(recording.RecordingStimulus.populate(reserve_jobs=True))
"""


@contextmanager
def emoji_in_another_session(url):
    """Let another session of the server run a statement that MySQL's information_schema can't show."""
    other = LabConnection(parse_url(url), "unused_")
    sleep = "pg_sleep(4)" if other.adapter.backend == "postgresql" else "sleep(4)"
    thread = threading.Thread(target=lambda: other.query(f"select {sleep}, '🐭\\\\é'").fetchall())
    thread.start()
    time.sleep(0.3)
    try:
        yield
    finally:
        thread.join()
        other.close()


def test_datajoints_own_populate_works_beside_ours(blocked, database_url):
    path, kept = blocked
    environment = {**os.environ, "LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": PREFIX}
    program = subprocess.Popen([sys.executable, "-c", BARE], env=environment, stdout=-1, stderr=-1, text=True)
    with ending(program) as bare:
        until(
            lambda: "reserved" in {row["status"] for row in jobs()} or bare.poll() is not None,
            "a job of DataJoint's own",
        )
        wait_for_reader()
        with emoji_in_another_session(database_url):
            report = populate.run()
        assert report.failed == 0 and len(rheobase.Rheobase()) == 0, "the sweep that is being read is waited for"
        assert [row["recording"] for row in jobs("reserved")] == ["s3#sweep_000"]
        with path.open("wb") as pipe:
            os.replace(kept, path)
            pipe.write(path.read_bytes())
        out, err = bare.communicate(timeout=120)
        assert bare.returncode == 0, out + err
    assert len(recording.RecordingStimulus()) == N_SWEEPS
    assert populate.run().made == 1
    assert rheobase.Rheobase().fetch1("n_recordings") == N_SWEEPS


def test_a_recording_that_is_ingested_anew_during_its_job_is_read_anew(blocked, labweave_command):
    path, kept = blocked
    old = kept.read_bytes()
    with ending(labweave_command.start("populate")) as process:
        pipe = until(lambda: open_if_read(path), "a process that opened the file")
        path.unlink()
        other = [{**sweep, "voltage": sweep["voltage"] + 1} for sweep in sweeps_of(0)[5:]]
        write_cell(path.parent, 0, "c", file="s3.h5", sweeps=other)
        assert ingest.run("ephys", path.parent, **OPTIONS).changed == 1
        with pipe:
            pipe.write(old)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert (recording.RecordingStimulus & {"recording": "s3#sweep_000"}).fetch1("amp") == pytest.approx(0.25, abs=1e-3)


@pytest.fixture
def reserved(database, tmp_path):
    """Return a function that reserves all jobs as some worker, and runs populate."""
    write_cells(tmp_path, 1)
    ingest.run("ephys", tmp_path, **OPTIONS)
    table = recording.RecordingStimulus()
    queue.fill(table)

    def run_beside(**worker):
        user = database.connection.get_user()
        values = {"status": "reserved", "reserved_time": now(database), "user": user, "connection_id": 0, **worker}
        upsert(table.jobs, [{**key, **values} for key in table.jobs.keys()])
        populate.run(["RecordingStimulus"])
        return len(table)

    return run_beside


def now(database, ago=0):
    value = database.connection.query("select current_timestamp(3)").fetchone()[0].replace(tzinfo=None)
    return value - dt.timedelta(seconds=ago)


def ended_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HERE = queue.host_name()


def test_jobs_of_a_dead_process_here_are_taken(reserved):
    assert reserved(host=HERE, pid=ended_pid()) == N_SWEEPS


def test_jobs_that_this_process_left_behind_in_an_earlier_run_are_taken(reserved):
    assert reserved(host=HERE, pid=os.getpid()) == N_SWEEPS


def test_jobs_of_this_process_in_this_run_are_not_taken(database, tmp_path):
    write_cells(tmp_path, 1)
    ingest.run("ephys", tmp_path, **OPTIONS)
    table = recording.RecordingStimulus()
    queue.fill(table)
    with Heartbeat(database.connection):
        assert all(table.jobs.reserve(key) for key in table.jobs.keys())
        assert queue.free_orphans(table) == []
    assert queue.free_orphans(table) == []


def test_jobs_of_another_live_process_here_are_not_taken(reserved, database):
    assert reserved(host=HERE, pid=os.getppid(), reserved_time=now(database)) == 0


def test_jobs_of_a_process_whose_number_was_given_away_again_are_taken(reserved, database):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert reserved(host=HERE, pid=child.pid, reserved_time=now(database, ago=3600)) == N_SWEEPS
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize(("heartbeat_ago", "made"), [(1, 0), (50, 0), (70, N_SWEEPS), (86400, N_SWEEPS)])
def test_jobs_of_another_machine_are_taken_when_its_heart_has_stopped(reserved, database, heartbeat_ago, made):
    upsert(
        Worker,
        [{"host": "elsewhere", "pid": 7, "started": now(database, 90000), "heartbeat": now(database, heartbeat_ago)}],
    )
    assert reserved(host="elsewhere", pid=7, reserved_time=now(database, 80000)) == made


def test_jobs_of_a_worker_that_was_started_anew_are_taken(reserved, database):
    upsert(Worker, [{"host": "elsewhere", "pid": 7, "started": now(database, 10), "heartbeat": now(database)}])
    assert reserved(host="elsewhere", pid=7, reserved_time=now(database, 20)) == N_SWEEPS


def test_jobs_of_datajoint_elsewhere_are_taken_when_its_session_is_gone(reserved, database):
    alive = database.connection.connection_id
    assert reserved(host="elsewhere", pid=7, connection_id=alive) == 0
    assert reserved(host="elsewhere", pid=7, connection_id=2**30) == N_SWEEPS


def test_jobs_of_another_database_user_elsewhere_are_left(reserved):
    assert reserved(host="elsewhere", pid=7, connection_id=2**30, user="somebody@elsewhere") == 0


def test_a_job_that_was_taken_meanwhile_is_not_put_back(database, tmp_path):
    write_cells(tmp_path, 1)
    ingest.run("ephys", tmp_path, **OPTIONS)
    table = recording.RecordingStimulus()
    queue.fill(table)
    key = table.jobs.keys()[0]
    assert table.jobs.reserve(key)
    mine = (table.jobs & key).fetch1()
    assert not queue.put_back(table, key, {**mine, "pid": mine["pid"] + 1})
    assert (table.jobs & key).fetch1("status") == "reserved"
    assert queue.put_back(table, key, mine)
    assert (table.jobs & key).fetch1("status") == "pending"

"""``labweave status --check``: one line and an exit code for whoever watches."""

import contextlib
import datetime as dt
import os

import pytest

from labweave.database import upsert
from labweave.database.locks import ServerLock
from labweave.nightly import watch
from labweave.populate.queue import host_name
from labweave.schemas.work import Night


@pytest.fixture
def lab(database, database_url, tmp_path, monkeypatch):
    path = tmp_path / "labweave.toml"
    path.write_text(f"""\
lab = "smithlab"
sources = [{{ name = "rig1", adapter = "ephys", location = "/mnt/rig1" }}]
database = {{ url = "{database_url}", prefix = "{database.prefix}" }}
nightly = {{ log_dir = "{tmp_path}/logs" }}
""")
    monkeypatch.setenv("LABWEAVE_CONFIG", str(path))
    return path


def add_night(hours_ago, exit_code=0, host="elsewhere", pid=1):
    """Add a night; one without exit code has not ended."""
    started = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) - dt.timedelta(hours=hours_ago)
    night = f"{started.isoformat(timespec='microseconds')}Z"
    row = {"night": night, "host": host, "pid": pid, "versions": {}, "started": started, "exit_code": exit_code}
    upsert(Night, [{**row, "finished": started if exit_code is not None else None}])


def test_no_night_yet_is_well(lab):
    assert watch.look() == (0, "good: the database answers; no night yet")


@pytest.mark.parametrize(
    "hours_ago, exit_code, code, word",
    [
        (10, 0, 0, "good"),
        (10, 4, 0, "good"),
        (10, 1, 1, "exit code 1"),
        (10, 5, 1, "exit code 5"),
        (27, 0, 1, "overdue"),
    ],
)
def test_the_last_night_counts(lab, hours_ago, exit_code, code, word):
    add_night(50)
    add_night(hours_ago, exit_code)
    found, line = watch.look()
    assert (found, word in line, "\n" in line) == (code, True, False)


def test_where_no_nights_are_configured_none_is_overdue(lab):
    lab.write_text("\n".join(line for line in lab.read_text().splitlines() if "sources" not in line))
    add_night(1000)
    assert watch.look()[0] == 0


def test_a_night_that_runs_here_is_well_and_one_whose_process_is_gone_is_not(lab):
    add_night(24)
    add_night(0, exit_code=None, host=host_name(), pid=os.getpid())
    assert watch.look()[0] == 0
    add_night(-0.01, exit_code=None, host=host_name(), pid=2**22 + 1)
    code, line = watch.look()
    assert code == 1 and "ended before it was done" in line


@pytest.mark.parametrize("is_held", [True, False])
def test_a_night_elsewhere_runs_while_it_holds_the_lock(lab, database, is_held):
    add_night(24)
    add_night(0, exit_code=None)
    with ServerLock(database.connection, "night") if is_held else contextlib.nullcontext() as lock:
        assert lock is None or lock.acquire()
        assert watch.look()[0] == (0 if is_held else 1)


def test_a_night_that_could_not_begin_is_told(lab, database, tmp_path):
    add_night(10)
    mark = tmp_path / "logs" / f"{database.prefix}not-started"
    mark.parent.mkdir()
    mark.touch()
    os.utime(mark, (1_780_000_000,) * 2)
    code, line = watch.look()
    assert code == 1 and line.startswith("the night of 2026-05-28 20:26 UTC could not begin")


def test_a_database_that_does_not_answer_is_code_2(lab, labweave_command):
    done = labweave_command("--database", "mysql://nobody@127.0.0.1:1", "status", "--check")
    assert done.returncode == 2
    assert done.stdout.startswith("no answer: ") and done.stdout.count("\n") == 1


def test_the_command_says_the_same(lab, labweave_command):
    done = labweave_command("status", "--check")
    assert (done.returncode, done.stdout) == (0, "good: the database answers; no night yet\n")

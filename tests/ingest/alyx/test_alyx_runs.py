"""Syncs one after the other: who may run, what a lost lock or token does, and what waits for a person's word."""

import contextlib
import datetime as dt
import platform
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from alyx_server import AlyxServer
from alyx_small_base import small_days
from alyx_truth import all_wrong, vanished, wrong
from conftest import kill_session

from labweave.database.locks import ServerLock
from labweave.errors import SourceError
from labweave.formats.alyx import client as alyx_client
from labweave.nightly.settings import NightSource
from labweave.nightly.steps import take_source
from labweave.schemas import dataset, ingestion, work

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    """Try again at once what is tried again."""
    monkeypatch.setattr(alyx_client, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def server(monkeypatch):
    with AlyxServer(small_days()) as opened:
        opened.log_in(monkeypatch)
        yield opened


@pytest.fixture
def another_program():
    """The id of a process that is no sync and began just now."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


# who may run


def test_of_two_that_start_together_one_syncs_and_the_other_says_who(database, server, labweave_command):
    has_begun, may_go_on = threading.Event(), threading.Event()

    def hold(request):
        if request.resource == "subjects":
            has_begun.set()
            may_go_on.wait(60)

    server.on_request = hold
    login = {"LABWEAVE_ALYX_USER": server.user, "LABWEAVE_ALYX_PASSWORD": server.password}
    first = labweave_command.start("ingest", "alyx", server.url, **login)
    try:
        assert has_begun.wait(60)
        second = labweave_command("ingest", "alyx", server.url, **login)
    finally:
        may_go_on.set()
    assert second.returncode == 2
    assert f"is being synced by process {first.pid} on {platform.node()} of " in second.stderr
    assert first.wait() == 0
    assert len(ingestion.Run()) == 1
    assert all_wrong(server.base) == []


def left_by_a_reboot(database, server, labweave_command, pid):
    """Kill a sync in the middle, and let its run look as after a reboot: another program has its number now."""
    process = None
    server.on_request = lambda request: request.resource == "datasets" and process.kill()
    process = labweave_command.start(
        "ingest", "alyx", server.url, LABWEAVE_ALYX_USER=server.user, LABWEAVE_ALYX_PASSWORD=server.password
    )
    assert process.wait() != 0
    server.on_request = lambda request: None
    run = ingestion.Run().fetch1("run")
    set_run(run, host=f"{platform.node()}:{pid}", started=now() - dt.timedelta(days=1))
    return run


def now():
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)


def set_run(run, **values):
    ingestion.Run.update1({"run": run, **values})


def test_a_run_left_by_a_reboot_goes_on_though_another_program_has_its_number(
    database, server, labweave_command, another_program
):
    run = left_by_a_reboot(database, server, labweave_command, another_program)
    assert server.sync().run == run
    assert all_wrong(server.base) == []


def test_a_sync_whose_lock_was_lost_takes_it_again(database, server, monkeypatch):
    locks = []
    acquire = ServerLock.acquire
    monkeypatch.setattr(ServerLock, "acquire", lambda self, *given: locks.append(self) or acquire(self, *given))
    server.on_request = lambda request: len(server.log) == 20 and kill_session(holder(locks[0]))
    assert server.sync().exit_code == 0
    assert len(locks) == 2
    assert all_wrong(server.base) == []


def test_a_sync_whose_lock_another_has_taken_ends_and_leaves_the_run_alone(database, server, monkeypatch):
    locks, others = [], []
    acquire = ServerLock.acquire
    monkeypatch.setattr(ServerLock, "acquire", lambda self, *given: locks.append(self) or acquire(self, *given))

    def overtake(request):
        if len(server.log) == 20:
            kill_session(holder(locks[0]))
            others.append(ServerLock(database.connection, f"sync {ingestion.Source().fetch1('source')}"))
            assert acquire(others[0])

    server.on_request = overtake
    with pytest.raises(SourceError, match="another sync has begun"):
        server.sync()
    assert ingestion.Run().fetch1("status") == "running"
    others[0].__exit__(None, None, None)
    server.on_request = lambda request: None
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def holder(lock):
    return SimpleNamespace(connection=lock._session, backend=lock._session.url.backend)


# a token that is no longer good


def test_a_deleted_token_is_the_last_line_also_in_the_middle(database, server, labweave_command):
    arguments = ("ingest", "alyx", server.url)
    login = {"LABWEAVE_ALYX_USER": "", "LABWEAVE_ALYX_PASSWORD": "", "LABWEAVE_ALYX_TOKEN": server.token}
    server.on_request = lambda request: len(server.log) == 30 and server.expire_token()
    for _ in range(2):  # deleted in the middle, and from the start
        result = labweave_command(*arguments, **login)
        assert result.returncode == 2
        assert "the token was refused" in result.stderr.splitlines()[-1]
        assert "LABWEAVE_ALYX_TOKEN" in result.stderr.splitlines()[-1]
    assert len(server.log) < 60
    server.on_request = lambda request: None
    assert labweave_command(*arguments, **{**login, "LABWEAVE_ALYX_TOKEN": server.token}).returncode == 0
    assert all_wrong(server.base) == []


# what waits for a person's word


def test_what_vanishes_in_a_mass_is_held_back_alone_until_somebody_allows_it(database, server):
    server.sync()
    weighings = list(server.base.resources["weighings"])
    for row_id in weighings[:12]:
        server.base.remove("weighings", row_id)
    location = next(iter(server.base.resources["insertions"]))
    server.base.remove("insertions", location)
    report = server.sync()
    assert report.exit_code == 1
    assert "no longer has 12 of 20 weighings" in str(report).splitlines()[-1]
    assert "--allow-vanished" in str(report).splitlines()[-1]
    assert set(vanished("weighings").values()) == {None}
    assert vanished("insertions")[location,] == report.run
    # The next night is a new run, with what is new on the server.
    changed = next(iter(server.base.resources["datasets"]))
    server.base.edit("datasets", changed, hash="c" * 32, auto_datetime="2026-04-01T10:00:00")
    again = server.sync()
    assert again.exit_code == 1 and again.run != report.run
    assert (dataset.Dataset & {"dataset_id": changed}).fetch1("hash") == "c" * 32
    assert server.sync(allow_vanished=True).exit_code == 0
    assert all_wrong(server.base) == []


def test_locations_of_a_renamed_lab_are_no_mass_that_vanishes(database, server):
    base = server.base
    labs = [row.shown["name"] for row in base.rows("labs")]
    shown = next(row.shown for row in base.rows("locations"))
    for number in range(16):
        base.put("locations", {**shown, "name": f"rig {number}", "lab": labs[number % 2]})
    server.sync()
    rename_labs(base)
    report = server.sync()
    assert (report.exit_code, report.held_back) == (0, [])
    assert [line for name in ("labs", "locations", "subjects", "sessions") for line in wrong(base, name)] == []


def rename_labs(base):
    """Give every lab another name, as the server would show it in all rows."""
    for resource in ("labs", "locations", "subjects", "sessions", "users"):
        for row in list(base.rows(resource)):
            if resource == "labs":
                base.edit(resource, row.id, name=f"{row.shown['name']}_new")
            elif resource == "users":
                base.edit(resource, row.id, lab=[f"{name}_new" for name in row.shown["lab"]])
            else:
                base.edit(resource, row.id, lab=f"{row.shown['lab']}_new")


# what could not be stored


def named(labweave_command):
    """Return the paths that `labweave errors` lists, each once."""
    lines = labweave_command("errors", check=0).stdout.splitlines()
    paths = [line.split()[1] for line in lines if line.startswith("alyx-")]
    assert len(paths) == len(set(paths))
    return set(paths)


def test_errors_of_a_sync_are_listed_until_each_is_solved(database, server, labweave_command):
    mouse, other = list(server.base.rows("subjects"))[:2]
    for row in (mouse, other):
        server.base.edit("subjects", row.id, birth_date="yesterday")
    process = None
    server.on_request = lambda request: request.resource == "datasets" and process.kill()
    login = {"LABWEAVE_ALYX_USER": server.user, "LABWEAVE_ALYX_PASSWORD": server.password}
    process = labweave_command.start("ingest", "alyx", server.url, **login)
    assert process.wait() != 0
    server.on_request = lambda request: None
    assert ingestion.Run().fetch1("status") == "running"
    both = {f"subjects/{row.id}" for row in (mouse, other)}
    assert named(labweave_command) == both
    assert "2 units or files not ingested" in labweave_command("status", check=0).stdout
    assert server.sync().exit_code == 1 and named(labweave_command) >= both
    server.base.edit("subjects", mouse.id, birth_date="2026-01-02")
    server.sync(subjects=[mouse.shown["nickname"]])
    assert f"subjects/{other.id}" in named(labweave_command) and f"subjects/{mouse.id}" not in named(labweave_command)
    assert server.sync().exit_code == 1
    assert both & named(labweave_command) == {f"subjects/{other.id}"}
    server.base.edit("subjects", other.id, birth_date="2026-01-02")
    server.fail("drop", 10_000, match="/(datasets|files)")
    with contextlib.suppress(SourceError):
        assert server.sync().exit_code == 1
    assert not both & named(labweave_command)  # though this run has not ended well
    server.forgive()
    assert server.sync().exit_code == 0 and named(labweave_command) == set()
    assert all_wrong(server.base) == []


def test_a_record_that_fails_and_is_deleted_on_the_server_is_no_error_any_more(database, server, labweave_command):
    broken = next(iter(server.base.resources["datasets"]))
    server.broken = {broken}
    assert server.sync().exit_code == 1
    assert any(path.startswith("datasets/") for path in named(labweave_command))
    server.broken = set()
    server.base.remove("datasets", broken)
    server.sync()
    assert named(labweave_command) == set()


# in a night


def test_a_night_reads_all_of_a_server_when_that_is_due_and_tells_what_waits_for_a_word(database, server):
    source = NightSource(name="alyx", adapter="alyx", location=server.url, full_every="7d")

    def take():
        result = take_source(source, None, False)
        now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
        name = f"{now.isoformat(timespec='microseconds')}Z"
        work.Night.insert1({"night": name, "host": "h", "pid": 1, "versions": {}, "started": now})
        step = {"position": 0, "step_status": result.status, "seconds": 1, "step_message": result.message}
        work.NightStep.insert1({"night": name, "step": "source alyx", "counts": result.counts, "problems": {}, **step})
        return result

    first = take()
    assert first.counts["full"] == 1 and first.counts["new"] > 0 and first.problems == {}
    for row_id in list(server.base.resources["weighings"])[:12]:
        server.base.remove("weighings", row_id)
    second = take()
    assert "full" not in second.counts and second.status == "failed"
    assert "no longer has 12 of 20 weighings" in second.problems["gone records"][1]

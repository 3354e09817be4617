"""A night does all that is to be done, whatever happened in it or in the one before, and tells of a thing once."""

import json
import os
import random
import signal
import time

import psutil
import pytest
from simulated import contents, damage, differences, write_cell, write_cells
from sinks import http_sink, smtp_sink

import labweave
from labweave.database import patience, verify_backup
from labweave.database.locks import ServerLock
from labweave.nightly import night, pages
from labweave.schemas import ingestion, provenance, recording, rheobase, work

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("LABWEAVE_NIGHT_KILLS", "3"))
OWN = {"work.night", "work.night_step", "provenance.verified", "ingestion.run"}
"""What a night that finds nothing to do writes."""

SETTINGS = """\
lab = "simlab"

[[sources]]
name = "rig1"
adapter = "ephys"
location = "{folder}/rig1"
options = {{ subject = "mouse-{{cell}}", session_date = "2026-01-02" }}
settle = "0s"
{source}
[nightly]
log_dir = "{folder}/logs"
min_free = "1MB"
verify_sample = 2
{nightly}
[alert]
to = ["env:LAB_ALERT"]
healthchecks = "http://{address}/ping"
[metrics]
textfile = "{folder}/labweave.prom"
"""


class Nights:
    """A lab with one rig, whose nights are run by the command."""

    def __init__(self, folder, database_url, prefix, command, address, posted):
        self.folder, self.url, self.prefix = folder, database_url, prefix
        self.command, self.address, self.posted = command, address, posted
        self.rig = folder / "rig1"
        self.rig.mkdir()
        self.say()

    def say(self, source="", nightly=""):
        """Write labweave.toml, with more lines for the source and for nights."""
        text = SETTINGS.format(folder=self.folder, address=self.address, source=source, nightly=nightly)
        (self.folder / "labweave.toml").write_text(text)

    def options(self):
        settings = {"LABWEAVE_CONFIG": str(self.folder / "labweave.toml"), "LAB_ALERT": f"json://{self.address}/alert"}
        return {"prefix": self.prefix, **settings}

    def start(self, *arguments):
        return self.command.start("nightly", *arguments, **self.options())

    def run(self, *arguments, check=0):
        return self.command("nightly", *arguments, check=check, **self.options())

    def alerts(self):
        """Return the titles of the alerts since the last call."""
        found = [json.loads(text)["title"] for path, text in self.posted if path == "/alert"]
        self.pings = [path for path, _ in self.posted if path.startswith("/ping")]
        self.posted.clear()
        return found

    def open(self):
        return labweave.connect(self.url, prefix=self.prefix)

    def contents(self):
        return contents((self.url, self.prefix))


@pytest.fixture
def nights(database_url, new_lab, labweave_command, tmp_path):
    with http_sink() as (address, posted):
        yield Nights(tmp_path, database_url, new_lab(), labweave_command, address, posted)


def steps():
    """Return step -> status of the last night."""
    chosen = max(work.Night().to_arrays("night").tolist())
    rows = (work.NightStep & {"night": chosen}).to_dicts(order_by="position")
    return {row["step"]: row["step_status"] for row in rows}


def test_a_night_takes_what_is_new_and_the_next_one_finds_nothing_to_do(nights):
    write_cells(nights.rig, 2)
    said = nights.run()
    assert "all good" in said.stdout and "rig1: 2 units; 2 new" in said.stdout
    with nights.open():
        assert len(rheobase.Rheobase()) == 2
        assert steps() == dict.fromkeys(["source rig1", "populate", "check", "check files", "verify"], "good")
        (row,) = work.Night().to_dicts()
        assert row["exit_code"] == 0 and row["finished"] > row["started"] and row["told"] is not None
        row = (work.NightStep & {"step": "source rig1"}).to_dicts()[0]
        assert row["counts"]["new"] == 2
        assert row["n_bytes"] == sum(path.stat().st_size for path in nights.rig.iterdir())
        assert set(provenance.Verified().to_arrays("outcome").tolist()) == {"equal"}
    assert nights.alerts() == [] and nights.pings == ["/ping/start", "/ping"]
    before = nights.contents()
    nights.run()
    assert set(differences(before, nights.contents())) <= OWN
    assert nights.alerts() == []
    assert 'labweave_night_exit_code{lab="' in (nights.folder / "labweave.prom").read_text()


def test_a_failure_is_told_once_and_so_is_its_end(nights):
    write_cells(nights.rig, 2)
    nights.run()
    nights.alerts()
    path = sorted(nights.rig.iterdir())[1]
    whole = path.read_bytes()
    damage(path)
    said = nights.run(check=1)
    assert "something new failed" in said.stdout and f"New:\n  source rig1: {path.name}" in said.stdout
    (title,) = nights.alerts()
    assert "something new failed" in title and nights.pings == ["/ping/start", "/ping/fail"]
    report = nights.command("nightly", "report", check=0, **nights.options()).stdout
    assert "something new failed" in report and f"New:\n  source rig1: {path.name}" in report
    said = nights.run(check=0)
    assert "nothing new failed, 1 known" in said.stdout
    assert nights.alerts() == [] and nights.pings == ["/ping/start", "/ping"]
    path.write_bytes(whole)
    said = nights.run(check=0)
    assert "Solved since the last night:\n  source rig1" in said.stdout
    (title,) = nights.alerts()
    assert "all good" in title
    nights.run()
    assert nights.alerts() == []


def test_mail_is_a_page(nights, monkeypatch):
    (nights.rig / "bad.h5").write_text("no recording")
    with smtp_sink() as (address, mailed):
        host, port = address.split(":")
        options = nights.options() | {"LAB_ALERT": f"mailto://{host}:{port}?from=labweave@lab.org&to=pi@lab.org"}
        nights.command("nightly", check=1, **options)
    (message,) = mailed
    assert message["To"] == "pi@lab.org" and "something new failed" in message["Subject"]
    page = message.get_body(("html",)).get_content()
    assert "bad.h5" in page and "<pre" in page


def test_two_nights_at_once(nights):
    write_cells(nights.rig, 2)
    first = nights.start()
    deadline = time.monotonic() + 120
    with nights.open():
        while len(work.Night()) == 0:
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.01)
        said = nights.run(check=3)
        assert f"process {first.pid}, since" in said.stderr
        first.communicate()
        assert first.returncode == 0
        assert len(work.Night()) == 1


def test_killed_nights_are_completed_and_told_once(nights, new_lab, tmp_path):
    write_cells(nights.rig, 3)
    began = time.monotonic()
    nights.run()
    seconds = time.monotonic() - began
    calm = nights.contents()
    chance, killed = random.Random(2026), 0
    for kill in range(KILLS):
        nights.prefix = new_lab()
        nights.alerts()
        process = nights.start()
        limit = time.monotonic() + seconds * (kill + chance.random()) / KILLS
        while time.monotonic() < limit and process.poll() is None:
            time.sleep(0.005)
        is_killed = process.poll() is None
        process.kill()
        process.communicate()
        with nights.open():
            began = len(work.Night()) == 1 and work.Night().to_dicts()[0]["finished"] is None
        _wait_for_steps_to_end(nights)
        code = nights.run(check=None).returncode
        assert code == (1 if is_killed and began else 0)
        titles = nights.alerts()
        assert len(titles) == (1 if is_killed and began else 0)
        assert nights.run().returncode == 0 and nights.alerts() == []
        killed += is_killed and began
        assert facts(nights.contents()) == facts(calm)
        with nights.open():
            assert set(provenance.Verified().to_arrays("outcome").tolist()) <= {"equal"}
    assert killed


def _wait_for_steps_to_end(nights):
    """Wait until the killed night's step has noticed: until its ingest and workers have ended."""
    deadline = time.monotonic() + 120
    with nights.open() as database:
        while True:
            with ServerLock(database.connection, "night") as lock:
                if lock.acquire() and not (ingestion.Run & {"status": "running"}) and not len(work.Worker()):
                    return
            if time.monotonic() > deadline:  # a run whose process was killed before it could say so
                return
            time.sleep(0.1)


def facts(found):
    """Return what is known, without who did it when."""
    left_out = {"run", "mtime_ns", "made_at", "made_by", "host", "seconds", "change_id", "changed_at"}
    kept = (
        "recording.",
        "rheobase.",
        "efeature.",
        "subject.",
        "session.",
        "dataset.",
        "ingestion.given",
        "ingestion.source",
    )
    return {
        table: sorted(tuple((name, value) for name, value in row if name not in left_out) for row in rows)
        for table, rows in found.items()
        if table.startswith(kept) and ".~" not in table
    }


def test_sigterm_ends_a_night_in_order(nights):
    write_cells(nights.rig, 3)
    process = nights.start()
    deadline = time.monotonic() + 120
    while "source rig1" not in (process._path / "err").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode in (143, 0)
    nights.run(check=None)
    with nights.open():
        assert len(rheobase.Rheobase()) == 3
        assert not (rheobase.Rheobase().jobs & {"status": "reserved"})


def test_ctrl_c_while_the_first_step_begins_prints_no_traceback(nights):
    process = nights.start()
    deadline = time.monotonic() + 120
    while not any(  # the server of the steps imports
        "forkserver" in " ".join(one.cmdline()) and one.cpu_times().user > 0.3
        for one in psutil.Process(process.pid).children()
    ):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130 and "Traceback" not in said and "stopped" in said


def test_a_disk_that_is_away_is_no_failure_until_it_is_quiet_for_too_long(nights):
    nights.say("require_mount = true\nexpect_every = '1d'\n")
    write_cells(nights.rig, 2)
    nights.run()
    away = nights.rig.rename(nights.folder / "away")
    said = nights.run()
    assert "rig1isaway" in "".join(said.stdout.split())
    nights.rig.mkdir()  # the mount point of a disk that is not mounted
    nights.run()
    assert nights.alerts() == []
    with nights.open():
        assert steps()["source rig1"] == "away"
        assert (ingestion.SourceFile & {"file_status": "vanished"}).to_dicts() == []
        _shift_runs(2)
        nights.run()
        (title,) = nights.alerts()  # stale
        assert "all good" in title
        nights.run()
        assert nights.alerts() == []
        _shift_runs(2)
        said = nights.run(check=1)
        assert "nothing new for 4 d, expected every 24 h" in " ".join(said.stdout.split())
        assert len(nights.alerts()) == 1
        nights.rig.rmdir()
        away.rename(nights.rig)
        write_cell(nights.rig, 2)
        nights.run()
        assert len(nights.alerts()) == 1  # recovered
        assert steps()["source rig1"] == "good"


def _shift_runs(days):
    """Have all runs of ingest so many days earlier."""
    import datetime as dt

    for run in ingestion.Run().to_dicts():
        ingestion.Run.update1({"run": run["run"], "started": run["started"] - dt.timedelta(days=days)})


def test_half_a_disk_marks_nothing(nights):
    write_cells(nights.rig, 4)
    nights.run()
    for path in sorted(nights.rig.iterdir())[:3]:
        path.unlink()
    said = nights.run(check=1)
    assert "3 of 4 files are gone, more than the part of 0.1" in " ".join(said.stdout.split())
    with nights.open():
        assert (ingestion.SourceFile & {"file_status": "vanished"}).to_dicts() == []


def test_files_that_may_be_half_copied_wait_and_are_counted(nights):
    path = nights.folder / "labweave.toml"
    path.write_text(path.read_text().replace('settle = "0s"', 'settle = "1h"'))
    write_cells(nights.rig, 2)
    assert "0 failed, 2 too young" in nights.run().stdout


def test_bytes_that_a_disk_has_changed_are_found(nights):
    write_cells(nights.rig, 1)
    nights.run()
    (path,) = nights.rig.iterdir()
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    said = nights.run(check=5)
    assert "has other bytes than when it was ingested" in " ".join(said.stdout.split())
    with nights.open():
        assert steps()["check files"] == "failed"


def test_a_budget_that_ends_leaves_the_rest_to_the_next_night(nights):
    write_cells(nights.rig, 2)
    nights.say(nightly="budget = '0.01s'\n")
    said = nights.run(check=4)
    assert "not done in its time" in said.stdout
    with nights.open():
        assert set(steps().values()) == {"left"} and next(iter(steps())) == "source rig1"
        nights.say()
        nights.run()
        assert len(rheobase.Rheobase()) == 2


def test_a_source_has_a_time_of_its_own(nights):
    write_cells(nights.rig, 2)
    nights.say("timeout = '0.01s'\n")
    said = nights.run(check=1)
    assert "took longer than 0 min, and was ended" in " ".join(said.stdout.split())
    with nights.open():
        assert steps()["source rig1"] == "failed" and steps()["populate"] == "good"


def test_a_night_that_can_not_begin_says_so_once(nights):
    write_cells(nights.rig, 1)
    text = (nights.folder / "labweave.toml").read_text()
    (nights.folder / "labweave.toml").write_text(text.replace('min_free = "1MB"', 'min_free = "900PB"'))
    for told in (["labweave night: could not begin"], []):
        said = nights.run(check=2)
        assert "are free where the night writes" in said.stderr
        assert nights.alerts() == told and nights.pings == ["/ping/fail"]
    nights.say()
    nights.run()
    assert len(nights.alerts()) == 1  # it is well again


def test_places_that_can_not_be_written_are_told_with_the_rest_of_the_night(nights):
    write_cells(nights.rig, 1)
    text = (nights.folder / "labweave.toml").read_text().replace("labweave.prom", "a file/labweave.prom")
    (nights.folder / "labweave.toml").write_text(text + f"[backup]\nto = '{nights.folder}/a file/backups'\n")
    (nights.folder / "a file").touch()
    said = nights.run(check=5)
    assert "the metrics can't be written" in said.stderr
    words = " ".join(said.stdout.split())
    assert "report it" not in words and "backup: step:" in words and "Not a directory" in words
    assert len(nights.alerts()) == 1 and nights.pings[-1] == "/ping/fail"
    with nights.open():
        assert len(rheobase.Rheobase()) == 1


def test_a_mistake_in_the_settings_is_told_once(nights):
    write_cells(nights.rig, 1)
    nights.say("timeuot = '2h'\n")
    for told in (["labweave night: could not begin"], []):
        said = nights.run(check=2)
        assert "timeuot: not known; did you mean timeout?" in said.stderr
        assert nights.alerts() == told
    nights.say()
    nights.run()
    assert len(nights.alerts()) == 1  # it is well again


def test_addresses_that_are_not_there_stop_no_night(nights):
    (nights.rig / "bad.h5").write_text("no recording")
    text = (nights.folder / "labweave.toml").read_text()
    (nights.folder / "labweave.toml").write_text(text.replace('healthchecks = "', 'healthchecks = "env:LAB_PING" # "'))
    said = nights.command("nightly", check=1, **nights.options() | {"LAB_ALERT": ""})
    assert (
        "the alert could not be sent: Setting alert.to (env:LAB_ALERT): the variable LAB_ALERT is not set"
        in said.stderr
    )
    assert "healthchecks could not be pinged" in said.stderr and "something new failed" in said.stdout


def test_a_database_that_does_not_answer_is_waited_for_and_then_told(nights, monkeypatch):
    monkeypatch.setattr(patience, "BUDGET_S", 1.0)
    for name, value in nights.options().items():
        monkeypatch.setenv("LABWEAVE_PREFIX" if name == "prefix" else name, value)
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", "mysql://root:secret@127.0.0.1:9")
    for told in (["labweave night: could not begin"], []):
        with pytest.raises(night.NotStarted, match="127.0.0.1:9") as raised:
            night.run()
        assert "secret" not in str(raised.value)
        assert nights.alerts() == told


def test_backups_are_made_kept_and_verified_when_due(nights):
    write_cells(nights.rig, 1)
    nights.say(nightly=f"[backup]\nto = '{nights.folder}/backups'\nkeep = 'daily=1'\n")
    said = nights.run()
    (first,) = (nights.folder / "backups").iterdir()
    assert f"{first}restoredbesideandcompared" in "".join(said.stdout.split())
    nights.run()
    (second,) = (nights.folder / "backups").iterdir()
    assert second != first  # of one day, the last is kept
    with nights.open():
        assert steps()["backup"] == steps()["verify backup"] == "good"
        rows = (work.NightStep & {"step": "verify backup"}).to_dicts(order_by="night")
        assert [row["counts"] for row in rows] == [{"verified": 1}, {}]
    assert verify_backup(second, nights.url, prefix=nights.prefix) == []


def test_a_dry_run_writes_nothing(nights):
    write_cells(nights.rig, 2)
    nights.open().close()  # makes the lab, where it is not there yet
    before = nights.contents()
    said = nights.run("--dry-run")
    assert "2 new" in said.stdout
    assert nights.contents() == before and nights.posted == []


def test_one_source_only(nights):
    write_cells(nights.rig, 2)
    nights.run("--only", "rig1", "--only", "rig1")
    with nights.open():
        assert list(steps()) == ["source rig1"]
        assert (work.NightStep & {"position": 1}).to_dicts() == []
        assert len(recording.Cell()) == 2 and len(rheobase.Rheobase()) == 0
    said = nights.run("--only", "rig7", check=2)
    assert "no source rig7. It has: rig1" in said.stderr


def test_reports_of_nights(nights):
    write_cells(nights.rig, 1)
    nights.run()
    nights.run()
    options = nights.options()
    last = nights.command("nightly", "report", check=0, **options).stdout
    assert last.count("labweave night of") == 1 and "1 unchanged" in last
    both = json.loads(nights.command("nightly", "report", "--last", "5", "--json", check=0, **options).stdout)
    assert [each["steps"][0]["counts"]["new"] for each in both] == [0, 1]
    day = both[0]["night"][:10]
    assert (
        nights.command("nightly", "report", "--date", day, "--last", "9", check=0, **options).stdout.count("all good")
        == 2
    )
    assert nights.command("nightly", "report", "--date", "2020-01-01", check=1, **options).stdout == ""
    assert "Invalid value for '--date'" in nights.command("nightly", "report", "--date", "'", check=2, **options).stderr
    assert "<html" in nights.command("nightly", "report", "--html", check=0, **options).stdout


def test_the_forecast_of_a_full_disk(database):
    import datetime as dt

    for day, free in enumerate((100e9, 90e9, 80e9, 70e9)):
        started = dt.datetime(2026, 11, 1 + day, 2)
        row = {"night": f"{started.isoformat()}.000000Z", "host": "h", "pid": 1, "versions": {}, "started": started}
        work.Night.insert1({**row, "free_bytes": int(free)})
    assert pages.days_until_full(70 * 10**9) == pytest.approx(7.0)
    work.Night.update1({"night": "2026-11-04T02:00:00.000000Z", "free_bytes": 10**12})
    assert pages.days_until_full(10**12) is None


def test_old_logs_go(nights):
    logs = nights.folder / "logs"
    logs.mkdir()
    old, other = logs / f"{nights.prefix}night-2020-01-01T020000Z.log", logs / "somebody-else.log"
    for path in (old, other):
        path.write_text("x")
        os.utime(path, (1e9, 1e9))
    write_cells(nights.rig, 1)
    nights.run()
    assert not old.exists() and other.exists()
    assert len(list(logs.glob(f"{nights.prefix}night-*.txt"))) == 1

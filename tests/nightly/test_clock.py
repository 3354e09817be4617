"""When nights begin: each day once, also over a change of summer time, and at once after one that was missed."""

import datetime as dt
import time

import pytest

import labweave
from labweave.database import patience, upsert
from labweave.nightly import clock
from labweave.nightly.settings import load_night
from labweave.schemas.work import Night


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def moment(text):
    return dt.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    "now, begins",
    [
        ("2026-12-01T01:59:59+01:00", "2026-12-01T02:30:00+01:00"),
        ("2026-12-01T02:30:00+01:00", "2026-12-02T02:30:00+01:00"),
        ("2026-12-31T23:00:00+01:00", "2027-01-01T02:30:00+01:00"),
        ("2026-03-29T01:00:00+01:00", "2026-03-29T03:30:00+02:00"),  # 02:30 is not there
        ("2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"),
        ("2026-10-25T02:00:00+02:00", "2026-10-25T02:30:00+02:00"),  # 02:30 comes twice
        ("2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
        ("2026-10-25T02:29:00+01:00", "2026-10-26T02:30:00+01:00"),
    ],
)
def test_the_next_night_begins_once_a_day(berlin, now, begins):
    assert clock.next_begin("02:30", moment(now)) == moment(begins)
    assert clock.last_begin("02:30", moment(begins)) == moment(begins)
    assert clock.last_begin("02:30", moment(begins) - 1) < moment(now) + 1


@pytest.fixture
def lab(database, database_url, tmp_path, monkeypatch):
    path = tmp_path / "labweave.toml"
    path.write_text(
        f'[database]\nurl = "{database_url}"\nprefix = "{database.prefix}"\n'
        f'[nightly]\nat = "02:00"\nlog_dir = "{tmp_path}/logs"\n'
    )
    monkeypatch.setenv("LABWEAVE_CONFIG", str(path))
    return load_night()


NOON = dt.datetime(2026, 12, 1, 12).timestamp()


def add_night(began, finished=True):
    started = dt.datetime.fromtimestamp(began, dt.timezone.utc).replace(tzinfo=None)
    night = f"{started.isoformat(timespec='microseconds')}Z"
    row = {"night": night, "host": "here", "pid": 1, "versions": {}, "started": started}
    upsert(Night, [{**row, "finished": started if finished else None}])


def waited(settings):
    """Return how long a wait takes that begins at noon, and what it tells."""
    now, told = [NOON], []

    def pause(seconds):
        assert 0 < seconds <= clock.LONGEST_PAUSE_S
        now[0] += seconds

    clock.wait(settings, told.append, lambda: now[0], pause)
    return now[0] - NOON, told


def test_a_first_night_waits_for_its_time(lab):
    seconds, told = waited(lab)
    assert seconds == 14 * 3600
    assert told == ["the next night begins at 2026-12-02 02:00"]


def test_after_a_night_the_next_waits_for_its_time(lab):
    add_night(NOON - 10 * 3600)
    assert waited(lab)[0] == 14 * 3600


def test_a_night_that_was_missed_begins_at_once(lab):
    add_night(NOON - 34 * 3600)
    assert waited(lab) == (0, ["a night was missed: it begins now"])


def test_a_night_that_still_runs_was_not_missed(lab):
    add_night(NOON - 34 * 3600, finished=False)
    assert waited(lab)[0] == 14 * 3600


def test_a_night_that_could_not_begin_is_not_tried_again_and_again(lab, tmp_path):
    add_night(NOON - 34 * 3600)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"{lab.database.prefix}not-started").touch()
    assert waited(lab)[0] == 14 * 3600


def test_a_wait_goes_on_without_its_database(lab, database, monkeypatch):
    while labweave.database._open is not None:
        labweave.database.current().close()
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", "mysql://nobody@127.0.0.1:1")
    monkeypatch.setattr(patience, "BUDGET_S", 0.5)
    seconds, told = waited(lab)
    assert seconds == 14 * 3600
    assert "not known" in told[0] and "127.0.0.1:1" in told[0]

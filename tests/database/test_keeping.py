"""Backups that are kept: one a day, a week, a month; and only a lab's own ones are deleted."""

import datetime as dt
import json
import zipfile

import pytest

from labweave.database.backup.file import BackupInfo
from labweave.database.backup.keeping import file_name, parse_keep, prune, to_keep
from labweave.errors import ConfigError

UTC = dt.timezone.utc


def test_a_year_of_nights_leaves_a_week_of_days_five_weeks_and_twelve_months():
    nights = [dt.datetime(2026, 1, 1, 2) + dt.timedelta(days=n) for n in range(365)]
    kept = sorted(to_keep(nights, parse_keep("daily=7,weekly=5,monthly=12")))
    days = [dt.date(2026, 12, day) for day in range(25, 32)]
    sundays = [dt.date(2026, 12, 6), dt.date(2026, 12, 13), dt.date(2026, 12, 20)]  # and the 27th, and the last week
    months = [(dt.date(2026, month + 1, 1) - dt.timedelta(days=1)) for month in range(1, 12)]
    assert [time.date() for time in kept] == sorted({*days, *sundays, *months})


def test_only_the_last_of_a_day_is_kept_and_missing_days_don_t_count():
    times = [dt.datetime(2026, 3, day, hour) for day, hour in ((1, 2), (5, 2), (5, 9), (9, 1))]
    assert to_keep(times, {"daily": 2}) == {times[2], times[3]}
    assert to_keep(times, {"daily": 9}) == {times[0], times[2], times[3]}


@pytest.mark.parametrize("text", ["", "daily", "daily=x", "hourly=3", "daily=1,daily=2", "daily=0", "daily=-1"])
def test_rules_that_say_nothing_are_refused(text):
    with pytest.raises(ConfigError, match="daily=7,weekly=5,monthly=12"):
        parse_keep(text)


def write(folder, day, prefix="smithlab_", database="mysql://a@b:1", name=None):
    time = dt.datetime(2026, 3, day, 2, tzinfo=UTC)
    info = BackupInfo("mysql", "mysql", "9", prefix, [], time.isoformat(), "0.1", "", 0, 0, database=database)
    path = folder / (name or file_name("smithlab_", time))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labweave-backup.json", json.dumps(vars(info)))
    return path, info


def test_only_older_backups_of_the_same_lab_go(tmp_path):
    old, before = (write(tmp_path, day)[0] for day in (1, 2))
    others = [
        write(tmp_path, 3, prefix="joneslab_")[0],
        write(tmp_path, 4, database="mysql://a@other:1")[0],
        write(tmp_path, 5, name="before-upgrade.backup")[0],
    ]
    (tmp_path / "smithlab-2026-03-06T020000.backup").write_text("not one")
    others.append(tmp_path / "smithlab-2026-03-06T020000.backup")
    last, info = write(tmp_path, 7)
    assert last.name == "smithlab-2026-03-07T020000.backup"
    assert prune(tmp_path, info, {"daily": 2}) == ([before, last], [old])
    assert sorted(tmp_path.iterdir()) == sorted([before, last, *others])

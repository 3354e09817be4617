"""What labweave.toml says of nights is checked: every mistake with its line, and what was perhaps meant."""

import datetime as dt

import pytest

from labweave.errors import ConfigError
from labweave.nightly.settings import find_mistakes, load_night

GOOD = """\
lab = "smithlab"

[[sources]]
name = "rig1"
adapter = "ephys"
location = "/mnt/rig1"
options = { subject = "{cell}" }
settle = "30min"
require_mount = true
expect_every = "3d"
max_vanished = 0.1
timeout = "2h"

[[sources]]
name = "alyx"
adapter = "alyx"
location = "https://alyx.example.org"
full_every = "7d"

[nightly]
at = "02:00"
budget = "5h"
workers = 4
min_free = "50GB"
keep_logs = "90d"
verify_sample = 20

[backup]
to = "/backup/labweave"
keep = "daily=7,weekly=5,monthly=12"
verify_every = "7d"

[alert]
to = ["env:LAB_ALERT_URL"]
healthchecks = "https://hc.example.org/uuid"
on = ["new_failure", "stale", "recovered"]

[metrics]
textfile = "/var/lib/node_exporter/labweave.prom"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes labweave.toml with some words replaced, and returns the mistakes in it."""
    path = tmp_path / "labweave.toml"
    monkeypatch.setenv("LABWEAVE_CONFIG", str(path))

    def write(*changes):
        text = GOOD
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        path.write_text(text)
        return [(mistake.line, mistake.setting, mistake.what) for mistake in find_mistakes()]

    return write


def test_a_whole_file_is_understood(write):
    assert write() == []
    night = load_night()
    assert [source.name for source in night.sources] == ["rig1", "alyx"]
    assert night.sources[0].settle == dt.timedelta(minutes=30)
    assert night.sources[1].settle == dt.timedelta(minutes=30)
    assert night.nightly.min_free == 50 * 10**9
    assert night.backup.verify_every == dt.timedelta(days=7)


@pytest.mark.parametrize(
    ("change", "line", "setting", "says"),
    [
        (('adapter = "ephys"', 'adaptor = "ephys"'), 5, "sources.0.adaptor", "did you mean adapter?"),
        (('adapter = "ephys"', 'adapter = "efys"'), 5, "sources.0.adapter", "did you mean ephys?"),
        (('settle = "30min"', 'settle = "30 minutes"'), 8, "sources.0.settle", "write a number with s, min, h or d"),
        (('expect_every = "3d"', 'expect_every = "99999999999d"'), 10, "sources.0.expect_every", "longer than 36500d"),
        (("{ subject =", "{ subjct ="), 7, "sources.0.options", "Its options: subject,"),
        (("max_vanished = 0.1", "max_vanished = 10"), 11, "sources.0.max_vanished", "less than or equal to 1"),
        (('name = "alyx"', 'name = "rig1"'), 15, "sources.1.name", "is the name of another source"),
        (('at = "02:00"', 'at = "26:00"'), 21, "nightly.at", "write it as 02:00"),
        (('budget = "5h"', 'bugdet = "5h"'), 22, "nightly.bugdet", "did you mean budget?"),
        (('"50GB"', '"50 elephants"'), 24, "nightly.min_free", "byte"),
        (("daily=7", "dayly=7"), 30, "backup.keep", "Write for example daily=7,weekly=5,monthly=12"),
        (('"stale", ', '"stall", '), 36, "alert.on.1", "'new_failure', 'stale' or 'recovered'"),
        (("[metrics]", "[metric]"), 38, "metric", "did you mean metrics?"),
        (('lab = "smithlab"', ""), 3, "sources.0", "no lab"),
    ],
)
def test_mistakes_are_found_with_their_line(write, change, line, setting, says):
    ((found_line, found_setting, what),) = write(change)
    assert (found_line, found_setting) == (line, setting)
    assert says in what


def test_a_file_of_another_editor_is_read_as_any_other(write, tmp_path):
    write(("keep_logs", "kep_logs"))
    path = tmp_path / "labweave.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    (mistake,) = find_mistakes()
    assert mistake.setting == "nightly.kep_logs" and "did you mean keep_logs?" in mistake.what


def test_all_mistakes_are_listed_and_the_first_stops_a_night(write, labweave_command, tmp_path):
    write(('adapter = "ephys"', 'adapter = "efys"'), ('name = "alyx"', 'name = "rig1"'))
    found = labweave_command("config", "check", LABWEAVE_CONFIG=str(tmp_path / "labweave.toml"))
    assert found.returncode == 1
    assert found.stdout.splitlines()[-1].endswith("labweave.toml: 2 mistakes")
    with pytest.raises(ConfigError, match=r"labweave.toml:5: sources.0.adapter: .* 1 more: labweave config check"):
        load_night()

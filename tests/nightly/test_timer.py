"""Timers: what install writes systemd and cron understand, uninstall takes out exactly that, and status tells of it."""

import os
import pwd
import shutil
import subprocess
import sys

import pytest

from labweave.errors import ConfigError
from labweave.nightly import timer, units
from labweave.settings import DatabaseSettings

OTHERS = "# my own\n5 4 * * 1 echo 100\\% > /dev/null\n"


@pytest.fixture
def lab(tmp_path, home, monkeypatch):
    """The labweave.toml of a lab with a server, whose folders have a space and a percent sign in their names."""
    logs, backup = tmp_path / "the logs 5%", tmp_path / "backup"
    path = tmp_path / "lab of $mith" / "labweave.toml"
    path.parent.mkdir()
    path.write_text(f"""\
lab = "smithlab"
sources = [{{ name = "rig1", adapter = "ephys", location = "/mnt/rig 1" }}]
database = {{ url = "mysql://labweave@server:3306", password = "env:LAB_PASSWORD", prefix = "smithlab_" }}
nightly = {{ at = "03:07", log_dir = "{logs}" }}
backup = {{ to = "{backup}" }}
metrics = {{ textfile = "{tmp_path}/metrics/labweave.prom" }}
""")
    monkeypatch.setenv("LABWEAVE_CONFIG", str(path))
    return path


@pytest.fixture
def system_units(tmp_path, monkeypatch):
    """A folder in the place of the system's units; systemd does not run."""
    monkeypatch.setattr(timer, "SYSTEM_UNITS", tmp_path / "system")
    monkeypatch.setattr(timer, "SYSTEMD_RUNS", tmp_path / "absent")
    return tmp_path / "system"


@pytest.fixture
def user_units(system_units, home, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    return home / ".config/systemd/user"


@pytest.fixture
def crontab(tmp_path, monkeypatch):
    """The real crontab, of a user who has lines of his own; it is as before afterwards."""
    if shutil.which("crontab") is None:
        pytest.skip("no crontab: Debian's package cron has it")
    before = subprocess.run(["crontab", "-l"], capture_output=True, text=True)
    subprocess.run(["crontab", "-"], input=OTHERS, text=True, check=True)
    yield lambda: subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=True).stdout
    if before.returncode:
        subprocess.run(["crontab", "-r"], check=True)
    else:
        subprocess.run(["crontab", "-"], input=before.stdout, text=True, check=True)


def verify(*paths):
    """Have systemd say what it thinks of units."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze: Debian's package systemd has it")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(paths[-1].parents[3])}
    done = subprocess.run([program, "verify", "--man=no", *paths], capture_output=True, text=True, env=environment)
    return [line for line in done.stderr.splitlines() if "nightly" in line] + (
        [] if done.returncode == 0 else ["failed"]
    )


def settings_of(path):
    """Return what a unit says, as systemd reads words and percent signs."""
    found = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="units of the system are root's")
def test_units_of_the_system_are_understood_and_can_write_where_a_night_writes(lab, system_units, tmp_path):
    done = timer.install_systemd(timer.find_job("systemd"))
    service, timer_file = (system_units / f"smithlab_nightly.{ending}" for ending in ("service", "timer"))
    assert verify(service, timer_file) == []
    assert settings_of(timer_file)["OnCalendar"] == ["*-*-* 03:07:00"]
    assert settings_of(timer_file)["Persistent"] == ["yes"]
    found = settings_of(service)
    assert found["User"] == [pwd.getpwuid(lab.stat().st_uid).pw_name]
    writable = found["ReadWritePaths"][0]
    assert writable == f'"-{tmp_path}/the logs 5%%" "-{tmp_path}/backup" "-{tmp_path}/metrics"'
    assert found["ExecStart"] == [f'"{sys.executable}" "-m" "labweave" "nightly"']
    assert found["Environment"] == [f'"LABWEAVE_CONFIG={str(lab).replace("$", "$$")}"']
    assert (tmp_path / "the logs 5%").is_dir()  # which a night with a file system that it can't write to could not make
    assert any("left to do: systemctl enable --now smithlab_nightly.timer" in line for line in done)


def test_units_of_a_user_are_understood_and_go_again(lab, user_units):
    mine = user_units / "my.service"
    user_units.mkdir(parents=True)
    mine.write_text("[Service]\nExecStart=/bin/true\n")
    timer.install_systemd(timer.find_job(""))
    service, timer_file = user_units / "smithlab_nightly.service", user_units / "smithlab_nightly.timer"
    assert verify("--user", service, timer_file) == []
    assert "User" not in settings_of(service)
    [there] = timer.installed()
    assert (there.kind, there.place, there.is_current) == ("systemd --user", str(timer_file), True)
    lab.write_text(lab.read_text().replace("03:07", "04:00"))
    assert not timer.installed()[0].is_current
    timer.install_systemd(timer.find_job(""))
    assert timer.installed()[0].is_current
    assert timer.uninstall()
    assert list(user_units.iterdir()) == [mine]
    assert timer.installed() == timer.uninstall() == []


def test_a_unit_of_somebody_else_is_neither_overwritten_nor_removed(lab, user_units):
    path = user_units / "smithlab_nightly.timer"
    path.parent.mkdir(parents=True)
    path.write_text("[Timer]\n")
    with pytest.raises(ConfigError, match="labweave has not written it"):
        timer.install_systemd(timer.find_job(""))
    timer.uninstall()
    assert path.read_text() == "[Timer]\n"


def test_without_root_a_unit_of_the_system_is_refused_in_words(lab, system_units, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("labweave.settings.stranger_writing", lambda path: None)
    with pytest.raises(ConfigError, match=r"sudo.*--systemd --user"):
        timer.install_systemd(timer.find_job("systemd"))
    assert not system_units.exists()


def test_a_line_in_the_crontab_comes_once_and_leaves_no_trace(lab, crontab):
    timer.install_cron(timer.find_job("cron"))
    first = crontab()
    assert first.startswith(OTHERS)
    [line] = [line for line in first.removeprefix(OTHERS).splitlines() if not line.startswith("#")]
    assert line.startswith("7 3 * * * ")
    timer.install_cron(timer.find_job("cron"))
    assert crontab() == first
    assert timer.installed()[0].kind == "cron"
    timer.uninstall()
    assert crontab() == OTHERS


def test_what_cron_runs_is_the_night_of_this_labweave_toml(lab, crontab, tmp_path):
    timer.install_cron(timer.find_job("cron"))
    line = next(line for line in crontab().splitlines() if line.startswith("7 3"))
    command = line.split(maxsplit=5)[5].replace(r"\%", "%")  # as cron does
    lab.write_text(lab.read_text().replace("03:07", "soon"))
    environment = {name: os.environ[name] for name in ("HOME", "PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(["/bin/sh", "-c", command], env=environment, cwd="/", timeout=300)
    printed = (tmp_path / "the logs 5%" / "smithlab_nightly.out").read_text()
    assert done.returncode == 2, printed
    assert f"{lab}: nightly.at: 'soon' is not a time of day" in printed


def test_a_broken_block_in_the_crontab_is_not_touched(lab, crontab):
    timer.install_cron(timer.find_job("cron"))
    broken = crontab().replace("# <<< smithlab_nightly\n", "")
    subprocess.run(["crontab", "-"], input=broken, text=True, check=True)
    with pytest.raises(ConfigError, match="Mend it"):
        timer.uninstall()
    assert crontab() == broken


def test_settings_that_a_timer_would_not_see_are_named(lab, monkeypatch):
    monkeypatch.setenv("LABWEAVE_PREFIX", "other_")
    with pytest.raises(ConfigError, match="LABWEAVE_PREFIX is set here"):
        timer.find_job("cron")


def test_secrets_of_the_environment_are_named(lab):
    assert timer.hidden_secrets(timer.find_job("cron")) == ["LAB_PASSWORD"]


def test_an_embedded_database_must_be_there_before_nights_are(lab, user_units, tmp_path):
    text = lab.read_text().replace("mysql://labweave@server:3306", f"embedded://{tmp_path}/data")
    lab.write_text(text.replace(', password = "env:LAB_PASSWORD"', ""))
    with pytest.raises(ConfigError, match="labweave init"):
        timer.install_systemd(timer.find_job(""))
    assert tmp_path / "data" in timer.find_job("").writes_to
    with pytest.raises(ConfigError, match="Name a server"):
        units.compose_service(timer.find_job(""))


def test_a_service_for_compose_reads_sources_only(lab):
    import yaml

    service = yaml.safe_load(units.compose_service(timer.find_job("")))["services"]["nightly"]
    assert f"{lab}:/etc/labweave/labweave.toml:ro" in service["volumes"]
    assert "/mnt/rig 1:/mnt/rig 1:ro" in service["volumes"]


def test_defaults_of_the_database_have_a_name_for_their_units():
    assert units.unit_name(DatabaseSettings().prefix) == "labweave_nightly"

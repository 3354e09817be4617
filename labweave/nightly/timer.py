"""The timer of nights: put it in, take it out, and see what is there."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labweave.errors import ConfigError, LabweaveError
from labweave.nightly.settings import load_night
from labweave.nightly.units import MARK, Job, cron_line, systemd_units, unit_name
from labweave.settings import find_settings_file, load_settings

if TYPE_CHECKING:
    from pwd import struct_passwd

SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEMD_RUNS = Path("/run/systemd/system")
_SETTING = re.compile("LABWEAVE_((DATABASE|ALYX|ONE)_.+|PREFIX|LAB|DATA_DIR)")


class Installed(NamedTuple):
    """A timer that is there.

    Attributes
    ----------
    kind : {"systemd", "systemd --user", "cron"}
    place : str
    is_current : bool
        It is as ``install`` would write it now.
    """

    kind: str
    place: str
    is_current: bool


def find_job(kind: str) -> Job:
    """Return what a timer is to begin.

    Raises
    ------
    ConfigError
        There is no labweave.toml, it has a mistake, or this process has settings that a timer would not have.
    """
    config = find_settings_file()
    if config is None:
        raise ConfigError("There is no labweave.toml, which says what a night does. Make one: labweave init")
    hidden = sorted(filter(_SETTING.fullmatch, os.environ))
    if hidden:
        raise ConfigError(
            f"{', '.join(hidden)} is set here, and a timer would not see it. Say it in {config} and unset it "
            "(--database and --prefix set such variables, too)."
        )
    config = config.absolute()
    if kind != "systemd":
        return Job(load_night(), config)
    import pwd

    owner = pwd.getpwuid(config.stat().st_uid)
    with _home_of(owner):
        return Job(load_night(), config, owner.pw_name)


@contextlib.contextmanager
def _home_of(owner: struct_passwd) -> Iterator[None]:
    """Have default folders be those that a unit of the system has for this user."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("XDG_")]:
        del os.environ[name]
    os.environ["HOME"] = owner.pw_dir
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def hidden_secrets(job: Job) -> list[str]:
    """Return the variables that labweave.toml takes secrets from: a timer has none of them by itself."""
    return sorted(set(re.findall(r"[\"']env:(\w+)[\"']", job.config.read_text(encoding="utf-8"))))


def install_systemd(job: Job) -> list[str]:
    """Write service and timer, and start the timer; return what was done, and what is left to do.

    Raises
    ------
    ConfigError
        A unit of the system, and this is not root; a file of that name is another's; or there is no database yet.
    LabweaveError
        systemctl failed.
    """
    if job.user and os.geteuid() != 0:
        raise ConfigError(
            "Only root can install a unit of the system: the same command with sudo. Or for you alone, without root: "
            "labweave nightly install --systemd --user"
        )
    _prepare(job)
    folder, done = _unit_folder(bool(job.user)), []
    for unit in systemd_units(job):
        path = folder / unit.name
        if path.exists() and not _is_ours(path):
            raise ConfigError(f"{path} is there, and labweave has not written it. Move it away.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(unit.text, encoding="utf-8")
        done.append(f"wrote {path}")
    for command in (["daemon-reload"], ["enable", "--now", f"{job.name}.timer"]):
        done += _systemctl(not job.user, command)
    return done if job.user else [*done, "to have nights while you are not logged in: loginctl enable-linger"]


def install_cron(job: Job) -> list[str]:
    """Put a line into this user's crontab, or renew it; the other lines stay as they are."""
    _prepare(job)
    before = _read_crontab()
    _write_crontab(_without_block(before, job.name) + _block(job))
    return ["renewed the line in your crontab" if _begin(job.name) in before else "added a line to your crontab"]


def uninstall() -> list[str]:
    """Take out what install has written for this lab; return what was done."""
    name, done = unit_name(load_settings().database.prefix), []
    for is_system in (True, False):
        paths = _our_units(name, is_system)
        if paths and is_system and os.geteuid() != 0:
            raise ConfigError(f"Only root can remove {paths[0]}: the same command with sudo.")
        if paths:
            done += _systemctl(not is_system, ["disable", "--now", f"{name}.timer"])
        for path in paths:
            path.unlink()
            done.append(f"removed {path}")
        if paths:
            done += _systemctl(not is_system, ["daemon-reload"])
    if shutil.which("crontab") and _begin(name) in (crontab := _read_crontab()):
        _write_crontab(_without_block(crontab, name))
        done.append("removed the line from your crontab")
    return done


def installed() -> list[Installed]:
    """Return the timers of this lab that are there."""
    name, found = unit_name(load_settings().database.prefix), []
    for is_system, kind in ((True, "systemd"), (False, "systemd --user")):
        if paths := _our_units(name, is_system):
            now = [path.read_text(encoding="utf-8") for path in paths]
            found.append(Installed(kind, str(paths[-1]), now == [unit.text for unit in systemd_units(find_job(kind))]))
    if shutil.which("crontab") and _begin(name) in (crontab := _read_crontab()):
        found.append(Installed("cron", "crontab -l", _block(find_job("cron")) in crontab))
    return found


def _prepare(job: Job) -> None:
    """Make what a night can't make for itself: its folder of logs."""
    if (server := job.embedded) and not server.is_made():
        raise ConfigError(f"There is no database in {server.data_dir} yet. Make it: labweave init")
    made, folder = [], job.settings.nightly.log_dir.absolute()
    while not folder.exists():
        made.append(folder)
        folder = folder.parent
    for folder in reversed(made):
        folder.mkdir()
        if job.user:
            shutil.chown(folder, job.user)


def _unit_folder(is_system: bool) -> Path:
    if is_system:
        return SYSTEM_UNITS
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _our_units(name: str, is_system: bool) -> list[Path]:
    paths = [_unit_folder(is_system) / f"{name}.{ending}" for ending in ("service", "timer")]
    return [path for path in paths if path.exists() and _is_ours(path)]


def _is_ours(path: Path) -> bool:
    return path.read_text(encoding="utf-8", errors="replace").startswith(MARK)


def _systemctl(of_user: bool, arguments: list[str]) -> list[str]:
    """Tell systemd; where it does not run, return the command that is left to do."""
    command = ["systemctl", *(["--user"] if of_user else []), *arguments]
    if not SYSTEMD_RUNS.is_dir():
        return [f"systemd does not run here; left to do: {shlex.join(command)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LabweaveError(f"{shlex.join(command)} failed: {done.stderr.strip()}")
    return []


def _begin(name: str) -> str:
    return f"# >>> {name} (written by labweave nightly install; labweave nightly uninstall removes it)\n"


def _end(name: str) -> str:
    return f"# <<< {name}\n"


def _block(job: Job) -> str:
    return f"{_begin(job.name)}{cron_line(job)}\n{_end(job.name)}"


def _without_block(crontab: str, name: str) -> str:
    before, begin, rest = crontab.partition(_begin(name))
    _, end, after = rest.partition(_end(name))
    if begin and not end:
        raise ConfigError(f"Your crontab has the line {_begin(name)!r}, but not {_end(name)!r}. Mend it: crontab -e")
    return before + after


def _read_crontab() -> str:
    done = _crontab("-l")
    if done.returncode and "no crontab for" not in done.stderr:
        raise LabweaveError(f"crontab -l failed: {done.stderr.strip()}")
    return "" if done.returncode else done.stdout


def _write_crontab(text: str) -> None:
    done = _crontab("-", text)
    if done.returncode:
        raise LabweaveError(f"Your crontab can't be written: {done.stderr.strip()}")


def _crontab(argument: str, text: str = "") -> subprocess.CompletedProcess[str]:
    if shutil.which("crontab") is None:
        raise ConfigError("There is no crontab here. Install cron, or use: labweave nightly install --systemd --user")
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["crontab", argument], input=text, capture_output=True, text=True, env=environment)

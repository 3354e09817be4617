"""Secrets: where a setting says that its value is kept, and whom a file is trusted from.

A secret setting, such as a password, is written out or says where it is:

========================  =============================================
``env:NAME``              in an environment variable
``file:/path``            in a file, which others can't read
``keyring:SERVICE/USER``  in the system's keyring (extra ``keyring``)
``prompt:``               asked for on the terminal, once
========================  =============================================
"""

from __future__ import annotations

import functools
import getpass
import importlib
import os
import stat
import sys
from pathlib import Path

from pydantic import SecretStr

from labweave.errors import ConfigError

CONTAINER_SECRETS = Path("/run/secrets")
"""Where a container finds its secrets; everybody in it, who is alone there, may read them."""


def reveal(secret: SecretStr, name: str) -> str:
    """Return the value of a secret setting.

    Parameters
    ----------
    secret : SecretStr
        The value itself, or where it is; see `labweave.secret`.
    name : str
        What it is called in labweave.toml, for messages.

    Raises
    ------
    ConfigError
        It is not where the setting says, or others could read it. The message holds no secret.

    Examples
    --------
    >>> import os
    >>> from pydantic import SecretStr
    >>> from labweave.secret import reveal
    >>> os.environ["LAB_PASSWORD"] = "sesame"
    >>> reveal(SecretStr("env:LAB_PASSWORD"), "database.password")
    'sesame'
    """
    text = secret.get_secret_value()
    kind, colon, place = text.partition(":")
    find = PLACES.get(kind) if colon else None
    if find is None:
        return text
    try:
        return find(place, name)
    except ConfigError as error:
        raise ConfigError(f"Setting {name} ({kind}:{place}): {error}") from None


def _from_environment(place: str, name: str) -> str:
    value = os.environ.get(place)
    if not value:
        raise ConfigError(f"the variable {place} is not set. Set it, or correct the setting.")
    return value


def _from_file(place: str, name: str) -> str:
    path = Path(place).expanduser()
    try:
        if (reader := _stranger_reading(path)) and CONTAINER_SECRETS not in path.parents:
            raise ConfigError(f"{reader}. Make it readable by you alone: chmod 600 {path}")
        value = path.read_text(encoding="utf-8-sig").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file can't be read: {getattr(error, 'strerror', None) or 'it is no text'}.") from None
    if not value:
        raise ConfigError("the file is empty. Write the secret into its first line.")
    return value


def from_keyring(service: str, user: str) -> str:
    """Return a secret that the system's keyring keeps.

    Raises
    ------
    ConfigError
        The package keyring is not installed, the keyring is locked, or has none.
    """
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise ConfigError("the package keyring is not installed: pip install labweave[keyring]") from None
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise ConfigError(f"the keyring can't be used: {error or 'it is locked'}.") from None
    if not value:
        raise ConfigError(f"the keyring has none. Put it there: keyring set '{service}' '{user}'")
    return value


def _from_keyring(place: str, name: str) -> str:
    service, slash, user = place.rpartition("/")
    if not slash:
        raise ConfigError("it names no user. Write keyring:SERVICE/USER.")
    return from_keyring(service, user)


@functools.cache
def _from_prompt(place: str, name: str) -> str:
    if not (sys.stdin and sys.stdin.isatty()):
        raise ConfigError("there is no terminal to ask at. Use env:, file: or keyring:.")
    return getpass.getpass(f"{name}: ")


PLACES = {"env": _from_environment, "file": _from_file, "keyring": _from_keyring, "prompt": _from_prompt}


def _stranger_reading(path: Path) -> str | None:
    """Return who but this user and root can read a file of theirs, in words; a group may read what root gives it."""
    if sys.platform == "win32":
        return None
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        return f"the file belongs to {_name(found.st_uid)}"
    allowed = stat.S_IRWXU | (0 if found.st_uid == os.geteuid() else stat.S_IRWXG)
    return "others can read the file" if stat.S_IMODE(found.st_mode) & ~allowed else None


def stranger_writing(path: Path) -> str | None:
    """Return who but this user and root can write to a file or folder, in words; None when nobody can.

    A group that only its user is in does not count. Where the system knows no owners, nobody is told.

    Parameters
    ----------
    path : Path
    """
    if sys.platform == "win32":
        return None
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to {_name(found.st_uid)}"
    if found.st_mode & stat.S_IWOTH:
        return f"everybody can write to {path}"
    if found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid):
        return f"a group can write to {path}"
    return None


def _is_own_group(gid: int) -> bool:
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"

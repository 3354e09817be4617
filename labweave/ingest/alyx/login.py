"""The login of an Alyx server: from settings, the keyring, or ONE's own parameter file."""

from __future__ import annotations

import json
from pathlib import Path

from labweave.errors import ConfigError
from labweave.formats.alyx.client import Login, check_url
from labweave.secret import from_keyring, reveal
from labweave.settings import load_settings

KEYRING_SERVICE = "labweave alyx"


def find_login(url: str) -> Login:
    """Return the login of one server.

    Asked in turn: ``LABWEAVE_ALYX_*`` and ``[alyx]`` of labweave.toml; the keyring, when the
    package keyring is installed, for the user named there; the file of ONE-api for this server.
    A login that was given for another address is never used.

    Raises
    ------
    ConfigError
        None is known.
    """
    url = check_url(url)
    settings = load_settings().alyx
    user = ""
    if not settings.url or check_url(settings.url) == url:
        user, password = settings.user, reveal(settings.password, "alyx.password")
        token = reveal(settings.token, "alyx.token")
        password = password or _password_of_keyring(url, user)
        if token or (user and password):
            return Login(user, password, token)
    if login := _login_of_one(url, user):
        return login
    raise ConfigError(
        f"No login for {url} is known. Set LABWEAVE_ALYX_USER and LABWEAVE_ALYX_PASSWORD, or LABWEAVE_ALYX_TOKEN, "
        "or write [alyx] user and password into labweave.toml."
    )


def _password_of_keyring(url: str, user: str) -> str:
    if not user:
        return ""
    try:
        return from_keyring(f"{KEYRING_SERVICE} {url}", user)
    except ConfigError:  # no keyring on this machine, or it is locked
        return ""


def _login_of_one(url: str, user: str) -> Login | None:
    """Return the login that ONE-api keeps for a server, if its file is there."""
    key = url.partition("://")[2].replace(":", "_").replace("/", "_")
    path = Path.home() / ".one" / f".{key}"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or str(kept.get("ALYX_URL", "")).rstrip("/") != url:
        return None
    user = user or str(kept.get("ALYX_LOGIN") or "")
    tokens = kept.get("TOKEN")
    token = tokens.get(user) if isinstance(tokens, dict) else None
    login = Login(
        user,
        str(kept.get("ALYX_PWD") or ""),
        str(token.get("token") or "") if isinstance(token, dict) else "",
    )
    return login if login.token or (login.user and login.password) else None

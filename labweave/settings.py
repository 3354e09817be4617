"""Settings: what a lab configures once, from labweave.toml and LABWEAVE_* variables."""

from __future__ import annotations

import functools
import logging
import os
import re
import stat
import sys
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, field_validator

from labweave.errors import ConfigError
from labweave.secret import stranger_writing

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

log = logging.getLogger(__name__)

FILE_NAME = "labweave.toml"
DEFAULT_PREFIX = "labweave_"


class DatabaseSettings(BaseModel, extra="forbid"):
    """The ``[database]`` table of labweave.toml.

    The `password` is for the `url` beside it, where that has none.
    """

    url: SecretStr = SecretStr("embedded:")
    password: SecretStr = SecretStr("")
    prefix: str = DEFAULT_PREFIX

    @field_validator("prefix")
    @classmethod
    def _prefix_is_portable(cls, value: str) -> str:
        try:
            return check_prefix(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None


class AlyxSettings(BaseModel, extra="forbid"):
    """The ``[alyx]`` table of labweave.toml: the login of an Alyx server.

    With a `url`, the login is for that server alone.
    """

    url: str = ""
    user: str = ""
    password: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")


class OneSettings(BaseModel, extra="forbid"):
    """The ``[one]`` table of labweave.toml: where downloads go, and the login of the data server.

    The login is for the server of `data_url` alone.
    """

    cache_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=lambda: platformdirs.user_data_path("labweave") / "one"
    )
    data_url: str = ""
    data_user: str = ""
    data_password: SecretStr = SecretStr("")


class Settings(BaseModel, extra="forbid"):
    """All settings. Environment variables win over labweave.toml.

    The value of a secret may be kept elsewhere; see `labweave.secret`.

    Attributes
    ----------
    database : DatabaseSettings
        ``LABWEAVE_DATABASE_URL``, ``LABWEAVE_DATABASE_PASSWORD``, ``LABWEAVE_PREFIX`` or
        ``[database] url, password, prefix``.
    alyx : AlyxSettings
        ``LABWEAVE_ALYX_URL``, ``LABWEAVE_ALYX_USER``, ``LABWEAVE_ALYX_PASSWORD``,
        ``LABWEAVE_ALYX_TOKEN`` or ``[alyx] url, user, password, token``.
    one : OneSettings
        ``LABWEAVE_ONE_CACHE_DIR``, ``LABWEAVE_ONE_DATA_URL``, ``LABWEAVE_ONE_DATA_USER``,
        ``LABWEAVE_ONE_DATA_PASSWORD`` or ``[one] cache_dir, data_url, data_user, data_password``.
    lab : str or None
        The lab that rows belong to when a command names none; ``LABWEAVE_LAB`` or ``lab``.
    sources, nightly, backup, alert, metrics
        What `labweave.nightly.settings` says of them.
    """

    database: DatabaseSettings = DatabaseSettings()
    alyx: AlyxSettings = AlyxSettings()
    one: OneSettings = Field(default_factory=OneSettings)
    lab: str | None = None
    sources: Any = []
    nightly: Any = {}
    backup: Any = {}
    alert: Any = {}
    metrics: Any = {}


def check_prefix(prefix: str) -> str:
    """Return `prefix` if it can begin a schema name on every backend, else raise ConfigError."""
    if not re.fullmatch("[a-z_][a-z0-9_]*", prefix):
        raise ConfigError(
            f"Prefix {prefix!r} can't begin a schema name. Use lower-case letters, digits and _, "
            "and begin with a letter, for example smithlab_."
        )
    if len(prefix) > 30:
        raise ConfigError(f"Prefix {prefix!r} has {len(prefix)} characters; the longest possible is 30.")
    return prefix


def find_settings_file() -> Path | None:
    """Return the labweave.toml in effect: LABWEAVE_CONFIG, this folder or one above, the user's own.

    Raises
    ------
    ConfigError
        LABWEAVE_CONFIG names no file, or others can write to the file or its folder.
    """
    if named := os.environ.get("LABWEAVE_CONFIG"):
        path = Path(named)
        if not path.is_file():
            raise ConfigError(f"LABWEAVE_CONFIG names {path}, which is not a file. Correct or unset the variable.")
        return path
    here = Path.cwd()
    folders = [*_searched(here), platformdirs.user_config_path("labweave")]
    for path in (folder / FILE_NAME for folder in folders):
        if not path.is_file():
            continue
        doubt = stranger_writing(path.parent) or stranger_writing(path)
        if doubt is None:
            return path
        if path.parent == here or not path.parent.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(
                f"{path} is not read: {doubt}, and could so name another database. Change that, move the file, or "
                f"say that you trust it: LABWEAVE_CONFIG={path}"
            )
        _warn(f"{path} is not read: {doubt}")  # of a temporary folder, where nobody keeps settings
    return None


@functools.cache
def _warn(text: str) -> None:
    """Say something once."""
    log.warning(text)


def _searched(here: Path) -> list[Path]:
    """Return a folder and those above it, up to the user's home or the border of the file system."""
    home, border, searched = Path.home(), here.stat().st_dev, []
    for folder in (here, *here.parents):
        if folder.stat().st_dev != border:
            break
        searched.append(folder)
        if folder == home:
            break
    return searched


def load_settings(database_url: str | None = None) -> Settings:
    """Read labweave.toml and the environment.

    Parameters
    ----------
    database_url : str, optional
        The database's URL, instead of what they say. Passwords of labweave.toml are not for it.

    Raises
    ------
    ConfigError
        The file is not TOML, or has a name or value that is not known.
    """
    path, values = read_values(database_url)
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path or 'environment'}: setting {where}: {first['msg']}. Correct or remove it.") from None


def read_values(database_url: str | None = None) -> tuple[Path | None, dict[str, Any]]:
    """Return the labweave.toml in effect, and what it and the environment say, unchecked."""
    path = find_settings_file()
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin with a mark
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not a TOML file: {error}. Correct it or move it away.") from None
    for table, model in (("database", DatabaseSettings), ("alyx", AlyxSettings), ("one", OneSettings)):
        if not isinstance(values.setdefault(table, {}), dict):
            raise ConfigError(f"{path}: {table!r} must be a table. Write [{table}] and its settings below it.")
        if table == "database" and (database_url or "LABWEAVE_DATABASE_URL" in os.environ):
            values[table].pop("password", None)
        for name in model.model_fields:
            variable = "LABWEAVE_PREFIX" if name == "prefix" else f"LABWEAVE_{table}_{name}".upper()
            if value := os.environ.get(variable):
                values[table][name] = value
    if database_url is not None:
        values["database"]["url"] = database_url
    if lab := os.environ.get("LABWEAVE_LAB"):
        values["lab"] = lab
    return path, values

"""Settings: what a lab configures once, from labweave.toml and LABWEAVE_* variables."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, field_validator

from labweave.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

FILE_NAME = "labweave.toml"
DEFAULT_PREFIX = "labweave_"


class DatabaseSettings(BaseModel, extra="forbid"):
    """The ``[database]`` table of labweave.toml."""

    url: SecretStr = SecretStr("embedded:")
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

    Attributes
    ----------
    database : DatabaseSettings
        ``LABWEAVE_DATABASE_URL``, ``LABWEAVE_PREFIX`` or ``[database] url, prefix``.
    alyx : AlyxSettings
        ``LABWEAVE_ALYX_URL``, ``LABWEAVE_ALYX_USER``, ``LABWEAVE_ALYX_PASSWORD``,
        ``LABWEAVE_ALYX_TOKEN`` or ``[alyx] url, user, password, token``.
    one : OneSettings
        ``LABWEAVE_ONE_CACHE_DIR``, ``LABWEAVE_ONE_DATA_URL``, ``LABWEAVE_ONE_DATA_USER``,
        ``LABWEAVE_ONE_DATA_PASSWORD`` or ``[one] cache_dir, data_url, data_user, data_password``.
    lab : str or None
        The lab that rows belong to when a command names none; ``LABWEAVE_LAB`` or ``lab``.
    """

    database: DatabaseSettings = DatabaseSettings()
    alyx: AlyxSettings = AlyxSettings()
    one: OneSettings = Field(default_factory=OneSettings)
    lab: str | None = None


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
    """Return the labweave.toml in effect: LABWEAVE_CONFIG, this folder or one above, the user's own."""
    if named := os.environ.get("LABWEAVE_CONFIG"):
        path = Path(named)
        if not path.is_file():
            raise ConfigError(f"LABWEAVE_CONFIG names {path}, which is not a file. Correct or unset the variable.")
        return path
    here = Path.cwd()
    candidates = [folder / FILE_NAME for folder in (here, *here.parents)]
    candidates.append(platformdirs.user_config_path("labweave") / FILE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def load_settings() -> Settings:
    """Read labweave.toml and the environment.

    Raises
    ------
    ConfigError
        The file is not TOML, or has a name or value that is not known.
    """
    path = find_settings_file()
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not a TOML file: {error}. Correct it or move it away.") from None
    for table, model in (("database", DatabaseSettings), ("alyx", AlyxSettings), ("one", OneSettings)):
        if not isinstance(values.setdefault(table, {}), dict):
            raise ConfigError(f"{path}: {table!r} must be a table. Write [{table}] and its settings below it.")
        for name in model.model_fields:
            variable = "LABWEAVE_PREFIX" if name == "prefix" else f"LABWEAVE_{table}_{name}".upper()
            if value := os.environ.get(variable):
                values[table][name] = value
    if lab := os.environ.get("LABWEAVE_LAB"):
        values["lab"] = lab
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path or 'environment'}: setting {where}: {first['msg']}. Correct or remove it.") from None

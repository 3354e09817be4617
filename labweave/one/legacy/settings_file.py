"""Ask for the settings of ONE and write them into labweave.toml."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import platformdirs

from labweave.formats.writing import whole_file
from labweave.settings import FILE_NAME, find_settings_file, load_settings


def ask_settings(is_terminal: bool) -> Path | None:
    """Ask for the ``[one]`` table of labweave.toml, write it, and return the file; other tables stay as they are.

    Without a terminal it prints the names of the settings, and returns None.
    """
    now = load_settings().one
    path = find_settings_file() or platformdirs.user_config_path("labweave") / FILE_NAME
    if not is_terminal:
        print(
            f"There is no terminal to ask at. Write the table [one] of {path} (cache_dir, data_url, data_user, "
            "data_password), or set LABWEAVE_ONE_CACHE_DIR, LABWEAVE_ONE_DATA_URL, LABWEAVE_ONE_DATA_USER and "
            "LABWEAVE_ONE_DATA_PASSWORD."
        )
        return None
    values = {"cache_dir": _ask("Folder for downloads", str(now.cache_dir))}
    values["data_url"] = _ask("Address of the data server, if any", now.data_url)
    values["data_user"] = _ask("Login at the data server, if it wants one", now.data_user)
    if values["data_user"]:
        values["data_password"] = getpass.getpass("Password there: ") or now.data_password.get_secret_value()
    write_table(path, {name: value for name, value in values.items() if value})
    print(f"wrote {path}")
    return path


def _ask(question: str, default: str) -> str:
    return input(f"{question}{f' [{default}]' if default else ''}: ").strip() or default


def write_table(path: Path, values: dict[str, str]) -> None:
    """Replace the table ``[one]`` of a TOML file, which only its owner may read afterwards."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept, is_in_table = [], False
    for line in lines:
        if line.lstrip().startswith("["):
            is_in_table = line.strip() == "[one]"
        if not is_in_table:
            kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    # A TOML text in double quotes is written as in JSON.
    table = ["[one]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    with whole_file(path) as target:
        target.touch(mode=0o600)
        target.chmod(0o600)
        target.write_text("\n".join([*kept, *([""] if kept else []), *table, ""]), encoding="utf-8")

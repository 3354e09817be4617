"""What made a result: a row of ``provenance.Made`` in the transaction of the make, whoever calls populate.

DataJoint says in a context variable which table and key it makes. `LabConnection` asks for it where it commits, so that
DataJoint's own populate and the tables of a lab are covered, too.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import getpass
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datajoint import provenance as datajoint_provenance
from datajoint.errors import AccessError, DuplicateError
from datajoint.user_tables import Part

from labweave.database.inputs import find_table, fingerprint_of, made_id, version_of, where_of
from labweave.database.reads import table_label
from labweave.database.values import to_json
from labweave.errors import AccessDenied
from labweave.formats.canonical import canonical_sha256
from labweave.version import __version__

PACKAGES = ("datajoint", "efel", "numpy", "scipy", "pandas", "h5py", "neo", "pyabf", "pynwb")
"""Those whose version may change a result; a package that is not installed is left out."""


def being_made() -> dict[str, Any] | None:
    """Return the full name of the table and the key that DataJoint is making, the same object as long as it does."""
    return datajoint_provenance._ingesting.get()


def record_made(connection: Any, making: Mapping[str, Any], seconds: float) -> None:
    """Record the results of one make, in its transaction."""
    table = find_table(connection, making["table"])
    key = {name: value for name, value in making["key"].items() if name in table.primary_key}
    inputs_sql = fingerprint_of(table, key)
    if not inputs_sql:  # nothing it rests on: a part of a server that was pulled
        return
    full_name = connection.adapter.make_full_table_name(f"{connection.prefix}provenance", "made")
    names = table.heading.names
    found = connection.query(
        f"select {_listed(table, names)}, {made_id(table, 't')}, {inputs_sql},"
        f" exists (select 1 from {full_name} m where m.made = {made_id(table, 't')})"
        f" from {table.full_table_name} t{where_of(table, key)}"
    ).fetchall()
    code, _ = programs()
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    host = f"{platform.node()[:200]}:{os.getpid()}"
    for *values, made, inputs, is_known in found:  # none, when the make found nothing to store
        own = {name: value for name, value in zip(names, values, strict=True) if name in table.primary_key}
        if is_known:
            connection.query(f"delete from {full_name} where made = %s", (made,))
        connection.query(
            f"insert into {full_name} (made, made_table, made_key, code, inputs, result_sha256, made_at, seconds,"
            f" made_by, host) values ({', '.join(['%s'] * 10)})",
            (
                *(made, table_label(table), to_json(own), code, inputs),
                *(result_sha256(table, own, [values]), now, seconds, user(), host),
            ),
        )


def result_sha256(table: Any, key: Mapping[str, Any], rows: Sequence[Sequence[Any]] | None = None) -> str:
    """Return the hash of the rows of a result, those of its parts among them; `rows` are those of its own table."""
    content = [_rows_sha256(table, key, rows)]
    content += [_rows_sha256(part(), key) for part in vars(type(table)).values() if _is_part(part)]
    return canonical_sha256(content)


def _is_part(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Part)


def _rows_sha256(table: Any, key: Mapping[str, Any], rows: Sequence[Sequence[Any]] | None = None) -> list[Any]:
    names = table.heading.names
    found = rows
    if found is None:
        where = where_of(table, {name: key[name] for name in key if name in names})
        found = list(table.connection.query(f"select {_listed(table, names)} from {table.full_table_name} t{where}"))
    is_json = [table.heading[name].json for name in names]
    own = [at for at, name in enumerate(names) if name not in key]
    hashes = [canonical_sha256([_plain(row[at], is_json[at]) for at in own]) for row in found]
    return [table.table_name, [names[at] for at in own], sorted(hashes)]


def _listed(table: Any, names: Sequence[str]) -> str:
    return ", ".join(f"t.{table.connection.adapter.quote_identifier(name)}" for name in names)


def _plain(value: Any, is_json: bool) -> Any:
    return json.loads(value) if is_json and isinstance(value, (str, bytes)) else value


@functools.cache
def user() -> str:
    """Return who runs this process."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return ""


def keep_code(connection: Any) -> None:
    """Say in ``provenance.Code`` which programs this process runs, before the transaction that refers to it begins."""
    code, row = programs()
    if code in connection.known_code:
        return
    full_name = connection.adapter.make_full_table_name(f"{connection.prefix}provenance", "code")
    with contextlib.suppress(
        DuplicateError, AccessError, AccessDenied
    ):  # another process was first; a user who can't make results
        if not connection.query(f"select 1 from {full_name} where code = %s", (code,)).fetchall():
            connection.query(
                f"insert into {full_name} (code, versions, git, platform) values (%s, %s, %s, %s)", (code, *row)
            )
    connection.known_code.add(code)


@functools.cache
def programs() -> tuple[str, tuple[str, str | None, str]]:
    """Return the id of the programs of this process, and the rest of their row in ``provenance.Code``."""
    versions = {"labweave": __version__, "python": platform.python_version()}
    versions |= {package: version for package in PACKAGES if (version := version_of(package))}
    git = _git_state(Path(__file__).parent)
    row = (to_json(versions), to_json(git) if git else None, f"{platform.platform()} {platform.machine()}"[:255])
    return canonical_sha256([versions, git, row[2]])[:32], row


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that labweave runs from, and whether its files differ; None without one."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder.parents[0].parent:
            return None  # installed below a checkout of something else
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", ":/labweave"))}
    except (OSError, subprocess.SubprocessError):
        return None

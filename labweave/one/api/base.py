"""What the methods of `labweave.one.api.One` share: its attributes, ids, rows and files."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, wraps
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from labweave.formats.alf.bunch import AlfBunch
from labweave.formats.alf.exceptions import ALFObjectNotFound
from labweave.one.core import Core, is_uuid_text
from labweave.one.files.recipes import contents_of
from labweave.one.search.frames import datasets_frame
from labweave.one.search.rows import TABLE_COLUMNS, DatasetRow, SessionRow

if TYPE_CHECKING:
    from labweave.one.alyx.rest import Client

log = logging.getLogger(__name__)


class ApiBase:
    """Attributes of `labweave.one.api.One`, and what its methods have in common."""

    uuid_filenames: bool | None = None

    def __init__(
        self,
        cache_dir: str | PathLike[str] | None = None,
        mode: str = "local",
        wildcards: bool = True,
        tables_dir: str | PathLike[str] | None = None,
        *,
        silent: bool = False,
        trust_pickles: bool = False,
    ):
        from labweave.settings import load_settings

        if mode not in ("local", "remote"):
            raise ValueError(f'Mode "{mode}" is not recognised; it is local or remote.')
        settings = load_settings().one
        self.mode, self.wildcards, self.silent, self.trust_pickles = mode, wildcards, silent, trust_pickles
        self.uuid_filenames, self.record_loaded = False, False
        self._tables_dir = tables_dir
        self._loaded: dict[UUID, UUID | None] = {}
        login = None
        if settings.data_user:
            from labweave.one.files.sources import DataLogin

            login = DataLogin.of(settings)
        self._core = Core(cache_dir or settings.cache_dir, login=login, silent=silent)

    def __repr__(self) -> str:
        return f"One ({'off' if self.offline else 'on'}line, {self.cache_dir})"

    @property
    def cache_dir(self) -> Any:
        """Where files are looked for, and downloaded to; of the type that was given."""
        return self._core.cache_dir

    @property
    def offline(self) -> bool:
        """Whether nothing is downloaded."""
        return self.mode == "local"

    @cached_property
    def alyx(self) -> Client:
        """What clients ask an Alyx server, answered from the tables."""
        from labweave.one.alyx.rest import client_of

        return client_of(self._core)

    @property
    def _web_client(self) -> Client:
        return self.alyx

    @property
    def _par(self) -> Any:
        return self.alyx._par

    @cached_property
    def _cache(self) -> Any:
        """Empty tables of ONE-api: some clients put a folder that is in no database into them."""
        import pandas as pd

        return AlfBunch(
            sessions=pd.DataFrame(columns=list(TABLE_COLUMNS), index=pd.Index([], name="id", dtype=object)),
            datasets=datasets_frame([], with_eid=True),
            _meta={"expired": False, "created_time": None, "loaded_time": dt.datetime.now(), "raw": {}},
        )

    def _eid(self, id: Any, *, or_none: bool = False) -> Any:
        found = self._core.to_eid(id)
        if isinstance(found, list):
            raise TypeError(f"One session is expected, not {len(found)}: give one id.")
        if found is None and not or_none:
            raise ValueError(f"Cannot parse session ID {id!r}: there may be no such session.")
        return found

    def _load(self, row: DatasetRow, download_only: bool, check_hash: bool) -> Any:
        [path] = self._fetch([row], check_hash)
        if download_only and path is not None:
            return path
        if not download_only and (found := contents_of([row], [path], trust_pickles=self.trust_pickles)):
            return found[row.id]
        raise ALFObjectNotFound(f"{row.path}: no file is here or can be downloaded.")

    def _fetch(self, rows: Sequence[DatasetRow], check_hash: bool) -> list[Any]:
        paths = self._core.fetch(rows, offline=self.offline, check_hash=check_hash, keep_uuid=bool(self.uuid_filenames))
        if self.record_loaded:
            self._loaded.update(
                (UUID(row.id), None if row.eid is None else UUID(row.eid))
                for row, path in zip(rows, paths, strict=True)
                if path is not None
            )
        return paths

    def _details(self, row: SessionRow) -> AlfBunch:
        return AlfBunch(
            row.details(),
            projects=",".join(row.projects),
            url=f"{self.alyx.base_url}/sessions/{row.eid}",
            local_path=None if row.folder is None else str(Path(self.cache_dir, row.folder)),
        )

    def _table_row(self, row: SessionRow) -> dict[str, Any]:
        """Return what ONE's cache tables have of a session, besides its id."""
        shown = self._details(row)
        return {name: shown[name] for name in TABLE_COLUMNS}


def of_several(method: Callable) -> Callable:
    """Let a method of a list take one thing as well, and return what it finds for that."""
    form = signature(method)
    first = list(form.parameters)[1]

    @wraps(method)
    def wrapper(*args, **kwargs):
        bound = form.bind(*args, **kwargs)
        given = bound.arguments[first]
        is_several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping, PathLike))
        bound.arguments[first] = list(given) if is_several else [given]
        found = method(*bound.args, **bound.kwargs)
        return found if is_several else found[0]

    return wrapper


def as_uuid(found: Any) -> Any:
    """Return a UUID for its text, None for None; a list for a list."""
    if isinstance(found, list):
        return [as_uuid(each) for each in found]
    return None if found is None else UUID(found)


def uuid_text(value: Any) -> str:
    """Return the text of a UUID given as such, as text, or at the end of an address; else raise ValueError."""
    text = str(value)
    if isinstance(value, UUID):
        return text
    if isinstance(value, str) and is_uuid_text(text[-36:]) and (len(text) == 36 or "://" in text):
        return text[-36:].lower()
    raise ValueError(f"{value!r} is not a valid eID/UUID string")

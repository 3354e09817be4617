"""What the methods of `labweave.one.api.One` share: its attributes, ids, rows and files."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any
from uuid import UUID

from labweave.formats.alf.bunch import AlfBunch
from labweave.formats.alf.exceptions import ALFObjectNotFound
from labweave.one.core import Core, uuid_at_end
from labweave.one.files.recipes import contents_of, load_objects
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
        if mode not in ("local", "remote"):
            raise ValueError(f'Mode "{mode}" is not recognised; it is local or remote.')
        self.mode, self.wildcards, self.silent, self.trust_pickles = mode, wildcards, silent, trust_pickles
        self.uuid_filenames, self.record_loaded = False, False
        self._tables_dir = tables_dir
        self._loaded: dict[UUID, UUID | None] = {}
        self._core = Core(cache_dir, silent=silent)

    def __repr__(self) -> str:
        return f"One ({'off' if self.offline else 'on'}line, {self.cache_dir})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("alyx", "_cache")}

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

    def _load_objects(
        self, rows: Sequence[DatasetRow], what: str, download_only: bool, check_hash: bool, **options: Any
    ) -> Any:
        options |= {"wildcards": self.wildcards, "trust_pickles": self.trust_pickles}
        return load_objects(rows, self._fetch(rows, check_hash), what, download_only=download_only, **options)

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
        return AlfBunch(self._core.details(row, self.alyx.base_url))

    def _table_row(self, row: SessionRow) -> dict[str, Any]:
        """Return what ONE's cache tables have of a session, besides its id."""
        shown = row.details()
        return {name: shown[name] for name in TABLE_COLUMNS}


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
    if isinstance(value, str) and (found := uuid_at_end(text)) and (len(text) == 36 or "://" in text):
        return found
    raise ValueError(f"{value!r} is not a valid eID/UUID string")

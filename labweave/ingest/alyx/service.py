"""``labweave ingest alyx``: its options, and the run that they ask for."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from labweave.errors import ConfigError
from labweave.formats.alyx.client import check_url
from labweave.ingest.alyx.report import SyncReport
from labweave.ingest.alyx.scopes import UNASKABLE
from labweave.ingest.alyx.sync import preview, sync
from labweave.ingest.base import Options, Service
from labweave.ingest.registry import SUMMARIES


class AlyxOptions(Options):
    """What is pulled, and how."""

    subjects: tuple[str, ...] = Field((), description="only these subjects, by nickname, with commas")
    projects: tuple[str, ...] = Field((), description="only sessions of these projects, with commas")
    since: dt.datetime | None = Field(
        None, description="changes since then, by the server's clock, instead of since the last sync"
    )
    full: bool = Field(False, description="read everything, not only what changed; once a week is enough")
    workers: int = Field(1, ge=1, le=16, description="connections at once")
    time_zone: str = Field("UTC", description="TIME_ZONE of the server, for its stamps")
    allow_vanished: bool = Field(False, description="more than a tenth of a resource may have vanished")

    @field_validator("subjects", "projects", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return split_names(value)

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is not a time zone; write it as Europe/London") from None
        return value


class AlyxService(Service):
    """An Alyx server, version 3, over REST."""

    name = "alyx"
    summary = SUMMARIES["alyx"]
    options_model: ClassVar = AlyxOptions

    @classmethod
    def sync(
        cls,
        location: str,
        options: AlyxOptions,
        *,
        lab: str | None,
        source: str | None,
        dry_run: bool,
        progress: Callable[..., None],
    ) -> SyncReport:
        """Bring the tables up to the server's state; see `labweave.ingest.base.Service.sync`."""
        url = check_url(location)
        labs = split_names(lab or "")
        for name in (*options.subjects, *options.projects, *labs):
            if set(name) & UNASKABLE:
                raise ConfigError(f"Alyx can't be asked for {name!r}: a filter can't hold any of , ' \" [ ] ( ) \\.")
        name = source or _source_name(url)
        if dry_run:
            return preview(url, name, labs, options)
        return sync(url, name, labs, options, progress)


def split_names(value: Any) -> Any:
    """Return names given as one text with commas as a tuple of them."""
    if isinstance(value, str):
        return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    return value


def _source_name(url: str) -> str:
    digest = hashlib.sha256(f"alyx\n{url.partition('://')[2]}".encode()).hexdigest()[:8]
    return f"alyx-{urlsplit(url).hostname}"[:55] + f"-{digest}"

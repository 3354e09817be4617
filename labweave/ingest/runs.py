"""The row of a run: begun, and finished with its counts; runs whose process died are closed by the next one."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import platform
import uuid
from collections.abc import Mapping
from typing import Any

import psutil
from datajoint.errors import LostConnectionError

from labweave.database import upsert
from labweave.errors import ServerUnavailable
from labweave.ingest.report import IngestReport
from labweave.schemas.ingestion import Run, Source
from labweave.version import __version__


def begin(source: Mapping[str, Any]) -> str:
    """Record that a run over a source begins, and return its id; `source` is its row."""
    _close_dead_runs(source["source"])
    run = str(uuid.uuid4())
    upsert(Source, [source], run=run)
    row = {
        "run": run,
        "source": source["source"],
        "status": "running",
        "started": dt.datetime.now(dt.timezone.utc),
        "started_by": _user(),
        "host": f"{_host()}:{os.getpid()}",
        "version": __version__,
    }
    upsert(Run, [row])
    return run


def finish(report: IngestReport, status: str, message: str) -> None:
    """Record that a run has ended."""
    done = {
        "run": report.run,
        "status": status,
        "finished": dt.datetime.now(dt.timezone.utc).replace(tzinfo=None),
        "counts": report.counts(),
        "run_message": message[:2000],
    }
    try:
        Run.update1(done)
    except (LostConnectionError, ServerUnavailable):
        if status == "finished":
            raise


def _close_dead_runs(source: str) -> None:
    """Say of earlier runs whose process is gone that they did not finish."""
    end = {"status": "failed", "run_message": "its process ended before it was done"}
    for row in (Run & {"source": source, "status": "running"}).to_dicts():
        host, _, pid = row["host"].rpartition(":")
        if host == _host() and not psutil.pid_exists(int(pid)):
            Run.update1({"run": row["run"], **end})


def _user() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return ""


def _host() -> str:
    return platform.node()[:200]

"""The row of a run: begun, and finished with its counts; runs whose process died are closed by the next one."""

from __future__ import annotations

import datetime as dt
import os
import platform
import uuid
from collections.abc import Mapping
from typing import Any

from datajoint.errors import LostConnectionError

from labweave import processes
from labweave.database import upsert
from labweave.database.made import user
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
        **this_process(),
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
        if _has_ended(row):
            Run.update1({"run": row["run"], **end})


def _has_ended(run: Mapping[str, Any]) -> bool:
    """Say whether the process of a run is certainly gone; nothing is known of those on other machines."""
    host, pid = process_of(run)
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    return host == _host() and not processes.lives(pid, (now - run["started"]).total_seconds())


def this_process() -> dict[str, str]:
    """Return what a run says of this process: on which machine it runs, with which id, and whose it is."""
    return {"host": f"{_host()}:{os.getpid()}", "started_by": user()}


def process_of(run: Mapping[str, Any]) -> tuple[str, int]:
    """Return the machine and the id of the process that does a run."""
    host, _, pid = run["host"].rpartition(":")
    return host, int(pid or 0)


def may_live(run: Mapping[str, Any]) -> bool:
    """Say whether a process has the id of the one that does a run; nothing is known of those on other machines."""
    host, pid = process_of(run)
    return host != _host() or processes.lives(pid, 0)


def _host() -> str:
    return platform.node()[:200]

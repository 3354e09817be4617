"""What a night does: each step is a function that returns a `Result`, and is run in a process of its own."""

from __future__ import annotations

import datetime as dt
import logging
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from labweave import ingest, populate, provenance
from labweave.database import current, verify_backup
from labweave.database.reads import rows_in_order
from labweave.errors import LabweaveError, text_of
from labweave.formats.hashing import NO_HASH, sha256_of_file
from labweave.ingest.alyx.report import SyncReport
from labweave.ingest.base import Service
from labweave.ingest.registry import find_adapter
from labweave.nightly.report import TEXT, Kind, Problems, Result
from labweave.nightly.settings import NightSettings, NightSource
from labweave.populate import queue
from labweave.schemas.ingestion import OpenFailure, Run, Source, SourceFile
from labweave.schemas.onedata import RecipeCheck
from labweave.schemas.work import NightStep

log = logging.getLogger(__name__)

STALE_IS_A_FAILURE = 3
"""How many times as long as expected a source may be quiet before that is a failure."""


Step = Callable[[bool], Result]
"""Takes whether it is a dry run."""


def steps_of(settings: NightSettings) -> dict[str, Step]:
    """Return the steps of a night in their order, by name."""
    steps: dict[str, Step] = {
        f"source {source.name}": partial(take_source, source, source.lab or settings.lab) for source in settings.sources
    }
    steps["populate"] = partial(make_results, settings.nightly.workers)
    steps["check"] = check_tables
    if settings.nightly.verify_sample:
        steps["check files"] = partial(check_files, settings.nightly.verify_sample)
        steps["verify"] = partial(verify_results, settings.nightly.verify_sample)
    if settings.backup.to:
        steps["backup"] = partial(back_up, settings.backup.to, settings.backup.keep)
        steps["verify backup"] = partial(check_backup, settings.backup.verify_every)
    return steps


def take_source(source: NightSource, lab: str | None, dry_run: bool) -> Result:
    """Ingest a source, or sync a server."""
    place, options = Path(source.location).expanduser(), dict(source.options)
    served = issubclass(find_adapter(source.adapter), Service)
    if source.require_mount and not served and not _has_anything(place):
        away: Problems = {"away": ("away", f"{place} is absent or empty")}
        return Result({}, away | _quiet(source), f"{place} is away")
    guards: dict[str, Any] = {}
    if served:
        if source.full_every and not _counted(f"source {source.name}", "full", source.full_every):
            options["full"] = True
    else:
        guards = {"settle_s": source.settle.total_seconds(), "max_vanished": source.max_vanished}
    report = ingest.run(
        source.adapter, source.location, lab=lab, source=source.name, dry_run=dry_run, **guards, **options
    )
    problems: Problems = {
        row["path"]: ("failure", row["message"][:TEXT])
        for row in (OpenFailure & {"source": source.name}).proj("message").to_dicts()
    }
    if isinstance(report, SyncReport) and report.held_back:
        problems["gone records"] = ("failure", report.question[:TEXT])
    if report.exit_code and not problems:
        problems["source"] = ("failure", str(report).splitlines()[0][:TEXT])
    counts = {name: getattr(report, name) for name in ("seen", "new", "changed", "failed", "waiting")}
    counts |= {"full": 1} if options.get("full") else {}
    message = str(report).splitlines()[0] + (f", {report.waiting} too young" if report.waiting else "")
    return Result(counts, problems | _quiet(source), message, _bytes_of(report.run))


def _has_anything(place: Path) -> bool:
    try:
        return next(place.iterdir(), None) is not None if place.is_dir() else place.exists()
    except OSError:
        return False


def _bytes_of(run: str) -> int | None:
    query = f"select sum(size) from {SourceFile.full_table_name} where run = %s"
    total = current().connection.query(query, (run,)).fetchone()[0]
    return int(total or 0)


def _quiet(source: NightSource) -> Problems:
    """Return that a source has brought nothing new for longer than it may."""
    if source.expect_every is None:
        return {}
    runs = (Run & {"source": source.name, "status": "finished"}).proj("started", "counts").to_dicts(order_by="started")
    brought = [run["started"] for run in runs if any((run["counts"] or {}).get(what) for what in ("new", "changed"))]
    since = brought[-1] if brought else next((run["started"] for run in runs), None)
    if since is None:
        return {}
    quiet = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) - since
    if quiet <= source.expect_every:
        return {}
    kind: Kind = "failure" if quiet > STALE_IS_A_FAILURE * source.expect_every else "stale"
    text = f"nothing new for {_days(quiet)}, expected every {_days(source.expect_every)}"
    return {"quiet": (kind, text)}


def _days(time: dt.timedelta) -> str:
    days = time.total_seconds() / 86400
    return f"{days:.0f} d" if days >= 2 else f"{days * 24:.0f} h"


def make_results(workers: int, dry_run: bool) -> Result:
    """Make what is missing, and again what is out of date."""
    report = populate.run(workers=workers, dry_run=dry_run)
    problems: Problems = {}
    for table, outcome in report.failures:
        problems[_name(table, outcome.key)] = ("failure", str(outcome.reason)[:TEXT])
    for error in [] if dry_run else populate.errors():
        problems[_name(error.table, error.key)] = ("failure", error.reason[:TEXT])
    counts = {table.table: table.made for table in report.tables if table.made}
    return Result(counts, problems, f"{report.made} made, {len(problems)} failed")


def _name(table: str, key: dict[str, Any]) -> str:
    return f"{table} {' '.join(f'{name}={value}' for name, value in key.items())}"


def check_tables(dry_run: bool) -> Result:
    """Compare the tables with those that this labweave expects, and list the recipes that lead nowhere."""
    problems: Problems = {one.table: ("failure", f"{one.problem}; {one.advice}") for one in current().check()}
    broken = (RecipeCheck - {"recipe_state": "resolved"}).to_dicts()
    for row in broken:
        text = f"{row['recipe_state']}: {row['reason']}"
        problems[f"recipe {row['eid']} {row['one_name']}"] = ("failure", text[:TEXT])
    return Result({"recipes": len(RecipeCheck())}, problems, f"{len(problems)} problems")


def check_files(sample: int, dry_run: bool) -> Result:
    """Hash a few files that have the size and time of when they were ingested: a disk may have changed their bytes."""
    looked, problems = 0, Problems()
    for source in Source().proj("location").to_dicts():
        place = Path(source["location"])
        root = place if place.is_dir() else place.parent
        for path, size, mtime_ns, sha256 in _chosen(source["source"], sample):
            try:
                stat = (root / path).stat()
                if (stat.st_size, stat.st_mtime_ns) != (size, mtime_ns):
                    continue  # the next night reads it
                looked += 1
                if sha256_of_file(root / path) != sha256:
                    text = "has other bytes than when it was ingested, and the size and time of then. Is the disk ill?"
                    problems[str(root / path)] = ("failure", text)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems[str(root / path)] = ("failure", text_of(error))
    return Result({"files": looked}, problems, f"{looked} files hashed, {len(problems)} differ")


def _chosen(source: str, sample: int) -> Iterator[tuple[str, int, int, str]]:
    """Yield path, size, time and hash of some files of a source, by chance."""
    kept: list[tuple[str, int, int, str]] = []
    wanted = ["path", "size", "mtime_ns", "sha256"]
    fixed = {"source": source, "file_status": "ingested"}
    for at, row in enumerate(rows_in_order(SourceFile, "path", wanted, fixed)):
        if at < sample:
            kept.append(row)  # type: ignore[arg-type]
        elif (place := random.randrange(at + 1)) < sample:  # noqa: S311
            kept[place] = row  # type: ignore[call-overload]
    yield from (row for row in kept if row[3] != NO_HASH)


def verify_results(sample: int, dry_run: bool) -> Result:
    """Make a few results of each table again, without storing them, and compare."""
    tables = [table for table in queue.computed_tables() if provenance.is_result(table)]
    problems, n_results = Problems(), 0
    for one in [] if dry_run else provenance.verify(tables, sample=sample):
        n_results += 1
        if one.outcome == "different":
            first = one.differences[0]
            text = f"{first.place}: stored {first.stored}, now {first.now}"
            problems[_name(one.table, one.key)] = ("failure", text[:TEXT])
        elif one.outcome == "failed":
            problems[_name(one.table, one.key)] = ("failure", one.reason[:TEXT])
    return Result({"results": n_results}, problems, f"{n_results} results made again, {len(problems)} differ")


def back_up(folder: Path, keep: str, dry_run: bool) -> Result:
    """Write a backup, and delete those that are not to be kept."""
    if dry_run:
        return Result(message=f"would be written to {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    path = current().backup(folder, keep=keep, tell=log.info)
    return Result({"backups": 1}, {}, str(path), path.stat().st_size)


def check_backup(every: dt.timedelta, dry_run: bool) -> Result:
    """Restore the newest backup beside, compare, and remove it again, when that is due."""
    backups = (NightStep & {"step": "backup", "step_status": "good"}).to_dicts(order_by="night desc", limit=1)
    if not backups or dry_run or _counted("verify backup", "verified", every):
        return Result(message="not due" if backups else "no backup yet")
    path = Path(backups[0]["step_message"])
    try:
        differing = verify_backup(path)
    except LabweaveError as error:
        return Result({}, {path.name: ("failure", text_of(error)[:TEXT])}, f"{path} can't be restored")
    problems: Problems = {f"{path.name} {table}": ("failure", what) for table, what in differing}
    return Result({"verified": 1}, problems, f"{path} restored beside and compared", path.stat().st_size)


def _counted(step: str, what: str, since: dt.timedelta) -> bool:
    """Say whether a step has counted something in the last nights."""
    begin = (dt.datetime.now(dt.timezone.utc) - since).isoformat()[:19]
    found = NightStep & {"step": step} & f"night > '{begin}'"
    return any(row["counts"].get(what) for row in found.proj("counts").to_dicts())

"""One ingest run: finds what is new or changed, and writes it unit by unit."""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import os
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from datajoint.errors import LostConnectionError
from pydantic import ValidationError

from labweave import __version__
from labweave.database import UpsertCounts, current, upsert
from labweave.database.connection import LabConnection
from labweave.database.declare import is_computed, schema_modules, table_classes
from labweave.database.writes import Changed, write_rows
from labweave.errors import ConfigError, LabweaveError, ServerUnavailable, SourceError
from labweave.formats.hashing import sha256_of_file
from labweave.ingest.base import Adapter, Row, Service, Unit
from labweave.ingest.registry import find_adapter
from labweave.ingest.report import IngestFailure, IngestReport
from labweave.schemas.ingestion import Failure, Run, Source, SourceFile

Progress = Callable[..., None]
"""Called with units done, units failed, units in all; a server's before them with what they are."""


class _DryRun(Exception):
    """Rolls a unit back after it has shown what it would write."""


def run(
    adapter: str | type[Adapter] | type[Service],
    location: str | Path,
    *,
    lab: str | None = None,
    source: str | None = None,
    dry_run: bool = False,
    progress: Progress = lambda *where: None,
    **options: Any,
) -> IngestReport:
    """Ingest a location: what is new goes in, what changed is updated, the rest is left.

    Parameters
    ----------
    adapter : str or Adapter class
        Its name, as in ``labweave ingest NAME``.
    location : path or str
        Folder or file; address of a server.
    lab : str
        The lab that the rows belong to; for a server, whose records name theirs, the labs to
        keep to.
    source : str, optional
        Name for the source; without one it is made from adapter, lab and location.
    dry_run : bool, default: False
        Write nothing; the report says what would be written and which results would be
        made again.
    progress : callable, optional
        Called with units done, failed and in all.
    **options
        Of the adapter.

    Returns
    -------
    IngestReport
        One bad unit does not stop the others: it is in ``failures`` and in
        ``ingestion.Failure``.

    Raises
    ------
    ConfigError
        No database is open, no lab is named, an unknown adapter or option.
    SourceError
        The location does not exist or nothing in it can be read by the adapter.
    """
    database = current()
    cls = find_adapter(adapter) if isinstance(adapter, str) else adapter
    chosen = _options(cls, options)
    if issubclass(cls, Service):
        return cls.sync(str(location), chosen, lab=lab, source=source, dry_run=dry_run, progress=progress)
    place = Path(location).expanduser().resolve()
    if not place.exists():
        raise SourceError(f"{place} does not exist. Check the path, or whether the disk is mounted.")
    if not lab:
        raise ConfigError(f"Which lab do the rows of {place} belong to? Say --lab NAME, or set lab in labweave.toml.")
    reader = cls(place, lab, chosen)
    units = list(reader.discover())
    _check_units(units, cls)
    if not units:
        raise SourceError(
            f"Nothing in {place} can be read by the adapter {cls.name}. See: labweave ingest {cls.name} --help"
        )
    return _Ingest(database.connection, reader, source or _source_name(cls, place, lab), dry_run).run(units, progress)


def _options(cls: type[Adapter] | type[Service], options: Mapping[str, Any]) -> Any:
    try:
        return cls.options_model(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(
            f"Option {'.'.join(map(str, first['loc']))} of the adapter {cls.name}: {first['msg']}. "
            f"Its options: {', '.join(cls.options_model.model_fields) or 'none'}."
        ) from None


def _check_units(units: list[Unit], cls: type[Adapter]) -> None:
    """Refuse a file in two units: whether it is unchanged could not be said of either."""
    owners: dict[str, str] = {}
    for unit in units:
        for path in unit.files:
            if path in owners:
                raise SourceError(f"{path} is in two units of the adapter {cls.name}: {owners[path]} and {unit.path}.")
            owners[path] = unit.path


def _source_name(cls: type[Adapter], place: Path, lab: str) -> str:
    digest = hashlib.sha256(f"{cls.name}\n{place}\n{lab}".encode()).hexdigest()[:8]
    return f"{cls.name}-{place.name}"[:55] + f"-{digest}"


class _Ingest:
    """One run of one adapter over one source."""

    def __init__(self, connection: LabConnection, adapter: Adapter, source: str, dry_run: bool):
        self.connection, self.adapter, self.source, self.dry_run = connection, adapter, source, dry_run
        adapter.source = source
        self.report = IngestReport(source=source, dry_run=dry_run)
        self.options = {"lab": adapter.lab, **adapter.options.model_dump(mode="json", exclude_none=True)}
        self.known: dict[str, dict[str, Any]] = {}
        self.shown: dict[str, set[tuple]] = {}

    def run(self, units: list[Unit], progress: Progress) -> IngestReport:
        self.known = {row["path"]: row for row in (SourceFile & {"source": self.source}).to_dicts()}
        self._begin()
        try:
            progress(0, 0, len(units))
            for unit in units:
                self._ingest(unit)
                progress(self.report.seen, self.report.failed, len(units))
            self._mark_vanished(units)
        except BaseException as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        self._finish("finished", "")
        return self.report

    def _begin(self) -> None:
        if self.dry_run:
            return
        self._close_dead_runs()
        self.report.run = str(uuid.uuid4())
        upsert(Source, [self._source_row()], run=self.report.run)
        upsert(
            Run,
            [
                {
                    "run": self.report.run,
                    "source": self.source,
                    "status": "running",
                    "started": dt.datetime.now(dt.timezone.utc),
                    "started_by": _user(),
                    "host": f"{_host()}:{os.getpid()}",
                    "version": __version__,
                }
            ],
        )

    def _source_row(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "adapter": self.adapter.name,
            "location": str(self.adapter.location),
            "source_lab": self.adapter.lab,
            "options": self.options,
        }

    def _close_dead_runs(self) -> None:
        """Say of earlier runs whose process is gone that they did not finish."""
        dead = []
        for row in (Run & {"source": self.source, "status": "running"}).to_dicts():
            host, _, pid = row["host"].rpartition(":")
            if host == _host() and not psutil.pid_exists(int(pid)):
                dead.append(
                    {"run": row["run"], "status": "failed", "run_message": "its process ended before it was done"}
                )
        for row in dead:
            Run.update1(row)

    def _finish(self, status: str, message: str) -> None:
        if self.dry_run:
            return
        done = {
            "run": self.report.run,
            "status": status,
            "finished": dt.datetime.now(dt.timezone.utc).replace(tzinfo=None),
            "counts": self.report.counts(),
            "run_message": message[:2000],
        }
        try:
            Run.update1(done)
        except (LostConnectionError, ServerUnavailable):
            if status == "finished":
                raise

    def _ingest(self, unit: Unit) -> None:
        """Ingest one unit whole or not at all, and count it."""
        report = self.report
        report.seen += 1
        before = (dict(report.rows), dict(report.outdated))
        try:
            files = self._look(unit)
            if self._is_unchanged(unit, files):
                report.unchanged += 1
                return
            is_new = not any(path in self.known for path in unit.files)
            rows = list(self.adapter.read(unit, {path: file["sha256"] for path, file in files.items()}))
            wrote = self._write(unit, files, rows)
        except (LostConnectionError, ServerUnavailable):
            raise
        except Exception as error:
            report.rows, report.outdated = before
            self._fail(unit, error)
        else:
            if not unit.files and not wrote:  # there is no hash to tell it before
                report.unchanged += 1
                return
            report.new += is_new
            report.changed += not is_new

    def _look(self, unit: Unit) -> dict[str, dict[str, Any]]:
        """Return size, time and hash of a unit's files; a file that looks as before is not read."""
        files = {}
        for path in unit.files:
            full = self.adapter.root / path
            try:
                stat = full.stat()
            except OSError as error:
                raise SourceError(
                    f"{full}: {error.strerror or error}. Is the path right, and the file readable?"
                ) from None
            known = self.known.get(path)
            same = known is not None and (known["size"], known["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
            files[path] = {
                "size": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "sha256": known["sha256"] if known is not None and same else sha256_of_file(full),
            }
        return files

    def _is_unchanged(self, unit: Unit, files: Mapping[str, Mapping[str, Any]]) -> bool:
        facts = (self.adapter.version, self._facts_sha256(unit), "ingested")
        for path, file in files.items():
            known = self.known.get(path)
            if known is None or known["sha256"] != file["sha256"]:
                return False
            if (known["adapter_version"], known["options_sha256"], known["file_status"]) != facts:
                return False
        touched = {path: file for path, file in files.items() if self.known[path]["mtime_ns"] != file["mtime_ns"]}
        if touched and not self.dry_run:
            self.connection.run_transaction(lambda: self._put_files(unit, touched))
        return bool(files)

    def _facts_sha256(self, unit: Unit) -> str:
        """Return a hash of all but the files that decides what is read: options, and what discovery found."""
        facts = repr((sorted(self.options.items()), unit.path, unit.content))
        return hashlib.sha256(facts.encode("utf-8", "backslashreplace")).hexdigest()

    def _put_files(self, unit: Unit, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Record files as they are now; anew, since their old state is nothing that `Change` should keep."""
        (SourceFile & [{"source": self.source, "path": path} for path in files]).delete_quick()
        rows = [
            {
                "source": self.source,
                "path": path,
                "unit": unit.path,
                **file,
                "adapter_version": self.adapter.version,
                "options_sha256": self._facts_sha256(unit),
                "file_status": "ingested",
                "run": self.report.run,
            }
            for path, file in files.items()
        ]
        upsert(SourceFile, rows)

    def _write(self, unit: Unit, files: Mapping[str, Mapping[str, Any]], rows: list[Row]) -> bool:
        """Write the rows of a unit, and say whether one was new or different."""
        tables: dict[type, list[Mapping[str, Any]]] = {}
        for row in rows:
            tables.setdefault(row.table, []).append({**row.values, **self._own_values(row.table)})

        def work() -> tuple[dict[str, UpsertCounts], dict[str, int]]:
            counts, changed = {}, {}
            if self.dry_run:
                upsert(Source, [self._source_row()], update=False)
            for table, values in tables.items():
                again = self._shown_before(table, values) if self.dry_run else 0
                count, changed[table] = write_rows(table, values, run=self.report.run or None)
                counts[_label(table)] = count + UpsertCounts(-again, 0, again)
            outdated = self._delete_outdated(tables, counts, changed)
            if self.dry_run:
                raise _DryRun(counts, outdated)
            if files:
                self._put_files(unit, files)
            return counts, outdated

        try:
            counts, outdated = self.connection.run_transaction(work)
        except _DryRun as shown:
            counts, outdated = shown.args
            for table, values in tables.items():
                self.shown.setdefault(_label(table), set()).update(_keys(table, values))
        for table, count in counts.items():
            self.report.rows[table] = self.report.rows.get(table, UpsertCounts()) + count
        for table, count in outdated.items():
            self.report.outdated[table] = self.report.outdated.get(table, 0) + count
        return any(count.inserted or count.updated for count in counts.values())

    def _shown_before(self, table: type, rows: list[Mapping[str, Any]]) -> int:
        """Return how many of the rows a dry run has counted as new with an earlier unit."""
        names = table().primary_key
        again = [
            dict(zip(names, key, strict=True)) for key in _keys(table, rows) & self.shown.get(_label(table), set())
        ]
        return len(again) - len(table & again) if again else 0

    def _own_values(self, table: type) -> dict[str, Any]:
        """Return what the base knows better than the adapter: the source of a row."""
        return {"source": self.source} if "source" in table().heading.names else {}

    def _delete_outdated(
        self,
        tables: Mapping[type, list[Mapping[str, Any]]],
        counts: Mapping[str, UpsertCounts],
        changed: Mapping[type, list[Changed]],
    ) -> dict[str, int]:
        """Delete results made from rows that changed, so that populate makes them again."""
        deleted: dict[str, int] = {}
        direct: set[str] = set()
        for table, attributes in self.adapter.inputs.items():
            rows = [row for row in changed.get(table, []) if not row.new.keys().isdisjoint(attributes)]
            if table in tables and (rows or counts[_label(table)].inserted):
                results = _results_of(table)
                direct.update(result.full_table_name for result in results)
                _delete(results, [row.key for row in rows], deleted)
        unit_table = self.adapter.unit_table
        if unit_table is not None and direct and unit_table in tables:
            names = unit_table().primary_key
            keys = [{name: row[name] for name in names} for row in tables[unit_table]]
            _delete([r for r in _results_of(unit_table) if r.full_table_name not in direct], keys, deleted)
        return deleted

    def _fail(self, unit: Unit, error: Exception) -> None:
        expected = isinstance(error, LabweaveError)
        text = str(error) if expected else f"{type(error).__name__}: {error}. This is not expected: please report it."
        path, message = _printable(unit.path), _printable(text)
        self.report.failed += 1
        self.report.failures.append(IngestFailure(path, type(error).__name__, message))
        if self.dry_run:
            return
        row = {
            "run": self.report.run,
            "path": path[:512],
            "error_class": type(error).__name__[:64],
            "message": message[:2000].replace("\0", ""),
            "traceback": None if expected else _printable("".join(traceback.format_exception(error))),
        }
        upsert(Failure, [row])

    def _mark_vanished(self, units: list[Unit]) -> None:
        """Mark files of earlier runs that are gone; what came from them stays."""
        listed = {path for unit in units for path in unit.files}
        gone = [
            path
            for path, row in self.known.items()
            if path not in listed and row["file_status"] == "ingested" and not (self.adapter.root / path).exists()
        ]
        self.report.vanished = sorted(gone)
        if gone and not self.dry_run:
            upsert(
                SourceFile,
                [{"source": self.source, "path": path, "file_status": "vanished"} for path in gone],
                update=["file_status"],
                run=self.report.run,
            )


def _results_of(table: type) -> list[Any]:
    """Return the computed tables that hang on `table` by foreign keys."""
    instance = table()
    instance.connection.dependencies.load()
    below = set(instance.descendants())
    return [
        cls()
        for module in schema_modules()
        for cls in table_classes(module)
        if is_computed(cls) and cls.full_table_name in below and cls is not table
    ]


def _delete(results: list[Any], keys: list[dict[str, Any]], deleted: dict[str, int]) -> None:
    for result in reversed(results):  # those that hang on others first, to be counted before they go with them
        for start in range(0, len(keys), 500):
            doomed = result & [
                {name: value for name, value in key.items() if name in result.heading.names}
                for key in keys[start : start + 500]
            ]
            if count := len(doomed):
                deleted[_label(type(result))] = deleted.get(_label(type(result)), 0) + count
                doomed.delete(transaction=False, prompt=False)
            jobs = result.jobs & [
                {name: value for name, value in key.items() if name in result.primary_key}
                for key in keys[start : start + 500]
            ]
            (jobs & {"status": "error"}).delete_quick()


def _printable(text: str) -> str:
    """Return text that can be stored: bytes of a file name that are no UTF-8 are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _keys(table: type, rows: list[Mapping[str, Any]]) -> set[tuple]:
    return {tuple(row[name] for name in table().primary_key) for row in rows}


def _label(table: type) -> str:
    return f"{table.database.removeprefix(table._connection.prefix)}.{table.__name__}"


def _user() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        return ""


def _host() -> str:
    import platform

    return platform.node()[:200]

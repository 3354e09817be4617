"""One sync: each stage is planned and pulled by populate's workers; the whole is checked before it counts as known."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from datajoint.errors import LostConnectionError

from labweave import populate
from labweave.database import UpsertCounts, current, upsert
from labweave.database.locks import ServerLock
from labweave.database.reads import in_parts
from labweave.database.writes import set_values, write_rows
from labweave.errors import ServerUnavailable, SourceError
from labweave.formats.alyx import RESOURCES, AlyxClient, AlyxError, Resource
from labweave.ingest.alyx.mirror import mark_vanished, record_failures
from labweave.ingest.alyx.pages import compare
from labweave.ingest.alyx.plan import (
    DETAILS_PER_PART,
    IN_ORDER,
    LABELS,
    ROWS_PER_PART,
    STAGES,
    STAMPED,
    Choice,
    Part,
    differing_files,
    differing_ranges,
    differing_tags,
    due_details,
    files_of_nights,
    make_choice,
    parts_of_ids,
    parts_of_range,
    plan_resource,
    renamed_labels,
    unread_details,
)
from labweave.ingest.alyx.pull import PLANNED, ask, open_client, part_key, pull
from labweave.ingest.alyx.report import ResourceCounts, SyncReport
from labweave.ingest.alyx.scopes import LAST_ID, present_records, span
from labweave.ingest.alyx.tables import SourceRecord, SyncCursor, SyncPage, SyncPart, SyncRun
from labweave.ingest.report import IngestFailure
from labweave.ingest.runs import may_live, process_of, this_process
from labweave.schemas.ingestion import Change, OpenFailure, Run, Source
from labweave.version import __version__

log = logging.getLogger(__name__)

VANISHED_SHARE = 0.1
VANISHED_AT_LEAST = 10
"""When so many records and more than this share of a resource vanish in one run, a person must confirm it."""

LOCK_SECONDS = 3
"""A sync waits so long for one that is about to end, and for one that has just begun to say who it is."""

LATE_ROUNDS = 3
PARTS_PER_WORKER = 4
"""A process is not started for fewer."""

RESUME_HOURS = 20
"""A run with failed parts is continued for so long; after that a new one begins."""

NEEDED = frozenset(RESOURCES) - {
    *("weighings", "water-administrations", "water-restriction", "surgeries", "notes"),
    *("files", "channels", "session-details", "brain-regions"),
}
"""Resources that later stages name: when a part of one is missing, the run stops after its stage."""

NAMED_BY_ID = ("sessions", "datasets", "trajectories")
"""Parents that are asked for by their ids; of the others, the whole list is asked for."""
OF_TABLE = {resource.table: resource.name for resource in reversed(RESOURCES.values())}

Progress = Callable[..., None]


class _Stopped(Exception):
    """A stage that others need has failed parts."""


class _Overtaken(SourceError):
    """The lock was lost, and another sync has it."""


def sync(url: str, source: str, labs: tuple[str, ...], options: Any, progress: Progress) -> SyncReport:
    """Sync a server, or go on with a sync that was interrupted.

    Raises
    ------
    ConfigError
        No login, or a wrong one.
    SourceError
        The server does not answer, another sync of it is running, or too many records have
        vanished.
    """
    client, asked = open_client(url, fresh=True), _asked(labs, options)
    with ServerLock(current().connection, f"sync {source}") as lock:
        if not lock.acquire(LOCK_SECONDS):
            raise SourceError(_who_syncs(source))
        labs_part = "labs", {"complete": True}
        PLANNED[part_key(client, *labs_part)] = ask(client, *labs_part)  # the server answers, and is not asked again
        row = {"source": source, "adapter": "alyx", "location": url, "source_lab": ",".join(labs)[:64]}
        upsert(Source, [{**row, "options": {"time_zone": options.time_zone}}])
        run = _unfinished(source, asked) or _begin(source, asked)
        return _Sync(client, run, make_choice(source, asked), options, progress, lock).run_all()


def _asked(labs: tuple[str, ...], options: Any) -> dict[str, Any]:
    """Return what a sync is asked for, as JSON keeps it."""
    chosen = options.model_dump(mode="json", include={"subjects", "projects", "full", "workers", "time_zone"})
    return {**chosen, "labs": list(labs), "since": options.since.isoformat() if options.since else None}


def _who_syncs(source: str) -> str:
    """Say which process holds the lock of a source, by the last run that has not ended."""
    for row in (Run * SyncRun & {"source": source, "status": "running"}).to_dicts(order_by="started desc"):
        host, pid = process_of(row)
        if may_live(row):
            by = f" of {row['started_by']}" if row["started_by"] else ""
            return (
                f"{source} is being synced by process {pid} on {host}{by}, in the run that began at "
                f"{row['started']:%Y-%m-%d %H:%M} UTC. Wait for it, or end it."
            )
    return f"{source} is being synced by another process, which has not said yet who it is. Wait for it."


def _unfinished(source: str, asked: dict[str, Any]) -> str | None:
    """Return the last run if it can go on: it was killed or has failed parts, and it asked for the same."""
    last = (Run * SyncRun & {"source": source}).to_dicts(order_by="started desc", limit=1)
    if not last or last[0]["status"] == "finished":
        return None
    row = last[0]
    same = {**row["sync_options"], "workers": None} == {**asked, "workers": None}
    age = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) - row["started"]
    if not same or (row["status"] == "failed" and age > dt.timedelta(hours=RESUME_HOURS)):
        return None
    Run.update1({"run": row["run"], "status": "running", **this_process(), "finished": None, "run_message": ""})
    populate.retry(["alyx.SyncPage"], {"run": row["run"]})
    return row["run"]


def _begin(source: str, asked: dict[str, Any]) -> str:
    run = str(uuid.uuid4())
    now = dt.datetime.now(dt.timezone.utc)

    def work() -> None:
        for old in (Run * SyncRun & {"source": source} & "status <> 'finished'").to_dicts():
            _drop_parts(old["run"])
            Run.update1({"run": old["run"], "status": "failed", "run_message": "a later run took its place"})
        row = {"run": run, "source": source, "status": "running", "started": now, **this_process()}
        upsert(Run, [{**row, "version": __version__}])
        upsert(SyncRun, [{"run": run, "sync_options": asked, "stages": []}])

    current().connection.run_transaction(work)
    return run


def _drop_parts(run: str) -> None:
    for table in (SyncPage(), SyncPage().jobs, SyncPart()):
        (table & {"run": run}).delete_quick()


class _Sync:
    """One run."""

    def __init__(
        self, client: AlyxClient, run: str, choice: Choice, options: Any, progress: Progress, lock: ServerLock
    ):
        self.connection, self.client, self.run, self.source = current().connection, client, run, choice.source
        self.choice, self.options, self.progress, self.lock = choice, options, progress, lock
        self.own = {"source": choice.source, "run": run}
        self.left_out: dict[str, int] = {}
        self.held_back: dict[str, str] = {}

    def run_all(self) -> SyncReport:
        """Do what is not done yet, and return what came of it."""
        try:
            with contextlib.suppress(_Stopped):
                self._pull()
            if self.choice.is_whole:
                self._mark_vanished()
                if not self.choice.full and not self._missing_parts():
                    with contextlib.suppress(_Stopped):
                        self._stage("tags", lambda: differing_tags(self.client, self.source, self.choice.nights))
                        self._late("later")
            report = self._report()
            if not report.failed_parts:
                self._set_cursors()
        except _Overtaken:
            raise
        except BaseException as error:
            with contextlib.suppress(LostConnectionError, ServerUnavailable):
                self._finish("failed", f"{type(error).__name__}: {error}", self._report())
            raise
        if report.failed_parts:
            self._finish("failed", f"{report.failed_parts} parts could not be pulled", report)
        else:
            if self.choice.is_whole and not self.choice.since:  # it has met whatever still fails
                (OpenFailure & {"source": self.source} & f"run <> '{self.run}'").delete_quick()
            self._finish("finished", report.question, report)
            for name in (Run * SyncRun & {"source": self.source}).to_arrays("run").tolist():
                if name != self.run:
                    _drop_parts(name)
        return report

    def _pull(self) -> None:
        for stage, names in STAGES.items():
            self._stage(stage, lambda names=names: self._plan(names))
        if self.choice.is_whole:
            self._stage("check", self._plan_check)
            self._stage("check-details", self._plan_unread)
            self._go_round()
        self._late("late")

    def _plan(self, names: Iterable[str]) -> Iterator[Part]:
        for name in names:
            yield from plan_resource(self.client, self.choice, name)

    def _missing_parts(self) -> set[str]:
        """Return the resources that have parts which are not in."""
        return set(((SyncPart & {"run": self.run}) - SyncPage.proj()).to_arrays("resource").tolist())

    def _stage(self, stage: str, plan: Callable[[], Iterable[Part]]) -> None:
        """Plan a stage that is not planned yet, and have its parts pulled."""
        planned = (SyncRun & {"run": self.run}).fetch1("stages")
        self._keep_lock()
        if stage not in planned:
            self._add_parts(stage, list(plan()), [*planned, stage])
        n_parts = len((SyncPart & {"run": self.run, "part_stage": stage}) - SyncPage.proj())
        if not n_parts:
            return
        workers = 1 if stage == IN_ORDER else max(1, min(self.options.workers, n_parts // PARTS_PER_WORKER))
        report = populate.run(
            ["alyx.SyncPage"],
            {"run": self.run},
            workers=workers,
            progress=lambda _, done, failed, total: self._tell(stage, done, failed, total),
        )
        PLANNED.clear()
        if report.failed and NEEDED & self._missing_parts():
            raise _Stopped

    def _tell(self, stage: str, done: int, failed: int, total: int) -> None:
        """Show progress; a sync that no longer may go on ends here."""
        self.progress(stage, done, failed, total)
        self._keep_lock()
        if failed == 1:
            try:
                self.client.count("/labs", {})
            except AlyxError as error:
                if error.status == 403:  # the login was refused in the middle, and every other part will be
                    raise

    def _keep_lock(self) -> None:
        if not self.lock.keep():
            raise _Overtaken(
                f"The session that kept others from syncing {self.source} was lost, and another sync has begun. "
                f"{_who_syncs(self.source)}"
            )

    def _add_parts(self, stage: str, parts: list[Part], stages: list[str]) -> None:
        def work() -> None:
            first = len(SyncPart & {"run": self.run})
            rows = [
                {"run": self.run, "part": first + i, "resource": name, "part_stage": stage, "scope": scope}
                for i, (name, scope) in enumerate(parts)
            ]
            if rows:
                upsert(SyncPart, rows)
            SyncRun.update1({"run": self.run, "stages": stages})

        self.connection.run_transaction(work)

    def _plan_check(self) -> Iterable[Part]:
        """Plan to list again what does not add up: what changed during the pull, or was deleted without a trace."""
        absent, done = self._absent(), self._listed_at_once() | self._missing_parts()
        for name, resource in RESOURCES.items():
            if not resource.ranged or name == "session-details" or name in done:
                continue
            if name == "files" and self.choice.stamp_before(name):
                yield from differing_files(self.client, self.source, absent[name], absent["data-repository"])
            else:  # all records are counted in turn with those that have the labels that are known
                turns = self.choice.turns(2) if name in LABELS else {0}
                parts = list(differing_ranges(self.client, self.source, name, absent[name])) if 0 in turns else []
                yield from parts or (renamed_labels(self.client, name) if 1 in turns else ())

    def _go_round(self) -> None:
        """List tonight's part of the files; when some of them were moved unseen, list all the others at once."""
        if self.choice.full or "files" in self._listed_at_once() | self._missing_parts():
            return
        n_moved = self._n_moved()
        self._stage("round", lambda: files_of_nights(self.source, self.choice.nights))
        if self._n_moved() > n_moved:
            self._stage("round-moved", lambda: parts_of_range(self.source, "files", 0, LAST_ID))

    def _n_moved(self) -> int:
        """Count the files that this run has found in another place."""
        own = {"table_name": "dataset.FileRecord", "run": self.run}
        (began,) = (Run & {"run": self.run}).to_arrays("started")
        changes = (Change & own & f"changed_at >= '{began}'").to_arrays("new_values")
        return sum("relative_path" in (values or {}) for values in changes)

    def _listed_at_once(self) -> set[str]:
        """Return the resources that came in one answer, which is complete in itself."""
        pages = [page for page in self._pages() if page["scope"].get("complete") and not page["n_unread"]]
        whole = span(0, LAST_ID)
        return {p["resource"] for p in pages if p["scope"].get("range") == whole and p["n_records"] <= ROWS_PER_PART}

    def _plan_unread(self) -> Iterable[Part]:
        """Plan the details of sessions that were listed after details had been planned."""
        if self.choice.filters(RESOURCES["session-details"]):
            return ()
        return parts_of_ids("session-details", unread_details(self.source))

    def _late(self, stage: str) -> None:
        """Pull parents that were missing, then again what had to wait for them."""
        before: dict[str, dict[str, str]] = {}
        for number in range(LATE_ROUNDS):
            waiting = self._waiting()
            if waiting == before:  # none at all, or none that the last round has helped
                break
            self._stage(f"{stage}{number}-parents", lambda waiting=waiting: self._plan_parents(waiting))
            self._stage(f"{stage}{number}-details", self._plan_unread)
            self._stage(f"{stage}{number}", lambda waiting=waiting: _plan_again(waiting))
            before = waiting
        self.left_out.clear()
        for name, reasons in self._waiting().items():
            found = {reason: self._find_parent(reason) for reason in set(reasons.values())}
            failed = {key: f"{reason} {found[reason]}" for key, reason in reasons.items() if found[reason]}
            self.left_out[name] = len(reasons) - len(failed)
            for key in reasons.keys() - failed.keys():
                log.info("%s %s is left out: the server has no %s", name, key, reasons[key])
            record_failures(self.run, self.source, name, failed)

    def _find_parent(self, reason: str) -> str:
        """Say what is wrong with a missing parent; nothing when the server no longer has it either."""
        table, _, key = reason.partition(" ")
        name = OF_TABLE.get(table)
        if name not in NAMED_BY_ID or (OpenFailure & self.own & {"path": f"{name}/{key}"}):
            return "is not there, or could not be stored"
        try:
            pulled = pull(self.client, self.source, name, {"ids": [key]})
        except AlyxError as error:
            return f"can't be asked for: {error}"
        if pulled.broken:
            return f"can't be read: the server fails on it ({pulled.broken[0][1]})"
        return "is there, but could not be stored" if pulled.records else ""

    def _plan_parents(self, waiting: dict[str, dict[str, str]]) -> Iterator[Part]:
        missing: dict[str | None, set[str]] = defaultdict(set)
        for reasons in waiting.values():
            for reason in reasons.values():
                table, _, key = reason.partition(" ")
                missing[OF_TABLE.get(table)].add(key)
        for name in RESOURCES:
            if name in missing and name in NAMED_BY_ID:
                yield name, {"ids": sorted(missing[name])}
            elif name in missing:
                yield from plan_resource(self.client, self.choice, name)

    def _pages(self) -> list[dict[str, Any]]:
        return (SyncPage * SyncPart & {"run": self.run}).to_dicts(order_by="part")

    def _decided(self, field: str) -> dict[str, dict[str, Any]]:
        """Return resource -> what its pages say in a field; the page that read a record last decides."""
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for page in self._pages():
            before, said = found[page["resource"]], page[field]
            said = said if isinstance(said, dict) else dict.fromkeys(said)
            found[page["resource"]] = {k: v for k, v in before.items() if not _covers(page, k)} | said
        return found

    def _waiting(self) -> dict[str, dict[str, str]]:
        """Return resource -> id -> the parent that was missing when it was pulled last."""
        return {name: reasons for name, reasons in self._decided("postponed").items() if reasons}

    def _absent(self) -> dict[str, set[str]]:
        """Return resource -> ids that were missing from the last complete listing."""
        return defaultdict(set, {name: set(ids) for name, ids in self._decided("absent").items()})

    def _mark_vanished(self) -> None:
        """Mark rows whose records are gone, unless they are suspiciously many."""
        missing = self._missing_parts()
        for name, ids in self._absent().items():
            if not ids or name in missing:
                continue
            resource, known = RESOURCES[name], len(present_records(self.source, name))
            n_gone = len(ids) - (0 if resource.ranged else self._n_new(name))  # a name that is new was another before
            if n_gone >= VANISHED_AT_LEAST and n_gone > VANISHED_SHARE * known and not self.options.allow_vanished:
                self.held_back[name] = f"{n_gone} of {known} {name}"
                continue
            if resource.ranged == "id":  # the server may still have some when it is asked for them
                pulled = pull(self.client, self.source, name, {"ids": sorted(ids)})
                ids = set() if pulled.broken else ids - set(map(resource.record_id, pulled.records))
            self._mark(resource, sorted(ids))

    def _n_new(self, name: str) -> int:
        return sum(page["n_new"] for page in self._pages() if page["resource"] == name)

    def _mark(self, resource: Resource, ids: list[str]) -> None:
        names = (resource.name, "session-details") if resource.name == "sessions" else (resource.name,)

        def work(part: list[str]) -> None:
            mark_vanished(resource, part, self.run)
            for name in names:
                own = {"source": self.source, "resource": name}
                set_values(SourceRecord, {"vanished_in": self.run}, own, "record_id", part)

        for part in in_parts(ids):
            self.connection.run_transaction(lambda part=part: work(part))

    def _set_cursors(self) -> None:
        """Move the cursors to the largest stamps seen, now that everything up to them is in."""
        if not self.choice.is_whole:
            return
        stamps: dict[str, str] = {}
        pages = self._pages()
        unread = {page["resource"] for page in pages if page["n_unread"]}
        for page in pages:
            if page["resource"] in STAMPED and page["resource"] not in unread and page["largest_stamp"]:
                stamps[page["resource"]] = max(page["largest_stamp"], stamps.get(page["resource"], ""))
        for name, stamp in stamps.items():
            before, since = self.choice.cursors.get(name, ""), self.choice.since
            if stamp <= before or (since and not self.choice.full and since > before):
                continue
            row = {"source": self.source, "resource": name, "cursor_stamp": stamp, "run": self.run}
            write_rows(SyncCursor, [row], record=False)

    def _report(self) -> SyncReport:
        report = SyncReport(source=self.source, run=self.run)
        report.left_out = {name: count for name, count in self.left_out.items() if count}
        failed = (OpenFailure & self.own).to_dicts(order_by="path")
        for name in RESOURCES:
            gone = SourceRecord & {"source": self.source, "resource": name, "vanished_in": self.run}
            report.resources[name] = ResourceCounts(gone=len(gone) if name != "session-details" else 0)
        for page in self._pages():
            counts = report.resources[page["resource"]]
            counts.seen += page["n_records"]
            counts.new += page["n_new"]
            counts.changed += page["n_changed"]
            for table, numbers in page["written"].items():
                report.rows[table] = report.rows.get(table, UpsertCounts()) + UpsertCounts(*numbers)
            for table, number in page["outdated"].items():
                report.outdated[table] = report.outdated.get(table, 0) + number
        for row in failed:
            report.resources[row["path"].partition("/")[0]].failed += 1
            report.failures.append(IngestFailure(row["path"], row["error_class"], row["message"]))
        report.failed_parts = len((SyncPart & {"run": self.run}) - SyncPage.proj())
        report.held_back, report.url = list(self.held_back.values()), self.client.url
        report.add_up()
        return report

    def _finish(self, status: str, message: str, report: SyncReport) -> None:
        finished = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
        row = {"run": self.run, "status": status, "finished": finished, "counts": report.counts()}
        Run.update1({**row, "run_message": message[:2000]})


def _covers(page: dict[str, Any], record_id: str) -> bool:
    """Say whether a page has decided what becomes of a record."""
    scope = page["scope"]
    if "ids" in scope:
        return record_id in scope["ids"]
    if not scope.get("complete"):
        return False
    low, high = scope.get("range", ("", ""))
    return low <= record_id and (not high or record_id < high)


def _plan_again(waiting: dict[str, dict[str, str]]) -> Iterator[Part]:
    for name in RESOURCES:
        if ids := sorted(waiting.get(name, ())):
            if RESOURCES[name].ranged == "id":
                yield from parts_of_ids(name, ids, DETAILS_PER_PART if name == "session-details" else ROWS_PER_PART)
            else:
                yield name, {"complete": True, **({"range": span(0, LAST_ID)} if RESOURCES[name].ranged else {})}


def preview(url: str, source: str, labs: tuple[str, ...], options: Any) -> SyncReport:
    """Say what a sync would do; nothing is written, and details of sessions are counted, not read."""
    client = open_client(url, fresh=True)
    choice = make_choice(source, _asked(labs, options))
    report = SyncReport(source=source, dry_run=True)
    for name in RESOURCES:
        counts = report.resources[name] = ResourceCounts()
        if name == "session-details":
            counts.seen = counts.changed = len(due_details(client, choice))
            continue
        for _, scope in plan_resource(client, choice, name):
            compared = compare(source, name, scope, pull(client, source, name, scope))
            counts.seen += len(compared.digests)
            counts.new += len(compared.new)
            counts.changed += len(compared.changed)
            counts.gone += len(compared.absent)
    report.add_up()
    return report

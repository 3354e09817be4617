"""The job queues: filled in bulk, freed of dead workers, listed and put back.

A queue is DataJoint's own jobs table, so any number of machines share it and a bare
``Table.populate(reserve_jobs=True)`` joins in. What differs is how it is filled (one
bulk write instead of a statement per key) and how jobs of dead workers are found.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datajoint.condition import Not

from labweave import processes
from labweave.database import current, upsert
from labweave.database.changes import OUTDATED
from labweave.database.declare import every_table, is_computed
from labweave.database.inputs import OutOfDate, failed_on_others, find_table, is_name_of_results, out_of_date
from labweave.database.reads import in_parts, table_label
from labweave.database.sessions import sessions_of
from labweave.errors import SchemaError
from labweave.schemas.session import Session
from labweave.schemas.subject import Subject
from labweave.schemas.work import Worker

HEARTBEAT_SECONDS = 5
DEAD_AFTER_SECONDS = 60
"""A worker on another machine without a heartbeat for this long is dead."""

PRIORITY = 5
Restriction = Mapping[str, Any] | str | None


@dataclass(frozen=True)
class JobError:
    """One job that failed: its table, its key, the reason, when, and the traceback."""

    table: str
    key: dict[str, Any]
    reason: str
    time: dt.datetime | None
    traceback: str


def computed_tables(names: Sequence[str] | None = None) -> list[Any]:
    """Return the tables that labweave fills by itself, in the order in which they need each other.

    Parameters
    ----------
    names : sequence of str, optional
        Class names, with or without their module; all tables by default.

    Raises
    ------
    SchemaError
        No such table has this name.
    """
    tables = [cls() for cls in every_table() if is_computed(cls)]
    if names is None:
        return tables
    known = {table_label(table).lower(): table for table in tables} | {
        type(table).__name__.lower(): table for table in tables
    }
    if unknown := [name for name in names if name.lower() not in known]:
        raise SchemaError(
            f"No table is called {', '.join(unknown)} and made by populate. "
            f"There are: {', '.join(map(table_label, tables))}."
        )
    chosen = {table_label(known[name.lower()]) for name in names}
    return [table for table in tables if table_label(table) in chosen]


def key_source(table: Any) -> Any:
    """Return the keys that a table is made for."""
    source = table.key_source
    return source() if isinstance(source, type) else source


def restrict(table: Any, restriction: Restriction) -> Any:
    """Return the keys that `table` is made for, restricted by its own key, its session or its subject.

    A table that has none of a restriction's names has no such keys.
    """
    source = key_source(table)
    if not restriction:
        return source
    if isinstance(restriction, str):
        return source & restriction
    own = {name: value for name, value in restriction.items() if name in source.heading.names}
    other = {name: value for name, value in restriction.items() if name not in own}
    if own:
        source = source & own
    if not other:
        return source
    sessions = Session * Subject.proj("species")
    if "eid" not in source.primary_key or not other.keys() <= set(sessions.heading.names):
        return source & []
    return source & (sessions & other).proj()


def check_restriction(restriction: Restriction) -> None:
    """Refuse names that no table has; DataJoint would ignore them and match everything.

    Raises
    ------
    SchemaError
        Lists the names that can be used.
    """
    if not isinstance(restriction, Mapping):
        return
    known = {name for table in computed_tables() for name in table.primary_key}
    known |= set(Session().heading.names) | {"species"}
    if unknown := sorted(set(restriction) - known):
        raise SchemaError(f"Can't restrict by {', '.join(unknown)}. Known names: {', '.join(sorted(known))}.")


def fill(table: Any, restriction: Restriction = None) -> int:
    """Put every key that is still to be made into the table's queue, and return how many were new.

    Waiting and failed jobs whose inputs are gone leave the queue; failed ones whose inputs changed wait again.
    """
    todo, jobs = restrict(table, restriction), table.jobs
    gone = (jobs & "status in ('pending', 'error')").restrict(Not(key_source(table).proj()), semantic_check=False)
    if gone:
        _delete_jobs(table, gone.keys())
    _delete_jobs(table, failed_on_others(table))
    keys = (todo.proj() - table.proj()).restrict(Not(jobs.proj()), semantic_check=False).keys()
    rows = [{**key, "status": "pending", "priority": PRIORITY} for key in keys]
    return upsert(jobs, rows, update=False).inserted if rows else 0


def pending_keys(table: Any, restriction: Restriction = None, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the keys waiting in a queue, the most urgent first, then the oldest, then by key."""
    queue = _jobs(table, "pending", restriction)
    return queue.keys(order_by=["priority", "created_time", *queue.primary_key], limit=limit)


def put_back(table: Any, key: Mapping[str, Any], reservation: Mapping[str, Any] | None = None) -> bool:
    """Make a reserved or failed job wait again, and say whether it was there.

    With a `reservation` (a row of the queue), do so only if it still holds: another process
    may have put the job back, and a third one taken it.
    """
    jobs = table.jobs
    own = {name: key[name] for name in jobs.primary_key}
    state = {name: reservation[name] for name in ("status", "host", "pid", "connection_id")} if reservation else {}
    found = bool((jobs & own & state).delete_quick(get_count=True))
    if (found or not reservation) and not table & own:
        upsert(jobs, [{**own, "status": "pending", "priority": PRIORITY}], update=["status"])
    return found


def put_back_own(table: Any, key: Mapping[str, Any]) -> bool:
    """Make a job wait again that this process has reserved in a session it has lost, and say whether there was one."""
    live = {session.number for session in sessions_of(table.connection)}
    own = {name: key[name] for name in table.jobs.primary_key}
    taken = (table.jobs & own & {"status": "reserved", "host": host_name(), "pid": os.getpid()}).to_dicts()
    return any(put_back(table, key, job) for job in taken if job["connection_id"] not in live)


def free_orphans(table: Any) -> list[dict[str, Any]]:
    """Put back the jobs that dead workers had reserved, and return those rows of the queue.

    A worker on this machine is dead when its process is gone, or is younger than the
    reservation. A worker elsewhere is dead when its last heartbeat is more than a minute old;
    without any heartbeat (DataJoint's own populate), when its database session is gone.
    A slow worker that is alive keeps its job however long it takes.
    """
    jobs = table.jobs
    reserved = (jobs & {"status": "reserved"}).to_dicts()
    if not reserved:
        return []
    workers = {(row["host"], row["pid"]): row for row in Worker().to_dicts()}
    now = table.connection.now()
    sessions, user = table.connection.adapter.session_ids(table.connection), table.connection.get_user()
    freed = []
    for job in reserved:
        worker = workers.get((job["host"], job["pid"]))
        if _is_dead(job, worker, now, sessions, user) and put_back(table, job, job):
            freed.append(job)
    return freed


def _is_dead(
    job: Mapping[str, Any], worker: Mapping[str, Any] | None, now: dt.datetime, sessions: set[int], user: str
) -> bool:
    reserved = job["reserved_time"] + dt.timedelta(milliseconds=2)  # kept to the millisecond
    if worker is not None and worker["started"] > reserved:
        return True
    if job["host"] == host_name():
        return not processes.lives(job["pid"], (now - job["reserved_time"]).total_seconds())
    if worker is not None:
        return (now - worker["heartbeat"]).total_seconds() > DEAD_AFTER_SECONDS
    # MySQL may show a user no other user's sessions.
    return job["user"].partition("@")[0] == user.partition("@")[0] and job["connection_id"] not in sessions


def host_name() -> str:
    """Return this machine's name, as DataJoint writes it into its jobs."""
    import platform

    return platform.node() or socket.gethostname()


def outdated(table: Any, restriction: Restriction = None) -> list[OutOfDate]:
    """Return the results of a table that would come out otherwise now, and why."""
    chosen = table & restrict(table, restriction).proj() if restriction else table
    found = out_of_date(chosen)
    if any(one.only_versions for one in found):
        # Files that are away can't be read by another version: what was found in them stays.
        names = table.primary_key
        can_be_made = {tuple(key[name] for name in names) for key in key_source(table).proj()}
        found = [one for one in found if not one.only_versions or tuple(one.key.values()) in can_be_made]
    if (changed_outside := getattr(table, "changed_outside", None)) and (keys := changed_outside()):
        known = {tuple(one.key.values()) for one in found}
        names = table.primary_key
        there = {tuple(key[name] for name in names) for key in (chosen & keys)}
        found += [OutOfDate(dict(zip(names, key, strict=True)), ["its files changed"]) for key in there - known]
    return found


def delete_outdated(
    table: Any, restriction: Restriction = None
) -> tuple[list[OutOfDate], list[tuple[dict[str, Any], str]]]:
    """Delete the results of a table that would come out otherwise now, with the results that rest on them.

    Returns
    -------
    tuple of list
        Those that were deleted; and the keys of those that stay because a person's row hangs on them, which nobody
        could make again, with what is to be done.
    """
    found = outdated(table, restriction)
    held = _held(table, [one.key for one in found]) if found else {}
    gone = [one for one in found if tuple(one.key.values()) not in held]
    with table.connection.deleting(OUTDATED):
        for part in in_parts(gone):
            (table & [one.key for one in part]).delete(prompt=False)
    return gone, [(one.key, held[key]) for one in found if (key := tuple(one.key.values())) in held]


def _held(table: Any, keys: Sequence[Mapping[str, Any]]) -> dict[tuple, str]:
    """Return the keys of results that a person's row hangs on, and what is to be done."""
    held: dict[tuple, str] = {}
    table.connection.dependencies.load()
    for name in table.descendants():
        other = find_table(table.connection, name)
        if is_name_of_results(name) or "__" in other.table_name.lstrip("_"):  # a part goes with its master
            continue
        if not set(table.primary_key) <= set(other.heading.names):
            continue
        for part in in_parts(keys):
            for row in (other & part).to_dicts():
                hanging = ", ".join(f"{name} {row[name]}" for name in other.primary_key)
                held[tuple(row[name] for name in table.primary_key)] = (
                    f"it is to be made again, but the row {hanging} of {table_label(other)} hangs on it. "
                    "Delete that row, then populate again."
                )
    return held


def counts(table: Any) -> dict[str, int]:
    """Return how many keys are made, pending, reserved and failed."""
    source = key_source(table)
    queue = table.jobs.progress()
    to_make = len(source.proj() - table.proj())
    return {
        "made": len(table),
        "pending": max(0, to_make - queue.get("error", 0) - queue.get("reserved", 0) - queue.get("ignore", 0)),
        "reserved": queue.get("reserved", 0),
        "failed": queue.get("error", 0),
    }


def errors(tables: Sequence[str] | None = None) -> list[JobError]:
    """Return the failed jobs with their reasons, the newest first.

    Parameters
    ----------
    tables : sequence of str, optional
        Only of these tables.

    Examples
    --------
    >>> from labweave import populate
    >>> populate.errors(["Rheobase"])
    []
    """
    current()
    found = []
    for table in computed_tables(tables):
        jobs = table.jobs
        for row in (jobs & {"status": "error"}).to_dicts():
            key = {name: row[name] for name in jobs.primary_key}
            found.append(
                JobError(
                    table_label(table), key, row["error_message"], row["completed_time"], str(row["error_stack"] or "")
                )
            )
    return sorted(found, key=lambda item: item.time or dt.datetime.min, reverse=True)


def retry(tables: Sequence[str] | None = None, restriction: Restriction = None) -> int:
    """Put failed jobs back into their queues, and return how many.

    Parameters
    ----------
    tables : sequence of str, optional
        Only of these tables.
    restriction : mapping, optional
        Only of these keys.

    Examples
    --------
    >>> from labweave import populate
    >>> populate.retry(["Rheobase"], {"cell": "sim01"})
    0
    """
    current()
    check_restriction(restriction)
    count = 0
    for table in computed_tables(tables):
        failed = _jobs(table, "error", restriction)
        if n := len(failed):
            _delete_jobs(table, failed.keys())
            count += n
    return count


def _jobs(table: Any, status: str, restriction: Restriction) -> Any:
    """Return the jobs of one status, restricted like the keys that `table` is made for."""
    jobs = table.jobs & {"status": status}
    return jobs.restrict(restrict(table, restriction).proj(), semantic_check=False) if restriction else jobs


def _delete_jobs(table: Any, keys: Sequence[Mapping[str, Any]]) -> None:
    for part in in_parts(keys):
        (table.jobs & part).delete_quick()

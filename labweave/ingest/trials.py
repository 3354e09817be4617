"""The rows of a task run and its trials, as every source of trials writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from labweave.ingest.base import Refused, Row
from labweave.schemas import task

Gave = Callable[[type], list[dict[str, Any]]]
"""Returns the keys of a table's rows that a unit gave before."""


def run_rows(
    key: Mapping[str, str],
    run: Mapping[str, Any],
    trials: Sequence[Mapping[str, Any]],
    unlike: str = "",
    gave: Gave = lambda table: [],
) -> Iterator[Row | Refused]:
    """Yield a task, a run of it and its trials; of a damaged run, what could not be read.

    Parameters
    ----------
    key : mapping
        ``eid`` and ``task``.
    run : mapping
        Other attributes of `task.TaskRun`.
    trials : sequence of mapping
        Other attributes of `task.Trial`, in the order of their file.
    unlike : str, optional
        ``task``, to refuse a run of a task that differs by case alone from another of the session.
    gave : callable, optional
        Returns the keys of a table's rows that an earlier run has read of the unit: of a damaged run, which may be a
        copy under way, the trials that can't be read now stay.
    """
    is_damaged = run["run_status"] == "damaged"
    others = gave(task.Trial) if is_damaged else []
    kept = [own for own in others if key.items() <= own.items() and own["trial"] >= len(trials)]
    yield Row(task.Task, {"task": key["task"]})
    yield Row(task.TaskRun, {**key, **run, "n_run_trials": len(trials) + len(kept)}, unlike=unlike)
    for trial, values in enumerate(trials):
        yield Row(task.Trial, {**key, "trial": trial, "trial_vanished": False, **values})
    yield from (Row(task.Trial, own) for own in kept)
    if is_damaged:
        found = "; ".join(map(str, run["run_problems"] or ["it is damaged"]))
        yield Refused(f"{run['run_path']}#{key['task']}", f"{run['run_path']}: {found}. What can be read is in.")

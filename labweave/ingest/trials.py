"""The rows of a task run and its trials, as every source of trials writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from labweave.ingest.base import Row
from labweave.schemas import task


def run_rows(
    key: Mapping[str, str], run: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], unlike: str = ""
) -> Iterator[Row]:
    """Yield a task, a run of it and its trials.

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
    """
    yield Row(task.Task, {"task": key["task"]})
    yield Row(task.TaskRun, {**key, **run, "n_run_trials": len(trials)}, unlike=unlike)
    for trial, values in enumerate(trials):
        yield Row(task.Trial, {**key, "trial": trial, "trial_vanished": False, **values})

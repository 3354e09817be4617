"""Trials objects of a session as runs of a task: a row per trial, attributes with their types."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from labweave.errors import ReadError, SourceError
from labweave.formats.alf.bunch import MOST_COLUMNS
from labweave.formats.alf.exceptions import ALFError
from labweave.formats.alf.load import load_object
from labweave.formats.alf.names import parse_name
from labweave.formats.columns import kind_of
from labweave.formats.plain import plain_json
from labweave.ingest.alf.rows import Plan, Stored
from labweave.ingest.base import Refused, Row
from labweave.ingest.trials import Gave, run_rows
from labweave.schemas import session, task
from labweave.schemas.ingestion import Source

MAIN_COLLECTIONS = ("", "alf")
MAIN_NAMESPACES = ("", "ibl")


class TrialsObject(NamedTuple):
    """The files of one trials object."""

    collection: str
    namespace: str
    """Empty for the lab's own and for those without one, which belong together."""
    files: list[Path]


class Table(NamedTuple):
    """What the files hold, as a column per attribute."""

    columns: dict[str, tuple[str, list[Any]]]
    start: list[float | None] | None
    stop: list[float | None] | None
    n_trials: int
    problems: list[str]
    is_damaged: bool


def trial_rows(
    eid: str,
    root: Path,
    below: str,
    plan: Plan,
    stored: Sequence[Stored],
    source: str,
    gave: Gave,
    trust_pickles: bool = False,
) -> Iterator[Row | Refused]:
    """Yield the runs and trials of a session folder.

    Parameters
    ----------
    eid : str
    root : Path
        Of the repository.
    below : str
        The session's folder, as it is below the source's location.
    plan : Plan
        Of the session's datasets: what is the default is read.
    stored : sequence of Stored
    source : str
    gave : callable
        Returns the keys of a table's rows that an earlier run has read of the folder.
    trust_pickles : bool, default: False

    Raises
    ------
    SourceError
        A run of this name came from a source of another kind.
    """
    for found in _find_objects(root, plan, stored):
        run_path = "/".join(filter(None, (below.strip("."), found.collection, _object_name(found))))
        key = {"eid": eid, "task": _task_of(eid, source, run_path, found)}
        _check_other(key, source)
        table = _read(found.files, trust_pickles)
        status = "half_written" if table.problems else "complete"
        status = "damaged" if table.is_damaged else status if table.n_trials else "empty"
        run = {
            "run_path": run_path,
            "run_status": status,
            "run_columns": [[name, kind] for name, (kind, _) in table.columns.items()],
            "run_problems": table.problems or None,
        }
        yield from run_rows(key, run, list(_trials_of(table)), gave=gave)


def _find_objects(root: Path, plan: Plan, stored: Sequence[Stored]) -> list[TrialsObject]:
    """Return the trials objects among the default revisions of a session's files."""
    defaults = {one.dataset_id for one in stored if one.is_default}
    groups: dict[tuple[str, str], list[Path]] = {}
    for file, dataset_id, values in plan.files:
        parts = parse_name(file.place.name)
        if parts is None or parts.object != "trials":
            continue
        if values.get("is_default", dataset_id in defaults):
            namespace = "" if (parts.namespace or "") in MAIN_NAMESPACES else parts.namespace or ""
            groups.setdefault((file.place.collection, namespace), []).append(root / file.file)
    return [TrialsObject(*key, sorted(set(files))) for key, files in sorted(groups.items())]


def _object_name(found: TrialsObject) -> str:
    return f"_{found.namespace}_trials" if found.namespace else "trials"


def _task_of(eid: str, source: str, run_path: str, found: TrialsObject) -> str:
    """Return the name of a run's task: as it was, or the session's protocol, with what tells several runs apart."""
    known = (task.TaskRun & {"eid": eid, "source": source, "run_path": run_path}).to_arrays("task").tolist()
    if known:
        return min(known)
    protocol = (session.Session & {"eid": eid}).to_arrays("task_protocol").tolist()
    parts = [protocol[0] if protocol and protocol[0] else "trials"]
    if found.collection not in MAIN_COLLECTIONS:
        parts.append(found.collection.removeprefix("alf/"))
    if found.namespace:
        parts.append(found.namespace)
    return "/".join(parts)[-128:]


def _check_other(key: Mapping[str, str], source: str) -> None:
    """Refuse a run of another adapter: its trials are not these."""
    others = (task.TaskRun & key).to_arrays("source").tolist()
    if not others or others[0] in (source, None):
        return
    adapter = (Source & {"source": others[0]}).to_arrays("adapter").tolist()
    if adapter != ["alf"]:
        raise SourceError(
            f"Task {key['task']!r} of session {key['eid']} has trials already, from the source {others[0]}. "
            "Ingest without --trials, or remove that run."
        )


def _read(files: Sequence[Path], trust_pickles: bool) -> Table:
    """Return what the files of an object hold; a file that can't be read is a problem, not the end."""
    problems: list[str] = []
    bunch: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            bunch.update(load_object(files, trust_pickles=trust_pickles))
        except (ALFError, AssertionError, ReadError):
            for file in files:
                try:
                    one = load_object([file], trust_pickles=trust_pickles)
                except (ALFError, AssertionError, ReadError) as error:
                    problems.append(str(error))
                    continue
                if twice := sorted(bunch.keys() & one.keys()):
                    problems.append(f"{file.name}: {', '.join(twice)} is in another file, too")
                bunch.update({name: value for name, value in one.items() if name not in bunch})
    is_damaged = bool(problems)
    problems += [str(one.message) for one in told if one.category.__name__ == "ALFWarning"]
    columns: dict[str, tuple[str, list[Any]]] = {}
    for name, value in bunch.items():
        try:
            columns.update(list(_columns_of(name, value, problems)))
        except ValueError as error:
            problems.append(f"{name}: {error}; it stays in its file")
    lengths = Counter(len(values) for _, values in columns.values())
    n_trials = max(lengths, key=lambda length: (lengths[length], length), default=0)
    for name, (kind, values) in columns.items():
        if len(values) != n_trials:
            problems.append(f"{name} has {len(values)} rows, most others have {n_trials}")
            columns[name] = kind, (values + [None] * n_trials)[:n_trials]
    start, stop = (columns.pop(f"intervals_{n}", (None, None))[1] for n in (0, 1))
    return Table(columns, start, stop, n_trials, problems, is_damaged)


def _columns_of(name: str, value: Any, problems: list[str]) -> Iterator[tuple[str, tuple[str, list[Any]]]]:
    """Yield an attribute as columns of plain values with their kind."""
    if isinstance(value, pd.DataFrame):
        for column in value.columns:
            yield f"{name}_{column}", _typed(value[column].to_numpy())
    elif isinstance(value, (pd.Series, np.ndarray)) and np.ndim(value) == 1:
        yield name, _typed(np.asarray(value))
    elif isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] <= MOST_COLUMNS:
        for index in range(value.shape[1]):
            yield f"{name}_{index}", _typed(value[:, index])
    elif isinstance(value, list):
        values = [plain_json(item) for item in value]
        yield name, (kind_of(values), values)
    elif isinstance(value, np.ndarray):
        problems.append(f"{name} has the shape {value.shape}, which is no value per trial: it stays in its file")
    elif not name.endswith("metadata"):
        problems.append(f"{name} is no table or array ({type(value).__name__}): it stays in its file")


def _typed(values: np.ndarray) -> tuple[str, list[Any]]:
    kind = {"b": "bool", "i": "int", "u": "int", "f": "float"}.get(values.dtype.kind)
    if values.dtype.kind == "M":
        return "text", [None if pd.isna(item) else pd.Timestamp(item).isoformat() for item in values]
    listed = values.tolist()
    if kind is None:
        listed = [item if isinstance(item, (str, type(None))) else plain_json(item) for item in listed]
    return kind or kind_of(listed), listed


def _trials_of(table: Table) -> Iterator[dict[str, Any]]:
    floats = [name for name, (kind, _) in table.columns.items() if kind == "float"]
    for trial in range(table.n_trials):
        attributes = {name: values[trial] for name, (_, values) in table.columns.items()}
        texts = {name: str(attributes[name]) for name in floats if attributes[name] in (np.inf, -np.inf)}
        yield {
            "trial_start": _finite(table.start, trial),
            "trial_stop": _finite(table.stop, trial),
            "trial_attributes": plain_json(attributes),
            "trial_text": texts or None,
        }


def _finite(values: list[float | None] | None, trial: int) -> float | None:
    value = values[trial] if values is not None else None
    return value if value is not None and np.isfinite(value) else None

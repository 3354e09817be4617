"""Trials as a table, and the logs that were recorded with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datajoint as dj
import pandas as pd

from labweave.database import current
from labweave.errors import ReadError, SchemaError
from labweave.formats.columns import attribute_columns, merge_kinds, typed_column
from labweave.formats.hashing import sha256_of_file
from labweave.formats.places import CHANGED, GONE, find_stored
from labweave.schemas.ingestion import Source
from labweave.schemas.session import Session
from labweave.schemas.task import EventLog, TaskRun, Trial

FIXED_COLUMNS = {"eid": "text", "task": "text", "trial": "int", "block": "int", "block_trial": "int"}
FIXED_COLUMNS |= {"trial_start": "float", "trial_stop": "float", "outcome": "text"}
"""Column -> kind, of what every table of trials has first."""


def trials_frame(restriction: Any = True) -> pd.DataFrame:
    """Return trials as a table with a column per attribute.

    Parameters
    ----------
    restriction : mapping, str or query, default: True
        Which trials. A mapping may also name attributes of `TaskRun` and `Session`, for example
        ``{"task": "reaching", "subject": "p00"}``.

    Returns
    -------
    DataFrame
        Rows in the order of eid, task and trial. The columns are these three, then what `Trial` knows, then the
        attributes in the order of their file: int64 (Int64 where some are missing), float64, bool (boolean), text.
        An attribute named like an earlier column gets ``_attribute`` behind its name. Trials that vanished from
        their files are left out.

    Raises
    ------
    SchemaError
        A mapping names what is no attribute.

    Examples
    --------
    >>> from labweave.analysis import trials_frame
    >>> trials = trials_frame({"task": "reaching"})
    >>> list(trials.columns)[:5]
    ['eid', 'task', 'trial', 'block', 'block_trial']
    >>> int(trials["trial"].isna().sum())
    0
    """
    current()
    trials = _restrict(restriction) & {"trial_vanished": False}
    kinds: dict[str, set[str]] = {}
    for run in (TaskRun & trials).proj("run_columns").to_dicts():
        for name, kind in run["run_columns"] or ():
            kinds.setdefault(name, set()).add(kind)
    # DataJoint would decode JSON row by row; as text it comes in one piece, which json reads at once.
    order = [*FIXED_COLUMNS, "attribute_json", "text_json"]
    wanted = trials.proj(
        *order[3:-2], attribute_json="concat(trial_attributes, '')", text_json="concat(trial_text, '')"
    )
    place = [wanted.heading.names.index(name) for name in order]
    rows = (wanted & dj.Top(limit=None, order_by="KEY")).cursor().fetchall()
    columns = {name: [row[index] for row in rows] for name, index in zip(order, place, strict=True)}
    attributes, texts = (_parse(columns.pop(name)) for name in ("attribute_json", "text_json"))
    frame = {name: typed_column(values, FIXED_COLUMNS[name]) for name, values in columns.items()}
    merged = {name: merge_kinds(found) for name, found in kinds.items()}
    for name, values in attribute_columns(attributes, texts, merged).items():
        frame[f"{name}_attribute" if name in frame else name] = values
    return pd.DataFrame(frame)


def _restrict(restriction: Any) -> Any:
    """Return `Trial`, restricted also by attributes of its run and session."""
    if not isinstance(restriction, Mapping):
        return Trial & restriction
    trials, runs = Trial(), TaskRun * Session
    own = {name: value for name, value in restriction.items() if name in trials.heading.names}
    others = {name: value for name, value in restriction.items() if name not in own}
    if unknown := [name for name in others if name not in runs.heading.names]:
        raise SchemaError(
            f"Trial, TaskRun and Session have no attribute {', '.join(unknown)}. "
            f"They have: {', '.join(dict.fromkeys([*trials.heading.names, *runs.heading.names]))}."
        )
    return trials & own & (runs & others).proj() if others else trials & own


def _parse(texts: list[str | None]) -> list[Any]:
    """Return the values of JSON texts, None for those that are missing or empty."""
    return json.loads(f"[{','.join([text or 'null' for text in texts])}]")


def read_event_log(restriction: Any = True) -> pd.DataFrame:
    """Read one event log from its file.

    Parameters
    ----------
    restriction : mapping, str or query, default: True
        Which log, for example ``{"eid": eid, "log_name": "behavior"}``; exactly one.

    Returns
    -------
    DataFrame
        Columns in the order of the file; the time, in s from the start of the run, is ``t``.

    Raises
    ------
    SchemaError
        There is no such log, or several.
    ReadError
        The file is gone, or not the one that was ingested.

    Examples
    --------
    >>> from labweave.analysis import read_event_log
    >>> read_event_log({"task": "no such task"})
    Traceback (most recent call last):
    labweave.errors.SchemaError: 0 event logs are like {'task': 'no such task'}. Restrict to one by eid, task and ...
    """
    from labweave.formats.stytra import read_log

    current()
    found: list[dict[str, Any]] = (EventLog & restriction).to_dicts()
    if len(found) != 1:
        raise SchemaError(f"{len(found)} event logs are like {restriction}. Restrict to one by eid, task and log_name.")
    stored = found[0]["log_file"]
    folder, name = find_stored(stored, (Source & {"source": stored["source"]}).fetch1("location"))
    path = Path(str(folder), name)
    if not path.is_file():
        raise ReadError(path, "the file is gone", GONE)
    if sha256_of_file(path) != stored["sha256"]:
        raise ReadError(path, "it is not the one that was ingested", CHANGED)
    return read_log(path)

"""Tasks: what subjects did, trial by trial, and the arrays and logs recorded meanwhile."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import datajoint as dj
import pandas as pd

from labweave.errors import ReadError, SchemaError, SourceError
from labweave.formats.columns import attribute_columns, merge_kinds, typed_column
from labweave.schemas.ingestion import Source
from labweave.schemas.session import Session

schema = dj.Schema()


class HDF5ArrayCodec(dj.Codec):
    """An array that stays in the file of its source and is read when it is fetched.

    Stored is a mapping: ``source``, ``path`` (posix, below the source's location), ``member`` (of a zip
    archive), ``dataset`` (name in the HDF5 file) and ``sha256`` (of the array's bytes in C order). Fetching
    raises ReadError when the file is gone, or the array is not the one that was ingested.
    """

    name = "hdf5_array"

    def get_dtype(self, is_store):
        """Return the type of the column."""
        return "json"

    def encode(self, value, *, key=None, context=None, store_name=None):
        """Return what is stored."""
        return dict(value)

    def decode(self, stored, *, key=None, context=None):
        """Return the array."""
        from labweave.formats.axopy.arrays import ArrayFile

        folder, name = _open_place(stored)
        try:
            with ArrayFile(folder, name) as file:
                array = file.read(stored["dataset"])
        except FileNotFoundError:
            raise ReadError(
                folder / name, "the file is gone", "Is its disk mounted? Else ingest its source again."
            ) from None
        if array_sha256(array) != stored["sha256"]:
            raise ReadError(
                folder / name,
                f"the dataset {stored['dataset']} is not the one that was ingested",
                "Ingest its source again.",
            )
        return array


def array_sha256(array):
    """Return the sha256 of an array's bytes in C order, as 64 hexadecimal digits."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def _open_place(stored):
    """Return folder and name of the file of a stored array."""
    location = Path((Source & {"source": stored["source"]}).fetch1("location"))
    root = (location if location.is_dir() else location.parent).resolve()
    path = (root / stored["path"]).resolve()
    if not path.is_relative_to(root):
        raise SourceError(f"{stored['path']} leaves the source's folder {root}. Ingest the source again.")
    if "member" not in stored:
        return path.parent, path.name
    if not path.is_file():
        raise ReadError(path, "the archive is gone", "Is its disk mounted? Else ingest its source again.")
    folder, _, name = stored["member"].rpartition("/")
    return zipfile.Path(path, f"{folder}/"), name


@schema
class Task(dj.Manual):
    definition = """
    # one task: what subjects are asked to do
    task                : varchar(128)      # name, for example reaching
    ---
    task_description='' : varchar(1000)     # in words
    task_json=null      : json              # what else the source says
    """


@schema
class TaskRun(dj.Manual):
    definition = """
    # one run of a task in a session
    -> Session
    -> Task
    ---
    -> [nullable] Source
    run_path=''         : varchar(512)      # its folder or file below the source's location
    run_status          : enum('complete', 'half_written', 'damaged', 'empty') # of its files
    n_run_trials        : int32             # trials in its files now
    run_columns=null    : json              # [attribute, int float bool text or null], in the order of the file
    run_problems=null   : json              # what is wrong with its files, in words
    run_parameters=null : json              # what it was started with
    run_json=null       : json              # what else the source says
    """


@schema
class Trial(dj.Manual):
    definition = """
    # one trial
    -> TaskRun
    trial               : int32             # counts from 0 in the order they ran; row of its file
    ---
    block=null          : int32             # counts from 0
    block_trial=null    : int32             # its number in the block as designed, from 0
    trial_start=null    : float64           # s, on the clock of the session
    trial_stop=null     : float64           # s, on the clock of the session
    outcome=''          : varchar(64)       # for example correct, missed
    trial_attributes=null : json            # attribute and typed value
    trial_text=null     : json              # text in the file, where it says more than the value: digits, infinity
    trial_vanished=0    : bool              # its file no longer has it
    """


@schema
class TrialArray(dj.Manual):
    definition = """
    # one array of one trial
    -> Trial
    array_name          : varchar(64)       # for example emg
    ---
    array_shape         : json              # list of lengths
    array_dtype         : varchar(64)       # as numpy writes it, for example <f8
    trial_array         : <hdf5_array>      # read from its file when it is fetched
    """


@schema
class EventLog(dj.Manual):
    definition = """
    # one log of a task run: a table with a row per event or frame
    -> TaskRun
    log_name            : varchar(64)       # for example stimulus, behavior, estimator
    ---
    n_log_rows          : int64             # rows
    log_columns         : json              # list of names
    log_file            : json              # path below the source's location, format, sha256
    """


def read_event_log(restriction=True):
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
    """
    from labweave.formats.hashing import sha256_of_file
    from labweave.formats.stytra import read_log

    found = (EventLog & restriction).to_dicts()
    if len(found) != 1:
        raise SchemaError(f"{len(found)} event logs are like {restriction}. Restrict to one by eid, task and log_name.")
    stored = found[0]["log_file"]
    folder, name = _open_place(stored)
    path = folder / name
    if not path.is_file():
        raise ReadError(path, "the file is gone", "Is its disk mounted? Else ingest its source again.")
    if sha256_of_file(path) != stored["sha256"]:
        raise ReadError(path, "it is not the one that was ingested", "Ingest its source again.")
    return read_log(path)


FIXED_COLUMNS = {"eid": "text", "task": "text", "trial": "int", "block": "int", "block_trial": "int"}
FIXED_COLUMNS |= {"trial_start": "float", "trial_stop": "float", "outcome": "text"}


def trials_frame(restriction=True):
    """Return trials as a table with a column per attribute.

    Parameters
    ----------
    restriction : mapping, str or query, default: True
        Which trials; a mapping may also name attributes of `TaskRun` and `Session`, for example
        ``{"task": "reaching", "subject": "p00"}``.

    Returns
    -------
    DataFrame
        In the order of eid, task and trial, with these as columns, then what `Trial` knows, then the attributes in
        the order of their file: int64 (Int64 where some are missing), float64, bool (boolean), text. An attribute
        named like an earlier column gets ``_attribute`` behind its name. Trials that vanished from their files are
        left out.

    Raises
    ------
    SchemaError
        A mapping names what is no attribute.
    """
    trials = _restrict(restriction) & {"trial_vanished": False}
    kinds = {}
    for run in (TaskRun & trials).proj("run_columns").to_dicts():
        for name, kind in run["run_columns"] or ():
            kinds.setdefault(name, set()).add(kind)
    wanted = trials.proj(
        *list(FIXED_COLUMNS)[3:], attribute_json="concat(trial_attributes, '')", text_json="concat(trial_text, '')"
    )
    order = [*FIXED_COLUMNS, "attribute_json", "text_json"]
    place = [wanted.heading.names.index(name) for name in order]
    rows = (wanted & dj.Top(limit=None, order_by="KEY")).cursor().fetchall()
    fetched = list(zip(*rows, strict=True)) if rows else [()] * len(order)
    columns = dict(zip(order, (list(fetched[index]) for index in place), strict=True))
    attributes, texts = (_parse(columns.pop(name)) for name in ("attribute_json", "text_json"))
    frame = {name: typed_column(values, FIXED_COLUMNS[name]) for name, values in columns.items()}
    merged = {name: merge_kinds(found) for name, found in kinds.items()}
    for name, values in attribute_columns(attributes, texts, merged).items():
        frame[f"{name}_attribute" if name in frame else name] = values
    return pd.DataFrame(frame)


def _restrict(restriction):
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


def _parse(texts):
    """Return the values of JSON texts, None for those that are missing or empty."""
    return json.loads(f"[{','.join([text or 'null' for text in texts])}]")

"""Tasks: what subjects did, trial by trial, and the arrays and logs recorded meanwhile."""

import hashlib

import datajoint as dj

from labweave.errors import ReadError
from labweave.formats.places import CHANGED, GONE, find_stored
from labweave.schemas.ingestion import Source
from labweave.schemas.session import Session

schema = dj.Schema()


class HDF5ArrayCodec(dj.Codec):
    """An array that stays in the file of its source and is read when it is fetched.

    The database stores a mapping: ``source``, ``path`` (posix, below the source's location), ``member``
    (of a zip archive), ``dataset`` (name in the HDF5 file) and ``sha256`` (of the array's bytes in C order).
    Fetching raises ReadError when the file is gone, or the array is not the one that was ingested.
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
        from labweave.formats.axopy.arrays import read_one_of_many

        folder, name = find_stored(stored, (Source & {"source": stored["source"]}).fetch1("location"))
        try:
            array = read_one_of_many(folder, name, stored["dataset"])
        except FileNotFoundError:
            raise ReadError(folder / name, "the file is gone", GONE) from None
        if hashlib.sha256(array.tobytes()).hexdigest() != stored["sha256"]:
            found = f"the dataset {stored['dataset']} is not the one that was ingested"
            raise ReadError(folder / name, found, CHANGED)
        return array


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

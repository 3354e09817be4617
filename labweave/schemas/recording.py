"""Recordings: patched cells, their sweeps, and the stimulus found in each sweep."""

import warnings

import datajoint as dj

from labweave import ephys
from labweave.formats.plain import plain_json
from labweave.schemas.deletion import LeavesMasters
from labweave.schemas.ingestion import Source
from labweave.schemas.session import Session

schema = dj.Schema()


@schema
class Protocol(LeavesMasters, dj.Manual):
    definition = """
    # one stimulus protocol
    protocol            : varchar(64)       # name, for example IDrest; tells its eCode
    """


@schema
class Cell(LeavesMasters, dj.Manual):
    definition = """
    # one patched cell
    -> Session
    cell                : varchar(64)       # name, unique in its session
    ---
    cell_type=''        : varchar(64)       # for example L5PC
    ljp=null            : float64           # mV, liquid junction potential, subtracted from the voltage
    cell_json=null      : json              # what else the source says
    """


@schema
class Recording(dj.Manual):
    definition = """
    # one sweep of one cell under one protocol
    -> Cell
    -> Protocol
    recording           : varchar(200)      # path of its file below the source, and the sweep
    ---
    -> Source
    reader              : varchar(32)       # format of its files, for example igor
    files               : json              # role -> path below the source's location and sha256
    sweep=''            : varchar(128)      # name of the sweep in a file that holds several
    metadata            : json              # units, timings (ms), amplitudes: what the reader is told
    content_sha256      : char(64)          # of files, sweep and metadata together
    recording_vanished=null : char(36)      # run that no longer found its files
    """


@schema
class SweepExclusion(dj.Manual):
    definition = """
    # one sweep that enters no rheobase and no extraction
    -> Recording
    ---
    exclusion_reason=''  : varchar(255)     # why
    excluded_by=''       : varchar(64)      # who
    excluded_at          : datetime(6)      # UTC
    """


LIVE = {"recording_vanished": None}
"""Of a recording whose files are there: others enter no new result, and old results stay."""


def usable_recordings(vanished=False):
    """Return the recordings that results of cells are made from, also those whose files are away if that is said."""
    return ((Recording if vanished else Recording & LIVE) - SweepExclusion).proj()


def fetch_recording(key):
    """Return the row of one sweep, and the location that its files are below."""
    row = (Recording & key).fetch1()
    return row, (Source & {"source": row["source"]}).fetch1("location")


@schema
class RecordingStimulus(dj.Imported):
    definition = """
    # one sweep's stimulus and spikes, read from its file
    -> Recording
    ---
    ecode               : varchar(32)       # stimulus family that was applied
    timing              : enum('given', 'detected', 'not detected') # where ton and toff come from
    dt                  : float64           # ms, sampling interval
    n_samples           : int32             # samples in the sweep
    ton=null            : float64           # ms, start of the stimulus
    toff=null           : float64           # ms, end of the stimulus
    tend                : float64           # ms, end of the sweep
    amp=null            : float64           # nA, amplitude relative to holding
    hypamp=null         : float64           # nA, holding current
    params              : json              # every stimulus parameter of its eCode
    auto_threshold=null : float64           # mV, spike threshold from the trace
    n_spikes            : int32             # in the stimulus, by labweave's default eFEL settings
    spike_times         : <blob>            # (n_spikes,), ms
    """

    @property
    def key_source(self):
        """Recordings whose files are there."""
        return Recording & LIVE

    made_with = ("efel",)

    def inputs(self, key):
        return [Recording.proj("reader", "content_sha256")]

    def make_fetch(self, key):
        return fetch_recording(key)

    def make_compute(self, key, recording, location):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ephys.StimulusWarning)  # `timing` says it
            sweep = ephys.read_stored_recording(recording, location, ephys.DEFAULT_EFEL_SETTINGS)
        row = {name: getattr(sweep, name) for name in ("timing", "dt", "ton", "toff", "tend", "amp", "hypamp")}
        row |= {"ecode": sweep.ecode.name, "n_samples": len(sweep.t), "auto_threshold": sweep.auto_threshold}
        row |= {"n_spikes": sweep.spikecount, "spike_times": sweep.peak_time}
        return ({**row, "params": sweep.get_params()},)

    def make_insert(self, key, row):
        self.insert1({**key, **row, "params": plain_json(row["params"])})

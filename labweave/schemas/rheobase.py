"""Rheobase: the smallest current that makes a cell spike, by named strategies."""

import warnings
from collections import Counter

import datajoint as dj

from labweave import ephys
from labweave.schemas.recording import LIVE, Cell, Recording, RecordingStimulus, fetch_recording

schema = dj.Schema()


@schema
class RheobaseMethod(dj.Lookup):
    definition = """
    # one way to find the rheobase; a change of settings is a new method
    rheobase_method     : varchar(64)       # short name
    ---
    strategy            : varchar(32)       # for example absolute
    strategy_settings   : json              # of the strategy; efel_settings in it count the spikes anew
    protocols           : json              # list of the protocols whose sweeps are used
    """
    contents = (
        {
            "rheobase_method": "absolute",
            "strategy": "absolute",
            "strategy_settings": {},
            "protocols": list(ephys.DEFAULT_RHEOBASE_PROTOCOLS),
        },
    )


@schema
class Rheobase(dj.Computed):
    definition = """
    # one cell's rheobase by one method
    -> Cell
    -> RheobaseMethod
    ---
    rheobase=null       : float64           # nA; null when there is none
    n_recordings        : int32             # sweeps it was looked for in
    reason=''           : varchar(255)      # why there is none
    """

    @property
    def key_source(self):
        """Cells whose sweeps have all been read, or failed to be."""
        failed = RecordingStimulus().jobs & "status in ('error', 'ignore')"
        unread = ((Recording & LIVE) - RecordingStimulus).restrict(dj.condition.Not(failed), semantic_check=False)
        return (Cell & (Recording & LIVE)) * RheobaseMethod - Cell.aggr(
            unread, n_unread="count(recording)", exclude_nonmatching=True
        )

    def make(self, key):
        method = (RheobaseMethod & key).fetch1()
        cell, protocols = {name: key[name] for name in Cell.primary_key}, _protocols(method)
        rows = (RecordingStimulus & cell & (Recording & LIVE)).to_dicts(order_by="protocol, recording")
        sweeps = [row for row in rows if row["protocol"] in protocols]
        settings = dict(method["strategy_settings"])
        efel_settings, compat = settings.pop("efel_settings", None), settings.pop("compat", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ephys.StimulusWarning)  # RecordingStimulus.timing says it
            warnings.simplefilter("ignore", ephys.RheobaseWarning)  # `reason` says it
            n_spikes = [
                sweep["n_spikes"] if efel_settings is None else _count_spikes(sweep, efel_settings) for sweep in sweeps
            ]
            amplitudes = [sweep["amp"] for sweep in sweeps]
            result = ephys.find_rheobase(amplitudes, n_spikes, method["strategy"], settings, compat)
        self.insert1(
            {
                **key,
                "rheobase": result.rheobase,
                "n_recordings": len(sweeps),
                "reason": "" if result.rheobase is not None else result.reason,
            }
        )

    @classmethod
    def stale(cls):
        """Return the keys of rows whose number of sweeps has changed since they were made.

        A row stays when files of its recordings are away.
        """
        every, live = Counter(), Counter()
        for row in (RecordingStimulus * Recording).proj("recording_vanished").to_dicts():
            place = (row["eid"], row["cell"], row["protocol"])
            every[place] += 1
            live[place] += row["recording_vanished"] is None
        protocols = {row["rheobase_method"]: _protocols(row) for row in RheobaseMethod().to_dicts()}

        def n_sweeps(row, counts):
            return sum(counts[row["eid"], row["cell"], name] for name in protocols[row["rheobase_method"]])

        return [
            {name: row[name] for name in ("eid", "cell", "rheobase_method")}
            for row in cls().to_dicts()
            if row["n_recordings"] not in (n_sweeps(row, every), n_sweeps(row, live))
        ]


def _protocols(method):
    """Return the names of a method's protocols; plain text is one name."""
    protocols = method["protocols"]
    return {protocols} if isinstance(protocols, str) else set(protocols)


def _count_spikes(sweep, efel_settings):
    """Count a sweep's spikes with other eFEL settings than those it was read with."""
    key = {name: sweep[name] for name in Recording.primary_key}
    return ephys.read_stored_recording(*fetch_recording(key), efel_settings).spikecount

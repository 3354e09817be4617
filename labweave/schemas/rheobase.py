"""Rheobase: the smallest current that makes a cell spike, by named strategies."""

import warnings

import datajoint as dj

from labweave import ephys
from labweave.schemas.recording import Cell, Recording, RecordingStimulus, fetch_recording, usable_recordings

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
        usable = usable_recordings()
        unread = (usable - RecordingStimulus).restrict(dj.condition.Not(failed), semantic_check=False)
        return (Cell & usable) * RheobaseMethod - Cell.aggr(
            unread, n_unread="count(recording)", exclude_nonmatching=True
        )

    also_fresh = ({"vanished": True},)
    """A rheobase stays when files of its recordings are away."""

    made_with = ("efel",)

    def inputs(self, key, vanished=False):
        has = self.connection.adapter.json_has
        used, reads_files = has("protocols", "protocol"), has("strategy_settings", "'efel_settings'")
        sweeps, usable = RecordingStimulus.proj("amp", "n_spikes"), usable_recordings(vanished)
        counted = sweeps * RheobaseMethod & usable & used & f"not {reads_files}"
        read = sweeps * Recording.proj("content_sha256") * RheobaseMethod & usable & used & reads_files
        return [RheobaseMethod, counted.proj("amp", "n_spikes"), read.proj("amp", "content_sha256")]

    def make(self, key):
        method = (RheobaseMethod & key).fetch1()
        cell, protocols = {name: key[name] for name in Cell.primary_key}, _protocols(method)
        rows = (RecordingStimulus & cell & usable_recordings()).to_dicts(order_by="protocol, recording")
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


def _protocols(method):
    """Return the names of a method's protocols; plain text is one name."""
    protocols = method["protocols"]
    return {protocols} if isinstance(protocols, str) else set(protocols)


def _count_spikes(sweep, efel_settings):
    """Count a sweep's spikes with other eFEL settings than those it was read with."""
    key = {name: sweep[name] for name in Recording.primary_key}
    return ephys.read_stored_recording(*fetch_recording(key), efel_settings).spikecount

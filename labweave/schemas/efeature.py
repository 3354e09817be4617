"""Efeatures: numbers that eFEL computes from sweeps, and their statistics at targets."""

import warnings
from math import isnan

import datajoint as dj

from labweave import ephys
from labweave.formats.plain import plain_json
from labweave.schemas.recording import (
    LIVE,
    Cell,
    Protocol,
    Recording,
    RecordingStimulus,
    fetch_recording,
    usable_recordings,
)
from labweave.schemas.rheobase import Rheobase, RheobaseMethod
from labweave.schemas.through import Through

schema = dj.Schema()


@schema
class EFelSettings(dj.Lookup):
    definition = """
    # one complete group of eFEL settings; a change is a new group
    efel_settings       : varchar(64)       # short name
    ---
    settings            : json              # eFEL's names and values
    """
    contents = ({"efel_settings": "default", "settings": dict(ephys.DEFAULT_EFEL_SETTINGS)},)


@schema
class FeatureSet(dj.Manual):
    definition = """
    # one list of efeatures computed with one group of settings; a change is a new set
    feature_set         : varchar(64)       # short name
    ---
    -> EFelSettings
    purpose=''          : varchar(255)      # what it is for
    """

    class Feature(dj.Part):
        definition = """
        # one efeature of the set
        -> master
        efeature            : varchar(64)       # eFEL's name
        """

    class ForProtocol(dj.Part):
        definition = """
        # one protocol that the set is for; a set without any is for all
        -> master
        -> Protocol
        """


@schema
class RecordingEFeatures(dj.Computed):
    definition = """
    # one sweep's values of one feature set
    -> RecordingStimulus
    -> FeatureSet
    """

    class Value(dj.Part):
        definition = """
        # one efeature of one sweep
        -> master
        efeature            : varchar(64)       # eFEL's name
        ---
        value=null          : float64           # mean over the sweep, in eFEL's unit; null when eFEL gives none
        values=null         : <blob>            # (n,), the single values, for example one per spike
        n                   : int32             # how many single values
        """

    @property
    def key_source(self):
        """Sweeps with the sets for their protocol, and those for all protocols."""
        return (RecordingStimulus & (Recording & LIVE)) * FeatureSet & _asked()

    made_with = ("efel",)

    def inputs(self, key):
        sweep = RecordingStimulus.proj() * Recording.proj("reader", "content_sha256")
        settings = FeatureSet.proj("efel_settings") * EFelSettings
        return [sweep * FeatureSet.proj() & _asked(), FeatureSet.Feature, settings]

    def make_fetch(self, key):
        recording, location = fetch_recording(key)
        names = sorted((FeatureSet.Feature & key).to_arrays("efeature").tolist())
        settings = (EFelSettings * FeatureSet & {"feature_set": key["feature_set"]}).fetch1("settings")
        return recording, location, names, settings

    def make_compute(self, key, recording, location, names, settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ephys.StimulusWarning)  # RecordingStimulus.timing says it
            values = ephys.compute_efeatures(
                ephys.read_stored_recording(recording, location, settings), names, settings
            )
        rows = []
        for name, array in values.items():
            mean = ephys.efeature_mean(array)
            mean = None if isnan(mean) else mean
            rows.append({"efeature": name, "value": mean, "values": array, "n": 0 if array is None else len(array)})
        return (rows,)

    def make_insert(self, key, values):
        self.insert1(key)
        self.Value.insert({**key, **value} for value in values)


def _asked():
    """Return the protocols that each feature set is for; one that names none is for all."""
    for_protocol = FeatureSet.ForProtocol.proj()
    return FeatureSet.proj() * Protocol.proj() & [(FeatureSet - for_protocol).proj(), for_protocol]


@schema
class TargetSet(dj.Manual):
    definition = """
    # one list of targets: which efeatures to average, at which protocol and amplitude
    target_set          : varchar(64)       # short name
    ---
    absolute_amplitude=0 : bool             # amplitudes in nA instead of percent of rheobase
    protocol_mode='mean' : varchar(16)      # how the stimulus of several sweeps is reduced
    min_values=1        : int32             # fewer values than this give no efeature
    default_std=1e-3    : float64           # used where the standard deviation is 0
    """

    class Target(dj.Part):
        definition = """
        # one efeature at one protocol and amplitude
        -> master
        target              : int32             # counts the targets from 0
        ---
        -> FeatureSet
        efeature            : varchar(64)       # eFEL's name
        efeature_name       : varchar(64)       # name of the value in the result
        protocol            : varchar(64)       # name of the protocol
        amplitude           : float64           # percent of rheobase, or nA
        tolerance           : float64           # same unit; strictly less than this matches
        """


@schema
class CellGroup(dj.Manual):
    definition = """
    # one group of cells that are averaged together
    cell_group          : varchar(64)       # short name
    ---
    description=''      : varchar(255)      # what they have in common
    """

    class Member(dj.Part):
        definition = """
        # one cell of the group
        -> master
        -> Cell
        """


@schema
class ExtractionTask(dj.Manual):
    definition = """
    # one extraction that is wanted
    -> CellGroup
    -> TargetSet
    -> RheobaseMethod
    """


@schema
class Extraction(dj.Computed):
    definition = """
    # one group's efeatures at one set of targets
    -> CellGroup
    -> TargetSet
    -> RheobaseMethod
    ---
    currents            : json              # holding and threshold current, nA, mean and std, and per cell
    notes               : json              # left_out: the targets without a result, and why
    inputs_sha256       : char(64)          # of the values it was made from
    """

    class Feature(dj.Part):
        definition = """
        # one efeature's statistics over all matching sweeps
        -> master
        feature             : int32             # counts the efeatures from 0
        ---
        stimulus            : varchar(96)       # protocol and amplitude, for example IDrest_150
        efeature            : varchar(64)       # eFEL's name
        efeature_name       : varchar(64)       # name of the value
        mean                : float64           # in eFEL's unit
        std                 : float64           # population standard deviation, in eFEL's unit
        n                   : int32             # sweeps with a value
        feature_settings    : json              # eFEL settings
        """

    class Protocol(dj.Part):
        definition = """
        # one stimulus, averaged over all matching sweeps
        -> master
        stimulus            : varchar(96)       # protocol and amplitude, for example IDrest_150
        ---
        stimulus_description : json             # holding and step: ms, nA, percent of rheobase
        """

    class Current(dj.Part):
        definition = """
        # one cell's currents
        -> master
        -> Cell
        ---
        holding_current=null : float64          # nA, mean over its sweeps
        threshold_current=null : float64        # nA, its rheobase
        """

    @property
    def key_source(self):
        """Tasks whose cells all have a rheobase, and whose sweeps all have their values or failed to get them."""
        every = CellGroup * TargetSet * RheobaseMethod & ExtractionTask
        no_rheobase = (CellGroup.Member * RheobaseMethod).proj() - Rheobase.proj()
        failed = RecordingEFeatures().jobs & "status in ('error', 'ignore')"
        no_values = (RecordingEFeatures().key_source.proj() - RecordingEFeatures.proj()).restrict(
            dj.condition.Not(failed), semantic_check=False
        )
        waiting = (CellGroup.Member.proj() * TargetSet.Target.proj("feature_set")).proj(..., "feature_set")
        return every - no_rheobase.proj() - (waiting & no_values).proj()

    def make(self, key):
        inputs = self.fetch_inputs(key)
        cells = ephys.cells_of_rows(inputs)
        features, protocols, currents, notes = ephys.group_cells(inputs, list(cells.values()))
        self.insert1(
            {
                **key,
                "currents": plain_json(currents),
                "notes": {"left_out": notes},
                "inputs_sha256": ephys.hash_of_cells(cells),
            }
        )
        entries = [(stimulus, entry) for stimulus, places in features.items() for entry in places["soma"]]
        self.Feature.insert(
            {
                **key,
                "feature": index,
                "stimulus": stimulus,
                "efeature": entry["feature"],
                "efeature_name": entry["efeature_name"],
                "mean": entry["val"][0],
                "std": entry["val"][1],
                "n": entry["n"],
                "feature_settings": plain_json(entry["efel_settings"]),
            }
            for index, (stimulus, entry) in enumerate(entries)
        )
        self.Protocol.insert(
            {**key, "stimulus": stimulus, "stimulus_description": plain_json(description)}
            for stimulus, description in protocols.items()
        )
        holding, threshold = currents["all_holding_current"], currents["all_threshold_current"]
        self.Current.insert(
            {
                **key,
                "eid": eid,
                "cell": cell,
                "holding_current": holding.get(one.name),
                "threshold_current": threshold.get(one.name),
            }
            for (eid, cell), one in cells.items()
        )

    also_fresh = ({"vanished": True},)
    """An extraction stays when files of its recordings are away."""

    def inputs(self, key, vanished=False):
        usable, member = usable_recordings(vanished), CellGroup.Member.proj()
        # counted, since DataJoint forgets in a join that rows are to be there once
        used = dj.U("target_set", "feature_set").aggr(TargetSet.Target, n="count(*)").proj()
        return [
            ExtractionTask,
            TargetSet,
            TargetSet.Target,
            used * FeatureSet.proj("efel_settings") * EFelSettings,
            member,
            member * Rheobase.proj("rheobase"),
            Through(RecordingStimulus & usable, member),
            Through(RecordingEFeatures & usable, member * used),
        ]

    @staticmethod
    def fetch_inputs(key):
        """Return the rows that an extraction is made from, as `labweave.ephys.ExtractionInputs`."""
        recordings = usable_recordings()
        target_set = (TargetSet & {"target_set": key["target_set"]}).fetch1()
        targets = TargetSet.Target * FeatureSet * EFelSettings & {"target_set": key["target_set"]}
        targets = targets.to_dicts(order_by="target")
        members = (CellGroup.Member & {"cell_group": key["cell_group"]}).to_dicts(order_by="cell, eid")
        method = {"rheobase_method": key["rheobase_method"]}
        used = [{"feature_set": name} for name in dict.fromkeys(row["feature_set"] for row in targets)]
        return ephys.ExtractionInputs(
            target_set,
            targets,
            members,
            (Rheobase & method & members).to_dicts(),
            (RecordingStimulus & members & recordings).to_dicts(order_by="protocol, recording"),
            (RecordingEFeatures.Value & members & used & recordings).to_dicts(),
        )

"""Electrophysiology without a database: stimuli, spikes, rheobase, e-features, targets, a model cell."""

from labweave.ephys.auto_targets import (
    AutoTarget,
    auto_targets_from_presets,
    choose_auto_targets,
    default_auto_targets,
)
from labweave.ephys.cell import Cell
from labweave.ephys.efeatures.compute import (
    compute_efeatures,
    efeature_mean,
    validate_efeatures,
)
from labweave.ephys.efeatures.efel_core import DEFAULT_EFEL_SETTINGS, efel_session
from labweave.ephys.efeatures.spikes import auto_threshold, spike_times
from labweave.ephys.grouping import (
    EFeatureTarget,
    Protocol,
    RecordingSummary,
    describe_protocols,
    effective_amplitude,
    group_efeatures,
)
from labweave.ephys.recording import Recording, read_recordings_of_file
from labweave.ephys.rheobase import DEFAULT_RHEOBASE_PROTOCOLS, STRATEGIES, RheobaseResult, find_rheobase
from labweave.ephys.simulation import (
    CellModel,
    StepProtocol,
    example_cells,
    simulate,
    simulate_protocol,
    true_rheobase,
)
from labweave.ephys.stimulus.ecodes import ECODES, ECode, find_ecode
from labweave.ephys.stored import (
    ExtractionInputs,
    cells_of_rows,
    group_at_targets,
    group_cells,
    hash_of_cells,
    read_stored_recording,
)
from labweave.ephys.targets import Target, complete_settings, convert_legacy_targets, settings_key, value_key
from labweave.formats.recordings.notices import (
    EphysWarning,
    FeatureWarning,
    ReadingWarning,
    RheobaseWarning,
    StimulusError,
    StimulusWarning,
    UnknownFeature,
    UnknownProtocol,
)

__all__ = [
    "DEFAULT_EFEL_SETTINGS",
    "DEFAULT_RHEOBASE_PROTOCOLS",
    "ECODES",
    "STRATEGIES",
    "AutoTarget",
    "Cell",
    "CellModel",
    "ECode",
    "EFeatureTarget",
    "EphysWarning",
    "ExtractionInputs",
    "FeatureWarning",
    "Protocol",
    "ReadingWarning",
    "Recording",
    "RecordingSummary",
    "RheobaseResult",
    "RheobaseWarning",
    "StepProtocol",
    "StimulusError",
    "StimulusWarning",
    "Target",
    "UnknownFeature",
    "UnknownProtocol",
    "auto_targets_from_presets",
    "auto_threshold",
    "cells_of_rows",
    "choose_auto_targets",
    "complete_settings",
    "compute_efeatures",
    "convert_legacy_targets",
    "default_auto_targets",
    "describe_protocols",
    "efeature_mean",
    "efel_session",
    "effective_amplitude",
    "example_cells",
    "find_ecode",
    "find_rheobase",
    "group_at_targets",
    "group_cells",
    "group_efeatures",
    "hash_of_cells",
    "read_recordings_of_file",
    "read_stored_recording",
    "settings_key",
    "simulate",
    "simulate_protocol",
    "spike_times",
    "true_rheobase",
    "validate_efeatures",
    "value_key",
]

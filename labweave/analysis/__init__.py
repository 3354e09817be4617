"""Questions that people ask of the tables: trials, logs and recordings, and what populate is to compute."""

from labweave.analysis.exclusion import exclude, include
from labweave.analysis.recordings import read_recording
from labweave.analysis.targets import (
    add_auto_targets,
    add_cell_group,
    add_extraction,
    add_feature_set,
    add_rheobase_method,
    add_target_set,
)
from labweave.analysis.trials import read_event_log, trials_frame

__all__ = [
    "add_auto_targets",
    "add_cell_group",
    "add_extraction",
    "add_feature_set",
    "add_rheobase_method",
    "add_target_set",
    "exclude",
    "include",
    "read_event_log",
    "read_recording",
    "trials_frame",
]

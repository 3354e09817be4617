"""The functions of `labweave.analysis.targets`, by the path that labs' scripts use."""

from labweave.analysis.targets import (
    add_auto_targets,
    add_cell_group,
    add_extraction,
    add_feature_set,
    add_rheobase_method,
    add_target_set,
)

__all__ = [
    "add_auto_targets",
    "add_cell_group",
    "add_extraction",
    "add_feature_set",
    "add_rheobase_method",
    "add_target_set",
]

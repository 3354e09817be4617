"""ALF: the names, folders and files of the Open Neurophysiology Environment.

The import is cheap: functions that read or write files import numpy, pandas and pyarrow when they run, and the first
function that returns a path imports ONE-api's class for it.
"""

from labweave.formats.alf.bunch import AlfBunch, check_dimensions
from labweave.formats.alf.folders import exists, filter_by, find_variants, iter_datasets, iter_files, iter_sessions
from labweave.formats.alf.load import load_file, load_object, read_ts
from labweave.formats.alf.names import Parts, is_session_path, is_valid, parse_name, parse_path, to_alf
from labweave.formats.alf.path import alf_path
from labweave.formats.alf.save import save_metadata, save_object_npy

__all__ = [
    "AlfBunch",
    "Parts",
    "alf_path",
    "check_dimensions",
    "exists",
    "filter_by",
    "find_variants",
    "is_session_path",
    "is_valid",
    "iter_datasets",
    "iter_files",
    "iter_sessions",
    "load_file",
    "load_object",
    "parse_name",
    "parse_path",
    "read_ts",
    "save_metadata",
    "save_object_npy",
    "to_alf",
]

"""AxoPy's storage: the folders that its experiments write, written and read with its API.

A data root holds a folder per subject, that a folder per task, and that ``trials.csv`` with a row
per trial, one HDF5 file per kind of array with a dataset per trial, and pickles.
"""

from labweave.formats.axopy.arrays import read_hdf5, write_hdf5
from labweave.formats.axopy.design import Array, Block, Design, Trial
from labweave.formats.axopy.reader import TaskReader
from labweave.formats.axopy.recovery import recover
from labweave.formats.axopy.storage import Storage, makedirs, storage_to_zip
from labweave.formats.axopy.writer import TaskWriter, TrialWriter

__all__ = [
    "Array",
    "Block",
    "Design",
    "Storage",
    "TaskReader",
    "TaskWriter",
    "Trial",
    "TrialWriter",
    "makedirs",
    "read_hdf5",
    "recover",
    "storage_to_zip",
    "write_hdf5",
]

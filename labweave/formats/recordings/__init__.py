"""Patch-clamp recordings: one reader per file format, chosen by the suffix.

A reader takes one ``file_metadata`` dict and returns one dict per sweep with ``voltage`` and
``current`` (1-D arrays of equal length), ``dt``, ``t_unit``, ``v_unit``, ``i_unit`` and, where the
file knows them, ``id``, ``repetition`` and ``metadata``. The values of ``metadata`` count like those
a person writes in ``file_metadata`` (timings in ms, amplitudes in the current unit of the sweep);
whatever ``file_metadata`` says wins. Timings at the top level of a sweep dict are sample indices,
the rule for readers written by users.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labweave.errors import LabweaveError, ReadError
from labweave.formats.recordings.axon import describe_axon, list_axon, read_axon
from labweave.formats.recordings.csv_lccr import is_csv_lccr, list_csv_lccr, read_csv_lccr
from labweave.formats.recordings.files import recording_path
from labweave.formats.recordings.hdf5 import describe_recordings, list_hdf5, read_hdf5, write_recordings
from labweave.formats.recordings.igor import describe_igor, read_igor
from labweave.formats.recordings.matlab import has_traces, list_matlab, read_matlab
from labweave.formats.recordings.nwb import NWBInspectionError, describe_nwb, inspect_nwb, list_nwb, read_nwb

__all__ = [
    "READERS",
    "SUFFIXES",
    "NWBInspectionError",
    "describe_axon",
    "describe_igor",
    "describe_nwb",
    "describe_recordings",
    "find_reader",
    "has_traces",
    "inspect_nwb",
    "is_csv_lccr",
    "list_sweeps",
    "read_axon",
    "read_csv_lccr",
    "read_file",
    "read_hdf5",
    "read_igor",
    "read_matlab",
    "read_nwb",
    "reader_name",
    "recording_path",
    "write_recordings",
]

READERS = {
    "axon": read_axon,
    "csv_lccr": read_csv_lccr,
    "hdf5": read_hdf5,
    "igor": read_igor,
    "matlab": read_matlab,
    "nwb": read_nwb,
}
SUFFIXES = {
    ".abf": "axon",
    ".bwav": "igor",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".ibw": "igor",
    ".mat": "matlab",
    ".nwb": "nwb",
    ".txt": "csv_lccr",
}
_LISTS = {
    "axon": list_axon,
    "csv_lccr": list_csv_lccr,
    "hdf5": list_hdf5,
    "matlab": list_matlab,
    "nwb": list_nwb,
}


def find_reader(path) -> str:
    """Name of the reader for the suffix of a path, in any case; ReadError for an unknown suffix."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ReadError(
            path,
            f"no reader for the suffix {suffix!r}",
            f"Known suffixes: {', '.join(sorted(SUFFIXES))}. Or name a reader: {', '.join(READERS)}",
        )
    return SUFFIXES[suffix]


def read_file(file_metadata, reader: str | Callable[[dict], list[dict]] | None = None) -> list[dict]:
    """Read every sweep of one recording.

    Parameters
    ----------
    file_metadata : dict
        With ``filepath`` (or ``v_file`` and ``i_file``) as str or Path, and what the reader needs.
        It is not changed.
    reader : str or callable, optional
        A name of `READERS` or a function of one ``file_metadata``; default: by suffix.

    Returns
    -------
    list of dict
        One per sweep, see the module's description.

    Raises
    ------
    ReadError
        The file is missing, truncated, foreign or without units, no reader fits, or the function fails.
    SourceError
        No path in the metadata.
    """
    path = recording_path(file_metadata)
    if callable(reader):
        try:
            return list(reader(dict(file_metadata)))
        except (LabweaveError, OSError):
            raise
        except Exception as error:
            raise ReadError(
                path, f"the reader {getattr(reader, '__name__', reader)!r} failed ({error!r})", "Correct one of them"
            ) from error
    return READERS[reader_name(path, reader)](file_metadata)


def list_sweeps(file_metadata, reader: str | None = None) -> list[dict]:
    """List the sweeps that `read_file` would read, without their samples.

    Parameters
    ----------
    file_metadata : dict
        As for `read_file`.
    reader : str, optional
        A name of `READERS`; default: by suffix.

    Returns
    -------
    list of dict
        ``sweep``, the name by which ``file_metadata["sweep"]`` picks it (None for Igor, whose files hold
        one), and ``protocol``, as the file says it (None if it does not).

    Raises
    ------
    ReadError
        As for `read_file`; what the metadata lacks is noticed here.
    """
    name = reader_name(recording_path(file_metadata), reader)
    return _LISTS[name](file_metadata) if name in _LISTS else [{"sweep": None, "protocol": None}]


def reader_name(path, reader: str | None = None) -> str:
    """Name of the reader that is asked for, else of that for the suffix; ReadError for an unknown one."""
    name = reader.lower() if reader else find_reader(path)
    if name not in READERS:
        raise ReadError(path, f"there is no reader called {reader!r}", f"Use one of {', '.join(READERS)}")
    return name

"""Patch-clamp recordings: one reader per file format, chosen by the suffix.

`open` says what a file holds, and reads the samples when they are asked for: one dict per sweep with
``voltage`` and ``current`` (1-D arrays of equal length), ``dt``, ``t_unit``, ``v_unit``, ``i_unit`` and,
where the file knows them, ``id``, ``repetition`` and ``metadata``. The values of ``metadata`` count like
those a person writes in ``file_metadata`` (timings in ms, amplitudes in the current unit of the sweep);
whatever ``file_metadata`` says wins. Timings at the top level of a sweep dict are sample indices,
the rule for readers written by users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from labweave.errors import LabweaveError, ReadError
from labweave.formats.recordings.base import ListedSweep, RecordingFile, recording_path
from labweave.formats.recordings.hdf5 import write_recordings
from labweave.formats.recordings.nwb import NWBInspectionError, inspect_nwb

__all__ = [
    "READERS",
    "ListedSweep",
    "NWBInspectionError",
    "RecordingFile",
    "find_reader",
    "inspect_nwb",
    "open",
    "read_file",
    "write_recordings",
]

# One line a format: the file in this folder, and the class in it.
_CLASSES = (
    "axon:AxonFile",
    "csv_lccr:LCCRTable",
    "hdf5:LabweaveFile",
    "igor:IgorPair",
    "matlab:MatlabFile",
    "nwb:NWBFile",
)
READERS: dict[str, type[RecordingFile]] = {
    each.reader: each for each in (resolve_name(f"{__name__}.{place}") for place in _CLASSES)
}


def find_reader(path, reader: str | None = None) -> type[RecordingFile]:
    """The reader of this name, else that for the suffix, both in any case; ReadError without one."""
    if reader:
        if reader.lower() not in READERS:
            raise ReadError(path, f"there is no reader called {reader!r}", f"Use one of {', '.join(READERS)}")
        return READERS[reader.lower()]
    by_suffix = {suffix: each for each in READERS.values() for suffix in each.suffixes}
    suffix = Path(path).suffix.lower()
    if suffix not in by_suffix:
        raise ReadError(
            path,
            f"no reader for the suffix {suffix!r}",
            f"Known suffixes: {', '.join(sorted(by_suffix))}. Or name a reader: {', '.join(READERS)}",
        )
    return by_suffix[suffix]


def open(file: str | Path | Mapping[str, Any], reader: str | None = None) -> RecordingFile:
    """Open a file of recordings: which sweeps it has, and what it says of its cell.

    Parameters
    ----------
    file : str, Path or dict
        The file, or its ``file_metadata``: ``filepath`` (or ``v_file`` and ``i_file``) and what the reader
        needs or what picks sweeps (``sweep``, ``protocol_name``).
    reader : str, optional
        A name of `READERS`; default: by suffix.

    Returns
    -------
    RecordingFile
        ``sweeps`` and ``facts`` are known, ``read()`` reads the samples. No file stays open.

    Raises
    ------
    ReadError
        The file is missing, truncated or foreign, the metadata lacks what its format needs, or no reader fits.
    SourceError
        No path in the metadata.

    Examples
    --------
    >>> import numpy as np
    >>> from labweave.formats import recordings
    >>> units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}
    >>> sweep = {"voltage": np.full(500, -70.0), "current": np.zeros(500), **units}
    >>> path = recordings.write_recordings("cell1.h5", [sweep], cell="cell1", protocol="IDrest", subject="m12")
    >>> file = recordings.open(path)
    >>> file.facts
    {'subject': 'm12'}
    >>> file.sweeps
    [ListedSweep(name='sweep_000', protocol='IDrest', cell='cell1', repetition=None)]
    >>> file.read()[0]["voltage"].shape
    (500,)
    """
    metadata = file if isinstance(file, Mapping) else {"filepath": file}
    opened = find_reader(recording_path(metadata), reader)(metadata)
    _ = opened.sweeps  # a file that can't be read is refused here
    return opened


def read_file(file_metadata, reader: str | Callable[[dict], list[dict]] | None = None) -> list[dict]:
    """Read every sweep of one recording.

    Parameters
    ----------
    file_metadata : dict
        As in `open`. It is not changed.
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

    Examples
    --------
    >>> from labweave.formats.recordings import read_file
    >>> (sweep,) = read_file({"filepath": "labweave-demo/recordings/sim01.h5", "sweep": "sweep_003"})
    >>> sweep["protocol"], sweep["voltage"].shape, sweep["dt"], sweep["v_unit"]
    ('IDrest', (20000,), 0.05, 'mV')
    """
    path = recording_path(file_metadata)
    if not callable(reader):
        return find_reader(path, reader)(file_metadata).read()
    try:
        return list(reader(dict(file_metadata)))
    except (LabweaveError, OSError):
        raise
    except Exception as error:
        raise ReadError(
            path, f"the reader {getattr(reader, '__name__', reader)!r} failed ({error!r})", "Correct one of them"
        ) from error

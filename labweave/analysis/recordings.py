"""Recordings of patched cells, read from their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labweave import ephys
from labweave.database import current
from labweave.errors import SchemaError
from labweave.schemas.ingestion import Source
from labweave.schemas.recording import Recording


def read_recording(restriction: Any = True, efel_settings: Mapping[str, Any] | None = None) -> ephys.Recording:
    """Read one sweep from its files.

    Parameters
    ----------
    restriction : mapping, str or query, default: True
        Which row of ``recording.Recording``, for example ``{"cell": "c1", "recording": "day1/c1#sweep3"}``; exactly
        one.
    efel_settings : mapping, optional
        To count spikes with.

    Returns
    -------
    labweave.ephys.Recording
        Time in ms, voltage in mV, current in nA, and its stimulus.

    Raises
    ------
    SchemaError
        There is no such recording, or several.
    ComputeError
        A file is not the one that was ingested.
    ReadError
        A file can't be read.

    Examples
    --------
    >>> from labweave.analysis import read_recording
    >>> from labweave.schemas import recording
    >>> key = (recording.Recording & {"cell": "sim01", "protocol": "IDrest"}).keys(limit=1)[0]
    >>> sweep = read_recording(key)
    >>> sweep.protocol_name, len(sweep.t) == len(sweep.voltage)
    ('IDrest', True)
    """
    current()
    found: list[dict[str, Any]] = (Recording & restriction).to_dicts()
    if len(found) != 1:
        raise SchemaError(
            f"{len(found)} recordings are like {restriction}. Restrict to one by eid, cell, protocol and recording."
        )
    location = (Source & {"source": found[0]["source"]}).fetch1("location")
    return ephys.read_stored_recording(found[0], location, efel_settings)

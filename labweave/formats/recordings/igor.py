"""Igor binary waves (.ibw, .bwav), versions 2, 3 and 5: one file for voltage, one for current.

The format is WaveMetrics' Technical Note 003; the bytes are parsed by igor2. Units come from the
header of each wave (``dataUnits``, ``xUnits`` or ``dimUnits``), or from the wave's notes when the
header has none; the sampling interval is the x scale.
"""

from __future__ import annotations

import re
import warnings

import numpy as np

from labweave.errors import ReadError
from labweave.formats.recordings.files import file_size, need, quantity_of

_UNIT_IN_NOTES = re.compile(r"(?:^|[;\r\n])\s*(?:Y_?UNITS?|DATA_?UNITS?|UNITS?)\s*[:=]\s*([A-Za-zµ]+)", re.IGNORECASE)
_X_UNIT_IN_NOTES = re.compile(r"(?:^|[;\r\n])\s*X_?UNITS?\s*[:=]\s*([A-Za-zµ]+)", re.IGNORECASE)
_LABEL_IN_NOTES = re.compile(r"(?:^|[;\r\n])\s*(?:PATTERN|PROTOCOL|LABEL)\s*[:=]\s*([^;\r\n]+)", re.IGNORECASE)


def read_igor(file_metadata) -> list[dict]:
    """Read one sweep from a pair of Igor waves.

    Parameters
    ----------
    file_metadata : dict
        ``v_file`` and ``i_file``; ``t_unit``, ``v_unit``, ``i_unit`` and ``dt`` replace or complete what
        the waves say.

    Returns
    -------
    list of dict
        One dict: voltage and current in the dtype of the file and in its units, ``dt`` in ``t_unit``.

    Raises
    ------
    ReadError
        A file is missing, empty, truncated or no Igor wave; the waves differ in length; a unit is
        neither in the wave nor in the metadata.

    Notes
    -----
    Files given the wrong way round, as their units tell, are swapped with a warning.
    """
    v_file = file_metadata.get("v_file") or file_metadata.get("filepath")
    i_file = file_metadata.get("i_file")
    if not v_file or not i_file:
        raise ReadError(
            v_file or i_file,
            "an Igor recording needs two waves",
            "Give both 'v_file' and 'i_file' in the metadata",
        )
    voltage, current = _load(v_file), _load(i_file)
    if quantity_of(voltage["unit"]) == "current" and quantity_of(current["unit"]) == "voltage":
        warnings.warn(
            f"{v_file} is in {voltage['unit']} and {i_file} in {current['unit']}: "
            "voltage and current files are swapped, read the other way round. Exchange v_file and i_file.",
            UserWarning,
            stacklevel=3,
        )
        voltage, current, v_file, i_file = current, voltage, i_file, v_file
    if len(voltage["samples"]) != len(current["samples"]):
        raise ReadError(
            v_file,
            f"{len(voltage['samples'])} samples, but {i_file} has {len(current['samples'])}",
            "Pair waves of the same sweep",
        )
    return [
        {
            "voltage": voltage["samples"],
            "current": current["samples"],
            "dt": voltage["dt"],
            "t_unit": need(file_metadata, "t_unit", voltage["t_unit"], v_file, "the wave"),
            "v_unit": need(file_metadata, "v_unit", voltage["unit"], v_file, "the wave"),
            "i_unit": need(file_metadata, "i_unit", current["unit"], i_file, "the wave"),
        }
    ]


def describe_igor(path) -> dict:
    """What the header and notes of one wave say, to tell voltage from current in a folder.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        ``unit`` ("" if none), ``quantity`` ("voltage", "current" or None), ``t_unit``,
        ``dt`` (in ``t_unit``), ``n_samples``, ``version``, ``wave_name``, ``label`` (stimulus pattern in
        the notes, or None) and ``notes`` (dict of the NAME:VALUE pairs).

    Raises
    ------
    ReadError
        As in `read_igor`.
    """
    wave = _load(path)
    label = _LABEL_IN_NOTES.search(wave["note"])
    return {
        "unit": wave["unit"],
        "quantity": quantity_of(wave["unit"]),
        "t_unit": wave["t_unit"],
        "dt": wave["dt"],
        "n_samples": len(wave["samples"]),
        "version": wave["version"],
        "wave_name": wave["wave_name"],
        "label": label.group(1).strip() if label else None,
        "notes": _pairs(wave["note"]),
    }


def _load(path) -> dict:
    """Samples, scale and units of one wave; every way to fail becomes a ReadError."""
    from igor2 import binarywave

    size = file_size(path)
    try:
        loaded = binarywave.load(str(path))
        wave, header = loaded["wave"], loaded["wave"]["wave_header"]
        samples = np.asarray(wave["wData"])
    except Exception as error:  # igor2 raises anything from ValueError to struct.error
        raise ReadError(
            path,
            f"not a complete Igor binary wave of {size} bytes ({error})",
            "Copy it again; if it is another format, name its reader",
        ) from error
    if samples.ndim != 1 or samples.size == 0 or samples.dtype.kind not in "fiu":
        raise ReadError(
            path,
            f"a wave of shape {samples.shape} and type {samples.dtype}",
            "A sweep is one dimension of numbers; export one wave per sweep",
        )
    note = _text(wave.get("note", b""))
    x_units = header["dimUnits"][0] if "dimUnits" in header else header["xUnits"]
    scale = header["sfA"][0] if "sfA" in header else header["hsA"]
    return {
        "samples": samples.astype(samples.dtype.newbyteorder("=")),
        "dt": float(scale),
        "unit": _text(header["dataUnits"]) or _text(wave.get("data_units", b"")) or _match(_UNIT_IN_NOTES, note),
        "t_unit": _text(x_units) or _match(_X_UNIT_IN_NOTES, note),
        "note": note,
        "version": int(loaded["version"]),
        "wave_name": _text(header["bname"]),
    }


def _text(value) -> str:
    """Text of a bytes object or of an array of single bytes."""
    raw = value.tobytes() if isinstance(value, np.ndarray) else bytes(value)
    return raw.replace(b"\0", b"").decode("latin-1").strip()


def _match(pattern, note) -> str:
    found = pattern.search(note)
    return found.group(1) if found else ""


def _pairs(note) -> dict:
    """NAME:VALUE pairs of the notes; a repeated name keeps its first value."""
    pairs: dict[str, str] = {}
    for item in re.split(r"[;\r\n]+", note):
        name, separator, value = item.partition(":")
        if separator:
            pairs.setdefault(name.strip(), value.strip())
    return pairs

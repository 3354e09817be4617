"""Igor binary waves (.ibw, .bwav), versions 2, 3 and 5: one file for voltage, one for current.

The format is WaveMetrics' Technical Note 003; the bytes are parsed by igor2. Units come from the
header of each wave (``dataUnits``, ``xUnits`` or ``dimUnits``), or from the wave's notes when the
header has none; the sampling interval is the x scale.
"""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path

import numpy as np

from labweave.errors import ReadError, SourceError
from labweave.formats.limits import file_size
from labweave.formats.recordings.base import ListedSweep, RecordingFile
from labweave.formats.recordings.files import need, parsing, quantity_of

_UNIT_IN_NOTES = re.compile(r"(?:^|[;\r\n])\s*(?:Y_?UNITS?|DATA_?UNITS?|UNITS?)\s*[:=]\s*([A-Za-zµ]+)", re.IGNORECASE)
_X_UNIT_IN_NOTES = re.compile(r"(?:^|[;\r\n])\s*X_?UNITS?\s*[:=]\s*([A-Za-zµ]+)", re.IGNORECASE)
_NAME = re.compile(
    r"(?P<start>.+?)_(?:[cC]h(?P<a>\d+)_(?P<p>[^_]+)|(?P<q>[^_]+)_[cC]h(?P<b>\d+))_(?P<number>\d+)\.(?:ibw|bwav)$"
)


_COUNTS = {2: (2, 6, 58), 3: (2, 6, 10, 62), 5: (*range(4, 56, 4), 76, *range(132, 148, 4))}
"""Version of a wave -> where its header says how many bytes, or samples, something has."""


class IgorPair(RecordingFile):
    """One sweep of a pair of Igor waves, ``v_file`` and ``i_file`` of the metadata.

    Metadata: ``t_unit``, ``v_unit``, ``i_unit`` and ``dt`` replace or complete what the waves say. Samples keep the
    dtype of the file and its units, ``dt`` is in ``t_unit``. Files given the wrong way round, as their units
    tell, are swapped with a warning.

    Raises
    ------
    ReadError
        A file is missing, empty, truncated or no Igor wave; the waves differ in length; a unit is
        neither in the wave nor in the metadata.
    """

    reader = "igor"
    suffixes = (".ibw", ".bwav")
    cell_from = "folder"

    def list_sweeps(self, handle) -> list[ListedSweep]:
        """List the one sweep, its protocol as the file's name tells it."""
        for role in self.roles(self.metadata):
            _check_whole(self.metadata[role])
        named = _NAME.match(self.path.name)
        return [ListedSweep(None, (named["p"] or named["q"]) if named else None)]

    def pick(self, handle, sweeps):
        """Choose the one sweep, which has no name."""
        return sweeps

    def read_sweeps(self, handle, sweeps):
        """Read both waves."""
        v_file = self.metadata.get("v_file") or self.metadata.get("filepath")
        i_file = self.metadata.get("i_file")
        if not v_file or not i_file:
            advice = "Give both 'v_file' and 'i_file' in the metadata"
            raise ReadError(v_file or i_file, "an Igor recording needs two waves", advice)
        voltage, current = _load(v_file), _load(i_file)
        if quantity_of(voltage["unit"]) == "current" and quantity_of(current["unit"]) == "voltage":
            warnings.warn(
                f"{v_file} is in {voltage['unit']} and {i_file} in {current['unit']}: "
                "voltage and current files are swapped, read the other way round. Exchange v_file and i_file.",
                UserWarning,
                stacklevel=4,
            )
            voltage, current, v_file, i_file = current, voltage, i_file, v_file
        if len(voltage["samples"]) != len(current["samples"]):
            raise ReadError(
                v_file,
                f"{len(voltage['samples'])} samples, but {i_file} has {len(current['samples'])}",
                "Pair waves of the same sweep",
            )
        yield {
            "voltage": voltage["samples"],
            "current": current["samples"],
            "dt": voltage["dt"],
            "t_unit": need(self.metadata, "t_unit", voltage["t_unit"], v_file, "the wave"),
            "v_unit": need(self.metadata, "v_unit", voltage["unit"], v_file, "the wave"),
            "i_unit": need(self.metadata, "i_unit", current["unit"], i_file, "the wave"),
        }

    @classmethod
    def roles(cls, file_metadata) -> tuple[str, ...]:
        """Name both files of the pair."""
        return tuple(role for role in ("filepath", "v_file", "i_file") if role in file_metadata)

    @classmethod
    def recordings_among(cls, paths) -> tuple[list[dict], dict]:
        """Pair the waves of a folder: by name the sweep, by unit which is the voltage."""
        pairs: dict[tuple[str, str, int], dict] = {}
        bad: dict = {}
        for path in paths:
            try:
                sweep, role = _place(path)
                pair = pairs.setdefault(sweep, {})
                if role in pair:
                    quantity = "voltage" if role == "v_file" else "current"
                    raise SourceError(f"{path} and {pair[role]} are both the {quantity} of one sweep. Remove one.")
                pair[role] = path
            except SourceError as error:
                bad[path] = error
        for (_, _, number), pair in pairs.items():
            if len(pair) == 1:
                (present,) = pair.values()
                missing = "current" if "v_file" in pair else "voltage"
                bad[present] = SourceError(
                    f"{present}: sweep {number} has no readable file of its {missing}. Put that one beside it."
                )
        return [pair for _, pair in sorted(pairs.items()) if len(pair) == 2], bad


def _place(path) -> tuple[tuple[str, str, int], str]:
    """Return the sweep that a wave is of, as its name says, and its role there, as its unit says."""
    named = _NAME.match(path.name)
    if named is None:
        raise SourceError(
            f"{path}: the name does not tell protocol, channel and number, "
            "as X_IDrest_ch0_326.ibw does. Rename it, or list the files in a mapping (docs: ephys recordings)."
        )
    quantity = quantity_of(_load(path)["unit"])
    if quantity is None:
        raise SourceError(
            f"{path}: its notes have no unit of current or voltage. "
            "List the files with i_unit and v_unit in a mapping (docs: ephys recordings)."
        )
    return (named["start"], named["p"] or named["q"], int(named["number"])), f"{quantity[0].replace('c', 'i')}_file"


def _check_whole(path) -> None:
    """Refuse a file whose header is none of a wave, or promises more than it has: igor2 would wait for it for ever."""
    size = file_size(path)
    with Path(path).open("rb") as file:
        head = file.read(148).ljust(148, b"\0")
    for order in "<>":
        version = struct.unpack_from(f"{order}h", head)[0]
        if version in _COUNTS:
            counts = [struct.unpack_from(f"{order}i", head, at)[0] for at in _COUNTS[version]]
            if counts[0] <= 0:
                break
            if wrong := next((count for count in counts if not 0 <= count <= size), None):
                found = f"its header promises {wrong} bytes, the file has {size}"
                raise ReadError(path, found, "Copy it again from the acquisition computer")
            return
    raise ReadError(path, "not an Igor binary wave", "Copy it again; if it is another format, name its reader")


def _load(path) -> dict:
    """Samples, scale and units of one wave."""
    from igor2 import binarywave

    _check_whole(path)
    with parsing(path, "Igor binary wave"):
        loaded = binarywave.load(str(path))
        wave, header = loaded["wave"], loaded["wave"]["wave_header"]
        samples = np.asarray(wave["wData"])
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
    }


def _text(value) -> str:
    """Text of a bytes object or of an array of single bytes."""
    raw = value.tobytes() if isinstance(value, np.ndarray) else bytes(value)
    return raw.replace(b"\0", b"").decode("latin-1").strip()


def _match(pattern, note) -> str:
    found = pattern.search(note)
    return found.group(1) if found else ""

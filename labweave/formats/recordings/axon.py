"""Axon binary files (.abf), versions 1 and 2: sweeps with one channel of voltage and one of current.

The bytes are parsed by neo (``pip install labweave[abf]``), whose ``axonrawio`` documents the
format. The samples of a sweep are read when that sweep is asked for.
"""

from __future__ import annotations

import math
import struct
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from labweave.errors import ConfigError, ReadError
from labweave.formats.limits import file_size
from labweave.formats.recordings.base import ListedSweep, RecordingFile
from labweave.formats.recordings.files import need, numbered_sweeps, parsing, quantity_of
from labweave.formats.recordings.units import to_ms

_BLOCK, _SECTIONS_START, _N_SECTIONS = 512, 76, 18


class AxonFile(RecordingFile):
    """Sweeps of an Axon binary file.

    Metadata: ``v_unit`` and ``i_unit`` replace what the file says; ``sweep`` (sweep_000 or several such names)
    picks sweeps. Voltage and current are float32 in the units of their channels, ``dt`` is in ``t_unit``, s
    by default.

    Units tell which channel is which. Where those of the file don't, ``v_unit`` and ``i_unit`` must be given,
    and the first channel is the voltage.

    Raises
    ------
    ReadError
        The file is missing, empty, truncated or no Axon file; it has other channels than one of
        voltage and one of current; a unit is neither in the file nor in the metadata.
    ConfigError
        neo is not installed.
    """

    reader = "axon"
    suffixes = (".abf",)
    cell_from = "folder"

    @contextmanager
    def opened(self):
        """Yield the file as neo has parsed it."""
        try:
            from neo.rawio import AxonRawIO
        except ImportError as error:
            raise ConfigError(f"{self.path}: Axon files are read with neo. Run: pip install labweave[abf]") from error
        _check_sections(self.path, file_size(self.path))
        with parsing(self.path, "Axon binary file"):
            file = AxonRawIO(str(self.path))
            file.parse_header()
        yield file

    def list_sweeps(self, handle) -> list[ListedSweep]:
        """List all sweeps; their protocol is the protocol file's name without folder and suffix."""
        _channels(self.metadata, self.path, handle)
        protocol = _protocol(handle)
        return [ListedSweep(name, protocol) for name in numbered_sweeps(handle.header["nb_segment"][0])]

    def read_facts(self, handle) -> dict:
        """Say the day of the recording, by the clock of the acquisition computer."""
        started = handle._axon_info["rec_datetime"]
        return {} if started is None else {"session_date": started.date().isoformat()}

    def read_sweeps(self, handle, sweeps):
        """Read the samples of each sweep by itself."""
        (voltage, v_unit), (current, i_unit) = _channels(self.metadata, self.path, handle)
        t_unit = self.metadata.get("t_unit") or "s"
        rate_hz = float(handle.get_signal_sampling_rate(0))
        if math.isclose(rate_hz, round(rate_hz), rel_tol=1e-6):  # a whole number but for rounding
            rate_hz = round(rate_hz)
        for sweep in sweeps:
            samples = _samples(self.path, handle, int(sweep.name.removeprefix("sweep_")))
            yield {
                "voltage": samples[:, voltage].copy(),
                "current": samples[:, current].copy(),
                "dt": 1.0 / rate_hz * 1e3 / to_ms(t_unit),
                "t_unit": t_unit,
                "v_unit": v_unit,
                "i_unit": i_unit,
            }


def _check_sections(path, size) -> None:
    """Refuse a version 2 file whose list of sections is damaged: neo would loop over billions of entries."""
    with Path(path).open("rb") as file:
        head = file.read(_SECTIONS_START + 16 * _N_SECTIONS)
    if not head.startswith(b"ABF2") or len(head) < _SECTIONS_START + 16 * _N_SECTIONS:
        return
    for number in range(_N_SECTIONS):
        block, entry_size, n_entries = struct.unpack_from("<IIq", head, _SECTIONS_START + 16 * number)
        if n_entries != 0 and not (entry_size > 0 and 0 < n_entries <= size and 0 < block * _BLOCK < size):
            raise ReadError(path, f"section {number} of its header is damaged", "Copy it again")


def _samples(path, file, index):
    """Samples of one sweep, shape (n_samples, n_channels), float32, in the units of the channels."""
    try:
        raw = file.get_analogsignal_chunk(block_index=0, seg_index=index, stream_index=0)
        samples = file.rescale_signal_raw_to_float(raw, dtype="float32", stream_index=0)
    except Exception as error:  # neo raises anything
        raise ReadError(path, f"samples of sweep {index} are damaged ({error})", "Copy the file again") from error
    if len(samples) == 0:
        raise ReadError(path, f"sweep {index} has no samples", "Copy the file again, or leave this sweep out")
    return samples


def _channels(file_metadata, path, file) -> tuple[tuple[int, str], tuple[int, str]]:
    """Index and unit of the voltage and of the current."""
    found = [(str(channel["name"]), str(channel["units"]).strip()) for channel in file.header["signal_channels"]]
    listed = ", ".join(f"{name} in {unit or 'no unit'}" for name, unit in found)
    if len(found) != 2:
        raise ReadError(
            path, f"{len(found)} channels ({listed})", "Export the channels of voltage and current alone, as two"
        )
    units = [unit for _, unit in found]
    quantities = [quantity_of(unit) for unit in units]
    if set(quantities) == {"voltage", "current"}:
        voltage, current = quantities.index("voltage"), quantities.index("current")
        return (
            (voltage, need(file_metadata, "v_unit", units[voltage], path)),
            (current, need(file_metadata, "i_unit", units[current], path)),
        )
    if file_metadata.get("v_unit") and file_metadata.get("i_unit"):
        return (0, file_metadata["v_unit"]), (1, file_metadata["i_unit"])
    raise ReadError(
        path,
        f"its units don't tell voltage from current ({listed})",
        "Give v_unit and i_unit in the metadata; the first channel is then the voltage",
    )


def _protocol(file) -> str | None:
    """Name of the protocol file, None where the acquisition had none."""
    path = file._axon_info.get("sProtocolPath") or ""
    path = path.decode("latin-1") if isinstance(path, bytes) else str(path)
    name = PureWindowsPath(path.replace("\0", "").strip()).stem
    return None if name.strip("() ").lower() in ("", "untitled") else name

"""Igor binary waves of version 5, written as WaveMetrics' Technical Note 003 says."""

import struct
from pathlib import Path

import numpy as np


def write_wave(path: Path, unit: str, value: float, n_samples: int = 200, dt: float = 0.1, t_unit: str = "ms") -> Path:
    """Write one wave of 32-bit numbers that differ between waves of different values."""
    samples = (np.arange(n_samples) + value).astype("<f4")
    header = bytearray(320)
    struct.pack_into("<i", header, 12, n_samples)
    struct.pack_into("<h", header, 16, 2)
    struct.pack_into("<4i", header, 68, n_samples, 0, 0, 0)
    struct.pack_into("<4d", header, 84, dt, 1, 1, 1)
    struct.pack_into("4s4s", header, 148, unit.encode(), t_unit.encode())
    start = bytearray(64)
    struct.pack_into("<hhi", start, 0, 5, 0, 320 + samples.nbytes)
    checksum = sum(struct.unpack("<192h", bytes(start + header)))
    struct.pack_into("<h", start, 2, struct.unpack("<h", struct.pack("<H", -checksum & 0xFFFF))[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(start + header) + samples.tobytes())
    return path


def write_pairs(folder: Path, n_pairs: int, protocol: str = "IDrest", first: int = 0) -> None:
    """Write the voltage and the current of some sweeps."""
    for number in range(first, first + n_pairs):
        write_wave(folder / f"X_{protocol}_ch0_{number}.ibw", "pA", number)
        write_wave(folder / f"X_{protocol}_ch1_{number}.ibw", "mV", -number - 0.5)

"""Small Axon files, version 1 and 2, written byte by byte: two channels, some sweeps, 16-bit samples."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

BLOCK = 512
GAIN = {"voltage": 0.5, "current": 2.0}  # units per stored number; all values below are exact
CHANNELS = (("Vm", "mV", "voltage"), ("Im", "pA", "current"))


def stored(n_sweeps: int, n_samples: int) -> np.ndarray:
    """Return stored numbers, shape (n_sweeps, n_samples, 3): voltages count up, currents down."""
    voltage = np.arange(n_samples) + 100 * np.arange(n_sweeps)[:, None]
    return np.stack([voltage, -voltage, voltage], axis=-1).astype("<i2")


def write_abf1(
    path: Path, n_sweeps=3, n_samples=40, channels=CHANNELS, interval_us=100.0, protocol="C:\\cells\\IDRest.pro"
):
    """Write version 1.83: all in one header of 6144 bytes."""
    data = stored(n_sweeps, n_samples)[..., : len(channels)].copy()
    header = bytearray(6144)
    data_block = len(header) // BLOCK
    synch_block = data_block + -(-data.nbytes // BLOCK)

    def put(offset, fmt, *values):
        struct.pack_into(f"<{fmt}", header, offset, *values)

    put(0, "4sfhihiii", b"ABF ", 1.83, 5, data.size, 0, n_sweeps, 20200102, 3600)
    put(40, "i", data_block)
    put(92, "ii", synch_block, n_sweeps)
    put(120, "hf", len(channels), interval_us / len(channels))
    put(244, "f", 10.0)
    put(252, "i", 32768)
    put(410, "16h", *range(len(channels)), *[-1] * (16 - len(channels)))
    for index in range(16):
        name, unit, quantity = channels[index] if index < len(channels) else ("", "", "voltage")
        put(442 + 10 * index, "10s", name.encode())
        put(602 + 8 * index, "8s", unit.encode())
        put(730 + 4 * index, "f", 1.0)
        put(922 + 4 * index, "f", 10.0 / 32768 / GAIN[quantity])
        put(1050 + 4 * index, "f", 1.0)
    put(4898, "384s", protocol.encode())
    return _write(path, bytes(header), data)


def write_abf2(
    path: Path, n_sweeps=3, n_samples=40, channels=CHANNELS, interval_us=100.0, protocol="C:\\cells\\IDRest.pro"
):
    """Write version 2.9: an index of sections; protocol, channels and texts in blocks 2, 3 and 4; samples after."""
    data = stored(n_sweeps, n_samples)[..., : len(channels)].copy()
    header = bytearray(BLOCK * 5)
    texts = ["labweave", protocol, *(text for name, unit, _ in channels for text in (name, unit or " "))]
    strings = b"SSCH\0\0\0" + b"\0".join(text.encode() for text in texts) + b"\0"

    def put(offset, fmt, *values):
        struct.pack_into(f"<{fmt}", header, offset, *values)

    def section(number, block, size, count):
        put(76 + 16 * number, "IIq", block, size, count)

    put(0, "4s4bIIII", b"ABF2", 0, 0, 9, 2, BLOCK, n_sweeps, 20200102, 3600000)
    put(30, "H", 0)
    put(72, "I", 2)
    section(0, 2, BLOCK, 1)
    section(1, 3, 128, len(channels))
    section(9, 4, len(strings), len(texts))
    section(10, 5, 2, data.size)
    section(15, 5 + -(-data.nbytes // BLOCK), 8, n_sweeps)
    put(2 * BLOCK, "hf", 5, interval_us)
    put(2 * BLOCK + 110, "f", 10.0)
    put(2 * BLOCK + 118, "i", 32768)
    for index, (_, _, quantity) in enumerate(channels):
        start = 3 * BLOCK + 128 * index
        put(start, "h", index)
        put(start + 28, "f", 1.0)
        put(start + 40, "f", 10.0 / 32768 / GAIN[quantity])
        put(start + 48, "f", 1.0)
        put(start + 74, "ii", 3 + 2 * index, 4 + 2 * index)
    put(4 * BLOCK, f"{len(strings)}s", strings)
    return _write(path, bytes(header), data)


def _write(path: Path, header: bytes, data: np.ndarray) -> Path:
    """Write header, samples in whole blocks, and the list of sweeps: start and length in samples."""
    size = data[0].size
    sweeps = np.array([(index * size, size) for index in range(len(data))], dtype="<i4")
    samples = data.tobytes()
    path.write_bytes(header + samples + b"\0" * (-len(samples) % BLOCK) + sweeps.tobytes())
    return path

"""Each reader of foreign bytes, with small sound files that it reads and a call that reads them whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

import abf_files
import igor_files
import nwb_files

from labweave.formats import alf, axopy, onedata, recordings, stytra
from labweave.formats.onedata.arrays import read_sparse
from labweave.ingest.ephys import EphysAdapter
from labweave.ingest.registry import make_options

UNITS = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}


class Reader(NamedTuple):
    """How a kind of file is made and read.

    Attributes
    ----------
    write : callable
        Takes a folder, returns the file that will be changed.
    read : callable
        Takes that file.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]


def _recording(**metadata) -> Callable[[Path], Any]:
    return lambda path: recordings.read_file({"filepath": path, **metadata})


def _own(folder: Path) -> Path:
    sweeps = [
        {"voltage": np.full(300, -70.0 - n), "current": np.zeros(300), "ton": 5, "toff": 20, **UNITS} for n in (0, 1)
    ]
    return recordings.write_recordings(folder / "cell.h5", sweeps, cell="c", protocol="IDrest", subject="m")


def _matlab5(folder: Path) -> Path:
    samples = np.column_stack([np.arange(200) / 1e4, np.full(200, -0.07)])
    scipy.io.savemat(folder / "cell.mat", {"Trace_1_1_1_1": samples, "Trace_1_1_1_2": samples}, do_compression=True)
    return folder / "cell.mat"


def _matlab7(folder: Path) -> Path:
    samples = np.column_stack([np.arange(200) / 1e4, np.full(200, -0.07)]).T
    with h5py.File(folder / "cell.mat", "w", userblock_size=512) as file:
        file["Trace_1_1_1_1"], file["Trace_1_1_1_2"] = samples, samples
    return folder / "cell.mat"


def _mapping(kind: str) -> Reader:
    """Return how a mapping of cells is read, beside a sound recording."""
    tree = {
        "files_metadata": {"c": {"IDrest": [{"filepath": "cell.h5", "ljp": 14.0, "sweep": "sweep_000"}]}},
        "cells": {"c": {"subject": "m", "session_date": "2026-03-01"}},
    }
    table = "cell,protocol,filepath,subject,ljp\nc,IDrest,cell.h5,m,14\n"
    text = {"json": json.dumps(tree), "yaml": yaml.safe_dump(tree), "csv": table}[kind]

    def write(folder: Path) -> Path:
        _own(folder)
        (folder / f"metadata.{kind}").write_text(text)
        return folder / f"metadata.{kind}"

    def read(path: Path) -> Any:
        return list(EphysAdapter(path.parent, "l", make_options(EphysAdapter, {})).discover())

    return Reader(write, read)


def _igor(path: Path) -> Any:
    other = igor_files.write_wave(path.parent / "other.ibw", "pA", 1.0)
    return recordings.read_file({"v_file": path, "i_file": other, "filepath": path})


def _lccr(folder: Path) -> Path:
    np.savetxt(folder / "cell.txt", np.full((300, 2), -70.0), fmt="%.3f", delimiter="\t")
    return folder / "cell.txt"


def _saved(name: str, save: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save(folder / name)
        return folder / name

    return write


FRAME = pd.DataFrame({"x": np.arange(40) / 7, "n": np.arange(40), "name": [f"a{n}é" for n in range(40)]})
LOG = {"x": np.arange(50.0), "n": np.arange(50), "seen": np.arange(50) % 2 == 0, "t": np.arange(50) / 20}
TREE = {"a": [1, 2.5, None], "b": {"c": "text é", "d": True}}
YAML = "a: [1, 2.5, null]\nb: &b\n  c: text é\n  d: yes\ne: *b\nf: 2026-03-01\n"


def _task(folder: Path) -> Path:
    storage = axopy.Storage(folder / "task")
    storage.subject_id = "p"
    writer = storage.create_task("t")
    for n in range(3):
        trial = axopy.Trial({"target": f"a,{n}", "score": n / 3})
        trial.add_array("emg", data=np.arange(20.0) + n)
        writer.write(trial)
    writer.close()
    return folder / "task" / "p" / "t"


def _read_task(path: Path) -> Any:
    reader = axopy.TaskReader(path.parent)
    reader.examine()
    return reader.trials, [list(reader.iterarray(name)) for name in reader.array_names()]


def _stytra(kind: str) -> Reader:
    return Reader(lambda folder: stytra.write_log(LOG, folder / "log", kind), lambda path: stytra.open_log(path).frame)


def _stytra_metadata(folder: Path) -> Path:
    tree = {
        "general": {"t_protocol_start": "2026-01-01T10:00:00", "fish_id": "f1", "animal": {"age": 5}},
        "stimulus": {"protocol_params": {"name": "p"}, "log": [{"name": "pause", "t_start": 0.0, "t_stop": 1.5}]},
    }
    (folder / "1_metadata.json").write_text(json.dumps(tree))
    return folder / "1_metadata.json"


def _read_metadata(path: Path) -> Any:
    found = stytra.read_metadata(path)
    names = [name for name in dir(type(found)) if isinstance(getattr(type(found), name), property)]
    return [getattr(found, name) for name in names]


def _objects(path: Path) -> None:
    np.save(path, np.array({"a": [1, 2], "b": np.arange(4)}, dtype=object), allow_pickle=True)


READERS: dict[str, Reader] = {
    "labweave recordings": Reader(_own, _recording()),
    **{
        f"nwb {name}": Reader(_saved("cell.nwb", getattr(nwb_files, f"write_{name}")), _recording())
        for name in ("bbp", "aibs", "trt", "scala", "vu")
    },
    "matlab 5": Reader(_matlab5, _recording(**{name: unit for name, unit in UNITS.items() if name != "dt"})),
    "matlab 7.3": Reader(_matlab7, _recording(**{name: unit for name, unit in UNITS.items() if name != "dt"})),
    "igor": Reader(lambda folder: igor_files.write_wave(folder / "v.ibw", "mV", 0.0), _igor),
    "abf 1": Reader(_saved("cell.abf", abf_files.write_abf1), _recording()),
    "abf 2": Reader(_saved("cell.abf", abf_files.write_abf2), _recording()),
    "csv_lccr": Reader(_lccr, _recording(**UNITS, amplitudes=[10, 20], hypamp=0, ton=5, toff=20, reader="csv_lccr")),
    "alf npy": Reader(_saved("a.b.npy", lambda path: np.save(path, np.arange(60.0).reshape(20, 3))), alf.load_file),
    "alf npz": Reader(_saved("a.b.npz", lambda path: np.savez_compressed(path, np.arange(60))), alf.load_file),
    "alf csv": Reader(_saved("a.b.csv", lambda path: FRAME.to_csv(path, index=False)), alf.load_file),
    "alf tsv": Reader(_saved("a.b.tsv", lambda path: FRAME.to_csv(path, sep="\t")), alf.load_file),
    "alf pqt": Reader(_saved("a.b.pqt", FRAME.to_parquet), alf.load_file),
    "alf json": Reader(_saved("a.b.json", lambda path: path.write_text(json.dumps(TREE))), alf.load_file),
    "alf jsonable": Reader(
        _saved("a.b.jsonable", lambda path: path.write_text(f"{json.dumps(TREE)}\n" * 3)), alf.load_file
    ),
    "alf yaml": Reader(_saved("a.b.yaml", lambda path: path.write_text(YAML)), alf.load_file),
    "onedata npy": Reader(_saved("a.npy", lambda path: np.save(path, np.arange(60).reshape(20, 3))), onedata.read_npy),
    "onedata objects": Reader(_saved("a.npy", _objects), onedata.read_npy),
    "onedata sparse": Reader(
        _saved("a.npz", lambda path: scipy.sparse.save_npz(path, scipy.sparse.csc_array(np.eye(9)))), read_sparse
    ),
    "axopy arrays": Reader(lambda folder: _task(folder) / "emg.hdf5", _read_task),
    "axopy trials": Reader(lambda folder: _task(folder) / "trials.csv", _read_task),
    **{f"stytra {kind}": _stytra(kind) for kind in ("csv", "feather", "hdf5", "json")},
    "stytra metadata": Reader(_stytra_metadata, _read_metadata),
    **{f"mapping {kind}": _mapping(kind) for kind in ("json", "yaml", "csv")},
}


def mutants(content: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield damaged versions of a file: cut, flipped, swapped, doubled, with numbers at their limits and foreign text."""
    chance = np.random.default_rng(seed)
    limits = [
        value.to_bytes(size, order, signed=False)
        for size in (1, 2, 4, 8)
        for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1, 10 % 2 ** (8 * size))
        for order in ("little", "big")
    ]
    texts = [
        b"\0",
        b"\xff\xfe",
        b"NaN",
        b"-1",
        b"1e999",
        b"9" * 5000,
        b"\xe2\x80\xae",
        b'"',
        b"{",
        b"[" * 3000,
        b",",
        b"\n",
    ]
    for _ in range(n):
        data = bytearray(content)
        for _ in range(int(chance.choice([1, 1, 1, 2, 3]))):
            size = len(data)
            at = int(chance.integers(0, min(size, 600) if chance.random() < 0.5 else size)) if size else 0
            match int(chance.integers(0, 7)):
                case 0:
                    del data[at:]
                case 1:
                    data[at : at + 1] = bytes([int(chance.integers(0, 256))])
                case 2:
                    value = limits[int(chance.integers(0, len(limits)))]
                    data[at : at + len(value)] = value
                case 3:
                    data[at : at + int(chance.integers(1, 64))] = b""
                case 4:
                    other = int(chance.integers(0, size or 1))
                    data[at:at] = data[other : other + int(chance.integers(1, 64))]
                case 5:
                    value = texts[int(chance.integers(0, len(texts)))]
                    data[at : at + int(chance.integers(0, 8))] = value
                case _:
                    data[at : at + 64] = bytes(len(data[at : at + 64]))
        yield bytes(data)

"""Tables in HDF5 as Stytra's logs hold them: pandas' fixed layout under ``/data``, without pickles.

Written from files that pandas 1.5 and PyTables 3 made. ``axis0`` names the columns in order, ``axis1`` numbers
the rows; columns of one type lie side by side in ``block<k>_values``, named by ``block<k>_items``. Blosc, which
Stytra compresses with, is read through hdf5plugin; what is written is compressed with gzip, which every viewer reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from labweave.formats.hdf5 import open_hdf5

_GROUP = "data"
_BLOSC = {32001, 32026}
_CHUNK_BYTES = 1 << 18


def read_table(path: Path) -> tuple[pd.DataFrame, list[str], dict[str, str]]:
    """Read a table.

    Returns
    -------
    frame : DataFrame
        Without the columns that can't be read.
    columns : list of str
        All of the file.
    refused : dict
        Column -> why it is not in the frame.

    Raises
    ------
    ReadError
        It is no such file, or damaged.
    """
    with open_hdf5(path) as file:
        return _read(file)


def _read(file: Any) -> tuple[pd.DataFrame, list[str], dict[str, str]]:
    names = _names(file, f"{_GROUP}/axis0")
    n_rows = int(file[f"{_GROUP}/axis1"].shape[0])
    columns: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for block in range(int(np.asarray(file[_GROUP].attrs["nblocks"]))):
        items = _names(file, f"{_GROUP}/block{block}_items")
        dataset = file[f"{_GROUP}/block{block}_values"]
        if dataset.dtype.hasobject or dataset.ndim != 2:
            refused |= dict.fromkeys(items, "its values are pickled, which could run any code; save the log as csv")
            continue
        if dataset.shape != (n_rows, len(items)) and n_rows:
            raise ValueError(f"block{block}_values has the shape {dataset.shape}")
        values = _values(dataset)
        for index, name in enumerate(items):
            columns[name] = _column(values[:, index], dataset)
    if missing := set(names) - set(columns) - set(refused):
        raise ValueError(f"no values of {', '.join(sorted(missing))}")
    return pd.DataFrame({name: columns[name] for name in names if name in columns}), names, refused


def _values(dataset: Any) -> np.ndarray:
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(index)[0] for index in range(plist.get_nfilters())}
    if filters & _BLOSC:
        import hdf5plugin  # noqa: F401 - registers the filter
    return dataset[()]


def _names(file: Any, name: str) -> list[str]:
    values = _values(file[name])
    if values.dtype.kind != "S":
        raise ValueError(f"{name} holds no names")
    return [value.decode("utf-8") for value in values.tolist()]


def _column(values: np.ndarray, dataset: Any) -> Any:
    if values.dtype.kind == "S":
        return np.array([value.decode("utf-8") for value in values.tolist()], object)
    # PyTables keeps booleans as bit fields, which h5py shows as small integers
    if values.dtype == np.uint8 and dataset.id.get_type().get_class() == h5py.h5t.BITFIELD:
        return values.astype(bool)
    return np.ascontiguousarray(values)


def write_table(columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a table of named columns, in order; text is stored as UTF-8, missing text as an empty one."""
    n_rows = len(next(iter(columns.values())))
    blocks: dict[str, list[str]] = {}
    for name, values in columns.items():
        blocks.setdefault("text" if values.dtype.kind in "OUS" else values.dtype.str, []).append(name)
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        _describe(file, "GROUP", "1.0", PYTABLES_FORMAT_VERSION=b"2.1")
        group = file.create_group(_GROUP)
        facts = {"pandas_type": b"frame", "pandas_version": b"0.15.2", "encoding": b"UTF-8", "errors": b"strict"}
        facts |= {f"block{block}_items_variety": b"regular" for block in range(len(blocks))}
        numbers = {"ndim": np.int64(2), "nblocks": np.int64(len(blocks))}
        varieties = {"axis0_variety": b"regular", "axis1_variety": b"regular"}
        _describe(group, "GROUP", "1.0", **facts, **numbers, **varieties)
        _write_index(group, "axis0", _encoded(list(columns)), b"string")
        _write_index(group, "axis1", np.arange(n_rows, dtype="<i8"), b"integer")
        for block, (kind, names) in enumerate(blocks.items()):
            _write_index(group, f"block{block}_items", _encoded(names), b"string")
            _write_block(group, f"block{block}_values", kind, [columns[name] for name in names])


def _write_block(group: h5py.Group, name: str, kind: str, columns: list[np.ndarray]) -> None:
    if kind == "text":
        columns = [_encoded(["" if _is_missing(value) else str(value) for value in column]) for column in columns]
    values = np.column_stack(columns)
    stored = h5py.h5t.py_create(values.dtype)
    if kind == "|b1":  # a bit field in the file, as PyTables has it; h5py's upper level can't make one
        values, stored = values.astype(np.uint8), h5py.h5t.STD_B8LE.copy()
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if len(values):
        plist.set_chunk((max(1, min(len(values), _CHUNK_BYTES // values[0].nbytes)), len(columns)))
        plist.set_shuffle()
        plist.set_deflate(1)
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), stored, space, plist))
    dataset.id.write(h5py.h5s.ALL, h5py.h5s.ALL, values, stored)
    _describe(dataset, "CARRAY" if len(values) else "ARRAY", "1.1", transposed=np.uint8(1))


def _write_index(group: h5py.Group, name: str, values: np.ndarray, kind: bytes) -> None:
    many = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if len(values) > 1000 else {}
    dataset = group.create_dataset(name, data=values, **many)
    _describe(dataset, "CARRAY" if many else "ARRAY", "1.1", kind=kind, name=b"N.", transposed=np.uint8(1))


def _describe(item: Any, kind: str, version: str, /, **facts: Any) -> None:
    """Add the attributes that PyTables looks for."""
    texts = {"CLASS": kind.encode(), "TITLE": b"", "VERSION": version.encode()}
    for key, value in {**texts, **facts}.items():
        if isinstance(value, bytes) and key != "name":
            item.attrs.create(key, value, dtype=h5py.string_dtype("utf-8", max(1, len(value))))
        else:  # `name` is a pickled None, which PyTables knows by its being ASCII
            item.attrs[key] = np.bytes_(value) if key == "name" else value
    if kind.endswith("ARRAY"):
        item.attrs["FLAVOR"] = np.bytes_(b"numpy")


def _encoded(texts: list[str]) -> np.ndarray:
    encoded = [text.encode("utf-8", "replace") for text in texts]
    return np.array(encoded, f"S{max(1, max(map(len, encoded), default=1))}")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)

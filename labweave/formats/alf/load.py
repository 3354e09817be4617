"""Contents of ALF files and objects.

Each extension gives one type: see `load_file`. Objects are read as ONE-api 3 does; with ``legacy=True`` as ONE did
before: tables stay frames, ``(n, 1)`` arrays and ``(m, 2)`` timestamps stay as they are.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from labweave.errors import FileMissing, LabweaveError, ReadError
from labweave.formats.alf.bunch import AlfBunch, log_lengths
from labweave.formats.alf.exceptions import (
    ALFAmbiguousAttributes,
    ALFInvalid,
    ALFMultipleObjectsFound,
    ALFObjectNotFound,
    ALFWarning,
)
from labweave.formats.alf.folders import choose, dataset_names, object_files
from labweave.formats.alf.names import Parts, parse_name
from labweave.formats.alf.path import alf_path

if TYPE_CHECKING:
    import numpy as np

LEGACY_EXTENSIONS = frozenset({".npy", ".csv", ".tsv", ".ssv", ".json", ".jsonable", ".pqt"})
"""What was loaded before ONE-api 3; the path stood for everything else."""


def load_file(path: str | PurePath, *, legacy: bool = False, trust_pickles: bool = False) -> Any:
    """Return what is in a file, as its extension says.

    ===================  ===============================================================
    npy                  array; of shape (n,) where it is (n, 1)
    npz                  the array if it has no name (``arr_0``), else `numpy.lib.npyio.NpzFile`
    csv, tsv, htsv, ssv  frame; a series if there is one column
    json                 what it holds
    jsonable             list, with an element per line
    pqt                  frame
    yaml, yml            dictionary or list
    sparse_npz           sparse array, if the package ``sparse`` is installed
    all others           the path, as ALFPath
    ===================  ===============================================================

    An empty file and JSON that can't be read give None, with an `ALFWarning`. Of an ``oneData`` folder a recipe is
    followed, and a sparse array comes dense, see `labweave.formats.onedata`.

    Parameters
    ----------
    path : str or Path
    legacy : bool, default: False
        As before ONE-api 3: no ``(n,)``, no series, and the path for npz, htsv, yaml and sparse_npz.
    trust_pickles : bool, default: False
        Load arrays of Python objects, which are pickles and can run any code: do it with files of your own only.

    Raises
    ------
    FileMissing
        There is no such file.
    ReadError
        It can't be read as what it is named.
    """
    file = path if isinstance(path, Path) else Path(path)
    extension = file.suffix
    if file.parent.name.lower() == "onedata" and extension in (".npy", ".npz"):  # its recipes are followed
        from labweave.formats.onedata import load_file as load_variable

        return load_variable(file, trust_pickles=trust_pickles)
    try:
        if file.stat().st_size == 0:
            warnings.warn(ALFWarning(f"{file} is empty: nothing is loaded from it."), stacklevel=2)
            return None
        if (read := _READERS.get(extension)) is None or (legacy and extension not in LEGACY_EXTENSIONS):
            return alf_path(file)
        content = read(file, trust_pickles)
    except FileNotFoundError:
        raise FileMissing(file, "there is no such file", "Is the path right, and the disk mounted?") from None
    except OSError as error:
        raise ReadError(file, error.strerror or str(error), "Is it a file, and may it be read?") from None
    except LabweaveError:
        raise
    except Exception as error:  # the parsers of these formats raise all sorts of errors
        found = f"it can't be read as {extension[1:]} ({type(error).__name__}: {error})"
        raise ReadError(file, found, "It may be truncated, or something else than its name says.") from error
    if legacy:
        return content
    if extension == ".npy" and content.ndim == 2 and content.shape[1] == 1:
        return content.reshape(-1)
    return content.iloc[:, 0] if extension in _TEXT_TABLES and content.shape[1] == 1 else content


def load_object(
    alfpath: str | PurePath | Iterable[str | PurePath],
    object: str | list[str] | None = None,
    short_keys: bool = False,
    *,
    legacy: bool = False,
    trust_pickles: bool = False,
    wildcards: bool = True,
    contents: Mapping[str, Any] | None = None,
    **parts: Any,
) -> AlfBunch:
    """Return all attributes of an object.

    Keys are ``attribute[_timescale][.extra]``. A file ``object.attribute.metadata.json`` names the columns of the
    array beside it, which become items of their own; what else it holds is the item ``<attribute>metadata``. The
    columns of an attribute ``table`` become items, ``x_0`` and ``x_1`` the two columns of ``x``. Timestamps that hold
    pairs of sample and time become a time per row. Different lengths are told in the log only.

    Parameters
    ----------
    alfpath : str, Path, or a list of those
        A folder; a file of the object; or the files to load, from any folders.
    object : str or list of str
        Name of the object, with a folder.
    short_keys : bool, default: False
        Leave the extra parts out of the keys.
    legacy : bool, default: False
        As before ONE-api 3: tables and timestamps are left as they are in the file, see also `load_file`.
    trust_pickles : bool, default: False
        See `load_file`.
    wildcards : bool, default: True
        The object and other parts are shell patterns, else regular expressions.
    contents : mapping, optional
        With a list of files: what is in others that have a name only.
    **parts : str, list of str or None
        Load only files with these parts, see `filter_by`; None stands for absent.

    Raises
    ------
    ALFObjectNotFound
        No such file is there.
    ALFMultipleObjectsFound
        The files are those of several objects.
    ALFAmbiguousAttributes
        Several files have the same key; an AssertionError as well.
    ReadError
        A file can't be read.
    """
    contents = contents or {}
    if isinstance(alfpath, (str, PurePath)):
        folder, found = object_files(alfpath, object, wildcards=wildcards, **parts)
        files = [(folder, name, each) for name, each in found]
    else:
        files = _given_files([*alfpath, *contents], object, wildcards, parts)
    if len(objects := {each.object for *_, each in files}) > 1:
        raise ALFMultipleObjectsFound(f"Files of several objects are given: {', '.join(sorted(map(str, objects)))}.")
    metadata = {folder: _Metadata(folder) for folder in {folder for folder, name, _ in files if name not in contents}}
    data = [(folder, name, each) for folder, name, each in files if not _is_metadata(each)]
    keys = [each.short_key if short_keys else each.key for *_, each in data]
    if len(set(keys)) < len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        names = ", ".join(name for (_, name, _), key in zip(data, keys, strict=True) if key in twice)
        raise ALFAmbiguousAttributes(f"Several files have the attribute {', '.join(twice)}: {names}.")
    bunch = AlfBunch()
    for (folder, name, _), key in zip(data, keys, strict=True):
        if name in contents:
            bunch[key] = contents[name]
            continue
        bunch[key] = load_file(folder / name, legacy=legacy, trust_pickles=trust_pickles)
        if found := metadata[folder].of(name):
            _apply_metadata(bunch, key, folder / found)
    if not legacy:
        _expand_tables(bunch)
        _expand_timestamps(bunch)
    log_lengths(bunch, f"object {next(iter(objects))}")
    return bunch


def read_ts(filename: str | PurePath) -> tuple[np.ndarray, np.ndarray]:
    """Return the times and the values of a time series, such as ``wheel.position.npy`` beside ``wheel.timestamps.npy``.

    Parameters
    ----------
    filename : str or Path
        The values; the times are in the file of the same object and extension whose attribute begins with ``times``,
        if there are several in that of the same namespace, timescale and extra parts.

    Raises
    ------
    FileMissing
        No such file, or more than one could be it; a FileNotFoundError as well.
    ALFInvalid
        It is not named as a dataset.
    """
    file = Path(filename)
    own = parse_name(file.name)
    if own is None:
        raise ALFInvalid(f"{file.name!r} is no ALF name.")
    found = choose(dataset_names(file.parent), object=own.object, attribute="times*", extension=own.extension)
    for part in ("namespace", "timescale", "extra"):
        if len(found) > 1:
            found = [(each, parts) for each, parts in found if getattr(parts, part) == getattr(own, part)]
    if len(found) != 1:
        raise FileMissing(
            file,
            f"{len(found) or 'no'} files beside it could hold its times",
            f"One file {own.object}.times.{own.extension} or {own.object}.timestamps.{own.extension} is needed.",
        )
    values = load_file(file)
    return times_of_samples(load_file(file.with_name(found[0][0])), len(values)), values


def times_of_samples(timestamps: np.ndarray, n_samples: int) -> np.ndarray:
    """Return a time per sample.

    Parameters
    ----------
    timestamps : ndarray, shape (n_samples,) or (m, 2)
        Times; or rows of sample (from 0) and time, between which times are interpolated linearly. Before the first and
        after the last of them the time stands still.
    n_samples : int

    Raises
    ------
    ALFInvalid
        Another shape; a ValueError as well.
    """
    import numpy as np

    if timestamps.ndim == 1:
        return timestamps
    if timestamps.ndim != 2 or timestamps.shape[1] not in (1, 2):
        raise ALFInvalid(f"Timestamps have the shape {timestamps.shape}; (n,) or (m, 2) is expected.", terse=True)
    if timestamps.shape[1] == 1:
        return timestamps.reshape(-1)
    return np.interp(np.arange(n_samples), timestamps[:, 0], timestamps[:, 1])


# --- objects


def _given_files(
    paths: Iterable[str | PurePath], object: Any, wildcards: bool, parts: dict[str, Any]
) -> list[tuple[Path, str, Parts]]:
    """Return folder, name and parts of files that are listed one by one."""
    files = []
    wanted = parts if object is None else {"object": object, **parts}
    for path in map(Path, paths):
        if not (each := parse_name(path.name)):
            raise ALFInvalid(f"{path.name!r} is no ALF name.")
        if choose([path.name], wildcards, **wanted):
            files.append((path.parent, path.name, each))
    if not files:
        raise ALFObjectNotFound("No files are given, or none fits.", terse=True)
    return files


def _is_metadata(parts: Parts) -> bool:
    """Say whether a file describes another: its name ends in .metadata.json, perhaps with more in between."""
    return parts.extension == "json" and any(part.startswith("metadata") for part in (parts.extra or "").split("."))


class _Metadata:
    """The files of a folder that describe others."""

    def __init__(self, folder: Path):
        self._names: dict[tuple[str, str], list[str]] = {}
        self._described = set()
        for name, parts in choose(dataset_names(folder)):
            if _is_metadata(parts):
                self._names.setdefault(_head(name), []).append(name)
            else:
                self._described.add(_head(name))

    def of(self, name: str) -> str | None:
        """Return the file that describes another: by its whole name, or by namespace, object and attribute."""
        if not self._names:
            return None
        prefix, attribute = _head(name)
        exact = self._names.get((prefix, attribute), [])
        own = f"{name.rpartition('.')[0]}.metadata.json"
        if own in exact:
            return own
        # attribute* in the specification: but not what describes another attribute of that beginning
        begin = (
            name
            for (other, longer), names in self._names.items()
            if other == prefix and longer.startswith(attribute) and (other, longer) not in self._described
            for name in names
        )
        return next(iter(exact), None) or next(begin, None)


def _head(name: str) -> tuple[str, str]:
    """Return namespace and object, and attribute and timescale, of a file name."""
    first, second, _ = name.split(".", 2)
    return first, second


def _apply_metadata(bunch: AlfBunch, key: str, path: Path) -> None:
    """Put the columns that a metadata file names, and what else it says, into the bunch."""
    import numpy as np

    metadata = load_file(path)
    if not isinstance(metadata, dict):
        return
    content = bunch[key]
    if "columns" in metadata and isinstance(content, np.ndarray) and content.ndim:
        columns = metadata.pop("columns")
        grid = content[:, None] if content.ndim == 1 else content
        if not isinstance(columns, list) or any(isinstance(name, (list, dict)) for name in columns):
            raise ReadError(path, 'its "columns" are no list of names', "Correct it.")
        if len(columns) > grid.shape[1]:
            found = f"it names {len(columns)} columns, the array has {grid.shape[1]}"
            raise ReadError(path, found, "Correct it, or load the array without it by load_file.")
        del bunch[key]
        bunch.update({name: grid[:, i] for i, name in enumerate(columns)})
    if metadata:
        bunch[f"{key}metadata"] = metadata


def _expand_tables(bunch: AlfBunch) -> None:
    """Put the columns of frames called table in their place; timescale and extra parts are added to each name."""
    import pandas as pd

    for key in [key for key in bunch if re.match(r"table([_.]|$)", key)]:
        table, suffix = bunch[key], key[len("table") :]
        if isinstance(table, pd.Series):
            table = table.to_frame()
        if not isinstance(table, pd.DataFrame):
            continue
        del bunch[key]
        names = [_suffixed(str(name), suffix) for name in table.columns]
        bunch.update(AlfBunch.from_df(table.set_axis(names, axis=1)))


def _suffixed(column: str, suffix: str) -> str:
    """Return the name of a column with timescale and extra parts, which go before _0 and _1."""
    if len(column) > 2 and column.endswith(("_0", "_1")):
        return column[:-2] + suffix + column[-2:]
    return column + suffix


def _expand_timestamps(bunch: AlfBunch) -> None:
    """Give timestamps that are pairs of sample and time the length of the other attributes, if those agree."""
    import numpy as np
    import pandas as pd

    arrays = {
        key: value
        for key, value in bunch.items()
        if isinstance(value, (np.ndarray, pd.DataFrame, pd.Series)) and value.ndim
    }
    lengths = {len(value) for key, value in arrays.items() if "timestamps" not in key}
    if not lengths or not lengths <= {max(lengths), 1}:
        return
    for key, value in arrays.items():
        if "timestamps" in key and value.ndim == 2 and value.shape[1] == 2:
            bunch[key] = times_of_samples(np.asarray(value), max(lengths))


# --- formats


def _read_npy(file: Path, trust_pickles: bool) -> Any:
    import numpy as np

    try:
        return np.load(file, allow_pickle=trust_pickles)
    except (ValueError, EOFError, MemoryError, OverflowError) as error:
        with file.open("rb") as opened:
            if opened.read(6) != b"\x93NUMPY":
                raise ValueError("it does not begin as an npy file") from None
        if "Object arrays" in str(error):
            raise ReadError(
                file,
                "it holds Python objects, as a pickle, which can run any code",
                "If you trust it, say trust_pickles=True (load_file, load_object, ONE) or --trust-pickles.",
            ) from None
        raise


def _read_npz(file: Path, trust_pickles: bool) -> Any:
    import numpy as np

    if not zipfile.is_zipfile(file):
        raise ValueError("it is no zip archive")
    archive = np.load(file, allow_pickle=trust_pickles)
    if archive.files != ["arr_0"]:
        return archive
    with archive:
        return archive["arr_0"]


def _read_text_table(separator: str) -> Callable[[Path, bool], Any]:
    def read(file: Path, trust_pickles: bool) -> Any:
        import pandas as pd

        return pd.read_csv(file, sep=separator)

    return read


def _read_json(file: Path, trust_pickles: bool) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        warnings.warn(ALFWarning(f"{file} is no JSON ({error}): nothing is loaded from it."), stacklevel=3)
        return None


def _read_jsonable(file: Path, trust_pickles: bool) -> Any:
    rows = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                advice = "Correct or remove that line; the others can be read."
                raise ReadError(file, f"line {number} is no JSON ({error})", advice) from None
    return rows


def _read_parquet(file: Path, trust_pickles: bool) -> Any:
    import pyarrow.parquet as pq

    # ParquetFile, not read_table: that makes columns of folders such as run=1 in the path.
    with pq.ParquetFile(file) as parquet:
        return parquet.read().to_pandas()


def _read_yaml(file: Path, trust_pickles: bool) -> Any:
    import yaml

    with file.open("rb") as opened:
        return yaml.load(opened, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders


def _read_sparse(file: Path, trust_pickles: bool) -> Any:
    try:
        import sparse  # pyright: ignore[reportMissingImports]
    except ImportError:
        text = f"{file} can't be loaded without the package sparse, the path is given. pip install sparse"
        warnings.warn(ALFWarning(text), stacklevel=3)
        return alf_path(file)
    return sparse.load_npz(file)


_TEXT_TABLES = {".csv": ",", ".tsv": "\t", ".htsv": "\t", ".ssv": " "}
_READERS: dict[str, Callable[[Path, bool], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".json": _read_json,
    ".jsonable": _read_jsonable,
    ".pqt": _read_parquet,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".sparse_npz": _read_sparse,
    **{extension: _read_text_table(separator) for extension, separator in _TEXT_TABLES.items()},
}

"""Load ALF files and objects.

Each extension gives one type: see `load_file`. Objects are loaded as ONE-api 3 does it. With ``legacy=True`` they are
loaded as before: tables stay frames, and ``(n, 1)`` arrays and ``(m, 2)`` timestamps keep their shape.
"""

from __future__ import annotations

import json
import re
import warnings
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
from labweave.formats.alf.names import Parts, is_valid, parse_name
from labweave.formats.alf.path import alf_path
from labweave.formats.limits import check_archive, check_columns

if TYPE_CHECKING:
    import numpy as np

LEGACY_EXTENSIONS = frozenset({".npy", ".csv", ".tsv", ".ssv", ".json", ".jsonable", ".pqt"})
"""What ONE loaded before ONE-api 3; it gave the path of all other files."""


def load_file(path: str | PurePath, *, legacy: bool = False, trust_pickles: bool = False) -> Any:
    """Return the content of a file, read as its extension says.

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

    An empty file and invalid JSON give None, with an `ALFWarning`. In an ``oneData`` folder, recipes are followed and
    sparse arrays become dense: see `labweave.formats.onedata`.

    Parameters
    ----------
    path : str or Path
    legacy : bool, default: False
        As before ONE-api 3: arrays keep the shape (n, 1), frames stay frames, and npz, htsv, yaml and sparse_npz give
        the path.
    trust_pickles : bool, default: False
        Load arrays of Python objects. They are pickles, which can run any code: only do it with your own files.

    Raises
    ------
    FileMissing
        There is no such file.
    ReadError
        The file can't be read as its extension says.

    Examples
    --------
    >>> from labweave.formats.alf import load_file, save_object_npy
    >>> [file] = save_object_npy("alf", {"times": np.array([[0.1], [0.4]])}, "spikes")
    >>> load_file(file)
    array([0.1, 0.4])
    >>> load_file(file, legacy=True).shape
    (2, 1)
    """
    file = path if isinstance(path, Path) else Path(path)
    extension = file.suffix
    if file.parent.name.lower() == "onedata" and extension in (".npy", ".npz"):
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
        if "Object arrays" in str(error):
            raise ReadError(
                file,
                "it holds Python objects, as a pickle, which can run any code",
                "If you trust it, say trust_pickles=True (load_file, load_object, ONE) or --trust-pickles.",
            ) from None
        found = f"it can't be read as {extension[1:]} ({type(error).__name__}: {error})"
        raise ReadError(file, found, "It may be truncated, or something else than its name says.") from error
    if legacy:
        return content
    if extension == ".npy" and content.ndim == 2 and content.shape[1] == 1:
        return content.reshape(-1)
    return content.iloc[:, 0] if extension in _SEPARATORS and content.shape[1] == 1 else content


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
    """Load all attributes of an object.

    Keys are ``attribute[_timescale][.extra]``. A file ``object.attribute.metadata.json`` can name the columns of the
    array beside it; they become items of their own, and the rest of the file becomes the item ``<attribute>metadata``.
    The columns of an attribute ``table`` become items, ``x_0`` and ``x_1`` the two columns of ``x``. Timestamps that
    are pairs of sample and time become one time per row. The log warns of different lengths.

    Parameters
    ----------
    alfpath : str, Path, or a list of those
        A folder, a file of the object, or the files to load, which may lie in several folders.
    object : str or list of str
        Name of the object; needed with a folder.
    short_keys : bool, default: False
        Leave the extra parts out of the keys.
    legacy : bool, default: False
        As before ONE-api 3: tables and timestamps stay as they are in the file; see also `load_file`.
    trust_pickles : bool, default: False
        See `load_file`.
    wildcards : bool, default: True
        The object and the other parts are shell patterns, else regular expressions.
    contents : mapping, optional
        With a list of files: name -> content of datasets that have no file.
    **parts : str, list of str or None
        Load only files with these parts, as in `filter_by`.

    Raises
    ------
    ALFObjectNotFound
        The object has no such files.
    ALFMultipleObjectsFound
        The files belong to several objects.
    ALFAmbiguousAttributes
        Several files have the same key. (Also an AssertionError.)
    ReadError
        A file can't be read.

    Examples
    --------
    >>> from labweave.formats.alf import load_object, save_object_npy
    >>> saved = {"times": np.array([0.1, 0.4]), "clusters": np.array([3, 5])}
    >>> _ = save_object_npy("alf/probe00", saved, "spikes", namespace="ibl")
    >>> spikes = load_object("alf/probe00", "spikes")
    >>> list(spikes), spikes.times
    (['clusters', 'times'], array([0.1, 0.4]))
    """
    contents = contents or {}
    if isinstance(alfpath, (str, PurePath)):
        files = object_files(alfpath, object, wildcards=wildcards, **parts)
    else:
        files, wanted = [], parts if object is None else {"object": object, **parts}
        for path in map(Path, [*alfpath, *contents]):
            if not is_valid(path.name):
                raise ALFInvalid(f"{path.name!r} is no ALF name.")
            files += [(path.parent, name, each) for name, each in choose([path.name], wildcards, **wanted)]
        if not files:
            raise ALFObjectNotFound("No files are given, or none fits.", terse=True)
    if len(objects := {each.object for *_, each in files}) > 1:
        raise ALFMultipleObjectsFound(f"Files of several objects are given: {', '.join(sorted(map(str, objects)))}.")
    folders = {folder for folder, name, _ in files if name not in contents}
    metadata = {
        folder: [name for name, each in choose(dataset_names(folder)) if _is_metadata(each)] for folder in folders
    }
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
        if found := _find_metadata(folder, name, metadata[folder]):
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
        The file of the values. The times are in the file of the same object and extension whose attribute begins with
        ``times``. Of several such files it is the one with the same namespace, timescale and extra parts.

    Raises
    ------
    FileMissing
        No file has the times, or more than one could have them. (Also a FileNotFoundError.)
    ALFInvalid
        The file has no ALF name.

    Examples
    --------
    >>> from labweave.formats.alf import read_ts, save_object_npy
    >>> wheel = {"position": np.array([0.0, 0.2, 0.3]), "timestamps": np.array([[0, 10.0], [2, 11.0]])}
    >>> _ = save_object_npy("alf", wheel, "wheel")
    >>> read_ts("alf/wheel.position.npy")
    (array([10. , 10.5, 11. ]), array([0. , 0.2, 0.3]))
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
    """Return one time per sample.

    Parameters
    ----------
    timestamps : ndarray, shape (n_samples,) or (m, 2)
        Times; or pairs of sample (from 0) and time, between which times are interpolated linearly. Before the first and
        after the last pair the time stands still.
    n_samples : int
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


def _is_metadata(parts: Parts) -> bool:
    """Say whether a file describes another: its name is x.y.metadata.json, or has more parts after `metadata`."""
    return parts.extension == "json" and any(part.startswith("metadata") for part in (parts.extra or "").split("."))


def _find_metadata(folder: Path, name: str, metadata: list[str]) -> str | None:
    """Return the one of the metadata files in a folder that describes a dataset there."""
    if (own := f"{name.rpartition('.')[0]}.metadata.json") in metadata:
        return own
    head = _head(name)
    if exact := [each for each in metadata if _head(each) == head]:
        return exact[0]
    # The specification says attribute*. But a file that begins so may describe a longer attribute, which is there too.
    longer = [each for each in metadata if _head(each).startswith(head)]
    others = {_head(each) for each in dataset_names(folder) if each not in metadata} if longer else set()
    return next((each for each in longer if _head(each) not in others), None)


def _head(name: str) -> str:
    """Return the two first pieces of a file name: namespace and object, attribute and timescale."""
    return ".".join(name.split(".", 2)[:2])


def _apply_metadata(bunch: AlfBunch, key: str, path: Path) -> None:
    """Put the columns that a metadata file names into the bunch, and the rest of the file."""
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
    """Replace frames called table by their columns, which get the timescale and extra parts of the table."""
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
    """Return the name of a column with timescale and extra parts, put before _0 or _1."""
    if len(column) > 2 and column.endswith(("_0", "_1")):
        return column[:-2] + suffix + column[-2:]
    return column + suffix


def _expand_timestamps(bunch: AlfBunch) -> None:
    """Interpolate timestamps that are pairs of sample and time to the length of the other attributes, if it is one."""
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
    except (ValueError, EOFError, MemoryError, OverflowError):
        with file.open("rb") as opened:
            if opened.read(6) != b"\x93NUMPY":
                raise ValueError("it does not begin as an npy file") from None
        raise


def _read_npz(file: Path, trust_pickles: bool) -> Any:
    import numpy as np

    with file.open("rb") as opened:
        check_archive(file, opened)
    archive = np.load(file, allow_pickle=trust_pickles)
    if archive.files != ["arr_0"]:
        return archive
    with archive:
        return archive["arr_0"]


def _read_text_table(file: Path, trust_pickles: bool) -> Any:
    import pandas as pd

    with file.open("rb") as opened:
        check_columns(file, opened.readline(), _SEPARATORS[file.suffix])
    return pd.read_csv(file, sep=_SEPARATORS[file.suffix])


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

    # ParquetFile, as read_table makes columns of folders such as run=1 in the path.
    with pq.ParquetFile(file) as parquet:
        return parquet.read().to_pandas()


def _read_yaml(file: Path, trust_pickles: bool) -> Any:
    from labweave.formats.plain import load_yaml

    return load_yaml(file.read_bytes())


def _read_sparse(file: Path, trust_pickles: bool) -> Any:
    try:
        import sparse  # pyright: ignore[reportMissingImports]
    except ImportError:
        text = f"{file} can't be loaded without the package sparse, the path is given. pip install sparse"
        warnings.warn(ALFWarning(text), stacklevel=3)
        return alf_path(file)
    return sparse.load_npz(file)


_SEPARATORS = {".csv": ",", ".tsv": "\t", ".htsv": "\t", ".ssv": " "}
_READERS: dict[str, Callable[[Path, bool], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".json": _read_json,
    ".jsonable": _read_jsonable,
    ".pqt": _read_parquet,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".sparse_npz": _read_sparse,
    **dict.fromkeys(_SEPARATORS, _read_text_table),
}

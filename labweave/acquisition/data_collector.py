"""The metadata of an experiment: parameters of its parts and single entries, in one tree that is saved as JSON.

Names and files are those of ``stytra.collectors.DataCollector``, which is a ``lightparam.ParameterTree``.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labweave.acquisition.errors import MissingPath, RefusedType
from labweave.acquisition.json_values import json_value, refuse_sets
from labweave.formats.writing import whole_file

log = logging.getLogger(__name__)


class DataCollector:
    """Metadata of an experiment.

    Parameters
    ----------
    *data_tuples_list : tuple
        Entries to start with: ``(entry, name)`` or ``(entry,)``, as for `add_static_data`.
    extra_settings : dict, optional
        Stored values to start from; those of the last run win.
    instance_number : int, default: -1
        Which of several programs of the user it is; each from 0 on has a configuration file of its own.
    folder_path : str or Path, default: 'C:/'
        Made when it is missing.

    Attributes
    ----------
    last_metadata : dict
        Parameter values of the last run.
    tracked : dict
        Name -> object with parameters.
    log_data_dict : dict
        Name -> entry.

    Raises
    ------
    FileExistsError
        There is a file at `folder_path`.

    Notes
    -----
    The configuration is ``stytra_last_config.json`` (or ``stytra_last_config_<n>.json``) in the home folder.
    A broken one is reported and left alone until the next save.

    Examples
    --------
    >>> from labweave.acquisition import DataCollector
    >>> collector = DataCollector(("danio rerio", "animal/species"), folder_path="data")
    >>> collector.add_static_data({"gain": 0.5}, "setup/tracking")
    >>> collector.save_json_log("data/140709_metadata.json")
    >>> print(open("data/140709_metadata.json").read())
    {"animal": {"species": "danio rerio"}, "setup": {"tracking": {"gain": 0.5}}}
    """

    def __init__(self, *data_tuples_list, extra_settings=None, instance_number=-1, folder_path="C:/"):
        number = f"_{instance_number}" if instance_number >= 0 else ""
        self.metadata_fn = f"stytra_last_config{number}.json"
        self.home_path = Path.home()
        self.folder_path = Path(folder_path)
        self.folder_path.mkdir(parents=True, exist_ok=True)
        self.tracked: dict[str, Any] = {}
        self.log_data_dict: dict[str, Any] = {}
        self.last_metadata: dict[str, Any] = _merged(dict(extra_settings or {}), self._read_config())
        for entry in data_tuples_list:
            self.add_static_data(*entry)

    def _read_config(self) -> dict[str, Any]:
        files = sorted(self.home_path.glob(f"*{self.metadata_fn}"), key=lambda path: (len(path.name), path.name))
        if not files:
            return {}
        try:
            with files[0].open(encoding="utf-8") as file:
                content = json.load(file)
            if not isinstance(content, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError, OSError) as error:
            warnings.warn(f"{files[0]} can't be read ({error}). Starting without the last values.", stacklevel=3)
            return {}
        return content

    def add(self, parametrized) -> None:
        """Track the parameters of an object; one of the same name is replaced.

        Parameters
        ----------
        parametrized : object
            With ``name``, a path with ``/``, and ``params``, as ``lightparam.Parametrized`` has them.
        """
        self.tracked[parametrized.name] = parametrized

    def serialize(self) -> dict[str, Any]:
        """Return the tree of the present values of all parameters."""
        tree: dict[str, Any] = {}
        for name, parametrized in self.tracked.items():
            group = tree
            for part in name.split("/"):
                group = group.setdefault(part, {})
            group.update(parametrized.params.values)
        return tree

    def deserialize(self, restore_dict: Mapping[str, Any]) -> None:
        """Set parameters to stored values, as far as they fit.

        A stored value is left out, with a warning, when its parameter is gone, is of another type, or has limits that
        the value is outside of. A parameter that is not ``loadable`` keeps its value.
        """
        for path, value in _leaves(restore_dict):
            owner, name = self.tracked.get("/".join(path[:-1])), path[-1]
            parameters = owner.params.items() if owner is not None else {}
            if name not in parameters:
                warnings.warn(f"{'/'.join(path)} is not restored: there is no such parameter.", stacklevel=2)
                continue
            parameter = parameters[name]
            if not parameter.loadable:
                continue
            try:
                fitting = _fitting(value, parameter)
            except ValueError as error:
                warnings.warn(f"{'/'.join(path)} is not restored: {error}.", stacklevel=2)
                continue
            _set_quietly(owner, name, fitting)

    def restore_from_saved(self) -> None:
        """Set parameters to the values of the last run, as far as they fit: see `deserialize`."""
        self.deserialize(self.last_metadata)

    def add_static_data(self, entry, name="unspecified_entry") -> None:
        """Add an entry; what it holds when the metadata are saved counts. One of the same name is replaced.

        Parameters
        ----------
        entry : object
        name : str, default: 'unspecified_entry'
            ``category/name``, nested as deep as wanted: ``animal/screening/image``.

        Raises
        ------
        TypeError
            It is, or holds, a set or bytes; or a part of its name is an entry that holds no others.
        """
        refuse_sets(entry, name)
        for other, held in self.log_data_dict.items():
            if other != name and _is_below(name, other) and not isinstance(held, Mapping):
                raise RefusedType(f"{name} can't be added: {other} is {held!r}, which holds no entries.")
            if other != name and _is_below(other, name) and not isinstance(entry, Mapping):
                raise RefusedType(f"{name} can't be {entry!r}: there is an entry {other} below it.")
        self.log_data_dict[name] = entry

    def get_clean_dict(self, eliminate_df=False, convert_datetime=False) -> dict[str, Any]:
        """Return parameters and entries as one tree; entries win over parameters of the same name.

        Parameters
        ----------
        eliminate_df : bool, default: False
            Tables become 0 instead of a list per column.
        convert_datetime : bool, default: False
            Times become ISO text; else they stay, in whole seconds.

        Returns
        -------
        dict
            Of what JSON can hold: arrays are lists; NaN and infinities None; keys text. What it can't hold is None,
            with a log line that names it.
        """
        lost: list[str] = []
        how: dict[str, Any] = {"eliminate_df": eliminate_df, "convert_datetime": convert_datetime, "lost": lost}
        tree = json_value(self.serialize(), **how)
        for name in sorted(self.log_data_dict, key=lambda name: name.count("/")):
            *groups, last = name.split("/")
            group = tree
            for part in groups:
                group = group.setdefault(part, {})
                if not isinstance(group, dict):
                    raise RefusedType(f"{name} can't be put below the parameter {part}, which is {group!r}.")
            group[last] = json_value(self.log_data_dict[name], path=tuple(name.split("/")), **how)
        if lost:
            log.warning("metadata hold what JSON can't, it is null: %s", ", ".join(lost))
        return tree

    def get_last_value(self, class_param_key):
        """Return the value that a parameter had in the last run.

        Parameters
        ----------
        class_param_key : str
            Its path: ``general/animal/species``.

        Returns
        -------
        object
            None when there is none.
        """
        value: Any = self.last_metadata
        for part in class_param_key.split("/"):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        return value

    def save_config_file(self) -> None:
        """Write the present values of all parameters to the configuration; values of other programs stay in it."""
        present = json_value(self.serialize(), eliminate_df=False, convert_datetime=True, lost=[])
        tree: dict[str, Any] = {}
        for path, value in _leaves(_merged(self.last_metadata, present)):
            group = tree
            for part in path[:-1]:
                group = group.setdefault(part, {})
            group[path[-1]] = value
        self.last_metadata = tree
        with whole_file(self.home_path / self.metadata_fn) as new, new.open("w", encoding="utf-8") as file:
            json.dump(json_value(tree, eliminate_df=False, convert_datetime=True, lost=[]), file)

    def save_json_log(self, output_path) -> None:
        """Write the whole tree as JSON, keys sorted; the file is whole or not there.

        Parameters
        ----------
        output_path : str or Path

        Raises
        ------
        FileNotFoundError
            The folder is missing, or no path is given.
        """
        path = Path(output_path) if output_path else None
        if path is None or not path.parent.is_dir():
            raise MissingPath(f"The metadata can't be saved to {str(output_path)!r}: give a file in a folder there is.")
        with whole_file(path) as new, new.open("w", encoding="ascii") as file:
            json.dump(self.get_clean_dict(convert_datetime=True), file, sort_keys=True, allow_nan=False)

    def save(self, output_path="") -> None:
        """Write metadata and configuration; can be done at any time, as often as wanted.

        Parameters
        ----------
        output_path : str or Path
            Of the metadata, for example ``<folder>/140709_metadata.json``.

        Raises
        ------
        FileNotFoundError
            The folder is missing, or no path is given.
        """
        self.save_json_log(output_path)
        self.save_config_file()


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return `old` with what `new` says on top."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(value, Mapping) and isinstance(before, Mapping) else value
    return merged


def _is_below(name: str, other: str) -> bool:
    return name.startswith(f"{other}/")


def _fitting(value: Any, parameter: Any) -> Any:
    """Return a stored value in the type of its parameter; a ValueError says why it does not fit."""
    present, limits = parameter.value, parameter.limits
    if isinstance(limits, list):
        if value not in limits and tuple(value if isinstance(value, list) else ()) not in limits:
            raise ValueError(f"{value!r} is not one of {limits}")
        return value if value in limits else tuple(value)
    value = _typed(value, present)
    if isinstance(limits, tuple) and len(limits) == 2:
        for number in value if isinstance(value, (list, tuple)) else [value]:
            low, high = limits
            if isinstance(number, (int, float)) and not (
                (low is None or number >= low) and (high is None or number <= high)
            ):
                raise ValueError(f"{number!r} is outside of {low} to {high}")
    return value


def _typed(value: Any, present: Any) -> Any:
    fits = isinstance(value, type(present))
    if present is None:
        return value
    if isinstance(present, bool) or isinstance(value, bool):
        fits = isinstance(value, bool) and isinstance(present, bool)
    elif isinstance(present, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    elif isinstance(present, float) and isinstance(value, int):
        return float(value)
    elif isinstance(present, (list, tuple)) and isinstance(value, (list, tuple)):
        if len(present) == len(value):
            value = [_typed(one, other) for one, other in zip(value, present, strict=True)]
        return type(present)(value) if type(present) in (list, tuple) else value
    if not fits:
        raise ValueError(f"{value!r} is no {type(present).__name__}, as {present!r} is")
    return value


def _set_quietly(owner: Any, name: str, value: Any) -> None:
    """Set a parameter without its signal, which could set others in turn."""
    silent = hasattr(owner, "block_signal")
    if silent:
        owner.block_signal = True
    try:
        setattr(owner, name, value)
    finally:
        if silent:
            owner.block_signal = False

"""Writing a task: one trial after the other, each there whole from the moment `write` returns."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labweave.errors import SourceError
from labweave.formats.axopy.arrays import SUFFIX, storable
from labweave.formats.axopy.growing import GrowingArrayFile
from labweave.formats.axopy.journal import Change, Journal, open_file
from labweave.formats.axopy.names import StorageError, check_name
from labweave.formats.axopy.trials import cell_text, line_of
from labweave.formats.writing import sync, whole_file

TABLE = "trials.csv"


class TrialWriter:
    """Writes trial data to a CSV file line by line.

    Parameters
    ----------
    filepath : str
        The file; made with the first row. Its folder must be there.

    Attributes
    ----------
    filepath : str
    data : dict
        Column -> list of the values written so far, None where a row had none.
    n_rows : int
        Rows written so far.
    """

    def __init__(self, filepath):
        self.filepath = filepath
        self.data: dict[str, list[Any]] = {}
        self.n_rows = 0
        self._size = 0

    @property
    def df(self):
        """The rows written so far, as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.data)

    def write(self, data: Mapping[str, Any]) -> None:
        """Add one row; it is in the file, and on the disk, when this returns.

        Parameters
        ----------
        data : dict
            Column -> value. A new column is empty in the earlier rows. Nothing is done for an
            empty dictionary before there are columns.

        Raises
        ------
        StorageError
            The file holds rows of an earlier writer.
        """
        if not data and not self.data:
            return
        change = self.prepare(data)
        change.apply(Path(self.filepath).parent)
        with Path(self.filepath).open("r+b") as file:
            sync(file)
        self.accept(data, change)

    def replaces_file(self, data: Mapping[str, Any]) -> bool:
        """Say whether a row has new columns, for which `prepare` writes the file anew."""
        return self.n_rows == 0 or not data.keys() <= self.data.keys()

    def prepare(self, data: Mapping[str, Any]) -> Change:
        """Make the columns of a row and return the change that adds it."""
        path = Path(self.filepath)
        texts = {name: cell_text(value) for name, value in data.items()}
        columns = [*self.data, *(name for name in data if name not in self.data)]
        if self.replaces_file(data):
            if self.n_rows == 0 and _n_lines(path) > 1:
                raise StorageError(
                    f"{path} holds trials of an earlier writer, which can't be continued. "
                    "Write a new task, or allow the storage to overwrite this one."
                )
            lines = [line_of(columns)]
            for row in range(self.n_rows):
                lines.append(
                    line_of([cell_text(self.data[name][row]) if name in self.data else "" for name in columns])
                )
            with whole_file(path, durable=True) as new:
                new.write_bytes(b"".join(lines))
            self.data.update({name: [None] * self.n_rows for name in columns if name not in self.data})
            self._size = sum(map(len, lines))
        line = line_of([texts.get(name, "") for name in columns])
        return Change(path.name, self._size, self._size + len(line), [(self._size, line)])

    def accept(self, data: Mapping[str, Any], change: Change) -> None:
        """Count a row that was written."""
        for name, values in self.data.items():
            values.append(data.get(name))
        self.n_rows += 1
        self._size = change.after


class TaskWriter:
    """Stores the trials of one task; made by `Storage.create_task`.

    Each trial is stored whole or not at all: its row in ``trials.csv`` and all its arrays. Once `write` has
    returned, the trial is on the disk: it survives the end of the program, and of the power.

    Parameters
    ----------
    root : str
        Folder of the task, for example ``data/subject_1/taskname``.

    Attributes
    ----------
    root : str
    trials : TrialWriter
    """

    def __init__(self, root):
        self.root = root
        self.trials = TrialWriter(str(Path(root) / TABLE))
        self._folder = Path(root)
        self._files: dict[str, GrowingArrayFile] = {}
        self._journal = Journal(self._folder)
        weakref.finalize(self, _close, self._files, self._journal)

    def close(self) -> None:
        """Close the files, which is also done when the writer is gone; the next trial opens them again."""
        _close(self._files, self._journal)

    def write(self, trial) -> None:
        """Store a trial and clear its arrays.

        Parameters
        ----------
        trial : Trial
            Attributes ``attrs`` (dict) and ``arrays`` (dict of arrays with ``data``). Arrays of numbers, text
            and dates of any shape; trials need not have the same attributes or arrays.

        Raises
        ------
        StorageError
            No attribute; a task that an earlier writer wrote; a name that can't name a file. Nothing is stored.
        TypeError
            An array without data, as after the trial was written, or of Python objects. Nothing is stored.
        OSError
            The disk refuses.
        """
        if not trial.attrs:
            raise StorageError("The trial has no attribute. Give it one, for example its number.")
        arrays = {check_name(name, "array name"): storable(array.data, name) for name, array in trial.arrays.items()}
        self._journal.apply()
        if self.trials.replaces_file(trial.attrs):
            self._journal.checkpoint(forget=True)
        row = self.trials.prepare(trial.attrs)
        dataset = str(self.trials.n_rows)
        try:
            changes = [self._file(name).add(dataset, data) for name, data in arrays.items()]
            self._journal.record([*changes, row])
        except BaseException:
            _close_files(self._files)
            raise
        self.trials.accept(trial.attrs, row)
        for array in trial.arrays.values():
            array.clear()
        self._journal.apply()

    def pickle(self, obj, name) -> None:
        """Store an object as a pickle, whole or not at all; an older one of this name is replaced.

        Parameters
        ----------
        obj : object
        name : str
            Without extension.

        Raises
        ------
        StorageError
            A name that can't name a file.
        SourceError
            The folder of the task is missing.
        """
        content = pickle.dumps(obj)
        if not self._folder.is_dir():
            raise SourceError(f"{self._folder} is not there. Make the task with Storage.create_task.")
        with whole_file(self._folder / f"{check_name(name, 'pickle name')}.pkl", durable=True) as new:
            new.write_bytes(content)

    def _file(self, name: str) -> GrowingArrayFile:
        if name not in self._files:
            self._files[name] = GrowingArrayFile(self._folder / f"{name}{SUFFIX}")
        return self._files[name]


def _n_lines(path: Path) -> int:
    """Return how many lines a table has, with those that a killed writer left in its journal."""
    try:
        with open_file(path.parent, path.name) as file:
            return len(file.read().splitlines())
    except FileNotFoundError:
        return 0


def _close_files(files: dict[str, GrowingArrayFile]) -> None:
    while files:
        files.popitem()[1].close()


def _close(files: dict[str, GrowingArrayFile], journal: Journal) -> None:
    _close_files(files)
    journal.close()

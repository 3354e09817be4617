"""Writing a task: one trial after the other, each there whole from the moment `write` returns."""

from __future__ import annotations

import logging
import pickle
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labweave.errors import ReadError, SourceError
from labweave.formats.axopy.arrays import SUFFIX, ArrayFile, encode_array
from labweave.formats.axopy.journal import NAME, JournalWriter, Start, open_journal
from labweave.formats.axopy.names import StorageError, check_name
from labweave.formats.axopy.recovery import complete, recover
from labweave.formats.axopy.trials import TABLE, cell_text, line_of, table_sha256
from labweave.formats.writing import sync, whole_file, write_all

log = logging.getLogger(__name__)

_MIN_TRIALS = 64
"""The files are brought up to date after that many trials, and again whenever the journal holds as many as they do."""

_MAX_TRIALS = 1024
"""Later trials stay in the journal until the writer is closed: `write` waits while the files are copied, and an
experiment must not wait for longer than about a second. The step at 1,024 trials of 4 arrays of 16 kB took 0.8 s on
a loaded machine, one at 32,768 trials up to a minute."""


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

    Examples
    --------
    >>> from pathlib import Path
    >>> from labweave.formats.axopy import TrialWriter
    >>> writer = TrialWriter("choices.csv")
    >>> writer.write({"target": "left", "hit": True})
    >>> writer.write({"target": "right", "time": 0.5})
    >>> print(Path("choices.csv").read_text(), end="")
    target,hit,time
    left,True,
    right,,0.5
    """

    def __init__(self, filepath):
        self.filepath = filepath
        self.data: dict[str, list[Any]] = {}
        self.n_rows = 0

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
        self.check_unused()
        path, columns = Path(self.filepath), list({**self.data, **data})
        line = line_of([cell_text(data.get(name)) for name in columns])
        if self.n_rows and len(columns) == len(self.data):
            with path.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    write_all(file, line)
                    sync(file)
                except BaseException:
                    file.truncate(end)
                    raise
        else:
            nothing = [None] * self.n_rows
            rows = zip(*(self.data.get(name, nothing) for name in columns), strict=True)
            lines = [line_of(columns), *(line_of(map(cell_text, row)) for row in rows), line]
            with whole_file(path, durable=True) as new:
                new.write_bytes(b"".join(lines))
        self.add(data)

    def add(self, data: Mapping[str, Any]) -> None:
        """Count a row that was written."""
        for name in data:
            self.data.setdefault(name, [None] * self.n_rows)
        for name, values in self.data.items():
            values.append(data.get(name))
        self.n_rows += 1

    def check_unused(self) -> None:
        """Raise a StorageError when an earlier writer has written rows, and this one none."""
        path = Path(self.filepath)
        if self.n_rows:
            return
        if path.with_name(NAME).exists() or (path.exists() and len(path.read_bytes().splitlines()) > 1):
            raise StorageError(
                f"{path} holds trials of an earlier writer, which can't be continued. "
                "Write a new task, or allow the storage to overwrite this one."
            )


class TaskWriter:
    """Stores the trials of one task; made by `Storage.create_task`.

    Each trial is stored whole or not at all: its row in ``trials.csv`` and all its arrays. Once `write` has
    returned, the trial is on the disk: it survives the end of the program, and of the power. Other programs see
    the first trials while the task is written, and all of them when the writer is closed.

    Parameters
    ----------
    root : str
        Folder of the task, for example ``data/subject_1/taskname``.

    Attributes
    ----------
    root : str
    trials : TrialWriter

    Examples
    --------
    >>> from labweave.formats.axopy import Design, Storage
    >>> storage = Storage("written")
    >>> storage.subject_id = "p0"
    >>> writer = storage.create_task("reaching")
    >>> trial = Design().add_block().add_trial({"target": "left"})
    >>> trial.add_array("emg", data=[[1.0, 2.0]])
    >>> writer.write(trial)
    >>> writer.pickle({"gain": 2}, "calibration")
    >>> writer.close()
    >>> task = storage.require_task("reaching")
    >>> task.array_names(), task.pickle_names()
    (['emg'], ['calibration'])
    """

    def __init__(self, root):
        self.root = root
        self.trials = TrialWriter(str(Path(root) / TABLE))
        self._folder = Path(root)
        self._arrays: set[str] = set()
        self._journal: list[JournalWriter] = []  # at most one; a list, which `_close` can empty
        self._n_complete = 0
        weakref.finalize(self, _close, self._folder, self._journal)

    def close(self) -> None:
        """Complete the files, which is also done when the writer is gone; the next trial opens them again.

        This takes about 0.3 s of CPU for a thousand trials of four arrays; after many trials a terminal shows progress.

        Raises
        ------
        ReadError
            Another program has changed a file meanwhile. The journal keeps the trials.
        """
        _close(self._folder, self._journal)

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
        arrays = {
            check_name(name, "array name"): encode_array(array.data, name) for name, array in trial.arrays.items()
        }
        texts = {name: cell_text(value) for name, value in trial.attrs.items()}
        line_of([*texts, *texts.values()])  # raises an error for what can't be stored
        self.trials.check_unused()
        for name in arrays.keys() - self._arrays:
            path = self._folder / f"{name}{SUFFIX}"
            if path.exists():  # and another program may have filled it
                with ArrayFile(self._folder, path.name) as file:
                    if (rows := file.rows()) and rows[-1] >= self.trials.n_rows:
                        raise StorageError(f"{path} has a dataset {rows[-1]} already. Write to another name or file.")
            self._arrays.add(name)
        if not self._journal:
            self._begin(texts)
        self._journal[0].add(self.trials.n_rows, texts, arrays)
        self.trials.add(trial.attrs)
        for array in trial.arrays.values():
            array.clear()
        n_trials = self.trials.n_rows
        if n_trials <= _MAX_TRIALS and n_trials - self._n_complete >= max(_MIN_TRIALS, self._n_complete):
            self._complete()

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

    def _begin(self, texts: Mapping[str, str]) -> None:
        """Begin a journal. The table, which says by its open end that there is one, is made before any trial counts."""
        table = self._folder / TABLE
        if not self.trials.n_rows:
            with whole_file(table, durable=True) as new:
                new.write_bytes(line_of(texts)[:-1])
        self._journal.append(JournalWriter(self._folder, self._start()))
        with table.open("r+b") as file:
            content = file.read()
            file.truncate(len(content.removesuffix(b"\n")))
            sync(file)

    def _complete(self) -> None:
        """Bring the files up to date and begin the journal anew; when that fails the journal goes on."""
        self._n_complete = self.trials.n_rows
        try:
            journal = open_journal(self._folder)
            if journal is None:
                return
            with journal:
                complete(self._folder, journal, self._folder, is_closed=False)
            start = self._start()
        except (OSError, ReadError, StorageError) as error:
            log.warning("files of a task can't be completed, its journal grows: folder=%s error=%s", self.root, error)
            return
        self._journal.pop().close()
        self._journal.append(JournalWriter(self._folder, start))

    def _start(self) -> Start:
        n_datasets = {}
        for name in sorted(self._arrays):
            if (self._folder / f"{name}{SUFFIX}").exists():
                with ArrayFile(self._folder, f"{name}{SUFFIX}") as file:
                    n_datasets[name] = file.n_stored()
        return Start(self.trials.n_rows, table_sha256((self._folder / TABLE).read_bytes()), n_datasets)


def _close(folder: Path, journal: list[JournalWriter]) -> None:
    while journal:
        open_one = journal.pop()
        is_in_place = open_one.is_in_place()  # not when the task was deleted, or written anew by another writer
        open_one.close()
        if is_in_place:
            recover(folder)

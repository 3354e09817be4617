"""Reading a task: its trials, arrays and pickles, and what is wrong with them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labweave.errors import ReadError
from labweave.formats.axopy.arrays import SUFFIX, ArrayFile
from labweave.formats.axopy.journal import NAME, Journal, open_journal
from labweave.formats.axopy.names import check_name
from labweave.formats.axopy.trials import TABLE, TrialTable, read_table, read_table_bytes
from labweave.formats.columns import EXACT_FLOATS


@dataclass
class TaskState:
    """What a task's folder holds.

    Attributes
    ----------
    status : {"complete", "half_written", "damaged", "empty"}
        Half-written: a trial lacks an array that other trials have, its line is cut, or the writer of the table was
        not closed and its journal is missing. Damaged: an array file can't be read, or a file is not the one that
        the journal goes with. Empty: there is no trial.
    table : TrialTable
        The trials, as text.
    arrays : dict
        Array name -> rows that have a dataset.
    missing : dict
        Array name -> rows of `table` that have none.
    problems : list of str
        In words.
    """

    status: str
    table: TrialTable
    arrays: dict[str, list[int]] = field(default_factory=dict)
    missing: dict[str, list[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class TaskReader:
    """High-level interface to the storage of one task.

    Parameters
    ----------
    root : str, Path or zipfile.Path
        Folder of the task: ``trials.csv``, array files, pickles.
    trust_pickles : bool, default: False
        Let `pickle` load them, which can run any code. For files of your own only.

    Examples
    --------
    >>> from labweave.formats.axopy import Storage, TaskReader, Trial
    >>> storage = Storage("read")
    >>> storage.subject_id = "p0"
    >>> writer = storage.create_task("reaching")
    >>> for target in ("left", "right"):
    ...     trial = Trial({"target": target})
    ...     trial.add_array("emg", data=[[1.0, 2.0]])
    ...     writer.write(trial)
    >>> task = TaskReader("read/p0/reaching")
    >>> task.trials["target"].tolist()
    ['left', 'right']
    >>> [emg.shape for emg in task.iterarray("emg")]
    [(1, 2), (1, 2)]
    >>> task.array("emg").shape
    (2, 2)
    """

    def __init__(self, root, *, trust_pickles=False):
        self.root, self.trust_pickles = root, trust_pickles
        self._folder: Any = Path(root) if isinstance(root, str) else root
        self._known: Journal | None = None  # the journal as it was read last

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, types as pandas infers them; read once, see `refresh`. No trials: empty."""
        try:
            return pd.read_csv(io.BytesIO(read_table_bytes(self._folder, self._journal())), **EXACT_FLOATS)
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise ReadError(self._folder / TABLE, f"no table ({error})", "Correct the line.") from None

    def refresh(self) -> None:
        """Read `trials` anew at the next use, of a task that is still being written."""
        self.__dict__.pop("trials", None)

    def array_names(self) -> list[str]:
        """Return the names of the kinds of arrays."""
        names = set(self._names(SUFFIX))
        if journal := self._journal():
            names |= {*journal.arrays, *journal.start.n_datasets}
        return sorted(names)

    def pickle_names(self) -> list[str]:
        """Return the names of the pickles."""
        return self._names(".pkl")

    def iterarray(self, name, skip_missing=False) -> Iterator[np.ndarray | None]:
        """Yield the array of each trial.

        Parameters
        ----------
        name : str
            Name of the array type.
        skip_missing : bool, default: False
            Leave out trials without this array, which otherwise give None.

        Raises
        ------
        FileNotFoundError
            There is no array of this name.
        ReadError
            Its file is damaged.
        """
        n_trials = len(self.trials)  # before the arrays: a writer may add to both
        with ArrayFile(self._folder, f"{check_name(name, 'array name')}{SUFFIX}", self._journal()) as file:
            file.check()
            present = set(file.rows())
            for row in range(n_trials):
                if row in present:
                    yield file.read(str(row))
                elif not skip_missing:
                    yield None

    def array(self, name) -> np.ndarray:
        """Return the arrays of all trials below each other; trials without one are left out.

        Parameters
        ----------
        name : str

        Returns
        -------
        ndarray, shape (n, ...)
            Arrays of shape (m,) give a row each, others are joined along their first axis.

        Raises
        ------
        ValueError
            The other axes differ, or no trial has this array.
        FileNotFoundError
            There is no array of this name.
        """
        return np.vstack([values for values in self.iterarray(name, skip_missing=True) if values is not None])

    def pickle(self, name):
        """Load a pickled object, of a reader that trusts pickles.

        Parameters
        ----------
        name : str
            Without extension.

        Raises
        ------
        ReadError
            The reader does not trust pickles.
        FileNotFoundError
            There is none of this name.
        """
        path = self._folder / f"{check_name(name, 'pickle name')}.pkl"
        if not self.trust_pickles:
            advice = "If the file is your own, say trust_pickles=True (TaskReader, Storage)."
            raise ReadError(path, "a pickle, which can run any code", advice)
        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301

    def examine(self) -> TaskState:
        """Return what the folder holds and what is wrong with it; nothing is loaded but the table.

        Examples
        --------
        >>> from labweave.formats.axopy import Storage, Trial
        >>> storage = Storage("examined")
        >>> storage.subject_id = "p0"
        >>> writer = storage.create_task("reaching")
        >>> for n in range(3):
        ...     trial = Trial({"n": n})
        ...     if n != 1:
        ...         trial.add_array("emg", data=[n, n])
        ...     writer.write(trial)
        >>> state = storage.require_task("reaching").examine()
        >>> state.status, state.problems
        ('half_written', ['trial 1 is half-written: no emg'])
        """
        table = read_table(self._folder, self._journal())
        n_rows = len(table.rows)
        state = TaskState("complete", table, problems=list(table.problems))
        damage = [f"{TABLE}: {table.damage}"] if table.damage else []
        if journal := self._journal():
            damage += [f"{NAME}: {journal.damage}"] if journal.damage else []
        beyond: dict[str, list[int]] = {}
        for name in self.array_names():
            try:
                with ArrayFile(self._folder, f"{name}{SUFFIX}", self._known) as file:
                    rows = file.rows()
                    file.check()
            except ReadError as error:
                damage.append(str(error))
                continue
            state.arrays[name] = [row for row in rows if row < n_rows]
            if rows and (missing := sorted(set(range(n_rows)).difference(rows))):
                state.missing[name] = missing
                verb = "is" if len(missing) == 1 else "are"
                state.problems.append(f"{_numbers(missing)} {verb} half-written: no {name}")
            if more := [row for row in rows if row >= n_rows]:
                beyond[name] = more
        n_rows_now = (
            len(read_table(self._folder, self._known).rows) if beyond else n_rows
        )  # more when a writer is at work
        for name, more in beyond.items():
            if lost := [row for row in more if row >= n_rows_now]:
                state.problems.append(f"{name} has datasets of {_numbers(lost)}, not in {TABLE}")
        state.problems += damage
        if damage:
            state.status = "damaged"
        elif state.missing or table.problems:
            state.status = "half_written"
        elif not n_rows:
            state.status = "empty"
        return state

    def _journal(self) -> Journal | None:
        """Return what is in the journal now; it is closed."""
        if (journal := open_journal(self._folder, self._known)) is not None:
            journal.close()
        self._known = journal
        return journal

    def _names(self, suffix: str) -> list[str]:
        return sorted(
            path.name.removesuffix(suffix)
            for path in self._folder.iterdir()
            if path.name.endswith(suffix) and not path.name.startswith(".") and path.is_file()
        )


def _numbers(rows: list[int]) -> str:
    """Return rows in words."""
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"trial{'s' if len(rows) > 1 else ''} {shown}"

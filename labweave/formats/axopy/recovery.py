"""Bringing the files of a task up to date with its journal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from labweave.errors import ReadError
from labweave.formats.axopy.arrays import SUFFIX, ArrayFile, add_datasets
from labweave.formats.axopy.journal import NAME, Journal, open_journal
from labweave.formats.axopy.trials import TABLE, read_table
from labweave.formats.writing import sync_folder, whole_file

_MANY = 5000  # arrays, which take some seconds


def recover(root) -> list[str]:
    """Finish what a killed writer left in the folder of a task, so that other programs read it too.

    Only when that writer has ended. Each file is completed as a copy, which then takes its place. The journal is
    deleted last, and only when all that it holds is in the other files. Without a journal nothing is done.

    Parameters
    ----------
    root : str or Path

    Returns
    -------
    list of str
        The files that were completed.

    Raises
    ------
    ReadError
        A file is damaged, or has become another one than that which the writer left. The others are completed, and
        the journal stays.

    Examples
    --------
    >>> from pathlib import Path
    >>> from labweave.formats.axopy import TaskReader, TaskWriter, Trial, recover
    >>> folder = Path("crashed")
    >>> folder.mkdir()
    >>> writer = TaskWriter(folder)
    >>> trial = Trial({"target": "left"})
    >>> trial.add_array("emg", data=[[1.0, 2.0]])
    >>> writer.write(trial)  # and here the program is killed
    >>> recover(folder)
    ['emg.hdf5', 'trials.csv']
    >>> recover(folder)
    []
    >>> TaskReader(folder).array("emg")
    array([[1., 2.]])
    """
    folder = Path(root)
    journal = open_journal(folder)
    if journal is None:
        return []
    with journal:
        completed = complete(folder, journal, folder, is_closed=True)
    (folder / NAME).unlink(missing_ok=True)
    sync_folder(folder)
    return completed


def complete(folder: Path, journal: Journal, target: Path, is_closed: bool) -> list[str]:
    """Write the files of a task that lack trials of the journal anew, with them; return their names.

    Parameters
    ----------
    folder : Path
        Of the task.
    journal : Journal
    target : Path
        Folder to write to: that of the task, or another one.
    is_closed : bool
        Whether the table gets the line end that says that its writer is closed.

    Raises
    ------
    ReadError
        As of `recover`.
    """
    completed, errors = [], []
    for array in sorted({*journal.arrays, *journal.start.n_datasets}):
        try:
            if _complete_array(folder, f"{array}{SUFFIX}", target, journal):
                completed.append(f"{array}{SUFFIX}")
        except ReadError as error:
            errors.append(error)
    if journal.damage:
        advice = "Copy it again; the trials behind that are in no other file."
        errors.append(ReadError(folder / NAME, journal.damage, advice))
    table = read_table(folder, journal)
    if found := table.damage or "; ".join(table.problems):
        errors.append(ReadError(folder / TABLE, found, "Restore it and its latest journal, then run recover again."))
    elif table.columns:
        path, content = target / TABLE, table.to_bytes(is_closed and not errors)
        if not path.exists() or path.read_bytes() != content:
            with whole_file(path, durable=True) as new:
                new.write_bytes(content)
            completed += [TABLE] if journal.texts else []
    if errors:
        raise ReadError(folder, " ".join(map(str, errors)), "The journal keeps the trials of these files.")
    return completed


def _complete_array(folder: Path, name: str, target: Path, known: Journal) -> bool:
    with ArrayFile(folder, name, known) as file:
        if file.journal is None or not (lacking := file.unstored()):
            return False
        with whole_file(target / name, durable=True) as new:
            if (folder / name).exists():
                shutil.copyfile(folder / name, new)
            arrays = ((row, file.journal.read(name.removesuffix(SUFFIX), row)) for row in lacking)
            add_datasets(new, _with_progress(arrays, name, len(lacking)))
    return True


def _with_progress(datasets: Iterable[Any], name: str, n_datasets: int) -> Iterator[Any]:
    """Yield datasets; when they are many, and there is a terminal, it shows how many are done."""
    terminal = sys.stderr if n_datasets >= _MANY and sys.stderr is not None and sys.stderr.isatty() else None
    for n_done, dataset in enumerate(datasets, 1):
        yield dataset
        if terminal and (n_done % 1000 == 0 or n_done == n_datasets):
            end = "\n" if n_done == n_datasets else ""
            terminal.write(f"\r{name}: {n_done:,} of {n_datasets:,} trials{end}")
            terminal.flush()

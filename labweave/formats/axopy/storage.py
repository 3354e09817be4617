"""The data root: subjects, their tasks, and an archive of all."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from labweave.errors import ReadError
from labweave.formats.axopy.journal import NAME as JOURNAL
from labweave.formats.axopy.journal import open_journal
from labweave.formats.axopy.names import StorageError, check_name
from labweave.formats.axopy.reader import TaskReader
from labweave.formats.axopy.recovery import complete
from labweave.formats.axopy.writer import TaskWriter
from labweave.formats.writing import whole_file


class Storage:
    """Top-level data storage maintainer.

    Parameters
    ----------
    root : str, default: 'data'
        Folder of all data; made when it is missing.
    allow_overwrite : bool, default: False
        Whether `create_task` may delete what the subject's task holds already.
    trust_pickles : bool, default: False
        Whether the tasks load pickles, which can run any code.

    Attributes
    ----------
    root, allow_overwrite, trust_pickles
        As given.

    Examples
    --------
    >>> from labweave.formats.axopy import Storage, Trial
    >>> storage = Storage("stored")
    >>> storage.subject_id = "p0"
    >>> writer = storage.create_task("reaching")
    >>> trial = Trial({"target": "left", "hit": True})
    >>> trial.add_array("emg", data=[[1.0, 2.0], [3.0, 4.0]])
    >>> writer.write(trial)
    >>> list(storage.subject_ids), list(storage.task_ids)
    (['p0'], ['reaching'])
    >>> storage.require_task("reaching").trials
      target   hit
    0   left  True
    """

    def __init__(self, root="data", allow_overwrite=False, *, trust_pickles=False):
        self.root, self.allow_overwrite, self.trust_pickles = root, allow_overwrite, trust_pickles
        self._subject_id: str | None = None
        makedirs(root, exist_ok=True)

    @property
    def subject_ids(self) -> Iterator[str]:
        """Names of the subjects, in alphabetical order."""
        return _folders(Path(self.root))

    @property
    def subject_id(self) -> str | None:
        """The current subject; setting one makes its folder.

        Raises
        ------
        TypeError
            It is not text.
        StorageError
            It can't name a folder.
        OSError
            The folder can't be made, or is a file.
        """
        return self._subject_id

    @subject_id.setter
    def subject_id(self, subject_id: str) -> None:
        makedirs(Path(self.root) / check_name(subject_id, "subject id"), exist_ok=True)
        self._subject_id = subject_id

    @property
    def task_ids(self) -> Iterator[str]:
        """Names of the current subject's tasks, in alphabetical order; none without a subject."""
        if self._subject_id is None:
            return iter(())
        return _folders(Path(self.root) / self._subject_id)

    def create_task(self, task_id) -> TaskWriter:
        """Create a task for the current subject.

        Parameters
        ----------
        task_id : str

        Raises
        ------
        StorageError
            The subject has this task already and overwriting is not allowed; a file has its name;
            it can't name a folder; no subject is set.
        OSError
            The folder can't be made.
        """
        if self._subject_id is None:
            raise StorageError(f"Task {task_id!r} has no subject. Set subject_id first.")
        folder = Path(self.root) / self._subject_id / check_name(task_id, "task id")
        if folder.exists():
            if not folder.is_dir():
                raise StorageError(f"{folder} is a file. Move it away, or choose another task id.")
            if not self.allow_overwrite:
                raise StorageError(
                    f"Subject {self._subject_id} has started task {task_id} already. "
                    "Choose another task id, or make the storage with allow_overwrite=True."
                )
            shutil.rmtree(folder)
        makedirs(folder)
        return TaskWriter(str(folder))

    def require_task(self, task_id) -> TaskReader:
        """Retrieve a task of the current subject.

        Parameters
        ----------
        task_id : str

        Raises
        ------
        StorageError
            The subject has no such task.
        """
        if task_id not in self.task_ids:
            raise StorageError(f"Subject {self._subject_id} has no task {task_id}. See task_ids.")
        folder = Path(self.root) / str(self._subject_id) / task_id
        return TaskReader(str(folder), trust_pickles=self.trust_pickles)

    def to_zip(self, outfile=None) -> str:
        """Create a ZIP archive of everything; as `storage_to_zip`."""
        return storage_to_zip(self.root, outfile)


def makedirs(path, exist_ok=False) -> None:
    """Create a folder with its parents.

    Parameters
    ----------
    path : str
    exist_ok : bool, default: False

    Raises
    ------
    FileExistsError
        It exists and `exist_ok` is False, or it is a file.

    Examples
    --------
    >>> from labweave.formats.axopy import makedirs
    >>> makedirs("made/twice")
    >>> makedirs("made/twice", exist_ok=True)
    """
    os.makedirs(path, exist_ok=exist_ok)  # noqa: PTH103 - any path that the user has


def storage_to_zip(path, outfile=None) -> str:
    """Create a ZIP archive of a data root, its own folder at the top, all paths below it kept.

    What a killed writer left half done is finished in the archive.

    Parameters
    ----------
    path : str
        The data root.
    outfile : str, optional
        The archive; without one, beside the root and named like it, with ``.zip``.

    Returns
    -------
    str
        The archive.

    Raises
    ------
    FileNotFoundError
        There is no such folder.

    Examples
    --------
    >>> from labweave.formats.axopy import Storage, Trial, storage_to_zip
    >>> storage = Storage("packed")
    >>> storage.subject_id = "p0"
    >>> storage.create_task("reaching").write(Trial({"target": "left"}))
    >>> storage_to_zip("packed", "packed.zip")
    'packed.zip'
    """
    root = Path(os.path.normpath(path))
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder. Give the root of a storage.")
    top = root.name or root.resolve().name
    target = Path(outfile) if outfile is not None else root.resolve().parent / f"{top}.zip"
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*"))}
    with tempfile.TemporaryDirectory() as spare, whole_file(target) as new:
        for name in [name for name in files if Path(name).name == JOURNAL]:
            _complete_copies(files, name, Path(spare))
        with zipfile.ZipFile(new, "w", strict_timestamps=False) as archive:
            for name, file in sorted(files.items()):
                if file.resolve() != target.resolve() and (file.is_file() or not any(file.iterdir())):
                    archive.write(file, f"{top}/{name}")
    return str(outfile) if outfile is not None else str(target)


def _complete_copies(files: dict[str, Path], journal_name: str, spare: Path) -> None:
    """Take completed copies in the place of files that lack trials of a journal; a damaged task is taken as it is."""
    journal_path = files[journal_name]
    copies = Path(tempfile.mkdtemp(dir=spare))
    journal = open_journal(journal_path.parent)
    if journal is None:  # its writer has closed it
        del files[journal_name]
        return
    try:
        with journal:
            complete(journal_path.parent, journal, copies, is_closed=True)
    except ReadError:
        return
    del files[journal_name]
    folder = journal_name.removesuffix(JOURNAL)
    files.update({f"{folder}{copy.name}": copy for copy in copies.iterdir()})


def _folders(folder: Path) -> Iterator[str]:
    """Yield the names of the folders in one, sorted."""
    yield from sorted(child.name for child in folder.iterdir() if child.is_dir())

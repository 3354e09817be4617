"""AxoPy experiments: a data root of subjects and tasks, or a zip archive of one."""

from __future__ import annotations

import functools
import hashlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import Field

from labweave.errors import ReadError, SourceError
from labweave.formats.axopy.arrays import SUFFIX, ArrayFile
from labweave.formats.axopy.journal import journal_state
from labweave.formats.axopy.names import check_name
from labweave.formats.axopy.reader import TaskReader, TaskState
from labweave.formats.axopy.trials import TABLE, tells_more, type_column
from labweave.formats.plain import plain_json, tidy
from labweave.ingest.base import Adapter, Day, Options, Refused, Row, Unit, inside, make_uuid, unreadable
from labweave.ingest.registry import SUMMARIES
from labweave.ingest.sessions import Subjects, find_session, session_rows
from labweave.ingest.trials import Gave, run_rows
from labweave.schemas import dataset, session, task
from labweave.schemas.ingestion import Source

PICKLE = ".pkl"


class AxopyOptions(Options):
    """What the folders don't say: no date is in them."""

    session_date: Day | None = Field(None, description="day of the experiments, YYYY-MM-DD, for all of the root")
    session_number: int = Field(1, ge=1, description="which session of that day")
    allow_case: bool = Field(False, description="take subjects that differ by case alone as different")
    trust_pickles: bool = Field(False, description="load pickles, which can run any code, and keep what JSON can hold")


class AxopyAdapter(Adapter):
    """Subjects, sessions, task runs, trials and arrays of an AxoPy data root; the arrays stay where they are."""

    name = "axopy"
    summary = SUMMARIES["axopy"]
    options_model = AxopyOptions
    joint_results_of: ClassVar = task.TaskRun
    vanished_marks: ClassVar = {task.Trial: "trial_vanished"}
    results_computed_from: ClassVar = {
        task.Trial: ("trial_attributes", "trial_text", "block", "block_trial", "trial_vanished"),
        task.TrialArray: ("trial_array",),
    }

    def __init__(self, location: Path, lab: str, options: AxopyOptions):
        super().__init__(location, lab, options)
        self.subjects = Subjects(options.allow_case)

    def discover(self) -> Iterator[Unit]:
        """Yield a unit per task folder; an archive is one unit."""
        if self.location.is_file():
            if zipfile.is_zipfile(self.location):
                yield Unit(self.location.name, (self.location.name,))
            return
        self._check_level()
        for subject_folder in self._folders(self.root):
            try:
                folders = self._folders(subject_folder)
            except OSError as error:
                yield unreadable(self.root, error)
                continue
            for folder in folders:
                path = f"{subject_folder.name}/{folder.name}"
                try:
                    yield Unit(path, tuple(f"{path}/{name}" for name in self._files(folder)), journal_state(folder))
                except OSError as error:
                    yield unreadable(self.root, error)
                except ReadError as error:
                    yield Unit(path, (), problem=str(error))

    def _check_level(self) -> None:
        """Refuse a folder above or below a data root, where tasks would be taken for subjects, or subjects for tasks.

        Raises
        ------
        SourceError
            There are tables of trials, but none of them in a folder of a folder.
        """
        root = self.root.resolve()

        def tables(depth: int) -> Iterator[Path]:
            found = root.glob("*/" * depth + TABLE)
            return (path for path in found if "/." not in f"/{path.relative_to(root).as_posix()}")

        if next(tables(2), None):
            return
        for depth in (3, 1, 0):
            if table := min(tables(depth), default=None):
                raise SourceError(
                    f"{self.location} is not a data root: a table of trials is in ROOT/subject/task/{TABLE}, and "
                    f"there is {table}. Ingest {table.parents[2]} instead."
                )

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield subject, session, task, run, trials, arrays and pickles of one unit."""
        gave = functools.partial(self.gave, unit)
        if self.location.is_file():
            yield from self._read_archive(gave)
            return
        for path in (unit.path, *unit.files):
            inside(self.root, path)
        folder = self.root / unit.path
        yield from self._rows(self.root.name, folder.parent.name, folder, {"path": unit.path}, gave)

    def _read_archive(self, gave: Gave) -> Iterator[Row | Refused]:
        """Yield the rows of all tasks in a zip archive, which is read in place."""
        path = self.location
        with zipfile.ZipFile(path) as archive:
            members = [PurePosixPath(info.filename) for info in archive.infolist()]
            for info in archive.infolist():
                if info.file_size > 1100 * max(info.compress_size, 1) or ".." in info.filename.split("/"):
                    raise SourceError(f"{path}: {info.filename} can't be in a data root. Make the archive again.")
        tables = {len(member.parts) for member in members if member.name == TABLE}
        if not tables or tables - {3, 4}:
            raise SourceError(
                f"{path}: its files are not in folders of subjects and tasks, which AxoPy's own storage_to_zip "
                "loses. Ingest the data root, or make the archive with labweave.formats.axopy."
            )
        root = zipfile.Path(path)
        tops = [root] if max(tables) == 3 else self._folders(root)
        for top in tops:
            name = path.stem if top is root else top.name
            for subject_folder in self._folders(top):
                for folder in self._folders(subject_folder):
                    place = {"path": path.name, "member": folder.at}
                    yield from self._rows(name, subject_folder.name, folder, place, gave)

    def _folders(self, folder: Any) -> list[Any]:
        """Return the folders in one, by name, without the hidden ones."""
        folders = []
        for child in sorted(folder.iterdir(), key=lambda child: child.name):
            if isinstance(child, Path) and child.is_symlink() and not child.name.startswith("."):
                if not child.is_file():
                    self.follows(child)
            elif child.is_dir() and child.name.startswith("."):
                self.leave_out(str(child), "it is hidden")
            elif child.is_dir():
                folders.append(child)
        return folders

    def _files(self, folder: Path) -> list[str]:
        """Return the names of the files that tell what a task holds; a link that leaves the root fails the task."""
        names = []
        for child in sorted(folder.iterdir()):
            tells = child.name == TABLE or (child.suffix in (SUFFIX, PICKLE) and not child.name.startswith("."))
            if child.is_file():
                names += [child.name] if tells else []
            elif child.is_symlink() and not child.name.startswith("."):
                self.follows(child)
        return names

    def _rows(
        self, root_name: str, subject_name: str, folder: Any, place: dict[str, str], gave: Gave
    ) -> Iterator[Row | Refused]:
        animal = tidy(check_name(subject_name, "subject id"))
        task_name = tidy(check_name(folder.name, "task id"))
        eid = self._eid(root_name, animal)
        date = self.options.session_date
        number, is_known = self.options.session_number if date else None, bool(session.Session & {"eid": eid})
        yield from session_rows(self.subjects, self.lab, animal, date, number, eid, is_known=is_known)
        key = {"eid": eid, "task": task_name}
        reader = TaskReader(folder)
        yield from self._task_rows(key, reader, folder, place, gave)
        for name in reader.pickle_names():
            yield from self._pickle_rows(key, folder / f"{name}{PICKLE}", place)

    def _eid(self, root_name: str, subject_name: str) -> str:
        """Return the eid: of the session of that day, or made from the root's name and the subject."""
        date, number = self.options.session_date, self.options.session_number
        if date is None:
            return make_uuid(f"axopy/{self.lab}/{tidy(root_name)}/{subject_name}")
        return find_session(self.lab, subject_name, date, number)[0]

    def _task_rows(
        self, key: dict[str, str], reader: TaskReader, folder: Any, place: dict[str, str], gave: Gave
    ) -> Iterator[Row | Refused]:
        state = reader.examine()
        typed = [
            (name, *type_column([cells[index] for cells in state.table.rows]))
            for index, name in enumerate(state.table.columns)
        ]
        trials = list(_trial_values(state, typed))
        self._check_source(key, trials)
        run = {
            "run_path": "/".join(place.values()).rstrip("/"),
            "run_status": state.status,
            "run_columns": [[name, kind] for name, kind, _ in typed if name not in _OWN_COLUMNS or kind != "int"],
            "run_problems": state.problems or None,
        }
        yield from run_rows(key, run, trials, "" if self.options.allow_case else "task", gave)
        for own in gave(task.TrialArray) if state.status == "damaged" else ():  # what can't be read now stays
            if key.items() <= own.items() and own["trial"] not in state.arrays.get(own["array_name"], ()):
                yield Row(task.TrialArray, own)
        for name, rows in state.arrays.items():
            yield from self._array_rows({**key, "array_name": check_name(name, "array name")}, folder, rows, place)

    def _check_source(self, key: dict[str, str], trials: list[dict[str, Any]]) -> None:
        """Refuse a run that another source has, too, unless its trials are the same; without its files it was moved."""
        run = (task.TaskRun * Source.proj("location") & key).proj("source", "location", "run_path").to_dicts()
        if not run or run[0]["source"] == self.source:
            return
        location = Path(run[0]["location"])
        if not (location if location.suffix == ".zip" else location / run[0]["run_path"]).exists():
            return
        for row in (task.Trial & key & f"trial < {len(trials)}").proj("trial_attributes").to_dicts():
            if row["trial_attributes"] != plain_json(trials[row["trial"]]["trial_attributes"]):
                raise SourceError(
                    f"Task {key['task']!r} of this subject came from the source {run[0]['source']}, with other trials. "
                    "Is this another experiment? Give it a --session-date, or its data root another name."
                )

    def _array_rows(self, key: dict[str, str], folder: Any, rows: list[int], place: dict[str, str]) -> Iterator[Row]:
        file_name = f"{key['array_name']}{SUFFIX}"
        where = {"source": self.source, **_below(place, file_name)}
        shapes: dict[tuple[int, ...], list[int]] = {}
        with ArrayFile(folder, file_name) as file:
            for row in rows:
                array = file.read(str(row))
                sha256 = hashlib.sha256(array.tobytes()).hexdigest()
                yield Row(
                    task.TrialArray,
                    {
                        **key,
                        "trial": row,
                        "array_shape": shapes.setdefault(array.shape, list(array.shape)),
                        "array_dtype": array.dtype.str,
                        "trial_array": {**where, "dataset": str(row), "sha256": sha256},
                    },
                )

    def _pickle_rows(self, key: dict[str, str], path: Any, place: dict[str, str]) -> Iterator[Row]:
        """Yield a pickle as a dataset; it is opened only if the user trusts it."""
        with path.open("rb") as file:
            content = file.read()
        facts: dict[str, Any] = {"source": self.source, **_below(place, path.name)}
        facts["sha256"] = hashlib.sha256(content).hexdigest()
        if self.options.trust_pickles:
            facts["content"] = _load(content, path)
        yield Row(dataset.DataFormat, {"data_format": "pkl", "file_extension": PICKLE})
        yield Row(
            dataset.Dataset,
            {
                "dataset_id": make_uuid(f"dataset/{key['eid']}/{key['task']}/{path.name}"),
                "eid": key["eid"],
                "collection": key["task"],
                "dataset_name": path.name,
                "data_format": "pkl",
                "file_size": len(content),
                "dataset_json": facts,
            },
        )


_OWN_COLUMNS = {"block": "block", "trial": "block_trial"}


def _trial_values(state: TaskState, typed: list[tuple[str, str, list[Any]]]) -> Iterator[dict[str, Any]]:
    """Yield what each row of `Trial` gets from the table."""
    own = {name: values for name, kind, values in typed if name in _OWN_COLUMNS and kind == "int"}
    attributes = [(name, values) for name, _, values in typed if name not in own]
    floats = [(index, name, values) for index, (name, kind, values) in enumerate(typed) if kind == "float"]
    for row, cells in enumerate(state.table.rows):
        texts = {
            name: cells[index]
            for index, name, values in floats
            if values[row] is not None and tells_more(cells[index], values[row])
        }
        yield {
            **{column: own[name][row] if name in own else None for name, column in _OWN_COLUMNS.items()},
            "trial_attributes": {name: values[row] for name, values in attributes},
            "trial_text": texts or None,
        }


def _load(content: bytes, path: Any) -> Any:
    """Return what a trusted pickle holds, as far as JSON can."""
    try:
        return plain_json(pickle.loads(content))  # noqa: S301 - the user said --trust-pickles
    except ValueError as error:
        return {"not_kept": str(error)}
    except Exception as error:  # unpickling can raise anything
        raise ReadError(path, f"the pickle can't be loaded ({error})", "Ingest without --trust-pickles.") from None


def _below(place: Mapping[str, str], name: str) -> dict[str, str]:
    """Return where a file of a task's folder is."""
    last = "member" if "member" in place else "path"
    return {**place, last: f"{place[last].rstrip('/')}/{name}"}

"""Onedata folders of VR imaging sessions: variables, recipes, imaging planes and trials."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from labweave.database import upsert
from labweave.errors import ReadError, SchemaError, SourceError
from labweave.formats import onedata as formats
from labweave.formats.alf.names import RelativePath
from labweave.formats.onedata.names import check_part
from labweave.formats.onedata.recipe import plain_recipe, to_json
from labweave.formats.onedata.vr import OPTIONS, PREPROCESSING, VALUES
from labweave.formats.plain import plain_json, tidy
from labweave.ingest.alf.rows import (
    DatasetAdapter,
    Found,
    Kinds,
    Stored,
    dataset_rows,
    kind_rows,
    make_dataset_id,
    plan_datasets,
    stored_datasets,
)
from labweave.ingest.base import Options, Refused, Row, Unit, inside, make_uuid, unreadable
from labweave.ingest.registry import SUMMARIES
from labweave.ingest.sessions import find_session, session_rows
from labweave.ingest.trials import run_rows
from labweave.schemas import dataset, onedata, session, task

log = logging.getLogger(__name__)

TASK = "vr"
DEPTH = 3
"""Folders above ``oneData`` that are looked through: mouse, date, id."""

SHOWN = 20
"""How many of the variables that can't be used a report names."""

TRIAL_NAMES = {
    "positionTracking": "first_sample",
    "environmentIndex": "environment",
    "roomlength": "room_length",
    "roomLength": "room_length",
    "movementGain": "movement_gain",
    "rewardPosition": "reward_position",
    "rewardZoneHalfwidth": "reward_halfwidth",
    "rewardAvailability": "reward_available",
    "rewardPositionTracking": "reward_sample",
    "activeLicking": "active_licking",
    "activeStopping": "active_stopping",
}
"""Variable ``trials.…`` -> attribute in `task.Trial`; others keep their names."""

START = "startTimes"
_TRIALS = re.compile(r"(?:.*/)?trials\.([^.]*)\.npy").fullmatch
_KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float", "U": "text"}


class OneDataOptions(Options):
    """What can be chosen."""

    trust_pickles: bool = Field(
        False,
        description="let recipes and sessions of this folder unpickle, which can run any code: for your own files",
    )
    allow_case: bool = Field(False, description="take subjects that differ by case alone as different")


class OneDataAdapter(DatasetAdapter):
    """Sessions of a data root with their variables, recipes and trials; the arrays stay where they are."""

    name = "onedata"
    summary = SUMMARIES["onedata"]
    options_model = OneDataOptions
    batch_rows = 5000
    joint_results_of: ClassVar = onedata.OneSession
    vanished_marks: ClassVar = {onedata.OneData: "one_vanished", task.Trial: "trial_vanished"}
    results_computed_from: ClassVar = {
        onedata.OneSession: ("one_folder", "one_values", "one_trusts_pickles"),
        onedata.Recipe: ("loader_type", "source_arg", "transforms", "kwargs"),
    }

    def __init__(self, location: Path, lab: str, options: Any):
        super().__init__(location, lab, options)
        self._folders: dict[tuple[str, str, str], str] = {}
        self._problems: list[str] = []

    def discover(self) -> Iterator[Unit]:
        """Yield a unit per session folder."""
        if self.location.is_dir():
            yield from self._sessions_below(self.root, DEPTH)

    def _folders_in(self, folder: Path, depth: int) -> list[Path]:
        """Return the folders in one, by name; links in place of sessions, or above them, are named."""
        folders = []
        for child in sorted(child for child in folder.iterdir() if not child.name.startswith(".")):
            if not child.is_symlink():
                folders += [child] if child.is_dir() else []
            elif (depth or child.name in formats.FOLDERS) and not child.is_file():
                self.follows(child)
        return folders

    def _files_in(self, folder: Path) -> list[Path]:
        """Return the files of variables in a folder; links that lead nowhere are named, others out fail the session."""
        for child in folder.iterdir():
            if child.is_symlink() and not child.is_file():
                self.follows(child)
        return formats.saved_files(folder)

    def _unit(self, name: str, files: list[Path]) -> Unit:
        """Return the unit of a session folder, which fails when another folder is the same session."""
        paths = tuple(path.relative_to(self.root).as_posix() for path in files)
        try:
            names = formats.split_folder((self.root / name).absolute())
        except SourceError as error:
            return Unit(name, paths, problem=str(error))
        number = _number(names.session_id)
        identity = tidy(names.mouse_name), names.date, tidy(names.session_id) if number is None else str(number)
        other = self._folders.setdefault(identity, name)
        same = f"{self.root / name} and {other} are the same session, {' '.join(identity)}."
        return Unit(name, paths, problem=f"{same} Give one of them another id." if other != name else "")

    def notes(self) -> list[str]:
        """Say which variables are there, but can't be used."""
        shown = self._problems[:SHOWN]
        more = len(self._problems) - len(shown)
        return [
            *super().notes(),
            *(f"not usable: {problem}" for problem in shown),
            *([f"and {more} more; OneData.one_problem has them all"] if more else []),
        ]

    def _sessions_below(self, folder: Path, depth: int) -> Iterator[Unit]:
        name = folder.relative_to(self.root).as_posix()
        try:
            children = self._folders_in(folder, depth)
            ones = [child for child in children if child.name in formats.FOLDERS]
            beside = [folder / name for name in (OPTIONS, PREPROCESSING, VALUES)]
            files = [*self._files_in(ones[0]), *(path for path in beside if path.is_file())] if ones else []
        except OSError as error:
            yield unreadable(self.root, error)
            return
        if ones:
            yield self._unit(name, files)
        for child in children:
            if depth and child not in ones:
                yield from self._sessions_below(child, depth - 1)

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield session, planes, variables, recipes, datasets and trials of one session folder."""
        folder = self.root / unit.path
        for path in {unit.path, *(name.rpartition("/")[0] for name in unit.files)}:
            inside(self.root, path)
        for path in unit.files:
            if (self.root / path).is_symlink():
                inside(self.root, path)
        names = formats.split_folder(folder.absolute())
        opened = formats.OneDataSession.open(folder)
        eid, is_known, rows = self._session_rows(names)
        yield from rows
        yield Row(
            onedata.OneSession,
            {
                "eid": eid,
                "one_folder": unit.path,
                "one_session_id": names.session_id,
                "one_session_kind": "b2" if opened.is_registered else "onedata",
                "one_options": to_json(opened.opts) or None,
                "one_preprocessing": to_json(opened.preprocessing) or None,
                "one_values": to_json(vars(opened.values)) or None,
                "one_trusts_pickles": self.options.trust_pickles,
            },
        )
        yield from _plane_rows(eid, opened)
        variables = [path for path in unit.files if path.endswith((".npy", ".npz"))]
        if is_known:
            _refuse_recipes_alone(eid, variables)
        found = {path: formats.describe(self.root / path) for path in variables}
        self._problems += [f"{path}: {one.problem}" for path, one in found.items() if one.problem]
        for path, one in found.items():
            yield from self._variable_rows(eid, folder, self.root / path, sha256[path], one)
        yield from self._dataset_rows(eid, found, stored_datasets([eid]) if is_known else [])
        yield from _trial_rows(eid, unit.path, self.root, found)

    def _session_rows(self, names: formats.SessionFolder) -> tuple[str, bool, Iterator[Row]]:
        """Return the eid of a folder's session, whether it is there already, and the rows of one that isn't."""
        subject, date = tidy(names.mouse_name), dt.date.fromisoformat(names.date)
        number = _number(names.session_id)
        if number is not None:
            eid, is_known = find_session(self.lab, subject, date, number)
        else:
            eid = make_uuid(f"onedata/{self.lab}/{subject}/{names.date}/{tidy(names.session_id)}")
            is_known = bool(session.Session & {"eid": eid})
        return eid, is_known, session_rows(self.subjects, self.lab, subject, date, number, eid, is_known=is_known)

    def _variable_rows(self, eid: str, folder: Path, path: Path, sha256: str, one: formats.OneFile) -> Iterator[Row]:
        key = {"eid": eid, "one_name": path.stem, "one_form": path.suffix[1:]}
        one_object, attribute = formats.split_name(path.stem)
        yield Row(
            onedata.OneData,
            {
                **key,
                "one_kind": one.kind,
                "one_object": one_object,
                "one_attribute": attribute,
                "one_dtype": one.dtype if len(one.dtype) <= 255 else "structured",
                "one_shape": one.shape,
                "n_stored": one.n_stored,
                "content_sha256": one.content_sha256,
                "object_value": None if one.value is None else {"value": one.value},
                "one_problem": one.problem[:2000],
                "one_file": path.relative_to(folder).as_posix(),
                "one_file_size": path.stat().st_size,
                "one_file_sha256": sha256,
                "one_vanished": False,
            },
        )
        if one.recipe is not None:
            yield Row(onedata.Recipe, {**key, **_recipe_values(one.recipe)})

    def _dataset_rows(self, eid: str, found: Mapping[str, formats.OneFile], stored: list[Stored]) -> Iterator[Row]:
        """Yield the variables as datasets of the session, so that ONE sees them."""
        known = {one.place: one for one in stored}
        files = []
        for path, one in found.items():
            full = self.root / path
            below = RelativePath(full.parent.name, "", full.name)
            md5, more = self.md5_of(full, known.get(below)), {"dataset_json": {"one_kind": one.kind}}
            files.append(Found(below, path, full.stat().st_size, md5, more=more))
        elsewhere = {one.dataset_id for one in stored if one.vanished is None}
        plan = plan_datasets(eid, files, stored, elsewhere, self.kinds)
        yield from self.repository.rows(self.lab)
        yield from kind_rows([file.place for file, _, values in plan.files if values], self.kinds)
        yield from dataset_rows(plan, stored, self.repository)


def _refuse_recipes_alone(eid: str, paths: Sequence[str]) -> None:
    """Refuse a file of a variable that somebody made a recipe in the database alone: one of them would be lost.

    Raises
    ------
    SourceError
        Names it.
    """
    alone = set((onedata.recipes_alone() & {"eid": eid}).to_arrays("one_name").tolist())
    for path in paths:
        stem, _, form = path.rpartition("/")[2].rpartition(".")
        if form == "npy" and stem in alone:
            raise SourceError(
                f"{path}: {stem} is a recipe in the database alone, made with save_recipe. Remove the file, or the "
                f"recipe: labweave.ingest.onedata.remove_recipe({eid!r}, {stem!r})."
            )


def _number(session_id: str) -> int | None:
    """Return the number that an id is; None of another id."""
    number = int(session_id) if session_id.isascii() and session_id.isdigit() else None
    return number if number is not None and number < 2**31 else None


def _recipe_values(recipe: formats.LoadingRecipe) -> dict[str, Any]:
    """Return a recipe as the table holds it."""
    return {
        "loader_type": recipe.loader_type,
        "source_arg": recipe.source_arg,
        "transforms": recipe.transforms,
        "kwargs": to_json(recipe.kwargs),
    }


def _plane_rows(eid: str, opened: formats.OneDataSession) -> Iterator[Row]:
    values = vars(opened.values)
    names = values.get("planeNames") or []
    columns = {"plane_id": "planeIDs", "n_rois": "roiPerPlane", "n_frames": "framePerPlane"}
    for order, name in enumerate(names):
        row: dict[str, Any] = {"eid": eid, "plane_order": order, "plane_name": str(name)}
        for column, value in columns.items():
            listed = values.get(value) or []
            if len(listed) != len(names) and (listed or column == "plane_id"):
                raise ReadError(
                    opened.data_path / VALUES,
                    f"{value} has {len(listed)} entries for {len(names)} planes",
                    "Register the session again.",
                )
            row[column] = listed[order] if listed else None
        yield Row(onedata.RoiPlane, row)


def _trial_rows(eid: str, unit: str, root: Path, found: Mapping[str, formats.OneFile]) -> Iterator[Row | Refused]:
    """Yield the trials, from the variables ``trials.…`` that have a value for each."""
    columns = {
        name[1]: formats.read_npy(root / path)
        for path, one in found.items()
        if (name := _TRIALS(path)) and one.kind == "array" and len(one.shape or ()) == 1
    }
    if START not in columns:
        return
    starts = columns.pop(START)
    problems = [
        f"trials.{name} has {len(values)} values for {len(starts)} trials"
        for name, values in columns.items()
        if len(values) != len(starts)
    ]
    apart = [
        f"trials.{name} is of the type {values.dtype}: it stays in its file"
        for name, values in columns.items()
        if values.dtype.kind not in _KINDS
    ]
    used = {
        TRIAL_NAMES.get(name, name): values
        for name, values in columns.items()
        if len(values) == len(starts) and values.dtype.kind in _KINDS
    }
    run = {
        "run_path": unit,
        "run_status": "damaged" if problems else "complete" if len(starts) else "empty",
        "run_columns": [[name, _KINDS[values.dtype.kind]] for name, values in used.items()],
        "run_problems": [*problems, *apart] or None,
    }
    lists = {name: _plain_column(name, values) for name, values in used.items()}
    trials = [
        {
            "trial_start": start if np.isfinite(start) else None,
            "trial_attributes": {name: values[trial] for name, values in lists.items()},
        }
        for trial, start in enumerate(starts.tolist())
    ]
    yield from run_rows({"eid": eid, "task": TASK}, run, trials)


def _plain_column(name: str, values: np.ndarray) -> list[Any]:
    plain = plain_json(values)
    return [None if value == -1 else value for value in plain] if name == "reward_sample" else plain


def save_recipe(eid: str, recipe: formats.LoadingRecipe, *names: str) -> None:
    """Save a recipe in the database alone, without a file.

    Parameters
    ----------
    eid : str
        Of a session with onedata.
    recipe : LoadingRecipe
    *names : str
        Parts of the variable's name, as for `SessionData.saveone`.

    Raises
    ------
    SchemaError
        The session has no onedata, or the variable has a file.
    RecipeRefused
        The recipe holds something else than plain values.

    Examples
    --------
    >>> from labweave.formats.onedata import LoadingRecipe
    >>> from labweave.ingest.onedata import save_recipe
    >>> from labweave.schemas import onedata
    >>> eid = onedata.OneSession().fetch1("eid")
    >>> save_recipe(eid, LoadingRecipe("constant", None, value=1.5, shape=[3]), "mpci", "gain")
    >>> onedata.session(eid).loadone("mpci.gain")
    array([1.5, 1.5, 1.5])
    """
    stem = ".".join(check_part(name, "name of a variable") for name in names)
    if not stem or len(stem) > 128:
        raise ValueError(f"{stem!r} can't be the name of a variable: it has 1 to 128 characters.")
    onedata.find(eid)
    key = {"eid": eid, "one_name": stem, "one_form": "npy"}
    if onedata.OneData & key & {"one_vanished": False} & "one_file <> ''":
        raise SchemaError(
            f"{stem} of the session {eid} has a file. Save the recipe there: onedata.session(eid).saveone(recipe, ...)."
        )
    plain = plain_recipe(recipe.to_dict(), stem)
    one_object, attribute = formats.split_name(stem)
    values = {"one_kind": "recipe", "one_object": one_object, "one_attribute": attribute, "one_file": ""}
    place = RelativePath(formats.FOLDERS[0], "", f"{stem}.npy")
    kinds = Kinds.read()
    data_format, dataset_type = kinds.of(place.name)
    one = {
        "dataset_id": make_dataset_id(eid, place),
        "eid": eid,
        "collection": place.collection,
        "dataset_name": place.name,
        "data_format": data_format,
        "dataset_type": dataset_type,
        "dataset_json": {"one_kind": "recipe"},
        "dataset_vanished": None,
    }

    def work() -> None:
        upsert(onedata.OneData, [{**key, **values, "one_vanished": False}])
        counts = upsert(onedata.Recipe, [{**key, **_recipe_values(plain)}])
        if counts.updated:
            (onedata.RecipeCheck & key).delete(transaction=False, prompt=False)
        for row in kinds.rows([place.name]):
            upsert(row.table, [row.values])
        upsert(dataset.Dataset, [one])

    onedata.OneData().connection.run_transaction(work)


def remove_recipe(eid: str, *names: str) -> None:
    """Delete a recipe that is in the database alone, with its check and its dataset.

    Parameters
    ----------
    eid : str
    *names : str
        As for `save_recipe`.

    Raises
    ------
    SchemaError
        There is no such recipe, or it has a file.

    Examples
    --------
    >>> from labweave.formats.onedata import LoadingRecipe
    >>> from labweave.ingest.onedata import remove_recipe, save_recipe
    >>> from labweave.schemas import onedata
    >>> eid = onedata.OneSession().fetch1("eid")
    >>> save_recipe(eid, LoadingRecipe("constant", None, value=1.5, shape=[3]), "mpci", "gain")
    >>> remove_recipe(eid, "mpci", "gain")
    >>> len(onedata.OneData & {"one_name": "mpci.gain"})
    0
    """
    stem = ".".join(names)
    key = {"eid": eid, "one_name": stem, "one_form": "npy"}
    if not onedata.recipes_alone() & key:
        raise SchemaError(
            f"The session {eid} has no recipe {stem} in the database alone. "
            "Of one with a file delete that: onedata.session(eid).clear_one_data([...], certainty=True)."
        )
    dataset_id = make_dataset_id(eid, RelativePath(formats.FOLDERS[0], "", f"{stem}.npy"))

    def work() -> None:
        (onedata.OneData & key).delete(transaction=False, prompt=False)
        (dataset.Dataset & {"dataset_id": dataset_id}).delete(transaction=False, prompt=False)

    onedata.OneData().connection.run_transaction(work)

"""The base of session objects: variables saved as files, recipes that are followed, a cache."""

from __future__ import annotations

import inspect
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy

from labweave.errors import FileMissing, LabweaveError
from labweave.formats.onedata.arrays import MAX_VARIABLE_BYTES, read_npy, read_sparse, to_dense
from labweave.formats.onedata.cache import DENSE, ArrayCache, frozen, shared
from labweave.formats.onedata.errors import (
    NotSaved,
    RecipeError,
    RecipeRefused,
    UnknownLoader,
    UnknownTransform,
)
from labweave.formats.onedata.names import FOLDERS, check_part, format_date, saved_files
from labweave.formats.onedata.recipe import LoadingRecipe, entered, note_source, plain_recipe
from labweave.formats.onedata.transforms import split_call, split_index
from labweave.formats.writing import whole_file

CACHE_BYTES = 1 << 30
"""What the cache of a session holds, unless it is told otherwise."""


@dataclass(eq=False)
class SessionData(ABC):
    """One session of a mouse, with variables saved in its folder ``oneData``.

    A subclass says where the folder is (`_init_data_path`) and what its spikes are (`spks`); to follow recipes it has
    `recipe_loaders` and `recipe_transforms`. `OneDataSession` is one that has all this.

    Parameters
    ----------
    mouse_name : str
    date : str, date, datetime or float
        ``YYYY-MM-DD``, or POSIX seconds (float).
    session_id : str, optional
    cache_bytes : int, default: 1 GiB
        How much of what is loaded is kept in memory.
    trust_pickles : bool, default: False
        Unpickle Python objects in the session's files, which can run any code. For folders of your own only.

    Attributes
    ----------
    data_path : Path
        The session's folder.
    values : SimpleNamespace
        Small values of any kind.
    one_cache : ArrayCache
        What has been loaded or saved, by file name.
    one_recipes : dict
        File name -> recipe of variables that have no file.
    """

    mouse_name: str
    date: Any
    session_id: str | None = None
    cache_bytes: int = field(default=CACHE_BYTES, kw_only=True, repr=False)
    trust_pickles: bool = field(default=False, kw_only=True, repr=False)
    data_path: Path = field(init=False, repr=False)
    values: SimpleNamespace = field(init=False, repr=False)
    one_cache: ArrayCache = field(init=False, repr=False)
    one_recipes: dict[str, LoadingRecipe] = field(init=False, repr=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Compare sessions by name, also when a subclass is a dataclass."""
        super().__init_subclass__(**kwargs)
        for name in ("__eq__", "__hash__"):
            if name not in vars(cls):
                setattr(cls, name, getattr(SessionData, name))

    def __post_init__(self) -> None:
        """Bring the date into one form, find the folder, load what the subclass needs."""
        self.date = format_date(self.date)
        self.values = SimpleNamespace()
        self.one_cache = ArrayCache(self.cache_bytes)
        self.one_recipes = {}
        path = self._init_data_path()
        if path is not None:
            self.data_path = Path(path)
        self._additional_loading()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SessionData) and self.session_name == other.session_name

    def __hash__(self) -> int:
        return hash(self.session_name)

    @abstractmethod
    def _init_data_path(self) -> Path | None:
        """Return the session's folder, or set `data_path`."""

    @property
    @abstractmethod
    def spks(self) -> Any:
        """Spikes, (frames, ROIs)."""

    def _additional_loading(self) -> None:  # noqa: B027 - most subclasses have nothing more to load
        """Load what the session needs besides; called last."""

    @property
    def recipe_loaders(self) -> Mapping[str, Callable[..., Any]]:
        """Loaders by name: functions of the recipe's ``source_arg`` and kwargs."""
        raise NotImplementedError(f"{type(self).__name__} has no recipe_loaders, so it can't follow recipes.")

    @property
    def recipe_transforms(self) -> Mapping[str, Callable[..., Any]]:
        """Transforms by name: functions of the loaded data."""
        raise NotImplementedError(f"{type(self).__name__} has no recipe_transforms.")

    # ---- names and values

    @property
    def session_name(self) -> tuple[str, ...]:
        """Mouse, date and, when there is one, id."""
        return (self.mouse_name, self.date, *([self.session_id] if self.session_id else []))

    def session_print(self, joinby: str = "/") -> str:
        """Return mouse, date and id as one text."""
        return joinby.join(self.session_name)

    @property
    def session_uid(self) -> str:
        """Mouse, date and id joined by dots."""
        return self.session_print(".")

    def get_value(self, key: str) -> Any:
        """Return a value; AttributeError when there is none of that name."""
        return getattr(self.values, key)

    def set_value(self, key: str, value: Any) -> None:
        """Set a value; nothing is written to disk."""
        setattr(self.values, key, value)

    # ---- files

    @property
    def one_path(self) -> Path:
        """Folder of the saved variables; it need not be there."""
        folders = [self.data_path / name for name in FOLDERS]
        return next((path for path in folders if path.is_dir()), folders[0])

    def get_one_filename(self, *names: str) -> str:
        """Return the file name of a variable: its names joined by dots, with ``.npy``."""
        if not names:
            raise ValueError("A variable needs a name, for example 'mpci', 'roiActivityF'.")
        return f"{check_part('.'.join(names), 'name of a variable')}.npy"

    def get_saved_one(self) -> list[Path]:
        """Return the files of saved variables: ``.npy``, then ``.npz``, each by name."""
        return saved_files(self.one_path)

    def print_saved_one(self, include_path: bool = False, include_extension: bool = False) -> list[Any]:
        """Return the names of saved variables, and of recipes without a file; with `include_path` they are paths."""
        saved = self.get_saved_one()
        saved += sorted({self.one_path / name for name in self.one_recipes} - set(saved))
        paths = [path if include_extension else path.with_suffix("") for path in saved]
        return paths if include_path else [path.name for path in paths]

    def saveone(self, data: Any, *names: str, sparse: bool = False, convert: bool = False) -> None:
        """Save a variable: an array, a sparse array, or a recipe.

        The file is written whole or not at all; the folder is made when it is missing. What was cached under this
        name before is forgotten, and an array is cached, as a copy.

        Parameters
        ----------
        data : array_like, scipy.sparse.csc_array or LoadingRecipe
            What has a ``to_dict`` and the marker of a recipe is one.
        *names : str
            Parts of the name: ``"mpci", "roiActivityF"`` is saved as ``mpci.roiActivityF.npy``.
        sparse : bool, default: False
            Save a ``csc_array``, compressed, as ``.npz``.
        convert : bool, default: False
            Take other sparse arrays and matrices too, and convert them.

        Raises
        ------
        ValueError
            `sparse` and something else than a csc_array, or Python objects.

        Examples
        --------
        >>> import scipy
        >>> from labweave.formats.onedata import OneDataSession
        >>> session = OneDataSession("CR05", "2026-03-01")
        >>> session.saveone([[1.5, 0.5]], "mpci", "roiActivityF")
        >>> session.saveone(scipy.sparse.csc_array([[0, 2], [1, 0]]), "mpci", "roiMask", sparse=True)
        >>> session.print_saved_one(include_extension=True)
        ['mpci.roiActivityF.npy', 'mpci.roiMask.npz']
        """
        file_name = self.get_one_filename(*names)
        is_recipe = hasattr(data, "to_dict") and getattr(data, "RECIPE_MARKER", None) == LoadingRecipe.RECIPE_MARKER
        if is_recipe:
            array = np.empty((), object)
            array[()] = plain_recipe(data.to_dict(), file_name).to_dict()
        elif sparse:
            file_name = _sparse_name(file_name)
            array = scipy.sparse.csc_array(data) if convert and scipy.sparse.issparse(data) else data
            if type(array) is not scipy.sparse.csc_array:
                raise ValueError(
                    f"{file_name}: sparse data must be a scipy.sparse.csc_array, this is a {type(data).__name__}. "
                    "Other sparse arrays are converted with convert=True."
                )
        else:
            array = np.asarray(data)
            if array.dtype.hasobject:
                raise ValueError(
                    f"{file_name}: a {type(data).__name__} is no array of numbers or text. Save its arrays one by one, "
                    "sparse ones with sparse=True; small values go into a JSON file."
                )
        with whole_file(self.one_path / file_name) as half_made, half_made.open("wb") as file:
            if isinstance(array, scipy.sparse.csc_array):
                scipy.sparse.save_npz(file, array)
            else:
                np.save(file, array, allow_pickle=is_recipe)
            if is_recipe and file.tell() > MAX_VARIABLE_BYTES:
                raise RecipeRefused(
                    f"{file_name}: the recipe takes {file.tell()} bytes, the limit is {MAX_VARIABLE_BYTES}. "
                    "Save its arguments as arrays."
                )
        self.one_cache.drop(file_name)
        self.one_recipes.pop(file_name, None)
        if isinstance(array, np.ndarray) and not is_recipe and array.nbytes <= self.one_cache.max_bytes:
            self.one_cache[file_name] = frozen(array.copy())

    def loadone(
        self, *names: str, force: bool = False, sparse: bool = False, keep_sparse: bool = False, mmap: bool = False
    ) -> Any:
        """Load a variable, or what its recipe says.

        Parameters
        ----------
        *names : str
            Parts of the name, as for `saveone`.
        force : bool, default: False
            Load anew what is in the cache.
        sparse : bool, default: False
            Load the ``.npz`` of that name.
        keep_sparse : bool, default: False
            Return a sparse variable as ``csc_array`` instead of a dense array.
        mmap : bool, default: False
            Map the file, or the array file that a recipe names, instead of reading it. Maps are not cached.

        Returns
        -------
        ndarray, scipy.sparse.csc_array, or what a recipe gives
            Arrays are read-only: they are shared with the cache. Take a copy to change one.

        Raises
        ------
        NotSaved
            A ValueError: there is no such variable; it names the ones there are.
        UnknownLoader, UnknownTransform
            KeyErrors: the recipe needs what the session does not have.
        RecipeRefused, FileMissing, BadFile, UnsafeFile

        Examples
        --------
        >>> from labweave.formats.onedata import OneDataSession
        >>> session = OneDataSession("CR06", "2026-03-01")
        >>> session.saveone([3, 1, 2], "trials", "environmentIndex")
        >>> session.loadone("trials", "environmentIndex")
        array([3, 1, 2])
        >>> session.loadone("trials.roomLength")
        Traceback (most recent call last):
        ...
        labweave.formats.onedata.errors.NotSaved: CR06/2026-03-01 has no trials.roomLength.npy. Saved in ...
        """
        file_name = self.get_one_filename(*names)
        key = file_name
        if sparse:
            file_name = _sparse_name(file_name)
            key = file_name if keep_sparse else file_name + DENSE
        if not force and not mmap:
            cached = self.one_cache.get(key)
            if cached is not None:
                return cached
        value = frozen(self._read_sparse(file_name, keep_sparse, force) if sparse else self._read(file_name, mmap))
        if mmap:
            return value
        self.one_cache[key] = value
        return shared(value)

    def _read_sparse(self, file_name: str, keep_sparse: bool, force: bool) -> Any:
        path = self.one_path / file_name
        array = None if force else self.one_cache.get(file_name)
        if array is None:
            try:
                array = read_sparse(path)
            except FileMissing:
                raise self._not_saved(file_name) from None
        return array if keep_sparse else to_dense(array, path)

    def _read(self, file_name: str, mmap: bool) -> Any:
        try:
            array = read_npy(self.one_path / file_name, mmap=mmap, trust_pickles=self.trust_pickles)
        except FileMissing:
            if file_name in self.one_recipes:
                return self.follow(self.one_recipes[file_name], file_name, mmap=mmap)
            raise self._not_saved(file_name) from None
        if array.dtype.hasobject and LoadingRecipe.is_recipe(array):
            return self.follow(plain_recipe(array.item(), file_name), file_name, mmap=mmap)
        return array

    def _not_saved(self, file_name: str) -> NotSaved:
        saved = self.print_saved_one(include_extension=True)
        twin = f"{file_name[:-3]}{'npz' if file_name.endswith('npy') else 'npy'}"
        hint = ""
        if twin in saved:
            hint = f" There is {twin}: load it {'with' if twin.endswith('npz') else 'without'} sparse=True."
        names = f"{', '.join(saved[:20])}{', ...' if len(saved) > 20 else ''}" if saved else "nothing"
        return NotSaved(f"{self.session_print()} has no {file_name}.{hint} Saved in {self.one_path}: {names}.")

    def clear_cache(self, file_names: Iterable[str] | None = None) -> None:
        """Forget what was loaded: everything, or these names, with or without extension."""
        if file_names is None:
            self.one_cache.clear()
            return
        for name in [file_names] if isinstance(file_names, str) else file_names:
            self.one_cache.drop(name)

    def clear_one_data(self, one_file_names: Sequence[str] | None = None, certainty: bool = False) -> None:
        """Delete the files of variables, in both forms, and forget them.

        Parameters
        ----------
        one_file_names : list of str, optional
            Names without extension; None are all.
        certainty : bool, default: False
            Without it nothing is deleted, with a warning.

        Raises
        ------
        ValueError
            An empty list.
        TypeError
            A text instead of a list.
        """
        if isinstance(one_file_names, (str, bytes)):
            raise TypeError(f"clear_one_data takes a list of names, not {one_file_names!r}.")
        if one_file_names is not None and not list(one_file_names):
            raise ValueError("clear_one_data got an empty list. To delete every variable leave the names out.")
        wanted = None if one_file_names is None else set(one_file_names)
        if not certainty:
            which = "every variable" if wanted is None else f"{len(wanted)} variables"
            warnings.warn(f"Nothing is deleted: to delete {which} say certainty=True.", stacklevel=2)
            return
        saved = self.get_saved_one()
        stems = {path.stem for path in saved}
        for name in sorted(wanted - stems) if wanted is not None else ():
            warnings.warn(f"{name} is not saved in {self.one_path}: names have no extension.", stacklevel=2)
        for path in saved:
            if wanted is None or path.stem in wanted:
                path.unlink()
                self.one_cache.drop(path.name)

    # ---- recipes

    def source_path(self, relative: str | os.PathLike[str]) -> Path:
        """Return the path of a source of a recipe, which must be in the session's folder.

        Raises
        ------
        RecipeRefused
            It leaves the folder: absolute, through ``..`` or a link.
        FileMissing
            It is not there.
        """
        text = os.fspath(relative).replace("\\", "/")
        pure = PurePosixPath(text)
        root = self.data_path.resolve()
        path = root / pure
        inside = not pure.is_absolute() and ".." not in pure.parts and ":" not in text and "\0" not in text
        if not inside or not path.resolve().is_relative_to(root):
            raise RecipeRefused(
                f"{text} leaves the folder of the session, {self.data_path}. "
                "Recipes may only name files below it, and links must not lead out of it."
            )
        note_source(path)
        if not path.is_file():
            raise FileMissing(path, "the source of the recipe is missing", "Is its disk mounted, and was it deleted?")
        return path

    def follow(self, recipe: LoadingRecipe, name: str = "recipe", *, mmap: bool = False) -> Any:
        """Load what a recipe says, without the cache.

        Loader and transforms are looked up before anything is loaded.

        Raises
        ------
        UnknownLoader, UnknownTransform, RecipeRefused, RecipeError, ReadError
        """
        where = f"{self.session_print()}, {name}"
        loader = _find(self.recipe_loaders, recipe.loader_type, "loader", UnknownLoader, where)
        steps = [(text, *self._find_transform(text, where)) for text in recipe.transforms]
        kwargs: dict[str, Any] = dict(recipe.kwargs)
        # Only labweave's own loaders know these arguments for sure.
        if getattr(loader, "lazy", False) and "index" not in kwargs and kwargs.get("concatenate", True) is True:
            try:
                index, left = split_index(recipe.transforms)
            except ValueError as error:
                raise RecipeRefused(f"{where}: {error}. Correct the recipe.") from None
            if index is not None and recipe.source_arg != "ops":
                kwargs["index"] = index
                steps = [(text, *self._find_transform(text, where)) for text in left]
        if mmap and getattr(loader, "lazy", False) and "mmap" in inspect.signature(loader).parameters:
            kwargs["mmap"] = True
        arguments = () if recipe.source_arg is None else (recipe.source_arg,)
        try:
            inspect.signature(loader).bind(*arguments, **kwargs)
        except TypeError as error:
            raise RecipeRefused(
                f"{where}: the loader {recipe.loader_type} takes other arguments ({error}). Correct the recipe."
            ) from None
        with entered(self.data_path, name, where):
            data = loader(*arguments, **kwargs)
        for text, transform, texts in steps:
            try:
                data = transform(data, *texts)
            except LabweaveError:
                raise
            except Exception as error:  # transforms are the lab's own functions
                raise RecipeError(
                    f"{where}: the transform {text} failed ({type(error).__name__}: {error}). Correct the recipe."
                ) from error
        return data

    def _find_transform(self, text: str, where: str) -> tuple[Callable[..., Any], list[str]]:
        transforms = self.recipe_transforms
        if text in transforms:
            return transforms[text], []
        name, arguments = split_call(text)
        return _find(transforms, name, "transform", UnknownTransform, where), arguments


def _find(
    functions: Mapping[str, Callable[..., Any]], name: str, what: str, error: type[RecipeError], where: str
) -> Callable[..., Any]:
    if name not in functions:
        raise error(
            f"{where}: no {what} is called {name!r}, only {', '.join(sorted(functions)) or 'none'}. "
            f"Register it: labweave.formats.onedata.register_{what}."
        )
    return functions[name]


def _sparse_name(file_name: str) -> str:
    return f"{file_name.removesuffix('.npy')}.npz"

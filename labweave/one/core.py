"""ONE's core: ids, lists and files of sessions, answered from the tables for every front end.

Ids are texts of lower-case UUIDs here; a front end turns them into what its users expect. Datasets are
`labweave.one.search.tables.DatasetRow`, chosen by the rules of `labweave.one.search.matching`.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, wraps
from inspect import signature
from os import PathLike
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import labweave.database
from labweave.errors import ConfigError
from labweave.formats.alf import names
from labweave.formats.alf.exceptions import ALFMultipleObjectsFound, ALFObjectNotFound, ALFWarning, ReferenceNotFound
from labweave.formats.alf.path import alf_path
from labweave.one.search import matching
from labweave.one.search.expressions import Expression
from labweave.one.search.rows import DatasetRow, SessionRow
from labweave.one.search.tables import Tables, open_tables
from labweave.secret import reveal
from labweave.settings import load_settings

if TYPE_CHECKING:
    from labweave.one.files.cache import Files
    from labweave.one.files.sources import DataLogin

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REFERENCE = re.compile(r"(\d{4}-\d{2}-\d{2})_(\d{1,3})_(\w.*)")


class At(NamedTuple):
    """What is known of a session's place; only a path tells the lab."""

    subject: str
    day: dt.date
    number: int
    lab: str | None = None
    reference: str = ""


class Core:
    """What both front ends are made of, for the cache folder and the data server of the settings."""

    def __init__(self, cache_dir: str | PathLike[str] | None, *, offline: bool = False, silent: bool = False):
        settings = load_settings().one
        self._given = (cache_dir, offline, silent)
        self.cache_dir, self.offline, self.silent = cache_dir or settings.cache_dir, offline, silent
        self.login: DataLogin | None = None
        if settings.data_user:
            from labweave.one.files.sources import DataLogin

            self.login = DataLogin(
                settings.data_url, settings.data_user, reveal(settings.data_password, "one.data_password")
            )
        try:
            labweave.database.current()
        except ConfigError:
            labweave.database.connect(make=False)

    def __reduce__(self) -> tuple:
        return _core_again, (labweave.database.current(), *self._given)

    @property
    def tables(self) -> Tables:
        """The tables of the open database."""
        return open_tables()

    @cached_property
    def files(self) -> Files:
        """What finds and downloads files; made when it is first needed."""
        from labweave.one.files.cache import Files

        return Files(self.cache_dir, offline=self.offline, login=self.login, silent=self.silent)

    # -- ids --------------------------------------------------------------------------------

    def to_eid(self, id: Any, *, ignore_case: bool = False) -> Any:
        """Return the eid of a session named in any way, or a list of them for a list.

        It may be a UUID (also at the end of a URL), the path of a session or of a file in it, a reference such as
        ``2019-05-07_1_subject``, or details with subject, number, lab and date or start_time. None and the path of an
        unknown session give None. Nothing checks that an eid exists. With `ignore_case`, subjects may be in another
        case.

        Raises
        ------
        ValueError
            It names no session in any way known.
        ReferenceNotFound
            No session has this reference.
        AssertionError
            A mapping lacks a key.
        """
        if isinstance(id, Iterable) and not isinstance(id, (str, bytes, Mapping, PurePath)):
            return self._eids_at([self._place(each) for each in id], ignore_case)
        return self._eids_at([self._place(id)], ignore_case)[0]

    def _place(self, id: Any) -> str | At | None:
        """Return the eid that an id contains, else the place that it names; None for a path without a session."""
        if id is None:
            return None
        if isinstance(id, UUID):
            return str(id)
        if isinstance(id, str) and (found := _REFERENCE.fullmatch(id)):
            return _at(found[3], found[1], found[2], reference=id)
        if isinstance(id, Mapping):
            return self._place_of(id)
        if isinstance(id, PurePath) or (isinstance(id, str) and names.parse_session(id)):
            return place_of_path(id)
        if isinstance(id, str) and (eid := uuid_at_end(id)):
            return eid
        raise ValueError(
            f"Invalid experiment ID {id!r}: it is no UUID, session path, reference such as 2019-05-07_1_subject, or "
            "details of a session."
        )

    def _place_of(self, details: Mapping[str, Any]) -> At | None:
        if {"subject", "date", "sequence"} <= set(details):
            return _at(details["subject"], str(details["date"])[:10], details["sequence"], reference=str(dict(details)))
        assert {"subject", "number", "lab"} <= set(details) and {"date", "start_time"} & set(details), (
            f"details of a session need subject, number, lab and date or start_time, not {sorted(map(str, details))}"
        )
        day = details.get("date") or details["start_time"]
        return _at(details["subject"], str(day)[:10], details["number"])

    def _eids_at(self, places: Sequence[str | At | None], ignore_case: bool) -> list[str | None]:
        asked = [place for place in places if isinstance(place, At)]
        subjects = self._subjects_like({place.subject for place in asked}) if asked and ignore_case else {}
        keys = [(name, at.day, at.number) for at in asked for name in subjects.get(at.subject, (at.subject,))]
        found: dict[tuple[str, dt.date | None, int | None], list[SessionRow]] = {}
        for row in self.tables.sessions_at(keys) if keys else ():
            found.setdefault((row.subject, row.date, row.number), []).append(row)

        def eid_of(place: str | At | None) -> str | None:
            if not isinstance(place, At):
                return place
            same = subjects.get(place.subject, (place.subject,))
            return _choose(place, [row for name in same for row in found.get((name, place.day, place.number), ())])

        return [eid_of(place) for place in places]

    def _subjects_like(self, subjects: set[str]) -> dict[str, list[str]]:
        """Return for each subject the known names that differ by case at most; only itself if it is one of them."""
        cases: dict[str, list[str]] = {}
        for name in self.tables.names("subject"):
            cases.setdefault(name.casefold(), []).append(name)
        return {name: [name] if name in (same := cases.get(name.casefold(), [])) else same for name in subjects}

    def eids_of_paths(self, paths: Iterable[Any], *, ignore_case: bool = False) -> list[str | None]:
        """Return the eid of the session of each path, None for a path without a known one; in one query."""
        return self._eids_at([None if path is None else place_of_path(path) for path in paths], ignore_case)

    def session_paths(self, eids: Sequence[str | UUID]) -> list[Any]:
        """Return the path of each session below the cache folder, None for an unknown one; in one query."""
        texts = list(map(str, eids))
        found = self.tables.sessions_of(texts)
        folders = [found[text].folder if text in found else None for text in texts]
        below = alf_path(self.cache_dir).joinpath  # sooner done than with /
        return [None if folder is None else below(folder) for folder in folders]

    def session(self, eid: str) -> SessionRow:
        """Return one session with its projects, or raise ALFObjectNotFound."""
        if row := self.tables.sessions_of([eid]).get(eid):
            return row
        raise ALFObjectNotFound(f"There is no session {eid}.")

    def details(self, row: SessionRow, base_url: str) -> dict[str, Any]:
        """Return what searches show of a session, with its address on Alyx and its path below the cache folder."""
        path = None if row.folder is None else str(Path(self.cache_dir, row.folder))
        return {**row.details(), "url": f"{base_url}/sessions/{row.eid}", "local_path": path}

    # -- lists ------------------------------------------------------------------------------

    def datasets(self, eid: str) -> list[DatasetRow]:
        """Return all datasets of a session, by collection, file name and revision; none for an unknown one."""
        return self.tables.datasets([eid])

    # -- choosing what to load --------------------------------------------------------------

    def choose_dataset(
        self,
        rows: Sequence[DatasetRow],
        dataset: Any,
        collection: matching.Texts = None,
        revision: str | None = None,
        *,
        wildcards: bool = True,
        substring: bool = False,
    ) -> DatasetRow:
        """Return the one dataset of a session's `rows` that is meant.

        It is named by file, by ``object.attribute``, by path below the session (which names its revision exactly, and
        leaves out `collection` and `revision`), or by ALF parts. With `substring`, a name that nothing fits is looked
        for anywhere in the file names and collections, as the seed did.
        """
        if not dataset or not isinstance(dataset, (str, Mapping)):
            raise ValueError(f"dataset={dataset!r}: give the name of one dataset, or its ALF parts as a dictionary.")
        is_path = isinstance(dataset, str) and "/" in dataset
        if is_path and (collection is not None or revision is not None):
            raise ValueError(f"dataset={dataset!r} has a collection in it already; leave out collection and revision.")
        revision = revision or matching.default_revision()
        name = matching.with_extension(dataset, wildcards)
        if is_path:
            return self._by_path(rows, str(dataset), wildcards)
        found = matching.find(rows, name, collection, wildcards=wildcards)
        if not found and wildcards and isinstance(dataset, str) and not re.search(r"[*?\[]", dataset):
            found = matching.find_in_any_namespace(rows, name, collection)
        if not found and substring and isinstance(dataset, str):
            found = find_anywhere(rows, dataset, collection)
        if not found:
            raise ALFObjectNotFound(f'Dataset "{dataset}" not found.')
        matching.only_collection(found)
        chosen = matching.last_before(found, revision)
        if not chosen:
            raise ALFObjectNotFound(f'Dataset "{dataset}" has no revision up to {revision}.')
        return matching.only_one(chosen)

    def _by_path(self, rows: Sequence[DatasetRow], path: str, wildcards: bool) -> DatasetRow:
        """Return the dataset at a path, its revision as it is there."""
        if exact := [row for row in rows if row.rel_path == path and row.qc != "CRITICAL"]:
            return matching.only_one(exact)
        found = matching.find(rows, matching.with_extension(path, wildcards), wildcards=wildcards)
        if not found:
            raise ALFObjectNotFound(f'Dataset "{path}" not found.')
        matching.only_collection(found)
        return matching.only_one(matching.last_before(found, None) if len(found) > 1 else found)

    def choose_object(
        self,
        rows: Sequence[DatasetRow],
        obj: str | None,
        collection: matching.Texts = None,
        revision: str | None = None,
        *,
        wildcards: bool = True,
        **parts: Any,
    ) -> list[DatasetRow]:
        """Return the datasets of one object in one collection, one revision of each; `parts` are ALF parts."""
        matching.check_parts(parts)
        found = matching.find(rows, {"object": obj, **parts}, collection, wildcards=wildcards)
        chosen = matching.last_before(found, revision or matching.default_revision(), strict=False)
        if not chosen:
            raise ALFObjectNotFound(f'Object "{obj}" not found.')
        if len(objects := sorted({row.object for row in chosen})) > 1:
            raise ALFMultipleObjectsFound(", ".join(f'"{each}"' for each in objects))
        matching.only_collection(chosen)
        return chosen

    # -- files ------------------------------------------------------------------------------

    def fetch(self, rows: Sequence[DatasetRow], **options: Any) -> list[Any]:
        """Return the path of each dataset's file, None where there is neither file nor address; see `Files.get`."""
        paths = self.files.get(self.with_copies(rows), **options)
        return [None if path is None else alf_path(path) for path in paths]

    def with_copies(self, rows: Sequence[DatasetRow]) -> list[DatasetRow]:
        """Return datasets with where the copies of their files are."""
        copies = self.tables.copies([row.id for row in rows])
        return [row._replace(copies=tuple(copies.get(row.id, ()))) for row in rows]

    def urls(self, rows: Sequence[DatasetRow]) -> list[str | None]:
        """Return the address of each dataset on a server, None without one."""
        from labweave.one.files.folders import url_of

        return [url_of(row) for row in self.with_copies(rows)]


# --- ids, without the database


def place_of_path(path: Any) -> At | None:
    """Return the place of the session that a path lies in, None if it lies in none."""
    session = names.parse_session(path)
    return None if session is None else _at(session.subject, session.date, session.number, session.lab)


def _core_again(_database: labweave.database.Database, cache_dir: Any, offline: bool, silent: bool) -> Core:
    """Return the core that was pickled; its database, opened by now, is that of the process it comes from."""
    return Core(cache_dir, offline=offline, silent=silent)


def uuid_at_end(text: str) -> str:
    """Return the UUID with dashes at the end of a text, in lower case; "" without one."""
    return text[-36:].lower() if _UUID.fullmatch(text[-36:]) else ""


def _at(subject: Any, day: str, number: Any, lab: str | None = None, reference: str = "") -> At | None:
    try:
        return At(str(subject), dt.date.fromisoformat(day), int(number), lab, reference)
    except ValueError:
        return None


def _choose(place: At, rows: list[SessionRow]) -> str | None:
    """Return the eid of the session at a place."""
    if not rows and place.reference:
        raise ReferenceNotFound(f"session not found: {place.reference}")
    if place.lab and rows:
        here = [row for row in rows if row.lab == place.lab]
        if not here:
            warnings.warn(
                f"The session {rows[0].eid} of {place.subject} is in lab {rows[0].lab}, not {place.lab}.",
                ALFWarning, stacklevel=6,
            )  # fmt: skip
        rows = here or rows
    if len(rows) > 1:
        labs = ", ".join(f"{row.lab} ({row.eid})" for row in rows)
        raise ALFMultipleObjectsFound(f"{place.subject} on {place.day} number {place.number} is a session of {labs}.")
    return rows[0].eid if rows else None


# --- names


def find_anywhere(rows: Iterable[DatasetRow], name: str, collection: Any = None) -> list[DatasetRow]:
    """Return datasets with a name, and collection, that hold a text; ``*`` stands for anything, as in the seed."""
    in_name, in_collection = (
        Expression((text or "").replace(".", r"\.").replace("*", ".*"), repr(text)).search
        for text in (name, collection)
    )
    return [row for row in rows if in_name(row.name) and in_collection(row.collection)]


def id_argument(method: Callable) -> Callable:
    """Let the first argument be given as ``id`` or ``eid``, too."""

    @wraps(method)
    def wrapper(self, *args, **kwargs):
        for word in {"id", "eid"} & set(kwargs):
            if args:
                raise TypeError(
                    f"{method.__name__}() got the session twice, as {args[0]!r} and as {word}={kwargs[word]!r}."
                )
            args = (kwargs.pop(word),)
        return method(self, *args, **kwargs)

    return wrapper


def of_several(method: Callable) -> Callable:
    """Let a method of a list take one thing as well, and return what it finds for that."""
    form = signature(method)
    first = list(form.parameters)[1]

    @wraps(method)
    def wrapper(*args, **kwargs):
        bound = form.bind(*args, **kwargs)
        given = bound.arguments[first]
        is_several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping, PathLike))
        bound.arguments[first] = list(given) if is_several else [given]
        found = method(*bound.args, **bound.kwargs)
        return found if is_several else found[0]

    return wrapper

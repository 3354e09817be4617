"""Datasets and file records of one session, from the files found and what the tables know of it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from labweave.database.reads import rows_among
from labweave.errors import SourceError
from labweave.formats.alf.names import RelativePath, join_rel_path, parse_name
from labweave.formats.hashing import sha256_and_md5_of_file
from labweave.ingest.base import Adapter, Row, make_uuid
from labweave.ingest.sessions import Subjects
from labweave.schemas import dataset
from labweave.schemas import lab as lab_schema


class Found(NamedTuple):
    """One file of a session, or one row of a table of datasets."""

    place: RelativePath
    file: str
    """Path below the root of the repository."""
    size: int | None
    md5: str | None
    """None when nothing is known of it in this run."""
    is_default: bool | None = None
    """None when the source does not say it."""
    dataset_id: str | None = None
    """None when the source has none."""
    present: bool = True
    more: Mapping[str, Any] = {}
    """Other attributes of the dataset."""


class Stored(NamedTuple):
    """What the tables know of a dataset."""

    dataset_id: str
    eid: str
    collection: str
    revision: str | None
    name: str
    size: int | None
    hash: str
    is_default: bool
    vanished: str | None
    stamp: Any
    """Not None when a server follows it: what that says of it counts."""

    @property
    def place(self) -> RelativePath:
        """Its path below the session."""
        return RelativePath(self.collection, self.revision or "", self.name)


STORED = (
    *("dataset_id", "eid", "collection", "revision", "dataset_name"),
    *("file_size", "hash", "is_default", "dataset_vanished", "dataset_stamp"),
)
"""The attributes of `dataset.Dataset` in a `Stored`."""


def stored_datasets(eids: Sequence[str]) -> list[Stored]:
    """Return all datasets of some sessions."""
    return [Stored._make(row) for row in rows_among(dataset.Dataset, "eid", eids, STORED)]


class Repository:
    """The place where the files of one root are recorded.

    Parameters
    ----------
    root : Path
        Absolute.
    second_lab : str, optional
        A lab that has the files besides another one: it has records of its own.
    """

    def __init__(self, root: Path, second_lab: str = ""):
        self.root, self.hostname, self._own = root, platform.node()[:255], f"{second_lab}/" if second_lab else ""
        name = f"{self.hostname}:{root.as_posix()}"
        self.name = name if len(name) <= 255 else f"{name[:238]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    def rows(self, lab: str) -> Iterator[Row]:
        """Yield the rows of the repository and of a lab that uses it; they may be there already."""
        yield Row(lab_schema.Lab, {"lab": lab})
        yield Row(
            dataset.Repository,
            {
                "repository": self.name,
                "repository_kind": "personal",
                "root_path": self.root.as_posix(),
                "hostname": self.hostname,
            },
        )
        yield Row(dataset.LabRepository, {"lab": lab, "repository": self.name})

    def record_id(self, path: str) -> str:
        """Return the id of the record of a file, the same every time."""
        return make_uuid(f"file/{self._own}{self.name}/{path}")


def present_copies(ids: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield dataset, record, repository and path of each copy of some datasets that is there."""
    wanted = ("dataset_id", "file_record_id", "repository", "relative_path", "present", "file_vanished")
    for *copy, present, vanished in rows_among(dataset.FileRecord, "dataset_id", sorted(ids), wanted):
        if present and vanished is None:
            yield tuple(copy)


class DatasetAdapter(Adapter):
    """An adapter whose files are datasets of sessions."""

    subjects: Subjects

    def __init__(self, location: Path, lab: str, options: Any):
        super().__init__(location, lab, options)
        self.subjects = Subjects(options.allow_case)
        self._md5: dict[str, str] = {}

    @cached_property
    def repository(self) -> Repository:
        """The place where the files are recorded: the ingested folder, unless `discover` sets another."""
        return self.repository_at(self.root.resolve())

    def repository_at(self, root: Path) -> Repository:
        """Return the place that the files below a folder are recorded at."""
        return Repository(root, self.lab if self.is_second_lab else "")

    @cached_property
    def kinds(self) -> Kinds:
        """Formats and types, as the tables have them at the start."""
        return Kinds.read()

    def vanished_rows(self, paths: Sequence[str], given: Mapping[type, list[dict[str, Any]]]) -> Iterator[Row]:
        """Mark rows, the records of files, and datasets without another copy."""
        yield from super().vanished_rows(paths, given)
        root = self.repository.root
        below = "" if self.root == root else f"{self.root.relative_to(root).as_posix()}/"
        ids = {self.repository.record_id(f"{below}{path}") for path in paths}
        yield from self.gone_rows(ids - self.given.records_in_parts(ids))  # of files in cache tables these say it

    def gone_rows(self, ids: Iterable[str]) -> Iterator[Row]:
        """Mark records of files that are gone, and datasets that no server follows when they have no other copy."""
        records = dict(rows_among(dataset.FileRecord, "file_record_id", ids, ("file_record_id", "dataset_id")))
        for record_id in records:
            gone = {"present": False, "file_vanished": self.run or None}
            yield Row(dataset.FileRecord, {"file_record_id": record_id, **gone}, is_given=False)
        live = {one for one, record_id, *_ in present_copies(set(records.values())) if record_id not in records}
        for one in map(Stored._make, rows_among(dataset.Dataset, "dataset_id", set(records.values()) - live, STORED)):
            if one.stamp is None and one.vanished is None:
                gone = {"dataset_vanished": self.run or None, "is_default": False}
                yield Row(dataset.Dataset, {"dataset_id": one.dataset_id, **gone}, is_given=False)

    def hash_file(self, path: Path) -> str:
        """Return the sha256 of a file, and keep its md5 for `md5_of`: ONE compares it."""
        sha256, self._md5[str(path)] = sha256_and_md5_of_file(path)
        return sha256

    def md5_of(self, path: Path, known: Stored | None) -> str | None:
        """Return the md5 of a file; None when the table has it already."""
        if md5 := self._md5.get(str(path)):
            return md5
        return None if known and known.hash else sha256_and_md5_of_file(path)[1]


def make_dataset_id(eid: str, place: RelativePath) -> str:
    """Return the id of a dataset whose source has none, the same every time."""
    return make_uuid(f"dataset/{eid}/{join_rel_path(*place)}")


class Kinds:
    """Formats and types of datasets, by name of the file.

    Parameters
    ----------
    formats : mapping
        Extension with its dot -> format in the tables.
    patterns : iterable of tuple
        File name pattern and dataset type in the tables.
    """

    def __init__(self, formats: Mapping[str, str], patterns: Iterable[tuple[str, str]]):
        self._formats = formats
        # The most specific pattern first
        self._patterns = sorted(patterns, key=lambda item: (-len(item[0]), item))
        self.of = lru_cache(maxsize=20_000)(self._of)

    @classmethod
    def read(cls) -> Kinds:
        """Return the formats and types that the tables know."""
        formats = dataset.DataFormat().proj("file_extension").to_dicts(order_by="data_format")
        types = dataset.DatasetType().proj("filename_pattern").to_dicts()
        return cls(
            {row["file_extension"]: row["data_format"] for row in reversed(formats) if row["file_extension"]},
            [(row["filename_pattern"], row["dataset_type"]) for row in types if row["filename_pattern"]],
        )

    def _of(self, name: str) -> tuple[str, str | None]:
        """Return format and type of a file; a type nobody has defined is called object.attribute."""
        extension = name.rpartition(".")[2]
        known = next((kind for pattern, kind in self._patterns if fnmatchcase(name, pattern)), None)
        parts = parse_name(name)
        return (
            self._formats.get(f".{extension}", extension),
            known or (f"{parts.object}.{parts.attribute}" if parts else None),
        )

    def rows(self, names: Iterable[str]) -> Iterator[Row]:
        """Yield the formats and types that files need."""
        formats: dict[str, str] = {}
        types: set[str] = set()
        for name in names:
            data_format, dataset_type = self.of(name)
            formats.setdefault(data_format, name)
            types.update([dataset_type] if dataset_type else [])
        for data_format, name in formats.items():
            extension = f".{name.rpartition('.')[2]}"
            yield Row(dataset.DataFormat, {"data_format": data_format, "file_extension": extension})
        for dataset_type in sorted(types):
            yield Row(dataset.DatasetType, {"dataset_type": dataset_type})


class Plan(NamedTuple):
    """What is to be written of a session's datasets."""

    eid: str
    files: list[tuple[Found, str, dict[str, Any]]]
    """Each file, the id of its dataset, and the row of that; empty where another source knows it better."""
    defaults: dict[str, bool]
    """Other datasets of the session whose `is_default` changes."""


def plan_datasets(
    eid: str,
    found: Iterable[Found],
    stored: Iterable[Stored],
    live_elsewhere: frozenset[str] | set[str],
    kinds: Kinds,
) -> Plan:
    """Decide which datasets a session's files are, and which revision is the default.

    Parameters
    ----------
    eid : str
    found : iterable of Found
    stored : iterable of Stored
        The datasets of the session that others gave: another source, a server, a person.
    live_elsewhere : set of str
        Those that have a copy that is not among the files.
    kinds : Kinds

    Raises
    ------
    SourceError
        The source names two defaults for one file.
    """
    known: dict[RelativePath, Stored] = {}
    for one in sorted(stored, key=lambda one: (one.vanished is not None, one.dataset_id)):
        known.setdefault(one.place, one)
    files: list[tuple[Found, str, dict[str, Any]]] = []
    own: dict[str, RelativePath] = {}
    for file in found:
        here = known.get(file.place)
        dataset_id = here.dataset_id if here else file.dataset_id or make_dataset_id(eid, file.place)
        values: dict[str, Any] = {}
        if here is None or (
            here.stamp is None and (dataset_id == file.dataset_id or dataset_id == make_dataset_id(eid, file.place))
        ):
            own[dataset_id] = file.place
            data_format, dataset_type = kinds.of(file.place.name)
            values = {
                "dataset_id": dataset_id,
                "eid": eid,
                "collection": file.place.collection,
                "revision": file.place.revision or None,
                "dataset_name": file.place.name,
                "dataset_type": dataset_type,
                "data_format": data_format,
                "file_size": file.size,
                "hash": file.md5 if file.md5 is not None else here.hash if here else "",
                "dataset_vanished": None,
                **file.more,
            }
        files.append((file, dataset_id, values))
    others = [one for one in stored if one.dataset_id not in own]
    made_here = [one for one in others if one.stamp is None and one.dataset_id == make_dataset_id(eid, one.place)]
    ids = {one.dataset_id for one in made_here}
    foreign = {
        (one.collection, one.name)
        for one in others
        if one.is_default and one.vanished is None and one.dataset_id not in ids
    }
    candidates = own | {one.dataset_id: one.place for one in made_here if one.dataset_id in live_elsewhere}
    chosen = _choose_defaults(eid, files, candidates, foreign)
    for _, dataset_id, values in files:
        if values:
            values["is_default"] = dataset_id in chosen
    changed = {
        one.dataset_id: one.dataset_id in chosen for one in made_here if one.is_default != (one.dataset_id in chosen)
    }
    return Plan(eid, files, changed)


def _choose_defaults(
    eid: str,
    files: Iterable[tuple[Found, str, dict[str, Any]]],
    candidates: Mapping[str, RelativePath],
    foreign: set[tuple[str, str]],
) -> set[str]:
    """Return the ids of the datasets that are loaded when no revision is named.

    What another source says counts first, then what this one says, then the newest revision.
    """
    said: dict[tuple[str, str], str] = {}
    spoken: set[tuple[str, str]] = set()
    for file, dataset_id, values in files:
        group = (file.place.collection, file.place.name)
        if file.is_default is not None and values:
            spoken.add(group)
        if file.is_default and said.setdefault(group, dataset_id) != dataset_id:
            raise SourceError(
                f"Session {eid} has two default revisions of {join_rel_path(group[0], '', group[1])}. "
                "Only one of them can be loaded when no revision is named: correct default_revision."
            )
    newest: dict[tuple[str, str], tuple[str, str]] = {}
    for dataset_id, place in candidates.items():
        group = (place.collection, place.name)
        if group not in spoken:
            newest[group] = max(newest.get(group, ("", "")), (place.revision, dataset_id))
    return {
        dataset_id
        for group, dataset_id in [*said.items(), *((group, best) for group, (_, best) in newest.items())]
        if group not in foreign
    }


def kind_rows(places: Sequence[RelativePath], kinds: Kinds) -> Iterator[Row]:
    """Yield the rows of formats, types and revisions that datasets need."""
    yield from kinds.rows({place.name for place in places})
    for revision in sorted({place.revision for place in places if place.revision}):
        yield Row(dataset.Revision, {"revision": revision})


def dataset_rows(plan: Plan, stored: Iterable[Stored], repository: Repository) -> Iterator[Row]:
    """Yield the rows of planned datasets and of their files."""
    written: set[str] = set()
    for _, dataset_id, values in plan.files:
        if dataset_id not in written:  # one that another source knows better is given, without a value
            written.add(dataset_id)
            yield Row(dataset.Dataset, values or {"dataset_id": dataset_id}, plan.eid)
    for dataset_id, is_default in plan.defaults.items():
        yield Row(dataset.Dataset, {"dataset_id": dataset_id, "is_default": is_default}, plan.eid, is_given=False)
    registered = {one.dataset_id: one for one in stored}
    ids = {file.file: repository.record_id(file.file) for file, _, _ in plan.files}
    unread = [ids[file.file] for file, _, values in plan.files if not values and file.md5 is None]
    wanted = ("file_record_id", "file_json")
    before = dict(rows_among(dataset.FileRecord, "file_record_id", unread, wanted)) if unread else {}
    for file, dataset_id, values in plan.files:
        record: dict[str, Any] = {
            "file_record_id": ids[file.file],
            "dataset_id": dataset_id,
            "repository": repository.name,
            "relative_path": file.file,
            "present": file.present,
            "file_vanished": None,
        }
        clears: tuple[str, ...] = ()
        if not values:
            differs = (bool(file.md5) and _differs(file, registered[dataset_id])) or before.get(
                ids[file.file]
            ) is not None
            record["file_json"] = {"mismatch_hash": True} if differs else None
            clears = ("file_json",) if differs else ()
        yield Row(dataset.FileRecord, record, plan.eid, clears=clears)


def _differs(file: Found, registered: Stored) -> bool:
    """Say whether a file differs from what its dataset was registered as; only an md5 can be compared."""
    if None not in (file.size, registered.size) and file.size != registered.size:
        return True
    return len(registered.hash) == 32 and bool(file.md5) and file.md5 != registered.hash.lower()

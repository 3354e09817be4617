"""What an explanation holds: one structure, of which every form is made."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from labweave.formats.plain import plain_json
from labweave.provenance.tree import tree_html, tree_text

Key = dict[str, Any]


@dataclass
class Value:
    """One attribute of the explained row: its value, its unit, and what it is."""

    name: str
    value: Any
    unit: str
    about: str


@dataclass
class Make:
    """The make of a result: when, by whom, on which machine and process, and with which programs.

    Attributes
    ----------
    other_versions : dict
        Package -> its version of then and that of this process, where they differ; None for none.
    is_altered : bool
        The stored rows are not those that the make gave.
    """

    made_at: dt.datetime
    made_by: str
    host: str
    seconds: float
    versions: dict[str, str]
    git: dict[str, Any] | None
    platform: str
    result_sha256: str
    other_versions: dict[str, tuple[str | None, str | None]]
    is_altered: bool


@dataclass
class UsedRow:
    """One row that a result rests on.

    Attributes
    ----------
    key, values : dict
        Without arrays.
    is_changed : bool
        It is among those because of which the result would be made again, as far as that can be known.
    """

    key: Key
    values: dict[str, Any]
    is_changed: bool = False


@dataclass
class File:
    """One file of a source, as it was when it was ingested, and what has become of it.

    Attributes
    ----------
    state : {"same", "changed", "gone"}
    is_read : bool
        Its bytes were compared; else its size and time of change.
    """

    path: str
    sha256: str
    state: str
    is_read: bool
    run: str | None


@dataclass
class Given:
    """One unit of files, or one record of a server, that gave rows.

    Attributes
    ----------
    unit, record : str
        One of them is empty.
    run : str or None
        Of a unit: that read it last. Of a record: the last one that brought its server up to date.
    vanished_in : str or None
        The run that no longer found the record.
    gave : dict
        Table -> keys of rows.
    files : list of File
    """

    unit: str
    record: str
    run: str | None
    vanished_in: str | None
    gave: dict[str, list[Key]]
    files: list[File]


@dataclass
class FromSource:
    """One source that rows came from."""

    source: str
    adapter: str
    location: str
    given: list[Given]


@dataclass
class OldValue:
    """What a row held before it was overwritten or deleted.

    Attributes
    ----------
    old : dict
    new : dict or None
        None for a row that was deleted.
    run : str or None
        The run that did it.
    kind, by : str
        As `change_kind` and `changed_by` of ``ingestion.Change``.
    """

    table: str
    key: Key
    old: dict[str, Any]
    new: dict[str, Any] | None
    changed_at: dt.datetime
    run: str | None
    kind: str
    by: str


@dataclass(repr=False)
class Explanation:
    """Why a row is what it is.

    Attributes
    ----------
    table : str
    key : dict
    values : list of Value
    would_be_made_again : list of str
        Because of what; empty for a result that is up to date, and for a row that is no result.
    make : Make or None
    verified : dict or None
        When, by whom and with what outcome it was made again and compared.
    rows : dict
        Table -> the rows that it rests on, each a `UsedRow`, in the order of their keys.
    units : dict
        Table -> attribute -> unit, for these rows.
    sources : list of FromSource
    overwritten : list of OldValue
        In these rows, the oldest first.
    runs : dict
        Id -> the row of ``ingestion.Run``, of the runs that are named above.
    """

    table: str
    key: Key
    values: list[Value]
    would_be_made_again: list[str] = field(default_factory=list)
    make: Make | None = None
    verified: dict[str, Any] | None = None
    rows: dict[str, list[UsedRow]] = field(default_factory=dict)
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    sources: list[FromSource] = field(default_factory=list)
    overwritten: list[OldValue] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return plain_json(dataclasses.asdict(self))

    def files(self) -> Iterator[tuple[FromSource, File]]:
        """Yield the files with their sources."""
        yield from ((source, file) for source in self.sources for given in source.given for file in given.files)

    def __str__(self) -> str:
        return tree_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return tree_html(self)

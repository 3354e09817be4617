"""The base of every adapter: units of work, plain rows, and what an adapter must say.

An adapter only translates. Hashing, change detection, progress, transactions,
failures, dry runs and the report are the work of `labweave.ingest.loading`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from labweave.errors import SourceError
from labweave.formats.hashing import sha256_of_file

if TYPE_CHECKING:
    from labweave.ingest.report import IngestReport

log = logging.getLogger(__name__)

SHOWN = 5
"""How many of the files that were left out are named."""

NAMESPACE = uuid.uuid3(uuid.NAMESPACE_DNS, "labweave")


@dataclass(frozen=True)
class Unit:
    """One unit of work: what is ingested whole or not at all.

    Attributes
    ----------
    path : str
        Posix path or name below the location; the same every time.
    files : tuple of str
        Posix paths, below the root, of the files whose change makes the unit change. A file
        belongs to one unit only; a unit without files is read every time.
    content : object
        What discovery already knows of it, for `Adapter.read`: plain values, whose change
        makes the unit change too.
    in_parts : bool
        It is too large for memory, and is written part by part; see `Adapter.read_parts`.
    problem : str
        What discovery found wrong with it: it fails, and is not read.
    """

    path: str
    files: tuple[str, ...]
    content: Any = field(default=None, compare=False)
    in_parts: bool = field(default=False, compare=False)
    problem: str = field(default="", compare=False)


@dataclass(slots=True)
class Row:
    """One row for one table; an adapter yields parents before children.

    It is not frozen: that takes four times as long to make, and there are millions.

    Attributes
    ----------
    table : DataJoint table class
    values : mapping
    eid : str, optional
        The session that the row is of, where its values don't say it.
    is_given : bool, default: True
        False for a change in a row that stays another's.
    clears : tuple of str
        Attributes of a row that units share, such as a subject's species: empty again when no unit gives them.
    first : tuple of str
        Attributes that only a new row gets; one that is there keeps its own.
    unlike : str, optional
        The attribute of the key that must not differ by case alone from another row's below the same parent.
    """

    table: type
    values: Mapping[str, Any]
    eid: str | None = None
    is_given: bool = True
    clears: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    unlike: str = ""


@dataclass(frozen=True)
class Refused:
    """One file or item of a unit that can't be ingested, while the rest of the unit can.

    Attributes
    ----------
    path : str
        One of the unit's files, or what else names the item.
    reason : str or SourceError
        What is wrong with it, and what to do.
    eid : str
        Of a unit in parts: the session that keeps what it gave before.
    """

    path: str
    reason: str | SourceError
    eid: str = ""

    @property
    def error(self) -> SourceError:
        """The reason as an error."""
        return self.reason if isinstance(self.reason, SourceError) else SourceError(self.reason)


def _parse_day(value: Any) -> Any:
    text = str(value).strip() if isinstance(value, (str, int)) else ""
    if re.fullmatch(r"\d{8}", text):
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if text and not re.match(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError("write it as YYYY-MM-DD, such as 2026-03-01")
    return value


Day = Annotated[dt.date, BeforeValidator(_parse_day)]
"""A day as options and mappings write it: 2026-03-01 or 20260301."""


class Options(BaseModel):
    """Options of an adapter; each field is an option of ``labweave ingest``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Adapter:
    """Base of all adapters of files: what each must define.

    Parameters
    ----------
    location : Path
        Folder or file to read.
    lab : str
        The lab its rows belong to.
    options : Options
        Validated.

    Attributes
    ----------
    name : str
        As in ``labweave ingest NAME``.
    summary : str
        One line for ``--help``.
    version : int
        Counts up when the same file gives other rows, so that it is read again.
    options : type of Options
    source : str
        Name of the source it reads; set by the run before it discovers.
    results_computed_from : dict
        Table -> the attributes that results are computed from. When one of them changes, what was computed from
        this row is deleted, and populate makes it again.
    joint_results_of : table class or None
        A table whose results are computed from many such rows together, as a cell's rheobase from all its
        recordings: they are deleted, too, when one of the rows below is new or changed.
    vanished_marks : dict
        Table -> the attribute that says of its rows that their files are gone.
    batch_rows : int
        Units are written together until they have so many rows; 0 writes each by itself. With
        more, `read` does not see the rows of the units just before.
    run : str
        Id of the run, set by it; empty for a dry run.
    gave : callable
        Takes a unit and a table, and returns the keys of the rows that the unit gave before, and that are there; set
        by the run.
    given : labweave.ingest.given.GivenRows
        What the source's units gave, set by the run.
    is_second_lab : bool
        Another lab has the location, too; set by the run.
    lists_units : bool
        The location itself says which units it has, as a mapping does, so that it may have none; set by `discover`.
    bad_links : list of Unit
        Links that `follows` refused: they fail.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[int] = 1
    options_model: ClassVar[type[Options]] = Options
    results_computed_from: ClassVar[Mapping[type, tuple[str, ...]]] = {}
    joint_results_of: ClassVar[type | None] = None
    vanished_marks: ClassVar[Mapping[type, str]] = {}
    batch_rows: ClassVar[int] = 0
    source: str
    run: str
    gave: Callable[[Unit, type], list[dict[str, Any]]]
    given: Any
    is_second_lab = False
    lists_units = False

    def __init__(self, location: Path, lab: str, options: Any):
        self.location, self.lab, self.options = location, lab, options
        self.root = location if location.is_dir() else location.parent
        self.bad_links: list[Unit] = []
        self._left_out: list[tuple[str, str]] = []
        self._n_left_out = 0

    def discover(self) -> Iterator[Unit]:
        """Yield the units below the location, in the same order every time."""
        raise NotImplementedError

    def read(self, unit: Unit, sha256: Mapping[str, str]) -> Iterator[Row | Refused]:
        """Yield the rows of a unit, parents first, and which of its files can't be read.

        What an earlier run has read of such a file is to stay: yield these rows again, their keys suffice (`gave`).

        Parameters
        ----------
        unit : Unit
        sha256 : mapping
            Path below the root -> sha256 of the file; a file is hashed when it is asked for, so read it first.

        Raises
        ------
        SourceError
            What is wrong, in which file, and what to do.
        """
        raise NotImplementedError

    def check(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Refuse a unit for what others hold, in the transaction that has written it and taken out what is gone.

        Raises
        ------
        Clash
            Names the others. The unit is tried again when all are read.
        """

    def read_parts(self, unit: Unit) -> Iterator[list[Row | Refused]]:
        """Yield the rows of a unit in parts, each of which is written whole.

        All rows of a session are in one part; later parts may repeat rows of no session. What is refused as a `Clash`,
        for what others hold, is tried by every run.
        """
        raise NotImplementedError

    def hash_file(self, path: Path) -> str:
        """Return the sha256 of a file that is new or was touched; `NO_HASH` leaves it for a later run."""
        return sha256_of_file(path)

    def vanished_rows(self, paths: Sequence[str], given: Mapping[type, list[dict[str, Any]]]) -> Iterator[Row]:
        """Yield what changes in the rows of units whose files are gone: they stay, marked.

        Parameters
        ----------
        paths : sequence of str
            The files.
        given : mapping
            Table -> keys of the rows that these units gave, and no other unit.
        """
        for table, attribute in self.vanished_marks.items():
            mark = True if table().heading[attribute].original_type == "bool" else self.run or "dry run"
            yield from (Row(table, {**key, attribute: mark}) for key in given.get(table, []))

    def follows(self, link: str | Path) -> bool:
        """Say whether a symbolic link that discovery meets is read as the file it leads to; else the report names it.

        A link to a folder below the root is left out, since that folder is read where it is. One that leads out of the
        root, or nowhere, fails.
        """
        target = os.path.realpath(link)
        if not Path(target).is_relative_to(self.root):
            found = f"leads out of {self.root}, to {target}. Put that below the folder, or ingest it by itself"
        elif os.path.isdir(target):  # noqa: PTH112 - the target may be a loop, at which pathlib fails
            self.leave_out(link, "links to folders are not followed; what is in the folder is read where it is")
            return False
        elif os.path.isfile(target):  # noqa: PTH113
            return True
        else:
            found = "leads nowhere. Remove it, or put back what it leads to"
        self.bad_links.append(Unit(self._below(link), (), problem=f"{link}: the link {found}."))
        return False

    def leave_out(self, path: str | Path, reason: str) -> None:
        """Have the report name a file or folder that is left out."""
        self._n_left_out += 1
        shown = self._below(path).encode("utf-8", "backslashreplace").decode()
        if len(self._left_out) < SHOWN:
            self._left_out.append((shown, reason))
        log.info("left out: path=%s reason=%s", shown, reason)

    def _below(self, path: str | Path) -> str:
        return Path(path).relative_to(self.root).as_posix()

    def notes(self) -> list[str]:
        """Return what a person should know at the end of a run; by itself, which files were left out, and why."""
        if not self._n_left_out:
            return []
        more = self._n_left_out - len(self._left_out)
        return [
            f"{self._n_left_out} files or folders were left out:",
            *(f"  {path}: {reason}" for path, reason in self._left_out),
            *([f"  and {more} more; --debug names them all"] if more else []),
        ]


class Service:
    """An adapter of a server, which it syncs by itself: the server says what changed, not a hash of files.

    Attributes
    ----------
    name, summary, options_model
        As of an `Adapter`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    options_model: ClassVar[type[Options]] = Options

    @classmethod
    def sync(
        cls,
        location: str,
        options: Any,
        *,
        lab: str | None,
        source: str | None,
        dry_run: bool,
        progress: Callable[..., None],
    ) -> IngestReport:
        """Bring the tables up to the server's state.

        Parameters
        ----------
        location : str
            Address of the server.
        options : Options
            Validated.
        lab, source, dry_run
            As of `labweave.ingest.run`.
        progress : callable
            Called with what is being pulled, parts done, failed and in all.
        """
        raise NotImplementedError


def unreadable(root: Path, error: OSError) -> Unit:
    """Return the unit of a folder or file that can't be looked at: it fails."""
    path = Path(error.filename or root)
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    return Unit(name, (), problem=f"{path}: {error.strerror or error}. Is it readable?")


def inside(root: Path, path: str) -> str:
    """Return `path` as a posix path below `root`, in one spelling.

    Raises
    ------
    SourceError
        It leaves the root: absolute, or through ``..`` or a link.
    """
    pure = PurePosixPath(path.replace("\\", "/"))
    real, real_root = (root / pure).resolve(), root.resolve()
    if not real.is_relative_to(real_root):
        raise SourceError(f"{path} leaves the source's folder {root}. Put the file below it, or give a higher folder.")
    if pure.is_absolute() or ".." in pure.parts:
        return real.relative_to(real_root).as_posix()
    return pure.as_posix()


def make_uuid(name: str) -> str:
    """Return a uuid made from a name, the same every time; of version 3, because ONE clients refuse version 5."""
    digest = bytearray(hashlib.md5(NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest())
    digest[6], digest[8] = digest[6] & 0x0F | 0x30, digest[8] & 0x3F | 0x80  # as uuid3, which takes four times as long
    digits = digest.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def make_eid(lab: str, subject: str, date: str, number: int) -> str:
    """Return the experiment id of a session whose source has none, from lab, subject, date (ISO) and number."""
    return make_uuid(f"session/{lab}/{subject}/{date}/{number:03d}")


def make_subject_uuid(lab: str, subject: str) -> str:
    """Return the uuid of a subject whose source has none."""
    return make_uuid(f"subject/{lab}/{subject}")

"""ALF names and paths: parse them, check them, build them. Nothing here looks at a disk.

``lab/Subjects/subject/2020-01-31/001/collection/#revision#/_namespace_object.attribute_timescale.extra.extension``;
``lab/Subjects``, collection, revision, namespace, timescale and extra parts are optional. A path is text with ``/``, or
a path of `pathlib`.

Names and paths are read as in ONE-api 3 and its predecessor, with three exceptions: everything after the session must
parse, a name does not end in a line break, and dates and numbers have ASCII digits. Some names are read in a
surprising way: `_obj.attr.npy` is object ``j`` in namespace ``ob``. `name_problem` and `path_problem` find those; what
goes into a database should have no such problem.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from labweave.formats.alf.exceptions import ALFInvalid

PATTERNS = {
    "lab": r"\w+",
    "subject": r"[\w.-]+",
    "date": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "number": r"[0-9]{1,3}",
    "collection": r"[\w./-]+",
    "revision": r"[\w.-]+",
    "namespace": r"(?<=_)[a-zA-Z0-9]+",
    "object": r"\w+",
    "attribute": r"(?:_[a-z]+_)?[a-zA-Z0-9]+(?:_times(?=[_.])|_intervals(?=[_.]))?",
    "timescale": r"\w+",
    "extra": r"[.\w-]+",
    "extension": r"\w+",
}
"""The regular expression of each part, in the order of `Parts`."""

_P = {part: f"(?P<{part}>{pattern})" for part, pattern in PATTERNS.items()}
# The specification repeats the group of extra parts. One optional group fits the same names, in linear time.
_NAME = re.compile(
    r"_?{namespace}?_?{object}\.{attribute}(?:_{timescale})?(?:\.{extra})?\.{extension}\Z".format(**_P), re.UNICODE
)
# What could begin within a word, could as well begin with it: most places need no further look.
_SESSION = re.compile(r"(?<!\w)(?:{lab}/Subjects/)?{subject}/{date}/{number}(?=/|\Z)".format(**_P))
_SESSION_END = re.compile(r"(?<!\w)(?:{lab}/Subjects/)?{subject}/{date}/{number}/*\Z".format(**_P))
_FOLDERS = re.compile(r"(?:{collection}/)?(?:#{revision}#/)?\Z".format(**_P))
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[345][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_WHOLE = {part: re.compile(rf"(?:{pattern})\Z") for part, pattern in PATTERNS.items()}

AnyPath = TypeVar("AnyPath", str, PurePath)


class Parts(NamedTuple):
    """The parts of an ALF path; None for a missing one."""

    lab: str | None = None
    subject: str | None = None
    date: str | None = None
    number: str | None = None
    collection: str | None = None
    revision: str | None = None
    namespace: str | None = None
    object: str | None = None
    attribute: str | None = None
    timescale: str | None = None
    extra: str | None = None
    extension: str | None = None

    @property
    def key(self) -> str:
        """The dataset's name in its object: ``attribute[_timescale][.extra]``."""
        return self.short_key + (f".{self.extra}" if self.extra else "")

    @property
    def short_key(self) -> str:
        """The dataset's name in its object without extra parts: ``attribute[_timescale]``."""
        return f"{self.attribute}_{self.timescale}" if self.timescale else self.attribute or ""


class Session(NamedTuple):
    """The parts of a session's path; lab is None where there is no lab/Subjects."""

    lab: str | None
    subject: str
    date: str
    number: str


class RelativePath(NamedTuple):
    """The parts of a dataset's path below its session; "" for a missing one."""

    collection: str
    revision: str
    name: str


# --- parsing


@lru_cache(maxsize=8192)  # a server has millions of files, but hundreds of names
def parse_name(name: str) -> Parts | None:
    """Return the parts of a file name, or None if it is no ALF name.

    Parameters
    ----------
    name : str
        The name alone, without folders.

    Examples
    --------
    >>> from labweave.formats.alf import parse_name
    >>> parts = parse_name("_ibl_spikes.times_ephysClock.raw.npy")
    >>> parts.namespace, parts.object, parts.attribute, parts.timescale, parts.extra, parts.extension
    ('ibl', 'spikes', 'times', 'ephysClock', 'raw', 'npy')
    >>> parse_name("notes.txt") is None
    True
    """
    match = _NAME.match(name)
    return Parts(*[None] * 6, *match.groups()) if match else None


@lru_cache(maxsize=8192)
def _parse_folders(folders: str) -> tuple[str | None, str | None] | None:
    """Return the collection and revision of the folders below a session, given as "" or with a / at their end."""
    match = _FOLDERS.match(folders)
    return (match["collection"], match["revision"]) if match else None


def parse_session(path: str | PurePath) -> Session | None:
    """Return lab, subject, date and number of the first session in a path, or None if there is none.

    Month 13 counts as well: only `session_path` asks for a date of the calendar. What comes before the session is
    ignored, even the part of a folder's name that a lab or subject can't have: ``my-lab/Subjects/...`` is lab ``lab``.
    """
    match = _SESSION.search(_posix(path))
    return Session(*match.groups()) if match else None


def parse_path(path: str | PurePath) -> Parts | None:
    """Return the parts of a path to a dataset, session or folder of a session, or None if it is none of those.

    In a path without a session only the file name counts. Below a session, a last part with two dots is a file, any
    other a folder.

    Examples
    --------
    >>> from labweave.formats.alf import parse_path
    >>> parts = parse_path("/data/smithlab/Subjects/M12/2020-01-31/001/alf/#v2#/spikes.times.npy")
    >>> parts.lab, parts.subject, parts.date, parts.number, parts.collection, parts.revision, parts.object
    ('smithlab', 'M12', '2020-01-31', '001', 'alf', 'v2', 'spikes')
    """
    text = _posix(path)
    session = _SESSION.search(text)
    if session is None:
        return parse_name(text[text.rfind("/") + 1 :])
    rest = text[session.end() + 1 :].rstrip("/")
    file_at = rest.rfind("/") + 1
    if rest.count(".", file_at) < 2:
        folders = _parse_folders(f"{rest}/" if rest else "")
        return Parts._make((*session.groups(), *folders, *[None] * 6)) if folders else None
    folders, name = _parse_folders(rest[:file_at]), parse_name(rest[file_at:])
    return Parts._make((*session.groups(), *folders, *name[6:])) if folders and name else None


def split_rel_path(rel_path: str) -> RelativePath:
    """Return collection, revision and file name of a path below a session, valid or not.

    If the last folder is ``#name#``, it is the revision. The folders before it are the collection.
    """
    folder, _, name = rel_path.rpartition("/")
    collection, _, last = folder.rpartition("/")
    if _is_revision(last):
        return RelativePath(collection, last[1:-1], name)
    return RelativePath(folder, "", name)


def session_path(path: AnyPath) -> AnyPath | None:
    """Return a path up to the session's number, with the folders before it, or None without a session.

    The date must be one of the calendar.
    """
    text = _posix(path)
    match = _SESSION.search(text)
    while match and not is_date(match["date"]):  # a later part may be the session
        match = _SESSION.search(text, match.start("number"))
    return _like(path, text[: match.end()]) if match else None


def without_session(path: str | PurePath) -> str | None:
    """Return the part of a path below its session, "" for the session itself, None if there is no session."""
    text = _posix(path)
    found = session_path(text)
    return None if found is None else text[len(found) :].strip("/")


# --- checking


def is_valid(name: str) -> bool:
    """Say whether a file name is an ALF name."""
    return parse_name(name) is not None


def is_session_path(path: str | PurePath) -> bool:
    """Say whether a path ends in subject, date and number; month 13 counts as well.

    Examples
    --------
    >>> from labweave.formats.alf import is_session_path
    >>> is_session_path("/data/M12/2020-01-31/001"), is_session_path("/data/M12/2020-01-31/001/alf")
    (True, False)
    """
    return _SESSION_END.search(_posix(path)) is not None


def fits(part: str, value: str) -> bool:
    """Say whether a part can have a value: ``fits("lab", "my-lab")`` is False."""
    return _WHOLE[part].match(f"_{value}", 1) is not None  # a namespace follows an underscore


@lru_cache(maxsize=4096)
def is_date(text: str) -> bool:
    """Say whether text is a date of the calendar, such as 2020-01-31."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def is_uuid(value: Any, versions: tuple[int, ...] = (4, 3)) -> bool:
    """Say whether a value is a UUID of one of the versions, or its text with or without dashes."""
    if isinstance(value, str):
        try:
            value = UUID(value)
        except ValueError:
            return False
    return isinstance(value, UUID) and value.version in versions


def is_uuid_string(value: Any) -> bool:
    """Say whether a value is the text of a UUID of version 3, 4 or 5, in lower case with dashes."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def name_problem(name: str) -> str | None:
    """Return why a file name should not be stored, or None.

    It is no ALF name, or one that nobody means as it would be read: with one underscore before the object, or with two.
    """
    parts = parse_name(name)
    if parts is None:
        return f"{name!r} does not have the form (_namespace_)object.attribute(_timescale)(.extra).extension"
    if _name_of(parts) != name:
        return (
            f"{name!r} would be read as object {parts.object!r}"
            + (f" in namespace {parts.namespace!r}" if parts.namespace else "")
            + "; write the namespace between two underscores, or no underscore at the start"
        )
    return None


def path_problem(path: str | PurePath) -> str | None:
    """Return why the path of a session, or of a dataset in it, should not be stored, or None.

    The path begins with the lab or the subject. Each folder must be one whole part (`parse_session` takes the end of a
    folder's name), the date must be one of the calendar, and no part may be ``.`` or ``..``.
    """
    text = _posix(path)
    session = _SESSION.search(text)
    if session is None:
        return f"{text!r} has no subject/date/number, such as mouse1/2020-01-31/001"
    if before := text[: session.start()]:
        odd = text[: session.end()].split("/")[before.count("/")] if before[-1] != "/" else ""
        said = f"{odd!r} can't be a lab or subject" if odd else f"{before!r} stands before lab and subject"
        return f"{text!r}: {said}; letters, digits and _ are possible, in subjects also . and -"
    if not is_date(session["date"]):
        return f"{text!r}: there is no day {session['date']}"
    if session["subject"] in {".", ".."}:
        return f"{text!r}: {session['subject']!r} is no subject"
    rest = text[session.end() + 1 :]
    return rel_path_problem(rest) if rest else None


def rel_path_problem(rel_path: str) -> str | None:
    """Return why the path of a dataset below its session should not be stored, or None."""
    folder_end = rel_path.rfind("/") + 1
    folders, name = rel_path[:folder_end], rel_path[folder_end:]
    if any(folder in {"", ".", ".."} for folder in folders.split("/")[:-1]):
        return f"{rel_path!r} has a folder without a name, or . or .."
    if _parse_folders(folders) is None:
        return (
            f"{rel_path!r}: folders may have letters, digits and _ . - in their names, and #revision# must be the last"
        )
    return name_problem(name)


# --- building


def to_alf(
    object: str,
    attribute: str,
    extension: str,
    namespace: str | None = None,
    timescale: str | tuple[str, ...] | list[str] | None = None,
    extra: str | tuple[str, ...] | list[str] | None = None,
) -> str:
    """Return the file name that is built of these parts, in camel case.

    Parameters
    ----------
    object : str
        For example ``spikes``. Words after spaces and underscores begin with a capital.
    attribute : str
        For example ``times``. Written as the object, except that ``_times``, ``_timestamps`` and ``_intervals`` at its
        end stay.
    extension : str
        With or without its dot.
    namespace : str, optional
    timescale : str or sequence of str, optional
        Several are joined by underscores.
    extra : str or sequence of str, optional
        Several are joined by dots, or given so.

    Raises
    ------
    TypeError
        There is no extension.
    ALFInvalid
        The result is no ALF name. (Also a ValueError.)

    Examples
    --------
    >>> to_alf("spikes", "times", "npy", "ibl", ("ephys clock", "minutes"), "raw")
    '_ibl_spikes.times_ephysClock_minutes.raw.npy'
    """
    if not extension:
        raise TypeError("An ALF name needs an extension, such as npy.")
    scales = [timescale] if isinstance(timescale, str) else list(timescale or ())
    if object[:1] == "_":
        raise ALFInvalid(f"Object {object!r} begins with an underscore; give the namespace apart.", terse=True)
    if any("." in part for part in (object, attribute, namespace or "", extension[1:], *scales)):
        raise ALFInvalid(f"Only extra parts of an ALF name may have dots: {object!r}, {attribute!r}, {extension!r}.")
    ending = re.search("_(times|timestamps|intervals)$", attribute)
    stem = attribute[: ending.start()] if ending else attribute
    parts = Parts(
        namespace=namespace,
        object=_camel_case(object),
        attribute=_camel_case(stem) + attribute[len(stem) :],
        timescale="_".join(_camel_case(scale) for scale in scales if scale),
        extra=extra if isinstance(extra, str) else ".".join(filter(None, extra or ())),
        extension=extension.removeprefix("."),
    )
    name = _name_of(parts)
    # Not part by part: attribute x_timestamps reads as x in the timescale timestamps.
    read = parse_name(name)
    if read is None or (read.namespace or "", read.object, read.key) != (namespace or "", parts.object, parts.key):
        raise ALFInvalid(f"{name!r} would not be read as the parts it is made of.")
    return name


def session_folder(lab: str | None, subject: str, date: str | dt.date, number: int | str) -> str:
    """Return lab/Subjects/subject/date/NNN, or subject/date/NNN without a lab; ALFInvalid for a part that can't be."""
    day = date if isinstance(date, str) else date.isoformat()[:10]
    folder = f"{f'{lab}/Subjects/' if lab else ''}{subject}/{day}/{int(number):03d}"
    if problem := path_problem(folder):
        raise ALFInvalid(f"{problem}.")
    return folder


def join_rel_path(collection: str | None, revision: str | None, name: str) -> str:
    """Return the path of a file below its session."""
    folder = f"{collection}/" if collection else ""
    return f"{folder}#{revision}#/{name}" if revision else f"{folder}{name}"


def padded_sequence(path: AnyPath) -> AnyPath:
    """Return a path with its session's number in three digits; ALFInvalid when it has no session."""
    text = _posix(path)
    session = session_path(text)
    if session is None:
        raise ALFInvalid(f"{text!r} has no subject/date/number.")
    head, _, number = session.rpartition("/")
    return _like(path, f"{head}/{int(number):03d}{text[len(session) :]}")


def without_revision(path: AnyPath) -> AnyPath:
    """Return the path of a dataset, or of a revision's folder, without ``#revision#``."""
    text = _posix(path)
    folder, slash, name = text.rpartition("/")
    if _is_revision(name):
        return _like(path, folder or slash)
    last = folder[folder.rfind("/") + 1 :]
    return _like(path, folder[: len(folder) - len(last)] + name) if _is_revision(last) else path


def with_uuid(path: AnyPath, uuid: str | UUID) -> AnyPath:
    """Return a file's path with a UUID before its extension (or at its end), in place of one that is there."""
    if not is_uuid_string(str(uuid)):
        raise ALFInvalid(f"{str(uuid)!r} is no UUID of version 3, 4 or 5.")
    text = _posix(without_uuid(path))
    at = text.rfind(".", text.rfind("/") + 2)
    return _like(path, f"{text}.{uuid}" if at < 0 else f"{text[:at]}.{uuid}{text[at:]}")


def without_uuid(path: AnyPath) -> AnyPath:
    """Return a file's path without the UUID before its extension or at its end, if it has one."""
    text = _posix(path)
    folder, pieces = text[: text.rfind("/") + 1], text[text.rfind("/") + 1 :].split(".")
    for place in (-2, -1):
        if len(pieces) > -place and is_uuid_string(pieces[place]):
            del pieces[place]
            return _like(path, folder + ".".join(pieces))
    return path


# --- private


def _posix(path: str | PurePath) -> str:
    return path if isinstance(path, str) else path.as_posix()


def _like(path: Any, text: str) -> Any:
    """Return text as the type of a path."""
    return text if isinstance(path, str) else type(path)(text)


def _is_revision(folder: str) -> bool:
    return len(folder) > 2 and folder[0] == "#" == folder[-1]


def _name_of(parts: Parts) -> str:
    namespace = f"_{parts.namespace}_" if parts.namespace else ""
    return f"{namespace}{parts.object}.{parts.key}.{parts.extension}"


def _camel_case(text: str) -> str:
    """Return words in camel case; they are split at spaces and underscores, and acronyms (also with an s) stay."""
    first, *others = re.split(r"[_\s]", text)
    if not others:
        return text[:1].lower() + text[1:]
    words = [first if _is_acronym(first) else first.lower()]
    return "".join(words + [word if _is_acronym(word) else word.capitalize() for word in others])


def _is_acronym(word: str) -> bool:
    return re.fullmatch("[A-Z]+s?", word) is not None

"""What the readers share: the errors of parsers, units, and which sweeps are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from labweave.errors import ReadError
from labweave.formats.limits import file_size


@contextmanager
def parsing(path, what: str) -> Iterator[None]:
    """Make whatever a parser fails with a ReadError; they raise anything from struct.error to IndexError."""
    size = file_size(path)
    try:
        yield
    except Exception as error:
        raise ReadError(
            path,
            f"not a complete {what} of {size} bytes ({type(error).__name__}: {error})",
            "Copy it again; if it is another format, name its reader",
        ) from error


def as_list(value) -> list:
    """The items of a list, of one text or number, or of None."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def pick_sweeps(path, file_metadata, names) -> list[str]:
    """Return the names that the metadata's ``sweep`` asks for, else all; ReadError for an unknown one."""
    wanted = [str(name) for name in as_list(file_metadata.get("sweep"))]
    known = list(names)
    if missing := [name for name in wanted if name not in known]:
        raise ReadError(path, f"no sweep {', '.join(missing)}", f"The file has {', '.join(known)}")
    return wanted or known


def numbered_sweeps(n_sweeps: int) -> list[str]:
    """Names of the sweeps of a file that gives them none: sweep_000, sweep_001, ..."""
    return [f"sweep_{index:03d}" for index in range(n_sweeps)]


def need(file_metadata, key, from_file, path, where="the file"):
    """Return what the metadata says, else what the file says; ReadError if neither does."""
    value = file_metadata.get(key)
    value = from_file if value is None or value == "" else value
    if value is None or value == "":
        raise ReadError(path, f"no {key} in {where}", f"Add {key!r} to the metadata of this recording")
    return value


def quantity_of(unit: str) -> str | None:
    """Return "voltage" or "current", as the unit ends; None if it tells neither."""
    if unit.lower().endswith(("v", "volts")):
        return "voltage"
    if unit.lower().endswith(("a", "amps", "amperes")):
        return "current"
    return None

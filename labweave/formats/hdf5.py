"""HDF5 files: the one way to open them for reading.

What is read lies in the file itself. A link to another file, a dataset whose samples are stored in others, and one
that claims more than the file can hold are refused; whatever h5py raises for a damaged file is a ReadError.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import h5py
from h5py import h5d, h5g, h5i, h5l, h5o  # pyright: ignore[reportAttributeAccessIssue]

from labweave.errors import LabweaveError, ReadError
from labweave.formats.limits import HARMLESS_BYTES, check_claim, file_size

_RAISED = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
_MOST_LINKS = 32
_SEARCHED_BYTES = 1 << 30


class Outside(ValueError):
    """Something that is not in the file."""


@contextmanager
def open_hdf5(path, source: BinaryIO | None = None) -> Iterator[Any]:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : str or Path
    source : file object, optional
        What is read instead, of a file inside an archive.

    Yields
    ------
    h5py.File
        Its groups and datasets are those that lie in the file; soft links are followed within it.

    Raises
    ------
    ReadError
        It is no HDF5 file, is damaged, or leads outside; also while it is in use.

    Examples
    --------
    >>> import h5py
    >>> from labweave.formats.hdf5 import open_hdf5
    >>> with h5py.File("linked.h5", "w") as file:
    ...     file["here"] = [1.0, 2.0]
    ...     file["there"] = h5py.ExternalLink("other.h5", "secret")
    >>> with open_hdf5("linked.h5") as file:
    ...     float(file["here"][1])
    2.0
    >>> with open_hdf5("linked.h5") as file:
    ...     file["there"]
    Traceback (most recent call last):
    ...
    labweave.errors.ReadError: linked.h5: there is a link to another file. Copy the data into this file.
    """
    with raising_read_errors(path), InsideFile(path, source) as file:
        yield file


@contextmanager
def raising_read_errors(path) -> Iterator[None]:
    """Make what h5py raises, which can be almost anything, a ReadError of this file."""
    try:
        yield
    except (LabweaveError, IsADirectoryError):
        raise
    except Outside as error:
        raise ReadError(path, str(error), "Copy the data into this file.") from None
    except _RAISED as error:
        raise ReadError(path, f"not a complete HDF5 file ({error})", "Copy it again.") from error


class _Inside:
    """A group that finds only what lies in its file."""

    def __getitem__(self: Any, name):
        if not isinstance(name, (str, bytes)):
            return _opened(super().__getitem__(name).id)  # pyright: ignore[reportAttributeAccessIssue]
        return _opened(find_inside(self.id, name if isinstance(name, bytes) else name.encode()))

    def get(self: Any, name, default=None, **asked):  # h5py's own goes around __getitem__
        if asked:
            return super().get(name, default, **asked)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self: Any, name):
        try:
            find_inside(self.id, name if isinstance(name, bytes) else name.encode())
        except KeyError:
            return False
        return True


class InsideFile(_Inside, h5py.File):
    """An HDF5 file, open for reading, that finds only what lies in it; `open_hdf5` also tells its errors in words."""

    def __init__(self, path, source: BinaryIO | None = None):
        if source is None:
            file_size(path)
            super().__init__(path, "r", locking=False)  # a writer may be at work, and many network disks know no locks
            state = Path(path).stat()
            if _never_ends(Path(path), state.st_size, state.st_mtime_ns):
                self.close()
                raise ReadError(path, "a damaged heap of texts in it", "Copy it again.")
        else:
            super().__init__(source, "r")


class _Group(_Inside, h5py.Group):
    pass


class _Dataset(h5py.Dataset):
    def __getitem__(self, args, new_dtype=None):
        if args is ... or (isinstance(args, tuple) and not args):
            check_whole(self.id)
        return super().__getitem__(args, new_dtype)


def _opened(found) -> Any:
    if isinstance(found, h5g.GroupID):
        return _Group(found)
    return _Dataset(found) if isinstance(found, h5d.DatasetID) else h5py.Datatype(found)


def find_inside(group: Any, path: bytes) -> Any:
    """Return the object at a path, as h5py's low level has it.

    Raises
    ------
    KeyError
        There is none.
    Outside
        It, or its data, is in another file.
    """
    place = root = group
    if path.startswith(b"/"):
        place = root = h5o.open(group, b"/")
    parts, n_links = path.split(b"/")[::-1], 0
    while parts:
        part = parts.pop()
        if part in (b"", b"."):
            continue
        name = part.decode("utf-8", "replace")
        if not isinstance(place, h5g.GroupID) or not place.links.exists(part):
            raise KeyError(f"there is no {name}")
        kind = place.links.get_info(part).type
        if kind == h5l.TYPE_HARD:
            place = h5o.open(place, part)
        elif kind == h5l.TYPE_SOFT and n_links < _MOST_LINKS:
            n_links += 1
            target = place.links.get_val(part)
            parts += target.split(b"/")[::-1]
            place = h5o.open(root, b"/") if target.startswith(b"/") else place
        else:
            raise Outside(f"{name} is a link to {'itself' if kind == h5l.TYPE_SOFT else 'another file'}")
    if isinstance(place, h5d.DatasetID):
        plist = place.get_create_plist()
        if plist.get_layout() == h5d.VIRTUAL or plist.get_external_count():
            raise Outside(f"the data of {_name_of(place)} is in other files")
    return place


def check_whole(dataset: Any) -> None:
    """Refuse to read all of a dataset, as h5py's low level has it, that claims more than its file can hold."""
    n_bytes = dataset.get_space().get_simple_extent_npoints() * dataset.get_type().get_size()
    if n_bytes > HARMLESS_BYTES:
        file = h5i.get_file_id(dataset)
        check_claim(file.name.decode("utf-8", "replace"), _name_of(dataset), n_bytes, file.get_filesize())


def _name_of(dataset) -> str:
    return h5i.get_name(dataset).decode("utf-8", "replace")


@lru_cache(maxsize=256)
def _never_ends(path: Path, size: int, mtime_ns: int) -> bool:
    """Say whether a global heap has a free object without size: HDF5 2.0 reads it for ever, and can't be stopped.

    A lost sector of a disk, which reads as zeros, makes one. The layout is that of the HDF5 File Format Specification,
    section III.E. The first GiB of a file is searched, once, in less than a second.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(b"GCOL\1\0\0\0", 0, _SEARCHED_BYTES)
        while 0 <= at <= size - 32:
            (end,) = struct.unpack_from("<Q", content, at + 8)
            place, end = at + 16, min(at + end, size)
            while place + 16 <= end:
                index, _, _, length = struct.unpack_from("<HHIQ", content, place)
                if index == 0 and length == 0:
                    return True
                place += length if index == 0 else 16 + (length + 7) // 8 * 8
            at = content.find(b"GCOL\1\0\0\0", at + 8, _SEARCHED_BYTES)
    return False

"""Looks at a file before it is read: is it there, and how much memory does it ask for?"""

from __future__ import annotations

import zipfile
from pathlib import Path

from labweave.errors import FileMissing, ReadError

MOST_COLUMNS = 10_000
HARMLESS_BYTES = 1 << 28
MOST_TIMES = 200
"""Real data is packed 2 to 20 times; a few bytes that claim to be gigabytes are an attack or an accident."""


def file_size(path) -> int:
    """Bytes of a file; ReadError when it is missing, closed to us or empty."""
    try:
        size = Path(path).stat().st_size
    except FileNotFoundError as error:
        raise FileMissing(path, "there is no such file", "Check the path, and whether its disk is mounted") from error
    except OSError as error:
        raise ReadError(path, f"can't be opened ({error.strerror})", "Check the path") from error
    if size == 0:
        raise ReadError(path, "the file is empty", "Copy it again from the acquisition computer")
    return size


def check_claim(path, what: str, n_bytes: int, file_bytes: int) -> None:
    """Refuse what would become too large in memory for the file it is in.

    Parameters
    ----------
    path : str or Path
        The file.
    what : str
        The part of it that is to be read, as a person calls it.
    n_bytes : int
        That it claims to be, in memory.
    file_bytes : int
        That it has on the disk.

    Raises
    ------
    ReadError
        More than 256 MiB, and more than 200 times what is on the disk.

    Examples
    --------
    >>> from labweave.formats.limits import check_claim
    >>> check_claim("cell1.h5", "/sweeps/a/voltage", 80_000, 500)
    """
    if n_bytes > max(HARMLESS_BYTES, MOST_TIMES * file_bytes):
        raise ReadError(
            path,
            f"{what} claims {n_bytes:,} bytes, which a file of {file_bytes:,} bytes can't hold",
            "Copy it again, or save it with less compression.",
        )


def check_archive(path, file) -> None:
    """Refuse a zip archive, open as `file`, whose members would swell beyond `check_claim`."""
    with zipfile.ZipFile(file) as archive:
        n_bytes = sum(member.file_size for member in archive.infolist())
    size = file.seek(0, 2)
    file.seek(0)
    check_claim(path, "the archive", n_bytes, size)


def check_columns(path, content: bytes, separator: str) -> None:
    """Refuse a table of text whose first line has more columns than any table of a lab; each one costs memory."""
    n_columns = content.partition(b"\n")[0].count(separator.encode()) + 1
    if n_columns > MOST_COLUMNS:
        raise ReadError(path, f"{n_columns:,} columns", f"At most {MOST_COLUMNS:,} are read; save it as npy or pqt.")

"""Download some chunks of a compressed raw recording (``.cbin``), and read them as if they were the whole.

mtscomp compresses a recording in chunks of about a second. The ``.ch`` file says where in the ``.cbin`` each chunk
begins (``chunk_offsets``) and which samples it holds (``chunk_bounds``). Both lists have one entry more than there are
chunks. (Taken from files that mtscomp wrote, format 1.0.)
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import Any

from labweave.errors import ConfigError, FileMissing, ReadError, SourceError
from labweave.formats.alf.names import without_uuid
from labweave.formats.writing import whole_file
from labweave.one.files.cache import Files
from labweave.one.files.download import locked
from labweave.one.files.folders import Folder, path_in_url, path_of_url


class NotChunked(SourceError, AssertionError):
    """Addresses or chunk numbers are invalid. ONE raises an AssertionError here, so this is one as well."""


class ChunkMissing(SourceError, IndexError):
    """The recording has no such chunk. ONE raises an IndexError here, so this is one as well."""


def download_raw_partial(
    files: Files, url_cbin: str, url_ch: str | Path, first_chunk: int = 0, last_chunk: int = 0
) -> Any:
    """Download some chunks of a compressed recording and open them.

    Parameters
    ----------
    files : Files
    url_cbin : str
        Address of the ``.cbin``.
    url_ch : str or Path
        Address of its ``.ch``, or the file itself.
    first_chunk, last_chunk : int, default: 0
        Counted from 0, both included.

    Returns
    -------
    spikeglx.Reader
        Of these chunks; its sample 0 is the first of `first_chunk`.

    Raises
    ------
    NotChunked, ChunkMissing
        The names don't end in ``.cbin`` and ``.ch``, or there are no such chunks.
    FileMissing
        The ``.meta`` file is not in the folder of the ``.cbin``: load that dataset first.
    DownloadError
        A file can't be fetched, or the two don't belong together.
    ConfigError
        ibl-neuropixel, which has the Reader, is not installed. The chunks are downloaded all the same.
    """
    chunks = download_chunks(files, url_cbin, url_ch, first_chunk, last_chunk)
    whole = chunks.with_name(chunks.name.removesuffix(".stream.cbin") + ".meta")
    if not whole.is_file():
        raise FileMissing(whole, "is not there, but has the channels and gains", "Load the .meta dataset first.")
    meta = chunks.with_suffix(".meta")
    if not meta.is_file() or meta.read_bytes() != whole.read_bytes():
        with whole_file(meta) as path:
            path.write_bytes(whole.read_bytes())
    try:
        import spikeglx  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError(
            f"{chunks} is written, but the package that reads it is not installed: pip install ibl-neuropixel"
        ) from None
    return spikeglx.Reader(chunks, ignore_warnings=True)


def download_chunks(files: Files, url_cbin: str, url_ch: str | Path, first_chunk: int = 0, last_chunk: int = 0) -> Path:
    """Download some chunks of a compressed recording, without opening them.

    They become ``NAME.stream.cbin``, whose path is returned, and ``NAME.stream.ch`` in the recording's folder below the
    cache folder, which mtscomp can read. The same chunks are not downloaded again.
    """
    for name, suffix in ((_path_part(url_cbin), ".cbin"), (_path_part(str(url_ch)), ".ch")):
        if not name.endswith(suffix):
            raise NotChunked(f"{name} doesn't end in {suffix}. Give the address of the .cbin and that of its .ch.")
    if not 0 <= first_chunk <= last_chunk:
        raise NotChunked(f"Chunks {first_chunk} to {last_chunk} are none. Count from 0, the first one first.")
    cbin = _place(files, url_cbin)
    chunks, index = cbin.with_suffix(".stream.cbin"), cbin.with_suffix(".stream.ch")
    with locked(chunks.with_name(f".{chunks.name}.lock"), Event()) as note:
        try:
            whole = _read_index(files, url_ch)
            part, span = _cut(whole, first_chunk, last_chunk, cbin)
            if not _is_there(index, chunks, part):
                index.unlink(missing_ok=True)  # it must never belong to other bytes
                files.fetch(url_cbin, chunks, span=span, whole_size=whole["chunk_offsets"][-1])
                with whole_file(index) as path:
                    path.write_text(json.dumps(part, indent=2, sort_keys=True), encoding="utf-8")
        finally:
            note.remove()
    return chunks


def _read_index(files: Files, url_ch: str | Path) -> dict[str, Any]:
    """Return what a ``.ch`` file says: the given one, or that of the server, fetched again as it may have changed."""
    path = url_ch if isinstance(url_ch, Path) else _place(files, url_ch)
    if isinstance(url_ch, str) and not (files.offline and path.is_file()):
        files.fetch(url_ch, path)
    try:
        index = json.loads(path.read_bytes())
        bounds, offsets = index["chunk_bounds"], index["chunk_offsets"]
        numbers = [number for row in (bounds, offsets) for number in row]
        is_sound = len(bounds) == len(offsets) > 1 and all(isinstance(number, int) for number in numbers)
        is_sound = is_sound and all(row[0] == 0 and sorted(set(row)) == row for row in (bounds, offsets))
    except FileNotFoundError:
        raise FileMissing(path, "is not there", "Give the address of the .ch, or its path.") from None
    except (ValueError, KeyError, TypeError):
        is_sound, index = False, {}
    if not is_sound:
        raise ReadError(path, "no list of chunks as mtscomp writes it", "Is it the .ch of this recording?")
    return index


def _cut(whole: dict[str, Any], first: int, last: int, cbin: Path) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return the index of some chunks alone, and their first byte and number of bytes."""
    n_chunks = len(whole["chunk_bounds"]) - 1
    if last >= n_chunks:
        raise ChunkMissing(
            f"{cbin.name} has {n_chunks:,} chunks, 0 to {n_chunks - 1:,}; chunk {last:,} is none of them."
        )
    bounds, offsets = whole["chunk_bounds"][first : last + 2], whole["chunk_offsets"][first : last + 2]
    n_samples, n_bytes = bounds[-1] - bounds[0], offsets[-1] - offsets[0]
    part = {
        **whole,
        "chunk_bounds": [bound - bounds[0] for bound in bounds],
        "chunk_offsets": [offset - offsets[0] for offset in offsets],
        "chopped": True,
        "chopped_first_sample": bounds[0],
        "chopped_total_samples": n_samples,
        "sha1_compressed": None,
        "sha1_uncompressed": None,
    }
    return part, (offsets[0], n_bytes)


def _is_there(index: Path, chunks: Path, part: dict[str, Any]) -> bool:
    """Say whether these chunks have already been downloaded completely."""
    try:
        found = json.loads(index.read_bytes())
        return found == part and chunks.stat().st_size == part["chunk_offsets"][-1]
    except (FileNotFoundError, ValueError):
        return False


def _place(files: Files, url: str) -> Path:
    path = path_of_url(url)
    if path is None:
        raise NotChunked(
            f"{_path_part(url)} is no file of a session: subject/date/number/… or lab/Subjects/subject/date/number/…"
        )
    return Folder(files.cache_dir).path(path)


def _path_part(url: str) -> str:
    """Return the path of an address, without the UUID."""
    return without_uuid(path_in_url(url))

"""Files on demand: from a repository on this machine, from the cache folder, or downloaded into it."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from labweave.errors import SourceError
from labweave.formats.alf.exceptions import ALFWarning
from labweave.formats.alf.names import is_uuid_string, with_uuid, without_uuid
from labweave.one.files.download import download
from labweave.one.files.integrity import Checked, Expected, state_of
from labweave.one.files.sources import (
    DataLogin,
    DownloadError,
    HostUnreachable,
    Web,
    WrongContent,
    join_url,
    make_source,
)

log = logging.getLogger(__name__)

WORKERS = 4
NOT_THERE = (404, 410)

_SESSION_PATH = re.compile(r"(?:^|/)((?:\w+/Subjects/)?[\w.-]+/\d{4}-\d{2}-\d{2}/\d{1,3}/.+)$")


@dataclass(frozen=True)
class Copy:
    """One copy of a dataset in a repository.

    Attributes
    ----------
    repository, kind : str
        Name of the repository and its ``repository_kind``.
    data_url, root_path, hostname : str
        Its root as an address, and as a folder of its own machine; '' if there is none.
    relative_path : str
        Of the copy below that root.
    """

    repository: str
    kind: str
    data_url: str
    root_path: str
    hostname: str
    relative_path: str


@dataclass(frozen=True)
class Wanted:
    """A dataset whose file is asked for.

    Attributes
    ----------
    dataset_id : str
    path : str
        Posix, below the cache folder: ``lab/Subjects/subject/date/NNN/collection/#revision#/name``.
    size : int or None
        Registered bytes; None or 0 if unknown.
    hash : str
        Registered md5 or sha1 in hex; '' if unknown.
    copies : tuple of Copy
        Where it is, the best first.
    """

    dataset_id: str
    path: str
    size: int | None
    hash: str
    copies: tuple[Copy, ...]

    @property
    def expected(self) -> Expected:
        """Size and hash as registered."""
        return Expected(self.size or 0, self.hash or "")


class PathEscapes(SourceError, ValueError):
    """A path of the tables that leads out of its folder."""


class Folder:
    """A folder that paths of the tables may not leave.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path):
        self.root, self._real = root, os.path.realpath(root)
        self._inside: set[str] = set()

    def path(self, relative: str) -> Path:
        """Return a file's path below the folder.

        Raises
        ------
        PathEscapes
            The path, or a link on its way, leads out of the folder.
        """
        parts = relative.split("/")
        if not all(parts) or "." in parts or ".." in parts or "\\" in relative or "\0" in relative:
            raise PathEscapes(
                f"{relative!r} is registered as the path of a file, but is none below {self.root}. Correct it."
            )
        target = self.root.joinpath(*parts)
        self._check_links(target, relative.rpartition("/")[0])
        return target

    def _check_links(self, target: Path, parent: str) -> None:
        """Check that a file is inside whatever links lead to it; its folder once only."""
        is_link = target.is_symlink()
        if parent in self._inside and not is_link:
            return
        real = os.path.realpath(target if is_link else target.parent)
        if os.path.commonpath([self._real, real]) != self._real:
            raise PathEscapes(
                f"{target} leads out of {self.root} by a link. Remove the link, or make the root what it leads to."
            )
        if not is_link:
            self._inside.add(parent)


class Files:
    """Brings the files of datasets here.

    Parameters
    ----------
    cache_dir : str or Path
        Where downloads go; made when the first one comes.
    offline : bool, default: False
        Open no connection.
    login : DataLogin, optional
        Sent to its own server only.
    workers : int, default: 4
        Downloads at once.
    silent : bool, default: False
        Show no progress. Without a terminal none is shown anyway.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str],
        *,
        offline: bool = False,
        login: DataLogin | None = None,
        workers: int = WORKERS,
        silent: bool = False,
    ):
        self.cache_dir, self.offline, self.workers, self.silent = Path(cache_dir), offline, workers, silent
        self._login, self._checked = login, Checked()
        self._refused: dict[tuple[str, Expected], WrongContent] = {}

    def __repr__(self) -> str:
        return f"Files({str(self.cache_dir)!r}, offline={self.offline})"

    def get(
        self,
        wanted: Sequence[Wanted],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        clobber: bool = False,
        keep_uuid: bool = False,
        offline: bool | None = None,
        dry_run: bool = False,
        check_hash: bool = True,
    ) -> list[Path | None]:
        """Return where the file of each dataset is, after downloading the ones that are not here.

        The first of these is taken: a copy in a repository whose folder is on this machine; the file in the cache
        folder; a download into it. A file that is here but not as registered is given with a warning, and left as it
        is; `clobber` downloads it again.

        Parameters
        ----------
        wanted : sequence of Wanted
        cache_dir : path, optional
            Instead of the usual one, for this call.
        clobber : bool, default: False
            Download what is in the cache folder again. What can't be downloaded stays.
        keep_uuid : bool, default: False
            Leave the dataset's UUID in the names in the cache folder.
        offline : bool, optional
            Instead of the usual one, for this call.
        dry_run : bool, default: False
            Download nothing and return None for each; what would be downloaded is logged.
        check_hash : bool, default: True
            Compare size and hash with the registered ones.

        Returns
        -------
        list of Path or None
            In the order of `wanted`; None where there is neither a file nor an address to get it from.

        Raises
        ------
        WrongContent
            What was downloaded is not the registered file. The one that was there is as it was.
        DownloadError
            A download failed. The others are finished first, and `results` has their paths.
        PathEscapes
            A path of the tables leads out of its folder.

        Warns
        -----
        ALFWarning
            A file is not as registered.
        """
        cache = Folder(self.cache_dir if cache_dir is None else Path(cache_dir))
        repositories: dict[str, Folder | None] = {}
        offline = self.offline if offline is None else offline
        paths: list[Path | None] = []
        missing: dict[Path, tuple[Wanted, tuple[int, ...] | None]] = {}
        for item in wanted:
            local = _find_local(item, repositories)
            path = local or cache.path(_name_in_cache(item, keep_uuid))
            before = (
                state_of(path) if local is None else None
            )  # first: what another process brings from now on is not fetched again
            is_here = local is not None or os.path.isfile(path)  # noqa: PTH113 - False for one that may not be seen
            if (
                not offline
                and local is None
                and (clobber or not is_here)
                and any(copy.data_url for copy in item.copies)
            ):
                missing[path] = item, before
                paths.append(path)
                continue
            if is_here and check_hash and not dry_run:
                self._warn_if_changed(path, item)
            paths.append(path if is_here else None)
        if dry_run:
            for path, (item, _) in missing.items():
                log.info("%s would be downloaded from %s", path, self.url(item))
            return [None] * len(paths)
        self._download_all(missing, paths, check_hash)
        return paths

    def url(self, wanted: Wanted) -> str | None:
        """Return the address of a dataset's first copy that has one: the UUID in the name, ``#`` percent-encoded."""
        return next((_urls(wanted, copy)[0] for copy in wanted.copies if copy.data_url), None)

    def fetch_span(self, url: str, target: Path, span: tuple[int, int], whole_size: int) -> None:
        """Download `span` (first byte, number of bytes) of a file of `whole_size` bytes; `target` is replaced.

        Raises
        ------
        DownloadError
            It can't be fetched, or the file at the address has another size.
        """
        with Web(self._login) as web, self._progress(span[1], 1) as on_bytes:
            download(
                make_source(web, url), target, Expected(span[1]), before=state_of(target), span=span,
                whole_size=whole_size, on_bytes=on_bytes,
            )  # fmt: skip

    def fetch(self, url: str, target: Path) -> None:
        """Download the file at an address, of which nothing is registered; `target` is replaced.

        Raises
        ------
        DownloadError
            It can't be fetched.
        """
        with Web(self._login) as web, self._progress(0, 1) as on_bytes:
            download(make_source(web, url), target, Expected(), before=state_of(target), on_bytes=on_bytes)

    def _warn_if_changed(self, path: Path, item: Wanted) -> None:
        try:
            fault = self._checked.fault(path, item.expected)
        except OSError as error:
            raise SourceError(f"{path} can't be read ({error.strerror}). May this user read it?") from None
        if fault:
            warnings.warn(
                f"{path} is not as registered: {fault}. It is used as it is; clobber=True downloads it again.",
                ALFWarning, stacklevel=3,
            )  # fmt: skip

    def _download_all(
        self,
        missing: dict[Path, tuple[Wanted, tuple[int, ...] | None]],
        paths: list[Path | None],
        check_hash: bool,
    ) -> None:
        """Download in parallel; the first error is raised when all others are done. `missing` has the states too."""
        if not missing:
            return
        stop, down = Event(), {}
        n_workers = max(1, min(self.workers, len(missing)))
        total = sum(item.size or 0 for item, _ in missing.values())
        with (
            Web(self._login, n_workers) as web,
            self._progress(total, len(missing)) as on_bytes,
            ThreadPoolExecutor(n_workers, thread_name_prefix="labweave-download") as pool,
        ):
            jobs = {
                path: pool.submit(self._download, web, path, item, before, check_hash, on_bytes, stop, down)
                for path, (item, before) in missing.items()
            }
            try:
                wait(jobs.values())
            except BaseException:  # Ctrl-C: what has arrived is kept, the rest is not begun
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        errors = {path: error for path, job in jobs.items() if (error := job.exception()) is not None}
        if not errors:
            return
        first, *others = errors.values()
        for text in dict.fromkeys(str(error) for error in others if error is not first):
            log.warning("%s", text)
        if isinstance(first, DownloadError):
            first.results = [None if path in errors else path for path in paths]
        raise first

    def _download(
        self, web: Web, path: Path, item: Wanted, before, check_hash: bool, on_bytes, stop: Event, down: dict
    ) -> None:
        """Download one dataset from the first of its copies that has it."""
        expected = item.expected if check_hash else Expected()
        error: DownloadError | None = None
        for copy in item.copies:
            for url in _urls(item, copy):
                host = urlsplit(url).netloc
                try:
                    if host in down:
                        raise down[host]
                    download(
                        make_source(web, url), path, expected, before=before,
                        refused=self._refused.get((url, expected)), on_bytes=on_bytes, stop=stop,
                    )  # fmt: skip
                except DownloadError as found:
                    if isinstance(found, HostUnreachable):
                        down[host] = found
                    if isinstance(found, WrongContent):
                        self._refused[url, expected] = found
                    if error is None or error.status in NOT_THERE:
                        error = found
                    if found.status not in NOT_THERE:
                        break
                else:
                    self._checked.fits(path, expected)
                    return
        assert error is not None  # there is a copy with an address
        raise error

    @contextmanager
    def _progress(self, total: int, n_files: int) -> Iterator:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console, disable=self.silent or not console.is_terminal, transient=True) as bar:
            task = bar.add_task("1 file" if n_files == 1 else f"{n_files:,} files", total=total or None)
            yield lambda n: bar.advance(task, n)


def path_of_url(url: str) -> str | None:
    """Return the path below the cache folder that belongs to the address of a session's file, without its UUID.

    None if the address is not one of a session's file. Scheme, host and root don't count.
    """
    found = _SESSION_PATH.search(unquote(urlsplit(url, allow_fragments=False).path))
    return without_uuid(found[1]) if found else None


def _find_local(item: Wanted, repositories: dict[str, Folder | None]) -> Path | None:
    """Return the file in a repository whose folder is on this machine; `repositories` has those looked for."""
    for copy in item.copies:
        if copy.root_path not in repositories:
            root = Path(copy.root_path)
            is_here = bool(copy.root_path) and root.is_absolute() and os.path.isdir(root)  # noqa: PTH112
            repositories[copy.root_path] = Folder(root) if is_here else None
        if (folder := repositories[copy.root_path]) is None:
            continue
        for relative in _names(item, copy):
            path = folder.path(relative)
            if os.path.isfile(path):  # noqa: PTH113 - False for one that may not be seen
                return path
    return None


def _names(item: Wanted, copy: Copy) -> list[str]:
    """Return what a copy's file may be called: as registered, and with the UUID, as data servers have it."""
    plain = copy.relative_path.strip("/")
    return list(dict.fromkeys([plain, _with_uuid(plain, item.dataset_id)]))


def _urls(item: Wanted, copy: Copy) -> list[str]:
    """Return the addresses where a copy may be, the likelier first; none without ``data_url``."""
    if not copy.data_url:
        return []
    for name in _names(item, copy):
        if any(part in (".", "..") for part in name.split("/")):
            raise PathEscapes(f"{name!r} in repository {copy.repository} is no path below its root. Correct it.")
    return [join_url(copy.data_url, name) for name in reversed(_names(item, copy))]


def _name_in_cache(item: Wanted, keep_uuid: bool) -> str:
    return _with_uuid(item.path, item.dataset_id) if keep_uuid else item.path


def _with_uuid(path: str, dataset_id: str) -> str:
    """Return a path with the dataset's UUID in it, if it is one that names can have."""
    return with_uuid(path, dataset_id) if is_uuid_string(dataset_id) and "." in PurePosixPath(path).name else path

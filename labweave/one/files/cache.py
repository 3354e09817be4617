"""The cache folder: files of datasets are found on this machine, or downloaded into it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from labweave.errors import SourceError
from labweave.formats.alf.exceptions import ALFWarning
from labweave.one.files.download import Download
from labweave.one.files.folders import Folder, is_file, name_with_uuid, names_of_copy, url_of, urls_of_copy
from labweave.one.files.integrity import Checked, Expected, State, state_of
from labweave.one.files.sources import DataLogin, DownloadError, HostUnreachable, Web, WrongContent, make_source
from labweave.one.search.rows import DatasetRow

log = logging.getLogger(__name__)

WORKERS = 4
"""How many download at once."""

NOT_THERE = (404, 410)


class Files:
    """Finds the files of datasets on this machine, or downloads them into the cache folder, which it makes if needed.

    It opens no connection if it is `offline`. The `login` goes to its own server only. Progress shows on terminals,
    unless `silent`.
    """

    def __init__(
        self, cache_dir: str | os.PathLike[str], *, offline=False, login: DataLogin | None = None, silent=False
    ):
        self.cache_dir, self.offline, self.silent = Path(cache_dir), offline, silent
        self._login, self._checked = login, Checked()
        self._refused: dict[tuple[str, Expected], WrongContent] = {}

    def get(
        self,
        rows: Sequence[DatasetRow],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        clobber: bool = False,
        keep_uuid: bool = False,
        offline: bool | None = None,
        dry_run: bool = False,
        check_hash: bool = True,
    ) -> list[Path | None]:
        """Return the path of each dataset's file, after downloading the missing ones.

        It takes the first of these: a copy in a repository whose folder is on this machine; the file in the cache
        folder; a download into it. If a file is here but differs from its registered size or hash, it is used as it
        is, with a warning; `clobber` downloads it again.

        Parameters
        ----------
        rows : sequence of DatasetRow
            With their copies.
        cache_dir : path, optional
            Instead of the usual one, for this call.
        clobber : bool, default: False
            Download files in the cache folder again. What can't be downloaded stays.
        keep_uuid : bool, default: False
            Keep the dataset's UUID in the names in the cache folder.
        offline : bool, optional
            Instead of the usual one, for this call.
        dry_run : bool, default: False
            Download nothing and return None for each dataset. The log says what would be downloaded.
        check_hash : bool, default: True
            Compare size and hash with the registered ones.

        Returns
        -------
        list of Path or None
            In the order of `rows`; None for a dataset with neither a file nor an address.

        Raises
        ------
        WrongContent
            The downloaded file is not the registered one. The file that was there is unchanged.
        DownloadError
            A download failed. The others are finished first, and `results` has their paths.
        PathEscapes
            A path in the tables leads out of its folder.
        """
        cache = Folder(self.cache_dir if cache_dir is None else Path(cache_dir))
        repositories: dict[str, Folder | None] = {}
        offline = self.offline if offline is None else offline
        paths: list[Path | None] = []
        missing: dict[Path, tuple[DatasetRow, State | None]] = {}
        for row in rows:
            path = _find_local(row, repositories)
            if path is None:
                target = cache.path(name_with_uuid(row.path, row.id) if keep_uuid else row.path)
                before = state_of(target)  # first, so that what another process brings from now on is noticed
                path = target if is_file(target) else None
                if not offline and (clobber or path is None) and any(copy.data_url for copy in row.copies):
                    missing[target] = row, before
                    paths.append(target)
                    continue
            if path is not None and check_hash and not dry_run:
                self._warn_if_changed(path, row)
            paths.append(path)
        if dry_run:
            for path, (row, _) in missing.items():
                log.info("%s would be downloaded from %s", path, url_of(row))
            return [None] * len(paths)
        if missing:
            self._download_all(missing, paths, check_hash)
        return paths

    def fetch(self, url: str, target: Path, *, span: tuple[int, int] | None = None, whole_size: int = 0) -> None:
        """Download the file at an address, which is no registered dataset, in place of `target`.

        A `span`, first byte and number of bytes, downloads a part of a file of `whole_size` bytes (0 for any size).
        """
        expected = Expected(span[1] if span else 0)
        with Web(self._login) as web, self._progress(expected.size, 1) as on_bytes:
            source = make_source(web, url)
            Download(source, target, expected, state_of(target), span, whole_size, on_bytes=on_bytes).run()

    def _warn_if_changed(self, path: Path, row: DatasetRow) -> None:
        try:
            fault = self._checked.fault(path, Expected.of(row))
        except OSError as error:
            raise SourceError(f"{path} can't be read ({error.strerror}). May this user read it?") from None
        if fault:
            warnings.warn(
                f"{path} is not as registered: {fault}. It is used as it is; clobber=True downloads it again.",
                ALFWarning, stacklevel=3,
            )  # fmt: skip

    def _download_all(
        self, missing: dict[Path, tuple[DatasetRow, State | None]], paths: list[Path | None], check_hash: bool
    ) -> None:
        """Download in parallel; the first error is raised when all others are done."""
        stop, down = Event(), {}
        n_workers = min(WORKERS, len(missing))
        total = sum(row.size or 0 for row, _ in missing.values())
        with (
            Web(self._login, n_workers) as web,
            self._progress(total, len(missing)) as on_bytes,
            ThreadPoolExecutor(n_workers, thread_name_prefix="labweave-download") as pool,
        ):

            def fetch(url: str, path: Path, expected: Expected, before: State | None) -> None:
                if (host := urlsplit(url).netloc) in down:
                    raise down[host]
                refused = self._refused.get((url, expected))
                try:
                    source = make_source(web, url)
                    Download(source, path, expected, before, refused=refused, on_bytes=on_bytes, stop=stop).run()
                except HostUnreachable as error:
                    down[host] = error
                    raise
                except WrongContent as error:
                    self._refused[url, expected] = error
                    raise

            def fetch_any(path: Path, row: DatasetRow, before: State | None) -> None:
                expected = Expected.of(row) if check_hash else Expected()
                _first_that_works(row, lambda url: fetch(url, path, expected, before))
                self._checked.fits(path, expected)

            jobs = {path: pool.submit(fetch_any, path, row, before) for path, (row, before) in missing.items()}
            try:
                wait(jobs.values())
            except BaseException:  # Ctrl-C: keep what has arrived, begin no other
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

    @contextmanager
    def _progress(self, total: int, n_files: int) -> Iterator[Callable[[int], None]]:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console, disable=self.silent or not console.is_terminal, transient=True) as bar:
            task = bar.add_task("1 file" if n_files == 1 else f"{n_files:,} files", total=total or None)
            yield lambda n: bar.advance(task, n)


def _first_that_works(row: DatasetRow, fetch: Callable[[str], None]) -> None:
    """Fetch a dataset from the first of its copies that has it; the error is the first that is not "not there"."""
    error: DownloadError | None = None
    for copy in row.copies:
        for url in urls_of_copy(row, copy):
            try:
                return fetch(url)
            except DownloadError as found:
                if error is None or error.status in NOT_THERE:
                    error = found
                if found.status not in NOT_THERE:
                    break  # the copy's other name would fail in the same way
    assert error is not None  # there is a copy with an address
    raise error


def _find_local(row: DatasetRow, repositories: dict[str, Folder | None]) -> Path | None:
    """Return the file in a repository whose folder is on this machine; `repositories` keeps what was looked up."""
    for copy in row.copies:
        if copy.root_path not in repositories:
            root = Path(copy.root_path)
            is_here = bool(copy.root_path) and root.is_absolute() and os.path.isdir(root)  # noqa: PTH112
            repositories[copy.root_path] = Folder(root) if is_here else None
        if (folder := repositories[copy.root_path]) is not None:
            for relative in names_of_copy(row, copy):
                if is_file(path := folder.path(relative)):
                    return path
    return None

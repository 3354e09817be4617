"""Download one file: a broken download goes on where it broke off, and a file arrives as a whole or not at all.

Meanwhile two files lie beside the target: ``.NAME.HASH.part`` with the bytes that have arrived, and
``.NAME.HASH.part.json`` with a note of what file they are. The process that downloads holds a lock on the note; others
wait for it and then find the target. If a process is killed, the next one goes on with what it left. (Windows has no
such lock: there each process downloads for itself.)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from labweave.one.files.integrity import Expected, State, state_of
from labweave.one.files.sources import (
    CannotContinue,
    DownloadError,
    HostUnreachable,
    Passing,
    Source,
    Stream,
    WrongContent,
)

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Failures in a row, without `ENOUGH` bytes between them, after which a download gives up."""

ENOUGH = 1 << 20
FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 60.0
LOCK_POLL_SECONDS = 0.1


class Stopped(Exception):
    """The user has pressed Ctrl-C: all downloads end."""


@dataclass
class Download:
    """The download of one file of a source, in place of `target`, which must have the `expected` size and hash.

    `before` is the state of the target when the caller looked at it: if it has changed, another process has brought the
    file, and nothing is downloaded. A `span`, first byte and number of bytes, downloads a part of a source whose
    `whole_size` must be that (0 for any). `refused` is what was wrong the last time; it is raised again if the source
    still has the same file. `on_bytes` is called with the number of bytes that came, negative when they are thrown
    away. `stop` ends the download with `Stopped`.
    """

    source: Source
    target: Path
    expected: Expected
    before: State | None
    span: tuple[int, int] | None = None
    whole_size: int = 0
    refused: WrongContent | None = None
    on_bytes: Callable[[int], None] = lambda n: None
    stop: Event = field(default_factory=Event)

    def __post_init__(self):
        self.base, self.n_wanted = self.span or (0, None)
        self.have, self.digest = 0, self.expected.digest()
        self.mark, self.total, self.is_encoded = "", None, False
        self.n_failures, self.furthest, self.was_pieced = 0, 0, False

    def run(self) -> None:
        """Fetch the file into its place, or raise DownloadError; then the target is unchanged."""
        missing = [folder for folder in self.target.parents if not folder.exists()]
        part = _part_of(self.target)
        try:
            with locked(part, self.stop) as self.note:
                if state_of(self.target) == self.before:
                    self._fill(part)
                self.note.remove()
        except (DownloadError, Stopped):
            with suppress(OSError):  # those that are empty, the innermost first
                for folder in missing:
                    folder.rmdir()
            raise
        except OSError as error:
            raise DownloadError(
                str(self.target),
                f"it can't be written ({error.strerror or type(error).__name__})",
                "What has arrived is kept: make room, or allow writing, or choose another folder "
                "(LABWEAVE_ONE_CACHE_DIR), and ask again.",
            ) from None

    def _fill(self, part: Path) -> None:
        """Complete the part and put it in the place of the target; what a failure leaves is for the next attempt."""
        try:
            with part.open("a+b") as file:
                self._take_up(file)
                self._receive_all(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.target)
        except (DownloadError, Stopped):
            if not self.have:
                part.unlink(missing_ok=True)
                self.note.remove()
            raise

    def _receive_all(self, file) -> None:
        """Receive until everything has arrived and fits."""
        while True:
            began_with = self.have
            try:
                self._receive(file)
            except CannotContinue:
                self._again_from_the_start(file)
                self._count_failure(Passing("the file changed while it was downloaded"))
                continue
            except Passing as passing:
                file.flush()
                self._count_failure(passing)
                continue
            fault = self.expected.fault(self.have, self.digest.hexdigest() if self.digest else "")
            if not fault:
                return
            if not began_with or self.was_pieced:
                raise self._wrong(fault, file)
            self.was_pieced = True  # the pieces may be of two files: try once in one piece
            self._again_from_the_start(file)

    def _take_up(self, file) -> None:
        """Go on with what an earlier process left, if it certainly is of the same file."""
        left = self.note.read()
        same = left.get("source") == self.source.shown and left.get("span") == (list(self.span) if self.span else None)
        if not same or not (left.get("mark") or self.digest):
            self._again_from_the_start(file)
            return
        self.mark, self.total = left.get("mark", ""), left.get("total")
        file.seek(0)
        while block := file.read(1 << 20):
            self._count(block)

    def _receive(self, file) -> None:
        """Ask for what is missing and append it."""
        if self.have and (self.is_encoded or not (self.mark or self.digest)):
            self._again_from_the_start(file)
        n_wanted = self.n_wanted
        if self.have and self.have == (n_wanted or self.total):
            return
        first = self.base + self.have
        last = self.base + n_wanted - 1 if n_wanted is not None else None
        with self.source.open(first, last, self.mark if self.have else "", self.expected.size) as stream:
            self._check(stream, file)
            most = self.expected.size or self.total
            # A server without ranges sends the whole file: skip what is here, or comes before the span.
            n_over = self.base + self.have - stream.first
            for block in stream.blocks:
                if self.stop.is_set():
                    raise Stopped
                if n_over:
                    n_over, block = max(0, n_over - len(block)), block[n_over:]
                if n_wanted is not None:
                    block = block[: n_wanted - self.have]
                file.write(block)
                self._count(block)
                if n_wanted is not None and self.have == n_wanted:
                    break
                if most and self.have > most:
                    raise self._wrong(f"more than {most:,} bytes came", file)
        n_all = n_wanted if n_wanted is not None else stream.total or self.expected.size
        if self.have < n_all:
            raise Passing(f"the connection broke after {self.have:,} of {n_all:,} bytes")

    def _check(self, stream: Stream, file) -> None:
        """Compare the head of an answer with what is expected and with what is here."""
        if self.have and stream.first != self.base + self.have:
            self._again_from_the_start(file)
        # Other marks or sizes show that this is not the file whose beginning is here.
        pairs = ((self.mark, stream.mark), (self.total, stream.total))
        if self.have and any(mine and theirs and mine != theirs for mine, theirs in pairs):
            raise CannotContinue
        self.mark, self.total, self.is_encoded = stream.mark, stream.total, stream.is_encoded
        registered = self.whole_size if self.span else self.expected.size
        if stream.total is not None and registered and stream.total != registered:
            raise self._wrong(f"it has {stream.total:,} bytes, {registered:,} are registered", file)
        if self.refused is not None and self.refused.fingerprint == (stream.mark, stream.total):
            self._again_from_the_start(file)
            raise self.refused
        n_left = (self.n_wanted or stream.total or 0) - self.have
        n_free = shutil.disk_usage(self.target.parent).free
        if n_left > n_free:
            raise DownloadError(
                str(self.target), f"the disk is full: {n_left:,} bytes are missing, {n_free:,} are free", "Make room."
            )
        left = {"source": self.source.shown, "span": self.span, "mark": stream.mark, "total": stream.total}
        self.note.write({} if stream.is_encoded else left)

    def _count(self, block: bytes) -> None:
        self.have += len(block)
        if self.digest:
            self.digest.update(block)
        self.on_bytes(len(block))

    def _again_from_the_start(self, file) -> None:
        file.seek(0)
        file.truncate()
        self.on_bytes(-self.have)
        self.have, self.digest, self.mark, self.total = 0, self.expected.digest(), "", None

    def _wrong(self, fault: str, file) -> WrongContent:
        """Throw away what has arrived, and return the error that says why."""
        error = WrongContent(
            self.source.shown,
            f"what the source has is not the registered file: {fault}",
            f"Nothing was replaced at {self.target}. Was the file changed without being registered again?",
        )
        error.fingerprint = (self.mark, self.total)
        self._again_from_the_start(file)
        return error

    def _count_failure(self, passing: Passing) -> None:
        """Wait before the next attempt, or give up."""
        self.n_failures += 1
        if self.have >= self.furthest + ENOUGH:
            self.n_failures, self.furthest = 1, self.have
        if self.n_failures >= ATTEMPTS:
            kind = HostUnreachable if passing.unreachable else DownloadError
            raise kind(
                self.source.shown,
                f"{passing.found}, {ATTEMPTS} times",
                "What has arrived is kept; ask again later." if self.have else "Is the network up? Ask again later.",
            )
        wait_s = FIRST_WAIT_SECONDS * 2 ** (self.n_failures - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        wait_s = min(MAX_WAIT_SECONDS, max(wait_s, passing.wait_s))
        log.info("%s: %s; again in %.1f s", self.source.shown, passing.found, wait_s)
        if self.stop.wait(wait_s):
            raise Stopped


class Note:
    """The note in a lock file."""

    def __init__(self, path: Path, file):
        self.path, self._file = path, file

    def read(self) -> dict[str, Any]:
        """Return what the last process wrote, {} if it wrote nothing or was killed meanwhile."""
        self._file.seek(0)
        try:
            return json.loads(self._file.read().decode())
        except ValueError:
            return {}

    def write(self, values: dict[str, Any]) -> None:
        """Replace the note."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(values).encode())
        self._file.flush()

    def remove(self) -> None:
        """Remove the file. Only the holder of the lock may do it."""
        if sys.platform == "win32":
            self._file.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, stop: Event) -> Iterator[Note]:
    """Keep all other threads and processes away from `path` while the block runs.

    The lock is on ``path.json``. The kernel releases it when a process dies.
    """
    path = path.with_name(path.name + ".json")
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+b")
        except FileNotFoundError:  # a failed download has just removed the folder
            continue
        with file:
            if _lock(file, stop) and _is_at(file, path):
                yield Note(path, file)
                return


def _is_at(file, path: Path) -> bool:
    """Say whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file, stop: Event) -> bool:
    if sys.platform == "win32":
        return True
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if stop.wait(LOCK_POLL_SECONDS):
                raise Stopped from None


def _part_of(target: Path) -> Path:
    """Return the path for a file's bytes while they come; its name is short enough for every filesystem."""
    key = hashlib.sha1(target.name.encode(), usedforsecurity=False).hexdigest()[:8]
    name = target.name.encode()[:120].decode(errors="ignore")
    own = f".{os.getpid()}" if sys.platform == "win32" else ""
    return target.with_name(f".{name}.{key}{own}.part")

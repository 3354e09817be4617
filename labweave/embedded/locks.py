"""Locks on files, which the kernel takes back from a process that ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

if sys.platform != "win32":  # where EmbeddedServer says that it can't
    import fcntl


class Lock:
    """A lock on a file. It ends with `close` or with the process."""

    def __init__(self, path: Path):
        self.descriptor = open_private(path)
        _locks.add(self)

    def take(self, *, shared: bool = False, timeout_s: float = 0.0) -> bool:
        """Take it, alone or with others; False when it can't be had for all of the time."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)

    def close(self) -> None:
        """Give the lock back."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        _locks.discard(self)


_locks: set[Lock] = set()


def close_all() -> None:
    """Close the locks of this process."""
    for lock in list(_locks):
        lock.close()


def open_private(path: Path) -> int:
    """Open or make a file for its owner only; one that root makes gets the folder's owner."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


def lock_holders(path: Path) -> list[int] | None:
    """Process ids that hold a lock on a file, from /proc/locks; None where there is none."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        inode = str(path.stat().st_ino)
    except OSError:
        return None
    fields = (line.split() for line in lines)
    return sorted({int(f[4]) for f in fields if f[1] == "FLOCK" and f[5].rpartition(":")[2] == inode})

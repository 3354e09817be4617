"""What a folder and the system say of PostgreSQL's main process: its pid file, its life, its socket."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # every PostgreSQL answers it, with one letter


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says."""

    pid: int
    port: int
    socket_dir: str
    ready: bool


def read_pid_file(cluster: Path) -> PidFile | None:
    """Return what postmaster.pid says; None when there is none, or it is being written."""
    try:
        lines = os.fsdecode((cluster / "postmaster.pid").read_bytes()).split("\n")
        return PidFile(int(lines[0]), int(lines[3]), lines[4], lines[7].strip() == "ready")
    except (FileNotFoundError, IndexError, ValueError):
        return None


def is_postmaster(pid: int, cluster: Path) -> bool:
    """Whether a process is the main PostgreSQL process of a folder, not one that got its number."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[0].rpartition(b"/")[2] == b"postgres" and os.fsencode(cluster) in words
    except OSError:
        if Path("/proc/self").exists():
            return False
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, check=False).stdout
    return b"postgres" in said and os.fsencode(cluster) in said


def is_ready(cluster: Path) -> bool:
    """Whether the server accepts connections (also when all of them are taken)."""
    found = read_pid_file(cluster)
    if found is None or not found.ready:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(f"{found.socket_dir}/.s.PGSQL.{found.port}")
            probe.sendall(SSL_REQUEST)
            return probe.recv(1) != b""
        except (TimeoutError, BlockingIOError):
            return True  # busy
        except OSError:
            return False  # the pid file is of a server that was killed


def takes_sockets(folder: Path) -> bool:
    """Whether a socket with PostgreSQL's name can be made: the path is short, the disk allows it."""
    path = folder / ".s.PGSQL.probe"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            return False
    path.unlink()
    return True

"""One step of a night, in a process of its own: its time can end, and what becomes of it harms no other step.

The processes are forks of a server that has imported what a step needs, which takes a second. Each has a session of its
own, in the system's sense, so that its workers end with it, and ends in order when the night is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from labweave import connect, processes
from labweave.database.patience import patience
from labweave.errors import LabweaveError, text_of
from labweave.nightly.report import TEXT, Result
from labweave.nightly.settings import load_night
from labweave.nightly.steps import steps_of

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""How long a step may take to end in order, once its time is over."""


class JsonLines(logging.Formatter):
    """Log lines as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname,
            "name": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def run_step(name: str, *, seconds: float, log_file: Path, dry_run: bool) -> tuple[Result, bool]:
    """Run a step in a process of its own.

    Parameters
    ----------
    name : str
        One of `steps_of`.
    seconds : float
        After which it is asked to end, and killed when it does not.
    log_file : Path
        Gets its log lines.
    dry_run : bool

    Returns
    -------
    result : Result
    is_ended : bool
        It was ended because its time was over.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(name, dry_run, str(log_file), theirs))
    with processes.starting_deaf():  # Ctrl-C on a terminal is for this process, which ends the step
        process.start()
    theirs.close()
    result, is_ended = None, False
    try:
        is_ended = not wait([ours, process.sentinel], max(seconds, 0.0))
        if is_ended:
            _end(process)
        with contextlib.suppress(EOFError, ConnectionError):  # it was killed
            result = ours.recv() if ours.poll(GRACE_S if is_ended else 0) else None
    finally:
        _end(process)
        ours.close()
    if result is None and not is_ended:
        text = f"its process ended with exit code {process.exitcode}. See {log_file}"
        result = Result({}, {"process": ("failure", text)}, text)
    return result or Result(), is_ended


def _end(process: BaseProcess) -> None:
    """Have a process end in order; kill it, and its workers, when it does not."""
    assert process.pid is not None
    if process.is_alive():
        process.join(0.5)  # it has answered, and leaves
    if process.is_alive():
        process.terminate()
        process.join(GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _serve(name: str, dry_run: bool, log_file: str, pipe: Connection) -> None:
    """Do a step, and send its result."""
    os.setsid()
    told = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(told, stream.fileno())
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    threading.Thread(target=_end_with_night, daemon=True, name="labweave night").start()
    # Populate ends its workers by itself, in order.
    with contextlib.nullcontext() if name == "populate" else processes.ended_by_sigterm():
        pipe.send(_do(name, dry_run))


def _end_with_night() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _do(name: str, dry_run: bool) -> Result:
    try:
        with patience(), connect(make=not dry_run):
            return steps_of(load_night())[name](dry_run)
    except (LabweaveError, OSError) as error:
        return Result({}, {"step": ("failure", text_of(error)[:TEXT])}, text_of(error)[:2000])
    except Exception as error:
        log.exception("%s failed", name)
        text = f"{type(error).__name__}: {text_of(error)}. This is not expected: please report it, with the log."
        return Result({}, {"step": ("failure", text[:TEXT])}, text[:2000])

"""One step of a night, in a process of its own: its time can end, and what becomes of it harms no other step.

The night starts ``python -m labweave.nightly.child STEP``, keeps its standard input open, and reads the result, as
JSON, from its standard output. Log lines go to standard error, as JSON, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from labweave import processes
from labweave.errors import LabweaveError, text_of
from labweave.nightly.steps import TEXT, Result, steps_of

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
    command = [sys.executable, "-m", "labweave.nightly.child", name, *(["--dry-run"] if dry_run else [])]
    with tempfile.TemporaryFile("w+") as said, log_file.open("a") as told:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=told, start_new_session=True, text=True
        )
        try:
            is_ended = _wait(process, seconds)
        finally:
            _end(process)
            with contextlib.suppress(ProcessLookupError):  # its workers, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
        result = _read(said)
    if result is None and not is_ended:
        text = f"its process ended with exit code {process.returncode}. See {log_file}"
        result = Result({}, {"process": ("failure", text)}, text)
    return result or Result(), is_ended


def _wait(process: subprocess.Popen, seconds: float) -> bool:
    """Wait for a process and say whether its time was over."""
    try:
        process.wait(max(seconds, 0.0))
        return False
    except subprocess.TimeoutExpired:
        _end(process)
        return True


def _end(process: subprocess.Popen) -> None:
    """Have a process end in order; nothing when it has."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)


def _read(said: IO[str]) -> Result | None:
    said.seek(0)
    text = said.read()
    if not text.endswith("\n"):  # it was killed
        return None
    found: dict[str, Any] = json.loads(text)
    found["problems"] = {name: tuple(problem) for name, problem in found["problems"].items()}
    return Result(**found)


def _end_with_parent() -> None:
    """End this process in order when the night is gone: its end of our standard input is then closed."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="labweave night").start()


def _do(name: str, dry_run: bool) -> Result:
    from labweave import connect
    from labweave.nightly.settings import load_night

    try:
        with connect(make=not dry_run):
            return steps_of(load_night())[name](dry_run)
    except LabweaveError as error:
        return Result({}, {"step": ("failure", text_of(error)[:TEXT])}, text_of(error)[:2000])
    except Exception as error:
        log.exception("%s failed", name)
        text = f"{type(error).__name__}: {text_of(error)}. This is not expected: please report it, with the log."
        return Result({}, {"step": ("failure", text[:TEXT])}, text[:2000])


def main() -> None:
    """Do the step that the command line names."""
    name, dry_run = sys.argv[1], "--dry-run" in sys.argv
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    _end_with_parent()
    # Populate ends its workers by itself, in order.
    with contextlib.nullcontext() if name == "populate" else processes.ended_by_sigterm():
        result = _do(name, dry_run)
    answer.write(json.dumps(dataclasses.asdict(result), default=str) + "\n")
    answer.close()


if __name__ == "__main__":
    main()

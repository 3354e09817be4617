"""Runs the ``labweave`` command, each time in a process of its own, with the imports done once.

A server (``python commands.py [COVERAGE]``) has imported labweave and forks for each command. Its requests and answers are lines
of JSON. What the command prints is in files; its exit code, too, when it has ended.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

LIMIT_SECONDS = 300


class Commands:
    """A process that forks for each command."""

    def __init__(self):
        self._server: subprocess.Popen | None = None

    def start(self, arguments, cwd, environment) -> "Started":
        """Start ``labweave`` with arguments, in a session of its own."""
        if self._server is None:
            program = [sys.executable, __file__]
            if coverage := "coverage" in sys.modules and sys.modules["coverage"].Coverage.current():
                program.append(coverage.config.data_file)
            self._server = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        folder = tempfile.TemporaryDirectory(prefix="labweave-command-")
        request = {"arguments": arguments, "cwd": str(cwd), "environment": environment, "folder": folder.name}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Started(arguments, json.loads(self._server.stdout.readline()), folder)

    def close(self) -> None:
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()


class Started:
    """A command that was started; it has what tests use of `subprocess.Popen`."""

    def __init__(self, arguments, pid, folder):
        self.args, self.pid, self.returncode = arguments, pid, None
        self._folder = folder
        self._path = Path(folder.name)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None and (self._path / "status").exists():
            self.returncode = int((self._path / "status").read_text())
        return self.returncode

    def wait(self, timeout=LIMIT_SECONDS) -> int:
        """Wait until it has ended and return its exit code."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.003)
        return self.returncode

    def communicate(self, timeout=LIMIT_SECONDS) -> tuple[str, str]:
        """Wait until it has ended, and return what it printed."""
        self.wait(timeout)
        return self.output(), (self._path / "err").read_bytes().decode()

    def output(self) -> str:
        """Return what it has printed so far."""
        return (self._path / "out").read_bytes().decode()  # with the line ends as they are

    def send_signal(self, number) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself, just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _measure(data_file) -> None:
    """Note the lines that are run here and, as they are forks, in the commands."""
    import coverage

    coverage = coverage.Coverage(data_file, data_suffix=True, source=["labweave"], messages=False)
    atexit.register(coverage.save)
    coverage.start()


def _serve() -> None:
    import labweave

    for module in pkgutil.walk_packages(labweave.__path__, "labweave."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # of an extra
                importlib.import_module(module.name)
    gc.freeze()  # a command's collector need not look at, and so copy, what is imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies of the processes that wait
    for line in sys.stdin:
        request, (ready, say_ready) = json.loads(line), os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(ready)
            child = os.fork()
            if child == 0:
                _become(request, say_ready)
                return
            os.close(say_ready)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with contextlib.suppress(FileNotFoundError):  # nobody waits any more
                (Path(request["folder"]) / "new").write_text(str(status))
                (Path(request["folder"]) / "new").replace(Path(request["folder"]) / "status")
            os._exit(0)
        os.close(say_ready)
        print(os.read(ready, 20).decode(), flush=True)
        os.close(ready)


def _become(request, say_ready) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(os.path.join(request["folder"], name), os.O_WRONLY | os.O_CREAT), number)
    os.write(say_ready, str(os.getpid()).encode())
    os.close(say_ready)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv[1:] = request["arguments"]
    try:
        runpy.run_module("labweave", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        _leave(end.code or 0)
    _leave(0)


def _leave(code) -> None:
    """End as Python does, but take nothing apart: with all that is imported here, that is half of a short command."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:]:
        _measure(sys.argv[1])
    _serve()

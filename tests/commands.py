"""Runs the ``labweave`` command, each time in a process of its own, with the imports done once.

python commands.py      requests and answers are lines of JSON
"""

import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_SECONDS = 300


class Commands:
    """A process that forks for each command."""

    def __init__(self):
        self._server: subprocess.Popen | None = None

    def run(self, arguments, cwd, environment) -> subprocess.CompletedProcess:
        """Run ``labweave`` with arguments, as `subprocess.run` would."""
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        with tempfile.TemporaryDirectory() as folder:
            out, err = (os.path.join(folder, name) for name in ("out", "err"))
            request = {"arguments": arguments, "cwd": str(cwd), "environment": environment, "out": out, "err": err}
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            status = json.loads(self._server.stdout.readline())
            return subprocess.CompletedProcess(arguments, status, Path(out).read_text(), Path(err).read_text())

    def close(self) -> None:
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()


def _serve() -> None:
    import labweave

    for module in pkgutil.walk_packages(labweave.__path__, "labweave."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # of an extra
                importlib.import_module(module.name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
            return
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)


def _become(request) -> None:
    signal.alarm(LIMIT_SECONDS)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv[1:] = request["arguments"]
    runpy.run_module("labweave", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()

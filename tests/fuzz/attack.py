"""A process that reads mutants of one reader's files and says what came through: run by test_fuzz and ``make fuzz``.

It prints a JSON object: tries, refused, and for each failure the number of the mutant and what happened.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from time import monotonic

from readers import READERS, mutants

from labweave.errors import LabweaveError

SECONDS, MOST_BYTES = 20, 2 << 30


class Hangs(BaseException):
    """Raised by the alarm; no reader's ``except Exception`` catches it."""


def attack(name: str, n: int, seed: int) -> dict:
    """Read n mutants of a reader's file."""
    reader = READERS[name]
    failures, refused, slowest = [], 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = reader.write(Path(folder))
        content = path.read_bytes()
        reader.read(path)
        for number, mutant in enumerate(mutants(content, n, seed)):
            print(number, file=sys.stderr, flush=True)  # the last one, should the process die
            path.write_bytes(mutant)
            began = monotonic()
            signal.alarm(SECONDS)
            try:
                reader.read(path)
            except LabweaveError:
                refused += 1
            except Hangs:
                failures.append([number, f"no answer within {SECONDS} s"])
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                failures.append([number, f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:300]])
            finally:
                signal.alarm(0)
            slowest = max(slowest, monotonic() - began)
            for beside in path.parent.glob(".*"):  # what a reader may have left beside it
                shutil.rmtree(beside, ignore_errors=True) if beside.is_dir() else beside.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak > MOST_BYTES:
        failures.append([-1, f"{peak / 2**30:.1f} GiB of memory"])
    return {"tries": n, "refused": refused, "failures": failures, "peak": peak, "slowest": slowest}


def _alarm(*_) -> None:
    raise Hangs


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _alarm)
    print(json.dumps(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

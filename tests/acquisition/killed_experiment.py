"""An experiment that is killed while it runs: ``killed_experiment.py PATH`` collects 3000 rows and waits for that."""

import datetime as dt
import signal
import subprocess
import sys
import time
from collections import namedtuple

N_ROWS = 3000
Row = namedtuple("Row", "vigor n flag label")


def row(n):
    return Row(n / 3, n, n % 2 == 0, f"σ{n}" if n % 5 else None)


def run_and_kill(path):
    """Run this file, and kill it when the journal holds all rows."""
    from labweave.formats.stytra import read_journal

    journal = path.with_name(f"{path.name}.journal")
    with subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "appended\n"
            for _ in range(600):
                tables = read_journal(journal) if journal.is_file() else []
                if tables and len(tables[-1].frame) >= N_ROWS:
                    break
                time.sleep(0.1)
            else:
                raise AssertionError(f"{journal} never held {N_ROWS} rows")
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def main(path):
    from PyQt5.QtCore import QCoreApplication

    from labweave.acquisition import EstimatorLog

    class Runner:
        running = True

    class Experiment:
        t0 = None
        protocol_runner = Runner()

    application = QCoreApplication([])
    log = EstimatorLog(experiment=Experiment, name="estimator")
    log.open_journal(path)
    Experiment.t0 = dt.datetime(2024, 3, 5, 14, 7, 9, 123456)  # as in Stytra, the protocol starts later
    for n in range(N_ROWS):
        log.update_list(n / 1000, row(n))
    print("appended", flush=True)
    time.sleep(120)
    del application


if __name__ == "__main__":
    main(sys.argv[1])

"""How fast streams are collected, looked at and saved, beside Stytra's collectors in the same run; and a night's ingest.

Ratios are Stytra's time by labweave's: 1 or more for what an experiment does (collect, append_and_read, dynamic, saving),
20 for get_last_n and get_last_t. Appending alone takes 0.8 us a row where a list takes 0.3: rows become columns. The two programs take turns,
a round each, and the best round of each counts: whatever else the machine does meets both. Stytra needs older libraries
than labweave, so it has a Python of its own, which LABWEAVE_TEST_STYTRA_PYTHON names: a new environment with
``pip install numpy==1.26.4 pandas==1.5.3 pyarrow==14.0.2 PyQt5 tables lightparam==0.4.6 numba scipy flammkuchen``, then
``pip install --no-deps stytra==0.8.34 bouter==0.2.0``.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from labweave import ingest
from labweave.formats.stytra import write_log
from labweave.schemas import task

N_ROWS = [int(n) for n in os.environ.get("LABWEAVE_BENCH_LOG_ROWS", "10000 1000000").split()]
N_SESSIONS = int(os.environ.get("LABWEAVE_BENCH_SESSIONS", 200))
N_LOG_ROWS = int(os.environ.get("LABWEAVE_BENCH_ROWS", 100_000))
TASK_S = float(os.environ.get("LABWEAVE_BENCH_TASK_S", 6))  # no round of a task begins later
MOST_ROUNDS = 30
TASKS = ["collect", "append", "append_and_read", "queue", "process_queue", "dynamic"]
TASKS += ["get_last_10", "get_last_n", "get_last_t", "get_dataframe", "csv", "feather", "hdf5", "json"]
WORKER = Path(__file__).with_name("stytra_worker.py")


def measure(pythons, n_rows, folder, tasks):
    """Return task -> program -> the best wall and CPU time of some rounds, and what was counted; all programs in turn."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONWARNINGS": "ignore"}
    found = {}
    with ExitStack() as stack:
        workers = {}
        for program, python in pythons.items():
            (folder / program).mkdir()
            worker = subprocess.Popen(
                [python, str(WORKER), program, str(n_rows), str(folder / program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            workers[program] = stack.enter_context(worker)
            stack.callback(worker.kill)
            found.setdefault("memory", {})[program] = json.loads(worker.stdout.readline())
        for task in tasks:
            rounds = {program: [] for program in workers if program == "labweave" or task != "journaled"}
            start, n_rounds = time.perf_counter(), 0
            while n_rounds < 1 or (n_rounds < MOST_ROUNDS and time.perf_counter() - start < TASK_S):
                for program in sorted(rounds, reverse=n_rounds % 2):
                    print(task, file=workers[program].stdin, flush=True)
                    rounds[program].append(json.loads(workers[program].stdout.readline()))
                n_rounds += 1
            found[task] = {
                program: [min(column) for column in zip(*taken, strict=True)] for program, taken in rounds.items()
            }
    return found


@pytest.mark.parametrize("n_rows", N_ROWS)
def test_collecting_beside_stytra(n_rows, tmp_path):
    python = os.environ.get("LABWEAVE_TEST_STYTRA_PYTHON")
    if not python:
        pytest.skip("LABWEAVE_TEST_STYTRA_PYTHON does not name a Python with stytra: see the head of this file")
    found = measure({"stytra": python, "labweave": sys.executable}, n_rows, tmp_path, [*TASKS, "journaled"])
    print(f"\n{n_rows:,} rows of 20 floats: ms, CPU{'Stytra':>19}{'labweave':>10}{'ratio':>7}{'wall ratio':>12}")
    for name in TASKS:
        (wall, cpu, *_), (our_wall, our_cpu, *_) = found[name]["stytra"], found[name]["labweave"]
        print(f"  {name:<38}{1e3 * cpu:>15.3f}{1e3 * our_cpu:>10.3f}{cpu / our_cpu:>7.2f}{wall / our_wall:>12.2f}")
    print(f"  {'collect, with a journal on disk':<38}{'':>15}{1e3 * found['journaled']['labweave'][1]:>10.3f}")
    for name in ("csv", "feather", "hdf5", "json"):
        theirs, ours = (found[name][program][2] / 1e6 for program in ("stytra", "labweave"))
        print(f"  {f'MB of {name}':<38}{theirs:>15.2f}{ours:>10.2f}")
    print(f"  {'memory, bytes a row':<38}{found['memory']['stytra']:>15.0f}{found['memory']['labweave']:>10.0f}")


def test_memory_of_hours(tmp_path):
    """Two hours at 1 kHz; 168 bytes a row are the data."""
    tasks = ["get_last_n", "get_last_t"]
    found = measure({"labweave": sys.executable}, 7_200_000, tmp_path, tasks)
    microseconds = ", ".join(f"{name} {1e6 * found[name]['labweave'][1]:.0f} us" for name in tasks)
    print(f"\n7,200,000 rows of 20 floats: {found['memory']['labweave']:.0f} bytes a row; {microseconds}")


@pytest.mark.parametrize("format", ["csv", "feather", "hdf5"])
def test_a_night_of_sessions(database, server_name, tmp_path, format):
    start, rng = datetime(2024, 3, 5, 20), np.random.default_rng(0)
    columns = {f"theta_{index:02d}": rng.normal(size=N_LOG_ROWS) for index in range(9)}
    columns["t"] = np.arange(N_LOG_ROWS) / 300
    first = write_log(columns, tmp_path / "log", format)
    for number in range(N_SESSIONS):
        begin = start + timedelta(minutes=number)
        folder = tmp_path / "data" / "okr" / f"240305_f{number}"
        folder.mkdir(parents=True)
        general = {"animal": {"id": number}, "t_protocol_start": begin.isoformat(), "t_protocol_end": begin.isoformat()}
        stimuli = [{"name": "okr", "t_start": at, "t_stop": at + 1} for at in range(20)]
        metadata = {"general": general, "stimulus": {"protocol": {"okr": {}}, "log": stimuli}}
        (folder / "200000_metadata.json").write_text(json.dumps(metadata))
        (folder / f"200000_behavior_log.{format}").hardlink_to(first)
    for what in ("new", "unchanged"):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        report = ingest.run("stytra", tmp_path / "data", lab="bench")
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        assert getattr(report, what) == N_SESSIONS
        print(
            f"\n{server_name}: {N_SESSIONS} sessions, {format} logs of {N_LOG_ROWS:,} rows, {what}: "
            f"wall {wall_s:.1f} s, CPU {cpu_s:.1f} s, {1e3 * cpu_s / N_SESSIONS:.0f} ms CPU a session"
        )
    assert len(task.EventLog()) == N_SESSIONS

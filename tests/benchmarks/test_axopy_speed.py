"""How fast trials are written, read and ingested, beside AxoPy in the same run.

Writing should take at most a fifth of AxoPy's CPU time (ratio 0.2) and the same for each trial, however many there are,
though labweave waits for the disk at each trial, and AxoPy never; reading at most its time (1). AxoPy must be installed for its part: pip install axopy.
"""

import os
import shutil
import time

import numpy as np
import pytest

from labweave import ingest
from labweave.analysis import trials_frame
from labweave.formats import axopy as ours

N_TRIALS = int(os.environ.get("LABWEAVE_BENCH_TRIALS", 1000))
ROUNDS = int(os.environ.get("LABWEAVE_BENCH_ROUNDS", 3))
SIZES = [int(size) for size in os.environ.get("LABWEAVE_BENCH_SIZES", "1000,10000,50000").split(",")]
N_FRAME = int(os.environ.get("LABWEAVE_BENCH_ROWS", 100_000))


def arrays_of(rng):
    return {
        "emg": rng.normal(size=(8, 200)),
        "cursor": rng.normal(size=(100, 2)).astype("f4"),
        "eye": rng.normal(size=(2, 120)),
        "events": np.arange(20),
    }


def trials_of(design_of, n_trials):
    """Yield trials of 8 attributes and 4 arrays, made when they are needed."""
    rng = np.random.default_rng(0)
    arrays, block = arrays_of(rng), design_of().add_block()
    for n in range(n_trials):
        attrs = {
            "target": "right",
            "x": float(rng.normal()),
            "delay": n,
            "go": True,
            "rt": float(rng.normal()),
            "note": "fine",
        }
        trial = block.add_trial(attrs)
        for name, data in arrays.items():
            trial.add_array(name, data=data)
    return block


def write(storage_of, root, trials):
    shutil.rmtree(root, ignore_errors=True)
    storage = storage_of(str(root))
    storage.subject_id = "p0"
    writer = storage.create_task("t")
    for trial in trials:
        writer.write(trial)
    return root / "p0" / "t"


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip("axopy.storage"), pytest.importorskip("axopy.design")


def test_writing_and_reading_beside_axopy(peer, stopwatch, tmp_path):
    storage, design = peer
    programs = {"AxoPy": (storage, design.Design), "labweave": (ours, ours.Design)}
    reading = type(stopwatch)()
    single = type(stopwatch)()
    for _ in range(ROUNDS):
        for name, (program, design_of) in programs.items():
            trials, root = trials_of(design_of, N_TRIALS), tmp_path / name
            stopwatch(f"{name}, write", lambda p=program, r=root, t=trials: write(p.Storage, r, t))
            folder = str(root / "p0" / "t")
            reading(f"{name}, trials", lambda p=program, f=folder: p.TaskReader(f).trials)
            reading(f"{name}, iterarray", lambda p=program, f=folder: list(p.TaskReader(f).iterarray("emg")))
            path, rows = f"{folder}/emg.hdf5", np.random.default_rng(1).integers(0, N_TRIALS, 200)
            single(f"{name}, read_hdf5", lambda p=program, f=path, rs=rows: [p.read_hdf5(f, str(row)) for row in rs])
    print("\n" + stopwatch.table("1 trial, 4 arrays", N_TRIALS, "trials", "AxoPy, write"))
    print(reading.table("reading a task", N_TRIALS, "trials", "AxoPy, iterarray"))
    print(single.table("reading one array", 200, "arrays", "AxoPy, read_hdf5"))


@pytest.mark.parametrize("n_trials", SIZES)
def test_the_time_of_a_trial_does_not_grow(n_trials, tmp_path):
    storage = ours.Storage(str(tmp_path))
    storage.subject_id = "p0"
    writer, parts = storage.create_task("t"), []
    for _ in range(4):
        trials = trials_of(ours.Design, n_trials // 4)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for trial in trials:
            writer.write(trial)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        parts.append(f"{4e3 * wall_s / n_trials:.2f} ({4e3 * cpu_s / n_trials:.2f})")
    writer.close()
    print(f"\n{n_trials:,} trials, ms/trial of each quarter, wall (CPU): " + ", ".join(parts))


@pytest.mark.parametrize("n_arrays", [0, 1, 4])
def test_ingest(database, server_name, tmp_path, n_arrays):
    n_trials = 5 * N_TRIALS
    storage = ours.Storage(str(tmp_path / "root"))
    storage.subject_id = "p0"
    writer = storage.create_task("t")
    for trial in trials_of(ours.Design, n_trials):
        trial.arrays = dict(list(trial.arrays.items())[:n_arrays])
        writer.write(trial)
    writer.close()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    report = ingest.run("axopy", tmp_path / "root", lab="bench")
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    assert report.rows["task.Trial"].inserted == n_trials
    print(
        f"\n{server_name}: {n_arrays} arrays, {n_trials / wall_s:,.0f} trials/s, CPU {cpu_s:.2f} s, wall {wall_s:.2f} s"
    )


def test_trials_frame(database, server_name, tmp_path):
    folder = tmp_path / "p0" / "t"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "trials.csv").open("w") as file:
        file.write("target,x,delay,go,rt,note,block,trial\n")
        for n, x in enumerate(rng.normal(size=N_FRAME).tolist()):
            file.write(f"right,{x!r},{n},True,{-x!r},fine,{n // 50},{n % 50}\n")
    ingest.run("axopy", tmp_path, lab="bench")
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    frame = trials_frame({"task": "t"})
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    assert len(frame) == N_FRAME
    print(f"\n{server_name}: trials_frame of {N_FRAME:,} trials: wall {wall_s:.2f} s, CPU {cpu_s:.2f} s")

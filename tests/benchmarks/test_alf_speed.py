"""How fast ALF names are parsed and ALF files, objects and folders are read, beside ONE-api in the same run.

Parsing should take at most 10 us a path, and everything at most the time of ONE-api (ratio 1). ONE-api must be
installed for its part: pip install ONE-api.
"""

import os

import numpy as np
import pandas as pd
import pytest

from labweave.formats import alf
from labweave.formats.alf import names

peer = pytest.importorskip("one.alf.io", reason="ONE-api is not installed")
peer_path = pytest.importorskip("one.alf.path")

ROUNDS = int(os.environ.get("LABWEAVE_BENCH_ROUNDS", 5))
N_PATHS = int(os.environ.get("LABWEAVE_BENCH_PATHS", 100_000))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """200 sessions with 20 small files each; the first has objects of usual size."""
    root = tmp_path_factory.mktemp("server")
    rng = np.random.default_rng(0)
    for i in range(200):
        session = root / f"lab/Subjects/s{i % 20:02d}/2020-01-{1 + i // 20:02d}/001"
        for name in [f"alf/_ibl_trials.attr{k}.npy" for k in range(10)] + [
            f"raw/_ibl_x.f{k}.raw.bin" for k in range(10)
        ]:
            (session / name).parent.mkdir(parents=True, exist_ok=True)
            (session / name).touch()
    folder = root / "lab/Subjects/s00/2020-01-01/001/alf/probe00"
    folder.mkdir()
    n, n_trials = 2_000_000, 1000
    np.save(folder / "spikes.times.npy", np.sort(rng.random(n)))
    np.save(folder / "spikes.amps.npy", rng.random((n, 1)))
    for attribute in ("depths", "clusters", "templates"):
        np.save(folder / f"clusters.{attribute}.npy", rng.random(500))
    frame = pd.DataFrame({f"column{k}": rng.random(n_trials) for k in range(12)})
    frame["intervals_0"], frame["intervals_1"], frame["ok"] = rng.random(n_trials), 1.0, True
    frame.to_parquet(folder / "_ibl_trials.table.pqt")
    np.save(folder / "_ibl_trials.goCueTrigger_times.npy", rng.random(n_trials))
    np.save(folder / "_ibl_wheel.position.npy", rng.random(300_000))
    np.save(folder / "_ibl_wheel.timestamps.npy", np.array([[0, 0.0], [299_999, 300.0]]))
    frame.to_csv(folder / "licks.table.csv", index=False)
    return root


def test_parsing(stopwatch):
    paths = [
        f"/data/lab/Subjects/KS{i // 50:04d}/2020-01-01/001/alf/probe00/#2022-01-01#/_ibl_spikes.times_bpod.x{i % 50}.npy"
        for i in range(N_PATHS)
    ]
    file_names = [path.rpartition("/")[2] for path in paths]
    for _ in range(ROUNDS):
        stopwatch("labweave, paths", lambda: [names.parse_path(path) for path in paths])
        stopwatch("labweave, names", lambda: [names.parse_name(name) for name in file_names])
        stopwatch("labweave, is_valid", lambda: [names.is_valid(name) for name in file_names])
        stopwatch("labweave, path_problem", lambda: [names.path_problem(path[6:]) for path in paths])
    print("\n" + stopwatch.table("parsing", N_PATHS, "paths", "labweave, paths"))
    theirs = type(stopwatch)()
    for _ in range(3):
        theirs("ONE-api, paths", lambda: [peer_path.full_path_parts(path) for path in paths[:2000]])
        theirs("labweave, paths", lambda: [names.parse_path(path) for path in paths[:2000]])
    print(theirs.table("parsing", 2000, "paths", "ONE-api, paths"))


@pytest.mark.parametrize(
    "what, n, work",
    [
        ("load_file small npy", 200, lambda module, load, folder: load(folder / "clusters.depths.npy")),
        ("load_file 16 MB npy", 10, lambda module, load, folder: load(folder / "spikes.times.npy")),
        ("load_file csv", 20, lambda module, load, folder: load(folder / "licks.table.csv")),
        ("load_file pqt", 50, lambda module, load, folder: load(folder / "_ibl_trials.table.pqt")),
        ("load_object clusters", 50, lambda module, load, folder: module.load_object(folder, "clusters")),
        ("load_object spikes", 5, lambda module, load, folder: module.load_object(folder, "spikes")),
        ("load_object trials", 20, lambda module, load, folder: module.load_object(folder, "trials")),
        ("load_object wheel", 20, lambda module, load, folder: module.load_object(folder, "wheel")),
        ("iter_sessions", 1, lambda module, load, folder: list(module.iter_sessions(folder.parents[6]))),
        ("iter_datasets", 20, lambda module, load, folder: list(module.iter_datasets(folder.parents[1]))),
    ],
)
def test_reading(root, stopwatch, what, n, work):
    folder = root / "lab/Subjects/s00/2020-01-01/001/alf/probe00"
    sides = [("labweave", alf, alf.load_file), ("ONE-api", peer, peer.load_file_content)]

    def repeat(module, load):
        for _ in range(n):
            work(module, load, folder)

    for i in range(ROUNDS + 1):
        for name, module, load in sides if i % 2 else reversed(sides):  # who comes first finds the memory used up
            stopwatch(name, lambda: repeat(module, load))  # noqa: B023 - it is called at once
    for times in stopwatch.times.values():
        del times[0]  # imports
    print("\n" + stopwatch.table(what, n, "calls", "ONE-api"))

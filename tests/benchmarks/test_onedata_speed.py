"""How fast variables are loaded, beside numpy in the same run.

Cold, a variable should take at most 1.1 of ``numpy.load`` of its file (CPU ratio); from the cache the same few microseconds,
whatever its size; a part of a large source much less than the whole.
"""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from labweave.formats.onedata import LoadingRecipe, OneDataSession, registry

ROUNDS = int(os.environ.get("LABWEAVE_BENCH_ROUNDS", 15))
MEGABYTES = {"8 KB": 1 / 128, "8 MB": 8, "120 MB": 120}


@pytest.fixture
def one(tmp_path):
    session = OneDataSession("M1", "2024-01-02", "1", root=tmp_path)
    session.data_path.mkdir(parents=True)
    return session


def evict(path: Path) -> None:
    """Drop a file's pages, so that the next load reads the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("size", MEGABYTES)
@pytest.mark.parametrize("is_evicted", [False, True])
def test_loading_cold(one, stopwatch, size, is_evicted):
    n = int(MEGABYTES[size] * 2**20) // 8
    one.saveone(np.random.default_rng(0).normal(size=n), "x")
    path = one.one_path / "x.npy"
    repeats = 200 if n < 10_000 and not is_evicted else 1

    def repeat(load):
        for _ in range(repeats):
            if is_evicted:
                evict(path)
            load()

    for _ in range(ROUNDS):
        stopwatch("numpy.load", lambda: repeat(lambda: np.load(path)))
        stopwatch("loadone(force)", lambda: repeat(lambda: one.loadone("x", force=True)))
        stopwatch("loadone(mmap)", lambda: repeat(lambda: one.loadone("x", mmap=True)))
    where = "disk" if is_evicted else "page cache"
    print("\n" + stopwatch.table(f"{size}, {where}", repeats, "loads", "numpy.load"))


def test_loading_from_the_cache(one, stopwatch):
    n_loads = 20_000
    for size, megabytes in MEGABYTES.items():
        one.saveone(np.zeros(int(megabytes * 2**17)), size)
        one.saveone(
            sparse.random_array((1000, int(1000 * min(megabytes, 8)) + 1), density=0.01).tocsc(), size, sparse=True
        )

    def load(size, **options):
        for _ in range(n_loads):
            one.loadone(size, **options)

    for size in MEGABYTES:
        one.loadone(size, sparse=True, keep_sparse=True)
        for _ in range(3):
            stopwatch(size, lambda s=size: load(s))
            stopwatch(f"{size}, sparse", lambda s=size: load(s, sparse=True, keep_sparse=True))
    print("\n" + stopwatch.table("from the cache", n_loads, "loads", "8 KB"))


def test_a_recipe_and_a_part_of_it(one, stopwatch):
    """Three planes of 500 ROIs x 10,000 frames (60 MB), and 100 frames of them."""
    rng = np.random.default_rng(0)
    paths = []
    for plane in range(3):
        folder = one.data_path / "suite2p" / f"plane{plane}"
        folder.mkdir(parents=True)
        np.save(folder / "F.npy", rng.normal(size=(500, 10_000)).astype("f4"))
        paths.append(folder / "F.npy")
    with h5py.File(one.data_path / "F.h5", "w") as file:
        file.create_dataset("F", data=rng.normal(size=(1500, 10_000)).astype("f4"), chunks=(1500, 100))
    one.saveone(LoadingRecipe("S2P", "F", ["transpose"]), "whole")
    one.saveone(LoadingRecipe("S2P", "F", ["transpose", "index(0:100)"]), "frames")
    one.saveone(LoadingRecipe("S2P", "F", ["index(7)"]), "roi")
    one.saveone(LoadingRecipe("hdf5", "F.h5", ["transpose"], dataset="F"), "hdf5 whole")
    one.saveone(LoadingRecipe("hdf5", "F.h5", ["transpose", "index(0:100)"], dataset="F"), "hdf5 frames")
    assert one.loadone("frames").shape == (100, 1500)
    registry.loaders()
    for _ in range(ROUNDS):
        stopwatch("numpy, joined by hand", lambda: np.concatenate([np.load(path) for path in paths]).T)
        for name in ("whole", "frames", "roi", "hdf5 whole", "hdf5 frames"):
            stopwatch(name, lambda n=name: one.loadone(n, force=True))
    print("\n" + stopwatch.table("recipes, 60 MB", 1, "loads", "numpy, joined by hand"))

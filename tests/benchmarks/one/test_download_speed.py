"""How fast files come, beside ONE-api's own downloads from the same server.

The server answers as one that is 20 ms away; both programs download four files at once. One big file should come about
as fast as with ONE-api, and many small ones at least as fast, though labweave compares each with its registered hash on the way
and waits until it is on the disk. Files that are here already should cost next to nothing.
"""

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labweave.one.files.cache import Files
from labweave.one.search.rows import CopyRow, DatasetRow

FILE_SERVER = Path(__file__).resolve().parents[2] / "file_server.py"
FOLDER = "s1/2020-01-31/001/alf"
LATENCY_S = 0.02


@pytest.fixture
def serve():
    """Start a server in a process of its own and return its address."""
    processes = []

    def serve(*arguments):
        process = subprocess.Popen(
            [sys.executable, str(FILE_SERVER), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        processes.append(process)
        return process.stdout.readline().strip()

    yield serve
    for process in processes:
        process.communicate()


def seconds(function, *arguments):
    """Return how long the fastest of three calls takes."""
    times = []
    for i in range(3):
        start = time.perf_counter()
        function(*arguments, i)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize(
    ("n_files", "n_bytes", "at_least"), [(1, 200_000_000, 0.5), (400, 20_000, 1.0)], ids=["one big", "many small"]
)
def test_downloads_beside_one(serve, tmp_path, n_files, n_bytes, at_least):
    webclient = pytest.importorskip("one.webclient", reason="ONE-api is not installed: pip install ONE-api")
    url = serve(n_files, n_bytes, LATENCY_S)
    wanted = []
    for i in range(n_files):
        name, md5 = f"a.b{i}.npy", hashlib.md5(random.Random(i).randbytes(n_bytes)).hexdigest()
        copy = CopyRow("here", "server", url, "", "", f"{FOLDER}/{name}")
        wanted.append(DatasetRow(None, FOLDER, name, size=n_bytes, hash=md5, copies=(copy,)))
    urls = [f"{url}/{item.path}" for item in wanted]

    def by_labweave(i):
        Files(tmp_path / f"labweave{i}", silent=True).get(wanted)

    def by_one(i):
        webclient.http_download_file_list(urls, target_dir=tmp_path / f"one{i}", silent=True, return_md5=True)

    mine, theirs = seconds(by_labweave), seconds(by_one)
    total = n_files * n_bytes / 1e6
    print(
        f"\n{n_files} files, {total:,.0f} MB: labweave {total / mine:,.1f} MB/s, ONE-api {total / theirs:,.1f} MB/s, "
        f"{theirs / mine:.2f} times as fast"
    )
    assert theirs / mine >= at_least


def test_files_that_are_here(tmp_path):
    wanted = []
    for i in range(1000):
        path = tmp_path / FOLDER / f"a.b{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content := random.Random(i).randbytes(20_000))
        wanted.append(DatasetRow(None, FOLDER, path.name, size=20_000, hash=hashlib.md5(content).hexdigest()))
    files = Files(tmp_path)
    start = time.perf_counter()
    files.get(wanted)
    first = time.perf_counter() - start
    again = seconds(lambda i: files.get(wanted))
    print(f"\n1000 files here: {1e3 * first:.0f} ms with their hashes, {1e3 * again:.0f} ms when nothing has changed")
    assert again < first

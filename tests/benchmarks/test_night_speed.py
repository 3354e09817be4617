"""What a night costs in which nothing has changed: five sources; LABWEAVE_BENCH_FILES sets their number of files."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys

from labweave.schemas import work

N_FILES = int(os.environ.get("LABWEAVE_BENCH_FILES", "20000"))
N_SOURCES, PER_SESSION = 5, 20
LIMIT_S = 10.0
CHILD_SUBREAPER = 36

SOURCE = """
[[sources]]
name = "rig{n}"
adapter = "alf"
location = "{folder}/rig{n}"
lab = "lab{n}"
settle = "0s"
"""


def write_sources(folder):
    """Write folders of sessions, and labweave.toml."""
    text = ""
    for n in range(N_SOURCES):
        text += SOURCE.format(n=n, folder=folder)
        for session in range(N_FILES // N_SOURCES // PER_SESSION):
            place = (
                folder / f"rig{n}" / f"m{session // 100}" / f"2026-{1 + session // 28 % 12:02d}-{1 + session % 28:02d}"
            )
            place = place / f"{1 + session // 336:03d}" / "alf"
            place.mkdir(parents=True, exist_ok=True)
            for at in range(PER_SESSION):
                (place / f"spikes.attribute{at:02d}.npy").write_bytes(
                    b"%d" % (n * N_FILES + session * PER_SESSION + at)
                )
    text += f'[nightly]\nlog_dir = "{folder}/logs"\nmin_free = "1MB"\nbudget = "5h"\n'
    (folder / "labweave.toml").write_text(text)


def cpu_of_night(database, folder):
    """Return seconds of CPU of the command and of all processes that it starts."""
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)  # those that outlive their parents are ours, and counted
    settings = {"LABWEAVE_CONFIG": str(folder / "labweave.toml"), "LABWEAVE_PREFIX": database.prefix}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "labweave", "nightly", "--json"],
        env={**os.environ, **settings, "LABWEAVE_DATABASE_URL": os.environ["LABWEAVE_BENCH_URL"]},
        stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    night = json.loads(done.stdout)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, night


def test_a_night_without_news(database, database_url, server_name, tmp_path, monkeypatch):
    monkeypatch.setenv("LABWEAVE_BENCH_URL", database_url)
    write_sources(tmp_path)
    cpu_s, _ = cpu_of_night(database, tmp_path)
    print(f"\n{server_name}: first night over {N_FILES:,} files in {N_SOURCES} sources: CPU {cpu_s:.1f} s")
    cpu_s, night = cpu_of_night(database, tmp_path)
    assert [step["n_bytes"] for step in night["steps"][:N_SOURCES]] == [0] * N_SOURCES
    assert len(work.Night()) == 2
    print(f"unchanged night: CPU {cpu_s:.1f} s, {cpu_s / LIMIT_S:.2f} of the limit for 100,000 files")
    for step in night["steps"]:
        print(f"  {step['step']}: {step['seconds']:.1f} s")

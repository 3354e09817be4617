"""How fast ALF folders and ONE cache tables go in, and how much memory that takes; the file of numbers is small by default.

LABWEAVE_BENCH_SESSIONS sets the number of sessions, of 30 datasets each.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import sys
import time
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labweave import ingest

N_SESSIONS = int(os.environ.get("LABWEAVE_BENCH_SESSIONS", "500"))
PER_SESSION = 30
NAMES = [f"alf/probe0{probe}/spikes.attribute{n:02d}.npy" for probe in (0, 1) for n in range(PER_SESSION // 2)]


def folders():
    """Yield lab, subject, date and number of each session."""
    for n in range(N_SESSIONS):
        yield f"lab{n % 5}", f"m{n % 100:03d}", dt.date(2020, 1, 1) + dt.timedelta(days=n // 100), 1


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for at, (lab, subject, date, number) in enumerate(folders()):
        for n, name in enumerate(NAMES):
            path = root / lab / "Subjects" / subject / str(date) / f"{number:03d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d" % (at * PER_SESSION + n))
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)

    def ids(n):
        return [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n)]

    lab, subject, date, number = zip(*folders(), strict=True)
    sessions = pd.DataFrame({"id": ids(N_SESSIONS), "lab": lab, "subject": subject, "date": date, "number": number})
    sessions = sessions.assign(task_protocol="choiceWorld", projects="practice").sort_values("id")
    datasets = pd.DataFrame(
        {
            "eid": np.repeat(sessions["id"].to_numpy(), PER_SESSION),
            "id": ids(N_SESSIONS * PER_SESSION),
            "rel_path": NAMES * N_SESSIONS,
            "file_size": 1000,
            "hash": "0" * 32,
            "exists": True,
            "default_revision": True,
            "qc": "NOT_SET",
        }
    )
    metadata = {"one_metadata": json.dumps({"date_created": "2026-01-01", "origin": "bench"}).encode()}
    for name, frame in (("sessions", sessions), ("datasets", datasets)):
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table.replace_schema_metadata({**metadata, **table.schema.metadata}), root / f"{name}.pqt")
    return root


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.mark.parametrize(
    ("kind", "options"), [("tree", {"no_hash": True}), ("tree", {}), ("cache", {})], ids=["no_hash", "hash", "tables"]
)
def test_first_and_second_run(database, server_name, request, kind, options):
    root, before_mb = request.getfixturevalue(kind), peak_mb()
    for turn in ("first", "second"):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        report = ingest.run("alf", root, lab="bench", **options)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        n = N_SESSIONS * PER_SESSION
        print(
            f"\n{server_name}, {kind} {options}, {turn}: {n:,} datasets, {n / wall_s:,.0f}/s, wall {wall_s:.1f} s, "
            f"CPU {cpu_s:.1f} s, peak +{peak_mb() - before_mb:.0f} MB"
        )
        assert report.failed == 0
    assert report.new == report.changed == 0

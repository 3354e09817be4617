"""What it costs that results follow what they rest on.

An idle populate over 50,000 recordings and 1,000 extractions should take at most 1 s of CPU, and the row of
``provenance.Made`` at most 5 % of a make of 20 ms, which is 1 ms; on client and server together.

Neither is reached everywhere. An idle populate hashes nine texts a recording: four to find the results' rows in `Made`,
five of what they rest on. On PostgreSQL these and the joins with `Made` take about 1.4 of 2 s, the sums by key 0.1 s,
the queues 0.2 s. For the row in `Made` of an extraction, whose make takes 70 ms, the server plans the statement over
its eight inputs in 1.4 ms and hashes 100 rows of 50 sweeps in 0.8 ms.
"""

import os
import time
from statistics import median

import numpy as np
from conftest import server_cpu_s

from labweave import populate
from labweave.analysis import add_target_set
from labweave.database import upsert
from labweave.database.inputs import fingerprints
from labweave.database.made import keep_code, programs, record_made
from labweave.database.reads import table_label
from labweave.schemas import efeature, ingestion, lab, provenance, recording, rheobase, session, subject

N_CELLS = int(os.environ.get("LABWEAVE_BENCH_CELLS", 1000))
N_SWEEPS = 50
ROUNDS = int(os.environ.get("LABWEAVE_BENCH_ROUNDS", 4))
MAKES = 100
IDLE_S, MAKE_S = 1.0, 0.001
RESULTS = (recording.RecordingStimulus, efeature.RecordingEFeatures, rheobase.Rheobase, efeature.Extraction)


def fill(database):
    """Insert cells of 50 sweeps, an extraction of each, and all their results as if they were made."""
    upsert(lab.Lab, [{"lab": "bench"}])
    upsert(subject.Subject, [{"lab": "bench", "subject": "mouse", "subject_uuid": "u" * 36}])
    upsert(session.Session, [{"eid": f"{n:036d}", "lab": "bench", "subject": "mouse"} for n in range(N_CELLS)])
    upsert(ingestion.Source, [{"source": "bench", "adapter": "ephys", "location": "/nowhere", "source_lab": "bench"}])
    upsert(recording.Protocol, [{"protocol": "IDrest"}])
    cells = [{"eid": f"{n:036d}", "cell": f"cell{n:05d}"} for n in range(N_CELLS)]
    sweeps = [
        {**cell, "protocol": "IDrest", "recording": f"2026/{cell['cell']}/sweep{n:03d}.ibw"}
        for cell in cells
        for n in range(N_SWEEPS)
    ]
    file = {"source": "bench", "reader": "igor", "files": {"i": {"path": "x", "sha256": "0" * 64}}, "metadata": {}}
    stimulus = {"ecode": "IDrest", "timing": "given", "dt": 0.1, "n_samples": 9000, "ton": 100.0, "toff": 600.0}
    stimulus |= {"tend": 900.0, "hypamp": -0.1, "params": {}, "n_spikes": 1, "spike_times": np.array([200.0])}
    upsert(recording.Cell, cells)
    upsert(recording.Recording, [{**row, **file, "content_sha256": f"{n:064d}"} for n, row in enumerate(sweeps)])
    upsert(recording.RecordingStimulus, [{**row, **stimulus, "amp": 0.001 * n} for n, row in enumerate(sweeps)])
    amplitudes = (150, 200, 250)
    wanted = {"efeature": "Spikecount", "protocol": "IDrest", "tolerance": 10.0}
    add_target_set("firing", [{**wanted, "amplitude": amplitude} for amplitude in amplitudes])
    (features,) = efeature.FeatureSet().keys()
    upsert(efeature.RecordingEFeatures, [{**row, **features} for row in sweeps])
    found = {"rheobase": 0.2, "n_recordings": N_SWEEPS, "reason": ""}
    upsert(rheobase.Rheobase, [{**cell, "rheobase_method": "absolute", **found} for cell in cells])
    groups = [{"cell_group": cell["cell"]} for cell in cells]
    upsert(efeature.CellGroup, groups)
    upsert(efeature.CellGroup.Member, [{"cell_group": cell["cell"], **cell} for cell in cells])
    tasks = [{**group, "target_set": "firing", "rheobase_method": "absolute"} for group in groups]
    upsert(efeature.ExtractionTask, tasks)
    upsert(efeature.Extraction, [{**task, "currents": {}, "notes": {}, "inputs_sha256": "0" * 64} for task in tasks])
    keep_code(database.connection)
    tables = [recording.Recording, efeature.CellGroup.Member, efeature.ExtractionTask, provenance.Made, *RESULTS]
    for table in RESULTS:
        # as populate does; unanalysed, PostgreSQL would take hours
        database.connection.adapter.analyze(database.connection, [one.full_table_name for one in tables])
        made = {"made_table": table_label(table), "made_key": {}, "code": programs()[0], "result_sha256": "0" * 64}
        made |= {"made_at": "2026-01-01 00:00:00", "seconds": 0.02}
        rows = fingerprints(table())
        upsert(provenance.Made, [{"made": one, "inputs": inputs, **made} for one, inputs in rows])
    database.connection.adapter.analyze(database.connection, [one.full_table_name for one in tables])


def record(connection, table, key):
    """Record one result as made, and take it back."""
    connection.start_transaction()
    record_made(connection, {"table": table.full_table_name, "key": key}, 0.02)
    connection.cancel_transaction()


def line(what, times, limit_s):
    """Return medians of clock, client and server in ms, and the CPU of both as a share of what it may be."""
    wall_s, client_s, server_s = (median(column) for column in zip(*times, strict=True))
    cpu_s = client_s + server_s
    return (
        f"  {what:<34}{1e3 * wall_s:>10.2f}{1e3 * client_s:>12.2f}{1e3 * server_s:>12.2f}"
        f"{1e3 * limit_s:>10.0f}{cpu_s / limit_s:>8.2f}"
    )


def measured(database, work, n=1):
    """Return the time of one of `n` works: by the clock, of this process, of the server."""
    before = time.perf_counter(), time.process_time(), server_cpu_s(database)
    work()
    after = time.perf_counter(), time.process_time(), server_cpu_s(database)
    return [(end - start) / n for start, end in zip(before, after, strict=True)]


def test_idle_populate_and_the_cost_of_a_make(database, server_name):
    fill(database)
    reports = []
    idle = [measured(database, lambda: reports.append(populate.run())) for _ in range(ROUNDS)]
    assert all(report.made == report.failed == 0 for report in reports)
    head = ("wall ms", "client CPU", "server CPU", "limit", "ratio")
    n_recordings, n_extractions = len(recording.Recording()), len(efeature.Extraction())
    print(f"\n{server_name:<36}{head[0]:>10}{head[1]:>12}{head[2]:>12}{head[3]:>10}{head[4]:>8}")
    print(line(f"idle, {n_recordings:,} and {n_extractions:,}", idle, IDLE_S))
    for table in RESULTS:
        keys = table().keys(limit=MAKES)
        record(database.connection, table, keys[0])  # imports and headings

        def record_all(table=table, keys=keys):
            for key in keys:
                record(database.connection, table, key)

        makes = [measured(database, record_all, len(keys)) for _ in range(ROUNDS)]
        print(line(f"Made of {table.__name__}", makes, MAKE_S))
    assert len(provenance.Made()) == sum(len(table()) for table in RESULTS)

"""What labweave's populate adds per key to DataJoint's own, filling the queue included.

Should take at most 1.2 times as long as ``Rheobase.populate(reserve_jobs=True)``.
"""

import os

import numpy as np

from labweave import populate
from labweave.database import upsert
from labweave.schemas import ingestion, lab, recording, rheobase, session, subject

N_CELLS = int(os.environ.get("LABWEAVE_BENCH_CELLS", 1000))
ROUNDS = int(os.environ.get("LABWEAVE_BENCH_ROUNDS", 4))


def insert_cells():
    """Insert cells of one read sweep each, so that a rheobase is found from rows alone."""
    upsert(lab.Lab, [{"lab": "bench"}])
    upsert(subject.Subject, [{"lab": "bench", "subject": "mouse", "subject_uuid": "u" * 36}])
    upsert(session.Session, [{"eid": "e" * 36, "lab": "bench", "subject": "mouse"}])
    upsert(ingestion.Source, [{"source": "bench", "adapter": "ephys", "location": "/nowhere", "source_lab": "bench"}])
    upsert(recording.Protocol, [{"protocol": "IDrest"}])
    cells = [{"eid": "e" * 36, "cell": f"cell{i:05d}"} for i in range(N_CELLS)]
    sweeps = [{**cell, "protocol": "IDrest", "recording": "sweep.ibw"} for cell in cells]
    file = {"source": "bench", "reader": "igor", "files": {}, "metadata": {}, "content_sha256": "0" * 64}
    stimulus = {"ecode": "IDrest", "timing": "given", "dt": 0.1, "n_samples": 9000, "ton": 100.0, "toff": 600.0}
    stimulus |= {"tend": 900.0, "amp": 0.2, "hypamp": -0.1, "params": {}}
    stimulus |= {"n_spikes": 1, "spike_times": np.array([200.0])}
    upsert(recording.Cell, cells)
    upsert(recording.Recording, [{**sweep, **file} for sweep in sweeps])
    upsert(recording.RecordingStimulus, [{**sweep, **stimulus} for sweep in sweeps])


def test_populate_of_cheap_keys(database, stopwatch, server_name):
    insert_cells()
    table = rheobase.Rheobase
    table.jobs.refresh()  # declares the queue and imports what the first make imports
    steps = [
        ("DataJoint populate", lambda: table.populate(reserve_jobs=True)),
        ("labweave.populate.run", lambda: populate.run(["Rheobase"])),
    ]
    for n in range(ROUNDS):
        for name, work in reversed(steps) if n % 2 else steps:
            table().delete_quick()
            table.jobs.delete()
            stopwatch(name, work)
            assert len(table()) == N_CELLS
    print("\n" + stopwatch.table(server_name, N_CELLS, "keys", "DataJoint populate"))

"""A worker of a sync that writes its share of the datasets of a recorded Alyx, from memory instead of a server.

``alyx_worker.py RECORDINGS COPIES URL PREFIX RUN SOURCE INDEX OF`` says ``ready``, waits for a line and then writes.
"""

import gc
import sys
import uuid
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from alyx_recordings import load_recordings, multiplied

import labweave
from labweave.ingest.alyx.pages import write
from labweave.ingest.alyx.plan import ROWS_PER_PART
from labweave.ingest.alyx.pull import Pulled, span


def parts_of(recordings, copies):
    """Return the records of all datasets, several times, in the parts of a first sync."""
    rows = multiplied(recordings, copies).rows("datasets")
    records = sorted((row.shown for row in rows), key=lambda record: record["url"])
    return [records[start : start + ROWS_PER_PART] for start in range(0, len(records), ROWS_PER_PART)]


def write_part(connection, run, source, part):
    """Write one part as a sync does, in one transaction."""
    first, last = (int(uuid.UUID(record["url"][-36:])) for record in (part[0], part[-1]))
    scope, pulled = {"complete": True, "range": span(first, last + 1)}, Pulled([dict(record) for record in part])
    connection.run_transaction(lambda: write(connection, run, source, "datasets", scope, pulled))


if __name__ == "__main__":
    folder, copies, url, prefix, run, source, index, of = sys.argv[1:]
    database = labweave.connect(url, prefix=prefix)
    parts = parts_of(load_recordings(Path(folder)), int(copies))
    gc.freeze()  # a sync holds one part, not all of them
    print("ready", flush=True)
    sys.stdin.readline()
    for part in parts[int(index) :: int(of)]:
        write_part(database.connection, run, source, part)

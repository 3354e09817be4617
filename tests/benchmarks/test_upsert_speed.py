"""How fast `upsert` is, beside the raw driver's multi-row insert of the same rows.

New rows should take at most twice the time of the raw insert (ratio 2), equal rows less (1).
"""

import datetime as dt
import json
import os
import random
import uuid

import datajoint as dj
import psycopg2
import psycopg2.extras
import pymysql
import pytest

from labweave.database import UpsertCounts, upsert
from labweave.schemas import lab, session, subject

N_ROWS = int(os.environ.get("LABWEAVE_BENCH_ROWS", 100_000))
ROUNDS = int(os.environ.get("LABWEAVE_BENCH_ROUNDS", 3))
N_SESSIONS = 100

DEFINITION = """
# one file of a session
dataset_uuid        : char(36)
---
-> session.Session
collection          : varchar(255)
name                : varchar(255)
revision=''         : varchar(64)
hash                : varchar(64)
file_size           : int64             # bytes
duration=null       : float64           # s
created             : datetime(6)
json=null           : json
index (name)
"""


class ByUpsert(dj.Manual):
    definition = DEFINITION


class ByDriver(dj.Manual):
    definition = DEFINITION


def make_rows():
    """Return rows like those of a dataset table, the same in every run."""
    rng = random.Random(0)

    def new_uuid():
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    eids = [new_uuid() for _ in range(N_SESSIONS)]
    names = ["spikes.times.npy", "spikes.clusters.npy", "_ibl_trials.table.pqt", "_iblrig_leftCamera.raw.mp4"]
    rows = [
        {
            "dataset_uuid": new_uuid(),
            "eid": rng.choice(eids),
            "collection": f"alf/probe{i % 3:02d}/pykilosort",
            "name": rng.choice(names),
            "revision": "2024-05-06" if i % 4 else "",
            "hash": f"{rng.getrandbits(160):040x}",
            "file_size": rng.randrange(10**10),
            "duration": rng.random() * 5000 if i % 10 else None,
            "created": dt.datetime(2024, 1, 1) + dt.timedelta(microseconds=rng.randrange(10**14)),
            "json": {"qc": "PASS", "exists": True, "shape": [i, 3]} if i % 2 else None,
        }
        for i in range(N_ROWS)
    ]
    return eids, rows


@pytest.fixture
def tables(database):
    """Two empty tables of the same definition, and the sessions that their rows name."""
    eids, rows = make_rows()
    upsert(lab.Lab, [{"lab": "bench"}])
    upsert(subject.Subject, [{"lab": "bench", "subject": "mouse", "subject_uuid": "u" * 36}])
    upsert(session.Session, [{"eid": eid, "lab": "bench", "subject": "mouse"} for eid in eids])
    schema = dj.Schema(f"{database.prefix}bench", context={"session": session}, connection=database.connection)
    yield schema(ByUpsert), schema(ByDriver), rows
    schema.drop(prompt=False)


def insert_by_driver(connection, table, rows):
    """Insert by psycopg2's or pymysql's best multi-row insert, a transaction per 10,000 rows."""
    names = list(rows[0])
    quoted = ", ".join(map(connection.adapter.quote_identifier, names))
    info = connection.conn_info
    login = {name: info[name] for name in ("host", "port", "user")} | {"password": info["passwd"]}
    if connection.adapter.backend == "postgresql":
        raw = psycopg2.connect(**login, dbname=info["database_name"])
        sql = f"insert into {table.full_table_name} ({quoted}) values %s"
    else:
        raw = pymysql.connect(**login, charset="utf8mb4")
        sql = f"insert into {table.full_table_name} ({quoted}) values ({', '.join(['%s'] * len(names))})"
    cursor = raw.cursor()
    if connection.adapter.backend == "mysql":
        cursor.max_stmt_length = 4 * 2**20  # PyMySQL's 1 MB would cut a batch into several statements
    for start in range(0, len(rows), 10_000):
        batch = [
            tuple(json.dumps(value) if type(value) is dict else value for value in row.values())
            for row in rows[start : start + 10_000]
        ]
        if connection.adapter.backend == "postgresql":
            psycopg2.extras.execute_values(cursor, sql, batch, page_size=5000)
        else:
            cursor.executemany(sql, batch)
        raw.commit()
    raw.close()


def test_upsert_of_new_equal_and_changed_rows(database, tables, stopwatch, server_name):
    by_upsert, by_driver, rows = tables
    changed = [{**row, "file_size": row["file_size"] + 1} if i % 100 == 0 else row for i, row in enumerate(rows)]
    counts = []
    for n in range(ROUNDS):
        for table in (by_upsert, by_driver):
            table().delete_quick()
        steps = [
            ("raw insert", lambda: insert_by_driver(database.connection, by_driver, rows)),
            ("upsert, new rows", lambda: counts.append(upsert(by_upsert, rows))),
        ]
        for name, work in reversed(steps) if n % 2 else steps:
            stopwatch(name, work)
        stopwatch("upsert, equal rows", lambda: counts.append(upsert(by_upsert, rows)))
        stopwatch("upsert, 1% changed", lambda: counts.append(upsert(by_upsert, changed)))
    n_changed = len(range(0, N_ROWS, 100))
    assert counts == ROUNDS * [
        UpsertCounts(N_ROWS, 0, 0),
        UpsertCounts(0, 0, N_ROWS),
        UpsertCounts(0, n_changed, N_ROWS - n_changed),
    ]
    print("\n" + stopwatch.table(server_name, N_ROWS, "rows", "raw insert"))

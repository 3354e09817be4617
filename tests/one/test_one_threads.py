"""ONE in threads and process pools: every call gets its own answer."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from random import Random
from uuid import UUID

from many_threads import N_THREADS, in_threads
from one_lab import SESSIONS

import labweave
import labweave.one
from labweave.database import current, upsert
from labweave.one.api import One
from labweave.schemas import lab
from labweave.schemas.session import Session

N_CALLS = int(os.environ.get("LABWEAVE_TEST_CALLS", "640"))


class Undone(Exception):
    """Ends a transaction."""


def test_mixed_calls_of_many_threads_give_each_its_own_answer(one_lab, tmp_path):
    database, one, legacy = current(), One(tmp_path, silent=True), labweave.one.ONE(silent=True)
    upsert(lab.Lab, [{"lab": f"thread{n}", "address": "0"} for n in range(N_THREADS)])
    sessions = {row["eid"]: row for row in Session().to_dicts()}
    own = lab.Lab.full_table_name
    expected = {
        "search": {
            name: {UUID(eid) for eid, row in sessions.items() if name in row["subject"]}
            for name in set(SESSIONS.subject)
        },
        "datasets": {eid: one.list_datasets(eid) for eid in sessions},
        "types": {eid: legacy.list(eid, "dataset_type") for eid in sessions},
    }
    assert sum(map(len, expected["datasets"].values())) > 70

    def call(number, random, n_written):
        eid = random.choice(list(sessions))
        name = sessions[eid]["subject"]
        kind = random.randrange(8)
        if kind == 0:
            assert set(one.search(subject=name)) == expected["search"][name]
        elif kind == 1:
            assert one.list_datasets(eid) == expected["datasets"][eid]
        elif kind == 2:
            assert legacy.list(eid, "dataset_type") == expected["types"][eid]
        elif kind == 3:
            assert (
                database.query("select subject from {prefix}session.session where eid = %s", [eid]).subject[0] == name
            )
        elif kind == 4:
            assert (Session & {"eid": eid}).fetch1("subject") == name
        elif kind == 5:
            assert one.alyx.rest("sessions", "read", id=eid)["subject"] == name
        elif kind == 6:
            with suppress(Undone), database.connection.transaction:
                database.connection.query(f"update {own} set address = 'lost' where lab = %s", (f"thread{number}",))
                raise Undone
        else:
            upsert(lab.Lab, [{"lab": f"thread{number}", "address": str(n_written + 1)}])
            assert (lab.Lab & {"lab": f"thread{number}"}).fetch1("address") == str(n_written + 1)
            return n_written + 1
        return n_written

    def work(number):
        random, n_written = Random(number), 0
        for _ in range(N_CALLS // N_THREADS):
            n_written = call(number, random, n_written)
        return n_written

    written = in_threads(work)
    assert [(lab.Lab & {"lab": f"thread{n}"}).fetch1("address") for n in range(N_THREADS)] == list(map(str, written))


def test_a_database_and_one_work_in_a_process_pool(one_lab, tmp_path):
    database = current()
    for kind in ["spawn", "fork"] if hasattr(os, "fork") else ["spawn"]:
        one, legacy = One(tmp_path, mode="local", wildcards=False), labweave.one.ONE(silent=True)
        assert one.alyx and one._cache and legacy.alyx  # what is made of the settings is not in the way
        one.wildcards = True
        with ProcessPoolExecutor(2, multiprocessing.get_context(kind)) as pool:
            [frame] = pool.map(database.query, ["select count(*) as n from {prefix}session.session"])
            assert frame.n.tolist() == [len(Session())]
            assert set(pool.submit(one.search, subject="KS005").result()) == set(one.search(subject="KS005"))
            assert pool.submit(legacy.search, subject="KS005").result() == legacy.search(subject="KS005")
        again = pickle.loads(pickle.dumps(one))
        assert (again.cache_dir, again.mode, again.wildcards) == (tmp_path, "local", True)

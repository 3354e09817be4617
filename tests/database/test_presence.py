"""`Dataset.is_present` follows the copies, whoever writes them; the search for sessions by datasets rests on it."""

import threading

import older_lab
import pandas as pd
import pytest

from labweave.database import connect, migrations, upsert
from labweave.database.connection import LabConnection
from labweave.schemas import dataset, ingestion

D1, D2 = ("d1" * 18, "d2" * 18)
A, B = ("aa" * 18, "bb" * 18)
RUN = "e" * 36


def copy(file_record_id, dataset_id, **values):
    row = {"repository": "r", "relative_path": "a/b.npy", "present": True}
    return {"file_record_id": file_record_id, "dataset_id": dataset_id, **row, **values}


def present():
    return [row["dataset_id"] for row in dataset.Dataset().to_dicts(order_by="dataset_id") if row["is_present"]]


@pytest.fixture
def two(database):
    upsert(dataset.Repository, [{"repository": "r", "repository_kind": "server"}])
    upsert(dataset.Dataset, [{"dataset_id": each, "dataset_name": "a.b.npy"} for each in (D1, D2)])
    return database


def test_upserts_of_copies(two):
    """A copy that appears, is lost, vanishes, comes back and turns out to be of another dataset; and a second one."""
    steps = [
        ([copy(A, D1, present=False)], []),
        ([copy(A, D1)], [D1]),
        ([{"file_record_id": A, "file_vanished": RUN}], []),
        ([{"file_record_id": A, "file_vanished": None}], [D1]),
        ([{"file_record_id": A, "dataset_id": D2}], [D2]),
        ([copy(A, D1), copy(B, D1)], [D1]),
        ([{"file_record_id": A, "present": False}], [D1]),
        ([{"file_record_id": B, "present": False}], []),
        ([copy(A, D1), copy(B, D2)], [D1, D2]),
    ]
    for rows, expected in steps:
        upsert(dataset.FileRecord, rows)
        assert present() == expected, rows
    assert set(ingestion.Change().to_arrays("table_name")) == {"dataset.FileRecord"}


def test_it_is_not_set_by_an_upsert_of_datasets(two):
    upsert(dataset.FileRecord, [copy(A, D1)])
    counts = upsert(dataset.Dataset, [{"dataset_id": D1, "is_present": False}, {"dataset_id": D2, "is_present": True}])
    assert (present(), counts.unchanged) == ([D1], 2)


def test_datajoints_own_methods(two):
    dataset.FileRecord.insert([copy(A, D1)])
    dataset.FileRecord.insert1(copy(B, D2))
    assert present() == [D1, D2]
    dataset.FileRecord.update1({"file_record_id": A, "present": False})
    assert present() == [D2]
    dataset.FileRecord.update1({"file_record_id": B, "dataset_id": D1})
    assert present() == [D1]
    (dataset.FileRecord & {"file_record_id": B}).delete(prompt=False)
    assert present() == []
    dataset.FileRecord.insert(pd.DataFrame([copy(B, D2)]))
    assert present() == [D2]
    (dataset.FileRecord & {"file_record_id": B}).delete_quick()
    assert present() == []
    dataset.FileRecord.insert([copy(B, D2)])
    dataset.Repository().delete(prompt=False)
    assert present() == []


def test_plain_sql_is_made_good(two):
    upsert(dataset.FileRecord, [copy(A, D1)])
    two.connection.query(f"update {dataset.FileRecord.full_table_name} set dataset_id = %s", (D2,))
    assert dataset.Dataset.update_presence() == 2
    assert (present(), dataset.Dataset.update_presence()) == ([D2], 0)


def test_two_that_write_copies_of_one_dataset_at_once(two):
    """One takes the only copy away, and before it is done another brings one."""
    upsert(dataset.FileRecord, [copy(A, D1)])
    other = LabConnection(two._source, two.prefix)
    table = dataset.FileRecord.full_table_name

    def bring():
        values = (B, D1, "r", "x", True)
        insert = f"insert into {table} (file_record_id, dataset_id, repository, relative_path, present)"

        def work():
            other.query(f"{insert} values (%s, %s, %s, %s, %s)", values)
            other.update_derived(dataset.FileRecord, [D1])

        other.run_transaction(work)

    thread = threading.Thread(target=bring)

    def take():
        upsert(dataset.FileRecord, [{"file_record_id": A, "present": False}])
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()

    two.connection.run_transaction(take)
    thread.join(30)
    other.close()
    assert present() == [D1]


def test_an_older_database_is_upgraded(database_url, new_lab):
    """Made as version 1 had it, also with the indexes that Session got without a migration."""
    with connect(database_url, prefix=new_lab()) as database:
        upsert(dataset.Repository, [{"repository": "r", "repository_kind": "server"}])
        upsert(dataset.Dataset, [{"dataset_id": each, "dataset_name": "a.b.npy"} for each in (D1, D2)])
        upsert(dataset.FileRecord, [copy(A, D1), copy(B, D2, file_vanished=RUN)])
        upsert(dataset.FileRecord, [{"file_record_id": A, "relative_path": "b.npy"}])
        row_sha256 = ingestion.Change().fetch1("row_sha256")
        fresh = older_lab.indexes(database)
        older_lab.make_older(database)
        assert [step.version for step in database.upgrade()] == [step.version for step in migrations.MIGRATIONS]
        assert ingestion.Change().fetch1("change_kind", "changed_by", "row_sha256") == ("updated", "", row_sha256)
        assert database.check() == []
        assert older_lab.indexes(database) == fresh
        assert present() == [D1]
        upsert(dataset.Dataset, [{"dataset_id": RUN, "dataset_name": "a.c.npy"}])
        assert present() == [D1]
        for migration in migrations.MIGRATIONS:  # once more, as after it was killed
            migration.apply(database.connection)
        assert present() == [D1] and database.upgrade() == []

"""An upgrade that is killed, at whatever statement, ends whole with the next call."""

import older_lab
import pytest
from killing import is_killed_at
from simulated import contents, differences

from labweave.database import backup, connect, declare, upsert
from labweave.database.migrations import MIGRATIONS, Migration, add_column, replace_index
from labweave.database.url import parse_url
from labweave.schemas import dataset, lab, session, subject

pytestmark = pytest.mark.slow

N_ROWS = 2000


def _by_length(connection):
    """Rename a table and an attribute, add a column with data, and change an index, each step fit to be repeated."""
    schema = f"{connection.prefix}dataset"
    columns = declare.existing_columns(connection)
    if (schema, "old_tag") in columns:
        connection.query(f"alter table {schema}.old_tag rename to {_new_name(connection)}")
    if "old_name" in declare.existing_columns(connection)[schema, "new_tag"]:
        connection.query(f"alter table {schema}.new_tag rename column old_name to new_name")
    add_column(connection, "dataset.dataset", "name_length", sql_type="int", original_type="int32", comment="letters")
    named = f"from {schema}.dataset where name_length is null"
    while rows := connection.query(f"select dataset_id {named} order by dataset_id limit 500").fetchall():
        connection.query(
            f"update {schema}.dataset set name_length = char_length(dataset_name)"
            " where name_length is null and dataset_id <= %s", (rows[-1][0],),
        )  # fmt: skip
    replace_index(connection, "dataset.dataset", "name_length, eid")


def _new_name(connection):
    return "new_tag" if connection.adapter.backend == "postgresql" else f"{connection.prefix}dataset.new_tag"


def _both(connection):
    _by_length(connection)
    MIGRATIONS[0].apply(connection)


STEPS = (Migration(MIGRATIONS[0].version, "datasets by the length of their names, too", _both), *MIGRATIONS[1:])


def fill():
    upsert(lab.Lab, [{"lab": "l"}])
    upsert(subject.Subject, [{"lab": "l", "subject": "s", "subject_uuid": "1" * 36}])
    upsert(session.Session, [{"eid": f"{n:036}", "lab": "l", "subject": "s"} for n in range(50)])
    upsert(dataset.Repository, [{"repository": "r", "repository_kind": "server"}])
    upsert(dataset.Dataset, [{"dataset_id": f"{n:036}", "dataset_name": f"a.{n}.npy"} for n in range(N_ROWS)])
    ids = [{"file_record_id": f"{n:036}", "dataset_id": f"{n:036}"} for n in range(N_ROWS)]
    upsert(dataset.FileRecord, [{**one, "repository": "r", "relative_path": "a", "present": True} for one in ids])
    upsert(dataset.FileRecord, [{**one, "relative_path": "b"} for one in ids[: N_ROWS * 3 // 4]])  # kept as changes


def state(database):
    """Every row but the time of the upgrade, and every column and index."""
    rows = contents(database)
    rows["meta.version"] = [[pair for pair in row if pair[0] != "changed"] for row in rows["meta.version"]]
    connection, tables = database.connection, declare.existing_columns(database.connection)
    return rows, tables, {place: set(connection.adapter.indexes(connection, *place)) for place in tables}


@pytest.mark.parametrize("moments", [range(7, 10_000, 67)])  # 1, 10_000, 1 tries all of them, in an hour
def test_an_upgrade_killed_at_any_step_ends_whole(database_url, new_lab, tmp_path, moments):
    prefix, path = new_lab(), tmp_path / "older"

    def upgrade():
        with connect(database_url, prefix=prefix, upgrade=True) as database:
            database.upgrade(STEPS)

    with connect(database_url, prefix=prefix) as database:
        fill()
        older_lab.make_older(database)
        query, schema = database.connection.query, f"{prefix}dataset"
        query(f"create table {schema}.old_tag (id int primary key, old_name varchar(20))")
        query(f"insert into {schema}.old_tag values (1, 'one'), (2, 'two')")
        database.backup(path)
        database.upgrade(STEPS)
        rows, *shape = state(database)
    for n in moments:
        backup.restore(parse_url(database_url), path, prefix=prefix, replace=True)
        if not is_killed_at(n, upgrade):
            break
        upgrade()
        with connect(database_url, prefix=prefix, upgrade=True) as database:
            found, *shape_then = state(database)
        assert differences(rows, found) == {} and shape_then == shape, n
    assert n > moments[2]

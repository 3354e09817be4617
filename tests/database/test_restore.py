"""A lab that is restored: under another prefix, in place of another, while others read it."""

import re

import pytest
from conftest import drop_schemas
from simulated import contents, differences

from labweave.database import connect, declare, restore, upsert, verify_backup
from labweave.database.locks import ServerLock
from labweave.errors import SchemaError
from labweave.populate import run
from labweave.schemas import lab, rheobase, session, subject

pytestmark = pytest.mark.slow

EID = "e" * 36


@pytest.fixture
def smith(database_url, new_lab, tmp_path):
    """A lab, and a backup of it."""
    prefix = new_lab()
    with connect(database_url, prefix=prefix) as database:
        upsert(lab.Lab, [{"lab": "smith"}])
        upsert(subject.Subject, [{"lab": "smith", "subject": "M1", "subject_uuid": "1" * 36}])
        upsert(session.Session, [{"eid": EID, "lab": "smith", "subject": "M1"}])
        database.backup(tmp_path / "smith.backup")
    return prefix, tmp_path / "smith.backup"


def named_otherwise(found, old, new):
    """What `contents` says, with another prefix wherever a value begins with the name of a schema."""
    return {
        table: sorted(
            tuple((name, re.sub(f"^{old}(?=[a-z]+(\\.|$))", new, value)) for name, value in row) for row in rows
        )
        for table, rows in found.items()
    }


def test_a_lab_restored_under_another_prefix_is_whole_and_the_first_is_untouched(database_url, smith, new_prefix):
    (old, path), new, told = smith, new_prefix(), []
    before = contents((database_url, old))
    restore(path, database_url, prefix=new, tell=told.append)
    assert told == [f"backup of {old}, restored as {new}"]
    assert differences(before, contents((database_url, old))) == {}
    assert differences(named_otherwise(before, old, new), contents((database_url, new))) == {}
    drop_schemas(database_url, old)  # nothing of the restored one hangs on the first
    with connect(database_url, prefix=new) as database:
        assert database.check() == [] and database.upgrade() == [] and database.declare() == 0
        assert (session.Session * subject.Subject & {"lab": "smith"}).fetch1("eid") == EID
        assert rheobase.Rheobase().heading["eid"].lineage == f"{new}session.session.eid"
        upsert(subject.Subject, [{"lab": "smith", "subject": "M2", "subject_uuid": "2" * 36}])
        with pytest.raises(Exception, match=r"(?i)foreign key"):
            database.connection.query(f"update {session.Session.full_table_name} set subject = 'nobody'")
        assert run().failed == 0


def test_a_lab_is_replaced_only_when_told_and_with_all_its_tables(database_url, smith, new_lab):
    (old, path), new, told = smith, new_lab(), []
    with connect(database_url, prefix=new) as database:
        upsert(lab.Lab, [{"lab": "jones"}, {"lab": "miller"}])
        table = declare.Register(database.connection)
        database.connection.query(f"create table {table.schema}.later (id int)")
    before = contents((database_url, new))
    with pytest.raises(SchemaError, match=rf"{new}lab\.lab \(2 rows\).*nothing was restored.*--replace"):
        restore(path, database_url, prefix=new)
    assert differences(before, contents((database_url, new))) == {}
    restore(path, database_url, prefix=new, replace=True, tell=told.append)
    assert f"{new}lab.lab (2 rows)" in told[0]
    expected = named_otherwise(contents((database_url, old)), old, new)
    assert differences(expected, contents((database_url, new))) == {}


def test_verification_leaves_nothing_and_needs_no_lab(database_url, smith, new_prefix):
    (old, path), other = smith, new_prefix()
    before = contents((database_url, old))
    assert verify_backup(path, database_url, prefix=other) == []
    assert contents((database_url, other)) == {}
    assert verify_backup(path, database_url, prefix=old) == []
    assert differences(before, contents((database_url, old))) == {}


def test_what_a_restore_left_is_named_by_the_check_and_goes_with_the_next(database_url, smith):
    (old, path), told = smith, []
    with connect(database_url, prefix=old) as database:
        for end in ("_restoring", "_replaced"):
            database.connection.query(f"create schema {old}lab{end}")
        assert {drift.table for drift in database.check()} == {f"{old}lab_restoring", f"{old}lab_replaced"}
        with ServerLock(database.connection, "restore") as going_on:
            assert going_on.acquire() and database.check() == []
    restore(path, database_url, prefix=old, replace=True, tell=told.append)
    assert f"{old}lab_replaced, {old}lab_restoring" in told[0]
    with connect(database_url, prefix=old) as database:
        assert database.check() == []

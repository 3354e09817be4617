"""Declaring: by several at once, repaired when half done, checked, and upgraded."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import datajoint as dj
import pytest

import labweave
from labweave.database import connect, declare, upsert
from labweave.database.migrations import SCHEMA_VERSION, Migration, add_column
from labweave.errors import SchemaError, VersionError
from labweave.schemas import lab, rheobase, session, subject

pytestmark = pytest.mark.slow


def _connect(url, prefix):
    with labweave.connect(url, prefix=prefix) as database:
        return len(session.QC()), len(database.check())


def test_four_processes_declare_one_new_database(database_url, new_prefix):
    prefix = new_prefix()
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_connect, [database_url] * 4, [prefix] * 4)) == [(5, 0)] * 4


def test_two_prefixes_are_two_labs(database_url, new_lab):
    first, second = new_lab(), new_lab()
    with connect(database_url, prefix=first):
        upsert(lab.Lab, [{"lab": "one"}])
    with connect(database_url, prefix=second):
        assert len(lab.Lab()) == 0
    with connect(database_url, prefix=first):
        assert len(lab.Lab()) == 1


def test_declaring_again_changes_nothing(database):
    upsert(lab.Lab, [{"lab": "a"}])
    assert database.declare() == 0
    assert len(lab.Lab()) == 1


def test_every_table_is_declared_with_its_columns_and_types(database):
    assert database.check() == []
    for module in declare.schema_modules():
        for cls in declare.table_classes(module):
            assert cls().is_declared
            assert declare._own_attributes(cls) <= set(cls().heading.names)
    assert rheobase.Rheobase().heading["eid"].lineage == session.Session().heading["eid"].lineage


def test_foreign_keys_keep_their_types(database):
    heading = subject.Subject().heading
    assert (heading["lab"].original_type or heading["lab"].type).startswith(("varchar(64)", "character varying(64)"))


def test_keys_are_short_enough_for_every_backend(database):
    import re

    for module in declare.schema_modules():
        for cls in declare.table_classes(module):
            assert len(cls.table_name) <= 40, cls
            widths = 0
            for name in cls.primary_key:
                found = re.search(r"char(?:acter varying)?\((\d+)", cls().heading[name].type)
                widths += int(found[1]) if found else 0
            assert widths <= 768, cls
            assert all(len(name) <= 30 for name in cls().heading.names), cls


def test_a_table_joins_with_everything_it_depends_on(database):
    for module in declare.schema_modules():
        for cls in declare.table_classes(module):
            database.connection.dependencies.load()
            for ancestor in cls().ancestors(as_objects=True):
                renamed = ancestor.heading.primary_key != [
                    n for n in ancestor.heading.primary_key if n in cls().heading.names
                ]
                if ancestor.full_table_name != cls.full_table_name and not renamed:
                    assert len(cls() * ancestor) == 0 or len(cls()) > 0


def test_every_attribute_has_a_comment(database):
    for module in declare.schema_modules():
        for cls in declare.table_classes(module):
            for line in str(cls.definition).splitlines():
                if ":" in line.partition("#")[0]:
                    assert line.partition("#")[2].strip(), f"{cls.__name__}: {line.strip()}"


def test_a_half_declared_table_is_repaired(database_url, new_lab):
    prefix = new_lab()
    with connect(database_url, prefix=prefix) as database:
        register = declare.Register(database.connection)
        name = f"{prefix}session"
        session.SessionNote().drop_quick()
        database.connection.query(f"create table {session.SessionNote.full_table_name} (eid int)")
        database.connection.query(f"delete from {register._declared} where table_name = %s", ("session_note",))
        assert [(d.table, d.problem) for d in database.check()] == [
            (f"{name}.session_note", "its declaration was not finished")
        ]
        assert database.declare() == 1
        assert database.check() == []
        assert "note_text" in session.SessionNote().heading.names


def test_a_half_declared_table_with_rows_is_not_dropped(database_url, new_lab):
    prefix = new_lab()
    with connect(database_url, prefix=prefix) as database:
        upsert(lab.Lab, [{"lab": "precious"}])
        register = declare.Register(database.connection)
        database.connection.query(f"delete from {register._declared} where table_name = %s", ("lab",))
        with pytest.raises(SchemaError, match="holds 1 rows but was never declared whole"):
            database.declare()
        assert lab.Lab().to_arrays("lab").tolist() == ["precious"]


def test_a_failed_declaration_leaves_no_half_table(database_url, new_prefix, monkeypatch):
    prefix = new_prefix()
    monkeypatch.setattr(session.Channel, "definition", session.Channel.definition + "\n    index (nope)\n")
    with pytest.raises(Exception, match="(?i)nope"):
        connect(database_url, prefix=prefix)
    monkeypatch.undo()
    with connect(database_url, prefix=prefix) as database:
        assert database.check() == []


def test_drift_is_named(database_url, new_lab, monkeypatch):
    prefix = new_lab()
    with connect(database_url, prefix=prefix) as database:
        session.SessionNote().drop_quick()
        monkeypatch.setattr(lab.Location, "definition", lab.Location.definition.replace("varchar(255)", "varchar(254)"))
        column = database.connection.adapter.quote_identifier("roll")
        database.connection.query(f"alter table {session.Trajectory.full_table_name} drop column {column}")
        found = {drift.table.removeprefix(prefix): drift.problem for drift in database.check()}
    assert found == {
        "session.session_note": "the table is missing",
        "lab.location": "it was declared from another definition",
        "session.trajectory": "it has no column roll",
    }


def test_a_database_of_a_newer_labweave_is_refused(database_url, new_lab):
    prefix = new_lab()
    with connect(database_url, prefix=prefix) as database:
        declare.Register(database.connection).set_version(SCHEMA_VERSION + 1, "99.0")
    with pytest.raises(VersionError, match=r"set by labweave 99\.0.*pip install -U labweave"):
        connect(database_url, prefix=prefix)


STEPS = (
    Migration(
        SCHEMA_VERSION + 1,
        "locations have a building",
        lambda connection: add_column(
            connection,
            "lab.location",
            "building",
            sql_type="varchar(64)",
            original_type="varchar(64)",
            comment="where it is",
        ),
    ),
    Migration(
        SCHEMA_VERSION + 2,
        "labs have an area",
        lambda connection: add_column(
            connection, "lab.lab", "area", sql_type="double precision", original_type="float64", comment="m2"
        ),
    ),
)


def test_an_upgrade_adds_what_is_new_and_keeps_the_rows(database_url, new_lab):
    prefix = new_lab()
    with connect(database_url, prefix=prefix) as database:
        upsert(lab.Lab, [{"lab": "a", "institution": "I"}])
        assert [step.version for step in database.upgrade(STEPS)] == [
            SCHEMA_VERSION + 1,
            SCHEMA_VERSION + 2,
        ]
        assert declare.Register(database.connection).version()[0] == SCHEMA_VERSION + 2
        upsert(lab.Lab, [{"lab": "a", "area": 12.5}])
        assert lab.Lab().fetch1("institution", "area") == ("I", 12.5)
        assert lab.Location().heading["building"].nullable
        assert lab.Lab().heading["area"].comment == "m2"
        assert database.upgrade(STEPS) == []


def test_an_upgrade_that_was_killed_goes_on(database_url, new_lab):
    prefix = new_lab()

    def fail(connection):
        STEPS[1].apply(connection)
        raise RuntimeError("killed")

    with connect(database_url, prefix=prefix) as database:
        with pytest.raises(RuntimeError, match="killed"):
            database.upgrade((STEPS[0], Migration(STEPS[1].version, "x", fail)))
        assert declare.Register(database.connection).version()[0] == STEPS[0].version
        assert [step.version for step in database.upgrade(STEPS)] == [STEPS[1].version]
        assert "area" in lab.Lab().heading.names


def test_an_old_database_asks_for_the_upgrade(database_url, new_lab):
    prefix = new_lab()
    with connect(database_url, prefix=prefix) as database:
        declare.Register(database.connection).set_version(SCHEMA_VERSION - 1, "0.0.1")
    with pytest.raises(VersionError, match="labweave db upgrade"):
        connect(database_url, prefix=prefix)


def test_a_schema_of_the_users_own_hangs_on_ours(database):
    schema = dj.Schema(f"{database.prefix}mine", connection=database.connection)
    try:
        Session = session.Session  # noqa: F841

        @schema
        class Mood(dj.Manual):
            definition = """
            -> Session
            ---
            mood : varchar(20)
            """

        upsert(lab.Lab, [{"lab": "l"}])
        upsert(subject.Subject, [{"lab": "l", "subject": "s", "subject_uuid": "u" * 36}])
        upsert(session.Session, [{"eid": "e" * 36, "lab": "l", "subject": "s"}])
        Mood.insert1({"eid": "e" * 36, "mood": "good"})
        assert len(Mood * session.Session & {"lab": "l"}) == 1
    finally:
        schema.drop(prompt=False)

"""What DataJoint deletes is kept, by whatever way, in the transaction that deletes it."""

import builtins
import datetime as dt
import getpass
import hashlib
import json
import os
import subprocess
import sys
from decimal import Decimal

import datajoint as dj
import numpy as np
import pytest
from simulated import OPTIONS, write_cells

from labweave import ingest, populate
from labweave.database import upsert
from labweave.schemas import ingestion, lab, recording, rheobase, subject


def changes(**restriction):
    """Return the changes as table -> rows, in no order."""
    found = {}
    for row in (ingestion.Change & restriction).to_dicts():
        found.setdefault(row["table_name"], []).append(row)
    return found


@pytest.fixture
def labs(database):
    upsert(lab.Lab, [{"lab": "one", "institution": "UCL"}, {"lab": "two"}])
    upsert(
        subject.Subject,
        [{"lab": "one", "subject": name, "subject_uuid": name * 36, "birth_date": "2026-01-02"} for name in "ab"],
    )
    return database


def test_a_delete_with_all_that_hangs_on_it(labs):
    (lab.Lab & {"lab": "one"}).delete(prompt=False)
    found = changes(change_kind="deleted", changed_by=getpass.getuser())
    assert {table: len(rows) for table, rows in found.items()} == {"lab.Lab": 1, "subject.Subject": 2}
    (row,) = found["lab.Lab"]
    assert (row["row_key"], row["old_values"]["institution"], row["new_values"]) == ({"lab": "one"}, "UCL", None)
    assert {row["row_key"]["subject"] for row in found["subject.Subject"]} == set("ab")
    assert {row["old_values"]["birth_date"] for row in found["subject.Subject"]} == {"2026-01-02"}
    assert all(
        abs((row["changed_at"] - labs.connection.now()).total_seconds()) < 60 for row in found["subject.Subject"]
    )
    assert lab.Lab().keys() == [{"lab": "two"}] and len(subject.Subject()) == 0


def test_a_quick_delete(labs):
    assert (subject.Subject & {"subject": "a"}).delete_quick(get_count=True) == 1
    assert (subject.Subject & "subject like 'z%%'").delete_quick(get_count=True) == 0
    (row,) = changes()["subject.Subject"]
    assert row["row_key"] == {"lab": "one", "subject": "a"}


@pytest.mark.parametrize("answers", [["no"], ["what?", ""], [KeyboardInterrupt], [EOFError]])
def test_datajoint_asks_people_and_a_no_changes_nothing(labs, monkeypatch, answers):
    questions = iter(answers)

    def answer(question):
        assert "Commit deletes?" in question
        if isinstance(given := next(questions), type):
            raise given
        return given

    monkeypatch.setattr(builtins, "input", answer)
    assert (lab.Lab & {"lab": "one"}).delete() == 0
    assert not labs.connection.in_transaction
    assert next(questions, None) is None and len(lab.Lab()) == 2 and len(subject.Subject()) == 2
    assert not changes()
    monkeypatch.setattr(builtins, "input", lambda question: "yes")
    assert (lab.Lab & {"lab": "one"}).delete() == 1
    assert len(changes()) == 2


def test_a_delete_that_is_rolled_back_or_refused(labs):
    with pytest.raises(RuntimeError), labs.connection.transaction:
        lab.Lab().delete(prompt=False)
        assert set(changes()) == {"lab.Lab", "subject.Subject"}
        raise RuntimeError
    with pytest.raises(dj.errors.IntegrityError):
        lab.Lab().delete_quick()
    assert not changes() and len(lab.Lab()) == 2
    with labs.connection.transaction:
        (lab.Lab & {"lab": "two"}).delete(prompt=False)
    assert set(changes()) == {"lab.Lab"}


@pytest.fixture
def own(database):
    """A schema of the lab's own, on labweave's connection."""
    schema = dj.Schema(f"{database.prefix}ownkept", connection=database.connection, context=globals())
    yield schema
    schema.drop(prompt=False)


def test_every_kind_of_value_of_a_table_of_the_lab_s_own(labs, own):
    values = {"at": "2026-01-02 03:04:05", "day": dt.date(2026, 1, 2), "price": Decimal("1.50"), "ratio": 0.1}
    values |= {"is_good": True, "words": "naïve 'quoted' 100%\nline", "tags": {"b": [1, None]}, "long": None}
    array, content = np.arange(5.0), b"\x00\xff%s" * 500

    class Note(dj.Manual):
        definition = """
        # something that somebody noted of a subject
        note : varchar(40)
        ---
        -> subject.Subject
        at : datetime
        day : date
        price : decimal(6,2)
        ratio : float64
        is_good : bool
        words : varchar(64)
        tags = null : json
        trace : <blob>
        content : bytes
        long = null : <blob>
        """

    note = own(Note)
    row = {"note": "n/1", "lab": "one", "subject": "a", "trace": array, "content": content, **values}
    note.insert1(row)
    note.insert1({**row, "note": "n/2", "subject": "b"})
    stored = bytes(labs.connection.query(f"select trace from {note.full_table_name}").fetchone()[0])
    (subject.Subject & {"subject": "a"}).delete(prompt=False)
    assert len(note()) == len(subject.Subject()) == 1
    found = changes()
    (kept,) = found[f"{own.database.removeprefix(labs.prefix)}.Note"]
    assert kept["row_key"] == {"note": "n/1"}
    old = kept["old_values"]
    assert old.pop("trace") == {"n_bytes": len(stored), "sha256": hashlib.sha256(stored).hexdigest()}
    assert old.pop("content") == {"n_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    shown = {**values, "day": "2026-01-02", "price": "1.50", "is_good": True, "lab": "one", "subject": "a"}
    assert old == shown and set(found) == {"subject.Subject", "ownkept.Note"}


def test_values_in_a_store_and_characters_that_json_lacks(labs, own, tmp_path):
    labs.connection._config.stores = {"own": {"protocol": "file", "location": str(tmp_path)}}

    class Trace(dj.Manual):
        definition = """
        # an array that is kept beside the database
        -> lab.Lab
        ---
        trace : <blob@own>
        words : varchar(8)
        """

    trace = own(Trace)
    words = "a\0b" if labs.backend == "mysql" else "ab"
    trace.insert1({"lab": "two", "trace": np.arange(9.0), "words": words})
    stored = labs.connection.query(f"select trace from {trace.full_table_name}").fetchone()[0]
    trace().delete(prompt=False)
    (row,) = changes()["ownkept.Trace"]
    assert row["old_values"]["words"] == words.replace("\0", "\ufffd")
    assert row["old_values"]["trace"] == (json.loads(stored) if isinstance(stored, str) else stored)


def test_a_table_that_was_made_again_with_other_attributes(labs, own):
    for attribute in ("first", "second"):

        class Again(dj.Manual):
            definition = f"""
            # what was thought of a lab
            -> lab.Lab
            ---
            {attribute} : int32     # a number
            """

        again = own(Again)
        again.insert1({"lab": "two", attribute: 7})
        again().delete(prompt=False)
        again().drop(prompt=False)
    assert [row["old_values"] for row in changes()["ownkept.Again"]] in (
        [{"first": 7}, {"second": 7}],
        [{"second": 7}, {"first": 7}],
    )


def test_a_process_that_does_not_know_the_class(labs, own, database_url, labweave_command):
    class StrangeNote(dj.Manual):
        definition = """
        # one of a table whose class other processes lack
        -> lab.Lab
        """

        class Line(dj.Part):
            definition = """
            # a part of it
            -> master
            line : int32
            """

    note = own(StrangeNote)
    note.insert1({"lab": "two"})
    note.Line.insert1({"lab": "two", "line": 3})
    program = (
        "import labweave; database = labweave.connect()\n"
        "from labweave.schemas.lab import Lab; (Lab & {'lab': 'two'}).delete(prompt=False)"
    )
    environment = {**os.environ, "LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": labs.prefix}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert set(changes()) == {"lab.Lab", "ownkept.StrangeNote", "ownkept.StrangeNote.Line"}


def test_of_labweave_s_own_book_keeping_nothing_is_kept(database):
    upsert(ingestion.Given, [{"source": "s", "unit": "u", "eid": "", "given_keys": b"x"}])
    ingestion.Given().delete_quick()
    assert not changes() and not ingestion.Given()


@pytest.mark.slow
def test_results_that_are_made_again(database, tmp_path):
    """Changed by a person, by a run, and by one that takes a cell out: what the results were is kept, by its kind."""
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    assert populate.run().failed == 0
    before = {row["cell"]: row["rheobase"] for row in rheobase.Rheobase().to_dicts()}
    key = (recording.RecordingStimulus & {"cell": "cell0"} & "n_spikes > 0").keys()[0]
    recording.RecordingStimulus.update1({**key, "n_spikes": 0})
    populate.run()
    (row,) = changes()["rheobase.Rheobase"]
    assert (row["change_kind"], row["run"], row["row_key"]["cell"]) == ("outdated", None, "cell0")
    assert row["old_values"]["rheobase"] == before["cell0"]

"""ONE cache tables that were wrong, or that name a row twice: what is in the database in the end, and what is named."""

import re
import shutil

import datajoint as dj
import one_lab
import pandas as pd
import pytest
from one_lab import EIDS, S1, S4, S8
from test_law import check_counts

from labweave import ingest
from labweave.ingest import parts
from labweave.ingest.alf import tables
from labweave.schemas import dataset, ingestion, lab, session, subject
from labweave.testing import empty, rows_of_tables

UNIT = "sessions.pqt+datasets.pqt"


@pytest.fixture(scope="module")
def lab_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    one_lab.write_files(folder)
    return folder


@pytest.fixture
def cache(lab_root, tmp_path):
    """A folder with tables and no files."""
    one_lab.write_tables(lab_root, tmp_path)
    return tmp_path


def rewrite(path, change):
    """Write a table as `change` gives it back."""
    change(pd.read_parquet(path).reset_index()).to_parquet(path, index=False)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(tables, "BATCH", 7)


def run(location, **options):
    return ingest.run("alf", location, **{"lab": "smithlab", **options})


def alone(database, location):
    """Return the rows that the location gives to an empty database."""
    empty(database)
    assert run(location).failed == 0
    return rows_of_tables(database)


def without_lab(frame):
    return frame.assign(lab="")


def test_the_wrong_lab_is_moved_and_nothing_of_it_stays(database, cache):
    rewrite(cache / "sessions.pqt", without_lab)
    run(cache, lab="wronglab")
    shown = run(cache, move=True, dry_run=True)
    report = run(cache, move=True)
    assert report.failed == 0 and report.removed["lab.Lab"] == 1
    assert shown.removed["dataset.FileRecord"] == report.removed["dataset.FileRecord"] == 83
    assert run(cache).unchanged == 1
    check_counts()
    found = rows_of_tables(database)
    assert found == alone(database, cache)


def test_rows_that_are_no_longer_in_the_tables_are_taken_out(database, cache):
    run(cache)
    rewrite(cache / "sessions.pqt", lambda frame: frame[frame.subject != "flowers"])
    rewrite(cache / "datasets.pqt", lambda frame: frame[(frame.eid != EIDS["s6"]) & (frame.eid != S1)])
    rewrite(cache / "insertions.pqt", lambda frame: frame[frame.name != "probe01"])
    shown, report = run(cache, dry_run=True), run(cache)
    for table in ("session.Session", "dataset.Dataset", "dataset.FileRecord", "session.ProbeInsertion"):
        assert shown.removed[table] == report.removed[table] > 0
    assert not subject.Subject & {"subject": "flowers"} and not lab.Lab & {"lab": "zadorlab"}
    found = rows_of_tables(database)
    assert found == alone(database, cache)


@pytest.mark.parametrize("by_sql", [False, True])
@pytest.mark.parametrize("table", [session.Session, dataset.Dataset, session.ProbeInsertion, dataset.FileRecord])
def test_rows_that_were_deleted_come_back(database, cache, table, by_sql):
    run(cache)
    before = rows_of_tables(database)
    row = table & ({"eid": S8} if table is session.Session else table().keys(limit=1))
    if by_sql:
        if table is dataset.Dataset:  # its record hangs on it
            (dataset.FileRecord & row.keys()).delete_quick()
        row.delete_quick()
    else:
        row.delete(prompt=False)
    report = run(cache)
    assert (report.restored, report.failed) == (1, 0) and "had lost rows and were read again" in str(report)
    assert rows_of_tables(database) == before and run(cache).unchanged == 1


def test_what_is_forgotten_goes_and_comes_back(database, cache):
    nothing = rows_of_tables(database)
    source = run(cache).source
    before = rows_of_tables(database)
    shown = ingest.forget(source, [UNIT], dry_run=True)
    assert rows_of_tables(database) == before
    told = ingest.forget(source, [UNIT])
    assert told.removed == shown.removed and told.removed["dataset.Dataset"] == 83
    assert rows_of_tables(database) == nothing
    assert run(cache).forgotten == 1 and rows_of_tables(database) == nothing
    ingest.forget(source, undo=True)
    assert run(cache).new == 1 and rows_of_tables(database) == before


def test_a_stopped_pass_is_made_again_though_the_tables_are_as_they_were(database, cache, monkeypatch):
    run(cache)
    before = rows_of_tables(database)
    old = (cache / "datasets.pqt").read_bytes()
    rewrite(cache / "datasets.pqt", lambda frame: frame.assign(qc="FAIL", hash="0" * 32))
    write, n_parts = parts._write_sessions, 0

    def stop(*arguments):
        nonlocal n_parts
        n_parts += 1
        if n_parts == 3:
            raise KeyboardInterrupt
        return write(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts, "_write_sessions", stop)
        run(cache)
    assert rows_of_tables(database) != before
    (cache / "datasets.pqt").write_bytes(old)
    assert run(cache).changed == 1 and rows_of_tables(database) == before


def test_tables_of_before_units_knew_their_rows(database, cache):
    run(cache)
    ingestion.Given.delete_quick()
    ingestion.Shared.delete_quick()
    assert run(cache).changed == 1
    check_counts()
    rewrite(cache / "sessions.pqt", lambda frame: frame[frame.subject != "flowers"])
    rewrite(cache / "datasets.pqt", lambda frame: frame[frame.eid != EIDS["s6"]])
    run(cache)
    found = rows_of_tables(database)
    assert found == alone(database, cache)


def test_a_lab_s_own_row_stays_with_its_session_and_is_named(database, cache):
    run(cache)
    schema = dj.Schema(f"{database.prefix}own3", {"Dataset": dataset.Dataset}, connection=database.connection)

    @schema
    class Note(dj.Manual):
        definition = """
        -> Dataset
        """

    try:
        noted = (dataset.Dataset & {"eid": S1}).keys(limit=1)[0]
        Note.insert1(noted)
        rewrite(cache / "datasets.pqt", lambda frame: frame[frame.eid != S1].assign(qc="FAIL"))
        report = run(cache)
        (failure,) = report.failures
        assert S1 in failure.path and noted["dataset_id"] in failure.message and "own3" in failure.message
        assert dataset.Dataset & noted and set((dataset.Dataset & {"eid": S4}).to_arrays("dataset_qc")) == {"FAIL"}
        Note.delete_quick()
        assert run(cache).failed == 0
        found = rows_of_tables(database)
    finally:
        schema.drop(prompt=False)
    assert found == alone(database, cache)


def test_two_labs_have_the_same_tables(database, cache):
    rewrite(cache / "sessions.pqt", without_lab)
    run(cache, lab="one")
    before = rows_of_tables(database)
    second = run(cache, lab="two", also=True)
    assert second.failed == 0 and len(session.Session()) == 16 and len(dataset.Dataset()) == 166
    assert run(cache, lab="one").unchanged == run(cache, lab="two").unchanged == 1
    ingest.forget(second.source)
    assert rows_of_tables(database) == before


def test_probes_that_are_renamed_or_change_places(database, cache):
    run(cache)
    for change in (
        lambda frame: frame.assign(name=frame.name.map({"probe00": "probe01", "probe01": "probe00"})),
        lambda frame: frame.assign(name=frame.name.replace("probe00", "probe02")),
    ):
        rewrite(cache / "insertions.pqt", change)
        assert run(cache).failed == 0
    found = rows_of_tables(database)
    assert found == alone(database, cache)


def test_a_subject_whose_capitals_were_wrong(database, cache):
    rewrite(cache / "sessions.pqt", lambda frame: frame.assign(subject=frame.subject.replace("flowers", "Flowers")))
    run(cache)
    rewrite(cache / "sessions.pqt", lambda frame: frame.assign(subject=frame.subject.replace("Flowers", "flowers")))
    assert run(cache).failed == 0
    found = rows_of_tables(database)
    assert found == alone(database, cache)


# --- rows read = rows stored + rows named


def test_an_id_of_two_datasets_is_named_with_both(database, cache):
    run(cache)
    before = rows_of_tables(database)
    frame = pd.read_parquet(cache / "datasets.pqt").reset_index()
    one, two = frame[frame.eid == S1].iloc[0], frame[frame.eid == S4].iloc[0]
    rewrite(cache / "datasets.pqt", lambda frame: frame.assign(id=frame.id.replace(two.id, one.id)))
    report = run(cache)
    (failure,) = report.failures
    for text in (one.id, f"{one.rel_path} in session {S1}", f"{two.rel_path} in session {S4}"):
        assert text in failure.message
    assert dataset.Dataset & {"dataset_id": one.id, "eid": S1} and not dataset.Dataset & {"dataset_id": two.id}
    assert len(dataset.Dataset()) == len(frame) - 1
    rewrite(cache / "datasets.pqt", lambda _: frame)
    assert run(cache).failed == 0 and rows_of_tables(database) == before
    empty(database)
    rewrite(cache / "datasets.pqt", lambda frame: frame.assign(id=frame.id.replace(two.id, one.id)))
    run(cache)
    assert len(dataset.Dataset()) == len(dataset.FileRecord()) == len(frame) - 2


def test_rows_read_are_rows_stored_and_rows_named(database, cache):
    def odd(frame):
        twin = frame[frame.eid == S1].iloc[[0, 1]]
        other_id = twin.iloc[[0]].assign(id="11111111-1111-4111-8111-111111111111")
        lost = twin.assign(eid="22222222-2222-4222-8222-222222222222", id=["33333333-3333-4333-8333-333333333333"] * 2)
        lost = lost.assign(rel_path=["a.b.npy", "c.d.npy"], id=["33333333-3333-4333-8333-333333333333", "x"])
        no_id = twin.assign(rel_path=["e.f.npy", "g.h.npy"], id=None)
        bad_name = twin.iloc[[0]].assign(rel_path="my file.npy", id="44444444-4444-4444-8444-444444444444")
        return pd.concat([frame, twin.iloc[[1]], other_id, lost, no_id, bad_name])

    n_rows = len(pd.read_parquet(cache / "datasets.pqt")) + 1 + 1 + 2 + 2 + 1
    rewrite(cache / "datasets.pqt", odd)
    assert len(pd.read_parquet(cache / "datasets.pqt")) == n_rows
    report = run(cache)
    told = str(report)
    assert sum(report.rows["dataset.Dataset"]) == len(dataset.Dataset()) == len(dataset.FileRecord())
    assert "the same row is there twice" in told and "my file.npy" in told
    named = 2 + 2 + 2 + 1 + 1  # one path with two ids, an unknown session, without an id, there twice, no ALF name
    for text in ("has the ids", "has 2 datasets, but is not in", "of e.f.npy is not", "of g.h.npy is not"):
        assert text in told, text
    assert "2 files or folders were left out" in told
    assert n_rows == len(dataset.Dataset()) + named


def test_sessions_and_insertions_that_are_there_twice(database, cache):
    def twice(frame):
        return pd.concat([frame, frame[frame.id == S1], frame[frame.id == S4].assign(subject="other")])

    rewrite(cache / "sessions.pqt", twice)
    rewrite(
        cache / "insertions.pqt",
        lambda frame: pd.concat([frame, frame.iloc[[0]].assign(eid=S1), frame.iloc[[1]].assign(id=one_lab.EIDS["s1"])]),
    )
    report = run(cache)
    told = str(report)
    assert re.search(rf"Session {S4}: it is cortexlab/KS005/2019-04-11/1, and in another row cortexlab/other/", told)
    assert "the same row is there twice" in told
    assert not session.Session & {"eid": S4} and len(session.Session()) == 7
    assert sum("insertion" in failure.path for failure in report.failures) == 3 and len(session.ProbeInsertion()) == 1


def test_refused_rows_of_tables_are_known_until_the_tables_change(database, cache, monkeypatch, labweave_command):
    rewrite(cache / "sessions.pqt", lambda frame: frame.assign(lab=frame.lab.where(frame.id != EIDS["s2"], "my-lab")))
    first = run(cache)
    named = f"Session {EIDS['s2']}: its lab 'my-lab'"
    assert (first.new, first.failed, first.refused, first.exit_code) == (1, 0, 2, 1), first
    with monkeypatch.context() as patched:
        patched.delattr(tables.CacheTables, "read")  # whoever reads the tables fails
        for _ in range(2):
            night = run(cache)
            assert (night.unchanged, night.refused, night.known_failures, night.failures) == (1, 2, 2, [])
            assert night.exit_code == 1 and "2 known failures, unchanged" in str(night)
            assert named in labweave_command("errors", check=0).stdout
    assert run(cache, again=True).refused == 2
    dataset.Dataset().delete(prompt=False)
    assert (run(cache).restored, run(cache).known_failures) == (1, 2)
    rewrite(cache / "sessions.pqt", lambda frame: frame.assign(lab=frame.lab.replace("my-lab", "smithlab")))
    assert run(cache).exit_code == 0 and named not in labweave_command("errors", check=0).stdout
    found = rows_of_tables(database)
    assert alone(database, cache) == found


def test_what_others_hold_is_tried_by_every_run(database, cache):
    run(cache)
    mine = {"eid": S8, "path_lab": "otherlab"}
    source = ingestion.Source().fetch1("source")
    ingest.forget(source)
    ingest.forget(source, undo=True)
    lab.Lab.insert1({"lab": "otherlab"})
    subject.Subject.insert1({"lab": "otherlab", "subject": "mine", "subject_uuid": EIDS["s2"]})
    session.Session.insert1({**mine, "lab": "otherlab", "subject": "mine"})
    for _ in range(2):
        report = run(cache)
        assert (report.failed, report.known_failures, len(report.failures)) == (1, 0, 1), report
    (session.Session & {"eid": S8}).delete(prompt=False)
    assert run(cache).exit_code == 0 and (session.Session & {"eid": S8}).fetch1("lab") != "otherlab"


def leave_out_a_session(root):
    rewrite(root / "datasets.pqt", lambda frame: frame[frame.eid != S1])
    rewrite(root / "sessions.pqt", lambda frame: frame[frame.id != S1])


def take_away_the_tables(root):
    for path in root.glob("*.pqt"):
        path.unlink()


def rename_a_subject(root):
    rewrite(root / "sessions.pqt", lambda frame: frame.assign(subject=frame.subject.where(frame.id != S1, "other")))


def lose_rows(root):
    (dataset.Dataset & {"eid": S1}).delete(prompt=False)


def empty_a_folder(root):
    shutil.rmtree(root / one_lab.SESSIONS.loc[S1].path)


def damage_a_table(root):
    rewrite(root / "sessions.pqt", lambda frame: frame.assign(lab=frame.lab.where(frame.id != S1, "my-lab")))


@pytest.mark.parametrize(
    "mishap",
    [None, leave_out_a_session, take_away_the_tables, rename_a_subject, lose_rows, empty_a_folder, damage_a_table],
    ids=lambda mishap: mishap.__name__ if mishap else "first run",
)
def test_a_dry_run_of_tables_beside_folders_says_what_the_run_does(database, lab_root, tmp_path, mishap):
    root = shutil.copytree(lab_root, tmp_path / "data")
    one_lab.write_tables(lab_root, root)
    if mishap:
        run(root)
        mishap(root)
    before = rows_of_tables(database)
    shown = run(root, dry_run=True)
    assert rows_of_tables(database) == before and len(ingestion.Run()) == bool(mishap)
    report = run(root)
    shown.run, shown.dry_run = report.run, False
    assert str(shown) == str(report) and shown == report


def test_a_dry_run_of_tables_beside_folders_goes_on_after_what_can_not_be_written(database, lab_root, tmp_path):
    root = shutil.copytree(lab_root, tmp_path / "data")
    one_lab.write_tables(lab_root, root)
    run(root)
    mine = dj.Schema(f"{database.prefix}mine", connection=database.connection)
    table = mine(type("Mine", (dj.Manual,), {"definition": "-> session.Session"}), context={"session": session})
    table.insert1({"eid": S1})
    leave_out_a_session(root)
    shown, report = run(root, dry_run=True), run(root)
    assert [failure.message for failure in shown.failures] == [failure.message for failure in report.failures]
    assert (shown.failed, shown.removed, shown.rows) == (report.failed, report.removed, report.rows)
    assert report.failed and session.Session & {"eid": S1}
    table.drop_quick()

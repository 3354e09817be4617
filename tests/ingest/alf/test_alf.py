"""ALF session folders in the tables: what is new, changed, gone, named in odd ways, or there already."""

import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import one_lab
import pandas as pd
import pytest
from conftest import empty
from one_lab import S1, S4

from labweave import ingest
from labweave.database import upsert
from labweave.errors import SourceError
from labweave.ingest import loading
from labweave.ingest.alf import AlfAdapter, AlfOptions, tree
from labweave.ingest.base import NAMESPACE
from labweave.schemas import dataset, ingestion, lab, session, subject

LAB = "smithlab"


def run(location, **options):
    return ingest.run("alf", location, lab=LAB, **options)


def write(root, *paths, content=b"1"):
    for path in paths:
        file = Path(root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def datasets(**key):
    """Return relative path -> row of the datasets that are not vanished."""
    rows = (dataset.Dataset & key & "dataset_vanished is null").to_dicts()
    return {
        "/".join(filter(None, (r["collection"], r["revision"] and f"#{r['revision']}#", r["dataset_name"]))): r
        for r in rows
    }


def everything():
    """Return all rows that come from files, without what differs between runs."""
    tables = (lab.Lab, subject.Subject, session.Session, dataset.Repository, dataset.Dataset, dataset.FileRecord)
    return {table.__name__: sorted(map(str, table().to_dicts())) for table in tables}


@pytest.fixture(scope="module")
def lab_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    one_lab.write_files(folder)
    return folder


def test_a_lab_goes_into_the_tables(database, lab_root):
    shown, report = run(lab_root, dry_run=True), run(lab_root)
    assert (report.seen, report.new, report.failed, report.notes) == (8, 8, 0, [])
    assert shown.rows == report.rows
    sessions = {
        (row["lab"], row["subject"], str(row["session_date"]), row["session_number"]): row["eid"]
        for row in session.Session().to_dicts()
    }
    truth = one_lab.datasets(lab_root)
    for known in one_lab.SESSIONS.itertuples():
        eid = sessions.pop((known.lab, known.subject, known.date, known.number))
        assert eid == str(uuid.uuid3(NAMESPACE, f"session/{known.lab}/{known.subject}/{known.date}/{known.number:03d}"))
        found = datasets(eid=eid)
        expected = truth[truth.eid == known.eid].set_index("relative_path")
        assert found.keys() == set(expected.index)
        for path, row in found.items():
            for name in ("collection", "revision", "dataset_name", "file_size", "hash", "data_format", "is_default"):
                assert row[name] == expected[name][path] or (row[name] is None and pd.isna(expected[name][path])), path
            assert uuid.UUID(row["dataset_id"]).version == 3
            record = (dataset.FileRecord & {"dataset_id": row["dataset_id"]}).fetch1()
            assert record["relative_path"] == f"{known.path}/{path}" and record["present"]
    assert not sessions
    place = dataset.Repository().fetch1()
    assert (place["repository_kind"], place["root_path"]) == ("personal", str(lab_root))
    assert sorted(dataset.LabRepository().to_arrays("lab").tolist()) == sorted(set(one_lab.SESSIONS.lab))
    types = {row["dataset_name"]: row["dataset_type"] for row in dataset.Dataset().to_dicts()}
    assert types["_ibl_trials.goCue_times.npy"] == "trials.goCue_times"
    before = everything()
    again = run(lab_root)
    assert (again.unchanged, again.new, again.changed, again.rows) == (8, 0, 0, {})
    assert everything() == before and len(ingestion.Change()) == 0


def test_sessions_and_datasets_of_another_source_are_kept(database, lab_root, tmp_path):
    root = shutil.copytree(lab_root, tmp_path / "copy")
    one_lab.fill(lab_root)
    rows = dataset.Dataset().proj().to_dicts()
    upsert(dataset.Dataset, [{**row, "dataset_stamp": "2024-01-01 00:00:00"} for row in rows])
    before = everything()
    report = run(root)
    assert report.failed == 0
    assert {report.rows[f"{name}"][:2] for name in ("dataset.Dataset", "session.Session", "subject.Subject")} == {
        (0, 0)
    }
    assert report.rows["dataset.FileRecord"].inserted == len(rows)
    after = everything()
    assert [after[name] for name in ("Session", "Dataset", "Subject")] == [
        before[name] for name in ("Session", "Dataset", "Subject")
    ]
    file = root / one_lab.SESSIONS.path[S1] / "alf/licks.times.npy"
    np.save(file, np.arange(3.0))
    run(root)
    row = (dataset.Dataset & {"eid": S1, "dataset_name": "licks.times.npy"}).fetch1()
    assert row["file_size"] != file.stat().st_size
    flags = [record["file_json"] for record in (dataset.FileRecord & {"dataset_id": row["dataset_id"]}).to_dicts()]
    assert sorted(map(str, flags)) == ["None", "{'mismatch_hash': True}"]
    # A new file of a known session is a new dataset; Alyx's default stays the only one
    write(root, f"{one_lab.SESSIONS.path[S4]}/alf/probe00/pykilosort/#2099-01-01#/spikes.times.npy")
    run(root)
    found = {path: one["is_default"] for path, one in datasets(eid=S4).items() if path.endswith("spikes.times.npy")}
    assert {path for path, is_default in found.items() if is_default} == {
        "alf/probe00/spikes.times.npy",
        "alf/probe01/spikes.times.npy",
        "alf/probe00/pykilosort/#2024-05-06#/spikes.times.npy",
    }
    assert "alf/probe00/pykilosort/#2099-01-01#/spikes.times.npy" in found


def test_hashes_can_come_later(database, tmp_path):
    write(tmp_path, "m1/2020-01-01/001/alf/a.b.npy", "m1/2020-01-01/001/alf/c.d.npy")
    first = run(tmp_path, no_hash=True)
    assert first.new == 1 and {row["hash"] for row in datasets().values()} == {""}
    assert run(tmp_path, no_hash=True).unchanged == 1
    write(tmp_path, "m1/2020-01-01/001/alf/a.b.npy", content=b"22")
    assert run(tmp_path, no_hash=True).changed == 1
    assert datasets()["alf/a.b.npy"]["file_size"] == 2
    assert run(tmp_path).changed == 1
    assert datasets()["alf/a.b.npy"]["hash"] == hashlib.md5(b"22").hexdigest()
    assert datasets()["alf/c.d.npy"]["hash"] == hashlib.md5(b"1").hexdigest()
    assert run(tmp_path).unchanged == 1
    run(tmp_path, no_hash=True)
    assert datasets()["alf/c.d.npy"]["hash"] == hashlib.md5(b"1").hexdigest()


def test_changed_and_vanished_files(database, tmp_path):
    folder = "m1/2020-01-01/001/alf"
    write(tmp_path, f"{folder}/a.b.npy", f"{folder}/c.d.npy", f"{folder}/#2021-01-01#/c.d.npy")
    write(tmp_path, "m1/2020-01-02/001/x.y.npy")
    run(tmp_path)
    assert [path for path, row in datasets().items() if not row["is_default"]] == ["alf/c.d.npy"]
    before = everything()
    write(tmp_path, f"{folder}/a.b.npy", content=b"other")
    os.rename(tmp_path / folder / "#2021-01-01#", tmp_path / "aside")
    shutil.move(tmp_path / "m1/2020-01-02", tmp_path / "2020-01-02-aside")
    report = run(tmp_path)
    assert (report.changed, report.unchanged, report.failed) == (1, 0, 0)
    assert report.vanished == ["m1/2020-01-02/001/x.y.npy"]
    assert report.removed == {"dataset.Dataset": 1, "dataset.FileRecord": 1, "dataset.Revision": 1}
    deleted = {row["table_name"]: row for row in (ingestion.Change & {"new_values": None}).to_dicts()}
    assert deleted["dataset.FileRecord"]["old_values"]["relative_path"] == f"{folder}/#2021-01-01#/c.d.npy"
    found = datasets()
    assert found.keys() == {"alf/a.b.npy", "alf/c.d.npy"} and found["alf/c.d.npy"]["is_default"]
    assert found["alf/a.b.npy"]["hash"] == hashlib.md5(b"other").hexdigest()
    gone = (dataset.FileRecord & {"present": False}).to_dicts()
    assert sorted(row["relative_path"] for row in gone) == report.vanished
    assert {row["file_vanished"] for row in gone} == {report.run}
    assert len(dataset.Dataset & {"dataset_vanished": report.run}) == 1 and len(session.Session()) == 2
    again = run(tmp_path)
    assert (again.unchanged, again.vanished, again.rows) == (1, [], {})
    os.rename(tmp_path / "aside", tmp_path / folder / "#2021-01-01#")
    shutil.move(tmp_path / "2020-01-02-aside", tmp_path / "m1/2020-01-02")
    write(tmp_path, f"{folder}/a.b.npy")
    run(tmp_path)
    assert everything() == before


def test_a_dataset_with_another_copy_is_not_gone(database, tmp_path):
    for root in ("one", "two"):
        write(tmp_path / root, "m1/2020-01-01/001/a.b.npy", "m1/2020-01-01/001/c.d.npy")
        run(tmp_path / root)
    assert (len(session.Session()), len(dataset.Dataset()), len(dataset.FileRecord())) == (1, 2, 4)
    (tmp_path / "one/m1/2020-01-01/001/a.b.npy").unlink()
    run(tmp_path / "one")
    assert len(datasets()) == 2 and all(row["is_default"] for row in datasets().values())
    (tmp_path / "two/m1/2020-01-01/001/a.b.npy").unlink()
    run(tmp_path / "two")
    assert list(datasets()) == ["c.d.npy"]


def test_files_that_are_no_datasets_are_left_out_and_named(database, tmp_path):
    session_folder = tmp_path / "m1/2020-01-01/001"
    write(session_folder, "alf/a.b.npy", "alf/obj.attr.tar.gz", "probe_0.0/ümlaut.wert_zeit.npy")
    odd = (
        "notes.txt",
        "alf/a-b.c.npy",
        "alf/_obj.attr.npy",
        "alf/__ns__obj.attr.npy",
        "my folder/a.b.npy",
        "#r#/x/a.b.npy",
    )
    write(session_folder, *odd)
    write(tmp_path, "elsewhere/a.b.npy", "m1/2020-01-01/0001/a.b.npy")
    report = run(tmp_path)
    assert (report.new, report.failed) == (1, 0)
    assert datasets().keys() == {"alf/a.b.npy", "alf/obj.attr.tar.gz", "probe_0.0/ümlaut.wert_zeit.npy"}
    text = str(report)
    assert "7 files or folders were left out" in text and "namespace 'ob'" in text and "2 more" in text


def test_links_do_not_leave_the_root(database, tmp_path):
    write(tmp_path, "secret/key.value.npy")
    root = tmp_path / "root"
    write(root, "m1/2020-01-01/001/a.b.npy")
    folder = root / "m1/2020-01-01/001"
    (folder / "out.side.npy").symlink_to(tmp_path / "secret/key.value.npy")
    (folder / "no.where.npy").symlink_to(root / "gone")
    (folder / "with.in.npy").symlink_to(folder / "a.b.npy")
    (folder / "alf").symlink_to(tmp_path / "secret")
    (root / "m2").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(root)
    report = run(root)
    assert datasets().keys() == {"a.b.npy", "with.in.npy"}
    assert sorted(failure.path for failure in report.failures) == ["m1/2020-01-01/001/alf"] + [
        f"m1/2020-01-01/001/{name}.npy" for name in ("no.where", "out.side")
    ] + ["m2"]
    assert "leads out of" in str(report) and "leads nowhere" in str(report) and "1 files or folders" in str(report)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("my-lab/Subjects/m1/2020-01-01/001", "'my-lab' can't be a lab"),
        ("s x/2020-01-01/001", "'s x' can't be a subject"),
        ("m1/2020-13-01/001", "2020-13-01 is not a date"),
        ("m1/2020-01-02/1", "both session 1"),
        ("m1/2020-01-03/001/" + "/".join(["x" * 60] * 5), "255"),
    ],
)
def test_a_folder_with_a_bad_name_fails_alone(database, tmp_path, folder, said):
    write(tmp_path, "m1/2020-01-02/001/a.b.npy", "m2/2020-01-02/001/a.b.npy", f"{folder}/a.b.npy")
    report = run(tmp_path)
    assert (report.failed, report.new) == (1, 2), str(report)
    assert said in report.failures[0].message
    assert len(session.Session()) == 2
    assert run(tmp_path).failed == 1


def test_subjects_that_differ_by_case_can_be_two(database, tmp_path):
    write(tmp_path, "m1/2020-01-02/001/a.b.npy", "M1/2020-01-02/001/a.b.npy")
    assert run(tmp_path, allow_case=True).new == 2 and len(subject.Subject()) == 2


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse such names")
def test_a_file_name_that_is_no_unicode_is_left_out(database, tmp_path):
    write(tmp_path, "m1/2020-01-02/001/a.b.npy")
    (tmp_path / "m1/2020-01-02/001" / os.fsdecode(b"caf\xe9.x.npy")).write_bytes(b"")
    report = run(tmp_path)
    assert (report.new, report.failed) == (1, 0) and "caf" in str(report)


def test_labs_that_alf_can_not_have_are_refused(database, tmp_path):
    write(tmp_path, "m1/2020-01-02/001/a.b.npy")
    with pytest.raises(SourceError, match="'my-lab' can't be a lab"):
        ingest.run("alf", tmp_path, lab="my-lab")


def test_any_folder_of_a_tree_leads_to_the_same_rows(database, tmp_path):
    paths = [f"lab1/Subjects/m1/2020-01-02/00{n}/alf/a.b.npy" for n in (1, 2)]
    write(tmp_path, *paths, "lab1/Subjects/m1/2020-01-03/001/alf/#2021#/a.b.npy")
    run(tmp_path)
    before = everything()
    for part in ("lab1", "lab1/Subjects", "lab1/Subjects/m1", "lab1/Subjects/m1/2020-01-02"):
        assert run(tmp_path / part).failed == 0
    single = run(tmp_path / "lab1/Subjects/m1/2020-01-02/001")
    assert (single.seen, single.new, single.failed) == (1, 1, 0)
    assert everything() == before
    assert (subject.Subject()).fetch1("lab") == "lab1"
    (tmp_path / paths[0]).unlink()
    assert run(tmp_path / "lab1/Subjects/m1/2020-01-02").removed == {}  # the whole tree has given it, too
    assert [row["relative_path"] for row in (dataset.FileRecord & {"present": False}).to_dicts()] == [paths[0]]


def test_files_that_carry_the_id_of_their_dataset(database, tmp_path):
    own = "0a0a0a0a-1b1b-4c4c-8d8d-0e0e0e0e0e0e"
    write(tmp_path, f"m1/2020-01-02/001/alf/spikes.times.{own}.npy")
    run(tmp_path)
    assert datasets()["alf/spikes.times.npy"]["dataset_id"] == own
    assert dataset.FileRecord().fetch1("relative_path").endswith(f".{own}.npy")
    assert run(tmp_path).unchanged == 1


def test_a_run_that_was_stopped_goes_on(database, tmp_path, monkeypatch):
    for n in range(12):
        write(tmp_path, f"m{n % 3}/2020-01-{n + 1:02d}/001/alf/a.b.npy", f"m{n % 3}/2020-01-{n + 1:02d}/001/c.d.npy")
    monkeypatch.setattr(loading, "WINDOW_FILES", 6)

    class Stop(Exception):
        pass

    def stop(done, failed, total):
        if done >= 6:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path, progress=stop)
    assert 4 <= len(session.Session()) < 12
    assert {row["status"] for row in ingestion.Run().to_dicts()} == {"failed"}
    kept = len(session.Session())
    totals = []
    report = run(tmp_path, progress=lambda done, failed, total: totals.append(total))
    assert (report.unchanged, report.new, report.failed) == (kept, 12 - kept, 0)
    assert len(datasets()) == 2 and len(dataset.Dataset()) == 24 and totals[0] is None and totals[-1] == 12
    assert run(tmp_path).unchanged == 12


RUN = """
import sys, time
import labweave
from labweave import ingest
from labweave.ingest.alf import AlfAdapter
from labweave.ingest.writing import Writer

url, prefix, root, hangs_at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
AlfAdapter.batch_rows = 20
put, calls = Writer.put_files, []

def put_files(self, unit, files):  # the last step of a transaction
    calls.append(unit)
    if len(calls) == hangs_at:
        print("inside", flush=True)
        time.sleep(600)
    put(self, unit, files)

Writer.put_files = put_files
with labweave.connect(url, prefix=prefix):
    print("open", flush=True)
    print(ingest.run("alf", root, lab="smithlab").failed)
"""


def test_two_at_once_one_of_them_killed_inside_a_transaction(database, database_url, tmp_path):
    for n in range(20):
        write(tmp_path, *(f"m{n % 3}/2020-01-{n + 1:02d}/001/alf/a.{name}.npy" for name in "bcd"))
    run(tmp_path)
    plain = everything()
    empty(database)

    def start(hangs_at):
        arguments = [sys.executable, "-W", "ignore", "-c", RUN, database_url, database.prefix, str(tmp_path), hangs_at]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    with start("9") as killed:
        assert [killed.stdout.readline() for _ in range(2)] == ["open\n", "inside\n"]
        with start("0") as other:
            opened = other.stdout.readline()
            killed.kill()
            assert (opened, other.stdout.read().strip(), other.wait()) == ("open\n", "0", 0)
    report = run(tmp_path)
    assert (report.unchanged, report.new, report.changed) == (20, 0, 0) and everything() == plain
    assert sorted(row["status"] for row in ingestion.Run().to_dicts()) == ["failed", "finished", "finished"]


def test_known_types_and_formats_are_used(database, tmp_path):
    upsert(
        dataset.DatasetType,
        [
            {"dataset_type": "choices", "filename_pattern": "*trials.choice*"},
            {"dataset_type": "anything", "filename_pattern": "*.npy"},
        ],
    )
    upsert(dataset.DataFormat, [{"data_format": "parquet", "file_extension": ".pqt"}])
    write(tmp_path, *(f"m1/2020-01-02/001/{name}" for name in ("_ibl_trials.choice.npy", "a.b.npy", "c.d.pqt")))
    run(tmp_path)
    found = {row["dataset_name"]: (row["dataset_type"], row["data_format"]) for row in datasets().values()}
    assert found == {
        "_ibl_trials.choice.npy": ("choices", "npy"),
        "a.b.npy": ("anything", "npy"),
        "c.d.pqt": ("c.d", "parquet"),
    }


def test_a_renamed_subject_keeps_its_sessions(database, tmp_path):
    write(tmp_path, "m1/2020-01-02/001/a.b.npy")
    run(tmp_path)
    eid = session.Session().fetch1("eid")
    connection = database.connection
    connection.query(f"update {subject.Subject().full_table_name} set subject = 'm1b' where subject = 'm1'")
    write(tmp_path, "m1/2020-01-02/001/c.d.npy")
    assert run(tmp_path).failed == 0
    assert session.Session().fetch1("eid", "subject") == (eid, "m1b") and len(dataset.Dataset & {"eid": eid}) == 2


def test_the_command(database, tmp_path, labweave_command):
    write(tmp_path, "data/m1/2020-01-02/001/alf/a.b.npy", "data/m1/2020-01-02/001/note.txt")
    result = labweave_command("ingest", "alf", "data", "--lab", LAB, "--no-hash", check=0)
    assert "1 new" in result.stdout and "note.txt" in result.stdout
    assert datasets()["alf/a.b.npy"]["hash"] == ""
    with pytest.raises(SourceError, match="Nothing in"):
        run(tmp_path / "data/m1/2020-01-02/001/alf")


def test_sessions_are_found_in_order_wherever_they_are(tmp_path):
    write(tmp_path, "b/2020-01-02/002/x.y.npy", "b/2020-01-02/001/x.y.npy", "a/Subjects/s/2020-01-02/01/x.y.npy")
    write(tmp_path, ".hidden/2020-01-02/001/x.y.npy", "2020-01-02/001/x.y.npy")
    found = list(tree.find_session_folders(tmp_path, AlfAdapter(tmp_path, "lab", AlfOptions())))
    assert [one.path.relative_to(tmp_path).as_posix() for one in found] == [
        "2020-01-02/001",
        "a/Subjects/s/2020-01-02/01",
        "b/2020-01-02/001",
        "b/2020-01-02/002",
    ]
    assert [(one.lab, one.number) for one in found[1:]] == [("a", 1), ("", 1), ("", 2)]

"""ALF folders that were renamed, doubled or described by tables: what they give depends on no earlier run."""

import shutil
from pathlib import Path

import numpy as np
import one_lab
import pandas as pd
import pytest

from labweave import ingest
from labweave.schemas import dataset, ingestion, session
from labweave.testing import empty, rows_of_tables

UUIDS = ("0a0a0a0a-1b1b-4c4c-8d8d-0e0e0e0e0e01", "0a0a0a0a-1b1b-4c4c-8d8d-0e0e0e0e0e02")
NAMES = ("spikes.times.npy", *(f"spikes.times.{one}.npy" for one in UUIDS))


def run(location, **options):
    return ingest.run("alf", location, **{"lab": "smithlab", **options})


def alone(database, location):
    """Return the rows that the location gives to an empty database."""
    empty(database)
    assert run(location).failed == 0
    return rows_of_tables(database)


@pytest.fixture
def folder(tmp_path) -> Path:
    alf = tmp_path / "data" / "m1" / "2026-01-02" / "001" / "alf"
    alf.mkdir(parents=True)
    np.save(alf / "spikes.times.npy", np.zeros(3))
    (alf / "log.events.csv").write_text("a\n")
    return alf


@pytest.mark.parametrize("old", NAMES, ids=["plain", "one", "two"])
@pytest.mark.parametrize("new", NAMES, ids=["plain", "one", "two"])
def test_the_id_is_that_of_the_name_now(database, folder, tmp_path, old, new):
    (folder / "spikes.times.npy").rename(folder / old)
    run(tmp_path / "data")
    (folder / old).rename(folder / new)
    report = run(tmp_path / "data")
    assert report.failed == 0
    found = rows_of_tables(database)
    assert found == alone(database, tmp_path / "data")


def test_a_dataset_that_a_person_s_row_hangs_on_is_named(database, folder, tmp_path):
    run(tmp_path / "data")
    key = (dataset.Dataset & {"dataset_name": "spikes.times.npy"}).fetch1("KEY")
    dataset.Tag.insert1({"tag": "paper"})
    dataset.DatasetTag.insert1({**key, "tag": "paper"})
    (folder / NAMES[0]).rename(folder / NAMES[1])
    report = run(tmp_path / "data")
    assert report.failed == 1 and "paper" in str(report) and key["dataset_id"] in str(report)
    assert dataset.Dataset & key and not dataset.Dataset & {"dataset_id": UUIDS[0]}
    dataset.DatasetTag.delete_quick()
    assert run(tmp_path / "data").failed == 0 and not dataset.Dataset & key


def test_a_dataset_that_a_server_follows_keeps_its_id(database, folder, tmp_path):
    run(tmp_path / "data")
    key = (dataset.Dataset & {"dataset_name": "spikes.times.npy"}).fetch1("KEY")
    dataset.Dataset.update1({**key, "dataset_stamp": "2026-01-02 10:00:00"})
    (folder / NAMES[0]).rename(folder / NAMES[1])
    assert run(tmp_path / "data").failed == 0
    (record,) = (dataset.FileRecord & key).to_dicts()
    assert record["relative_path"].endswith(NAMES[1]) and not dataset.Dataset & {"dataset_id": UUIDS[0]}


def test_two_labs_have_datasets_of_their_own(database, folder, tmp_path):
    (folder / NAMES[0]).rename(folder / NAMES[1])
    run(tmp_path / "data", lab="one")
    before = rows_of_tables(database)
    second = run(tmp_path / "data", lab="two", also=True)
    assert second.failed == 0 and len(dataset.Dataset & {"is_present": True}) == len(dataset.FileRecord()) == 4
    eid = (session.Session & {"lab": "one"}).fetch1("eid")
    assert (dataset.Dataset & {"dataset_id": UUIDS[0]}).fetch1("eid") == eid
    for name in ("one", "two"):
        assert run(tmp_path / "data", lab=name).unchanged == 1
    ingest.forget(second.source)
    assert rows_of_tables(database) == before


def test_a_lab_whose_other_lab_is_forgotten_has_the_ids(database, folder, tmp_path):
    (folder / NAMES[0]).rename(folder / NAMES[1])
    first = run(tmp_path / "data", lab="wronglab")
    run(tmp_path / "data", also=True)
    ingest.forget(first.source)
    assert run(tmp_path / "data").changed == 1
    found = rows_of_tables(database)
    assert found == alone(database, tmp_path / "data")


def test_a_format_whose_giver_is_gone_comes_back_whole(database, folder, tmp_path):
    run(tmp_path / "data")
    text = (folder / "log.events.csv").read_text()
    (folder / "log.events.csv").unlink()
    other = folder.parents[1] / "002" / "alf"
    other.mkdir(parents=True)
    (other / "log.events.csv").write_text(text)
    assert run(tmp_path / "data").failed == 0
    found = rows_of_tables(database)
    assert found == alone(database, tmp_path / "data")
    assert (dataset.DataFormat & {"data_format": "csv"}).fetch1("file_extension") == ".csv"


@pytest.mark.parametrize("first", [1, 2, None], ids=["first", "second", "together"])
def test_an_id_in_the_names_of_two_sessions_files_is_refused_with_both(database, tmp_path, first):
    paths = {n: tmp_path / f"data/m1/2026-01-0{n}/001/alf" / NAMES[1] for n in (1, 2)}
    for n in sorted(paths, key=lambda n: n != first):
        paths[n].parent.mkdir(parents=True)
        np.save(paths[n], np.zeros(n))
        if first == n:
            run(tmp_path / "data")
    for _ in range(2):
        report = run(tmp_path / "data")
        (failure,) = report.failures
        assert report.failed == 1 and str(paths[1]) in failure.message and str(paths[2]) in failure.message
        assert len(dataset.Dataset()) == len(dataset.FileRecord()) == len(session.Session()) == 1
    paths[first or 1].rename(paths[first or 1].with_name(NAMES[2]))
    found = run(tmp_path / "data") and rows_of_tables(database)
    assert len(dataset.Dataset()) == 2 and found == alone(database, tmp_path / "data")
    one, two = sorted((tmp_path / "data").rglob("*.npy"))
    aside = one.rename(tmp_path / "aside")
    two.rename(one.with_name(two.name))
    aside.rename(two.with_name(one.name))
    found = run(tmp_path / "data") and rows_of_tables(database)
    assert found == alone(database, tmp_path / "data")  # each has the other's file


def test_an_id_in_the_names_of_two_files_of_a_session_refuses_the_second(database, folder, tmp_path):
    (folder / NAMES[0]).rename(folder / NAMES[1])
    run(tmp_path / "data")
    before = rows_of_tables(database)
    copy = folder / "task" / NAMES[1]
    copy.parent.mkdir()
    shutil.copy(folder / NAMES[1], copy)
    for _ in range(2):
        report = run(tmp_path / "data")
        assert (report.failed, report.refused, report.exit_code) == (0, 1, 1)
        assert rows_of_tables(database) == before
    assert str(copy) in str(run(tmp_path / "data", again=True))
    copy.unlink()
    assert run(tmp_path / "data").exit_code == 0


# --- tables beside the folders


@pytest.fixture
def both(tmp_path):
    one_lab.write_files(tmp_path / "both")
    return tmp_path / "both"


def write_tables(folder, **changed):
    """Write tables of the folder's sessions; `changed` are columns of the table of datasets."""
    one_lab.write_tables(folder, folder)
    path = folder / "datasets.pqt"
    pd.read_parquet(path).assign(**changed).to_parquet(path)


@pytest.mark.parametrize("when", ["before", "after", "between"])
def test_tables_and_folders_in_any_order(database, both, tmp_path, when):
    aside = tmp_path / "aside"
    if when == "before":
        both.rename(aside)
        both.mkdir()
        one_lab.write_tables(aside, both)
        run(both)
        shutil.copytree(aside, both, dirs_exist_ok=True)
    elif when == "after":
        run(both)
        write_tables(both)
    else:
        write_tables(both, hash="0" * 32)
        run(both)
        assert set(map(str, dataset.FileRecord().to_arrays("file_json"))) == {"{'mismatch_hash': True}"}
        write_tables(both)
    report = run(both)
    assert report.failed == 0
    assert run(both).unchanged == 9
    found = rows_of_tables(database)
    assert found == alone(database, both)


def test_folders_whose_tables_are_forgotten_have_their_own_ids(database, both):
    write_tables(both)
    source = run(both).source
    for path in both.glob("*.pqt"):
        path.unlink()
    assert len(run(both).vanished) == 3
    (unit,) = set((ingestion.SourceFile & {"file_status": "vanished"}).to_arrays("unit").tolist())
    ingest.forget(source, [unit])
    assert run(both).changed == 7  # the eighth has no file
    found = rows_of_tables(database)
    assert found == alone(database, both)


def test_of_two_tables_one_is_missing(database, both):
    write_tables(both)
    run(both)
    before = rows_of_tables(database)
    (both / "sessions.pqt").unlink()
    report = run(both)
    assert report.failed == 1 and "sessions.pqt: No such file" in report.failures[0].message
    assert rows_of_tables(database) == before

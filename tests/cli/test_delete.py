"""`labweave delete`: what would go, whose it is, the question, and what comes back."""

import getpass
import os
import pty
import subprocess
import sys

import pytest
from conftest import PREFIX
from simulated import LAB, OPTIONS, contents, differences, sweeps_of, write_cells

import labweave
from labweave import ingest, populate
from labweave.analysis import add_cell_group
from labweave.database import upsert
from labweave.schemas import efeature, ingestion, recording, rheobase, session
from labweave.schemas import lab as lab_schema

pytestmark = pytest.mark.slow

N_SWEEPS, ME = len(sweeps_of(0)), getpass.getuser()


@pytest.fixture
def folder(database, tmp_path):
    """A folder of two cells in a group; their stimuli and rheobases are made."""
    folder = write_cells(tmp_path / "cells", 2)
    ingest.run("ephys", folder, **OPTIONS)
    assert populate.run().failed == 0
    add_cell_group("both", {})
    return folder


def columns(text):
    """Return what is printed of each table: name -> rows, whose."""
    lines = [line.strip().split(maxsplit=2) for line in text.splitlines() if "." in line.split(" ")[0]]
    return {name: (int(count), *rest) for name, count, *rest in lines}


def answered(database_url, answer, *arguments):
    """Run the command on a terminal, and answer its question."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": PREFIX}
    command = [sys.executable, "-m", "labweave", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    os.write(ours, answer)
    out, _ = process.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    return process.returncode, out.decode()


def test_what_would_go_and_whose_it_is(folder, database, labweave_command):
    before = contents(database)
    out = labweave_command("delete", "Cell", "cell=cell0", "--dry-run", check=0).stdout
    found = columns(out)
    assert {name: row[0] for name, row in found.items()} == {
        "recording.Cell": 1,
        "recording.Recording": N_SWEEPS,
        "recording.RecordingStimulus": N_SWEEPS,
        "rheobase.Rheobase": 1,
        "efeature.CellGroup.Member": 1,
    }
    (source,) = ingestion.Source().to_arrays("source")
    assert found["recording.Recording"][1] == f"from {source} cell0.h5 (ingested by {ME})"
    assert found["rheobase.Rheobase"][1] == f"made by {ME} (1)"
    assert found["efeature.CellGroup.Member"][1:] == ()
    assert "Nothing is deleted" in out and not differences(before, contents(database))


def test_a_delete_is_kept_explained_and_undone_by_ingest(folder, database, labweave_command):
    before = contents(database)
    out = labweave_command("delete", "Cell", "cell=cell0", "--yes", check=0).stdout
    assert f"{2 * N_SWEEPS + 3} rows deleted" in out
    assert recording.Cell().to_arrays("cell").tolist() == ["cell1"]
    assert (
        rheobase.Rheobase().to_arrays("cell").tolist()
        == ["cell1"]
        == efeature.CellGroup.Member().to_arrays("cell").tolist()
    )
    kept = ingestion.Change & {"change_kind": "deleted", "changed_by": ME}
    assert len(kept) == 2 * N_SWEEPS + 3 == len(ingestion.Change())
    old = (kept & {"table_name": "rheobase.Rheobase"}).fetch1("old_values")
    report = ingest.run("ephys", folder, **OPTIONS)
    assert report.rows["recording.Recording"].inserted == N_SWEEPS
    assert populate.run().failed == 0
    changed = differences(before, contents(database))
    assert not [name for name in changed if name.startswith(("recording.", "rheobase.")) and "~" not in name]
    again = rheobase.Rheobase & {"cell": "cell0"}
    assert again.fetch1("rheobase") == old["rheobase"]
    lines = str(labweave.explain(recording.Cell & {"cell": "cell0"})).splitlines()
    assert any("recording.Cell" in line and "deleted: " in line and f", by {ME}" in line for line in lines), lines


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"y\n"])
def test_the_question(folder, database, database_url, answer):
    before = contents(database)
    code, out = answered(database_url, answer, "delete", "CellGroup", "cell_group=both")
    assert code == 0 and "Delete them?" in out and columns(out)["efeature.CellGroup.Member"] == (2,)
    if answer == b"y\n":
        assert not efeature.CellGroup() and "3 rows deleted" in out
    else:
        assert "Nothing is deleted" in out and not differences(before, contents(database))


def test_ctrl_c_at_the_question(folder, database, database_url):
    before = contents(database)
    code, out = answered(database_url, b"\x04", "delete", "CellGroup", "cell_group=both")
    assert code == 130 and not differences(before, contents(database)), out


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("Cell", "cell=cell0"), "--yes"),
        (("Cell", "cell=nobody", "--yes"), "No row of Cell has cell=nobody"),
        (("Cell", "name=cell0", "--yes"), "Cell has no name. It has: eid, cell"),
        (("Sell", "cell=cell0", "--yes"), "No table is called Sell"),
        (("Session", "session_number=1x", "--yes"), "session_number 1x"),
        (("Session", "session_date=soon", "--yes"), "session_date soon"),
        (("RecordingEFeatures.Value", "efeature=AP1_amp", "--yes"), "labweave delete RecordingEFeatures"),
        (("SourceFile", "path=cell0.h5", "--yes"), "labweave forget"),
    ],
)
def test_what_is_refused(folder, database, labweave_command, arguments, says):
    before = contents(database)
    result = labweave_command("delete", *arguments, check=2)
    assert says in result.stderr and "Traceback" not in result.stderr and result.stdout == ""
    assert not differences(before, contents(database))


def test_parts_that_people_wrote_can_go_alone(folder, database, labweave_command):
    labweave_command("delete", "CellGroup.Member", "cell=cell0", "--yes", check=0)
    assert len(efeature.CellGroup()) == len(efeature.CellGroup.Member()) == 1


def test_a_lab_with_everything_in_it(folder, database, labweave_command):
    upsert(lab_schema.Lab, [{"lab": "other"}])
    labweave_command("delete", "Lab", f"lab={LAB}", "--yes", check=0)
    assert lab_schema.Lab().to_arrays("lab").tolist() == ["other"]
    assert not session.Session() and not recording.Recording() and not rheobase.Rheobase()


def test_beside_a_running_populate(folder, database, labweave_command):
    """Whoever comes first: no row is left without what it rests on, and each deleted result is kept once."""
    recording.RecordingStimulus().delete(prompt=False)
    n_before = len(ingestion.Change())
    populating = labweave_command.start("populate")
    labweave_command("delete", "Cell", "cell=cell0", "--yes", check=0)
    populating.communicate()
    populate.run()
    assert recording.Cell().to_arrays("cell").tolist() == ["cell1"]
    for table in (recording.Recording, recording.RecordingStimulus):
        assert set(table().to_arrays("cell").tolist()) == {"cell1"} and len(table()) == N_SWEEPS
    assert rheobase.Rheobase().to_arrays("cell").tolist() == ["cell1"]
    kept = [row for row in ingestion.Change().to_dicts() if row["row_key"].get("cell") == "cell0"]
    assert len(kept) >= n_before // 2 + N_SWEEPS + 1
    assert labweave_command("errors").stdout.count("cell0") == 0

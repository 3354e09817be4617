"""The labweave command: what each command prints, its exit code, and errors as one line."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pymysql
import pytest
import typer
from conftest import PREFIX, is_embedded
from simulated import LAB, OPTIONS, contents, damage, differences, sweeps_of, write_cell, write_cells
from typer.testing import CliRunner

import labweave
from labweave import ingest, populate
from labweave.cli.app import app
from labweave.database import upsert
from labweave.database.url import parse_url
from labweave.schemas import ingestion, recording, rheobase, session
from labweave.schemas import lab as lab_schema

pytestmark = pytest.mark.slow

N_SWEEPS = len(sweeps_of(0))
ARGUMENTS = ("--lab", LAB, "--subject", "mouse-{cell}", "--session-date", "2026-01-02")


def one_line_error(result, *says):
    """Check that a command ended with exit code 2 and one line that says why."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1 and "Traceback" not in result.stderr, result.stderr
    assert result.stderr.startswith("labweave: ")
    for text in says:
        assert text in result.stderr, result.stderr


@pytest.fixture
def cells(database, tmp_path):
    write_cells(tmp_path / "cells", 2)
    ingest.run("ephys", tmp_path / "cells", **OPTIONS)
    return tmp_path / "cells"


def test_version(labweave_command):
    assert labweave_command("--version", check=0).stdout == f"labweave {labweave.__version__}\n"


def test_the_version_needs_no_database(labweave_command):
    labweave_command("--version", check=0, LABWEAVE_DATABASE_URL="mysql://nobody@127.0.0.1:1")


def every_command(command, *names):
    """Yield the words of each command and group below one, as the command line itself knows them."""
    yield names
    if hasattr(command, "list_commands"):
        context = command.make_context("labweave", [], resilient_parsing=True)
        for name in command.list_commands(context):
            yield from every_command(command.get_command(context, name), *names, name)


@pytest.mark.parametrize("command", every_command(typer.main.get_command(app)), ids=" ".join)
def test_help_of_every_command(command):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, "--help"], prog_name="labweave")
    out = result.stdout
    assert result.exit_code == 0 and "Usage: " + " ".join(["labweave", *command]) in " ".join(out.split())
    assert "Undefined" not in out and "None]" not in out


def test_help_names_the_adapters_and_their_options(labweave_command):
    assert re.search(r"ephys +Patch-clamp", labweave_command("ingest", "--help", check=0).stdout)
    out = labweave_command("ingest", "ephys", "--help", check=0).stdout
    for option in (
        "--lab",
        "--source",
        "--dry-run",
        "--subject",
        "--species",
        "--session-date",
        "--session-number",
        "--mapping",
    ):
        assert option in out


def test_a_command_that_does_not_exist(labweave_command):
    result = labweave_command("populat")
    assert result.returncode == 2 and "populat" in result.stderr and "Traceback" not in result.stderr
    result = labweave_command("ingest", "nope", ".")
    assert result.returncode == 2 and "nope" in result.stderr


def test_init_makes_the_tables_and_keeps_a_settings_file(labweave_command, new_prefix, database_url, tmp_path):
    prefix = new_prefix()
    out = labweave_command("init", "--yes", "--lab", "smithlab", prefix=prefix, check=0)
    path = tmp_path / "labweave.toml"
    assert str(path) in out.stderr and re.search(r"\b0 problems", out.stdout)
    text = path.read_text()
    assert 'lab = "smithlab"' in text and f'prefix = "{prefix}"' in text
    path.write_text(text + "# mine\n")
    again = labweave_command("init", "--yes", "--lab", "other", prefix=prefix, check=0)
    assert path.read_text() == text + "# mine\n"
    assert " 0 tables made, 0 problems" in again.stdout
    write_cell(tmp_path / "data", 0, subject="m", session_date="2026-01-01")
    labweave_command("ingest", "ephys", "data", prefix=prefix, check=0)
    frame = labweave_command("sql", "select lab from {prefix}lab.lab", "-f", "csv", prefix=prefix, check=0).stdout
    assert frame == "lab\nsmithlab\n"


def test_from_files_to_rheobase(database, labweave_command, tmp_path):
    write_cells(tmp_path / "cells", 2)
    dry = labweave_command("ingest", "ephys", "cells", *ARGUMENTS, "--dry-run", check=0)
    assert "2 new" in dry.stdout and len(recording.Cell()) == 0
    out = labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=0).stdout
    assert "2 units; 2 new, 0 changed, 0 unchanged, 0 failed" in out
    assert re.search(rf"recording.Recording +{2 * N_SWEEPS} +0 +0", out)
    again = labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=0).stdout
    assert "2 units; 0 new, 0 changed, 2 unchanged, 0 failed" in again
    out = labweave_command("populate", "--workers", "2", check=0)
    assert re.search(rf"recording.RecordingStimulus +{2 * N_SWEEPS} +0", out.stdout) and out.stderr == ""
    assert len(rheobase.Rheobase()) == 2
    out = labweave_command("status", check=0).stdout
    assert re.search(r"rheobase.Rheobase +2 +0 +0", out) and re.search(r"finished +2 +0", out)
    assert labweave_command("errors", check=0).stdout == "0 failed jobs\n"


def test_a_failed_unit_gives_exit_code_1_and_is_named(database, labweave_command, tmp_path):
    write_cells(tmp_path / "cells", 2)
    damage(tmp_path / "cells" / "cell1.h5")
    result = labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=1)
    assert "1 new" in result.stdout and "1 failed" in result.stdout
    assert "failed cell1.h5: " in result.stdout and "Traceback" not in result.stdout + result.stderr
    listed = labweave_command("errors", check=0).stdout
    assert listed.count("cell1.h5\n") == 1 and "1 units or files not ingested" in listed
    labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=1)
    assert labweave_command("errors", check=0).stdout == listed
    write_cell(tmp_path / "cells", 1)
    labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=0)
    assert "not ingested" not in labweave_command("errors", check=0).stdout


def test_sources_forget_and_what_another_lab_has(database, labweave_command, tmp_path):
    write_cells(tmp_path / "cells", 2)
    assert "No source yet" in labweave_command("sources", check=0).stdout
    labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=0)
    (name,) = ingestion.Source().to_arrays("source").tolist()
    assert re.search(rf"{name} +{LAB} .* finished +2 +0 +-", labweave_command("sources", check=0).stdout)
    assert re.search(r"cell0.h5 +1 +ingested", labweave_command("sources", name, check=0).stdout)
    one_line_error(labweave_command("sources", "nothing"), "nothing", "labweave sources")
    shown = labweave_command("forget", name, "cell0.h5", "--dry-run", check=0).stdout
    assert f"recording.Recording: {N_SWEEPS} rows would be taken out" in shown and len(recording.Recording()) > N_SWEEPS
    assert "rows taken out" in labweave_command("forget", name, "cell0.h5", check=0).stdout
    assert len(recording.Recording()) == N_SWEEPS
    assert "1 units are forgotten" in labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=0).stdout
    assert re.search(r"cell0.h5 +0 +forgotten", labweave_command("sources", name, check=0).stdout)
    assert re.search(rf"{name} .* 1$", labweave_command("sources", check=0).stdout, re.MULTILINE)
    labweave_command("forget", name, "--undo", check=0)
    labweave_command("ingest", "ephys", "cells", *ARGUMENTS, "--again", check=0)
    assert len(recording.Recording()) == 2 * N_SWEEPS
    other = (*ARGUMENTS, "--lab", "otherlab")
    one_line_error(labweave_command("ingest", "ephys", "cells", *other), LAB, name, "--move", "--also")
    labweave_command("ingest", "ephys", "cells", *other, "--move", check=0)
    assert lab_schema.Lab().to_arrays("lab").tolist() == ["otherlab"]


def test_one_mistake_is_one_line(database, labweave_command, tmp_path):
    write_cells(tmp_path / "cells", 3)
    day = ("--lab", "x", "--session-date", "20260301")
    one_line_error(labweave_command("ingest", "ephys", "cells", *day), "of 3 units, none says its subject", "--subject")
    labweave_command("ingest", "ephys", "cells", *day, "--subject", "m1", check=0)
    assert {str(date) for date in session.Session().to_arrays("session_date")} == {"2026-03-01"}
    one_line_error(
        labweave_command("ingest", "ephys", "cells", "--lab", "x", "--session-date", "01.03.2026"), "YYYY-MM-DD"
    )
    result = labweave_command("ingest", "ephs", "cells")
    assert result.returncode == 2 and "Did you mean 'ephys'?" in result.stderr


def test_failed_jobs_are_listed_and_put_back(cells, labweave_command):
    good = (cells / "cell1.h5").read_bytes()
    damage(cells / "cell1.h5")
    result = labweave_command("populate", check=1)
    assert f"{N_SWEEPS} jobs failed" in result.stdout and "[ERROR]" not in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert re.search(
        rf"recording.RecordingStimulus +{N_SWEEPS} +0 +{N_SWEEPS}\b", labweave_command("status", check=0).stdout
    )
    listed = labweave_command("errors", check=0).stdout
    assert listed.count("recording.RecordingStimulus eid=") == N_SWEEPS and str(cells / "cell1.h5") in listed
    assert "Traceback" not in listed and "labweave retry" in listed
    assert "Traceback" in labweave_command("errors", "--traceback", "RecordingStimulus", check=0).stdout
    assert labweave_command("errors", "Rheobase", check=0).stdout == "0 failed jobs\n"
    assert "0 jobs put back" in labweave_command("retry", "--restrict", "cell=cell0", check=0).stdout
    (cells / "cell1.h5").write_bytes(good)
    assert f"{N_SWEEPS} jobs put back" in labweave_command("retry", "-r", "subject=mouse-cell1", check=0).stdout
    labweave_command("populate", "RecordingStimulus", "rheobase.Rheobase", check=0)
    assert len(rheobase.Rheobase()) == 2


def test_populate_restricted(cells, labweave_command):
    labweave_command("populate", "-r", "subject=mouse-cell1", check=0)
    assert rheobase.Rheobase().fetch1("cell") == "cell1"
    one_line_error(labweave_command("populate", "-r", "mouse=x"), "mouse", "subject")
    one_line_error(labweave_command("populate", "-r", "subject=nobody"), "No subject is called 'nobody'")
    one_line_error(labweave_command("populate", "Rheobasis"), "Rheobasis", "rheobase.Rheobase")
    for wrong in (("-r", "mouse"), ("--workers", "0"), ("--workers", "many")):
        result = labweave_command("populate", *wrong)
        assert result.returncode == 2 and "Traceback" not in result.stderr


def test_what_ingest_can_not_start(database, labweave_command, tmp_path):
    one_line_error(labweave_command("ingest", "ephys", "nowhere", "--lab", "x"), "nowhere", "does not exist")
    write_cell(tmp_path / "cells", 0)
    one_line_error(labweave_command("ingest", "ephys", "cells"), "--lab")
    one_line_error(
        labweave_command("ingest", "ephys", "cells", "--lab", "x", "--session-date", "someday"),
        "session_date",
        "someday",
        "YYYY-MM-DD",
    )
    (tmp_path / "empty").mkdir()
    one_line_error(labweave_command("ingest", "ephys", "empty", "--lab", "x"), "Nothing in")
    (tmp_path / "cells" / "metadata.json").write_text("{")
    one_line_error(labweave_command("ingest", "ephys", "cells", "--lab", "x"), "metadata.json", "JSON")
    result = labweave_command("ingest", "ephys", "cells", "--colour", "red")
    assert result.returncode == 2 and "--colour" in result.stderr and "Traceback" not in result.stderr


ROWS = [
    {"lab": "a", "institution": "Ünï 😀, \"quoted\"\nline", "lab_json": {"n": [1, None]}},
    {"lab": "b", "institution": "", "lab_json": None},
]  # fmt: skip


def test_sql_in_every_format(database, labweave_command):
    upsert(lab_schema.Lab, ROWS)
    query = "select lab, institution, lab_json, 3 as n, null as missing from {prefix}lab.lab order by lab"
    out = labweave_command("sql", query, "--format", "csv", check=0).stdout
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert [(row["lab"], row["institution"], row["n"], row["missing"]) for row in rows] == [
        ("a", ROWS[0]["institution"], "3", ""), ("b", "", "3", ""),
    ]  # fmt: skip
    assert json.loads(rows[0]["lab_json"]) == ROWS[0]["lab_json"]
    rows = json.loads(labweave_command("sql", query, "--format", "json", check=0).stdout)
    assert [(row["lab"], row["institution"], row["n"], row["missing"]) for row in rows] == [
        ("a", ROWS[0]["institution"], 3, None), ("b", "", 3, None),
    ]  # fmt: skip
    out = labweave_command("sql", query, check=0).stdout
    assert "Ünï 😀" in out and "missing" in out
    assert " - " in out.splitlines()[-1] + " "


def test_sql_prints_values_as_they_are(database, labweave_command):
    query = "select '[mV] :b: [/x]' as unit, null as n union all select 'z', 1764547200123456789"
    assert any(
        line.startswith("[mV] :b: [/x] ") for line in labweave_command("sql", query, check=0).stdout.splitlines()
    )
    rows = json.loads(labweave_command("sql", query, "-f", "json", check=0).stdout)
    assert sorted(rows, key=lambda row: row["unit"]) == [
        {"unit": "[mV] :b: [/x]", "n": None}, {"unit": "z", "n": 1764547200123456789},
    ]  # fmt: skip


def test_sql_of_many_columns_is_a_list_for_each_row(database, labweave_command):
    upsert(lab_schema.Lab, ROWS)
    wide = ", ".join(f"lab as a_long_name_of_a_column_{n}" for n in range(9))
    out = labweave_command("sql", f"select {wide} from {{prefix}}lab.lab order by lab", check=0).stdout
    blocks = [block.split() for block in out.strip().split("\n\n")]
    assert [block[:4] for block in blocks] == [
        ["a_long_name_of_a_column_0", lab, "a_long_name_of_a_column_1", lab] for lab in ("a", "b")
    ]


def test_sql_that_finds_nothing(database, labweave_command):
    query = "select lab, institution from {prefix}lab.lab"
    assert labweave_command("sql", query, "-f", "csv", check=0).stdout == "lab,institution\n"
    assert json.loads(labweave_command("sql", query, "-f", "json", check=0).stdout) == []
    assert labweave_command("sql", query, check=0).stdout.split() == ["lab", "institution"]


def test_sql_of_blobs_numbers_and_times(cells, labweave_command):
    populate.run()
    query = (
        "select spike_times, amp, dt, session_date from {prefix}recording._recording_stimulus s"
        " join {prefix}session.session t on s.eid = t.eid where cell = 'cell0' order by recording"
    )
    rows = json.loads(labweave_command("sql", query, "-f", "json", check=0).stdout)
    assert len(rows) == N_SWEEPS and rows[0]["session_date"].startswith("2026-01-02")
    assert rows[5]["amp"] == (recording.RecordingStimulus & {"cell": "cell0", "recording": "cell0#sweep_005"}).fetch1(
        "amp"
    )
    text = labweave_command("sql", query, check=0).stdout
    assert len(text.splitlines()) == N_SWEEPS + 1 and "bytes>" in text
    rows = list(csv.DictReader(io.StringIO(labweave_command("sql", query, "-f", "csv", check=0).stdout)))
    assert float(rows[5]["amp"]) == pytest.approx(0.25, abs=1e-3) and rows[5]["session_date"] == "2026-01-02"


@pytest.mark.parametrize(
    "query",
    [
        "delete from {prefix}lab.lab",
        "update {prefix}lab.lab set institution = 'x'",
        "drop table {prefix}lab.lab_membership",
        "create table {prefix}lab.mine (a int)",
    ],
)
def test_sql_that_writes_is_refused(database, labweave_command, query):
    upsert(lab_schema.Lab, ROWS)
    before = contents(database)
    one_line_error(labweave_command("sql", query))
    assert differences(before, contents(database)) == {}


def test_sql_errors_are_one_line(database, labweave_command):
    one_line_error(labweave_command("sql", "select * from {prefix}lab.labb"), "labb")
    one_line_error(labweave_command("sql", "select nope from {prefix}lab.lab"), "nope")
    one_line_error(labweave_command("sql", "selekt 1"), "selekt")
    result = labweave_command("sql", "select 1", "--format", "xml")
    assert result.returncode == 2 and "xml" in result.stderr


@pytest.mark.parametrize(("name", "starts"), [("a b.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_diagram(database, labweave_command, tmp_path, name, starts):
    labweave_command("diagram", name, check=0)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(starts) and len(content) > 5000


def test_a_diagram_of_some_schemas_and_of_none(database, labweave_command, tmp_path):
    labweave_command("diagram", "--schema", "rheobase", "--schema", "recording", "two.svg", check=0)
    assert (tmp_path / "two.svg").stat().st_size > 2000
    one_line_error(labweave_command("diagram", "--schema", "nope", "x.svg"), "nope", "rheobase")
    one_line_error(labweave_command("diagram", "x.pdf"), ".svg")
    one_line_error(labweave_command("diagram", "no/such/folder.svg"), "no/such/folder.svg")


def test_url_shows_no_password(labweave_command):
    result = labweave_command("db", "url", check=0, LABWEAVE_DATABASE_URL="mysql://ann:Secret%3A1@server:3307")
    assert "mysql://ann:***@server:3307" in result.stdout and f"prefix={PREFIX}" in result.stdout
    assert "Secret" not in result.stdout
    result = labweave_command(
        "--database", "postgresql://ann:Secret%3A1@server/x", "--prefix", "mine_", "db", "url", check=0
    )
    assert (
        "postgresql://ann:***@server" in result.stdout
        and "prefix=mine_" in result.stdout
        and "Secret" not in result.stdout
    )


def test_check_finds_nothing_and_then_a_missing_table(labweave_command, new_lab, database_url):
    prefix = new_lab()
    assert labweave_command("db", "check", prefix=prefix, check=0).stdout == "0 problems\n"
    with labweave.connect(database_url, prefix=prefix) as database:
        quote = database.connection.adapter.quote_identifier
        database.connection.query(f"drop table {quote(prefix + 'lab')}.{quote('lab_membership')}")
    out = labweave_command("db", "check", prefix=prefix, check=1).stdout
    assert f"{prefix}lab.lab_membership" in out and out.endswith("1 problems\n")


def test_backup_and_restore(labweave_command, new_lab, database_url, tmp_path):
    prefix = new_lab()
    with labweave.connect(database_url, prefix=prefix):
        upsert(lab_schema.Lab, ROWS)
    before = contents((database_url, prefix))
    out = labweave_command("db", "backup", "b.backup", prefix=prefix, check=0).stdout
    assert out.startswith("wrote b.backup (")
    one_line_error(labweave_command("db", "backup", "b.backup", prefix=prefix), "b.backup")
    one_line_error(labweave_command("db", "backup", "no/such/b.backup", prefix=prefix), "no/such")
    with labweave.connect(database_url, prefix=prefix):
        lab_schema.Lab().delete_quick()
    one_line_error(labweave_command("db", "restore", "b.backup", prefix=prefix), prefix)
    labweave_command("db", "restore", "b.backup", "--replace", prefix=prefix, check=0)
    assert differences(before, contents((database_url, prefix))) == {}
    one_line_error(labweave_command("db", "restore", "nowhere.backup", prefix=prefix), "nowhere.backup")


def test_a_backup_goes_under_the_prefix_in_use_and_is_verified(labweave_command, new_lab, new_prefix, database_url):
    (old, new), empty = (new_lab(), new_lab()), new_prefix()
    with labweave.connect(database_url, prefix=old):
        upsert(lab_schema.Lab, ROWS)
    labweave_command("db", "backup", "b.backup", prefix=old, check=0)
    said = labweave_command("db", "verify", "b.backup", prefix=empty, check=0)
    assert said.stdout == "b.backup is good\n" and said.stderr == ""
    one_line_error(labweave_command("db", "restore", "b.backup", prefix=new), new, "--replace")
    said = labweave_command("--prefix", empty, "db", "restore", "b.backup", prefix=new, check=0)
    assert said.stderr == f"backup of {old}, restored as {empty}\n"
    with labweave.connect(database_url, prefix=empty):
        assert len(lab_schema.Lab()) == len(ROWS)
    with labweave.connect(database_url, prefix=new):
        assert len(lab_schema.Lab()) == 0


def test_backups_in_a_folder_are_named_by_their_time_and_the_older_ones_go(labweave_command, new_lab, tmp_path):
    prefix = new_lab()
    (tmp_path / "all").mkdir()
    said = labweave_command("db", "backup", "all", prefix=prefix, check=0).stdout
    (made,) = (tmp_path / "all").iterdir()
    assert re.fullmatch(rf"{prefix[:-1]}-\d{{4}}-\d\d-\d\dT\d{{6}}\.backup", made.name)
    assert f"wrote all/{made.name}" in said
    older = made.with_name(re.sub(r"\d{4}-", "2020-", made.name, count=1))
    made.rename(older)
    said = labweave_command("db", "backup", "all", "--keep", "daily=1", "--overwrite", prefix=prefix, check=0).stdout
    assert f"deleted all/{older.name}" in said and not older.exists()
    one_line_error(labweave_command("db", "backup", "b", "--keep", "daily=1", prefix=prefix), "not a folder")
    one_line_error(labweave_command("db", "backup", "all", "--keep", "often", prefix=prefix), "daily=7")


def test_upgrade_of_an_up_to_date_database(database, labweave_command):
    assert "0 steps applied" in labweave_command("db", "upgrade", check=0).stdout


def test_start_status_and_stop_of_the_embedded_server(labweave_command, database_url, tmp_path):
    if not is_embedded(database_url):
        one_line_error(labweave_command("db", "start"), "starts and stops the embedded one only")
        return
    folder = parse_url(database_url).data_dir.parent / "another"
    url = f"embedded://{folder}"

    def command(*arguments, **options):
        return labweave_command(*arguments, LABWEAVE_DATABASE_URL=url, **options)

    try:
        out = command("db", "status", check=1).stdout
        assert re.search(r"running +False", out)
        assert str(folder) in command("db", "start", check=0).stdout
        assert re.search(r"running +True", command("db", "status", check=0).stdout)
        one_line_error(command("sql", "select 1"), "labweave init")
        assert re.search(r"running +True", command("db", "status", check=0).stdout)
    finally:
        assert command("db", "stop", check=0).stdout == "stopped\n"
    assert command("db", "status").returncode == 1


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize(
    ("scheme", "command"), [("mysql", ("status",)), ("postgresql", ("sql", "select 1")), ("mysql", ("init", "--yes"))]
)
def test_a_server_that_does_not_run(labweave_command, scheme, command):
    url = f"{scheme}://ann:Secret%3A1@127.0.0.1:{free_port()}" + ("/x" if scheme == "postgresql" else "")
    result = labweave_command(*command, LABWEAVE_DATABASE_URL=url)
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 2 and "Nothing usable answers" in last and f"{scheme}://ann:***@127.0.0.1" in last
    assert "Secret" not in result.stdout + result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("url", ["mysql:/nope", "oracle://x", "postgresql://host:port/x"])
def test_a_wrong_url(labweave_command, url):
    one_line_error(labweave_command("--database", url, "status"))


def test_a_wrong_prefix(labweave_command):
    one_line_error(labweave_command("--prefix", "No-Way", "status"), "No-Way")


def test_a_settings_file_that_can_not_be_read(labweave_command, tmp_path):
    (tmp_path / "labweave.toml").write_text("[database\n")
    one_line_error(labweave_command("status"), "labweave.toml", "TOML")
    (tmp_path / "labweave.toml").write_text("[database]\nurll = 'x'\n")
    one_line_error(labweave_command("status"), "urll")


def test_a_wrong_password(labweave_command, database_url):
    if parse_url(database_url).backend != "mysql":
        pytest.skip("a user with a password is made on MySQL and MariaDB only")
    source = parse_url(database_url)
    user, password = f"lw{os.getpid()}", "Sehr:Geh/eim@1"
    root = pymysql.connect(host=source.host, port=source.port, user=source.user, password=source.password)
    with root, root.cursor() as cursor:
        cursor.execute(f"create user {user}@'%' identified by 'another'")
        try:
            url = f"mysql://{user}:Sehr%3AGeh%2Feim%401@{source.host}:{source.port}"
            for command in (("status",), ("--debug", "status"), ("populate",)):
                result = labweave_command(*command, LABWEAVE_DATABASE_URL=url)
                text = result.stdout + result.stderr
                assert result.returncode != 0 and "refuses the user or password" in text
                assert password not in text and "Geh" not in text
                if "--debug" not in command:
                    one_line_error(result, f"mysql://{user}:***@")
        finally:
            cursor.execute(f"drop user {user}@'%'")


def test_the_password_is_in_no_list_of_processes(cells, labweave_command):
    """Worker processes get the address through a pipe, not through their arguments."""
    process = labweave_command.start("populate", "--workers", "2")
    seen = set()
    while process.poll() is None:
        try:
            seen |= {" ".join(child.cmdline()) for child in psutil.Process(process.pid).children(recursive=True)}
        except psutil.Error:
            continue
    process.communicate()
    assert process.returncode == 0 and any("spawn_main" in line for line in seen)
    assert not any("://" in line for line in seen)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ingest_that_is_stopped_says_how_far_it_came(database, labweave_command, tmp_path, number):
    write_cells(tmp_path / "cells", 2)
    path = tmp_path / "cells" / "cell1.h5"
    os.truncate(path, 2**40)  # sparse, and hours to read
    (tmp_path / "cells" / "metadata.json").write_text(
        json.dumps({f"c{i}": {"IDrest": [{"filepath": f"cell{i}.h5", "sweep": "sweep_000"}]} for i in (0, 1)})
    )
    process = labweave_command.start("ingest", "ephys", "cells", *ARGUMENTS)
    try:
        end = time.monotonic() + 60
        while len(recording.Cell()) == 0:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number, err
    assert err.strip() == "stopped: 1 of 2 units are in; the same command goes on"
    assert ingestion.Run().fetch1("status") == "failed"
    assert recording.Cell().fetch1("cell") == "c0"


def test_errors_and_status_tell_what_is_not_in_once_and_until_it_is(database, labweave_command, tmp_path):
    write_cells(tmp_path / "cells", 2)
    path = tmp_path / "cells" / "cell1.h5"
    sound = path.read_bytes()
    damage(path)
    for known in (False, True):
        said = labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=1).stdout
        assert ("1 known failures, unchanged. See: labweave errors" in said) is known
    told = labweave_command("errors", check=0).stdout
    assert told.count("cell1.h5\n") == 1 and "1 units or files not ingested" in told and "0 failed jobs" in told
    assert "1 units or files not ingested. See: labweave errors" in labweave_command("status", check=0).stdout
    path.write_bytes(sound)
    labweave_command("ingest", "ephys", "cells", *ARGUMENTS, check=0)
    assert labweave_command("errors", check=0).stdout == "0 failed jobs\n"
    assert "not ingested" not in labweave_command("status", check=0).stdout


def test_an_interrupt_while_the_command_is_being_loaded_leaves_no_traceback():
    code = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from labweave.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_output_is_unicode_also_in_a_bare_environment(database, database_url, labweave_command):
    upsert(lab_schema.Lab, ROWS[:1])
    result = subprocess.run(
        [sys.executable, "-m", "labweave", "sql", "select institution from {prefix}lab.lab"],
        env={"LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": PREFIX, "HOME": str(Path.home()), "PATH": os.environ["PATH"]},
        capture_output=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Ünï 😀" in result.stdout.decode()


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["db", "--help"], ["ingest", "--help"], ["one", "search", "--help"]]
)
def test_help_loads_no_database_layer_and_no_arrays(words):
    """Each of these packages takes a tenth of a second or more to load."""
    heavy = ("datajoint", "pandas", "numpy", "networkx", "pydantic_settings", "matplotlib", "h5py")
    code = f"import sys; from labweave.cli import app; sys.argv[1:] = {words!r}\ntry: app.main()\n"
    code += f"finally: print('LOADED', *sorted(set({heavy!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert ran.stdout.splitlines()[-1] == "LOADED", ran.stderr


def test_importing_labweave_loads_no_database_layer():
    code = "import sys, labweave; print(*sorted({'datajoint', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == ""


def test_exclude_and_include_say_which_sweeps_and_when_there_is_nothing_to_do(database, labweave_command, tmp_path):
    write_cell(tmp_path, 0, "c")
    labweave_command("ingest", "ephys", ".", *ARGUMENTS, check=0)
    one = recording.Recording().keys(order_by="recording")[0]["recording"]
    for command, again in (("exclude", "excluded already"), ("include", "not excluded")):
        out = labweave_command(command, f"recording={one}", check=0).stdout
        assert one in out and f"1 sweep {command}d. Next: labweave populate" in out
        assert labweave_command(command, f"recording={one}", check=0).stdout.strip().endswith(again)

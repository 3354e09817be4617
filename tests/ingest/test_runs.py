"""What a run of ingest does the second time, to changed files, to bad ones, and with --dry-run."""

import datetime as dt
import json
import os
import subprocess
import sys

import datajoint as dj
import numpy as np
import pytest
from pydantic import Field
from simulated import LAB, OPTIONS, contents, damage, differences, rheobase_na, sweeps_of, write_cell, write_cells
from typer.testing import CliRunner

from labweave import ingest, populate
from labweave.analysis import add_feature_set
from labweave.cli.app import app
from labweave.database import UpsertCounts
from labweave.errors import ConfigError, SourceError
from labweave.ingest.base import Options
from labweave.schemas import efeature, ingestion, lab, recording, rheobase, subject

N_SWEEPS = len(sweeps_of(0))
BOOKKEEPING = {"ingestion.run"}


def names_of(table, column="cell"):
    return sorted(set(table.to_arrays(column).tolist()))


def rheobases():
    return {row["cell"]: row["rheobase"] for row in rheobase.Rheobase().to_dicts()}


def test_the_second_run_changes_nothing(database, tmp_path):
    write_cells(tmp_path, 3)
    first = ingest.run("ephys", tmp_path, **OPTIONS)
    assert first.rows["recording.Recording"] == UpsertCounts(3 * N_SWEEPS, 0, 0)
    populate.run()
    before = contents(database)
    second = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (second.seen, second.unchanged, second.new, second.changed, second.failed) == (3, 3, 0, 0, 0)
    assert second.rows == {} and second.outdated == {}
    assert differences(before, contents(database)) == {"ingestion.run": (0, 1)}


def test_files_that_were_only_touched_change_nothing(database, tmp_path):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    before = contents(database)
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.unchanged, report.changed) == (2, 0)
    after = contents(database)
    assert set(differences(before, after)) == {"ingestion.run", "ingestion.source_file"}
    assert set(ingestion.SourceFile().to_arrays("mtime_ns").tolist()) == {10**9}
    assert len(ingestion.Change()) == 0


def test_a_run_is_recorded(database, tmp_path):
    write_cells(tmp_path, 2)
    damage(tmp_path / "cell1.h5")
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    row = ingestion.Run().fetch1()
    assert (row["run"], row["status"], row["source"]) == (report.run, "finished", report.source)
    assert (row["counts"]["seen"], row["counts"]["new"], row["counts"]["failed"]) == (2, 1, 1)
    assert 0 <= (row["finished"] - row["started"]).total_seconds() < 60
    source = ingestion.Source().fetch1()
    assert (source["adapter"], source["location"], source["source_lab"]) == ("ephys", str(tmp_path), LAB)
    files = ingestion.SourceFile().to_dicts()
    assert [(file["path"], file["size"]) for file in files] == [("cell0.h5", (tmp_path / "cell0.h5").stat().st_size)]
    expected = subprocess.run(["sha256sum", tmp_path / "cell0.h5"], capture_output=True, text=True, check=True).stdout[
        :64
    ]
    assert files[0]["sha256"] == expected


def test_a_truncated_file_is_one_failed_unit(database, tmp_path):
    write_cells(tmp_path, 3)
    damage(tmp_path / "cell1.h5")
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.new, report.failed, report.exit_code) == (2, 1, 1)
    assert names_of(recording.Cell()) == ["cell0", "cell2"]
    failure = ingestion.Failure().fetch1()
    assert (failure["run"], failure["path"], failure["error_class"]) == (report.run, "cell1.h5", "ReadError")
    assert str(tmp_path / "cell1.h5") in failure["message"]
    again = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (again.unchanged, again.failed) == (2, 1)
    write_cell(tmp_path, 1)
    repaired = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (repaired.new, repaired.unchanged, repaired.failed) == (1, 2, 0)
    assert names_of(recording.Cell()) == ["cell0", "cell1", "cell2"]


def test_a_bad_unit_leaves_nothing_of_itself(database, tmp_path):
    write_cell(tmp_path, 0, "x" * 65, file="a.h5")
    before = contents(database)
    report = ingest.run("ephys", tmp_path, **{**OPTIONS, "subject": "m"})
    assert report.failed == 1 and "64" in report.failures[0].message
    after = differences(before, contents(database))
    assert set(after) == {"ingestion.run", "ingestion.source", "ingestion.failure", "ingestion.open_failure"}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse such names")
def test_a_file_name_that_is_no_unicode_is_a_failed_unit(database, tmp_path):
    write_cells(tmp_path, 1)
    os.rename(tmp_path / "cell0.h5", os.fsencode(tmp_path) + b"/caf\xe9.h5")
    write_cell(tmp_path, 1)
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.new, report.failed) == (1, 1)
    assert "caf" in ingestion.Failure().fetch1("path")


def prepare(tmp_path, n_cells=3):
    write_cells(tmp_path, n_cells)
    ingest.run("ephys", tmp_path, **OPTIONS)
    add_feature_set("demo", ["Spikecount"])
    populate.run()
    assert len(efeature.RecordingEFeatures()) == len(recording.RecordingStimulus()) == n_cells * N_SWEEPS
    assert rheobases() == {
        f"cell{index}": pytest.approx(rheobase_na(sweeps_of(index)), abs=1e-3) for index in range(n_cells)
    }


def test_a_changed_file_makes_the_results_of_its_cell_again_and_no_others(database, tmp_path):
    prepare(tmp_path)
    others_before = results_of(["cell0", "cell2"])
    assert rheobases()["cell1"] != pytest.approx(rheobase_na(sweeps_of(3)))
    write_cell(tmp_path, 3, "cell1")
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.changed, report.unchanged, report.new) == (1, 2, 0)
    assert report.rows["recording.Recording"] == UpsertCounts(0, N_SWEEPS, 0)
    assert report.outdated == {
        "recording.RecordingStimulus": N_SWEEPS,
        "efeature.RecordingEFeatures": N_SWEEPS,
        "rheobase.Rheobase": 1,
    }
    for table in (recording.RecordingStimulus(), rheobase.Rheobase(), efeature.RecordingEFeatures()):
        assert names_of(table) == ["cell0", "cell2"]
    changes = (ingestion.Change & {"change_kind": "updated"}).to_dicts()
    assert len(changes) == N_SWEEPS and {change["table_name"] for change in changes} == {"recording.Recording"}
    outdated = (ingestion.Change & {"change_kind": "outdated", "table_name": "rheobase.Rheobase"}).fetch1()
    assert outdated["row_key"]["cell"] == "cell1"
    assert set(ingestion.Change.to_arrays("run")) == {report.run}
    made = {entry.table: entry.made for entry in populate.run().tables}
    assert made == {
        "alyx.SyncPage": 0,
        "onedata.RecipeCheck": 0,
        "recording.RecordingStimulus": N_SWEEPS,
        "rheobase.Rheobase": 1,
        "efeature.RecordingEFeatures": N_SWEEPS,
        "efeature.Extraction": 0,
    }
    assert rheobases()["cell1"] == pytest.approx(rheobase_na(sweeps_of(3)), abs=1e-3)
    assert results_of(["cell0", "cell2"]) == others_before


def results_of(cells):
    chosen = [{"cell": cell} for cell in cells]
    tables = (recording.RecordingStimulus, rheobase.Rheobase, efeature.RecordingEFeatures.Value)
    return {table.__name__: [str(row) for row in (table & chosen).to_dicts(order_by="KEY")] for table in tables}


def test_an_added_sweep_makes_only_the_rheobase_of_its_cell_again(database, tmp_path):
    files = {}
    for index in (0, 1):
        write_cell(tmp_path, index, file=f"cell{index}_a.h5", sweeps=sweeps_of(index)[:2])
        files[f"cell{index}"] = {
            "IDrest": [{"filepath": f"cell{index}_a.h5", "sweep": f"sweep_00{i}"} for i in range(2)]
        }
    (tmp_path / "metadata.json").write_text(json.dumps(files))
    ingest.run("ephys", tmp_path, **OPTIONS)
    populate.run()
    assert rheobases() == {"cell0": None, "cell1": None}
    kept = results_of(["cell0", "cell1"])["RecordingStimulus"]
    write_cell(tmp_path, 0, file="cell0_b.h5", sweeps=sweeps_of(0)[2:])
    files["cell0"]["IDrest"] += [{"filepath": "cell0_b.h5", "sweep": f"sweep_00{i}"} for i in range(N_SWEEPS - 2)]
    (tmp_path / "metadata.json").write_text(json.dumps(files))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.changed, report.unchanged) == (1, 1)
    assert report.outdated == {"rheobase.Rheobase": 1}
    assert rheobases() == {"cell1": None}
    populate.run()
    assert rheobases() == {"cell0": pytest.approx(rheobase_na(sweeps_of(0)), abs=1e-3), "cell1": None}
    assert results_of(["cell0", "cell1"])["RecordingStimulus"][:2] == kept[:2]


@pytest.mark.parametrize("change", ["metadata", "fact", "name"])
def test_a_change_of_the_mapping_alone_is_noticed(database, tmp_path, change):
    write_cell(tmp_path, 0)
    write_cell(tmp_path, 1)
    entries = {f"cell{i}": {"IDrest": [{"filepath": f"cell{i}.h5", "sweep": "sweep_003"}]} for i in (0, 1)}
    facts = {"cell0": {"cell_type": "PC"}}
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps({"files_metadata": entries, "cells": facts}))
    ingest.run("ephys", tmp_path, **OPTIONS)
    populate.run()
    if change == "metadata":
        entries["cell0"]["IDrest"][0]["ljp"] = 20.0
    elif change == "fact":
        facts["cell0"]["cell_type"] = "BC"
    else:
        entries["renamed"] = entries.pop("cell0")
        facts.clear()
    path.write_text(json.dumps({"files_metadata": entries, "cells": facts}))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.changed, report.unchanged) == (1, 1)
    if change == "metadata":
        assert (recording.Recording & {"cell": "cell0"}).fetch1("metadata") == {"ljp": 20.0}
        assert names_of(recording.RecordingStimulus()) == ["cell1"]
    elif change == "fact":
        assert (recording.Cell & {"cell": "cell0"}).fetch1("cell_type") == "BC"
        assert names_of(recording.RecordingStimulus()) == ["cell0", "cell1"]
    else:
        assert "renamed" in names_of(recording.Cell())


def test_cells_that_share_a_file(database, tmp_path):
    write_cell(tmp_path, 0)
    mapping = {
        name: {"IDrest": [{"filepath": "cell0.h5", "sweep": f"sweep_00{index}"}]} for index, name in enumerate("abc")
    }
    (tmp_path / "metadata.json").write_text(json.dumps(mapping))
    assert ingest.run("ephys", tmp_path, **OPTIONS).failed == 0
    assert names_of(recording.Cell()) == ["a", "b", "c"]
    again = ingest.run("ephys", tmp_path, **OPTIONS)
    assert again.unchanged == again.seen == 1
    write_cell(tmp_path, 1, "cell0")
    assert ingest.run("ephys", tmp_path, **OPTIONS).rows["recording.Recording"] == UpsertCounts(0, 3, 0)


def test_a_new_version_of_the_adapter_reads_everything_again(database, tmp_path):
    write_cells(tmp_path, 2)
    adapter = ingest.find_adapter("ephys")
    ingest.run(adapter, tmp_path, **OPTIONS)
    newer = type("Newer", (adapter,), {"version": adapter.version + 1})
    report = ingest.run(newer, tmp_path, **OPTIONS)
    assert (report.changed, report.rows["recording.Recording"]) == (2, UpsertCounts(0, 0, 2 * N_SWEEPS))
    assert ingest.run(newer, tmp_path, **OPTIONS).unchanged == 2


def test_other_options_are_read_again(database, tmp_path):
    write_cells(tmp_path, 1)
    ingest.run("ephys", tmp_path, **OPTIONS)
    assert ingest.run("ephys", tmp_path, **OPTIONS, cell_type="PC").changed == 1
    assert recording.Cell().fetch1("cell_type") == "PC"


def test_a_dry_run_lists_and_writes_nothing(database, tmp_path):
    before = contents(database)
    write_cells(tmp_path, 2)
    shown = ingest.run("ephys", tmp_path, dry_run=True, **OPTIONS)
    assert (shown.new, shown.failed, shown.run) == (2, 0, ""), shown.failures
    assert differences(before, contents(database)) == {}
    real = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (shown.new, shown.rows) == (real.new, real.rows)
    assert "would be" in str(shown) and "would be" not in str(real)


def test_a_dry_run_over_results_lists_what_would_be_made_again(database, tmp_path):
    prepare(tmp_path)
    write_cell(tmp_path, 3, "cell1")
    write_cell(tmp_path, 3, "cell3")
    (tmp_path / "cell2.h5").unlink()
    os.utime(tmp_path / "cell0.h5", (1, 1))
    write_cell(tmp_path, 0, "broken")
    damage(tmp_path / "broken.h5")
    before = contents(database)
    shown = ingest.run("ephys", tmp_path, dry_run=True, **OPTIONS)
    assert differences(before, contents(database)) == {}
    assert (shown.new, shown.changed, shown.unchanged, shown.failed) == (1, 1, 1, 1)
    assert shown.vanished == ["cell2.h5"]
    assert shown.outdated["rheobase.Rheobase"] == 1
    real = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (shown.rows, shown.outdated, shown.vanished) == (real.rows, real.outdated, real.vanished)
    assert [failure.message for failure in shown.failures] == [failure.message for failure in real.failures]


def test_a_vanished_file_is_marked_and_its_rows_stay(database, tmp_path):
    prepare(tmp_path, 2)
    kept = tmp_path / "kept"
    os.rename(tmp_path / "cell1.h5", kept)
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert report.vanished == ["cell1.h5"] and report.exit_code == 0
    assert {row["path"]: row["file_status"] for row in ingestion.SourceFile().to_dicts()} == {
        "cell0.h5": "ingested",
        "cell1.h5": "vanished",
    }
    assert names_of(recording.RecordingStimulus()) == ["cell0", "cell1"]
    assert names_of(recording.Recording & {"recording_vanished": report.run}) == ["cell1"]
    assert ingest.run("ephys", tmp_path, **OPTIONS).vanished == []
    os.rename(kept, tmp_path / "cell1.h5")
    back = ingest.run("ephys", tmp_path, **OPTIONS)
    assert back.rows["recording.Recording"] == UpsertCounts(0, N_SWEEPS, 0) and back.outdated == {}
    assert set(recording.Recording().to_arrays("recording_vanished")) == {None}
    assert names_of(ingestion.SourceFile(), "file_status") == ["ingested"]


def test_two_sources_do_not_mix(database, tmp_path):
    write_cells(tmp_path / "a", 1)
    write_cell(tmp_path / "b", 1)
    ingest.run("ephys", tmp_path / "a", **OPTIONS)
    report = ingest.run("ephys", tmp_path / "b", source="second", **OPTIONS)
    assert report.source == "second" and report.vanished == []
    assert len(ingestion.Source()) == 2
    assert {row["cell"]: row["source"] == "second" for row in recording.Recording().to_dicts()} == {
        "cell0": False,
        "cell1": True,
    }


class BirdOptions(Options):
    colour: str = Field("grey", description="of the bird")


class BirdAdapter(ingest.Adapter):
    """A third party's adapter: a text file per institution."""

    name, summary, version, options_model = "birds", "Birds", 1, BirdOptions

    def discover(self):
        for path in sorted(self.root.glob("*.txt")):
            yield ingest.Unit(path.name, (path.name,))

    def read(self, unit, sha256):
        text = (self.root / unit.path).read_text()
        if text == "bad":
            raise SourceError(f"{unit.path} is bad. Make it good.")
        if text == "worse":
            raise ZeroDivisionError("nobody foresaw this")
        yield ingest.Row(lab.Lab, {"lab": unit.path[:-4], "institution": text, "address": self.options.colour})


def test_an_adapter_of_a_third_party_given_directly(database, tmp_path):
    for name, text in {"a": "one", "b": "bad", "c": "worse", "d": "two"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    report = ingest.run(BirdAdapter, tmp_path, lab="x", colour="red")
    assert (report.new, report.failed) == (2, 2)
    assert {row["lab"]: (row["institution"], row["address"]) for row in lab.Lab().to_dicts()} == {
        "a": ("one", "red"),
        "d": ("two", "red"),
    }
    failures = {row["path"]: row for row in ingestion.Failure().to_dicts()}
    assert failures["b.txt"]["traceback"] is None
    assert "report" in failures["c.txt"]["message"] and "nobody foresaw" in failures["c.txt"]["traceback"]
    with pytest.raises(ConfigError, match="size of the adapter birds.*Its options: colour"):
        ingest.run(BirdAdapter, tmp_path, lab="x", size=3)


class SpellingAdapter(ingest.Adapter):
    """A file per subject: its name, and whether the unit fails when it is read, when it is written, or not."""

    name, summary = "spelling", "Spelling"

    def __init__(self, location, lab, options):
        super().__init__(location, lab, options)
        self.subjects = ingest.Subjects()

    def discover(self):
        for path in sorted(self.root.iterdir()):
            yield ingest.Unit(path.name, (path.name,))

    def read(self, unit, sha256):
        name, fails = (self.root / unit.path).read_text().split()
        yield from self.subjects.rows(self.lab, name, sex="neither" if fails == "write" else "F")
        if fails == "read":
            raise SourceError(f"{unit.path} is bad. Make it good.")


@pytest.mark.parametrize("batch_rows", [0, 6, 1000])
@pytest.mark.parametrize("fails", ["read", "write"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_only_a_subject_that_was_written_refuses_other_spellings(
    database, tmp_path, monkeypatch, batch_rows, fails, dry_run
):
    monkeypatch.setattr(SpellingAdapter, "batch_rows", batch_rows)
    for n, text in enumerate(["other no", f"m1 {fails}", "M1 no", "more no", "m1 no", "M1 no"]):
        (tmp_path / f"{n}.txt").write_text(text)
    report = ingest.run(SpellingAdapter, tmp_path, lab="x", dry_run=dry_run)
    messages = {failure.path: failure.message for failure in report.failures}
    assert set(messages) == {"1.txt", "4.txt"}, report
    assert "'m1' differs from 'M1'" in messages["4.txt"] and "case" not in messages["1.txt"]
    expected = [] if dry_run else ["M1", "more", "other"]
    assert sorted(subject.Subject().to_arrays("subject").tolist()) == expected


KEYS = {
    "at : datetime": ["2026-03-01T10:00:00+01:00", "2026-03-01 11:30:00.7"],
    "at : datetime(6)": [dt.datetime(2026, 3, 1, 10), np.datetime64("2026-03-01T10:00:00.25")],
    "at : date": ["2026-03-01", np.datetime64("2026-03-02")],
    "at : decimal(6,2)": [1.5, "2.250"],
    "at : float64": [np.float32(0.1), 0.100000001],
    "at : float32": [0.1, 0.123456789],
    "at : datetime\nchannel : int32": ["2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"],
}
"""Attributes of a key, and values for it, not as the database gives them back."""


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_any_type_is_found_again_and_taken_out(database, tmp_path, key):
    schema = dj.Schema(f"{database.prefix}weather", connection=database.connection)

    @schema
    class Weather(dj.Manual):
        definition = f"{key}\n---\nsky : varchar(16)"

    class WeatherAdapter(BirdAdapter):
        def read(self, unit, sha256):
            for number in (self.root / unit.path).read_text().split():
                values = {"at": KEYS[key][int(number)], "channel": 3, "sky": number}
                yield ingest.Row(Weather, {name: values[name] for name in Weather().heading.names})

    try:
        (tmp_path / "a.txt").write_text("0 1")
        assert ingest.run(WeatherAdapter, tmp_path, lab="x").new == 1
        before = Weather().to_dicts(order_by="sky")
        assert ingest.run(WeatherAdapter, tmp_path, lab="x").unchanged == 1
        (Weather & {"sky": "0"}).delete_quick()
        assert ingest.run(WeatherAdapter, tmp_path, lab="x").restored == 1
        assert Weather().to_dicts(order_by="sky") == before and len(before) == 2
        (tmp_path / "a.txt").write_text("1")
        assert ingest.run(WeatherAdapter, tmp_path, lab="x").failed == 0
        assert Weather().to_dicts() == before[1:]
    finally:
        schema.drop(prompt=False)


def test_a_file_in_two_units_is_refused(database, tmp_path):
    (tmp_path / "a.txt").write_text("one")
    twice = type(
        "Twice",
        (BirdAdapter,),
        {"discover": lambda self: iter([ingest.Unit("u", ("a.txt",)), ingest.Unit("v", ("a.txt",))])},
    )
    with pytest.raises(SourceError, match=r"a\.txt is in two units of the adapter birds: u and v"):
        ingest.run(twice, tmp_path, lab="x")


def write_package(folder, entry):
    info = folder / "birds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: birds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[labweave.adapters]\nbirds = {entry}\n")
    (folder / "birds_of_a_lab.py").write_text(
        "from labweave import ingest\nfrom labweave.schemas import lab\n"
        "class Birds(ingest.Adapter):\n"
        "    name, summary = 'birds', 'Birds of a lab'\n"
        "    def discover(self):\n        yield ingest.Unit('all', ('birds.txt',))\n"
        "    def read(self, unit, sha256):\n"
        "        yield ingest.Row(lab.Lab, {'lab': (self.root / 'birds.txt').read_text()})\n"
    )


def test_an_adapter_through_an_entry_point(database, database_url, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "birds.txt").write_text("aviary")
    write_package(tmp_path / "site", "birds_of_a_lab:Birds")
    monkeypatch.syspath_prepend(tmp_path / "site")
    command = CliRunner(env={"LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": database.prefix})
    assert "Birds of a lab" in command.invoke(app, ["ingest", "birds", "--help"]).stdout
    assert command.invoke(app, ["ingest", "birds", str(tmp_path / "data"), "--lab", "x"]).exit_code == 0
    assert lab.Lab().fetch1("lab") == "aviary"
    assert set(ingest.adapters()) >= {"birds", "ephys"}
    assert ingest.run("birds", tmp_path / "data", lab="x").unchanged == 1


def test_an_adapter_that_can_not_be_imported_is_named(database, tmp_path, monkeypatch):
    write_package(tmp_path, "birds_of_nobody:Birds")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="'birds'.*birds_of_nobody"):
        ingest.run("birds", tmp_path, lab="x")


def test_a_run_whose_process_was_killed_is_closed_by_the_next(database, tmp_path):
    write_cells(tmp_path, 1)
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    row = (ingestion.Run & {"run": report.run}).fetch1()
    host = row["host"].rpartition(":")[0]
    now, before_this_process = row["started"], dt.datetime(2026, 1, 1)
    cases = [(host, ended.pid, now), (host, os.getpid(), now), ("elsewhere", ended.pid, now)]
    cases.append((host, os.getpid(), before_this_process))  # since a reboot the number is another program's
    for number, (name, pid, started) in enumerate(cases):
        more = {"status": "running", "started": started, "finished": None, "host": f"{name}:{pid}"}
        ingestion.Run.insert1({**row, "run": str(number) * 36, **more})
    ingest.run("ephys", tmp_path, **OPTIONS)
    status = {row["run"][0]: row["status"] for row in ingestion.Run().to_dicts() if len(set(row["run"])) == 1}
    assert status == {"0": "failed", "1": "running", "2": "running", "3": "failed"}

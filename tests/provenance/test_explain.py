"""Why a value is what it is."""

import json

import datajoint as dj
import h5py
import pytest
from alyx_server import AlyxServer
from alyx_small_base import small_days
from simulated import AMPLITUDES, OPTIONS, rheobase_na, spikes, sweeps_of, write_cell

import labweave
from labweave import ingest, populate
from labweave.analysis import add_feature_set, add_rheobase_method, exclude, include
from labweave.errors import SchemaError
from labweave.formats.hashing import sha256_of_file
from labweave.schemas import dataset, efeature, ingestion, lab, provenance, recording, rheobase, session, subject

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(database, tmp_path):
    """A folder of one cell, a file a sweep; its rheobase is made."""
    for number, sweep in enumerate(sweeps_of(0)):
        write_cell(tmp_path, 0, "a", file=f"a/s{number}.h5", sweeps=[sweep])
    ingest.run("ephys", tmp_path, **OPTIONS)
    assert populate.run().failed == 0
    return tmp_path


def explained(query=rheobase.Rheobase):
    return str(labweave.explain(query)).splitlines()


def about(lines, word):
    return [line for line in lines if word in line]


def test_a_rheobase_down_to_its_files(database, folder):
    lines = explained()
    assert about(lines, "rheobase = ")[0].split()[3:5] == [f"{rheobase.Rheobase().fetch1('rheobase'):.6g}", "nA"]
    assert rheobase.Rheobase().fetch1("rheobase") == pytest.approx(rheobase_na(sweeps_of(0)), abs=1e-3)
    assert about(lines, "labweave ")[0].count(labweave.__version__) and about(lines, "made 20")
    sweeps = about(lines, "n_spikes=")
    assert [int(line.split("n_spikes=")[1].split()[0]) for line in sweeps] == [spikes(sweep) for sweep in sweeps_of(0)]
    ordered = [float(line.split("amp=")[1].split(" nA")[0]) for line in sweeps]
    assert ordered == pytest.approx([amplitude / 1000 for amplitude in AMPLITUDES], abs=1e-3)
    files = about(lines, ".h5")
    assert len(files) == len(AMPLITUDES)
    user = (ingestion.Run & {"status": "finished"}).fetch1("started_by")
    for number, line in enumerate(files):
        assert f"a/s{number}.h5  sha256 {sha256_of_file(folder / f'a/s{number}.h5')[:12]}" in line
        assert "the same; gave 1 row of recording.Recording; ingested in the run" in line and f" by {user} on " in line
    assert not about(lines, "made again") and not about(lines, "overwritten") and not about(lines, "since")


def test_what_became_of_the_files_is_told(database, folder):
    write_cell(folder, 0, "a", file="a/s1.h5", sweeps=[sweeps_of(1)[1]])
    (folder / "a/s2.h5").unlink()
    lines = explained()
    states = {line.split(".h5")[0][-1]: line.split("…  ")[1].split(";")[0] for line in about(lines, ".h5")}
    assert states == {
        "0": "the same",
        "1": "changed since",
        "2": "gone",
        "3": "the same",
        "4": "the same",
        "5": "the same",
    }
    assert about(lines, "1 changed and 1 gone") and not about(lines, "made again")


def test_one_efeature_names_its_unit_settings_and_sweep(database, folder):
    name = add_feature_set("shape", ["AP1_amp", "AP_width"], {"Threshold": -25.0})
    populate.run()
    value = efeature.RecordingEFeatures.Value & {"efeature": "AP1_amp", "feature_set": name} & "recording like 'a/s5%%'"
    lines = explained(value)
    assert f"value = {value.fetch1('value'):.6g} mV" in about(lines, "value = ")[0]
    assert about(lines, "made 20") and about(lines, '"Threshold":-25.0') and about(lines, "efeature=AP_width")
    assert about(lines, f"n_spikes = {spikes(sweeps_of(0)[5])}") and len(about(lines, ".h5")) == 1
    assert "a/s5.h5" in about(lines, ".h5")[0]


@pytest.mark.parametrize("what", ["Recording", "Cell", "Session", "Subject", "Protocol"])
def test_a_row_that_files_gave_names_them(database, folder, what):
    table = {
        cls.__name__: cls
        for cls in (recording.Recording, recording.Cell, session.Session, subject.Subject, recording.Protocol)
    }[what]
    query = table & {"recording": "a/s3#sweep_000"} if what == "Recording" else table
    found = labweave.explain(query)
    units = [given.unit for source in found.sources for given in source.given]
    assert units == (["a/s3.h5"] if what == "Recording" else [f"a/s{n}.h5" for n in range(len(AMPLITUDES))])
    assert all(file.state == "same" and file.is_read for _, file in found.files())
    run = (ingestion.Run & {"status": "finished"}).fetch1("run")
    assert {given.run for source in found.sources for given in source.given} == {run} == set(found.runs)


def test_a_long_list_is_cut_in_the_tree_alone(database, tmp_path):
    n_sweeps = 40
    write_cell(tmp_path, 0, "a", sweeps=[sweeps_of(0)[number % len(AMPLITUDES)] for number in range(n_sweeps)])
    ingest.run("ephys", tmp_path, **OPTIONS)
    assert populate.run(["RecordingStimulus", "Rheobase"]).failed == 0
    found = labweave.explain(rheobase.Rheobase)
    lines = str(found).splitlines()
    assert about(lines, "recording.RecordingStimulus: 40 rows") and len(about(lines, "n_spikes=")) == 17
    assert about(lines, "and 23 more")
    assert len(json.loads(labweave.provenance.render(found, "json"))["rows"]["recording.RecordingStimulus"]) == n_sweeps


def change_a_byte(folder):
    with h5py.File(folder / "a/s2.h5", "r+") as file:
        voltages = []
        file.visititems(lambda name, item: voltages.append(item) if name.endswith("voltage") else None)
        voltages[0][0] += 1.0
    return {"absolute": [], "low": []}


def change_a_setting(folder):
    rheobase.RheobaseMethod.update1({"rheobase_method": "low", "protocols": ["IDrest", "other"]})
    return {"absolute": [], "low": ["rheobase.RheobaseMethod changed"]}


def change_a_sweep_more(folder):
    include(LAST)
    return {method: ["has 6 rows, 5 before"] for method in ("absolute", "low")}


def change_a_value(folder):
    (key,) = (recording.RecordingStimulus & LAST).keys()
    recording.RecordingStimulus.update1({**key, "n_spikes": 77})
    return {method: ["recording.RecordingStimulus"] for method in ("absolute", "low")}


def change_efel(folder):
    code = provenance.Code().fetch1()
    provenance.Code.update1({"code": code["code"], "versions": {**code["versions"], "efel": "1.2.3"}})
    return {"absolute": [], "low": []}


LAST = {"recording": "a/s5#sweep_000"}


@pytest.mark.parametrize("change", [change_a_byte, change_a_setting, change_a_sweep_more, change_a_value, change_efel])
def test_one_change_is_named_and_nothing_else(database, folder, change):
    if change is change_a_sweep_more:
        exclude(LAST)
    add_rheobase_method("low", "absolute", {}, ["IDrest", "Step"])
    assert populate.run().failed == 0
    before = {row["rheobase_method"]: labweave.explain(rheobase.Rheobase & row) for row in rheobase.Rheobase().keys()}
    assert not any(found.would_be_made_again or found.make.other_versions for found in before.values())
    expected = change(folder)
    for method, reasons in expected.items():
        found = labweave.explain(rheobase.Rheobase & {"rheobase_method": method})
        told = [reason for reason in found.would_be_made_again if "RheobaseMethod" in reason or "Stimulus" in reason]
        assert len(told) == len(found.would_be_made_again) == len(reasons)
        assert all(reason in text for reason, text in zip(reasons, told, strict=True))
        marked = [row.key["recording"] for rows in found.rows.values() for row in rows if row.is_changed]
        assert marked == ([LAST["recording"]] if change is change_a_value else [])
        efel = before[method].make.versions["efel"]
        assert found.make.other_versions == ({"efel": ("1.2.3", efel)} if change is change_efel else {})
        states = {file.path: file.state for _, file in found.files() if file.state != "same"}
        assert states == ({"a/s2.h5": "changed"} if change is change_a_byte else {})
    ingest.run("ephys", folder, **OPTIONS)
    assert populate.run().failed == 0
    for method, reasons in expected.items():
        found = labweave.explain(rheobase.Rheobase & {"rheobase_method": method})
        assert found.would_be_made_again == [] and not any(
            row.is_changed for rows in found.rows.values() for row in rows
        )
        is_new = found.make.made_at > before[method].make.made_at
        assert is_new == (bool(reasons) or change is change_a_byte) or change is change_efel
        assert {file.state for _, file in found.files()} == {"same"}


def test_a_row_of_alyx_names_its_record(database, monkeypatch):
    with AlyxServer(small_days(), password="swordfish-1") as server:
        server.log_in(monkeypatch)
        server.sync()
        base = server.base
        found = {}
        for table, resource in (
            (subject.Subject, "subjects"),
            (session.Session, "sessions"),
            (dataset.Dataset, "datasets"),
        ):
            key = table().keys(limit=1)[0]
            (source,) = labweave.explain(table & key).sources
            records = [given.record for given in source.given]
            (record, *others) = sorted(records, key=lambda record: record.startswith("session-details"))
            found[resource] = record.partition("/")[2]
            assert record.startswith(resource) and others in ([], [f"session-details/{found[resource]}"])
            assert (
                source.adapter == "alyx"
                and (ingestion.Run & {"run": source.given[0].run}).fetch1("status") == "finished"
            )
        assert found["subjects"] in {row.shown["id"] for row in base.resources["subjects"].values()}
        for table in (
            subject.Weighing,
            subject.WaterRestriction,
            session.SessionUser,
            dataset.FileRecord,
            lab.Location,
        ):
            key = table().keys(limit=1)[0]
            assert labweave.explain(table & key).sources[0].given, table
        server.advance()
        server.sync()
        changed = (ingestion.Change & {"table_name": "session.Session", "change_kind": "updated"}).to_dicts(limit=1)[0]
        lines = explained(session.Session & changed["row_key"])
        assert about(lines, "overwritten before") and about(lines, "record sessions/")


def test_what_was_overwritten_before_is_named(database, folder):
    ingest.run("ephys", folder, **OPTIONS, cell_type="L5PC")
    lines = explained(recording.Cell)
    assert any("cell_type was" in line and "in the run" in line for line in about(lines, "recording.Cell"))
    assert about(lines, "cell_type = L5PC") and len(about(lines, "a/s3.h5")) == 1


def test_one_row_is_explained_at_a_time(database, folder, labweave_command):
    with pytest.raises(SchemaError, match="6 rows fit recording.Recording"):
        labweave.explain(recording.Recording)
    with pytest.raises(SchemaError, match="No row fits"):
        labweave.explain(recording.Cell & {"cell": "nobody"})
    done = labweave_command("explain", "Rheobase", "cell=a", check=0)
    assert done.stdout.splitlines()[0].startswith("rheobase.Rheobase eid=") and "a/s5.h5" in done.stdout
    assert "cel" in labweave_command("explain", "Rheobase", "cel=a", check=2).stderr


def test_a_notebook_s_tree_is_open_where_something_changed(database, folder):
    quiet = labweave.explain(rheobase.Rheobase)._repr_html_()
    assert quiet.count("<details") > 3 and quiet.count(" open>") == 1 and "<b " not in quiet
    (folder / "a/s2.h5").unlink()
    html = labweave.explain(rheobase.Rheobase)._repr_html_()
    assert html.count(" open>") == 2 and "<b " in html.partition("a/s2.h5")[0][-40:]


def test_a_table_of_the_lab_s_own_is_recorded_and_explained(database, folder):
    own = dj.Schema(f"{database.connection.prefix}ownmade", connection=database.connection, context=globals())

    class Doubled(dj.Computed):
        definition = """
        # one number that somebody's own pipeline computes
        -> rheobase.Rheobase
        ---
        doubled : float64       # nA
        """

        def make(self, key):
            self.insert1({**key, "doubled": 2 * (rheobase.Rheobase & key).fetch1("rheobase")})

    doubled = own(Doubled)
    try:
        doubled.populate()
        lines = explained(doubled)
        assert about(lines, "made 20") and about(lines, "rheobase = ") and len(about(lines, ".h5")) == 6
        rheobase.Rheobase.update1({**rheobase.Rheobase().keys()[0], "rheobase": 0.5})
        assert not about(explained(doubled), "made again"), "a result counts by what its make gave"
    finally:
        own.drop(prompt=False)

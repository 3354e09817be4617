"""Results follow what they rest on: one thing changes, and exactly what rests on it is made again."""

import importlib.metadata
import json

import datajoint as dj
import pytest
from simulated import OPTIONS, sweeps_of, write_cell

import labweave
from labweave import ingest, populate
from labweave.analysis import add_cell_group, add_extraction, add_rheobase_method, add_target_set
from labweave.database import upsert
from labweave.database.inputs import fingerprint_of, made_id, out_of_date, version_of
from labweave.database.made import programs
from labweave.database.migrations import MIGRATIONS
from labweave.formats.canonical import canonical_sha256
from labweave.ingest.alyx import tables
from labweave.schemas import efeature, ingestion, lab, provenance, recording, rheobase

pytestmark = pytest.mark.slow

CELLS, METHODS, TARGETS = ("a", "b"), ("absolute", "low"), ("firing", "shape")
N_SWEEPS = len(sweeps_of(0))


def write_sweep(folder, cell, number, index=None, protocol="IDrest", **more):
    """Write one sweep of a cell as a file of its own."""
    sweep = {**sweeps_of(CELLS.index(cell) if index is None else index)[number], "protocol": protocol, **more}
    return write_cell(folder / cell, 0, cell, file=f"s{number}.h5", sweeps=[sweep])


def ask():
    """Put in what is wanted: two methods, two lists of targets, one group."""
    add_rheobase_method("low", "absolute", {"efel_settings": {"Threshold": -30.0}}, ["IDrest", "Step"])
    wanted = {"efeature": "Spikecount", "protocol": "IDrest", "amplitude": 150, "tolerance": 60.0}
    add_target_set("firing", [wanted])
    add_target_set("shape", [{**wanted, "efeature": "AP1_amp"}], {"Threshold": -25.0, "interp_step": 0.025})
    add_cell_group("all")
    for targets in TARGETS:
        add_extraction("all", targets)
    add_extraction("all", "firing", "low")


def write_all(folder):
    """Write two cells, a file a sweep."""
    for cell in CELLS:
        for number in range(N_SWEEPS):
            write_sweep(folder, cell, number)


@pytest.fixture
def folder(database, tmp_path):
    """A folder of two cells, a file a sweep; everything is made."""
    make_all(tmp_path)
    return tmp_path


def make_all(folder):
    """Write, ingest and make everything."""
    write_all(folder)
    ingest.run("ephys", folder, **OPTIONS)
    ask()
    assert populate.run().failed == 0


def times():
    """Return when each result was made."""
    return {
        (row["made_table"].partition(".")[2], *sorted(row["made_key"].items())): row["made_at"]
        for row in provenance.Made().to_dicts()
    }


def remade(before):
    """Return what populate makes now: table -> what tells the rows apart."""
    assert populate.run().failed == 0
    found = {}
    for place, time in times().items():
        if before.get(place) != time:
            key = dict(place[1:])
            told = {
                "RecordingStimulus": ("cell", "protocol", "recording"),
                "Rheobase": ("cell", "rheobase_method"),
                "RecordingEFeatures": ("recording", "feature_set"),
                "Extraction": ("target_set", "rheobase_method"),
            }[place[0]]
            found.setdefault(place[0], set()).add(tuple(key[name] for name in told))
    assert populate.run().made == 0, "a second populate makes something again"
    return found


def feature_set(targets):
    return (efeature.TargetSet.Target & {"target_set": targets}).fetch1("feature_set")


def of_sweep(cell, number):
    """Return what rests on one sweep by foreign keys."""
    name = f"{cell}/s{number}#sweep_000"
    return {
        "RecordingStimulus": {(cell, "IDrest", name)},
        "RecordingEFeatures": {(name, feature_set(targets)) for targets in TARGETS},
    }


def of_set(targets):
    """Return the values of a set of efeatures."""
    names = {f"{cell}/s{number}#sweep_000" for cell in CELLS for number in range(N_SWEEPS)}
    return {(name, feature_set(targets)) for name in names}


RHEOBASES_OF_A = {("a", method) for method in METHODS}
EXTRACTIONS = {("firing", "absolute"), ("shape", "absolute"), ("firing", "low")}


def unchanged(folder):
    ingest.run("ephys", folder, **OPTIONS, again=True)
    return {}


def one_file_changed(folder):
    write_sweep(folder, "a", 3, index=2)
    ingest.run("ephys", folder, **OPTIONS)
    return {**of_sweep("a", 3), "Rheobase": RHEOBASES_OF_A, "Extraction": EXTRACTIONS}


def units_changed(folder):
    voltage = sweeps_of(0)[3]["voltage"] / 1000
    write_sweep(folder, "a", 3, voltage=voltage, v_unit="V")
    ingest.run("ephys", folder, **OPTIONS)
    return {**of_sweep("a", 3), "Rheobase": RHEOBASES_OF_A}  # which come out the same: so do the extractions


def a_method_added(folder):
    add_rheobase_method("majority", "majority", {"majority": 0.5}, ["IDrest"])
    return {"Rheobase": {(cell, "majority") for cell in CELLS}}


def a_threshold_changed(folder):
    settings = {"efel_settings": {"Threshold": 1000.0}}
    rheobase.RheobaseMethod.update1({"rheobase_method": "low", "strategy_settings": settings})
    return {"Rheobase": {(cell, "low") for cell in CELLS}, "Extraction": {("firing", "low")}}


def a_feature_set_changed(folder):
    key = {"feature_set": feature_set("shape")}
    (efeature.FeatureSet.Feature & key).delete(prompt=False, part_integrity="ignore")
    efeature.FeatureSet.Feature.insert1({**key, "efeature": "AP1_width"})
    return {"RecordingEFeatures": of_set("shape"), "Extraction": {("shape", "absolute")}}


def a_feature_added(folder):
    efeature.FeatureSet.Feature.insert1({"feature_set": feature_set("firing"), "efeature": "mean_frequency"})
    return {
        "RecordingEFeatures": of_set("firing"),
        "Extraction": {("firing", "absolute"), ("firing", "low")},
    }


def settings_changed(folder):
    name = (efeature.FeatureSet & {"feature_set": feature_set("shape")}).fetch1("efel_settings")
    settings = json.dumps({"Threshold": -22.0, "interp_step": 0.025})
    table = efeature.EFelSettings()
    table.connection.query(
        f"update {table.full_table_name} set settings = %s where efel_settings = %s", (settings, name)
    )
    return {"RecordingEFeatures": of_set("shape"), "Extraction": {("shape", "absolute")}}


def a_tolerance_changed(folder):
    efeature.TargetSet.Target.update1({"target_set": "firing", "target": 0, "tolerance": 20.0})
    return {"Extraction": {("firing", "absolute"), ("firing", "low")}}


def a_sweep_removed(folder):
    (folder / "a/s3.h5").unlink()
    source = ingest.run("ephys", folder, **OPTIONS).source
    ingest.forget(source, ["a/s3.h5"])
    return {"Rheobase": RHEOBASES_OF_A, "Extraction": EXTRACTIONS}


def a_cell_removed(folder):
    source = ingest.run("ephys", folder, **OPTIONS).source
    (efeature.CellGroup.Member & {"cell": "a"}).delete(prompt=False, part_integrity="ignore")
    ingest.forget(source, [f"a/s{number}.h5" for number in range(N_SWEEPS)])
    return {"Extraction": EXTRACTIONS}


def a_protocol_renamed(folder):
    write_sweep(folder, "a", 3, protocol="Step")
    ingest.run("ephys", folder, **OPTIONS)
    name = "a/s3#sweep_000"
    return {
        "RecordingStimulus": {("a", "Step", name)},
        "Rheobase": RHEOBASES_OF_A,
        "Extraction": EXTRACTIONS,
    }


def a_cell_deleted(folder):
    (recording.Cell & {"cell": "a"}).delete(prompt=False)
    return {"Extraction": EXTRACTIONS}


def a_sweep_excluded(folder):
    (key,) = (recording.Recording & "recording like 'a/s3%%'").keys()
    upsert(recording.SweepExclusion, [{**key, "exclusion_reason": "seal lost", "excluded_at": "2026-01-03 10:00:00"}])
    return {"Rheobase": RHEOBASES_OF_A, "Extraction": EXTRACTIONS}


STEPS = (
    unchanged, one_file_changed, units_changed, a_method_added, a_threshold_changed, a_feature_set_changed,
    a_feature_added, settings_changed, a_tolerance_changed, a_sweep_removed, a_cell_removed, a_protocol_renamed,
    a_cell_deleted, a_sweep_excluded,
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_exactly_what_rests_on_a_change_is_made_again(database, folder, step):
    before = times()
    expected = step(folder)
    assert remade(before) == expected
    results = (recording.RecordingStimulus, rheobase.Rheobase, efeature.RecordingEFeatures, efeature.Extraction)
    stored = {table.__name__: rows(table) for table in results}
    for table in reversed(results):
        table().delete(prompt=False)
    populate.run()
    assert stored == {table.__name__: rows(table) for table in results}, "not what a fresh populate makes"


def rows(table):
    table = table() if isinstance(table, type) else table
    return sorted(canonical_sha256(row) for row in table.to_dicts())


def test_a_result_that_a_person_s_row_hangs_on_stays_and_is_named(database, folder):
    own = dj.Schema(f"{database.connection.prefix}ownnotes", connection=database.connection, context=globals())

    class Note(dj.Manual):
        definition = """
        # what somebody thinks of a rheobase
        -> rheobase.Rheobase
        ---
        note : varchar(64)
        """

    note = own(Note)
    try:
        (key,) = (rheobase.Rheobase & {"cell": "a", "rheobase_method": "low"}).keys()
        note.insert1({**key, "note": "odd"})
        before = times()
        a_threshold_changed(folder)
        report = populate.run()
        assert [(table, outcome.key) for table, outcome in report.failures] == [("rheobase.Rheobase", key)]
        assert "note" in report.failures[0][1].reason.lower() and len(note()) == 1
        again = {place[1:] for place, time in times().items() if before.get(place) != time and place[0] == "Rheobase"}
        assert {dict(key)["cell"] for key in again} == {"b"}
        note().delete(prompt=False)
        assert populate.run().failed == 0 and len(rheobase.Rheobase()) == 4
    finally:
        own.drop(prompt=False)


def test_what_a_sync_has_pulled_is_not_out_of_date(database):
    upsert(ingestion.Source, [{"source": "s", "adapter": "alyx", "location": "http://x", "source_lab": "l"}])
    run = {"run": "r", "source": "s", "status": "finished", "started": "2026-01-01 00:00:00"}
    upsert(ingestion.Run, [run])
    upsert(tables.SyncRun, [{"run": "r", "sync_options": {}, "stages": []}])
    upsert(tables.SyncPart, [{"run": "r", "part": 0, "resource": "labs", "part_stage": "x", "scope": {}}])
    numbers = dict.fromkeys(("n_records", "n_new", "n_changed", "n_refused", "n_unread"), 0)
    facts = {"absent": [], "postponed": [], "written": {}, "outdated": {}}
    upsert(tables.SyncPage, [{"run": "r", "part": 0, **numbers, **facts}])
    assert out_of_date(tables.SyncPage()) == [] and provenance.Made().to_dicts() == []


def test_inputs_of_a_lab_s_own_table_may_look_into_the_key(database, folder):
    own = dj.Schema(f"{database.connection.prefix}owninputs", connection=database.connection, context=globals())

    class Longest(dj.Computed):
        definition = """
        # one number of somebody's own pipeline
        -> recording.Cell
        ---
        tend : float64          # ms
        """

        def inputs(self, key):
            return [recording.RecordingStimulus.proj("tend") & {"cell": key["cell"]}]

        def make(self, key):
            self.insert1({**key, "tend": max((recording.RecordingStimulus & key).to_arrays("tend"))})

    longest = own(Longest)
    try:
        longest.populate()
        assert out_of_date(longest()) == []
        key = (recording.RecordingStimulus & {"cell": "a"}).keys(limit=1)[0]
        recording.RecordingStimulus.update1({**key, "tend": 999.0})
        (one,) = out_of_date(longest())
        assert one.key["cell"] == "a" and one.reasons == ["recording.RecordingStimulus changed"]
    finally:
        own.drop(prompt=False)


def test_what_a_result_rests_on_is_put_together_without_a_statement(database, folder):
    for table in (recording.RecordingStimulus, efeature.RecordingEFeatures, rheobase.Rheobase, efeature.Extraction):
        keys = table().keys()
        fingerprint_of(table(), keys[0])  # headings
        before = database.connection.n_statements
        assert all(fingerprint_of(table(), key) for key in keys)
        assert database.connection.n_statements == before


def test_the_upgrade_to_another_hash_counts_results_as_made(database, folder):
    table = provenance.Made()
    table.connection.query(f"update {table.full_table_name} set inputs = 'x=1:1'")
    assert len(out_of_date(efeature.RecordingEFeatures())) == len(efeature.RecordingEFeatures())
    (step,) = (step for step in MIGRATIONS if step.version == 6)
    step.apply(table.connection)
    before = times()
    assert remade(before) == {}
    a_threshold_changed(folder)
    assert remade(before) == {"Rheobase": {(cell, "low") for cell in CELLS}, "Extraction": {("firing", "low")}}


@pytest.fixture
def another_efel(monkeypatch):
    """A function after which eFEL says that it is version 99."""

    def forget():
        programs.cache_clear()
        version_of.cache_clear()

    real = importlib.metadata.version

    def stand_in():
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == "efel" else real(name))
        forget()

    yield stand_in
    monkeypatch.undo()
    forget()


def test_another_version_of_efel_makes_again_what_is_measured_with_it(database, folder, another_efel):
    before, old = times(), importlib.metadata.version("efel")
    another_efel()
    one = efeature.RecordingEFeatures & {"feature_set": feature_set("shape"), "cell": "a"} & "recording like 'a/s3%%'"
    reason = f"efel 99.0, {old} before"
    assert reason in str(labweave.explain(one)) and out_of_date(one)[0].reasons == [reason]
    assert out_of_date(efeature.Extraction()) == []
    assert remade(before) == {
        "RecordingStimulus": {(cell, "IDrest", f"{cell}/s{n}#sweep_000") for cell in CELLS for n in range(N_SWEEPS)},
        "RecordingEFeatures": of_set("firing") | of_set("shape"),
        "Rheobase": {(cell, method) for cell in CELLS for method in METHODS},
    }  # which come out the same: so do the extractions
    versions = {row["made_table"]: row["versions"]["efel"] for row in (provenance.Made * provenance.Code).to_dicts()}
    assert versions.pop("efeature.Extraction") == old and set(versions.values()) == {"99.0"}


def test_files_that_are_away_keep_what_another_version_found_in_them(database, folder, another_efel):
    for number in range(N_SWEEPS):
        (folder / f"a/s{number}.h5").unlink()
    ingest.run("ephys", folder, **OPTIONS)
    before, of_a = times(), [rows(table & {"cell": "a"}) for table in (recording.RecordingStimulus, rheobase.Rheobase)]
    another_efel()
    found = remade(before)
    assert {key[0] for table in ("RecordingStimulus", "Rheobase") for key in found[table]} == {"b"}
    assert [rows(table & {"cell": "a"}) for table in (recording.RecordingStimulus, rheobase.Rheobase)] == of_a


def test_values_that_meet_at_another_border_are_others(database):
    upsert(lab.Lab, [{"lab": "a|b"}, {"lab": "a"}])
    upsert(lab.Location, [{"lab": "a|b", "location": "c"}, {"lab": "a", "location": "b|c"}])
    table = lab.Location()
    ids = table.connection.query(f"select {made_id(table, 't')} from {table.full_table_name} t").fetchall()
    assert len(set(ids)) == 2

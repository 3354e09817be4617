"""What populate makes: the numbers, in order, restricted, and again when their inputs changed."""

import json
import math

import pytest
from simulated import OPTIONS, ask_for_everything, damage, rheobase_na, spikes, sweeps_of, write_cell, write_cells

from labweave import ephys, ingest, populate
from labweave.analysis import add_cell_group, add_feature_set, add_target_set
from labweave.ephys import extract
from labweave.errors import ConfigError, SchemaError
from labweave.populate import queue
from labweave.provenance import verify
from labweave.schemas import efeature, recording, rheobase

pytestmark = pytest.mark.slow

N_SWEEPS = len(sweeps_of(0))


def made(report):
    return {
        table: entry.made
        for entry in report.tables
        for schema, _, table in [entry.table.partition(".")]
        if schema not in ("alyx", "onedata")
    }


def rheobases():
    return {row["cell"]: row["rheobase"] for row in rheobase.Rheobase().to_dicts()}


def add_targets(name="t", **options):
    targets = [
        {"efeature": efeature_name, "protocol": "IDrest", "amplitude": amplitude, "tolerance": 40.0}
        for efeature_name in ("Spikecount", "mean_frequency", "AP1_amp")
        for amplitude in (100, 200)
    ]
    add_target_set(name, targets, **options)
    return targets


def test_tables_are_made_in_the_order_of_their_foreign_keys(database, tmp_path):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    add_targets()
    add_cell_group("all")
    ask_for_everything()
    report = populate.run()
    assert [entry.table for entry in report.tables if entry.made] == [
        "recording.RecordingStimulus", "rheobase.Rheobase", "efeature.RecordingEFeatures", "efeature.Extraction",
    ]  # fmt: skip
    assert made(report) == {"RecordingStimulus": 12, "Rheobase": 2, "RecordingEFeatures": 12, "Extraction": 1}
    assert report.failed == 0
    assert made(populate.run()) == {"RecordingStimulus": 0, "Rheobase": 0, "RecordingEFeatures": 0, "Extraction": 0}


def test_stimuli_are_those_that_were_simulated(database, tmp_path):
    write_cell(tmp_path, 1, "c")
    ingest.run("ephys", tmp_path, **OPTIONS)
    populate.run()
    for row in recording.RecordingStimulus().to_dicts(order_by="recording"):
        sweep = sweeps_of(1)[int(row["recording"][-3:])]
        assert (row["ton"], row["toff"], row["dt"], row["n_samples"]) == (
            20.0,
            120.0,
            pytest.approx(0.1),
            len(sweep["voltage"]),
        )
        ordered = [-40, 50, 100, 150, 200, 250][int(row["recording"][-3:])] / 1000
        assert row["amp"] == pytest.approx(ordered, abs=1e-3)  # noise of 1 pA, averaged over a thousand samples
        assert row["n_spikes"] == spikes(sweep) == len(row["spike_times"])
        assert row["timing"] == "given" and row["ecode"] == "Step"


def test_a_cell_that_never_fires_has_a_reason_instead_of_a_rheobase(database, tmp_path):
    write_cell(tmp_path, 0, "silent", sweeps=sweeps_of(0)[:2])
    ingest.run("ephys", tmp_path, **OPTIONS)
    assert populate.run().failed == 0
    row = rheobase.Rheobase().fetch1()
    assert row["rheobase"] is None and "spike" in row["reason"] and row["n_recordings"] == 2


@pytest.mark.parametrize(
    ("restriction", "cells"),
    [
        ({"subject": "mouse-cell1"}, ["cell1"]),
        ({"cell": "cell2"}, ["cell2"]),
        ({"session_date": "2026-01-02"}, ["cell0", "cell1", "cell2"]),
        ({"subject": "mouse-cell1", "cell": "cell2"}, []),
        ({"species": "Mus musculus"}, ["cell0"]),
        ("cell in ('cell0', 'cell1')", ["cell0", "cell1"]),
    ],
)
def test_restriction_by_names_of_key_session_and_subject(database, tmp_path, restriction, cells):
    write_cells(tmp_path, 3)
    write_cell(tmp_path, 0, species="Mus musculus")
    ingest.run("ephys", tmp_path, **OPTIONS)
    names = ["RecordingStimulus", "rheobase.rheobase"]
    report = populate.run(names, restriction)
    assert made(report) == {"RecordingStimulus": N_SWEEPS * len(cells), "Rheobase": len(cells)}
    assert sorted(rheobases()) == cells
    assert sorted(set(recording.RecordingStimulus().to_arrays("cell").tolist())) == cells


def test_a_table_without_the_name_is_left_alone(database, tmp_path):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    populate.run(["RecordingStimulus"])
    assert made(populate.run(restriction={"protocol": "IDrest"}))["Rheobase"] == 0
    assert made(populate.run(restriction={"rheobase_method": "absolute"})) == {
        "RecordingStimulus": 0, "Rheobase": 2, "RecordingEFeatures": 0, "Extraction": 0,
    }  # fmt: skip


def test_names_that_nobody_knows_are_refused(database, tmp_path):
    write_cells(tmp_path, 1)
    ingest.run("ephys", tmp_path, **OPTIONS)
    with pytest.raises(SchemaError, match="mouse.*Known names:.*subject"):
        populate.run(restriction={"mouse": "m"})
    with pytest.raises(SchemaError, match=r"Rheobasis.*rheobase\.Rheobase"):
        populate.run(["Rheobasis"])
    with pytest.raises(SchemaError, match="mouse"):
        populate.retry(restriction={"mouse": "m"})
    with pytest.raises(ConfigError, match="workers"):
        populate.run(workers=0)
    with pytest.raises(ConfigError, match="abacus"):
        populate.run(executor="abacus")
    assert len(recording.RecordingStimulus()) == 0


@pytest.mark.parametrize("how", ["gone", "changed", "truncated"])
def test_a_file_that_is_not_the_one_ingested_fails_its_jobs_only(database, tmp_path, how):
    for index, sweep in enumerate(sweeps_of(0)):
        write_cell(tmp_path, 0, "c", file=f"s{index}.h5", sweeps=[sweep])
    bad = tmp_path / "s2.h5"  # the smallest that fires
    assert [spikes(sweep) > 0 for sweep in sweeps_of(0)] == [False, False, True, True, True, True]
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **{**OPTIONS, "subject": "m"})
    good = bad.read_bytes()
    if how == "gone":
        bad.unlink()
    elif how == "changed":
        write_cell(tmp_path, 1, "c", file="s2.h5", sweeps=sweeps_of(1)[:1])
    else:
        damage(bad)
    report = populate.run()
    assert (report.failed, made(report)["RecordingStimulus"], made(report)["Rheobase"]) == (1, 3 * N_SWEEPS - 1, 3)
    (error,) = populate.errors()
    assert (
        str(bad) in error.reason
        and error.key["recording"] == "s2#sweep_000"
        and error.table == "recording.RecordingStimulus"
    )
    assert "Traceback" in error.traceback
    assert rheobases()["c"] == pytest.approx(0.150, abs=1e-3)
    assert rheobases()["cell0"] == pytest.approx(0.100, abs=1e-3)
    assert made(populate.run())["RecordingStimulus"] == 0, "a failed job is not tried again by itself"
    bad.write_bytes(good)
    assert populate.retry(["Rheobase"]) == 0
    assert populate.retry(restriction={"cell": "cell1"}) == 0
    assert populate.retry() == 1 and populate.errors() == []
    again = populate.run()
    assert made(again) == {"RecordingStimulus": 1, "Rheobase": 1, "RecordingEFeatures": 0, "Extraction": 0}
    assert {entry.table: entry.remade for entry in again.tables}["rheobase.Rheobase"] == 1
    assert rheobases()["c"] == pytest.approx(0.100, abs=1e-3)


def test_jobs_of_deleted_recordings_leave_the_queue(database, tmp_path):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    (tmp_path / "cell0.h5").unlink()
    populate.run()
    assert len(populate.errors()) == N_SWEEPS
    (recording.Recording & {"cell": "cell0"}).delete(prompt=False)
    populate.run()
    assert populate.errors() == [] and len(recording.RecordingStimulus().jobs) == 0


def test_a_rheobase_follows_its_sweeps(database, tmp_path):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    populate.run()
    (recording.RecordingStimulus & {"cell": "cell0"} & "n_spikes > 0").delete(prompt=False)
    kept = recording.RecordingStimulus() & {"cell": "cell0"}
    assert len(kept) == 2
    without = recording.Recording & {"cell": "cell0"} & (recording.Recording - recording.RecordingStimulus).proj()
    (recording.Recording & list(without.keys())).delete(prompt=False)
    populate.run()
    assert rheobases()["cell0"] is None
    assert rheobases()["cell1"] == pytest.approx(rheobase_na(sweeps_of(1)), abs=1e-3)


@pytest.mark.parametrize("options", [{}, {"protocol_mode": "median", "min_values": 2}, {"absolute_amplitude": True}])
def test_an_extraction_equals_the_same_functions_on_files_read_directly(database, tmp_path, options):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    targets = add_targets(**options)
    if options.get("absolute_amplitude"):
        targets = [{**target, "amplitude": target["amplitude"] / 1000, "tolerance": 0.03} for target in targets]
        add_target_set("nA", targets, **options)
    add_cell_group("all")
    ask_for_everything()
    populate.run()
    files = {f"cell{index}": {"IDrest": [{"filepath": tmp_path / f"cell{index}.h5"}]} for index in range(2)}
    features, protocols, currents = extract.extract_efeatures(
        tmp_path,
        files,
        targets,
        absolute_amplitude=options.get("absolute_amplitude", False),
        protocol_mode=options.get("protocol_mode", "mean"),
        threshold_nvalue_save=options.get("min_values", 1),
    )
    key = {"target_set": "nA" if options.get("absolute_amplitude") else "t"}
    rows = (efeature.Extraction.Feature & key).to_dicts(order_by="feature")
    found = [(row["stimulus"], row["efeature"], row["mean"], row["std"], row["n"]) for row in rows]
    expected = [(s, e["feature"], *e["val"], e["n"]) for s, places in features.items() for e in places["soma"]]
    assert len(expected) > 0
    assert found == [
        (s, f, pytest.approx(mean, rel=1e-12), pytest.approx(std, rel=1e-12, abs=1e-15), n)
        for s, f, mean, std, n in expected
    ]
    stored = {row["stimulus"]: row["stimulus_description"] for row in (efeature.Extraction.Protocol & key).to_dicts()}
    assert stored == json.loads(json.dumps(protocols, default=float))
    per_cell = {row["cell"]: row["threshold_current"] for row in (efeature.Extraction.Current & key).to_dicts()}
    found = currents["all_threshold_current"]
    assert len(found) == (0 if options.get("absolute_amplitude") else 2)
    assert per_cell == ({"cell0": None, "cell1": None} | {name: pytest.approx(value) for name, value in found.items()})
    assert (efeature.Extraction & key).fetch1("currents")["threshold_current"] == currents["threshold_current"]


def test_an_extraction_waits_for_its_values_and_is_made_again_with_them(database, tmp_path):
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    add_targets()
    add_cell_group("all")
    ask_for_everything()
    populate.run(["RecordingStimulus", "Rheobase"])
    assert made(populate.run(["Extraction"])) == {"Extraction": 0}
    populate.run()
    first = efeature.Extraction().fetch1("inputs_sha256")
    write_cell(tmp_path, 3, "cell1")
    ingest.run("ephys", tmp_path, **OPTIONS)
    report = populate.run()
    assert made(report) == {
        "RecordingStimulus": N_SWEEPS,
        "Rheobase": 1,
        "RecordingEFeatures": N_SWEEPS,
        "Extraction": 1,
    }
    assert efeature.Extraction().fetch1("inputs_sha256") != first
    write_cell(tmp_path, 2, "cell2")
    ingest.run("ephys", tmp_path, **OPTIONS)
    assert made(populate.run())["Extraction"] == 0, "the new cell is in no group"
    add_cell_group("all")
    ask_for_everything()
    assert made(populate.run())["Extraction"] == 1


def test_a_second_feature_set_is_made_for_its_protocols_only(database, tmp_path):
    write_cell(tmp_path, 0, "a")
    write_cell(tmp_path, 1, "b", sweeps=[{**sweep, "protocol": "IV"} for sweep in sweeps_of(1)])
    ingest.run("ephys", tmp_path, **OPTIONS)
    add_feature_set("everything", ["Spikecount"])
    add_feature_set("IV only", ["voltage_base"], protocols=["IV"])
    populate.run()
    found = {(row["feature_set"], row["cell"]) for row in efeature.RecordingEFeatures().to_dicts()}
    assert found == {("everything", "a"), ("everything", "b"), ("IV only", "b")}


def ingest_real(shared, tmp_path, cells):
    folder = tmp_path / "real"
    content = json.loads((shared / "data/ephys/metadata.json").read_text())
    chosen = {
        cell: {
            protocol: [{**item, "compat": "bluepyefe"} for item in items]
            for protocol, items in content["files_metadata"][cell].items()
        }
        for cell in cells
    }
    folder.mkdir()
    for cell in cells:
        (folder / cell).mkdir()
        for path in (shared / "data/ephys" / cell).iterdir():
            (folder / cell / path.name).write_bytes(path.read_bytes())
    (folder / "metadata.json").write_text(json.dumps({"files_metadata": chosen}))
    report = ingest.run("ephys", folder, lab="l", subject="{cell}", session_date="2010-01-01")
    assert report.failed == 0, report.failures


def test_real_cells_equal_what_the_reference_program_found(database, tmp_path, shared):
    results = {
        name: json.loads((shared / f"data/ephys/{name}.json").read_text())
        for name in ("combos", "expected_features", "expected_rheobase", "expected_protocols")
    }
    combo = next(combo for combo in results["combos"]["combos"] if combo["name"] == "default_relative")
    ingest_real(shared, tmp_path, ["B6", "B95", "C060109A1-SR-C1"])
    add_target_set("default_relative", combo["targets"])
    add_cell_group("pair", [{"cell": cell} for cell in combo["cells"]])
    ask_for_everything()
    report = populate.run()
    assert report.failed == 0, report.failures[:3]
    found = rheobases()
    expected_rheobases = results["expected_rheobase"]["default_relative"]
    assert {cell: found[cell] for cell in expected_rheobases} == pytest.approx(expected_rheobases, rel=1e-9)
    (item,) = json.loads((tmp_path / "real/metadata.json").read_text())["files_metadata"]["B95"]["IDRest"]
    item = {**item, **{role: str(tmp_path / "real" / item[role]) for role in ("i_file", "v_file")}}
    (sweep,) = ephys.read_recordings_of_file("IDRest", item, efel_settings=ephys.DEFAULT_EFEL_SETTINGS)
    assert sweep.spikecount > 0 and found["B95"] == pytest.approx(sweep.amp, rel=1e-12)
    expected = [
        (stimulus, entry["efeature_name"], entry["n"], number(entry["val"][0]), number(entry["val"][1]))
        for stimulus, places in results["expected_features"]["default_relative"].items()
        for entry in places["soma"]
    ]
    rows = efeature.Extraction.Feature().to_dicts(order_by="feature")
    got = {(row["stimulus"], row["efeature_name"], row["n"], row["mean"], row["std"]) for row in rows}
    assert {entry[:3] for entry in got} == {entry[:3] for entry in expected}
    values = {entry[:2]: entry[3:] for entry in got}
    for stimulus, name, _, mean, std in expected:
        assert values[stimulus, name] == pytest.approx((mean, std), rel=1e-9, nan_ok=True), (stimulus, name)
    left_out = efeature.Extraction().fetch1("notes")["left_out"]
    assert any("sag_ratio1 at IV_100" in note for note in left_out)
    stored = {row["stimulus"]: row["stimulus_description"] for row in efeature.Extraction.Protocol().to_dicts()}
    assert set(stored) == set(results["expected_protocols"]["default_relative"])
    assert {one.outcome for one in verify(queue.computed_tables())} == {"equal"}


def number(value):
    return math.nan if value == "NaN" else value

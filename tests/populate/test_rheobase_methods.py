"""Rheobase methods and automatic targets in the tables."""

import numpy as np
import pytest
from simulated import AMPLITUDES, OPTIONS, ask_for_everything, spikes, sweeps_of, write_cell, write_cells

from labweave import ephys, ingest, populate
from labweave.analysis import add_auto_targets, add_cell_group, add_rheobase_method
from labweave.database import upsert
from labweave.database.inputs import out_of_date
from labweave.ephys.auto_targets import AutoTarget
from labweave.errors import ConfigError, SchemaError
from labweave.schemas import efeature, ingestion, lab, recording, rheobase, session, subject


@pytest.fixture
def cell(database, tmp_path):
    """One cell, silent below 100 pA."""
    assert [spikes(sweep) for sweep in sweeps_of(0)] == [0, 0, 3, 5, 7, 8]
    write_cells(tmp_path, 1)
    ingest.run("ephys", tmp_path, **OPTIONS)
    return database


def found():
    return {row["rheobase_method"]: row["rheobase"] for row in rheobase.Rheobase().to_dicts()}


def test_every_strategy_is_made_next_to_the_others(cell):
    add_rheobase_method("flush", "flush")
    add_rheobase_method("majority", "majority", {"min_step": 0.02, "majority": 0.5})
    add_rheobase_method("interpolation", "interpolation")
    add_rheobase_method("four", "absolute", {"spike_threshold": 4})
    add_rheobase_method("as the peer", "majority", {"min_step": 0.02, "compat": "bluepyefe"})
    add_rheobase_method("never a spike", settings={"efel_settings": {"Threshold": 200.0}})
    add_rheobase_method("other protocol", protocols="IV")
    report = populate.run()
    assert report.failed == 0, report.failures
    assert {name: value for name, value in found().items() if value is not None} == pytest.approx(
        {
            "absolute": 0.1,
            "flush": 0.1,
            "four": 0.15,
            "majority": 0.1,  # centre of [0.09, 0.11); bins begin at 0.05
            "as the peer": 0.13,  # the lowest with spikes and one bin and a half
            "interpolation": 0.15 + 1.0 / 41.2 * (1 - 4.6),  # least squares through 0, 3, 5, 7, 8 from 0.05 on
        },
        abs=2e-3,  # noise of 1 pA
    )
    assert found()["never a spike"] is None and found()["other protocol"] is None


def test_a_method_is_added_once_and_never_changed(cell):
    assert add_rheobase_method("m", "flush", {"flush_length": 2}, ["IDrest", "IV"]) == "m"
    add_rheobase_method("m", "flush", {"flush_length": 2}, ["IV", "IDrest", "IV"])
    for changed in (
        {"strategy": "absolute", "settings": {}},
        {"settings": {"flush_length": 3}},
        {"protocols": ["IDrest"]},
    ):
        with pytest.raises(SchemaError, match="'m' exists with other contents"):
            add_rheobase_method(
                "m", **{"strategy": "flush", "settings": {"flush_length": 2}, "protocols": ["IDrest", "IV"], **changed}
            )
    assert (rheobase.RheobaseMethod & {"rheobase_method": "m"}).fetch1() == {
        "rheobase_method": "m",
        "strategy": "flush",
        "strategy_settings": {"flush_length": 2},
        "protocols": ["IDrest", "IV"],
    }
    populate.run()
    assert out_of_date(rheobase.Rheobase()) == []


PROTOCOLS = ("IDrest", "idrest", "ID_est", "IDr%", "Étage", 'a"b', "a|b")
METHODS = {"case": ["IDrest"], "wild": ["IDr%", "nothing"], "one": ["ID_est", "Étage"], "odd": ['a"b', "a|b"]}


def test_a_rheobase_rests_on_the_sweeps_of_exactly_the_protocols_of_its_method(database):
    upsert(lab.Lab, [{"lab": "l"}])
    upsert(subject.Subject, [{"lab": "l", "subject": "s", "subject_uuid": "u" * 36}])
    upsert(session.Session, [{"eid": "e" * 36, "lab": "l", "subject": "s"}])
    upsert(ingestion.Source, [{"source": "s", "adapter": "ephys", "location": "/nowhere", "source_lab": "l"}])
    cell = {"eid": "e" * 36, "cell": "c"}
    sweeps = [{**cell, "protocol": name, "recording": f"r{at}"} for at, name in enumerate(PROTOCOLS)]
    file = {"source": "s", "reader": "igor", "files": {}, "metadata": {}, "content_sha256": "0" * 64}
    stimulus = {"ecode": "IDrest", "timing": "given", "dt": 0.1, "n_samples": 9, "tend": 9.0, "params": {}}
    upsert(recording.Cell, [cell])
    upsert(recording.Protocol, [{"protocol": name} for name in PROTOCOLS])
    upsert(recording.Recording, [{**sweep, **file} for sweep in sweeps])
    found = {"amp": 0.1, "n_spikes": 1, "spike_times": np.array([2.0])}
    upsert(recording.RecordingStimulus, [{**sweep, **stimulus, **found} for sweep in sweeps])
    rheobase.RheobaseMethod().delete(prompt=False)
    for name, protocols in METHODS.items():  # DataJoint writes é into JSON as an escape, labweave as it is
        row = {"rheobase_method": name, "strategy": "absolute", "strategy_settings": {}, "protocols": protocols}
        rheobase.RheobaseMethod.insert1(row)
        add_rheobase_method(f"{name} too", protocols=protocols)
    assert populate.run(["Rheobase"]).made == 2 * len(METHODS)
    for at, sweep in enumerate(sweeps):
        recording.RecordingStimulus.update1({**sweep, "amp": 0.2 + at})
        rest_on_it = [name for name, protocols in METHODS.items() if sweep["protocol"] in protocols]
        remade = {one.key["rheobase_method"] for one in out_of_date(rheobase.Rheobase())}
        assert remade == {name + suffix for name in rest_on_it for suffix in ("", " too")}
        assert populate.run(["Rheobase"]).made == len(remade)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"strategy": "foo"}, "foo.*absolute"),
        ({"strategy": "flush", "settings": {"min_step": 1}}, "min_step.*flush_length"),
        ({"strategy": "majority", "settings": {"majority": 2}}, "majority"),
        ({"settings": {"compat": "elephant"}}, "elephant"),
        ({"settings": {"efel_settings": {"Threshold": "high"}}}, "efel_settings.*'m'"),
        ({"settings": {"efel_settings": ["Threshold"]}}, "efel_settings.*'m'"),
        ({"protocols": []}, "no protocol"),
    ],
)
def test_a_method_that_could_not_be_used_is_refused_before_anything_is_written(cell, arguments, says):
    with pytest.raises(ConfigError, match=says):
        add_rheobase_method("m", **arguments)
    assert len(rheobase.RheobaseMethod()) == 1


def test_a_row_that_somebody_put_in_by_hand_fails_with_the_reason(cell):
    row = {"rheobase_method": "by hand", "strategy": "flush", "protocols": ["IDrest"]}
    rheobase.RheobaseMethod.insert1({**row, "strategy_settings": {"flush": 1}})
    assert populate.run().failed == 1
    (error,) = populate.errors()
    assert "'flush'" in error.reason and "flush_length" in error.reason and error.key["rheobase_method"] == "by hand"
    assert list(found()) == ["absolute"]
    assert (populate.run().failed, len(populate.errors())) == (0, 1), "a failed job is not tried again by itself"
    rheobase.RheobaseMethod.update1({"rheobase_method": "by hand", "strategy_settings": {"flush_length": 1}})
    assert (populate.run(["Rheobase"]).made, populate.errors()) == (1, [])
    assert found() == {"absolute": pytest.approx(0.1, abs=2e-3), "by hand": pytest.approx(0.1, abs=2e-3)}


def test_automatic_targets_come_from_the_sweeps_of_a_group(database, tmp_path):
    for index in range(2):
        write_cell(tmp_path, index, f"cell{index}")
    ingest.run("ephys", tmp_path, **OPTIONS)
    add_cell_group("first", {"cell": "cell0"})
    wish = AutoTarget(["IV", "IDrest"], [300, 200], ["Spikecount", "AP1_amp"], 1)
    with pytest.raises(ConfigError, match="'first'.*populate"):
        add_auto_targets("auto", "first", auto_targets=[wish])
    populate.run()
    assert add_auto_targets("auto", "first", auto_targets=[wish]) == "auto"
    targets = efeature.TargetSet.Target().to_dicts(order_by="target")
    assert [(t["protocol"], t["amplitude"], t["tolerance"], t["efeature"]) for t in targets] == [
        ("IDrest", 200.0, 10.0, "Spikecount"), ("IDrest", 200.0, 10.0, "AP1_amp"),
    ]  # fmt: skip  # 200 pA is twice the rheobase of 100 pA, and there is no 300 pA
    ask_for_everything()
    populate.run()
    row = (efeature.Extraction.Feature & {"target_set": "auto", "efeature": "Spikecount"}).fetch1()
    assert (row["mean"], row["n"]) == (spikes(sweeps_of(0)[AMPLITUDES.index(200.0)]), 1)
    add_auto_targets("presets", "first")
    assert {t["protocol"] for t in (efeature.TargetSet.Target & {"target_set": "presets"}).to_dicts()} == {"IDrest"}
    with pytest.raises(ConfigError, match="nobody"):
        add_auto_targets("none", "nobody", auto_targets=[wish])
    with pytest.raises(ephys.UnknownFeature):
        add_auto_targets("wrong", "first", auto_targets=[AutoTarget(["IDrest"], [200], ["foo"], 1)])
    assert len(efeature.TargetSet()) == 2

"""Whatever is edited in whatever order, populate ends where it would have ended from the final inputs alone."""

import json
import os
import re

import pytest
from conftest import SavedRows, tables_of, unchecked
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from simulated import OPTIONS
from test_out_of_date import (
    CELLS,
    N_SWEEPS,
    TARGETS,
    a_feature_set_changed,
    feature_set,
    make_all,
    rows,
    write_all,
    write_sweep,
)

from labweave import ingest, populate
from labweave.analysis import add_rheobase_method, exclude, include
from labweave.schemas import efeature, recording, rheobase

pytestmark = pytest.mark.slow

RESULTS = (
    recording.RecordingStimulus, rheobase.Rheobase, efeature.RecordingEFeatures, efeature.RecordingEFeatures.Value,
    efeature.Extraction, efeature.Extraction.Feature, efeature.Extraction.Protocol, efeature.Extraction.Current,
)  # fmt: skip

cells, numbers, targets = st.sampled_from(CELLS), st.integers(0, N_SWEEPS - 1), st.sampled_from(TARGETS)


def names_of(cell, number):
    return {"cell": cell, "recording": f"{cell}/s{number}#sweep_000"}


def write(folder, cell, number, index, protocol):
    write_sweep(folder, cell, number, index=index, protocol=protocol)
    ingest.run("ephys", folder, **OPTIONS)


def take_away(folder, cell, number):
    (folder / f"{cell}/s{number}.h5").unlink(missing_ok=True)
    ingest.run("ephys", folder, **OPTIONS)


def forget(folder, cell, number):
    if recording.Recording & names_of(cell, number):
        take_away(folder, cell, number)
        ingest.forget((recording.Recording & names_of(cell, number)).fetch1("source"), [f"{cell}/s{number}.h5"])


def read_all_again(folder):
    ingest.run("ephys", folder, **OPTIONS, again=True)


def delete_sweep(folder, cell, number):
    (recording.Recording & names_of(cell, number)).delete(prompt=False)


def delete_cell(folder, cell):
    (recording.Cell & {"cell": cell}).delete(prompt=False)


def swap_exclusion(folder, cell, number):
    if recording.SweepExclusion & names_of(cell, number):
        include(names_of(cell, number))
    elif recording.Recording & names_of(cell, number):
        exclude(names_of(cell, number), "seal lost")


def count_spikes_at(folder, threshold):
    changed = {"rheobase_method": "low", "strategy_settings": {"efel_settings": {"Threshold": threshold}}}
    rheobase.RheobaseMethod.update1(changed)


def look_at_protocols(folder, protocols):
    rheobase.RheobaseMethod.update1({"rheobase_method": "absolute", "protocols": protocols})


def measure_at(folder, threshold):
    name = (efeature.FeatureSet & {"feature_set": feature_set("shape")}).fetch1("efel_settings")
    table = efeature.EFelSettings()
    table.connection.query(
        f"update {table.full_table_name} set settings = %s where efel_settings = %s",
        (json.dumps({"Threshold": threshold, "interp_step": 0.025}), name),
    )


def ask_for_width(folder):
    if not efeature.FeatureSet.Feature & {"feature_set": feature_set("shape"), "efeature": "AP1_width"}:
        a_feature_set_changed(folder)


def tolerate(folder, target_set, tolerance):
    efeature.TargetSet.Target.update1({"target_set": target_set, "target": 0, "tolerance": tolerance})


def add_method(folder):
    add_rheobase_method("majority", "majority", {"majority": 0.5}, ["IDrest"])


def want_no_more(folder, target_set):
    (efeature.ExtractionTask & {"target_set": target_set, "rheobase_method": "absolute"}).delete(prompt=False)


def populate_now(folder):
    populate.run()


# No sweep is taken away for good: results whose files are away stay, and a first populate could not make them.
EDIT = st.one_of(
    st.tuples(st.just(write), cells, numbers, st.integers(0, 3), st.sampled_from(["IDrest", "Step"])),
    st.tuples(st.sampled_from([forget, delete_sweep, swap_exclusion]), cells, numbers),
    st.tuples(st.just(swap_exclusion), cells, numbers),
    st.tuples(st.just(delete_cell), st.just("b")),
    st.tuples(st.just(count_spikes_at), st.sampled_from([-30.0, 1000.0])),
    st.tuples(st.just(look_at_protocols), st.sampled_from([["IDrest"], ["Step"], ["IDrest", "Step"]])),
    st.tuples(st.just(measure_at), st.sampled_from([-25.0, -10.0])),
    st.tuples(st.just(tolerate), targets, st.sampled_from([5.0, 60.0])),
    st.tuples(st.just(want_no_more), targets),
    st.tuples(st.sampled_from([read_all_again, ask_for_width, add_method, populate_now])),
)


def contents():
    return {table.__name__: rows(table) for table in RESULTS}


@pytest.fixture
def saved(database, tmp_path):
    make_all(tmp_path)
    return SavedRows(database)


@settings(
    max_examples=int(os.environ.get("LABWEAVE_TEST_EDITS", 4)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # not for hours when it fails
)
@given(edits=st.lists(EDIT, min_size=2, max_size=6))
def test_any_sequence_of_edits_ends_as_a_first_populate(database, tmp_path, saved, edits):
    saved.restore()
    write_all(tmp_path)
    for edit, *values in edits:
        note(f"{edit.__name__} {values}")
        edit(tmp_path, *values)
    populate.run()
    found = contents()
    assert populate.run().made == 0, "a second populate makes something again"
    with unchecked(database.connection):
        for table in tables_of(database):
            if re.search(r"\W(_|~~)\w+\W$|provenance\W+made\W", table):  # results, queues, and what they were made from
                database.connection.query(f"delete from {table}")
    populate.run()
    assert found == contents()

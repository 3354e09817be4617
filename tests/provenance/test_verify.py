"""Results that are made again without being stored, and compared."""

import pytest
from simulated import OPTIONS, ask_for_everything, sweeps_of, write_cell, write_cells

from labweave import ingest, populate
from labweave.analysis import add_cell_group, add_target_set
from labweave.formats.canonical import canonical_sha256
from labweave.populate import queue
from labweave.provenance import verify
from labweave.schemas import efeature, provenance, recording, rheobase
from labweave.testing import rows_of_tables

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(database, tmp_path):
    """A folder of two cells; everything is made."""
    write_cells(tmp_path, 2)
    ingest.run("ephys", tmp_path, **OPTIONS)
    wanted = {"efeature": "AP1_amp", "protocol": "IDrest", "amplitude": 150, "tolerance": 60.0}
    add_target_set("t", [wanted, {**wanted, "efeature": "mean_frequency"}])
    add_cell_group("all")
    ask_for_everything()
    assert populate.run().failed == 0
    return tmp_path


def not_equal(tables=None):
    found = list(verify(queue.computed_tables(tables)))
    return [one for one in found if one.outcome != "equal"], found


def test_everything_comes_out_the_same_and_nothing_is_written(database, folder):
    before = rows_of_tables(database)
    bad, found = not_equal()
    assert bad == [] and len(found) == 12 + 2 + 12 + 1
    assert rows_of_tables(database) == before
    assert provenance.Verified().to_arrays("outcome").tolist() == ["equal"] * len(found)
    assert set(provenance.Verified().to_arrays("made")) == set(provenance.Made().to_arrays("made"))


@pytest.mark.parametrize(("factor", "outcome"), [(1 + 1e-12, "close"), (1.01, "different")])
def test_a_number_that_somebody_changed_is_found_with_its_size(database, folder, factor, outcome):
    key = (efeature.RecordingEFeatures.Value & {"efeature": "AP1_amp"} & "value is not null").keys(limit=1)[0]
    value = (efeature.RecordingEFeatures.Value & key).fetch1("value")
    efeature.RecordingEFeatures.Value.update1({**key, "value": value * factor})
    (one,), _ = not_equal(["RecordingEFeatures"])
    assert (one.table, one.outcome) == ("efeature.RecordingEFeatures", outcome)
    assert one.worst_difference == pytest.approx(factor - 1, rel=0.02)
    first = one.differences[0]
    assert first.place == "Value AP1_amp value" and (first.stored, first.now) == (value * factor, value)
    assert one.would_be_made_again == []


def test_a_row_that_is_missing_or_too_many_is_a_difference(database, folder):
    key = efeature.Extraction.Feature().keys(limit=1)[0]
    row = (efeature.Extraction.Feature & key).fetch1()
    efeature.Extraction.Feature.insert1({**row, "feature": 99}, allow_direct_insert=True)
    (one,), _ = not_equal(["Extraction"])
    assert one.outcome == "different" and (one.differences[0].place, one.differences[0].now) == ("Feature 99", "no row")
    efeature.Extraction.Feature().delete(prompt=False, part_integrity="ignore")
    (one,), _ = not_equal(["Extraction"])
    assert one.outcome == "different" and one.differences[0].stored == "no row"


def test_a_file_that_is_away_is_told_apart_from_a_difference(database, folder, labweave_command):
    (folder / "cell0.h5").rename(folder.parent / "cell0.h5")
    bad, found = not_equal(["RecordingStimulus", "Rheobase"])
    assert {(one.table, one.key["cell"], one.outcome) for one in bad} == {
        ("recording.RecordingStimulus", "cell0", "input gone")
    }
    assert str(folder / "cell0.h5") in bad[0].reason and len(found) == 14
    done = labweave_command("verify", check=1)
    assert (
        done.stdout.count(str(folder / "cell0.h5")) == 1
        and "input gone: recording.RecordingStimulus cell=cell0" in done.stdout
    )


def test_a_number_within_json_is_found_at_its_place(database, folder):
    (key,) = efeature.Extraction().keys()
    currents = efeature.Extraction().fetch1("currents")
    wrong = {
        **currents,
        "threshold_current": [currents["threshold_current"][0] * 1.5, currents["threshold_current"][1]],
    }
    efeature.Extraction.update1({**key, "currents": wrong, "inputs_sha256": "0" * 64})
    (one,), _ = not_equal(["Extraction"])
    (difference,) = one.differences
    assert difference.place == "currents.threshold_current[0]" and one.worst_difference == pytest.approx(1 / 3)


def test_a_result_whose_inputs_changed_is_said_to_be_made_again(database, folder):
    key = (recording.RecordingStimulus & "n_spikes > 0").keys(order_by="amp", limit=1)[0]
    recording.RecordingStimulus.update1({**key, "n_spikes": 0})
    (one,), _ = not_equal(["Rheobase"])
    assert one.key["cell"] == key["cell"] and "recording.RecordingStimulus" in one.would_be_made_again[0]


def test_it_does_no_harm_beside_a_populate(database, folder, labweave_command):
    """Populate makes everything again while results are verified: they vanish, come back and change meanwhile."""
    expected = rows_of_results()
    for number in range(2):
        write_cell(folder, number, sweeps=sweeps_of(number)[:5])
    ingest.run("ephys", folder, **OPTIONS)
    process = labweave_command.start("populate")
    seen = []
    while process.poll() is None:
        seen += [one for one in verify(queue.computed_tables()) if not one.would_be_made_again]
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert {one.outcome for one in seen} <= {"equal"}
    assert populate.run().made == 0 and not_equal()[0] == []
    write_cells(folder, 2)
    ingest.run("ephys", folder, **OPTIONS)
    populate.run()
    assert rows_of_results() == expected


def rows_of_results():
    tables = (
        recording.RecordingStimulus,
        rheobase.Rheobase,
        efeature.RecordingEFeatures.Value,
        efeature.Extraction.Feature,
    )
    return {table.__name__: sorted(canonical_sha256(row) for row in table().to_dicts()) for table in tables}


def test_the_command_ends_with_1_when_a_result_differs(database, folder, labweave_command):
    assert "2 results verified: 2 equal" in labweave_command("verify", "Rheobase", check=0).stdout
    key = rheobase.Rheobase().keys(limit=1)[0]
    rheobase.Rheobase.update1({**key, "rheobase": 0.3})
    done = labweave_command("verify", "Rheobase", check=1)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  rheobase")]
    assert "stored 0.3" in line and line.endswith("% apart")
    assert f"rheobase.Rheobase cell={key['cell']} rheobase_method=absolute: different" in done.stdout
    other = next(name for name in ("cell0", "cell1") if name != key["cell"])
    assert "1 equal" in labweave_command("verify", "Rheobase", "-r", f"cell={other}", check=0).stdout
    assert "3 results" in labweave_command("verify", "RecordingStimulus", "--sample", "3", check=0).stdout
    assert len(recording.RecordingStimulus()) == 12

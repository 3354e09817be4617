"""Results that are made again without being stored, and compared."""

import pytest
from simulated import OPTIONS, ask_for_everything, write_cells

from labweave import ingest, populate
from labweave.analysis import add_cell_group, add_target_set
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
    assert "AP1_amp" in one.differences[0] and "value" in one.differences[0]


def test_a_row_that_is_missing_or_too_many_is_a_difference(database, folder):
    key = efeature.Extraction.Feature().keys(limit=1)[0]
    row = (efeature.Extraction.Feature & key).fetch1()
    efeature.Extraction.Feature.insert1({**row, "feature": 99}, allow_direct_insert=True)
    (one,), _ = not_equal(["Extraction"])
    assert one.outcome == "different" and "no longer made" in one.differences[0]
    efeature.Extraction.Feature().delete(prompt=False, part_integrity="ignore")
    (one,), _ = not_equal(["Extraction"])
    assert one.outcome == "different" and "not stored" in one.differences[0]


def test_a_file_that_is_away_is_told_apart_from_a_difference(database, folder, labweave_command):
    (folder / "cell0.h5").rename(folder.parent / "cell0.h5")
    bad, found = not_equal(["RecordingStimulus", "Rheobase"])
    assert {(one.table, one.key["cell"], one.outcome) for one in bad} == {
        ("recording.RecordingStimulus", "cell0", "input gone")
    }
    assert str(folder / "cell0.h5") in bad[0].differences[0] and len(found) == 14


def test_the_command_ends_with_1_when_a_result_differs(database, folder, labweave_command):
    assert "2 results verified: 2 equal" in labweave_command("verify", "Rheobase", check=0).stdout
    key = rheobase.Rheobase().keys(limit=1)[0]
    rheobase.Rheobase.update1({**key, "rheobase": 0.3})
    done = labweave_command("verify", "Rheobase", check=1)
    assert f"cell={key['cell']}" in done.stdout and "stored 0.3" in done.stdout
    other = next(name for name in ("cell0", "cell1") if name != key["cell"])
    assert "1 equal" in labweave_command("verify", "Rheobase", "-r", f"cell={other}", check=0).stdout
    assert "3 results" in labweave_command("verify", "RecordingStimulus", "--sample", "3", check=0).stdout
    assert len(recording.RecordingStimulus()) == 12

"""labweave export features: the files against the tables, known numbers and BluePyEfe's own files."""

import json

import numpy as np
import pytest
from conftest import PREFIX
from simulated import OPTIONS, ask_for_everything, rheobase_na, spikes, sweeps_of, write_cell, write_cells
from typer.testing import CliRunner

from labweave import ingest, populate
from labweave.analysis import add_cell_group, add_rheobase_method, add_target_set
from labweave.cli.app import app
from labweave.cli.export import export_features
from labweave.database.connection import LabConnection
from labweave.database.url import parse_url
from labweave.errors import ConfigError
from labweave.schemas import efeature, recording

FILES = ("features.json", "protocols.json", "holding_threshold_currents.json")
TARGETS = [
    {"efeature": name, "protocol": "IDrest", "amplitude": amplitude, "tolerance": 20.0}
    for amplitude in (200, 150)
    for name in ("Spikecount", "AP1_amp", "AP2_amp")
]


def read(folder):
    """Return the three files of a folder as strict JSON, which has no NaN."""

    def refuse(text):
        raise ValueError(text)

    return tuple(json.loads((folder / name).read_text(encoding="utf-8"), parse_constant=refuse) for name in FILES)


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def lab(database, tmp_path):
    """Two cells, averaged at two stimuli."""
    write_cells(tmp_path / "cells", 2)
    ingest.run("ephys", tmp_path / "cells", **OPTIONS)
    add_target_set("firing", TARGETS)
    add_cell_group("all")
    ask_for_everything()
    assert populate.run().failed == 0
    return database


def rows(database, database_url, table):
    """Read a table of the schema of efeatures without DataJoint."""
    connection = LabConnection(parse_url(database_url), PREFIX)
    quote = connection.adapter.quote_identifier
    found = connection.query(f"select * from {quote(PREFIX + 'efeature')}.{quote(table)}", as_dict=True).fetchall()
    connection.close()
    return found


def test_the_files_hold_what_is_in_the_tables_and_what_is_true(lab, database_url, tmp_path):
    (one,) = export_features(tmp_path / "out")
    assert one.folder == tmp_path / "out" and not one.is_stale
    assert names_below(tmp_path / "out") == sorted(FILES)
    features, protocols, currents = read(tmp_path / "out")
    stored = rows(lab, database_url, "__extraction__feature")
    assert {(row["stimulus"], row["efeature_name"]): (row["mean"], row["std"], row["n"]) for row in stored} == {
        (stimulus, entry["efeature_name"]): (*entry["val"], entry["n"])
        for stimulus, places in features.items()
        for entry in places["soma"]
    }
    assert (one.n_efeatures, one.n_stimuli) == (len(stored), len(features)) and stored
    assert list(features) == list(protocols) == ["IDrest_200", "IDrest_150"], "in the order of the targets"

    # cell0 fires from 100 pA on and cell1 from 150 pA: 150 % are 150 pA of the one, 200 and 250 of the other
    assert [rheobase_na(sweeps_of(index)) for index in range(2)] == [0.1, 0.15]
    assert currents["all_threshold_current"] == pytest.approx({"cell0": 0.1, "cell1": 0.15}, abs=1e-3)
    assert currents["threshold_current"] == pytest.approx([0.125, 0.025], abs=1e-3)
    assert currents["all_holding_current"] == pytest.approx({"cell0": 0.0, "cell1": 0.0}, abs=1e-3)
    counts = [spikes(sweeps_of(0)[3]), spikes(sweeps_of(1)[4]), spikes(sweeps_of(1)[5])]
    count = features["IDrest_150"]["soma"][0]
    assert (count["feature"], count["n"]) == ("Spikecount", 3)
    assert count["val"] == pytest.approx([np.mean(counts), np.std(counts)])
    alone = features["IDrest_200"]["soma"][0]
    assert (alone["val"], alone["n"]) == ([spikes(sweeps_of(0)[4]), 1e-3], 1)
    step = protocols["IDrest_150"]["step"]
    assert (step["delay"], step["duration"], step["totduration"]) == (20.0, 100.0, 140.0)
    assert step["thresh_perc"] == pytest.approx((150 + 400 / 3 + 500 / 3) / 3, abs=2.0)
    assert step["amp"] == pytest.approx(1.5 * 0.125, abs=3e-3)


def test_names_and_order_are_those_of_bluepyefe(lab, tmp_path):
    """Seen in files that bluepyefe 2.3.63 wrote."""
    export_features(tmp_path)
    features, protocols, currents = read(tmp_path)
    entry = features["IDrest_200"]["soma"][0]
    assert list(entry) == ["feature", "val", "n", "efel_settings", "efeature_name"]
    assert list(entry["efel_settings"].items()) == [
        ("strict_stiminterval", True), ("Threshold", -20.0), ("interp_step", 0.025),
    ]  # fmt: skip
    assert list(protocols["IDrest_200"]) == ["holding", "step"]
    assert list(protocols["IDrest_200"]["holding"]) == ["delay", "amp", "duration", "totduration"]
    assert list(protocols["IDrest_200"]["step"]) == ["delay", "amp", "thresh_perc", "duration", "totduration"]
    assert list(currents) == ["holding_current", "threshold_current", "all_holding_current", "all_threshold_current"]
    text = (tmp_path / "features.json").read_text()
    assert text.startswith('{\n  "IDrest_200": {\n    "soma": [\n      {\n        "feature": "Spikecount",\n')


def test_each_cell_alone_in_a_folder_of_its_own(lab, tmp_path):
    export_features(tmp_path / "out", per_cell=True)
    assert names_below(tmp_path / "out") == sorted([*FILES, *(f"cell{i}/{name}" for i in range(2) for name in FILES)])
    for index in range(2):
        features, protocols, currents = read(tmp_path / "out" / f"cell{index}")
        threshold = rheobase_na(sweeps_of(index))
        assert currents["all_threshold_current"] == {f"cell{index}": pytest.approx(threshold, abs=1e-3)}
        assert list(currents["all_holding_current"]) == [f"cell{index}"]
        assert currents["threshold_current"][1] == 1e-3, "one cell has no deviation"
        step = protocols["IDrest_150"]["step"]
        assert step["amp"] == pytest.approx(step["thresh_perc"] / 100 * threshold, abs=1e-3)
        assert features["IDrest_150"]["soma"][0]["n"] == 1 + index
    assert list(read(tmp_path / "out" / "cell0")[0]) == ["IDrest_200", "IDrest_150"]
    assert list(read(tmp_path / "out" / "cell1")[0]) == ["IDrest_150"], "no sweep at 300 pA"


def test_cells_alone_keep_absolute_amplitudes_and_the_other_words_of_the_targets(lab, tmp_path):
    targets = [{"efeature": "Spikecount", "protocol": "IDrest", "amplitude": 0.2, "tolerance": 0.01}]
    add_target_set("nA", targets, absolute_amplitude=True, default_std=0.5)
    ask_for_everything()
    populate.run()
    export_features(tmp_path, target_set="nA", per_cell=True)
    for index in range(2):
        features, protocols, currents = read(tmp_path / f"cell{index}")
        assert features["IDrest_0.2"]["soma"][0]["val"] == [spikes(sweeps_of(index)[4]), 0.5]
        assert protocols["IDrest_0.2"]["step"]["amp"] == pytest.approx(0.2, abs=1e-3)
        assert currents["threshold_current"] == [None, None] and currents["all_threshold_current"] == {}


def test_a_cell_that_never_fires_gives_null(database, tmp_path):
    write_cell(tmp_path / "cells", 0, "silent", sweeps=sweeps_of(0)[:2])
    ingest.run("ephys", tmp_path / "cells", **OPTIONS)
    add_target_set("firing", TARGETS)
    add_cell_group("all")
    ask_for_everything()
    populate.run()
    (one,) = export_features(tmp_path / "out")
    features, protocols, currents = read(tmp_path / "out")
    assert features == protocols == {} and one.n_efeatures == 0
    assert currents["threshold_current"] == [None, None] and list(currents["all_holding_current"]) == ["silent"]
    assert any("IDrest_200" in note for note in one.notes)


def test_several_extractions_get_folders_and_options_choose_one(lab, tmp_path):
    add_rheobase_method("two/three", "flush", {"flush_length": 2})
    add_target_set("first spike", TARGETS[:2])
    ask_for_everything()
    assert populate.run().failed == 0
    export_features(tmp_path / "every")
    assert sorted(path.name for path in (tmp_path / "every").iterdir()) == [
        "all+firing+absolute", "all+firing+two%2Fthree", "all+first spike+absolute", "all+first spike+two%2Fthree",
    ]  # fmt: skip
    (one,) = export_features(tmp_path / "one", target_set="first spike", rheobase_method="absolute")
    assert one.folder == tmp_path / "one" and names_below(one.folder) == sorted(FILES)
    assert read(one.folder) == read(tmp_path / "every" / "all+first spike+absolute")
    with pytest.raises(ConfigError, match=r"2 extractions have --target-set firing.*two/three"):
        export_features(tmp_path / "none", target_set="firing")
    with pytest.raises(ConfigError, match=r"No extraction has --cell-group none\. There are:.*--cell-group all"):
        export_features(tmp_path / "none", cell_group="none")
    assert not (tmp_path / "none").exists()


def test_what_was_there_is_replaced_whole_and_other_files_are_left(lab, tmp_path):
    (tmp_path / "features.json").write_text("x" * 100_000)
    (tmp_path / "mine.txt").write_text("mine")
    export_features(tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in FILES}
    export_features(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == first
    assert names_below(tmp_path) == sorted(["cells/cell0.h5", "cells/cell1.h5", "mine.txt", *FILES])
    assert (tmp_path / "features.json").stat().st_mode & 0o777 == (tmp_path / "mine.txt").stat().st_mode & 0o777


def test_the_name_of_a_cell_never_leads_out_of_the_folder(database, tmp_path):
    write_cell(tmp_path / "cells", 0, "../up", file="c.h5")
    ingest.run("ephys", tmp_path / "cells", **{**OPTIONS, "subject": "m"})
    add_target_set("firing", TARGETS)
    add_cell_group("all")
    ask_for_everything()
    populate.run()
    export_features(tmp_path / "deep" / "out", per_cell=True)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
    assert "%2E.%2Fup/features.json" in names_below(tmp_path / "deep" / "out")


def test_the_command_says_what_it_wrote_what_is_missing_and_what_is_old(lab, labweave_command, tmp_path):
    done = labweave_command("export", "features", "out", check=0)
    assert done.stdout.startswith("wrote out: ") and len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert names_below(tmp_path / "out") == sorted(FILES)
    targets = [{"efeature": "AP1_amp", "protocol": "IDrest", "amplitude": 900, "tolerance": 1}]
    add_target_set("far", targets)
    ask_for_everything()
    populate.run()
    done = labweave_command("export", "features", "far", "--target-set", "far", "--per-cell", check=0)
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "wrote far",
        "wrote far/cell0",
        "wrote far/cell1",
    ]
    assert "0 efeatures at 0 stimuli" in done.stdout and "far/cell1: IDrest_900: " in done.stderr
    key = (recording.RecordingStimulus & {"cell": "cell1"} & "n_spikes > 0").keys()[0]
    (efeature.RecordingEFeatures & key).delete(prompt=False)
    done = labweave_command("export", "features", "out", "--target-set", "firing", check=0)
    assert "out: its sweeps or cells have changed since. Run: labweave populate" in done.stderr


def test_errors_are_one_line(database, labweave_command, tmp_path):
    (tmp_path / "file").write_text("")
    done = labweave_command("export", "features", "out", check=2)
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert "no extraction yet" in done.stderr and "labweave populate" in done.stderr
    assert not (tmp_path / "out").exists()
    assert labweave_command("export", "features", check=2).stderr.strip()


def test_a_folder_that_can_not_be_made_is_one_line(lab, labweave_command, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = labweave_command("export", "features", "file", check=2)
    assert done.stderr.count("\n") == 1 and "file" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", [("export",), ("export", "features")])
def test_help(command):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, "--help"], prog_name="labweave")
    assert result.exit_code == 0 and "features" in result.stdout
    assert "Undefined" not in result.stdout and "None]" not in result.stdout


def test_a_real_cell_gives_the_files_that_bluepyefe_wrote(database, tmp_path, shared):
    folder = shared / "data/ephys"
    expected = {name: json.loads((folder / f"expected_{name}.json").read_text())["peer_test_like"]
                for name in ("features", "protocols", "currents")}  # fmt: skip
    combo = next(c for c in json.loads((folder / "combos.json").read_text())["combos"] if c["name"] == "peer_test_like")
    metadata = json.loads((folder / "metadata.json").read_text())["files_metadata"]
    (tmp_path / "real" / "B6").mkdir(parents=True)
    for path in (folder / "B6").iterdir():
        (tmp_path / "real" / "B6" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "real" / "metadata.json").write_text(json.dumps({"files_metadata": {"B6": metadata["B6"]}}))
    ingest.run("ephys", tmp_path / "real", lab="l", subject="{cell}", session_date="2010-01-01")
    add_target_set("peer", combo["targets"])
    add_cell_group("all")
    add_rheobase_method("IDRest", protocols=combo["kwargs"]["protocols_rheobase"])
    ask_for_everything()
    assert populate.run().failed == 0
    export_features(tmp_path / "out", rheobase_method="IDRest", per_cell=True)
    for place in (tmp_path / "out", tmp_path / "out" / "B6"):
        for found, wanted in zip(read(place), expected.values(), strict=True):
            assert list(flat(found)) == [(path, approx(value)) for path, value in flat(wanted)]


def flat(content, path=()):
    """Yield every value with the names that lead to it, in order."""
    if isinstance(content, (dict, list)):
        for name, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from flat(value, (*path, name))
    else:
        yield path, content


def approx(value):
    return pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value

"""``labweave plot``: figures from the tables show what the tables say, and errors are one line."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import PREFIX
from simulated import AMPLITUDES, OPTIONS, ask_for_everything, rheobase_na, spikes, sweeps_of, write_cell, write_cells

from labweave import ingest, populate
from labweave.analysis import add_cell_group, add_target_set
from labweave.cli import plot
from labweave.ephys import plots
from labweave.schemas import efeature, recording, session

pytestmark = pytest.mark.slow


@pytest.fixture
def cells(database, tmp_path):
    write_cells(tmp_path / "cells", 2)
    ingest.run("ephys", tmp_path / "cells", **OPTIONS)
    return tmp_path / "cells"


@pytest.fixture
def populated(cells):
    populate.run()
    return cells


def names_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def error_of(result):
    """Check that a command could not start, and return its one line."""
    assert result.returncode == 2 and result.stdout == "", result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and result.stderr.startswith("labweave: ")
    return result.stderr


@pytest.fixture
def drawn(monkeypatch, database_url):
    """Collect the objects that the figures are drawn from, in the order of drawing, by commands in this process."""
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", database_url)
    monkeypatch.setenv("LABWEAVE_PREFIX", PREFIX)
    seen = []
    for name in ("plot_cell_recordings", "plot_firing_rates", "plot_all_efeatures"):
        original = getattr(plots, name)

        def keep(what, *arguments, original=original, **options):
            seen.append((what, arguments, options))
            return original(what, *arguments, **options)

        monkeypatch.setattr(plots, name, keep)
    return seen


def test_a_cell_from_the_tables(populated, labweave_command, tmp_path):
    result = labweave_command("plot", "cell", "cell0", "--output", "figures", check=0)
    files = {"cell0/cell0_IDrest_recordings.pdf", "cell0/cell0_firing_rates.pdf"}
    assert names_below(tmp_path / "figures") == files
    assert set(result.stdout.split("\n")) == {"", *(f"wrote figures/{name}" for name in files)}
    assert result.stderr == ""
    pdf = (tmp_path / "figures" / "cell0" / "cell0_IDrest_recordings.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    labweave_command("plot", "cell", "cell0", "--output", "png", "--format", "png", "--protocol", "IDrest", check=0)
    assert names_below(tmp_path / "png") == {name.replace("pdf", "png") for name in files}


def test_what_is_drawn_is_what_was_recorded(populated, drawn, tmp_path):
    plot.cell("cell1", output=tmp_path / "out")
    (cell, *_), (same, *_) = drawn
    assert same is cell and cell.rheobase == pytest.approx(rheobase_na(sweeps_of(1)), abs=1e-3)
    in_order = sorted(cell.recordings, key=lambda one: one.amp)
    assert [one.amp for one in in_order] == pytest.approx([a / 1000 for a in sorted(AMPLITUDES)], abs=1e-3)
    by_amplitude = [sweeps_of(1)[index] for index in np.argsort(AMPLITUDES)]
    assert [len(one.peak_time) for one in in_order] == [spikes(sweep) for sweep in by_amplitude]
    for one, sweep in zip(in_order, by_amplitude, strict=True):
        assert (one.voltage == sweep["voltage"]).all()
        assert (one.ton, one.toff) == (20.0, 120.0)
        assert one.amp_rel == pytest.approx(100 * one.amp / cell.rheobase)


def test_cells_that_can_not_be_drawn(cells, labweave_command, tmp_path):
    assert "labweave populate" in error_of(labweave_command("plot", "cell", "cell0"))
    text = error_of(labweave_command("plot", "cell", "cel0"))
    assert "'cel0'" in text and "cell0" in text
    assert "cell0, cell1" in error_of(labweave_command("plot", "cell", "Q"))
    assert "IDrest" in error_of(labweave_command("plot", "cell", "cell0", "--protocol", "IV"))
    result = labweave_command("plot", "cell", "cell0", "--format", "gif")
    assert result.returncode == 2 and "gif" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "labweave-figures").exists()


def test_an_empty_database_says_what_to_do_first(database, labweave_command):
    assert "labweave ingest" in error_of(labweave_command("plot", "cell", "cell0"))
    assert "none" in error_of(labweave_command("plot", "features", "all"))


def test_a_name_in_two_sessions_needs_the_eid(populated, labweave_command, tmp_path):
    write_cell(tmp_path / "more", 2, "cell0")
    ingest.run("ephys", tmp_path / "more", **{**OPTIONS, "subject": "other", "session_date": "2026-02-03"})
    populate.run()
    eids = (session.Session & {"subject": "other"}).to_arrays("eid")
    text = error_of(labweave_command("plot", "cell", "cell0"))
    assert "absolute" in error_of(labweave_command("plot", "cell", "cell1", "--rheobase-method", "none"))
    assert "--eid" in text and str(eids[0]) in text and "mouse-cell0" in text and "2026-02-03" in text
    assert "It is in" in error_of(labweave_command("plot", "cell", "cell0", "--eid", "00000000"))
    labweave_command("plot", "cell", "cell0", "--eid", str(eids[0]).upper(), check=0)
    assert "labweave-figures" in {path.name for path in tmp_path.iterdir()}


def test_sweeps_not_read_yet_are_left_out_and_said(populated, labweave_command, tmp_path):
    extra = sweeps_of(0, amplitudes=(*AMPLITUDES, 300.0))
    write_cell(populated, 0, file="cell0_more.h5", sweeps=[{**extra[-1], "id": "later"}])
    ingest.run("ephys", populated, **OPTIONS)
    assert len(recording.Recording & {"cell": "cell0"}) == len(AMPLITUDES) + 1
    result = labweave_command("plot", "cell", "cell0", check=0)
    assert "1 sweeps have not been read yet" in result.stderr and "labweave populate" in result.stderr


def test_a_file_that_is_gone_fails_its_sweeps_only(populated, labweave_command, tmp_path):
    (populated / "cell1.h5").rename(tmp_path / "kept.h5")
    text = error_of(labweave_command("plot", "cell", "cell1"))
    assert "cell1.h5" in text and "None of the 6 sweeps" in text
    write_cell(populated, 1, file="again.h5", sweeps=sweeps_of(1)[:1])
    ingest.run("ephys", populated, **OPTIONS)
    populate.run()
    result = labweave_command("plot", "cell", "cell1", check=1)
    assert "6 of 7 sweeps could not be read" in result.stderr and "cell1.h5" in result.stderr
    assert "wrote labweave-figures/cell1/cell1_IDrest_recordings.pdf" in result.stdout


def test_a_folder_that_can_not_be_made_is_one_line(populated, labweave_command, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in error_of(labweave_command("plot", "cell", "cell0", "--output", "file"))


def test_a_chirp_gives_an_impedance(database, labweave_command, tmp_path):
    t = np.arange(0, 5300, 0.5)
    current = np.where((t >= 150) & (t < 5100), 50 * np.sin(2e-6 * np.pi * (t - 150) ** 2), 0.0)
    chirp = {"voltage": 0.1 * current - 70, "current": current, "dt": 0.5, "protocol": "SineSpec"}
    units = {"t_unit": "ms", "v_unit": "mV", "i_unit": "pA", "ton": 150.0, "toff": 5100.0}
    write_cell(tmp_path / "chirps", 0, "c", sweeps=[{**chirp, "metadata": units}])
    ingest.run("ephys", tmp_path / "chirps", **OPTIONS)
    populate.run(["RecordingStimulus"])
    result = labweave_command("plot", "cell", "c", "--output", "out", check=0)
    (impedance,) = (tmp_path / "out" / "c" / "impedance").iterdir()
    assert impedance.name.startswith("c_SineSpec_0_") and f"wrote out/c/impedance/{impedance.name}" in result.stdout
    assert "has not been computed" in result.stderr
    assert {path.name for path in (tmp_path / "out" / "c").iterdir()} == {"impedance", "c_SineSpec_recordings.pdf"}


TARGETS = [
    {"efeature": name, "protocol": "IDrest", "amplitude": amplitude, "tolerance": 5.0}
    for name in ("Spikecount", "AP_amplitude")
    for amplitude in (100, 150)
]


def test_efeatures_of_a_group_from_the_tables(cells, drawn, labweave_command, tmp_path):
    add_target_set("firing", TARGETS)
    add_cell_group("all")
    ask_for_everything()
    assert "labweave populate" in error_of(labweave_command("plot", "features", "all"))
    populate.run()
    plot.features("all", output=tmp_path / "out")
    expected = {"legend.pdf"}
    for name in ("Spikecount", "AP_amplitude"):
        for suffix in ("amp", "amp_rel"):
            expected |= {f"IDrest_{name}_{suffix}.pdf"}
            expected |= {f"{cell}/{cell}_IDrest_{name}_{suffix}.pdf" for cell in ("cell0", "cell1")}
    assert names_below(tmp_path / "out" / "all") == expected
    ((group, (protocols, _), options),) = drawn
    assert options == {"absolute_amplitude": False}
    for index, cell in enumerate(group):
        counts = {round(one.amp * 1000): one.efeatures["Spikecount"] for one in cell.recordings}
        assert counts == {round(a): spikes(sweep) for a, sweep in zip(AMPLITUDES, sweeps_of(index), strict=True)}
        assert cell.rheobase == pytest.approx(rheobase_na(sweeps_of(index)), abs=1e-3)
    targets = {(t.efeature_name, t.amplitude): t for one in protocols for t in one.feature_targets}
    assert set(targets) == {(wanted["efeature"], wanted["amplitude"]) for wanted in TARGETS}
    for target in targets.values():
        values = [
            one.efeatures[target.efeature_name]
            for cell in group
            for one in cell.recordings
            if abs(one.params["amp_rel"] - target.amplitude) < 5.0
        ]
        values = [value for value in values if not np.isnan(value)]
        assert target.sample_size == len(values)
        if values:
            assert target.mean == pytest.approx(np.mean(values))
    assert any(target.sample_size for target in targets.values())
    result = labweave_command("plot", "features", "all", "--output", "again", check=0)
    assert result.stdout.count("wrote again/all/") == len(expected)


def test_one_name_with_two_settings_is_two_figures(cells, drawn, tmp_path):
    wanted = {"efeature": "Spikecount", "protocol": "IDrest", "amplitude": 0.25, "tolerance": 0.01}
    add_target_set("two", [wanted, {**wanted, "efel_settings": {"Threshold": 200.0}}], absolute_amplitude=True)
    add_cell_group("all")
    ask_for_everything()
    populate.run()
    plot.features("all", output=tmp_path)
    ((group, (protocols, _), options),) = drawn
    assert options == {"absolute_amplitude": True}
    usual, never = (target for one in protocols for target in one.feature_targets)
    assert usual.efeature_name != never.efeature_name
    assert usual.mean == np.mean([spikes(sweeps_of(index)[-1]) for index in (0, 1)]) and never.mean == 0
    assert {one.efeatures[never.efeature_name] for cell in group for one in cell.recordings} == {0.0}


def test_groups_that_can_not_be_drawn(cells, labweave_command):
    add_cell_group("all")
    for name in ("one", "two"):
        add_target_set(name, TARGETS)
    ask_for_everything()
    assert "all" in error_of(labweave_command("plot", "features", "nobody"))
    populate.run()
    assert len(efeature.Extraction()) == 2
    assert "--target-set: one, two" in error_of(labweave_command("plot", "features", "all"))
    assert "one, two" in error_of(labweave_command("plot", "features", "all", "--target-set", "three"))
    labweave_command("plot", "features", "all", "--target-set", "two", check=0)

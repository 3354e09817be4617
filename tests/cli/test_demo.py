"""The demo, run as a newcomer would: interrupted, finished, repeated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import matplotlib.image
import pytest

import labweave
from labweave.cli.demo import command as demo
from labweave.cli.demo import simulated_lab
from labweave.database.declare import schema_modules, table_classes
from labweave.ephys.simulation import PROTOCOLS, example_cells, true_rheobase
from labweave.errors import ConfigError
from labweave.settings import load_settings

pytestmark = pytest.mark.slow


def count_rows(url, prefix) -> dict[str, int]:
    """Return the rows of every table that holds data, not the story of the runs."""
    with labweave.connect(url, prefix=prefix):
        return {
            f"{module.__name__}.{cls.__qualname__}": len(cls())
            for module in schema_modules()
            if not module.__name__.endswith(("ingestion", "provenance", "work"))
            for cls in table_classes(module)
        }


def read_table(text) -> dict[str, list[str]]:
    """Return the printed lines of cells, mean and deviation by their first word."""
    lines = [line.split() for line in text.splitlines()]
    return {words[0]: words[1:] for words in lines if words and re.fullmatch(r"sim\d\d|mean|std", words[0])}


def kill_after(step, process) -> None:
    """Kill the demo, without a chance to tidy up, when it has said that a step is done."""
    while not any(line.startswith(step) for line in process.output().splitlines()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.wait()


def test_demo_survives_a_kill_shows_what_is_true_and_repeats(labweave_command, new_prefix, database_url, tmp_path):
    prefix = new_prefix()
    kill_after("ingest", labweave_command.start("--prefix", prefix, "demo"))
    first = labweave_command("--prefix", prefix, "demo", check=0)
    assert ", 0 files written" in first.stdout
    assert "0 new, 0 changed, 6 unchanged" in first.stdout
    assert first.stderr == ""

    table = read_table(first.stdout)
    idrest = PROTOCOLS["IDrest"]
    for cell in example_cells():
        threshold_pa = true_rheobase(cell, idrest.toff_ms - idrest.ton_ms)
        mouse, rheobase_pa, model_pa, *efeatures = table[cell.name]
        assert mouse.startswith("mouse")
        assert threshold_pa <= float(rheobase_pa) < threshold_pa + simulated_lab.STEP_PA
        assert float(model_pa) == round(threshold_pa)
        rate_hz, ap_mv, ahp_mv, width_us, resistance_mohm = map(float, efeatures)
        assert 20 < rate_hz < 60 and 60 < ap_mv < 100 and 1 < ahp_mv < 20 and 300 < width_us < 1500
        # a passive cell would have 1 / g_leak; the M-like current that is open at rest lowers it
        assert 0.5 < resistance_mohm * cell.g_leak_ns / 1000 <= 1.02
    for column in range(3, 7):
        values = [float(row[column]) for name, row in table.items() if name.startswith("sim")]
        assert float(table["mean"][column - 1]) == pytest.approx(sum(values) / len(values), abs=1)

    folder = tmp_path / "labweave-demo"
    assert sorted(path.name for path in folder.iterdir()) == ["demo.png", "recordings"]
    assert sorted(path.name for path in (folder / "recordings").iterdir()) == [f"sim{n:02d}.h5" for n in range(1, 7)]
    height, width, _ = matplotlib.image.imread(folder / "demo.png").shape
    assert 1000 < width < 3000 and 400 < height < 2000
    said = labweave_command("--prefix", prefix, "verify", check=0).stdout
    assert re.fullmatch(r"(\d+) results verified: \1 equal\n", said)

    rows = count_rows(database_url, prefix)
    assert rows["labweave.schemas.recording.RecordingStimulus"] == 6 * simulated_lab.N_SWEEPS
    second = labweave_command("--prefix", prefix, "demo", check=0)
    assert "populate  0 results made" in second.stdout
    assert read_table(second.stdout) == table

    damaged = folder / "recordings" / "sim02.h5"
    damaged.write_bytes(damaged.read_bytes()[:100_000])
    third = labweave_command("--prefix", prefix, "demo", check=0)
    assert ", 1 files written" in third.stdout
    assert "0 new, 0 changed, 6 unchanged" in third.stdout  # the same bytes again
    assert read_table(third.stdout) == table
    assert count_rows(database_url, prefix) == rows

    for command in next_commands(first.stdout):
        done = run(command, database_url, tmp_path, shell=True)
        assert done.returncode == 0, command + done.stderr
    example = first.stdout[first.stdout.index("\nimport labweave\n") :].partition("\n\n")[0]
    done = run([sys.executable, "-c", example], database_url, tmp_path)
    assert "n_spikes" in done.stdout, done.stderr


def next_commands(text) -> list[str]:
    """Return the three commands that the demo says to try next."""
    lines = text[text.index("\nNext:\n") + 7 :].splitlines()
    return [line.strip() for line in lines[: lines.index("")]]


def run(command, url, cwd, shell=False):
    """Run a command as typed by somebody whose environment names the database."""
    environment = {**os.environ, "LABWEAVE_DATABASE_URL": url}
    return subprocess.run(command, shell=shell, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_demo_has_a_prefix_of_its_own_whatever_the_settings_say(monkeypatch):
    from typer.testing import CliRunner

    from labweave.cli.app import app

    def open_nothing(make):
        raise ConfigError(load_settings().database.prefix)

    monkeypatch.setattr(demo, "open_database", open_nothing)
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", "embedded:")
    monkeypatch.setenv("LABWEAVE_PREFIX", "smithlab_")
    assert str(CliRunner().invoke(app, ["demo"]).exception) == "labweave_demo_"
    assert str(CliRunner().invoke(app, ["--prefix", "other_", "demo"]).exception) == "other_"


def test_commands_to_try_next_name_the_database_but_no_password(monkeypatch):
    monkeypatch.setenv("LABWEAVE_PREFIX", "demo_")
    command = demo._command({"database": "embedded:///tmp/a b"})
    assert command.endswith("--database 'embedded:///tmp/a b' --prefix demo_")
    assert demo._command({"database": None}).endswith("labweave --prefix demo_")
    assert "secret" not in demo._command({"database": "mysql://lab:secret@db:3306"})


def test_a_folder_that_can_not_be_made_is_one_line(labweave_command, new_lab, tmp_path):
    (tmp_path / "file").write_text("")
    result = labweave_command("--prefix", new_lab(), "demo", "--folder", "file", check=2)
    assert "file can't be written" in result.stderr
    assert result.stderr.count("\n") == 1

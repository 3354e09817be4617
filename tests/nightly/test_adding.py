"""``labweave source add`` tries a source and writes it behind what labweave.toml has, which stays as it is."""

import os
import re

import numpy as np
import pytest

from labweave.formats.recordings import write_recordings
from labweave.nightly.settings import load_night

BEFORE = """\
# ours, since 2019
lab   =  "smithlab"   # two of us

[nightly]
at = "03:00"    # after the backup of the building
"""


@pytest.fixture
def path(tmp_path, database, monkeypatch):
    path = tmp_path / "labweave.toml"
    path.write_text(BEFORE)
    path.chmod(0o640)
    monkeypatch.setenv("LABWEAVE_CONFIG", str(path))
    return path


@pytest.fixture
def rig(tmp_path):
    folder = tmp_path / 'rig "1"'
    sweep = {"voltage": np.full(500, -70.0), "current": np.zeros(500), "protocol": "IDrest"}
    units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}
    for name, day in (("c1", 3), ("c2", 2)):
        file = write_recordings(
            folder / f"{name}.h5", [sweep | units], cell=name, subject="m12", session_date="2026-01-02"
        )
        os.utime(file, (1_700_000_000 + 86400 * day,) * 2)
    return folder


def test_a_source_is_tried_and_written_and_the_night_takes_it(path, rig, labweave_command):
    arguments = ["--require-mount", "--expect-every", "3d", "-o", "species=Mus musculus"]
    done = labweave_command("source", "add", "rig1", "ephys", rig, *arguments, check=0)
    assert "2 units; would be: 2 new" in done.stdout
    assert re.search(r"newest file: c1.h5, 2023-11-1[78]", done.stdout)
    text = path.read_text()
    assert text.startswith(BEFORE)
    assert path.stat().st_mode & 0o777 == 0o640
    [source] = load_night().sources
    assert (source.name, source.adapter, source.location) == ("rig1", "ephys", str(rig))
    assert (source.require_mount, source.expect_every.days, source.options) == (True, 3, {"species": "Mus musculus"})
    assert "no source" not in labweave_command("nightly", "--only", "rig1", "--dry-run").stderr


def test_a_file_of_another_editor_stays_as_it_is(path, rig, labweave_command):
    before = b"\xef\xbb\xbf" + BEFORE.replace("\n", "\r\n").encode()
    path.write_bytes(before)
    labweave_command("source", "add", "rig1", "ephys", rig, check=0)
    assert path.read_bytes().startswith(before)
    assert load_night().sources[0].name == "rig1"


def test_a_dry_run_writes_nothing(path, rig, labweave_command):
    done = labweave_command("source", "add", "rig1", "ephys", rig, "--dry-run", check=0)
    assert "[[sources]]" in done.stdout
    assert path.read_text() == BEFORE


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["rig1", "ephys", "absent"], "absent"),
        (["rig1", "ephys", ".", "-o", "specis=x"], "specis"),
        (["rig1", "ephys", ".", "--expect-every", "soon"], "expect_every: 'soon' is not a time"),
    ],
)
def test_a_source_that_could_not_be_read_is_not_written(path, rig, labweave_command, arguments, word):
    done = labweave_command("source", "add", *arguments, cwd=rig, check=2)
    assert word in done.stderr
    assert path.read_text() == BEFORE


def test_a_second_source_of_a_name_is_refused(path, rig, labweave_command):
    labweave_command("source", "add", "rig1", "ephys", rig, check=0)
    text = path.read_text()
    done = labweave_command("source", "add", "rig1", "ephys", rig, check=2)
    assert "rig1 is the name of another source" in done.stderr
    assert path.read_text() == text


def test_sources_in_one_list_are_left_as_they_are(path, rig, labweave_command):
    text = f'sources = [{{ name = "old", adapter = "ephys", location = "/mnt/old" }}]\n{BEFORE}'
    path.write_text(text)
    done = labweave_command("source", "add", "rig1", "ephys", rig, check=2)
    assert "in one list" in done.stderr and 'name = "rig1"' in done.stderr
    assert path.read_text() == text

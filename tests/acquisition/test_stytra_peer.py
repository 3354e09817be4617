"""Beside Stytra itself, and read by its laboratory's bouter.

LABWEAVE_TEST_STYTRA_PYTHON names the Python that they are installed in: they need older libraries than labweave.
"""

import json
import os
import subprocess
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stytra_side

from labweave import acquisition
from labweave.formats.stytra import read_log


def ask_stytra(what, folder):
    python = os.environ.get("LABWEAVE_TEST_STYTRA_PYTHON")
    if not python:
        pytest.skip("LABWEAVE_TEST_STYTRA_PYTHON does not name a Python with stytra and bouter")
    done = subprocess.run(
        [python, stytra_side.__file__, what, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_same_rows_give_the_same(qt, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    theirs = ask_stytra("collect", tmp_path / "theirs")
    ours = json.loads(json.dumps(stytra_side.collect(acquisition, tmp_path / "ours")))
    assert ours == theirs
    for name in theirs["names"]:
        there, here = tmp_path / "theirs" / name, tmp_path / "ours" / name
        if name.endswith((".csv", ".json")):
            assert here.read_bytes() == there.read_bytes(), name
        else:
            pd.testing.assert_frame_equal(read_log(here), read_log(there), check_exact=True)


@pytest.mark.parametrize("format", ["csv", "feather", "hdf5", "json"])
def test_bouter_opens_what_was_saved(experiment, home, tmp_path, format):
    row = namedtuple("Row", "tail_sum theta_00 n_found")
    names = {"behavior": acquisition.EstimatorLog, "estimator": acquisition.EstimatorLog}
    logs = {name: kind(experiment=experiment) for name, kind in names.items()}
    logs["stimulus"] = acquisition.DynamicLog([stytra_side.Stimulus("okr_theta", "okr_x")], experiment=experiment)
    for n in range(1000):
        for name in names:
            logs[name].update_list(n / 100 - 0.02, row(n / 3, -n / 7, n))
        logs["stimulus"].update_list(n / 60, {"okr_theta": n / 11} if n % 2 else {"okr_x": float(n)})
    collector = acquisition.DataCollector(folder_path=tmp_path)
    for name, log in logs.items():
        saved = log.save(tmp_path / f"140709_{name}_log", format)
        collector.add_static_data(saved, f"{'stimulus' if name == 'stimulus' else 'tracking'}/{name}_log")
    stimuli = [{"name": "okr", "t_start": 0.5, "t_stop": np.float32(2.5), "phase_times": np.arange(3)}]
    for entry, name in (("240305_f1", "general/fish_id"), (stimuli, "stimulus/log"), (None, "tracking/image")):
        collector.add_static_data(entry, name)
    collector.add_static_data({"okr": {"speed": 3}}, "stimulus/protocol")
    collector.save(tmp_path / "140709_metadata.json")
    seen = ask_stytra("read", tmp_path)
    assert (seen["fish_id"], seen["protocol"], seen["parameters"]) == ("240305_f1", "okr", {"speed": 3})
    assert (seen["starts"], seen["stops"]) == ([0.5], [2.5])
    for name, log in logs.items():
        frame = log.get_dataframe()
        assert seen[f"{name}_log"]["columns"] == list(frame.columns)
        np.testing.assert_allclose(seen[f"{name}_log"]["sums"], frame.sum(), rtol=1e-9)
    assert Path(tmp_path / "140709_metadata.json").is_file()

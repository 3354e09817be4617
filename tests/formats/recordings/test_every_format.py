"""What every reader of recordings must do, asked of our own: the tests that `labweave.testing` gives to authors."""

import abf_files
import numpy as np
import nwb_files
import pytest
import test_csv_lccr
import test_matlab

from labweave.formats.recordings import write_recordings
from labweave.testing import RecordingFormatTests


class TestLabweaveFiles(RecordingFormatTests):
    reader = "hdf5"

    def write(self, folder):
        samples = [{"voltage": np.arange(50.0) - number, "current": np.full(50, 1.0 + number)} for number in range(3)]
        units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "nA"}
        path = write_recordings(folder / "x.h5", [{**each, **units} for each in samples], cell="c", protocol="IDrest")
        return {"filepath": path}, [{**each, "dt": 0.1} for each in samples]


class TestTables(RecordingFormatTests):
    reader = "csv_lccr"

    def write(self, folder):
        path = folder / "x.txt"
        path.write_text(test_csv_lccr.TABLE)
        steps = np.array([0, 0, 1, 1, 1, 0, 0, 0, 0, 0])
        sweeps = [
            {"voltage": -np.arange(10.0) - 10 * number, "current": (-5 + (10 + 10 * number) * steps) / 1000, "dt": 0.1}
            for number in range(2)
        ]
        return {"filepath": path, **test_csv_lccr.METADATA}, sweeps


class TestMatlabFiles(RecordingFormatTests):
    reader = "matlab"

    def write(self, folder):
        path = test_matlab.write_v5(folder / "x.mat", test_matlab.SWEEPS)
        sweeps = [
            {"voltage": np.full(5, 1e3 * v), "current": np.full(5, 1e9 * i), "dt": 0.1} for i, v in ((1, 2), (3, 4))
        ]
        return {"filepath": path, **test_matlab.UNITS}, sweeps


class TestAxonFiles(RecordingFormatTests):
    reader = "axon"

    def write(self, folder):
        pytest.importorskip("neo")
        counted = [np.arange(40) + 100 * number for number in range(3)]
        return {"filepath": abf_files.write_abf2(folder / "x.abf")}, [
            {"voltage": 0.5 * each, "current": -0.002 * each, "dt": 0.1} for each in counted
        ]


class TestNWBFiles(RecordingFormatTests):
    reader = "nwb"

    def write(self, folder):
        path = nwb_files.write_aibs(folder / "x.nwb")
        counted = [nwb_files.ramp(100.0 * number) for number in range(3)]
        return {"filepath": path}, [{"voltage": each, "current": each / 1000, "dt": 0.1} for each in counted]

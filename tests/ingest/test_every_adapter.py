"""What every adapter of files must do, asked of our own: the tests that `labweave.testing` gives to authors."""

import datetime as dt
from typing import ClassVar

import numpy as np
from simulated import damage, sweeps_of, write_cell
from test_stytra import START, write_session

from labweave.formats.axopy import Storage, Trial
from labweave.formats.onedata import OneDataSession
from labweave.formats.onedata.vr import VALUES
from labweave.testing import AdapterTests


class TestEphys(AdapterTests):
    adapter = "ephys"
    options: ClassVar = {"subject": "mouse-{cell}", "session_date": "2026-01-02"}

    def write_unit(self, folder, number, *, changed=False):
        sweeps = [{**sweep, "voltage": sweep["voltage"] + changed} for sweep in sweeps_of(number)[:2]]
        write_cell(folder, number, sweeps=sweeps)

    def damage_unit(self, folder, number):
        damage(folder / f"cell{number}.h5")


class TestAlf(AdapterTests):
    adapter = "alf"
    options: ClassVar = {"trials": True}

    def write_unit(self, folder, number, *, changed=False):
        alf = folder / "m1" / "2026-01-02" / f"{number + 1:03d}" / "alf"
        alf.mkdir(parents=True)
        np.save(alf / "_ibl_trials.choice.npy", np.array([1, -1, 1]) * (-1 if changed else 1))
        np.save(alf / "spikes.times.npy", np.arange(10.0) + number + 10 * changed)

    def damage_unit(self, folder, number):
        (folder / "m1" / "2026-13-02").mkdir()
        (folder / "m1" / "2026-01-02" / f"{number + 1:03d}").rename(folder / "m1" / "2026-13-02" / "001")


class TestAxopy(AdapterTests):
    adapter = "axopy"

    def write_unit(self, folder, number, *, changed=False):
        storage = Storage(str(folder))
        storage.subject_id = f"p{number}"
        writer = storage.create_task("reaching")
        for row in range(2):
            trial = Trial({"block": 0, "trial": row, "x": row + 10 * changed})
            trial.add_array("emg", data=np.full((2, row + 1), number + changed, "f4"))
            writer.write(trial)
        writer.close()

    def damage_unit(self, folder, number):
        (folder / f"p{number}" / "reaching" / "trials.csv").write_bytes(b"\xff\xfe\x00")


class TestStytra(AdapterTests):
    adapter = "stytra"

    def write_unit(self, folder, number, *, changed=False):
        write_session(
            folder, animal={"id": number, "comments": "changed" * changed}, start=START + dt.timedelta(days=number)
        )

    def damage_unit(self, folder, number):
        (path,) = folder.glob(f"okr/*_f{number}/*_metadata.json")
        damage(path)


class TestOneData(AdapterTests):
    adapter = "onedata"

    def write_unit(self, folder, number, *, changed=False):
        one = OneDataSession("M1", "2024-01-02", str(number), root=folder)
        one.data_path.mkdir(parents=True)
        one.set_value("available", ["F"])
        one.save_session_prms()
        one.saveone(np.arange(5.0) + changed, "mpci.times")
        one.saveone(np.array([0.5, 1.5]) + changed, "trials.startTimes")

    def damage_unit(self, folder, number):
        damage(folder / "M1" / "2024-01-02" / str(number) / VALUES)

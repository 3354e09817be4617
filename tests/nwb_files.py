"""Small NWB files of every layout labs have: what h5py needs to write them, and no more."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

RATE = 10000.0
N = 2000  # samples: 200 ms


def ramp(start: float, n_samples: int = N) -> np.ndarray:
    """Return start, start + 1, start + 2, ...: every sample is known by hand, exactly also as float32."""
    return start + np.arange(n_samples, dtype=np.float64)


def write_series(group, name, samples, unit, conversion=1e-3, rate=RATE, **attributes) -> h5py.Group:
    """Write one time series the way NWB does: data with unit and conversion, starting_time with rate."""
    series = group.create_group(name)
    series.attrs.update(attributes)
    series.create_dataset("data", data=samples)
    series["data"].attrs.update({"unit": unit, "conversion": conversion})
    series.create_dataset("starting_time", data=0.0)
    series["starting_time"].attrs.update({"rate": rate, "unit": "seconds"})
    return series


def groups(file):
    """Return acquisition and stimulus/presentation, made if needed."""
    return file.require_group("acquisition"), file.require_group("stimulus/presentation")


def write_pair(file, response, stimulus, start=0.0, volts="volts", amperes="amperes", n_samples=N, **attributes):
    """Write a voltage from `start` mV and a current from `start` pA."""
    acquisition, presentation = groups(file)
    write_series(acquisition, response, ramp(start, n_samples), volts, 1e-3, **attributes)
    write_series(presentation, stimulus, ramp(start, n_samples), amperes, 1e-12, **attributes)


def write_bbp(path: Path) -> Path:
    """Write two cells; IDRest in two repetitions, IV in one, and a voltage clamp trace."""
    with h5py.File(path, "w") as file:
        tree = {
            ("cell1", "IDRest", "repetition 1", "sweep 1"): [("ic__1", "ics__1", 0.0, "made by A_1.ibw")],
            ("cell1", "IDRest", "repetition 2", "sweep 2"): [("ic__2", "ics__2", 100.0, "made by A_2.ibw")],
            ("cell1", "IV", "repetition 1", "sweep 3"): [("ccs_3", "ccss_3", 200.0, "made by A_3.ibw")],
            ("cell2", "IDRest", "repetition 1", "sweep 4"): [("ic__4", "ics__4", 300.0, "made by B_4.ibw")],
        }
        for keys, traces in tree.items():
            for response, stimulus, start, description in traces:
                file.require_group("data_organization/" + "/".join(keys)).create_group(response)
                write_pair(file, response, stimulus, start, description=description)
        file["data_organization/cell1/IDRest/repetition 1/sweep 1"].create_group("vc__1")
        file["data_organization/cell1/IDRest/repetition 1/sweep 1"].create_group("ic__alone")
        write_series(file["acquisition"], "ic__alone", ramp(900.0), "volts")
    return path


def write_aibs(path: Path) -> Path:
    """Write two Long Squares and a Ramp."""
    with h5py.File(path, "w") as file:
        responses, stimuli = file.create_group("acquisition/timeseries"), file.create_group("stimulus/presentation")
        for number, name in enumerate(("Long Square", "Ramp", "Long Square")):
            for group, unit, conversion in ((responses, "Volts", 1e-3), (stimuli, "Amps", 1e-12)):
                series = write_series(group, f"Sweep_{number}", ramp(100.0 * number), unit, conversion)
                series.create_dataset("aibs_stimulus_name", data=name)
                series["num_samples"] = N
    return path


def write_trt(path: Path, swapped: bool = False) -> Path:
    """Write two sweeps of each naming; with `swapped` units and conversions as some files have them."""
    with h5py.File(path, "w") as file:
        acquisition, presentation = groups(file)
        for response, stimulus, start in (
            ("index_00", "index_01", 0.0),
            ("index_02", "index_05", 100.0),
            ("index_10_0", "index_10_1", 200.0),
        ):
            v, i = ((1e-12, "volts"), (1e-3, "volts")) if swapped else ((1e-3, "volts"), (1e-12, "amperes"))
            write_series(acquisition, response, ramp(start), v[1], v[0])
            write_series(presentation, stimulus, ramp(start), i[1], i[0])
    return path


def write_scala(path: Path) -> Path:
    """Write sweeps named as by an icephys table, with repetitions in it."""
    names = {"001": "Step_150", "002": "Ramp", "003": "na", "004": "genericstep", "005": None}
    with h5py.File(path, "w") as file:
        for number, (key, name) in enumerate(names.items()):
            attributes = {} if name is None else {"stimulus_description": name}
            write_pair(
                file,
                f"CurrentClampSeries_{key}",
                f"CurrentClampStimulusSeries_{key}",
                100.0 * number,
                **attributes,
            )
        write_series(file["acquisition"], "CurrentClampSeries_alone", ramp(900.0), "volts", stimulus_description="Ramp")
        table = file.create_group("general/intracellular_ephys/intracellular_recordings")
        table["repetition"] = np.array([0, 0, 1, 0, 0])
        table["id"] = np.arange(5)
    return path


def write_vu(path: Path, description="X2LP_Search_DA_0", timeseries=False, nan_at=None) -> Path:
    """Write one sweep as the VU lab does: DA is the current, AD the voltage, a bias current beside."""
    with h5py.File(path, "w") as file:
        _, presentation = groups(file)
        acquisition = file.require_group("acquisition/timeseries") if timeseries else file["acquisition"]
        current = ramp(0.0)
        if nan_at is not None:
            current[nan_at:] = np.nan
        for number in (1, 2):
            write_series(
                presentation,
                f"data_0000{number}_DA0",
                current + 100.0 * (number - 1),
                "amperes",
                1e-12,
                stimulus_description=description,
            )
            response = write_series(
                acquisition,
                f"data_0000{number}_AD0",
                ramp(100.0 * (number - 1)),
                "volts",
                1e-3,
                stimulus_description=description,
            )
            response["bias_current"] = 5.0
    return path

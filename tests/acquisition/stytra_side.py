"""Run by the Python that Stytra is installed in: its collectors, or its laboratory's reader, on what the test gives.

``stytra_side.py collect FOLDER``: fills collectors with rows that both programs make alike, saves them in each
format and prints what they give. ``stytra_side.py read FOLDER``: opens a session with bouter and prints what it sees.
"""

import collections
import collections.abc
import datetime as dt
import importlib.util
import json
import math
import os
import sys
import types

Row = collections.namedtuple("Row", "x n on label")
T0 = dt.datetime(2024, 3, 5, 14, 7, 9, 123456)


class Runner:
    running = True


class Experiment:
    t0 = T0
    protocol_runner = Runner()


class Stimulus:
    def __init__(self, *names):
        self.dynamic_parameter_names = names


def rows():
    for index in range(40):
        x = math.nan if index % 7 == 3 else index / 3
        yield index * 0.01 - 0.05, Row(x, index, index % 2 == 0, "a;b" if index % 5 else "σ")


def collect(program, folder):
    """Fill collectors of a program, save them, and return what they give."""
    log = program.EstimatorLog(experiment=Experiment)
    for time, row in rows():
        log.update_list(time, row)
    dynamic = program.DynamicLog([Stimulus("a", "b"), object(), Stimulus("b", "c")], experiment=Experiment)
    for index in range(12):
        dynamic.update_list(index / 60, {"a": index / 7, "c": -index / 9} if index < 6 else {"b": float(index)})
    formats = ("csv", "feather", "json")
    names = [log.save(os.path.join(folder, "140709_behavior_log"), format) for format in formats]
    names += [dynamic.save(os.path.join(folder, "140709_stimulus_log"), format) for format in (*formats, "hdf5")]
    last = log.get_last_n(3)
    return {
        "names": names,
        "columns": [log.columns, dynamic.columns],
        "header": log.header_dict,
        "last": json.loads(last.to_json(orient="split")),
        "dtypes": [str(kind).replace("str", "object") for kind in log.get_dataframe().dtypes],
        "all": len(log.get_last_n(1000)),
        "value": list(log.values_at_abs_time(T0 + dt.timedelta(milliseconds=105))),
        "t": log.t.tolist(),
        "none": log.get_last_n(0),
        "row": list(log.stored_data[-1]),
        "empty": [log.is_empty(), dynamic.is_empty()],
    }


def stytra_collectors():
    """Import Stytra's collectors alone, without the cameras and windows of the rest; give back what numpy dropped."""
    import numpy as np

    np.asscalar = lambda value: value.item()
    collections.Mapping = collections.abc.Mapping
    package = types.ModuleType("stytra")
    package.__path__ = list(importlib.util.find_spec("stytra").submodule_search_locations)
    sys.modules["stytra"] = package
    import stytra.collectors

    return stytra.collectors


def read(folder):
    """Return what bouter sees of a session."""
    import bouter

    found = bouter.Experiment(folder)
    seen = {"fish_id": found.fish_id, "protocol": found.protocol_name, "parameters": found.protocol_parameters}
    seen["starts"], seen["stops"] = found.stim_start_times.tolist(), found.stim_end_times.tolist()
    for name in ("behavior_log", "stimulus_log", "estimator_log"):
        frame = getattr(found, name)
        seen[name] = {"columns": list(frame.columns), "sums": [float(frame[column].sum()) for column in frame.columns]}
    return seen


if __name__ == "__main__":
    result = collect(stytra_collectors(), sys.argv[2]) if sys.argv[1] == "collect" else read(sys.argv[2])
    print(json.dumps(result))

"""How fast onedata sessions go in and their recipes are followed, and what a second, unchanged run costs.

LABWEAVE_BENCH_SESSIONS sets the number of sessions, of 30 variables each: 20 arrays, 5 recipes, 5 of the trials.
"""

from __future__ import annotations

import datetime as dt
import os

import numpy as np
import pytest

from labweave import ingest, populate
from labweave.formats.onedata import LoadingRecipe, OneDataSession

N_SESSIONS = int(os.environ.get("LABWEAVE_BENCH_SESSIONS", "500"))
N_ARRAYS, N_ROWS = 20, 4
TRIALS = ("startTimes", "rewardPosition", "activeLicking", "roomlength", "movementGain")
N_VARIABLES = N_ARRAYS + len(TRIALS) + N_ROWS + 1


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("onedata")
    rng = np.random.default_rng(0)
    for at in range(N_SESSIONS):
        date = dt.date(2020, 1, 1) + dt.timedelta(days=at // 100)
        one = OneDataSession(f"m{at % 100:03d}", date, "1", root=root, cache_bytes=0)
        one.one_path.mkdir(parents=True)
        for n in range(N_ARRAYS):
            np.save(one.one_path / f"wheel.attribute{n:02d}.npy", rng.normal(size=100))
        for n, name in enumerate(TRIALS):
            np.save(one.one_path / f"trials.{name}.npy", np.arange(10.0) + n)
        np.save(one.data_path / "source.npy", rng.normal(size=(10, 10)))
        one.saveone(LoadingRecipe("numpy", "source.npy", ["transpose"]), "mpci.roiActivityF")
        for row in range(N_ROWS):
            one.saveone(LoadingRecipe("numpy", "source.npy", [f"index({row})"]), f"mpci.row{row}")
        one.opts = {"neuropilCoefficient": 0.7}
        one.save_session_prms()
    return root


def test_ingest_and_checks(database, server_name, tree, stopwatch):
    reports = {}

    def keep(name, work):
        reports[name] = work()

    for name in ("first run", "second run"):
        stopwatch(name, lambda name=name: keep(name, lambda: ingest.run("onedata", tree, lab="l")))
    for name in ("recipes followed", "recipes again"):
        stopwatch(name, lambda name=name: keep(name, lambda: populate.run(["RecipeCheck"])))
    assert (reports["first run"].new, reports["second run"].unchanged) == (N_SESSIONS, N_SESSIONS)
    assert (reports["recipes followed"].made, reports["recipes again"].made) == (N_SESSIONS * (N_ROWS + 1), 0)
    title = f"{N_SESSIONS} sessions, {server_name}"
    print("\n" + stopwatch.table(title, N_SESSIONS * N_VARIABLES, "variables", "first run"))

"""brainbox's loaders, unmodified, on `labweave.ONE`: what they load equals what they load by ONE-api from the same files.

They come with ibllib, which has many dependencies of its own: ``pip install ibllib`` beside labweave.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import one_lab
import pandas as pd
import pytest
from conftest import PREFIX, empty
from one_lab import PIDS, S1, S4

import labweave
from labweave.database import upsert
from labweave.schemas import session

loaders = pytest.importorskip("brainbox.io.one", reason="ibllib is not installed: pip install ibllib")

TRAJECTORY = "7ab7a004-af8c-4d10-928d-f013a8e7497b"
PICKS = [[-2000, -1500, -4000], [-2000, -1500, -100]]
"""Tip and entry of probe01, in um."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The lab's files with ONE-api's cache tables beside them, the trials of s1 without a bad mark."""
    folder = tmp_path_factory.mktemp("brainbox")
    one_lab.write_files(folder)
    one_lab.write_tables(folder, files=files_of(folder))
    return folder


def files_of(root):
    files = one_lab.datasets(root)
    files["dataset_qc"] = "PASS"
    return files


@pytest.fixture(scope="module")
def ours(_tables, database_url, root):
    with labweave.connect(database_url, prefix=PREFIX) as database:
        empty(database)
        one_lab.fill(root, files=files_of(root))
        traced = {"json": {"xyz_picks": PICKS, "extended_qc": {"tracing_exists": True}}}
        session.ProbeInsertion.update1({"eid": S4, "probe_name": "probe01", "insertion_json": traced})
        upsert(
            session.Trajectory,
            [
                {
                    "trajectory_uuid": TRAJECTORY,
                    "eid": S4,
                    "probe_name": "probe00",
                    "provenance": "Planned",
                    **dict.fromkeys(("x", "y", "z", "depth", "theta", "phi", "roll"), 1.0),
                }
            ],
        )
        yield labweave.ONE(cache_dir=root, mode="local")


@pytest.fixture(scope="module")
def theirs(root):
    from one.api import One

    return One(cache_dir=root, mode="local")


def same(given, expected):
    """Compare bunches, frames and arrays, whatever their order."""
    if isinstance(expected, dict):
        assert sorted(given) == sorted(expected)
        for name in expected:
            same(given[name], expected[name])
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(given[sorted(given)], expected[sorted(expected)])
    else:
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("part", ["trials", "wheel", "pose", "motion_energy", "licks"])
def test_session_loader(ours, theirs, part):
    def load(one):
        loader = loaders.SessionLoader(one=one, eid=S1)
        {
            "trials": loader.load_trials,
            "wheel": loader.load_wheel,
            "pose": lambda: loader.load_pose(views=["left"]),
            "motion_energy": lambda: loader.load_motion_energy(views=["left"]),
            "licks": loader.load_licks,
        }[part]()
        return getattr(loader, part)

    expected = load(theirs)
    assert len(expected)
    same(load(ours), expected)


def test_session_loader_by_path_loads_everything_it_can(ours, theirs, root, caplog):
    caplog.set_level(logging.WARNING)
    found = [loaders.SessionLoader(one=one, session_path=root / one_lab.SESSIONS.path[S1]) for one in (ours, theirs)]
    for loader in found:
        loader.load_session_data(pose=False, motion_energy=False, pupil=False)
    assert found[0].data_info.equals(found[1].data_info)
    same(found[0].trials, found[1].trials)
    assert str(found[0].eid) == S1 and "rror" not in caplog.text


def test_spike_sorting_loader(ours, theirs, root):
    atlas = SimpleNamespace(regions=None)
    mine = loaders.SpikeSortingLoader(pid=PIDS["probe00"], one=ours, atlas=atlas)
    other = loaders.SpikeSortingLoader(eid=S4, pname="probe00", one=theirs, atlas=atlas)
    assert (str(mine.eid), mine.pname, mine.session_path) == (S4, "probe00", root / one_lab.SESSIONS.path[S4])
    assert sorted(mine.collections) == sorted(other.collections) and sorted(mine.datasets) == sorted(other.datasets)
    for revision, n_spikes in ((None, 150), ("2024-05-06", 150), ("2023-01-01", 10)):
        for name in ("spikes", "clusters"):
            given = mine.load_spike_sorting_object(name, spike_sorter="pykilosort", revision=revision)
            same(given, other.load_spike_sorting_object(name, spike_sorter="pykilosort", revision=revision))
            assert name != "spikes" or len(given["times"]) == n_spikes
    spikes, clusters, channels = mine.load_spike_sorting(spike_sorter="pykilosort")
    assert len(spikes["times"]) == 150 and len(clusters["channels"]) == 12
    assert mine.get_version("pykilosort") == "1.6.2"
    assert mine.histology in ("", None, "alf") and isinstance(channels, dict)


def test_where_channels_are_comes_from_alyx(ours):
    regions = pytest.importorskip("iblatlas.regions").BrainRegions()
    atlas = SimpleNamespace(regions=regions, get_labels=lambda xyz, **_: np.full(len(xyz), 997))
    places = loaders.load_channel_locations(S4, probe="probe01", one=ours, brain_atlas=atlas)["probe01"]
    sites = one_lab.contents()[S4]["alf/probe01/channels.localCoordinates.npy"]
    np.testing.assert_array_equal(places["axial_um"], sites[:, 1])
    assert places["z"].shape == (16,) and set(places["acronym"]) == {"root"}
    assert PICKS[0][2] <= places["z"].min() * 1e6 and places["z"].max() * 1e6 <= PICKS[1][2]
    (insertion,) = ours.alyx.rest("insertions", "list", session=S4, name="probe00")
    (track,) = ours.alyx.rest("trajectories", "list", probe_insertion=insertion["id"])
    assert (insertion["id"], track["id"], track["provenance"]) == (PIDS["probe00"], TRAJECTORY, "Planned")

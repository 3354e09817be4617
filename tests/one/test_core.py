"""The core on the lab of eight sessions: what the finder asks the database, and how ids and datasets are chosen."""

import datetime as dt
import uuid

import one_lab
import pytest
from conftest import kill_session
from one_lab import EIDS, HOT, OLD, S1, S2, S3, S4, S5, S6, S7, S8, UNKNOWN

import labweave
from labweave.formats.alf.exceptions import ALFObjectNotFound, ALFWarning, ReferenceNotFound
from labweave.one.core import Core, find_anywhere
from labweave.one.search import searching
from labweave.one.search.questions import Finder
from labweave.one.search.rows import COLUMNS, LISTED, Holding, SessionFilter
from labweave.one.search.tables import open_tables
from labweave.schemas import dataset

ALL = [S7, S3, S2, S1, S5, S8, S4, S6]


@pytest.fixture
def finder(one_lab):
    return Finder(labweave.database.current().connection)


@pytest.fixture
def core(one_lab):
    return Core(one_lab)


def sessions_with(**given):
    """Return a filter by columns and by whatever else it has."""
    among = {name: values for name, values in given.items() if name in COLUMNS}
    return SessionFilter(among, **{name: value for name, value in given.items() if name not in COLUMNS})


def eids(finder, limit=None, **wanted):
    return finder.eids(sessions_with(**wanted), limit)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ALL),
        ({"subject": ["ZM_1150", "KS005"]}, [S2, S1, S8, S4]),
        ({"subject": []}, []),
        ({"lab": ["cortexlab"]}, [S5, S8, S4]),
        ({"lab": ["cortexlab", "zadorlab", "nolab"]}, [S5, S8, S4, S6]),
        ({"task_protocol": ["%"]}, []),
        ({"first": dt.date(2019, 5, 7), "last": dt.date(2019, 5, 7)}, [S2, S1]),
        ({"number": [2, 10]}, [S7, S2, S8]),
        ({"projects": ["practice"]}, [S7, S3, S4]),
        ({"users": ["olivier", "ines"]}, [S2]),
        ({"location": ["ephys_rig"], "users": ["ines"]}, [S5]),
        ({"at_least": 60}, [S1, S4]),
        ({"at_least": 50, "at_most": 80}, [S2, S1]),
        ({"holding": [Holding(types=("trials.choice",)), Holding(types=("spikes.times",))]}, [S4]),
        ({"holding": [Holding(names=("_ibl_trials.choice.npy",), outcomes=("NOT_SET", "PASS"))]}, [S7, S2, S4, S6]),
        ({"eid": [S1, S8, UNKNOWN], "number": [1]}, [S1]),
    ],
)
def test_finding_sessions(finder, wanted, expected):
    assert eids(finder, **wanted) == expected
    assert [row.eid for row in finder.sessions(sessions_with(**wanted))] == expected
    assert eids(finder, limit=1, **wanted) == expected[:1]


def test_values_are_never_part_of_the_statement(finder):
    assert eids(finder, subject=["x' or '1'='1", "\\", "%s"]) == []
    assert finder.datasets(["' or 1=1 --"]) == []


def test_projects_and_places(finder):
    found = finder.sessions_of([S1, S4, S5])
    assert [found[eid].projects for eid in (S1, S4, S5)] == [("brainwide",), ("brainwide", "practice"), ()]
    at = ("KS005", dt.date(2019, 4, 11), 2)
    assert [row.eid for row in finder.sessions_at([at, ("nobody", dt.date(2019, 4, 11), 1)])] == [S8]
    assert finder.sessions_at([]) == []


def test_distinct_names_are_found_step_by_step(finder, one_lab):
    held = sorted({path.rpartition("/")[2] for files in one_lab_contents() for path in files})
    assert finder.dataset_names("", None) == held
    assert finder.dataset_names("spikes", "spiket") == ["spikes.amps.npy", "spikes.clusters.npy", "spikes.times.npy"]
    assert searching.names_like(open_tables(), r"spikes\.t.*") == ("spikes.times.npy",)
    assert searching.names_like(open_tables(), "spikesx*.times.npy|licks.times.npy") == (
        "licks.times.npy",
        "spikes.times.npy",
    )


def one_lab_contents():
    return one_lab.contents().values()


def test_one_session_named_in_many_ways(core):
    folder = one_lab.SESSIONS.path[S1]
    ways = (
        S1,
        S1.upper(),
        uuid.UUID(S1),
        f"http://x.org/sessions/{S1}",
        folder,
        f"/a b/{folder}/alf/x.y.npy",
        "2019-05-07_01_ZM_1150",
    )
    details = {"subject": "ZM_1150", "date": dt.date(2019, 5, 7), "number": 1, "lab": "mainenlab"}
    assert core.to_eid([*ways, details]) == [S1] * 8
    assert core.to_eid({"subject": "ZM_1150", "date": "2019-05-07", "sequence": "001"}) == S1
    assert core.to_eid([None, "lab/Subjects/nobody/2019-05-07/001", S2]) == [None, None, S2]
    assert core.to_eid("mainenlab/Subjects/zm_1150/2019-05-07/001") is None
    assert core.to_eid("mainenlab/Subjects/zm_1150/2019-05-07/001", ignore_case=True) == S1
    with pytest.raises(ReferenceNotFound, match="2019-05-07_1_ZM_115"):
        core.to_eid("2019-05-07_1_ZM_115")
    for wrong in ("", "foo", 5, b"x", S1.replace("-", "")):
        with pytest.raises(ValueError, match="Invalid experiment ID"):
            core.to_eid(wrong)


def test_the_wrong_lab_is_told(core):
    with pytest.warns(ALFWarning, match="is in lab mainenlab, not otherlab"):
        assert core.to_eid("otherlab/Subjects/ZM_1150/2019-05-07/001") == S1


def test_datasets_come_in_order_and_know_their_paths(core):
    rows = core.datasets(S4)
    assert {row.rel_path for row in rows} == set(one_lab.contents()[S4]) and len(rows) == len(one_lab.contents()[S4])
    assert rows == sorted(rows, key=lambda row: (row.collection, row.name, row.revision))
    [row] = [row for row in rows if row.revision == OLD]
    assert row.path == f"{one_lab.SESSIONS.path[S4]}/alf/probe00/pykilosort/#{OLD}#/spikes.times.npy"
    assert row.exists is True and row.is_default is False and row.eid == S4 and row.type == "spikes.times"
    assert core.datasets(UNKNOWN) == [] == core.datasets(S8)


def test_paths_name_their_revision(core):
    rows = core.datasets(S4)
    for revision in ("", OLD, HOT):
        path = f"alf/probe00/pykilosort/{f'#{revision}#/' if revision else ''}spikes.times.npy"
        assert core.choose_dataset(rows, path).revision == revision
    with pytest.raises(ValueError, match="leave out"):
        core.choose_dataset(rows, "alf/probe00/spikes.times.npy", collection="alf")
    with pytest.raises(ALFObjectNotFound, match="no revision up to 1999"):
        core.choose_dataset([row for row in rows if row.revision], "spikes.times", "*pykilosort", "1999")


def test_the_revision_of_the_environment(core, monkeypatch):
    monkeypatch.setenv("ONE_REVISION_LAST_BEFORE", "2023-01-01")
    assert core.choose_dataset(core.datasets(S4), "spikes.times.npy", "*pykilosort").revision == OLD


def test_texts_anywhere_as_the_seed_found_them(core):
    rows = core.datasets(S1)
    assert [row.name for row in find_anywhere(rows, "*trials.choice*", "alf$")] == ["_ibl_trials.choice.npy"]
    assert len(find_anywhere(core.datasets(S6), "choice", "alf")) == 2
    with pytest.raises(ValueError, match="regular expression"):
        find_anywhere(rows, "(")


@pytest.mark.parametrize(
    ("word", "term"),
    [("subj", "subject"), ("Task", "task_protocol"), ("n", "number"), ("dataset", "datasets"), ("lab", "laboratory")],
)
def test_the_beginning_of_a_term(word, term):
    assert searching.complete(word, searching.TERMS) == term


@pytest.mark.parametrize("word", ["data", "d", "subjects", "labs", "foo", ""])
def test_no_term_or_several(word):
    with pytest.raises(ValueError, match="terms are"):
        searching.complete(word, searching.TERMS)


def test_sessions_are_found_by_their_ids(core):
    given = [*EIDS.values(), UNKNOWN]
    assert set(core.tables.sessions_of(given)) == set(given[:-1])
    assert core.session(S4).projects == ("brainwide", "practice")
    with pytest.raises(ALFObjectNotFound, match=UNKNOWN):
        core.session(UNKNOWN)


def fetched(eid):
    """Return what a list of datasets shows, from DataJoint's own fetch."""
    return {
        row["dataset_id"]: (
            row["collection"], row["revision"] or "", row["dataset_qc"] or "NOT_SET", row["file_size"], row["hash"],
            bool(row["is_present"]), bool(row["is_default"]), row["dataset_name"],
        )
        for row in (dataset.Dataset & {"eid": eid, "dataset_vanished": None}).to_dicts()
    }  # fmt: skip


def test_lists_of_datasets_are_right_also_after_the_connection_was_lost(one_lab):
    def found(eid):
        return {
            row.id: (row.collection, row.revision, row.qc, row.size, row.hash, row.exists, row.is_default, row.name)
            for row in open_tables().datasets([eid])
        }

    for eid in EIDS:
        assert found(eid) == fetched(eid)
        whole, listed = open_tables().datasets([eid]), open_tables().datasets_of(eid, LISTED)
        assert [row[:LISTED] for row in listed] == [row[:LISTED] for row in whole]
        assert [row.rel_path for row in listed] == [row.rel_path for row in whole]
    kill_session(labweave.database.current())
    assert found(S4) == fetched(S4) != {}

"""Identifiers: the same for the same thing every time, different for different things, safe as paths."""

import unicodedata
import uuid
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from simulated import write_cell

from labweave import ingest
from labweave.errors import SourceError
from labweave.formats.plain import tidy as _tidy
from labweave.ingest.base import inside, make_eid, make_subject_uuid
from labweave.ingest.ephys import _recording_name
from labweave.schemas import recording, subject

names = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/"), min_size=1, max_size=20)
dates = st.dates().map(str)
identities = st.tuples(names, names, dates, st.integers(1, 999))


@given(identities, identities)
def test_an_eid_is_a_uuid_of_version_3_and_tells_sessions_apart(first, second):
    eid = make_eid(*first)
    assert eid == make_eid(*first) == str(uuid.UUID(eid)) == eid.lower()
    assert uuid.UUID(eid).version == 3
    assert (eid == make_eid(*second)) == (first == second)


def test_eids_stay_what_they_are_in_every_release():
    assert make_eid("smithlab", "m12", "2026-03-01", 1) == "cbbf88b0-b8ce-3703-b106-706c714a86f3"
    assert make_subject_uuid("smithlab", "m12") == "64e5ff84-0ee1-33ad-ae65-77b9a4295580"


@given(names)
def test_tidying_twice_is_tidying_once(name):
    tidy = _tidy(name)
    assert _tidy(tidy) == tidy == unicodedata.normalize("NFC", tidy)
    assert _tidy(f"  {unicodedata.normalize('NFD', name)} ") == _tidy(name)


@given(st.lists(st.sampled_from(["..", ".", "a", "b c", "é", "", "~"]), max_size=6).map("/".join))
def test_a_path_never_leaves_its_root(path):
    root = Path("/data/root")
    try:
        found = inside(root, path)
    except SourceError:
        depth = 0
        for part in path.split("/"):
            depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        assert depth < 0 or path.startswith("/") or ".." in path
    else:
        assert (root / found).resolve().is_relative_to(root)


@given(
    st.text("abé/_-", min_size=1, max_size=400),
    st.text("xyz", max_size=300),
    st.text("abé/_-", min_size=1, max_size=400),
)
def test_recording_names_fit_and_differ(stem, sweep, other):
    assert len(_recording_name(f"{stem}.h5", sweep)) <= 200
    assert (_recording_name(f"{stem}.h5", sweep) == _recording_name(f"{other}.h5", sweep)) == (stem == other)


def test_a_name_that_differs_by_case_alone_is_refused_unless_allowed(database, tmp_path):
    write_cell(tmp_path, 0, "one", file="a.h5", subject="Mouse")
    write_cell(tmp_path, 1, "ONE", file="b.h5", subject="Mouse")
    write_cell(tmp_path, 1, "two", file="c.h5", subject="mouse")
    options = {"lab": "l", "session_date": "2026-03-01"}
    report = ingest.run("ephys", tmp_path, **options)
    assert (report.new, report.failed) == (1, 2)
    assert all("by case alone" in failure.message for failure in report.failures)
    report = ingest.run("ephys", tmp_path, **options, allow_case=True)
    assert report.failed == 0
    assert sorted(subject.Subject().to_arrays("subject").tolist()) == ["Mouse", "mouse"]
    assert sorted(recording.Cell().to_arrays("cell").tolist()) == ["ONE", "one", "two"]

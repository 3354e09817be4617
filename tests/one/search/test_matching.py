"""Names, collections, revisions and quality control: the rules of choosing datasets, without a database."""

import pytest

from labweave.formats.alf.exceptions import (
    ALFMultipleCollectionsFound,
    ALFMultipleObjectsFound,
    ALFMultipleRevisionsFound,
    ALFWarning,
)
from labweave.formats.alf.names import split_rel_path
from labweave.formats.alf.qc import QC
from labweave.one.search import matching
from labweave.one.search.rows import DatasetRow


def Row(rel_path, is_default=True, qc="NOT_SET"):
    """Return the dataset at a path."""
    collection, revision, name = split_rel_path(rel_path)
    return DatasetRow(None, collection, name, revision, qc, is_default)


PATHS = (
    "root.file.npy",
    "alf/_ibl_trials.choice.npy",
    "alf/_ibl_trials.goCue_times.npy",
    "alf/_ibl_trials.goCue_times_bpod.npy",
    "alf/probe00/spikes.times.npy",
    "alf/probe00/#2024-05-06#/spikes.times.npy",
    "alf/probe01/spikes.times.raw.npy",
)
ROWS = [Row(path) for path in PATHS]


def found(*args, **options):
    return [PATHS.index(row.rel_path) for row in matching.find(ROWS, *args, **options)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"filename": "spikes*"}, [4, 5, 6]),
        ({"filename": "*times*"}, [2, 3, 4, 5, 6]),
        ({"filename": "*"}, [0, 1, 2, 3, 4, 5, 6]),
        ({"filename": "trials.choice.npy"}, []),
        ({"filename": "alf/probe0?/spikes*"}, [4, 6]),
        ({"filename": ["root.file.npy", "*choice*"]}, [0, 1]),
        ({"filename": {"object": "trials"}}, [1, 2, 3]),
        ({"filename": {"object": "_ibl_trials"}}, [1, 2, 3]),
        ({"filename": {"object": ["trials", "root"], "attribute": ["choice", "file"]}}, [0, 1]),
        ({"filename": {"object": "trials", "timescale": ""}}, [1, 2]),
        ({"filename": {"object": "trials", "timescale": "bpod"}}, [3]),
        ({"filename": {"object": "trials", "namespace": ""}}, []),
        ({"filename": {"namespace": ""}}, [0, 4, 5, 6]),
        ({"filename": {"object": "spikes", "extra": ""}}, [4, 5]),
        ({"filename": {"object": "spikes", "extra": "raw"}}, [6]),
        ({"collection": ""}, [0]),
        ({"collection": "alf"}, [1, 2, 3]),
        ({"collection": "alf*"}, [1, 2, 3, 4, 5, 6]),
        ({"collection": "alf/"}, []),
        ({"collection": ["alf/probe00", "alf/probe01"]}, [4, 5, 6]),
        ({"revision": ""}, [0, 1, 2, 3, 4, 6]),
        ({"revision": "2024*"}, [5]),
        ({"filename": "spikes.times.npy", "collection": "alf/probe00", "revision": ""}, [4]),
    ],
)
def test_shell_patterns(filters, expected):
    assert found(**filters) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"filename": "spikes.*"}, [4, 5, 6]),
        ({"filename": "spikes"}, []),
        ({"filename": r".*\.choice\.npy"}, [1]),
        ({"filename": ["root.*", "_ibl_trials.choice.npy"]}, [0, 1]),
        ({"filename": {"object": "trials|root"}}, [0, 1, 2, 3]),
        ({"collection": r"alf/probe\d\d"}, [4, 5, 6]),
    ],
)
def test_regular_expressions_when_wildcards_are_off(filters, expected):
    assert found(**filters, wildcards=False) == expected


def test_what_is_no_part_or_no_expression_is_told():
    with pytest.raises(KeyError, match="foo"):
        found({"foo": "x"})
    with pytest.raises(ValueError, match="regular expression"):
        found("(", wildcards=False)


def test_quality_control_is_in_the_order_of_its_values():
    rows = [Row("a.b.c", qc=qc) for qc in QC]

    def count(**options):
        return [row.qc for row in matching.find(rows, **options)]

    assert count() == ["NOT_SET", "PASS", "WARNING", "FAIL"]
    assert count(max_qc="pass") == ["NOT_SET", "PASS"]
    assert count(max_qc=30, ignore_qc_not_set=True) == ["PASS", "WARNING"]
    assert count(max_qc="CRITICAL")[-1] == "CRITICAL"
    for bad in ("BAD", 20, None):
        with pytest.raises(ValueError, match="quality control"):
            count(max_qc=bad)


SPIKES = [Row("p/x.y.npy", False), Row("p/#2022-01-01#/x.y.npy", False), Row("p/#2024-05-06#/x.y.npy", True)]


@pytest.mark.parametrize(
    ("revision", "expected"),
    [(None, 2), ("", 2), ("2023-01-01", 1), ("2020-01-01", 0), ("9999", 2), ("2022-01-01", 1), ("2022", 0)],
)
def test_the_last_revision_before(revision, expected):
    assert matching.last_before(SPIKES, revision) == [SPIKES[expected]]


def test_no_revision_so_early():
    assert matching.last_before(SPIKES[1:], "2020") == []


def test_without_a_default_the_most_recent_is_taken_with_a_warning():
    with pytest.warns(ALFWarning, match="no default revision"):
        assert matching.last_before(SPIKES[:2], None) == [SPIKES[1]]
    assert matching.last_before(SPIKES[:1], None) == [SPIKES[0]]


def test_two_defaults_are_refused_or_told():
    rows = [Row("x.y.npy"), Row("#b#/x.y.npy")]
    with pytest.raises(ALFMultipleRevisionsFound, match="several default"):
        matching.last_before(rows, None)
    with pytest.warns(ALFWarning, match="several default"):
        assert matching.last_before(rows, None, strict=False) == [rows[1]]


def test_datasets_of_different_revisions_are_told():
    with pytest.warns(ALFWarning, match="Multiple revisions"):
        assert len(matching.last_before([*SPIKES, Row("p/x.z.npy")], None)) == 2


def test_several_are_never_taken_for_one():
    with pytest.raises(ALFMultipleCollectionsFound, match='"alf", "alf/probe00"'):
        matching.only_collection([ROWS[1], ROWS[4]])
    with pytest.raises(ALFMultipleObjectsFound):
        matching.only_one(ROWS[:2])
    assert matching.only_one(ROWS[:1]) == ROWS[0]

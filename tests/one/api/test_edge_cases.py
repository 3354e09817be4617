"""The edge cases of the ONE facade: one table, each row asked of both front ends.

A row names a call, and what it must give in the front end of the seed (`legacy`) and in that of ONE-api (`modern`):
a value, an exception class, or a function that says whether a result is right. `None` for a front end: it has no
such call. Ids are texts in the one and UUIDs in the other; `Eid` stands for both.
"""

from __future__ import annotations

import datetime as dt
import shutil
import uuid
import warnings
from pathlib import Path

import numpy as np
import one_lab
import pandas as pd
import pytest
from conftest import PREFIX, empty
from one_lab import PIDS, S1, S2, S3, S4, S5, S6, S7, S8, SESSIONS, UNKNOWN

import labweave
from labweave.formats.alf.exceptions import (
    ALFError,
    ALFMultipleCollectionsFound,
    ALFMultipleObjectsFound,
    ALFObjectNotFound,
    ALFWarning,
)
from labweave.one import ONE, SessionDataInfo
from labweave.one.api import One

ALL = [S7, S3, S2, S1, S5, S8, S4, S6]
"""Newest first."""
SORTED = "alf/probe00/pykilosort"
CHOICE = "_ibl_trials.choice.npy"
WITH_CHOICE = [S7, S2, S1, S4, S6]
NOT_CALLED = object()
KINDS = ("legacy", "modern")


class Eid(str):
    """An eid as the front end gives it."""


class Warned:
    """A result that comes with a warning."""

    def __init__(self, expected, category=ALFWarning, match=""):
        self.expected, self.category, self.match = expected, category, match


class Both:
    """An exception that is caught by each of several classes."""

    def __init__(self, *classes):
        self.classes = classes


def eids(*several):
    return [Eid(one) for one in several]


ROWS: dict[int, list[tuple]] = {}


def row(number, call, legacy=NOT_CALLED, modern=NOT_CALLED, *, both=NOT_CALLED):
    """Add a line to a row of the table; `call` takes the front end and where the files are."""
    if both is not NOT_CALLED:
        legacy = modern = both
    ROWS.setdefault(number, []).append((dict.fromkeys(KINDS, call), {"legacy": legacy, "modern": modern}))


def path_of(eid):
    return SESSIONS.path[eid]


def shape(*expected):
    return lambda found: np.shape(found) == expected


def bunch(**lengths):
    """Return a test of the lengths of a bunch's attributes."""
    return lambda found: {name: len(found[name]) for name in lengths} == lengths


def same_path(relative):
    return lambda found: isinstance(found, Path) and found.as_posix().endswith(relative)


def to_path(one, *args):
    return (one.path_from_eid if hasattr(one, "path_from_eid") else one.eid2path)(*args)


def to_eid(one, *args):
    return (one.eid_from_path if hasattr(one, "eid_from_path") else one.path2eid)(*args)


def listed(one, *args):
    return one.list(*args) if hasattr(one, "path_from_eid") else one.list_datasets(*args)


def found(one, **keywords):
    return one.search(**keywords)


# ids

row(1, lambda o, r: o.to_eid(S1), both=Eid(S1))
row(1, lambda o, r: o.to_eid(uuid.UUID(S1)), both=Eid(S1))
row(1, lambda o, r: o.to_eid(f"http://localhost:8000/sessions/{S1}"), both=Eid(S1))
row(2, lambda o, r: o.to_eid(S1.upper()), both=Eid(S1))
row(3, lambda o, r: o.to_eid(UNKNOWN), both=Eid(UNKNOWN))
row(3, lambda o, r: o.load_dataset(UNKNOWN, CHOICE), both=ALFObjectNotFound)
row(3, lambda o, r: o.load_object(UNKNOWN, "trials"), both=ALFObjectNotFound)
row(4, lambda o, r: o.to_eid(S1.replace("-", "")), both=ValueError)
row(5, lambda o, r: o.to_eid(None), both=None)
row(6, lambda o, r: o.to_eid(5), both=ValueError)
row(6, lambda o, r: o.to_eid(b"x"), both=ValueError)
row(7, lambda o, r: o.to_eid("foo"), both=ValueError)
row(7, lambda o, r: o.to_eid(""), both=ValueError)
row(7, lambda o, r: o.to_eid("garbage" * 7 + "!"), both=ValueError)
row(8, lambda o, r: o.to_eid([S1, uuid.UUID(S2)]), both=eids(S1, S2))
row(8, lambda o, r: o.to_eid((S1, uuid.UUID(S2))), both=eids(S1, S2))
row(8, lambda o, r: o.to_eid([]), both=[])
row(9, lambda o, r: o.to_eid({S1}), both=eids(S1))
row(9, lambda o, r: o.to_eid(np.array([S1, S2])), both=eids(S1, S2))
row(10, lambda o, r: o.to_eid([S1, "foo"]), both=ValueError)
row(11, lambda o, r: o.to_eid(f"/any/root/{path_of(S1)}"), both=Eid(S1))
row(11, lambda o, r: o.to_eid(Path("/any/root") / path_of(S1)), both=Eid(S1))
row(12, lambda o, r: o.to_eid(f"{r}/{path_of(S1)}/alf/{CHOICE}"), both=Eid(S1))
row(13, lambda o, r: o.to_eid("/any/mainenlab/Subjects/ZM_1150/2019-05-09/001"), both=None)
row(13, lambda o, r: o.load_dataset("/any/mainenlab/Subjects/ZM_1150/2019-05-09/001", CHOICE), both=ValueError)
row(13, lambda o, r: o.load_object("/any/mainenlab/Subjects/ZM_1150/2019-05-09/001", "trials"), both=ValueError)
row(14, lambda o, r: o.to_eid("/any/mainenlab/Subjects/ZM_1150/2019-13-07/001"), both=None)
for reference in ("2019-05-07_1_ZM_1150", "2019-05-07_001_ZM_1150", "2019-05-07_01_ZM_1150"):
    row(15, lambda o, r, reference=reference: o.to_eid(reference), both=Eid(S1))
row(16, lambda o, r: o.to_eid("2019-05-07_9_ZM_1150"), both=Both(ALFObjectNotFound, AssertionError))
row(17, lambda o, r: o.to_eid("2019-05-07_1_ZM_115"), both=ALFObjectNotFound)
row(18, lambda o, r: o.ref2eid(o.eid2ref(S1)), modern=Eid(S1))
row(18, lambda o, r: o.ref2eid(o.eid2ref(S3)), modern=Eid(S3))
row(18, lambda o, r: [o.ref2eid(o.eid2ref(one, as_dict=False)) for one in ALL], modern=eids(*ALL))
row(19, lambda o, r: o.to_eid({"subject": "ZM_1150", "date": dt.date(2019, 5, 7), "sequence": 2}), both=Eid(S2))
DETAILS = {"subject": "ZM_1150", "number": 1, "start_time": "2019-05-07T10:00:00", "lab": "mainenlab"}
row(20, lambda o, r: o.to_eid(DETAILS), both=Eid(S1))
row(20, lambda o, r: o.to_eid({**DETAILS, "lab": "otherlab"}), both=Eid(S1))
row(21, lambda o, r: o.to_eid({"subject": "ZM_1150"}), both=AssertionError)
row(22, lambda o, r: o.to_eid(o.search(subject="ZM_1150", details=True)[1]), both=eids(S2, S1))

# paths

row(23, lambda o, r: to_path(o, S1), both=same_path(path_of(S1)))
row(23, lambda o, r: str(to_path(o, S1)) == f"{r}/{path_of(S1)}", both=True)
row(24, lambda o, r: [one and one.name for one in to_path(o, [S1, UNKNOWN])], both=["001", None])
row(25, lambda o, r: to_path(o, "foo"), legacy=None, modern=ValueError)
row(25, lambda o, r: to_path(o, None), legacy=None, modern=ValueError)
row(26, lambda o, r: [one.name for one in to_path(o, (S1, S2))], both=["001", "002"])
row(27, lambda o, r: to_path(o, f"http://localhost/sessions/{S1}"), both=same_path(path_of(S1)))
row(28, lambda o, r: to_eid(o, "/x/mainenlab/Subjects/ZM_1150/2019-05-07/1"), both=Eid(S1))
row(28, lambda o, r: to_eid(o, "/x/ZM_1150/2019-05-07/001"), both=Eid(S1))
row(28, lambda o, r: to_eid(o, "/x/otherlab/Subjects/ZM_1150/2019-05-07/001"), both=Warned(Eid(S1)))
row(29, lambda o, r: to_eid(o, "/x/mainenlab/Subjects/zm_1150/2019-05-07/001"), legacy=Eid(S1), modern=None)
row(30, lambda o, r: to_eid(o, "/foo/bar"), both=None)
row(31, lambda o, r: to_eid(o, None), both=None)
row(32, lambda o, r: to_eid(o, "2019-05-07/001"), both=None)
row(33, lambda o, r: to_eid(o, f"/x/{path_of(S2)}"), both=Eid(S2))
row(34, lambda o, r: to_eid(o, "/x/mainenlab/Subjects/nobody/2019-05-07/000"), both=None)
row(35, lambda o, r: o.eid2ref(S1, as_dict=False), modern="2019-05-07_1_ZM_1150")
row(35, lambda o, r: o.eid2ref(S1, as_dict=False, parse=False), modern="2019-05-07_001_ZM_1150")
row(36, lambda o, r: o.eid2ref(UNKNOWN), modern=ALFObjectNotFound)
row(37, lambda o, r: o.get_details(UNKNOWN), both=ALFObjectNotFound)
row(38, lambda o, r: [one["subject"] for one in o.get_details([S1, S3])], both=["ZM_1150", "ZM_11"])

# search

row(39, lambda o, r: found(o), both=eids(*ALL))
row(40, lambda o, r: found(o, subject="zm_1150"), legacy=eids(S2, S1), modern=[])
row(41, lambda o, r: found(o, subject="ZM_11"), legacy=eids(S3), modern=eids(S3, S2, S1))
row(42, lambda o, r: found(o, subject="^ZM_11$"), legacy=[], modern=eids(S3))
row(43, lambda o, r: found(o, subject=["ZM_1150", "KS005"]), both=eids(S2, S1, S8, S4))
row(44, lambda o, r: found(o, subject=""), both=eids(*ALL))
row(44, lambda o, r: found(o, subject=[]), both=eids(*ALL))
row(45, lambda o, r: found(o, subject=None), both=eids(*ALL))
row(46, lambda o, r: found(o, subject="("), legacy=[], modern=ValueError)
row(47, lambda o, r: found(o, lab="cortex"), legacy=[], modern=eids(S5, S8, S4))
row(48, lambda o, r: found(o, date_range="2019-05-07"), both=eids(S2, S1))
row(49, lambda o, r: found(o, date_range=["2019-05-07"]), legacy=eids(S2, S1), modern=eids(S7, S3, S2, S1))
row(50, lambda o, r: found(o, date_range=["2019-05-07", None]), both=eids(S7, S3, S2, S1))
row(51, lambda o, r: found(o, date_range=dt.date(2019, 4, 11)), both=eids(S8, S4))
row(52, lambda o, r: found(o, date_range=dt.datetime(2019, 4, 11, 12)), both=eids(S8, S4))
row(53, lambda o, r: found(o, date_range="2019-04"), both=ValueError)
row(54, lambda o, r: found(o, date_range=["a", "b", "c"]), both=ValueError)
FIRST = [S3, S1, S5, S4, S6]
row(55, lambda o, r: found(o, number="001"), both=eids(*FIRST))
row(55, lambda o, r: found(o, number=1), both=eids(*FIRST))
row(56, lambda o, r: found(o, number=[1, 2]), both=eids(*(one for one in ALL if one != S7)))
row(57, lambda o, r: found(o, number=1.0), both=eids(*FIRST))
row(57, lambda o, r: found(o, number=1.5), both=ValueError)
row(58, lambda o, r: found(o, task="TRAINING"), legacy=eids(S7, S1), modern=[])
row(59, lambda o, r: found(o, task_protocol=["training", "biased"]), both=eids(S7, S2, S1, S6))
row(60, lambda o, r: found(o, users=["olivier", "ines"]), both=eids(S2))
row(61, lambda o, r: found(o, dataset_types=["trials.choice", "spikes.times"]), both=eids(S4))
row(62, lambda o, r: found(o, datasets=CHOICE), legacy=[], modern=eids(*WITH_CHOICE))
row(63, lambda o, r: found(o, datasets="trials.choice"), legacy=eids(*WITH_CHOICE), modern=[])
row(64, lambda o, r: found(o, dataset=CHOICE), legacy=[], modern=eids(*WITH_CHOICE))
row(65, lambda o, r: found(o, datasets=CHOICE, dataset_qc_lte="PASS"), modern=eids(S7, S2, S4, S6))
row(66, lambda o, r: found(o, dataset_qc_lte="PASS"), modern=eids(*(one for one in ALL if one != S8)))
row(67, lambda o, r: found(o, performance_gte=60.0), both=eids(S1, S4))
row(68, lambda o, r: found(o, foo=1), legacy=None, modern=ValueError)
row(69, lambda o, r: found(o, limit=2), legacy=eids(S7, S3), modern=eids(*ALL))
row(70, lambda o, r: found(o, subject="nope", details=True), both=([], []))

# lists

row(71, lambda o, r: listed(o, S8), both=[])
row(72, lambda o, r: listed(o, UNKNOWN), both=[])
row(73, lambda o, r: o.list_datasets(S1, "wheel"), modern=[])
row(74, lambda o, r: len(o.list_datasets(S1, "*wheel*")), modern=4)
ASKED = ["_ibl_wheel.position.npy", "licks.times.npy"]
row(75, lambda o, r: sorted(o.list_datasets(S1, ASKED)), modern=[f"alf/{name}" for name in ASKED])
row(76, lambda o, r: o.list_datasets(S1, "*trials.table*"), modern=[])
row(76, lambda o, r: Path("alf/_ibl_trials.table.pqt") in o.list(S1), legacy=True)
row(77, lambda o, r: o.list_datasets(S4, "spikes.times*", revision="2023-01-01"), modern=[])

# load_dataset

row(78, lambda o, r: o.load_dataset(S1, "trials.choice"), both=shape(100))
row(79, lambda o, r: o.load_dataset(S1, "choice"), legacy=shape(100), modern=ALFObjectNotFound)
CUES = one_lab.contents()[S1]["alf/_ibl_trials.goCue_times.npy"]
row(80, lambda o, r: np.array_equal(o.load_dataset(S1, "_ibl_trials.goCue_times"), CUES), both=True)
row(81, lambda o, r: o.load_dataset(S1, "_IBL_trials.choice.npy"), both=ALFObjectNotFound)
row(82, lambda o, r: o.load_dataset(S4, "spikes.times.npy"), both=ALFMultipleCollectionsFound)
row(83, lambda o, r: o.load_dataset(S4, "spikes.times.npy", collection="alf/probe00"), both=shape(200))
row(84, lambda o, r: o.load_dataset(S6, CHOICE, collection="alf"), both=shape(3))
row(85, lambda o, r: o.load_dataset(S4, "spikes.times.npy", collection=SORTED), both=shape(150))
for revision, n_rows in (("2023-01-01", 10), ("2020-01-01", 200), ("9999", 150)):
    row(
        85,
        lambda o, r, revision=revision: o.load_dataset(S4, "spikes.times.npy", SORTED, revision=revision),
        modern=shape(n_rows),
    )
row(86, lambda o, r: o.load_dataset(S4, f"{SORTED}/spikes.times.npy"), both=shape(200))
row(87, lambda o, r: o.load_dataset(S4, "alf/probe*/spikes.times.npy"), both=ALFMultipleCollectionsFound)
row(88, lambda o, r: o.load_dataset(S1, "root.file.npy", collection=""), both=shape(4))
row(89, lambda o, r: o.load_dataset(S1, CHOICE, collection=""), legacy=shape(100), modern=ALFObjectNotFound)
row(90, lambda o, r: o.load_dataset(S1, ""), both=ValueError)
row(91, lambda o, r: o.load_dataset([S1, S2], CHOICE), both=TypeError)
row(92, lambda o, r: o.load_dataset(S1, "empty.file.npy"), both=Warned(None))
row(92, lambda o, r: o.load_dataset(S1, "broken.settings.json"), both=Warned(None))
row(93, lambda o, r: o.load_dataset(S1, "obj.text.txt"), both=same_path(f"{path_of(S1)}/odd/obj.text.txt"))
row(93, lambda o, r: o.load_dataset(S1, "obj.text.txt").collection, both="odd")

# load_object

row(94, lambda o, r: o.load_object(S1, "wheel").timestamps, legacy=shape(2, 2), modern=shape(3000))
row(95, lambda o, r: o.load_object(S1, "wheel*"), both=ALFMultipleObjectsFound)
row(96, lambda o, r: o.load_object(S4, "trials"), both=Both(ALFMultipleObjectsFound, AssertionError))
row(97, lambda o, r: o.load_object(S4, "trials", namespace=""), both=ALFObjectNotFound)


def has_bpod(o, root):
    # Modern: the table of trials is CRITICAL, so the attributes come from their own files.
    return "goCue_times_bpod" in o.load_object(S1, "trials", timescale=None)


row(98, has_bpod, legacy=False, modern=True)
row(99, lambda o, r: o.load_object(S2, "trials", short_keys=True), both=bunch(choice=100, itiDuration=99))
row(100, lambda o, r: o.load_object(S1, "trials", foo="x"), both=TypeError)
row(
    101,
    lambda o, r: o.load_object(S4, "spikes", collection=SORTED, revision="2023-01-01"),
    modern=Warned(bunch(times=10, clusters=200, amps=200)),
)


def without_timestamps(o, root):
    (root / path_of(S1) / "alf/_ibl_wheel.timestamps.npy").unlink()
    return sorted(o.load_object(S1, "wheel"))


def with_other_content(o, root):
    np.save(root / path_of(S1) / "alf/licks.times.npy", np.arange(3.0))
    return o.load_dataset(S1, "licks.times.npy")


CHANGING = {102, 103}
row(102, without_timestamps, both=Warned(["position"]))
row(103, with_other_content, both=Warned(shape(3)))

# several

row(104, lambda o, r: o.load_datasets(S1, [CHOICE, "no.such.npy"]), modern=ALFObjectNotFound)


def one_missing(o, root):
    data, records = o.load_datasets(S1, [CHOICE, "no.such.npy"], assert_present=False)
    return np.shape(data[0]), data[1], records[1]


row(104, one_missing, modern=((100,), None, None))
row(105, lambda o, r: o.load_datasets(S1, []), modern=([], []))
row(105, lambda o, r: o.load_datasets(S1, CHOICE), modern=TypeError)
row(106, lambda o, r: sorted(o.load_collection(S4, "alf/probe01")), modern=["channels", "clusters", "spikes"])
row(106, lambda o, r: o.load_collection(S1, "nope"), modern=ALFError)
row(
    107,
    lambda o, r: o.load_collection(S4, SORTED, revision="2023-01-01")["spikes"],
    modern=Warned(bunch(times=10, clusters=200)),
)
row(108, lambda o, r: [np.shape(one) for one in o.load(S2, "trials.choice")], legacy=[(100,)])
row(108, lambda o, r: o.load(S2, ["trials.choice", "no.such"])[1], legacy=None)
row(109, lambda o, r: [len(one) for one in o.load([S1, S2], ["trials.choice", "trials.intervals"])], legacy=[2, 2])
row(109, lambda o, r: [np.shape(one) for one in o.load([S1, S2], ["trials.choice"])], legacy=[(100,), (100,)])
row(110, lambda o, r: o.load(S8), legacy=lambda one: isinstance(one, SessionDataInfo) and len(one) == 0)
row(110, lambda o, r: o.load(S8, ["trials.choice"]), legacy=[None])
row(111, lambda o, r: o.load(UNKNOWN, ["trials.choice"]), legacy=ALFObjectNotFound)
row(112, lambda o, r: np.shape(o.load(eid=S1, dataset_types=["trials.choice"])[0]), legacy=(100,))
row(112, lambda o, r: o.load_dataset(eid=S1, dataset=CHOICE), both=shape(100))
row(112, lambda o, r: o.load_dataset(id=S1, dataset=CHOICE), both=shape(100))
row(112, lambda o, r: o.load_dataset(S1, id=S1, dataset=CHOICE), both=TypeError)
row(113, lambda o, r: o.pid2eid(UNKNOWN), modern=(None, None))
row(113, lambda o, r: o.eid2pid(S1), modern=(None, None))
row(113, lambda o, r: o.pid2eid(PIDS["probe00"]), modern=(Eid(S4), "probe00"))
row(114, lambda o, r: S1 in found(o), legacy=True, modern=False)
row(114, lambda o, r: uuid.UUID(S1) in found(o), legacy=False, modern=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    one_lab.write_files(folder)
    return folder


@pytest.fixture(scope="module")
def lab(_tables, database_url, root):
    """The database with the lab of eight sessions."""
    with labweave.connect(database_url, prefix=PREFIX) as database:
        empty(database)
        one_lab.fill(root)
        yield database


def open_front_end(kind, root):
    if kind == "legacy":
        return ONE(offline=True, cache_dir=str(root), silent=True)
    return One(cache_dir=root, mode="local")


def check(kind, call, expected, front_end, root):
    """Compare what a call gives with what is expected of it."""
    if isinstance(expected, Both):
        with pytest.raises(expected.classes[0]) as caught:
            call(front_end, root)
        assert all(isinstance(caught.value, one) for one in expected.classes)
    elif isinstance(expected, type) and issubclass(expected, Exception):
        with pytest.raises(expected):
            call(front_end, root)
    elif isinstance(expected, Warned):
        with pytest.warns(expected.category, match=expected.match):
            given = call(front_end, root)
        assert_fits(kind, given, expected.expected)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ALFWarning)
            given = call(front_end, root)
        assert_fits(kind, given, expected)


def assert_fits(kind, given, expected):
    if isinstance(expected, Eid):
        assert (type(given), str(given)) == (str if kind == "legacy" else uuid.UUID, str(expected))
    elif callable(expected):
        assert expected(given), given
    elif isinstance(expected, (list, tuple)):
        assert type(given) is type(expected) and len(given) == len(expected), given
        for one, other in zip(given, expected, strict=True):
            assert_fits(kind, one, other)
    else:
        assert not isinstance(given, (np.ndarray, pd.DataFrame)), given
        assert given == expected


def lines_of(number, kind):
    return [(calls[kind], expected[kind]) for calls, expected in ROWS[number] if expected[kind] is not NOT_CALLED]


@pytest.mark.parametrize(
    ("number", "kind"), [(number, kind) for number in sorted(ROWS) for kind in KINDS if lines_of(number, kind)]
)
def test_row(number, kind, lab, root, tmp_path):
    if number in CHANGING:
        root = shutil.copytree(root, tmp_path / "lab")
    front_end = open_front_end(kind, root)
    for call, expected in lines_of(number, kind):
        check(kind, call, expected, front_end, root)


def test_every_row_of_the_table_is_here():
    assert sorted(ROWS) == list(range(1, 115))

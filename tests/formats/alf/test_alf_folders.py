"""ALF files found by their parts, and sessions and files walked in order."""

import logging
import os
from pathlib import Path

import pytest

from labweave.formats import alf
from labweave.formats.alf import exceptions, folders

FILES = [
    "_ibl_trials.goCue_times.npy",
    "_ibl_trials.goCue_times_bpod.csv",
    "_ibl_trials.intervals.raw.v12.npy",
    "_ibl_wheel.position.npy",
    "wheelMoves.intervals.npy",
]


@pytest.fixture
def folder(tmp_path):
    """A collection with files, a folder named as a file, and names that are none."""
    for name in [*FILES, "a-b.c.npy", "settings.json", "my wheel.x.npy"]:
        (tmp_path / name).touch()
    (tmp_path / "wheel.folder.npy").mkdir()
    (tmp_path / "wheel.folder.npy" / "wheel.inside.npy").touch()
    return tmp_path


@pytest.mark.parametrize(
    "parts, found",
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"object": "wheel"}, [3]),
        ({"object": "wh*"}, [3, 4]),
        ({"object": ["trials", "wheelMoves"]}, [0, 1, 2, 4]),
        ({"timescale": None}, [0, 2, 3, 4]),
        ({"timescale": ""}, [0, 2, 3, 4]),
        ({"timescale": "bpod"}, [1]),
        ({"namespace": None}, [4]),
        ({"namespace": ["ibl", None]}, [0, 1, 2, 3, 4]),
        ({"attribute": "goCue*", "extension": "npy"}, [0]),
        ({"extra": "v12.raw"}, [2]),
        ({"extra": ["raw"]}, [2]),
        ({"extra": "ra*"}, []),
        ({"extra": None}, [0, 1, 3, 4]),
        ({"attribute": "?oCue_times"}, [0, 1]),
        ({"attribute": "GoCue_times"}, []),
        ({"object": "wheel", "wildcards": False}, [3, 4]),
        ({"object": "^wheel$", "wildcards": False}, [3]),
        ({"object": ["^wheel$", ".*Moves"], "wildcards": False}, [3, 4]),
    ],
)
def test_files_are_found_by_their_parts(folder, parts, found):
    files, tuples = alf.filter_by(folder, **parts)
    assert [str(file) for file in files] == [FILES[i] for i in found]
    assert all(isinstance(file, Path) and hasattr(file, "revision") for file in files)
    assert len(tuples) == len(files) and all(len(each) == 6 for each in tuples)


def test_parts_that_are_none_are_refused(folder):
    with pytest.raises(TypeError, match="'foo' is no part"):
        alf.filter_by(folder, foo="x")
    with pytest.raises(exceptions.ALFInvalid):
        alf.filter_by(folder, object="(", wildcards=False)
    assert alf.filter_by(folder / "none") == ([], [])


def test_objects_exist_with_their_attributes(folder):
    assert alf.exists(folder, "trials")
    assert alf.exists(folder, "trials", "intervals") and alf.exists(folder, "trials", ["intervals", "goCue_times"])
    assert not alf.exists(folder, "trials", ["intervals", "none"])
    assert not alf.exists(folder, "none") and not alf.exists(folder / "none", "trials")
    assert not alf.exists(folder, "trials", extension="pqt") and alf.exists(folder, "trials", namespace="ibl")


@pytest.fixture
def root(tmp_path):
    """Two labs with sessions, and folders that are none."""
    for path in [
        "labB/Subjects/s1/2020-01-02/002/alf/x.y.npy",
        "labB/Subjects/s1/2020-01-02/010/x.y.npy",
        "labB/Subjects/s1/2020-01-02/1000/x.y.npy",
        "labB/Subjects/s1/2020-01-01/001/alf/#r#/x.y.npy",
        "labB/Subjects/s1/2020-01-01/001/alf/x.y.npy",
        "labB/Subjects/s1/2020-01-01/001/notes.txt",
        "labB/Subjects/s1/2020-01-01/001/a.b.npy",
        "labB/Subjects/s1/2020-01-01/001/inner/2020-01-01/001/x.y.npy",
        "labA/Subjects/s/2020-01-01/1/x.y.npy",
        "labA/logs/2020-01-01/x.y.npy",
        "s3/2019-01-01/001/x.y.npy",
    ]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "s3/2019-01-01/002").touch()
    return tmp_path


SESSIONS = [
    "labA/Subjects/s/2020-01-01/1",
    "labB/Subjects/s1/2020-01-01/001",
    "labB/Subjects/s1/2020-01-02/002",
    "labB/Subjects/s1/2020-01-02/010",
    "s3/2019-01-01/001",
]


def test_sessions_are_walked_in_order(root):
    found = list(alf.iter_sessions(root))
    assert [path.relative_to(root).as_posix() for path in found] == SESSIONS
    assert all(hasattr(path, "subject") for path in found)
    assert list(alf.iter_sessions(str(root / SESSIONS[1]))) == [root / SESSIONS[1]]
    assert list(alf.iter_sessions(root / "none")) == []
    with_lab = list(alf.iter_sessions(root, pattern="*/Subjects/*/????-??-??/*"))
    assert [path.relative_to(root).as_posix() for path in with_lab] == SESSIONS[:4]
    assert list(alf.iter_sessions(root, pattern="s1/2020-01-02/*")) == [root / path for path in SESSIONS[2:4]]


def test_the_first_session_is_given_before_the_rest_is_listed(root, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(Path(folder).name) or scandir(folder))
    assert next(alf.iter_sessions(root)) == root / SESSIONS[0]
    assert "labB" not in listed and "1" not in listed


def test_links_are_not_followed_round_in_circles(root):
    (root / "labA" / "loop").symlink_to(root)
    (root / "labA" / "Subjects" / "s" / "2020-01-01" / "2").symlink_to(root / SESSIONS[1])
    (root / SESSIONS[0] / "loop").symlink_to(root)
    found = [path.relative_to(root).as_posix() for path in alf.iter_sessions(root)]
    assert found == [SESSIONS[0], "labA/Subjects/s/2020-01-01/2", *SESSIONS[1:]]
    assert [path.as_posix() for path in alf.iter_datasets(root / SESSIONS[0])] == ["x.y.npy"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a folder can't be closed to this user")
def test_a_folder_that_may_not_be_read_is_told(root, caplog):
    (root / "labA").chmod(0)
    with caplog.at_level(logging.WARNING):
        assert len(list(alf.iter_sessions(root))) == 4
    (root / "labA").chmod(0o755)
    assert "labA can't be listed" in caplog.text


def test_a_folder_that_vanishes_is_told(root, caplog):
    walk = alf.iter_sessions(root)
    next(walk)
    for path in sorted((root / "labB").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "labB").rmdir()
    assert [path.relative_to(root).as_posix() for path in walk] == SESSIONS[4:]
    assert "labB can't be listed" in caplog.text


def test_files_of_a_session_are_walked_in_order(root):
    session = root / SESSIONS[1]
    found = [path.as_posix() for path in alf.iter_datasets(session)]
    assert found == ["a.b.npy", "alf/#r#/x.y.npy", "alf/x.y.npy", "inner/2020-01-01/001/x.y.npy"]
    every = {path: entry.stat().st_size for path, entry in folders.iter_files(session)}
    assert list(every) == [*found, "notes.txt"] and set(every.values()) == {0}


def test_variants_of_a_dataset_are_found(tmp_path):
    session = tmp_path / "s/2020-01-01/001"
    for name in ["alf/o.a.npy", "alf/#1#/o.a.npy", "alf/#2#/o.a.npy", "alf/_ns_o.a.npy", "alf/o.a.raw.npy"]:
        (session / name).parent.mkdir(parents=True, exist_ok=True)
        (session / name).touch()
    for name in ["alf/o.a_clock.npy", "alf/o.a.csv", "alf/o.ab.npy", "alf/no.a.npy", "other.o.a.npy"]:
        (session / name).touch()
    file = session / "alf/#1#/o.a.npy"

    def variants(**options):
        found = alf.find_variants([file], **options)
        assert list(found) == [file]
        return [path.relative_to(session / "alf").as_posix() for path in found[file]]

    assert variants() == ["o.a.npy", "#2#/o.a.npy"]
    assert variants(namespace=False) == ["_ns_o.a.npy", "o.a.npy", "#2#/o.a.npy"]
    assert variants(extra=False) == ["o.a.npy", "o.a.raw.npy", "#2#/o.a.npy"]
    assert variants(timescale=False) == ["o.a.npy", "o.a_clock.npy", "#2#/o.a.npy"]
    assert variants(extension=False) == ["o.a.csv", "o.a.npy", "#2#/o.a.npy"]
    assert alf.find_variants([]) == {}
    with pytest.raises(ValueError, match="no ALF dataset|not the path"):
        alf.find_variants([session])

"""What is read of an HDF5 file lies in it; anything else is refused in words."""

import h5py
import numpy as np
import pytest

from labweave.errors import FileMissing, ReadError
from labweave.formats.hdf5 import open_hdf5
from labweave.formats.recordings import read_file, write_recordings

SECRET = b"root:x:0:0:never to be read".ljust(64)
SWEEP = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA", "ton": 1, "toff": 4}


@pytest.fixture
def elsewhere(tmp_path):
    """Two files that nothing may be read from."""
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["group/values"] = np.arange(8.0)
    return tmp_path


def leave(group, name, how, elsewhere):
    """Put something into a file that is elsewhere."""
    if how == "link":
        group[name] = h5py.ExternalLink(str(elsewhere / "other.h5"), "/group/values")
    elif how == "soft link to a link":
        group.file["aside"] = h5py.ExternalLink(str(elsewhere / "other.h5"), "/group")
        group[name] = h5py.SoftLink("/aside/values")
    elif how == "storage":
        group.create_dataset(name, (8,), "f8", external=[(str(elsewhere / "secret"), 0, 64)])
    else:
        layout = h5py.VirtualLayout((8,), "f8")
        layout[:] = h5py.VirtualSource(str(elsewhere / "other.h5"), "group/values", (8,))
        group.create_virtual_dataset(name, layout)


WAYS = ["link", "soft link to a link", "storage", "virtual"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "find",
    [
        lambda file: file["a/b/x"],
        lambda file: file["a"]["b"]["x"],
        lambda file: file.get("a/b").get("x"),
        lambda file: dict(file["a/b"].items())["x"],
        lambda file: list(file["a/b"].values()),
        lambda file: "x" in file["a/b"],
        lambda file: file["a/back/b/x"],
    ],
)
def test_no_way_leads_out(elsewhere, how, find):
    path = elsewhere / "linked.h5"
    with h5py.File(path, "w") as file:
        leave(file.create_group("a/b"), "x", how, elsewhere)
        file["a/back"] = h5py.SoftLink("/a")
        file["a/sound"] = [1.0, 2.0]
    with open_hdf5(path) as file:
        assert file["a/sound"][()].tolist() == [1.0, 2.0]
    with (
        pytest.raises(ReadError, match=r"linked\.h5: .*other file.*Copy the data into this file"),
        open_hdf5(path) as f,
    ):
        find(f)


@pytest.mark.parametrize("how", WAYS)
def test_a_recording_with_samples_elsewhere_is_refused(elsewhere, how):
    sweep = {"voltage": np.zeros(8), "current": np.zeros(8), **SWEEP}
    path = write_recordings(elsewhere / "cell.h5", [sweep], cell="c", protocol="IDrest")
    with h5py.File(path, "r+") as file:
        del file["sweeps/sweep_000/voltage"]
        leave(file["sweeps/sweep_000"], "voltage", how, elsewhere)
    with pytest.raises(ReadError, match="other file"):
        read_file({"filepath": path})


def test_soft_links_and_references_within_a_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a/b/x"] = [1.0, 2.0]
        file["absolute"] = h5py.SoftLink("/a/b/x")
        file["a/relative"] = h5py.SoftLink("b/x")
        file["folder"] = h5py.SoftLink("/a")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["loop"] = h5py.SoftLink("/loop")
        file["reference"] = np.array([file["a/b"].ref], h5py.ref_dtype)
    with open_hdf5(path) as file:
        for name in ("absolute", "a/relative", "folder/b/x", "folder/relative", "/a/b/x", "a//b/./x"):
            assert file[name][()].tolist() == [1.0, 2.0], name
        assert file[file["reference"][0]]["x"][()].tolist() == [1.0, 2.0]
        assert "dangling" not in file
        assert file.get("a/nothing") is None
    with pytest.raises(ReadError, match="a link to itself"), open_hdf5(path) as file:
        file["loop"]


def test_claims_beyond_the_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("empty", (10**7,), "f4", chunks=(1000,), compression="gzip")  # 40 MB of nothing is harmless
        file.create_dataset("huge", (10**12,), "f4", chunks=(1000,), compression="gzip")
    with open_hdf5(path) as file:
        assert not file["empty"][()].any()
    claim = r"/huge claims 4,000,000,000,000 bytes, which a file of [\d,]+ bytes can't"
    with pytest.raises(ReadError, match=claim), open_hdf5(path) as file:
        file["huge"][()]


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileMissing), open_hdf5(tmp_path / "gone.h5"):
        pass
    for content, words in ((b"", "the file is empty"), (b"no HDF5 at all", "not a complete HDF5 file")):
        (tmp_path / "bad.h5").write_bytes(content)
        with pytest.raises(ReadError, match=words), open_hdf5(tmp_path / "bad.h5"):
            pass


def test_whatever_h5py_raises_is_a_read_error(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group("voltage")
    with pytest.raises(ReadError, match=r"a\.h5: not a complete HDF5 file"), open_hdf5(path) as file:
        file["voltage"].shape  # noqa: B018 - a group has none


def test_a_heap_that_hdf5_would_read_for_ever(tmp_path):
    """A sector of zeros where texts of variable length are stored."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["names"] = ["one", "two", "three"]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"one\0\0\0\0\0" + content.split(b"one\0\0\0\0\0")[1][:16], bytes(24)))
    with pytest.raises(ReadError, match=r"a\.h5: a damaged heap"), open_hdf5(path) as file:
        file.attrs["names"]


def test_only_one_module_opens_hdf5_for_reading():
    """Every other use of h5py.File writes."""
    from pathlib import Path

    import labweave

    found = {
        f"{path.relative_to(Path(labweave.__file__).parent)}: {line.strip()}"
        for path in Path(labweave.__file__).parent.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "h5py.File(" in line and not line.strip().startswith((">>>", "..."))
    }
    assert all('"w"' in use or '"a"' in use or "class InsideFile" in use for use in found), found

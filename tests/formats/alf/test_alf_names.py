"""ALF names and paths, against the answers written down in the specification."""

import datetime as dt
import subprocess
import sys
import unicodedata
from pathlib import Path, PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labweave.errors import LabweaveError
from labweave.formats.alf import exceptions, names
from labweave.formats.alf.path import OwnPath, alf_path

ID = "a976e418-c8b8-4d24-be47-d05120b18341"


@pytest.mark.parametrize(
    "name, parts",
    [
        ("spikes.times.npy", (None, "spikes", "times", None, None, "npy")),
        ("_ibl_trials.goCue_times_bpod.csv", ("ibl", "trials", "goCue_times", "bpod", None, "csv")),
        (
            "_spikeglx_ephysData_g0_t0.imec0.ap.cbin",
            ("spikeglx", "ephysData_g0_t0", "imec0", None, "ap", "cbin"),
        ),
        ("obj.attr.tar.gz", (None, "obj", "attr", None, "tar", "gz")),
        ("obj.times_ephysClock_minutes.npy", (None, "obj", "times", "ephysClock_minutes", None, "npy")),
        ("obj.attr_timestamps.npy", (None, "obj", "attr", "timestamps", None, "npy")),
        ("obj.attr_intervals_nidaq.npy", (None, "obj", "attr_intervals", "nidaq", None, "npy")),
        ("channels._phy_ids.csv", (None, "channels", "_phy_ids", None, None, "csv")),
        (f"_ns_obj.attr1.{ID}.metadata.json", ("ns", "obj", "attr1", None, f"{ID}.metadata", "json")),
        ("données.größe.npy", None),  # an attribute has ASCII letters only
        ("données.size.npy", (None, "données", "size", None, None, "npy")),
        # surprising, and so understood by ONE-api and its predecessor
        ("_obj.attr.npy", ("ob", "j", "attr", None, None, "npy")),
        ("__ns__obj.attr.npy", (None, "ns__obj", "attr", None, None, "npy")),
    ],
)
def test_names_have_the_parts_of_the_specification(name, parts):
    found = names.parse_name(name)
    assert (found and tuple(found[6:])) == parts
    assert names.is_valid(name) == (parts is not None)


@pytest.mark.parametrize(
    "name",
    [
        "spikes.times",
        "spike_train.npy",
        "a-b.c.npy",
        "obj..attr.npy",
        ".obj.attr.npy",
        "obj.at-tr.npy",
        "obj.attr.n-y",
        "alf/obj.attr.npy",
        "my obj.attr.npy",
        "obj.attr.npy ",
        "obj.attr.npy\n",
        "obj.a_b.",
        "obj.a_.npy",
        unicodedata.normalize("NFD", "é.attr.npy"),  # the accent alone is no letter
        "",
        ".",
        "..",
        "\0.a.b",
    ],
)
def test_what_is_no_name_is_told_so(name):
    assert not names.is_valid(name) and names.parse_name(name) is None
    assert names.name_problem(name)


@pytest.mark.parametrize("name", ["_obj.attr.npy", "__ns__obj.attr.npy", "_a.attr.npy"])
def test_names_that_mislead_are_not_to_be_stored(name):
    assert names.is_valid(name)
    assert "would be read as object" in names.name_problem(name)


def test_names_that_mean_what_they_say_can_be_stored():
    for name in ("spikes.times.npy", "_ibl_trials.goCue_times_bpod.csv", "_spikeglx_ephysData_g0_t0.imec0.ap.cbin"):
        assert names.name_problem(name) is None


def test_a_name_made_to_be_slow_is_not():
    """Nested repetition, as the specification writes extra parts, would take years here."""
    assert not names.is_valid("o.a" + ".x" * 5000 + "!")


@pytest.mark.parametrize(
    "path, parts",
    [
        ("lab/Subjects/ZM-1.x/2019-05-07/001/alf/probe00/#2022-01-01#/spikes.times.npy",
            ("lab", "ZM-1.x", "2019-05-07", "001", "alf/probe00", "2022-01-01", None, "spikes", "times", None, None, "npy")),
        ("/data/s/2019-05-07/1/obj.attr.npy",
            (None, "s", "2019-05-07", "1", None, None, None, "obj", "attr", None, None, "npy")),
        ("lab/Subjects/s/2019-05-07/001", ("lab", "s", "2019-05-07", "001") + (None,) * 8),
        ("s/2019-05-07/001/", (None, "s", "2019-05-07", "001") + (None,) * 8),
        ("s/2019-05-07/001/alf/v1.0", (None, "s", "2019-05-07", "001", "alf/v1.0") + (None,) * 7),
        ("s/2019-05-07/001/alf/#a#", (None, "s", "2019-05-07", "001", "alf", "a") + (None,) * 6),
        ("s/2019-13-07/001/a.b.c", (None, "s", "2019-13-07", "001", None, None, None, "a", "b", None, None, "c")),
        ("anywhere/a.b.c", (None,) * 7 + ("a", "b", None, None, "c")),
        # the end of a folder's name is taken
        ("my-lab/Subjects/s x/2019-05-07/001", (None, "x", "2019-05-07", "001") + (None,) * 8),
        ("my-lab/Subjects/s/2019-05-07/001", ("lab", "s", "2019-05-07", "001") + (None,) * 8),
        # no sessions, and what is not understood as a whole
        ("s/2019-05-07/0001", None),
        ("s/2019-05-07/0001/folder", None),
        ("s/2019-05-07/001/my alf/a.b.c", None),
        ("s/2019-05-07/001/alf/#a#/more/a.b.c", None),
        ("s/2019-05-07/001/#a#/#b#/a.b.c", None),
        ("s/2019-05-07/001/alf/a-b.c.npy", None),
        ("", None),
    ],
)  # fmt: skip
def test_paths_have_the_parts_of_the_specification(path, parts):
    found = names.parse_path(path)
    assert (found and tuple(found)) == parts
    assert names.parse_path(PurePosixPath(path)) == found


@pytest.mark.parametrize(
    "path, problem",
    [
        ("lab/Subjects/s/2019-05-07/001/alf/#r#/spikes.times.npy", None),
        ("s/2019-05-07/001", None),
        ("KS-1.2/2019-05-07/7/a.b.c", None),
        ("my-lab/Subjects/s/2019-05-07/001", "'my-lab' can't be a lab or subject"),
        ("lab/Subjects/s x/2019-05-07/001/a.b.c", "'s x' can't be"),
        ("root/lab/Subjects/s/2019-05-07/001", "'root/' stands before"),
        ("Subjects/s/2019-05-07/001", "'Subjects/' stands before"),
        ("s/2019-02-30/001", "no day 2019-02-30"),
        ("s/2019-05-07/1000", "no subject/date/number"),
        ("../2019-05-07/001", "is no subject"),
        ("s/2019-05-07/001/../a.b.c", "without a name, or . or .."),
        ("s/2019-05-07/001//a.b.c", "without a name"),
        ("s/2019-05-07/001/a b/a.b.c", "folders may have letters"),
        ("s/2019-05-07/001/#a#/b/a.b.c", "#revision# must be the last"),
        ("s/2019-05-07/001/_obj.attr.npy", "would be read as object 'j'"),
        ("s/2019-05-07/001/settings.json", "does not have the form"),
    ],
)
def test_what_is_stored_is_checked_as_a_whole(path, problem):
    found = names.path_problem(path)
    assert found is None if problem is None else problem in found


def test_session_paths():
    assert names.is_session_path("/data/lab/Subjects/s/2019-05-07/001/")
    assert names.is_session_path(Path("s/2019-13-07/1"))
    assert not names.is_session_path("s/2019-05-07/0001")
    assert not names.is_session_path("s/2019-05-07/001/alf")
    assert names.session_path("/data/s/2019-05-07/001/alf/a.b.c") == "/data/s/2019-05-07/001"
    assert names.session_path(Path("/d/s/2019-05-07/1/x")) == Path("/d/s/2019-05-07/1")
    for no_session in ("s/2019-13-07/001/x", "2019-05-07/001", "s/2019-05-07/0001", "/foo/bar", ""):
        assert names.session_path(no_session) is None
    assert names.session_path("x/2019-99-07/001/s/2019-05-07/002/y") == "x/2019-99-07/001/s/2019-05-07/002"
    assert names.without_session("/data/s/2019-05-07/001/alf/a.b.c") == "alf/a.b.c"
    assert names.without_session("/data/s/2019-05-07/001/") == ""
    assert names.without_session("/data/alf/a.b.c") is None


def test_relative_paths():
    assert names.split_rel_path("alf/probe00/#2022#/a.b.c") == ("alf/probe00", "2022", "a.b.c")
    assert names.split_rel_path("#2022#/a.b.c") == ("", "2022", "a.b.c")
    assert names.split_rel_path("a.b.c") == ("", "", "a.b.c")
    assert names.split_rel_path("my alf/#a#/b/x y") == ("my alf/#a#/b", "", "x y")
    assert names.split_rel_path("##/a.b.c") == ("##", "", "a.b.c")
    for rel_path in ("alf/#r#/a.b.c", "#r#/a.b.c", "alf/a.b.c", "a.b.c"):
        assert names.join_rel_path(*names.split_rel_path(rel_path)) == rel_path
    assert names.without_revision("lab/alf/#r#/a.b.c") == "lab/alf/a.b.c"
    assert names.without_revision(Path("#r#/a.b.c")) == Path("a.b.c")
    assert names.without_revision("alf/#r#") == "alf"
    assert names.without_revision("/alf/a.b.c") == "/alf/a.b.c"
    assert names.without_revision("/#r#/a.b.c") == "/a.b.c"


def test_session_folders_are_padded():
    day = dt.date(2019, 5, 7)
    assert names.session_folder("lab", "s", day, 1) == "lab/Subjects/s/2019-05-07/001"
    assert names.session_folder(None, "s", dt.datetime(2019, 5, 7, 12), "7") == "s/2019-05-07/007"
    for bad in [("my-lab", "s", day, 1), ("l", "s x", day, 1), ("l", "s", day, 1000), ("l", "s", "2019-13-01", 1)]:
        with pytest.raises(exceptions.ALFInvalid):
            names.session_folder(*bad)
    assert names.padded_sequence("/d/s/2019-05-07/1/alf/a.b.c") == "/d/s/2019-05-07/001/alf/a.b.c"
    assert names.padded_sequence(Path("s/2019-05-07/001")) == Path("s/2019-05-07/001")
    with pytest.raises(ValueError, match="no subject/date/number"):
        names.padded_sequence("2019-05-07/1")


def test_uuids_in_names():
    other = UUID("b976e418-c8b8-4d24-be47-d05120b18341")
    assert names.with_uuid("/d/trials.intervals.npy", ID) == f"/d/trials.intervals.{ID}.npy"
    assert names.with_uuid(Path(f"d/a.b.{ID}.c"), other) == Path(f"d/a.b.{other}.c")
    assert names.without_uuid(f"/d/a.b.{ID}.c") == "/d/a.b.c"
    assert names.without_uuid(Path("d/a.b.c")) == Path("d/a.b.c")
    assert names.without_uuid(f"/d/a.b.{ID}x.c") == f"/d/a.b.{ID}x.c"
    for odd in ("README", "d.x/README", "d.x/.hidden", "/d.x/y/README"):
        assert names.with_uuid(odd, ID) == f"{odd}.{ID}" and names.without_uuid(f"{odd}.{ID}") == odd
    assert names.without_uuid(f"d/{ID}.npy") == f"d/{ID}.npy"
    with pytest.raises(exceptions.ALFInvalid, match="no UUID"):
        names.with_uuid("a.b.c", ID.upper())
    assert names.is_uuid(ID) and names.is_uuid(UUID(ID)) and names.is_uuid(ID.replace("-", ""))
    assert not names.is_uuid("6ba7b810-9dad-11d1-80b4-00c04fd430c8")  # version 1
    assert not names.is_uuid("x") and not names.is_uuid(None) and not names.is_uuid_string(UUID(ID))


@pytest.mark.parametrize(
    "arguments, name",
    [
        (("spikes", "times", "ssv"), "spikes.times.ssv"),
        (("spikes", "times", ".ssv", "ibl"), "_ibl_spikes.times.ssv"),
        (("spikes", "times", "ssv", "ibl", ("ephys clock", "minutes")), "_ibl_spikes.times_ephysClock_minutes.ssv"),
        (("wheel", "timestamps", "npy", "ibl", "bpod", ("raw", "v12")), "_ibl_wheel.timestamps_bpod.raw.v12.npy"),
        (("wheel", "my_attr", "npy", None, None, "raw.v12"), "wheel.myAttr.raw.v12.npy"),
        (("wheel", "go_cue_times", "npy"), "wheel.goCue_times.npy"),
        (("mpci ROIs", "NeuropilMasks", "npy"), "mpciROIs.neuropilMasks.npy"),
    ],
)
def test_names_are_made_in_camel_case(arguments, name):
    assert names.to_alf(*arguments) == name


@pytest.mark.parametrize(
    "arguments",
    [
        ("spikes", "times", "npy", "my_lab"),
        ("_spikes", "times", "npy"),
        ("spi.kes", "times", "npy"),
        ("spikes", "ti.mes", "npy"),
        ("spikes", "at-tr", "npy"),
        ("spikes", "times", "n.py"),
        ("spikes", "times", "npy", None, "a.b"),
        ("", "times", "npy"),
        ("spikes", "", "npy"),
        ("spikes", "times", "npy", None, None, "a/b"),
    ],
)
def test_names_that_would_not_be_alf_are_not_made(arguments):
    with pytest.raises(ValueError):
        names.to_alf(*arguments)


def test_a_name_needs_an_extension():
    with pytest.raises(TypeError, match="extension"):
        names.to_alf("spikes", "times", "")


WORD = st.text("abzAZ09", min_size=1, max_size=5)
LONG = st.from_regex(r"[ab][ab_]{0,5}[ab]", fullmatch=True)
PARTS = st.builds(
    names.Parts,
    lab=st.none() | st.text("abc_1", min_size=1, max_size=4),
    subject=st.from_regex(r"[a-c][a-c.-]{0,6}", fullmatch=True),
    date=st.dates().map(dt.date.isoformat),
    number=st.integers(0, 999).map(str),
    collection=st.none() | st.lists(st.text("abc_.1-", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join),
    revision=st.none() | st.text("ab1-._", min_size=1, max_size=5),
    namespace=st.none() | WORD,
    object=LONG,
    attribute=st.builds("".join, st.tuples(WORD, st.sampled_from(["", "_times", "_intervals"]))),
    timescale=st.none() | LONG,
    extra=st.none() | st.lists(st.text("ab-_1", min_size=1, max_size=4), min_size=1, max_size=3).map(".".join),
    extension=WORD,
)


@given(PARTS)
def test_a_path_is_parsed_into_the_parts_it_is_built_of(parts):
    folders = [parts.lab and f"{parts.lab}/Subjects", parts.subject, parts.date, parts.number, parts.collection]
    folders.append(parts.revision and f"#{parts.revision}#")
    namespace, timescale, extra = parts.namespace, parts.timescale, parts.extra
    name = f"_{namespace}_" if namespace else ""
    name += f"{parts.object}.{parts.attribute}"
    name += (f"_{timescale}" if timescale else "") + (f".{extra}" if extra else "") + f".{parts.extension}"
    path = "/".join(filter(None, [*folders, name]))
    assert names.parse_path(f"/some/folder/{path}") == parts
    assert names.parse_name(name) == names.Parts(None, None, None, None, None, None, *parts[6:])
    assert names.path_problem(path) is None or {".", ".."} & set(path.split("/"))


@given(st.text(max_size=40) | st.text("a_.-#/ 0é\n", max_size=40))
def test_any_text_has_an_answer(text):
    for function in (names.parse_name, names.parse_path, names.parse_session, names.session_path, names.name_problem):
        function(text)
    for function in (names.path_problem, names.is_session_path, names.split_rel_path, names.without_revision):
        function(text)
    names.without_uuid(text)


def test_own_paths_have_the_parts_as_properties():
    path = OwnPath("/d/lab/Subjects/s/2019-05-07/1/alf/#r#/_ns_obj.attr_clock.x.y.npy")
    assert (path.lab, path.subject, path.date, path.sequence) == ("lab", "s", "2019-05-07", "1")
    assert (path.collection, path.revision, path.namespace, path.object) == ("alf", "r", "ns", "obj")
    assert (path.attribute, path.timescale, path.extra) == ("attr", "clock", "x.y")
    assert path.is_dataset() and path.is_valid_alf() and not path.is_session_path()
    assert path.session_path() == OwnPath("/d/lab/Subjects/s/2019-05-07/1")
    assert path.session_path_short() == "s/2019-05-07/1"
    assert path.session_path_short(include_lab=True) == "lab/s/2019-05-07/1"
    assert path.relative_to_session() == OwnPath("alf/#r#/_ns_obj.attr_clock.x.y.npy")
    assert path.without_revision().parent == OwnPath("/d/lab/Subjects/s/2019-05-07/1/alf")
    assert path.with_padded_sequence().sequence == "001"
    assert path.with_uuid(ID).without_uuid() == path
    assert all(isinstance(each, OwnPath) for each in (path.parent, path.with_uuid(ID), path.session_path(), path / "x"))
    assert OwnPath("x").lab == OwnPath("x").collection == OwnPath("x").object == ""
    with pytest.raises(ValueError):
        OwnPath("/x").relative_to_session()


WITHOUT_PEER = """
import sys
sys.modules["one"] = None
from labweave.errors import LabweaveError
from labweave.formats.alf import exceptions, load_file, path
assert path.path_class() is path.OwnPath
assert type(load_file(sys.argv[1])) is path.OwnPath
assert issubclass(exceptions.ALFObjectNotFound, LabweaveError) and issubclass(exceptions.ALFInvalid, ValueError)
assert issubclass(exceptions.ALFWarning, Warning)
heavy = {"numpy", "pandas", "pyarrow", "yaml"} & set(sys.modules)
assert not heavy, heavy
"""


def test_it_works_without_one_api_and_imports_nothing_heavy(tmp_path):
    (tmp_path / "a.b.txt").write_text("x")
    subprocess.run([sys.executable, "-c", WITHOUT_PEER, str(tmp_path / "a.b.txt")], check=True, timeout=60)


def test_errors_are_labweaves_with_the_builtin_ones_clients_catch():
    for name in ("ALFObjectNotFound", "ALFMultipleObjectsFound", "ALFMultipleCollectionsFound", "ALFInvalid"):
        assert issubclass(getattr(exceptions, name), LabweaveError)
    assert issubclass(exceptions.ReferenceNotFound, AssertionError)
    assert issubclass(exceptions.ALFAmbiguousAttributes, AssertionError)
    assert str(exceptions.ALFError("a", 1)) == '"a", "1"'
    assert str(exceptions.ALFObjectNotFound("No x.", terse=True)) == "No x."
    assert str(exceptions.ALFMultipleRevisionsFound("Two.")) == "Two. Give the revision."


def test_a_session_below_a_root_has_its_parts():
    path = alf_path("/data", "lab/Subjects/KS005/2020-01-31/001")
    assert path == Path("/data/lab/Subjects/KS005/2020-01-31/001") and path.name == "001"
    assert (path.lab, path.subject, path.date, path.sequence) == ("lab", "KS005", "2020-01-31", "001")

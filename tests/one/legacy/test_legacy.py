"""The front end of the seed: its names and signatures, and what the table of edge cases does not ask."""

from __future__ import annotations

import hashlib
import inspect
import typing
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import one_lab
import pandas as pd
import pytest
import requests
from conftest import PREFIX, empty
from file_server import FileServer
from one_lab import HOT, S1, S2, S4, S8, SESSIONS, UNKNOWN

import labweave
from labweave import one as package
from labweave.errors import LabweaveError
from labweave.formats.alf.bunch import AlfBunch
from labweave.formats.alf.exceptions import ALFMultipleCollectionsFound, ALFObjectNotFound, ALFWarning
from labweave.one import ONE, Listable, OneAbstract, OneAlyx, OneOffline, SessionDataInfo, parse_id
from labweave.one.legacy.settings_file import write_table
from labweave.settings import load_settings

SEED = {
    OneAbstract: {
        "__init__": "username=None, password=None, base_url=None, cache_dir=None, silent=None",
        "load": None,
        "list": None,
        "search": None,
    },
    OneOffline: {"load": "eid", "list": "", "search": ""},
    OneAlyx: {
        "help": "dataset_type=None",
        "list": "eid=None, details=False",
        "load": (
            "eid, dataset_types=None, dclass_output=False, dry_run=False, cache_dir=None, download_only=False, "
            "clobber=False, offline=False, keep_uuid=False"
        ),
        "load_dataset": "eid, dataset, collection=None, download_only=False",
        "load_object": "eid, obj, collection='alf', download_only=False",
        "to_eid": "id=None, cache_dir=None",
        "search": "details=False, limit=None",
        "download_datasets": "dsets",
        "download_dataset": "dset, cache_dir=None",
        "search_terms": "",
        "keywords": "",
        "setup": "",
        "path_from_eid": "eid, use_cache=True",
        "eid_from_path": "path_obj, use_cache=True",
        "url_from_path": "filepath",
        "datasets_from_type": "eid, dataset_type, full=False",
        "get_details": "eid, full=False",
        "download_raw_partial": "url_cbin, url_ch, first_chunk=0, last_chunk=0",
    },
}
NAMES = [(cls, name) for cls, methods in SEED.items() for name in methods]


@pytest.mark.parametrize(("cls", "name"), NAMES, ids=[f"{cls.__name__}.{name}" for cls, name in NAMES])
def test_every_method_of_the_seed_has_its_arguments(cls, name):
    method, expected = getattr(cls, name), SEED[cls][name]
    if expected is None:
        assert name in cls.__abstractmethods__
        return
    given = [one for one in inspect.signature(method).parameters.values() if one.name != "self"]
    text = [one.name + ("" if one.default is one.empty else f"={one.default!r}") for one in given if one.kind == 1]
    assert text[: len(expected.split(", ")) if expected else 0] == (expected.split(", ") if expected else [])
    assert method.__doc__ or name == "__init__"


def test_the_package_has_the_seeds_names():
    assert {"Listable", "ONE", "parse_id", "OneAbstract", "OneAlyx", "OneOffline"} <= set(package.__all__)
    assert Listable(str) == typing.Union[str, Sequence[str]]  # noqa: UP007
    assert (
        isinstance(OneAlyx.alyx, property) and issubclass(OneAlyx, OneAbstract) and issubclass(OneOffline, OneAbstract)
    )
    with pytest.raises(TypeError):
        OneAbstract()
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = package.nothing_such


def test_parse_id_gives_any_method_an_eid():
    class Reader:
        def to_eid(self, id):
            return None if id == "nowhere" else f"eid of {id}"

        @parse_id
        def read(self, eid, more=1):
            """Read."""
            return eid, more

    read = Reader().read
    assert read("x") == read(id="x") == read(eid="x") == ("eid of x", 1) and read("x", 2) == ("eid of x", 2)
    assert read.__doc__ == "Read."
    with pytest.raises(ValueError, match="nowhere"):
        read("nowhere")
    for twice in ({"id": "x", "eid": "x"}, {}):
        with pytest.raises(TypeError):
            read(**twice)
    with pytest.raises(TypeError):
        read("x", eid="x")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    one_lab.write_files(folder)
    return folder


@pytest.fixture(scope="module")
def server(root):
    """A data server with the lab's files, named as data servers name them."""
    files = {}
    for row in one_lab.datasets(root).itertuples():
        path = Path(SESSIONS.path[row.eid], row.relative_path)
        name = f"{path.stem}.{row.dataset_id}{path.suffix}"
        files[f"files/{path.with_name(name).as_posix()}"] = (root / path).read_bytes()
    with FileServer(files) as opened:
        yield opened


@pytest.fixture(scope="module")
def lab(_tables, database_url, root, server):
    with labweave.connect(database_url, prefix=PREFIX) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_lab, "DATA_URL", f"{server.url}/files")
        empty(database)
        one_lab.fill(root)
        yield database


@pytest.fixture
def here(lab, root):
    """ONE where the files are."""
    return ONE(offline=True, cache_dir=root, silent=True)


@pytest.fixture
def away(lab, tmp_path, server):
    """ONE with an empty cache folder and a data server."""
    server.log.clear()
    return ONE(cache_dir=tmp_path / "cache", silent=True)


# what it says


def test_only_a_talking_one_says_that_it_is_connected(lab, root, capsys):
    ONE(cache_dir=root, silent=True)
    ONE(cache_dir=root, silent=True).search(subject="KS005")
    assert capsys.readouterr().out == ""
    one = ONE(cache_dir=root, username="olivier", password="swordfish")
    assert "Connected to" in (said := capsys.readouterr().out) and "olivier" in said
    assert "swordfish" not in f"{said} {one!r} {one._par!r} {vars(one)!r}"


def test_setup_never_asks_without_a_terminal(lab, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    with open("/dev/null") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert OneAlyx.setup() is None
    assert "LABWEAVE_ONE_CACHE_DIR" in capsys.readouterr().out


def test_settings_are_written_beside_others(tmp_path, monkeypatch):
    path = tmp_path / "labweave.toml"
    path.write_text('lab = "mylab"\n\n[one]\ncache_dir = "/old"\n\n[database]\nprefix = "x_"\n')
    monkeypatch.setenv("LABWEAVE_CONFIG", str(path))
    for password in ('a"b\\c', "plain"):
        write_table(path, {"cache_dir": "/new", "data_url": "https://d", "data_user": "me", "data_password": password})
        settings = load_settings()
        assert (settings.lab, settings.database.prefix, str(settings.one.cache_dir)) == ("mylab", "x_", "/new")
        assert settings.one.data_password.get_secret_value() == password
    assert path.read_text().count("[one]") == 1 and path.stat().st_mode & 0o077 == 0


def test_help_prints_what_a_type_is(here, capsys):
    assert {"name", "description", "filename_pattern"} <= set(here.help()[0])
    here.help(["trials.choice", "wheel.position"])
    assert capsys.readouterr().out.count("\n") == 2
    assert here.help(5) is None and "Should be str" in capsys.readouterr().out
    with pytest.raises(requests.HTTPError):
        here.help("no.such")


def test_words(here):
    assert here.search_terms() == sorted(
        [
            "dataset_types",
            "date_range",
            "lab",
            "location",
            "number",
            "performance_gte",
            "performance_lte",
            "project",
            "subject",
            "task_protocol",
            "users",
        ]
    )
    assert here.keywords() == ["dataset-types", "datasets", "labs", "subjects", "users"]


# lists and details


def test_list(here):
    names = here.list()
    assert "trials.choice" in names and names == sorted(names) and here.list(details=True) == names
    paths = here.list(S4)
    assert paths == sorted(paths) and all(isinstance(one, Path) for one in paths)
    assert paths.count(Path("alf/probe00/pykilosort/spikes.times.npy")) == 3  # once per revision
    records = here.list(uuid.UUID(S4), details=True)
    assert len(records) == len(paths) and {"name", "collection", "file_records", "revision"} <= set(records[0])
    assert here.list(id=S8) == here.list(SESSIONS.path[S8]) == []
    for wrong in ("foo", "/x/mainenlab/Subjects/ZM_1150/1999-05-07/001"):
        with pytest.raises(ValueError):
            here.list(wrong)


def test_details(here, root):
    short = here.get_details(S1)
    assert {"subject", "start_time", "number", "lab", "project", "url", "task_protocol", "local_path"} <= set(short)
    assert short["local_path"] == root / SESSIONS.path[S1] and short["start_time"] == "2019-05-07T10:00:00"
    eids, rows = here.search(subject="ZM_1150", details=True)
    assert eids == [row["id"] for row in rows] == [S2, S1] and rows[1]["local_path"] == str(short["local_path"])
    assert rows[0]["start_time"] == "2019-05-07T14:30:00.500000" and rows[0]["url"].endswith(S2)
    full = here.get_details(S4, full=True)
    assert full["users"] == ["olivier"] and len(full["probe_insertion"]) == 2 and full["n_correct_trials"] == 390
    assert len(full["data_dataset_session_related"]) == len(here.list(S4))


def test_details_of_what_is_no_eid_are_none(here, capsys):
    assert here.get_details("foo") is None and here.path_from_eid("foo") is None
    assert capsys.readouterr().out.count("not a valid") == 2


def test_datasets_of_a_type(here):
    assert here.datasets_from_type(S4, "trials.choice") == ["_av_trials.choice.npy", "_ibl_trials.choice.npy"]
    assert len(here.datasets_from_type(S4, ["trials.choice", "spikes.times"])) == 7
    record = here.datasets_from_type(S1, "licks.times", full=True)[0]
    assert record["name"] == "licks.times.npy" and record["file_records"][0]["exists"] is True
    assert here.datasets_from_type(S1, "no.such") == []
    with pytest.raises(ALFObjectNotFound):
        here.datasets_from_type(UNKNOWN, "trials.choice")


def test_urls(here, server):
    path = f"/any/where/{SESSIONS.path[S4]}/alf/probe01/spikes.times.npy"
    url = here.url_from_path(path)
    assert url.startswith(f"{server.url}/files/{SESSIONS.path[S4]}/alf/probe01/spikes.times.") and url.count("-") > 4
    assert "%23" in here.url_from_path(f"{SESSIONS.path[S4]}/alf/probe00/pykilosort/#{HOT}#/spikes.times.npy")
    for wrong in ("/foo/bar", f"{SESSIONS.path[S4]}/alf/no.such.npy", f"{SESSIONS.path[S8]}/alf/spikes.times.npy"):
        with pytest.raises(ALFObjectNotFound):
            here.url_from_path(wrong)


# loading


def test_load_by_type(here, root):
    choice, nothing, intervals = here.load(S1, ["trials.choice", "no.such", "trials.intervals"])
    np.testing.assert_array_equal(choice, one_lab.contents()[S1]["alf/_ibl_trials.choice.npy"])
    assert nothing is None and intervals.shape == (100, 2)
    times = here.load(S4, "spikes.times")
    assert [len(one) for one in times] == [200, 200, 10, 150, 120]  # by collection, then revision
    paths = here.load(S4, ["spikes.times"], download_only=True)
    assert paths[0] == root / SESSIONS.path[S4] / "alf/probe00/spikes.times.npy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ALFWarning)
        kinds = here.load(S1, ["empty.file", "obj.text", "trials.table"])
    assert kinds[0].name == "empty.file.npy" and kinds[1].name == "obj.text.txt" and isinstance(kinds[2], pd.DataFrame)


@pytest.mark.filterwarnings("ignore::labweave.formats.alf.exceptions.ALFWarning")
def test_load_as_a_dataclass(here):
    found = here.load(S4, ["trials.choice"], dclass_output=True)
    assert isinstance(found, SessionDataInfo) and len(found) == 2 and found.eid == [S4, S4]
    assert found[0].dataset_type == "trials.choice" and len(found[1].data) == 400
    assert "dataset_type" in str(found) and str(SessionDataInfo())
    processed, everything = here.load(S1), here.load(S1, "__all__")
    assert {path.parts[-2] for path in processed.local_path} == {"alf"}
    assert len(everything) == len(here.list(S1)) > len(processed)
    joined = here.load([S1, S2], ["trials.choice"], dclass_output=True)
    assert joined.eid == [S1, S2] and here.load([], ["trials.choice"]) == [] and len(here.load([])) == 0


def test_a_dry_run_loads_nothing(away, server):
    assert away.load(S2, ["trials.choice"], dry_run=True) == [None]
    assert server.log == []


@pytest.mark.filterwarnings("ignore::labweave.formats.alf.exceptions.ALFWarning")
def test_load_object_filters(here):
    assert set(here.load_object(S1, "trials", attribute="choice")) == {"choice"}
    assert len(here.load_object(S4, "spikes", collection="probe01").times) == 120  # found anywhere
    assert len(here.load_object(S4, "spikes", collection="alf/probe00$").times) == 200
    assert len(here.load_object(S4, "spikes", collection="*probe01").times) == 120
    files = here.load_object(S4, "trials", namespace="av", download_only=True)
    assert [path.name for path in files] == ["_av_trials.choice.npy"]
    assert isinstance(here.load_object(S2, "trials"), AlfBunch)
    for collection in ("all", None, ""):
        with pytest.raises(ALFMultipleCollectionsFound):
            here.load_object(S4, "spikes", collection=collection)


# downloads


def test_files_are_downloaded_once_and_checked(away, server, root):
    found = away.load_object(S2, "trials")
    n_requests = len(server.log)
    assert len(found.choice) == 100 and n_requests == 5
    away.load_object(S2, "trials")
    assert len(server.log) == n_requests
    path = away.load_dataset(S2, "_ibl_trials.choice.npy", download_only=True)
    assert path.is_relative_to(away._par.CACHE_DIR) and path.as_posix().endswith(
        f"{SESSIONS.path[S2]}/alf/_ibl_trials.choice.npy"
    )
    away.load(S2, ["trials.choice"], clobber=True)
    assert len(server.log) == n_requests + 1


def test_a_revised_file_is_downloaded(away):
    assert len(away.load_dataset(S4, "spikes.times.npy", collection="alf/probe00/pykilosort")) == 150
    assert f"#{HOT}#" in str(away.load_dataset(S4, "spikes.times.npy", "alf/probe00/pykilosort", download_only=True))


def test_ids_stay_in_names(away, tmp_path):
    (path,) = away.load(S2, ["trials.choice"], keep_uuid=True, download_only=True, cache_dir=tmp_path / "other")
    assert isinstance(path, str) and path.startswith(str(tmp_path / "other")) and Path(path).name.count("-") == 4


def test_offline_nothing_is_downloaded(away, lab, tmp_path, server):
    for one, options in ((away, {"offline": True}), (ONE(offline=True, cache_dir=tmp_path, silent=True), {})):
        with pytest.raises(FileNotFoundError) as caught:
            one.load(S2, ["trials.choice"], **options)
        assert isinstance(caught.value, LabweaveError)
    with pytest.raises(FileNotFoundError):
        ONE(offline=True, cache_dir=tmp_path, silent=True).load_dataset(S2, "trials.choice")
    assert server.log == []


def test_datasets_are_downloaded_from_records_addresses_and_ids(away, server):
    record = away.list(S2, details=True)[0]
    nested = away.get_details(S2, full=True)["data_dataset_session_related"][0]
    address = away.url_from_path(f"{SESSIONS.path[S2]}/alf/{record['name']}")
    id = record["url"][-36:]
    paths = away.download_datasets([record, address, id, uuid.UUID(id), nested])
    assert len(set(paths)) == 1 and paths[0].name == record["name"] and len(server.log) == 1
    assert away.download_dataset(record, clobber=True) == paths[0] and len(server.log) == 2
    assert isinstance(away.download_dataset(record, keep_uuid=True), str)
    with pytest.raises(ValueError, match="no known dataset"):
        away.download_datasets([str(uuid.uuid4())])


def test_a_file_of_the_address_of_no_dataset(away, server):
    content = b"unregistered"
    server.files["files/mainenlab/Subjects/ZM_1150/2019-05-07/002/alf/#new#/more.data.npy"] = content
    path = away.download_dataset(
        f"{server.url}/files/mainenlab/Subjects/ZM_1150/2019-05-07/002/alf/#new#/more.data.npy"
    )
    assert path.read_bytes() == content and path.parent.name == "#new#"


def test_alyx_downloads_files(away, server, tmp_path):
    url = away.url_from_path(f"{SESSIONS.path[S2]}/alf/_ibl_trials.choice.npy")
    path, md5 = away.alyx.download_file(url, target_dir=tmp_path, return_md5=True)
    assert hashlib.md5(path.read_bytes()).hexdigest() == md5 and path.name in url
    (part,) = away.alyx.download_file([url], target_dir=tmp_path / "part", chunks=(0, 6))
    assert part.read_bytes() == b"\x93NUMPY" == path.read_bytes()[:6]
    relative = url.removeprefix(f"{away._par.HTTP_DATA_SERVER}/")
    assert f"{server.url}/files" == away._par.HTTP_DATA_SERVER and away.alyx.download_file(relative).is_file()


def test_from_pandas_takes_the_seeds_local_table():
    eid, id = uuid.UUID(S1), uuid.UUID(S2)
    halves = {
        f"{name}_{half}": [int(np.frombuffer(one.bytes, np.int64)[half])]
        for name, one in (("id", id), ("eid", eid))
        for half in (0, 1)
    }
    table = pd.DataFrame(
        {
            **halves, "name": ["a.b.npy"], "dataset_type": ["a.b"], "file_size": [4.0], "hash": ["x"], "collection": ["alf"],
            "subject": ["KS"], "lab": ["lab"], "start_time": pd.to_datetime(["2020-01-02T03:04:05"]), "number": [2],
        }
    )  # fmt: skip
    found = SessionDataInfo.from_pandas(table, "/data")
    assert (found.dataset_id, found.eid) == ([S2], [S1])
    assert found.local_path == [Path("/data/lab/Subjects/KS/2020-01-02/002/alf/a.b.npy")]
    assert len(SessionDataInfo.from_pandas(table.iloc[:0], "/data")) == 0


def test_from_session_details_chooses_as_load_does(here):
    record = here.get_details(S1, full=True)
    found = SessionDataInfo.from_session_details(record, eid=S1)
    assert len(found) == len(here.load(S1)) and set(found.eid) == {S1}
    assert len(SessionDataInfo.from_session_details([record, record], ["__all__"])) == 2 * len(here.list(S1))
    assert SessionDataInfo.from_session_details(record, ["licks.times"]).dataset_type == ["licks.times"]

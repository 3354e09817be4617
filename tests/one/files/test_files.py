"""Files on demand, with a real server that breaks, lies and forgets."""

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import warnings
from urllib.parse import quote, unquote

import fsspec
import pytest
from alyx_recordings import load_recordings
from file_server import PASSWORD, USER, Fault, FileServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labweave.errors import ConfigError
from labweave.formats.alf.exceptions import ALFWarning
from labweave.one.core import Core
from labweave.one.files import download as download_module
from labweave.one.files import sources
from labweave.one.files.cache import Files
from labweave.one.files.folders import PathEscapes, path_of_url, url_of
from labweave.one.files.sources import DataLogin, DownloadError, HostUnreachable, WrongContent
from labweave.one.search.rows import CopyRow, DatasetRow
from labweave.settings import load_settings

SESSION = "cortexlab/Subjects/KS005/2019-04-11/001"
NAME = "alf/probe00/#2024-05-06#/spikes.times.npy"
CONTENT = random.Random(1).randbytes(500_000)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(download_module, "FIRST_WAIT_SECONDS", 0.001)


@pytest.fixture
def server():
    with FileServer({}) as server:
        yield server


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "cache", silent=True)


def register(server, name=NAME, content=CONTENT, *, size=None, hash="md5", copies=None, served=True, url=None):
    """Put a file on the server as a data server has it, and return its dataset."""
    id = str(uuid.uuid3(uuid.NAMESPACE_URL, name))
    stem, dot, extension = name.rpartition(".")
    if served and server is not None:
        server.files[f"{SESSION}/{stem}.{id}.{extension}"] = content
    if copies is None:
        copies = (remote(url or server.url, name),)
    digest = hashlib.new(hash, content).hexdigest() if hash else ""
    n_bytes = len(content) if size is None else size
    return dataset(id, f"{SESSION}/{name}", copies, size=n_bytes, hash=digest)


def dataset(id, path, copies=(), **registered):
    """Return a dataset with this path in the cache folder."""
    folder, _, name = path.rpartition("/")
    return DatasetRow(None, folder, name, id=id, copies=tuple(copies), **registered)


def remote(url, name=NAME):
    return CopyRow("flatiron", "server", f"{url}/cortexlab/Subjects/", "", "", f"KS005/2019-04-11/001/{name}")


def local(folder, name=NAME):
    return CopyRow("nas", "personal", "", str(folder), "nas.example.org", f"KS005/2019-04-11/001/{name}")


def write(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- which file


def test_a_file_comes_once_and_nothing_else_is_left(server, files):
    wanted = register(server)
    [path] = files.get([wanted])
    assert path == files.cache_dir / SESSION / NAME
    assert path.read_bytes() == CONTENT
    assert everything_in(files.cache_dir) == [f"{SESSION}/{NAME}"]
    assert files.get([wanted]) == [path]
    assert len(server.log) == 1


@pytest.mark.parametrize("has_uuid", [False, True])
def test_a_repository_on_this_machine_comes_first(server, files, tmp_path, has_uuid):
    wanted = register(server, copies=(remote(server.url), local(tmp_path / "nas")))
    name = NAME.replace(".npy", f".{wanted.id}.npy") if has_uuid else NAME
    there = write(tmp_path / "nas/KS005/2019-04-11/001" / name)
    write(files.cache_dir / SESSION / NAME)
    assert files.get([wanted], clobber=True) == [there]
    assert server.log == []


def test_the_order_is_kept_and_what_is_nowhere_is_none(server, files):
    names = [f"alf/clusters.metric{i}.npy" for i in range(12)]
    wanted = [register(server, name, name.encode()) for name in names]
    nowhere = register(None, "alf/no.where.npy", copies=())
    found = files.get([*wanted[:6], nowhere, *wanted[6:], wanted[0]])
    assert [path and path.name for path in found] == [
        *(name[4:] for name in names[:6]), None, *(name[4:] for name in names[6:]), names[0][4:],
    ]  # fmt: skip
    assert all(path.read_bytes() == f"alf/{path.name}".encode() for path in found if path)
    assert len(server.log) == 12


def test_offline_opens_no_connection(server, files):
    wanted = register(server)
    assert files.get([wanted], offline=True) == [None]
    assert Files(files.cache_dir, offline=True).get([wanted]) == [None]
    write(files.cache_dir / SESSION / NAME)
    assert files.get([wanted], offline=True, clobber=True) == [files.cache_dir / SESSION / NAME]
    assert server.log == []


def test_a_dry_run_touches_nothing(server, files):
    assert files.get([register(server)], dry_run=True) == [None]
    assert server.log == []
    assert not files.cache_dir.exists()


def test_keep_uuid_and_another_cache_folder(server, files, tmp_path):
    wanted = register(server)
    [path] = files.get([wanted], keep_uuid=True, cache_dir=tmp_path / "other")
    assert path.name == f"spikes.times.{wanted.id}.npy"
    assert path.is_relative_to(tmp_path / "other")
    assert path.read_bytes() == CONTENT


def test_clobber_downloads_again(server, files):
    wanted = register(server)
    path = write(files.cache_dir / SESSION / NAME, b"changed by hand")
    assert files.get([wanted], clobber=True) == [path]
    assert path.read_bytes() == CONTENT


def test_the_address_has_the_uuid_and_no_fragment(files):
    wanted = register(None, copies=(local("/nas"), remote("https://data.example.org/x y")))
    assert url_of(wanted) == (
        "https://data.example.org/x y/cortexlab/Subjects/KS005/2019-04-11/001/alf/probe00/%232024-05-06%23/"
        f"spikes.times.{wanted.id}.npy"
    )
    assert url_of(register(None, copies=(local("/nas"),))) is None


def test_addresses_are_those_that_alyx_gives(shared):
    """Alyx tells the address of each file record, but leaves # and umlauts in it as they are."""
    base = load_recordings(shared / "data" / "alyx_rest")
    roots = {row.shown["name"]: row.shown["data_url"] for row in base.resources["data-repository"].values()}
    n_compared = 0
    for row in base.resources["datasets"].values():
        for record in row.shown["file_records"]:
            if record["data_url"]:
                root, relative = roots[record["data_repository"]], record["relative_path"]
                copy = CopyRow(record["data_repository"], "server", root, "", "", relative)
                url = url_of(dataset(row.id, "", [copy]))
                assert unquote(url) == record["data_url"]
                assert url.isascii() and "#" not in url
                if "/Subjects/" in root and row.shown["session"]:
                    assert path_of_url(url) == "/".join([*root.split("/")[-3:-1], relative])
                n_compared += 1
    assert n_compared > 100


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_path_of_an_address_is_that_of_the_cache(scheme):
    name = "alf/#2024-05-06#/spikes.times.4a8b1f84-7d2c-4d2f-9a7b-2f1f2a3b4c5d.npy"
    expected = f"{SESSION}/alf/#2024-05-06#/spikes.times.npy"
    for text in (name, quote(name)):
        assert path_of_url(f"{scheme}://data.example.org/public/{SESSION}/{text}") == expected
    assert path_of_url("https://data.example.org/aggregates/x.pqt") is None


def test_a_server_without_uuids_in_its_names(server, files):
    wanted = register(server, served=False)
    server.files[f"{SESSION}/{NAME}"] = CONTENT
    assert files.get([wanted])[0].read_bytes() == CONTENT


def test_the_next_copy_is_asked_when_one_fails(server, files):
    with FileServer({}) as empty:
        wanted = register(server, copies=(remote(empty.url), remote(server.url)))
        assert files.get([wanted])[0].read_bytes() == CONTENT


# --- size and hash


@pytest.mark.parametrize("hash", ["md5", "sha1"])
@pytest.mark.parametrize("clobber", [False, True])
def test_wrong_bytes_are_an_error_and_leave_the_old_file(server, files, hash, clobber):
    wanted = register(server, hash=hash)
    path = files.cache_dir / SESSION / NAME
    if clobber:
        write(path, b"old")
    server.faults.append(Fault(content=CONTENT[::-1]))
    with pytest.raises(WrongContent, match=f"its {hash} is .* registered is {wanted.hash}"):
        files.get([wanted], clobber=clobber)
    assert everything_in(files.cache_dir) == ([f"{SESSION}/{NAME}"] if clobber else [])
    if clobber:
        assert path.read_bytes() == b"old"
    files.get([wanted], clobber=True)
    assert path.read_bytes() == CONTENT


def test_a_failed_download_makes_no_folders(server, files):
    with pytest.raises(DownloadError):
        files.get([register(server, served=False)])
    assert not files.cache_dir.exists()


def test_wrong_bytes_are_not_fetched_twice(server, files):
    wanted = register(server)
    [name] = server.files
    server.files[name] = CONTENT[::-1]
    for _ in range(3):
        with pytest.raises(WrongContent):
            files.get([wanted])
    server.files[name] = CONTENT
    assert files.get([wanted])[0].read_bytes() == CONTENT


def test_another_size_is_an_error_before_the_bytes_come(server, files):
    wanted = register(server, size=499_999)
    with pytest.raises(WrongContent, match="it has 500,000 bytes, 499,999 are registered"):
        files.get([wanted])
    assert files.get([wanted], check_hash=False)[0].read_bytes() == CONTENT


def test_without_size_and_hash_the_file_is_taken_as_it_comes(server, files):
    assert files.get([register(server, size=0, hash="")])[0].read_bytes() == CONTENT


def test_a_changed_file_is_given_with_a_warning(server, files):
    wanted = register(server)
    path = write(files.cache_dir / SESSION / NAME, b"short")
    with pytest.warns(ALFWarning, match="it has 5 bytes, 500,000 are registered"):
        assert files.get([wanted]) == [path]
    path.write_bytes(CONTENT[::-1])
    with pytest.warns(ALFWarning, match="its md5 is"):
        assert files.get([wanted]) == [path]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert files.get([wanted], check_hash=False) == [path]
    assert path.read_bytes() == CONTENT[::-1]
    assert server.log == []


def test_an_unchanged_file_is_hashed_once(files):
    wanted = register(None, copies=())
    path = write(files.cache_dir / SESSION / NAME)
    stat = path.stat()
    files.get([wanted])
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files.get([wanted])  # same size, same time: not read again
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.warns(ALFWarning):
        files.get([wanted])


def test_a_hash_in_upper_case_is_the_same(server, files):
    wanted = register(server)
    upper = wanted._replace(hash=wanted.hash.upper())
    assert files.get([upper])[0].read_bytes() == CONTENT
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Files(files.cache_dir).get([upper])


# --- what breaks off


def test_a_broken_download_goes_on_where_it_was(server, files):
    server.faults += [Fault(break_after=200_000), Fault(break_after=100_000)]
    assert files.get([register(server)])[0].read_bytes() == CONTENT
    starts = [int(request.range[6:-1]) for request in server.log[1:]]
    assert 0 < starts[0] <= 200_000 < starts[1] <= 300_000
    assert all(request.headers["If-Range"] for request in server.log[1:])


def test_the_next_process_goes_on_where_the_last_gave_up(server, files):
    wanted = register(server)
    server.faults += [Fault(break_after=60_000)] * download_module.ATTEMPTS
    with pytest.raises(DownloadError, match=r"the connection to 127.0.0.1 broke, 5 times|broke after"):
        files.get([wanted])
    n_asked = len(server.log)
    assert Files(files.cache_dir, silent=True).get([wanted])[0].read_bytes() == CONTENT
    assert int(server.log[n_asked].range[6:-1]) > 0
    assert everything_in(files.cache_dir) == [f"{SESSION}/{NAME}"]


def test_a_server_that_falls_asleep(server, files, monkeypatch):
    monkeypatch.setattr(sources, "READ_SECONDS", 0.3)
    server.faults.append(Fault(pause=(end := threading.Event())))
    assert files.get([register(server)])[0].read_bytes() == CONTENT
    assert int(server.log[1].range[6:-1]) > 0
    end.set()


@pytest.mark.parametrize("has_hash", [True, False])
def test_a_file_that_changes_between_two_parts_is_fetched_anew(server, files, has_hash):
    wanted = register(server, hash="md5" if has_hash else "", size=None if has_hash else 0)
    server.faults.append(Fault(content=CONTENT[::-1], break_after=200_000))
    assert files.get([wanted])[0].read_bytes() == CONTENT


@pytest.mark.parametrize("has_hash", [True, False])
def test_without_marks_only_a_hash_lets_it_go_on(files, has_hash):
    with FileServer({}, has_marks=False) as server:
        wanted = register(server, hash="md5" if has_hash else "")
        server.faults.append(Fault(break_after=200_000))
        assert files.get([wanted])[0].read_bytes() == CONTENT
        assert (server.log[1].range is not None) == has_hash


def test_parts_of_two_files_are_noticed_by_the_hash(files):
    with FileServer({}, has_marks=False) as server:
        server.faults.append(Fault(content=CONTENT[::-1], break_after=200_000))
        assert files.get([register(server)])[0].read_bytes() == CONTENT
        assert len(server.log) == 3


def test_a_server_that_ignores_ranges(server, files):
    server.faults += [Fault(break_after=200_000), Fault(ignores_range=True)]
    assert files.get([register(server, hash="", size=0)])[0].read_bytes() == CONTENT


def test_a_length_that_is_never_reached_is_an_error(server, files):
    wanted = register(server, size=0, hash="")
    server.faults += [Fault(headers={"Content-Length": "600000"}, ignores_range=True)] * download_module.ATTEMPTS
    with pytest.raises(DownloadError, match="5 times"):
        files.get([wanted])
    assert files.get([wanted])[0].read_bytes() == CONTENT


def test_without_a_length_the_registered_size_tells_that_it_broke(server, files):
    server.faults += [Fault(is_chunked=True, break_after=100_000), Fault(is_chunked=True)]
    assert files.get([register(server)])[0].read_bytes() == CONTENT


def test_more_than_registered_is_refused(server, files):
    server.faults.append(Fault(is_chunked=True, content=CONTENT * 3))
    with pytest.raises(WrongContent, match="more than 500,000 bytes"):
        files.get([register(server)])


def test_packed_answers_are_unpacked(server, files):
    server.faults.append(Fault(is_gzip=True))
    assert files.get([register(server)])[0].read_bytes() == CONTENT
    packed = hashlib.sha256(b"x").digest() * 100
    wanted = register(server, "alf/obj.attr.tar.gz", packed)
    server.faults.append(Fault(headers={"Content-Encoding": "gzip"}))  # what the file is, not how it was sent
    assert files.get([wanted])[0].read_bytes() == packed


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            Fault, break_after=st.none() | st.integers(0, 150_000), ignores_range=st.booleans(),
            is_chunked=st.booleans(), is_gzip=st.booleans(), status=st.none() | st.sampled_from([500, 503, 429]),
        ),
        max_size=3,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_breaks_the_bytes_are_right(tmp_path_factory, faults, has_marks):
    content = CONTENT[:150_000]
    with FileServer({}, has_marks=has_marks) as server:
        server.faults += faults
        folder = tmp_path_factory.mktemp("cache")
        assert Files(folder, silent=True).get([register(server, content=content)])[0].read_bytes() == content
        assert everything_in(folder) == [f"{SESSION}/{NAME}"]


# --- what servers answer


def test_passing_errors_are_tried_again(server, files):
    server.faults += [Fault(status=500), Fault(status=503, headers={"Retry-After": "0"}), Fault(status=429)]
    assert files.get([register(server)])[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "text"),
    [(401, "LABWEAVE_ONE_DATA_USER"), (403, "may not read"), (404, "does not have it"), (418, "418")],
)
def test_answers_that_are_final(server, files, status, text):
    server.faults += [Fault(status=status)] * 2
    with pytest.raises(DownloadError, match=text) as caught:
        files.get([register(server, served=False)])
    assert caught.value.status == status


def test_a_web_page_is_not_the_file(server, files):
    server.faults.append(Fault(content=b"<html>Please log in", headers={"Content-Type": "text/html; charset=utf-8"}))
    with pytest.raises(DownloadError, match="a web page, not the file"):
        files.get([register(server, size=0, hash="")])


def test_nobody_answers(files):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        wanted = [register(None, f"alf/a.b{i}.npy", copies=[remote(url, f"alf/a.b{i}.npy")]) for i in range(50)]
        with pytest.raises(HostUnreachable, match="nothing answers at 127.0.0.1"):
            files.get(wanted)


def test_one_failure_does_not_stop_the_others(server, files):
    wanted = [register(server, f"alf/a.b{i}.npy", served=i != 1) for i in range(4)]
    with pytest.raises(DownloadError) as caught:
        files.get(wanted)
    assert [path and path.name for path in caught.value.results] == ["a.b0.npy", None, "a.b2.npy", "a.b3.npy"]


# --- logins


def test_the_login_goes_to_its_server_only(files, tmp_path):
    with FileServer({}, has_login=True) as server, FileServer({}) as other:
        login = DataLogin(server.url, USER, PASSWORD)
        mine = Files(tmp_path / "mine", login=login, silent=True)
        assert mine.get([register(server)])[0].read_bytes() == CONTENT
        mine.get([register(other, "alf/a.b.npy")])
        server.faults.append(Fault(status=302, headers={"Location": f"{other.url}/elsewhere.npy"}))
        other.files["elsewhere.npy"] = CONTENT
        assert mine.get([register(server, "alf/c.d.npy")])[0].read_bytes() == CONTENT
        assert "Authorization" in server.log[-1].headers
        assert len(other.log) == 2
        assert not any("Authorization" in request.headers for request in other.log)
        with pytest.raises(DownloadError, match="wants a login"):
            files.get([register(server)])
        wrong = Files(tmp_path / "wrong", login=DataLogin(server.url, USER, "s3cret"), silent=True)
        with pytest.raises(DownloadError, match="is wrong for this server") as caught:
            wrong.get([register(server)])
        for text in (str(caught.value), repr(caught.value), repr(wrong), repr(login), repr(vars(wrong))):
            assert "s3cret" not in text
            assert PASSWORD not in text


def test_secrets_in_addresses_are_not_shown(files):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(DownloadError) as caught:
            files.get([register(None, copies=[remote(f"http://me:s3cret@127.0.0.1:{port}")])])
    assert "s3cret" not in str(caught.value) + repr(caught.value)


def test_a_login_needs_a_server():
    with pytest.raises(ConfigError, match="LABWEAVE_ONE_DATA_URL"):
        DataLogin("", "me", "")


def test_settings_come_from_the_environment(database, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labweave.toml").write_text('[one]\ncache_dir = "~/data"\ndata_user = "from file"\n')
    monkeypatch.setenv("LABWEAVE_ONE_DATA_USER", "from environment")
    monkeypatch.setenv("LABWEAVE_ONE_DATA_PASSWORD", "s3cret")
    monkeypatch.setenv("LABWEAVE_ONE_DATA_URL", "https://data.example.org")
    one = load_settings().one
    assert one.cache_dir == one.cache_dir.home() / "data"
    assert "s3cret" not in repr(one)
    core = Core(None)
    assert core.cache_dir == one.cache_dir
    assert core.login == DataLogin("https://data.example.org", "from environment", "s3cret")


# --- paths


@pytest.mark.parametrize("path", ["../x.y.npy", "/etc/x.y.npy", "a/../../x.y.npy", "a//x.y.npy", "a\\..\\x.npy", ""])
def test_paths_of_the_tables_stay_in_the_folder(server, files, tmp_path, path):
    good = register(server)
    with pytest.raises(PathEscapes):
        files.get([dataset(good.id, path, good.copies)])
    if path.startswith("/"):  # below the root of a repository: the slash means nothing
        return
    for copy in (
        CopyRow("nas", "personal", "", str(tmp_path), "", path),
        CopyRow("s", "server", server.url, "", "", path),
    ):
        if ".." in path.split("/") or copy.root_path:
            with pytest.raises(PathEscapes):
                files.get([dataset(good.id, good.path, [copy])])
    assert server.log == []


def test_links_that_lead_out_are_refused(server, files, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (files.cache_dir / "cortexlab").mkdir(parents=True)
    (files.cache_dir / "cortexlab/Subjects").symlink_to(outside)
    with pytest.raises(PathEscapes, match="by a link"):
        files.get([register(server)])
    assert list(outside.iterdir()) == []
    write(outside / "secret", b"secret")
    inside = write(tmp_path / "nas/KS005/2019-04-11/001" / NAME)
    wanted = register(None, copies=[local(tmp_path / "nas")])
    nas = Files(tmp_path / "cache2", silent=True)
    assert nas.get([wanted]) == [inside]
    inside.unlink()
    inside.symlink_to(outside / "secret")
    with pytest.raises(PathEscapes, match="by a link"):
        nas.get([wanted])


def test_a_cache_folder_that_is_a_link_is_fine(server, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Files(tmp_path / "link", silent=True).get([register(server)])[0].read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made(server, tmp_path):
    write(tmp_path / "cache", b"a file")
    with pytest.raises(DownloadError, match="LABWEAVE_ONE_CACHE_DIR"):
        Files(tmp_path / "cache", silent=True).get([register(server)])


def test_a_full_disk_is_noticed_before_the_bytes_come(server, files):
    server.faults.append(Fault(headers={"Content-Length": str(10**18)}))
    with pytest.raises(DownloadError, match="the disk is full"):
        files.get([register(server, size=10**18, hash="")])


def test_a_disk_that_fills_up_keeps_what_came(server, files):
    wanted = register(server)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n" + GET
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments_of(wanted, files)], capture_output=True, text=True)
    assert "DownloadError" in result.stderr
    assert "it can't be written" in result.stderr
    assert files.get([wanted])[0].read_bytes() == CONTENT
    assert 0 < int(server.log[-1].range[6:-1]) <= 200_000


# --- several processes

GET = """
import sys
from labweave.one.files.cache import Files
from labweave.one.search.rows import CopyRow, DatasetRow
cache, id, path, size, hash, *copy = sys.argv[1:]
folder, _, name = path.rpartition("/")
row = DatasetRow(None, folder, name, id=id, size=int(size), hash=hash, copies=(CopyRow(*copy),))
print(*Files(cache, silent=True).get([row]))
"""


def arguments_of(wanted, files):
    copy = wanted.copies[0]
    return [
        str(files.cache_dir), wanted.id, wanted.path, str(wanted.size), wanted.hash, copy.repository, copy.kind,
        copy.data_url, copy.root_path, copy.hostname, copy.relative_path,
    ]  # fmt: skip


def test_two_processes_download_once(server, files):
    wanted = register(server)
    both_run = threading.Event()
    server.faults.append(Fault(before=both_run.wait))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GET, *arguments_of(wanted, files)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    deadline = time.monotonic() + 120
    while not server.log and time.monotonic() < deadline:
        time.sleep(0.02)
    both_run.set()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert {out.decode().strip() for out, _ in outputs} == {str(files.cache_dir / SESSION / NAME)}
    assert len(server.log) == 1
    assert everything_in(files.cache_dir) == [f"{SESSION}/{NAME}"]
    assert (files.cache_dir / SESSION / NAME).read_bytes() == CONTENT


def test_what_another_process_brings_meanwhile_is_not_fetched_again(server, files, monkeypatch):
    first, second = register(server), register(server, "alf/probe00/spikes.depths.npy")
    second_came = threading.Event()
    server.faults.append(Fault(before=second_came.wait))
    monkeypatch.setattr("labweave.one.files.cache.WORKERS", 1)
    thread = threading.Thread(target=files.get, args=([first, second],))
    thread.start()
    while not server.log:
        time.sleep(0.001)
    Files(files.cache_dir, silent=True).get([second])
    second_came.set()
    thread.join()
    assert len(server.log) == 2
    assert everything_in(files.cache_dir) == sorted(
        f"{SESSION}/{name}" for name in (NAME, "alf/probe00/spikes.depths.npy")
    )


def test_a_killed_download_is_taken_up(server, files):
    content = CONTENT * 4
    wanted = register(server, content=content)
    server.faults.append(Fault(pause=(never := threading.Event())))
    process = subprocess.Popen([sys.executable, "-c", GET, *arguments_of(wanted, files)], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    parts = []
    while time.monotonic() < deadline and not (parts and parts[0].stat().st_size > 100_000):
        parts = list(files.cache_dir.rglob("*.part"))
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    never.set()
    process.stdout.close()
    assert not (files.cache_dir / SESSION / NAME).exists()
    assert files.get([wanted])[0].read_bytes() == content
    assert int(server.log[-1].range[6:-1]) > 0
    assert everything_in(files.cache_dir) == [f"{SESSION}/{NAME}"]


def test_threads_that_want_the_same_file(server, files):
    wanted = register(server)
    begin = threading.Barrier(6)
    found = []

    def get():
        begin.wait()
        found.extend(files.get([wanted]))

    threads = [threading.Thread(target=get) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [files.cache_dir / SESSION / NAME] * 6
    assert len(server.log) == 1


# --- other filesystems


def test_any_filesystem_of_fsspec(files, tmp_path):
    memory = fsspec.filesystem("memory")
    wanted = register(None, copies=[remote("memory://bucket")])
    memory.pipe(f"/bucket/{SESSION}/{NAME}", CONTENT)
    assert files.get([wanted])[0].read_bytes() == CONTENT
    write(tmp_path / "share" / SESSION / NAME)
    wanted = register(None, copies=[remote(f"file://{tmp_path}/share")])
    [path] = files.get([wanted], cache_dir=tmp_path / "second")
    assert path.read_bytes() == CONTENT
    memory.pipe(f"/bucket/{SESSION}/{NAME}", CONTENT[::-1])
    with pytest.raises(WrongContent):
        files.get([register(None, copies=[remote("memory://bucket")])], clobber=True)
    memory.rm("/bucket", recursive=True)
    with pytest.raises(DownloadError, match="not there"):
        files.get([register(None, copies=[remote("memory://bucket")])], clobber=True)


def test_a_filesystem_goes_on_where_it_was(files, tmp_path):
    there = write(tmp_path / "share" / SESSION / NAME)
    wanted = register(None, copies=[remote(f"file://{tmp_path}/share")])
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n" + GET
    )
    subprocess.run([sys.executable, "-c", code, *arguments_of(wanted, files)], capture_output=True)
    assert [path.stat().st_size for path in files.cache_dir.rglob("*.part")] == [200_000]
    assert files.get([wanted])[0].read_bytes() == there.read_bytes()


@pytest.mark.parametrize("url", ["nonsense://bucket", "simplecache::file:///etc", "reference://x", "no address"])
def test_addresses_that_cannot_be_read(files, url):
    with pytest.raises((DownloadError, ConfigError)):
        files.get([register(None, copies=[remote(url)])])


def test_a_missing_package_is_named(files):
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="pip install s3fs"):
            files.get([register(None, copies=[remote("s3://bucket")])])
    else:
        pytest.skip("s3fs is installed")

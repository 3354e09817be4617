"""Parts of compressed recordings, made by mtscomp and read back by it."""

import json
import threading

import numpy as np
import pytest
from file_server import Fault, FileServer

from labweave.errors import ConfigError, FileMissing, ReadError
from labweave.one.files import download as download_module
from labweave.one.files.cache import Files
from labweave.one.files.partial import ChunkMissing, NotChunked, download_chunks, download_raw_partial
from labweave.one.files.sources import DownloadError

mtscomp = pytest.importorskip("mtscomp", reason="mtscomp makes the recordings: pip install mtscomp")

FOLDER = "cortexlab/Subjects/KS005/2019-04-11/001/raw_ephys_data/probe00"
NAME = "_spikeglx_ephysData_g0_t0.imec0.ap"
CBIN_ID, CH_ID = "4a8b1f84-7d2c-4d2f-9a7b-2f1f2a3b4c5d", "5b9c2f84-8e3d-4e3f-8b8c-3f2f3b4c5d6e"
SAMPLES_PER_CHUNK, N_CHUNKS, N_CHANNELS = 300, 7, 5
META = """typeThis=imec
typeEnabled=imec
snsApLfSy=4,0,1
nSavedChans=5
imSampRate=30000
fileTimeSecs=0.0683333
fileSizeBytes=20500
imAiRangeMax=0.6
imAiRangeMin=-0.6
~imroTbl=(841150224,3,4)(0 0 0 500 250)(1 0 0 500 250)(2 0 0 500 250)(3 0 0 500 250)
~snsShankMap=(1,2,480)(0:0:0:1)(0:1:0:1)(0:0:1:1)(0:1:1:1)
"""
VOLTS_PER_BIT = 0.6 / 512 / 500
"""Range, 10 bits with sign, gain."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(download_module, "FIRST_WAIT_SECONDS", 0.001)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Samples, the bytes of the .cbin and those of the .ch; the last chunk is a short one."""
    folder = tmp_path_factory.mktemp("raw")
    n_samples = SAMPLES_PER_CHUNK * N_CHUNKS - 50
    samples = np.random.default_rng(0).normal(0, 50, (n_samples, N_CHANNELS)).cumsum(axis=0).astype(np.int16)
    samples.tofile(folder / "x.bin")
    mtscomp.compress(
        folder / "x.bin", folder / "x.cbin", folder / "x.ch", sample_rate=30_000, n_channels=N_CHANNELS, dtype=np.int16,
        chunk_duration=SAMPLES_PER_CHUNK / 30_000, n_threads=1, check_after_compress=False, quiet=True,
    )  # fmt: skip
    return samples, (folder / "x.cbin").read_bytes(), (folder / "x.ch").read_bytes()


@pytest.fixture
def server(recording):
    _, cbin, ch = recording
    with FileServer({f"{FOLDER}/{NAME}.{CBIN_ID}.cbin": cbin, f"{FOLDER}/{NAME}.{CH_ID}.ch": ch}) as server:
        yield server


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "cache", silent=True)


def urls(server):
    return f"{server.url}/{FOLDER}/{NAME}.{CBIN_ID}.cbin", f"{server.url}/{FOLDER}/{NAME}.{CH_ID}.ch"


def read(path):
    """Return all samples, as mtscomp reads them."""
    reader = mtscomp.decompress(path, path.with_suffix(".ch"), cache_size=1)
    try:
        return reader[:]
    finally:
        reader.close()


def sent(server):
    """Return how many bytes of the .cbin were asked for."""
    ranges = [request.range[6:].split("-") for request in server.asked_for(".cbin")]
    return sum(int(last) - int(first) + 1 for first, last in ranges)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (2, 4), (N_CHUNKS - 1, N_CHUNKS - 1), (0, N_CHUNKS - 1)])
def test_chunks_are_the_samples_of_the_recording(server, files, recording, first, last):
    samples, cbin, ch = recording
    path = download_chunks(files, *urls(server), first, last)
    assert path == files.cache_dir / FOLDER / f"{NAME}.stream.cbin"
    expected = samples[first * SAMPLES_PER_CHUNK : (last + 1) * SAMPLES_PER_CHUNK]
    np.testing.assert_array_equal(read(path), expected)
    index = json.loads(path.with_suffix(".ch").read_text())
    assert (index["chopped"], index["chopped_first_sample"]) == (True, first * SAMPLES_PER_CHUNK)
    assert index["chopped_total_samples"] == len(expected)
    assert (index["chunk_bounds"][0], index["chunk_offsets"][0]) == (0, 0)
    assert index["sha1_compressed"] is index["sha1_uncompressed"] is None
    assert sent(server) == path.stat().st_size <= len(cbin)
    assert sorted(path.name for path in path.parent.iterdir()) == [f"{NAME}.ch", f"{NAME}.stream.cbin", f"{NAME}.stream.ch"]  # fmt: skip


def test_the_same_chunks_are_fetched_once(server, files, recording):
    samples = recording[0]
    download_chunks(files, *urls(server), 1, 2)
    download_chunks(files, *urls(server), 1, 2)
    assert len(server.asked_for(".cbin")) == 1
    path = download_chunks(files, *urls(server), 2, 3)
    assert len(server.asked_for(".cbin")) == 2
    np.testing.assert_array_equal(read(path), samples[2 * SAMPLES_PER_CHUNK : 4 * SAMPLES_PER_CHUNK])


@pytest.mark.parametrize("fault", [Fault(break_after=1500), Fault(ignores_range=True), Fault(status=503)])
def test_chunks_survive_faults(server, files, recording, fault):
    server.faults += [Fault(), fault]
    path = download_chunks(files, *urls(server), 3, 5)
    np.testing.assert_array_equal(read(path), recording[0][3 * SAMPLES_PER_CHUNK : 6 * SAMPLES_PER_CHUNK])


def test_a_server_without_ranges_that_breaks(server, files, recording):
    server.faults += [Fault(), Fault(ignores_range=True, break_after=9000), Fault(ignores_range=True)]
    path = download_chunks(files, *urls(server), 3, 5)
    np.testing.assert_array_equal(read(path), recording[0][3 * SAMPLES_PER_CHUNK : 6 * SAMPLES_PER_CHUNK])


def test_an_index_on_this_machine(server, files, recording, tmp_path):
    (tmp_path / "mine.ch").write_bytes(recording[2])
    path = download_chunks(files, urls(server)[0], tmp_path / "mine.ch", 1, 1)
    np.testing.assert_array_equal(read(path), recording[0][SAMPLES_PER_CHUNK : 2 * SAMPLES_PER_CHUNK])
    assert server.asked_for(".ch") == []


def test_what_cannot_be(server, files):
    cbin, ch = urls(server)
    for arguments in ((ch, ch), (cbin, cbin), (cbin, ch, 2, 1), (cbin, ch, -1, 0), (f"{server.url}/x.cbin", ch)):
        with pytest.raises(NotChunked) as caught:
            download_chunks(files, *arguments)
        assert isinstance(caught.value, AssertionError)
    with pytest.raises(ChunkMissing, match="has 7 chunks, 0 to 6; chunk 7") as caught:
        download_chunks(files, cbin, ch, 0, 7)
    assert isinstance(caught.value, IndexError)
    assert server.asked_for(".cbin") == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"chunk_bounds": [0, 1]}', b'{"chunk_bounds": [0], "chunk_offsets": [0]}'])  # fmt: skip
def test_an_index_that_is_none(server, files, tmp_path, content):
    (tmp_path / "x.ch").write_bytes(content)
    with pytest.raises(ReadError, match="no list of chunks"):
        download_chunks(files, urls(server)[0], tmp_path / "x.ch")


def test_an_index_of_another_recording(server, files, recording):
    index = json.loads(recording[2])
    index["chunk_offsets"][-1] += 1
    server.files[f"{FOLDER}/{NAME}.{CH_ID}.ch"] = json.dumps(index).encode()
    with pytest.raises(DownloadError, match="are registered"):
        download_chunks(files, *urls(server))


def test_two_threads_that_want_different_chunks(server, files, recording):
    """The files of both have the same names: in the end they are those of one of them, whole."""
    threads = [threading.Thread(target=download_chunks, args=(files, *urls(server), i, i)) for i in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    path = files.cache_dir / FOLDER / f"{NAME}.stream.cbin"
    first = json.loads(path.with_suffix(".ch").read_text())["chopped_first_sample"]
    assert first in (0, 3 * SAMPLES_PER_CHUNK)
    np.testing.assert_array_equal(read(path), recording[0][first : first + SAMPLES_PER_CHUNK])


def test_the_reader_needs_the_meta_file(server, files):
    with pytest.raises(FileMissing, match=r"\.meta") as caught:
        download_raw_partial(files, *urls(server))
    assert isinstance(caught.value, FileNotFoundError)


def test_the_reader_reads_the_chunks(server, files, recording):
    meta = files.cache_dir / FOLDER / f"{NAME}.meta"
    meta.parent.mkdir(parents=True)
    meta.write_text(META)
    try:
        import spikeglx  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="pip install ibl-neuropixel"):
            download_raw_partial(files, *urls(server), 2, 3)
        assert (meta.parent / f"{NAME}.stream.cbin").is_file()
        return
    reader = download_raw_partial(files, *urls(server), 2, 3)
    samples = recording[0][2 * SAMPLES_PER_CHUNK : 4 * SAMPLES_PER_CHUNK]
    assert (reader.shape, reader.fs) == (samples.shape, 30_000)
    volts, sync = reader.read_samples(0, len(samples), channels=slice(0, 4))
    columns = reader.raw_channel_order[:4]
    np.testing.assert_allclose(volts, samples[:, columns] * VOLTS_PER_BIT, rtol=1e-6)
    reader.close()

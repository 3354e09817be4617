"""What a file may ask for: a small one that would become huge is refused before memory is taken."""

import json
import zipfile

import numpy as np
import pytest
from igor_files import write_wave

from labweave.errors import ReadError
from labweave.formats import alf, onedata
from labweave.formats.onedata.arrays import read_sparse
from labweave.formats.plain import load_yaml
from labweave.formats.recordings import read_file
from labweave.formats.stytra import open_log


def write_bomb(path, n_bytes):
    """Write an npz of zeros, which takes a thousandth of their bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("arr_0.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (n_bytes // 8,)})
        for _ in range(n_bytes >> 20):
            member.write(bytes(1 << 20))


def test_archives_that_swell(tmp_path):
    write_bomb(tmp_path / "a.b.npz", 300 << 20)
    with pytest.raises(ReadError, match=r"a\.b\.npz: the archive claims 314,\d{3},\d{3} bytes, which a file of"):
        alf.load_file(tmp_path / "a.b.npz")
    with pytest.raises(ReadError, match="the archive claims"):
        read_sparse(tmp_path / "a.b.npz")
    write_bomb(tmp_path / "c.d.npz", 8 << 20)
    assert alf.load_file(tmp_path / "c.d.npz").shape == (1 << 20,)


@pytest.mark.parametrize(
    ("name", "read", "separator"),
    [("a.b.csv", alf.load_file, ","), ("a.b.tsv", alf.load_file, "\t"), ("log.csv", open_log, ";")],
)
def test_tables_of_a_million_columns(tmp_path, name, read, separator):
    (tmp_path / name).write_text(separator.join(["x"] * 1_000_000) + "\n" + separator.join(["1"] * 1_000_000) + "\n")
    with pytest.raises(ReadError, match="1,000,000 columns"):
        read(tmp_path / name)


def test_yaml_that_grows_or_leads_back(tmp_path):
    nine = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(12)]
    for text, words in (("\n".join(nine), "huge tree"), ("a: &a\n  b: *a", "leads back")):
        with pytest.raises(ValueError, match=words):
            load_yaml(text)
        (tmp_path / "a.b.yaml").write_text(text)
        with pytest.raises(ReadError, match=words):
            alf.load_file(tmp_path / "a.b.yaml")
    assert load_yaml("a: &a [1]\nb: *a\nc: *a") == {"a": [1], "b": [1], "c": [1]}


@pytest.mark.parametrize("at", [12, 16, 36, 48, 52, 76, 132])
def test_igor_waves_that_promise_too_much(tmp_path, at):
    """Sizes of formula, note, units, labels and indices, number of samples, and lengths of dimensions."""
    wave, other = write_wave(tmp_path / "v.ibw", "mV", 0.0), write_wave(tmp_path / "i.ibw", "pA", 0.0)
    content = bytearray(wave.read_bytes())
    content[at : at + 4] = (3_060_000_000 & 0x7FFFFFFF).to_bytes(4, "little")
    wave.write_bytes(content)
    with pytest.raises(ReadError, match=r"v\.ibw: its header promises \d+ bytes, the file has 1184"):
        read_file({"filepath": wave, "v_file": wave, "i_file": other})


def test_json_integers_without_end(tmp_path):
    (tmp_path / "a.b.jsonable").write_text(json.dumps({"a": 1}) + "\n" + "9" * 100_000 + "\n")
    with pytest.raises(ReadError, match="line 2 is no JSON"):
        alf.load_file(tmp_path / "a.b.jsonable")


def test_object_arrays_in_npz_are_refused_in_words(tmp_path):
    np.savez(tmp_path / "a.b.npz", np.array([{"x": 1}], dtype=object))
    with pytest.raises(ReadError, match="it holds Python objects"):
        alf.load_file(tmp_path / "a.b.npz")
    with pytest.raises(ReadError):
        onedata.read_npy(tmp_path / "a.b.npz")

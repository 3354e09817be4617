"""A writer that is killed: every trial that `write` returned from is there, and the files agree."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import zipfile

import h5py
import numpy as np
import pytest

from labweave.formats.axopy import TaskReader, TaskWriter, Trial, storage_to_zip
from labweave.formats.axopy.growing import GrowingArrayFile
from labweave.formats.axopy.journal import NAME, Journal, pending_changes, recover

WRITER = """
import os, sys
import numpy as np
from labweave.formats.axopy import TaskWriter, Trial

writer = TaskWriter(sys.argv[1])
for n in range(10**6):
    trial = Trial({"n": n, "third": n / 3})
    trial.add_array("full", data=np.full((3, 40), n))
    trial.add_array("ragged", data=np.full(n % 7, n, "f4"))
    if n % 40 == 17:
        trial.attrs[f"new{n}"] = 1
    writer.write(trial)
    os.write(1, b"%d\\n" % n)
"""
SEED, KILLS, N_TRIALS = 6, 6, 700


def check_trials(folder, at_least):
    reader = TaskReader(folder)
    state = reader.examine()
    n_trials = len(state.table.rows)
    assert n_trials in (at_least, at_least + 1)
    assert (state.status, state.problems) == ("complete", [])
    assert reader.trials["n"].tolist() == list(range(n_trials))
    assert reader.trials["third"].tolist() == [n / 3 for n in range(n_trials)]
    for n, values in enumerate(reader.iterarray("full")):
        np.testing.assert_array_equal(values, np.full((3, 40), n))
    for n, values in enumerate(reader.iterarray("ragged")):
        np.testing.assert_array_equal(values, np.full(n % 7, n))
    assert n_trials == n + 1
    return n_trials


def test_a_killed_writer_loses_nothing_that_it_wrote(tmp_path):
    chance = random.Random(SEED)
    for kill in range(KILLS):
        folder = tmp_path / f"kill{kill}"
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as process:
            for _ in range(chance.choice([1, 10, 60, 200])):
                seen = process.stdout.readline()
            time.sleep(chance.random() * 0.003)
            process.send_signal(signal.SIGKILL)
            seen += process.stdout.read()
        check_trials(folder, int(seen.split()[-1]) + 1)


def test_a_writer_that_is_killed_late_leaves_files_that_other_programs_read(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER.replace("== 17", "== -1"), str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        for _ in range(2500):
            seen = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.read()
    n_trials = check_trials(tmp_path, int(seen.split()[-1]) + 1)
    recover(tmp_path)
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == n_trials + 1
    for name, value in (("full", lambda n: np.full((3, 40), n)), ("ragged", lambda n: np.full(n % 7, n, "f4"))):
        with h5py.File(tmp_path / f"{name}.hdf5") as file:
            assert list(file) == sorted(map(str, range(n_trials)))
            for n in range(n_trials):
                np.testing.assert_array_equal(file[str(n)][()], value(n))


def one(n):
    trial = Trial({"n": n, "third": n / 3})
    trial.add_array("full", data=np.full((3, 40), n))
    trial.add_array("ragged", data=np.full(n % 7, n, "f4"))
    return trial


def test_a_journal_that_is_cut_counts_for_nothing_and_a_whole_one_for_all(tmp_path):
    writer = TaskWriter(str(tmp_path))
    for n in range(11):
        writer.write(one(n))
    trial = one(11)
    changes = [writer._files[name].add("11", array.data) for name, array in trial.arrays.items()]
    changes.append(writer.trials.prepare(trial.attrs))
    check_trials(tmp_path, 11)
    journal = Journal(tmp_path)
    journal.record(changes)
    record = (tmp_path / NAME).read_bytes().rstrip(b"\0")
    for cut in (0, 10, 40, len(record) // 2, len(record) - 1):
        (tmp_path / NAME).write_bytes(record[:cut])
        assert pending_changes(tmp_path) == {}
        assert check_trials(tmp_path, 11) == 11
    (tmp_path / NAME).write_bytes(record)
    assert check_trials(tmp_path, 11) == 12
    for change in changes:
        for index, (position, piece) in enumerate(change.pieces):
            with (tmp_path / change.name).open("r+b") as file:
                file.seek(position)
                file.write(piece[: len(piece) // 2])
            assert check_trials(tmp_path, 11) == 12, (change.name, index)
    journal.close()
    assert not (tmp_path / NAME).exists()
    assert check_trials(tmp_path, 11) == 12


def test_between_any_two_pieces_h5py_alone_reads_every_trial(tmp_path):
    """AxoPy knows no journal: what it opens after a crash must be sound as well."""
    path = tmp_path / "a.hdf5"
    growing, chance = GrowingArrayFile(path), random.Random(SEED)
    for n in range(N_TRIALS):
        change = growing.add(str(n), np.full(3, n))
        grows = any(piece[:4] in (b"TREE", b"HEAP") for _, piece in change.pieces)
        look_at = range(n) if n < 30 else chance.sample(range(n), 6) if grows else ()
        for position, piece in change.pieces:
            with path.open("r+b") as file:
                file.seek(position)
                file.write(piece)
            if look_at:
                with h5py.File(path, "r", locking=False) as file:
                    assert [file[str(earlier)][0] for earlier in look_at] == list(look_at)
    growing.close()
    with h5py.File(path) as file:
        assert sorted(map(int, file)) == list(range(N_TRIALS))


def test_a_full_disk_loses_no_trial(tmp_path, monkeypatch):
    """Writing goes on where it stopped once there is room."""
    writer = TaskWriter(str(tmp_path))
    n_written, refused = 0, 0
    real = sys.modules["labweave.formats.axopy.journal"]._write_all
    chance = random.Random(SEED)

    def full(file, data):
        if chance.random() < 0.08:
            raise OSError(28, "No space left on device")
        real(file, data)

    while n_written < 40:
        trial = one(n_written)
        with monkeypatch.context() as patch:
            patch.setattr("labweave.formats.axopy.journal._write_all", full)
            try:
                writer.write(trial)
            except OSError:
                refused += 1
        if trial.arrays["full"].data is None:  # it counts when its arrays are cleared
            n_written += 1
        else:
            assert check_trials(tmp_path, n_written) == n_written if n_written else True
    writer.close()
    assert refused > 5
    assert check_trials(tmp_path, 40) == 40


class Disk:
    """What a power cut may leave: of each file what was synced, and of what came later any pages."""

    PAGE = 512

    def __init__(self, monkeypatch, folder):
        self.folder, self.synced, self.on_sync = folder, {}, lambda: None
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def sync(self, descriptor):
        self.on_sync()
        path = f"/proc/self/fd/{descriptor}"  # a descriptor may be for writing only
        self.synced[os.stat(path).st_ino] = pathlib.Path(path).read_bytes()

    def cut_power(self, target, chance):
        target.mkdir()
        for path in self.folder.iterdir():
            old, new = self.synced.get(path.stat().st_ino, b""), path.read_bytes()
            length = len(new) if chance.random() < 0.5 else len(old)
            left = bytearray(old[:length].ljust(length, b"\0"))
            for start in range(0, length, self.PAGE):
                if chance.random() < 0.5:
                    page = new[start : min(start + self.PAGE, length)]
                    left[start : start + len(page)] = page
            (target / path.name).write_bytes(left)
        return target


@pytest.mark.parametrize("max_bytes", [30_000, 4 * 2**20])
def test_a_power_cut_loses_no_trial_that_was_written(tmp_path, monkeypatch, max_bytes):
    monkeypatch.setattr("labweave.formats.axopy.journal.MAX_BYTES", max_bytes)
    chance, folder = random.Random(SEED), tmp_path / "t"
    folder.mkdir()
    disk, writer, cuts = Disk(monkeypatch, folder), TaskWriter(str(folder)), []

    def cut():
        if writer.trials.n_rows and chance.random() < 0.15:
            cuts.append((writer.trials.n_rows, disk.cut_power(tmp_path / f"cut{len(cuts)}", chance)))

    disk.on_sync = cut
    for n in range(60):
        trial = one(n)
        if n % 25 == 7:
            trial.attrs[f"new{n}"] = 1
        if n % 20 == 9:
            trial.add_array("large", data=np.zeros(50_000))
        writer.write(trial)
        cut()
    assert len(cuts) > 15
    for n_trials, left in cuts:
        (left / "large.hdf5").unlink(missing_ok=True)
        assert check_trials(left, n_trials) >= n_trials
        recover(left)
        with h5py.File(left / "full.hdf5") as file:
            assert [int(file[str(n)][0, 0]) for n in range(n_trials)] == list(range(n_trials))


def test_what_a_killed_writer_left_is_recovered_for_other_programs(tmp_path):
    folder = tmp_path / "data" / "p0" / "t"
    folder.mkdir(parents=True)
    writer = TaskWriter(str(folder))
    for n in range(3):
        writer.write(one(n))
    assert recover(tmp_path) == []
    trial = one(3)
    changes = [writer._files[name].add("3", array.data) for name, array in trial.arrays.items()]
    writer._journal.record([*changes, writer.trials.prepare(trial.attrs)])
    for name in ("full.hdf5", NAME):  # the kill
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert len((folder / "trials.csv").read_text().splitlines()) == 4
    with pytest.raises(ValueError, match="earlier writer"):
        TaskWriter(str(folder)).write(one(4))
    archive = storage_to_zip(str(tmp_path / "data"))
    with zipfile.ZipFile(archive) as packed:
        assert NAME not in "".join(packed.namelist())
        packed.extractall(tmp_path / "out")
    assert check_trials(tmp_path / "out" / "data" / "p0" / "t", 4) == 4
    assert recover(folder) == ["full.hdf5", "ragged.hdf5", "trials.csv"]
    assert not (folder / NAME).exists()
    assert len((folder / "trials.csv").read_text().splitlines()) == 5
    with h5py.File(folder / "full.hdf5", locking=False) as file:
        assert file["3"][0, 0] == 3
    assert recover(folder) == []


def test_a_table_that_is_edited_after_a_crash_is_read_as_it_is(tmp_path):
    writer = TaskWriter(str(tmp_path))
    for n in range(3):
        writer.write(one(n))
    journal = (tmp_path / NAME).read_bytes()
    writer.close()
    (tmp_path / NAME).write_bytes(journal)
    assert check_trials(tmp_path, 3) == 3
    table = tmp_path / "trials.csv"
    table.write_text(table.read_text().replace("0,0.0", "0,0.125"))
    os.utime(table, (time.time() + 3600,) * 2)
    assert TaskReader(tmp_path).trials["third"].tolist() == [0.125, 1 / 3, 2 / 3]
    table.write_text("n\n7\n")
    assert TaskReader(tmp_path).trials["n"].tolist() == [7]


def test_a_task_is_read_while_it_is_written(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        for _ in range(10):
            n = int(process.stdout.readline())
            reader = TaskReader(tmp_path)
            assert reader.examine().problems == []
            assert len(reader.trials) > n
            assert [int(values[0, 0]) for values in reader.iterarray("full")][: n + 1] == list(range(n + 1))
        process.kill()

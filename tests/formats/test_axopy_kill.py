"""A writer that is killed: every trial that `write` returned from is there, and the files agree."""

import random
import signal
import subprocess
import sys
import time

import h5py
import numpy as np

from labweave.formats.axopy import TaskReader, TaskWriter, Trial
from labweave.formats.axopy.arrays import GrowingArrayFile
from labweave.formats.axopy.journal import NAME, Journal, pending_changes

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
SEED, KILLS, N_TRIALS = 6, 6, 400


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
    record = (tmp_path / NAME).read_bytes()
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
    journal.apply()
    assert (tmp_path / NAME).read_bytes() == b""
    assert check_trials(tmp_path, 11) == 12


def test_between_any_two_pieces_h5py_alone_reads_every_trial(tmp_path):
    """AxoPy knows no journal: what it opens after a crash must be sound as well."""
    path = tmp_path / "a.hdf5"
    growing, chance = GrowingArrayFile(path), random.Random(SEED)
    for n in range(N_TRIALS):
        change = growing.add(str(n), np.full(3, n))
        grows = any(piece[:4] == b"TREE" for _, piece in change.pieces)
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

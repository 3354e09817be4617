"""Random sequences of crash, copy, touch, append and leaving out: no trial is lost without a word.

LABWEAVE_SEQUENCES says how many.
"""

import contextlib
import os
import random
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from labweave.errors import ReadError
from labweave.formats.axopy import TaskReader, TaskWriter, Trial, recover, write_hdf5
from labweave.formats.axopy import writer as writing
from labweave.formats.axopy.arrays import ArrayFile
from labweave.formats.axopy.journal import NAME, open_journal

N_SEQUENCES = int(os.environ.get("LABWEAVE_SEQUENCES", 100))
N_TRIALS = 14
FILES = [NAME, "trials.csv", "a.hdf5", "b.hdf5"]


def value(name, n):
    return np.full(n % 3 + 1, n + (0.5 if name == "b" else 0))


def texts(n):
    return {"n": str(n), **({f"new{n}": "1"} if n % 5 == 3 else {})}


@pytest.fixture(scope="module")
def crashes(tmp_path_factory):
    """Return folders as a writer leaves them that is killed before or after any sync, with the trials that count."""
    found, folder, images = [], tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("crashes")
    real = os.fdatasync

    def sync(descriptor):
        snap()
        real(descriptor)
        snap()

    def snap():
        image = images / str(len(found))
        shutil.copytree(folder, image)
        for path in image.glob(".*"):
            path.unlink()
        found.append((image, writer.trials.n_rows))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_MIN_TRIALS", 3)
        patch.setattr(os, "fdatasync", sync)
        writer = TaskWriter(folder)
        for n in range(N_TRIALS):
            trial = Trial(texts(n))
            for name in "ab":
                trial.add_array(name, data=value(name, n))
            writer.write(trial)
            snap()
        writer.close()
        snap()
    return found


def readable(folder):
    """Return the trials and arrays that labweave reads; what it reads must be true."""
    reader, found = TaskReader(folder), set()
    with contextlib.suppress(ReadError):
        for row, cells in enumerate(reader.trials.astype(str).to_dict("records")):
            found |= {("trial", row)} if cells.get("n") == str(row) else set()
    for name in "ab":
        with contextlib.suppress(ReadError, FileNotFoundError), ArrayFile(folder, f"{name}.hdf5") as file:
            for row in file.rows():
                with contextlib.suppress(ReadError):
                    if np.array_equal(file.read(str(row)), value(name, row)):
                        found.add((name, row))
    return found


class Sequence:
    """A folder to which things happen."""

    def __init__(self, seed, crashes, root):
        self.chance = random.Random(seed)
        self.crashes, self.root, self.n_copies = crashes, root, 0
        image, self.n_trials = self.chance.choice(crashes)
        self.folder = Path(shutil.copytree(image, root / "0"))
        self.is_spoilt = False  # in a way that AxoPy's files can't tell
        self.added = {}  # datasets of other programs
        self.steps = [image.name]

    def copy(self):
        self.n_copies += 1
        self.folder = Path(shutil.copytree(self.folder, self.root / str(self.n_copies), copy_function=shutil.copyfile))

    def touch(self):
        for path in self.folder.iterdir():
            os.utime(path, (self.chance.randrange(2 * 10**9),) * 2)

    def append(self):
        name, dataset = self.chance.choice("ab"), self.chance.choice(["note", str(self.chance.randrange(N_TRIALS))])
        path = self.folder / f"{name}.hdf5"
        with contextlib.suppress(ValueError, OSError):  # it has one of this name
            if self.chance.random() < 0.5:
                write_hdf5(path, [-1.0, self.n_copies], dataset)
            else:
                with h5py.File(path, "a") as file:
                    file[dataset] = [-1.0, self.n_copies]
            self.added[name, dataset] = [-1.0, self.n_copies]
            self.is_spoilt |= self.is_closed() and dataset != "note"  # it fills the place of a trial

    def append_line(self):
        if (self.folder / "trials.csv").exists():
            self.is_spoilt |= self.is_closed()
            with (self.folder / "trials.csv").open("a") as file:
                file.write("5,5\n")

    def leave_out(self):
        name = self.chance.choice(FILES)
        self.is_spoilt |= self.is_closed() and name != NAME
        (self.folder / name).unlink(missing_ok=True)
        self.added = {place: data for place, data in self.added.items() if name[0] != place[0]}

    def restore(self):
        """Put a file in its place as it was at another crash."""
        name, (image, n_trials) = self.chance.choice(FILES), self.chance.choice(self.crashes)
        if (image / name).exists():
            if name == NAME:
                self.n_trials = min(self.n_trials, n_trials)  # what was added to the journal later can't be missed
            self.is_spoilt |= self.is_closed() and name != NAME
            shutil.copyfile(image / name, self.folder / name)
            self.added = {place: data for place, data in self.added.items() if name[0] != place[0]}
            self.is_spoilt |= name == "trials.csv" and self.is_closed()

    def recover(self):
        before = readable(self.folder)
        had_journal = (self.folder / NAME).exists()
        try:
            recover(self.folder)
        except ReadError:
            assert (self.folder / NAME).exists() == had_journal
        else:
            assert not (self.folder / NAME).exists()
            if had_journal and not self.is_spoilt and "restore" not in self.steps:  # else `check` must say what lacks
                self.check_by_other_programs()
        assert before <= readable(self.folder)

    def is_closed(self):
        """Say whether the folder is as AxoPy's: without a journal, and the table with its line end."""
        table = self.folder / "trials.csv"
        closed = table.exists() and table.read_bytes().endswith(b"\n")
        return closed and (not (self.folder / NAME).exists() or not readable_journal(self.folder))

    def check(self):
        state = TaskReader(self.folder).examine()
        expected = {(kind, n) for kind in ("trial", "a", "b") for n in range(self.n_trials)}
        if state.status == "complete" and not state.problems and not self.is_spoilt:
            assert expected <= readable(self.folder)
        for (name, dataset), data in self.added.items():
            with h5py.File(self.folder / f"{name}.hdf5") as file:
                assert file[dataset][()].tolist() == data

    def check_by_other_programs(self):
        table = self.folder / "trials.csv"
        n_trials = len(pd.read_csv(table)) if table.exists() else 0
        assert n_trials >= self.n_trials
        for name in "ab" if n_trials else "":
            with h5py.File(self.folder / f"{name}.hdf5") as file:
                for n in range(n_trials):
                    assert file[str(n)][()].tolist() == value(name, n).tolist()


def readable_journal(folder):
    with open_journal(folder) as journal:
        return bool(journal.texts)


@pytest.mark.parametrize("part", range(10))
def test_no_trial_is_lost_without_a_word(crashes, tmp_path, part):
    actions = ["copy", "touch", "append", "append_line", "leave_out", "restore", "recover", "recover"]
    for seed in range(part, N_SEQUENCES, 10):
        root = tmp_path / "now"
        root.mkdir()
        sequence = Sequence(seed, crashes, root)
        try:
            sequence.check()
            for _ in range(sequence.chance.randint(1, 5)):
                action = sequence.chance.choice(actions)
                sequence.steps.append(action)
                getattr(sequence, action)()
                with contextlib.suppress(ReadError):  # said aloud
                    sequence.check()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {sequence.steps}") from error
        shutil.rmtree(root)

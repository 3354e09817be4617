"""A writer that is killed: every trial that `write` returned from is there, and the files agree."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest

from labweave.errors import ReadError
from labweave.formats.axopy import TaskReader, TaskWriter, Trial, recover, storage_to_zip, write_hdf5
from labweave.formats.axopy.journal import NAME, Journal, journal_state, open_journal

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
SEED, KILLS = 6, 6


def one(n):
    trial = Trial({"n": n, "third": n / 3})
    trial.add_array("full", data=np.full((3, 40), n))
    trial.add_array("ragged", data=np.full(n % 7, n, "f4"))
    return trial


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


def check_by_other_programs(folder, n_trials):
    assert not (folder / NAME).exists()
    assert len((folder / "trials.csv").read_text().splitlines()) == n_trials + 1
    for name, value in (("full", lambda n: np.full((3, 40), n)), ("ragged", lambda n: np.full(n % 7, n, "f4"))):
        with h5py.File(folder / f"{name}.hdf5") as file:
            assert set(file) == set(map(str, range(n_trials)))
            for n in range(n_trials):
                np.testing.assert_array_equal(file[str(n)][()], value(n))
        if shutil.which("h5dump"):
            dumped = subprocess.run(["h5dump", "-H", folder / f"{name}.hdf5"], capture_output=True, text=True)
            assert (dumped.returncode, dumped.stdout.count("DATASET")) == (0, n_trials)


def kill(folder, n_trials):
    """Write trials in another process, kill it, and return how many `write` returned from."""
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE) as process:
        for _ in range(n_trials):
            seen = process.stdout.readline()
        time.sleep(random.Random(n_trials).random() * 0.003)
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.read()
    return int(seen.split()[-1]) + 1


def crash(tmp_path, n_trials, name="crashed"):
    """Return a folder as a writer leaves it that is killed after some trials."""
    (tmp_path / "live").mkdir()
    writer = TaskWriter(tmp_path / "live")
    for n in range(n_trials):
        writer.write(one(n))
    shutil.copytree(tmp_path / "live", tmp_path / name)
    writer.close()
    shutil.rmtree(tmp_path / "live")
    return tmp_path / name


@pytest.mark.parametrize("n_trials", [1, 10, 63, 64, 200])
def test_a_killed_writer_loses_nothing_that_it_wrote(tmp_path, n_trials):
    n_trials = kill(tmp_path / "t", n_trials)
    n_trials = check_trials(tmp_path / "t", n_trials)
    recover(tmp_path / "t")
    check_by_other_programs(tmp_path / "t", n_trials)


def test_a_folder_that_is_copied_without_times_is_read_as_the_original(tmp_path):
    folder = crash(tmp_path, 400)
    for path in folder.iterdir():
        os.utime(path, (time.time() + random.Random(path.name).randrange(10**6),) * 2)
    assert check_trials(folder, 400) == 400
    assert recover(folder) == ["full.hdf5", "ragged.hdf5", "trials.csv"]
    check_by_other_programs(folder, 400)


@pytest.mark.parametrize("by", ["h5py", "labweave"])
def test_a_dataset_that_is_added_after_a_crash_is_kept(tmp_path, by):
    folder = crash(tmp_path, 100)
    if by == "h5py":
        with h5py.File(folder / "full.hdf5", "a") as file:
            file["note"] = np.arange(5000)
    else:
        write_hdf5(folder / "full.hdf5", np.arange(5000), "note")
    recover(folder)
    assert check_trials(folder, 100) == 100
    with h5py.File(folder / "full.hdf5") as file:
        assert file["note"][()].tolist() == list(range(5000))
        assert len(file) == 101


def test_a_dataset_in_the_place_of_a_trial_is_named_and_nothing_is_lost(tmp_path):
    folder = crash(tmp_path, 100)
    write_hdf5(folder / "full.hdf5", np.arange(3), "90")
    state = TaskReader(folder).examine()
    assert (state.status, len(state.table.rows)) == ("damaged", 100)
    assert "full.hdf5: damaged: the dataset 90 is not the array that the journal has" in state.problems[0]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ReadError, match=r"full.hdf5: damaged: the dataset 90"):
        recover(folder)
    assert {name: (folder / name).read_bytes() for name in ("full.hdf5", NAME)}.items() <= before.items()
    with h5py.File(folder / "full.hdf5", "a") as file:
        file.move("90", "mine")
    recover(folder)
    assert check_trials(folder, 100) == 100
    with h5py.File(folder / "full.hdf5") as file:
        assert file["mine"][()].tolist() == [0, 1, 2]


@pytest.mark.parametrize("n_trials", [1, 10, 64, 100])
def test_a_folder_without_its_journal_is_seen_to_be_incomplete(tmp_path, n_trials):
    folder = crash(tmp_path, n_trials)
    (folder / NAME).unlink()
    state = TaskReader(folder).examine()
    assert state.status == "half_written"
    assert "missing" in state.problems[0]
    assert recover(folder) == []
    assert TaskReader(folder).examine().status == "half_written"


@pytest.mark.parametrize("name", ["full.hdf5", "trials.csv"])
def test_a_crashed_folder_without_one_file_is_damaged(tmp_path, name):
    folder = crash(tmp_path, 100)
    (folder / name).unlink()
    state = TaskReader(folder).examine()
    assert (state.status, any(name in text for text in state.problems)) == ("damaged", True)
    with pytest.raises(ReadError, match=name):
        recover(folder)
    assert (folder / NAME).exists()


def test_an_older_copy_of_an_array_file_is_damaged(tmp_path):
    older = crash(tmp_path, 70, "older")
    folder = crash(tmp_path, 130)
    shutil.copy(older / "full.hdf5", folder)
    assert "full.hdf5: damaged: it has 64 datasets, and had 128" in TaskReader(folder).examine().problems[0]
    with pytest.raises(ReadError, match="had 128"):
        list(TaskReader(folder).iterarray("full"))


def test_an_older_journal_does_not_hide_that_the_latest_is_missing(tmp_path):
    older = crash(tmp_path, 70, "older")
    folder = crash(tmp_path, 300)
    shutil.copy(older / NAME, folder)
    assert TaskReader(folder).examine().status == "half_written"
    for _ in range(2):
        with pytest.raises(ReadError, match="later ones missing"):
            recover(folder)
    assert TaskReader(folder).examine().status == "half_written"


def test_a_table_that_is_edited_after_a_crash_is_damaged_and_stays(tmp_path):
    folder = crash(tmp_path, 100)
    table = folder / "trials.csv"
    table.write_text(table.read_text().replace("0,0.0", "0,0.125"))
    state = TaskReader(folder).examine()
    assert (state.status, state.table.rows[0][:2]) == ("damaged", ["0", "0.125"])
    with pytest.raises(ReadError, match=r"trials.csv: damaged: the table is neither"):
        TaskReader(folder).trials  # noqa: B018
    content = table.read_bytes()
    with pytest.raises(ReadError, match=r"trials.csv: damaged"):
        recover(folder)
    assert (table.read_bytes(), (folder / NAME).exists()) == (content, True)
    table.write_text(table.read_text().replace("0,0.125", "0,0.0"))
    recover(folder)
    check_by_other_programs(folder, 100)


def test_a_journal_that_is_cut_lacks_its_last_trial_and_one_that_is_damaged_says_so(tmp_path):
    folder = crash(tmp_path, 12)
    journal = folder / NAME
    whole = journal.read_bytes().rstrip(b"\0")
    last = whole.rfind(b"LWTR")
    for cut in (last + 1, last + 10, (last + len(whole)) // 2, len(whole) - 1):
        for tail in (b"", bytes(1000)):
            journal.write_bytes(whole[:cut] + tail)
            assert check_trials(folder, 11) == 11
    for position in (5, len(whole) // 2, last - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        journal.write_bytes(flipped)
        assert NAME in TaskReader(folder).examine().problems[0]
        assert TaskReader(folder).examine().status == "damaged"
        with pytest.raises(ReadError, match=NAME):
            recover(folder)
        assert journal.read_bytes() == flipped
        shutil.rmtree(folder)
        folder = crash(tmp_path, 12)


def test_a_full_disk_loses_no_trial(tmp_path, monkeypatch):
    """Writing goes on where it stopped once there is room, also when the files could not be completed."""
    monkeypatch.setattr("labweave.formats.axopy.writer._MIN_TRIALS", 4)
    writer = TaskWriter(str(tmp_path))
    n_written, refused = 0, 0
    journal, recovery = (sys.modules[f"labweave.formats.axopy.{name}"] for name in ("journal", "recovery"))
    write_all, add_datasets = journal.write_all, recovery.add_datasets
    chance = random.Random(SEED)

    def full(work, likelihood):
        def run(*args):
            if chance.random() < likelihood:
                raise OSError(28, "No space left on device")
            work(*args)

        return run

    while n_written < 80:
        trial = one(n_written)
        with monkeypatch.context() as patch:
            patch.setattr(journal, "write_all", full(write_all, 0.15))
            patch.setattr(recovery, "add_datasets", full(add_datasets, 0.5))
            try:
                writer.write(trial)
            except OSError:
                refused += 1
        if trial.arrays["full"].data is None:  # it counts when its arrays are cleared
            n_written += 1
        elif n_written:
            assert check_trials(tmp_path, n_written) == n_written
    writer.close()
    assert refused > 5
    check_by_other_programs(tmp_path, 80)


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


def test_a_power_cut_loses_no_trial_that_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr("labweave.formats.axopy.writer._MIN_TRIALS", 4)
    chance, folder = random.Random(SEED), tmp_path / "t"
    folder.mkdir()
    disk, writer, cuts = Disk(monkeypatch, folder), TaskWriter(str(folder)), []

    def cut():
        if writer.trials.n_rows and chance.random() < 0.2:
            cuts.append((writer.trials.n_rows, disk.cut_power(tmp_path / f"cut{len(cuts)}", chance)))

    disk.on_sync = cut
    for n in range(60):
        trial = one(n)
        if n % 25 == 7:
            trial.attrs[f"new{n}"] = 1
        writer.write(trial)
        cut()
    assert len(cuts) > 15
    for n_trials, left in cuts:
        n_trials = check_trials(left, n_trials)
        recover(left)
        check_by_other_programs(left, n_trials)


def test_what_a_killed_writer_left_is_complete_in_an_archive(tmp_path):
    (tmp_path / "data" / "p0").mkdir(parents=True)
    folder = crash(tmp_path, 100).rename(tmp_path / "data" / "p0" / "t")
    assert recover(tmp_path) == []
    with pytest.raises(ValueError, match="earlier writer"):
        TaskWriter(str(folder)).write(one(100))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    archive = storage_to_zip(str(tmp_path / "data"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with zipfile.ZipFile(archive) as packed:
        assert len(packed.namelist()) == 3
        packed.extractall(tmp_path / "out")
    assert TaskReader(zipfile.Path(archive, "data/p0/t/")).array("full").shape == (300, 40)
    check_by_other_programs(tmp_path / "out" / "data" / "p0" / "t", 100)
    write_hdf5(folder / "full.hdf5", [1], "99")
    with zipfile.ZipFile(storage_to_zip(str(tmp_path / "data"))) as packed:
        assert f"data/p0/t/{NAME}" in packed.namelist()
    assert TaskReader(zipfile.Path(tmp_path / "data.zip", "data/p0/t/")).examine().status == "damaged"


def test_a_writer_whose_task_was_written_anew_leaves_it_alone(tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    older = TaskWriter(folder)
    older.write(one(0))
    shutil.rmtree(folder)
    folder.mkdir()
    writer = TaskWriter(folder)
    writer.write(one(0))
    with pytest.raises(ValueError, match="deleted or replaced"):
        older.write(one(1))
    older.close()
    writer.write(one(1))
    assert check_trials(folder, 2) == 2


def test_the_state_of_a_journal_tells_of_every_trial(tmp_path):
    assert journal_state(tmp_path) is None
    writer, states = TaskWriter(tmp_path), set()
    for n in range(5):
        writer.write(one(n))
        states.add(journal_state(tmp_path))
    writer.close()
    assert (len(states), journal_state(tmp_path)) == (5, None)


def test_a_task_is_read_while_it_is_written(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        for _ in range(10):
            n = int(process.stdout.readline())
            reader = TaskReader(tmp_path)
            assert reader.examine().problems == []
            assert len(reader.trials) > n
            assert [int(values[0, 0]) for values in reader.iterarray("full")][: n + 1] == list(range(n + 1))
        process.kill()


def test_no_array_is_none_while_a_writer_completes_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr("labweave.formats.axopy.writer._MIN_TRIALS", 1)
    writer = TaskWriter(tmp_path)
    writer.write(one(0))

    def write():
        for n in range(1, 150):
            writer._n_complete = 0 if n % 2 else n  # the files are completed at every second trial
            writer.write(one(n))
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    n_read = 0
    while thread.is_alive():
        reader = TaskReader(tmp_path)
        assert [None if values is None else int(values[0, 0]) for values in reader.iterarray("full")] == list(
            range(len(reader.trials))
        )
        assert reader.examine().problems == []
        n_read += 1
    thread.join()
    assert n_read > 3
    assert check_trials(tmp_path, 150) == 150


def test_no_trial_waits_while_many_are_copied(tmp_path, monkeypatch):
    """The files are completed after 2, 4 and 8 trials; the others are in the journal until the writer is closed."""
    monkeypatch.setattr("labweave.formats.axopy.writer._MIN_TRIALS", 2)
    monkeypatch.setattr("labweave.formats.axopy.writer._MAX_TRIALS", 8)
    writer, steps = TaskWriter(str(tmp_path)), []
    reader = TaskReader(tmp_path)
    for n in range(40):
        writer.write(one(n))
        lines = (tmp_path / "trials.csv").read_text().splitlines()
        steps += [n + 1] if len(lines) == n + 2 and n else []
        assert len(reader.examine().table.rows) == n + 1
    assert steps == [2, 4, 8]
    writer.close()
    assert check_trials(tmp_path, 40) == 40
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 40


def test_a_journal_that_is_known_is_read_on_from_its_end(tmp_path):
    writer = TaskWriter(str(tmp_path))
    known = None
    for n in range(12):
        writer.write(one(n))
        if n % 3 == 0:
            with open_journal(tmp_path, known) as known, open_journal(tmp_path) as anew:
                assert (known.texts, known.arrays, known.state) == (anew.texts, anew.arrays, anew.state)
    place = tmp_path / "journal.labweave"
    content = bytearray(place.read_bytes())
    at = known.arrays["full"]["5"].record + 30
    with open_journal(tmp_path, known) as known:
        content[at] ^= 1
        place.write_bytes(content)
        with pytest.raises(ReadError, match="damaged"):  # it was not when it was read first
            known.read("full", "5")
    content[at] ^= 1
    content[20:22] = b"!!"  # another journal, by its first record
    place.write_bytes(content)
    with open_journal(tmp_path, known) as anew:
        assert anew.damage
        assert not anew.texts


def test_records_that_come_while_a_journal_is_read_are_no_damage(tmp_path, monkeypatch):
    """The record that was not whole yet is, by the time that the one behind it is found."""
    writer = TaskWriter(tmp_path)
    writer.write(one(0))
    look = Journal._has_record_behind
    later = [one(1), one(2)]

    def look_later(self, position):
        while later:
            writer.write(later.pop(0))
        return look(self, position)

    monkeypatch.setattr(Journal, "_has_record_behind", look_later)
    with open_journal(tmp_path) as journal:
        assert (journal.damage, len(journal.texts)) == ("", 3)
    writer.close()
    assert check_trials(tmp_path, 3) == 3


def test_records_that_come_while_a_journal_is_read_are_not_those_of_the_one_before(tmp_path, monkeypatch):
    writer = TaskWriter(tmp_path)
    writer.write(one(0))
    read, later = Journal._read_from, [one(1)]

    def read_later(self, position):
        while later:
            writer.write(later.pop())
        return read(self, position)

    with open_journal(tmp_path) as known:
        monkeypatch.setattr(Journal, "_read_from", read_later)
        with open_journal(tmp_path, known) as journal, open_journal(tmp_path, known) as again:
            assert (len(known.texts), len(known.arrays["full"])) == (1, 1)
            assert len(journal.texts) == len(again.texts) == 2
            assert not again.damage
    writer.close()

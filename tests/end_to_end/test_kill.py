"""Killed anywhere, again and again, ingest and populate end where an undisturbed run ends."""

import contextlib
import os
import random
import signal
import subprocess
import time

import psutil
import pytest
from conftest import delete_results
from simulated import LAB, ask_for_everything, contents, sweeps_of, write_cell

import labweave
from labweave import populate
from labweave.analysis import add_cell_group, add_target_set

AMPLITUDES = (-40.0, 40.0, 80.0, 120.0, 160.0, 200.0, 240.0, 280.0)
N_CELLS, SEED = 4, 2026
KILLS, KILLS_ON_MYSQL = 30, 10  # MariaDB, with the same driver and dialect, has all of them
TARGETS = [
    {"efeature": name, "protocol": "IDrest", "amplitude": amplitude, "tolerance": 30.0}
    for name in ("Spikecount", "AP1_amp")
    for amplitude in (100.0, 150.0)
]
BOOKKEEPING = {"ingestion.run", "ingestion.change", "work.worker"}

pytestmark = pytest.mark.slow


class Lab:
    """A folder of cells, a prefix, and the commands of an unattended night."""

    def __init__(self, folder, url, prefix, command):
        self.folder, self.url, self.prefix, self.command = folder, url, prefix, command
        options = ["--lab", LAB, "--subject", "m-{cell}", "--session-date", "2026-01-02"]
        self.commands = {"ingest": ["ingest", "ephys", folder, *options], "populate": ["populate", "--workers", "2"]}

    def start(self, command):
        return self.command.start(*self.commands[command], prefix=self.prefix, cwd=self.folder.parent)

    def finish(self, command):
        began = time.monotonic()
        process = self.start(command)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        return time.monotonic() - began

    def set_up(self):
        with labweave.connect(self.url, prefix=self.prefix):
            add_target_set("t", TARGETS)

    def group(self):
        with labweave.connect(self.url, prefix=self.prefix):
            add_cell_group("all")
            ask_for_everything()


def end(process):
    """Kill a process and all it started, and wait until they are gone."""
    everyone = [process.pid, *(child.pid for child in descendants(process))]
    with contextlib.suppress(ProcessLookupError):  # it ended by itself, just now
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in everyone):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def descendants(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(process):
    found = []
    for child in descendants(process):
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def facts(url, prefix):
    """Return what is known, without who did it when."""
    left_out = {"run", "mtime_ns", "made_at", "made_by", "host", "seconds"}
    return {
        table: sorted(tuple((name, value) for name, value in row if name not in left_out) for row in rows)
        for table, rows in contents((url, prefix)).items()
        if table not in BOOKKEEPING and not table.startswith("meta.") and ".~" not in table
    }


def test_kills_leave_what_an_undisturbed_run_leaves(database_url, labweave_command, new_lab, tmp_path):
    chance = random.Random(SEED)
    lab = Lab(tmp_path / "cells", database_url, new_lab(), labweave_command)
    variants = dict.fromkeys(range(N_CELLS), 0)
    for index, variant in variants.items():
        write_cell(lab.folder, variant, f"cell{index}", sweeps=sweeps_of(variant, N_CELLS, AMPLITUDES))
    lab.set_up()
    with labweave.connect(database_url, prefix=lab.prefix) as database:
        kills = KILLS_ON_MYSQL if database.connection.adapter.product == "mysql" else KILLS
    seconds = {"ingest": lab.finish("ingest")}
    lab.group()
    seconds["populate"] = lab.finish("populate")

    moments, number = [], 0
    while len(moments) < kills:
        assert number < 4 * kills, f"only {len(moments)} of {number} could be killed"
        command = "ingest" if number % 2 == 0 else "populate"
        if command == "ingest":
            # Other recordings every time, so that every table has something to do.
            for index in chance.sample(range(N_CELLS), 3):
                variants[index] = (variants[index] + 1) % N_CELLS
                sweeps = sweeps_of(variants[index], N_CELLS, AMPLITUDES)
                write_cell(lab.folder, variants[index], f"cell{index}", sweeps=sweeps)
        elif number % 6 == 1:
            lab.finish("ingest")
        began = time.monotonic()
        process = lab.start(command)
        delay = seconds[command] * (0.15 + 0.85 * ((number // 2 * 0.618) % 1.0))
        number += 1
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            crew = workers(process)
            if command == "populate" and len(moments) % 4 == 3 and crew:
                chance.choice(crew).kill()
                out, err = process.communicate(timeout=120)
                assert process.returncode in (0, 1) and "Traceback" not in err, (number, out + err)
                moments.append((number, "one worker", round(delay, 2)))
                continue
            end(process)
            moments.append((number, command, round(delay, 2)))
        else:
            # It had less to do than the run that was measured, or the machine is faster now.
            process.communicate()
            seconds[command] = min(seconds[command], time.monotonic() - began)

    lab.finish("ingest")
    with labweave.connect(database_url, prefix=lab.prefix):
        # Populate may have met files that were newer than what the killed ingest had read of them.
        assert {"not the file that was ingested" in error.reason for error in populate.errors()} <= {True}
        populate.retry()
    lab.finish("populate")
    with labweave.connect(database_url, prefix=lab.prefix):
        assert populate.errors() == []
        assert populate.run().made == 0

    calm = Lab(lab.folder, database_url, new_lab(), labweave_command)
    calm.set_up()
    calm.finish("ingest")
    calm.group()
    calm.finish("populate")
    expected, found = facts(database_url, calm.prefix), facts(database_url, lab.prefix)
    assert sum(map(len, expected.values())) > N_CELLS * len(AMPLITUDES) * 3
    assert len(expected["efeature.__extraction"]) == 1 and len(expected["rheobase.__rheobase"]) == N_CELLS
    assert found == expected, moments


def test_a_run_stopped_at_any_moment_leaves_no_job_reserved_or_failed(
    database_url, labweave_command, new_lab, tmp_path
):
    lab = Lab(tmp_path / "cells", database_url, new_lab(), labweave_command)
    for index in range(N_CELLS):
        write_cell(lab.folder, index, f"cell{index}", sweeps=sweeps_of(index, N_CELLS, AMPLITUDES))
    lab.set_up()
    lab.finish("ingest")
    lab.group()
    workers_of = {1: ["populate"], 2: ["populate", "--workers", "2"]}
    seconds, met, number = {}, 0, 0
    while met < 8:
        assert number < 60, f"only {met} of {number} were stopped in the middle"
        n_workers = 1 + number % 2
        lab.commands["populate"] = workers_of[n_workers]
        with labweave.connect(database_url, prefix=lab.prefix) as database:
            delete_results(database)
        if n_workers not in seconds:
            seconds[n_workers] = lab.finish("populate")
            number += 1
            continue
        process = lab.start("populate")
        began = time.monotonic()
        # From when the handlers are there to the end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds[n_workers] * (0.1 + 0.85 * ((number // 2 * 0.618) % 1.0)))
            seconds[n_workers] = min(seconds[n_workers], time.monotonic() - began)
        process.send_signal(signal.SIGTERM if number % 4 < 2 else signal.SIGINT)
        out, err = process.communicate(timeout=120)
        met += process.returncode in (130, 143)
        assert process.returncode in (0, 130, 143, -signal.SIGTERM, -signal.SIGINT), (number, out + err)
        # Python itself says so when the signal comes within a weakref callback, before the command's first line, or after its last.
        said = ("Exception ignored", "Error in atexit")
        is_pythons = any(text in err for text in said) or process.returncode == -signal.SIGINT
        assert "Traceback" not in err or is_pythons, (number, out + err)
        left = contents((database_url, lab.prefix))
        states = {
            value
            for table, rows in left.items()
            if ".~~" in table
            for row in rows
            for name, value in row
            if name == "status"
        }
        assert states <= {"pending"}, (number, states)
        assert process.returncode < 0 or left["work.worker"] == [], number
        number += 1

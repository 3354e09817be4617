"""The law of ingest for ONE cache tables, alone and beside session folders.

The tables are one unit: sessions and datasets come, change and go inside of it. See `test_law`.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_law import SEQUENCES, World, check_counts

from labweave import ingest
from labweave.errors import SourceError
from labweave.ingest import parts
from labweave.ingest.alf import tables
from labweave.schemas.ingestion import Source, SourceFile
from labweave.testing import empty, rows_of_tables

NUMBERS = (0, 1, 2)
FILES = ("alf/_ibl_trials.choice.npy", "alf/spikes.times.npy", "alf/wheel.position.npy", "raw/#v1#/log.events.csv")
"""The first two may be on the disk, too."""
WRONG: list[dict[str, Any]] = [{}, {"lab": "wronglab"}, {"no_hash": True}, {"trials": False}]


def uid(*parts: Any) -> str:
    return str(uuid.uuid3(uuid.NAMESPACE_DNS, repr(parts)))


class Stopped(BaseException):
    """Ends a run, as a signal does."""


class TablesWorld:
    """A folder of ONE cache tables with up to three sessions, and perhaps session folders."""

    has_person = False

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.sessions: dict[int, dict[str, Any]] = {}
        self.cut = False
        for number in NUMBERS:
            self.write(number, 0)

    # --- the tables

    def write(self, number: int, how: int) -> None:
        """Give a session: as it should be, or with other values, ids, names or insertions."""
        self.cut = False
        self.sessions[number] = {"how": how, "damage": None}
        self.save()

    def remove(self, number: int, _: int) -> None:
        self.sessions.pop(number, None)
        self.save()

    def damage(self, number: int, how: int) -> None:
        if how == 4:
            self.cut = True
        elif number in self.sessions:
            self.sessions[number]["damage"] = how
        self.save()

    def save(self) -> None:
        """Write the tables; without any session there are none."""
        for name in ("sessions.pqt", "datasets.pqt", "insertions.pqt"):
            (self.folder / name).unlink(missing_ok=True)
        if not self.sessions:
            return
        sessions, datasets, insertions = [], [], []
        for number, state in self.sessions.items():
            how, damage = state["how"], state["damage"]
            eid = uid("session", number, how == 3)
            sessions.append(
                {
                    "id": eid,
                    "lab": "my-lab" if damage == 0 else "",
                    "subject": ("m1", "m1", "m2", "m1", "m1")[how],
                    "date": "2026-01-02",
                    "number": number + 1,
                    "task_protocol": f"task{how}",
                    "projects": ("p", "p,q", "", "r", "p")[how],
                }
            )
            for at, path in enumerate(FILES[: 3 if how == 4 else 4]):
                datasets.append(
                    {
                        "eid": eid,
                        "id": uid(number, path if damage != 1 or at else FILES[1], how == 1),
                        "rel_path": FILES[1] if damage == 2 and at == 0 else path,
                        "file_size": 1000 + how,
                        "hash": uid(how).replace("-", ""),
                        "exists": True,
                        "default_revision": True,
                        "qc": ("PASS", "FAIL", None, "PASS", "PASS")[how],
                    }
                )
            names = (["probe00"], ["probe01"], [], ["probe00", "probe01"], ["probe00"])[how]
            for name in names:
                pid = uid("pid", number if damage != 3 else 0, name if how in (3, 4) else "")
                insertions.append({"eid": eid, "id": pid, "name": name, "model": "3B2", "serial": str(how)})
        pd.DataFrame(sessions).set_index("id").to_parquet(self.folder / "sessions.pqt")
        pd.DataFrame(datasets).set_index(["eid", "id"]).to_parquet(self.folder / "datasets.pqt")
        if insertions:
            pd.DataFrame(insertions).set_index(["eid", "id"]).to_parquet(self.folder / "insertions.pqt")
        if self.cut:
            path = self.folder / "datasets.pqt"
            path.write_bytes(path.read_bytes()[:-50])

    # --- session folders

    def put(self, number: int, how: int) -> None:
        """Write a session's folder: its files, with other values, with UUIDs in their names, or one file less."""
        self.take(number, 0)
        alf = self.folder / "m1" / "2026-01-02" / f"{number + 1:03d}" / "alf"
        alf.mkdir(parents=True)
        infix = {2: f".{uid('file', number)}", 3: f".{uid('other', number)}"}.get(how, "")
        np.save(alf / f"_ibl_trials.choice{infix}.npy", np.array([1, -1, 1]) * (1 + (how == 1)))
        if how != 4:
            np.save(alf / "spikes.times.npy", np.arange(10.0) + number + 10 * (how == 1))
        (alf / "log.events.csv").write_text("a,b\n") if how == 3 else None

    def take(self, number: int, _: int) -> None:
        folder = self.folder / "m1" / "2026-01-02" / f"{number + 1:03d}"
        for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
            if path.exists():
                path.rmdir() if path.is_dir() else path.unlink()

    # --- commands

    def run(self, which: int, how: int) -> None:
        """Give a command, to its end or not."""
        options = WRONG[which % len(WRONG)]
        with contextlib.suppress(Stopped), self.monkeypatch.context() as patch:
            n_parts, write = 0, parts._write_sessions

            def stop(*arguments: Any) -> Any:
                nonlocal n_parts
                n_parts += 1
                if n_parts > how + 1:
                    raise Stopped
                return write(*arguments)

            if how < 3:
                patch.setattr(parts, "_write_sessions", stop)
            self.ingest(**options)

    def ingest(self, **options: Any) -> ingest.IngestReport | None:
        for source in Source.to_arrays("source"):
            ingest.forget(source, undo=True)
        try:
            return ingest.run("alf", self.folder, **{"lab": "testlab", "move": True, "trials": True, **options})
        except SourceError as error:
            assert "Nothing in" in str(error), error
            return None

    def forget(self, _: int, which: int) -> None:
        for source in Source.to_arrays("source"):
            units = sorted(set((SourceFile & {"source": source}).to_arrays("unit").tolist()))
            if units:
                ingest.forget(source, units[which % len(units)] and [units[which % len(units)]])

    delete = World.delete


def step(names: tuple[str, ...]) -> Any:
    return st.tuples(st.sampled_from(names), st.sampled_from(NUMBERS), st.integers(0, 4))


TABLES = ("write", "write", "write", "remove", "damage", "run", "run", "forget")
BOTH = (*TABLES, "put", "put", "put", "take", "take")
DELETE = st.tuples(st.just("delete"), st.integers(0, 1000), st.booleans())


@pytest.mark.parametrize("names", [TABLES, BOTH], ids=["tables", "tables and folders"])
def test_the_right_command_is_as_if_it_had_been_the_only_one(database, tmp_path, monkeypatch, names):
    monkeypatch.setattr(tables, "BATCH", 4)  # a session a part

    @settings(
        max_examples=SEQUENCES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=SEQUENCES < 100,
        phases=[Phase.generate] if SEQUENCES < 100 and "LABWEAVE_LAW_SHRINK" not in os.environ else None,
    )
    @given(
        st.lists(
            st.tuples(st.one_of(step(names), step(names), step(names), DELETE), st.booleans()), min_size=1, max_size=6
        )
    )
    def law(steps):
        empty(database)
        world = TablesWorld(tmp_path / "world", monkeypatch)
        for (name, *arguments), is_run in steps:
            getattr(world, name)(*arguments)
            if is_run:
                world.ingest()
        for number, state in list(world.sessions.items()):
            world.write(number, state["how"])
        report = world.ingest()
        if report is None:
            return
        assert not report.failed, report
        gone = set((SourceFile & {"source": report.source, "file_status": "vanished"}).to_arrays("unit").tolist())
        if gone:
            ingest.forget(report.source, sorted(gone))
            world.ingest()  # folders beside forgotten tables have ids of their own
        again = ingest.run("alf", world.folder, lab="testlab", move=True, trials=True)
        assert (again.new, again.changed, again.failed) == (0, 0, 0), again
        check_counts()
        found = rows_of_tables(database)
        empty(database)
        world.ingest()
        expected = rows_of_tables(database)
        assert found.keys() == expected.keys()
        for table, rows in expected.items():
            assert found[table] == rows, table

    law()

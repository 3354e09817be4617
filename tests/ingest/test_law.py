"""The law of ingest: whatever went wrong before, the right command leaves the tables as if it had been the only one.

Hypothesis makes sequences of commands and mishaps: files that are edited, renamed, removed and put back, commands with
wrong options, runs that are stopped, rows that are deleted by DataJoint or by SQL. After each sequence the right
command is given, once; all tables but those of the ingestion itself must then equal those of an empty database that saw
only this command. Rows of units whose files are gone stay marked, so they are forgotten before the comparison.

LABWEAVE_LAW_SEQUENCES sets how many sequences are tried for each adapter.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import test_every_adapter as adapters
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from labweave import ingest
from labweave.database.declare import is_computed, schema_modules, short_name, table_classes
from labweave.database.reads import table_label
from labweave.errors import SourceError
from labweave.ingest.given import unpack
from labweave.schemas.ingestion import Given, Shared, SourceFile
from labweave.testing import empty, rows_of_tables

LAB = "testlab"
UNITS = (0, 1, 2)
SEQUENCES = int(os.environ.get("LABWEAVE_LAW_SEQUENCES", "8"))

STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(UNITS), st.booleans()),
    st.tuples(st.just("remove"), st.sampled_from(UNITS), st.none()),
    st.tuples(st.just("rename"), st.sampled_from(UNITS), st.none()),
    st.tuples(st.just("damage"), st.sampled_from(UNITS), st.none()),
    st.tuples(st.just("run"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("run"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("delete"), st.integers(0, 1000), st.booleans()),
)


class Stopped(BaseException):
    """Ends a run, as a signal does."""


class World:
    """A folder of three units and the commands that ingest it."""

    def __init__(self, kind: Any, wrong: list[dict[str, Any]], folder: Path, units: Path):
        self.kind, self.wrong, self.folder, self.units = kind, wrong, folder, units
        self.damaged: set[int] = set()
        self.moved: dict[int, Path] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number in UNITS:
            self.write(number, False)

    def files(self, number: int, changed: bool) -> Path:
        """Return a folder with the files of a unit alone, made once."""
        made = self.units / f"{number}-{changed}"
        if not made.exists():
            made.mkdir(parents=True)
            self.kind.write_unit(made, number, changed=changed)
        return made

    def write(self, number: int, changed: bool) -> None:
        self.remove(number)
        shutil.copytree(self.files(number, changed), self.folder, dirs_exist_ok=True)

    def remove(self, number: int, _: Any = None) -> None:
        for changed in (False, True):
            for path in self.files(number, changed).rglob("*"):
                if path.is_file():
                    (self.folder / path.relative_to(self.files(number, changed))).unlink(missing_ok=True)
        self.damaged.discard(number)
        if (moved := self.moved.pop(number, None)) is not None and moved.exists():
            (shutil.rmtree if moved.is_dir() else Path.unlink)(moved)
        self.tidy()

    def tidy(self) -> None:
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def rename(self, number: int, _: Any = None) -> None:
        """Give the folder or file that is a unit's own another name."""
        own, new = self.kind.rename(number)
        if number not in self.damaged and (self.folder / own).exists() and not (self.folder / new).exists():
            (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
            self.moved[number] = (self.folder / own).rename(self.folder / new)
            self.tidy()

    def damage(self, number: int, _: Any = None) -> None:
        """Cut the unit's files short."""
        self.damaged.add(number)
        for path in self.files(number, False).rglob("*"):
            here = self.folder / path.relative_to(self.files(number, False))
            if path.is_file() and here.is_file():
                here.write_bytes(here.read_bytes()[: here.stat().st_size // 2])

    def run(self, which: int, stopped: bool) -> None:
        """Give a command: the right one or a wrong one, to its end or not."""
        options = [{}, *self.wrong][which % (1 + len(self.wrong))]
        seen = 0

        def stop(*where: Any) -> None:
            nonlocal seen
            seen += 1
            if stopped and seen > 1 + which % 4:
                raise Stopped

        with contextlib.suppress(Stopped):
            self.ingest(progress=stop, **options)

    def ingest(self, **options: Any) -> ingest.IngestReport | None:
        """Ingest the folder; nothing happens when it has no unit."""
        try:
            return ingest.run(self.kind.adapter, self.folder, **{"lab": LAB, **self.kind.options, **options})
        except SourceError as error:
            assert "Nothing in" in str(error), error
            return None

    def delete(self, which: int, by_sql: bool) -> None:
        """Delete a row of some table."""
        filled = [
            table
            for module in schema_modules()
            if short_name(module) not in ("ingestion", "work", "alyx")
            for table in table_classes(module)
            if not is_computed(table) and not hasattr(table, "contents") and len(table())
        ]
        if not filled:
            return
        table = filled[which % len(filled)]
        keys = table().keys()
        row = table & random.Random(which).choice(sorted(keys, key=str))
        note(f"delete {table_label(table)} {row.keys()}")
        if by_sql:
            try:
                row.delete_quick()
            except Exception as error:  # others hang on it
                assert "foreign key" in str(error).lower(), error
        else:
            row.delete(prompt=False)


def check_counts() -> None:
    """The rows of no session must be counted as often as units give them."""
    given: dict[tuple, int] = {}
    units: dict[tuple[str, str], set[tuple]] = {}
    for row in Given().to_dicts():
        keys = unpack(row["eid"], row["given_keys"]).get("", {})
        units.setdefault((row["source"], row["unit"]), set()).update(
            (name, *key) for name in keys for key in keys[name]
        )
    for keys in units.values():
        for key in keys:
            given[key] = given.get(key, 0) + 1
    assert {(row["table_name"], *row["row_key"]): row["n_units"] for row in Shared().to_dicts()} == given


class Ephys(adapters.TestEphys):
    __test__ = False
    wrong: ClassVar = [
        {"subject": "wrong"},
        {"session_date": "2026-01-03"},
        {"session_number": 2},
        {"species": "Rattus norvegicus"},
        {"cell_type": "L5PC"},
    ]

    def rename(self, number):
        return f"cell{number}.h5", f"other{number}.h5"


class Alf(adapters.TestAlf):
    __test__ = False
    wrong: ClassVar = [{"trials": False}, {"no_hash": True}]

    def rename(self, number):
        return f"m1/2026-01-02/{number + 1:03d}", f"m2/2026-01-02/{number + 1:03d}"


class Axopy(adapters.TestAxopy):
    __test__ = False
    wrong: ClassVar = [{"session_date": "2026-01-03"}, {"session_date": "2026-01-03", "session_number": 2}]

    def rename(self, number):
        return f"p{number}/reaching", f"p{number}/walking"


class Stytra(adapters.TestStytra):
    __test__ = False
    wrong: ClassVar = [{"subject_from": "fish_id"}, {"subject_from": "animal_id"}]

    def rename(self, number):
        day = (adapters.START + adapters.dt.timedelta(days=number)).strftime("%y%m%d")
        return f"okr/{day}_f{number}", f"moved/{day}_f{number}"


class OneData(adapters.TestOneData):
    __test__ = False
    wrong: ClassVar = [{"trust_pickles": True}]

    def rename(self, number):
        return f"M1/2024-01-02/{number}", f"M2/2024-01-02/{number}"


@pytest.mark.parametrize("kind", [Ephys, Alf, Axopy, Stytra, OneData], ids=lambda kind: kind.adapter)
def test_the_right_command_is_as_if_it_had_been_the_only_one(database, tmp_path, kind):
    kind = kind()

    @settings(
        max_examples=SEQUENCES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=SEQUENCES < 100,
        phases=[Phase.generate] if SEQUENCES < 100 else [Phase.generate, Phase.shrink],
    )
    @given(st.lists(STEPS, min_size=1, max_size=8))
    def law(steps):
        empty(database)
        world = World(kind, kind.wrong, tmp_path / "world", tmp_path / "units")
        for name, *arguments in steps:
            getattr(world, name)(*arguments)
        for number in sorted(world.damaged):  # what can't be read keeps its rows: here all can be read in the end
            world.write(number, False)
        report = world.ingest()
        assert report is None or not report.failed, report
        if report is not None:
            gone = set((SourceFile & {"source": report.source, "file_status": "vanished"}).to_arrays("unit").tolist())
            if gone:
                ingest.forget(report.source, sorted(gone))
        check_counts()
        found = rows_of_tables(database)
        empty(database)
        world.ingest()
        expected = rows_of_tables(database)
        if report is None:
            return
        assert found.keys() == expected.keys()
        for table, rows in expected.items():
            assert found[table] == rows, table

    law()

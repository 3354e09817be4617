"""The law of ingest: whatever went wrong before, the right command leaves the tables as if it had been the only one.

Hypothesis makes sequences of commands and mishaps: files that are edited, swapped, renamed, removed and put back,
locations that are moved, commands with wrong options or for a wrong lab, runs that are stopped or killed, two at once,
rows that are deleted or edited by DataJoint or by SQL. After each sequence the right command is given, once; all tables
but those of the ingestion itself must then equal those of an empty database that saw only this command, and a person's
rows are as they were. Rows of units whose files are gone stay marked, so they are forgotten before the comparison; when
others disagreed with them, forget says that they are read again by the next command, which is then given.

LABWEAVE_LAW_SEQUENCES sets how many sequences are tried for each adapter, LABWEAVE_LAW_SEED which ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import datajoint as dj
import h5py
import pytest
import test_every_adapter as adapters
from datajoint.errors import IntegrityError
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from simulated import sweeps_of, write_cell
from test_stytra import write_session

import labweave
from labweave import ingest, populate
from labweave.database.connection import LabConnection
from labweave.database.declare import is_computed, schema_modules, short_name, table_classes
from labweave.database.reads import table_label
from labweave.database.writes import set_values
from labweave.errors import ConfigError, SourceError
from labweave.formats.onedata import LoadingRecipe
from labweave.ingest.files import NOT_READ
from labweave.ingest.keys import by_table, join, name_of, plain, unpack
from labweave.ingest.onedata import save_recipe
from labweave.schemas.dataset import Dataset, FileRecord
from labweave.schemas.efeature import CellGroup
from labweave.schemas.ingestion import Given, Shared, Source, SourceFile
from labweave.schemas.onedata import OneSession
from labweave.schemas.recording import Cell, Protocol, Recording
from labweave.schemas.task import Task, TaskRun
from labweave.testing import empty, rows_of_tables

LAB, OTHER_LAB = "testlab", "wronglab"
UNITS = (0, 1, 2)
SEQUENCES = int(os.environ.get("LABWEAVE_LAW_SEQUENCES", "8"))
SEED = int(os.environ.get("LABWEAVE_LAW_SEED", "0"))

NOT_YET = set[str]()
"""Steps that are known to break the law, and are left out until they no longer do."""

STEPS = (
    *("write", "write", "remove", "rename", "swap", "damage", "disagree", "name_ids", "empty_folder", "move_folder"),
    *("run", "run", "run", "kill", "two_at_once", "another_name", "wrong_lab", "wrong_case", "again"),
    *("delete", "delete", "edit", "rename_row", "forget", "populate"),
)
SEQUENCE = st.lists(
    st.tuples(st.sampled_from([name for name in STEPS if name not in NOT_YET]), st.integers(0, 1000), st.booleans()),
    min_size=1,
    max_size=8,
)


def law_settings(law: Any) -> Any:
    """Make a test try as many sequences as are asked for, the same ones every time."""
    return settings(
        max_examples=SEQUENCES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate, Phase.shrink][: 1 + (SEQUENCES > 8)],
    )(seed(SEED)(law))


class Stopped(BaseException):
    """Ends a run, as Ctrl-C does."""


class World:
    """A location of three units, what happens to them, and the commands that ingest it.

    Each step is a method, which gets a number and a flag to choose by.
    """

    def __init__(self, kind: Any, database: Any, folder: Path, has_person: bool):
        self.kind, self.database, self.folder, self.made = kind, database, folder / "world-0", folder / "made"
        self.at: dict[int, Path] = {}
        self.broken: set[int] = set()
        self.is_edited = self.is_populated = False
        shutil.rmtree(self.folder.parent / "moved", ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for number in UNITS:
            self.write(number)
        self.has_person = has_person
        if has_person:
            self.ingest()
            kind.add_person(database)

    # --- files

    def unit(self, number: int) -> int:
        return UNITS[number % len(UNITS)]

    def write(self, number: int, is_changed: bool = False, variant: str = "") -> None:
        """Write a unit's files at their own place."""
        number = self.unit(number)
        made = self.made / f"{number}-{variant or is_changed}"
        own, _ = self.kind.names(number)
        if not made.exists():
            made.mkdir(parents=True)
            if variant:
                self.kind.write_other(made, number)
            else:
                self.kind.write_unit(made, number, changed=is_changed)
        self.remove(number)
        for other, path in list(self.at.items()):
            if path == Path(own):
                self.remove(other)
        shutil.copytree(made, self.folder, dirs_exist_ok=True)
        self.at[number] = Path(own)

    def remove(self, number: int, _: bool = False) -> None:
        number = self.unit(number)
        self.broken.discard(number)
        if number in self.at:
            path = self.folder / self.at.pop(number)
            if path.exists():  # it was emptied, and its folder may be gone
                (shutil.rmtree if path.is_dir() else Path.unlink)(path)
        self.tidy()

    def tidy(self) -> None:
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def empty_folder(self, number: int, _: bool) -> None:
        """Delete the files of a unit, and leave its folders."""
        number = self.unit(number)
        if number in self.at:
            path = self.folder / self.at[number]
            for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
                file.unlink()
            if path.is_file() or not path.exists():
                self.at.pop(number)
            self.broken.add(number)

    def rename(self, number: int, _: bool) -> None:
        """Give the folder or file that is a unit's own another name."""
        number = self.unit(number)
        own, new = map(Path, self.kind.names(number))
        if self.at.get(number) == own and number not in self.broken and not (self.folder / new).exists():
            (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / own).rename(self.folder / new)
            self.at[number] = new
            self.tidy()

    def swap(self, number: int, _: bool) -> None:
        """Let two units have each other's place."""
        one, other = self.unit(number), self.unit(number + 1)
        if self.at.keys() >= {one, other} and self.broken.isdisjoint((one, other)):
            paths = [self.folder / self.at[one], self.folder / self.at[other]]
            aside = paths[0].rename(self.folder.parent / "aside")
            paths[1].rename(paths[0])
            aside.rename(paths[1])
            self.at[one], self.at[other] = self.at[other], self.at[one]

    def damage(self, number: int, _: bool) -> None:
        """Cut a unit's files short."""
        number = self.unit(number)
        if number in self.at:
            self.broken.add(number)
            path = self.folder / self.at[number]
            for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
                os.truncate(file, file.stat().st_size // 2)

    def disagree(self, number: int, _: bool) -> None:
        """Say something else in one unit of what it shares with others; it is corrected in the end."""
        if hasattr(self.kind, "write_other"):
            self.write(number, variant="other")
            self.broken.add(self.unit(number))

    def name_ids(self, number: int, is_second: bool) -> None:
        """Put ids into the names of files, or other ones."""
        number = self.unit(number)
        if number in self.at and number not in self.broken:
            self.kind.name_ids(self.folder / self.at[number], f"{number}{int(is_second)}")

    def move_folder(self, _: int, __: bool) -> None:
        """Move the whole location, and go on from there."""
        moved = self.folder.parent / ("moved" if self.folder.name == "world-0" else ".") / self.folder.name
        if self.folder.parent.name == "moved":
            moved = self.folder.parent.parent / self.folder.name
        moved.parent.mkdir(exist_ok=True)
        self.folder = self.folder.rename(moved)

    # --- commands

    def ingest(self, **options: Any) -> ingest.IngestReport | None:
        """Ingest the location; nothing happens when it has no unit, or when the command is refused."""
        try:
            return ingest.run(self.kind.adapter, self.folder, **{"lab": LAB, **self.kind.options, **options})
        except SourceError as error:
            assert "Nothing in" in str(error), error
        except ConfigError as error:
            if not options.keys() & {"lab", "source"} and "--move" not in str(error):
                raise
        return None

    def right(self) -> ingest.IngestReport | None:
        """Give the right command, as a person does: with --move when a wrong lab has the location."""
        others = [Path(row["location"]) for row in (Source & {"source_lab": OTHER_LAB}).to_dicts()]
        has_other = any(place == self.folder.resolve() or not place.exists() for place in others)
        return self.ingest(again=self.is_edited) or (
            self.ingest(again=self.is_edited, move=True) if has_other else None
        )

    def options(self, number: int) -> dict[str, Any]:
        return [{}, *self.kind.wrong][number % (1 + len(self.kind.wrong))]

    def run(self, number: int, is_stopped: bool) -> None:
        """Give the right command or a wrong one, to its end or not."""
        seen = 0

        def stop(*where: Any) -> None:
            nonlocal seen
            seen += 1
            if is_stopped and seen > 1 + number % 4:
                raise Stopped

        with contextlib.suppress(Stopped):
            self.ingest(progress=stop, **self.options(number))

    def kill(self, number: int, _: bool) -> None:
        """Give a command, which is killed in the middle of a transaction or between two."""
        left = 10 + number

        def work() -> None:
            query = LabConnection.query

            def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return query(*args, **kwargs)

            LabConnection.query = counted
            self.ingest(**self.options(number))

        assert os.waitstatus_to_exitcode(os.waitpid(self.start(work), 0)[1]) in (0, -signal.SIGKILL)

    def two_at_once(self, number: int, _: bool) -> None:
        """Give the same command twice, in processes of their own."""
        for process in [self.start(lambda: self.ingest(**self.options(number))) for _ in range(2)]:
            assert os.waitpid(process, 0)[1] == 0

    def start(self, work: Callable[[], Any]) -> int:
        """Do something in a process of its own, with a connection of its own."""
        if process := os.fork():
            return process
        status = 1
        try:
            database, labweave.database._open = self.database, None
            labweave.connect(database.connection.url, prefix=database.prefix)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def again(self, _: int, __: bool) -> None:
        self.ingest(again=True)

    def another_name(self, _: int, __: bool) -> None:
        """Give the source another name."""
        self.ingest(source="named")

    def wrong_lab(self, _: int, is_both: bool) -> None:
        """Give the wrong lab, and say that the rows are to be moved, or to be both labs'."""
        self.ingest(lab=OTHER_LAB, **{"also" if is_both else "move": True})

    def wrong_case(self, _: int, __: bool) -> None:
        """Give the command while a name is written in another case."""
        if not self.broken:
            kept = shutil.copytree(self.folder, self.folder.parent / "kept")
            self.kind.swap_case(self.folder)
            self.ingest()
            shutil.rmtree(self.folder)
            kept.rename(self.folder)

    def forget(self, number: int, is_undone: bool) -> None:
        """Forget a unit, or want all again."""
        units = sorted({(row["source"], row["unit"]) for row in SourceFile().to_dicts()})
        if units:
            source, unit = units[number % len(units)]
            with contextlib.suppress(SourceError):  # a person's row hangs on it
                ingest.forget(source, *[()] if is_undone else [[unit]], undo=is_undone)

    def populate(self, *_: Any) -> None:
        """Make results; of files that have changed since they were ingested there are none."""
        if self.kind.results:
            self.is_populated = True
            populate.run(self.kind.results)

    # --- rows

    def delete(self, which: int, by_sql: bool) -> None:
        """Delete a row of some table."""
        filled = [
            table
            for module in schema_modules()
            if short_name(module) not in ("ingestion", "provenance", "work", "alyx")
            for table in table_classes(module)
            if not is_computed(table) and not hasattr(table, "contents") and keys_of_units(table)
            if not issubclass(table, (dj.Part, CellGroup))
        ]
        if not filled:
            return
        table = filled[which % len(filled)]
        row = table & random.Random(which).choice(keys_of_units(table))
        note(f"delete {table_label(table)} {row.keys()}")
        if by_sql or self.has_person:
            try:
                row.delete_quick()
            except Exception as error:  # others hang on it
                assert "foreign key" in str(error).lower(), error
        else:
            row.delete(prompt=False)

    def edit(self, which: int, _: bool) -> None:
        """Change a value that the source says; the right command is then given with --again."""
        table, values = self.kind.edits[which % len(self.kind.edits)]
        if keys := keys_of_units(table):
            table.update1({**keys[which % len(keys)], **values})
            self.is_edited = True

    def rename_row(self, which: int, _: bool) -> None:
        """Change the key of a row, which those that refer to it follow."""
        table, attribute = self.kind.keys[which % len(self.kind.keys)]
        if keys := sorted(table().keys(), key=str):
            key = keys[which % len(keys)]
            note(f"rename {table_label(table)} {key}")
            with contextlib.suppress(IntegrityError):  # MySQL 9.7 does not follow it to tables further down
                set_values(table, {attribute: f"other {which}"}, key)

    # --- the end

    def end(self) -> ingest.IngestReport | None:
        """Put right what is wrong with the files, give the right command, and forget what is gone."""
        for number in sorted(self.broken):  # what can't be read keeps its rows: here all can be read in the end
            self.write(number)
        if self.has_person:
            self.write(0)
        for source in Source().to_arrays("source").tolist():
            ingest.forget(source, undo=True)
        report = self.right()
        for row in Source().to_dicts():
            gone = SourceFile & {"source": row["source"]}
            if report is not None and row["source"] == report.source:
                gone &= {"file_status": "vanished"}
            elif row["source_lab"] == LAB and Path(row["location"]).exists():
                continue
            if units := sorted(set(gone.to_arrays("unit").tolist())):
                ingest.forget(row["source"], units)
        if report is not None and SourceFile & {"source": report.source, "options_sha256": NOT_READ}:
            self.is_edited = False
            return self.right() or report
        return report

    def rows(self, source: str) -> dict[str, list[tuple]]:
        """Return all rows that count, results made, without the name of their source."""
        if self.is_populated:
            populate.retry()
            assert not populate.run(self.kind.results).failed
        return {
            table: sorted(tuple((name, value.replace(source, "SOURCE")) for name, value in row) for row in rows)
            for table, rows in rows_of_tables(self.database).items()
        }


def keys_of_units(table: Any) -> list[dict[str, Any]]:
    """Return the keys of a table's rows that units gave; others are a person's."""
    given = by_table(join(unpack(row["eid"], row["given_keys"]) for row in Given().to_dicts()))
    own = given.get(name_of(table), set())
    return sorted((key for key in table().keys() if tuple(map(plain, key.values())) in own), key=str)


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


def add_group(cells: Sequence[dict[str, Any]] = ()) -> None:
    """Add a person's group of cells, of the cell called a without others."""
    CellGroup.insert1({"cell_group": "good"})
    CellGroup.Member.insert([{"cell_group": "good", **key} for key in cells or (Cell & {"cell": "a"}).keys()])


class Kind:
    """What is the adapter's own: how units are written, named, wrongly ingested and edited."""

    __test__ = False
    wrong: ClassVar[list[dict[str, Any]]] = []
    results: ClassVar[list[str]] = []
    edits: ClassVar[list[tuple[Any, dict[str, Any]]]]
    keys: ClassVar[list[tuple[Any, str]]] = [(Task, "task")]
    hangs_on: ClassVar[Any] = TaskRun
    """What a person's notes are about."""

    def names(self, number: int) -> tuple[str, str]:
        """Return the path that all files of a unit are at or below, and another one that it can have."""
        raise NotImplementedError

    def name_ids(self, path: Path, digits: str) -> None:
        """Put ids into the names of a unit's files."""

    def swap_case(self, folder: Path) -> None:
        """Write a name in another case."""
        raise NotImplementedError

    def declare(self, database: Any) -> dj.Schema:
        """Make a table of the lab's own."""
        schema = dj.Schema(f"{database.prefix}own", connection=database.connection)

        class Note(dj.Manual):
            definition = """
            -> Noted
            ---
            note : varchar(64)
            """

        self.Note = schema(Note, context={"Noted": self.hangs_on})
        return schema

    def add_person(self, database: Any) -> None:
        """Add a person's rows to what the first unit gave."""
        self.Note.insert([{**key, "note": "nice"} for key in self.noted()])

    def noted(self) -> list[dict[str, Any]]:
        """Return the keys of what the first unit gave."""
        own = self.names(0)[0]
        if self.hangs_on is TaskRun:
            return [self.key_of(row) for row in TaskRun().to_dicts() if row["run_path"].startswith(own)]
        return [self.key_of(row) for row in FileRecord().to_dicts() if row["relative_path"].startswith(own)]

    def key_of(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in self.hangs_on.primary_key}

    def persons_rows(self) -> list[dict[str, Any]]:
        """Return them."""
        return sorted(self.Note().to_dicts(), key=str)


class Ephys(Kind, adapters.TestEphys):
    """Two cells of one animal, and one of another."""

    __test__ = False
    options: ClassVar = {"session_date": "2026-01-02"}
    results: ClassVar = ["RecordingStimulus", "Rheobase"]
    edits: ClassVar = [(Recording, {"reader": "igor"}), (Cell, {"cell_type": "basket"})]
    keys: ClassVar = [(Cell, "cell"), (Protocol, "protocol")]
    hangs_on = Cell
    wrong: ClassVar = [
        {"session_date": "2026-01-03"},
        {"session_number": 2},
        {"species": "Rattus norvegicus"},
        {"cell_type": "L5PC"},
    ]

    def write_unit(self, folder, number, *, changed=False, species="Mus musculus"):
        sweeps = [{**sweep, "voltage": sweep["voltage"] + changed} for sweep in sweeps_of(number)[:2]]
        write_cell(folder, number, sweeps=sweeps, subject=f"m{number // 2}", species=species)

    def write_other(self, folder, number):
        self.write_unit(folder, number, species="Rattus norvegicus")

    def names(self, number):
        return f"cell{number}.h5", f"other{number}.h5"

    def swap_case(self, folder):
        for path in folder.glob("*.h5"):
            with h5py.File(path, "r+") as file:
                file.attrs["subject"] = file.attrs["subject"].swapcase()

    def add_person(self, database):
        super().add_person(database)
        add_group(self.noted())

    def noted(self):
        return (Cell & {"cell": "cell0"}).keys()

    def persons_rows(self):
        return [*super().persons_rows(), *CellGroup.Member().to_dicts()]


class Alf(Kind, adapters.TestAlf):
    __test__ = False
    wrong: ClassVar = [{"trials": False}, {"no_hash": True}]
    edits: ClassVar = [(Dataset, {"file_size": 1}), (TaskRun, {"run_status": "damaged"})]
    hangs_on = Dataset

    def names(self, number):
        return f"m1/2026-01-02/{number + 1:03d}", f"m2/2026-01-02/{number + 1:03d}"

    def name_ids(self, path, digits):
        for file in path.glob("alf/spikes.times*.npy"):
            file.rename(file.with_name(f"spikes.times.0a0a0a0a-1b1b-4c4c-8d8d-0000000000{digits}.npy"))

    def swap_case(self, folder):
        for animal in folder.iterdir():
            animal.rename(animal.with_name(animal.name.swapcase()))


class Axopy(Kind, adapters.TestAxopy):
    __test__ = False
    wrong: ClassVar = [{"session_date": "2026-01-03"}, {"session_date": "2026-01-03", "session_number": 2}]
    edits: ClassVar = [(TaskRun, {"run_status": "damaged"})]

    def names(self, number):
        return f"p{number}/reaching", f"p{number}/walking"

    swap_case = Alf.swap_case


class Stytra(Kind, adapters.TestStytra):
    """Three days of two animals."""

    __test__ = False
    wrong: ClassVar = [{"subject_from": "fish_id"}, {"subject_from": "animal_id"}]
    edits: ClassVar = [(TaskRun, {"run_status": "damaged"})]

    def write_unit(self, folder, number, *, changed=False, genotype="TL"):
        start = adapters.START + adapters.dt.timedelta(days=number)
        animal = {"id": f"f{number // 2}", "age": number + 5 + 3 * changed, "genotype": genotype}
        written = write_session(folder, start=start, animal=animal)
        written.rename(folder / self.names(number)[0])

    def write_other(self, folder, number):
        self.write_unit(folder, number, genotype="mitfa")

    def names(self, number):
        day = (adapters.START + adapters.dt.timedelta(days=number)).strftime("%y%m%d")
        return f"okr/{day}_f{number}", f"moved/{day}_f{number}"

    def swap_case(self, folder):
        for path in folder.rglob("*_metadata.json"):
            metadata = json.loads(path.read_text())
            metadata["general"]["animal"]["id"] = metadata["general"]["animal"]["id"].swapcase()
            path.write_text(json.dumps(metadata))


class OneData(Kind, adapters.TestOneData):
    __test__ = False
    wrong: ClassVar = [{"trust_pickles": True}]
    edits: ClassVar = [(TaskRun, {"run_status": "damaged"}), (Dataset, {"file_size": 1})]
    hangs_on = Dataset

    def names(self, number):
        return f"M1/2024-01-02/{number}", f"M2/2024-01-02/{number}"

    def add_person(self, database):
        super().add_person(database)
        eid = (OneSession & {"one_folder": self.names(0)[0]}).fetch1("eid")
        save_recipe(eid, LoadingRecipe("constant", None, value=1.5, shape=[3]), "mpci.gain")

    swap_case = Alf.swap_case


@pytest.mark.parametrize("kind", [Ephys, Alf, Axopy, Stytra, OneData], ids=lambda kind: kind.adapter)
def test_the_right_command_is_as_if_it_had_been_the_only_one(database, database_url, tmp_path, kind):
    kind = kind()
    own = kind.declare(database)

    @law_settings
    @given(SEQUENCE, st.booleans())
    def law(steps, has_person):
        kind.Note.delete_quick()
        empty(database)
        world = World(kind, database, tmp_path, has_person)
        persons = kind.persons_rows()
        for name, number, flag in steps:
            getattr(world, name)(number, flag)
        report = world.end()
        assert report is None or not report.failed, report
        check_counts()
        if report is None:
            return
        assert kind.persons_rows() == persons
        found = world.rows(report.source)
        kind.Note.delete_quick()
        empty(database)
        world.is_edited = False
        source = world.right().source
        if has_person:
            kind.add_person(database)
        expected = world.rows(source)
        assert found.keys() == expected.keys()
        for table, rows in expected.items():
            assert found[table] == rows, table

    try:
        law()
    finally:
        own.drop(prompt=False)


MAPPING = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.tuples(
        st.sampled_from(["m1", "m2"]),
        st.lists(st.tuples(st.sampled_from(["IDrest", "IV"]), st.integers(0, 2)), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
)
"""Cell -> its animal, and the protocols and files of its recordings; cells may share a file."""


def test_a_mapping_is_as_if_there_had_been_no_other(database, tmp_path):
    """A person's group has the cell a, which stays, with other recordings and other cells in its files."""
    for number in UNITS:
        write_cell(tmp_path, number, sweeps=sweeps_of(number)[:1])

    def write(mapping):
        files: dict[str, dict[str, list[dict[str, str]]]] = {}
        for cell, (_, items) in mapping.items():
            for protocol, n in items:
                item = {"filepath": f"cell{n}.h5", "protocol_name": "IDrest"}
                files.setdefault(cell, {}).setdefault(protocol, []).append(item)
        facts = {cell: {"subject": animal, "session_date": "2026-01-02"} for cell, (animal, _) in mapping.items()}
        (tmp_path / "metadata.json").write_text(json.dumps({"files_metadata": files, "cells": facts}))
        return ingest.run("ephys", tmp_path, lab=LAB)

    @law_settings
    @given(st.lists(MAPPING, min_size=2, max_size=4))
    def law(mappings):
        empty(database)
        for at, mapping in enumerate(mappings):
            _, items = mapping.get("a", ("m1", [("IDrest", 0)]))
            mapping["a"] = "m1", items
            report = write(mapping)
            assert report.failed == 0, report
            if at == 0:
                add_group()
        found = rows_of_tables(database)
        empty(database)
        write(mappings[-1])
        add_group()
        assert found == rows_of_tables(database)

    law()

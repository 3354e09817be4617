"""The examples in the docstrings run and show what they say.

Each docstring with ``>>>`` is one test. It knows ``np``, ``labweave`` and what it documents, and imports the rest, as
its reader does. It runs in an empty folder of its own, in which ``labweave-demo/recordings`` has the first two cells
of ``labweave demo``, sim01 and sim02, with fewer sweeps. The lab that is open has

- what the demo makes of these cells: rheobase, efeatures, the group "demo" and its extractions;
- the eight sessions of ``one_lab.py`` with their files, for ONE;
- three trials of the AxoPy task "reaching" by p0, as in the guide;
- a session of onedata by m1, with one variable.

What an example writes into the tables is undone after it.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import io
from pathlib import Path

import conftest
import numpy as np
import one_lab
import pytest

import labweave
import labweave.database
from labweave import ingest, populate
from labweave.cli.demo import command as demo
from labweave.cli.demo import simulated_lab
from labweave.ephys.simulation import example_cells, simulate_protocol
from labweave.formats.axopy import Design, Storage
from labweave.formats.onedata import OneDataSession
from labweave.formats.recordings import write_recordings

PACKAGE = Path(labweave.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
AMPLITUDES_PA = {"IDrest": (40, 60, 80, 100, 120, 200), "IV": (-20, -40), "APWaveform": (500,)}

WITH_EXAMPLES = """
labweave: connect Database.query Database.backup
labweave.database: upsert restore verify_backup
labweave.ingest: run
labweave.analysis: add_target_set add_cell_group add_auto_targets add_rheobase_method add_feature_set
labweave.analysis: trials_frame read_event_log read_recording add_extraction exclude include
labweave.provenance: verify explain render
labweave.ingest.onedata: save_recipe remove_recipe
labweave.populate: run errors retry
labweave.schemas.onedata: session load_dataset
labweave.ephys: find_rheobase read_recordings_of_file compute_efeatures simulate_protocol spike_times AutoTarget
labweave.ephys.extract: extract_efeatures read_recordings
labweave.ephys.plots: draw_recordings draw_firing_rates
labweave.ephys.stimulus.generation: generate_step
labweave.formats.recordings: open write_recordings read_file inspect_nwb
labweave.formats.axopy: Storage Design recover storage_to_zip
labweave.formats.alf: load_object load_file read_ts save_object_npy save_metadata parse_name parse_path to_alf alf_path
labweave.formats.alf: iter_sessions iter_datasets filter_by AlfBunch
labweave.formats.alyx: AlyxClient
labweave.formats.onedata: LoadingRecipe OneDataSession OneDataSession.saveone OneDataSession.loadone
labweave.formats.onedata: register_loader register_transform
labweave.formats.stytra: find_sessions read_metadata read_log recover_log
labweave.acquisition: DataCollector NamedTupleQueue QueueDataAccumulator
labweave.one: OneAlyx.search OneAlyx.load OneAlyx.load_dataset OneAlyx.load_object OneAlyx.list
labweave.one.api: One One.search One.list_datasets One.load_object One.load_dataset One.eid2path One.get_details
labweave.one.export: export_tables
"""
"""What users call, as README, guides and reference name it."""


def public_places() -> list[str]:
    lines = [line.partition(":") for line in WITH_EXAMPLES.strip().splitlines()]
    return [f"{module}:{name}" for module, _, names in lines for name in names.split()]


def written_examples() -> list[str]:
    """Return module:name of every docstring with a section Examples or a ``>>>``; no module is imported for it."""
    found = []

    def look(node, module, name):
        text = ast.get_docstring(node) or ""
        if ">>>" in text or "\nExamples\n" in text:
            found.append(f"{module}:{name}")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                look(child, module, f"{name}.{child.name}".lstrip("."))

    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if ">>>" in text or "Examples\n" in text:
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            look(ast.parse(text), ".".join(part for part in parts if part != "__init__"), "")
    return found


def find(module: str, name: str):
    """Return what a dotted name below a module stands for."""
    found = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
    return found


def docstring_of(module: str, name: str) -> str:
    return inspect.getdoc(find(module, name)) or ""


@pytest.fixture(scope="module")
def demo_lab(_tables, database_url, tmp_path_factory):
    """Folder of the files of an open lab: see above."""
    root = tmp_path_factory.mktemp("examples")
    recordings = root / "labweave-demo" / "recordings"
    recordings.mkdir(parents=True)
    for index, cell in enumerate(example_cells()[:2]):
        sweeps = []
        for number, (name, amplitudes) in enumerate(AMPLITUDES_PA.items()):
            sweeps += simulate_protocol(cell, name, amplitudes_pa=amplitudes, seed=100 * index + number)
        about = {"species": "Mus musculus", "session_number": 1, "cell_type": "regular spiking"}
        where = recordings / f"{cell.name}.h5"
        write_recordings(where, sweeps, cell=cell.name, **about, **simulated_lab.SESSIONS[index])
    one_lab.write_files(root / "one")
    write_task(root / "axopy")
    one = OneDataSession("m1", "2024-01-02", "1", root=root / "onedata")
    one.data_path.mkdir(parents=True)
    one.saveone(np.arange(6.0), "mpci.times")

    opened = labweave.connect(database_url, prefix=conftest.PREFIX)
    conftest.empty(opened)
    demo._ingest(recordings)
    one_lab.fill(root / "one", local=str(root / "one"))
    for adapter in ("axopy", "onedata"):
        assert not ingest.run(adapter, root / adapter, lab="smithlab").failures
    assert not populate.run().failed
    yield root, conftest.SavedRows(opened)
    while conftest.database_is_open():
        labweave.database.current().close()


def write_task(folder: Path) -> None:
    """Write the task that the guide for AxoPy writes, with three trials."""
    storage = Storage(str(folder))
    storage.subject_id = "p0"
    writer = storage.create_task("reaching")
    block = Design().add_block()
    for target in ("left", "right", "left"):
        block.add_trial({"target": target})
    for number, trial in enumerate(block):
        trial.add_array("emg")
        trial.arrays["emg"].stack(np.full((8, 200), number / 10))
        trial.attrs["success"] = number != 1
        writer.write(trial)


@pytest.fixture
def lab(demo_lab, monkeypatch, tmp_path, request):
    """Stand in an empty folder, with the lab open."""
    root, rows = demo_lab
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", request.getfixturevalue("database_url"))
    monkeypatch.setenv("LABWEAVE_PREFIX", conftest.PREFIX)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # where ONE keeps files
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "labweave-demo").symlink_to(root / "labweave-demo")
    monkeypatch.chdir(folder)
    mark = rows.database.connection.write_mark()
    yield
    assert labweave.database.current() is rows.database, "the example closed the database or opened another"
    if mark is None or rows.database.connection.write_mark() != mark:
        rows.restore()


@pytest.mark.parametrize("place", written_examples())
def test_example_shows_what_happens(place, lab):
    module, _, name = place.partition(":")
    text = docstring_of(module, name)
    known = {"np": np, "labweave": labweave, "__name__": "__main__"}
    if name:
        known[name.partition(".")[0]] = find(module, name.partition(".")[0])
    example = doctest.DocTestParser().get_doctest(text, known, place, place, 0)
    assert example.examples, f"{place}: its section Examples has no >>>"
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.write)
    assert not said.getvalue(), said.getvalue()


@pytest.mark.parametrize("place", public_places())
def test_what_users_call_has_an_example(place):
    assert ">>>" in docstring_of(*place.split(":"))

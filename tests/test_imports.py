"""Who imports whom, and that every module imports: alone, without extras, without a database."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import labweave

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("PyQt5", "neo", "dask", "distributed", "starlette", "uvicorn")

IMPORT_ALL = """
import importlib, sys
blocked, modules = sys.argv[1].split(","), sys.argv[2].split(",")
for name in blocked:
    sys.modules[name] = None
for name in modules:
    importlib.import_module(name)
"""

LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def all_modules() -> list[str]:
    names = [module.name for module in pkgutil.walk_packages(labweave.__path__, "labweave.")]
    return ["labweave", *(name for name in names if not name.endswith(".__main__"))]


@pytest.mark.parametrize("name", all_modules())
def test_module_imports(name):
    importlib.import_module(name)


def test_every_package_has_an_init():
    """A folder without one is not walked, checked or documented."""
    package = ROOT / "labweave"
    folders = {path.parent for path in package.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_modules_import_without_extras_and_without_a_database():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(EXTRAS), ",".join(all_modules())],
        cwd=ROOT,
        env={**os.environ, "LABWEAVE_DATABASE_URL": "mysql://nobody:none@127.0.0.1:1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr


READ_NOTHING = """
import sys
import labweave
labweave.connect, labweave.ONE
from labweave.database import declare
declare.schema_modules()
wrong = {"efel", "scipy", "h5py", "PyQt5", "labweave.formats.onedata", "labweave.database.backup"} & sys.modules.keys()
assert not wrong, wrong
"""


def test_a_query_imports_no_reader_of_files():
    subprocess.run([sys.executable, "-c", READ_NOTHING], cwd=ROOT, check=True)


LOOK = """
import gc
{before}
import labweave
labweave.connect
print(gc.isenabled(), gc.get_freeze_count() > 0, len(gc.get_objects(generation=0)) > 50_000)
"""


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "True False False"),  # what was imported is not the first to be looked through
        ("gc.freeze()", "True True False"),  # a program's own frozen objects stay frozen
        ("gc.disable()", "False False False"),
    ],
)
def test_importing_leaves_the_collector_as_it_was(before, expected):
    program = [sys.executable, "-c", LOOK.format(before=before)]
    assert subprocess.check_output(program, cwd=ROOT, text=True).strip() == expected


def test_imports_keep_the_contracts():
    result = subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stdout + result.stderr

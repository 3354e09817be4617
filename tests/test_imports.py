"""Who imports whom, and that every module imports: alone, without extras, without a database."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import labweave

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("PyQt5", "neo", "dask", "distributed", "starlette", "uvicorn", "prov", "rocrate")

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
wrong = {"efel", "scipy", "h5py", "PyQt5", "labweave.formats.onedata", "labweave.database.backup", "requests"} & sys.modules.keys()
wrong |= {"psutil", "labweave.ingest.loading", "labweave.ingest.base"} & sys.modules.keys()
assert not wrong, wrong
"""


def test_a_query_imports_no_reader_of_files():
    subprocess.run([sys.executable, "-c", READ_NOTHING], cwd=ROOT, check=True)


LOOK = """
import gc
{before}
import labweave
labweave.connect
print(gc.isenabled(), gc.get_freeze_count() > 0)
"""


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "True False"),
        ("gc.freeze()", "True True"),  # a program's own frozen objects stay frozen
        ("gc.disable()", "False False"),
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


PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
NO_PATHS = {"labweave.toml", "labweave.env", "labweave.adapters", "labweave.onedata"}  # files; groups of entry points


def python_of(page: Path) -> list[ast.Module]:
    """Return the blocks of Python on a page, and what its text says in one line: `import labweave`."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"`((?:from|import) labweave[^`\n]*)`", text)
    return [ast.parse(textwrap.dedent(code)) for code in [*blocks, *lines]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_imports_is_there_with_the_parts_it_uses(page):
    names = {}
    for block in python_of(page):
        nodes = list(ast.walk(block))
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom) and "labweave" in ast.unparse(node):
                exec(compile(ast.Module([node], []), str(page), "exec"), names)
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
                assert hasattr(names[node.value.id], node.attr), f"{node.value.id} has no {node.attr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_by_its_path_is_there(page):
    for name in set(re.findall(r"`(labweave(?:\.[A-Za-z]\w*)+)[`(]", page.read_text(encoding="utf-8"))) - NO_PATHS:
        parts = name.split(".")[1:]
        found = labweave
        for depth, part in enumerate(parts, 2):
            if not hasattr(found, part):
                importlib.import_module(".".join(name.split(".")[:depth]))
            found = getattr(found, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    assert [name for name in re.findall(r"`(labweave/[\w./]+)`", text) if not (ROOT / name).exists()] == []
    if page.stem == "ARCHITECTURE":  # names a file of the folder it speaks of by its name alone
        files = {path.name for path in (ROOT / "labweave").rglob("*.py")}
        assert set(re.findall(r"`(\w+\.py)`", text)) <= files

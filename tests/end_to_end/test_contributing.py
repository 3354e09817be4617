"""The adapter that CONTRIBUTING shows, and its test, run as they are printed."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


def test_the_adapter_of_the_page_passes_the_tests_of_every_adapter(tmp_path):
    section = PAGE.read_text(encoding="utf-8").partition("## Add an adapter")[2].partition("\n## ")[0]
    adapter, test = (
        textwrap.dedent(code) for code in re.findall(r"^ *```python\n(.*?)^ *```", section, re.MULTILINE | re.DOTALL)
    )
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "weights.py").write_text(adapter)
    (tmp_path / "test_weights.py").write_text(test)
    (tmp_path / "conftest.py").write_text(re.search(r"`(from labweave\.testing import [^`]*)`", section)[1])
    environment = {name: text for name, text in os.environ.items() if not name.startswith("LABWEAVE_")}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PAGE.parent)])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 passed" in result.stdout

"""Damaged files of every format: each is read or refused in words, at once, within little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from readers import READERS

MUTANTS = int(os.environ.get("LABWEAVE_MUTANTS", "300"))
SEED = int(os.environ.get("LABWEAVE_FUZZ_SEED", "2026"))


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name):
    script = Path(__file__).with_name("attack.py")
    done = subprocess.run(
        [sys.executable, script, name, str(MUTANTS), str(SEED)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    last = done.stderr.strip().rpartition("\n")[2]
    assert done.returncode == 0, f"the process ended with {done.returncode} at mutant {last}"
    result = json.loads(done.stdout)
    print(f"{name}: {result['tries']} tries, {result['refused']} refused, {len(result['failures'])} failures,")
    print(f"slowest {result['slowest']:.2f} s, at most {result['peak'] / 2**20:.0f} MiB of memory")
    assert not result["failures"]
    assert result["refused"] or name == "alf json"  # of which ONE-api makes nothing, with a warning

"""Without PyQt5: everything imports, and what needs it says how to install it."""

import subprocess
import sys

CODE = """
import sys
sys.modules["PyQt5"] = None
from labweave import acquisition
from labweave.errors import ConfigError
for make in (lambda: acquisition.EstimatorLog(experiment=None), lambda: acquisition.live_view(None)):
    try:
        make()
    except ConfigError as error:
        print(error)
acquisition.DataCollector(folder_path=sys.argv[1]).save(sys.argv[1] + "/m.json")
acquisition.NamedTupleQueue()
"""


def test_the_message_names_the_extra(tmp_path, home):
    result = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("EstimatorLog needs PyQt5")
    assert all('pip install "labweave[qt]"' in line for line in lines)
    assert (tmp_path / "m.json").is_file()

"""The names of BluePyEfe's objects that its users know."""

import numpy as np

from labweave.ephys import Cell, read_recordings_of_file
from labweave.ephys.grouping import Protocol
from labweave.formats.recordings import write_recordings


def test_a_cell_reads_lists_and_extracts(tmp_path):
    sweep = {"voltage": np.r_[np.full(1000, -70.0), np.full(2000, -60.0), np.full(1000, -70.0)], "protocol": "IDrest"}
    sweep |= {"current": np.r_[np.zeros(1000), np.full(2000, 50.0), np.zeros(1000)]}
    units = {"dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}
    path = write_recordings(tmp_path / "c.h5", [sweep | units], cell="c")
    cell = Cell("c")
    cell.read_recordings([{"filepath": path}], "IDrest")
    assert cell.get_protocol_names() == ["IDrest"] and cell.get_recordings_id_by_protocol_name("IDrest") == [0]
    assert len(cell.reader({"filepath": path, "protocol_name": "IDrest"})) == 1
    (recording,) = cell.get_recordings_by_protocol_name("IDrest")
    assert recording.time is recording.t and recording.location is None
    assert recording.get_params().keys() == set(recording.export_attr)
    cell.extract_efeatures("IDrest", ["voltage_base"])
    assert abs(recording.efeatures["voltage_base"] + 70) < 0.2
    assert [path.suffix for path in cell.plot_all_recordings(tmp_path)] == [".pdf"]
    assert len(read_recordings_of_file("IDrest", {"filepath": path})) == 1
    assert Protocol("IDrest", 150, 10).n_match == 0

"""What every reader of recordings must do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labweave.errors import ReadError
from labweave.formats import recordings
from labweave.formats.recordings.units import to_ms, to_mv, to_na


class RecordingFormatTests:
    """Tests of a recording format: inherit it, and say how a file of it is written.

    Attributes
    ----------
    reader : str
        Its name in `labweave.formats.recordings.READERS`.
    """

    reader: str

    def write(self, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Write a file of several sweeps, and return its ``file_metadata`` and what was written.

        The latter is a dict per sweep, in the order of the file: ``voltage`` in mV, ``current`` in nA, ``dt`` in ms.
        """
        raise NotImplementedError

    def test_the_samples_come_back_in_their_units(self, tmp_path):
        metadata, written = self.write(tmp_path)
        said = dict(metadata)
        found = recordings.read_file(metadata)
        assert metadata == said, "the metadata was changed"
        assert len(found) == len(written)
        for sweep, expected in zip(found, written, strict=True):
            np.testing.assert_allclose(sweep["voltage"] * to_mv(sweep["v_unit"]), expected["voltage"], rtol=1e-5)
            np.testing.assert_allclose(sweep["current"] * to_na(sweep["i_unit"]), expected["current"], rtol=1e-5)
            assert sweep["dt"] * to_ms(sweep["t_unit"]) == pytest.approx(expected["dt"])

    def test_the_list_of_sweeps_is_what_is_read(self, tmp_path):
        metadata, written = self.write(tmp_path)
        file = recordings.open(metadata)
        assert file.reader == self.reader, "another reader has the suffix"
        names = [sweep.name for sweep in file.sweeps]
        assert len(names) == len(written) and len(set(names)) == len(names)
        for name, expected in zip(names, written, strict=True):
            (sweep,) = recordings.read_file({**metadata, "sweep": name})
            np.testing.assert_allclose(sweep["voltage"] * to_mv(sweep["v_unit"]), expected["voltage"], rtol=1e-5)
        with pytest.raises(ReadError):
            recordings.read_file({**metadata, "sweep": "no such sweep"})

    @pytest.mark.parametrize(
        "content", [None, b"", b"\0", b"something else\n" * 9], ids=["gone", "empty", "cut", "foreign"]
    )
    def test_a_broken_file_is_a_read_error(self, tmp_path, content):
        metadata, _ = self.write(tmp_path)
        path = recordings.open(metadata).path
        path.unlink() if content is None else path.write_bytes(content)
        for ask in (recordings.open, recordings.read_file):
            with pytest.raises(ReadError) as caught:
                ask(metadata)
            assert caught.value.path == str(path) and caught.value.advice

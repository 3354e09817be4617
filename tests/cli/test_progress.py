"""A long command says how far it is, and how far it came when it is stopped."""

import io

import pytest
from rich.console import Console

from labweave.cli import base
from labweave.cli.base import Stopped, progress_bar


@pytest.fixture
def printed(monkeypatch):
    """What goes to stderr, which is no terminal."""
    text = io.StringIO()
    monkeypatch.setattr(base, "err", Console(file=text, soft_wrap=True))
    return text


def test_without_a_terminal_a_line_a_minute(printed):
    seconds = iter([0, 1, 59, 60, 60, 100, 119, 120, 120, 121])  # asked once more where a line is printed
    with progress_bar("units are in", clock=lambda: next(seconds)) as show:
        for done in range(1, 8):
            show("ingest", done, done // 3, 8)
    assert printed.getvalue().splitlines() == ["ingest: 3 of 8, 1 failed", "ingest: 6 of 8, 2 failed"]


def test_without_a_terminal_a_line_of_what_is_not_counted_yet(printed):
    now = 0
    with progress_bar("units are in", clock=lambda: now) as show:
        now = 61  # a minute later
        show("ingest", 5, 0, None)
    assert printed.getvalue() == "ingest: 5, 0 failed\n"


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_stop_says_how_far_it_came(printed, error, code):
    with pytest.raises(Stopped) as stopped, progress_bar("jobs are done") as show:
        show("Rheobase", 10, 1, 10)
        show("RecordingEFeatures", 3, 0, 30)
        raise error
    assert (stopped.value.code, stopped.value.done) == (code, "12 of 40 jobs are done")

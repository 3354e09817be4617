"""What a crash leaves: the journal of a collector."""

from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
from killed_experiment import Row, row, run_and_kill

from labweave.acquisition import EstimatorLog
from labweave.errors import ReadError, SourceError
from labweave.formats.stytra import read_journal, read_log, recover_log

Other = namedtuple("Other", "x")


@pytest.fixture
def log(experiment, tmp_path):
    log = EstimatorLog(experiment=experiment, name="estimator")
    yield log
    log.close_journal()


def test_a_killed_experiment_leaves_its_rows(qt, tmp_path):
    path = tmp_path / "140709_estimator_log"
    run_and_kill(path)  # nobody asks for the rows to be written: the thread does it
    (table,) = read_journal(f"{path}.journal")
    assert (table.name, table.t0) == ("estimator", "2024-03-05T14:07:09.123456")
    truth = pd.DataFrame.from_records([row(n) for n in range(3000)], columns=Row._fields)
    truth["t"] = np.arange(3000) / 1000
    pd.testing.assert_frame_equal(table.frame, truth, check_exact=True)
    assert recover_log(f"{path}.journal", "feather") == [tmp_path / "140709_estimator_log.feather"]
    assert [file.name for file in tmp_path.iterdir()] == ["140709_estimator_log.feather"]
    np.testing.assert_array_equal(read_log(tmp_path / "140709_estimator_log.feather")["n"], np.arange(3000))


def test_a_journal_cut_anywhere_gives_whole_rows(log, tmp_path):
    log.open_journal(tmp_path / "log")
    sizes, path = [], tmp_path / "log.journal"
    for n in range(30):
        log.update_list(n / 10, row(n))
        log.flush_journal()
        sizes.append(path.stat().st_size)
    data = path.read_bytes()
    for cut in (0, 5, 20, *range(60, len(data), 97), len(data)):
        path.write_bytes(data[:cut])
        tables = read_journal(path)
        n_rows = sum(size <= cut for size in sizes)
        assert (len(tables[0].frame) if tables else 0) == n_rows
        if n_rows:
            assert tables[0].frame["n"].tolist() == list(range(n_rows))
    path.write_bytes(b"something else\n" * 9)
    with pytest.raises(ReadError, match="no journal"):
        read_journal(path)


def test_saving_finishes_the_journal(log, experiment, tmp_path):
    for n in range(10):
        log.update_list(n / 10, row(n))
    log.open_journal(tmp_path / "log")  # takes over what is there
    log.flush_journal()
    journal = tmp_path / "log.journal"
    assert len(read_log(journal)) == 10
    log.save(tmp_path / "log")
    assert not journal.exists()
    log.flush_journal()
    assert not journal.exists()
    log.update_list(1.0, row(10))  # saved in the middle of a run: goes on, with all rows
    log.flush_journal()
    assert read_log(journal)["n"].tolist() == list(range(11))
    with pytest.raises(SourceError, match="is there already"):
        recover_log(journal)
    log.save(tmp_path / "log")
    experiment.protocol_runner.running = False
    log.update_list(1.1, row(11))  # the run is over: what comes now is not its log
    log.flush_journal()
    assert not journal.exists()


def test_reset_and_other_rows(log, tmp_path):
    log.open_journal(tmp_path / "log")
    log.update_list(0.0, row(1))
    log.flush_journal()
    log.reset()
    log.update_list(0.0, Other(5))
    log.flush_journal()
    (table,) = read_journal(tmp_path / "log.journal")
    assert table.frame.to_dict("list") == {"x": [5], "t": [0.0]}
    log._reset(keep=True)
    log.update_list(0.5, row(2))
    log.close_journal()
    assert [list(table.frame.columns) for table in read_journal(tmp_path / "log.journal")] == [
        ["x", "t"],
        ["vigor", "n", "flag", "label", "t"],
    ]
    assert [path.name for path in recover_log(tmp_path / "log.journal")] == ["log_before_1.csv", "log.csv"]


def test_a_folder_that_is_missing(log, tmp_path):
    with pytest.raises(FileNotFoundError, match="folder"):
        log.open_journal(tmp_path / "no" / "log")

"""Collectors of rows: what Stytra's give, and what is defined where theirs go wrong (edge cases by number)."""

import datetime as dt
import math
from collections import namedtuple
from contextlib import contextmanager
from queue import Queue

import numpy as np
import pandas as pd
import pytest

from labweave.acquisition import (
    DataFrameAccumulator,
    DynamicLog,
    EstimatorLog,
    FramerateAccumulator,
    FramerateQueueAccumulator,
    NamedTupleQueue,
    QueueDataAccumulator,
)
from labweave.acquisition.history import WAITING
from labweave.errors import LabweaveError
from labweave.formats.stytra import read_log

Row = namedtuple("Row", "x y")
MANY = 8 * WAITING
S = dt.timedelta(seconds=1)


class Stimulus:
    def __init__(self, *names):
        if names:
            self.dynamic_parameter_names = names


@pytest.fixture
def log(experiment):
    """20 rows at 10 Hz."""
    log = EstimatorLog(experiment=experiment, name="test")
    for index in range(20):
        log.update_list(index / 10, Row(float(index), index / 4))
    return log


def heard(signal):
    calls = []
    signal.connect(lambda: calls.append(1))
    return calls


@contextmanager
def refused(kind, match=""):
    """Expect an error of labweave that is also a builtin one."""
    with pytest.raises(kind, match=match) as error:
        yield error
    assert isinstance(error.value, LabweaveError) or kind is IndexError


def test_an_empty_collector(experiment, tmp_path):  # 1, 2
    log = EstimatorLog(experiment=experiment)
    assert log.is_empty() and log.get_last_n(3) is None and log.get_dataframe() is None and log.get_last_t(1) is None
    assert log.save(tmp_path / "log") is None
    assert list(tmp_path.iterdir()) == []
    assert (log.t.shape, log.t.dtype, log.get_fps()) == ((0,), float, 0.0)
    assert (len(log.stored_data), list(log.times)) == (0, [])
    with refused(ValueError):
        _ = log.columns
    with refused(IndexError):
        log.values_at_abs_time(experiment.t0)
    with refused(IndexError):
        log.stored_data[-1]


def test_the_rate(log, experiment):  # 3, 4, 5
    assert log.get_fps() == pytest.approx(10)
    assert log.get_fps(as_stytra=True) == pytest.approx(10 / 0.9)
    few = EstimatorLog(experiment=experiment)
    for index in range(9):
        few.update_list(index / 10, Row(0.0, 0.0))
    assert (few.get_fps(), few.get_fps(as_stytra=True)) == (pytest.approx(10), 0.0)
    still = EstimatorLog(experiment=experiment)
    for _ in range(12):
        still.update_list(2.0, Row(0.0, 0.0))
    assert still.get_fps() == still.get_fps(as_stytra=True) == 0.0


def test_the_last_rows(log):  # 6, 7, 8
    frame = log.get_last_n(3)
    pd.testing.assert_frame_equal(
        frame, pd.DataFrame({"x": [17.0, 18.0, 19.0], "y": [4.25, 4.5, 4.75], "t": [1.7, 1.8, 1.9]})
    )
    assert len(log.get_last_n(100)) == len(log.get_last_n()) == len(log.get_dataframe()) == 20
    assert log.get_last_n(0) is None
    for wrong, kind in ((-2, ValueError), (2.0, TypeError), ("2", TypeError)):
        with refused(kind):
            log.get_last_n(wrong)
    frame.loc[0, "x"] = -1  # what was given out is the caller's
    assert log.get_last_n(3)["x"][0] == 17


def test_the_last_seconds(log):  # 9, 10
    assert log.get_last_t(0.5)["t"].tolist() == [1.4, 1.5, 1.6, 1.7, 1.8, 1.9]
    assert len(log.get_last_t(math.inf)) == len(log.get_last_t(100)) == 20
    assert log.get_last_t(0) is None
    for wrong in (-1, math.nan):
        with refused(ValueError):
            log.get_last_t(wrong)


def test_values_at_a_time(log, experiment):  # 11 - 14
    t0 = experiment.t0
    assert log.values_at_abs_time(t0 + 1.25 * S) == Row(12.0, 3.0)
    for index in range(20):
        assert log.values_at_abs_time(t0 + dt.timedelta(milliseconds=100 * index)).x == index
    assert log.values_at_abs_time(t0 + 99 * S) == Row(19.0, 4.75)
    with refused(IndexError, match="no row at or before"):
        log.values_at_abs_time(t0 - S)
    for wrong in (t0.replace(tzinfo=dt.timezone.utc), 1.5):
        with refused(TypeError):
            log.values_at_abs_time(wrong)


def test_columns_and_rows(log):
    assert log.columns == ("t", "x", "y")
    assert log.header_dict == {"t": 0, "x": 1, "y": 2}
    assert (log.stored_data[-1], log.stored_data[0], log.times[-1]) == (Row(19.0, 4.75), Row(0.0, 0.0), 1.9)
    assert log.stored_data[-2:] == [Row(18.0, 4.5), Row(19.0, 4.75)]
    assert log.stored_data[3:9:2] == [Row(3.0, 0.75), Row(5.0, 1.25), Row(7.0, 1.75)]
    assert log.stored_data[::-1][:1] == [Row(19.0, 4.75)]
    assert np.array(log.times[-3:]).tolist() == [1.7, 1.8, 1.9]
    np.testing.assert_array_equal(log["x"], np.arange(20))
    np.testing.assert_array_equal(log[-2:, "y"], [4.5, 4.75])
    np.testing.assert_array_equal(log["t"], log.t)
    with refused(ValueError, match="no column 'z'"):
        log["z"]


def test_trimming(experiment):  # 15, 16
    experiment.protocol_runner.running = False
    log, lengths = EstimatorLog(experiment=experiment, max_history_if_not_running=10), []
    for index in range(40):
        log.update_list(index / 10, Row(index, 0.0))
        lengths.append(len(log.stored_data))
    assert lengths[:18] == [*range(1, 16), 10, 11, 12]
    assert max(lengths) == 15
    assert log["x"].tolist() == list(range(40 - lengths[-1], 40))
    experiment.protocol_runner.running = True
    for index in range(3 * MANY):
        log.update_list(index / 10, Row(index, 0.0))
    assert len(log.stored_data) == lengths[-1] + 3 * MANY
    experiment.protocol_runner.running = False
    log.update_list(0.0, Row(-1, 0.0))
    assert log["x"].tolist() == [*range(3 * MANY - 9, 3 * MANY), -1]


def test_a_queue_whose_rows_change(experiment, tmp_path):  # 17, 18
    queue = Queue()
    log = QueueDataAccumulator(queue, experiment=experiment, monitored_headers=["x"])
    resets, inits = heard(log.sig_acc_reset), heard(log.sig_acc_init)
    log.update_list()
    assert (len(resets), len(inits)) == (0, 0)
    for index in range(3):
        queue.put((experiment.t0 + index * S, Row(index, 1)))
    same_names = namedtuple("Row", "x y")
    queue.put((experiment.t0 + 3 * S, same_names(3, 1)))
    log.update_list()
    assert (len(log.stored_data), len(resets), len(inits)) == (4, 1, 1)
    other = namedtuple("Row", "a b c")
    queue.put((experiment.t0 + 9 * S, other(1.5, True, "σ")))
    log.update_list()
    assert (len(log.stored_data), log.columns, len(resets), len(inits)) == (1, ("t", "a", "b", "c"), 2, 2)
    assert log.save(tmp_path / "140709_behavior_log") == "140709_behavior_log.csv"
    assert read_log(tmp_path / "140709_behavior_log_before_1.csv")["x"].tolist() == [0, 1, 2, 3]
    experiment.protocol_runner.running = False
    queue.put((experiment.t0, Row(7, 7)))
    log.update_list()
    assert log._earlier == []
    log.reset(monitored_headers=[])
    assert log.is_empty() and log.plot_columns == []


def test_rows_that_can_not_be_kept(experiment):  # 19, 20, 23
    log = EstimatorLog(experiment=experiment)
    with refused(ValueError, match="a field t"):
        log.update_list(0.0, namedtuple("R", "t x")(1, 2))
    with refused(TypeError, match="named tuple"):
        log.update_list(0.0, (1, 2))
    mutable = type("R", (list,), {"_fields": ("x", "y")})
    with refused(TypeError, match="named tuple"):
        log.update_list(0.0, mutable([1, 2]))
    log.update_list(0.0, Row(1, 2))
    with refused(ValueError, match="reset"):
        log.update_list(0.1, namedtuple("R", "x")(1))
    queue = Queue()
    log = QueueDataAccumulator(queue, experiment=experiment)
    for item in ((3.5, Row(1, 2)), (experiment.t0 + S, Row(3, 4))):
        queue.put(item)
    with refused(TypeError):
        log.update_list()
    assert log.refused_items == [(3.5, Row(1, 2))]
    log.update_list()
    assert log.stored_data[-1] == Row(3, 4)
    with refused(TypeError):
        NamedTupleQueue().put(experiment.t0, (1, 2))


@pytest.mark.parametrize("first", [True, False])
def test_a_row_that_can_not_be_kept_takes_no_other_with_it(experiment, first):
    log, whole, told = EstimatorLog(experiment=experiment), [], []
    wrong = {3: (None, Row(3, 0)), 7: (10**400, Row(7, 0)), WAITING + 9: (0.5, tuple.__new__(Row, (1,)))}
    if not first:
        whole = [-1] * WAITING
        for _ in range(WAITING):
            log.update_list(0.0, Row(-1, 0))
    for n in range(3 * WAITING):
        time, row = wrong.get(n, (n / 100, Row(n, 0)))
        if n not in wrong:
            whole.append(n)
        try:
            log.update_list(time, row)
        except TypeError as error:
            told.append(str(error))
    assert log["x"].tolist() == whole
    assert len(told) == 2
    offset = 0 if first else WAITING
    assert f"Row {offset + 3}, the first of 2 such rows, came with the time None" in told[0]
    assert f"Row {offset + WAITING + 7} has 1 values, not 2" in told[1]


def test_dynamic_log(experiment, tmp_path):  # 24 - 27
    log = DynamicLog([Stimulus("a", "b"), Stimulus(), Stimulus("b", "closed loop 1D_vel")], experiment=experiment)
    inits, resets = heard(log.sig_acc_init), heard(log.sig_acc_reset)
    assert log.columns == ("t", "a", "b", "closed loop 1D_vel")
    log.update_list(0.5, {"a": 1.0, "closed loop 1D_vel": -2.0, "other": 9})
    row = log.stored_data[-1]
    assert (row[0], getattr(row, "closed loop 1D_vel"), log.times[-1]) == (1.0, -2.0, 0.5)
    assert math.isnan(row.b) and len(inits) == 0
    assert log.save(tmp_path / "s", "json") == "s.json"
    assert list(read_log(tmp_path / "s.json").columns) == ["a", "b", "closed loop 1D_vel", "t"]
    log.update_stimuli([Stimulus("q")])
    assert (log.columns, len(resets), log.is_empty()) == (("t", "q"), 1, True)
    log.update_stimuli([])
    log.update_list(1.0, {})
    assert log.get_last_n()["t"].tolist() == [1.0]
    with refused(ValueError):
        log.update_stimuli([Stimulus("t")])


def test_frame_rates(experiment):
    rates = FramerateAccumulator(experiment, goal_framerate=50, max_history_if_not_running=10)
    for rate in range(40):
        rates.update_list(rate)
    assert len(rates.stored_data) == len(rates.times) == 40
    rates.trim_data()
    assert rates.stored_data == list(range(30, 40))
    rates.reset()
    assert rates.times == []
    queue = Queue()
    rates = FramerateQueueAccumulator(experiment, queue=queue, max_history_if_not_running=4)
    for index in range(9):
        queue.put((experiment.t0 + index * S, 100.0 + index))
    rates.update_list()
    assert (rates.stored_data, rates.times) == ([103.0, 104.0, 105.0, 106.0, 107.0, 108.0], [3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize("n_rows", [5, WAITING + 3, 2 * MANY + 77])
def test_what_comes_back_is_what_pandas_makes_of_the_rows(experiment, n_rows):
    """Types may change while rows come, as from 0 to 0.5; pandas' own inference is the truth."""
    kind = namedtuple("Mixed", "whole real late flag text gap")
    rows = [
        kind(n, n / 3, n if n < n_rows // 2 else n / 2, n % 2 == 0, f"a{n}", None if n % 3 else n / 7)
        for n in range(n_rows)
    ]
    log = EstimatorLog(experiment=experiment)
    for n, row in enumerate(rows):
        log.update_list(n / 100, row)
    for last in (1, 3, n_rows):
        truth = pd.DataFrame.from_records(rows[-last:], columns=kind._fields)
        truth["t"] = [n / 100 for n in range(n_rows)][-last:]
        pd.testing.assert_frame_equal(log.get_last_n(last), truth, check_dtype=last == n_rows, check_exact=True)
    assert log.stored_data[n_rows // 2] == rows[n_rows // 2]


def test_values_may_be_pairs_or_arrays(experiment, tmp_path):
    kind = namedtuple("Found", "place image")
    log = EstimatorLog(experiment=experiment)
    log.open_journal(tmp_path / "log")
    for n in range(WAITING + 3):
        log.update_list(n / 100, kind((n, n + 1), np.full(2, n)))
    log.close_journal()
    assert [*log["place"]] == [(n, n + 1) for n in range(WAITING + 3)]
    assert log.stored_data[4].image.tolist() == [4, 4]
    assert read_log(tmp_path / "log.journal")["image"].tolist() == [[n, n] for n in range(WAITING + 3)]


def test_another_experiment_may_be_set(log, experiment):
    class Other:
        t0 = experiment.t0 + 10 * S

        class protocol_runner:
            running = False

    log.max_history_if_not_running = 10
    log.exp = Other
    log.update_list(2.0, Row(20.0, 5.0))
    assert log.exp is Other
    assert log.t.tolist() == [n / 10 for n in range(11, 21)]
    assert log.values_at_abs_time(Other.t0 + 1.2 * S) == Row(12.0, 3.0)


def test_a_subclass_may_override_how_rows_come(experiment):
    class Doubled(EstimatorLog):
        def update_list(self, t, data):
            super().update_list(2 * t, data)

    log = Doubled(experiment=experiment)
    inits = heard(log.sig_acc_init)
    for n in range(3):
        log.update_list(n, Row(n, n))
    assert (log.t.tolist(), len(inits)) == ([0, 2, 4], 1)


def test_a_row_that_is_no_mapping_leaves_no_time(experiment):
    log = DynamicLog([Stimulus("a")], experiment=experiment)
    with pytest.raises(AttributeError):
        log.update_list(0.5, None)
    log.update_list(1.0, {"a": 7.0})
    assert (log.t.tolist(), log["a"].tolist()) == ([1.0], [7.0])


def test_a_subclass_may_append_as_in_stytra(experiment):
    class Own(DataFrameAccumulator):
        def update(self, t, row):
            self.times.append(t)
            self.stored_data.append(row)

    log = Own(experiment=experiment)
    for index in range(3):
        log.update(index, Row(index, index))
    assert log.get_dataframe()["t"].tolist() == [0, 1, 2]
    log.stored_data.append(Row(3, 3))  # the row first: it counts when its time is there
    assert len(log.times) == len(log.stored_data) == 3
    log.times.append(3)
    log.times.append(4)
    log.reset()  # drops the time that is alone, too
    log.update(5, Row(5, 5))
    assert (log.t.tolist(), log["x"].tolist()) == ([5], [5])
    assert Own(experiment).append(0.5, Row(1, 2)) is True


def test_saving(log, tmp_path):  # 28, 29
    for format in ("csv", "feather", "hdf5", "json"):
        assert log.save(str(tmp_path / "a.b"), format) == f"a.b.{format}"
        pd.testing.assert_frame_equal(read_log(tmp_path / f"a.b.{format}"), log.get_dataframe())
    for format in ("parquet", "h5"):
        with refused(NotImplementedError):
            log.save(tmp_path / "x", format)
    with refused(OSError):
        log.save(tmp_path / "missing" / "x")
    assert len(list(tmp_path.iterdir())) == 4


def test_named_tuple_queue():  # 22
    from queue import Empty

    queue = NamedTupleQueue()
    with pytest.raises(Empty):
        queue.get()
    now = dt.datetime(2024, 1, 1)
    rows = [Row(1, 2), namedtuple("Other", "text z")("_fieldnames", 3.5), Row(3, 4), namedtuple("None_", "")()]
    for row in rows:
        queue.put(now, row)
    for row in rows:
        time, got = queue.get(timeout=30)
        assert (time, got, got._fields) == (now, row, row._fields)


def test_memory_is_set_by_the_data(experiment):
    """168 bytes a row of 20 floats and a time; Stytra's lists take 866."""
    import tracemalloc

    wide = namedtuple("Wide", [f"c{n}" for n in range(20)])
    log = EstimatorLog(experiment=experiment)
    log.update_list(0.0, wide(*[0.5] * 20))
    tracemalloc.start()
    n_rows = 5 * MANY
    for n in range(n_rows):
        log.update_list(n / 1000, wide(*[n / 3] * 20))
    log._history.settle()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / n_rows < 250


def test_rows_of_many_chunks_are_trimmed_and_found(experiment, tmp_path):
    rows = [Row(n, n / 4) for n in range(5 * 512)]
    log = EstimatorLog(experiment=experiment, max_history_if_not_running=512 + 100)
    for n, row in enumerate(rows):
        log.update_list(n / 10, row)
    assert log.values_at_abs_time(experiment.t0 + 70.05 * S) == Row(700, 175.0)
    assert len(log.get_last_t(10)) == 101
    log.open_journal(tmp_path / "log")
    for n, row in enumerate(rows):
        log.update_list(1000 + n / 10, row)
    log.close_journal()
    assert read_log(tmp_path / "log.journal")["x"].tolist() == [*range(5 * 512)] * 2
    for n, row in enumerate(rows):
        log.update_list(2000 + n / 10, row)
    experiment.protocol_runner.running = False
    log.update_list(9999.0, Row(-1, 0.0))
    assert log["x"].tolist() == [*range(5 * 512 - 512 - 99, 5 * 512), -1]
    assert log.stored_data[0] == rows[-512 - 99]

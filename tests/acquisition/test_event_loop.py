"""Collectors in a running Qt event loop, fed by other processes."""

import multiprocessing

import numpy as np
import pytest
from fish_producer import produce, produce_rates

from labweave.acquisition import FramerateQueueAccumulator, NamedTupleQueue, QueueDataAccumulator, live_view

N_TAIL, N_EYES, RATES = 1500, 40, [99.5, 100.0, 101.5]


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        process.join(30)
        process.kill()
        assert process.exitcode == 0


def run_until(qt, done, update):
    """Run Qt's event loop, calling `update` from a timer, until `done()`."""
    core = pytest.importorskip("PyQt5.QtCore")
    timer, limit = core.QTimer(), core.QTimer()
    failed = []

    def tick():
        try:
            update()
            if done():
                qt.exit()
        except Exception as error:  # PyQt aborts when a slot raises
            failed.append(error)
            qt.exit()

    timer.timeout.connect(tick)
    limit.timeout.connect(lambda: (failed.append(True), qt.exit()))
    limit.start(60_000)
    timer.start(5)
    qt.exec_()
    timer.stop(), limit.stop()
    assert not failed, f"{failed[0]!r}, or the rows did not come within a minute"


def test_rows_of_another_process(qt, experiment, processes, tmp_path):
    queue, rates = NamedTupleQueue(), multiprocessing.Queue()
    log = QueueDataAccumulator(queue, experiment=experiment, monitored_headers=["tail_sum"])
    framerates = FramerateQueueAccumulator(experiment, queue=rates)
    events = []
    log.sig_acc_reset.connect(lambda: events.append(("reset", len(log.stored_data))))
    log.sig_acc_init.connect(lambda: events.append(("init", log.columns)))
    for target, arguments in (
        (produce, (queue, experiment.t0, N_TAIL, N_EYES)),
        (produce_rates, (rates, experiment.t0, RATES)),
    ):
        processes.append(multiprocessing.Process(target=target, args=arguments))
        processes[-1].start()
    view = live_view(log, last_s=1.0)
    view.show()

    def update():
        log.update_list()
        framerates.update_list()

    def all_there():
        eyes = events and events[-1] == ("init", ("t", "th_e0", "th_e1")) and len(log.stored_data) == N_EYES
        return eyes and len(framerates.times) == len(RATES)

    run_until(qt, all_there, update)
    assert events == [
        ("reset", 0),
        ("init", ("t", "tail_sum", "n_found", "lost")),
        ("reset", N_TAIL),
        ("init", ("t", "th_e0", "th_e1")),
    ]
    assert (framerates.stored_data, framerates.times) == (RATES, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(log["th_e0"], np.arange(N_EYES) / 7)
    view.refresh()
    log.save(tmp_path / "log", "feather")
    from labweave.formats.stytra import read_log

    tail = read_log(tmp_path / "log_before_1.feather")
    np.testing.assert_array_equal(tail["tail_sum"], np.arange(N_TAIL) / 3)
    assert [str(kind) for kind in tail.dtypes] == ["float64", "int64", "bool", "float64"]
    np.testing.assert_allclose(tail["t"], np.arange(N_TAIL) * 0.002, atol=1e-9)
    assert view._timer.isActive()
    assert [axis.get_ylabel() for axis in view.canvas.figure.axes] == ["th_e0", "th_e1"]
    view.close()


def test_the_live_view_shows_the_last_seconds(qt, experiment):
    from queue import Queue

    from fish_producer import Tail

    queue = Queue()
    log = QueueDataAccumulator(queue, experiment=experiment, monitored_headers=["tail_sum", "n_found"])
    import datetime as dt

    for n in range(300):
        queue.put((experiment.t0 + dt.timedelta(milliseconds=10 * n), Tail(np.sin(n / 9), n, False)))
    log.update_list()
    view = live_view(log, last_s=1.0)
    view.refresh()
    lines = [axis.lines[0] for axis in view.canvas.figure.axes]
    np.testing.assert_array_equal(lines[0].get_xdata(), log.get_last_t(1.0)["t"])
    np.testing.assert_array_equal(lines[1].get_ydata(), np.arange(199, 300))
    assert view.canvas.figure.axes[0].get_title(loc="right") == "300 rows, 100 Hz"
    view.show()
    qt.processEvents()
    image = view.grab().toImage()
    assert len({image.pixel(x, y) for x in range(0, image.width(), 7) for y in range(0, image.height(), 3)}) > 2
    view.close()

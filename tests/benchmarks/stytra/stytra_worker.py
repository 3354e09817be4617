"""One program's collectors at work, a round at a time: ``stytra_worker.py stytra|labweave N_ROWS FOLDER``.

Run by the Python that the program is installed in. It prints the bytes a row that a collector takes, then reads names of
tasks, a line each, and answers with JSON: wall and CPU time of one call, in s, and what was counted. So two programs can
be asked in turn. What takes much less than a millisecond is called many times in a round.
"""

import collections
import datetime as dt
import gc
import json
import math
import os
import queue
import sys
import time

COLUMNS = [f"c{index:02d}" for index in range(20)]
RATE_HZ = 1000
Row = collections.namedtuple("Row", COLUMNS)


class Runner:
    running = True


class Experiment:
    t0 = dt.datetime(2024, 3, 5, 14, 7, 9, 123456)
    protocol_runner = Runner()


class Stimulus:
    dynamic_parameter_names = COLUMNS


def collectors_of(program):
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "acquisition"))
    if program == "stytra":
        from stytra_side import stytra_collectors

        return stytra_collectors()
    from labweave import acquisition

    return acquisition


def rows(n_rows):
    """Yield times and rows, each with floats of its own as from another process."""
    start = [math.sin(index) for index in range(20)]
    for number in range(n_rows):
        yield number / RATE_HZ, Row(*[value + number / 7 for value in start])


class Task:
    """Something to measure: `work` is called `n_calls` times with what `prepare` gives; `after` gives what was counted."""

    def __init__(self, work, prepare=tuple, n_calls=1, after=list):
        self.work, self.prepare, self.n_calls, self.after = work, prepare, n_calls, after

    def round(self):
        """Return wall and CPU time of one call, and what was counted; what it leaves is freed afterwards."""
        arguments, work = self.prepare(), self.work
        gc.collect()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(self.n_calls):
            work(*arguments)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return [wall_s / self.n_calls, cpu_s / self.n_calls, *self.after()]


def memory_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Bench:
    """What is measured, a method each."""

    def __init__(self, collectors, n_rows, folder):
        self.collectors, self.n_rows, self.folder = collectors, n_rows, folder
        gc.collect()
        before = memory_bytes()
        self.log = collectors.EstimatorLog(experiment=Experiment)
        self._fill(self.log)
        self.bytes_a_row = (memory_bytes() - before) / n_rows
        self.some = list(rows(min(n_rows, 10_000)))

    def _fill(self, log):
        update = log.update_list
        for time_s, row in rows(self.n_rows):
            update(time_s, row)

    def _estimator_log(self):
        return (self.collectors.EstimatorLog(experiment=Experiment),)

    def collect(self):
        """Append rows as they come, each with memory of its own."""
        return Task(self._fill, self._estimator_log)

    def append(self):
        """Append rows that something else holds too: in the end, both programs refer to them."""
        return Task(self._fill_with_held, self._estimator_log)

    def append_and_read(self):
        """Append such rows, and have all as a table: all that was put off is done."""

        def fill(log):
            self._fill_with_held(log)
            assert len(log.get_dataframe()) == self.n_rows

        return Task(fill, self._estimator_log)

    def _fill_with_held(self, log):
        update = log.update_list
        for _ in range(self.n_rows // len(self.some)):
            for time_s, row in self.some:
                update(time_s, row)

    def queue(self):
        """Append from a queue of this process."""

        def prepare():
            log = self.collectors.QueueDataAccumulator(queue.Queue(), experiment=Experiment)
            for time_s, row in self.some:
                log.data_queue.put((Experiment.t0 + dt.timedelta(seconds=time_s), row))
            return (log,)

        return Task(lambda log: log.update_list(), prepare)

    def process_queue(self):
        """Append from the queue that rows of other processes come by."""

        def prepare():
            source = self.collectors.namedtuplequeue.NamedTupleQueue()
            for time_s, row in self.some:
                source.put(Experiment.t0 + dt.timedelta(seconds=time_s), row)
            time.sleep(1)
            return (self.collectors.QueueDataAccumulator(source, experiment=Experiment),)

        def drain(log):
            while len(log.stored_data) < len(self.some):
                log.update_list()

        return Task(drain, prepare)

    def dynamic(self):
        """Append to a log of stimuli."""
        values = [(time_s, row._asdict()) for time_s, row in self.some]

        def fill(log):
            for time_s, row in values:
                log.update_list(time_s, row)

        return Task(fill, lambda: (self.collectors.DynamicLog([Stimulus], experiment=Experiment),))

    def journaled(self):
        """Append rows as they come while a journal is written."""

        def prepare():
            (log,) = self._estimator_log()
            log.open_journal(os.path.join(self.folder, "journaled"))
            return (log,)

        def fill(log):
            self._fill(log)
            log.close_journal()

        def after():
            os.remove(os.path.join(self.folder, "journaled.journal"))
            return []

        return Task(fill, prepare, after=after)

    def get_last_n(self):
        assert len(self.log.get_last_n(500)) == 500
        return Task(lambda: self.log.get_last_n(500), n_calls=100)

    def get_last_10(self):
        return Task(lambda: self.log.get_last_n(10), n_calls=100)

    def get_last_t(self):
        assert 1000 <= len(self.log.get_last_t(1)) <= 1112  # Stytra takes its rate for a ninth higher than it is
        return Task(lambda: self.log.get_last_t(1), n_calls=50)

    def get_dataframe(self):
        assert len(self.log.get_dataframe()) == self.n_rows
        return Task(self.log.get_dataframe)

    def csv(self):
        return self._save("csv")

    def feather(self):
        return self._save("feather")

    def hdf5(self):
        return self._save("hdf5")

    def json(self):
        return self._save("json")

    def _save(self, format):
        path = os.path.join(self.folder, "140709_behavior_log")

        def after():
            size = os.path.getsize(f"{path}.{format}")
            os.remove(f"{path}.{format}")
            return [size]

        return Task(lambda: self.log.save(path, format), after=after)


def main(program, n_rows, folder):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PyQt5.QtCore import QCoreApplication

    application = QCoreApplication([])
    bench = Bench(collectors_of(program), int(n_rows), folder)
    gc.collect()
    gc.freeze()  # or collecting before a round would walk through all that was imported, and leave that in the caches
    print(json.dumps(bench.bytes_a_row), flush=True)
    tasks = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in tasks:
            tasks = {name: getattr(bench, name)()}
        print(json.dumps(tasks[name].round()), flush=True)
    del application


if __name__ == "__main__":
    main(*sys.argv[1:])

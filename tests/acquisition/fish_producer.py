"""A process that tracks a fish: rows with the time of each frame, then another kind of row."""

import datetime as dt
from collections import namedtuple

Tail = namedtuple("Tail", ["tail_sum", "n_found", "lost"])
Eyes = namedtuple("Eyes", ["th_e0", "th_e1"])


def produce(queue, t0, n_tail, n_eyes):
    for index in range(n_tail):
        queue.put(t0 + dt.timedelta(milliseconds=2 * index), Tail(index / 3, index, index % 2 == 0))
    for index in range(n_eyes):
        queue.put(t0 + dt.timedelta(seconds=60, milliseconds=2 * index), Eyes(index / 7, -index / 7))


def produce_rates(queue, t0, rates):
    for index, rate in enumerate(rates):
        queue.put((t0 + dt.timedelta(seconds=index), rate))

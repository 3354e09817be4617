"""What collectors ask of an experiment."""

import datetime as dt


class Runner:
    running = True


class Experiment:
    """An experiment whose protocol runs."""

    def __init__(self):
        self.t0 = dt.datetime(2024, 3, 5, 14, 7, 9, 123456)
        self.protocol_runner = Runner()

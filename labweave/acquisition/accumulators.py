"""Collectors of streams: rows of data with their times, as tables at any moment.

Names, arguments, signals and results are those of ``stytra.collectors``; the storage is columns.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import namedtuple
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import pandas as pd

from labweave.acquisition.errors import MissingPath, NoSuchRow, RefusedType, RefusedValue
from labweave.acquisition.history import History
from labweave.acquisition.journaling import Journal
from labweave.acquisition.qt import QObject, pyqtSignal
from labweave.formats.stytra.logs import FORMATS, UnknownFormat, earlier_path, write_log

_HALF_MICROSECOND = 0.5e-6
_MISSING = repeat(math.nan)


class Accumulator(QObject):
    """What all collectors share.

    Parameters
    ----------
    experiment : object
        Has ``t0``, the datetime that times count from, and ``protocol_runner.running``.
    name : str, default: ''
    max_history_if_not_running : int, default: 1000
        Rows that are kept while the protocol does not run.
    """

    def __init__(self, experiment, name="", max_history_if_not_running=1000):
        super().__init__()
        self.name = name
        self.exp = experiment
        self.max_history_if_not_running = max_history_if_not_running

    def _seconds(self, time: dt.datetime) -> float:
        try:
            return (time - self.exp.t0).total_seconds()
        except TypeError:
            raise RefusedType(
                f"{self.name or type(self).__name__}: {time!r} is not a time like {self.exp.t0!r}, which its times "
                "count from. Give a datetime without a zone."
            ) from None


class DataFrameAccumulator(Accumulator):
    """Rows of named values with their times.

    Subclasses take rows in with `append`.

    Takes the arguments of an `Accumulator`, too.

    Parameters
    ----------
    fps_calc_points : int, default: 10
        Rows that the rate is computed from.
    monitored_headers : list of str, optional
        Columns to show by default.

    Attributes
    ----------
    plot_columns : list of str or None
        Columns to show by default.
    sig_acc_reset, sig_acc_init : signal
        Before the rows are dropped; after the first row of a new kind.
    """

    sig_acc_reset = pyqtSignal()
    sig_acc_init = pyqtSignal()

    def __init__(self, *args, fps_calc_points=10, monitored_headers=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.plot_columns = monitored_headers
        self.fps_calc_points = fps_calc_points
        self._history = History()
        self._halves: tuple[list[float], list[Any]] = ([], [])
        self._journal: Journal | None = None
        self._earlier: list[History] = []

    def append(self, t: float, data: tuple) -> bool:
        """Add a row.

        Parameters
        ----------
        t : float
            s from ``experiment.t0``.
        data : namedtuple
            The same fields each time. Others are refused: `reset` first.

        Returns
        -------
        bool
            Whether it is the first row.

        Raises
        ------
        TypeError
            It is no named tuple, or the time no number.
        ValueError
            A field is called ``t``, or the fields are not those of the rows before.
        """
        first = type(data) is not self._history.row_type and self._take_type(type(data))
        self._history.append(t, data)
        return first

    def _take_type(self, row_type: Any) -> bool:
        """Take over the type of a row; say whether a table begins with it."""
        fields = self._fields_of(row_type)
        history = self._history
        if len(history):
            if fields != history.fields:
                raise RefusedValue(
                    f"{self.name or type(self).__name__}: a row has the fields {', '.join(fields)}, those before it "
                    f"{', '.join(history.fields)}. Call reset() first."
                )
            history.row_type = row_type
            return False
        self._begin_table(row_type)
        return True

    def _fields_of(self, row_type: Any) -> tuple[str, ...]:
        fields = getattr(row_type, "_fields", None)
        if fields is None or not issubclass(row_type, tuple):
            raise RefusedType(f"A row is a {row_type.__name__}. Give a named tuple, whose names become the columns.")
        if "t" in fields:
            raise RefusedValue("A row has a field t, which is the name of the column of times. Give it another name.")
        return fields

    def _begin_table(self, row_type: Any) -> None:
        self._history = History(row_type)
        if self._journal is not None:
            self._journal.follow(self._history)

    @property
    def stored_data(self) -> Sequence[Any]:
        """The rows, as named tuples without their times."""
        return _Rows(self, times=False)

    @property
    def times(self) -> Sequence[float]:
        """The times of the rows, in s from ``experiment.t0``."""
        return _Rows(self, times=True)

    @property
    def t(self) -> np.ndarray:
        """The times of the rows as an array, in s."""
        return self._history.last(which=slice(-1, None))[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """``t`` and the fields of the rows; a ValueError when there is no row yet."""
        if not len(self._history):
            raise RefusedValue(f"{self.name or type(self).__name__} holds no row, so its columns are not known yet.")
        return ("t", *self._history.fields)

    @property
    def header_dict(self) -> dict[str, int]:
        """Position of each name in `columns`, where the time comes first. In the tables it comes last."""
        return {name: index for index, name in enumerate(self.columns)}

    def __getitem__(self, item) -> np.ndarray:
        """Return a column: ``acc["x"]``, or ``acc[-100:, "x"]`` for some rows."""
        rows, name = item if isinstance(item, tuple) else (slice(None), item)
        if name == "t":
            return self.t[rows]
        columns = self.columns
        if name not in columns:
            raise RefusedValue(f"There is no column {name!r}. There are: {', '.join(columns)}.")
        place = columns.index(name) - 1
        return _numbers(self._history.last(which=slice(place, place + 1))[0])[rows]

    def values_at_abs_time(self, time):
        """Return the last row at or before a time.

        Parameters
        ----------
        time : datetime
            Compared to the microsecond.

        Returns
        -------
        namedtuple

        Raises
        ------
        IndexError
            There is no row, or all are later.
        TypeError
            It is no datetime, or one with a zone.
        """
        latest = self._seconds(time) + _HALF_MICROSECOND
        row = self._history.last_that(lambda times: times <= latest)
        if row < 0:
            raise NoSuchRow(f"{self.name or type(self).__name__} holds no row at or before {time}.")
        return self.stored_data[row]

    def reset(self, monitored_headers=None):
        """Drop all rows, after `sig_acc_reset`.

        Parameters
        ----------
        monitored_headers : list of str, optional
            New columns to show by default.
        """
        self._reset(keep=False)
        if monitored_headers is not None:
            self.plot_columns = monitored_headers

    def _reset(self, keep: bool) -> None:
        """Start with an empty table; what there was becomes a log of its own, or is dropped."""
        self.sig_acc_reset.emit()
        if keep and len(self._history):
            self._earlier.append(self._history)
        elif not keep:
            self._earlier = []
            if self._journal is not None:
                self._journal.restart()
        self._history, self._halves = History(), ([], [])

    def trim_data(self):
        """Keep the last ``max_history_if_not_running`` rows, once there are half as many more and no protocol runs."""
        most = self.max_history_if_not_running
        if len(self._history) > most * 1.5 and not self.exp.protocol_runner.running:
            if self._journal is not None:
                self._journal.flush(sync=False)
            self._history.keep_last(most)
            self._earlier = []

    def get_fps(self, as_stytra=False) -> float:
        """Return the rate of the last rows, in Hz.

        Parameters
        ----------
        as_stytra : bool, default: False
            As Stytra computes it: too high by k / (k - 1) for k ``fps_calc_points``, and 0 for fewer rows.

        Returns
        -------
        float
            0 for fewer than two rows, or equal times.
        """
        n_rows = min(self.fps_calc_points, len(self._history))
        if n_rows < (self.fps_calc_points if as_stytra else 2):
            return 0.0
        duration = self.times[-1] - self.times[-n_rows]
        return (n_rows - (not as_stytra)) / duration if duration else 0.0

    def get_last_n(self, n=None):
        """Return the last rows.

        Parameters
        ----------
        n : int, optional
            How many at most; all without it.

        Returns
        -------
        DataFrame or None
            The fields in order, then the time as ``t``, rows counted from 0. None when there is no row.

        Raises
        ------
        ValueError
            It is negative.
        TypeError
            It is no integer.
        """
        history = self._history
        n_rows = len(history)
        if n is not None:
            if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
                raise RefusedType(f"get_last_n takes a number of rows, not {n!r}.")
            if n < 0:
                raise RefusedValue(f"get_last_n takes a number of rows, not {n}.")
            n_rows = min(int(n), n_rows)
        if not n_rows:
            return None
        columns, names = history.last(n_rows), _names(history.fields)
        if isinstance(columns, np.ndarray):
            return pd.DataFrame(columns.T, columns=names, copy=False)
        return pd.DataFrame(dict(zip(names, map(_numbers, columns), strict=True)))

    def get_last_t(self, t):
        """Return the rows of the last seconds.

        Parameters
        ----------
        t : float
            Time window up to the last row, in s.

        Returns
        -------
        DataFrame or None
            As of `get_last_n`. None for no time, or when there is no row.

        Raises
        ------
        ValueError
            It is negative or not a number.
        """
        if math.isnan(t) or t < 0:
            raise RefusedValue(f"get_last_t takes a time in seconds, not {t}.")
        if t == 0 or self.is_empty():
            return None
        if math.isinf(t):
            return self.get_last_n()
        earliest = self.times[-1] - t - _HALF_MICROSECOND
        return self.get_last_n(len(self._history) - 1 - self._history.last_that(lambda times: times < earliest))

    def get_dataframe(self):
        """Return all rows as a DataFrame; None when there is none."""
        return self.get_last_n()

    def save(self, path, format="csv"):
        """Write all rows to a file, at any time; a journal of the same rows is finished.

        Rows with other columns that came before in this run go to ``<path>_before_1`` and so on.

        Parameters
        ----------
        path : str or Path
            Without extension; a file that is there is replaced.
        format : {"csv", "feather", "hdf5", "json"}, default: "csv"

        Returns
        -------
        str or None
            Name of the file; None, and no file, when there is no row.

        Raises
        ------
        NotImplementedError
            Another format.
        OSError
            The folder is missing, or the disk full.
        """
        if format not in FORMATS:
            raise UnknownFormat(f"Logs can't be saved as {format!r}. Choose one of: {', '.join(FORMATS)}.")
        try:
            for number, history in enumerate(self._earlier, 1):
                write_log(_named_columns(history), earlier_path(path, number), format)
            saved = None
            if len(self._history):
                saved = write_log(_named_columns(self._history), path, format).name
        except FileNotFoundError as error:
            raise MissingPath(str(error)) from None
        if self._journal is not None:
            self._journal.finish()
        return saved

    def is_empty(self) -> bool:
        """Say whether there is no row."""
        return not len(self._history)

    def open_journal(self, path) -> None:
        """Keep the rows on disk while they come, so that a crash loses at most the last second of them.

        They are written to ``<path>.journal`` twice a second. `save` removes that file; after a crash,
        ``labweave ingest stytra`` reads it, and `labweave.formats.stytra.recover_log` turns it into a log.

        Parameters
        ----------
        path : str or Path
            As for `save`, without extension.
        """
        if not Path(path).parent.is_dir():
            raise MissingPath(f"The folder {Path(path).parent} is missing. Make it before you open a journal there.")
        self.close_journal()
        self._journal = Journal(path, self._describe, lambda: self.exp.protocol_runner.running)
        for history in [*self._earlier, self._history]:
            if history.row_type is not None:
                self._journal.follow(history)

    def flush_journal(self) -> None:
        """Write what is there now to the journal, and wait until the disk has it."""
        if self._journal is not None:
            self._journal.flush()

    def close_journal(self) -> None:
        """Stop writing a journal; its file stays unless the rows were saved."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _describe(self) -> tuple[str, str | None]:
        t0 = getattr(self.exp, "t0", None)
        return self.name, t0.isoformat() if isinstance(t0, dt.datetime) else None


class QueueDataAccumulator(DataFrameAccumulator):
    """Rows from a queue of ``(datetime, namedtuple)``, taken out whenever `update_list` is called, as by a QTimer.

    Parameters
    ----------
    data_queue : queue
        `NamedTupleQueue`, or a queue of the standard library.
    **kwargs
        As of a `DataFrameAccumulator`.

    Attributes
    ----------
    refused_items : list
        Items that were no row with a time.

    Examples
    --------
    >>> import datetime as dt
    >>> from collections import namedtuple
    >>> from queue import Queue
    >>> from types import SimpleNamespace
    >>> from labweave.acquisition import QueueDataAccumulator
    >>> start = dt.datetime(2024, 3, 5, 14, 7, 9)
    >>> experiment = SimpleNamespace(t0=start, protocol_runner=SimpleNamespace(running=True))
    >>> queue, Tail = Queue(), namedtuple("Tail", "angle vigor")
    >>> log = QueueDataAccumulator(queue, experiment=experiment, name="behavior")
    >>> queue.put((start + dt.timedelta(seconds=0.5), Tail(0.25, 1.5)))
    >>> log.update_list()
    >>> log.get_dataframe()
       angle  vigor    t
    0   0.25    1.5  0.5
    """

    def __init__(self, data_queue, **kwargs):
        super().__init__(**kwargs)
        self.data_queue = data_queue
        self.refused_items: list[Any] = []

    def update_list(self):
        """Take in what is in the queue now.

        A row with other fields begins a new table: `sig_acc_reset`, then `sig_acc_init` after it. The rows before it
        become a log of their own when the protocol runs, and are dropped when it does not.

        Raises
        ------
        TypeError
            An item is no row with a time. It is kept in `refused_items`; the items behind it wait in the queue.
        """
        get, take, t0 = self.data_queue.get, self._take, self.exp.t0
        is_running = self.exp.protocol_runner.running
        while True:
            try:
                item = get(False)
            except Empty:
                return
            try:
                time, data = item
                first = take((time - t0).total_seconds(), data)
            except (AttributeError, TypeError, ValueError) as error:
                self.refused_items.append(item)
                if isinstance(error, (RefusedType, RefusedValue)):
                    raise
                raise RefusedType(f"The queue gave {item!r}, which is no row with a time like {t0!r}.") from None
            if not is_running:
                self.trim_data()
            if first:
                self.sig_acc_init.emit()

    def _take(self, seconds: float, data: Any) -> bool:
        history, row_type = self._history, type(data)
        if row_type is not history.row_type and (self._fields_of(row_type) != history.fields or not len(history)):
            self._reset(keep=bool(self.exp.protocol_runner.running))
        return self.append(seconds, data)


class DynamicLog(DataFrameAccumulator):
    """Values of stimuli that change while they are shown, as the velocity of gratings in closed loop.

    Parameters
    ----------
    stimuli : list
        Their ``dynamic_parameter_names`` are the columns; those without are left out.
    **kwargs
        As of a `DataFrameAccumulator`.
    """

    def __init__(self, stimuli, **kwargs):
        super().__init__(**kwargs)
        self.update_stimuli(stimuli)

    @property
    def columns(self) -> tuple[str, ...]:
        """``t`` and the parameters of the stimuli."""
        return ("t", *self._dynamic_type._fields)

    def update_list(self, time, data):
        """Add a row.

        Parameters
        ----------
        time : float
            s from ``experiment.t0``.
        data : mapping
            Parameter -> value. Those that it lacks are NaN; others are left out.
        """
        history = self._history
        history.append(time, tuple(map(data.get, history.fields, _MISSING)))

    def update_stimuli(self, stimuli):
        """Take the parameters of other stimuli, and drop all rows."""
        names = dict.fromkeys(
            name for stimulus in stimuli for name in getattr(stimulus, "dynamic_parameter_names", None) or ()
        )
        row_type = row_type_of(names)
        self._fields_of(row_type)  # refuses a parameter t
        self._dynamic_type = row_type
        self.reset()

    def _reset(self, keep: bool) -> None:
        super()._reset(keep)
        self._begin_table(self._dynamic_type)


class EstimatorLog(DataFrameAccumulator):
    """What an estimator makes of the behaviour, as vigor or position."""

    def update_list(self, t, data):
        """Add a row.

        Parameters
        ----------
        t : float
            s from ``experiment.t0``.
        data : namedtuple
        """
        if self.append(t, data):
            self.sig_acc_init.emit()
        if not self.exp.protocol_runner.running:
            self.trim_data()


class FramerateAccumulator(Accumulator):
    """Frame rates, each with the moment it was given.

    Parameters
    ----------
    goal_framerate : float, optional
        The rate that is wanted, in Hz.

    Attributes
    ----------
    stored_data, times : list of float
        Rates in Hz, and when, in s from ``experiment.t0``.
    """

    def __init__(self, *args, goal_framerate=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.goal_framerate = goal_framerate
        self.stored_data: list[float] = []
        self.times: list[float] = []

    def trim_data(self):
        """Keep the last ``max_history_if_not_running`` rates, once there are half as many more."""
        most = self.max_history_if_not_running
        if len(self.times) > most * 1.5:
            del self.times[:-most], self.stored_data[:-most]

    def reset(self):
        """Drop all rates."""
        self.times, self.stored_data = [], []

    def update_list(self, fps):
        """Add a rate of now, in Hz."""
        self.stored_data.append(fps)
        self.times.append((dt.datetime.now() - self.exp.t0).total_seconds())


class FramerateQueueAccumulator(FramerateAccumulator):
    """Frame rates from a queue of ``(datetime, rate)``.

    Parameters
    ----------
    queue : queue
    """

    def __init__(self, *args, queue, **kwargs):
        super().__init__(*args, **kwargs)
        self.queue = queue

    def update_list(self):  # pyright: ignore[reportIncompatibleMethodOverride] - the queue gives the rate
        """Take in what is in the queue now."""
        while True:
            try:
                time, fps = self.queue.get(block=False)
            except Empty:
                return
            self.times.append(self._seconds(time))
            self.stored_data.append(fps)
            self.trim_data()


class _Rows(Sequence):
    """Rows or times of a collector, as a list would give them."""

    def __init__(self, accumulator: DataFrameAccumulator, times: bool):
        self._accumulator, self._history, self._times = accumulator, accumulator._history, times

    def __len__(self) -> int:
        return len(self._history)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            places = range(len(self))[item]
            return self._between(min(places), max(places) + 1)[:: places.step] if places else []
        time, values = self._history.row(item)
        return time if self._times else self._history.row_type._make(values)

    def append(self, value: Any) -> None:
        """Add a time, then a row, as subclasses written for Stytra do; `DataFrameAccumulator.append` takes both."""
        accumulator = self._accumulator
        if not self._times and type(value) is not accumulator._history.row_type:
            accumulator._take_type(type(value))
        times, rows = accumulator._halves
        (times if self._times else rows).append(value)
        if times and rows:
            DataFrameAccumulator.append(accumulator, times.pop(0), rows.pop(0))

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])

    def _between(self, start: int, stop: int) -> list:
        *columns, times = [column.tolist() for column in self._history.between(start, stop)]
        rows = zip(*columns, strict=True) if columns else [()] * len(times)
        return times if self._times else [*map(self._history.row_type._make, rows)]

    def __repr__(self) -> str:
        return f"<{len(self)} {'times' if self._times else 'rows'}>"


@lru_cache(maxsize=64)  # making one takes as long as reading a thousand rows
def _names(fields: tuple[str, ...]) -> pd.Index:
    return pd.Index([*fields, "t"])


def _named_columns(history: History) -> dict[str, np.ndarray]:
    return dict(zip((*history.fields, "t"), map(_numbers, history.last()), strict=True))


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return objects as floats when they are numbers and None, which are NaN then."""
    if values.dtype.kind != "O":
        return values
    types = set(map(type, values))
    if types <= {float, int, type(None), bool, np.float64, np.int64, np.bool_} and types & {float, int, np.float64}:
        return np.array([np.nan if value is None else value for value in values], float)
    return values


def row_type_of(fields: Iterable[str], name: str = "s") -> Any:
    """Return a named tuple class; fields that are no Python names, as ``closed loop 1D_vel``, are read with getattr."""
    fields = tuple(fields)
    plain = namedtuple(name, fields, rename=True)
    if plain._fields == fields:
        return plain
    places = {field: index for index, field in enumerate(fields)}

    def get(row: Any, field: str) -> Any:
        if field in places:
            return row[places[field]]
        raise AttributeError(f"The row has no field {field!r}.")

    return type(name, (plain,), {"__slots__": (), "_fields": fields, "__getattr__": get})

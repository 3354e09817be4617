"""A queue between processes for rows with times: the names of the columns are sent once, not with each row."""

from __future__ import annotations

import datetime as dt
from multiprocessing import Queue
from typing import Any

from labweave.acquisition.accumulators import row_type_of
from labweave.acquisition.errors import RefusedType

_HEADER = "_fieldnames"


class NamedTupleQueue:
    """Rows as ``(time, namedtuple)``, put by one process and got by another.

    Attributes
    ----------
    q : multiprocessing.Queue

    Examples
    --------
    >>> import datetime as dt
    >>> from collections import namedtuple
    >>> from labweave.acquisition import NamedTupleQueue
    >>> Tail = namedtuple("Tail", "angle vigor")
    >>> queue = NamedTupleQueue()
    >>> queue.put(dt.datetime(2024, 3, 5, 14, 7, 9), Tail(0.25, 1.5))
    >>> queue.get(timeout=10)
    (datetime.datetime(2024, 3, 5, 14, 7, 9), t(angle=0.25, vigor=1.5))
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self.q: Any = Queue()
        self._put_fields: tuple[str, ...] | None = None
        self._got_type: Any = None

    def put(self, t: dt.datetime, obj: Any, block=True, timeout=None) -> None:
        """Put a row.

        Parameters
        ----------
        t : datetime
        obj : namedtuple
        block : bool, default: True
        timeout : float, optional
            In s.

        Raises
        ------
        TypeError
            It is no named tuple.
        """
        fields = getattr(obj, "_fields", None)
        if fields is None:
            raise RefusedType(f"A row is a {type(obj).__name__}. Put a named tuple, whose names become columns.")
        if fields != self._put_fields:
            self.q.put((None, (_HEADER, *fields)), block, timeout)
            self._put_fields = fields
        self.q.put((t, tuple(obj)), block, timeout)

    def get(self, block=True, timeout: float | None = -1) -> tuple[dt.datetime, Any]:
        """Get a row.

        Parameters
        ----------
        block : bool, default: True
        timeout : float or None, default: -1
            In s. Below 0 it does not wait; None waits for ever.

        Returns
        -------
        time : datetime
        row : namedtuple
            Rows of the same fields are of one class.

        Raises
        ------
        queue.Empty
            Nothing is there.
        """
        while True:
            t, values = self.q.get(block, timeout)
            if t is not None:
                return t, self._got_type._make(values)
            self._got_type = row_type_of(values[1:], "t")

"""The journal of a collector: a thread writes what it holds to disk, twice a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from labweave.acquisition.history import History
from labweave.errors import LabweaveError
from labweave.formats.stytra.journal import SUFFIX, JournalWriter

log = logging.getLogger(__name__)

INTERVAL_S = 0.5


class Journal:
    """Writes what one collector holds to ``<path>.journal`` until it is closed.

    Parameters
    ----------
    path : str or Path
        As for saving, without extension.
    describe : callable
        Returns name and time origin (ISO text or None) of the collector.
    is_running : callable
        Whether the protocol runs: after saving, a journal begins anew only then.
    """

    def __init__(self, path: str | Path, describe: Callable[[], tuple[str, str | None]], is_running: Callable):
        self.path = Path(f"{path}{SUFFIX}")
        self._describe, self._is_running = describe, is_running
        self._history: History | None = None
        self._n_done = 0  # rows of the history that are in the journal, or in a saved file
        self._has_begun = False
        self._was_saved = False
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._failed = False
        self._writer: JournalWriter | None = JournalWriter(self.path)
        self._thread = threading.Thread(target=self._work, name=f"journal of {self.path.name}", daemon=True)
        self._thread.start()

    def follow(self, history: History) -> None:
        """Write the rows of another table from now on; what was written of earlier ones stays."""
        with self._lock:
            self.flush()
            self._history, self._n_done, self._has_begun = history, 0, False

    def restart(self) -> None:
        """Forget what was written: its rows are no longer wanted."""
        with self._lock:
            self._history = None
            self._remove()

    def flush(self, sync: bool = True) -> None:
        """Write the rows that came since the last time; with `sync`, wait until the disk has them."""
        try:
            with self._lock:
                self._write()
                if sync and self._writer is not None:
                    self._writer.sync()
        except OSError as error:
            self._complain(error)

    def _write(self) -> None:
        history = self._history
        if history is None:
            return
        with history.lock:
            n_rows = history.n_dropped + len(history)
            if n_rows == self._n_done:
                return
            if self._writer is None:
                if self._was_saved and not self._is_running():
                    return
                self._writer, self._n_done = JournalWriter(self.path), 0  # it gets the saved rows, too
            start, stop = self._n_done - history.n_dropped, n_rows - history.n_dropped
            *columns, times = history.between(max(start, 0), stop)
        if not self._has_begun:  # only now is it sure which start the times count from
            self._writer.begin(*self._describe(), history.fields)
            self._has_begun = True
        self._writer.write("".join(column.dtype.kind for column in columns).lower(), columns, times)
        self._n_done = n_rows

    def finish(self) -> None:
        """Remove the file: all rows are in a saved one. Rows that come while the protocol runs begin a new one."""
        with self._lock:
            if self._history is not None:
                self._n_done = self._history.n_dropped + len(self._history)
            self._was_saved = True
            self._remove()

    def close(self) -> None:
        """Write what is there and stop; the file stays unless it is finished."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            self.flush()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _remove(self) -> None:
        self._has_begun = False
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self.path.unlink(missing_ok=True)

    def _work(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                self.flush()
            except LabweaveError as error:
                self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say once that rows are not safe; the experiment goes on."""
        if not self._failed:
            self._failed = True
            log.error("journal can't be written, a crash would lose rows: file=%s error=%s", self.path, error)

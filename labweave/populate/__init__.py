"""How results get made: order, workers, job queues, errors and retries."""

from labweave.populate.queue import JobError, errors, retry
from labweave.populate.run import PopulateReport, TableReport, run

__all__ = ["JobError", "PopulateReport", "TableReport", "errors", "retry", "run"]

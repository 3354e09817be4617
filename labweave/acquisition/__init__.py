"""Collection of streams in a running Qt experiment, with the names of Stytra's collectors.

Needs PyQt5: ``pip install "labweave[qt]"``.
"""

from labweave.acquisition.accumulators import (
    Accumulator,
    DataFrameAccumulator,
    DynamicLog,
    EstimatorLog,
    FramerateAccumulator,
    FramerateQueueAccumulator,
    QueueDataAccumulator,
)
from labweave.acquisition.data_collector import DataCollector
from labweave.acquisition.live_view import live_view
from labweave.acquisition.namedtuplequeue import NamedTupleQueue

__all__ = [
    "Accumulator",
    "DataCollector",
    "DataFrameAccumulator",
    "DynamicLog",
    "EstimatorLog",
    "FramerateAccumulator",
    "FramerateQueueAccumulator",
    "NamedTupleQueue",
    "QueueDataAccumulator",
    "live_view",
]

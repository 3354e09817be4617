"""Datasets as the frames of ONE-api."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from labweave.formats.alf.qc import QC
from labweave.one.search.rows import DatasetRow

if TYPE_CHECKING:
    import pandas as pd


def datasets_frame(rows: Sequence[DatasetRow], *, with_eid: bool = False) -> pd.DataFrame:
    """Return datasets as ONE-api's frame, indexed by id, or by eid and id, as UUIDs."""
    import numpy as np
    import pandas as pd

    index: Any = pd.Index([UUID(row.id) for row in rows], name="id", dtype=object)
    if with_eid:
        eids = [UUID(row.eid) if row.eid else None for row in rows]
        index = pd.MultiIndex.from_arrays([pd.Index(eids, name="eid", dtype=object), index])
    text, names, qc = _types()
    sizes, missing = np.array([row.size or 0 for row in rows], dtype=np.uint64), np.zeros(len(rows), dtype=bool)
    # Each array is made of what pandas would have to find out from lists, which takes half of the time.
    columns = (
        pd.array([row.rel_path for row in rows], dtype=text),
        pd.arrays.IntegerArray(sizes, missing),
        pd.array([row.hash or None for row in rows], dtype=text),
        np.array([row.exists for row in rows], dtype=bool),
        np.array([row.is_default for row in rows], dtype=bool),
        pd.Categorical.from_codes(np.array([_CODES[row.qc] for row in rows], dtype=np.int8), dtype=qc),
    )
    frame = pd.DataFrame(dict(enumerate(columns)), index=index, copy=False)
    frame.columns = names.copy()  # whoever renames them renames those of one frame
    return frame


_CODES = {qc: code for code, qc in enumerate(QC)}


@lru_cache(maxsize=1)
def _types() -> tuple[Any, pd.Index, pd.CategoricalDtype]:
    """Return the type of text, the names of the columns and the type of quality control."""
    import pandas as pd

    names = pd.Index(["rel_path", "file_size", "hash", "exists", "default_revision", "qc"])
    return pd.api.types.pandas_dtype("str"), names, pd.CategoricalDtype(list(QC), ordered=True)

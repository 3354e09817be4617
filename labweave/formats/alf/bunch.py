"""AlfBunch: the attributes of an ALF object."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labweave.formats.alf.exceptions import ALFKeysDiffer, ALFNotTabular

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

MOST_COLUMNS = 10
"""So many columns of a two-dimensional attribute become columns of `AlfBunch.to_df`."""


class AlfBunch(dict):
    """A dictionary whose keys are also attributes: ``spikes["times"]`` is ``spikes.times``.

    The methods of a dictionary keep their names, so an item ``values`` is ``bunch["values"]`` only.

    Examples
    --------
    >>> from labweave.formats.alf import AlfBunch
    >>> spikes = AlfBunch(times=np.array([0.1, 0.4]), clusters=np.array([3, 5]))
    >>> spikes.times
    array([0.1, 0.4])
    >>> spikes.to_df()
       times  clusters
    0    0.1         3
    1    0.4         5
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} among {', '.join(map(str, self)) or 'no attributes'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} to delete") from None

    def __dir__(self):
        return [*super().__dir__(), *(key for key in self if isinstance(key, str))]

    def copy(self, deep: bool = False) -> AlfBunch:
        """Return a copy, with `deep` also of the arrays."""
        return copy.deepcopy(self) if deep else AlfBunch(self)

    @property
    def check_dimensions(self) -> int:
        """0 if all attributes have the same number of rows, else 1; see `check_dimensions`."""
        return check_dimensions(self)

    def append(self, b: Mapping[str, Any], inplace: bool = False) -> AlfBunch:
        """Return this bunch followed by another one: arrays are joined along their rows, lists extended.

        Other values are kept as they are in this bunch, and the log warns of them.

        Parameters
        ----------
        b : mapping
            It has the same keys, or one of the two is empty.
        inplace : bool, default: False
            Change and return this bunch instead of a copy.

        Raises
        ------
        ALFKeysDiffer
            The keys differ. (Also a NotImplementedError.)
        """
        import numpy as np

        joined = self if inplace else self.copy(deep=True)
        if not b:
            return joined
        if not self:
            joined.update(b)
            return joined
        if set(self) != set(b):
            odd = ", ".join(sorted(map(str, set(self) ^ set(b))))
            raise ALFKeysDiffer(f"Bunches of different attributes can't be joined: only one has {odd}.")
        for key, value in joined.items():
            if isinstance(value, np.ndarray):
                joined[key] = np.concatenate((value, b[key]), axis=0)
            elif isinstance(value, list):
                value.extend(b[key])
            else:
                _log.warning("%s is a %s, which is not appended to; use pandas", key, type(value).__name__)
        log_lengths(joined, "the joined bunch")
        return joined

    def to_df(self) -> pd.DataFrame:
        """Return the attributes as columns of a frame.

        The first 10 columns of a two-dimensional attribute ``x`` become ``x_0`` to ``x_9``. Attributes with more
        dimensions are left out, and the log warns of them.

        Raises
        ------
        ALFNotTabular
            The lengths differ, or an attribute is not an array. (Also a ValueError.)
        """
        import pandas as pd

        columns = {}
        for key, value in self.items():
            if getattr(value, "ndim", None) is None or isinstance(value, pd.DataFrame):
                raise ALFNotTabular(f"{key} is a {type(value).__name__}; only arrays can be columns of a frame.")
            if value.ndim <= 1:
                columns[key] = value
            elif value.ndim == 2 and value.shape[1] == 1:
                columns[key] = value[:, 0]
            elif value.ndim == 2:
                columns.update({f"{key}_{i}": value[:, i] for i in range(min(value.shape[1], MOST_COLUMNS))})
            else:
                _log.warning("%s has %d dimensions and is left out of the frame", key, value.ndim)
        if len({len(column) if column.ndim else None for column in columns.values()}) > 1:
            raise ALFNotTabular(f"Attributes of different lengths are no frame: {_shapes(self)}.")
        return pd.DataFrame(columns)

    @staticmethod
    def from_df(df: pd.DataFrame) -> AlfBunch:
        """Return the columns of a frame as attributes; ``x_0`` and ``x_1`` become ``x`` of two columns."""
        import numpy as np

        bunch = AlfBunch({str(name): df.iloc[:, i].to_numpy() for i, name in enumerate(df.columns)})
        for first in [name for name in bunch if name.endswith("_0") and len(name) > 2]:
            if (second := f"{first[:-2]}_1") in bunch:
                bunch[first[:-2]] = np.column_stack((bunch.pop(first), bunch.pop(second)))
        return bunch


def check_dimensions(dico: Mapping[str, Any]) -> int:
    """Return 0 if all arrays and frames have the same number of rows, or one row, else 1.

    ``timestamps`` of shape (2, 2) may have fewer rows than the others. Those of other shapes with several columns count
    as wrong.

    Raises
    ------
    IndexError
        An array has no dimensions.
    """
    import numpy as np
    import pandas as pd

    lengths = set()
    for key, value in dico.items():
        if not isinstance(value, (np.ndarray, pd.DataFrame)):
            continue
        if key.startswith("timestamps") and isinstance(value, np.ndarray) and value.ndim > 1 and value.shape[1] != 1:
            if value.shape != (2, 2):
                return 1
            continue
        lengths.add(value.shape[0])
    return int(not lengths <= {max(lengths, default=1), 1})


def log_lengths(bunch: Mapping[str, Any], what: str) -> None:
    """Warn in the log if the attributes do not have the same number of rows."""
    arrays = {key: value for key, value in bunch.items() if getattr(value, "ndim", 0)}
    # A series has rows as well, but check_dimensions passes over it, as in ONE.
    if check_dimensions(
        {key: value.to_frame() if hasattr(value, "to_frame") else value for key, value in arrays.items()}
    ):
        _log.warning("%s has attributes of different lengths: %s", what, _shapes(arrays))


def _shapes(bunch: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value.shape}" for key, value in bunch.items() if hasattr(value, "shape"))

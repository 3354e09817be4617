"""The cache of a session: loaded variables, read-only, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import numpy as np
import scipy

DENSE = ":dense"
"""Behind the file name of a sparse variable: its dense form."""


class ArrayCache(MutableMapping[str, Any]):
    """Variables by file name; those not used for longest go when the bytes don't suffice.

    Parameters
    ----------
    max_bytes : int
        A variable that is larger is not kept.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._entries: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    def __getitem__(self, name: str) -> Any:
        value = self._entries[name][0]
        self._entries.move_to_end(name)
        return value if type(value) is np.ndarray and not value.dtype.hasobject else shared(value)

    def __setitem__(self, name: str, value: Any) -> None:
        self.pop(name, None)
        size = n_bytes(value)
        if size > self.max_bytes:
            return
        self._entries[name] = (value, size)
        self.n_bytes += size
        while self.n_bytes > self.max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.n_bytes -= dropped

    def __delitem__(self, name: str) -> None:
        self.n_bytes -= self._entries.pop(name)[1]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def drop(self, name: str) -> None:
        """Forget a variable in every form, its name with or without extension."""
        for key in (name, f"{name}.npy", f"{name}.npz", f"{name}{DENSE}", f"{name}.npz{DENSE}"):
            self.pop(key, None)


def frozen(value: Any) -> Any:
    """Return a value whose arrays can't be changed, without a copy of numbers."""
    return _rebuilt(value, _lock)


def shared(value: Any) -> Any:
    """Return a value with the same numbers in containers of its own, so that changing these changes no other."""
    return _rebuilt(value, _in_own_container)


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value with new containers, and in them what `change` makes of everything else."""
    if isinstance(value, dict):
        return {key: _rebuilt(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_rebuilt(item, change) for item in value])
    if isinstance(value, np.ndarray) and value.dtype == object:
        items = (_rebuilt(item, change) for item in value.reshape(-1))
        value = np.fromiter(items, object, value.size).reshape(value.shape)
    return change(value)


def _lock(value: Any) -> Any:
    if scipy.sparse.issparse(value):
        for part in (value.data, value.indices, value.indptr):
            part.flags.writeable = False
    elif isinstance(value, np.ndarray) and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


def _in_own_container(value: Any) -> Any:
    if isinstance(value, scipy.sparse.csc_array):
        own = scipy.sparse.csc_array(value.shape, dtype=value.dtype)
        own.data, own.indices, own.indptr = value.data, value.indices, value.indptr
        own.has_canonical_format = True
        return own
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.dtype != object:
        return value.copy()  # fields of objects
    return value


def n_bytes(value: Any) -> int:
    """Return how much memory a value takes, about."""
    if isinstance(value, np.ndarray):
        inside = sum(n_bytes(item) for item in value.reshape(-1)) if value.dtype == object else 0
        return value.nbytes + inside
    if scipy.sparse.issparse(value):
        return sum(part.nbytes for part in (value.data, value.indices, value.indptr))  # type: ignore[attr-defined]
    if isinstance(value, dict):
        return 64 * len(value) + sum(n_bytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return 8 * len(value) + sum(n_bytes(item) for item in value)
    return 32

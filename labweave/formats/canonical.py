"""One hash for one content: the same on every server, machine and version of Python."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

_COMPRESSED = b"ZL123\0"
"""DataJoint compresses longer blobs; behind this stand eight bytes with their length."""


def canonical_sha256(value: Any) -> str:
    """Return the sha256 of a value.

    Names of mappings are sorted; a float counts by its bytes, and every NaN is the same one; an array counts by dtype,
    shape and bytes in C order. Numbers of numpy count as Python's.

    Parameters
    ----------
    value : None, bool, int, float, str, bytes, date, datetime, Decimal, array, or a list, tuple or mapping of them

    Raises
    ------
    TypeError
        It holds something else.

    Examples
    --------
    >>> canonical_sha256({"b": 1, "a": [0.5, None]}) == canonical_sha256({"a": (0.5, None), "b": 1})
    True
    >>> canonical_sha256(1) == canonical_sha256(1.0)
    False
    """
    digest = hashlib.sha256()
    _add(digest.update, value)
    return digest.hexdigest()


def _add(add: Any, value: Any) -> None:
    if value is None:
        add(b"n")
    elif isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        add(b"s%d:%b" % (len(encoded), encoded))
    elif isinstance(value, (int, np.integer, np.bool_)):  # a server has 1 for true
        add(b"i%d;" % int(value))
    elif isinstance(value, (float, np.floating)):
        add(b"f" + struct.pack("<d", math.nan if math.isnan(value) else float(value)))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value)
        if content.startswith(_COMPRESSED):
            content = zlib.decompress(content[len(_COMPRESSED) + 8 :])
        add(b"b%d:%b" % (len(content), content))
    elif isinstance(value, Mapping):
        add(b"m%d:" % len(value))
        for name in sorted(value, key=str):
            _add(add, name)
            _add(add, value[name])
    elif isinstance(value, (list, tuple)):
        add(b"l%d:" % len(value))
        for item in value:
            _add(add, item)
    elif isinstance(value, np.ndarray):
        _add_array(add, value)
    elif isinstance(value, (dt.date, dt.time, Decimal)):
        _add(add, f"{type(value).__name__} {value}")
    else:
        raise TypeError(f"{type(value).__name__} has no canonical hash: {value!r:.100}")


def _add_array(add: Any, array: np.ndarray) -> None:
    if array.dtype.hasobject:
        _add(add, ["array", list(array.shape), array.ravel().tolist()])
        return
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    _add(add, ["array", little.dtype.str, list(array.shape), little.tobytes()])

"""Python objects in array files, read without running anything.

numpy stores an array of objects as a pickle, and unpickling can run any code. Here a
pickle may name exactly what numpy needs to rebuild an array; for each of these names
stands an object of this module, which checks what it is given and builds the array
itself. So not even numpy's own code sees a pickle. Everything else is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import Any, Literal

import numpy as np

MAX_DEPTH = 50
"""Containers within each other."""

_DTYPE = re.compile(r"[biufc]\d{1,2}|[SUV]\d{1,9}")
_OBJECT = np.dtype(object)


class _Refused(Exception):
    """Says what a pickle holds that is not read."""


class _Dtype:
    """Stands for a dtype until its byte order and fields are known."""

    def __init__(self, text: Any, align: Any = False, copy: Any = False):
        text = text.decode("latin1") if isinstance(text, bytes) else text
        if not isinstance(text, str) or not (text in ("O8", "O4", "O", "|O") or _DTYPE.fullmatch(text)):
            raise _Refused(f"the dtype {text!r:.40}")
        self.dtype = _OBJECT if "O" in text else np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or not 5 <= len(state) <= 9:
            raise _Refused("a damaged dtype")
        order, subarray, names, fields = state[1:5]
        if subarray is not None or (self.dtype == _OBJECT and names is not None):
            raise _Refused("a dtype with arrays in it")
        if names is None:
            if order in ("<", ">"):
                self.dtype = self.dtype.newbyteorder(order)
            return
        try:
            parts = [fields[name] for name in names]
            types, offsets = [part[0].dtype for part in parts], [int(part[1]) for part in parts]
            if _OBJECT in types:
                raise _Refused("objects in a structured dtype")
            self.dtype = np.dtype(
                {"names": list(names), "formats": types, "offsets": offsets, "itemsize": self.dtype.itemsize}
            )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise _Refused("a damaged structured dtype") from None


class _Array:
    """Stands for an array until its shape, dtype and content are known."""

    value: np.ndarray | None = None
    order: Literal["C", "F"] = "C"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise _Refused("a damaged array")
        _, shape, stored, fortran, content = state
        dtype = stored.dtype
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
            raise _Refused("an array with a damaged shape")
        count = math.prod(shape)
        self.order = "F" if fortran else "C"
        if dtype == _OBJECT:
            if not isinstance(content, list) or len(content) != count:
                raise _Refused("an array whose content does not fit its shape")
            self.value = np.fromiter(content, object, count).reshape(shape)  # numpy pickles objects in C order
            return
        content = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(content, bytes) or len(content) != count * dtype.itemsize:
            raise _Refused("an array whose content does not fit its shape")
        self.value = np.ndarray(shape, dtype, bytearray(content), order=self.order)


def _NDARRAY(*arguments: Any) -> Any:
    raise _Refused("a call of numpy.ndarray")


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> _Array:
    if kind is not _NDARRAY:
        raise _Refused("an array class other than numpy.ndarray")
    return _Array()


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.dtype == _OBJECT or not isinstance(content, (bytes, str)):
        raise _Refused("a damaged numpy number")
    content = content.encode("latin1") if isinstance(content, str) else content
    if len(content) != dtype.dtype.itemsize:
        raise _Refused("a damaged numpy number")
    return np.frombuffer(content, dtype.dtype)[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Return bytes, which pickles of protocol 2 hold as text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("bytes in an unusual spelling")
    return text.encode("latin1")


def _complex(*parts: Any) -> complex:
    if not all(isinstance(part, (int, float)) for part in parts):
        raise _Refused("a damaged complex number")
    return complex(*parts)


_ALLOWED: dict[tuple[str, str], Any] = {
    **{
        (f"{package}.multiarray", name): function
        for package in ("numpy.core", "numpy._core")
        for name, function in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(module, "complex"): _complex for module in ("builtins", "__builtin__")},
    **{(module, "bytes"): lambda: b"" for module in ("builtins", "__builtin__")},  # as protocol 2 spells no bytes
}


class _Unpickler(pickle.Unpickler):
    """Finds what `_ALLOWED` lists and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return what stands for a name."""
        if (module_name, global_name) not in _ALLOWED:
            raise _Refused(f"{module_name}.{global_name}")
        return _ALLOWED[module_name, global_name]


def load_objects(content: bytes) -> tuple[np.ndarray | None, str]:
    """Return the array of plain values in a pickle, the file behind its header; or None and what is not read in it."""
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if not isinstance(loaded, _Array):
            return None, "no array"
        return _Builder(len(content)).build(loaded), ""
    except _Refused as refused:
        return None, str(refused)
    except MemoryError:
        return None, "more than fits into memory"
    except Exception as error:  # a damaged pickle can end in any of them
        return None, f"a damaged pickle ({type(error).__name__})"


class _Builder:
    """Puts real arrays where the placeholders are.

    Containers that a pickle shares are built each time they occur, so that nothing in the result is
    shared; it may hold no more values than the pickle has bytes, or it was made to swell.
    """

    def __init__(self, n_bytes: int):
        self.left = n_bytes + 1

    def build(self, value: Any, depth: int = 0) -> Any:
        """Return `value` with arrays for their placeholders."""
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise _Refused("values that are nested in each other without end")
        if isinstance(value, _Array):
            if value.value is None:
                raise _Refused("a damaged array")
            if value.value.dtype != _OBJECT:
                return value.value
            items = (self.build(item, depth + 1) for item in value.value.ravel())
            return np.fromiter(items, object, value.value.size).reshape(value.value.shape)
        if isinstance(value, dict):
            return {self.build(key, depth + 1): self.build(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.build(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple([self.build(item, depth + 1) for item in value])
        if value is None or isinstance(value, (str, bytes, bool, int, float, complex, np.generic)):
            return value
        raise _Refused(f"a value of type {type(value).__name__.lstrip('_')}")

"""The transforms that every session has, and how their texts are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from labweave.formats.onedata.registry import register_transform

Index = tuple[Any, ...]

_CALL = re.compile(r"([A-Za-z_][\w.]*)\((.*)\)")
_NUMBER = re.compile(r"[+-]?\d+")


def split_call(text: str) -> tuple[str, list[str]]:
    """Return name and arguments of a transform: ``index(:, 1)`` is ``index`` with ``:`` and ``1``."""
    match = _CALL.fullmatch(text.strip())
    if match is None:
        return text, []
    return match[1], [part.strip() for part in match[2].split(",")] if match[2].strip() else []


def parse_index(parts: Sequence[str]) -> Index:
    """Return integers, slices and an ellipsis from their texts, as between the brackets of ``array[...]``."""
    return tuple([_parse_part(part) for part in parts])


def _parse_part(text: str) -> Any:
    if text == "...":
        return Ellipsis
    numbers = [number.strip() for number in text.split(":")]
    if len(numbers) > 3 or any(number and not _NUMBER.fullmatch(number) for number in numbers) or numbers == [""]:
        raise ValueError(f"{text!r} is no part of an index: write numbers, slices like 0:100 or :, and ...")
    values = [int(number) if number else None for number in numbers]
    return values[0] if len(values) == 1 else slice(*values)


def full_index(index: Index, n_axes: int) -> Index:
    """Return an index with a part for each axis; IndexError when it has more parts than that."""
    given = len(index) - (Ellipsis in index)
    if given > n_axes:
        raise IndexError(f"the index has {given} parts, the array {n_axes} axes")
    where = index.index(Ellipsis) if Ellipsis in index else len(index)
    return (*index[:where], *([slice(None)] * (n_axes - given)), *index[where + 1 :])


def split_index(transforms: Sequence[str]) -> tuple[Index | None, list[str]]:
    """Return the index that transforms begin with, as of the source, and the transforms that are left.

    An index behind a transpose is moved before it.
    """
    index, before, left = None, [], list(transforms)
    while left and split_call(left[0]) == ("transpose", []):
        before.append(left.pop(0))
    if left:
        name, parts = split_call(left[0])
        if name == "index" and parts:
            index = parse_index(parts)
        elif left[0] == "idx_column1":
            index = (slice(None), 1)
    if index is None:
        return None, list(transforms)
    if len(before) % 2:
        index = tuple(reversed(index)) if Ellipsis in index else (Ellipsis, *reversed(index))
    return index, before + left[1:]


@register_transform("transpose")
def transpose(data: Any, *axes: str) -> Any:
    """Reverse the axes, or put them in the given order: ``transpose(1, 0, 2)``."""
    return np.transpose(data, [int(axis) for axis in axes] or None)


@register_transform("index")
def index(data: Any, *parts: str) -> Any:
    """Take a part: ``index(0:100, 3)``."""
    return data[parse_index(parts)]


@register_transform("idx_column1")
def idx_column1(data: Any) -> Any:
    """Take the second column."""
    return data[:, 1]


@register_transform("astype")
def astype(data: Any, dtype: str) -> Any:
    """Convert to another type of numbers or text: ``astype(float32)``."""
    wanted = np.dtype(dtype)
    if wanted.hasobject:
        raise ValueError("astype makes numbers and text, no objects")
    return np.asarray(data).astype(wanted)


@register_transform("abs")
def absolute(data: Any) -> Any:
    """Take absolute values."""
    return np.abs(data)


@register_transform("squeeze")
def squeeze(data: Any) -> Any:
    """Drop axes of length 1."""
    return np.squeeze(data)


@register_transform("ravel")
def ravel(data: Any) -> Any:
    """Make one axis of all, in C order."""
    return np.ravel(data)


@register_transform("scale")
def scale(data: Any, factor: str) -> Any:
    """Multiply: ``scale(0.5)``."""
    return np.multiply(data, float(factor))

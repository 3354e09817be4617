"""What an experiment is made of before it is stored: blocks of trials, their attributes and arrays."""

from __future__ import annotations

import pprint
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

_JOIN = {0: np.vstack, 1: np.hstack, 2: np.dstack}


class Array:
    """Data of one trial that grows while the trial runs.

    Parameters
    ----------
    data : array_like, optional
        What it holds at first; copied.
    stack_axis : {0, 1, 2}, default: 1
        Where `stack` adds: below, to the right (arrays of one dimension: at the end), or behind.

    Attributes
    ----------
    data : ndarray or None
        None while it is empty.

    Raises
    ------
    ValueError
        Another `stack_axis`.

    Examples
    --------
    >>> from labweave.formats.axopy import Array
    >>> emg = Array()
    >>> emg.stack([[1, 2], [3, 4]])
    >>> emg.stack([[5], [6]])
    >>> emg.data
    array([[1, 2, 5],
           [3, 4, 6]])
    """

    def __init__(self, data: Any = None, stack_axis: int = 1):
        if stack_axis not in _JOIN:
            raise ValueError(f"stack_axis is {stack_axis!r}; arrays are stacked along 0, 1 or 2.")
        self.data = None if data is None else np.array(data)
        self.stack_axis = stack_axis

    def stack(self, data: Any) -> None:
        """Add data; a first array is copied."""
        self.data = np.array(data) if self.data is None else _JOIN[self.stack_axis]([self.data, data])

    def clear(self) -> None:
        """Forget the data."""
        self.data = None


class Trial:
    """One repetition of a task.

    Parameters
    ----------
    attrs : mapping
        What is known of it, one value per name; copied.

    Attributes
    ----------
    attrs : dict
    arrays : dict
        Name -> `Array`.

    Examples
    --------
    >>> from labweave.formats.axopy import Trial
    >>> trial = Trial({"target": "left"})
    >>> trial.add_array("cursor", stack_axis=0)
    >>> for position in ([0.0, 0.5], [0.1, 0.6]):
    ...     trial.arrays["cursor"].stack([position])
    >>> trial.arrays["cursor"].data.shape
    (2, 2)
    """

    def __init__(self, attrs: Mapping[str, Any]):
        self.attrs = dict(attrs)
        self.arrays: dict[str, Array] = {}

    def add_array(self, name: str, data: Any = None, stack_axis: int = 1) -> None:
        """Add an array; the arguments are those of `Array`."""
        self.arrays[name] = Array(data, stack_axis)

    def __str__(self) -> str:
        return pprint.pformat(self.attrs)


class Block(list):
    """Trials that run one after the other; `index` counts the blocks of a design from 0.

    Examples
    --------
    >>> from labweave.formats.axopy import Block
    >>> block = Block(0)
    >>> for target in ("left", "middle", "right"):
    ...     trial = block.add_trial({"target": target})
    >>> block.shuffle(seed=1)
    >>> [trial.attrs["trial"] for trial in block]
    [0, 1, 2]
    """

    def __init__(self, index: int):
        super().__init__()
        self.index = index  # type: ignore[assignment] - AxoPy's name hides that of lists

    def add_trial(self, attrs: Mapping[str, Any] | None = None) -> Trial:
        """Add a trial and return it; its attributes ``block`` and ``trial`` count from 0."""
        trial = Trial({**(attrs or {}), "block": self.index, "trial": len(self)})
        self.append(trial)
        return trial

    def shuffle(self, reset_index: bool = True, seed: int | None = None) -> None:
        """Shuffle the trials.

        Parameters
        ----------
        reset_index : bool, default: True
            Number ``trial`` in the new order; False keeps the numbers of the design.
        seed : int, optional
            For the same order every time.
        """
        random.Random(seed).shuffle(self)  # noqa: S311
        if reset_index:
            for index, trial in enumerate(self):
                trial.attrs["trial"] = index


class Design(list):
    """The blocks of a task.

    Examples
    --------
    >>> from labweave.formats.axopy import Design
    >>> block = Design().add_block()
    >>> for target in ("left", "right"):
    ...     trial = block.add_trial({"target": target})
    >>> print(trial)
    {'block': 0, 'target': 'right', 'trial': 1}
    """

    def add_block(self) -> Block:
        """Add a block and return it."""
        block = Block(len(self))
        self.append(block)
        return block

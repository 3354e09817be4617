"""Regular expressions that people, and web clients, search with: each has so many seconds and no more."""

from __future__ import annotations

from time import monotonic
from typing import Any

SECONDS = 10.0


class Expression:
    """A regular expression, as Python's `re` understands it, for one search.

    Some expressions, such as ``(a|aa)+$``, take longer than anybody waits on a text of forty characters. All calls of
    one expression together may take `SECONDS`.

    Parameters
    ----------
    text : str
    shown : str, optional
        What the person gave, where `text` was made of it.

    Raises
    ------
    ValueError
        It is no regular expression; when used, it takes too long.

    Examples
    --------
    >>> from labweave.one.search.expressions import Expression
    >>> Expression("spikes[.].*").fullmatch("spikes.times.npy")
    True
    """

    def __init__(self, text: str, shown: str | None = None):
        import regex

        self._shown = repr(text) if shown is None else shown
        self._left = SECONDS
        try:
            self._compiled = regex.compile(text)
        except regex.error as error:
            raise ValueError(f"{self._shown} is not a regular expression: {error}.") from None

    def search(self, text: str) -> bool:
        """Say whether it fits somewhere in a text."""
        return self._ask(self._compiled.search, text)

    def match(self, text: str) -> bool:
        """Say whether it fits the beginning of a text."""
        return self._ask(self._compiled.match, text)

    def fullmatch(self, text: str) -> bool:
        """Say whether it fits a whole text."""
        return self._ask(self._compiled.fullmatch, text)

    def _ask(self, method: Any, text: str) -> bool:
        began = monotonic()
        try:
            return method(text, timeout=max(self._left, 1e-3)) is not None
        except TimeoutError:
            raise ValueError(
                f"{self._shown} takes longer than {SECONDS:.0f} s to compare. Write it more simply, without repeated "
                "alternatives that overlap, such as (a|aa)+."
            ) from None
        finally:
            self._left -= monotonic() - began

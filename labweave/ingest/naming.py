"""Names that can't be kept, or be told apart: of folders and files that become units, and of rows made from them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from labweave.ingest.base import Adapter, Unit

has_control_character = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


class Names:
    """The names that a run has met.

    Parameters
    ----------
    adapter : Adapter
        Its option ``allow_case`` lets names differ by case alone.
    """

    def __init__(self, adapter: Adapter):
        self._root = adapter.root
        self._has_option = hasattr(adapter.options, "allow_case")
        self._case_counts = getattr(adapter.options, "allow_case", False)
        self._spelled: dict[str, str] = {}
        self._seen: set[str] = set()
        self._twins: dict[str, str] = {}
        self._units: list[str] = []

    def meet(self, units: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
        """Return the units with what is wrong with their names, and those of earlier calls that clash with them."""
        n_twins = len(self._twins)
        for unit in units:
            self._note(_with_parents(unit.path))
        judged = [unit if unit.problem else replace(unit, problem=self._problem(unit)) for unit in units]
        earlier: list[Unit] = []
        if len(self._twins) > n_twins:
            found = ((path, self._clash(path)) for path in self._units)
            earlier = [Unit(path, (), problem=problem) for path, problem in found if problem]
        self._units += [unit.path for unit in judged if not unit.problem]
        clashing = {unit.path for unit in earlier}
        self._units = [path for path in self._units if path not in clashing] if clashing else self._units
        return judged, earlier

    def _note(self, paths: Iterable[str]) -> None:
        for path in paths:
            if path in self._seen:
                continue
            self._seen.add(path)
            other = self._spelled.setdefault(self._fold(path), path)
            if other != path:
                self._twins[path] = other
                self._twins.setdefault(other, path)

    def _fold(self, path: str) -> str:
        folded = path if path.isascii() else unicodedata.normalize("NFC", path)
        return folded if self._case_counts else folded.casefold()

    def _problem(self, unit: Unit) -> str:
        """Return what is wrong with the name of a unit or of its files; empty when nothing is."""
        if has_control_character("/".join((unit.path, *unit.files))):
            path = next(path for path in (unit.path, *unit.files) if has_control_character(path))
            return f"{str(self._root / path)!r} has a control character in its name. Rename it."
        if problem := self._clash(unit.path):
            return problem
        if len(set(map(self._fold, unit.files))) < len(unit.files):
            first: dict[str, str] = {}
            for path in unit.files:
                if (other := first.setdefault(self._fold(path), path)) != path:
                    return self._said(path, other)
        return ""

    def _clash(self, path: str) -> str:
        if not self._twins:
            return ""
        return next((self._said(part, self._twins[part]) for part in _with_parents(path) if part in self._twins), "")

    def _said(self, path: str, other: str) -> str:
        by_form = unicodedata.normalize("NFC", path) == unicodedata.normalize("NFC", other)
        how = "the Unicode form of their letters (NFC, NFD)" if by_form else "case"
        unless = ", or say --allow-case when they are two" if self._has_option and not by_form else ""
        one, two = sorted((path, other))
        return f"{Path(self._root, one)} and {Path(self._root, two)} differ by {how} alone. Rename one{unless}."


def _with_parents(path: str) -> list[str]:
    """Return the folders of a path below the root, from above, and the path."""
    parts = path.split("/")
    return ["/".join(parts[: at + 1]) for at in range(len(parts))]

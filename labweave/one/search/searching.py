"""From the words of a search to a filter of sessions: in the seed's way and in ONE-api's.

Texts that may be parts of names, or patterns, are compared here with the distinct names in the tables, so that every
database gives the same answer. The filter has whole names only.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labweave.one.search.expressions import Expression
from labweave.one.search.matching import as_list, outcomes
from labweave.one.search.questions import Finder
from labweave.one.search.rows import COLUMNS, Holding, SessionFilter

TERMS = (
    "datasets",
    "date_range",
    "laboratory",
    "number",
    "projects",
    "subject",
    "task_protocol",
    "dataset_qc_lte",
)
"""What ONE-api's search takes in local mode. A beginning of one of these means it, whatever else is searched by."""

_OTHER_TERMS = ("dataset_types", "performance_gte", "performance_lte", "users")

MORE_TERMS = (*(c.search for c in COLUMNS.values() if c.search and c.search not in TERMS), *_OTHER_TERMS)
"""What it takes besides."""

_LEGACY_WORDS = {
    "dataset_types": ("data", "dataset", "datasets", "dataset-types", "dataset_type"),
    "date_range": ("date", "date-range"),
    "number": (),
    "performance_gte": (),
    "performance_lte": (),
    "users": ("user",),
}

LEGACY_TERMS = _LEGACY_WORDS | {c.legacy[0]: c.legacy[1:] for c in COLUMNS.values() if c.legacy}
"""What the seed's search takes, and other words for it."""

_PLAIN = re.compile(r"[\w\s/:,@=~!%&;'\"<>-]*")
"""Text that means itself as a regular expression."""


def complete(term: str, terms: Iterable[str]) -> str:
    """Return the term that a word is the only beginning of, or raise ValueError."""
    word = term.casefold()
    terms = list(terms)
    if word in terms:
        return word
    if word == "dataset":
        return "datasets"
    found = [each for each in terms if each.startswith(word)]
    if len(found) != 1:
        problem = f"could be {' or '.join(found)}" if found else "is no search term"
        raise ValueError(f"{term!r} {problem}. The terms are: {', '.join(sorted(terms))}.")
    return found[0]


# --- ONE-api's way


def modern(tables: Finder, given: Mapping[str, Any], *, wildcards: bool) -> SessionFilter:
    """Return the filter for whole terms and their values, None for a term that is left out.

    Texts are found anywhere in a name, as regular expressions with `wildcards`. A value that can't be understood is a
    ValueError.
    """
    given = {term: value for term, value in given.items() if value is not None}
    among = {}
    for name, column in COLUMNS.items():
        texts = _texts(given.get(column.search))
        if texts:
            fits = _fits_anywhere(column.search, texts, wildcards)
            among[name] = [each for each in tables.names(name) if fits(each)]
    accepted = outcomes(given.get("dataset_qc_lte", "FAIL"))
    holding = [
        Holding(names=names_like(tables, str(name)), outcomes=accepted) for name in as_list(given.get("datasets"))
    ]
    if not given.get("datasets") and "dataset_qc_lte" in given:
        holding.append(Holding(outcomes=accepted))
    return _filter(given, among, holding, one_day_is_open=True)


def _texts(value: Any) -> list[str]:
    """Return what a name is compared with; nothing if a text is empty, which every name contains."""
    texts = [str(each) for each in as_list(value)]
    return [] if "" in texts else texts


def _fits_anywhere(term: str, texts: list[str], wildcards: bool) -> Callable[[str], bool]:
    """Return what says whether one of the texts is found in a name."""
    if not wildcards or all(map(_PLAIN.fullmatch, texts)):
        return lambda name: any(text in name for text in texts)
    expressions = [Expression(text, f"{term}={texts!r}") for text in texts]
    return lambda name: any(each.search(name) for each in expressions)


def names_like(tables: Finder, pattern: str) -> tuple[str, ...]:
    """Return the file names in the tables that a regular expression fits as a whole."""
    fits = Expression(pattern, f"datasets={pattern!r}").fullmatch
    first, before = _range_of(pattern)
    return tuple(name for name in tables.dataset_names(first, before) if fits(name))


def _range_of(pattern: str) -> tuple[str, str | None]:
    """Return the first text that can fit a regular expression, and the first after it that can't."""
    plain = re.match(r"[A-Za-z0-9_]*", pattern)
    head = plain[0] if plain and "|" not in pattern else ""
    if pattern[len(head) : len(head) + 1] in {"?", "*", "{"}:
        head = head[:-1]
    return head, head[:-1] + chr(ord(head[-1]) + 1) if head else None


# --- the seed's way


def legacy(tables: Finder, filters: Mapping[str, Any]) -> SessionFilter:
    """Return the filter; names are whole (subject, lab) or parts (project, task, location), in any case.

    A word that is no search term is a KeyError, a value that can't be understood a ValueError.
    """
    words = {word: term for term, others in LEGACY_TERMS.items() for word in (term, *others)}
    given = {words[word]: value for word, value in filters.items() if value is not None}
    among = {}
    for name, column in COLUMNS.items():
        texts = [text.casefold() for text in _texts(given.get(column.legacy[0]))] if column.legacy else []
        if texts and column.is_whole:
            among[name] = [each for each in tables.names(name) if each.casefold() in texts]
        elif texts:
            among[name] = [each for each in tables.names(name) if any(text in each.casefold() for text in texts)]
    return _filter(given, among, [], one_day_is_open=False)


# --- both


def _filter(
    given: Mapping[str, Any], among: dict[str, list[Any]], holding: list[Holding], *, one_day_is_open: bool
) -> SessionFilter:
    """Return the filter of the columns compared already, and of the terms that both ways take alike."""
    types = dict.fromkeys(str(each) for each in as_list(given.get("dataset_types")))
    if numbers := [_whole("number", each) for each in as_list(given.get("number")) if each is not None]:
        among["number"] = numbers
    first, last = _days(given.get("date_range"), one_day_is_open)
    return SessionFilter(
        among,
        users=list(dict.fromkeys(str(each) for each in as_list(given.get("users")))),
        first=first,
        last=last,
        at_least=_share("performance_gte", given.get("performance_gte")),
        at_most=_share("performance_lte", given.get("performance_lte")),
        holding=[*holding, *(Holding(types=(each,)) for each in types)],
    )


def _whole(term: str, value: Any) -> int:
    try:
        number = int(value)
        if not isinstance(value, str) and number != value:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{term}={value!r} is not a whole number.") from None
    return number


def _share(term: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{term}={value!r} is not a number of percent.") from None


def _days(value: Any, one_day_is_open: bool) -> tuple[dt.date | None, dt.date | None]:
    """Return the first and the last day of a date range; a list of one day may be open to the future."""
    days = [_day(each) for each in as_list(value)]
    if len(days) > 2:
        raise ValueError(f"date_range={value!r} has {len(days)} dates; give one day, or the first and the last.")
    if not days:
        return None, None
    is_list = isinstance(value, Iterable) and not isinstance(value, str)
    return days[0], None if is_list and len(days) == 1 and one_day_is_open else days[-1]


def _day(value: Any) -> dt.date | None:
    if value is None or value == "":
        return None
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    # numpy.datetime64 and pandas.Timestamp write themselves in this form, too.
    text = str(value)
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?", text):
        try:
            return dt.date.fromisoformat(text[:10])
        except ValueError:
            pass
    raise ValueError(f"date_range: {value!r} is not a day of the calendar, such as 2020-01-31.")

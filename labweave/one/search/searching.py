"""From the keywords of a search to the sessions that are wanted: the seed's way and ONE-api's.

Names that may be given in part are compared here with the distinct names of the tables, so that every database gives
the same answer; the server gets whole names only, or plain texts that a name must contain.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from labweave.one.search.matching import QC, as_list, severity
from labweave.one.search.questions import Holding, Wanted
from labweave.one.search.tables import Tables

LEGACY_TERMS = {
    "dataset_types": ("data", "dataset", "datasets", "dataset-types", "dataset_type"),
    "date_range": ("date", "date-range"),
    "lab": ("labs",),
    "location": ("lab_location",),
    "number": (),
    "performance_gte": (),
    "performance_lte": (),
    "project": (),
    "subject": ("subjects",),
    "task_protocol": ("task",),
    "users": ("user",),
}
"""What the seed's search takes, and other words for it."""

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
"""What ONE-api's search takes in local mode."""

MORE_TERMS = ("dataset_types", "location", "performance_gte", "performance_lte", "users", "limit", "django")
"""What it takes besides in remote mode."""

_PLAIN = re.compile(r"[\w\s/:,@=~!%&;'\"<>-]*")
"""Text that means itself as a regular expression."""


def complete(term: str, terms: Iterable[str]) -> str:
    """Return the term that a word is the only beginning of.

    Raises
    ------
    ValueError
        There is none, or several.
    """
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


def complete_in(word: str, terms: Iterable[str]) -> str:
    """Return the term that a word is, or is the only beginning of; ``dataset`` is one of its own here."""
    return word if word in set(terms) else complete(word, terms)


# --- ONE-api's way


def modern(tables: Tables, filters: Mapping[str, Any], *, wildcards: bool) -> Wanted:
    """Return what is wanted; texts are found anywhere in a name, as regular expressions with `wildcards`.

    Parameters
    ----------
    tables : Tables
    filters : mapping
        Whole terms -> values; None leaves a term out.

    Raises
    ------
    ValueError
        A value that can't be understood.
    """
    given = {term: value for term, value in filters.items() if value is not None}
    wanted: dict[str, Any] = {"containing": {}}
    for term, column, whole in (
        ("laboratory", "lab", "labs"),
        ("task_protocol", "task_protocol", "protocols"),
        ("subject", "subject", "subjects"),
        ("projects", "project", "projects"),
        ("location", "session_location", "locations"),
    ):
        texts = [str(each) for each in as_list(given.get(term))]
        if not texts or "" in texts:
            continue
        if column == "task_protocol" and (not wildcards or all(map(_PLAIN.fullmatch, texts))):
            wanted["containing"][column] = texts
            continue
        wanted[whole] = tables.names(column, _finder(term, texts, wildcards), to_search=True)
    outcomes = _outcomes(given.get("dataset_qc_lte", "FAIL"))
    holding = [
        Holding(names=names_like(tables, str(name)), outcomes=outcomes) for name in as_list(given.get("datasets"))
    ]
    if not given.get("datasets") and "dataset_qc_lte" in given:
        holding.append(Holding(outcomes=outcomes))
    return Wanted(**wanted, **_shared(given, holding), **_days(given.get("date_range"), is_legacy=False))


def _finder(term: str, texts: list[str], wildcards: bool) -> Callable[[Collection[str]], set[str]]:
    """Return what takes from names those in which one of the texts is found."""
    if not wildcards or all(map(_PLAIN.fullmatch, texts)):
        return lambda names: {name for text in texts for name in names if text in name}
    try:
        expressions = [re.compile(text) for text in texts]
    except re.error as error:
        raise ValueError(f"{term}={texts!r} is not a regular expression: {error}.") from None
    return lambda names: {name for each in expressions for name in filter(each.search, names)}


def names_like(tables: Tables, pattern: str) -> tuple[str, ...]:
    """Return the file names in the tables that a regular expression fits as a whole.

    Raises
    ------
    ValueError
        It is not a regular expression.
    """
    try:
        fits = re.compile(pattern).fullmatch
    except re.error as error:
        raise ValueError(f"datasets={pattern!r} is not a regular expression: {error}.") from None
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


def legacy(tables: Tables, filters: Mapping[str, Any]) -> Wanted:
    """Return what is wanted; names are whole (subject, lab) or parts (project, task, location), in any case.

    Raises
    ------
    KeyError
        A word that is no search term.
    ValueError
        A value that can't be understood.
    """
    words = {word: term for term, others in LEGACY_TERMS.items() for word in (term, *others)}
    given = {words[word]: value for word, value in filters.items() if value is not None}
    wanted: dict[str, Any] = {}
    for term, column, whole in (
        ("subject", "subject", "subjects"),
        ("lab", "lab", "labs"),
        ("task_protocol", "task_protocol", "protocols"),
        ("project", "project", "projects"),
        ("location", "session_location", "locations"),
    ):
        texts = [str(each).casefold() for each in as_list(given.get(term))]
        if not texts or "" in texts:
            continue
        take = _equal_to if column in ("subject", "lab") else _with_part
        wanted[whole] = tables.names(column, partial(take, texts), to_search=True)
    return Wanted(**wanted, **_shared(given, []), **_days(given.get("date_range"), is_legacy=True))


def _equal_to(texts: list[str], names: Collection[str]) -> list[str]:
    return [name for name in names if name.casefold() in texts]


def _with_part(texts: list[str], names: Collection[str]) -> list[str]:
    return [name for name in names if any(text in name.casefold() for text in texts)]


# --- both


def _shared(given: Mapping[str, Any], holding: list[Holding]) -> dict[str, Any]:
    """Return what both ways take alike."""
    types = dict.fromkeys(str(each) for each in as_list(given.get("dataset_types")))
    numbers = [_whole("number", each) for each in as_list(given.get("number")) if each is not None]
    return {
        "users": list(dict.fromkeys(str(each) for each in as_list(given.get("users")))),
        "numbers": numbers or None,
        "at_least": _share("performance_gte", given.get("performance_gte")),
        "at_most": _share("performance_lte", given.get("performance_lte")),
        "holding": [*holding, *(Holding(types=(each,)) for each in types)],
    }


def _outcomes(worst: Any) -> tuple[str, ...]:
    most = severity(worst)
    return tuple(name for name, value in QC.items() if value <= most)


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


def _days(value: Any, *, is_legacy: bool) -> dict[str, Any]:
    """Return the first and the last day of a date range."""
    if value is None or (not isinstance(value, str) and isinstance(value, Iterable) and not len(as_list(value))):
        return {}
    days = as_list(value)
    if not isinstance(value, str) and isinstance(value, Iterable):
        if len(days) > 2:
            raise ValueError(f"date_range={value!r} has {len(days)} dates; give one day, or the first and the last.")
        first, last = (_day(each) for each in (days if len(days) == 2 else (days[0], days[0] if is_legacy else None)))
        return {"first": first, "last": last}
    return {"first": _day(value), "last": _day(value)}


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

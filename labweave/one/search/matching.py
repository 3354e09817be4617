"""Which datasets a user means: by name, collection, revision and quality control. Nothing here asks the database.

Names are shell patterns, or regular expressions where wildcards are off. None means any, an empty text means
absent, a list means one of its items. Listing and loading share these rules, so what is listed can be loaded.
"""

from __future__ import annotations

import fnmatch
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from labweave.formats.alf.exceptions import (
    ALFMultipleCollectionsFound,
    ALFMultipleObjectsFound,
    ALFMultipleRevisionsFound,
    ALFWarning,
)
from labweave.formats.alf.names import PATTERNS, join_rel_path
from labweave.formats.alf.qc import QC, severity
from labweave.one.search.expressions import Expression
from labweave.one.search.rows import DatasetRow

PARTS = ("namespace", "object", "attribute", "timescale", "extra", "extension")
DEFAULT_MAX_QC = "FAIL"

Names = str | Mapping[str, Any] | Sequence[Any] | None
Texts = str | Sequence[str] | None


def as_list(value: Any) -> list[Any]:
    """Return a list: of one item for text and mappings, of none for None."""
    if value is None:
        return []
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def check_parts(parts: Iterable[str], error: type[Exception] = TypeError) -> None:
    """Raise an error if a name is not that of an ALF part."""
    if unknown := sorted(map(str, set(parts) - set(PARTS))):
        raise error(f"{', '.join(unknown)}: ALF names have the parts {', '.join(PARTS)}.")


# --- patterns of paths


def path_pattern(filename: Names, collection: Texts, revision: Texts, *, wildcards: bool) -> Callable[[str], bool]:
    """Return what says whether a path fits, from beginning to end, which paths of matching datasets do.

    File names may have folders before them; a ``*`` at the beginning of a name does not reach into folders. Without
    `wildcards`, texts are regular expressions.
    """
    collection, revision = _texts(collection), _texts(revision)
    if isinstance(filename, Mapping):
        check_parts(filename, KeyError)
        name = _parts_pattern({part: _texts(value) for part, value in filename.items()}, wildcards)
    else:
        filename = _texts(filename)
        name = _any_of(filename, wildcards, _own_folder) if filename else _parts_pattern({}, wildcards)
    folders = _folder(collection, "(?:{})/", PATTERNS["collection"], wildcards)
    folders += _folder(revision, "#(?:{})#/", PATTERNS["revision"], wildcards)
    shown = " ".join(str(given) for given in (filename, collection, revision) if given)
    return Expression(rf"{folders}(?:{name})\Z", repr(shown)).match


def _texts(value: Any) -> Any:
    """Return a text or None as it is, and anything else, such as an array of texts, as a tuple."""
    return value if value is None or isinstance(value, str) else tuple(value)


def _folder(value: Texts, form: str, anything: str, wildcards: bool) -> str:
    if value == "":
        return ""
    return form.format(_any_of(value, wildcards)) if value else f"(?:{form.format(anything)})?"


def _any_of(value: Any, wildcards: bool, adapt: Callable[[str], str] = str) -> str:
    texts = [value] if isinstance(value, str) else value
    return "|".join(adapt(_shell(text)) if wildcards else f"(?:{text})" for text in texts)


def _shell(text: str) -> str:
    """Return the expression for a shell pattern, which is not tied to the end."""
    return re.sub(r"\\[Zz]\Z", "", fnmatch.translate(text))


def _own_folder(pattern: str) -> str:
    """Keep a ``*`` at the beginning of a name from reaching into folders."""
    return re.sub(r"\A(\(\?s:)?\.\*", r"\1[^/]*", pattern)


def _parts_pattern(parts: Mapping[str, Any], wildcards: bool) -> str:
    part = PATTERNS | {name: _any_of(value, wildcards) for name, value in parts.items() if value}
    namespace, timescale, extra = (parts.get(name) for name in ("namespace", "timescale", "extra"))
    # Before a namespace there is an underscore, which is how the pattern of any namespace tells it from an object.
    head = "(?!_)" if namespace == "" else f"_?(?:{part['namespace']}){'' if namespace else '?'}_?"
    scale = "" if timescale == "" else f"(?:_(?:{part['timescale']})){'' if timescale else '?'}"
    more = "" if extra == "" else rf"(?:\.(?:{part['extra']})){'' if extra else '?'}"
    attribute = f"(?:{part['attribute']})"
    return rf"{head}(?:{part['object']})\.{attribute}{scale}{more}\.(?:{part['extension']})"


def find(
    rows: Iterable[DatasetRow],
    filename: Names = None,
    collection: Texts = None,
    revision: Texts = None,
    *,
    wildcards: bool = True,
    max_qc: Any = DEFAULT_MAX_QC,
    ignore_qc_not_set: bool = False,
) -> list[DatasetRow]:
    """Return the datasets that fit, in the order given; see `path_pattern`.

    `max_qc` is the worst quality control that is taken; `ignore_qc_not_set` leaves out datasets that have had none.
    """
    accepted = set(outcomes(max_qc, ignore_qc_not_set))
    fits = path_pattern(filename, collection, revision, wildcards=wildcards)
    return [row for row in rows if row.qc in accepted and fits(row.rel_path)]


def outcomes(max_qc: Any = DEFAULT_MAX_QC, ignore_qc_not_set: bool = False) -> tuple[str, ...]:
    """Return the outcomes of quality control up to the worst that is taken."""
    worst = severity(max_qc)
    return tuple(name for name, value in QC.items() if (1 if ignore_qc_not_set else 0) <= value <= worst)


def with_extension(name: Any, wildcards: bool) -> Any:
    """Return ``object.attribute.*`` for ``object.attribute``."""
    return f"{name}.*" if wildcards and isinstance(name, str) and name.count(".") == 1 else name


def find_in_any_namespace(rows: Iterable[DatasetRow], name: str, collection: Texts) -> list[DatasetRow]:
    """Return the datasets that have a name, which ends with its extension, in whatever namespace."""
    fits = re.compile(rf"(?:.*/)?(?:_{PATTERNS['namespace']}_)?{_shell(name)}\Z").match
    return [row for row in find(rows, None, collection) if fits(row.rel_path)]


# --- revisions


def default_revision() -> str | None:
    """Return the revision that loading takes when none is given, from ONE_REVISION_LAST_BEFORE."""
    return os.environ.get("ONE_REVISION_LAST_BEFORE") or None


def last_before(rows: Iterable[DatasetRow], revision: str | None, *, strict: bool = True) -> list[DatasetRow]:
    """Return one revision of each dataset of a session, sorted by their paths.

    It is the last one that is not after `revision`, compared as text; without one, it is the default. If a dataset has
    several defaults, that is an error if `strict`, else a warning, as a missing default is.
    """
    groups: dict[str, list[DatasetRow]] = {}
    for row in rows:
        groups.setdefault(join_rel_path(row.collection, "", row.name), []).append(row)
    chosen = [found for path in sorted(groups) if (found := _one_of(path, groups[path], revision or None, strict))]
    if len(revisions := list(dict.fromkeys(row.revision for row in chosen))) > 1:
        warnings.warn(f"Multiple revisions: {_quoted(revisions)}", ALFWarning, stacklevel=4)
    return chosen


def _one_of(path: str, rows: list[DatasetRow], revision: str | None, strict: bool) -> DatasetRow | None:
    if revision is None:
        defaults = [row for row in rows if row.is_default]
        if len(defaults) > 1 and strict:
            raise ALFMultipleRevisionsFound(
                f"{path} has several default revisions: {_quoted(r.revision for r in defaults)}."
            )
        if len(defaults) == 1:
            return defaults[0]
        if len(rows) == 1:
            return rows[0]
        problem = "several default revisions" if defaults else "no default revision"
        warnings.warn(f"{path} has {problem}; the most recent is taken", ALFWarning, stacklevel=5)
        return max(rows, key=lambda row: row.revision)
    return max((row for row in rows if row.revision <= revision), key=lambda row: row.revision, default=None)


# --- one or several


def only_collection(rows: Sequence[DatasetRow]) -> None:
    """Raise ALFMultipleCollectionsFound if datasets lie in several collections."""
    if len(found := sorted({row.collection for row in rows})) > 1:
        raise ALFMultipleCollectionsFound(_quoted(found))


def only_one(rows: Sequence[DatasetRow]) -> DatasetRow:
    """Return the only dataset, or raise ALFMultipleObjectsFound."""
    if len(rows) > 1:
        raise ALFMultipleObjectsFound(_quoted(row.rel_path for row in rows))
    return rows[0]


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)

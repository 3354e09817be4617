"""References to sessions: ``2019-05-07_1_subject``, and the same in parts."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from labweave.formats.alf.bunch import AlfBunch

_REFERENCE = re.compile(r"\d{4}(?:-\d{2}){2}_\d{1,3}_\w+")
_PATH = re.compile(r"(?P<subject>[\w.-]+)[\\/](?P<date>\d{4}-\d{2}-\d{2})[\\/](?P<sequence>\d{1,3})")


def is_reference(ref: Any) -> Any:
    """Say whether this is a reference, as text or in parts; for a list or tuple, of each."""
    if isinstance(ref, (list, tuple)):
        return [is_reference(each) for each in ref]
    if isinstance(ref, Mapping):
        if not {"subject", "date", "sequence"} <= set(ref):
            return False
        ref = f"{ref['date']}_{ref['sequence']}_{ref['subject']}"
    return isinstance(ref, str) and _REFERENCE.match(ref) is not None


def to_parts(ref: Any, parse: bool = True) -> Any:
    """Return the subject, date and sequence of a reference, or of each in a list.

    With `parse` the date is a `date` and the sequence an int, else both are text.
    """
    if isinstance(ref, (list, tuple)):
        return [to_parts(each, parse) for each in ref]
    if isinstance(ref, Mapping):
        parts = AlfBunch(ref)
    else:
        date, sequence, subject = str(ref).split("_", 2)
        parts = AlfBunch(date=date, sequence=sequence, subject=subject)
    return _parsed(parts) if parse else parts


def to_text(ref_dict: Any) -> Any:
    """Return the reference that parts make, None for none; for a list, of each.

    ``number`` and ``start_time`` stand for sequence and date, as in details of a session.
    """
    if isinstance(ref_dict, (list, tuple)):
        return [to_text(each) for each in ref_dict]
    if not ref_dict:
        return None
    parts = ref_dict
    sequence = parts["sequence"] if "sequence" in parts else parts["number"]
    date = parts["date"] if "date" in parts else parts["start_time"]
    return f"{str(date)[:10]}_{sequence}_{parts['subject']}"


def of_path(path_str: Any, as_dict: bool = True, parse: bool = True) -> Any:
    """Return the reference to the session of a path, or of each in a list; None without one. The path need not exist.

    It is in parts, see `to_parts`, or else as text.
    """
    if isinstance(path_str, (list, tuple)):
        return [of_path(each, as_dict, parse) for each in path_str]
    found = _PATH.search(str(path_str))
    if found is None or re.fullmatch(r"0\d", found["sequence"]):
        return None
    parts = AlfBunch(found.groupdict())
    if not as_dict:
        return to_text(parts)
    return _parsed(parts) if parse else parts


def _parsed(parts: AlfBunch) -> AlfBunch:
    date = parts["date"]
    if isinstance(date, str):
        parts["date"] = dt.date.fromisoformat(date[:10])
    parts["sequence"] = int(parts["sequence"])
    return parts

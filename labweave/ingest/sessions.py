"""Sessions by lab, subject, day and number: which there are, and the rows of new ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from labweave.errors import SourceError
from labweave.formats.alf.names import fits
from labweave.ingest.base import Row, make_eid, make_subject_uuid
from labweave.schemas import lab as lab_schema
from labweave.schemas import session, subject


class Subjects:
    """Yields the rows of subjects; names that differ by case alone are refused when they are written.

    Parameters
    ----------
    allow_case : bool, default: False
        Take them as different.
    """

    def __init__(self, allow_case: bool = False):
        self._unlike = "" if allow_case else "subject"

    def rows(self, lab: str, name: str, **values: Any) -> Iterator[Row]:
        """Yield the rows of a lab and one of its subjects.

        Parameters
        ----------
        lab, name : str
        **values
            Other attributes of `subject.Subject`.
        """
        yield Row(lab_schema.Lab, {"lab": lab})
        clears = tuple(attribute for attribute in ("species", "sex", "subject_json") if values.get(attribute))
        values = {"lab": lab, "subject": name, "subject_uuid": make_subject_uuid(lab, name), **values}
        yield Row(subject.Subject, values, clears=clears, first=("subject_uuid",), unlike=self._unlike)


def check_lab(name: str) -> None:
    """Refuse a name that can't be a lab in ALF.

    Raises
    ------
    SourceError
        It is not made of letters, digits and _.
    """
    if not fits("lab", name):
        raise SourceError(
            f"{name!r} can't be a lab in ALF: ONE takes letters, digits and _ only. Give another name with --lab."
        )


def find_session(
    lab: str,
    name: str,
    date: dt.date,
    number: int,
    made_by_us: Callable[[list[str]], set[str]] = lambda eids: set(),
) -> tuple[str, bool]:
    """Return the eid of the session of that lab, subject, day and number, and whether it is there already.

    `made_by_us` tells which of some sessions are there by the reader's own word alone: they get the eid that is made.
    """
    identity = {"subject": name, "session_date": date, "session_number": number}
    rows = (session.Session & identity).proj("lab", "path_lab", "session_vanished", "source_stamp").to_dicts()
    fitting = [row for row in rows if (row["path_lab"] or row["lab"]) == lab]
    unserved = [row["eid"] for row in fitting if row["source_stamp"] is None]
    if unserved and (ours := made_by_us(unserved)):
        fitting = [row for row in fitting if row["eid"] not in ours]
    if fitting:
        return min(fitting, key=lambda row: (row["session_vanished"] is not None, row["eid"]))["eid"], True
    made = make_eid(lab, name, date.isoformat(), number)
    return made, bool(session.Session & {"eid": made})  # also when its subject was renamed since


def session_rows(
    subjects: Subjects,
    lab: str,
    name: str,
    date: dt.date | None,
    number: int | None,
    eid: str,
    *,
    is_known: bool = False,
    about: Mapping[str, Any] = MappingProxyType({}),
    **more: Any,
) -> Iterator[Row]:
    """Yield the rows of a session and its subject; of one whose subject has another name now, no more than its id.

    `about` are other attributes of the subject, `more` of the session.
    """
    if is_known and not session.Session & {"eid": eid, "lab": lab, "subject": name}:
        yield Row(session.Session, {"eid": eid})
        return
    yield from subjects.rows(lab, name, **about)
    identity = {"eid": eid, "lab": lab, "subject": name, "session_date": date, "session_number": number}
    yield Row(session.Session, {**identity, **more})

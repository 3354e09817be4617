"""Sessions by lab, subject, day and number: which there are, and the rows of new ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from labweave.errors import SourceError
from labweave.formats.alf.names import fits
from labweave.ingest.base import Row, make_eid, make_subject_uuid
from labweave.schemas import lab as lab_schema
from labweave.schemas import session, subject


class Subjects:
    """Yields the rows of subjects, and refuses names that differ by case alone.

    A name counts as taken from the moment it is read until `settle` says whether its row was written.

    Parameters
    ----------
    allow_case : bool, default: False
        Take them as different.
    """

    def __init__(self, allow_case: bool = False):
        self._allow_case = allow_case
        self._stored: dict[str, set[str]] = {}
        self._spelled: dict[str, dict[str, str]] = {}
        self._unsettled: list[tuple[str, str]] = []

    def rows(self, lab: str, name: str, **values: Any) -> Iterator[Row]:
        """Yield the rows of a lab and one of its subjects.

        Parameters
        ----------
        lab, name : str
        **values
            Other attributes of `subject.Subject`.

        Raises
        ------
        SourceError
            Another subject of the lab differs by case alone.
        """
        if lab not in self._stored:
            names = (subject.Subject & {"lab": lab}).to_arrays("subject").tolist()
            self._stored[lab], self._spelled[lab] = set(names), {other.casefold(): other for other in names}
        folded = name.casefold()
        if folded not in self._spelled[lab]:
            self._spelled[lab][folded] = name
            self._unsettled.append((lab, folded))
        other = self._spelled[lab][folded]
        if other != name and name not in self._stored[lab] and not self._allow_case:
            raise SourceError(
                f"subject {name!r} differs from {other!r}, which is there already, by case alone. "
                "Write them alike, or say --allow-case when they are two."
            )
        yield Row(lab_schema.Lab, {"lab": lab})
        clears = tuple(attribute for attribute in ("species", "sex", "subject_json") if values.get(attribute))
        if name not in self._stored[lab]:
            values["subject_uuid"] = make_subject_uuid(lab, name)
        yield Row(subject.Subject, {"lab": lab, "subject": name, **values}, clears=clears)

    def settle(self, written: Iterable[Row]) -> None:
        """Keep the names whose rows were written, and forget the others that were read since the last call."""
        names = {
            (row.values["lab"], row.values["subject"].casefold()) for row in written if row.table is subject.Subject
        }
        for lab, folded in self._unsettled:
            if (lab, folded) not in names:
                del self._spelled[lab][folded]
        self._unsettled.clear()

    def forget(self, keys: Iterable[Mapping[str, Any]]) -> None:
        """Take names as unknown whose rows were deleted."""
        for key in keys:
            self._stored.get(key["lab"], set()).discard(key["subject"])


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


def find_session(lab: str, name: str, date: dt.date, number: int) -> tuple[str, bool]:
    """Return the eid of the session of that lab, subject, day and number, and whether it is there already."""
    identity = {"subject": name, "session_date": date, "session_number": number}
    rows = (session.Session & identity).proj("lab", "path_lab", "session_vanished").to_dicts()
    fitting = [row for row in rows if (row["path_lab"] or row["lab"]) == lab]
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

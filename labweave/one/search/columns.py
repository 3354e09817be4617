"""All sessions as columns: a few long values for each page of them, as a row for each would take ten times as long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from labweave.one.search.questions import LAB, Finder

MISSING = -(2**63)
"""What stands for no value in a column of numbers; numpy's NaT."""

PAGE = 50_000
"""Sessions in one page; MySQL and MariaDB put a limited length into one value."""


class SessionColumns(NamedTuple):
    """Many sessions, in no order.

    Attributes
    ----------
    eids, labs, subjects, protocols : list of str
    days, numbers, times : str
        Numbers with blanks between them: days and microseconds since 1970-01-01; `MISSING` for none.
    in_projects, projects : list of str
        Pairs of a session, which may have vanished, and one of its projects.
    """

    eids: list[str]
    labs: list[str]
    subjects: list[str]
    protocols: list[str]
    days: str
    numbers: str
    times: str
    in_projects: list[str]
    projects: list[str]


class Columns(Finder):
    """The same database, asked for whole columns."""

    def sessions_in_pages(self, most: int) -> list[SessionColumns] | None:
        """Return all sessions; None for more than `most`, or for values that can't be told apart."""
        [(n,)] = self._rows("select count(*) from {session} s where s.session_vanished is null")
        if n > most:
            return None
        pages, after = [], ""
        while True:
            ask = f"select s.eid from {{session}} s where s.eid > %s order by s.eid limit 1 offset {PAGE - 1}"
            rows = self._rows(ask, [after]) if self._is_mysql else []
            page = self._page(after, rows[0][0] if rows else None)
            if page is None:
                return None
            pages.append(page)
            if not rows:
                return pages
            after = rows[0][0]

    def _page(self, after: str, until: str | None) -> SessionColumns | None:
        if self._is_mysql:
            none, day = str(MISSING), "to_days(s.session_date) - 719528"
            time = "timestampdiff(microsecond, '1970-01-01', s.start_time)"
        else:
            none, day = f"'{MISSING}'::bigint", "s.session_date - date '1970-01-01'"
            time = "(extract(epoch from s.start_time) * 1000000)::bigint"
        numbers = [f"coalesce({each}, {none})" for each in (day, "s.session_number", time)]
        names = ("s.eid", LAB, "s.subject", "s.task_protocol")
        of_sessions = self._columns("{session} s where s.session_vanished is null", names, numbers, after, until)
        of_projects = self._columns("{session_project} s where true", ("s.eid", "s.project"), (), after, until)
        return SessionColumns(*of_sessions, *of_projects) if of_sessions and of_projects else None

    def _columns(
        self, rows: str, names: Sequence[str], numbers: Sequence[str], after: str, until: str | None
    ) -> list[Any] | None:
        """Return columns of names, as lists, and of numbers, as texts; None if a name has a line break."""
        join = "group_concat({} separator %s)" if self._is_mysql else "string_agg({}::text, %s)"
        asked = ", ".join([join.format(each) for each in (*names, *numbers)])
        lengths = " + ".join(f"sum(char_length({each}))" for each in names)
        values = ["\n"] * len(names) + [" "] * len(numbers) + [after]
        sql = f"select count(*), {lengths}, {asked} from {rows} and s.eid > %s"
        if until is not None:
            sql, values = f"{sql} and s.eid <= %s", [*values, until]
        [(n, length, *found)] = self._rows(sql, values)
        if not n:
            return [*([] for _ in names), *("" for _ in numbers)]
        texts = found[: len(names)]
        split = [text.split("\n") for text in texts]
        # The server may have cut them off; the ids are longer than any column of numbers.
        is_whole = sum(map(len, texts)) == length + len(texts) * (n - 1)
        return [*split, *found[len(names) :]] if is_whole and all(len(each) == n for each in split) else None

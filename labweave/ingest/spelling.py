"""Names that differ by case alone, such as two subjects of a lab: most likely one, written in two ways."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from labweave.database.reads import in_parts
from labweave.ingest.base import Row


def differs(attribute: str, name: str, other: str) -> str:
    """Return the message for a name that differs by case alone from another one."""
    return (
        f"{attribute} {name!r} differs from {other!r}, which is there already, by case alone. "
        "Write them alike, or say --allow-case when they are two."
    )


class Spellings:
    """Finds the rows whose name differs by case alone from that of a row that is there.

    All names that it has ever met are kept, and only those that are alike are looked for in the database: a name that
    is gone does no harm.
    """

    def __init__(self) -> None:
        self._met: dict[tuple[type, tuple], dict[str, set[str]]] = {}

    def alike(self, rows: Iterable[Row], shown: Mapping[type, Container[tuple]]) -> Iterator[tuple[Row, str]]:
        """Yield rows that were written, and the name that each is like; called in their transaction.

        `shown` are keys of rows that a dry run has rolled back.
        """
        named: dict[tuple[type, tuple], dict[str, Row]] = {}
        for row in rows:
            if row.unlike:
                parent = tuple((name, row.values[name]) for name in row.table().primary_key if name != row.unlike)
                named.setdefault((row.table, parent), {})[row.values[row.unlike]] = row
        self._meet(named)
        for (table, parent), by_name in named.items():
            met = self._met[table, parent]
            for name, row in by_name.items():
                met.setdefault(name.casefold(), set()).add(name)
                if others := sorted(met[name.casefold()] - {name}):
                    for other in others:
                        key = {**dict(parent), row.unlike: other}
                        if table & key or tuple(key[name] for name in table().primary_key) in shown.get(table, ()):
                            yield row, other

    def _meet(self, named: dict[tuple[type, tuple], dict[str, Row]]) -> None:
        """Read the names below parents that were not met before."""
        new: dict[type, list[dict[str, Any]]] = {}
        for table, parent in named.keys() - self._met.keys():
            self._met[table, parent] = {}
            new.setdefault(table, []).append(dict(parent))
        for table, parents in new.items():
            key = table().primary_key
            for part in in_parts(parents):
                for row in (table & part).proj().to_dicts():
                    attribute = next(name for name in key if name not in part[0])
                    parent = tuple((name, row[name]) for name in key if name != attribute)
                    self._met[table, parent].setdefault(row[attribute].casefold(), set()).add(row[attribute])

"""Keys that somebody changed in the database: a cell that was renamed there is no second cell.

The rows of a unit are lost under their old key, and rows that no unit gave are there under another one, with the name
of the source, or of the one that its folder was before it was moved. What differs in one attribute alone is the same
row: it gets its old key again, with all that hangs on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import datajoint as dj

from labweave.database.batches import Changed
from labweave.database.changes import record_changes
from labweave.database.connection import LabConnection
from labweave.database.reads import rows_among
from labweave.database.writes import set_values
from labweave.ingest.keys import by_table, join, plain, table_called, unpack
from labweave.schemas.ingestion import Given


def rename_back(connection: LabConnection, source: str, eids: Collection[str], run: str) -> int:
    """Give renamed rows the keys that their source says, and return how many there were.

    Parameters
    ----------
    connection : LabConnection
    source : str
    eids : collection of str
        Sessions in which rows are lost that units of the source gave.
    run : str
        For ``ingestion.Change``.
    """
    return connection.run_transaction(lambda: _rename_back(connection, source, eids, run))


def _rename_back(connection: LabConnection, source: str, eids: Collection[str], run: str) -> int:
    count = 0
    rows = list(rows_among(Given, "eid", eids, ("source", "eid", "given_keys")))
    given = by_table(join(unpack(eid, packed) for _, eid, packed in rows))
    ours = by_table(join(unpack(eid, packed) for theirs, eid, packed in rows if theirs == source))
    others = set((dj.U("source") & Given).to_arrays("source").tolist()) - {source}
    for name, own in ours.items():
        table = table_called(connection, name.partition(":")[0])
        names = table.primary_key
        if "eid" not in names or "source" not in table.heading.secondary_attributes:
            continue
        there = {tuple(map(plain, row[:-1])): row[-1] for row in rows_among(table, "eid", eids, [*names, "source"])}
        strays = {key for key in there.keys() - given[name] if there[key] and there[key] not in others}
        places = [at for at, attribute in enumerate(names) if attribute != "eid"]
        renamed: dict[tuple, tuple[Any, dict[str, Any], str, Any]] = {}  # by row: those that refer to it follow
        for old, new, at in _pairs(own - there.keys(), strays, places):
            owner = _owner_of(table, names[at], dict(zip(names, new, strict=True)))
            key = {part: old[names.index(part)] for part in owner.primary_key}
            renamed[(owner.full_table_name, *key.values())] = owner, key, names[at], new[at]
        for owner, key, attribute, value in renamed.values():
            set_values(owner, {attribute: value}, key)
            change = Changed({**key, attribute: value}, {attribute: key[attribute]}, {attribute: value})
            record_changes(connection, owner, [change], run or None)
        count += len(renamed)
    return count


def _pairs(
    lost: Collection[tuple], strays: Collection[tuple], places: Collection[int]
) -> Iterator[tuple[tuple, tuple, int]]:
    """Yield stray and lost keys that differ in one place alone, and the place; none where there are several."""
    for at in places:
        alike: dict[tuple, tuple[list[tuple], list[tuple]]] = defaultdict(lambda: ([], []))
        for side, keys in enumerate((strays, lost)):
            for key in keys:
                alike[key[:at] + key[at + 1 :]][side].append(key)
        for old, new in alike.values():
            if len(old) == len(new) == 1:
                yield old[0], new[0], at


def _owner_of(table: Any, attribute: str, new: Mapping[str, Any]) -> Any:
    """Return the table in which an attribute of the key was renamed: that of the parent, when it lacks the new key."""
    for parent, reference in table.parents(as_objects=True, foreign_key_info=True):
        key = {theirs: new[ours] for ours, theirs in reference["attr_map"].items() if ours in new}
        if attribute in key and attribute in parent.primary_key and key.keys() == set(parent.primary_key):
            return table if parent & key else parent
    return table

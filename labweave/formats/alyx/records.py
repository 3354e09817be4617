"""Alyx's records as rows of tables: plain dictionaries in and out.

The fields are declared in `labweave.formats.alyx.fields`. Here is what takes more than one field, or makes more than
one row. Every field goes to a column, to a linked row, or into the row's ``<stem>_json`` under Alyx's own name; only
what the server computes from other records is left out.
"""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from labweave.formats.plain import tidy

VERSION = 1
"""Counts up when the same record gives other rows, so that every record is written again."""

FREE_FIELDS = frozenset({"json", "extended_qc", "arguments"})
"""Fields that hold any JSON; the order of a list means something there."""

ZYGOSITY = {"-/-": "Absent", "+/-": "Heterozygous", "+/+": "Homozygous", "+": "Present"}
"""How Alyx writes a zygosity in lists -> its name; Alyx's numbers follow this order."""

OUTCOMES = {"a": "acute", "r": "recovery", "n": "non-recovery"}
BREEDING = {"species": "Species", "strain": "Strain", "line": "Line", "breeder": "Breeder"}
"""Column of a subject -> table of what it names, which has no list in Alyx that is synced."""

Row = tuple[str, dict[str, Any]]
"""Table, for example ``lab.Lab``, and values."""


class Postponed(Exception):
    """The record names something that is not in the tables yet."""


@dataclass(frozen=True)
class Facts:
    """What a record does not say itself.

    Attributes
    ----------
    subjects : mapping
        Subject uuid -> lab and name of the subject.
    zone : ZoneInfo or None
        Of the server, for its stamps; UTC without.
    """

    subjects: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    zone: ZoneInfo | None = None

    def subject(self, subject_uuid: str | None) -> dict[str, str]:
        """Return the key of a subject."""
        if subject_uuid is None or subject_uuid not in self.subjects:
            raise Postponed(f"subject.Subject {subject_uuid}")
        lab, name = self.subjects[subject_uuid]
        return {"lab": lab, "subject": name}

    def utc(self, stamp: str | None) -> dt.datetime | None:
        """Return a stamp of the server in UTC, without a zone."""
        if not stamp:
            return None
        time = dt.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
        if time.tzinfo is None and self.zone is None:
            return time
        time = time if time.tzinfo is not None else time.replace(tzinfo=self.zone)
        return time.astimezone(dt.timezone.utc).replace(tzinfo=None)


@dataclass
class Mapped:
    """The rows of one record.

    Attributes
    ----------
    rows : list of (table, values)
        Parents first, the record's own row last.
    links : dict
        Table -> the only rows that the record has there.
    """

    rows: list[Row]
    links: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Any]:
        """The record's own row."""
        return self.rows[-1][1]

    def every_row(self) -> Iterator[Row]:
        """Yield the rows, and those of the links."""
        yield from self.rows
        for table, linked in self.links.items():
            yield from ((table, values) for values in linked)


def row_key(resource: str, record_id: str) -> tuple[str | int, ...]:
    """Return the key of a record's row, for the records whose id makes the key."""
    if resource == "water-restriction":
        return (str(uuid.uuid3(uuid.NAMESPACE_URL, f"alyx:water-restriction:{record_id}")),)
    if resource == "locations":
        lab, _, name = record_id.partition("/")
        return tidy(lab), tidy(name)
    return (int(record_id),) if resource == "brain-regions" else (tidy(record_id),)


def tidy_names(values: Any) -> list[str]:
    """Return names, each once, sorted: the server sends them in any order."""
    return sorted({tidy(value) for value in values or ()})


def leftover(record: Mapping[str, Any], used: frozenset[str]) -> dict[str, Any] | None:
    """Return the fields that have no column and are not empty."""
    rest = {}
    for name in _unused(tuple(record), used):
        value = record[name]
        if value is not None and value != "":
            is_list = name not in FREE_FIELDS and isinstance(value, list)
            is_names = is_list and all(isinstance(item, str) for item in value)
            rest[name] = sorted(value) if is_names else value  # the server sends names in any order
    return rest or None


@functools.lru_cache(maxsize=200)
def _unused(fields: tuple[str, ...], used: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in fields if name not in used)


def complete_repository(record: Mapping[str, Any], _: Facts, mapped: Mapped) -> None:
    """Say what kind of place it is."""
    extra = record.get("json")
    if isinstance(extra, dict) and extra.get("bucket_name"):
        kind = "bucket"
    elif record.get("globus_is_personal"):
        kind = "personal"
    else:
        kind = "server" if record.get("data_url") else "other"
    mapped.row["repository_kind"] = kind


def complete_subject(record: Mapping[str, Any], _: Facts, mapped: Mapped) -> None:
    """Add species, strain, line and breeder, which are known by their names alone, and the genotype."""
    row = mapped.row
    row["sex"] = row["sex"] or "U"
    mapped.rows[:0] = [(f"subject.{table}", {name: row[name]}) for name, table in BREEDING.items() if row[name]]
    genotype = {}
    for text in map(tidy, record.get("genotype") or ()):
        allele, _blank, sign = text.rpartition(" ")
        is_known = bool(allele) and sign in ZYGOSITY
        genotype[allele if is_known else text] = ZYGOSITY[sign] if is_known else ""
    mapped.links["subject.SubjectGenotype"] = [
        {"lab": row["lab"], "subject": row["subject"], "allele": allele, "zygosity": zygosity}
        for allele, zygosity in genotype.items()
    ]


def complete_restriction(record: Mapping[str, Any], _: Facts, mapped: Mapped) -> None:
    """Make the id that the record lacks, of subject and start."""
    record_id = f"{record['subject_uuid']}@{record['start_time']}"
    (mapped.row["restriction_uuid"],) = row_key("water-restriction", record_id)


def complete_surgery(record: Mapping[str, Any], _: Facts, mapped: Mapped) -> None:
    """Name the procedures, which the server gives by their ids, and the outcome."""
    names = record["procedure_names"]
    if unknown := sorted(item for item, name in names.items() if name is None):
        raise Postponed(f"session.Procedure {unknown[0]}")
    row = mapped.row
    row["surgery_procedures"] = sorted(names.values()) or None
    row["surgery_outcome"] = OUTCOMES.get(row["surgery_outcome"], row["surgery_outcome"])


def complete_listed_session(record: Mapping[str, Any], facts: Facts, mapped: Mapped) -> None:
    """Say in which lab's folder its files are, where that is not its subject's."""
    path_lab = tidy(record.get("lab") or "")
    mapped.row["path_lab"] = "" if path_lab == mapped.row["lab"] else path_lab
    complete_session(record, facts, mapped)


def complete_session(record: Mapping[str, Any], _: Facts, mapped: Mapped) -> None:
    """Set the day, which is that of the lab's clock."""
    mapped.row["session_date"] = record["start_time"][:10] if record.get("start_time") else None


def complete_note(record: Mapping[str, Any], facts: Facts, mapped: Mapped) -> None:
    """Take a note to the table of what it is about: a session or a subject; notes on anything else have none."""
    owner, row = str(record.get("content_type")).rpartition(".")[2], mapped.row
    if owner == "subject":
        row |= facts.subject(row.pop("eid"))
        mapped.rows = [("subject.SubjectNote", row)]
    elif owner != "session":
        mapped.rows = []


def complete_trajectory(record: Mapping[str, Any], _: Facts, mapped: Mapped) -> None:
    """Name the probe; a planned trajectory may have none."""
    row = mapped.row
    row |= {"eid": None, "probe_name": None}
    if record.get("probe_insertion"):
        row |= {"eid": record["session"]["id"], "probe_name": tidy(record["probe_name"])}


def complete_dataset(record: Mapping[str, Any], _: Facts, mapped: Mapped) -> None:
    """Say whose a dataset without a session is: its files lie in ``aggregates/<relation>/<identifier>``."""
    row = mapped.row
    owners = mapped.links["dataset.AggregateDataset"] = []
    for file in () if row["eid"] else record.get("file_records") or ():
        root, *folders = str(file.get("relative_path") or "").split("/")[:-1]
        folders = [name for name in folders if not (name.startswith("#") and name.endswith("#"))]
        if root == "aggregates" and len(folders) > 1:
            relation, identifier = tidy(folders[0])[:64], tidy("/".join(folders[1:]))[:255]
            owner = {"aggregate_relation": relation, "aggregate_identifier": identifier}
            owners.append({"dataset_id": row["dataset_id"], **owner})
            return


COMPLETE: dict[str, Callable[[Mapping[str, Any], Facts, Mapped], None]] = {
    "data-repository": complete_repository,
    "subjects": complete_subject,
    "water-restriction": complete_restriction,
    "surgeries": complete_surgery,
    "sessions": complete_listed_session,
    "session-details": complete_session,
    "notes": complete_note,
    "trajectories": complete_trajectory,
    "datasets": complete_dataset,
}
"""Resource -> what adds to its rows what no single field gives."""

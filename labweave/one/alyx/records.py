"""Rows of labweave's tables as the records that Alyx's REST answers show.

The fields are declared in `labweave.formats.alyx.fields`; here is what joins tables or nests one record in another.
Each function takes a query and gives a list of dictionaries with Alyx's field names. What belongs to the rows of one
answer is fetched together, so the number of queries does not depend on how many rows there are.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any
from urllib.parse import quote

from labweave.formats.alf.qc import QC
from labweave.formats.alyx import RESOURCES
from labweave.formats.alyx.records import OUTCOMES, ZYGOSITY
from labweave.one.alyx.models import MODELS, table_of
from labweave.one.alyx.regions import around, regions
from labweave.one.files.folders import name_with_uuid
from labweave.one.search.rows import rank_of_repository
from labweave.schemas import dataset, session, subject

Record = dict[str, Any]
FEW = 2000
"""Up to so many rows, what belongs to them is asked for by their keys; beyond, by their query."""


def _related(table: Any, query: Any, rows: list[Record], *shared: str) -> list[Record]:
    """Return the rows of a table, or of a projection, that belong to rows of a query by the columns they share."""
    related = table() if isinstance(table, type) else table
    if len(rows) > FEW:
        return (related & query.proj(*shared)).to_dicts()
    keys = {key for row in rows if None not in (key := tuple(row[name] for name in shared))}
    return (related & [dict(zip(shared, key, strict=True)) for key in sorted(keys)]).to_dicts()


def _grouped(rows: Iterable[Record], *names: str) -> dict[Any, list[Record]]:
    """Return rows by the value of one column, or by those of several."""
    groups: dict[Any, list[Record]] = defaultdict(list)
    for row in rows:
        groups[itemgetter(*names)(row)].append(row)
    return groups


def plain_records(name: str, query: Any, base_url: str) -> list[Record]:
    """Return rows as records of a resource, with their lists of names."""
    return rows_and_records(name, query, base_url)[1]


def rows_and_records(endpoint: str, query: Any, base_url: str) -> tuple[list[Record], list[Record]]:
    """Return rows, and the same as records."""
    resource = RESOURCES[endpoint]
    rows: list[Record] = query.to_dicts()
    records = [resource.to_record(row, base_url) for row in rows]
    for name, label, column in resource.lists:
        owned = _grouped(_related(table_of(label), query, rows, *resource.key), *resource.key)
        for row, record in zip(rows, records, strict=True):
            links = owned.get(itemgetter(*resource.key)(row), ())
            record[name] = sorted(link[column] for link in links)
    return rows, records


# sessions


def session_facts(query: Any) -> dict[str, Record]:
    """Return the short form of sessions by eid, as in lists."""
    rows, records = rows_and_records("sessions", query, "")
    return {
        row["eid"]: {**record, "lab": row["path_lab"] or row["lab"]} for row, record in zip(rows, records, strict=True)
    }


def sessions(query: Any, base_url: str) -> list[Record]:
    """Return sessions as ``/sessions`` lists them."""
    return [{**facts, "url": f"{base_url}/sessions/{eid}"} for eid, facts in session_facts(query).items()]


def session_details(query: Any, base_url: str) -> list[Record]:
    """Return sessions as ``/sessions/<eid>`` shows them, with their datasets, probes and notes."""
    rows, records = rows_and_records("session-details", query, base_url)
    keys = [{"eid": row["eid"]} for row in rows]
    water = MODELS["water-administrations"].rows() & [{"given_in_eid": row["eid"]} for row in rows]
    given = _grouped(water.to_dicts(), "given_in_eid")
    files = _grouped(session_datasets(MODELS["datasets"].rows() & keys, base_url), "eid")
    probes = _grouped(insertions(MODELS["insertions"].rows() & keys, base_url), "session")
    remarks = _grouped(notes(MODELS["notes"].rows() & keys, base_url), "object_id")
    for row, record in zip(rows, records, strict=True):
        eid = row["eid"]
        record.setdefault("field_of_view", [])
        record |= {
            "subject": row["subject"],
            "lab": row["path_lab"] or row["lab"],
            "url": f"{base_url}/sessions/{eid}",
            "wateradmin_session_related": [
                {
                    "id": administration["administration_uuid"],
                    "name": (administration["administration_json"] or {}).get("name", ""),
                    "water_type": administration["water_type"] or None,
                    "water_administered": administration["volume"],
                }
                for administration in sorted(given.get(eid, []), key=lambda row: row["administration_uuid"])
            ],
            "data_dataset_session_related": [
                {name: value for name, value in shown.items() if name != "eid"} for shown in files.get(eid, [])
            ],
            "probe_insertion": probes.get(eid, []),
            "notes": remarks.get(eid, []),
        }
    return records


OF_DATASET = ("name", "dataset_type", "url", "file_size", "hash", "version", "collection", "qc")
"""The fields of a dataset that its session and its probe show, too."""


def session_datasets(query: Any, base_url: str) -> list[Record]:
    """Return datasets as they are shown inside a session: those with an existing copy that is online.

    Each has the ``eid`` of its session besides Alyx's fields.
    """
    rows = query.to_dicts()
    copies = file_copies(query, rows)
    revisions = {row["revision"]: row["revision_uuid"] for row in dataset.Revision().to_dicts()}
    records = []
    for row in sorted(rows, key=in_order):
        held = copies.get(row["dataset_id"], [])
        online = [copy for copy in held if copy["present"] and copy["repository_kind"] != "personal"]
        if not online:
            continue
        shown = RESOURCES["datasets"].to_record(row, base_url)
        records.append(
            {name: shown[name] for name in OF_DATASET}
            | {
                "id": row["dataset_id"],
                "data_url": next((url for copy in online if (url := copy_url(copy))), None),
                "revision": revisions.get(row["revision"]) or row["revision"] or "",
                "default_revision": str(bool(row["is_default"])),
                "eid": row["eid"],
            }
        )
    return records


def in_order(row: Record) -> tuple[str, ...]:
    """Return what datasets are sorted by: collection, revision, name."""
    return row["collection"], row["revision"] or "", row["dataset_name"], row["dataset_id"]


# datasets and files


def file_copies(query: Any, rows: list[Record]) -> dict[str, list[Record]]:
    """Return the file records of datasets with their repositories, by dataset id: servers, buckets, others."""
    repositories = {row["repository"]: row for row in dataset.Repository().to_dicts()}
    found = _related(MODELS["files"].rows(), query, rows, "dataset_id")
    joined = [{**repositories[row["repository"]], **row} for row in found]
    joined.sort(key=lambda row: (rank_of_repository(row["repository_kind"]), row["repository"], row["file_record_id"]))
    return _grouped(joined, "dataset_id")


def copy_url(copy: Record) -> str | None:
    """Return the address of a copy, with the dataset's id in it; None without."""
    if not copy["data_url"]:
        return None
    return f"{copy['data_url'].rstrip('/')}/{name_with_uuid(copy['relative_path'], copy['dataset_id'])}"


def datasets(query: Any, base_url: str) -> list[Record]:
    """Return datasets as ``/datasets`` shows them."""
    rows, records = rows_and_records("datasets", query, base_url)
    copies = file_copies(query, rows)
    tags = {row["tag"]: row for row in dataset.Tag().to_dicts()}
    numbered = _related(session.Session.proj("session_number"), query, rows, "eid")
    numbers = {row["eid"]: row["session_number"] for row in numbered}
    for row, record in zip(rows, records, strict=True):
        record.setdefault("experiment_number", numbers.get(row["eid"]))
        record |= {
            "revision": row["revision"] or "",
            "protected": any(tags[tag]["is_protected"] for tag in record["tags"]),
            "public": any(tags[tag]["is_public"] for tag in record["tags"]),
            "file_records": [
                {
                    "id": copy["file_record_id"],
                    "data_repository": copy["repository"],
                    "data_repository_path": copy["root_path"],
                    "relative_path": copy["relative_path"],
                    "data_url": copy_url(copy),
                    "exists": bool(copy["present"]),
                }
                for copy in copies.get(row["dataset_id"], [])
            ],
        }
    return records


# probes


def insertions(query: Any, base_url: str) -> list[Record]:
    """Return insertions; the datasets of one are those of its session whose collection has its name."""
    rows, records = rows_and_records("insertions", query, base_url)
    info = _session_info(rows)
    held = _related(MODELS["datasets"].rows(), query, rows, "eid")
    of_session = _grouped(sorted(held, key=in_order), "eid")
    for record in records:
        found = of_session.get(record["session"], [])
        # Clients look into the JSON of an insertion without asking whether there is any.
        record["json"] = {} if record["json"] is None else record["json"]
        record["session_info"] = info.get(record["session"])
        record["datasets"] = [row["dataset_id"] for row in found if record["name"] in row["collection"]]
    return records


def insertion_details(query: Any, base_url: str) -> list[Record]:
    """Return insertions as ``/insertions/<pid>`` shows them, with what their datasets are."""
    records = insertions(query, base_url)
    keys = [{"dataset_id": dataset_id} for record in records for dataset_id in record["datasets"]]
    held = session_datasets(MODELS["datasets"].rows() & keys, base_url)
    shown = {*OF_DATASET, "id", "data_url"}
    by_id = {row["id"]: {name: row[name] for name in row if name in shown} | {"qc": QC[row["qc"]]} for row in held}
    return [{**record, "datasets": [by_id[key] for key in record["datasets"] if key in by_id]} for record in records]


def _session_info(rows: list[Record]) -> dict[str, Record]:
    keys = [{"eid": eid} for eid in sorted({row["eid"] for row in rows if row["eid"]})]
    return session_facts(session.Session() & keys)


def trajectories(query: Any, base_url: str) -> list[Record]:
    """Return trajectories as ``/trajectories`` shows them."""
    rows, records = rows_and_records("trajectories", query, base_url)
    info = _session_info(rows)
    probes = _related(session.ProbeInsertion, query, rows, "eid", "probe_name")
    pids = {(row["eid"], row["probe_name"]): row["pid"] for row in probes}
    for row, record in zip(rows, records, strict=True):
        record["probe_insertion"] = pids.get((row["eid"], row["probe_name"]))
        record["probe_name"], record["session"] = row["probe_name"], info.get(row["eid"])
    return records


# subjects


SIGNS = {name: sign for sign, name in ZYGOSITY.items()}
"""Zygosity -> how Alyx writes it; their order gives its numbers."""


def _weeks(born: dt.date | None, died: dt.date | None) -> int:
    """Return the age in whole weeks, 0 without a birth date."""
    return ((died or dt.datetime.now(dt.timezone.utc).date()) - born).days // 7 if born else 0


def subjects(query: Any, base_url: str) -> list[Record]:
    """Return subjects as ``/subjects`` lists them, without the water that Alyx computes for them."""
    rows, records = rows_and_records("subjects", query, base_url)
    held = _related(MODELS["sessions"].rows(), query, rows, "lab", "subject")
    owner = {row["eid"]: (row["lab"], row["subject"]) for row in held}
    used: dict[Any, set[str]] = defaultdict(set)
    for link in _related(session.SessionProject, session.Session & query.proj(), held, "eid"):
        used[owner[link["eid"]]].add(link["project"])
    open_now = MODELS["water-restriction"].rows() & "restriction_end is null"
    restricted = {(row["lab"], row["subject"]): row for row in (open_now & query.proj()).to_dicts()}
    genotypes = _grouped(_related(subject.SubjectGenotype, query, rows, "lab", "subject"), "lab", "subject")
    for row, record in zip(rows, records, strict=True):
        key = row["lab"], row["subject"]
        water = restricted.get(key)
        record |= {
            "url": f"{base_url}/subjects/{quote(row['subject'])}",
            "genotype": sorted(
                f"{gene['allele']} {SIGNS[gene['zygosity']]}" if gene["zygosity"] in SIGNS else gene["allele"]
                for gene in genotypes.get(key, [])
            ),
            "alive": row["death_date"] is None,
            "age_weeks": _weeks(row["birth_date"], row["death_date"]),
            "session_projects": sorted(used[key]),
            "last_water_restriction": water["restriction_start"].isoformat() if water else None,
            "reference_weight": water["reference_weight"] if water else None,
        }
    return records


def subject_details(query: Any, base_url: str) -> list[Record]:
    """Return subjects as ``/subjects/<nickname>`` shows them, with weighings and water."""
    records = subjects(query, base_url)
    for record in records:
        key = {"lab": record["lab"], "subject": record["nickname"]}
        record["genotype"] = [
            {"allele": gene["allele"], "zygosity": list(SIGNS).index(gene["zygosity"])}
            for gene in (subject.SubjectGenotype() & key).to_dicts()
            if gene["zygosity"] in SIGNS
        ]
        for name in ("weighings", "water-administrations"):
            shown = plain_records(name, MODELS[name].rows() & key, base_url)
            record[name.replace("-", "_")] = sorted(shown, key=lambda item: (item["date_time"] or "", item["url"]))
    return records


def surgeries(query: Any, base_url: str) -> list[Record]:
    """Return surgeries, with Alyx's letters for their outcome."""
    letters = {word: letter for letter, word in OUTCOMES.items()}
    records = plain_records("surgeries", query, base_url)
    return [{**record, "outcome_type": letters.get(word := record["outcome_type"], word)} for record in records]


def notes(query: Any, base_url: str) -> list[Record]:
    """Return notes on sessions."""
    return [{**record, "content_type": "actions.session"} for record in plain_records("notes", query, base_url)]


# the lab


def brain_regions(query: Any, base_url: str) -> list[Record]:
    """Return regions of the atlas, with the descriptions of those around and within each."""
    records = plain_records("brain-regions", query, base_url)
    known = regions() if records else {}
    described = [number for number, row in known.items() if row["region_description"]]
    path = {number: around(known, number) for number in {*described, *(record["id"] for record in records)}}
    for record in records:
        own = record["id"]
        record["related_descriptions"] = [
            {
                "id": number,
                "name": known[number]["region_name"],
                "description": known[number]["region_description"],
                "level": len(path[number]) - 1,
            }
            for number in sorted(described, key=lambda number: len(path[number]))
            if number != own and (number in path[own] or own in path[number])
        ]
    return records


def users(query: Any, base_url: str) -> list[Record]:
    """Return people, with the animals they are responsible for."""
    held = MODELS["subjects"].rows() & "responsible_user is not null"
    animals = _grouped(held.to_dicts(), "responsible_user")
    records = plain_records("users", query, base_url)
    for record in records:
        record["subjects_responsible"] = sorted(row["subject"] for row in animals.get(record["username"], ()))
    return records


def repositories(query: Any, base_url: str) -> list[Record]:
    """Return places that hold files."""
    rows, records = rows_and_records("data-repository", query, base_url)
    for row, record in zip(rows, records, strict=True):
        record["data_url"] = row["data_url"] or None
        if record["globus_is_personal"] is None:
            record["globus_is_personal"] = row["repository_kind"] == "personal"
    return records


RECORDS: dict[str, Callable[[Any, str], list[Record]]] = {
    **{name: functools.partial(plain_records, name) for name in RESOURCES if name in MODELS},
    "sessions": sessions,
    "datasets": datasets,
    "insertions": insertions,
    "trajectories": trajectories,
    "subjects": subjects,
    "notes": notes,
    "surgeries": surgeries,
    "brain-regions": brain_regions,
    "users": users,
    "data-repository": repositories,
}
"""Endpoint -> what makes its records."""

DETAILS: dict[str, Callable[[Any, str], list[Record]]] = {
    "sessions": session_details,
    "subjects": subject_details,
    "insertions": insertion_details,
}
"""Endpoint -> what makes the record of one, where that says more than the list."""

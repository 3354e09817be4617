"""Rows of labweave's tables as the records that Alyx's REST answers show.

Each function takes a query and gives a list of dictionaries with Alyx's field names; what belongs to
the rows of one answer is fetched together, with a number of queries that does not depend on how many.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from labweave.formats.alf.names import with_uuid
from labweave.one.alyx.models import MODELS, QC
from labweave.schemas import dataset, lab, session, subject

Record = dict[str, Any]
FEW = 2000
"""Up to so many rows, what belongs to them is asked for by their keys; beyond, by their query."""


def _time(value: Any) -> str | None:
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else value


def _blank(value: Any) -> Any:
    """Return None for an empty text, as Alyx shows fields that name something else."""
    return None if value == "" else value


def _bare(value: Any) -> Any:
    """Return JSON as the source had it: a bare text is kept in an object."""
    bare = isinstance(value, dict) and value.keys() == {"value"} and isinstance(value["value"], str)
    return value["value"] if bare else value


def _related(table: Any, query: Any, rows: list[Record], *shared: str, vanished: str = "") -> list[Record]:
    """Return the rows of a table, or of a projection, that belong to rows of a query by the attributes they share."""
    related = table() if isinstance(table, type) else table
    related = related & f"{vanished} is null" if vanished else related
    if len(rows) > FEW:
        return (related & query.proj(*shared)).to_dicts()
    keys = {key for row in rows if None not in (key := tuple(row[name] for name in shared))}
    return (related & [dict(zip(shared, key, strict=True)) for key in sorted(keys)]).to_dicts()


def _grouped(rows: Iterable[Record], first: str, *more: str) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for row in rows:
        groups[(row[first], *(row[name] for name in more)) if more else row[first]].append(row)
    return groups


def _names(rows: Iterable[Record], by: str, name: str) -> dict[Any, list[str]]:
    return {key: sorted(row[name] for row in group) for key, group in _grouped(rows, by).items()}


# sessions


def session_facts(query: Any, rows: Any = None) -> dict[str, Record]:
    """Return the short form of sessions by eid, as in lists."""
    if rows is None:
        rows = query.to_dicts()
    projects = _names(_related(session.SessionProject, query, rows, "eid"), "eid", "project")
    return {
        row["eid"]: {
            "id": row["eid"],
            "subject": row["subject"],
            "start_time": _time(row["start_time"]),
            "number": row["session_number"],
            "lab": row["path_lab"] or row["lab"],
            "projects": projects.get(row["eid"], []),
            "task_protocol": row["task_protocol"],
        }
        for row in rows
    }


def sessions(query: Any, base_url: str) -> list[Record]:
    """Return sessions as ``/sessions`` lists them."""
    return [{**facts, "url": f"{base_url}/sessions/{eid}"} for eid, facts in session_facts(query).items()]


def session_details(query: Any, base_url: str) -> list[Record]:
    """Return sessions as ``/sessions/<eid>`` shows them, with their datasets, probes and notes."""
    rows = query.to_dicts()
    short = session_facts(query, rows)
    users = _names(_related(session.SessionUser, query, rows, "eid"), "eid", "user")
    procedures = _names(_related(session.SessionProcedure, query, rows, "eid"), "eid", "procedure")
    keys = [{"eid": row["eid"]} for row in rows]
    water = (subject.WaterAdministration() & "administration_vanished is null") & [
        {"given_in_eid": row["eid"]} for row in rows
    ]
    given = _grouped(water.to_dicts(), "given_in_eid")
    files = _grouped(session_datasets(MODELS["datasets"].rows() & keys, base_url), "eid")
    probes = _grouped(insertions(MODELS["insertions"].rows() & keys, base_url), "session")
    remarks = _grouped(notes(MODELS["notes"].rows() & keys, base_url), "object_id")
    records = []
    for row in rows:
        eid = row["eid"]
        records.append(
            {
                "json": None,
                "field_of_view": [],
                **(row["session_json"] or {}),
                **short[eid],
                "url": f"{base_url}/sessions/{eid}",
                "users": users.get(eid, []),
                "location": _blank(row["session_location"]),
                "procedures": procedures.get(eid, []),
                "type": row["session_type"],
                "end_time": _time(row["end_time"]),
                "narrative": row["narrative"],
                "parent_session": f"{base_url}/sessions/{row['parent_eid']}" if row["parent_eid"] else None,
                "n_correct_trials": row["n_correct_trials"],
                "n_trials": row["n_trials"],
                "qc": row["qc"] or "NOT_SET",
                "extended_qc": _bare(row["extended_qc"]),
                "auto_datetime": _time(row["source_stamp"]),
                "wateradmin_session_related": [
                    {
                        "id": one["administration_uuid"],
                        "name": _administration_name(one),
                        "water_type": _blank(one["water_type"]),
                        "water_administered": one["volume"],
                    }
                    for one in sorted(given.get(eid, []), key=lambda one: one["administration_uuid"])
                ],
                "data_dataset_session_related": [
                    {name: value for name, value in one.items() if name != "eid"} for one in files.get(eid, [])
                ],
                "probe_insertion": probes.get(eid, []),
                "notes": remarks.get(eid, []),
            }
        )
    return records


def _administration_name(row: Record) -> str:
    return (row["administration_json"] or {}).get("name", "")


def session_datasets(query: Any, base_url: str) -> list[Record]:
    """Return datasets as they are shown inside a session: those with an existing copy that is online.

    Each has the ``eid`` of its session besides Alyx's fields.
    """
    rows = query.to_dicts()
    copies = file_copies(query, rows)
    revisions = {row["revision"]: row["revision_uuid"] for row in dataset.Revision().to_dicts()}
    records = []
    for row in sorted(rows, key=in_order):
        online = [one for one in copies.get(row["dataset_id"], []) if one["present"] and is_online(one)]
        if not online:
            continue
        records.append(
            {
                "id": row["dataset_id"],
                "name": row["dataset_name"],
                "dataset_type": row["dataset_type"],
                "data_url": next((url for one in online if (url := copy_url(one))), None),
                "url": f"{base_url}/datasets/{row['dataset_id']}",
                "file_size": row["file_size"],
                "hash": row["hash"],
                "version": row["version"],
                "collection": row["collection"],
                "revision": revisions.get(row["revision"]) or row["revision"] or "",
                "default_revision": str(bool(row["is_default"])),
                "qc": row["dataset_qc"] or "NOT_SET",
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
    order = {"server": 0, "bucket": 1}
    found = _related(dataset.FileRecord, query, rows, "dataset_id", vanished="file_vanished")
    joined = [{**repositories[row["repository"]], **row} for row in found]
    joined.sort(key=lambda row: (order.get(row["repository_kind"], 2), row["repository"], row["file_record_id"]))
    return _grouped(joined, "dataset_id")


def is_online(copy: Record) -> bool:
    """Say whether a copy lies where others can get it."""
    return copy["repository_kind"] != "personal"


def copy_url(copy: Record) -> str | None:
    """Return the address of a copy, with the dataset's id in it; None without."""
    if not copy["data_url"]:
        return None
    return f"{copy['data_url'].rstrip('/')}/{with_uuid(copy['relative_path'], copy['dataset_id'])}"


def datasets(query: Any, base_url: str) -> list[Record]:
    """Return datasets as ``/datasets`` shows them."""
    rows = query.to_dicts()
    copies = file_copies(query, rows)
    labels = _names(_related(dataset.DatasetTag, query, rows, "dataset_id"), "dataset_id", "tag")
    flags = {row["tag"]: row for row in dataset.Tag().to_dicts()}
    numbered = _related(session.Session.proj("session_number"), query, rows, "eid")
    numbers = {row["eid"]: row["session_number"] for row in numbered}
    records = []
    for row in rows:
        tags = labels.get(row["dataset_id"], [])
        records.append(
            {
                "json": None,
                "experiment_number": numbers.get(row["eid"]),
                **(row["dataset_json"] or {}),
                "url": f"{base_url}/datasets/{row['dataset_id']}",
                "name": row["dataset_name"],
                "created_by": row["created_by"],
                "created_datetime": _time(row["created"]),
                "dataset_type": row["dataset_type"],
                "data_format": row["data_format"],
                "collection": row["collection"],
                "session": f"{base_url}/sessions/{row['eid']}" if row["eid"] else None,
                "file_size": row["file_size"],
                "hash": row["hash"],
                "version": row["version"],
                "file_records": [
                    {
                        "id": one["file_record_id"],
                        "data_repository": one["repository"],
                        "data_repository_path": one["root_path"],
                        "relative_path": one["relative_path"],
                        "data_url": copy_url(one),
                        "exists": bool(one["present"]),
                    }
                    for one in copies.get(row["dataset_id"], [])
                ],
                "auto_datetime": _time(row["dataset_stamp"]),
                "revision": row["revision"] or "",
                "default_dataset": bool(row["is_default"]),
                "protected": any(flags[tag]["is_protected"] for tag in tags),
                "public": any(flags[tag]["is_public"] for tag in tags),
                "tags": tags,
                "qc": row["dataset_qc"] or "NOT_SET",
            }
        )
    return records


def files(query: Any, base_url: str) -> list[Record]:
    """Return file records as ``/files`` shows them."""
    return [
        {
            "json": None,
            "name": "",
            **(row["file_json"] or {}),
            "url": f"{base_url}/files/{row['file_record_id']}",
            "dataset": f"{base_url}/datasets/{row['dataset_id']}",
            "data_repository": row["repository"],
            "relative_path": row["relative_path"],
            "exists": bool(row["present"]),
        }
        for row in query.to_dicts()
    ]


# probes


def insertions(query: Any, base_url: str) -> list[Record]:
    """Return insertions; the datasets of one are those of its session whose collection has its name."""
    rows = query.to_dicts()
    info = _session_info(rows)
    held = _related(dataset.Dataset, query, rows, "eid", vanished="dataset_vanished")
    of_session = _grouped(sorted(held, key=in_order), "eid")
    # Clients look into the JSON of an insertion without asking whether there is any.
    return [
        {
            "json": {},
            "chronic_insertion": None,
            **(row["insertion_json"] or {}),
            "id": row["pid"],
            "session": row["eid"],
            "model": _blank(row["model"]),
            "session_info": info.get(row["eid"]),
            "name": row["probe_name"],
            "serial": row["serial"],
            "auto_datetime": _time(row["insertion_stamp"]),
            "datasets": [
                one["dataset_id"] for one in of_session.get(row["eid"], []) if row["probe_name"] in one["collection"]
            ],
        }
        for row in rows
    ]


def insertion_details(query: Any, base_url: str) -> list[Record]:
    """Return insertions as ``/insertions/<pid>`` shows them, with what their datasets are."""
    records = insertions(query, base_url)
    keys = [{"dataset_id": one} for record in records for one in record["datasets"]]
    held = session_datasets(MODELS["datasets"].rows() & keys, base_url)
    shown = ("id", "name", "dataset_type", "data_url", "url", "file_size", "hash", "version", "collection")
    by_id = {one["id"]: {**{name: one[name] for name in shown}, "qc": QC[one["qc"]]} for one in held}
    return [{**record, "datasets": [by_id[one] for one in record["datasets"] if one in by_id]} for record in records]


def _session_info(rows: list[Record]) -> dict[str, Record]:
    keys = [{"eid": eid} for eid in sorted({row["eid"] for row in rows if row["eid"]})]
    return session_facts(session.Session() & keys)


def trajectories(query: Any, base_url: str) -> list[Record]:
    """Return trajectories as ``/trajectories`` shows them."""
    rows = query.to_dicts()
    info = _session_info(rows)
    probes = _related(session.ProbeInsertion, query, rows, "eid", "probe_name")
    pids = {(row["eid"], row["probe_name"]): row["pid"] for row in probes}
    return [
        {
            "json": None,
            "chronic_insertion": None,
            **(row["trajectory_json"] or {}),
            "id": row["trajectory_uuid"],
            "probe_insertion": pids.get((row["eid"], row["probe_name"])),
            **{name: row[name] for name in ("x", "y", "z", "depth", "theta", "phi", "roll", "provenance")},
            "session": info.get(row["eid"]),
            "probe_name": row["probe_name"],
            "coordinate_system": _blank(row["coordinate_system"]),
            "datetime": _time(row["trajectory_stamp"]),
        }
        for row in rows
    ]


def channels(query: Any, base_url: str) -> list[Record]:
    """Return channels as ``/channels`` shows them."""
    return [
        {
            "json": None,
            **(row["channel_json"] or {}),
            "id": row["channel_uuid"],
            "trajectory_estimate": row["trajectory_uuid"],
            "brain_region": row["brain_region"],
            "name": row["channel_name"],
            "axial": row["axial"],
            "lateral": row["lateral"],
            **{name: row[f"channel_{name}"] for name in "xyz"},
        }
        for row in query.to_dicts()
    ]


# subjects


SIGNS = {"Absent": "-/-", "Heterozygous": "+/-", "Homozygous": "+/+", "Present": "+"}
"""Zygosity -> how Alyx writes it; their order gives its numbers."""


def _weeks(born: dt.date | None, died: dt.date | None) -> int:
    """Return the age in whole weeks, 0 without a birth date."""
    return ((died or dt.datetime.now(dt.timezone.utc).date()) - born).days // 7 if born else 0


def subjects(query: Any, base_url: str) -> list[Record]:
    """Return subjects as ``/subjects`` lists them, without the water that Alyx computes for them."""
    rows = query.to_dicts()
    held = _related(session.Session, query, rows, "lab", "subject", vanished="session_vanished")
    owner = {row["eid"]: (row["lab"], row["subject"]) for row in held}
    used: dict[Any, set[str]] = defaultdict(set)
    for one in _related(session.SessionProject, session.Session & query.proj(), held, "eid"):
        used[owner[one["eid"]]].add(one["project"])
    open_now = MODELS["water-restriction"].rows() & "restriction_end is null"
    restricted = {(one["lab"], one["subject"]): one for one in (open_now & query.proj()).to_dicts()}
    projects = _grouped(_related(subject.SubjectProject, query, rows, "lab", "subject"), "lab", "subject")
    genotypes = _grouped(_related(subject.SubjectGenotype, query, rows, "lab", "subject"), "lab", "subject")
    records = []
    for row in rows:
        key = row["lab"], row["subject"]
        records.append(
            {
                "json": None,
                **(row["subject_json"] or {}),
                "nickname": row["subject"],
                "url": f"{base_url}/subjects/{quote(row['subject'])}",
                "id": row["subject_uuid"],
                "responsible_user": row["responsible_user"],
                "birth_date": _time(row["birth_date"]),
                "death_date": _time(row["death_date"]),
                "species": row["species"],
                "sex": row["sex"],
                "litter": _blank(row["litter"]),
                "strain": row["strain"],
                "source": row["breeder"],
                "line": row["line"],
                "projects": sorted(one["project"] for one in projects.get(key, [])),
                "lab": row["lab"],
                "genotype": sorted(
                    f"{one['allele']} {SIGNS[one['zygosity']]}" if one["zygosity"] in SIGNS else one["allele"]
                    for one in genotypes.get(key, [])
                ),
                "description": row["subject_description"],
                "alive": row["death_date"] is None,
                "age_weeks": _weeks(row["birth_date"], row["death_date"]),
                "session_projects": sorted(used[key]),
                "last_water_restriction": _time(restricted[key]["restriction_start"]) if key in restricted else None,
                "reference_weight": restricted[key]["reference_weight"] if key in restricted else None,
            }
        )
    return records


def subject_details(query: Any, base_url: str) -> list[Record]:
    """Return subjects as ``/subjects/<nickname>`` shows them, with weighings and water."""
    records = subjects(query, base_url)
    for record in records:
        key = {"lab": record["lab"], "subject": record["nickname"]}
        record["genotype"] = [
            {"allele": one["allele"], "zygosity": list(SIGNS).index(one["zygosity"])}
            for one in (subject.SubjectGenotype() & key).to_dicts()
            if one["zygosity"] in SIGNS
        ]
        record["weighings"] = weighings(MODELS["weighings"].rows() & key, base_url)
        record["water_administrations"] = water_administrations(MODELS["water-administrations"].rows() & key, base_url)
        for name in ("weighings", "water_administrations"):
            record[name].sort(key=lambda one: (one["date_time"] or "", one["url"]))
    return records


def weighings(query: Any, base_url: str) -> list[Record]:
    """Return weighings."""
    return [
        {
            **(row["weighing_json"] or {}),
            "subject": row["subject"],
            "date_time": _time(row["weighing_time"]),
            "weight": row["weight"],
            "user": row["user"],
            "url": f"{base_url}/weighings/{row['weighing_uuid']}",
        }
        for row in query.to_dicts()
    ]


def water_administrations(query: Any, base_url: str) -> list[Record]:
    """Return water administrations."""
    return [
        {
            **(row["administration_json"] or {}),
            "subject": row["subject"],
            "date_time": _time(row["administration_time"]),
            "water_administered": row["volume"],
            "water_type": _blank(row["water_type"]),
            "user": row["user"],
            "url": f"{base_url}/water-administrations/{row['administration_uuid']}",
            "session": row["given_in_eid"],
            "adlib": bool(row["adlib"]),
        }
        for row in query.to_dicts()
    ]


def water_restrictions(query: Any, base_url: str) -> list[Record]:
    """Return periods of water restriction."""
    return [
        {
            **(row["restriction_json"] or {}),
            "subject": row["subject"],
            "start_time": _time(row["restriction_start"]),
            "end_time": _time(row["restriction_end"]),
            "reference_weight": row["reference_weight"],
        }
        for row in query.to_dicts()
    ]


def notes(query: Any, base_url: str) -> list[Record]:
    """Return notes on sessions."""
    return [
        {
            "json": None,
            "image": None,
            **(row["note_json"] or {}),
            "id": row["note_uuid"],
            "user": row["user"],
            "date_time": _time(row["note_time"]),
            "content_type": "actions.session",
            "object_id": row["eid"],
            "text": row["note_text"],
        }
        for row in query.to_dicts()
    ]


# the lab


def labs(query: Any, base_url: str) -> list[Record]:
    """Return labs with the repositories they use."""
    used = _names(dataset.LabRepository().to_dicts(), "lab", "repository")
    plain = _plain("lab_json", name="lab", institution="institution", address="address", timezone="time_zone")
    return [{**record, "repositories": used.get(record["name"], [])} for record in plain(query, base_url)]


def users(query: Any, base_url: str) -> list[Record]:
    """Return people, with the animals they are responsible for."""
    held = subject.Subject() & "subject_vanished is null" & "responsible_user is not null"
    animals = _names(held.to_dicts(), "responsible_user", "subject")
    homes = _names(lab.LabMembership().to_dicts(), "user", "lab")
    delegates = _names(lab.Delegation().to_dicts(), "user", "delegate")
    return [
        {
            **(row["member_json"] or {}),
            "id": row["user_uuid"],
            "username": row["user"],
            "email": row["email"],
            "subjects_responsible": animals.get(row["user"], []),
            "lab": homes.get(row["user"], []),
            "allowed_users": delegates.get(row["user"], []),
            "is_stock_manager": bool(row["is_stock_manager"]),
        }
        for row in query.to_dicts()
    ]


def projects(query: Any, base_url: str) -> list[Record]:
    """Return projects with their people."""
    people = _names(lab.ProjectMember().to_dicts(), "project", "user")
    return [
        {
            **(row["project_json"] or {}),
            "name": row["project"],
            "description": row["project_description"],
            "users": people.get(row["project"], []),
        }
        for row in query.to_dicts()
    ]


def repositories(query: Any, base_url: str) -> list[Record]:
    """Return places that hold files."""
    return [
        {
            "json": None,
            "repository_type": None,
            "globus_endpoint_id": None,
            "globus_is_personal": row["repository_kind"] == "personal",
            **(row["repository_json"] or {}),
            "name": row["repository"],
            "timezone": row["repository_time_zone"],
            "globus_path": row["root_path"],
            "hostname": row["hostname"],
            "data_url": _blank(row["data_url"]),
        }
        for row in query.to_dicts()
    ]


def tags(query: Any, base_url: str) -> list[Record]:
    """Return tags of datasets."""
    plain = _plain("tag_json", id="tag_uuid", name="tag", description="tag_description", hash="tag_hash")
    flags = {row["tag"]: row for row in query.to_dicts()}
    return [
        {
            **record,
            "protected": bool(flags[record["name"]]["is_protected"]),
            "public": bool(flags[record["name"]]["is_public"]),
        }
        for record in plain(query, base_url)
    ]


def _plain(json_attribute: str, **fields: str) -> Callable[[Any, str], list[Record]]:
    """Return a function that gives rows as records field by field."""

    def records(query: Any, base_url: str) -> list[Record]:
        return [
            {
                "json": None,
                **(row[json_attribute] or {}),
                **{name: _time(row[attribute]) for name, attribute in fields.items()},
            }
            for row in query.to_dicts()
        ]

    return records


RECORDS: dict[str, Callable[[Any, str], list[Record]]] = {
    "sessions": sessions,
    "datasets": datasets,
    "files": files,
    "insertions": insertions,
    "trajectories": trajectories,
    "channels": channels,
    "subjects": subjects,
    "weighings": weighings,
    "water-administrations": water_administrations,
    "water-restriction": water_restrictions,
    "notes": notes,
    "labs": labs,
    "users": users,
    "projects": projects,
    "locations": _plain("location_json", name="location", lab="lab"),
    "procedures": _plain("procedure_json", id="procedure_uuid", name="procedure", description="procedure_description"),
    "data-repository": repositories,
    "dataset-types": _plain(
        "type_json",
        id="dataset_type_uuid",
        name="dataset_type",
        description="type_description",
        filename_pattern="filename_pattern",
    ),
    "data-formats": _plain(
        "format_json",
        id="data_format_uuid",
        name="data_format",
        description="format_description",
        file_extension="file_extension",
    ),
    "revisions": _plain(
        "revision_json",
        id="revision_uuid",
        name="revision",
        description="revision_description",
        created_datetime="revision_created",
    ),
    "tags": tags,
}
"""Endpoint -> what makes its records."""

DETAILS: dict[str, Callable[[Any, str], list[Record]]] = {
    "sessions": session_details,
    "subjects": subject_details,
    "insertions": insertion_details,
}
"""Endpoint -> what makes the record of one, where that says more than the list."""

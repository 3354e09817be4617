"""Alyx's records as rows: values by hand, and nothing of a recorded record lost."""

import datetime as dt
import gzip
import json
from zoneinfo import ZoneInfo

import pytest
from alyx_recordings import load_recordings

from labweave.formats.alyx import RESOURCES
from labweave.formats.alyx.records import Facts, Postponed

SUBJECT = "64d65078-c38d-4812-a834-5b636bcb4e60"
FACTS = Facts({SUBJECT: ("cortexlab", "CL_001")})
DATASET = {
    "url": "http://alyx.example.org/datasets/30C1B46F-761f-453e-b23f-8a568fd5c0ea",
    "name": "_ibl_wheel.timestamps.npy",
    "created_by": "alice",
    "created_datetime": "2024-07-15T10:29:52.579659",
    "dataset_type": "wheel.timestamps",
    "data_format": "npy",
    "collection": "alf",
    "session": "http://alyx.example.org/sessions/d62972fd-fa93-4a6a-a8ba-9387554b1102",
    "file_size": 5 * 2**32,
    "hash": "0299806def8e4dba38839d5858d41014",
    "version": "2.23.1",
    "experiment_number": 1,
    "file_records": [{"id": "98cdb238-256b-433f-9d59-27934b68b3c9"}],
    "auto_datetime": "2024-07-15T10:29:53",
    "revision": "",
    "default_dataset": True,
    "protected": 0,
    "public": 0,
    "tags": ["b", "a"],
    "qc": "PASS",
    "json": {"mismatch_hash": True},
}


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("aggregates/Subjects/cortexlab/CL_001/_ibl_subjectTrials.table.pqt", ("Subjects", "cortexlab/CL_001")),
        ("aggregates/Tags/2025_paper/#2025-01-01#/clusters.table.pqt", ("Tags", "2025_paper")),
        ("aggregates/clusters.table.pqt", None),
        ("CL_001/2025-01-01/001/alf/clusters.table.pqt", None),
    ],
)
def test_whose_a_dataset_without_a_session_is(path, whose):
    row, links = rows_of("datasets", {**DATASET, "session": None, "file_records": [{"relative_path": path}]})
    held = [(one["aggregate_relation"], one["aggregate_identifier"]) for one in links["dataset.AggregateDataset"]]
    assert held == ([whose] if whose else [])


def rows_of(name, record, facts=FACTS):
    mapped = RESOURCES[name].to_rows(record, facts)
    return mapped.rows[-1][1], mapped.links


def test_a_dataset():
    row, links = rows_of("datasets", DATASET)
    assert row == {
        "dataset_id": "30c1b46f-761f-453e-b23f-8a568fd5c0ea",
        "eid": "d62972fd-fa93-4a6a-a8ba-9387554b1102",
        "collection": "alf",
        "revision": None,
        "dataset_name": "_ibl_wheel.timestamps.npy",
        "dataset_type": "wheel.timestamps",
        "data_format": "npy",
        "file_size": 21474836480,
        "hash": "0299806def8e4dba38839d5858d41014",
        "version": "2.23.1",
        "dataset_qc": "PASS",
        "is_default": True,
        "created_by": "alice",
        "created": dt.datetime(2024, 7, 15, 10, 29, 52, 579659),
        "dataset_stamp": dt.datetime(2024, 7, 15, 10, 29, 53),
        "dataset_json": {"json": {"mismatch_hash": True}},
    }
    tags = [{"dataset_id": row["dataset_id"], "tag": tag} for tag in ("a", "b")]
    assert links == {"dataset.DatasetTag": tags, "dataset.AggregateDataset": []}


def test_stamps_are_shifted_from_the_servers_zone_and_times_of_events_are_not():
    facts = Facts({SUBJECT: ("cortexlab", "CL_001")}, zone=ZoneInfo("Europe/London"))
    row, _ = rows_of("datasets", DATASET, facts)
    assert row["dataset_stamp"] == dt.datetime(2024, 7, 15, 9, 29, 53)
    weighing = {"url": "w/7", "subject_uuid": SUBJECT, "date_time": "2024-07-15T10:00:00", "weight": 20.5, "user": None}
    assert rows_of("weighings", weighing, facts)[0]["weighing_time"] == "2024-07-15T10:00:00"


def test_a_session_keeps_the_day_that_was_typed_and_the_lab_of_its_path():
    record = {
        "id": "d62972fd-fa93-4a6a-a8ba-9387554b1102",
        "subject": "CL_001",
        "subject_uuid": SUBJECT,
        "start_time": "2024-07-14T23:59:59.999999",
        "number": 1,
        "lab": "moonlab",
        "projects": ["Étude_μ"],
        "url": "x",
        "task_protocol": None,
    }
    row, links = rows_of("sessions", record)
    assert (row["lab"], row["subject"], row["path_lab"]) == ("cortexlab", "CL_001", "moonlab")
    assert (row["session_date"], row["start_time"]) == ("2024-07-14", "2024-07-14T23:59:59.999999")
    assert links == {"session.SessionProject": [{"eid": record["id"], "project": "Étude_μ"}]}
    base, _ = rows_of("sessions", {**record, "start_time": None, "number": None, "lab": "cortexlab"})
    assert (base["session_date"], base["start_time"], base["session_number"], base["path_lab"]) == (
        None,
        None,
        None,
        "",
    )


def test_bare_text_in_json_is_kept_in_an_object():
    detail = {"id": "e", "json": "a bare string", "extended_qc": "text", "auto_datetime": None}
    row, _ = rows_of("session-details", detail)
    assert row["session_json"] == {"json": "a bare string"}
    assert row["extended_qc"] == {"value": "text"}


def test_a_record_of_an_unknown_subject_is_postponed():
    with pytest.raises(Postponed, match="subject.Subject"):
        rows_of("weighings", {"url": "w/7", "subject_uuid": None, "date_time": None, "weight": 1})


@pytest.mark.parametrize(
    ("text", "allele", "zygosity"),
    [
        ("Ai14 +", "Ai14", "Present"),
        ("Pvalb-Cre -/-", "Pvalb-Cre", "Absent"),
        ("Pvalb-Cre +/-", "Pvalb-Cre", "Heterozygous"),
        ("two words +/+", "two words", "Homozygous"),
        ("no sign", "no sign", ""),
    ],
)
def test_a_genotype(text, allele, zygosity):
    record = {"id": SUBJECT, "nickname": " CL_001 ", "lab": "cortexlab", "genotype": [text]}
    row, links = rows_of("subjects", record)
    assert row["subject"] == "CL_001"
    found = links["subject.SubjectGenotype"]
    assert found == [{"lab": "cortexlab", "subject": "CL_001", "allele": allele, "zygosity": zygosity}]


def test_the_hash_minds_content_alone():
    digest = RESOURCES["datasets"].digest
    same = {**DATASET, "tags": ["a", "b"], "url": "https://other", "protected": 1, "file_records": [], "revision": None}
    assert digest(same) == digest(DATASET)
    assert digest({**DATASET, "json": {"list": [1, 2]}}) != digest({**DATASET, "json": {"list": [2, 1]}})
    assert digest({**DATASET, "hash": ""}) != digest(DATASET)


RECORDED = {
    **{name: f"{name.replace('-', '_')}_p1.json" for name in RESOURCES},
    "brain-regions": "brain_regions_p1.json.gz",
    "datasets": "datasets_range00.json.gz",
    "files": "files_range00.json.gz",
}
NAMED_ELSEWHERE = {
    "sessions": {"subject", "lab"},
    "session-details": {"subject", "lab"},
    "weighings": {"subject"},
    "water-administrations": {"subject"},
    "water-restriction": {"subject"},
    "surgeries": {"subject"},
    "subjects": {"url"},
    "notes": {"content_type", "object_id"},
    "trajectories": {"probe_insertion"},
    "insertions": {"session_info", "datasets"},
}
"""What a row says by its key: the subject by its id, the insertion by session and name."""

WORDED = {"subjects": {"genotype"}, "surgeries": {"outcome_type"}}
"""What is stored in other words."""


@pytest.mark.parametrize("name", RESOURCES)
def test_nothing_of_a_recorded_record_is_lost(shared, name):
    folder = shared / "data" / "alyx_rest"
    if name == "session-details":
        records = [json.loads(path.read_text("utf-8")) for path in sorted((folder / "sessions").glob("*.json"))[:40]]
    else:
        path = folder / RECORDED[name]
        data = path.read_bytes()
        body = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
        records = body["results"] if isinstance(body, dict) else body
    resource = RESOURCES[name]
    objects = {record["object_id"]: ("cortexlab", "x") for record in records if "object_id" in record}
    assert records
    for record in records:
        asked = {**record, "subject_uuid": SUBJECT} if resource.by_nickname else record
        if name == "surgeries":
            asked["procedure_names"] = {uuid: uuid for uuid in record["procedures"]}
        mapped = resource.to_rows(asked, Facts({**objects, SUBJECT: ("cortexlab", "CL_001")}))
        rows = [values for _, values in mapped.rows] + [row for rows in mapped.links.values() for row in rows]
        kept = set(flatten(rows))
        left_out = set(resource.volatile) - {"url"} | NAMED_ELSEWHERE.get(name, set()) | WORDED.get(name, set())
        for field, value in record.items():
            if field not in left_out:
                missing = {text(leaf) for leaf in flatten(value)} - {text(leaf) for leaf in kept}
                assert not missing, (field, value)


def flatten(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from flatten(item)
    elif isinstance(value, list):
        for item in value:
            yield from flatten(item)
    elif value not in (None, ""):
        yield value


def text(leaf):
    """Return a value so that an address compares by its id, and a time by its moment."""
    if isinstance(leaf, dt.datetime):
        return leaf.isoformat()
    if isinstance(leaf, str) and leaf.startswith("http://alyx.example.org/"):
        return leaf.rpartition("/")[2].lower()
    return leaf


@pytest.fixture(scope="module")
def recorded_bases(request):
    """What a real Alyx answered on two days."""
    folder = request.getfixturevalue("shared") / "data"
    return [load_recordings(folder / name) for name in ("alyx_rest", "alyx_rest_day2")]


@pytest.mark.parametrize("name", list(RESOURCES))
def test_a_record_comes_back_from_its_row(name, recorded_bases):
    """Every field that labweave keeps has the value that Alyx sent, whether it has a column or not."""
    resource, n_records = RESOURCES[name], 0
    computed = {field.name for field in resource.fields if field.kind in ("other", "names")}
    hidden = {field.name for field in resource.fields if not field.is_shown}
    for base in recorded_bases:
        animals = {row.id: (row.shown["lab"], row.shown["nickname"]) for row in base.rows("subjects")}
        procedures = {row.id: row.shown["name"] for row in base.rows("procedures")}
        for row in base.rows(resource.path[1:]):
            sent = row.detail if name == "session-details" else row.shown
            if sent is None:
                continue
            owned = {**sent, "subject_uuid": base.owners(row)[0].id} if resource.by_nickname else sent
            if name == "surgeries":
                owned["procedure_names"] = {uuid: procedures[uuid] for uuid in sent["procedures"]}
            mapped = resource.to_rows(owned, Facts(animals))
            for label, links in mapped.links.items():
                if fields := [field for field in resource.fields if field.column.rpartition(".")[0] == label]:
                    column = fields[0].column.rpartition(".")[2]
                    assert sorted(link[column] for link in links) == sorted(sent[fields[0].name])
            if not mapped.rows or mapped.rows[-1][0] != resource.table:
                continue  # a note on an animal, whose table is another
            shown, n_records = resource.to_record(mapped.row, "http://alyx.example.org"), n_records + 1
            kept = sent.keys() - computed - hidden - WORDED.get(name, set())
            assert {field: nothing_is_empty(shown.get(field)) for field in kept} == {
                field: nothing_is_empty(sent[field]) for field in kept
            }
    assert n_records


def nothing_is_empty(value):
    """Return a value so that none and '' are the same, and the order of names does not matter."""
    is_names = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return sorted(value) if is_names else None if value == "" else value

"""Random questions about a random lab, asked of ONE-api in local mode and of labweave: the answers must be the same.

LABWEAVE_TEST_QUERIES sets how many questions are asked, LABWEAVE_TEST_SEED which ones. Where ``specs/one.md`` wants
another answer than ONE-api's, the question is not asked here, but in ``test_edge_cases.py``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import random
import re
import uuid
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PREFIX, empty

import labweave
from labweave.database import upsert
from labweave.one.api import One
from labweave.schemas import dataset, lab, session, subject

N_QUERIES = int(os.environ.get("LABWEAVE_TEST_QUERIES", 300))
SEED = int(os.environ.get("LABWEAVE_TEST_SEED", 1))
LABS = ("mainenlab", "cortexlab", "cortexlab_ucl", "zadorlab")
SUBJECTS = ("ZM_1", "ZM_11", "ZM_1150", "KS005", "ks005", "SWC-043.2", "flowers", "mouse_ü")
PROTOCOLS = (
    "_iblrig_tasks_trainingChoiceWorld3.7.6",
    "biasedChoiceWorld4.4.2",
    "passiveChoiceWorld",
    "ephys+tones",
    "",
)
PROJECTS = ("brainwide", "brain", "practice", "u19_proj3")
OBJECTS = ("trials", "wheel", "wheelMoves", "spikes", "clusters", "ephysData_g0_t0")
ATTRIBUTES = ("times", "choice", "intervals", "goCue_times", "table", "position", "depths", "raw")
NAMESPACES = ("", "", "_ibl_", "_av_", "_ss_")
SCALES = ("", "", "", "_bpod", "_ephysClock_minutes")
EXTRAS = ("", "", "", ".raw", ".imec0.ap")
EXTENSIONS = ("npy", "npy", "csv", "pqt", "json", "tar.gz")
COLLECTIONS = ("", "alf", "alf", "alf/probe00", "alf/probe01", "alf/probe00/pykilosort", "raw_behavior_data", "a.b/c-d")
REVISIONS = (None, None, "2022-01-01", "2022-01-01b", "2024-05-06", "v1")
QC = ("NOT_SET", "NOT_SET", "NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL")
QC_ORDER = ["NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"]


def make_uuid(rng):
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def make_lab(rng, root):
    """Return random sessions and datasets, and write a file for most of the datasets."""
    sessions, seen = [], set()
    lab_of = {name: rng.choice(LABS) for name in SUBJECTS}
    while len(sessions) < 24:
        name = rng.choice(SUBJECTS)
        day = dt.date(2019, rng.randint(1, 3), rng.randint(1, 5))
        number = rng.choice((1, 1, 2, 3, 12))
        if (name, day, number) in seen:
            continue
        seen.add((name, day, number))
        sessions.append(
            {
                "eid": make_uuid(rng),
                "lab": lab_of[name],
                "subject": name,
                "session_date": day,
                "session_number": number,
                "task_protocol": rng.choice(PROTOCOLS),
                "projects": sorted(rng.sample(PROJECTS, rng.randint(0, 2))),
            }
        )
    rows = []
    for each in sessions[:-1]:
        folder = f"{each['lab']}/Subjects/{each['subject']}/{each['session_date']}/{each['session_number']:03d}"
        for path in sorted({make_path(rng) for _ in range(rng.randint(1, 40))}):
            rows.append({"eid": each["eid"], "rel_path": path, "folder": folder})
    frame = pd.DataFrame(rows)
    frame["id"] = [make_uuid(rng) for _ in rows]
    parts = frame.rel_path.str.extract(r"^(?P<collection>[^#]*?)/?(?:#(?P<revision>[^#]*)#/)?(?P<name>[^/]*)$")
    frame[["collection", "revision", "name"]] = parts
    frame["qc"] = [rng.choice(QC) for _ in rows]
    # One default in each group, none in some, two in none: that is refused.
    frame["default"] = False
    for _, group in frame.groupby(["eid", "collection", "name"]):
        if rng.random() < 0.95:
            frame.loc[rng.choice(list(group.index)), "default"] = True
    for row in frame.itertuples():
        if rng.random() < 0.97:
            file = root / row.folder / row.rel_path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(row.id.encode())
    frame["size"], frame["hash"] = 36, [hashlib.md5(each.encode()).hexdigest() for each in frame.id]
    return sessions, frame


def make_path(rng):
    name = (
        rng.choice(NAMESPACES) + rng.choice(OBJECTS) + "." + rng.choice(ATTRIBUTES) + rng.choice(SCALES)
        + rng.choice(EXTRAS) + "." + rng.choice(EXTENSIONS)
    )  # fmt: skip
    revision = rng.choice(REVISIONS)
    return "/".join(filter(None, (rng.choice(COLLECTIONS), revision and f"#{revision}#", name)))


def write_tables(root, sessions, frame):
    ours = pd.DataFrame(sessions)
    table = pd.DataFrame(
        {
            "id": ours.eid,
            "lab": ours.lab,
            "subject": ours.subject,
            "date": list(ours.session_date),
            "number": ours.session_number.to_numpy(np.uint16),
            "task_protocol": ours.task_protocol,
            "projects": ours.projects.map(",".join),
        }
    ).set_index("id")
    files = pd.DataFrame(
        {
            "eid": frame.eid,
            "id": frame.id,
            "rel_path": frame.rel_path,
            "file_size": frame["size"].astype("UInt64"),
            "hash": frame["hash"],
            "exists": True,
            "default_revision": frame["default"],
            "qc": pd.Categorical(frame.qc, categories=QC_ORDER, ordered=True),
        }
    ).set_index(["eid", "id"])
    metadata = {"one_metadata": json.dumps({"date_created": "2026-01-01 00:00", "origin": "test"}).encode()}
    for name, each in (("sessions", table), ("datasets", files)):
        arrow = pa.Table.from_pandas(each.sort_index())
        pq.write_table(
            arrow.replace_schema_metadata({**metadata, **(arrow.schema.metadata or {})}), root / f"{name}.pqt"
        )


def fill(sessions, frame):
    upsert(lab.Lab, [{"lab": name} for name in LABS])
    upsert(lab.Project, [{"project": name} for name in PROJECTS])
    animals = sorted({(each["lab"], each["subject"]) for each in sessions})
    upsert(
        subject.Subject,
        [
            {"lab": at, "subject": name, "subject_uuid": str(uuid.uuid3(uuid.NAMESPACE_URL, name))}
            for at, name in animals
        ],
    )
    upsert(session.Session, [{k: v for k, v in each.items() if k != "projects"} for each in sessions])
    upsert(session.SessionProject, [{"eid": s["eid"], "project": name} for s in sessions for name in s["projects"]])
    upsert(dataset.Revision, [{"revision": name} for name in REVISIONS if name])
    upsert(
        dataset.Repository, [{"repository": "server", "repository_kind": "server", "data_url": "http://127.0.0.1:9"}]
    )
    upsert(
        dataset.Dataset,
        [
            {
                "dataset_id": row.id,
                "eid": row.eid,
                "collection": row.collection,
                "revision": row.revision if isinstance(row.revision, str) else None,
                "dataset_name": row.name,
                "file_size": row.size,
                "hash": row.hash,
                "dataset_qc": row.qc,
                "is_default": row.default,
            }
            for row in frame.rename(columns={"name": "file"}).assign(name=frame.name).itertuples(index=False)
        ],
    )
    upsert(
        dataset.FileRecord,
        [
            {
                "file_record_id": str(uuid.uuid3(uuid.NAMESPACE_URL, row.id)),
                "dataset_id": row.id,
                "repository": "server",
                "relative_path": f"{row.folder}/{row.rel_path}",
                "present": True,
            }
            for row in frame.itertuples(index=False)
        ],
    )


@pytest.fixture(scope="module")
def both(_tables, database_url, tmp_path_factory):
    """ONE-api and labweave on the same lab, and what is in it."""
    peer = pytest.importorskip("one.api")
    root = tmp_path_factory.mktemp("random_lab")
    rng = random.Random(SEED)
    sessions, frame = make_lab(rng, root)
    write_tables(root, sessions, frame)
    with labweave.connect(database_url, prefix=PREFIX) as database:
        empty(database)
        fill(sessions, frame)
        yield peer.One(cache_dir=root), One(root), sessions, frame


# --- questions


def some_of(rng, text):
    """Return a part of a text."""
    start = rng.randrange(len(text))
    return text[start : rng.randint(start + 1, len(text))]


def pattern_of(rng, text, wildcards):
    """Return a pattern that often fits a text."""
    star, mark = ("*", "?") if wildcards else (".*", ".")
    kind = rng.random()
    if kind < 0.3 or not text:
        return text
    at = rng.randrange(len(text))
    if kind < 0.5:
        return text[:at] + star
    if kind < 0.7:
        return star + text[at:]
    if kind < 0.85:
        return text[:at] + mark + text[at + 1 :]
    return text[:at] + star + text[rng.randint(at, len(text)) :]


def search_question(rng, sessions, frame):
    one, filters = rng.choice(sessions), {}
    for key, word in (
        ("subject", one["subject"]),
        ("lab", one["lab"]),
        ("task_protocol", one["task_protocol"]),
        ("projects", rng.choice(PROJECTS)),
    ):
        if rng.random() < 0.3:
            part = some_of(rng, word) if word and rng.random() < 0.6 else word
            part = part.replace("+", r"\+")
            filters[key] = [part, rng.choice(SUBJECTS)] if rng.random() < 0.2 else part
    if rng.random() < 0.15:
        filters["number"] = rng.choice((1, "2", "012", [1, 12]))
    if rng.random() < 0.2:
        day = one["session_date"]
        later = day + dt.timedelta(rng.randint(0, 40))
        filters["date_range"] = rng.choice(
            (str(day), day, [str(day)], [day, later], [None, str(later)], [str(day), None])
        )
    if rng.random() < 0.25:
        names = list(frame.name[frame.eid == one["eid"]]) or list(frame.name)
        name = rng.choice(names)
        if rng.random() < 0.3:
            name = pattern_of(rng, name, False)
        filters["datasets"] = [name, rng.choice(names)] if rng.random() < 0.4 else name
        if rng.random() < 0.4:
            filters["dataset_qc_lte"] = rng.choice((*QC_ORDER, 30))
    return "search", (), filters


def file_filters(rng, rows, wildcards, with_revision=True):
    row = rows.iloc[rng.randrange(len(rows))]
    filters = {}
    if rng.random() < 0.75:
        if rng.random() < 0.3:
            namespace, obj = row["name"].split(".")[0].rpartition("_ibl_")[1:]
            filters["filename"] = {"object": pattern_of(rng, obj, wildcards)}
            if namespace and rng.random() < 0.5:
                filters["filename"]["namespace"] = rng.choice(("ibl", "", ["ibl", "av"]))
            if rng.random() < 0.4:
                filters["filename"]["attribute"] = rng.choice(
                    ("times", ["choice", "times"], "goCue_times", pattern_of(rng, "times", wildcards))
                )
            if rng.random() < 0.2:
                filters["filename"]["extension"] = rng.choice(("npy", ["npy", "csv"]))
        else:
            filters["filename"] = pattern_of(rng, row["name"] if rng.random() < 0.8 else row["rel_path"], wildcards)
    if rng.random() < 0.4:
        filters["collection"] = pattern_of(rng, row["collection"], wildcards)
        if rng.random() < 0.15:
            filters["collection"] = [filters["collection"] or "alf", "alf/probe00"]
    if with_revision and rng.random() < 0.25:
        filters["revision"] = rng.choice(("", pattern_of(rng, "2022-01-01", wildcards), "v1"))
    return filters


def list_question(rng, sessions, frame):
    eid = rng.choice(list(frame.eid))
    wildcards = rng.random() < 0.7
    filters = file_filters(rng, frame[frame.eid == eid], wildcards)
    method = rng.choice(("list_datasets", "list_datasets", "list_collections", "list_revisions"))
    if method == "list_datasets":
        if rng.random() < 0.3:
            filters["qc"] = rng.choice((*QC_ORDER, 10))
        if rng.random() < 0.15:
            filters["ignore_qc_not_set"] = True
        if rng.random() < 0.1:
            filters["default_revisions_only"] = True
    return method, (eid if rng.random() < 0.9 else None,), {**filters, "wildcards": wildcards}


def load_question(rng, sessions, frame):
    eid = rng.choice(list(frame.eid))
    rows = frame[frame.eid == eid]
    row = rows.iloc[rng.randrange(len(rows))]
    method = rng.choice(("load_dataset", "load_object", "load_datasets", "load_collection"))
    revision = rng.choice((None, None, None, "2022-01-01", "2023", "1999", "w"))
    collection = rng.choice((None, row["collection"], row["collection"]))
    options = {"download_only": True, "check_hash": False, "wildcards": True}
    obj = row["name"].split(".")[0].rpartition("_")[2] if row["name"].startswith("_") else row["name"].split(".")[0]
    if method == "load_dataset":
        if rng.random() < 0.25:
            return method, (eid, row["rel_path"]), options
        stem = row["name"].split(".")
        name = rng.choice(
            (row["name"], row["name"], ".".join(stem[:2]), pattern_of(rng, row["name"], True), "no.such.npy")
        )
        return method, (eid, name), {**options, "collection": collection, "revision": revision}
    if method == "load_object":
        parts = {"attribute": rng.choice(("times", ["times", "choice"], "*"))} if rng.random() < 0.3 else {}
        return method, (eid, obj), {**options, "collection": collection, "revision": revision, **parts}
    if method == "load_datasets":
        many = [rows.iloc[rng.randrange(len(rows))] for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.4:
            return method, (eid, [f"{each['rel_path']}" for each in many]), options
        return (
            method,
            (eid, [each["name"] for each in many]),
            {**options, "collections": [each["collection"] for each in many], "revisions": revision},
        )
    return method, (eid, row["collection"]), {**options, "object": rng.choice((None, obj))}


def convert_question(rng, sessions, frame):
    one = rng.choice(sessions)
    folder = f"{one['lab']}/Subjects/{one['subject']}/{one['session_date']}/{one['session_number']:03d}"
    return rng.choice(
        (
            ("path2eid", (f"/somewhere/{folder}",), {}),
            ("path2eid", (f"{one['subject']}/{one['session_date']}/{one['session_number']}/alf/x.y.npy",), {}),
            ("to_eid", (one["eid"],), {}),
            ("eid2path", ([one["eid"], make_uuid(rng)],), {}),
            ("eid2ref", (one["eid"],), {"as_dict": rng.random() < 0.5, "parse": rng.random() < 0.5}),
            ("list_subjects", (), {}),
        )
    )


# --- answers


def plain(value):
    """Return an answer in a form that can be compared."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, pd.DataFrame):
        return sorted(map(str, value.rel_path))
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return str(value)


def ask(front_end, method, arguments, options):
    """Return ("answer", ...), or ("error", its class)."""
    options = dict(options)
    front_end.wildcards = options.pop("wildcards", True)
    arguments = tuple(uuid.UUID(a) if method == "eid2ref" and isinstance(a, str) else a for a in arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(front_end, method)(*arguments, **options)
    except Exception as error:
        return "error", error
    if method == "load_datasets":
        found = found[0]
    if method in ("load_object", "load_collection", "list_collections", "list_revisions"):
        found = sorted(found)
    if method == "list_datasets":
        found = sorted(found) if isinstance(found, list) else sorted(found.rel_path)
    return "answer", plain(found)


def same(theirs, ours):
    if theirs[0] == "error" and ours[0] == "error":
        return isinstance(ours[1], type(theirs[1])) or type(theirs[1]) is AssertionError
    return theirs == ours


def is_wanted_difference(method, arguments, options, theirs, ours, frame):
    """Say why the specification wants another answer here, or nothing."""
    if method == "load_dataset" and theirs[0] == "error" and type(theirs[1]).__name__ == "ALFObjectNotFound":
        name = arguments[1]
        if "/" not in name and "*" not in name and "?" not in name and not name.startswith("_"):
            return "a name without its namespace is found (78)"
    if method == "search" and "datasets" in options and theirs[0] == ours[0] == "answer":
        more = [eid for eid in ours[1] if eid not in theirs[1]]
        if [eid for eid in ours[1] if eid not in more] == theirs[1] and all(
            has_in_root(frame[frame.eid == eid], options["datasets"]) for eid in more
        ):
            return "a file in the session's root is found, too, beside files in folders"
    is_path = method == "load_datasets" and any("/" in name for name in arguments[1])
    is_path = is_path and type(theirs[1]).__name__ == "ALFMultipleObjectsFound" and ours[0] == "answer"
    if is_path and all(map(str.endswith, ours[1], arguments[1])):
        return "a path means that file, not those with more parts in their names"
    name = options.get("filename")
    if isinstance(name, dict) and name.get("namespace") == "" and theirs[0] == ours[0] == "answer":
        more = [each for each in theirs[1] if each not in ours[1]]
        named = frame[frame.name.str.startswith("_")]
        places = {"list_datasets": named.rel_path, "list_collections": named.collection.fillna("")}.get(method, [])
        if len(more) + len(ours[1]) == len(theirs[1]) and set(more) <= set(places):
            return "no namespace means none, also where a pattern of the object would take it in"
    return ""


def has_in_root(rows, names):
    names = [names] if isinstance(names, str) else names
    return any(
        re.fullmatch(name, path) for name in names for path in rows.rel_path.str.replace(r"^#[^/]*/", "", regex=True)
    )


def test_random_questions(both):
    theirs, ours, sessions, frame = both
    rng = random.Random(SEED + 1)
    makers = (search_question, list_question, list_question, load_question, load_question, convert_question)
    asked, wanted, wrong = Counter(), Counter(), []
    for _ in range(N_QUERIES):
        method, arguments, options = rng.choice(makers)(rng, sessions, frame)
        answers = [ask(each, method, arguments, options) for each in (theirs, ours)]
        asked[method] += 1
        theirs._cache["datasets"]["exists"] = True  # it forgets datasets whose file it did not find
        if same(*answers):
            continue
        if reason := is_wanted_difference(method, arguments, options, *answers, frame):
            wanted[reason] += 1
        else:
            wrong.append((method, arguments, options, *answers))
    ours.wildcards = True
    print(
        f"\n{sum(asked.values())} compared {dict(asked)}, {sum(wanted.values())} differ as wanted {dict(wanted)}, {len(wrong)} wrong"
    )
    assert not wrong, f"{len(wrong)} of {sum(asked.values())} differ, the first: {wrong[:3]}"

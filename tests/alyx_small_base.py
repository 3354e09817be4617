"""A small invented Alyx and what a day does to it: for tests that need no recordings.

The base is a model of plain facts (who has which id, and what belongs to whom); `render` writes the rows that Alyx
would show of it, names inside other rows included, so that a rename changes what a rename changes.
"""

from __future__ import annotations

import copy
from typing import Any

from alyx_rows import ORIGIN, Base, made_uuid, own_openapi, parameters_of

Facts = dict[str, dict[str, dict[str, Any]]]

LONG_TEXT = "Ünïcødé 実験 🐭\r\n\tline two, " * 400
DEEP_COLLECTION = "/".join(f"level{n:02d}" for n in range(30))
WEIGHED = {7: "twin a", 8: "twin b", 9: "twin b"}
"""By its number, whose a weighing is, and a restriction of water on that day; all others are of one mouse."""
DAY1, DAY2 = "2026-03-04T05:06:07.000008", "2026-03-05T01:02:03.456789"


def small_days(n_sessions: int = 24, n_datasets: int = 4) -> list[Base]:
    """Return the base before and after a day of changes."""
    before = facts(n_sessions, n_datasets)
    after = copy.deepcopy(before)
    a_day_passes(after)
    return [render(before), render(after)]


def small_base() -> Base:
    """Return the base of the first day alone."""
    return small_days()[0]


def surgery(procedure):
    """A surgery as Alyx shows it: with ids where other records have names."""
    return {
        "id": made_uuid("surgery"), "subject": "NL_001", "lab": made_uuid("labs:north"),
        "location": made_uuid("locations:rig_1"), "users": [made_uuid("users:ada")], "procedures": [procedure],
        "name": "craniotomy", "narrative": "", "start_time": "2026-01-02T03:04:05", "end_time": None,
        "outcome_type": "r", "implant_weight": 0.0, "json": None,
    }  # fmt: skip


def facts(n_sessions: int, n_datasets: int) -> Facts:
    """Return what is known on the first day, by kind and a name of ours that never changes."""
    labs = {"north": {"name": "northlab"}, "south": {"name": "southlab"}}
    users = {name: {"username": name} for name in ("ada", "émile", "grace")}
    subjects = {
        "mouse": {"nickname": "NL_001", "lab": "north", "user": "ada", "description": LONG_TEXT},
        "unicode": {"nickname": "Mäuschen_01", "lab": "north", "user": "émile"},
        "twin a": {"nickname": "TWIN_01", "lab": "north", "user": None},
        "twin b": {"nickname": "TWIN_01", "lab": "south", "user": "grace"},
        "moving": {"nickname": "SL_007", "lab": "south", "user": "grace"},
    }
    names = list(subjects)
    sessions = {
        f"s{n}": {
            "subject": names[n % len(names)],
            "start_time": f"2026-02-{n % 27 + 1:02d}T14:15:{n % 60:02d}.000250",
            "number": n // 27 + 1,
            "auto": DAY1.replace(":07.", f":{n % 50:02d}."),
            "projects": ["probes"],
            "users": ["ada", "émile"],
            "narrative": LONG_TEXT if n == 1 else "",
            "json": {"bare.key ü": [1, None, {"deep": True}]} if n == 2 else None,
            "qc": "PASS",
            "n_trials": 100 + n,
        }
        for n in range(n_sessions)
    }
    sessions["base"] = {**sessions["s0"], "start_time": None, "number": None, "json": "a bare string", "users": []}
    datasets, files = {}, {}
    for session in sessions:
        for n in range(n_datasets):
            name = f"{session}/{n}"
            datasets[name] = {
                "session": session,
                "name": ["spikes.times.npy", "_ibl_trials.table.pqt", "licks été.times.npy"][n % 3],
                "collection": DEEP_COLLECTION if n == 3 else "alf/probe00",
                "revision": "2025-06-01" if n == 2 else "",
                "size": [None, 0, 5 * 2**32, 1234][n % 4],
                "hash": ["", "d41d8cd98f00b204e9800998ecf8427e"][n % 2],
                "auto": sessions[session]["auto"],
                "tags": ["paper"] if n == 1 else [],
                "qc": "NOT_SET",
                "version": "1",
            }
            for repository in ("flatiron", "local") if n else ("flatiron",):
                files[f"{name}@{repository}"] = {"dataset": name, "repository": repository, "exists": n != 3}
    # Nothing makes session, collection, revision and name unique.
    datasets["s0/again"] = {**datasets["s0/0"], "hash": "0" * 40, "version": "2"}
    files["s0/again@flatiron"] = {"dataset": "s0/again", "repository": "flatiron", "exists": True}
    datasets["aggregate"] = {**datasets["s0/0"], "session": None, "revision": ""}
    datasets["aggregate"]["collection"] = "Subjects/northlab/NL_001"
    files["aggregate@flatiron"] = {"dataset": "aggregate", "repository": "flatiron", "exists": True}
    for name, record in files.items():
        record["path"] = _path(sessions, subjects, datasets[record["dataset"]], name)
    weighings = {
        f"w{n}": {
            "subject": WEIGHED.get(n, "mouse"),
            "date_time": f"2026-02-{n + 1:02d}T09:00:00",
            "weight": 20.5 + n / 4,
        }
        for n in range(20)
    }
    projects = {"probes": "chronic probes (long term)", "wide": "brainwide", "study": "Étude_μ", "habits": "habits"}
    return {
        "labs": labs,
        "users": users,
        "projects": {key: {"name": name} for key, name in projects.items()},
        "subjects": subjects,
        "weighings": weighings,
        "sessions": sessions,
        "datasets": datasets,
        "files": files,
        "repositories": {name: {"name": f"{name}_north", "url": _url(name)} for name in ("flatiron", "local")},
        "tags": {"paper": {"name": "2026_Q1_été", "protected": False}},
        "insertions": {"p0": {"session": "s0", "name": "probe00", "auto": DAY1, "json": {"qc": "PASS"}}},
        "trajectories": {"t0": {"insertion": "p0", "datetime": DAY1, "x": 746.25}},
        "regions": {n: {"acronym": f"R{n}", "parent": n - 1 if n else None} for n in (0, 1, 2, 3, 9)},
        "channels": {f"c{n}": {"trajectory": "t0", "axial": 20.0 * n, "brain_region": n} for n in range(4)},
        "notes": {"n0": {"session": "s0", "text": "=== électrode cassée ==="}},
    }


def a_day_passes(day: Facts) -> None:
    """Change the facts as a day does: what a stamp shows, and what none does."""
    stamped = {"auto": DAY2}
    day["sessions"]["new"] = {**day["sessions"]["s0"], "start_time": "2026-03-04T23:59:59.999999", **stamped}
    day["datasets"]["new/0"] = {**day["datasets"]["s0/0"], "session": "new", **stamped}
    day["files"]["new/0@local"] = {
        "dataset": "new/0", "repository": "local", "exists": True, "path": "NL_001/2026-03-04/001/spikes.times.npy"
    }  # fmt: skip
    day["datasets"]["s1/0"].update(hash="f" * 32, size=77, **stamped)
    day["datasets"]["s1/1"].update(name="renamed.table.pqt", collection="alf/moved", **stamped)
    day["sessions"]["s1"].update(start_time="2026-02-02T14:15:02.000250", qc="CRITICAL", number=7, **stamped)
    # from here on without a stamp
    day["subjects"]["mouse"]["nickname"] = "NL_001_renamed"
    day["subjects"]["moving"]["lab"] = "north"
    day["subjects"]["unicode"]["description"] = "état: bon"
    day["subjects"]["born"] = {"nickname": "NL_050", "lab": "north", "user": "ada"}
    day["projects"]["probes"]["name"] = "chronic_probes"
    day["users"]["grace"]["username"] = "grace_h"
    day["tags"]["paper"]["protected"] = True
    day["datasets"]["s2/0"]["tags"] = ["paper"]
    day["repositories"]["flatiron"]["url"] = _url("moved")
    day["files"]["s2/1@local"]["exists"] = False
    del day["files"]["s2/2@local"]
    day["weighings"]["w0"]["weight"] = 33.25
    day["weighings"]["late"] = {"subject": "mouse", "date_time": "2025-12-24T09:00:00", "weight": 19.0}
    del day["weighings"]["w1"]
    day["notes"]["n1"] = {"session": "s1", "text": "a new note"}
    day["channels"]["c1"]["brain_region"] = 9
    day["trajectories"]["t0"]["datetime"] = DAY2
    # a session goes, and takes its datasets and files along
    del day["sessions"]["s3"]
    day["datasets"] = {name: d for name, d in day["datasets"].items() if d["session"] != "s3"}
    day["files"] = {name: record for name, record in day["files"].items() if record["dataset"] in day["datasets"]}
    # and a dataset alone
    del day["datasets"]["s4/1"]
    day["files"] = {name: record for name, record in day["files"].items() if record["dataset"] != "s4/1"}


def _url(name: str) -> str:
    return "" if name == "local" else f"https://{name}.example.org/northlab/Subjects/"


def _path(sessions: dict, subjects: dict, dataset: dict[str, Any], name: str) -> str:
    """Return where a file lies; `again` and aggregates get folders of their own, as paths are unique in Alyx."""
    session = sessions.get(dataset["session"])
    date, number = ((session["start_time"] or "")[:10] or "nodate", session["number"] or 0) if session else ("", 0)
    place = f"{subjects[session['subject']]['nickname']}/{date}/{number:03d}" if session else "aggregates"
    if (session and session["start_time"] is None) or "again" in name:
        place += "/" + name.split("@")[0].replace("/", "_")
    revision = f"#{dataset['revision']}#/" if dataset["revision"] else ""
    return f"{place}/{dataset['collection']}/{revision}{dataset['name']}".replace("//", "/")


def render(day: Facts) -> Base:
    """Return the rows that Alyx shows of the facts."""
    base = Base()
    base.openapi = own_openapi()
    base.parameters = parameters_of(base.openapi)
    show = {
        "labs": _labs, "users": _users, "projects": _projects, "locations": _reference, "subjects": _subjects,
        "weighings": _weighings, "sessions": _sessions, "datasets": _datasets, "files": _files,
        "insertions": _insertions, "trajectories": _trajectories, "channels": _channels, "notes": _notes,
        "brain-regions": _regions,
    }  # fmt: skip
    for write in show.values():
        write(base, day)
    return base


def _id(kind: str, name: str | None) -> str | None:
    return made_uuid(f"{kind}:{name}") if name is not None else None


def _link(kind: str, name: str | None) -> str | None:
    return f"{ORIGIN}/{kind}/{_id(kind, name)}" if name is not None else None


def _labs(base: Base, day: Facts) -> None:
    for lab in day["labs"].values():
        base.put(
            "labs",
            {
                "name": lab["name"], "institution": "", "address": "", "timezone": "Europe/London",
                "repositories": [r["name"] for r in day["repositories"].values()] if lab["name"] == "northlab" else [],
                "reference_weight_pct": 0.0, "zscore_weight_pct": 0.8, "json": None,
            },
        )  # fmt: skip


def _users(base: Base, day: Facts) -> None:
    for key, user in day["users"].items():
        base.put(
            "users",
            {
                "id": _id("users", key), "username": user["username"], "email": f"{key}@lab.example",
                "subjects_responsible": [s["nickname"] for s in day["subjects"].values() if s["user"] == key],
                "lab": ["northlab"], "allowed_users": [], "is_stock_manager": False,
            },
        )  # fmt: skip


def _projects(base: Base, day: Facts) -> None:
    for project in day["projects"].values():
        users = [day["users"][name]["username"] for name in ("ada", "grace")]
        base.put("projects", {"name": project["name"], "description": "", "users": users})


def _reference(base: Base, day: Facts) -> None:
    """Write the tables of names."""
    base.put("locations", {"name": "rig_1", "lab": "northlab", "json": None})
    base.put("procedures", {"id": _id("procedures", "e"), "name": "Ephys", "json": None, "description": "line\r\ntwo"})
    base.put("water-type", {"url": f"{ORIGIN}/water-type/Water", "json": None, "name": "Water"})
    base.put("data-repository-type", {"url": f"{ORIGIN}/data-repository-type/Disk", "json": "", "name": "Disk"})
    base.put("revisions", {"id": _id("revisions", "r"), "json": None, "name": "2025-06-01", "description": None,
                           "created_datetime": "2025-06-01T00:00:00"})  # fmt: skip
    for name, extension in {"npy": ".npy", "pqt": ".pqt"}.items():
        base.put("data-formats", {"id": _id("data-formats", name), "json": None, "name": name, "description": "",
                                  "file_extension": extension, "matlab_loader_function": "",
                                  "python_loader_function": ""})  # fmt: skip
    for name in ("spikes.times", "trials.table", "licks.times"):
        base.put("dataset-types", {"id": _id("dataset-types", name), "name": name, "created_by": None,
                                   "description": "", "filename_pattern": f"*{name}*"})  # fmt: skip
    for key, repository in day["repositories"].items():
        base.put(
            "data-repository",
            {
                "name": repository["name"], "timezone": "UTC", "globus_path": "/northlab/Subjects/", "hostname": "",
                "data_url": repository["url"] or None, "repository_type": "Disk", "globus_endpoint_id": None,
                "globus_is_personal": key == "local", "json": None,
            },
        )  # fmt: skip
    for key, tag in day["tags"].items():
        base.put("tags", {"id": _id("tags", key), "json": None, "description": "", "public": True, "hash": None, **tag})


def _subjects(base: Base, day: Facts) -> None:
    for key, subject in day["subjects"].items():
        shown = {
            "nickname": subject["nickname"], "url": f"{ORIGIN}/subjects/{subject['nickname']}",
            "id": _id("subjects", key),
            "responsible_user": day["users"][subject["user"]]["username"] if subject["user"] else None,
            "birth_date": "2025-11-01", "age_weeks": 17, "death_date": None, "species": "Laboratory mouse", "sex": "F",
            "litter": None, "strain": "C57BL/6J", "source": None, "line": None,
            "projects": [day["projects"][name]["name"] for name in ("wide", "probes")], "session_projects": [],
            "lab": day["labs"][subject["lab"]]["name"], "genotype": ["Ai14 +"],
            "description": subject.get("description", ""), "alive": True, "reference_weight": 0,
            "last_water_restriction": None, "expected_water": 0.0, "remaining_water": 0.0, "json": None,
        }  # fmt: skip
        details = {"genotype": [{"allele": "Ai14", "zygosity": 3}], "weighings": [], "water_administrations": []}
        base.put("subjects", shown, {**shown, **details})


def _weighings(base: Base, day: Facts) -> None:
    for key, weighing in day["weighings"].items():
        nickname = day["subjects"][weighing["subject"]]["nickname"]
        owner = _id("subjects", weighing["subject"])
        base.put("weighings", {"subject": nickname, "date_time": weighing["date_time"], "weight": weighing["weight"],
                               "user": "ada", "url": _link("weighings", key)}, owner=owner)  # fmt: skip
        if weighing["subject"] in WEIGHED.values():
            base.put("water-restriction", {"subject": nickname, "start_time": weighing["date_time"], "end_time": None,
                                           "water_type": "Water", "reference_weight": 20.0}, owner=owner)  # fmt: skip


def _session_info(day: Facts, key: str) -> dict[str, Any]:
    session = day["sessions"][key]
    subject = day["subjects"][session["subject"]]
    return {
        "id": _id("sessions", key), "subject": subject["nickname"], "start_time": session["start_time"],
        "number": session["number"], "lab": day["labs"][subject["lab"]]["name"],
        "projects": [day["projects"][name]["name"] for name in session["projects"]],
        "task_protocol": "_iblrig_tasks_ephysChoiceWorld7.0.1",
    }  # fmt: skip


def _sessions(base: Base, day: Facts) -> None:
    for key, session in day["sessions"].items():
        shown = {**_session_info(day, key), "url": _link("sessions", key)}
        detail = {
            **{name: value for name, value in shown.items() if name != "id"},
            "users": [day["users"][name]["username"] for name in session["users"]], "location": "rig_1",
            "procedures": ["Ephys"], "type": "Experiment", "end_time": None, "narrative": session["narrative"],
            "parent_session": None, "n_correct_trials": None, "n_trials": session["n_trials"], "extended_qc": None,
            "qc": session["qc"], "wateradmin_session_related": [], "data_dataset_session_related": [],
            "auto_datetime": session["auto"], "probe_insertion": [], "field_of_view": [], "notes": [],
            "id": shown["id"], "json": session["json"],
        }  # fmt: skip
        base.put("sessions", shown, detail)


def _data_url(day: Facts, record: dict[str, Any]) -> str | None:
    root = day["repositories"][record["repository"]]["url"]
    stem, _, extension = record["path"].rpartition(".")
    return f"{root}{stem}.{_id('datasets', record['dataset'])}.{extension}" if root else None


def _datasets(base: Base, day: Facts) -> None:
    for key, dataset in day["datasets"].items():
        tags = [day["tags"][name] for name in dataset["tags"]]
        records = [
            {
                "id": _id("files", name), "data_repository": day["repositories"][record["repository"]]["name"],
                "data_repository_path": "/northlab/Subjects/", "relative_path": record["path"],
                "data_url": _data_url(day, record), "exists": record["exists"],
            }
            for name, record in day["files"].items() if record["dataset"] == key
        ]  # fmt: skip
        object_name, attribute, extension = dataset["name"].removeprefix("_ibl_").split(".")[-3:]
        base.put(
            "datasets",
            {
                "url": _link("datasets", key), "name": dataset["name"], "created_by": day["users"]["grace"]["username"],
                "created_datetime": "2026-02-10T10:11:12", "data_format": extension,
                "dataset_type": {"spikes": "spikes.times", "trials": "trials.table", "renamed": "trials.table"}.get(
                    object_name, "licks.times"
                ),
                "collection": dataset["collection"], "session": _link("sessions", dataset["session"]),
                "file_size": dataset["size"], "hash": dataset["hash"], "version": dataset["version"],
                "experiment_number": 1, "file_records": records, "auto_datetime": dataset["auto"],
                "revision": dataset["revision"], "default_dataset": True,
                "protected": sum(tag["protected"] for tag in tags), "public": len(tags),
                "tags": [tag["name"] for tag in tags], "qc": dataset["qc"], "json": None,
            },
        )  # fmt: skip


def _files(base: Base, day: Facts) -> None:
    for key, record in day["files"].items():
        base.put(
            "files",
            {
                "url": _link("files", key), "dataset": _link("datasets", record["dataset"]),
                "data_repository": day["repositories"][record["repository"]]["name"], "name": "", "json": None,
                "relative_path": record["path"], "exists": record["exists"],
            },
        )  # fmt: skip


def _insertions(base: Base, day: Facts) -> None:
    for key, insertion in day["insertions"].items():
        base.put(
            "insertions",
            {
                "id": _id("insertions", key), "session": _id("sessions", insertion["session"]), "model": "3B2",
                "session_info": _session_info(day, insertion["session"]), "name": insertion["name"],
                "json": insertion["json"], "serial": "1800", "auto_datetime": insertion["auto"],
                "chronic_insertion": None, "datasets": [],
            },
        )  # fmt: skip


def _trajectories(base: Base, day: Facts) -> None:
    for key, trajectory in day["trajectories"].items():
        insertion = day["insertions"][trajectory["insertion"]]
        base.put(
            "trajectories",
            {
                "id": _id("trajectories", key), "probe_insertion": _id("insertions", trajectory["insertion"]),
                "x": trajectory["x"], "y": -1621.5, "z": None, "depth": 4528.0, "theta": 15.0, "phi": 180.0,
                "roll": 0.0, "provenance": "Ephys aligned histology track",
                "session": _session_info(day, insertion["session"]), "probe_name": insertion["name"],
                "coordinate_system": None, "datetime": trajectory["datetime"], "json": None, "chronic_insertion": None,
            },
        )  # fmt: skip


def _channels(base: Base, day: Facts) -> None:
    for key, channel in day["channels"].items():
        base.put(
            "channels",
            {
                "id": _id("channels", key), "trajectory_estimate": _id("trajectories", channel["trajectory"]),
                "brain_region": channel["brain_region"], "name": "", "json": None, "axial": channel["axial"],
                "lateral": 43.0, "x": -433.5, "y": -1804.25, "z": 0.0,
            },
        )  # fmt: skip


def _regions(base: Base, day: Facts) -> None:
    for number, region in day["regions"].items():
        base.put(
            "brain-regions",
            {
                "id": number, "acronym": region["acronym"], "name": f"region {number}", "description": None,
                "parent": region["parent"], "related_descriptions": [],
            },
        )  # fmt: skip


def _notes(base: Base, day: Facts) -> None:
    for key, note in day["notes"].items():
        base.put(
            "notes",
            {
                "id": _id("notes", key), "user": "ada", "date_time": "2026-02-01T10:00:00",
                "content_type": "actions.session", "object_id": _id("sessions", note["session"]),
                "text": note["text"], "image": None, "json": None,
            },
        )  # fmt: skip

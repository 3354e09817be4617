"""The lab of eight sessions that the tests of ONE share: as files, as rows, and as ONE-api's cache tables.

s1 has everything (trials, wheel, video, raw files, odd formats, a file in the session's root), s4 spikes in two
probes with revisions, s6 trials in two collections, s8 no datasets; the names of the others are in `SESSIONS`.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import uuid
from pathlib import Path

import numpy as np
import pandas as pd

from labweave.database import upsert
from labweave.schemas import dataset, lab, session, subject

EIDS = {f"s{n}": f"5e55{n:04d}-{n:04d}-4{n:03d}-8{n:03d}-{n:012d}" for n in range(1, 9)}
S1, S2, S3, S4, S5, S6, S7, S8 = EIDS.values()
UNKNOWN = S1[:-1] + "9"
"""s1's eid with its last digit changed."""
PIDS = {"probe00": "9b0be000-0000-4000-8000-000000000000", "probe01": "9b0be001-0001-4001-8001-000000000001"}
"""Insertions of s4."""
NAMESPACE = uuid.UUID("6c1e8b52-3f57-3d0c-9d3d-6c2a3c4f5e61")
SERVER = "lab_server"
DATA_URL = "http://data.example.org/files"
HOT, OLD = "2024-05-06", "2022-01-01"
"""Revisions of s4's pykilosort; the first is the default."""

# eid, lab, subject, date, number, start, protocol, projects, users, correct, trials, location
_SESSIONS = (
    (S1, "mainenlab", "ZM_1150", "2019-05-07", 1, "10:00:00", "_iblrig_tasks_trainingChoiceWorld3.7.6", ["brainwide"], ["olivier"], 80, 100, "rig_1"),
    (S2, "mainenlab", "ZM_1150", "2019-05-07", 2, "14:30:00.5", "_iblrig_tasks_biasedChoiceWorld3.7.6", ["brainwide"], ["ines", "olivier"], 50, 100, "rig_1"),
    (S3, "mainenlab", "ZM_11", "2019-05-08", 1, "09:00:00", "_iblrig_tasks_habituationChoiceWorld3.7.6", ["practice"], ["olivier"], None, None, "rig_2"),
    (S4, "cortexlab", "KS005", "2019-04-11", 1, "11:00:00", "_iblrig_tasks_ephysChoiceWorld6.4.2", ["brainwide", "practice"], ["olivier"], 390, 400, "ephys_rig"),
    (S5, "cortexlab", "ks005b", "2019-04-12", 1, "08:15:00", "passiveChoiceWorld", [], ["ines"], None, None, "ephys_rig"),
    (S6, "zadorlab", "flowers", "2018-07-13", 1, "16:00:00", "_iblrig_tasks_biasedChoiceWorld3.4.0", [], ["olivier"], None, None, ""),
    (S7, "churchland_ucla", "SWC-043.2", "2020-06-20", 10, "12:00:00", "trainingphaseChoiceWorld", ["practice"], ["olivier"], None, None, "rig_9"),
    (S8, "cortexlab", "KS005", "2019-04-11", 2, "15:00:00", "", [], ["olivier"], None, None, "ephys_rig"),
)  # fmt: skip
SESSIONS = pd.DataFrame(
    _SESSIONS,
    columns=[
        "eid",
        "lab",
        "subject",
        "date",
        "number",
        "start",
        "protocol",
        "projects",
        "users",
        "correct",
        "trials",
        "location",
    ],
).set_index("eid", drop=False)
SESSIONS["path"] = [f"{s.lab}/Subjects/{s.subject}/{s.date}/{s.number:03d}" for s in SESSIONS.itertuples()]
QC_OF = {
    (S1, "_ibl_trials.table.pqt"): "CRITICAL",
    (S1, "_ibl_trials.choice.npy"): "FAIL",
    (S1, "_ibl_wheel.position.npy"): "WARNING",
    (S1, "_ibl_trials.intervals.npy"): "PASS",
}
QC_ORDER = ["NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"]


def _trials(n: int, rng: np.random.Generator) -> dict[str, object]:
    start = np.cumsum(rng.uniform(1, 4, n))
    return {
        "_ibl_trials.choice.npy": rng.integers(-1, 2, n).astype(float),
        "_ibl_trials.intervals.npy": np.c_[start, start + 0.9],
        "_ibl_trials.goCue_times.npy": start + 0.1,
        "_ibl_trials.feedbackType.npy": rng.choice([-1.0, 1.0], n),
        "_ibl_trials.itiDuration.npy": rng.uniform(0, 1, n - 1),
    }


def _wheel(n: int, rng: np.random.Generator) -> dict[str, object]:
    return {
        "_ibl_wheel.position.npy": np.cumsum(rng.normal(0, 0.01, n)),
        "_ibl_wheel.timestamps.npy": np.array([[0.0, 5.0], [n - 1.0, 5.0 + n / 100]]),
    }


def _spikes(n: int, rng: np.random.Generator) -> dict[str, object]:
    return {
        "spikes.times.npy": np.sort(rng.uniform(0, 60, n)),
        "spikes.clusters.npy": rng.integers(0, 12, n),
        "spikes.amps.npy": rng.random(n),
        "clusters.channels.npy": rng.integers(0, 16, 12),
        "clusters.depths.npy": rng.random(12),
        "channels.localCoordinates.npy": rng.random((16, 2)),
    }


def _below(folder: str, files: dict[str, object]) -> dict[str, object]:
    return {f"{folder}/{name}": content for name, content in files.items()}


@functools.cache
def contents() -> dict[str, dict[str, object]]:
    """Return eid -> relative path -> array, frame or bytes; the same every time."""
    rng = np.random.default_rng(1)
    start = np.cumsum(rng.uniform(1, 4, 100))
    table = pd.DataFrame(
        {
            "intervals_0": start,
            "intervals_1": start + 0.9,
            "goCue_times": start + 0.1,
            "choice": rng.integers(-1, 2, 100).astype(float),
        }
    )
    trials = _trials(100, rng)
    s1 = {
        **_below("alf", {"_ibl_trials.table.pqt": table, **trials}),
        "alf/_ibl_trials.goCue_times_bpod.npy": np.asarray(trials["_ibl_trials.goCue_times.npy"]) + 7,
        "alf/_ibl_trials.contrastLeft.npy": rng.choice([0, 0.25, 1], 100),
        "alf/_ibl_trials.probabilityLeft.npy": rng.choice([0.2, 0.5, 0.8], 100),
        **_below("alf", _wheel(3000, rng)),
        "alf/_ibl_wheelMoves.intervals.npy": np.sort(rng.uniform(0, 30, 40)).reshape(20, 2),
        "alf/_ibl_wheelMoves.peakAmplitude.npy": rng.random(20),
        "alf/licks.times.npy": np.sort(rng.uniform(0, 30, 55)),
        "alf/_ibl_leftCamera.times.npy": np.arange(260) / 60,
        "alf/_ibl_leftCamera.dlc.pqt": pd.DataFrame(rng.random((250, 3)), columns=["paw_x", "paw_y", "paw_likelihood"]),
        "alf/_ibl_leftCamera.features.pqt": pd.DataFrame({"pupilDiameter_raw": rng.random(250)}),
        "alf/leftCamera.ROIMotionEnergy.npy": rng.random(250),
        "raw_behavior_data/_iblrig_taskData.raw.jsonable": b'{"trial": 0}\n{"trial": 1}\n',
        "raw_behavior_data/_iblrig_taskSettings.raw.json": b'{"PYBPOD_BOARD": "box_1"}',
        "raw_video_data/_iblrig_leftCamera.raw.mp4": bytes(64),
        "odd/empty.file.npy": b"",
        "odd/broken.settings.json": b'{"a": ',
        "odd/obj.text.txt": b"some text\n",
        "odd/odd.columns.tsv": b"a\tb\n1\t2\n3\t4\n",
        "odd/odd.single.csv": b"a\n1\n2\n",
        "odd/odd.values.yaml": b"a: [1, 2]\n",
        "root.file.npy": np.arange(4),
    }
    probe0, sorted0 = _spikes(200, rng), _spikes(200, rng)
    newer = {name: content for name, content in _spikes(150, rng).items() if name.startswith("spikes.")}
    newer = {**newer, "clusters.channels.npy": rng.integers(0, 16, 12)}
    s4 = {
        **_below("alf", _trials(400, rng)),
        "alf/_av_trials.choice.npy": rng.integers(0, 2, 400).astype(float),
        **_below("alf", _wheel(500, rng)),
        **_below("alf/probe00", probe0),
        **_below("alf/probe01", _spikes(120, rng)),
        **_below("alf/probe00/pykilosort", sorted0),
        f"alf/probe00/pykilosort/#{OLD}#/spikes.times.npy": np.sort(rng.uniform(0, 60, 10)),
        **_below(f"alf/probe00/pykilosort/#{HOT}#", newer),
    }
    return {
        S1: s1,
        S2: _below("alf", _trials(100, rng)),
        S3: {
            "raw_behavior_data/_iblrig_taskData.raw.jsonable": b'{"trial": 0}\n',
            "raw_behavior_data/_iblrig_taskSettings.raw.json": b"{}",
        },
        S4: s4,
        S5: {"raw_behavior_data/_iblrig_taskSettings.raw.json": b"{}", "alf/passiveGabor.times.npy": np.arange(6.0)},
        S6: {**_below("alf", _trials(3, rng)), **_below("alf/task_00", _trials(5, rng))},
        S7: _below("alf", _trials(20, rng)),
        S8: {},
    }


def write_files(root: Path) -> None:
    """Write every file below ``root/lab/Subjects/subject/date/number``."""
    for eid, files in contents().items():
        folder = root / SESSIONS.path[eid]
        folder.mkdir(parents=True, exist_ok=True)
        for relative_path, content in files.items():
            path = folder / relative_path
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, pd.DataFrame):
                content.to_parquet(path)
            else:
                np.save(path, np.asarray(content))


@functools.cache
def _datasets(root: Path) -> pd.DataFrame:
    rows = []
    for eid, files in contents().items():
        for relative_path in files:
            path = root / SESSIONS.path[eid] / relative_path
            folder, _, name = relative_path.rpartition("/")
            collection, _, revision = folder.partition("#")
            words = name.removesuffix(path.suffix).removeprefix("_ibl_").removeprefix("_av_")
            newest = f"{folder}/#{HOT}#/{name}" in files
            rows.append(
                {
                    "dataset_id": str(uuid.uuid3(NAMESPACE, f"{eid}/{relative_path}")),
                    "eid": eid,
                    "relative_path": relative_path,
                    "collection": collection.rstrip("/"),
                    "revision": revision.rstrip("#") or None,
                    "dataset_name": name,
                    "dataset_type": words,
                    "data_format": path.suffix.removeprefix("."),
                    "file_size": path.stat().st_size,
                    "hash": hashlib.md5(path.read_bytes()).hexdigest(),
                    "dataset_qc": QC_OF.get((eid, name), "NOT_SET"),
                    "is_default": not newest and f"#{OLD}#" not in relative_path,
                    "version": "1.6.2",
                }
            )
    return pd.DataFrame(rows)


def datasets(root: Path) -> pd.DataFrame:
    """Return one row per file that `write_files` wrote, with the columns of the table Dataset."""
    return _datasets(root).copy()


def fill(root: Path | None = None, *, files: pd.DataFrame | None = None, local: str = "") -> None:
    """Put the lab into the open database.

    Parameters
    ----------
    root : Path
        Where `write_files` wrote.
    files : DataFrame
        Rows instead of those of `datasets`.
    local : str
        A repository of this machine with this root is added, too; without it the files have copies on
        `SERVER` alone, and are found where the cache folder is `root`.
    """
    rows = datasets(root) if files is None else files
    names = SESSIONS
    users, projects = sorted({u for s in names.users for u in s}), sorted({p for s in names.projects for p in s})
    upsert(lab.Lab, [{"lab": name, "lab_uuid": _id("lab", name)} for name in sorted(set(names.lab))])
    upsert(lab.LabMember, [{"user": name, "user_uuid": _id("user", name)} for name in users])
    upsert(lab.Project, [{"project": name} for name in projects])
    animals = sorted({(s.lab, s.subject) for s in names.itertuples()})
    upsert(
        subject.Subject, [{"lab": at, "subject": name, "subject_uuid": _id("subject", name)} for at, name in animals]
    )
    upsert(
        session.Session,
        [
            {
                "eid": s.eid,
                "lab": s.lab,
                "subject": s.subject,
                "session_date": s.date,
                "session_number": s.number,
                "start_time": f"{s.date} {s.start}",
                "task_protocol": s.protocol,
                "session_location": s.location,
                "n_trials": s.trials,
                "n_correct_trials": s.correct,
            }
            for s in names.itertuples()
        ],
    )
    upsert(session.SessionUser, [{"eid": s.eid, "user": user} for s in names.itertuples() for user in s.users])
    upsert(session.SessionProject, [{"eid": s.eid, "project": name} for s in names.itertuples() for name in s.projects])
    upsert(
        session.ProbeInsertion,
        [{"eid": S4, "probe_name": name, "pid": pid, "model": "3B2", "serial": "1911"} for name, pid in PIDS.items()],
    )
    upsert(dataset.Revision, [{"revision": name} for name in sorted(set(rows.revision.dropna()))])
    upsert(dataset.DatasetType, [{"dataset_type": name} for name in sorted(set(rows.dataset_type))])
    upsert(dataset.DataFormat, [{"data_format": name} for name in sorted(set(rows.data_format))])
    places = [{"repository": SERVER, "repository_kind": "server", "data_url": DATA_URL}]
    if local:
        places.append({"repository": "this_machine", "repository_kind": "personal", "root_path": local})
    upsert(dataset.Repository, places)
    columns = [name for name in rows.columns if name in dataset.Dataset.heading.names]
    upsert(dataset.Dataset, rows[columns].to_dict("records"))
    upsert(
        dataset.FileRecord,
        [
            {
                "file_record_id": _id(place["repository"], row.dataset_id),
                "dataset_id": row.dataset_id,
                "repository": place["repository"],
                "relative_path": f"{names.path[row.eid]}/{row.relative_path}",
                "present": True,
            }
            for place in places
            for row in rows.itertuples()
        ],
    )


def write_tables(root: Path, folder: Path | None = None, files: pd.DataFrame | None = None) -> None:
    """Write sessions.pqt, datasets.pqt and insertions.pqt, as ONE-api reads them, into `folder` (default: root)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = datasets(root) if files is None else files
    sessions = pd.DataFrame(
        {
            "id": SESSIONS.eid.to_numpy(),
            "lab": SESSIONS.lab.to_numpy(),
            "subject": SESSIONS.subject.to_numpy(),
            "date": [dt.date.fromisoformat(day) for day in SESSIONS.date],
            "number": SESSIONS.number.to_numpy(np.uint16),
            "task_protocol": SESSIONS.protocol.to_numpy(),
            "projects": [",".join(names) for names in SESSIONS.projects],
        }
    )
    frame = pd.DataFrame(
        {
            "eid": rows.eid.to_numpy(),
            "id": rows.dataset_id.to_numpy(),
            "rel_path": rows.relative_path.to_numpy(),
            "file_size": pd.array(rows.file_size.to_numpy(), dtype="UInt64"),
            "hash": rows.hash.to_numpy(),
            "exists": True,
            "default_revision": rows.is_default.to_numpy(),
            "qc": pd.Categorical(rows.dataset_qc, categories=QC_ORDER, ordered=True),
        }
    )
    insertions = pd.DataFrame(
        {"eid": S4, "id": list(PIDS.values()), "name": list(PIDS), "model": "3B2", "serial": "1911"}
    )
    metadata = {"one_metadata": json.dumps({"date_created": "2026-01-01 00:00", "origin": "test"}).encode()}
    for name, table, index in (
        ("sessions", sessions, ["id"]),
        ("datasets", frame, ["eid", "id"]),
        ("insertions", insertions, ["eid", "id"]),
    ):
        arrow = pa.Table.from_pandas(table.set_index(index).sort_index())
        pq.write_table(
            arrow.replace_schema_metadata({**metadata, **(arrow.schema.metadata or {})}),
            (folder or root) / f"{name}.pqt",
        )


def _id(*parts: str) -> str:
    return str(uuid.uuid3(NAMESPACE, "/".join(parts)))

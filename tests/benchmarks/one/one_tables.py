"""ONE-api's cache tables of a large lab that never was, and a few sessions with real files; the same every time.

python tests/benchmarks/one/one_tables.py FOLDER [SESSIONS]
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

PER_SESSION = 30
QC = pd.CategoricalDtype(["NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"], ordered=True)
QC_SHARES = [0.60, 0.25, 0.08, 0.05, 0.02]
LABS = (
    "angelakilab", "churchlandlab", "churchlandlab_ucla", "cortexlab", "danlab", "hoferlab", "mainenlab",
    "mrsicflogellab", "steinmetzlab", "wittenlab", "zadorlab", "hausserlab",
)  # fmt: skip
PROTOCOLS = [
    "_iblrig_tasks_habituationChoiceWorld", "_iblrig_tasks_trainingChoiceWorld", "_iblrig_tasks_biasedChoiceWorld",
    "_iblrig_tasks_ephysChoiceWorld", "passiveChoiceWorld", "_iblrig_tasks_spontaneous",
]  # fmt: skip
VERSIONS = ["3.7.6", "5.4.1", "6.4.2", "7.2.3", "8.0.0"]
PROJECTS = [
    "ibl_neuropixel_brainwide_01", "practice", "psychedelics", "witten_learning_dop", "churchland_learning_choices",
    "u19_proj3",
]  # fmt: skip
REVISION = "2024-05-06"
BEHAVIOUR = [
    "alf/_ibl_trials.table.pqt", "alf/_ibl_trials.goCueTrigger_times.npy", "alf/_ibl_trials.stimOff_times.npy",
    "alf/_ibl_trials.laserStimulation.npy", "alf/_ibl_wheel.position.npy", "alf/_ibl_wheel.timestamps.npy",
    "alf/_ibl_wheelMoves.intervals.npy", "alf/_ibl_wheelMoves.peakAmplitude.npy",
    "raw_behavior_data/_iblrig_taskData.raw.jsonable", "raw_behavior_data/_iblrig_taskSettings.raw.json",
]  # fmt: skip
SPIKES = (
    "spikes.times.npy", "spikes.clusters.npy", "spikes.amps.npy", "spikes.depths.npy", "clusters.channels.npy",
    "clusters.metrics.pqt", "channels.localCoordinates.npy",
)  # fmt: skip
OTHERS = [
    *(f"alf/{probe}/pykilosort/{name}" for probe in ("probe00", "probe01") for name in SPIKES),
    *(f"alf/_ibl_{side}Camera.{what}" for side in ("left", "right", "body") for what in ("times.npy", "dlc.pqt", "features.pqt")),
    *(f"alf/widefield/extra{i:02d}.values.npy" for i in range(40)),
]  # fmt: skip


def write_large(folder: Path, n_sessions: int) -> None:
    """Write tables of sessions with 30 datasets each: what every session has, and some of what many have."""
    rng = np.random.default_rng(0)
    sessions = make_sessions(rng, n_sessions)
    _write(folder, sessions, make_datasets(rng, sessions.id.to_numpy()))


def write_files(folder: Path, n_sessions: int = 4, n_trials: int = 500, n_spikes: int = 200_000) -> None:
    """Write the files of sessions of usual size, and the tables that tell of them."""
    rng = np.random.default_rng(0)
    sessions, rows = make_sessions(rng, n_sessions), []
    for one in sessions.itertuples():
        place = folder / one.lab / "Subjects" / one.subject / str(one.date) / f"{one.number:03d}"
        for rel_path, values in session_files(rng, n_trials, n_spikes).items():
            path = place / rel_path
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(values, pd.DataFrame):
                values.to_parquet(path)
            else:
                np.save(path, values)
            rows.append((one.id, rel_path, path.stat().st_size, hashlib.md5(path.read_bytes()).hexdigest()))
    frame = pd.DataFrame(rows, columns=["eid", "rel_path", "file_size", "hash"])
    frame.insert(1, "id", make_uuids(rng, len(frame)))
    qc = pd.Categorical.from_codes(np.zeros(len(frame), dtype=int), dtype=QC)
    _write(folder, sessions, frame.assign(exists=True, default_revision=True, qc=qc).astype({"file_size": "UInt64"}))


def make_uuids(rng: np.random.Generator, n: int) -> list[str]:
    """Return UUIDs of version 4."""
    raw = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    raw[:, 6] = (raw[:, 6] & 0x0F) | 0x40
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    digits = raw.tobytes().hex()
    each = (digits[at : at + 32] for at in range(0, 32 * n, 32))
    return [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in each]


def make_sessions(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """Return sessions: about 60 of a subject, one a day, on every sixth day two."""
    n_subjects = max(3, n // 60)
    lab_of = rng.integers(0, len(LABS), n_subjects)
    names = np.array([f"{LABS[k][:3].upper()}_{i:04d}" for i, k in enumerate(lab_of)], dtype=object)
    subject = np.sort(rng.integers(0, n_subjects, n))
    nth = np.arange(n) - np.searchsorted(subject, subject)
    is_second = nth % 7 == 6
    days = rng.integers(0, 1200, n_subjects)[subject] + nth - nth // 7 - is_second
    chosen = zip(rng.integers(0, len(PROTOCOLS), n), rng.integers(0, len(VERSIONS), n), strict=True)
    first, second = rng.integers(0, len(PROJECTS), (2, n))
    return pd.DataFrame(
        {
            "id": make_uuids(rng, n),
            "lab": np.array(LABS, dtype=object)[lab_of[subject]],
            "subject": names[subject],
            "date": [dt.date(2018, 1, 1) + dt.timedelta(days=int(day)) for day in days],
            "number": is_second.astype(np.uint16) + np.uint16(1),
            "task_protocol": [PROTOCOLS[i] + VERSIONS[k] for i, k in chosen],
            "projects": [
                PROJECTS[a] if a == b or b > 3 else f"{PROJECTS[a]},{PROJECTS[b]}"
                for a, b in zip(first, second, strict=True)
            ],
        }
    )


def make_datasets(rng: np.random.Generator, eids: np.ndarray) -> pd.DataFrame:
    """Return the datasets of sessions; one in fifty has a newer revision, which is the default."""
    n_others = PER_SESSION - len(BEHAVIOUR)
    paths = [
        path
        for _ in eids
        for path in (*BEHAVIOUR, *(OTHERS[k] for k in rng.choice(len(OTHERS), n_others, replace=False)))
    ]
    n = len(paths)
    is_default = np.ones(n, dtype=bool)
    revised = np.flatnonzero(rng.random(n) < 0.02)
    for k in revised[revised % PER_SESSION > 0]:
        place, _, name = paths[k - 1].rpartition("/")
        if "#" not in place:
            paths[k], is_default[k - 1] = f"{place}/#{REVISION}#/{name}", False
    digits = rng.integers(0, 256, (n, 16), dtype=np.uint8).tobytes().hex()
    return pd.DataFrame(
        {
            "eid": np.repeat(eids, PER_SESSION),
            "id": make_uuids(rng, n),
            "rel_path": paths,
            "file_size": pd.array(rng.integers(1_000, 10**8, n), dtype="UInt64"),
            "hash": [digits[at : at + 32] for at in range(0, 32 * n, 32)],
            "exists": True,
            "default_revision": is_default,
            "qc": pd.Categorical.from_codes(rng.choice(len(QC_SHARES), n, p=QC_SHARES), dtype=QC),
        }
    )


def session_files(rng: np.random.Generator, n_trials: int, n_spikes: int) -> dict[str, np.ndarray | pd.DataFrame]:
    """Return the contents of one session, by relative path."""
    start = np.cumsum(rng.uniform(1, 4, n_trials))
    n_wheel, n_clusters, n_channels = 400 * n_trials, 300, 384
    trials = pd.DataFrame(
        {
            "intervals_0": start,
            "intervals_1": start + 0.9,
            "goCue_times": start + 0.1,
            "choice": rng.integers(-1, 2, n_trials).astype(float),
            "feedbackType": rng.choice([-1.0, 1.0], n_trials),
            "contrastLeft": rng.choice([0, 0.25, 1], n_trials),
            "contrastRight": np.full(n_trials, np.nan),
            "probabilityLeft": rng.choice([0.2, 0.5, 0.8], n_trials),
        }
    )
    probe = "alf/probe00/pykilosort"
    return {
        "alf/_ibl_trials.table.pqt": trials,
        "alf/_ibl_trials.stimOff_times.npy": start + 0.8,
        "alf/_ibl_trials.goCueTrigger_times.npy": start + 0.09,
        "alf/_ibl_wheel.position.npy": np.cumsum(rng.normal(0, 0.01, n_wheel)),
        "alf/_ibl_wheel.timestamps.npy": np.array([[0, 5.0], [n_wheel - 1, 5 + n_wheel / 100]]),
        f"{probe}/spikes.times.npy": np.sort(rng.uniform(0, 3600, n_spikes)),
        f"{probe}/spikes.clusters.npy": rng.integers(0, n_clusters, n_spikes),
        f"{probe}/spikes.amps.npy": rng.random(n_spikes),
        f"{probe}/spikes.depths.npy": rng.random(n_spikes) * 3840,
        f"{probe}/clusters.channels.npy": rng.integers(0, n_channels, n_clusters),
        f"{probe}/clusters.depths.npy": rng.random(n_clusters) * 3840,
        f"{probe}/channels.localCoordinates.npy": rng.random((n_channels, 2)),
    }


def _write(folder: Path, sessions: pd.DataFrame, datasets: pd.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {b"one_metadata": json.dumps({"date_created": "2026-01-01 00:00", "origin": "generated"}).encode()}
    for name, frame in (
        ("sessions", sessions.set_index("id").sort_index()),
        ("datasets", datasets.set_index(["eid", "id"]).sort_index()),
    ):
        table = pa.Table.from_pandas(frame)
        pq.write_table(
            table.replace_schema_metadata({**metadata, **(table.schema.metadata or {})}), folder / f"{name}.pqt"
        )


if __name__ == "__main__":
    write_large(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)

"""The shared recordings, run through labweave.ephys.extract as BluePyEfe 2.3.63 was run for the expected values."""

from __future__ import annotations

import json
import math
import os
from functools import cache
from pathlib import Path

import pytest

from labweave.ephys import DEFAULT_EFEL_SETTINGS, DEFAULT_RHEOBASE_PROTOCOLS, extract
from labweave.ephys.auto_targets import choose_auto_targets, default_auto_targets

FOLDER = Path(os.environ.get("LABWEAVE_SHARED", Path(__file__).resolve().parents[2].parent / "shared")) / "data/ephys"
RTOL = 1e-9

needs_shared = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"real recordings are not at {FOLDER}; set LABWEAVE_SHARED to the shared folder"
)


@cache
def load(name: str):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def combos() -> dict[str, dict]:
    """Every run by name."""
    return {combo["name"]: combo for combo in load("combos")["combos"]} if FOLDER.is_dir() else {}


def settings_of(combo: dict) -> dict:
    return combo["kwargs"].get("efel_settings", DEFAULT_EFEL_SETTINGS)


def files_of(combo: dict) -> dict:
    """files_metadata of a run, with absolute paths."""
    return {cell: files(cell, None if wanted == "all" else wanted) for cell, wanted in combo["cells"].items()}


def files(cell: str, protocols=None) -> dict:
    """files_metadata of the protocols (default: all) of one cell."""
    known = load("metadata")["files_metadata"][cell]
    paths = ("filepath", "v_file", "i_file")
    return {
        protocol: [{k: str(FOLDER / v) if k in paths else v for k, v in one.items()} for one in known[protocol]]
        for protocol in protocols or known
    }


def step_by_step(combo: dict, compat="bluepyefe"):
    """Cells and (features, protocols, currents), with one function after the other."""
    kwargs, settings, targets = combo["kwargs"], settings_of(combo), combo["targets"]
    absolute = kwargs.get("absolute_amplitude", False)
    if isinstance(targets, dict):
        targets = extract.convert_legacy_targets(targets)
    cells = extract.read_recordings(files_of(combo), efel_settings=settings, compat=compat)

    def rheobase():
        if not absolute:
            extract.compute_rheobase(
                cells,
                kwargs.get("protocols_rheobase", DEFAULT_RHEOBASE_PROTOCOLS),
                kwargs.get("rheobase_strategy", "absolute"),
                kwargs.get("rheobase_settings"),
                compat,
            )

    if targets is None:
        rheobase()
        targets = choose_auto_targets(cells, default_auto_targets())
    extract.extract_efeatures_at_targets(cells, targets, efel_settings=settings)
    rheobase()
    protocols = extract.group_efeatures(
        cells,
        targets,
        absolute,
        protocol_mode=kwargs.get("protocol_mode", "mean"),
        efel_settings=settings,
        compat=compat,
    )
    results = extract.create_feature_protocol_files(
        cells,
        protocols,
        threshold_nvalue_save=kwargs.get("threshold_nvalue_save", 1),
        write_files=False,
        default_std_value=kwargs.get("default_std_value", 1e-3),
    )
    return cells, results


def at_once(combo: dict, folder, compat="bluepyefe", **more):
    """(features, protocols, currents) by the one function that does it all."""
    targets = json.loads(json.dumps(combo["targets"]))
    return extract.extract_efeatures(folder, files_of(combo), targets, **{**combo["kwargs"], **more}, compat=compat)


def without_spikerec_amplitudes(part: str, found: dict) -> dict:
    """Leave out what differs on purpose (13.21): SpikeRec's amplitude is relative to the holding current."""
    if part != "protocols":
        return found
    return {
        name: {**one, "step": {**one["step"], "amp": 0, "thresh_perc": 0}} if name.startswith("SpikeRec") else one
        for name, one in found.items()
    }


def differences(found, expected, path=()) -> tuple[int, list]:
    """Count the compared numbers and list those that differ; our None stands for the reference's NaN."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or list(found) != list(expected):
            return 1, [(path, found, expected)]
        parts = [differences(found[key], value, (*path, key)) for key, value in expected.items()]
    elif isinstance(expected, list):
        if len(found) != len(expected):
            return 1, [(path, found, expected)]
        parts = [differences(f, e, (*path, i)) for i, (f, e) in enumerate(zip(found, expected, strict=True))]
    else:
        return 1, [] if same(found, expected) else [(path, found, expected)]
    return sum(n for n, _ in parts), [difference for _, listed in parts for difference in listed]


def same(found, expected) -> bool:
    if expected in ("NaN", None):
        return found is None or (isinstance(found, float) and math.isnan(found))
    if isinstance(expected, (str, bool)) or found is None:
        return found == expected
    return math.isclose(found, expected, rel_tol=RTOL, abs_tol=1e-12)

"""``labweave demo``: a simulated lab, from files to rheobase and efeatures."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from labweave.cli.base import choose_database, open_database, out, print_table, progress_bar
from labweave.cli.populate import print_failures
from labweave.errors import ConfigError

PREFIX = "labweave_demo_"
LAB = "demolab"
GROUP = "demo"
METHOD = "absolute"
FIRING, SINGLE = "demo firing", "demo single sweeps"
TARGETS: dict[str, list[dict[str, Any]]] = {
    FIRING: [  # amplitude in percent of rheobase
        {"efeature": name, "protocol": "IDrest", "amplitude": 200.0, "tolerance": 2.0}
        for name in ("mean_frequency", "AP_amplitude", "AHP_depth")
    ],
    SINGLE: [  # amplitude in nA
        {"efeature": "AP_duration_half_width", "protocol": "APWaveform", "amplitude": 0.5, "tolerance": 0.01},
        {"efeature": "ohmic_input_resistance_vb_ssse", "protocol": "IV", "amplitude": -0.02, "tolerance": 0.005},
    ],
}
COLUMNS = {  # efeature -> heading, factor from eFEL's unit, decimals
    "mean_frequency": ("rate\nHz", 1, 1),
    "AP_amplitude": ("AP\nmV", 1, 1),
    "AHP_depth": ("AHP\nmV", 1, 1),
    "AP_duration_half_width": ("AP width\nus", 1000, 0),
    "ohmic_input_resistance_vb_ssse": ("R input\nMOhm", 1, 0),
}
LEGEND = """
model: smallest step at which the model fires, without noise; steps tried are 20 pA apart
rate, AP, AHP: IDrest at 200% of rheobase
AP width: at half height, APWaveform at 500 pA; R input: IV at -20 pA
"""


def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="Folder for the recordings and the figure")] = Path("labweave-demo"),
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Number of processes; by default 2, or 1 on one core")
    ] = None,
) -> None:
    """Simulate a small lab, and take it from files to rheobase and efeatures.

    Six Hodgkin-Huxley cells of three mice are recorded into files, ingested and computed. Their
    tables are separate from yours: the names begin with labweave_demo_, whatever your settings
    say, unless you give --prefix. What already exists is not made again.
    """
    given = context.find_root().params
    choose_database(None, given.get("prefix") or PREFIX)
    workers = workers or min(2, os.cpu_count() or 1)
    began = time.monotonic()
    with open_database(make=True) as database:
        _say("database", f"{database.url}, prefix {database.prefix}", began)
        with _writing(folder):
            _simulate(folder / "recordings", workers)
        _ingest(folder / "recordings")
        _populate(workers, given)
        out.print()
        _print_cells()
        with _writing(folder):
            _draw(folder / "demo.png")
        prefix = database.prefix
    out.print(f"figure: {folder / 'demo.png'}")
    out.print(_next_steps(given, prefix, folder))


def _say(step: str, text: str, began: float) -> None:
    out.print(f"{step:<9} {text} ({time.monotonic() - began:.1f} s)")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn an error in writing to the folder into one line."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{folder} can't be written: {error.strerror or error}. Choose another with --folder."
        ) from None


def _simulate(folder: Path, workers: int) -> None:
    from labweave.cli.demo.simulated_lab import N_SWEEPS, write_missing
    from labweave.ephys.simulation import example_cells

    began = time.monotonic()
    with progress_bar("files are written; the same command goes on") as show:
        written = write_missing(folder, workers=workers, progress=lambda done, total: show("simulate", done, 0, total))
    _say("simulate", f"{len(example_cells())} cells of {N_SWEEPS} sweeps in {folder}, {written} files written", began)


def _ingest(folder: Path) -> None:
    """Ingest the files and add the targets; end the command when a file failed."""
    from labweave import ingest
    from labweave.analysis import targets
    from labweave.schemas.session import Session

    began = time.monotonic()
    report = ingest.run("ephys", folder, lab=LAB, source=GROUP)
    for failure in report.failures:
        out.print(f"failed {failure.path}: {failure.message}")
    if report.failures:
        raise typer.Exit(1)
    for name, wanted in TARGETS.items():
        targets.add_target_set(name, wanted, absolute_amplitude=name == SINGLE)
    targets.add_cell_group(GROUP, (Session & {"lab": LAB}).proj(), "cells of the demo")
    for name in TARGETS:
        targets.add_extraction(GROUP, name)
    counts = f"{report.new} new, {report.changed} changed, {report.unchanged} unchanged"
    _say("ingest", f"{report.seen} files: {counts}", began)


def _populate(workers: int, given: dict[str, Any]) -> None:
    """Compute what is missing; end the command when a job failed."""
    from labweave.populate import run

    began = time.monotonic()
    with progress_bar("jobs are done; the same command goes on") as show:
        report = run(workers=workers, progress=show)
    print_failures(report)
    _say("populate", f"{report.made} results made, {report.failed} failed", began)
    if report.failed:
        out.print(f"See: {_command(given)} errors")
        raise typer.Exit(1)


def _print_cells() -> None:
    """Print the values of each cell, and the means and deviations of the extractions."""
    from labweave.schemas import efeature, recording, rheobase, session

    cells = (recording.Cell * session.Session.proj("lab", "subject") & {"lab": LAB}).to_dicts(order_by="cell")
    thresholds = _by_cell(rheobase.Rheobase & {"rheobase_method": METHOD}, "rheobase")
    values = {name: _by_cell(_values_at_target(name), "value") for name in COLUMNS}
    rows = [
        [
            row["cell"],
            row["subject"],
            _rounded(thresholds.get(row["cell"]), 1000),
            _rounded((row["cell_json"] or {}).get("model_threshold_pa")),
            *(_rounded(values[name].get(row["cell"]), *scale) for name, (_, *scale) in COLUMNS.items()),
        ]
        for row in cells
    ]
    group = {"cell_group": GROUP, "rheobase_method": METHOD}
    threshold = (efeature.Extraction & group & {"target_set": FIRING}).fetch1("currents")["threshold_current"]
    features = efeature.Extraction.Feature & group & [{"target_set": name} for name in TARGETS]
    by_name = {row["efeature"]: row for row in features.to_dicts()}
    for position, word in enumerate(("mean", "std")):
        statistics = [_rounded(by_name.get(name, {}).get(word), *scale) for name, (_, *scale) in COLUMNS.items()]
        rows.append([word, "", _rounded(threshold[position], 1000), None, *statistics])
    print_table(("cell", "mouse", "rheobase\npA", "model\npA", *(heading for heading, *_ in COLUMNS.values())), rows)
    out.print(LEGEND)


def _values_at_target(name: str) -> Any:
    """Return a query: the values of one efeature, in the sweep of each cell that its target asks for."""
    from labweave.schemas import efeature, recording, rheobase

    target = (efeature.TargetSet.Target & [{"target_set": s} for s in TARGETS] & {"efeature": name}).fetch1()
    sweeps = recording.RecordingStimulus.proj("amp") * rheobase.Rheobase.proj("rheobase") & {"rheobase_method": METHOD}
    amplitude = "amp" if target["target_set"] == SINGLE else "100 * amp / rheobase"
    return (
        efeature.RecordingEFeatures.Value * sweeps
        & {key: target[key] for key in ("feature_set", "efeature", "protocol")}
        & f"abs({amplitude} - {target['amplitude']}) < {target['tolerance']}"
    )


def _by_cell(query: Any, attribute: str) -> dict[str, float | None]:
    from labweave.schemas.session import Session

    rows = (query * Session.proj("lab") & {"lab": LAB}).proj(attribute).to_dicts()
    return {row["cell"]: row[attribute] for row in rows}


def _rounded(value: float | None, factor: float = 1, digits: int = 0) -> float | int | None:
    return None if value is None else round(factor * value, digits or None)


def _draw(path: Path) -> None:
    """Draw a sweep at twice the rheobase, of a cell in the middle, and the firing rates of all cells."""
    from labweave.analysis import read_recording
    from labweave.cli.demo.figures import draw_cells
    from labweave.schemas import recording, rheobase
    from labweave.schemas.session import Session

    rheobases = _by_cell(rheobase.Rheobase & {"rheobase_method": METHOD}, "rheobase")
    steps = recording.RecordingStimulus * Session.proj("lab") & {"lab": LAB, "protocol": "IDrest"}
    curves = {}
    for cell, threshold in rheobases.items():
        amp, spikes, ton, toff = (steps & {"cell": cell}).to_arrays("amp", "n_spikes", "ton", "toff", order_by="amp")
        curves[cell] = {"amp": amp, "rate": 1000 * spikes / (toff - ton), "rheobase": threshold}
    shown = (_values_at_target("mean_frequency") & {"cell": sorted(curves)[len(curves) // 2 - 1]}).fetch1()
    key = {name: shown[name] for name in recording.Recording.primary_key}
    row = (recording.RecordingStimulus & key).fetch1()
    sweep = read_recording(key)
    percent = 100 * row["amp"] / shown["rheobase"]
    draw_cells(
        path,
        {
            "title": f"{row['cell']}, {row['protocol']}, {1000 * row['amp']:.0f} pA ({percent:.0f}% of rheobase)",
            "t": sweep.t,
            "voltage": sweep.voltage,
            "current": sweep.current,
            "spike_times": row["spike_times"],
        },
        curves,
    )


def _next_steps(given: dict[str, Any], prefix: str, folder: Path) -> str:
    """Return commands to try, for the database and prefix in use."""
    labweave = _command(given)
    query = "select cell, cast(1000 * rheobase as decimal(6, 1)) as pa from {prefix}rheobase.__rheobase order by cell"
    address = f"{_address(given)!r}, " if given.get("database") else ""
    return f"""
Next:
  {labweave} status
  {labweave} sql {shlex.quote(query)}
  {labweave} diagram {shlex.quote(str(folder / "tables.png"))}

In Python, for example the sweeps with more than 30 spikes:

import labweave
with labweave.connect({address}prefix={prefix!r}):
    from labweave.schemas.recording import RecordingStimulus
    print(RecordingStimulus.proj("amp", "n_spikes") & {{"protocol": "IDrest"}} & "n_spikes > 30")

Your own recordings go into tables of their own: {_program()} ingest ephys FOLDER --lab LAB --dry-run"""


def _command(given: dict[str, Any]) -> str:
    """Return the command that calls labweave with the same database and prefix, ready for a shell."""
    words = [_program()]
    if given.get("database"):
        words += ["--database", shlex.quote(_address(given))]
    return " ".join([*words, "--prefix", os.environ["LABWEAVE_PREFIX"]])


def _address(given: dict[str, Any]) -> str:
    """Return the address as it was given, but its password masked."""
    from labweave.database.url import parse_url

    parsed = parse_url(given["database"])
    return str(parsed) if parsed.password else given["database"]


def _program() -> str:
    """Return what to type for this labweave: its name when the shell finds it, else its path."""
    script = Path(sys.executable).with_name("labweave")
    found = shutil.which("labweave")
    if found and script.exists() and Path(found).samefile(script):
        return "labweave"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m labweave"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))

"""A night as people read it: one screen, the same page as text and HTML, its log, and the metrics of a collector."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from labweave.database import current
from labweave.errors import text_of
from labweave.formats.writing import whole_file
from labweave.nightly.report import NightReport, Result, StepDone
from labweave.schemas.work import Night, NightStep

if TYPE_CHECKING:
    from labweave.nightly.settings import NightSettings

log = logging.getLogger(__name__)

SHOWN = 10
"""Problems of a step that a page lists."""

FORECAST_NIGHTS = 30
WIDTH = 100


def as_text(report: NightReport) -> str:
    """Return a night as one page of text."""
    console = Console(file=io.StringIO(), width=WIDTH, record=True, color_system=None)
    _print(report, console)
    return console.export_text()


def as_html(report: NightReport) -> str:
    """Return the same page as HTML, for mail."""
    console = Console(file=io.StringIO(), width=WIDTH, record=True)
    _print(report, console)
    return console.export_html(inline_styles=True)


def as_json(report: NightReport) -> dict[str, Any]:
    """Return a night as a dictionary of plain values."""
    return {
        "night": report.night,
        "prefix": report.prefix,
        "exit_code": report.exit_code,
        "seconds": round(report.seconds, 3),
        "free_bytes": report.free_bytes,
        "days_until_full": report.days_left,
        "steps": [
            {
                "step": step.name,
                "status": step.status,
                "seconds": round(step.seconds, 3),
                "n_bytes": step.result.n_bytes,
                "counts": step.result.counts,
                "message": step.result.message,
                "problems": {name: {"kind": kind, "text": text} for name, (kind, text) in step.result.problems.items()},
                "new": sorted(step.new),
                "recovered": sorted(step.recovered),
            }
            for step in report.steps
        ],
    }


def _print(report: NightReport, console: Console) -> None:
    quiet: Any = {"markup": False, "highlight": False, "emoji": False}
    console.print(headline(report), style="bold", **quiet)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("step", "result", "time", "what"):
        table.add_column(name, justify="right" if name == "time" else "left", no_wrap=name != "what", overflow="fold")
    for step in report.steps:
        table.add_row(*(_plain(text) for text in (step.name, step.status, duration(step.seconds), step.result.message)))
    console.print(table, **quiet)
    for title, name in (("New", "new"), ("Solved since the last night", "recovered"), ("Known before", "known")):
        lines = [line for step in report.steps for line in _listed(step, getattr(step, name))]
        if lines:
            console.print(f"\n{title}:", style="bold", **quiet)
            for line in lines:
                console.print(f"  {_plain(line)}", **quiet)
    if report.free_bytes is not None:
        full = f", full in {report.days_left:.0f} days at this rate" if report.days_left is not None else ""
        console.print(f"\n{report.free_bytes / 1e9:.1f} GB free on the fullest disk{full}", **quiet)
    if report.log_file is not None and report.night:
        console.print(f"Log: {report.log_file}", **quiet)


def headline(report: NightReport) -> str:
    """Return what became of a night, in one line."""
    n_known = sum(kind == "failure" for step in report.steps for kind, _ in step.known.values())
    good = f"nothing new failed, {n_known} known" if n_known else "all good"
    words = {0: good, 1: "something new failed", 4: "not done in its time", 5: "a check or the backup failed"}
    at = f" of {report.night[:16].replace('T', ' ')} UTC" if report.night else " (dry run)"
    return f"labweave night{at}, {report.prefix.rstrip('_')}: {words[report.exit_code]}, {duration(report.seconds)}"


def _listed(step: StepDone, problems: dict[str, Any]) -> list[str]:
    lines = [f"{step.name}: {name}: {text}" for name, (_, text) in sorted(problems.items())[:SHOWN]]
    return [*lines, f"{step.name}: and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else lines


def _plain(text: str) -> str:
    """Return a text without the control characters that somebody's file may have in its name."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> from labweave.nightly.pages import duration
    >>> duration(3.21), duration(190), duration(7260)
    ('3.2 s', '3 min', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def days_until_full(free_bytes: int) -> float | None:
    """Return in how many days the fullest disk will be full, by a line through the last nights; None if it is not."""
    rows = (
        (Night & "free_bytes is not null")
        .proj("started", "free_bytes")
        .to_dicts(order_by="started desc", limit=FORECAST_NIGHTS)
    )
    if len(rows) < 3:
        return None
    days = np.array([row["started"].timestamp() for row in rows]) / 86400
    if days.max() - days.min() < 1:
        return None
    slope = np.polyfit(days - days.max(), [row["free_bytes"] for row in rows], 1)[0]
    return float(-free_bytes / slope) if slope < 0 else None


def stored_nights(date: dt.date | None = None, last: int = 1) -> list[NightReport]:
    """Return nights as they are kept in the database, the newest first.

    Parameters
    ----------
    date : date, optional
        Those that began then, UTC.
    last : int, default: 1
        So many.
    """
    chosen = Night & f"night like '{date:%Y-%m-%d}%%'" if date else Night()
    found = []
    for row in chosen.to_dicts(order_by="night desc", limit=last):
        report = NightReport(row["night"], current().prefix, free_bytes=row["free_bytes"])
        ended = row["finished"] or row["started"]
        report.seconds = (ended - row["started"]).total_seconds()
        for step in (NightStep & {"night": row["night"]}).to_dicts(order_by="position"):
            problems: Any = {name: (kind, text) for name, (kind, text, _) in step["problems"].items()}
            new = {name: problem for name, problem in problems.items() if step["problems"][name][2]}
            result = Result(step["counts"], problems, step["step_message"], step["n_bytes"])
            report.steps.append(StepDone(step["step"], step["step_status"], step["seconds"], result, new))
        found.append(report)
    return found


def write(report: NightReport, settings: NightSettings) -> None:
    """Write the page beside the log, and the metrics; delete pages and logs that are old enough."""
    assert report.log_file is not None
    report.log_file.with_suffix(".txt").write_text(as_text(report), encoding="utf-8")
    oldest = time.time() - settings.nightly.keep_logs.total_seconds()
    for path in report.log_file.parent.glob(f"{report.prefix}night-*"):
        if path.stat().st_mtime < oldest:
            path.unlink()
    if settings.metrics.textfile:
        try:
            _write_metrics(report, settings.metrics.textfile)
        except OSError as error:  # people are to be told of the night all the same
            log.error("the metrics can't be written: %s", text_of(error))


def _write_metrics(report: NightReport, path: Path) -> None:
    """Write what a collector of Prometheus reads from a file."""
    lab = json.dumps(report.prefix.rstrip("_"))
    lines = [
        f"labweave_night_exit_code{{lab={lab}}} {report.exit_code}",
        f"labweave_night_seconds{{lab={lab}}} {report.seconds:.3f}",
        f"labweave_night_finished_timestamp_seconds{{lab={lab}}} {dt.datetime.now(dt.timezone.utc).timestamp():.0f}",
        f"labweave_free_bytes{{lab={lab}}} {report.free_bytes}",
    ]
    for step in report.steps:
        labels = f"lab={lab},step={json.dumps(step.name)}"
        lines.append(f"labweave_night_step_problems{{{labels}}} {len(step.result.problems)}")
        lines.append(f"labweave_night_step_seconds{{{labels}}} {step.seconds:.3f}")
    with whole_file(path) as half_made:  # a collector may look at any moment
        half_made.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
        os.chmod(half_made, 0o644)  # noqa: PTH101

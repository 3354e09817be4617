"""What a night did: its steps, what is new in them, and the exit code that follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

GOOD, NEW_FAILURE, NOT_STARTED, ANOTHER_RUNS, BUDGET_ENDED, CHECK_FAILED = range(6)
"""Exit codes."""

CHECKS = ("check", "check files", "verify", "backup", "verify backup")
"""Steps whose failure is an exit code of its own."""

Kind = Literal["failure", "stale", "away"]
Problems = dict[str, tuple[Kind, str]]
"""What a person should look at: its name, of which kind it is, and what it is."""

TEXT = 300
"""Characters of a problem that are kept."""


@dataclass
class Result:
    """What a step did.

    Attributes
    ----------
    counts : dict
        What was done, by name.
    problems : dict
        What a person should look at now, also what was there the night before.
    message : str
        In one line.
    n_bytes : int or None
        Of the files that were read, or of the backup.
    """

    counts: dict[str, int] = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)
    message: str = ""
    n_bytes: int | None = None

    @property
    def status(self) -> str:
        """The worst of its problems, in one word."""
        kinds = {kind for kind, _ in self.problems.values()}
        return next((word for kind, word in STATUS.items() if kind in kinds), "good")


STATUS = {"failure": "failed", "away": "away", "stale": "stale"}
"""Kind of a problem -> status of a step that has one, the worst first."""


@dataclass(frozen=True)
class StepDone:
    """One step of a night that has ended.

    Attributes
    ----------
    name : str
    status : {"good", "away", "stale", "failed", "left"}
    seconds : float
    result : Result
    new : Problems
        Those that were not there the night before.
    recovered : Problems
        Those that were there the night before, and are no more.
    """

    name: str
    status: str
    seconds: float
    result: Result
    new: Problems = field(default_factory=dict)
    recovered: Problems = field(default_factory=dict)

    @property
    def known(self) -> Problems:
        """Those that were there the night before, too."""
        return {name: problem for name, problem in self.result.problems.items() if name not in self.new}

    @property
    def has_new_failure(self) -> bool:
        """Whether something failed that was not known from the night before."""
        return any(kind == "failure" for kind, _ in self.new.values())


@dataclass
class NightReport:
    """What a night did.

    Attributes
    ----------
    night : str
        When it began, UTC; its row in ``work.Night``. Empty for a dry run.
    prefix : str
        Of the lab.
    steps : list of StepDone
    seconds : float
    free_bytes : int or None
        On the fullest of its disks.
    days_left : float or None
        Until that disk is full, by the last 30 nights; None when it does not fill, or nobody knows.
    exit_code : int
        0 all good, 1 something new failed, 4 the budget ended, 5 a check or the backup failed.
    log_file : Path or None
    """

    night: str
    prefix: str
    steps: list[StepDone] = field(default_factory=list)
    seconds: float = 0.0
    free_bytes: int | None = None
    days_left: float | None = None
    log_file: Path | None = None

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        failed = [step.name for step in self.steps if step.has_new_failure]
        if any(name in CHECKS for name in failed):
            return CHECK_FAILED
        if failed:
            return NEW_FAILURE
        return BUDGET_ENDED if any(step.status == "left" for step in self.steps) else GOOD

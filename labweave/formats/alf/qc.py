"""Outcomes of quality control, as ALF and Alyx name them."""

from __future__ import annotations

from typing import Any

QC = {"NOT_SET": 0, "PASS": 10, "WARNING": 30, "FAIL": 40, "CRITICAL": 50}
"""Each outcome and how bad it is."""


def severity(qc: Any) -> int:
    """Return how bad an outcome is, given its name or the number itself."""
    text = str(getattr(qc, "name", qc)).upper()
    if text in QC:
        return QC[text]
    if text.isdecimal() and int(text) in QC.values():
        return int(text)
    raise ValueError(f"{qc!r} is no outcome of quality control. They are {', '.join(QC)}.")

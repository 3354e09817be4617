"""Units of efeatures, as eFEL lists them."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path


def efeature_unit(efeature: str) -> str:
    """Return eFEL's unit of an efeature, "" if it has none or eFEL does not know the name."""
    unit = _units().get(efeature, "")
    return "" if unit == "constant" else unit


@cache
def _units() -> dict[str, str]:
    """Read eFEL's own list; importing eFEL takes a second."""
    spec = importlib.util.find_spec("efel")
    assert spec and spec.origin
    return json.loads((Path(spec.origin).parent / "units" / "units.json").read_text(encoding="utf-8"))

"""How labs lay out current-clamp sweeps in NWB files: five layouts, told apart by what a file contains.

`find_layout` says which one a file has; ``layout.sweeps(file)`` lists its pairs of voltage and current
without reading samples. The first layout that fits applies:

========= ============================================================== =============================
layout    told by                                                        protocol of a sweep
========= ============================================================== =============================
BBP       a group ``data_organization``                                  ``data_organization/<cell>/<protocol>/<repetition N>/<sweep>/<trace>``
VU        a stimulus with ``DA`` in its name and its ``AD`` response     ``stimulus_description``, translated
AIBS      ``acquisition/timeseries``                                     ``aibs_stimulus_name``
TRT       acquisition starts with a series ``index_...``                 Step
Scala     anything else, also files written by PyNWB                     ``stimulus_description``
========= ============================================================== =============================
"""  # noqa: E501

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from labweave.errors import ReadError
from labweave.formats.recordings.base import ListedSweep
from labweave.formats.recordings.notices import EphysWarning

RESPONSES, OLD_RESPONSES, STIMULI = "acquisition", "acquisition/timeseries", "stimulus/presentation"
ICEPHYS_TABLE = "general/intracellular_ephys/intracellular_recordings"

_VU_PROTOCOLS = (
    (r"X1PS_SubThresh", "IV"),
    (r"X2LP_Search|X5SP_Search", "IDThresh"),
    (r"X3LP_Rheo|X4PS_SupraThresh|X6SP_Rheo", "IDRest"),
    (r"X4P[TU]_C2NSD\w*", "PinkNoise"),
    (r"X6SQ_C2SSTRIPLE", "SpikeRec"),
    (r"X7Ramp", "Ramp"),
    (r"X8_CHIRP", "SineSpec"),
    (r"X9_C1\w*CAPCHK", "CapCheck"),
    (r"CCSteps|steps", "Step"),
)


@dataclass(frozen=True)
class NWBSweep(ListedSweep):
    """One pair of voltage and current in a file, and the paths of the two series in it."""

    voltage: str = ""
    current: str = ""


@dataclass(frozen=True)
class Layout:
    """One way to lay out sweeps: its name, and how to find them."""

    name: str
    fits: Callable[[Any], bool]
    sweeps: Callable[[Any], Iterator[NWBSweep]]


def text(parent, name) -> str | None:
    """An attribute or a dataset as text, None if it is neither."""
    value = parent.attrs.get(name)
    if value is None and name in parent and hasattr(parent[name], "shape"):
        value = parent[name][()]
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None if value is None else str(value)


def vu_description(series) -> str:
    """Name of a VU stimulus, without the mark of its channel."""
    return re.sub(r"_DA_\d+$", "", text(series, "stimulus_description") or "")


def _names(file, path) -> list[str]:
    """Names of the series of a group, in the order of the file."""
    group = file.get(path)
    return [name for name, item in _groups(group) if "data" in item]


def _has(file, path) -> bool:
    """Whether there is a series at a path."""
    series = file.get(path)
    return hasattr(series, "items") and "data" in series


def _groups(parent) -> list[tuple[str, Any]]:
    """Names and groups in a group; none in a dataset, or where there is nothing."""
    return [(name, item) for name, item in parent.items() if hasattr(item, "items")] if hasattr(parent, "items") else []


def _bbp_sweeps(file) -> Iterator[NWBSweep]:
    """All sweeps of one protocol after the other."""
    cells = _groups(file["data_organization"])
    protocols = list(dict.fromkeys(protocol for _, cell in cells for protocol in cell))
    for protocol in protocols:
        for cell_name, cell in cells:
            for repetition_name, repetition in _groups(cell.get(protocol)):
                number = re.search(r"\d+", repetition_name)
                for _, traces in _groups(repetition):
                    for trace in traces:
                        if (pair := _bbp_pair(file, trace)) is not None:
                            yield NWBSweep(trace, protocol, cell_name, int(number[0]) if number else None, *pair)


def _bbp_pair(file, trace) -> tuple[str, str] | None:
    for response, stimulus in (("ccs_", "ccss_"), ("ic_", "ics_")):
        if response in trace:
            pair = f"{RESPONSES}/{trace}", f"{STIMULI}/{trace.replace(response, stimulus)}"
            return pair if all(_has(file, path) for path in pair) else None
    return None


def _vu_pairs(file) -> Iterator[tuple[str, str, str]]:
    """Name, voltage and current of each pair."""
    responses = OLD_RESPONSES if "timeseries" in file.get(RESPONSES, ()) else RESPONSES
    for name in _names(file, STIMULI):
        response = f"{responses}/{name.replace('DA', 'AD')}"
        if "DA" in name and _has(file, response):
            yield name, response, f"{STIMULI}/{name}"


def _vu_sweeps(file) -> Iterator[NWBSweep]:
    """Sweeps whose stimulus has a protocol; the others are no stimuli of the table."""
    for name, voltage, current in _vu_pairs(file):
        description = vu_description(file[current])
        for pattern, protocol in _VU_PROTOCOLS:
            if re.fullmatch(pattern, description):
                yield NWBSweep(name, protocol, voltage=voltage, current=current)


def _aibs_sweeps(file) -> Iterator[NWBSweep]:
    for name in _names(file, OLD_RESPONSES):
        voltage, current = f"{OLD_RESPONSES}/{name}", f"{STIMULI}/{name}"
        protocol = text(file[voltage], "aibs_stimulus_name")
        if protocol is not None and _has(file, current):
            yield NWBSweep(name, protocol, voltage=voltage, current=current)


def _trt_sweeps(file) -> Iterator[NWBSweep]:
    for name in _names(file, RESPONSES):
        if (twin := _trt_twin(name)) is not None and _has(file, f"{STIMULI}/{twin}"):
            yield NWBSweep(name, "Step", voltage=f"{RESPONSES}/{name}", current=f"{STIMULI}/{twin}")


def _trt_twin(name) -> str | None:
    """The stimulus of index_0k is index_0(2k+1), that of index_k_0 is index_k_1 and the other way round."""
    if pair := re.fullmatch(r"(index_\d+_)([01])", name):
        return f"{pair[1]}{1 - int(pair[2])}"
    if numbered := re.fullmatch(r"(index_0*)(\d+)", name):
        return f"{numbered[1]}{2 * int(numbered[2]) + 1}"
    return None


def _scala_sweeps(file) -> Iterator[NWBSweep]:
    named, undescribed = [], []
    table = _icephys_rows(file)
    for name in _names(file, RESPONSES):
        voltage = f"{RESPONSES}/{name}"
        current = _scala_stimulus(file, name, table)
        if current is None or "VoltageClamp" in (text(file[voltage], "neurodata_type") or name):
            continue
        described = text(file[voltage], "stimulus_description")
        if described is None:
            undescribed.append(name)
        named.append((name, _scala_protocol(described), voltage, current))
    if undescribed:
        warnings.warn(
            f"{file.filename}: {', '.join(undescribed)} without stimulus_description: taken as Step.",
            EphysWarning,
            stacklevel=2,
        )
    repetitions = _scala_repetitions(file, [name for name, *_ in named], table)
    for name, protocol, voltage, current in named:
        yield NWBSweep(name, protocol, None, repetitions.get(name), voltage, current)


def _scala_protocol(description) -> str:
    lowered = (description or "").lower()
    is_step = lowered in ("", "na", "n/a") or ("step" in lowered and lowered != "genericstep")
    return "Step" if is_step else description


def _scala_stimulus(file, name, table) -> str | None:
    """Path of the stimulus: the twin by name, else what the table of recordings refers to."""
    twin = f"{STIMULI}/{name.replace('Series', 'StimulusSeries')}"
    if "Series" in name and _has(file, twin):
        return twin
    return next((stimulus for response, stimulus in table if response == f"{RESPONSES}/{name}" and stimulus), None)


def _icephys_rows(file) -> list[tuple[str | None, str | None]]:
    """Paths of response and stimulus in each row of the table of intracellular recordings."""
    responses = file.get(f"{ICEPHYS_TABLE}/responses/response")
    stimuli = file.get(f"{ICEPHYS_TABLE}/stimuli/stimulus")
    if responses is None or stimuli is None:
        return []
    return [
        (_referred(file, response), _referred(file, stimulus))
        for response, stimulus in zip(responses[()], stimuli[()], strict=True)
    ]


def _referred(file, reference) -> str | None:
    """Path of the series that a reference of (start, count, series) names; None for an empty one."""
    start, count, series = reference
    if not series or count <= 0:
        return None
    name = file[series].name.lstrip("/")
    if start > 0 or count < len(file[name]["data"]):
        raise ReadError(
            file.filename,
            f"its table of recordings takes {count} samples from {start} of {name}",
            "Only whole series are read; write each sweep as a series of its own",
        )
    return name


def _scala_repetitions(file, names, table) -> dict[str, int]:
    """Repetition of each sweep, by its row in the table of intracellular recordings."""
    column = file.get(f"{ICEPHYS_TABLE}/repetition")
    if column is None:
        return {}
    values = [int(value) for value in column[()]]
    rows = {response.rpartition("/")[2]: row for row, (response, _) in enumerate(table) if response}
    if not rows and len(values) == len(names):
        rows = {name: row for row, name in enumerate(names)}
    if not rows:
        rows = {name: int(number[0]) for name in names if (number := re.search(r"\d+$", name))}
    return {name: values[row] for name, row in rows.items() if row < len(values)}


BBP = Layout("BBPNWBReader", lambda file: "data_organization" in file, _bbp_sweeps)
VU = Layout("VUNWBReader", lambda file: any(_vu_pairs(file)), _vu_sweeps)
AIBS = Layout("AIBSNWBReader", lambda file: OLD_RESPONSES in file, _aibs_sweeps)
TRT = Layout("TRTNWBReader", lambda file: next(iter(file.get(RESPONSES, ())), "").startswith("index_"), _trt_sweeps)
SCALA = Layout("ScalaNWBReader", lambda file: True, _scala_sweeps)


def find_layout(file) -> Layout:
    """The first layout that fits an opened file."""
    return next(layout for layout in (BBP, VU, AIBS, TRT, SCALA) if layout.fits(file))

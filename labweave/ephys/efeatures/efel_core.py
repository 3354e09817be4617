"""eFEL's own features of one recording, interpolated once.

eFEL's core runs the whole chain behind a feature whenever it is asked for one, interpolation included. Here the core
gets samples that are interpolated already, and a dependency file whose chains lack the interpolation; the numbers are
those of the first feature that eFEL is asked for, to the last digit. An extraction of 20 features, ten of which arrays
don't have, takes 1.7 times as long when eFEL is called plainly.
The core is global to the process: one thread at a time uses it, and eFEL's own file is put back after the last
`efel_session`.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from labweave.ephys.efeatures.interpolation import Grid

DEFAULT_EFEL_SETTINGS = {"strict_stiminterval": True, "Threshold": -20.0, "interp_step": 0.025}
_LOCK = threading.RLock()
_is_ready: bool | None = None
"""Whether the core has the file without interpolation; None outside a session."""


@contextlib.contextmanager
def efel_session():
    """Keep eFEL's core ready between calls, which saves 10 ms for each call; sessions may be nested.

    No other code may use eFEL in this process meanwhile.
    """
    global _is_ready
    with _LOCK:
        if _is_ready is not None:
            yield
            return
        _is_ready = False
        try:
            yield
        finally:
            if _is_ready:
                from efel import cppcore, get_settings

                cppcore.Initialize(get_settings().dependencyfile_path, "log")
            _is_ready = None


def _make_ready() -> None:
    """Give eFEL's core the dependency file without interpolation."""
    global _is_ready
    from efel import cppcore

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{chain}\n" for chain in _dependencies())
        file.flush()
        cppcore.Initialize(file.name, "log")
    _is_ready = True


def call_efel(grid: Grid, voltage, current, efeatures, settings, lists) -> dict[str, np.ndarray | None]:
    """Compute features of one trace by eFEL: a float64 array for each, None where eFEL has no value.

    ``voltage`` is on the grid, ``current`` as recorded. ``settings`` go on top of eFEL's defaults, unknown ones too;
    ValueError for one of the wrong type. ``lists`` has what eFEL looks for in a trace: stim_start and stim_end ([ms])
    and others. eFEL writes ``log/fllog.txt`` when the working directory has a folder ``log``.
    """
    import efel
    from efel import cppcore, pyfeatures

    complete = efel.Settings()
    for name, value in settings.items():
        complete.set_setting(name, value)
    lists = {"T": grid.t.tolist(), "V": voltage.tolist(), "I": grid.interpolate(current).tolist(), **lists}
    with efel_session():
        if not _is_ready:
            _make_ready()
        cppcore.Clear()
        _hand_over(vars(complete), lists)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty slices and old names; a missing value is None
            in_python = pyfeatures.all_pyfeatures
            return {
                name: _as_array(efel.get_py_feature(name) if name in in_python else efel.get_cpp_feature(name))
                for name in efeatures
            }


def known_efeatures() -> frozenset[str]:
    """Return the names of all of eFEL's features."""
    from efel import pyfeatures

    in_core = (chain.partition("#")[0].rpartition(":")[2] for chain in _dependencies())
    return frozenset(in_core) | frozenset(pyfeatures.all_pyfeatures)


def _hand_over(settings: dict, lists: dict) -> None:
    """Give settings and samples to the core, which has a call for each type."""
    from efel import cppcore

    for name, value in settings.items():
        if isinstance(value, (bool, int)):
            cppcore.setFeatureInt(name, [int(value)])
        elif isinstance(value, float):
            cppcore.setFeatureDouble(name, [value])
        elif isinstance(value, str):
            cppcore.setFeatureString(name, value)
    for name, values in lists.items():
        cppcore.setFeatureDouble(name, values)


def _as_array(value) -> np.ndarray | None:
    """Float64 array without eFEL's None entries."""
    if value is None:
        return None
    return np.array([float(item) for item in np.atleast_1d(value) if item is not None], dtype=np.float64)


@cache
def _dependencies() -> tuple[str, ...]:
    """Return the features of eFEL's core, each as ``Library:name#Library:needed...``, without interpolation."""
    import efel

    text = Path(efel.get_settings().dependencyfile_path).read_text(encoding="utf-8")
    lines = ("".join(line.split()) for line in text.splitlines())
    chains = (re.sub(r"#\w+:interpolate\b", "", line) for line in lines)
    return tuple(chain for chain in chains if chain and not chain.endswith(":interpolate"))

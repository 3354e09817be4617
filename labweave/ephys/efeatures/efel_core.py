"""eFEL's features of one recording, each computed once.

eFEL's core runs the whole chain behind a feature whenever it is asked for one, the interpolation and the
search for peaks included. Here the core gets samples that are interpolated already, a dependency file
without chains, and each feature after those it needs; the numbers are the same to the last digit. With ten of the
features that arrays don't have, a whole extraction takes half the time of one that calls eFEL plainly (1.5 instead of
2.9 s of CPU for 24 sweeps).
Core and settings are global to the process: one thread at a time, and eFEL's own file is put back after
the last `efel_session`.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import tempfile
import textwrap
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from labweave.ephys.efeatures.interpolation import Grid

DEFAULT_EFEL_SETTINGS = {"strict_stiminterval": True, "Threshold": -20.0, "interp_step": 0.025}
_LOCK = threading.RLock()
_depth = 0
_is_ready = False


@contextlib.contextmanager
def efel_session():
    """Keep eFEL's core ready between calls, worth 10 ms for each; nested ones are one.

    Other code must not use eFEL in this process meanwhile.
    """
    global _depth
    with _LOCK:
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
            if _depth == 0:
                _put_back()


def _make_ready() -> None:
    """Give eFEL's core the dependency file without chains, once in a session."""
    global _is_ready
    if not _is_ready:
        from efel import cppcore

        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.writelines(f"{name}\n" for name in _dependencies())
            file.flush()
            cppcore.Initialize(file.name, "log")
        _is_ready = True


def _put_back() -> None:
    """Give eFEL's core its own dependency file again."""
    global _is_ready
    if _is_ready:
        from efel import cppcore

        cppcore.Initialize(_dependency_file(), "log")
        _is_ready = False


def call_efel(grid: Grid, voltage, current, efeatures, settings, lists) -> dict[str, np.ndarray | None]:
    """Values of features of one trace.

    Parameters
    ----------
    grid : Grid
        Of the ``interp_step`` of the settings.
    voltage : ndarray, shape (n_points,)
        mV, on the grid.
    current : ndarray, shape (n_samples,)
        nA, as recorded.
    efeatures : list of str
        eFEL's names.
    settings : dict
        On top of eFEL's defaults. Unknown names are handed over.
    lists : dict of str to list of float
        What eFEL looks for in a trace besides: stim_start and stim_end, of one ms each, and others.

    Returns
    -------
    dict
        float64 array per feature, None where eFEL has no value.

    Raises
    ------
    ValueError
        A setting has the wrong type.

    Notes
    -----
    eFEL writes ``log/fllog.txt`` when the working directory has a folder ``log``.
    """
    import efel
    from efel import cppcore, pyfeatures

    complete = efel.Settings()
    for name, value in settings.items():
        complete.set_setting(name, value)
    chain = _needed(tuple(efeatures))
    lists = {"T": grid.t_list, "V": voltage.tolist(), **lists}
    if any(name in chain for name in _OF_THE_CURRENT):
        lists["I"] = grid.interpolate(current).tolist()
    with efel_session():
        _make_ready()
        cppcore.Clear()
        _hand_over(vars(complete), lists)
        found: dict[str, Any] = {name: _from_core(name) for name in chain}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty slices and old names; a missing value is None
            for name in efeatures:
                if name in pyfeatures.all_pyfeatures:
                    found[name] = getattr(pyfeatures, name)()
    return {name: _as_array(found[name]) for name in efeatures}


def known_efeatures() -> frozenset[str]:
    """Names of all features."""
    from efel import pyfeatures

    return frozenset(_in_order()) | frozenset(pyfeatures.all_pyfeatures)


_OF_THE_CURRENT = ("current", "current_base", "steady_state_current_stimend")


def _hand_over(settings: dict, lists: dict) -> None:
    """Give settings and samples to the core."""
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


def _from_core(name: str) -> list | None:
    from efel import cppcore

    values: list[float] = []
    return None if cppcore.getFeature(name, values) < 0 else values


def _as_array(value) -> np.ndarray | None:
    """Float64 array without eFEL's None entries."""
    if value is None:
        return None
    return np.array([float(item) for item in np.atleast_1d(value) if item is not None], dtype=np.float64)


def _dependency_file() -> str:
    import efel

    return efel.get_settings().dependencyfile_path


@cache
def _dependencies() -> dict[str, list[str]]:
    """Features of eFEL's core with their library (Library:name), and those that each needs, without interpolation."""
    needed = {}
    for line in Path(_dependency_file()).read_text(encoding="utf-8").splitlines():
        name, *others = ("".join(line.split())).split("#")
        if name and not name.endswith(":interpolate"):
            needed[name] = [other for other in others if not other.endswith(":interpolate")]
    return needed


@cache
def _in_order() -> dict[str, list[str]]:
    """Features of the core, each behind those that it needs."""
    ordered: dict[str, list[str]] = {}

    def place(entry):
        others = _dependencies()[entry]
        for other in others:
            if _bare(other) not in ordered:
                place(other)
        ordered[_bare(entry)] = [_bare(other) for other in others]

    for entry in _dependencies():
        place(entry)
    return ordered


def _bare(entry: str) -> str:
    return entry.rpartition(":")[2]


@cache
def _needed(efeatures: tuple[str, ...]) -> dict[str, None]:
    """Features to ask the core for, in order: the wanted ones, and what these and the ones in Python need."""
    from efel import pyfeatures

    wanted: set[str] = set()
    open_ends = [
        needed
        for name in efeatures
        for needed in (_asked_by(name) if name in pyfeatures.all_pyfeatures else frozenset([name]))
    ]
    while open_ends:
        name = open_ends.pop()
        if name not in wanted:
            wanted.add(name)
            open_ends += _in_order()[name]
    return {name: None for name in _in_order() if name in wanted}


@cache
def _asked_by(name: str) -> frozenset[str]:
    """Features of the core that one written in Python asks for: the names in its source and in what it calls.

    All of them when there is no source, as for a registered function of a notebook.
    """
    from efel import pyfeatures

    found: set[str] = set()
    seen: set[str] = set()
    functions = [getattr(pyfeatures, name)]
    while functions:
        function = inspect.unwrap(functions.pop())
        if not inspect.isfunction(function) or function.__qualname__ in seen:
            continue
        seen.add(function.__qualname__)
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, SyntaxError):
            return frozenset(_in_order())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in _in_order():
                found.add(str(node.value))
            elif isinstance(node, ast.Name):
                functions.append(function.__globals__.get(node.id))
    return frozenset(found)

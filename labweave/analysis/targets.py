"""Targets, cell groups and rheobase methods: what populate is asked for, put into the tables."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from labweave import ephys
from labweave.database import current, upsert
from labweave.database.values import to_json
from labweave.ephys.auto_targets import AutoTarget, choose_auto_targets, default_auto_targets
from labweave.ephys.grouping import MODES
from labweave.ephys.rheobase import validate_settings
from labweave.ephys.targets import Target, complete_settings, convert_legacy_targets
from labweave.errors import ConfigError, SchemaError
from labweave.formats.plain import plain_json
from labweave.schemas import efeature, recording, rheobase


def add_feature_set(
    name: str,
    efeatures: Iterable[str],
    efel_settings: Mapping[str, Any] | None = None,
    protocols: Iterable[str] = (),
    description: str = "",
) -> str:
    """Add a list of efeatures for populate to compute from every sweep, and return its name.

    Parameters
    ----------
    name : str
    efeatures : iterable of str
        eFEL's names.
    efel_settings : mapping, optional
        Complete settings; `labweave.ephys.DEFAULT_EFEL_SETTINGS` without.
    protocols : iterable of str, optional
        Only sweeps of these; all without.
    description : str, optional

    Raises
    ------
    UnknownFeature
        A name that eFEL does not have.
    SchemaError
        The set exists with other efeatures, settings or protocols: a change is a new set.

    Examples
    --------
    >>> from labweave.analysis import add_feature_set
    >>> add_feature_set("firing", ["Spikecount", "mean_frequency"], protocols=["IDrest"])
    'firing'
    """
    efeatures, protocols = sorted(set(efeatures)), sorted(set(protocols))
    settings = dict(ephys.DEFAULT_EFEL_SETTINGS if efel_settings is None else efel_settings)
    ephys.validate_efeatures(efeatures, settings)
    key = {"feature_set": name}
    connection = current().connection
    group = _settings_name(settings)
    if efeature.FeatureSet & key:
        found = (
            (efeature.FeatureSet & key).fetch1("efel_settings"),
            sorted((efeature.FeatureSet.Feature & key).to_arrays("efeature").tolist()),
            sorted((efeature.FeatureSet.ForProtocol & key).to_arrays("protocol").tolist()),
        )
        return _same("feature set", name, found == (group, efeatures, protocols))

    def write() -> None:
        upsert(recording.Protocol, [{"protocol": protocol} for protocol in protocols], update=False)
        upsert(efeature.EFelSettings, [{"efel_settings": group, "settings": settings}], update=False)
        upsert(efeature.FeatureSet, [{**key, "efel_settings": group, "purpose": description}])
        upsert(efeature.FeatureSet.Feature, [{**key, "efeature": item} for item in efeatures])
        upsert(efeature.FeatureSet.ForProtocol, [{**key, "protocol": protocol} for protocol in protocols])

    connection.run_transaction(write)
    return name


def add_target_set(
    name: str,
    targets: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    efel_settings: Mapping[str, Any] | None = None,
    *,
    absolute_amplitude: bool = False,
    protocol_mode: str = "mean",
    min_values: int = 1,
    default_std: float = 1e-3,
) -> str:
    """Add targets, with the feature sets that their values come from, and return their name.

    Parameters
    ----------
    name : str
    targets : list of mapping, or mapping
        Each with efeature, protocol, amplitude, tolerance and optionally efel_settings and
        efeature_name; or the older form by protocol.
    efel_settings : mapping, optional
        Global settings, which a target's own override; `DEFAULT_EFEL_SETTINGS` without.
    absolute_amplitude, protocol_mode, min_values, default_std
        As ``efeature.TargetSet`` explains.

    Raises
    ------
    ConfigError
        A target lacks a key or has an unknown one, or the mode is not known.
    UnknownFeature
        A name that eFEL does not have.
    SchemaError
        The set exists with other contents: a change is a new set.

    Examples
    --------
    >>> from labweave.analysis import add_target_set
    >>> target = {"efeature": "mean_frequency", "protocol": "IDrest", "amplitude": 150, "tolerance": 20}
    >>> add_target_set("firing at 150 %", [target])
    'firing at 150 %'
    """
    if protocol_mode not in MODES:
        raise ConfigError(f"protocol_mode {protocol_mode!r} is not one of {', '.join(MODES)}.")
    if min_values < 1:
        raise ConfigError(f"min_values is {min_values}; at least one value is needed.")
    listed = convert_legacy_targets(dict(targets)) if isinstance(targets, Mapping) else targets
    parsed = [_parse(name, index, target) for index, target in enumerate(listed)]
    common = dict(ephys.DEFAULT_EFEL_SETTINGS if efel_settings is None else efel_settings)
    groups: dict[tuple[str, str], tuple[dict[str, Any], set[str]]] = {}
    places = []
    for target in parsed:
        settings = complete_settings(common, target)
        place = (target.protocol, _settings_name(settings))
        groups.setdefault(place, (settings, set()))[1].add(target.efeature)
        places.append(place)
    head = {
        "target_set": name,
        "absolute_amplitude": absolute_amplitude,
        "protocol_mode": protocol_mode,
        "min_values": min_values,
        "default_std": default_std,
    }
    sets = {place: f"{name}/{place[0]}/{place[1]}" for place in groups}
    sets = {place: text if len(text) <= 64 else f"{name[:40]}/{_digest(text)}" for place, text in sets.items()}
    rows = [
        {
            "target_set": name,
            "target": index,
            "feature_set": sets[places[index]],
            "efeature": target.efeature,
            "efeature_name": target.efeature_name,
            "protocol": target.protocol,
            "amplitude": float(target.amplitude),
            "tolerance": float(target.tolerance),
        }
        for index, target in enumerate(parsed)
    ]
    key = {"target_set": name}
    connection = current().connection
    if efeature.TargetSet & key:
        known = (efeature.TargetSet & key).fetch1()
        is_same = all(known[column] == value for column, value in head.items())
        is_same = is_same and (efeature.TargetSet.Target & key).to_dicts(order_by="target") == rows
        return _same("target set", name, is_same)

    def write() -> None:
        for place, (settings, names) in groups.items():
            add_feature_set(sets[place], names, settings, [place[0]], f"for the targets {name}")
        upsert(efeature.TargetSet, [head])
        upsert(efeature.TargetSet.Target, rows)

    connection.run_transaction(write)
    return name


def add_auto_targets(
    name: str,
    cell_group: str,
    rheobase_method: str = "absolute",
    auto_targets: Iterable[AutoTarget] | None = None,
    efel_settings: Mapping[str, Any] | None = None,
) -> str:
    """Add the targets for which a group of cells has recordings, and return their name; populate first.

    Parameters
    ----------
    name : str
        Of the target set.
    cell_group, rheobase_method : str
        Whose amplitudes in % of rheobase are looked at, all cells together.
    auto_targets : iterable of AutoTarget, optional
        `labweave.ephys.auto_targets.default_auto_targets` without.
    efel_settings : mapping, optional
        As in `add_target_set`.

    Raises
    ------
    ConfigError
        No recording fits.
    UnknownFeature
        A name that eFEL does not have.
    SchemaError
        The target set exists with other contents, also when the recordings now allow other targets.

    Examples
    --------
    >>> from labweave.analysis import add_auto_targets
    >>> from labweave.ephys import AutoTarget
    >>> rates = AutoTarget(["IDrest"], [200, 150], ["mean_frequency"], min_recordings_per_amplitude=1, tolerance=30)
    >>> add_auto_targets("rates", "demo", auto_targets=[rates])
    'rates'
    """
    current()
    members = (efeature.CellGroup.Member & {"cell_group": cell_group}).proj()
    found = recording.RecordingStimulus.proj("amp") * rheobase.Rheobase.proj("rheobase") & members
    recordings = [
        SimpleNamespace(protocol_name=row["protocol"], amp_rel=100.0 * row["amp"] / row["rheobase"])
        for row in (found & {"rheobase_method": rheobase_method}).to_dicts()
        if row["rheobase"] is not None and row["amp"] is not None
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ephys.FeatureWarning)  # the error says it
        targets = choose_auto_targets(
            [SimpleNamespace(recordings=recordings)],
            default_auto_targets() if auto_targets is None else auto_targets,
        )
    if not targets:
        advice = "Is the group there, and has labweave populate been run?"
        if recordings:
            advice = "Too few are near a wanted amplitude: try others, or lower min_recordings_per_amplitude."
        raise ConfigError(
            f"No automatic target fits the group {cell_group!r}. {len(recordings)} of its recordings have an amplitude "
            f"in % of the rheobase by {rheobase_method!r}. {advice}"
        )
    return add_target_set(name, targets, efel_settings)


def add_cell_group(name: str, cells: Any = None, description: str = "") -> str:
    """Add a group of cells to average over, and return its name; calling again adds cells to it.

    Parameters
    ----------
    name : str
    cells : restriction of ``recording.Cell``, optional
        For example ``{"cell_type": "L5PC"}`` or a list of keys; every cell without.
    description : str, optional

    Raises
    ------
    SchemaError
        No cell fits.

    Examples
    --------
    >>> from labweave.analysis import add_cell_group
    >>> add_cell_group("first", {"cell": "sim01"})
    'first'
    >>> from labweave.schemas import efeature
    >>> (efeature.CellGroup.Member & {"cell_group": "first"}).to_arrays("cell").tolist()
    ['sim01']
    """
    current()
    chosen = recording.Cell if cells is None else recording.Cell & cells
    keys = chosen.proj().to_dicts()
    if not keys:
        raise SchemaError(
            f"No cell fits the group {name!r}. Ingest recordings first: labweave ingest ephys FOLDER --lab LAB"
        )
    upsert(efeature.CellGroup, [{"cell_group": name, **({"description": description} if description else {})}])
    upsert(efeature.CellGroup.Member, [{"cell_group": name, **key} for key in keys])
    return name


def add_extraction(cell_group: str, target_set: str, rheobase_method: str = "absolute") -> None:
    """Ask for the efeatures of a group of cells at some targets; populate makes them.

    Parameters
    ----------
    cell_group, target_set, rheobase_method : str

    Raises
    ------
    ConfigError
        There is no such group, target set or method.

    Examples
    --------
    >>> from labweave.analysis import add_cell_group, add_extraction
    >>> group = add_cell_group("second", {"cell": "sim02"})
    >>> add_extraction(group, "demo firing")
    """
    current()
    key = {"cell_group": cell_group, "target_set": target_set, "rheobase_method": rheobase_method}
    for table, name in zip((efeature.CellGroup, efeature.TargetSet, rheobase.RheobaseMethod), key, strict=True):
        if not table & {name: key[name]}:
            known = ", ".join(table().to_arrays(name).tolist()) or "none"
            raise ConfigError(f"No {name.replace('_', ' ')} is called {key[name]!r}. There are: {known}.")
    upsert(efeature.ExtractionTask, [key])


def add_rheobase_method(
    name: str,
    strategy: str = "absolute",
    settings: Mapping[str, Any] | None = None,
    protocols: Iterable[str] = ephys.DEFAULT_RHEOBASE_PROTOCOLS,
) -> str:
    """Add a way to find the rheobase, which populate then uses for every cell too, and return its name.

    Parameters
    ----------
    name : str
    strategy : str
        absolute, flush, majority or interpolation.
    settings : mapping, optional
        Of the strategy, as `labweave.ephys.find_rheobase` lists them. Two more go with every strategy:
        ``efel_settings`` (mapping) counts the spikes anew, ``compat`` ("bluepyefe") finds what BluePyEfe does.
    protocols : iterable of str, optional
        Only sweeps of these are looked at.

    Raises
    ------
    ConfigError
        A strategy, setting or value that can't be used, or no protocol.
    SchemaError
        The method exists with other contents: a change is a new method.

    Examples
    --------
    >>> from labweave.analysis import add_rheobase_method
    >>> add_rheobase_method("majority", "majority", {"majority": 0.6}, protocols=["IDrest"])
    'majority'
    """
    given = dict(settings or {})
    names = [protocols] if isinstance(protocols, str) else list(protocols)
    if not names:
        raise ConfigError(f"The rheobase method {name!r} has no protocol. Name those whose sweeps are to be used.")
    of_strategy = {key: value for key, value in given.items() if key not in ("efel_settings", "compat")}
    validate_settings(strategy, of_strategy, given.get("compat"))
    try:
        ephys.validate_efeatures([], given.get("efel_settings"))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"efel_settings of the rheobase method {name!r} can't be used: {error}") from error
    row = {
        "rheobase_method": name,
        "strategy": strategy,
        "strategy_settings": plain_json(given),
        "protocols": list(dict.fromkeys(names)),
    }
    current()
    if known := (rheobase.RheobaseMethod & {"rheobase_method": name}).to_dicts():
        is_same = set(known[0]["protocols"]) == set(names)
        is_same = is_same and all(known[0][column] == row[column] for column in ("strategy", "strategy_settings"))
        return _same("rheobase method", name, is_same)
    upsert(rheobase.RheobaseMethod, [row])
    return name


def _same(what: str, name: str, is_same: bool) -> str:
    """Return a name that is there with the same contents; SchemaError when it has others."""
    if not is_same:
        raise SchemaError(f"The {what} {name!r} exists with other contents. Add the new one under a new name.")
    return name


def _parse(name: str, index: int, target: Mapping[str, Any]) -> Target:
    try:
        return Target.from_dict(dict(target))
    except ValueError as error:
        raise ConfigError(f"Target {index} of {name!r} can't be used: {error}") from None


def _settings_name(settings: Mapping[str, Any]) -> str:
    return "default" if dict(settings) == ephys.DEFAULT_EFEL_SETTINGS else f"settings-{_digest(to_json(settings))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]

"""The named filters of each endpoint, as restrictions of labweave's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from labweave.one.alyx.models import MODELS, as_list, filter_name, pairs, resource_of, restrict
from labweave.one.alyx.regions import Regions, around, at_regions, regions, within
from labweave.schemas import dataset, lab

Filter = Callable[[Any, Any], Any]


def _any_of(model: str, path: str, query: Any, value: Any) -> Any:
    """Filter by one field; a list means any of its values."""
    if isinstance(value, (list, tuple, set)):
        return query & [restrict(model, query, path, item).proj() for item in value] if value else query
    return restrict(model, query, path, value)


def _all_of(model: str, path: str, query: Any, value: Any) -> Any:
    """Filter by several values, every one of which must be there."""
    for item in as_list(value):
        query = restrict(model, query, path, item)
    return query


def _json_pairs(model: str, path: str, query: Any, value: Any) -> Any:
    """Filter by names and values in JSON, alternating."""
    for name, item in pairs(f"{path}={value!r}", "task,PASS", as_list(value)):
        query = restrict(model, query, f"{path}__{name}", item)
    return query


def _date_range(model: str, path: str, query: Any, value: Any) -> Any:
    """Filter by the first and the last day."""
    days = as_list(value)
    if len(days) != 2:
        raise ValueError(f"date_range={value!r}: give the first and the last day, 2025-01-01,2025-06-30.")
    return restrict(model, restrict(model, query, f"{path}__gte", days[0]), f"{path}__lte", days[1])


def _performance(operator: str, query: Any, value: Any) -> Any:
    """Filter by the percentage of right answers."""
    return query & "n_trials > 0" & f"n_correct_trials * 100.0 / n_trials {operator} {float(value)!r}"


def _those_or_others(query: Any, those: Any, value: Any) -> Any:
    return those if str(value).casefold() in ("true", "1") else query - those.proj()


def _with_histology(query: Any, value: Any) -> Any:
    """Keep sessions of subjects that have a session with the procedure Histology, or the others."""
    sliced = restrict("sessions", query, "subject__actions_sessions__procedures__name", "Histology")
    return _those_or_others(query, sliced, value)


def _copies(query: Any, value: Any) -> Any:
    """Keep datasets with a copy that is online and exists, or with one that doesn't."""
    exists = str(value).casefold() in ("true", "1")
    online = dataset.Repository() - {"repository_kind": "personal"}
    return query & (MODELS["files"].rows() & {"present": exists} & online.proj()).proj("dataset_id")


def _in_stock(query: Any, value: Any) -> Any:
    """Keep animals of people who look after the stock, or the others."""
    keepers = (lab.LabMember() & {"is_stock_manager": True}).proj(responsible_user="user")
    return _those_or_others(query, query & keepers, value)


def _with_procedure(query: Any, value: Any) -> Any:
    """Keep surgeries in which something was done."""
    rows = query.proj("surgery_procedures").to_dicts()
    names = {row["surgery_uuid"]: map(str.casefold, row["surgery_procedures"] or ()) for row in rows}
    return query & [{"surgery_uuid": key} for key, held in names.items() if str(value).casefold() in held]


def _restricted(query: Any, value: Any) -> Any:
    """Keep animals that are on water restriction now, or those that aren't."""
    open_now = MODELS["water-restriction"].rows() & "restriction_end is null"
    return _those_or_others(query, query & open_now.proj("lab", "subject"), value)


def by_dataset(model: str, query: Any, asked: Mapping[str, Any]) -> Any:
    """Filter by the names, types, tags and QC of datasets, which belong together."""
    rows, names = MODELS["datasets"].rows(), as_list(asked.get("datasets") or ())
    if "dataset_qc_lte" in asked or names:
        rows = restrict("datasets", rows, "qc__lte", asked.get("dataset_qc_lte", "FAIL"))
    if names:
        rows = restrict("datasets", rows, "file_records__exists", True)
    wanted = [rows & {"dataset_name": name} for name in names]
    types = as_list(asked.get("dataset_types") or ())
    wanted += [MODELS["datasets"].rows() & {"dataset_type": name} for name in types]
    for item in wanted or [rows] * ("dataset_qc_lte" in asked):
        query = query & item.proj("eid") if model == "sessions" else query & _probes_of(query, item)
    return query


def _probes_of(query: Any, datasets: Any) -> list[dict[str, Any]]:
    """Return the keys of insertions whose name is in the collection of a dataset of their session."""
    probes = query.proj().to_dicts()
    held: dict[str, set[str]] = {}
    for row in (datasets & query.proj()).proj("eid", "collection").to_dicts():
        held.setdefault(row["eid"], set()).add(row["collection"])
    return [probe for probe in probes if any(probe["probe_name"] in name for name in held.get(probe["eid"], ()))]


REGION_FITS: dict[str, Callable[[Mapping[str, Any], str], bool]] = {
    "atlas_id": lambda region, text: str(region["brain_region"]) == text,
    "atlas_acronym": lambda region, text: region["acronym"].casefold() == text.casefold(),
    "atlas_name": lambda region, text: text.casefold() in region["region_name"].casefold(),
}


def _at_region(name: str, shared: tuple[str, ...], query: Any, value: Any) -> Any:
    """Keep what has a probe in a region or in a part of it; a list means any of its regions."""
    texts = [str(item) for item in (value if isinstance(value, (list, tuple, set)) else [value])]
    fits = REGION_FITS[name]
    return at_regions(query, shared, within(regions(), lambda region: any(fits(region, text) for text in texts)))


def _of_regions(choose: Callable[[Regions, int], Iterable[int]], query: Any, value: Any) -> Any:
    """Keep the regions around one, or those within it, which is named by its id or acronym."""
    known = regions()
    same = [number for number, row in known.items() if str(value) in (str(number), row["acronym"])]
    return query & [{"brain_region": number} for start in same for number in choose(known, start) if number]


_OF_SUBJECT = {"subject": "subject", "nickname": "subject__nickname__icontains", "lab": "subject__lab__name"}
_OF_PROJECT = dict.fromkeys(("project", "projects"), "session__projects__name__icontains")

PATHS: dict[str, dict[str, str]] = {
    "sessions": {
        "subject": "subject__nickname__iexact",
        "nickname": "subject__nickname__icontains",
        "lab": "lab__name__iexact",
        "project": "projects__name__icontains",
        "tag": "data_dataset_session_related__tags__name",
    },
    "datasets": {
        "session": "session",
        "tag": "tags__name",
        "lab": "session__lab__name",
        "subject": "session__subject__nickname",
        "probe_insertion": "session__probe_insertion__id",
        "date": "session__start_time__date",
        "md5": "hash",
        "created_date_gte": "created_datetime__gte",
        "created_date_lte": "created_datetime__lte",
        "public": "tags__tag__public",
        "protected": "tags__tag__protected",
    },
    "files": {
        "dataset": "dataset",
        "lab": "dataset__session__lab__name",
        "globus_is_personal": "data_repository__globus_is_personal",
    },
    "insertions": {
        "session": "session",
        "subject": "session__subject__nickname",
        "lab": "session__lab__name",
        "date": "session__start_time__date",
        "experiment_number": "session__number",
        "task_protocol": "session__task_protocol__icontains",
        **_OF_PROJECT,
        "tag": "session__data_dataset_session_related__tags__name",
    },
    "trajectories": {
        "probe_insertion": "probe_insertion",
        "session": "session",
        "probe": "probe_insertion__name",
        "subject": "probe_insertion__session__subject__nickname",
        "date": "probe_insertion__session__start_time__date",
        "experiment_number": "probe_insertion__session__number",
        "project": "probe_insertion__session__projects__name__icontains",
    },
    "channels": {
        "trajectory_estimate": "trajectory_estimate",
        "probe_insertion": "trajectory_estimate__probe_insertion__id",
        "session": "trajectory_estimate__session__id",
        "subject": "trajectory_estimate__session__subject__nickname",
        "lab": "trajectory_estimate__session__lab__name",
    },
    "subjects": {"project": "projects__name", "alive": "death_date__isnull"},
    "weighings": _OF_SUBJECT,
    "water-administrations": _OF_SUBJECT,
    "water-restriction": {"subject": "subject"},
    "surgeries": {"subject": "subject"},
    "data-repository": {"globus_is_personal": "globus_is_personal"},
}
"""Endpoint -> filter -> the path that it compares, for filters that are not named as a field."""


def _region_filters(*shared: str) -> dict[str, Filter]:
    return {name: partial(_at_region, name, shared) for name in REGION_FITS}


OTHERS: dict[str, dict[str, Filter]] = {
    "sessions": {
        "users": partial(_all_of, "sessions", "users__username"),
        "date_range": partial(_date_range, "sessions", "start_time__date"),
        "performance_gte": partial(_performance, ">="),
        "performance_lte": partial(_performance, "<="),
        "extended_qc": partial(_json_pairs, "sessions", "extended_qc"),
        "json": partial(_json_pairs, "sessions", "json"),
        "histology": _with_histology,
        **_region_filters("eid"),
    },
    "datasets": {"exists": _copies},
    "insertions": _region_filters("eid", "probe_name"),
    "brain-regions": {
        "ancestors": partial(_of_regions, around),
        "descendants": partial(_of_regions, lambda known, start: within(known, known[start].__eq__)),
    },
    "surgeries": {"procedure": _with_procedure},
    "subjects": {"stock": _in_stock, "water_restricted": _restricted},
    "weighings": {"date_range": partial(_date_range, "weighings", "date_time")},
    "water-administrations": {"date_range": partial(_date_range, "water-administrations", "date_time")},
}
"""Endpoint -> the filters that compare more than one field."""


def _filters_of(endpoint: str) -> dict[str, Filter]:
    """Return the filters of an endpoint: those that follow from its fields, and those listed here."""
    paths = {}
    for field in resource_of(endpoint).fields:
        if field.filter not in ("", "path"):
            name = filter_name(field)
            paths[name] = name if field.filter == "exact" else f"{name}__{field.filter}"
    paths |= PATHS.get(endpoint, {})
    return {name: partial(_any_of, endpoint, path) for name, path in paths.items()} | OTHERS.get(endpoint, {})


FILTERS = {endpoint: _filters_of(endpoint) for endpoint in MODELS if "." not in endpoint}
"""Endpoint -> the filters it takes besides ``django``, ``limit`` and ``offset``."""

TOGETHER = ("datasets", "dataset_types", "dataset_qc_lte")
"""Filters of sessions and insertions that are asked of the same datasets."""


def filter_names(endpoint: str) -> list[str]:
    """Return the names of all filters of an endpoint, sorted."""
    together = TOGETHER if endpoint in ("sessions", "insertions") else ()
    return sorted({*FILTERS[endpoint], *together, "django", "limit", "offset"})

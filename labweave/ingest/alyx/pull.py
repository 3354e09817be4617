"""Asking an Alyx server for one part of a sync, until all of it has come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from labweave.database.reads import in_parts
from labweave.formats.alyx import RESOURCES, AlyxClient, AlyxError, Resource
from labweave.formats.alyx.client import PAGE_ROWS, REQUESTS_PER_MINUTE, Page
from labweave.formats.plain import tidy
from labweave.ingest.alyx.login import find_login
from labweave.ingest.alyx.scopes import Range, as_list, bounds, django, in_range, span
from labweave.ingest.alyx.standins import StandIn, stand_in_for
from labweave.ingest.alyx.tables import SourceRecord
from labweave.schemas.dataset import Dataset, DatasetTag
from labweave.schemas.ingestion import Source
from labweave.schemas.session import Procedure
from labweave.schemas.subject import Subject

IDS_PER_REQUEST = 100
MAX_BROKEN = {"subjects": 25}
MAX_BROKEN_OF_OTHERS = 3
"""The server may fail on so many records of one part; when it fails on more, the server itself is broken."""

PROBES = 20
"""How many records are asked for one by one before a whole list is given up."""

Records = list[dict[str, Any]]


@dataclass
class Pulled:
    """The records of one part, and what could not be read.

    Attributes
    ----------
    records : list of dict
        Each once. Added are ``subject_uuid`` where the server names a subject by nickname, and ``procedure_names``,
        id -> name, to surgeries: a record is compared with what it names.
    broken : list of (range, str)
        Ranges of one record each that the server fails on, and how.
    unreadable : dict
        Id -> why the server does not give it.
    stand_ins : dict
        First id of a broken range -> what is known of the subject there.
    """

    records: Records
    broken: list[tuple[Range, str]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    stand_ins: dict[int, StandIn] = field(default_factory=dict)
    probed: bool = False


PLANNED: dict[str, Pulled] = {}
"""Answers that came while their part was planned, kept until the part is pulled."""

_clients: dict[str, AlyxClient] = {}


def open_client(url: str, sharing: int = 1, fresh: bool = False) -> AlyxClient:
    """Return this process's connection to a server; with `fresh`, its login is looked up again.

    `sharing` is the number of processes that share the pace which the server allows.
    """
    if fresh:
        PLANNED.clear()
        if url in _clients:
            _clients.pop(url).close()
    if url not in _clients:
        _clients[url] = AlyxClient(url, find_login(url), REQUESTS_PER_MINUTE // sharing)
    return _clients[url]


def part_key(client: AlyxClient, name: str, scope: Mapping[str, Any]) -> str:
    """Return what a part is kept by in `PLANNED`."""
    return json.dumps([client.url, name, scope], sort_keys=True)


def pull(client: AlyxClient, source: str, name: str, scope: Mapping[str, Any]) -> Pulled:
    """Pull one part of a resource.

    Its scope has any of ``range`` (as of `span`), ``since`` (stamp), ``known`` (stamps to leave out), ``unstamped``,
    ``ids``, ``filters`` (pairs), ``tag`` (uuid and name).

    Raises
    ------
    AlyxError
        The server does not answer, or not completely.
    """
    resource, pulled = RESOURCES[name], ask(client, name, scope)
    if "tag" in scope:
        _add_untagged(client, resource, scope, pulled)
    if resource.by_nickname:
        _add_subjects(source, client, resource, scope, pulled)
    if name == "surgeries":
        _add_procedures(pulled)
    if name == "subjects":
        for (low, high), found in pulled.broken:
            if stand_in := stand_in_for(client, source, low, high, found):
                pulled.stand_ins[low] = stand_in
    return pulled


def ask(client: AlyxClient, name: str, scope: Mapping[str, Any]) -> Pulled:
    """Ask the server for a part; unlike `pull`, without a look into the tables."""
    if (kept := PLANNED.pop(part_key(client, name, scope), None)) is not None:
        return kept
    resource, pulled = RESOURCES[name], Pulled([])
    if resource.path in client.broken:
        raise _is_broken(client, resource)
    if name == "session-details":
        _pull_details(client, scope["ids"], pulled)
    elif not resource.ranged:
        pulled.records = _pull_whole(client, resource)
    else:
        pulled.records = list(_pull(client, resource, scope, pulled))
    return pulled


def _pull(
    client: AlyxClient, resource: Resource, scope: Mapping[str, Any], pulled: Pulled, more: tuple = ()
) -> Iterator[dict[str, Any]]:
    if "ids" not in scope:
        yield from pull_range(client, resource, scope, pulled, more)
        return
    for chosen in in_parts(scope["ids"], IDS_PER_REQUEST):
        yield from pull_range(client, resource, {}, pulled, (("id__in", as_list(chosen)), *more))


def pull_range(
    client: AlyxClient, resource: Resource, scope: Mapping[str, Any], pulled: Pulled, more: tuple = ()
) -> Iterator[dict[str, Any]]:
    """Yield the records of an id range.

    A range that does not fit one answer is halved, and so is one with a record that the server fails on: in the end
    that record is alone.
    """
    low, high = bounds(scope)
    query = django(resource, scope, more)
    for attempt in (1, 2):
        try:
            page = client.page(resource.path, {**query, "limit": str(PAGE_ROWS)})
        except AlyxError as error:
            if error.status != 500:
                raise
            count = client.count(resource.path, query)
            if not count:
                return
            max_broken = MAX_BROKEN.get(resource.name, MAX_BROKEN_OF_OTHERS)
            if count > max_broken and not pulled.probed:
                pulled.probed = True
                _probe(client, resource, query, count)
            if count == 1:
                pulled.broken.append(((low, high), error.found))
                if len(pulled.broken) > max_broken:
                    raise
                return
            break
        if not page.is_last:
            break
        if is_complete(resource, page):
            yield from page.rows
            return
        if attempt == 2:
            raise _incomplete(client, resource, _n_distinct(resource, page), page.count)
    middle = (low + high) // 2
    if middle in (low, high):
        raise AlyxError(
            f"{client.url}{resource.path}", "an answer of one id has several pages", "Is this an Alyx server?"
        )
    for part in (span(low, middle), span(middle, high)):
        yield from pull_range(client, resource, {**scope, "range": part}, pulled, more)


def is_complete(resource: Resource, page: Page) -> bool:
    """Say whether one answer holds every record that the server counts."""
    return page.is_last and len(page.rows) == page.count == _n_distinct(resource, page)


def _n_distinct(resource: Resource, page: Page) -> int:
    """Count records, each once; those without an id of their own can't be told apart."""
    return len({resource.record_id(row) for row in page.rows}) if resource.ranged == "id" else len(page.rows)


def _probe(client: AlyxClient, resource: Resource, query: Mapping[str, str], count: int) -> None:
    """Give up a list that fails on each record of a sample: no single record is to blame."""
    n = min(PROBES, count)
    for index in range(n):
        try:
            client.page(resource.path, {**query, "limit": "1", "offset": str(count * index // n)})
        except AlyxError as error:
            if error.status != 500:
                raise
        else:
            return
    client.broken[resource.path] = f"each of {n} records that were asked for fails with status 500"
    raise _is_broken(client, resource)


def _is_broken(client: AlyxClient, resource: Resource) -> AlyxError:
    found, advice = client.broken[resource.path], "Look into the server's log; then sync again."
    return AlyxError(f"{client.url}{resource.path}", found, advice, 500)


def _incomplete(client: AlyxClient, resource: Resource, n: int, count: int) -> AlyxError:
    advice = "Try again; if it stays so, look into the server's log."
    return AlyxError(f"{client.url}{resource.path}", f"{n} of {count} records came", advice)


def _pull_whole(client: AlyxClient, resource: Resource) -> Records:
    """Return a short list that takes no filter; one of several pages is read again until every record has come."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(3):
        offset, count, is_last = 0, 0, False
        while not is_last:
            page = client.page(resource.path, {"limit": str(PAGE_ROWS), **({"offset": str(offset)} if offset else {})})
            found |= {resource.record_id(row): row for row in page.rows}
            count, is_last, offset = page.count, page.is_last or not page.rows, offset + len(page.rows)
        if len(found) == count:
            return list(found.values())
        found = {} if len(found) > count else found
    raise _incomplete(client, resource, len(found), count)


def _pull_details(client: AlyxClient, ids: list[str], pulled: Pulled) -> None:
    for eid in ids:
        try:
            record = client.get(f"/sessions/{eid}")
        except AlyxError as error:
            if error.status not in (404, 500):
                raise
            if error.status == 500:  # 404: deleted since the list was read
                pulled.unreadable[eid] = str(error)
            continue
        if not isinstance(record, dict) or str(record.get("id", eid)).lower() != eid:
            raise AlyxError(f"{client.url}/sessions/{eid}", "the answer is not a session", "Is this an Alyx server?")
        pulled.records.append({**record, "id": eid})


def _add_untagged(client: AlyxClient, resource: Resource, scope: Mapping[str, Any], pulled: Pulled) -> None:
    """Add the datasets that have lost the tag since."""
    low, high = bounds(scope)
    tagged = DatasetTag * Dataset.proj("dataset_vanished") & {"tag": scope["tag"][1]} & "dataset_vanished is null"
    tagged &= in_range("dataset_id", low, high)
    lost = set(tagged.to_arrays("dataset_id").tolist()) - {resource.record_id(row) for row in pulled.records}
    pulled.records += _pull(client, resource, {"ids": sorted(lost)}, pulled)


def _add_subjects(
    source: str, client: AlyxClient, resource: Resource, scope: Mapping[str, Any], pulled: Pulled
) -> None:
    """Add to each record the uuid of its subject.

    Where two labs share a nickname the server is asked for the records of each of these subjects but the last.
    """
    known: dict[str, list[str]] = {}
    for subject_uuid, (_, name) in sorted(subjects_of(source).items()):
        known.setdefault(name, []).append(subject_uuid)
    shared: dict[str, Records] = {}
    records: Records = []
    for record in pulled.records:
        name = tidy(record["subject"])
        owners = known.get(name, [])
        if len(owners) > 1:
            shared.setdefault(name, []).append(record)
        else:
            records.append({**record, "subject_uuid": owners[0] if owners else None})
    for name, listed in shared.items():
        owned: set[str] = set()
        *asked, last = known[name]
        if resource.ranged != "id":  # records without an id can't be told apart
            asked, listed, last = known[name], [], ""
        for subject_uuid in asked:
            for record in _pull(client, resource, scope, pulled, (("subject__id", subject_uuid),)):
                records.append({**record, "subject_uuid": subject_uuid})
                owned.add(resource.record_id(records[-1]))
        records += [{**record, "subject_uuid": last} for record in listed if resource.record_id(record) not in owned]
    pulled.records = records


def _add_procedures(pulled: Pulled) -> None:
    """Add to each record the names of its procedures, of which it has the ids; so it differs when one is renamed."""
    names = {row["procedure_uuid"]: row["procedure"] for row in Procedure.proj("procedure_uuid").to_dicts()}
    for record in pulled.records:
        record["procedure_names"] = {item: names.get(item) for item in record.get("procedures") or ()}


def subjects_of(source: str) -> dict[str, tuple[str, str]]:
    """Return the subjects that came from a source: uuid -> lab and name."""
    own = SourceRecord & {"source": source, "resource": "subjects"}
    ids = set(own.to_arrays("record_id").tolist())
    rows = Subject.proj("subject_uuid").to_dicts()
    return {row["subject_uuid"]: (row["lab"], row["subject"]) for row in rows if row["subject_uuid"] in ids}


def zone_of(source: str) -> ZoneInfo | None:
    """Return the time zone of a server; UTC without."""
    options = (Source & {"source": source}).fetch1("options") or {}
    return ZoneInfo(options["time_zone"]) if options.get("time_zone", "UTC") != "UTC" else None

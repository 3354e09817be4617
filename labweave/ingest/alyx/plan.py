"""The parts of a sync, stage by stage: which records of which resource, in ranges that fit one answer.

A shell or a script can give files another path, or pass a tag on to another dataset, and move no stamp and no count.
What neither shows is looked at in turns, all of it in thirty nights. Nights without a sync are made up for by the next.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datajoint as dj

from labweave.database.reads import in_parts
from labweave.formats.alyx import RESOURCES, AlyxClient, AlyxError, Resource
from labweave.formats.alyx.client import PAGE_ROWS
from labweave.formats.hashing import NO_HASH
from labweave.ingest.alyx.mirror import tables
from labweave.ingest.alyx.pull import PLANNED, Pulled, ask, is_complete, part_key, zone_of
from labweave.ingest.alyx.scopes import LAST_ID, UNASKABLE, as_list, django, in_range, present_records, span
from labweave.ingest.alyx.tables import SyncCursor, SyncRun
from labweave.schemas.dataset import Dataset, DatasetTag, FileRecord, Repository, Tag
from labweave.schemas.ingestion import Run
from labweave.schemas.lab import Location
from labweave.schemas.session import Session

ROWS_PER_PART = 900
"""Ids are random: of ranges with 900 records on average, one in two thousand holds more than the 1000 of an answer."""

DETAILS_PER_PART = 25
OVERLAP = dt.timedelta(hours=2)
"""How far before the cursor is read again: stamps are set before they are committed, by several
clocks, and run an hour ahead when summer time ends."""

STAGES: dict[str, tuple[str, ...]] = {
    "reference": (
        *("data-repository", "procedures", "data-formats", "dataset-types", "revisions", "tags"),
        *("labs", "users", "projects", "locations", "brain-regions"),
    ),
    "subjects": ("subjects",),
    "sessions": ("sessions", "weighings", "water-administrations", "water-restriction", "surgeries"),
    "details": ("session-details", "insertions", "notes"),
    "datasets": ("datasets", "trajectories"),
    "files": ("files", "channels"),
}
"""Stage -> resources; a stage needs those before it."""

BY_COUNT = "brain-regions"
"""This resource is an atlas."""

IN_ORDER = "reference"
"""In this stage a resource also needs those before it; all of them are short."""

BY_STAMP = {
    "insertions": "insertions",
    "datasets": "datasets",
    "files": "datasets",
    "trajectories": "trajectories",
    "channels": "trajectories",
}
"""Resource -> the resource whose cursor its changes are asked from; the others are listed whole each time."""

STAMPED = tuple(name for name, resource in RESOURCES.items() if resource.stamp_field)
"""Resources whose rows keep a stamp, if they have one. The cursor of each says up to which stamp all is known."""

LABELS = {
    "insertions": ("model", "model__probe_model"),
    "trajectories": ("coordinate_system", "coordinate_system__name"),
}
"""Resource -> the column of a label, and how a filter reaches it; sessions have their location in `_moved`."""

NIGHTS = 30
"""In so many nights, what neither a stamp nor a count shows is looked at once."""

ATLAS_NIGHTS = 7
"""In how many nights the regions of the atlas are counted once."""

DIGITS = tuple(place for place in range(36) if place not in (8, 13, 14, 18, 19, 23))
"""Where the random digits of an id are."""

NAMES_PER_REQUEST = 50
STAMPS_PER_REQUEST = 50
RUNS_LOOKED_AT = 50

Part = tuple[str, dict[str, Any]]
"""Resource and scope."""


@dataclass(frozen=True)
class Choice:
    """What a run is asked for, and what is known of its source.

    Attributes
    ----------
    since : str or None
        Stamp to ask changes from instead of the cursors.
    last : datetime or None
        When the last complete sync began, in UTC.
    known : dict
        Resource -> stamps that are left out when it is asked for changes.
    unchanged : set of str
        Resources that were found to have no new stamp since the last sync.
    nights : tuple of int
        The days that have begun since the last complete sync, the last thirty at most; each has its turns.
    """

    source: str
    subjects: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    labs: tuple[str, ...] = ()
    since: str | None = None
    full: bool = False
    cursors: Mapping[str, str] = field(default_factory=dict)
    last: dt.datetime | None = None
    known: dict[str, list[str]] = field(default_factory=dict)
    unchanged: set[str] = field(default_factory=set)
    nights: tuple[int, ...] = ()

    def turns(self, of: int) -> set[int]:
        """Return which of so many turns are due: one a night, and all of them in the first or another sync of a day."""
        return {night % of for night in self.nights} or set(range(of))

    @property
    def is_whole(self) -> bool:
        """Say whether the whole server is asked for."""
        return not (self.subjects or self.projects or self.labs)

    def filters(self, resource: Resource) -> list[list[str]] | None:
        """Return the filters for a resource, or None when it can't be restricted so and is left out."""
        if self.is_whole or not resource.ranged:
            return []
        if resource.subject_path is None:
            return None
        given = (
            (resource.subject_path, "nickname", self.subjects),
            (resource.subject_path, "lab__name", self.labs),
            (resource.session_path, "projects__name", self.projects),
        )
        return [[f"{path}{name}__in", as_list(names)] for path, name, names in given if names and path is not None]

    @property
    def read_until(self) -> dt.datetime | None:
        """The time before which all changes were read, by the last complete sync, long after they were made."""
        return self.last and self.last - OVERLAP

    def stamp_before(self, name: str) -> str | None:
        """Return the stamp from which changes of a resource are asked, or None for everything."""
        if self.full:
            return None
        if self.since:
            return self.since
        cursor = self.cursors.get(BY_STAMP.get(name, name))
        return (dt.datetime.fromisoformat(cursor) - OVERLAP).isoformat() if cursor else None


def last_complete_sync(source: str) -> dt.datetime | None:
    """Return when the last complete sync began, in UTC."""
    finished = Run * SyncRun & {"source": source, "status": "finished"}
    for row in finished.to_dicts(order_by="started desc", limit=RUNS_LOOKED_AT):
        if not any(row["sync_options"].get(name) for name in ("subjects", "projects", "labs", "since")):
            return row["started"]
    return None


def due_nights(last: dt.datetime | None) -> tuple[int, ...]:
    """Return the numbers of the days that have begun since the last complete sync, the last thirty at most."""
    if last is None:
        return ()
    today = dt.datetime.now(dt.timezone.utc).date().toordinal()
    return tuple(range(max(last.date().toordinal(), today - NIGHTS) + 1, today + 1))


def make_choice(source: str, asked: Mapping[str, Any]) -> Choice:
    """Return what a run is asked for, with what is known of its source."""
    names = {name: tuple(asked[name]) for name in ("subjects", "projects", "labs")}
    cursors = {row["resource"]: row["cursor_stamp"] for row in (SyncCursor & {"source": source}).to_dicts()}
    last = last_complete_sync(source)
    known = {"cursors": cursors, "last": last, "nights": due_nights(last)}
    return Choice(source, **names, since=asked["since"], full=asked["full"], **known)


def plan_resource(client: AlyxClient, choice: Choice, name: str) -> Iterator[Part]:
    """Yield the parts of one resource."""
    resource, filters = RESOURCES[name], choice.filters(RESOURCES[name])
    if filters is None:
        return
    common = {"filters": filters} if filters else {}
    if name == BY_COUNT:
        yield from _when_count_differs(client, choice, name)
    elif not resource.ranged:
        yield name, {"complete": True}
    elif name == "session-details":
        yield from parts_of_ids(name, due_details(client, choice))
    elif name in BY_STAMP and (since := choice.stamp_before(name)):
        unwritten = present_records(choice.source, name) & {"record_sha256": NO_HASH}
        yield from parts_of_ids(name, unwritten.to_arrays("record_id").tolist(), ROWS_PER_PART)
        if BY_STAMP[name] in choice.unchanged:
            return
        changes = list(_changed(client, resource, {**common, **_since(choice, name, since)}))
        yield from changes
        if not changes:
            choice.unchanged.add(name)
        if name in STAMPED and has_unstamped(name):
            yield from _changed(client, resource, {**common, "unstamped": True})
    elif filters:
        yield from _ranges(client, resource, common, at_least=1)
    else:
        known = len(present_records(choice.source, name))
        yield from _ranges(client, resource, {"complete": True}, at_least=1, count=known or None)


def _when_count_differs(client: AlyxClient, choice: Choice, name: str) -> Iterator[Part]:
    """Yield the whole list of what hardly ever changes and costs the server much, when it counts more or fewer."""
    there = present_records(choice.source, name)
    known = there & f"record_sha256 <> '{NO_HASH}'"
    if 0 not in choice.turns(ATLAS_NIGHTS) and not choice.full and len(there) == len(known):
        return
    try:
        count = client.count(RESOURCES[name].path, {})
    except AlyxError as error:
        if error.status != 404:
            raise
        return  # an old server has no such list
    if choice.full or count != len(known):
        yield name, {"complete": True}


def _stamps(name: str) -> tuple[Any, str]:
    """Return the table of a resource and the column of its stamps."""
    resource = RESOURCES[name]
    (column,) = (field.column for field in resource.fields if field.name == resource.stamp)
    return tables()[resource.table], column


def has_unstamped(name: str) -> bool:
    """Say whether rows lack a stamp: no stamp tells when they change. New ones show in the counts."""
    table, attribute = _stamps(name)
    return bool(table() & f"{attribute} is null" & f"{RESOURCES[name].mark} is null")


def parts_of_ids(name: str, ids: Iterable[str], size: int = DETAILS_PER_PART) -> Iterator[Part]:
    """Yield parts with up to `size` ids each."""
    for part in in_parts(sorted(ids), size):
        yield name, {"ids": part}


def _ranges(
    client: AlyxClient, resource: Resource, scope: dict[str, Any], at_least: int = 0, count: int | None = None
) -> Iterator[Part]:
    """Yield ranges for the records that the server counts; with `count` it need not."""
    if count is None:
        count = client.count(resource.path, django(resource, scope))
    n = max(at_least, -(-count // ROWS_PER_PART))
    for index in range(n):
        yield resource.name, {**scope, "range": span(LAST_ID * index // n, LAST_ID * (index + 1) // n)}


def _since(choice: Choice, name: str, since: str) -> dict[str, Any]:
    """Return the scope of changes since a stamp, without stamps that were read long after they were set.

    A record that was read soon after its stamp may have been in the middle of a change, and another one of the same
    stamp may not have been there yet. Such stamps are asked for again.
    """
    if name in STAMPED:  # before the run writes new ones; files and channels hang on the stamps of others
        choice.known[name] = [] if choice.since or choice.read_until is None else _known_stamps(choice, name, since)
    known = choice.known.get(BY_STAMP.get(name, name), [])
    return {"since": since, **({"known": known} if 0 < len(known) <= STAMPS_PER_REQUEST else {})}


def _known_stamps(choice: Choice, name: str, since: str) -> list[str]:
    """Return the stamps of a resource that need not be read again, as the server shows them."""
    table, attribute = _stamps(name)
    zone = zone_of(choice.source) or dt.timezone.utc
    first = dt.datetime.fromisoformat(since).replace(tzinfo=zone).astimezone(dt.timezone.utc).replace(tzinfo=None)
    stamps = dj.U(attribute) & (table() & f"{attribute} >= '{first}' and {attribute} < '{choice.read_until}'")
    listed = stamps.to_arrays(attribute).tolist()
    shown = {stamp.replace(tzinfo=dt.timezone.utc).astimezone(zone).replace(tzinfo=None) for stamp in listed}
    return sorted(stamp.isoformat() for stamp in shown)


def _changed(client: AlyxClient, resource: Resource, scope: dict[str, Any]) -> Iterator[Part]:
    """Yield the ranges of what changed; when one answer holds all of it, that is the only part."""
    try:
        page = client.page(resource.path, {**django(resource, scope), "limit": str(PAGE_ROWS)})
    except AlyxError:  # pulling the ranges shows where it fails
        yield from _ranges(client, resource, {name: value for name, value in scope.items() if name != "known"})
        return
    if not is_complete(resource, page):
        yield from _ranges(client, resource, scope, count=page.count)
    elif page.rows:
        part = {**scope, "range": span(0, LAST_ID)}
        PLANNED[part_key(client, resource.name, part)] = Pulled(page.rows)
        yield resource.name, part


def due_details(client: AlyxClient, choice: Choice) -> set[str]:
    """Return the eids of the sessions whose details are to be read: new, changed in the list or by stamp, or all."""
    common = {"filters": filters} if (filters := choice.filters(RESOURCES["session-details"])) else {}
    eids = set(present_records(choice.source, "sessions").to_arrays("record_id").tolist())
    if common:
        eids &= set(_eids(client, common))
    since = choice.stamp_before("session-details")
    if since is None:
        return eids
    due = unread_details(choice.source).union(
        _eids(client, {**common, **_since(choice, "session-details", since)}), _moved(client)
    )
    if has_unstamped("session-details"):
        due.update(_eids(client, {**common, "unstamped": True}))
    return due & eids


def unread_details(source: str) -> set[str]:
    """Return the eids of listed sessions whose details were not read since the list last said something new."""
    listed = present_records(source, "sessions")
    read = present_records(source, "session-details") & f"record_sha256 <> '{NO_HASH}'"
    return set(listed.to_arrays("record_id").tolist()) - set(read.to_arrays("record_id").tolist())


def _eids(client: AlyxClient, scope: dict[str, Any]) -> Iterator[str]:
    """Yield the ids of listed sessions."""
    resource = RESOURCES["sessions"]
    for name, part in _changed(client, resource, scope):
        for record in ask(client, name, part).records:
            yield resource.record_id(record)


def _moved(client: AlyxClient) -> Iterator[str]:
    """Yield the sessions of locations where the server counts more or fewer than are known: a rename has no stamp.

    The server counts those of half of the locations that have sessions, each night other ones, and of all that have
    none: there a renamed location is.
    """
    known: dict[str, set[str]] = defaultdict(set)
    here = Session & "session_vanished is null"
    for eid, name in zip(*here.to_arrays("eid", "session_location"), strict=True):
        known[name].add(eid)
    locations = set((Location & "location_vanished is null").to_arrays("location").tolist())
    names = [name for name in locations if name and not name.isdigit() and not set(name) & UNASKABLE]
    used, unused = ([name for name in names if (name in known) is is_used] for is_used in (True, False))
    for group in in_parts([*random.sample(used, -(-len(used) // 2)), *unused], NAMES_PER_REQUEST):
        yield from _moved_among(client, group, known)


def _moved_among(client: AlyxClient, names: list[str], known: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield the sessions that came to or left those of some locations whose counts differ."""
    filters = [["location__name__in", as_list(names)] if len(names) > 1 else ["location__name", names[0]]]
    count = client.count("/sessions", django(RESOURCES["sessions"], {"filters": filters}))
    if count == sum(len(known.get(name, ())) for name in names):
        return
    if len(names) == 1:
        yield from known.get(names[0], set()) ^ set(_eids(client, {"filters": filters}))
        return
    for name in names:
        yield from _moved_among(client, [name], known)


def differing_ranges(client: AlyxClient, source: str, name: str, absent: set[str]) -> Iterator[Part]:
    """Yield the ranges in which the server counts more or fewer records than are known, to be listed whole."""
    for part in narrow(client, name, {}, present_records(source, name), "record_id", absent):
        yield name, {"range": part, "complete": True}


def differing_files(client: AlyxClient, source: str, absent: set[str], absent_repositories: set[str]) -> Iterator[Part]:
    """Yield the ranges in which the server counts more or fewer file records than are known, in all or that exist.

    Alyx's own transfers move no stamp, and listing all file records is a third of the work of a first sync.
    """
    if _has_gone_repository(source, absent_repositories):
        yield from _ranges(client, RESOURCES["files"], {"complete": True})
        return
    listed = list(differing_ranges(client, source, "files", absent))
    yield from listed
    existing = {"filters": [["exists", "True"]]}
    own = FileRecord & {"present": True} & "file_vanished is null"
    for part in narrow(client, "files", existing, own, "file_record_id"):
        if (item := ("files", {"range": part, "complete": True})) not in listed:
            yield item


def renamed_labels(client: AlyxClient, name: str) -> Iterator[Part]:
    """Yield the whole list when the server counts other records with the labels that are known: a rename has no stamp.

    A label is the name of something that has no table, kept in each row.
    """
    resource, (column, path) = RESOURCES[name], LABELS[name]
    here = (tables()[resource.table]() & f"{resource.mark} is null" & f"{column} <> ''").to_arrays(column).tolist()
    known = Counter(label for label in here if not set(label) & UNASKABLE)
    for labels in in_parts(sorted(known), NAMES_PER_REQUEST):
        asked = {"filters": [[f"{path}__in", as_list(labels)]]}
        if client.count(resource.path, django(resource, asked)) != sum(known[label] for label in labels):
            yield from _ranges(client, resource, {"complete": True})
            return


def _has_gone_repository(source: str, absent: set[str]) -> bool:
    """Say whether known file records are in a repository that is gone from the server: it may have another name now."""
    gone = set((Repository & "repository_vanished is not null").to_arrays("repository").tolist()) | absent
    known = present_records(source, "files").proj()
    for name in sorted(gone):
        files = (FileRecord & {"repository": name} & "file_vanished is null").proj(record_id="file_record_id")
        if files.restrict(known, semantic_check=False):
            return True
    return False


def differing_tags(client: AlyxClient, source: str, nights: Sequence[int]) -> Iterator[Part]:
    """Yield the ranges in which the server counts more or fewer datasets of a tag than are known.

    Every other night counts those in a half of all ids, each time another half. So a tag that one dataset has passed on
    to another is found, too, while the tag's count stays equal: thirty nights miss one of 30,000 such changes.
    """
    halves: list[int | None] = [DIGITS[night // 2 % len(DIGITS)] for night in nights if night % 2]
    for place in [*halves, *([] if nights and nights[-1] % 2 else [None])]:
        try:
            yield from _differing_among(client, source, place)
        except AlyxError as error:
            if place is None or error.status != 500:
                raise
            yield from _differing_among(client, source, None)  # an old server that can't compare ids so


def _differing_among(client: AlyxClient, source: str, place: int | None) -> Iterator[Part]:
    """Yield the ranges that differ in a tag, among all datasets or those whose id has a digit below 8 at a place."""
    half = [] if place is None else [["id__regex", f"^.{{{place}}}[0-7]"]]
    digits = ", ".join(f"'{digit}'" for digit in range(8))
    own_half = True if place is None else f"substr(dataset_id, {place + 1}, 1) in ({digits})"
    there = set(present_records(source, "tags").to_arrays("record_id").tolist())
    for row in Tag.proj("tag_uuid").to_dicts(order_by="tag"):
        if row["tag_uuid"] not in there:
            continue
        tag = [row["tag_uuid"], row["tag"]]
        tagged = (DatasetTag & {"tag": row["tag"]}) * (Dataset & "dataset_vanished is null").proj()
        for part in narrow(client, "datasets", {"tag": tag, "filters": half}, tagged & own_half, "dataset_id"):
            yield "datasets", {"tag": tag, "range": part}


def files_of_nights(source: str, nights: Sequence[int]) -> Iterator[Part]:
    """Yield the parts of the file records that are listed in some nights: all of them in thirty."""
    for night in nights:
        index = night % NIGHTS
        yield from parts_of_range(source, "files", LAST_ID * index // NIGHTS, LAST_ID * (index + 1) // NIGHTS)


def parts_of_range(source: str, name: str, low: int, high: int) -> Iterator[Part]:
    """Yield the parts of a range of ids, to be listed whole."""
    known = len(present_records(source, name) & in_range("record_id", low, high))
    n = max(1, -(-known // ROWS_PER_PART))
    for index in range(n):
        ends = low + (high - low) * index // n, low + (high - low) * (index + 1) // n
        yield name, {"range": span(*ends), "complete": True}


def narrow(
    client: AlyxClient,
    name: str,
    scope: dict[str, Any],
    own: Any,
    id_column: str,
    absent: Collection[str] = (),
    within: tuple[int, int] = (0, LAST_ID),
) -> Iterator[list[str]]:
    """Yield the ranges of one answer in which the server does not count as many as rows are known and not absent."""
    first, last = part = span(*within)
    there = client.count(RESOURCES[name].path, django(RESOURCES[name], {**scope, "range": part}))
    here = len(own & in_range(id_column, *within)) - sum(first <= key < (last or "g") for key in absent)
    if there == here:
        return
    if max(there, here) <= ROWS_PER_PART:
        yield part
        return
    low, high = within
    n = min(16, -(-max(there, here) // ROWS_PER_PART) + 1)
    for index in range(n):
        step = (low + (high - low) * index // n, low + (high - low) * (index + 1) // n)
        yield from narrow(client, name, scope, own, id_column, absent, step)

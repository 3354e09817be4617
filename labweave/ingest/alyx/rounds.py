"""Rounds: what neither a stamp nor a count shows is looked at in parts, one a night, all of it in thirty nights.

A shell or a script can give files another path, or pass a tag on to another dataset, and move no stamp and no count.
Nights without a sync are made up for by the next one.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator, Sequence
from typing import Any

from labweave.database.reads import in_parts
from labweave.formats.alyx import RESOURCES, AlyxClient, AlyxError
from labweave.ingest.alyx.plan import NAMES_PER_REQUEST, Part, narrow, parts_of_range, tagged, tags_of
from labweave.ingest.alyx.scopes import LAST_ID, as_list, django
from labweave.schemas.dataset import Dataset, DatasetTag

NIGHTS = 30

DIGITS = tuple(place for place in range(36) if place not in (8, 13, 14, 18, 19, 23))
"""Where the random digits of an id are: one for each night."""


def due_nights(last: dt.datetime | None) -> tuple[int, ...]:
    """Return the numbers of the days that have begun since the last complete sync, the last thirty at most."""
    if last is None:
        return ()
    today = dt.datetime.now(dt.timezone.utc).date().toordinal()
    return tuple(range(max(last.date().toordinal(), today - NIGHTS) + 1, today + 1))


def files_of_nights(source: str, nights: Sequence[int]) -> Iterator[Part]:
    """Yield the parts of the file records that are listed in some nights."""
    for night in nights:
        index = night % NIGHTS
        yield from parts_of_range(source, "files", LAST_ID * index // NIGHTS, LAST_ID * (index + 1) // NIGHTS)


def swapped_tags(client: AlyxClient, source: str, nights: Sequence[int]) -> Iterator[Part]:
    """Yield the ranges with datasets that have passed a tag on, or got it, while the tag's count stayed equal.

    Each night counts the datasets with any of a random half of the tags, where one digit of the id is below 8, each
    night another digit: thirty nights miss one of some thousand changes.
    """
    for night in nights:
        place = DIGITS[night % NIGHTS]
        half = [["id__regex", f"^.{{{place}}}[0-7]"]]
        own_half = f"substr(dataset_id, {place + 1}, 1) in ('0', '1', '2', '3', '4', '5', '6', '7')"
        tags = tags_of(source)
        for group in in_parts(random.sample(tags, -(-len(tags) // 2)), NAMES_PER_REQUEST):
            names: list[dict[str, Any]] = [{"tag": name} for _, name in group]
            here = Dataset & "dataset_vanished is null" & own_half & (DatasetTag & names).proj()
            filters = [["tags__id__in", as_list(tag_uuid for tag_uuid, _ in group)], *half]
            try:
                there = client.count("/datasets", django(RESOURCES["datasets"], {"filters": filters}))
            except AlyxError as error:
                if error.status != 500:
                    raise
                return  # an old server that can't compare ids so
            if there == len(here):
                continue
            for tag in group:
                scope = {"tag": list(tag), "filters": half}
                for part in narrow(client, "datasets", scope, tagged(tag[1]) & own_half, "dataset_id"):
                    yield "datasets", {"tag": list(tag), "range": part}

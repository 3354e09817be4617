"""Subjects that a server fails on: which they are, why, and what else it shows of them.

A weighing or a water administration without a date makes Alyx fail wherever it shows its subject. Counts and other
lists still work: they tell the id, the name and the lab, so that all that belongs to the subject has its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labweave.formats.alyx import RESOURCES, AlyxClient, AlyxError
from labweave.formats.alyx.fields import last_part
from labweave.formats.plain import tidy
from labweave.ingest.alyx.scopes import UNASKABLE, django, id_text, in_range, present_records, span

NAMES_SUBJECT = ("sessions", "weighings", "water-administrations", "water-restriction", "surgeries")
"""Lists whose records name their subject."""

DATED = {"weighings": "weighing", "water-administrations": "wateradministration"}
"""List -> what Alyx's admin calls its records; one without a date breaks its subject."""


@dataclass(frozen=True)
class StandIn:
    """A subject that the server can't show.

    Attributes
    ----------
    subject_uuid : str
    row : dict
        What is known of it; empty where not even its name is.
    reason : str
        Why it can't be shown, and what to do.
    """

    subject_uuid: str
    row: dict[str, Any]
    reason: str


def stand_in_for(client: AlyxClient, source: str, low: int, high: int, found: str) -> StandIn | None:
    """Return what is known of the one subject in a range of ids; None when it is gone meanwhile."""
    subject_uuid = _known_id(source, low, high) or _find_id(client, low, high)
    if not _count(client, subject_uuid):
        return None
    name = _find_name(client, subject_uuid)
    lab = _find_lab(client, source, subject_uuid) if name else ""
    row = {"lab": lab, "subject": name, "subject_uuid": subject_uuid} if lab else {}
    made = " It was made of what other records say: its name and lab, and all that belongs to it." if row else ""
    return StandIn(
        subject_uuid, row, f"the server fails on this subject ({found}). {_cause(client, subject_uuid)}{made}"
    )


def _known_id(source: str, low: int, high: int) -> str:
    """Return the id of the subject that earlier syncs know in a range; empty for none, or several."""
    known = (present_records(source, "subjects") & in_range("record_id", low, high)).to_arrays("record_id").tolist()
    return known[0] if len(known) == 1 else ""


def _find_id(client: AlyxClient, low: int, high: int) -> str:
    """Return the id of the one subject in a range, by counting halves of it; no list gives it."""
    while high - low > 1:
        middle = (low + high) // 2
        is_low = client.count("/subjects", django(RESOURCES["subjects"], {"range": span(low, middle)}))
        low, high = (low, middle) if is_low else (middle, high)
    return id_text(low)


def _count(client: AlyxClient, subject_uuid: str, *more: str) -> int:
    return client.count("/subjects", {"django": ",".join(("id", subject_uuid, *more))})


def _find_name(client: AlyxClient, subject_uuid: str) -> str:
    """Return the nickname that other records give the subject; empty when there are none."""
    for path in NAMES_SUBJECT:
        for record in _ask(client, path, "subject__id", subject_uuid, limit=1):
            return tidy(record["subject"])
    return ""


def _find_lab(client: AlyxClient, source: str, subject_uuid: str) -> str:
    """Return the lab of the subject; that of its sessions may be another."""
    for lab in present_records(source, "labs").to_arrays("record_id", order_by="record_id").tolist():
        if not set(lab) & UNASKABLE and _count(client, subject_uuid, "lab__name", lab):
            return tidy(lab)
    return ""


def _cause(client: AlyxClient, subject_uuid: str) -> str:
    """Name the records that keep the server from showing a subject, as far as it is known what does that."""
    undated = [
        f"{client.url}/admin/actions/{model}/{last_part(record['url'])}/change/"
        for path, model in DATED.items()
        for record in _ask(client, path, "subject__id", subject_uuid, "date_time__isnull", "True")
    ]
    if not undated:
        return "Ask the server's administrator to look into its log."
    return (
        f"A weighing or water administration without a date does that. Give it one, or delete it: {' '.join(undated)}"
    )


def _ask(client: AlyxClient, path: str, *filters: str, limit: int = 5) -> list[dict[str, Any]]:
    """Return some records of a list; none when the server fails on it, too."""
    try:
        return client.page(f"/{path}", {"django": ",".join(filters), "limit": str(limit)}).rows
    except AlyxError as error:
        if error.status != 500:
            raise
        return []

"""An explanation as PROV-JSON, the W3C's format for where data comes from."""

from __future__ import annotations

import datetime as dt
from typing import Any

from labweave.database.values import to_json
from labweave.provenance.explanation import Explanation
from labweave.provenance.steps import Thing, import_extra, row_of, steps_of

ADDRESS = "urn:labweave:"


def prov_text(found: Explanation) -> str:
    """Return PROV-JSON: rows, files and records are entities, makes and ingestions activities."""
    model = import_extra("prov.model")
    document = model.ProvDocument()
    document.add_namespace("lab", ADDRESS)
    known: set[str] = set()

    def entity(thing: Thing) -> str:
        name = f"lab:{thing.id}"
        if thing.id not in known:
            known.add(thing.id)
            document.entity(name, {"prov:label": thing.name, "prov:type": f"lab:{thing.kind}", **_plain(thing.facts)})
        return name

    def agent(name: str, kind: str) -> str:
        at = f"lab:{kind}-{name.replace(' ', '-')}"
        if at not in known:
            known.add(at)
            document.agent(at, {"prov:label": name, "prov:type": model.PROV[kind]})
        return at

    for step in steps_of(found):
        facts = {"prov:label": step.name, "lab:host": step.host}
        activity = document.activity(f"lab:{step.id}", _utc(step.began), _utc(step.ended), facts)
        for name, version in step.versions.items():
            document.wasAssociatedWith(activity, agent(f"{name} {version}", "SoftwareAgent"))
        if step.by:
            document.wasAssociatedWith(activity, agent(step.by, "Person"))
        for thing in step.read:
            document.used(activity, entity(thing))
        for thing in step.gave:
            document.wasGeneratedBy(entity(thing), activity, _utc(step.ended))
    for at, one in enumerate(found.overwritten):
        now = row_of(one.table, one.key, one.new or {})
        facts = {"prov:label": f"{now.name}, before", "prov:type": "lab:row", **_plain(one.old)}
        old = document.entity(f"lab:{now.id}-before-{at}", facts)
        document.wasInvalidatedBy(old, None, _utc(one.changed_at))
        if now.id in known:
            document.wasRevisionOf(f"lab:{now.id}", old)
    return document.serialize(format="json", indent=2)


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Return values that PROV-JSON can hold, under names of labweave's."""
    return {
        f"lab:{name}": value if isinstance(value, (str, int, float)) else _text(value)
        for name, value in facts.items()
        if value is not None
    }


def _utc(time: dt.datetime | None) -> dt.datetime | None:
    return time and time.replace(tzinfo=dt.timezone.utc)


def _text(value: Any) -> str:
    return to_json([value])[1:-1]

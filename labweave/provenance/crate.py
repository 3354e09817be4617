"""An explanation as an RO-Crate with the profile Process Run Crate, for papers and repositories."""

from __future__ import annotations

import json
import mimetypes
from typing import Any
from urllib.parse import quote

from labweave.database.values import to_json
from labweave.formats.places import folder_of
from labweave.provenance.explanation import Explanation
from labweave.provenance.steps import Step, Thing, import_extra, steps_of

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"


def crate_text(found: Explanation) -> str:
    """Return the ``ro-crate-metadata.json`` of a crate: makes and ingestions are actions on rows and files."""
    crate = import_extra("rocrate.rocrate").ROCrate(version="1.1")
    add = import_extra("rocrate.model.contextentity").ContextEntity
    known: dict[str, Any] = {}

    def entity(at: str, kind: Any, **properties: Any) -> Any:
        if at not in known:
            given = {name: value for name, value in properties.items() if value not in (None, "", [])}
            known[at] = crate.add(add(crate, at, properties={"@type": kind, **given}))
        return known[at]

    def thing(one: Thing) -> Any:
        if one.kind == "file":
            at = _address(one)
            if at not in known:
                about = {"name": one.name, "identifier": f"sha256:{one.facts['sha256']}"}
                about["description"] = f"{one.facts['state']} when this was written"
                about["encodingFormat"] = mimetypes.guess_type(one.name)[0] or "application/octet-stream"
                known[at] = crate.add_file(at, properties=about)
            return known[at]
        if one.kind == "record":
            return entity(f"#{one.id}", "CreativeWork", name=one.name, description=f"record of {one.facts['location']}")
        values = [entity(f"#{one.id}-{name}", "PropertyValue", name=name, value=value) for name, value in _plain(one)]
        return entity(f"#{one.id}", "CreativeWork", name=one.name, variableMeasured=_one_or_all(values))

    def action(step: Step) -> Any:
        version = step.versions.get("labweave", "")
        others = [
            entity(f"#{name}-{quote(other)}", "SoftwareApplication", name=name, softwareVersion=other)
            for name, other in step.versions.items()
            if name != "labweave"
        ]
        software = entity(
            f"#labweave-{quote(version)}" + (f"-{step.id}" if others else ""),
            "SoftwareApplication",
            name="labweave",
            softwareVersion=version,
            softwareRequirements=others,
        )
        agent = entity(f"#person-{quote(step.by)}", "Person", name=step.by) if step.by else None
        about = f"{step.name}, on {step.host}" if step.host else step.name
        made = entity(f"#{step.id}", "CreateAction", name=step.name, description=about, instrument=software)
        for name, value in {
            "startTime": step.began and f"{step.began:%Y-%m-%dT%H:%M:%S}+00:00",
            "endTime": step.ended and f"{step.ended:%Y-%m-%dT%H:%M:%S}+00:00",
            "agent": agent,
            "object": _one_or_all([thing(one) for one in step.read]),
            "result": _one_or_all([thing(one) for one in step.gave]),
        }.items():
            if value:
                made[name] = value
        return made

    root = crate.root_dataset
    crate.name = f"{found.table} {' '.join(map(str, found.key.values()))}"
    crate.description = "What a value in a lab's database was made from, as labweave explains it."
    root["license"] = "As the lab says; nothing is said in its database."
    root["conformsTo"] = entity(PROFILE, "CreativeWork", name="Process Run Crate", version="0.5")
    root["mentions"] = _one_or_all([action(step) for step in steps_of(found)])
    root["author"] = _one_or_all([one for at, one in known.items() if at.startswith("#person-")])
    return json.dumps(crate.metadata.generate(), indent=2, ensure_ascii=False)


def _one_or_all(items: list[Any]) -> Any:
    """Return the only item itself, as RO-Crates are written."""
    return items[0] if len(items) == 1 else items


def _address(one: Thing) -> str:
    path = folder_of(one.facts["location"]) / one.name
    return path.absolute().as_uri() if one.facts["location"] else quote(one.name)


def _plain(one: Thing) -> list[tuple[str, Any]]:
    """Return the values that a crate can hold, others as text."""
    given = [(name, value) for name, value in one.facts.items() if value not in (None, "")]
    return [(name, value if isinstance(value, (str, int, float)) else to_json([value])[1:-1]) for name, value in given]

"""An explanation as steps: what each read, gave, and who did it when. PROV-JSON and RO-Crates are made of these."""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from labweave.errors import ConfigError
from labweave.formats.canonical import canonical_sha256
from labweave.provenance.explanation import Explanation


@dataclass
class Thing:
    """One row, file or record.

    Attributes
    ----------
    id : str
        Short, the same for the same thing.
    kind : {"row", "file", "record"}
    name : str
    facts : dict
        Plain values.
    """

    id: str
    kind: str
    name: str
    facts: dict[str, Any]


@dataclass
class Step:
    """One make or ingestion.

    Attributes
    ----------
    id, name : str
    began, ended : datetime or None
        UTC.
    by, host : str
        Who ran it, on which machine.
    versions : dict
        Of labweave, and of the other programs as far as they are known.
    read, gave : list of Thing
    """

    id: str
    name: str
    began: dt.datetime | None
    ended: dt.datetime | None
    by: str
    host: str
    versions: dict[str, str]
    read: list[Thing] = field(default_factory=list)
    gave: list[Thing] = field(default_factory=list)


def steps_of(found: Explanation) -> Iterator[Step]:
    """Yield the ingestions that gave rows, and the make that read them."""
    rows = {
        label: {canonical_sha256(row.key): row_of(label, row.key, row.values) for row in listed}
        for label, listed in found.rows.items()
    }
    result = row_of(found.table, found.key, {one.name: one.value for one in found.values})
    rows.setdefault(found.table, {})[canonical_sha256(found.key)] = result
    for source in found.sources:
        for given in source.given:
            run = found.runs.get(given.run or "", {})
            what = given.record or given.unit
            step = Step(
                _id("ingestion", source.source, what),
                f"labweave ingest {source.adapter}: {what} of {source.source}",
                run.get("started"),
                run.get("finished"),
                run.get("started_by", ""),
                run.get("host", ""),
                {"labweave": run["version"]} if run.get("version") else {},
            )
            if given.record:
                address = {"location": source.location}
                step.read.append(Thing(_id("record", source.source, given.record), "record", given.record, address))
            for file in given.files:
                facts = {"location": source.location, "sha256": file.sha256, "state": file.state}
                step.read.append(Thing(_id("file", source.source, file.path), "file", file.path, facts))
            step.gave = [rows[label][canonical_sha256(key)] for label, keys in given.gave.items() for key in keys]
            yield step
    if found.make:
        make = found.make
        began = make.made_at - dt.timedelta(seconds=make.seconds)
        read = [row for label, listed in rows.items() for row in listed.values() if row is not result]
        name = f"make of {result.name}"
        yield Step(
            _id("make", result.id), name, began, make.made_at, make.made_by, make.host, make.versions, read, [result]
        )


def row_of(label: str, key: dict[str, Any], values: dict[str, Any]) -> Thing:
    """Return a row as a thing."""
    told = " ".join(f"{name}={value}" for name, value in key.items())
    return Thing(_id(label, key), "row", f"{label} {told}", values)


def _id(kind: str, *what: Any) -> str:
    return f"{kind}-{canonical_sha256(list(what))[:16]}"


def import_extra(module: str) -> Any:
    """Return a module of the extra ``provenance``."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"This form needs {module.partition('.')[0]}: {error}. Install it: pip install 'labweave[provenance]'"
        ) from None

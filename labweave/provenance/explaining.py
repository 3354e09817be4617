"""Why a value is what it is: what it was made from, down to the files, the programs and the people.

All of it is gathered once, as an `Explanation`, which `labweave.provenance.forms` shows in several forms.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from labweave.database import current
from labweave.database.changes import row_sha256
from labweave.database.inputs import find_table, inputs_of, is_name_of_results, made_id, tables_in, why_out_of_date
from labweave.database.made import programs, result_sha256
from labweave.database.reads import KEYS_AT_ONCE, in_parts, rows_among, rows_between, rows_of_keys, table_label
from labweave.ephys.efeatures.units import efeature_unit
from labweave.errors import ReadError, SchemaError
from labweave.formats.hashing import NO_HASH, sha256_of_file
from labweave.formats.places import folder_of
from labweave.ingest.origins import Origin, find_origins
from labweave.provenance.explanation import Explanation, File, FromSource, Given, Key, Make, OldValue, UsedRow, Value
from labweave.schemas.ingestion import Change, Run, Source, SourceFile
from labweave.schemas.provenance import Code, Made, Verified
from labweave.schemas.through import Through

BYTES_READ = 64_000_000
"""Files are hashed up to so many bytes together; of larger ones, size and time of change tell, as they do to ingest."""

UNITS = frozenset(
    ("nA", "pA", "mV", "V", "MOhm", "pF", "s", "ms", "ns", "Hz", "g", "ml", "bytes", "um", "degrees", "rad")
)
"""First words of an attribute's comment that are its unit."""

FILE_FACTS: tuple[str, ...] = ("path", "unit", "size", "mtime_ns", "sha256", "run")


def explain(query: Any) -> Explanation:
    """Say why a row is what it is.

    Parameters
    ----------
    query : DataJoint table, restricted to one row
        A result, a part of one, or a row that came from files or a server.

    Returns
    -------
    Explanation
        Values with units; when, by whom and by which programs it was made, and whether it would come out otherwise
        now; the rows it rests on; their files, and whether these are the same; what was overwritten before.
        `print` shows it as a tree, a notebook as one that opens; `labweave.provenance.render` gives other forms.

    Raises
    ------
    SchemaError
        Not exactly one row fits.

    Examples
    --------
    >>> import labweave
    >>> from labweave.schemas.rheobase import Rheobase
    >>> print(labweave.explain(Rheobase & {"cell": "sim01"}))
    rheobase.Rheobase ... cell=sim01 rheobase_method=absolute
    ├─ rheobase = ... nA   (null when there is none)
    ...
    ├─ recording.RecordingStimulus: ... rows
    ...
    """
    connection = current().connection
    table = query() if isinstance(query, type) else query
    names = [name for name in table.heading.names if not _is_lazy(table, name)]
    rows = table.proj(*(name for name in names if name not in table.primary_key)).to_dicts(limit=2)
    if len(rows) != 1:
        found = "No row fits" if not rows else f"{len(table)} rows fit"
        raise SchemaError(f"{found} {table_label(table)}. Restrict it to one by {', '.join(table.primary_key)}.")
    (row,) = rows
    row |= _lazy_values(table)
    key = {name: row[name] for name in table.primary_key}
    found = Explanation(table_label(table), key, list(_values(table, row)))
    result = find_table(connection, _result_of(table))
    own = {name: key[name] for name in result.primary_key}
    used: dict[str, tuple[Any, dict[tuple, Key]]] = {}
    if is_name_of_results(result.full_table_name):
        found.would_be_made_again = why_out_of_date(result, own)
        _add_make(found, result, own)
        _collect(result, [own], used)
    listed = {label: (part, list(keys.values())) for label, (part, keys) in used.items()}
    found.rows = {label: list(_rows(part, keys)) for label, (part, keys) in listed.items() if keys}
    found.units = {label: _units(listed[label][0]) for label in found.rows}
    if found.would_be_made_again and found.make:
        _find_changed(found, listed)
    listed.setdefault(table_label(table), (find_table(connection, table.full_table_name), [key]))
    _add_sources(found, find_origins(connection, listed), row)
    _add_overwritten(found, listed)
    _add_runs(found)
    return found


def _result_of(table: Any) -> str:
    """Return the full name of a table, or of the master of a part."""
    master = getattr(table, "_master", None)
    return master.full_table_name if master else table.full_table_name


def _is_lazy(table: Any, name: str) -> bool:
    """Say whether fetching an attribute would read it from a file."""
    codec = table.heading[name].codec
    return codec is not None and codec.name != "blob"


def _lazy_values(table: Any) -> dict[str, Any]:
    """Return where the values of one row are that would be read from a file."""
    names = [name for name in table.heading.names if _is_lazy(table, name)]
    if not names:
        return {}
    listed = ", ".join(map(table.connection.adapter.quote_identifier, names))
    sql = f"select {listed} from {table.full_table_name}{table.where_clause()}"
    return dict(zip(names, map(_parsed, table.connection.query(sql).fetchone()), strict=True))


def _values(table: Any, row: Mapping[str, Any]) -> Iterator[Value]:
    for at, name in enumerate(table.heading.secondary_attributes):
        if name not in row or (row[name] in (None, "") and at):
            continue
        unit, about = _unit_and_rest(table.heading[name].comment or "")
        if "in eFEL's unit" in about and name != "n":
            unit = efeature_unit(str(row.get("efeature", "")))
        yield Value(name, row[name], unit, about)


def _unit_and_rest(comment: str) -> tuple[str, str]:
    """Return the unit with which an attribute's comment begins, if it does, and the rest."""
    comment = re.sub(r"^:[^:]*:", "", comment)
    first, _, rest = (part.strip() for part in re.split(r"([,;])", comment + ",", maxsplit=1))
    return (first, rest.rstrip(",")) if first in UNITS else ("", comment)


def _units(table: Any) -> dict[str, str]:
    found = {name: _unit_and_rest(table.heading[name].comment or "")[0] for name in table.heading.secondary_attributes}
    return {name: unit for name, unit in found.items() if unit}


def _add_make(found: Explanation, table: Any, key: Key) -> None:
    """Add when, by whom and by which programs a result was made, and how it was verified last."""
    where = (table & key).where_clause()
    sql = f"select {made_id(table, 't')} from {table.full_table_name} t{where} limit 1"
    ids = [{"made": made} for (made,) in table.connection.query(sql).fetchall()]
    for row in ((Made * Code) & ids).to_dicts():
        names = [one.name for one in dataclasses.fields(Make)]
        now = json.loads(programs()[1][0])
        then = row["versions"]
        differ = {name for name in then.keys() | now.keys() if then.get(name) != now.get(name)}
        row["other_versions"] = {name: (then.get(name), now.get(name)) for name in sorted(differ)}
        row["is_altered"] = result_sha256(table, key) != row["result_sha256"]
        found.make = Make(**{name: row[name] for name in names})
    for row in (Verified & ids).to_dicts(order_by="verified_at desc", limit=1):
        found.verified = {name: row[name] for name in ("verified_at", "verified_by", "outcome", "worst_difference")}


def _collect(table: Any, keys: Sequence[Key], used: dict[str, tuple[Any, dict[tuple, Key]]]) -> None:
    """Collect the rows that some results of a table rest on, and those that these rest on, by table."""
    for expression in _inputs(table, keys):
        for part in tables_in(expression):
            names = [name for name in part.primary_key if name in expression.heading.names]
            if len(names) < len(part.primary_key):
                continue
            rows = used.setdefault(table_label(part), (part, {}))[1]
            new = []
            wanted = expression.proj(*(name for name in names if name not in expression.primary_key))
            for row in wanted.to_dicts(order_by=names):
                own = {name: row[name] for name in part.primary_key}
                if tuple(own.values()) not in rows:
                    rows[tuple(own.values())] = own
                    new.append(own)
            if new and is_name_of_results(part.full_table_name):
                _collect(part, new, used)


def _inputs(table: Any, keys: Sequence[Key]) -> Iterator[Any]:
    """Yield what some results read, as expressions."""
    if len(keys) == 1:
        yield from map(_joined, inputs_of(table, keys[0]).values())
        return
    try:
        inputs = inputs_of(table, {})
    except KeyError:  # it can be asked for a whole key only
        yield from (one for key in keys for one in _inputs(table, [key]))
        return
    for given in inputs.values():
        expression = _joined(given)
        shared = [name for name in table.primary_key if name in expression.heading.names]
        chosen = list(
            {tuple(key[name] for name in shared): {name: key[name] for name in shared} for key in keys}.values()
        )
        yield from (expression & list(part) for part in in_parts(chosen, 200)) if shared else (expression,)


def _joined(given: Any) -> Any:
    return given.rows * given.way if isinstance(given, Through) else given


def _rows(table: Any, keys: Sequence[Key]) -> Iterator[UsedRow]:
    """Yield rows in the order of their keys."""
    names = [name for name in table.heading.secondary_attributes if not table.heading[name].is_blob]
    for row in rows_of_keys(table, keys, [name for name in names if not _is_lazy(table, name)]):
        key = {name: row.pop(name) for name in table.primary_key}
        yield UsedRow(key, row)


def _find_changed(found: Explanation, listed: Mapping[str, tuple[Any, Sequence[Key]]]) -> None:
    """Mark the rows because of which a result would be made again.

    Results among them are those that were made since, or whose rows somebody changed; other rows those that labweave
    has overwritten since.
    """
    assert found.make
    since = found.make.made_at
    named = {name for reason in found.would_be_made_again for name in reason.split(" ")[0].split("*")}
    for label in named & found.rows.keys():
        table, keys = listed[label]
        if is_name_of_results(table.full_table_name):
            changed = _remade(table, keys, since)
        else:
            changed = (one.key for one in _old_values({label: (table, keys)}) if one.changed_at > since)
        those = {tuple(key.values()) for key in changed}
        for row in found.rows[label]:
            row.is_changed = tuple(row.key.values()) in those


def _remade(table: Any, keys: Sequence[Key], since: dt.datetime) -> Iterator[Key]:
    """Yield those of some results that were made since, or that are not what their make gave."""
    connection, quote = table.connection, table.connection.adapter.quote_identifier
    names = table.primary_key
    for part in in_parts(keys, KEYS_AT_ONCE):
        rows = connection.query(
            f"select {', '.join(f't.{quote(name)}' for name in names)}, m.made_at, m.result_sha256"
            f" from {table.full_table_name} t join {Made.full_table_name} m on m.made = {made_id(table, 't')}"
            f"{(table & list(part)).where_clause()}"
        ).fetchall()
        for *values, made_at, sha256 in rows:
            key = dict(zip(names, values, strict=True))
            if made_at > since or result_sha256(table, key) != sha256:
                yield key


# --- sources and files


def _add_sources(found: Explanation, origins: Sequence[Origin], own: Mapping[str, Any]) -> None:
    """Add the sources of rows, with the units or records that gave them and the state of the files."""
    rows = [own, *(row.values for listed in found.rows.values() for row in listed)]
    named = {
        (row["source"], file["path"]): file["sha256"] for row in rows for file in (row.get("files") or {}).values()
    }
    texts = _texts(rows)
    look = _Looker()
    for source in sorted({origin.source for origin in origins} | {source for source, _ in named}):
        about = next(iter((Source & {"source": source}).to_dicts()), {"adapter": "", "location": ""})
        part = FromSource(source, about["adapter"], about["location"], [])
        found.sources.append(part)
        known = _known_files(source, [path for name, path in named if name == source])
        those = [origin for origin in origins if origin.source == source]
        units = _files_of_units(source, [one.unit for one in those if one.unit], known)
        for origin in those:
            given = Given(origin.unit, origin.record, None, origin.vanished_in, origin.gave, [])
            part.given.append(given)
            if origin.record:
                done = (Run & {"source": source, "status": "finished"}).to_dicts(order_by="started desc", limit=1)
                given.run = done[0]["run"] if done else None
                continue
            files = units[origin.unit]
            meant = [file for file in files if not texts.isdisjoint(_ends(file["path"]))]
            given.files = [look(part.location, file) for file in meant or files]
            given.run = files[0]["run"] if files else None
        shown = {file.path for given in part.given for file in given.files}
        lost = {path: sha256 for (name, path), sha256 in named.items() if name == source and path not in shown}
        if lost:  # no unit is known to have given these rows
            files = [known.get(path, {"path": path, "sha256": sha256, "run": None}) for path, sha256 in lost.items()]
            part.given.append(Given("", "", files[0]["run"], None, {}, [look(part.location, file) for file in files]))


def _known_files(source: str, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what ingest knows of some files."""
    return {
        file["path"]: file for file in _facts(rows_among(SourceFile, "path", paths, FILE_FACTS, {"source": source}))
    }


def _files_of_units(
    source: str, units: Sequence[str], known: Mapping[str, dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return what ingest knows of the files of units, but for those of which some are known.

    No index has the unit: its files are mostly its path, or below it.
    """
    found: dict[str, list[dict[str, Any]]] = {unit: [] for unit in units}

    def add(files: Iterable[dict[str, Any]]) -> list[str]:
        for file in files:
            if file["unit"] in found:
                found[file["unit"]].append(file)
        return [unit for unit, listed in found.items() if not listed]

    fixed = {"source": source}
    left = add(known.values())
    left = add(_facts(rows_among(SourceFile, "path", left, FILE_FACTS, fixed)))
    for unit in left:
        add(_facts(rows_between(SourceFile, "path", f"{unit}/", f"{unit}0", FILE_FACTS, fixed)))
    left = add(())
    add(_facts(rows_among(SourceFile, "unit", left, FILE_FACTS, fixed)))
    return found


def _facts(rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(FILE_FACTS, row, strict=True)) for row in sorted(rows)]


def _texts(value: Any) -> set[str]:
    """Return the texts in rows, which may name files; a dataset's name with its folder."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        if "dataset_name" in value and "collection" in value:
            revision = f"#{value['revision']}#" if value.get("revision") else ""
            return {"/".join(filter(None, (value["collection"], revision, value["dataset_name"])))}
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return set()
    return {text for one in value for text in _texts(one)}


def _ends(path: str) -> Iterator[str]:
    """Yield a path, and what is left of it below each of its folders."""
    while path:
        yield path
        path = path.partition("/")[2]


class _Looker:
    """Looks what has become of files; it reads `BYTES_READ` at most."""

    def __init__(self) -> None:
        self.left = BYTES_READ

    def __call__(self, location: str, known: Mapping[str, Any]) -> File:
        file = File(known["path"], known["sha256"], "gone", False, known["run"])
        full = folder_of(location) / file.path
        with contextlib.suppress(OSError, ReadError):
            stat = full.stat()
            file.state = "same" if known.get("mtime_ns", stat.st_mtime_ns) == stat.st_mtime_ns else "changed"
            if known.get("size", stat.st_size) != stat.st_size:
                file.state = "changed"
            elif stat.st_size <= self.left and file.sha256 != NO_HASH:
                self.left -= stat.st_size
                file.is_read = True
                file.state = "same" if sha256_of_file(full) == file.sha256 else "changed"
        return file


# --- what was overwritten


def _old_values(listed: Mapping[str, tuple[Any, Sequence[Key]]]) -> Iterator[OldValue]:
    """Yield what some rows held before, in no order."""
    wanted = {row_sha256(label, key): (label, key) for label, (_, keys) in listed.items() for key in keys}
    columns = ("row_sha256", "old_values", "new_values", "changed_at", "run", "change_kind", "changed_by")
    for row, old, new, *how in rows_among(Change, "row_sha256", wanted, columns):
        yield OldValue(*wanted[row], _parsed(old) or {}, _parsed(new), *how)


def _add_overwritten(found: Explanation, listed: Mapping[str, tuple[Any, Sequence[Key]]]) -> None:
    found.overwritten = sorted(_old_values(listed), key=lambda one: (one.changed_at, one.table, str(one.key)))


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def _add_runs(found: Explanation) -> None:
    """Add who ran what is named, when and where."""
    given = [one for source in found.sources for one in source.given]
    runs = {one.run for one in [*given, *found.overwritten]} | {one.vanished_in for one in given}
    columns = ("run", "source", "status", "started", "finished", "started_by", "host", "version")
    for row in rows_among(Run, "run", sorted(run for run in runs if run), columns):
        found.runs[row[0]] = dict(zip(columns[1:], row[1:], strict=True))

"""What results rest on: hashes of the rows that a computed table reads, kept for each result and compared in SQL.

A computed table says what it reads by a method ``inputs(self, key)`` that returns expressions; without one, its parents
count. For each result, ``provenance.Made.inputs`` keeps of each expression the number of its rows and the sum of their
hashes, as the server computes them. A result is out of date when the same statement, for all results together, gives
something else.

A table may name the packages that it is ``made_with``: their versions count, too.

A computed table that an expression holds with all its attributes counts by the hash of its result, parts included; one
projected to some attributes counts by these. So a result that was made again and came out the same changes nothing.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datajoint.condition import make_condition
from datajoint.expression import QueryExpression
from datajoint.table import FreeTable
from datajoint.user_tables import UserTable

from labweave.database.reads import table_label
from labweave.schemas.through import Through

is_name_of_results = re.compile(r".*[.`\"]__?[a-z](?!.*__)[a-z0-9_]*[`\"]").fullmatch
"""DataJoint marks computed and imported tables so; parts have another __ inside."""


@dataclass(frozen=True)
class OutOfDate:
    """One result that would come out otherwise, or of which nobody knows what it was made from.

    Attributes
    ----------
    key : dict
    reasons : list of str
        What changed, in words.
    only_versions : bool
        The rows are the same; only packages that it was made with are others now.
    """

    key: dict[str, Any]
    reasons: list[str]
    only_versions: bool = False


def inputs_of(table: Any, key: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Return what a computed table reads for one key, or with an empty key for all, by name."""
    given = table.inputs(dict(key), **options) if hasattr(table, "inputs") else _parents(table)
    named: dict[str, Any] = {}
    for one in given:
        expression = one() if isinstance(one, type) else one
        of_label = expression.rows if isinstance(expression, Through) else expression
        label = "*".join(dict.fromkeys(table_label(part) for part in tables_in(of_label)))
        while label in named:
            label += "~"
        if isinstance(expression, Through):
            named[label] = Through(expression.rows, _restricted(expression.way, key))
        else:
            named[label] = _restricted(expression, key)
    return named


def _restricted(expression: Any, key: Mapping[str, Any]) -> Any:
    own = {name: value for name, value in key.items() if name in expression.heading.names}
    return expression & own if own else expression


def out_of_date(table: Any) -> list[OutOfDate]:
    """Return the results of a table, which may be restricted, that would come out otherwise now."""
    try:
        if not inputs_of(table, {}):  # such as a part of a server that was pulled once
            return []
    except KeyError:
        return _out_of_date_by_key(table)
    found = _out_of_date(table)
    for options in getattr(table, "also_fresh", ()) if found else ():
        others = {tuple(one.key.values()): one for one in _out_of_date(table, **options)}
        pairs = [(one, others.get(tuple(one.key.values()))) for one in found]
        found = [other if other.only_versions else one for one, other in pairs if other]
    return found


def _out_of_date(table: Any, **options: Any) -> list[OutOfDate]:
    connection, keys = table.connection, table.primary_key
    quote = connection.adapter.quote_identifier
    made = connection.adapter.make_full_table_name(f"{connection.prefix}provenance", "made")
    now, joins = _now(table, **options)
    rows = connection.query(
        f"select {', '.join(f't.{quote(name)}' for name in keys)}, m.inputs, {now}"
        f" from ({table.proj().make_sql()}) t left join {made} m on {_is_made(table, 't', 'm')}{joins}"
        f" where m.made is null or m.inputs <> {now}"
    ).fetchall()
    found = []
    for *values, before, now in rows:
        reasons, n_versions = _reasons(before, now), len(getattr(table, "made_with", ()))
        only_versions = before is not None and before.split()[n_versions:] == now.split()[n_versions:]
        found.append(OutOfDate(dict(zip(keys, values, strict=False)), reasons, only_versions))
    return found


def fingerprints(table: Any) -> list[tuple[str, str]]:
    """Return the ids of the results of a table in ``provenance.Made``, and what they rest on now, as it keeps it."""
    if not _are_asked_at_once(table):
        return []
    now, joins = _now(table)
    return table.connection.query(
        f"select {made_id(table, 't')}, {now} from {table.full_table_name} t{joins}"
    ).fetchall()


def _are_asked_at_once(table: Any) -> bool:
    """Say whether there are inputs, and they can be asked for without a key."""
    try:
        return bool(inputs_of(table, {}))
    except KeyError:
        return False


def _out_of_date_by_key(table: Any) -> list[OutOfDate]:
    """Return the same, one result after the other, where the inputs can be asked for a whole key only."""
    found = ((key, why_out_of_date(table, key)) for key in table.proj())
    return [OutOfDate(key, reasons) for key, reasons in found if reasons]


def why_out_of_date(table: Any, key: Mapping[str, Any]) -> list[str]:
    """Return why one result would come out otherwise now, without a look at any other; nothing when it would not."""
    connection = table.connection
    variants = [fingerprint_of(table, key, **options) for options in ({}, *getattr(table, "also_fresh", ()))]
    if not variants[0]:
        return []
    made = connection.adapter.make_full_table_name(f"{connection.prefix}provenance", "made")
    rows = connection.query(  # none, when it was deleted meanwhile
        f"select (select m.inputs from {made} m where m.made = {made_id(table, 't')}), {', '.join(variants)}"
        f" from {table.full_table_name} t{(table & dict(key)).where_clause()}"
    ).fetchall()
    return [reason for before, *now in rows if before not in now for reason in _reasons(before, now[0])]


def keep_failed_on(table: Any, key: Mapping[str, Any]) -> None:
    """Keep the hash of what a failed job rests on, in the column that DataJoint has for a version."""
    if now := fingerprint_of(table, key):
        jobs, sha256 = table.jobs, table.connection.adapter.sha256_of(now)
        table.connection.query(f"update {jobs.full_table_name} set version = {sha256}{where_of(jobs, key)}")


def failed_on_others(table: Any) -> list[dict[str, Any]]:
    """Return the keys of failed jobs that rest on something else than when they failed, or nobody knows on what."""
    jobs, adapter = table.jobs, table.connection.adapter
    if not jobs & {"status": "error"} or not _are_asked_at_once(table):
        return []
    names, (now, joins) = jobs.primary_key, _now(table)
    found = table.connection.query(
        f"select {', '.join(f't.{adapter.quote_identifier(name)}' for name in names)}"
        f" from {jobs.full_table_name} t{joins} where t.status = 'error' and t.version <> {adapter.sha256_of(now)}"
    ).fetchall()
    return [dict(zip(names, values, strict=True)) for values in found]


def fingerprint_of(table: Any, key: Mapping[str, Any], **options: Any) -> str:
    """Return SQL for what a result of one key rests on now, as ``Made.inputs`` keeps it; empty when it is nothing."""
    texts = []
    known = None if options else _known_numbers(table)
    for label, names, numbers in known or _numbers_of(table, key, **options):
        where = where_of(table, {name: key[name] for name in names if name in key})
        texts.append(f"'{label}=', (select {_TOTAL} from ({numbers}) r{where})")
    return _sentence([*_versions(table), *texts]) if texts else ""


def where_of(table: Any, key: Mapping[str, Any]) -> str:
    """Return the where clause of a table restricted to a key, for which DataJoint takes 0.1 ms."""
    condition = make_condition(table, key, set())
    return "" if condition is True else f" where {condition}"


def _known_numbers(table: Any) -> list[tuple[str, list[str], str]] | None:
    """Return the SQL of the inputs of all keys, made once where it needs no look at the database.

    DataJoint takes 1 ms to put the joins of `RecordingEFeatures` together, a twentieth of its make.
    """
    connection, name, known = table.connection, table.full_table_name, table.connection.numbers
    if name in known:
        return known[name]
    numbers = None
    for _ in range(2):  # the first look may need a heading
        n_statements = connection.n_statements
        try:
            found = _numbers_of(table, {})
        except KeyError:  # it can be asked for a whole key only
            break
        if connection.n_statements == n_statements:
            numbers = found
            break
    known[name] = numbers
    return numbers


def _numbers_of(
    table: Any, key: Mapping[str, Any], *, at_once: bool = False, **options: Any
) -> list[tuple[str, list[str], str]]:
    """Return of each input its name, the attributes of the key that it has, and the SQL of its numbers.

    The SQL gives the same for one key and for all keys at once, and is fast for one of them.
    """
    found = []
    for label, expression in inputs_of(table, key, **options).items():
        is_through = isinstance(expression, Through)
        heading = (expression.way if is_through else expression).heading
        names = [name for name in table.primary_key if name in heading.names]
        sql = _numbers_through(expression, names, at_once) if is_through else _numbers(expression, names)
        found.append((label, names, sql))
    return found


def _numbers_through(through: Through, keys: list[str], at_once: bool) -> str:
    """Return the same SQL as `_numbers` for rows that others lead to; at once, with sums: each row is hashed once."""
    adapter, shared = through.rows.connection.adapter, through.shared
    kept = ", ".join(f"w.{adapter.quote_identifier(name)}" for name in keys)
    numbers, way = _numbers(through.rows, shared), through.way.make_sql()
    if at_once:
        joined = f"{_totals(adapter, numbers, shared)} a on a.h = {_key_number(adapter, 'w', shared)}"
    else:
        joined = f"({numbers}) a using ({', '.join(map(adapter.quote_identifier, shared))})"
    return f"select {kept}, a.n, a.c from ({way}) w join {joined}"


def _totals(adapter: Any, numbers: str, keys: list[str]) -> str:
    """Return SQL for the sums of such numbers by a number of the key: by long text, MariaDB joins all rows with all."""
    return f"(select {_key_number(adapter, 'r', keys)} h, sum(r.n) n, sum(r.c) c from ({numbers}) r group by 1)"


def _key_number(adapter: Any, alias: str, keys: list[str]) -> str:
    return adapter.key_number([f"{alias}.{adapter.quote_identifier(name)}" for name in keys]) if keys else "0"


_TOTAL = "concat(coalesce(sum(r.c), 0), ':', coalesce(sum(r.n), 0))"


def _sentence(texts: list[str]) -> str:
    return f"""concat({", ' ', ".join(texts)})"""


def _versions(table: Any) -> list[str]:
    return [f"'{package}={version_of(package)}'" for package in getattr(table, "made_with", ())]


@functools.cache
def version_of(package: str) -> str | None:
    """Return the version of a package; None when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now(table: Any, **options: Any) -> tuple[str, str]:
    """Return SQL for what each row of a table, called t, rests on now, and what must be joined for it."""
    adapter, texts, joins = table.connection.adapter, _versions(table), []
    for at, (label, names, numbers) in enumerate(_numbers_of(table, {}, at_once=True, **options)):
        totals = _totals(adapter, numbers, names)
        joins.append(f" left join {totals} f{at} on f{at}.h = {_key_number(adapter, 't', names)}")
        texts.append(f"'{label}=', coalesce(f{at}.c, 0), ':', coalesce(f{at}.n, 0)")
    return _sentence(texts), "".join(joins)


def _numbers(expression: Any, keys: tuple[str, ...] | list[str]) -> str:
    """Return SQL that gives a number for each row of an expression, beside some attributes of it."""
    connection = expression.connection
    quote, adapter = connection.adapter.quote_identifier, connection.adapter
    names = set(expression.heading.names)
    made = adapter.make_full_table_name(f"{connection.prefix}provenance", "made")
    joins, results = "", []
    for at, table in enumerate(tables_in(expression)):
        if is_name_of_results(table.full_table_name) and names.issuperset(table.heading.names):
            names -= set(table.heading.secondary_attributes)
            joins += f" left join {made} m{at} on {_is_made(table, 'e', f'm{at}')}"
            results.append(f"coalesce(m{at}.result_sha256, '-')")
    text = _joined([_text(expression, "e", name) for name in sorted(names)] + results)
    kept = "".join(f"e.{quote(name)}, " for name in keys)
    return f"select {kept}{adapter.number_of(adapter.sha256_of(text))} n, 1 c from ({expression.make_sql()}) e{joins}"


def _is_made(table: Any, alias: str, made: str) -> str:
    """Return the condition that a row of ``provenance.Made`` is that of a row of a table."""
    return f"{made}.made = {made_id(table, alias)} and {made}.made_table = '{table_label(table)}'"


def made_id(table: Any, alias: str) -> str:
    """Return SQL for the id in ``provenance.Made`` of a row of a table, which the statement calls by an alias."""
    texts = [f"'{table_label(table)}'", *(_text(table, alias, name) for name in table.primary_key)]
    return f"cast(left({table.connection.adapter.sha256_of(_joined(texts))}, 32) as char(32))"


def _joined(texts: list[str]) -> str:
    return f"""concat({", '|', ".join(texts)})"""


def _text(expression: Any, alias: str, name: str) -> str:
    """Return SQL for a value as text: with its length, so that no value can look like two, or like none."""
    adapter, attribute = expression.connection.adapter, expression.heading[name]
    column = f"{alias}.{adapter.quote_identifier(name)}"
    sql_type = attribute.type.lower()
    is_text = sql_type.startswith(("varchar", "character varying"))
    text = column if is_text else adapter.text_of(column, sql_type in ("bytea", "longblob"))
    parts = f"octet_length({text}), '=', {text}"
    return parts if attribute.in_key else f"case when {column} is null then '-' else concat({parts}) end"


def _reasons(before: str | None, now: str) -> list[str]:
    if before is None:
        return ["what it was made from was not kept"]
    old, new = _counts(before), _counts(now)
    reasons = []
    for label in [*new, *(name for name in old if name not in new)]:
        if old.get(label) == new.get(label):
            continue
        if ":" not in new.get(label, ":"):
            reasons.append(f"{label} {new[label]}, {old.get(label, 'unknown')} before")
        else:
            n_old, n_new = (counts.get(label, "0:0").partition(":")[0] for counts in (old, new))
            what = "changed" if n_old == n_new else f"has {n_new} rows, {n_old} before"
            reasons.append(f"{label.rstrip('~')} {what}")
    return reasons


def _counts(text: str) -> dict[str, str]:
    return dict(item.split("=", 1) for item in text.split(" ") if item)


def _parents(table: Any) -> Iterator[Any]:
    table.connection.dependencies.load(force=False)
    for parent, link in table.parents(primary=True, as_objects=True, foreign_key_info=True):
        renamed = {child: own for child, own in link["attr_map"].items() if child != own}
        found = find_table(table.connection, parent.full_table_name)
        yield found.proj(..., **renamed) if renamed else found


def tables_in(expression: Any) -> Iterator[Any]:
    """Yield the tables that an expression is made of."""
    for part in expression.support:
        if isinstance(part, QueryExpression):
            yield from tables_in(part)
        else:
            yield find_table(expression.connection, part)


def find_table(connection: Any, full_name: str) -> Any:
    """Return a table of labweave or of a lab by its full name; one that no class was defined for is a free one."""
    known = connection.tables
    if full_name not in known:
        known |= {cls.full_table_name: cls for cls in _classes(UserTable) if cls._connection is connection}
    if full_name not in known:
        known[full_name] = FreeTable(connection, full_name)
    found = known[full_name]
    return found() if isinstance(found, type) else found


def _classes(cls: Any) -> Iterator[Any]:
    for child in cls.__subclasses__():
        yield from _classes(child)
        if getattr(child, "database", None):
            yield child

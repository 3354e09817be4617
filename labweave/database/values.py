"""Values: what a row may hold, made the same on every backend before it is sent.

DataJoint and the drivers differ in how they take NaN, time zones, numpy scalars, JSON,
fractions of a second and text that is too long. A `Column` for each attribute decides
this in Python, so that the same rows give the same table on every server.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from datajoint.codecs import resolve_dtype
from datajoint.heading import Attribute

from labweave.errors import RowError, SchemaError
from labweave.formats.plain import plain_json

INTEGER_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "integer": 32, "mediumint": 24, "bigint": 64}


@dataclass(frozen=True)
class Column:
    """How one attribute takes values.

    Attributes
    ----------
    name : str
    kind : {"text", "integer", "float", "bool", "decimal", "date", "datetime", "json", "bytes"}
    sql_type : str
        Of the column, without its display width.
    convert : callable
        Any value that is not missing -> None, int, float, str, bytes, date or datetime;
        raises ValueError with what was found.
    nullable, has_default, in_key : bool
    need_no_change : callable or None
        List of values without None -> whether `convert` would return every one of them as it is,
        found faster than by converting them.
    """

    name: str
    kind: str
    sql_type: str
    convert: Callable[[Any], Any]
    nullable: bool
    has_default: bool
    in_key: bool
    need_no_change: Callable[[list[Any]], bool] | None

    def convert_all(self, values: list[Any]) -> list[Any]:
        """Return `values` as they are sent, None for what is missing."""
        given = [value for value in values if value is not None]
        is_sent_as_is = not given or (self.need_no_change and self.need_no_change(given))
        if is_sent_as_is and (self.nullable or len(given) == len(values)):
            return values
        convert = self.convert
        converted, sent = [], dict[int, Any]()
        for value in values:
            if (identity := id(value)) not in sent:  # many rows often share one object
                sent[identity] = None if is_missing(value) else convert(value)
            converted.append(sent[identity])
        if not self.nullable and None in converted:
            raise ValueError("no value, and the column needs one")
        return converted


def is_missing(value: Any) -> bool:
    """Say whether a value stands for none: None, NaN, NaT or ``pandas.NA``."""
    if type(value) is str:
        return False
    if value is None or value is pd.NaT or value is pd.NA:
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def make_columns(table: Any) -> dict[str, Column]:
    """Return a `Column` for every attribute of a table."""
    context = {"_schema": table.database, "_table": table.table_name, "_config": table.connection._config}
    return {name: _make_column(attribute, context) for name, attribute in table.heading.attributes.items()}


def _make_column(attribute: Attribute, context: Mapping[str, Any]) -> Column:
    sql_type = attribute.type.lower()
    base = re.split(r"[ (]", sql_type)[0]
    declared = (attribute.original_type or sql_type).lower()
    length = int(match[1]) if (match := re.search(r"\((\d+)", declared)) else None
    as_is: Callable[[list[Any]], bool] | None = None
    if attribute.codec:
        kind, convert = _codec_converter(attribute, context)
    elif attribute.json:
        kind, convert = "json", to_json
    elif attribute.is_blob or base in {"bytea", "longblob"}:
        kind, convert = "bytes", _to_bytes
    elif base in {"bool", "boolean"} or attribute.original_type == "bool":
        kind, convert = "bool", _to_bool
    elif base in INTEGER_BITS:
        bits = int(match[1]) if (match := re.fullmatch(r"int(\d+)", declared)) else INTEGER_BITS[base]
        kind, convert, as_is = "integer", _integer_converter(bits), _integers_as_is(bits)
    elif base in {"float", "real"}:
        kind, convert = "float", lambda value: _to_float(np.float32(value))
    elif base == "double":
        kind, convert, as_is = "float", _to_float, _are_finite
    elif base in {"decimal", "numeric"}:
        places = int(match[1]) if (match := re.search(r",\s*(\d+)\)", declared)) else 0
        kind, convert = "decimal", _decimal_converter(places)
    elif base == "date":
        kind, convert = "date", _to_date
    elif base in {"datetime", "timestamp"}:
        digits = length or (6 if base == "timestamp" else 0)
        kind, convert, as_is = "datetime", _datetime_converter(digits), _are_naive if digits == 6 else None
    else:
        words = re.findall(r"'((?:[^']|'')*)'", attribute.original_type or sql_type) if "enum" in sql_type else None
        width = None if words else length
        kind, convert, as_is = "text", _text_converter(width, words), _texts_as_is(width, words)
    has_default = attribute.default is not None
    return Column(attribute.name, kind, sql_type, convert, attribute.nullable, has_default, attribute.in_key, as_is)


def _texts_as_is(length: int | None, words: list[str] | None) -> Callable[[list[Any]], bool]:
    def as_is(values: list[Any]) -> bool:
        return (
            set(map(type, values)) == {str}
            and (length is None or max(map(len, values)) <= length)
            and (not words or set(values) <= set(words))
            and "\0" not in "".join(values)
        )

    return as_is


def _integers_as_is(bits: int) -> Callable[[list[Any]], bool]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return lambda values: set(map(type, values)) == {int} and low <= min(values) and max(values) <= high


def _are_finite(values: list[Any]) -> bool:
    return set(map(type, values)) == {float} and all(map(math.isfinite, values))


def _are_naive(values: list[Any]) -> bool:
    return set(map(type, values)) == {dt.datetime} and all(value.tzinfo is None for value in values)


_encode_json = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


_SCALARS = {str, int, bool, float, type(None)}


def to_json(value: Any) -> str:
    """Return canonical JSON text: keys sorted, NaN and infinities as null, dates in ISO form."""
    if isinstance(value, str):
        raise ValueError(f"{value!r} is bare text, which not every backend gives back; put it in a dictionary")
    if type(value) is dict:
        is_plain = set(map(type, value)) <= {str} and set(map(type, value.values())) <= _SCALARS
    else:
        is_plain = type(value) is list and set(map(type, value)) <= _SCALARS
    try:
        text = _encode_json(value if is_plain else plain_json(value))
    except ValueError:  # NaN or infinity
        text = _encode_json(plain_json(value))
    if "\\u0000" in text:
        raise ValueError("it holds a NUL character, which PostgreSQL can't store; take it out")
    return text


def _text_converter(length: int | None, words: list[str] | None) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if isinstance(value, bytes):
            raise ValueError("bytes where text is expected; decode them first")
        text = value if type(value) is str else str(value)
        if length is not None and len(text) > length:
            raise ValueError(f"{text[:40]!r}... has {len(text)} characters; the column holds {length}")
        if words and text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        if "\0" in text:
            raise ValueError("the text holds a NUL character, which PostgreSQL can't store; take it out")
        return text

    return convert


def _integer_converter(bits: int) -> Callable[[Any], int]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def convert(value: Any) -> int:
        number = int(value)
        if not isinstance(value, str) and number != value:
            raise ValueError(f"{value!r} is not a whole number")
        if not low <= number <= high:
            raise ValueError(f"{number} is outside {low} to {high}")
        return number

    return convert


def _to_bool(value: Any) -> int:
    if value in (True, False, 0, 1):
        return int(value)
    raise ValueError(f"{value!r} is neither true nor false")


def _to_float(value: Any) -> float | None:
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError("infinity can't be stored on every backend; use a missing value or an array")
    return number


def _decimal_converter(places: int) -> Callable[[Any], str]:
    unit = decimal.Decimal(1).scaleb(-places)

    def convert(value: Any) -> str:
        number = value if isinstance(value, decimal.Decimal) else decimal.Decimal(str(value))
        if not number.is_finite():
            raise ValueError(f"{value!r} is not a finite number")
        return str(number.quantize(unit, rounding=decimal.ROUND_HALF_EVEN))

    return convert


def _to_datetime(value: Any) -> dt.datetime:
    if isinstance(value, (np.datetime64, str)):
        value = pd.Timestamp(value)
    if isinstance(value, pd.Timestamp):
        value = value.floor("us").to_pydatetime()
    if isinstance(value, dt.datetime):
        return value if value.tzinfo is None else value.astimezone(dt.timezone.utc).replace(tzinfo=None)
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    raise ValueError(f"{value!r} is not a time")


def _datetime_converter(digits: int) -> Callable[[Any], dt.datetime]:
    step = 10 ** (6 - digits)

    def convert(value: Any) -> dt.datetime:
        time = _to_datetime(value)
        return time if step == 1 else time.replace(microsecond=time.microsecond // step * step)

    return convert


def _to_date(value: Any) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    time = _to_datetime(value)
    if time.time() != dt.time():
        raise ValueError(f"{value!r} is a time where a date is expected")
    return time.date()


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise ValueError(f"{type(value).__name__} where bytes are expected")


def _codec_converter(attribute: Attribute, context: Mapping[str, Any]) -> tuple[str, Callable[[Any], Any]]:
    """Return the kind of column that a codec's values are kept in, and what makes them."""
    stored, chain, store = resolve_dtype(f"<{attribute.codec.name}>", store_name=attribute.store)
    key = {**context, "_field": attribute.name}

    def encode(value: Any) -> Any:
        if store:
            raise SchemaError(
                f"{context['_table']}.{attribute.name} keeps its values in the store {store!r}; "
                "upsert writes inline values only."
            )
        for codec in chain:
            codec.validate(value)
            value = codec.encode(value, key=key, store_name=store)
        return value

    if stored != "json":
        return "bytes", encode
    return "json", lambda value: to_json(encode(value))


def convert_rows(columns: list[Column], rows: list[Mapping[str, Any]], label: str) -> list[tuple[Any, ...]]:
    """Return the rows as tuples in the order of `columns`.

    Raises
    ------
    RowError
        Names the table, the row by its key, the column, what was found and what is possible.
    """
    try:
        converted = [column.convert_all([row[column.name] for row in rows]) for column in columns]
    except _BAD_VALUE:
        raise _refusal(columns, rows, label) from None
    return list(zip(*converted, strict=True))


_BAD_VALUE = (ValueError, TypeError, ArithmeticError)


def _refusal(columns: list[Column], rows: list[Mapping[str, Any]], label: str) -> RowError:
    """Return the error for the first row that holds a bad value."""
    for row in rows:
        for column in columns:
            try:
                column.convert_all([row[column.name]])
            except _BAD_VALUE as error:
                key = {item.name: row.get(item.name) for item in columns if item.in_key}
                return RowError(
                    f"{label} row {key}, column {column.name} ({column.sql_type}): {error}. "
                    "Correct the value at its source."
                )
    raise AssertionError("unreachable")

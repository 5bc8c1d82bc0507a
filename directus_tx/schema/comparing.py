"""Converts the text of filters to values that compare with a column, and compares JSON values."""

import base64
import math
import re
import struct
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from directus_tx.errors import InvalidRequest
from directus_tx.query import Typed
from directus_tx.schema.datatypes import base_type, family, is_float
from directus_tx.schema.model import Field, NativeType
from directus_tx.schema.parsing import (
    BEYOND,
    MAX_DIMENSIONS,
    NOT_FINITE,
    SERVER_MADE,
    TRUTHS,
    array_text,
    clock_time,
    custom_value,
    plain_text,
)


class _NoMatch:
    """The type of NO_MATCH, which no column value equals."""


NO_MATCH = _NoMatch()


def comparable(field: Field, text: str, now: datetime | None = None) -> Any:
    """Returns the bind value of a filter's text, to compare with the column; NO_MATCH if the text is not a value of the type. *now* is the
    time that "now" stands for."""
    kind = family(field)
    if "\x00" in text:
        return NO_MATCH
    if kind in ("date", "time", "datetime"):
        return _comparable_moment(kind, text.strip(), now)
    if kind in ("integer", "number"):
        return _comparable_number(field, text.strip())
    if kind == "boolean":
        return TRUTHS.get(text.strip().lower(), NO_MATCH)
    if kind == "uuid":
        try:
            return str(uuid.UUID(text))
        except ValueError:
            return NO_MATCH
    return NO_MATCH if kind == "binary" else text


def asked(field: Field, text: str, now: datetime | None = None) -> Any:
    """Returns the bind value of a filter's text. Unlike `comparable`, it also takes values that only PostgreSQL can parse: those of types
    without a datatype, binary values as they are shown, infinity, dates before Christ. PostgreSQL refuses them if they are no values of
    the type, whatever the rows hold."""
    if field.custom is not None and field.custom.parse is not None:
        try:
            text = plain_text(custom_value(field, field.custom.parse, text))
        except ValueError:
            return NO_MATCH
    kind = family(field)
    if "\x00" in text:
        return NO_MATCH
    if field.native is not None:
        text = native_text(field, field.native, text)
        if field.native.named and not field.native.equatable:
            return text
        return Typed(text, field.native.name, field.field, as_text=not field.native.equatable)
    if kind == "binary":
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            return NO_MATCH
    found = comparable(field, text, now)
    if found is NO_MATCH:
        if kind in ("date", "time", "datetime") and (field.column_type not in SERVER_MADE or BEYOND.fullmatch(text)):
            return Typed(text.strip(), base_type(field.column_type), field.field)
        special = NOT_FINITE.get(text.strip().lower()) if kind == "number" else None
        if special is not None:
            return Typed(special, "double precision" if is_float(field) else "numeric", field.field)
        if kind == "uuid":
            return Typed(text, "uuid", field.field)
    elif kind == "number" and base_type(field.column_type) == "real":
        return _single_precision(found)
    return found


def native_text(field: Field, native: NativeType, text: str) -> str:
    """Returns PostgreSQL's text of a value in a filter or a default. An array may also be a JSON list, as it is shown."""
    if native.member is None or not text.lstrip().startswith("["):
        return text
    try:
        return array_text(field, native, orjson.loads(text), MAX_DIMENSIONS)
    except (orjson.JSONDecodeError, InvalidRequest):
        # PostgreSQL's text of an array can begin with its bounds.
        return text


def _single_precision(number: float) -> float:
    """Returns the nearest value of a column of type real. PostgreSQL compares it with wider numbers."""
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def same_value(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal. Unlike in Python, true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    return bool(one == other)


def is_padded(field: Field) -> bool:
    """Whether PostgreSQL fills the values of a column up with blanks, which do not count in comparisons."""
    return base_type(field.column_type) in ("character", "bpchar")


def member(field: Field, text: str, now: datetime | None = None) -> Any:
    """Returns the text as a member of an array of the column's type; NO_MATCH also for numbers that the type cannot hold."""
    whole = family(field) == "integer"
    if whole and text.isascii() and text.isdigit() and len(text) < 19:
        # Nearly all keys are such numbers.
        return int(text)
    found = comparable(field, text.rstrip(" ") if is_padded(field) else text, now)
    if whole and not (isinstance(found, int) and -(2**63) <= found < 2**63):
        return NO_MATCH
    return found


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def _comparable_number(field: Field, text: str) -> Any:
    """Returns a number that PostgreSQL can compare with the column without an error. For float columns, numbers beyond the range become
    infinite."""
    if not _NUMBER.fullmatch(text) or len(text) > 400:
        return NO_MATCH
    number = Decimal(text)
    if is_float(field):
        return float(number)
    if family(field) == "integer" and number == number.to_integral_value():
        return int(number)
    return number


_BLANK_OFFSET = re.compile(r"(:\d\d) (\d\d:?\d\d)$")


def _comparable_moment(kind: str, text: str, now: datetime | None) -> Any:
    if text.lower() == "now" and now is not None:
        moment = now
    else:
        try:
            if kind == "time":
                return clock_time(text if text.count(":") == 2 else f"{text}:00")
            # An unencoded plus sign arrives as a space.
            moment = datetime.fromisoformat(_BLANK_OFFSET.sub(r"\1+\2", text))
        except ValueError:
            return NO_MATCH
        if moment.tzinfo is not None:
            try:
                moment = moment.astimezone(UTC)
            except OverflowError:
                return NO_MATCH
    moment = moment.replace(tzinfo=None)
    return {"date": moment.date().isoformat, "time": moment.time().isoformat, "datetime": moment.isoformat}[kind]()

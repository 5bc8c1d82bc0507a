"""Converts values between payloads, columns, responses, revisions and filters.

`parse` converts a value of a payload for its column, `answer` a column value for a response, `in_history` a column value for a revision,
`restored` a value of a revision for its column, and `comparable` the text of a filter to a value that compares with the column.
"""

import base64
import math
import re
import struct
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import orjson

from directus_tx.errors import InvalidFieldValue, InvalidPayload, InvalidRequest
from directus_tx.query import Typed
from directus_tx.schema.datatypes import DATATYPES, LENGTH, base_type, enumerated, family, is_float, is_json, maximum_length
from directus_tx.schema.model import Field, NativeType

# --- values of payloads

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d\d:\d\d:\d\d")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
MAX_HASHED = 4096
"""Maximum length of a text to be hashed, in characters."""

_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:?\d\d)")


def parse(field: Field, value: Any) -> Any:
    """Returns a value of a payload as the bind value for its column; None for None.

    Raises InvalidPayload if the value is too long or too large, InvalidRequest if it has the wrong type, and InvalidFieldValue for an
    object or list in a field of scalar values.
    """
    if value is None:
        return None
    if field.native is not None:
        return _parse_native(field, field.native, value)
    if field.type == "array":
        return _parse_array(field, value)
    if field.type == "json":
        if not isinstance(value, (dict, list)):
            raise InvalidRequest(f'"{field.field}" takes an object or a list.')
        return _fitting(field, _json_text(field, value))
    if isinstance(value, (dict, list)):
        raise InvalidFieldValue(f'"{field.field}" takes a plain value.')
    parser: Callable[[Field, Any], Any] = _PARSERS.get(family(field), _parse_text)
    return parser(field, value)


def _json_text(field: Field, value: Any) -> str:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        text = ""
    if not text or not _shallow(text, value):
        raise InvalidPayload(f'"{field.field}" takes objects and lists up to {MAX_JSON_DEPTH} deep within each other.')
    return text


def _parse_native(field: Field, native: NativeType, value: Any) -> Typed:
    """Returns a value of a payload for a column whose type has no datatype: a list for an array, any value for json, otherwise
    PostgreSQL's text. PostgreSQL raises the error for a text that is not a value of the type."""
    if is_json(field):
        text = _json_text(field, value)
    elif native.member is not None:
        if not isinstance(value, list):
            raise InvalidRequest(f'"{field.field}" takes a list.')
        text = _array_text(field, native, value, MAX_DIMENSIONS)
    elif isinstance(value, (dict, list)):
        raise InvalidFieldValue(f'"{field.field}" takes a plain value.')
    else:
        text = plain_text(value)
    return Typed(_clean(field, text), native.name, field.field)


MAX_DIMENSIONS = 6
"""The maximum number of dimensions of an array."""


_QUOTED = re.compile(r'[{},;"\\\s]')
"""Matches texts that are quoted in the text of an array, and some that need not be."""


def _array_text(field: Field, native: NativeType, values: list[Any], dimensions: int) -> str:
    """Returns a list as PostgreSQL's text of an array. Lists in it are further dimensions, unless the members are json or arrays."""
    if not dimensions:
        raise InvalidRequest(f'"{field.field}" takes lists up to {MAX_DIMENSIONS} deep within each other.')
    assert native.member is not None
    below = native.member.native
    texts = []
    for value in values:
        if value is None:
            texts.append("NULL")
            continue
        if is_json(native.member):
            text = _json_text(field, value)
        elif below is not None and below.member is not None and isinstance(value, list):
            text = _array_text(field, below, value, MAX_DIMENSIONS)
        elif isinstance(value, list):
            texts.append(_array_text(field, native, value, dimensions - 1))
            continue
        elif isinstance(value, dict):
            raise InvalidFieldValue(f'"{field.field}" takes a list of plain values.')
        else:
            text = plain_text(value)
        if _QUOTED.search(text) or text.upper() in ("", "NULL"):
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            text = f'"{escaped}"'
        texts.append(text)
    return "{" + native.delimiter.join(texts) + "}"


def _parse_array(field: Field, value: Any) -> str:
    if not isinstance(value, list):
        raise InvalidRequest(f'"{field.field}" takes a list.')
    if any(isinstance(member, (dict, list)) for member in value):
        raise InvalidFieldValue(f'"{field.field}" takes a list of plain values.')
    length = maximum_length(field)
    # Directus 8 measures the list as JSON.
    if length is not None and len(orjson.dumps(value).decode()) > max(length, 2):
        raise InvalidPayload(f'"{field.field}" takes at most {length} characters.')
    return _clean(field, ",".join(plain_text(member) for member in value))


def plain_text(value: Any) -> str:
    """Returns a scalar value as it is stored in a text column."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _clean(field: Field, text: str) -> str:
    if "\x00" in text:
        raise InvalidRequest(f'"{field.field}" holds a character that cannot be stored (NUL).')
    return text


def _fitting(field: Field, text: str) -> str:
    length = maximum_length(field)
    if length is not None and len(text) > length:
        raise InvalidPayload(f'"{field.field}" takes at most {length} characters.')
    return _clean(field, text)


def _parse_text(field: Field, value: Any) -> str:
    if field.type == "boolean":
        return "1" if _truth(field, value) else "0"
    text = plain_text(value)
    if field.type == "hash":
        if len(text) > MAX_HASHED:
            raise InvalidPayload(f'"{field.field}" takes at most {MAX_HASHED} characters.')
        return _clean(field, text)
    if field.datatype == "ENUM" and field.length and text not in enumerated(field.length):
        raise InvalidRequest(f'"{field.field}" is one of {field.length}.')
    return _fitting(field, text)


def _decimal(field: Field, value: Any) -> Decimal:
    if isinstance(value, bool):
        return Decimal(int(value))
    try:
        number = Decimal(value if isinstance(value, (int, str)) else repr(value))
    except InvalidOperation:
        raise InvalidRequest(f'"{field.field}" takes a number.') from None
    if not number.is_finite():
        raise InvalidRequest(f'"{field.field}" takes a number.')
    if number.adjusted() > 400 or number.adjusted() < -400:
        raise InvalidPayload(f'"{field.field}" takes no number of that size.')
    return number


def _parse_integer(field: Field, value: Any) -> int:
    if field.type == "boolean":
        return int(_truth(field, value))
    number = int(_decimal(field, value).to_integral_value(ROUND_HALF_UP))
    lowest, highest = integer_range(field)
    if not lowest <= number <= highest:
        raise InvalidPayload(f'"{field.field}" takes whole numbers from {lowest} to {highest}.')
    return number


_COLUMN_RANGES = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


def integer_range(field: Field) -> tuple[int, int]:
    """Returns the least and greatest integer of a field, limited by its datatype and its column."""
    column = _COLUMN_RANGES.get(field.column_type or "", 2**63 - 1)
    declared = DATATYPES.get(field.datatype or "")
    if declared is None or declared.maximum is None or field.id is None:
        return -column - 1, column
    signed, unsigned = declared.maximum
    highest = min(signed if field.signed else unsigned, column)
    return (-signed - 1 if field.signed else 0), highest


_NOT_FINITE = {"nan": "NaN", "infinity": "Infinity", "-infinity": "-Infinity"}


def _parse_number(field: Field, value: Any) -> Decimal | Typed:
    special = _NOT_FINITE.get(value.strip().lower()) if isinstance(value, str) else None
    # A column with a length can hold NaN, but not infinity.
    if special is not None and (LENGTH.search(field.column_type or "") is None or (special == "NaN" and not field.declared)):
        return Typed(special, base_type(field.column_type), field.field)
    number = _decimal(field, value)
    found = LENGTH.search(field.column_type or "")
    if found:
        precision, scale = int(found[1]), int(found[2] or 0)
        # A negative scale rounds to tens and hundreds.
        if _places(number) > max(scale, 0):
            raise InvalidPayload(f'"{field.field}" takes at most {scale} decimal places.')
        if number and number.adjusted() + 1 > precision - scale:
            raise InvalidPayload(f'"{field.field}" takes at most {precision - scale} digits before the point.')
    return number


def _places(number: Decimal) -> int:
    """Returns the number of decimal places without trailing zeros."""
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    zeros = len(text) - len(text.rstrip("0"))
    return max(-(exponent + zeros), 0) if number else 0


_TRUTHS = {"1": True, "true": True, "0": False, "false": False, "": False}


def _truth(field: Field, value: Any) -> bool:
    return parse_truth(field.field, value)


def parse_truth(name: str, value: Any) -> bool:
    """Returns a value of a payload as a boolean. *name* is its name in the message. Raises InvalidRequest if it is neither true
    nor false."""
    if isinstance(value, bool):
        return value
    found = _TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise InvalidRequest(f'"{name}" is true or false.')
    return found


_BEYOND = re.compile(r"\s*(-?infinity|\d{4,7}-\d\d-\d\d.*\bbc|\d{5,7}-\d\d-\d\d.*)\s*", re.IGNORECASE | re.ASCII)
"""Matches dates and times that PostgreSQL has and Python has not."""

_SERVER_MADE = ("timestamp(0) without time zone", "time(0) without time zone", "date")
"""The columns of DATETIME, TIME and DATE. Values of others have fractions of seconds, and the forms that PostgreSQL takes."""


def _foreign_moment(field: Field, value: Any) -> str | Typed | None:
    """Returns a date or time in a form that only PostgreSQL can parse, if the column takes such; otherwise None."""
    if not isinstance(value, str) or not value or not (field.column_type not in _SERVER_MADE or _BEYOND.fullmatch(value)):
        return None
    if family(field) == "datetime":
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            # A column without a time zone would ignore the offset.
            with suppress(OverflowError):
                return (found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)).isoformat(" ")
    return Typed(_clean(field, value), base_type(field.column_type), field.field)


def _parse_date(field: Field, value: Any) -> str | Typed | None:
    return _moment(field, value, "a date (YYYY-MM-DD)", lambda text: date.fromisoformat(text), _DATE)


def _parse_time(field: Field, value: Any) -> str | Typed | None:
    return _moment(field, value, "a time (HH:MM:SS)", _clock_time, _TIME)


def _clock_time(text: str) -> str:
    """Returns a time of day as HH:MM:SS. Raises ValueError."""
    return datetime.strptime(f"{text}+0000", "%H:%M:%S%z").strftime("%H:%M:%S")


def _parse_datetime(field: Field, value: Any) -> str | Typed | None:
    if isinstance(value, str) and _ISO.fullmatch(value):
        try:
            return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")
        except (ValueError, OverflowError):
            pass
    kind = "a date and time (YYYY-MM-DD HH:MM:SS, or ISO 8601 with Z or an offset)"
    return _moment(field, value, kind, datetime.fromisoformat, _DATETIME)


def _moment(field: Field, value: Any, kind: str, read: Callable[[str], Any], shape: re.Pattern[str]) -> str | Typed | None:
    if value == "":
        return None
    if isinstance(value, str) and shape.fullmatch(value):
        try:
            read(value)
        except ValueError:
            pass
        else:
            return value
    foreign = _foreign_moment(field, value)
    if foreign is not None:
        return foreign
    raise InvalidRequest(f'"{field.field}" takes {kind}.')


def _parse_binary(field: Field, value: Any) -> bytes:
    data = plain_text(value).encode()
    if field.datatype in ("BINARY", "VARBINARY") and field.length and len(data) > int(field.length):
        raise InvalidPayload(f'"{field.field}" takes at most {field.length} bytes.')
    return data


def _parse_uuid(field: Field, value: Any) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise InvalidRequest(f'"{field.field}" takes a UUID.') from None


_PARSERS: Mapping[str, Callable[[Field, Any], Any]] = {
    "text": _parse_text,
    "integer": _parse_integer,
    "number": _parse_number,
    "boolean": _truth,
    "date": _parse_date,
    "time": _parse_time,
    "datetime": _parse_datetime,
    "binary": _parse_binary,
    "uuid": _parse_uuid,
}


# --- values of answers


def answer(field: Field) -> Callable[[Any], Any] | None:
    """Returns the function that converts column values for responses, or None if none is needed."""
    kind = family(field)
    if is_json(field):
        return _shown_document
    if field.native is not None and field.native.member is not None:
        return _shown_members(field.native)
    found = _ANSWERS.get(field.type)
    if found is not None:
        return found
    if kind == "datetime":
        return _shown_moment if "with time zone" in (field.column_type or "") else None
    if kind == "number":
        return _shown_finite
    if kind == "binary":
        return _shown_binary
    if kind == "integer":
        if field.datatype == "BIGINT":
            return _shown_big
        return None if field.type not in ("string", "slug", "status", "lang", "uuid") else _shown_text
    return None


def _shown_number(value: Any) -> Any:
    if value is None:
        return 0
    return _finite(value if isinstance(value, (int, float)) else _number_of(value))


def _shown_finite(value: Any) -> Any:
    return value if value is None else _shown_number(value)


def _finite(value: float) -> float | str:
    """Returns a number, or its text in PostgreSQL if JSON has no number for it."""
    # The difference is NaN for infinity and NaN, which is not equal to itself.
    return value if value - value == 0 else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


def _number_of(text: Any) -> float:
    try:
        return float(text)
    except (ValueError, TypeError):
        return 0


def _shown_boolean(value: Any) -> bool:
    return value is True or (value is not None and value is not False and str(value).lower() not in ("", "0", "false"))


# A field type may be declared on a column of another type; the value is converted as far as possible.


def _shown_array(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split(",") if value else []
    return [] if value is None or isinstance(value, bytes) else [str(value)]


MAX_JSON_DEPTH = 200
"""Maximum depth of a JSON value: orjson writes 254 levels, including those of the response."""


def _shown_document(text: str | None) -> Any:
    """Returns the value of a json column. What a response or payload cannot hold is shown as text: a NUL or half of a surrogate pair,
    numbers beyond the range of floats, and too deep nesting."""
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if "\\u0000" in text or not _shallow(text, found) else found


def _shown_members(native: NativeType) -> Callable[[Any], Any]:
    """Returns the function that converts the text of an array for responses."""
    assert native.member is not None
    member = native.member
    delimiter = native.delimiter
    token = re.compile(rf'[{{}}]|"(?:[^"\\]|\\.)*"|[^{{}}"{re.escape(delimiter)}]+', re.DOTALL)
    convert = _member_answer(member)

    def shown(text: str | None) -> Any:
        if text is None:
            return None
        # An array whose indexes do not begin at 1 has its bounds in front.
        found: list[Any] = []
        open_lists = [found]
        for part in token.findall(text, text.index("{")):
            if part == "{":
                below: list[Any] = []
                open_lists[-1].append(below)
                open_lists.append(below)
            elif part == "}":
                open_lists.pop()
            elif part[0] == '"':
                open_lists[-1].append(convert(_ESCAPED.sub(r"\1", part[1:-1])))
            else:
                open_lists[-1].append(None if part == "NULL" else convert(part))
        return found[0]

    return shown


_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def _member_answer(member: Field) -> Callable[[str], Any]:
    """Returns the function that converts the text of a member of an array for responses, as a field of its type is shown."""
    kind = family(member)
    if kind == "integer" and member.datatype != "BIGINT":
        return int
    if kind == "boolean":
        return lambda text: text == "t"
    return (answer(member) if kind in ("number", "datetime", "other") else None) or str


def _shown_json(value: Any) -> Any:
    if not isinstance(value, str):
        return None if isinstance(value, bytes) else value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return found if _shallow(value, found) else None


def _shallow(text: str, value: Any) -> bool:
    """Whether a JSON value is at most MAX_JSON_DEPTH deep. *text* is the same value as text."""
    if text.count("[") + text.count("{") <= MAX_JSON_DEPTH:
        return True
    layer = [value]
    for _ in range(MAX_JSON_DEPTH):
        members = (each.values() if isinstance(each, dict) else each for each in layer)
        layer = [below for each in members for below in each if isinstance(below, (dict, list))]
        if not layer:
            return True
    return False


def _shown_binary(value: bytes | None) -> str:
    return base64.b64encode(value).decode() if value else ""


def _shown_big(value: int | None) -> str | None:
    return None if value is None else str(value)


_shown_text = _shown_big


def _shown_moment(value: str | None) -> str | None:
    """Returns a moment without the offset, which is always that of UTC."""
    return value and value.replace("+00", "", 1)


def _shown_iso(value: Any) -> Any:
    return f"{value[:10]}T{value[11:19]}+00:00" if isinstance(value, str) and len(value) > 10 else _shown_plain(value)


def _shown_plain(value: Any) -> Any:
    return _shown_binary(value) if isinstance(value, bytes) else value


_ANSWERS: Mapping[str, Callable[[Any], Any]] = {
    "boolean": _shown_boolean,
    "decimal": _shown_number,
    "array": _shown_array,
    "json": _shown_json,
    "datetime_created": _shown_iso,
    "datetime_updated": _shown_iso,
}


# --- stored values


def needs_exact_text(field: Field) -> bool:
    """Whether stored values are read as text: decimals and floats, which would lose digits as Python floats."""
    return family(field) == "number" and field.type != "boolean"


def stored_text(field: Field, value: Any) -> str | None:
    """Returns a stored or parsed value as PostgreSQL's text; None for null."""
    if value is None:
        return None
    kind = family(field)
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "number" and not isinstance(value, str):
        return _number_text(field, Decimal(value))
    text = plain_text(value)
    # Ignore the padding of columns of type character.
    return text.rstrip(" ") if (field.column_type or "").startswith(("character(", "bpchar")) else text


def _number_text(field: Field, number: Decimal) -> str:
    column = field.column_type or ""
    if not column.startswith("numeric"):
        found = repr(float(number))
        return found.removesuffix(".0")
    scale = LENGTH.search(column)
    return format(round(number, int(scale[2] or 0)) if scale else number, "f")


def in_history(field: Field, value: Any) -> Any:
    """Returns a stored value in the form of revisions: numbers as text; booleans, json and arrays decoded."""
    if field.type == "boolean":
        return None if value is None else _shown_boolean(value)
    if field.native is not None:
        shown = answer(field)
        return value if shown is None else shown(value)
    if field.type in ("array", "json"):
        return _ANSWERS[field.type](value)
    if isinstance(value, int):
        return str(value) if family(field) == "integer" else value
    return _shown_binary(value) if isinstance(value, bytes) else value


def restored(field: Field, value: Any) -> Any:
    """Returns a value of a revision as the bind value for its column. Raises the errors of `parse`, because the field may have changed."""
    if field.native is None and field.type == "array" and isinstance(value, list):
        # Not parsed again: a member with commas has become several members, whose JSON is longer than when it was checked.
        return ",".join(plain_text(member) for member in value)
    if field.type != "json" and isinstance(value, str) and family(field) == "binary":
        return base64.b64decode(value)
    return parse(field, value)


# --- values of filters


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
        return _TRUTHS.get(text.strip().lower(), NO_MATCH)
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
        if kind in ("date", "time", "datetime") and (field.column_type not in _SERVER_MADE or _BEYOND.fullmatch(text)):
            return Typed(text.strip(), base_type(field.column_type), field.field)
        special = _NOT_FINITE.get(text.strip().lower()) if kind == "number" else None
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
        return _array_text(field, native, orjson.loads(text), MAX_DIMENSIONS)
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


def member(field: Field, text: str, now: datetime | None = None) -> Any:
    """Returns the text as a member of an array of the column's type; NO_MATCH also for numbers that the type cannot hold."""
    found = comparable(field, text, now)
    if family(field) == "integer" and not (isinstance(found, int) and -(2**63) <= found < 2**63):
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
                return _clock_time(text if text.count(":") == 2 else f"{text}:00")
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

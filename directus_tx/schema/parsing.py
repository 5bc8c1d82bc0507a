"""Converts values of payloads and of revisions to bind values for their columns."""

import base64
import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import orjson
from twisted.logger import Logger

from directus_tx.errors import ApiError, InternalError, InvalidFieldValue, InvalidPayload, InvalidRequest
from directus_tx.query import Typed
from directus_tx.schema.datatypes import DATATYPES, LENGTH, base_type, enumerated, family, is_json, maximum_length
from directus_tx.schema.model import Field, NativeType

log = Logger()

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
    if field.custom is not None and field.custom.parse is not None:
        try:
            value = custom_value(field, field.custom.parse, value)
        except ValueError as error:
            raise InvalidRequest(f'"{field.field}" {error}') from None
        if value is None:
            return None
    return _parsed(field, value)


def custom_value(field: Field, parse: Callable[[Any], Any], value: Any) -> Any:
    """Returns what the type of a plugin makes of a value. Raises ValueError if it refuses the value. If it fails otherwise, raises
    InternalError, and the log names the type."""
    try:
        return parse(value)
    except (ValueError, ApiError):
        raise
    except Exception as error:
        log.error(
            'the type {type} of the field "{field}" of "{collection}" failed to take a value: {error}',
            type=field.type,
            field=field.field,
            collection=field.collection,
            error=type(error).__name__,
        )
        raise InternalError from error


def _parsed(field: Field, value: Any) -> Any:
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
    if not text or not shallow(text, value):
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
        text = array_text(field, native, value, MAX_DIMENSIONS)
    elif isinstance(value, (dict, list)):
        raise InvalidFieldValue(f'"{field.field}" takes a plain value.')
    else:
        text = plain_text(value)
    return Typed(_clean(field, text), native.name, field.field)


MAX_DIMENSIONS = 6
"""The maximum number of dimensions of an array."""


_QUOTED = re.compile(r'[{},;"\\\s]')
"""Matches texts that are quoted in the text of an array, and some that need not be."""


def array_text(field: Field, native: NativeType, values: list[Any], dimensions: int) -> str:
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
            text = array_text(field, below, value, MAX_DIMENSIONS)
        elif isinstance(value, list):
            texts.append(array_text(field, native, value, dimensions - 1))
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
        number = Decimal(value if isinstance(value, (int, str, Decimal)) else repr(value))
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
    number = value if type(value) is int else int(_decimal(field, value).to_integral_value(ROUND_HALF_UP))
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


NOT_FINITE = {"nan": "NaN", "infinity": "Infinity", "-infinity": "-Infinity"}


def _parse_number(field: Field, value: Any) -> Decimal | Typed:
    special = NOT_FINITE.get(value.strip().lower()) if isinstance(value, str) else None
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


TRUTHS = {"1": True, "true": True, "0": False, "false": False, "": False}


def _truth(field: Field, value: Any) -> bool:
    return parse_truth(field.field, value)


def parse_truth(name: str, value: Any) -> bool:
    """Returns a value of a payload as a boolean. *name* is its name in the message. Raises InvalidRequest if it is neither true
    nor false."""
    if isinstance(value, bool):
        return value
    found = TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise InvalidRequest(f'"{name}" is true or false.')
    return found


BEYOND = re.compile(r"\s*(-?infinity|\d{4,7}-\d\d-\d\d.*\bbc|\d{5,7}-\d\d-\d\d.*)\s*", re.IGNORECASE | re.ASCII)
"""Matches dates and times that PostgreSQL has and Python has not."""

SERVER_MADE = ("timestamp(0) without time zone", "time(0) without time zone", "date")
"""The columns of DATETIME, TIME and DATE. Values of others have fractions of seconds, and the forms that PostgreSQL takes."""


def _foreign_moment(field: Field, value: Any) -> str | Typed | None:
    """Returns a date or time in a form that only PostgreSQL can parse, if the column takes such; otherwise None."""
    if not isinstance(value, str) or not value or not (field.column_type not in SERVER_MADE or BEYOND.fullmatch(value)):
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
    return _moment(field, value, "a time (HH:MM:SS)", clock_time, _TIME)


def clock_time(text: str) -> str:
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


MAX_JSON_DEPTH = 200
"""Maximum depth of a JSON value: orjson writes 254 levels, including those of the response."""


def shallow(text: str, value: Any) -> bool:
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


# --- values of revisions


def restored(field: Field, value: Any) -> Any:
    """Returns a value of a revision as the bind value for its column. Raises the errors of `parse`, because the field may have changed."""
    if field.native is None and field.type == "array" and isinstance(value, list):
        # Not parsed again: a member with commas has become several members, whose JSON is longer than when it was checked.
        return ",".join(plain_text(member) for member in value)
    if field.type != "json" and isinstance(value, str) and family(field) == "binary":
        return base64.b64decode(value)
    # The value is as it was stored: the type of a plugin has parsed it before.
    return None if value is None else _parsed(field, value)

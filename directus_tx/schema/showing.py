"""Converts column values for responses and for revisions, and to PostgreSQL's text."""

import base64
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import orjson
from twisted.logger import Logger

from directus_tx.schema.datatypes import LENGTH, family, is_json
from directus_tx.schema.model import Field, NativeType
from directus_tx.schema.parsing import plain_text, shallow

log = Logger()


def answer(field: Field) -> Callable[[Any], Any] | None:
    """Returns the function that converts column values for responses, or None if none is needed."""
    found = _answer(field)
    if field.custom is None or field.custom.show is None:
        return found
    return _custom_answer(field, field.custom.show, found)


def _custom_answer(field: Field, show: Callable[[Any], Any], before: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Returns the function that converts column values by the type of a plugin, which gets what other fields with the column show. If it
    raises an exception, that is shown, and the log names the field."""

    def shown(value: Any) -> Any:
        plain = value if before is None else before(value)
        if plain is None:
            return None
        try:
            return show(plain)
        except Exception as error:
            log.error(
                'the type {type} of the field "{field}" of "{collection}" cannot show a value: {error}',
                type=field.type,
                field=field.field,
                collection=field.collection,
                error=type(error).__name__,
            )
            return plain

    return shown


def _answer(field: Field) -> Callable[[Any], Any] | None:
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
    # The difference is NaN for infinity and NaN, which is not equal to itself. Most values are finite floats.
    if type(value) is float and value - value == 0:
        return value
    if value is None:
        return 0
    return _finite(value if isinstance(value, (int, float)) else _number_of(value))


def _shown_finite(value: Any) -> Any:
    return value if value is None else _shown_number(value)


def _finite(value: float) -> float | str:
    """Returns a number, or its text in PostgreSQL if JSON has no number for it."""
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


def _shown_document(text: str | None) -> Any:
    """Returns the value of a json column. What a response or payload cannot hold is shown as text: a NUL or half of a surrogate pair,
    numbers beyond the range of floats, and too deep nesting."""
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if "\\u0000" in text or not shallow(text, found) else found


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
    return found if shallow(value, found) else None


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


def shows_exact_text(field: Field) -> bool:
    """Whether `answer` shows a value that is read as exact text as it shows the value itself."""
    return not needs_exact_text(field) or _ANSWERS.get(field.type, _shown_number) is _shown_number


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


def in_history(field: Field) -> Callable[[Any], Any] | None:
    """Returns the function that converts stored values to the form of revisions, or None if none is needed: numbers become text; booleans,
    json and arrays are decoded."""
    if field.type == "boolean":
        return _revised_boolean
    if field.native is not None:
        return answer(field)
    if field.type in ("array", "json"):
        return _ANSWERS[field.type]
    kind = family(field)
    return _revised_integer if kind == "integer" else _shown_plain if kind == "binary" else None


def _revised_boolean(value: Any) -> bool | None:
    return None if value is None else _shown_boolean(value)


def _revised_integer(value: int | None) -> str | None:
    return None if value is None else str(value)

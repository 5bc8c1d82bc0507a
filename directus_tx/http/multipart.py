"""Bodies: JSON, forms and multipart forms, as the payload that they mean."""

from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import parse_qsl

import multipart
import orjson

from directus_tx.errors import UnusableBody
from directus_tx.http.params import nested

MAX_FIELDS = 10_000
MAX_DEPTH = 200
"""How deep lists and objects may stand in each other. What is stored comes back inside of others, and JSON is written to depth 254."""


def payload(content: IO[bytes], content_type: str) -> dict[str, Any] | list[Any]:
    """What a body says: an object or a list. Raises UnusableBody."""
    kind, options = multipart.parse_options_header(content_type or "")
    kind = kind.lower()
    if kind == "application/json" or kind.endswith("+json"):
        return json_payload(content.read())
    if kind == "application/x-www-form-urlencoded":
        text = content.read().decode("utf-8", "replace")
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            return _unusable(f"A form may have up to {MAX_FIELDS} fields.")
        return nested(pairs) or _unusable("The body is empty.")
    if kind == "multipart/form-data":
        return _multipart(content, options)
    return _unusable("The body is neither JSON nor a form.")


def json_payload(data: bytes) -> dict[str, Any] | list[Any]:
    """The object or list of a JSON text. Raises UnusableBody."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _unusable(f"The body is no JSON: {error}.")
    if not isinstance(value, (dict, list)):
        return _unusable("The body is neither an object nor a list.")
    # Few bodies have enough brackets to be worth a look.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _deeper_than(MAX_DEPTH, value):
        return _unusable(f"Lists and objects may stand in each other up to {MAX_DEPTH} deep.")
    return value


def _deeper_than(depth: int, value: dict[str, Any] | list[Any]) -> bool:
    level: list[dict[str, Any] | list[Any]] = [value]
    for _ in range(depth):
        members = (member for each in level for member in (each.values() if isinstance(each, dict) else each))
        level = [member for member in members if isinstance(member, (dict, list))]
        if not level:
            return False
    return True


def _multipart(content: IO[bytes], options: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a multipart form. Its files are not read here."""
    boundary = options.get("boundary")
    if not boundary:
        return _unusable("The multipart body names no boundary.")
    pairs = []
    try:
        for part in multipart.MultipartParser(content, boundary, charset=options.get("charset", "utf-8")):
            if part.filename is None:
                pairs.append((part.name, part.value))
            part.close()
    except (multipart.MultipartError, UnicodeError, LookupError) as error:
        return _unusable(f"The multipart body is malformed: {error}.")
    return nested(pairs)


def _unusable(message: str) -> Any:
    raise UnusableBody(message)

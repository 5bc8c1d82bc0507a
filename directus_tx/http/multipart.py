"""Bodies: JSON, forms and multipart forms, as the payload that they mean."""

from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import parse_qsl

import multipart
import orjson

from directus_tx.errors import UnusableBody
from directus_tx.http.params import nested


def payload(content: IO[bytes], content_type: str) -> dict[str, Any] | list[Any]:
    """What a body says: an object or a list. Raises UnusableBody."""
    kind, options = multipart.parse_options_header(content_type or "")
    kind = kind.lower()
    if kind == "application/json" or kind.endswith("+json"):
        return json_payload(content.read())
    if kind == "application/x-www-form-urlencoded":
        text = content.read().decode("utf-8", "replace")
        return nested(parse_qsl(text, keep_blank_values=True, max_num_fields=10_000)) or _unusable("The body is empty.")
    if kind == "multipart/form-data":
        return _multipart(content, options)
    return _unusable("The body is neither JSON nor a form.")


def json_payload(data: bytes) -> dict[str, Any] | list[Any]:
    """The object or list of a JSON text. Raises UnusableBody."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _unusable(f"The body is no JSON: {error}.")
    return value if isinstance(value, (dict, list)) else _unusable("The body is neither an object nor a list.")


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

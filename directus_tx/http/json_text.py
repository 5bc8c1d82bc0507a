"""Parses JSON texts. Counts values and nesting before it parses, and parses large lists in pieces.

All of it takes time proportional to the length of the text. Counting takes a few passes of `bytes` methods, about half the time that
parsing takes.
"""

from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import orjson

from directus_tx.errors import InvalidRequest, PayloadTooLarge, UnusableBody

MAX_DEPTH = 200
"""How deep lists and objects may be nested. orjson writes up to 254 levels, and a stored value is answered inside other values."""

PIECE = 256 * 1024
"""Bytes of a large list that are parsed in one call, in one or two milliseconds: orjson holds the GIL while it parses."""

TRIES = 1000
"""Commas that are tried to find the end of a piece. After that the rest of the list is parsed in one call."""

_BUT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},'))
_STEPS = bytes.maketrans(b"[{]},", b"\x01\x01\xff\xff\x00")


def parse(data: bytes, max_values: int) -> Any:
    """Returns the value of a JSON text in UTF-8. Raises UnusableBody for invalid or too deeply nested JSON, PayloadTooLarge for more than
    *max_values* values, InvalidRequest for a string with a NUL."""
    check(data, max_values)
    try:
        return _in_pieces(data) if len(data) > 2 * PIECE else orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UnusableBody(f"The body is not valid JSON: {error}.") from None


def check(data: bytes, max_values: int) -> None:
    """Raises the errors of `parse` for too many values, too deep nesting and NUL, without creating the values."""
    if b"\\u0000" in data and b"\\u0000" in data.replace(b"\\\\", b""):
        raise InvalidRequest("The body contains a character that cannot be stored (NUL).")
    # Commas and brackets in strings are counted here as well: a cheap upper bound, which most bodies stay below.
    opened = data.count(b"[") + data.count(b"{")
    if opened <= MAX_DEPTH and opened + data.count(b",") <= max_values:
        return
    structure = _structure(data)
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > max_values:
        raise PayloadTooLarge(f"The body has more than {max_values} values (limits.max_payload_values).")
    if max(accumulate(array("b", structure.translate(_STEPS))), default=0) > MAX_DEPTH:
        raise UnusableBody(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _structure(data: bytes) -> bytes:
    """Returns the brackets and commas of a JSON text that are outside of strings."""
    parts = _outline(data).split(b'"')
    return b"".join(parts[::2])


def _outline(data: bytes) -> bytes:
    """Returns the brackets, commas and quotation marks of a JSON text, without escaped quotation marks and without empty strings. Each
    bracket and comma is inside a string in the result exactly where it was in the text."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return data.translate(None, _BUT_STRUCTURE).replace(b'""', b"")


def _in_pieces(data: bytes) -> Any:
    """Parses as `orjson.loads` does, but parses a long list in pieces, so that other threads can run in between."""
    text = data.strip(b" \t\r\n")
    if text[:1] != b"[" or text[-1:] != b"]":
        return orjson.loads(data)
    items: list[Any] = []
    try:
        for piece in _pieces(text[1:-1]):
            found = orjson.loads(b"[" + piece + b"]")
            if not found:
                # Two commas in a row, or one at the end. orjson reports the mistake.
                return orjson.loads(data)
            items += found
    except orjson.JSONDecodeError:
        # Parsing all of it reports the position of the mistake in the whole text.
        return orjson.loads(data)
    return items


def _pieces(text: bytes) -> Iterator[bytes]:
    """Yields the text in pieces of about PIECE bytes, cut at commas that are outside of strings, lists and objects."""
    start = scanned = depth = inside = tries = 0
    while len(text) - start > PIECE and tries < TRIES:
        comma = text.find(b",", max(scanned, start + PIECE))
        if comma < 0:
            break
        parts = _outline(text[scanned:comma]).split(b'"')
        structure = b"".join(parts[inside::2])
        depth += structure.count(b"[") + structure.count(b"{") - structure.count(b"]") - structure.count(b"}")
        inside = (inside + len(parts) - 1) % 2
        scanned = comma + 1
        tries += 1
        if not depth and not inside:
            yield text[start:comma]
            start = scanned
            tries = 0
    yield text[start:]

"""JSON texts as values: what they hold is counted before it is made, and large ones are parsed in pieces.

All of it takes time in proportion to the length of the text. The measures of a text are taken with a few passes of `bytes` methods,
which cost less than half of what parsing costs.
"""

from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import orjson

from directus_tx.errors import InvalidRequest, PayloadTooLarge, UnusableBody

MAX_DEPTH = 200
"""How deep lists and objects may stand in each other. What is stored comes back inside of others, and JSON is written to depth 254."""

PIECE = 256 * 1024
"""Bytes of a large list that are parsed at once, in one or two milliseconds: orjson does not let other threads run while it parses."""

TRIES = 1000
"""Commas that are looked at to find the end of a piece. A list whose items are larger than that is parsed at once."""

_BUT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},'))
_STEPS = bytes.maketrans(b"[{]},", b"\x01\x01\xff\xff\x00")


def parse(data: bytes, max_values: int) -> Any:
    """The value of a JSON text in UTF-8. Raises UnusableBody where it is none or too deep, PayloadTooLarge where it has more values
    than *max_values*, InvalidRequest where a text in it holds a NUL."""
    check(data, max_values)
    try:
        return _in_pieces(data) if len(data) > 2 * PIECE else orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UnusableBody(f"The body is no JSON: {error}.") from None


def check(data: bytes, max_values: int) -> None:
    """Raises what `parse` raises of a text that is too much, without making its values."""
    if b"\\u0000" in data and b"\\u0000" in data.replace(b"\\\\", b""):
        raise InvalidRequest("The body holds a character that cannot be stored (NUL).")
    # The commas and brackets of a text are at least those of its structure; few bodies have enough of them to look closer.
    opened = data.count(b"[") + data.count(b"{")
    if opened <= MAX_DEPTH and opened + data.count(b",") <= max_values:
        return
    structure = _structure(data)
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > max_values:
        raise PayloadTooLarge(f"The body has more than {max_values} values (limits.max_payload_values).")
    if max(accumulate(array("b", structure.translate(_STEPS))), default=0) > MAX_DEPTH:
        raise UnusableBody(f"Lists and objects may stand in each other up to {MAX_DEPTH} deep.")


def _structure(data: bytes) -> bytes:
    """The brackets and commas of a JSON text that stand outside of its strings."""
    parts = _outline(data).split(b'"')
    return b"".join(parts[::2])


def _outline(data: bytes) -> bytes:
    """The brackets, commas and quotation marks of a JSON text, without those that are escaped and without pairs with nothing between
    them: what stood inside a string does so still."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return data.translate(None, _BUT_STRUCTURE).replace(b'""', b"")


def _in_pieces(data: bytes) -> Any:
    """As `orjson.loads`, but a long list some of its items at a time, so that other threads run in between."""
    text = data.strip(b" \t\r\n")
    if text[:1] != b"[" or text[-1:] != b"]":
        return orjson.loads(data)
    items: list[Any] = []
    try:
        for piece in _pieces(text[1:-1]):
            found = orjson.loads(b"[" + piece + b"]")
            if not found:
                # A comma without an item beside it.
                return orjson.loads(data)
            items += found
    except orjson.JSONDecodeError:
        # The whole text says where the mistake is.
        return orjson.loads(data)
    return items


def _pieces(text: bytes) -> Iterator[bytes]:
    """A text cut at commas that stand in no string, list or object, into pieces of about PIECE bytes."""
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

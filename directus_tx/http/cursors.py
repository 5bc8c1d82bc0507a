"""Cursors as clients see them: opaque texts, signed with a key of the project, so that they hold nothing but what the server put in."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error

import orjson

from directus_tx.errors import InvalidRequest
from directus_tx.query import Cursor

MAX_TEXT = 12_000
"""The maximum length of the text of a cursor. URLs have up to 16,384 bytes, of which the cursor is a part."""

_SIGNATURE = 16
"""The length of a signature, in bytes."""


def written(cursor: Cursor, key: bytes) -> str:
    """Returns the text of a cursor. It consists of letters, digits, "-" and "_". Raises InvalidRequest if it would be too long for a
    URL."""
    content = orjson.dumps([cursor.order, cursor.values, cursor.backward])
    text = urlsafe_b64encode(_signature(content, key) + content).rstrip(b"=").decode()
    if len(text) > MAX_TEXT:
        raise InvalidRequest(
            "The values of the fields that the list is sorted by are too long together, so it cannot have a cursor."
        )
    return text


def read(text: str, key: bytes) -> Cursor:
    """Returns the cursor of a text; that of the beginning of a list for an empty text. Raises InvalidRequest if the text is not a cursor
    of the project."""
    if not text:
        return Cursor()
    try:
        found = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (Error, ValueError):
        found = b""
    signature, content = found[:_SIGNATURE], found[_SIGNATURE:]
    if not hmac.compare_digest(signature, _signature(content, key)):
        raise InvalidRequest("The cursor is not valid. Begin with an empty one: cursor=")
    order, values, backward = orjson.loads(content)
    return Cursor(tuple(order), tuple(values), backward)


def _signature(content: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"cursor" + content, "sha256")[:_SIGNATURE]

"""Contents of files in JSON: base64 text, or a data URI.

The text may have many megabytes, so no second one is made of it, and it is decoded in pieces.
"""

import re
from binascii import a2b_base64
from collections.abc import Iterator

from directus_tx.errors import InvalidRequest
from directus_tx.outgoing.bodies import Take

PIECE = 64 * 1024
"""The number of characters that are decoded at once."""

_DATA_URI = re.compile(r"data:[^,]*,", re.ASCII)
_TEXT = re.compile(r"[A-Za-z0-9+/]*")


def check(data: object, most: int) -> int:
    """Returns where the base64 text in *data* begins, which is that text or a data URI. Raises InvalidRequest if it is neither, or stands
    for more than *most* bytes (files.max_size). The text may have white space, and need not be padded."""
    if not isinstance(data, str) or not data:
        raise InvalidRequest('"data" must be the content of the file in base64, a data URI, or a URL.')
    start = 0
    found = _DATA_URI.match(data)
    if found is not None:
        if not found[0].endswith(";base64,"):
            raise InvalidRequest('"data" is a data URI without base64.')
        start = found.end()
    letters = padding = 0
    for piece in _pieces(data, start):
        text = _TEXT.match(piece)
        end = text.end() if text is not None else 0
        if (end and padding) or piece.count("=", end) != len(piece) - end:
            raise InvalidRequest('"data" is not base64.')
        letters += end
        padding += len(piece) - end
        if letters * 3 // 4 > most:
            raise InvalidRequest(f'"data" has more than {most} bytes (files.max_size).')
    if letters % 4 == 1 or padding > -letters % 4:
        raise InvalidRequest('"data" is not base64.')
    return start


async def send(data: object, most: int, take: Take) -> None:
    """Passes the bytes of a base64 text or a data URI to *take*, in pieces. Raises the errors of `check` before the first one."""
    start = check(data, most)
    assert isinstance(data, str)
    rest = ""
    for piece in _pieces(data, start):
        text = rest + piece.rstrip("=")
        whole = len(text) - len(text) % 4
        rest = text[whole:]
        if whole:
            await take(a2b_base64(text[:whole]))
    if rest:
        await take(a2b_base64(rest + "=" * (4 - len(rest))))


def _pieces(data: str, start: int) -> Iterator[str]:
    """Yields a text from a place on in pieces, without its white space."""
    for place in range(start, len(data), PIECE):
        yield "".join(data[place : place + PIECE].split())

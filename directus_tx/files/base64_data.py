"""Contents of files in JSON: base64 text, or a data URI."""

import base64
import binascii
import re

from directus_tx.errors import InvalidRequest
from directus_tx.outgoing.bodies import Take

PIECE = 64 * 1024
_DATA_URI = re.compile(r"data:[^,]*,", re.ASCII)


def decoded(data: object, most: int) -> bytes:
    """Returns the bytes of a base64 text or a data URI. Raises InvalidRequest if it is none, or has more than *most* bytes
    (files.max_size)."""
    if not isinstance(data, str) or not data:
        raise InvalidRequest('"data" must be the content of the file in base64, a data URI, or a URL.')
    start = 0
    found = _DATA_URI.match(data)
    if found is not None:
        if not found[0].endswith(";base64,"):
            raise InvalidRequest('"data" is a data URI without base64.')
        start = found.end()
    text = "".join(data[start:].split())
    if len(text) // 4 * 3 > most + 3:
        raise InvalidRequest(f'"data" has more than {most} bytes (files.max_size).')
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest('"data" is not base64.') from None
    if len(content) > most:
        raise InvalidRequest(f'"data" has more than {most} bytes (files.max_size).')
    return content


async def send(data: object, most: int, take: Take) -> None:
    """Passes the bytes that `decoded` returns to *take*, in pieces. Raises InvalidRequest before the first one."""
    content = decoded(data, most)
    for start in range(0, len(content), PIECE):
        await take(content[start : start + PIECE])

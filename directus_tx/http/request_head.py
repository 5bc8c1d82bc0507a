"""Parses the heads of requests: the request line and the headers.

Twisted parses a head line by line, and its request line character by character, which takes up to a tenth of the time of a small request.
Most heads arrive at once and are plain. Of these `parse_head` makes the same as Twisted; all others it leaves to Twisted.
"""

import re
from functools import lru_cache

from attrs import frozen
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers, InvalidHeaderName

MAX_SIZE = min(HTTPChannel.totalHeadersSize, HTTPChannel.MAX_LENGTH)
"""The size in bytes from which heads are left to Twisted, which limits that of a line and of all."""

MAX_HEADERS = HTTPChannel.maxHeaders
"""The number of headers from which heads are left to Twisted, which limits it."""

MAX_NAME = 256
"""The maximum length of the name of a header in bytes. Twisted keeps the first 10,000 names that it sees for ever."""

MAX_DIGITS = 18
"""The maximum number of digits of a Content-Length. Python refuses to convert those with thousands of digits."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\xb0]+) (HTTP/1\.[01])")


@frozen
class Head:
    """The head of a request. `headers` are the values by canonical name, in the order in which they came; `length` is that of the body
    in decimal digits, None without the header Content-Length."""

    method: bytes
    target: bytes
    version: bytes
    headers: dict[bytes, list[bytes]]
    length: bytes | None


def parse_head(head: bytes) -> Head | None:
    """Parses the head of a request, without the empty line at its end. Returns None if it is not valid, exceeds a limit, continues a
    header on a second line, or has a body of unknown length: then Twisted must parse it."""
    lines = head.split(b"\r\n")
    found = _REQUEST_LINE.fullmatch(lines[0])
    ends = len(lines) - 1
    if found is None or len(head) >= MAX_SIZE or ends >= MAX_HEADERS:
        return None
    if b"\0" in head or head.count(b"\n") != ends or head.count(b"\r") != ends:
        return None
    headers: dict[bytes, list[bytes]] = {}
    try:
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or len(name) > MAX_NAME:
                return None
            name = _canonical(name)
            if name in headers:
                headers[name].append(value.strip(b" \t"))
            else:
                headers[name] = [value.strip(b" \t")]
    except InvalidHeaderName:
        return None
    if b"Transfer-Encoding" in headers:
        return None
    length = None
    if b"Content-Length" in headers:
        length, *others = headers[b"Content-Length"]
        if others or not length.isdigit() or len(length) > MAX_DIGITS:
            return None
    method, target, version = found.groups()
    return Head(method, target, version, headers, length)


@lru_cache(maxsize=1000)
def _canonical(name: bytes) -> bytes:
    """Returns the name of a header in the form in which Twisted keeps it. Raises InvalidHeaderName."""
    ((canonical, _),) = Headers({name: [b""]}).getAllRawHeaders()
    return canonical

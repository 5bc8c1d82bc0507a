"""Conditional requests for files, and requests for parts of them (RFC 9110, sections 13 and 14)."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from attrs import frozen

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.IGNORECASE)


@frozen
class Part:
    """The bytes of a file from *start* up to, but not including, *end*."""

    start: int
    end: int


class NoSuchPart(Exception):
    """The file has none of the bytes that the client asks for."""


def http_date(moment: datetime) -> str:
    """Returns an aware datetime as headers show it."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def is_unchanged(request: Any, tag: str, modified: datetime) -> bool:
    """Whether the client has the file already, by If-None-Match or, without it, If-Modified-Since. *tag* is the entity tag of the file,
    with its quotes."""
    wanted = request.getHeader("if-none-match")
    if wanted is not None:
        return any(each.strip().removeprefix("W/") in ("*", tag) for each in wanted.split(","))
    since = _date(request.getHeader("if-modified-since"))
    return since is not None and modified <= since


def part_of(request: Any, size: int, tag: str, modified: datetime) -> Part | None:
    """Returns the part of a file that the client asks for. None: the whole file, also for several parts, for what is not a range of bytes,
    and if the file has changed since the client got another part (If-Range). Raises NoSuchPart."""
    text = request.getHeader("range")
    if text is None or request.method not in (b"GET", b"HEAD"):
        return None
    condition = request.getHeader("if-range")
    if condition is not None and condition.strip() != tag and _date(condition) != modified:
        return None
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]) or max(len(found[1]), len(found[2])) > 18:
        return None
    if not found[1]:
        start, end = max(size - int(found[2]), 0), size
    else:
        start, end = int(found[1]), size if not found[2] else min(int(found[2]) + 1, size)
        if found[2] and int(found[2]) < start:
            return None
    if start >= end:
        raise NoSuchPart
    return Part(start, end)


def _date(text: str | None) -> datetime | None:
    """Returns the date in a header. None if there is none."""
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

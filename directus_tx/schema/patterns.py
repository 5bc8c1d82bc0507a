"""The patterns of `validation`: what clients have stored for JavaScript or PHP, matched with a limit on time."""

import re
from functools import lru_cache
from typing import Any

import regex

from directus_tx.errors import InvalidPayload, InvalidRequest

PATTERN_TIMEOUT = 0.1
"""Seconds that matching one value may take: a pattern that explodes refuses the value, it does not stop the server."""

_EMAIL = r"^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$"
_DELIMITED = re.compile(r"/(.*)/([a-zA-Z]*)", re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Whether a text matches a field's `validation`: "/.../flags" as JavaScript writes it, a bare expression, or "$email".

    Raises InvalidPayload where the pattern is broken, InvalidRequest where matching takes too long.
    """
    try:
        return _compiled(pattern).search(text, timeout=PATTERN_TIMEOUT) is not None
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise InvalidPayload(f'The pattern "{pattern}" is broken: {error}.') from None
    except TimeoutError:
        raise InvalidRequest(f'Matching the pattern "{pattern}" takes too long.') from None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    if pattern == "$email":
        pattern = _EMAIL
    flags = regex.VERSION1
    delimited = _DELIMITED.fullmatch(pattern)
    if delimited:
        pattern, letters = delimited.groups()
        for letter, flag in (("i", regex.IGNORECASE), ("m", regex.MULTILINE), ("s", regex.DOTALL)):
            flags |= flag if letter in letters else 0
    return regex.compile(pattern, flags)

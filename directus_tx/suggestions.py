"""Suggests the name that was meant where an unknown one was given."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_NAMES = 500
"""The number of names up to which names are compared: comparing 500 takes 3 ms."""

MAX_LENGTH = 64
"""The length of a name up to which it is compared."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: '; did you mean "…"?' if *known* has a similar name, otherwise a full stop.
    *known* must only have names that the caller may know."""
    if len(name) > MAX_LENGTH:
        return "."
    names = {each.lower(): each for each in known if len(each) <= MAX_LENGTH}
    if len(names) > MAX_NAMES:
        return "."
    found = get_close_matches(name.lower(), names, n=1, cutoff=0.65)
    return f'; did you mean "{names[found[0]]}"?' if found else "."

"""Control codes in texts that come from clients and other servers, which terminals would carry out."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""What terminals take for commands, and what readers may take for the end of a line. Tabs and line feeds are left."""


def escaped(text: str) -> str:
    """Returns a text with control characters as JSON escapes them: ESC as \\u001b. Tabs and line feeds stay."""
    return text if text.isprintable() else _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def in_one_line(text: str) -> str:
    """Returns a text `escaped`, with blanks instead of the ends of lines."""
    return escaped(text.replace("\n", " ").replace("\r", " "))

"""Parses whole numbers in requests and stored settings."""

import re

_WHOLE = re.compile(r"[0-9]{1,18}")
_SIGNED = re.compile(r"[+-]?[0-9]{1,18}")


def whole_number(text: str, *, signed: bool = False) -> int | None:
    """Returns the number in a text of up to 18 digits 0 to 9, which fits a bigint; None for any other text. *signed*: allow a sign.
    (`str.isdigit` is true for "²", which `int` refuses.)"""
    return int(text) if (_SIGNED if signed else _WHOLE).fullmatch(text) else None

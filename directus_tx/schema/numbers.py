"""Whole numbers in what clients and stored settings write."""

import re

_WHOLE = re.compile(r"[0-9]{1,18}")
_SIGNED = re.compile(r"[+-]?[0-9]{1,18}")


def whole_number(text: str, *, signed: bool = False) -> int | None:
    """The number that a text is, in up to 18 of the digits 0 to 9, which a bigint of PostgreSQL holds; *signed*: it may have a sign.
    None for any other text. (`str.isdigit` is true of "²", which `int` refuses.)"""
    return int(text) if (_SIGNED if signed else _WHOLE).fullmatch(text) else None

"""Parses filters (RFC 7644, section 3.4.2.2) and paths of operations, and applies value filters to the values of one resource. Filters of
lists are never applied here: `conditions` makes conditions of them, which become SQL."""

import json
import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from directus_tx.scim.errors import InvalidFilter

OPERATORS = frozenset({"eq", "ne", "co", "sw", "ew", "pr", "gt", "ge", "lt", "le"})
MAX_LENGTH = 16 * 1024
"""The maximum number of characters of a filter."""

MAX_DEPTH = 30
"""The maximum number of parentheses, brackets and "not" around a comparison."""

_TOKEN = re.compile(r'\s*(?:([()\[\]])|("(?:[^"\\]|\\.)*")|([^\s()\[\]"]+))')
_NAME = re.compile(r"[A-Za-z$][\w$-]*(?:\.[A-Za-z$][\w$-]*)?")

Value = str | int | float | bool | None


@frozen
class Path:
    """The path of an attribute: the URN of its schema, empty if none is named; and its names, of which the second is that of a
    sub-attribute. A path may name an extension alone: then it has no names."""

    schema: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ":".join(part for part in (self.schema, ".".join(self.names)) if part)


@frozen
class Comparison:
    """A comparison of an attribute with a value. `value` is None for "pr"."""

    path: Path
    operator: str
    value: Value


@frozen
class Group:
    """Filters that are combined: "all", "any" or "none" of the members match."""

    kind: str
    members: "tuple[Filter, ...]"


@frozen
class Values:
    """A filter on the values of an attribute with several: one of them must match the inner filter."""

    path: Path
    filter: "Filter"


Filter = Comparison | Group | Values


@frozen
class Target:
    """The path of an operation: an attribute, a filter that chooses some of its values, and a sub-attribute of those."""

    path: Path
    filter: Filter | None = None
    part: str = ""


def parse_filter(text: str) -> Filter:
    """Parses a filter. Raises InvalidFilter if it is malformed, too long or too deep."""
    parser = _Parser(text)
    found = parser.alternatives(0)
    if parser.rest is not None:
        raise InvalidFilter(f'The filter is malformed at "{parser.rest[:40]}".')
    return found


def parse_target(text: str) -> Target:
    """Parses the path of an operation. Raises InvalidFilter if it is malformed."""
    parser = _Parser(text)
    path = parser.path()
    if parser.rest is None:
        return Target(path)
    parser.expect("[")
    chosen = parser.alternatives(1)
    parser.expect("]")
    part = parser.rest
    if part is None:
        return Target(path, chosen)
    parser.next()
    if parser.rest is not None or re.fullmatch(r"\.[A-Za-z$][\w$-]*", part) is None:
        raise InvalidFilter(f'The path is malformed at "{part[:40]}".')
    return Target(path, chosen, part[1:])


def parse_path(text: str) -> Path:
    """Parses the path of an attribute: "name.familyName", with or without the URN of its schema in front. Raises InvalidFilter."""
    schema, name = "", text
    if text.lower().startswith("urn:"):
        schema, _, name = text.rpartition(":")
    if not _NAME.fullmatch(name):
        raise InvalidFilter(f'"{text[:100]}" is not the path of an attribute.')
    return Path(schema, tuple(name.split(".")))


class _Parser:
    """A parser by recursive descent, with one token of lookahead: `rest` is the next token, None at the end."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InvalidFilter(f"A filter may have up to {MAX_LENGTH} characters.")
        self._text = text
        self._place = 0
        self.rest: str | None = None
        self.next()

    def next(self) -> str:
        """Returns the present token and reads the next one."""
        present = self.rest
        found = _TOKEN.match(self._text, self._place)
        if found is None:
            if self._text[self._place :].strip():
                raise InvalidFilter(f'The filter is malformed at "{self._text[self._place :].strip()[:40]}".')
            self.rest = None
        else:
            self.rest = found[1] or found[2] or found[3]
            self._place = found.end()
        return present or ""

    def expect(self, token: str) -> None:
        if self.rest != token:
            raise InvalidFilter(f'The filter lacks "{token}"' + (f' before "{self.rest[:40]}".' if self.rest else " at its end."))
        self.next()

    def _is(self, word: str) -> bool:
        return self.rest is not None and self.rest.lower() == word

    def alternatives(self, depth: int) -> Filter:
        """Parses filters that are joined with "or", which binds weaker than "and"."""
        members = [self._conjunction(depth)]
        while self._is("or"):
            self.next()
            members.append(self._conjunction(depth))
        return members[0] if len(members) == 1 else Group("any", tuple(members))

    def _conjunction(self, depth: int) -> Filter:
        members = [self._single(depth)]
        while self._is("and"):
            self.next()
            members.append(self._single(depth))
        return members[0] if len(members) == 1 else Group("all", tuple(members))

    def _single(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"A filter may be nested up to {MAX_DEPTH} levels deep.")
        if self._is("not"):
            self.next()
            self.expect("(")
            inner = self.alternatives(depth + 1)
            self.expect(")")
            return Group("none", (inner,))
        if self.rest == "(":
            self.next()
            inner = self.alternatives(depth + 1)
            self.expect(")")
            return inner
        path = self.path()
        if self.rest == "[":
            self.next()
            inner = self.alternatives(depth + 1)
            self.expect("]")
            return Values(path, inner)
        return self._comparison(path)

    def path(self) -> Path:
        if self.rest is None or self.rest in "()[]" or self.rest.startswith('"'):
            raise InvalidFilter(
                "The filter lacks an attribute" + (f' before "{self.rest[:40]}".' if self.rest else " at its end.")
            )
        return parse_path(self.next())

    def _comparison(self, path: Path) -> Comparison:
        if self.rest is None:
            raise InvalidFilter(f'The filter lacks an operator after "{path}".')
        operator = self.next().lower()
        if operator not in OPERATORS:
            raise InvalidFilter(f'"{operator[:40]}" is not an operator of filters: use one of {", ".join(sorted(OPERATORS))}.')
        if operator == "pr":
            return Comparison(path, operator, None)
        if self.rest is None or self.rest in "()[]":
            raise InvalidFilter(f'The filter lacks a value after "{path} {operator}".')
        return Comparison(path, operator, _value(self.next()))


def _value(token: str) -> Value:
    """Returns a value: one of JSON, or a text without quotes, which Directus 8 allowed."""
    try:
        found: Any = json.loads(token)
    except ValueError:
        if token.startswith('"'):
            raise InvalidFilter(f"The filter has a malformed text: {token[:40]}.") from None
        # Names of values are compared without case, as names of attributes are.
        return {"true": True, "false": False, "null": None}.get(token.lower(), token)
    if isinstance(found, float) and not abs(found) < float("inf"):
        return token
    if isinstance(found, str) and not found.isascii() and any("\ud800" <= each <= "\udfff" for each in found):
        raise InvalidFilter(f"The filter has a text that is no Unicode: {token[:40]}.")
    return found  # type: ignore[no-any-return] # no list or object is one token


# --- applying a value filter


def matches(filter: Filter, value: Any) -> bool:
    """Whether a value of an attribute, an object of sub-attributes or a simple value, matches a value filter of an operation."""
    if isinstance(filter, Group):
        found = (matches(each, value) for each in filter.members)
        return all(found) if filter.kind == "all" else any(found) if filter.kind == "any" else not any(found)
    if isinstance(filter, Values):
        raise InvalidFilter("A value filter cannot contain another one.")
    name = filter.path.names[-1] if filter.path.names else ""
    present = value if not isinstance(value, Mapping) else _member(value, name)
    return _compare(present, filter.operator, filter.value)


def _member(value: Mapping[str, Any], name: str) -> Any:
    return next((each for key, each in value.items() if key.lower() == name.lower()), None)


def _compare(present: Any, operator: str, wanted: Value) -> bool:
    if operator == "pr":
        return present not in (None, "", [])
    if isinstance(present, bool) or isinstance(wanted, bool):
        same = str(present).lower() == str(wanted).lower()
        return same if operator == "eq" else operator == "ne" and not same
    if present is None or wanted is None:
        return (operator == "eq") == (present is None and wanted is None) if operator in ("eq", "ne") else False
    left: Any = present
    right: Any = wanted
    if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
        left, right = str(left).lower(), str(right).lower()
    if operator in ("co", "sw", "ew"):
        text, part = str(left), str(right)
        return part in text if operator == "co" else text.startswith(part) if operator == "sw" else text.endswith(part)
    results = {
        "eq": left == right,
        "ne": left != right,
        "gt": left > right,
        "ge": left >= right,
        "lt": left < right,
        "le": left <= right,
    }
    return bool(results[operator])

"""Query strings: PHP's bracketed parameters, which clients of the API write, and what they mean as a Query.

`parsed` is on the way of every request; it remembers what the same text has meant before.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote_plus

from attrs import frozen

from directus_tx.errors import InvalidRequest, UnknownOperator
from directus_tx.query import Condition, Query, Sort, WriteOptions

MAX_PARAMETERS = 1000
MAX_BRACKETS = 64
REMEMBERED = 2000
"""Bytes up to which a query string is remembered: longer ones are rare, and a thousand of them would be much to hold."""
Tree = dict[str, Any]


@frozen(eq=False)
class Params:
    """A query string. `pairs` are its parameters, decoded, in order; `tree` nests bracketed ones: `filter[a][eq]=1` is
    {"filter": {"a": {"eq": "1"}}}, `x[]=1` is {"x": {"0": "1"}}."""

    pairs: tuple[tuple[str, str], ...]
    tree: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """The text of a parameter; None where it is missing or has brackets."""
        value = self.tree.get(name)
        return value if isinstance(value, str) else None

    def names(self, name: str) -> tuple[str, ...]:
        """The members of a list: csv, or an array, whose members are no csv. Blanks around them and empty ones are dropped."""
        value = self.tree.get(name)
        parts: Iterable[Any] = ()
        if isinstance(value, str):
            parts = value.split(",")
        elif isinstance(value, dict):
            parts = (part for part in value.values() if isinstance(part, str))
        return tuple(stripped for part in parts if (stripped := part.strip()))

    def number(self, name: str) -> int | None:
        """A whole number; None where the parameter is missing or empty, 0 where it is no number."""
        value = self.text(name)
        if value is None or not value.strip():
            return None
        found = re.fullmatch(r"\s*([+-]?\d{1,15})\s*", value)
        return int(found[1]) if found else 0

    def options(self) -> WriteOptions:
        """What a write is told beside its payload."""
        return WriteOptions(self.text("comment") or None, self.text("activity_skip") == "1")

    def query(self) -> Query:
        """What a read asks for. Raises InvalidRequest, UnknownOperator for a filter that is none."""
        return self._query

    @cached_property
    def _query(self) -> Query:
        return Query(
            fields=self.names("fields"),
            filter=tuple(_conditions(self.tree.get("filter"))),
            sort=tuple(_sorts(self.names("sort"))),
            limit=self.number("limit"),
            offset=self.number("offset"),
            page=self.number("page"),
            single=self.text("single") in ("1", "true"),
            status=self.names("status") or None,
            q=self.text("q") or None,
            meta=self.names("meta") or None,
            lang=self.names("lang"),
            groups=self.names("groups"),
            aggregate=tuple(_aggregates(self.tree.get("aggregate"))),
            groupby=self.names("groupby"),
            deep=tuple(_deep(self.tree.get("deep"))),
        )


def parsed(raw: bytes) -> Params:
    """The parameters of a raw query string. Raises InvalidRequest where there are too many."""
    return _remembered(raw) if len(raw) <= REMEMBERED else _parsed(raw)


def _parsed(raw: bytes) -> Params:
    pairs = []
    for part in raw.decode("utf-8", "replace").split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote_plus(name), unquote_plus(value)))
    if len(pairs) > MAX_PARAMETERS:
        raise InvalidRequest(f"A query string may have up to {MAX_PARAMETERS} parameters.")
    return Params(tuple(pairs), nested(pairs))


_remembered = lru_cache(maxsize=1000)(_parsed)


def nested(pairs: Iterable[tuple[str, Any]]) -> Tree:
    """Parameters nested as their brackets say. Of a plain and a bracketed form of one name, the later wins. Raises InvalidRequest
    where brackets are too many."""
    tree: Tree = {}
    following: dict[int, int] = {}

    def named(place: Tree, key: str) -> str:
        """The name of a member; "[]" is the number that follows on the highest there is."""
        number = following.get(id(place), 0)
        if not key:
            key = str(number)
        if key.isdecimal() and len(key) < 10:
            following[id(place)] = max(number, int(key) + 1)
        return key

    for name, value in pairs:
        start = name.find("[")
        if start <= 0 or "]" not in name[start:]:
            tree[name] = value
            continue
        keys = [name[:start], *re.findall(r"\[([^\]]*)\]", name[start:])]
        if len(keys) > MAX_BRACKETS:
            raise InvalidRequest(f"A parameter may have up to {MAX_BRACKETS} brackets.")
        place = tree
        for each in keys[:-1]:
            key = named(place, each)
            below = place.get(key)
            if not isinstance(below, dict):
                place[key] = below = {}
            place = below
        place[named(place, keys[-1])] = value
    return tree


def _sorts(names: Iterable[str]) -> Iterable[Sort]:
    for name in names:
        yield Sort(name[1:], True) if name.startswith("-") else Sort(name)


def _deep(wanted: Any) -> Iterable[tuple[tuple[str, ...], Query]]:
    """What `deep[path][limit]=5` and its like ask of lists of related items."""
    if wanted is None or wanted == "":
        return
    if not isinstance(wanted, dict) or not all(isinstance(asked, dict) for asked in wanted.values()):
        raise InvalidRequest('deep names a list and what is asked of it: "deep[tags][limit]=5".')
    for path, asked in wanted.items():
        unknown = set(asked) - {"filter", "sort", "limit", "offset"}
        if unknown:
            raise InvalidRequest(f"deep takes filter, sort, limit and offset, not {', '.join(sorted(unknown))}.")
        yield tuple(path.split(".")), Params((), asked).query()


def _aggregates(wanted: Any) -> Iterable[tuple[str, str]]:
    """The functions of `aggregate[function]=field,...`."""
    if wanted is None or wanted == "":
        return
    if not isinstance(wanted, dict) or not all(isinstance(fields, str) for fields in wanted.values()):
        raise InvalidRequest('An aggregate names a function in brackets: "aggregate[sum]=field".')
    for function, fields in wanted.items():
        for name in fields.split(","):
            if name.strip():
                yield function, name.strip()


def _conditions(filter: Any) -> Iterable[Condition]:
    """The conditions of a filter, in the order of its parameters."""
    if filter is None or filter == "":
        return
    if not isinstance(filter, dict):
        raise InvalidRequest('A filter names a field in brackets: "filter[field][operator]=value".')
    for field, wanted in filter.items():
        path = tuple(field.split("."))
        if not isinstance(wanted, dict):
            yield Condition(path, "eq", wanted)
        elif wanted and all(key.isdigit() for key in wanted):
            # Several conditions on one field, each with its own `logical`.
            for member in wanted.values():
                yield from _operators(path, member if isinstance(member, dict) else {"eq": member})
        else:
            yield from _operators(path, wanted)


def _operators(path: tuple[str, ...], wanted: Mapping[str, Any]) -> Iterable[Condition]:
    logical = str(wanted.get("logical", "and")).lower()
    operators = [name for name in wanted if name != "logical"]
    if not operators:
        raise UnknownOperator(f'The filter on "{".".join(path)}" has no operator.')
    for name in operators:
        yield Condition(path, name, _value(wanted[name]), "or" if logical == "or" else "and")


def _value(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if not all(isinstance(member, str) for member in value.values()):
        raise InvalidRequest("The value of a filter is text, or a list of texts.")
    return tuple(value.values())


# --- links


def links(base: str, params: Params, meta: Mapping[str, Any]) -> dict[str, str | None]:
    """The links of a page of a list. They repeat the request's parameters as they were, but for offset and page; never a token.
    `next` and `previous` are a limit away from the offset of the page, `first` and `last` where the pages of that limit begin."""
    page, pages, limit, offset = meta["page"], meta["page_count"], meta["limit"], meta["offset"]
    pairs = [(name, value) for name, value in params.pairs if name != "access_token"]

    def to(number: int, offset: int) -> str:
        return _link(base, pairs, {"offset": str(offset), "page": str(number)})

    several = pages > 1
    return {
        "self": base,
        "current": _link(base, pairs, {"page": str(page)}),
        "next": to(page + 1, offset + limit) if page < pages else None,
        "previous": to(page - 1, offset - limit) if several and page > 1 else None,
        "first": to(1, 0) if several else None,
        "last": to(pages, (pages - 1) * limit) if several else None,
    }


def _link(base: str, pairs: Iterable[tuple[str, str]], replaced: Mapping[str, str]) -> str:
    left = dict(replaced)
    parts = []
    for name, value in pairs:
        parts.append(f"{name}={left.pop(name, value)}")
    parts += [f"{name}={value}" for name, value in left.items()]
    return f"{base}?{'&'.join(parts)}"

"""Query strings: PHP's bracketed parameters, which clients of the API write, and what they mean as a Query.

`parsed` is on the way of every request; it remembers what the same text has meant before.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote_plus

from attrs import frozen

from directus_tx.errors import InvalidRequest, UnknownOperator
from directus_tx.query import Condition, Query, Sort, WriteOptions
from directus_tx.schema.numbers import whole_number

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
        return whole_number(value.strip(), signed=True) or 0

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
    """The parameters of a raw query string. Raises InvalidRequest if it is not UTF-8, holds a NUL or exceeds a limit."""
    return _remembered(raw) if len(raw) <= REMEMBERED else _parsed(raw)


def _parsed(raw: bytes) -> Params:
    try:
        pairs = pairs_of(raw)
    except UnicodeDecodeError:
        raise InvalidRequest("The query string is not UTF-8.") from None
    if len(pairs) > MAX_PARAMETERS:
        raise InvalidRequest(f"A query string may have up to {MAX_PARAMETERS} parameters.")
    refuse_nul(pairs)
    return Params(tuple(pairs), nested(pairs))


_remembered = lru_cache(maxsize=1000)(_parsed)


def pairs_of(raw: bytes) -> list[tuple[str, str]]:
    """The names and values of a query string or a form, decoded. Raises UnicodeDecodeError."""
    pairs = []
    for part in raw.decode().split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")))
    return pairs


def refuse_nul(pairs: Iterable[tuple[str, str]]) -> None:
    """Raises InvalidRequest if a name or a value holds a NUL, which PostgreSQL cannot store."""
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise InvalidRequest(f"The parameter {name!r} holds a character that cannot be stored (NUL).")


def nested(pairs: Iterable[tuple[str, Any]]) -> Tree:
    """Parameters nested by their brackets, in time proportional to their length. Of a plain and a bracketed form of one name the later
    wins. Raises InvalidRequest if one has too many brackets."""
    tree: Tree = {}
    # The key that "[]" means in a tree, by the tree's id. The tree is kept too, so that its id is not used again.
    numbers: dict[int, tuple[Tree, int]] = {}

    def named(place: Tree, key: str) -> str:
        """The key of a member; "[]" is the number after the highest number so far."""
        number = numbers[id(place)][1] if id(place) in numbers else 0
        if not key:
            key = str(number)
        found = whole_number(key)
        if found is not None:
            numbers[id(place)] = place, max(number, found + 1)
        return key

    for name, value in pairs:
        keys = _keys(name)
        place = tree
        for each in keys[:-1]:
            key = each if place is tree else named(place, each)
            below = place.get(key)
            if not isinstance(below, dict):
                place[key] = below = {}
            place = below
        place[keys[-1] if place is tree else named(place, keys[-1])] = value
    return tree


def _keys(name: str) -> list[str]:
    """The name of a parameter and the contents of its brackets: "a[b][]" is ["a", "b", ""]. Text between brackets is ignored."""
    opened = name.find("[")
    if opened <= 0:
        return [name]
    keys = [name[:opened]]
    while opened >= 0:
        closed = name.find("]", opened)
        if closed < 0:
            break
        keys.append(name[opened + 1 : closed])
        if len(keys) > MAX_BRACKETS:
            raise InvalidRequest(f"A parameter may have up to {MAX_BRACKETS} brackets.")
        opened = name.find("[", closed)
    return keys if len(keys) > 1 else [name]


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
        elif wanted and all(whole_number(key) is not None for key in wanted):
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
    `next` and `previous` step by the limit from the page's offset; `first` and `last` are aligned to the limit."""
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

"""Parses query strings with the bracketed parameters of PHP, and converts them to a Query."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote_plus

from attrs import frozen

from directus_tx.cache import Cache
from directus_tx.compile.conditions import conditions_of
from directus_tx.errors import InvalidRequest, Notice
from directus_tx.query import Query, Sort, WriteOptions
from directus_tx.schema.numbers import whole_number
from directus_tx.suggestions import suggestion

KNOWN = frozenset(
    (
        "access_token action activity_skip aggregate all collection comment cursor deep delete_junction dry_run export export_raw fields"
        " filter groupby groups item lang limit meta offset page project q single sort status super_admin_token user"
    ).split()
)
"""The parameters of all routes."""

_PLAIN = "!$'()*,/:;=?@[]"
"""Characters that links show as they are, besides letters, digits and -._~. Directus 8 does not encode brackets and commas, either."""

MAX_NOTICES = 10
MAX_PARAMETERS = 1000
MAX_BRACKETS = 64
KEPT = 4 * 2**20
"""The approximate size in bytes of all cached query strings."""

Tree = dict[str, Any]

DEEP = ("filter", "sort", "limit", "offset")
"""What `deep` says of a list."""


@frozen(eq=False)
class Params:
    """A query string. `pairs` are its parameters, decoded, in order; `tree` nests bracketed ones: `filter[a][eq]=1` is
    {"filter": {"a": {"eq": "1"}}}, `x[]=1` is {"x": {"0": "1"}}."""

    pairs: tuple[tuple[str, str], ...]
    tree: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """Returns the text of a parameter, or None if it is missing or has brackets."""
        value = self.tree.get(name)
        return value if isinstance(value, str) else None

    def names(self, name: str) -> tuple[str, ...]:
        """Returns the members of a comma-separated list, or of an array, whose members are not split at commas. Strips white space and
        drops empty members."""
        value = self.tree.get(name)
        parts: Iterable[Any] = ()
        if isinstance(value, str):
            parts = value.split(",")
        elif isinstance(value, dict):
            parts = (part for part in value.values() if isinstance(part, str))
        return tuple(stripped for part in parts if (stripped := part.strip()))

    def number(self, name: str) -> int | None:
        """Returns the whole number of a parameter: None if it is missing or empty, 0 if it is not a number."""
        value = self.text(name)
        if value is None or not value.strip():
            return None
        return whole_number(value.strip(), signed=True) or 0

    @cached_property
    def notices(self) -> tuple[Notice, ...]:
        """Warnings of parameters that do not exist and resemble one that does. Other unknown parameters are ignored."""
        unknown = [name for name in self.tree if name not in KNOWN]
        found = ((name, suggestion(name, KNOWN)) for name in unknown[:MAX_NOTICES])
        return tuple(
            Notice(InvalidRequest.code, f'There is no parameter "{name}"{meant}', (name,))
            for name, meant in found
            if meant != "."
        )

    def options(self) -> WriteOptions:
        """Returns the options of a write."""
        return WriteOptions(self.text("comment") or None, self.text("activity_skip") == "1")

    def query(self) -> Query:
        """Returns the query. Raises InvalidRequest for a malformed parameter, UnknownOperator for a filter without an operator."""
        return self._query

    @cached_property
    def _query(self) -> Query:
        return Query(
            fields=self.names("fields"),
            filter=tuple(conditions_of(self.tree.get("filter"))),
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


class QueryStrings:
    """A cache of the parameters of query strings, bounded by their size and fair between clients."""

    def __init__(self, size: int = KEPT) -> None:
        self.cache: Cache[Params] = Cache(size)

    def parsed(self, client: str, raw: bytes) -> Params:
        """Returns `parsed` of a raw query string that a client has sent. *client* is its address."""
        return self.cache.get(client, raw, lambda: parsed(raw), lambda params: weight_of(raw, params))


def weight_of(raw: bytes, params: Params) -> int:
    """Returns the approximate size in bytes of a query string, its parameters and its Query."""
    return 600 + 15 * len(raw) + 600 * len(params.pairs)


def parsed(raw: bytes) -> Params:
    """Returns the parameters of a raw query string. Raises InvalidRequest if it is not UTF-8, contains a NUL or exceeds a limit."""
    try:
        pairs = pairs_of(raw)
    except UnicodeDecodeError:
        raise InvalidRequest("The query string is not UTF-8.") from None
    if len(pairs) > MAX_PARAMETERS:
        raise InvalidRequest(f"A query string may have up to {MAX_PARAMETERS} parameters.")
    refuse_nul(pairs)
    return Params(tuple(pairs), nested(pairs))


def pairs_of(raw: bytes) -> list[tuple[str, str]]:
    """Returns the decoded names and values of a query string or a form. Raises UnicodeDecodeError."""
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
            raise InvalidRequest(f"The parameter {name!r} contains a character that cannot be stored (NUL).")


def nested(pairs: Iterable[tuple[str, Any]]) -> Tree:
    """Returns the parameters nested by their brackets, in time proportional to their length. If a name occurs with and without brackets,
    the later form wins. Raises InvalidRequest if one has too many brackets."""
    tree: Tree = {}
    # The key that "[]" stands for in a tree, by the id of the tree. The tree is held so that its id is not reused.
    numbers: dict[int, tuple[Tree, int]] = {}

    def named(place: Tree, key: str) -> str:
        """Returns the key of a member. The key of "[]" is the highest number so far plus one."""
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
    """Returns the name of a parameter and the contents of its brackets: "a[b][]" is ["a", "b", ""]. Text between brackets is ignored."""
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
    """Yields the path and the query of each list in `deep[path][limit]=5`."""
    if wanted is None or wanted == "":
        return
    if not isinstance(wanted, dict) or not all(isinstance(asked, dict) for asked in wanted.values()):
        raise InvalidRequest('The parameter deep must name a field and an option: "deep[tags][limit]=5".')
    for path, asked in wanted.items():
        unknown = sorted(set(asked) - set(DEEP))
        if unknown:
            meant = suggestion(unknown[-1], DEEP)
            raise InvalidRequest(f"The parameter deep allows filter, sort, limit and offset, not {', '.join(unknown)}{meant}")
        yield tuple(path.split(".")), Params((), asked).query()


def _aggregates(wanted: Any) -> Iterable[tuple[str, str]]:
    """Yields the functions and fields of `aggregate[function]=field,...`."""
    if wanted is None or wanted == "":
        return
    if not isinstance(wanted, dict):
        raise InvalidRequest('An aggregate must name a function in brackets: "aggregate[sum]=field".')
    for function, fields in wanted.items():
        if isinstance(fields, dict) and not all(isinstance(name, str) for name in fields.values()):
            raise InvalidRequest('An aggregate takes one field or a list of fields: "aggregate[sum][]=field".')
        for name in Params((), wanted).names(function):
            yield function, name


# --- links


def links(base: str, params: Params, meta: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns the links of a page of a list. They repeat the parameters of the request, with other values of offset and page and without
    the token. `next` and `previous` add the limit to the offset or subtract it; `first` and `last` are aligned to the limit."""
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


def cursor_links(base: str, params: Params, next: str | None, previous: str | None) -> dict[str, str | None]:
    """Returns the links of a page of a list with a cursor. *next*, *previous*: the cursors of the pages beside it."""
    pairs = [(name, value) for name, value in params.pairs if name != "access_token"]

    def to(cursor: str | None) -> str | None:
        return None if cursor is None else _link(base, pairs, {"cursor": cursor})

    return {"self": base, "current": _link(base, pairs, {}), "next": to(next), "previous": to(previous), "first": to("")}


def _link(base: str, pairs: Iterable[tuple[str, str]], replaced: Mapping[str, str]) -> str:
    left = dict(replaced)
    parts = []
    for name, value in pairs:
        parts.append(f"{quote(name, '[]')}={quote(left.pop(name, value), _PLAIN)}")
    parts += [f"{name}={value}" for name, value in left.items()]
    return f"{base}?{'&'.join(parts)}"

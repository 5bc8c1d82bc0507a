"""What a request asks of a collection: plain values, no I/O. `http.params` makes a Query of a query string, `compile` SQL of it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen


@frozen
class Condition:
    """One condition of a filter. `path` is the dotted field, split; `value` is as sent: text, a tuple of texts, or None.
    `logical` ("and" or "or") joins it to the conditions before it."""

    path: tuple[str, ...]
    operator: str
    value: str | tuple[str, ...] | None
    logical: str = "and"


@frozen
class Sort:
    """A field to sort by; the field "?" is random order."""

    field: str
    descending: bool = False


@frozen
class Query:
    """A read, as the client words it.

    `fields`: dotted expressions, "*" and "-name" among them; empty means "*". `limit`: None is the setting default_limit, negative is
    all. `groups`: one item for each value of these fields. `status`: None where not given, ("*",) for all. `meta`: the names asked for,
    None where there is no meta.
    """

    fields: tuple[str, ...] = ()
    filter: tuple[Condition, ...] = ()
    sort: tuple[Sort, ...] = ()
    limit: int | None = None
    offset: int | None = None
    page: int | None = None
    single: bool = False
    status: tuple[str, ...] | None = None
    q: str | None = None
    meta: tuple[str, ...] | None = None
    lang: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    aggregate: tuple[tuple[str, str], ...] = ()
    """Functions over fields, (name, field), instead of items."""

    groupby: tuple[str, ...] = ()
    deep: "tuple[tuple[tuple[str, ...], Query], ...]" = ()
    """What is asked of lists of related items: the path of each, and its own filter, sort, limit and offset."""

    scope: tuple[Condition, ...] = ()
    """Conditions of the server's own (the revisions of one item, say): outside the client's chain, which cannot undo them."""


@frozen
class WriteOptions:
    """What a write is told beside its payload: the `comment` that explains it, and `activity_skip`; and `if_match`, which says whether
    a version is one that the item may still have (None: any)."""

    comment: str | None = None
    activity_skip: bool = False
    if_match: Callable[[str], bool] | None = None


@frozen
class BindValues:
    """What the placeholders of a compiled statement are bound to: the query, the keys to look for, the page, the time, and the caller's
    user id (None for the public)."""

    query: Query = Query()
    keys: Sequence[Any] = ()
    limit: int | None = None
    offset: int = 0
    now: datetime | None = None
    user: int | None = None

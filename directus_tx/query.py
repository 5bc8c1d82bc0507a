"""Queries as plain values. `http.params` parses a query string to a Query, and `compile` compiles it to SQL."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from attrs import field, frozen


@frozen
class Condition:
    """One condition of a filter. `path` is the dotted field, split; `value` is as sent: text, a tuple of texts, or None.
    `logical` ("and" or "or") joins it to the conditions before it."""

    path: tuple[str, ...]
    operator: str
    value: str | tuple[str, ...] | None
    logical: str = "and"


@frozen
class Combination:
    """Conditions that are combined: rows match where "all" of the members match, "any" of them, or "none" of them. A member that is not
    known to match, because a value is NULL, does not match. `leaves` are the conditions in it, in order."""

    kind: str
    members: "tuple[Condition | Combination, ...]"
    leaves: tuple[Condition, ...] = field(init=False, repr=False, eq=False)

    @leaves.default
    def _leaves(self) -> tuple[Condition, ...]:
        found: list[Condition] = []
        for member in self.members:
            found += member.leaves if isinstance(member, Combination) else (member,)
        return tuple(found)


@frozen
class Sort:
    """A field to sort by; the field "?" is random order."""

    field: str
    descending: bool = False


@frozen
class Cursor:
    """A place in a list: that of a row with these values of the fields it is sorted by, whether the row exists or not. `order` names the
    collection and the fields, `values` are texts, None for NULL; both are empty for the beginning of the list. `backward`: the page is
    before the place, otherwise after it."""

    order: tuple[str, ...] = ()
    values: tuple[str | None, ...] = ()
    backward: bool = False


@frozen
class Query:
    """A read as the client requests it.

    `fields`: dotted expressions, "*" and "-name" among them; empty means "*". `limit`: None means the setting default_limit, a
    negative number all. `groups`: one item for each value of these fields. `status`: None where not given, ("*",) for all.
    `meta`: the names asked for, None where there is no meta.
    """

    fields: tuple[str, ...] = ()
    filter: tuple[Condition, ...] = ()
    sort: tuple[Sort, ...] = ()
    limit: int | None = None
    offset: int | None = None
    page: int | None = None
    cursor: Cursor | None = None
    single: bool = False
    status: tuple[str, ...] | None = None
    q: str | None = None
    meta: tuple[str, ...] | None = None
    lang: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    aggregate: tuple[tuple[str, str], ...] = ()
    """Aggregates to return instead of items, as (function, field)."""

    groupby: tuple[str, ...] = ()
    deep: "tuple[tuple[tuple[str, ...], Query], ...]" = ()
    """The filter, sort, limit and offset of lists of related items, by path. `q` and `status` count, too, but no parameter of the API sets
    them."""

    where: Combination | None = None
    """Conditions in parentheses, which no parameter of the API expresses. They are joined with AND to the filter."""

    scope: tuple[Condition, ...] = ()
    """Conditions added by the server, such as the item of a list of revisions. They are joined with AND, outside the client's filter."""


@frozen
class WriteOptions:
    """Options of a write: the `comment` that explains it; `activity_skip`; and `if_match`, which returns whether a version of the item is
    acceptable (None: any version is)."""

    comment: str | None = None
    activity_skip: bool = False
    if_match: Callable[[str], bool] | None = None


@frozen
class Typed:
    """A bind value that is the text of a value of a PostgreSQL type: it is written as 'text'::type. PostgreSQL converts it when it parses
    the statement, before it looks at any row. If the text is not a value of the type, the error names *field*. *type_name* is the type as
    the catalogue or `schema.datatypes` writes it. *as_text*: the value is then converted to text, in the form that PostgreSQL writes."""

    text: str
    type_name: str
    field: str
    as_text: bool = False

    def __str__(self) -> str:
        return self.text


@frozen
class TypedList:
    """A bind value for the right side of IN. Unlike an array, it can list arrays."""

    members: Sequence[Typed]


@frozen
class Folded:
    """A bind value that is a text in lower case, by the rules of the database. *padded*: without the blanks at its end."""

    text: str
    padded: bool = False


@frozen
class BindValues:
    """The values for the placeholders of a compiled statement: the query, the keys to look up, the page, the time, and the caller's
    user id (None for the public)."""

    query: Query = Query()
    keys: Sequence[Any] = ()
    limit: int | None = None
    offset: int = 0
    now: datetime | None = None
    user: int | None = None
    site: Callable[[], str] = str
    """Returns the URL of the project for the client."""

    most: int | None = None
    """The maximum number of rows that a statement of related items returns. None: all."""

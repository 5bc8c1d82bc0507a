"""The shape of a query: what its SQL depends on. Queries of one shape have one plan, whatever their values are."""

from collections.abc import Sequence
from typing import NamedTuple

from directus_tx.query import Condition, Query, Sort


class ConditionShape(NamedTuple):
    """A condition without its value, of which it matters only whether it is empty."""

    path: tuple[str, ...]
    operator: str
    logical: str
    empty: bool


Chain = tuple[ConditionShape, ...]


def chain_of(conditions: Sequence[Condition]) -> Chain:
    """The conditions of a chain, in their order."""
    return tuple([ConditionShape(each.path, each.operator, each.logical, not each.value) for each in conditions])


class Narrowing(NamedTuple):
    """What narrows a list down: the server's own conditions (`scope`), the filter, whether something is searched for, and the statuses:
    "default" for all that do not mean deleted, "given", or "all"."""

    scope: Chain
    filter: Chain
    search: bool
    status: str


NOTHING = Narrowing((), (), False, "default")


def narrowing_of(query: Query) -> Narrowing:
    """What narrows the list of a query down."""
    status = "default" if query.status is None else "all" if "*" in query.status else "given"
    return Narrowing(chain_of(query.scope), chain_of(query.filter), bool(query.q), status)


class ListShape(NamedTuple):
    """What `deep` asks of the list at a path. `paged`: of each list some places are shown."""

    path: tuple[str, ...]
    sort: tuple[Sort, ...]
    filter: Chain
    paged: bool


def list_shape_of(path: tuple[str, ...], query: Query) -> ListShape:
    """What is asked of the list at a path."""
    paged = bool(query.offset) or (query.limit is not None and query.limit >= 0)
    return ListShape(path, query.sort, chain_of(query.filter), paged)


class ReadShape(NamedTuple):
    """The shape of a read of items. `by_key`: the keys of `BindValues` are looked for, whatever filter, search and status say.
    `created`: the caller has just created them. `version`: rows carry the version of their item. `languages`: lists of translations are
    narrowed down to some."""

    collection: str
    fields: tuple[str, ...]
    narrowing: Narrowing
    sort: tuple[Sort, ...]
    groups: tuple[str, ...]
    deep: tuple[ListShape, ...]
    languages: bool
    by_key: bool
    created: bool
    version: bool


def read_shape_of(
    collection: str, query: Query, *, by_key: bool = False, created: bool = False, version: bool = False
) -> ReadShape:
    """The shape of a read."""
    return ReadShape(
        collection,
        query.fields,
        NOTHING._replace(scope=chain_of(query.scope)) if by_key else narrowing_of(query),
        query.sort,
        () if by_key else query.groups,
        tuple([list_shape_of(path, asked) for path, asked in query.deep]),
        bool(query.lang) and "*" not in query.lang,
        by_key,
        created,
        version,
    )


class AggregateShape(NamedTuple):
    """The shape of aggregates over the items of a list."""

    collection: str
    aggregate: tuple[tuple[str, str], ...]
    groupby: tuple[str, ...]
    narrowing: Narrowing
    sort: tuple[Sort, ...]


def aggregate_shape_of(collection: str, query: Query) -> AggregateShape:
    """The shape of the aggregates that a query asks for."""
    return AggregateShape(collection, query.aggregate, query.groupby, narrowing_of(query), query.sort)

"""The shape of a query: everything its SQL depends on. Queries of the same shape share a plan, whatever their values."""

from collections.abc import Sequence
from typing import NamedTuple

from directus_tx.compile.output import Output
from directus_tx.query import Combination, Condition, Cursor, Query, Sort


class ConditionShape(NamedTuple):
    """A condition without its value. Only whether the value is empty matters."""

    path: tuple[str, ...]
    operator: str
    logical: str
    empty: bool


Chain = tuple[ConditionShape, ...]


def chain_of(conditions: Sequence[Condition]) -> Chain:
    """Returns the shapes of conditions, in order."""
    return tuple([ConditionShape(each.path, each.operator, each.logical, not each.value) for each in conditions])


class CombinationShape(NamedTuple):
    """A `Combination` without its values."""

    kind: str
    members: "tuple[ConditionShape | CombinationShape, ...]"


def combination_of(where: Combination) -> CombinationShape:
    """Returns the shape of combined conditions."""
    return CombinationShape(
        where.kind,
        tuple([combination_of(each) if isinstance(each, Combination) else chain_of((each,))[0] for each in where.members]),
    )


class Narrowing(NamedTuple):
    """The conditions of a list: those of the server (`scope`), the filter, whether there is a search, the statuses: "default" for all
    that do not mean deleted, "given", or "all"; and conditions in parentheses."""

    scope: Chain
    filter: Chain
    search: bool
    status: str
    where: CombinationShape | None = None


NOTHING = Narrowing((), (), False, "default")


def status_of(query: Query) -> str:
    """Returns the `status` of a query's `Narrowing`."""
    return "default" if query.status is None else "all" if "*" in query.status else "given"


def narrowing_of(query: Query) -> Narrowing:
    """Returns the conditions of a query."""
    where = None if query.where is None else combination_of(query.where)
    return Narrowing(chain_of(query.scope), chain_of(query.filter), bool(query.q), status_of(query), where)


def _scope_of(query: Query) -> Narrowing:
    """Returns the conditions that the server has added to a query."""
    return NOTHING._replace(scope=chain_of(query.scope)) if query.scope else NOTHING


class ListShape(NamedTuple):
    """The part of `deep` for one list. `paged`: whether it has a limit or an offset. `search` and `status` are those of `Narrowing`."""

    path: tuple[str, ...]
    sort: tuple[Sort, ...]
    filter: Chain
    paged: bool
    search: bool = False
    status: str = "default"


def list_shape_of(path: tuple[str, ...], query: Query) -> ListShape:
    """Returns the part of `deep` for the list at a path."""
    paged = bool(query.offset) or (query.limit is not None and query.limit >= 0)
    return ListShape(path, query.sort, chain_of(query.filter), paged, bool(query.q), status_of(query))


class CursorShape(NamedTuple):
    """What the SQL of a page depends on: the `order` that the cursor is about, which of its values are NULL, and its direction. The
    order is empty for the first page."""

    order: tuple[str, ...]
    nulls: tuple[bool, ...]
    backward: bool


def cursor_shape_of(cursor: Cursor | None) -> CursorShape | None:
    """Returns the shape of a cursor."""
    return None if cursor is None else CursorShape(cursor.order, tuple([each is None for each in cursor.values]), cursor.backward)


class ReadShape(NamedTuple):
    """The shape of a read. `by_key`: items are read by key, ignoring filter, q and status. `alone`: the items are those of one key, and
    the page shows the first. `created`: the caller has just created them. `version`: rows contain the version of their item. `languages`:
    translations are restricted to some languages. `output`: what the items show, None for the fields under their own names."""

    collection: str
    fields: tuple[str, ...]
    narrowing: Narrowing
    sort: tuple[Sort, ...]
    groups: tuple[str, ...]
    deep: tuple[ListShape, ...]
    languages: bool
    by_key: bool
    alone: bool
    created: bool
    version: bool
    cursor: CursorShape | None
    output: Output | None = None


def read_shape_of(
    collection: str,
    query: Query,
    *,
    by_key: bool = False,
    alone: bool = False,
    created: bool = False,
    version: bool = False,
    output: Output | None = None,
) -> ReadShape:
    """Returns the shape of a read."""
    return ReadShape(
        collection,
        query.fields,
        _scope_of(query) if by_key else narrowing_of(query),
        query.sort,
        () if by_key else query.groups,
        tuple([list_shape_of(path, nested) for path, nested in query.deep]),
        bool(query.lang) and "*" not in query.lang,
        by_key,
        alone,
        created,
        version,
        None if by_key else cursor_shape_of(query.cursor),
        output,
    )


class AggregateShape(NamedTuple):
    """The shape of aggregates over the items of a list."""

    collection: str
    aggregate: tuple[tuple[str, str], ...]
    groupby: tuple[str, ...]
    narrowing: Narrowing
    sort: tuple[Sort, ...]


def aggregate_shape_of(collection: str, query: Query) -> AggregateShape:
    """Returns the shape of the aggregates of a query."""
    return AggregateShape(collection, query.aggregate, query.groupby, narrowing_of(query), query.sort)

"""Aggregates: counts, sums and other functions over the items of a query, optionally grouped by fields.

`aggregate[sum]=views&groupby=status` answers ``[{"status": "draft", "sum": {"views": 7}}, ...]``. Directus 8 has no aggregates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field as attribute
from attrs import frozen

from directus_tx.access import Access, Grant
from directus_tx.compile.bounds import Bounds, check_query
from directus_tx.compile.custom import aggregate_answer, aggregate_of, fenced
from directus_tx.compile.filters import Conditions, grouping_column, lookup_of, of_scope, readable_column, where_of
from directus_tx.compile.operators import base_column, check_unsealed, grouped, is_number, is_text
from directus_tx.compile.plan import Item, ListPlan, Prepared, Row, Width, keep_plan
from directus_tx.compile.shape import AggregateShape, aggregate_shape_of
from directus_tx.compile.statements import FEW_TABLES
from directus_tx.config import LimitSettings
from directus_tx.db.sql import SQL, Composable, Statement, all_of, column
from directus_tx.errors import InvalidPayload, UnknownField, UnknownOperator
from directus_tx.query import Query, Sort
from directus_tx.schema.custom import AggregateFunction
from directus_tx.schema.datatypes import family, is_float, is_long
from directus_tx.schema.model import Field
from directus_tx.schema.showing import answer
from directus_tx.schema.statistics import Timing
from directus_tx.suggestions import suggestion

FUNCTIONS: Mapping[str, str] = {
    "count": "count({})",
    "countDistinct": "count(DISTINCT {})",
    "sum": "sum({})",
    "avg": "avg({})",
    "min": "min({})",
    "max": "max({})",
}
"""The functions by name; "{}" is the column. To add a function, add an entry."""

OF_BOOLEANS: Mapping[str, str] = {"min": "bool_and({})", "max": "bool_or({})"}
"""The PostgreSQL functions for min and max of booleans, with false < true."""

MAX_WHOLE = 2.0**53
"""The largest integer below which floats represent all integers exactly."""

ORDERED = frozenset({"text", "integer", "number", "boolean", "date", "time", "datetime"})
OF_NUMBERS = frozenset({"sum", "avg"})


@frozen
class GroupLayout:
    """The values of a row: the names of the groups, (function, field) for each result, and the functions that convert values for the
    API."""

    groups: tuple[str, ...]
    results: tuple[tuple[str, str], ...]
    casts: tuple[Callable[[Any], Any] | None, ...]

    @property
    def shows_nothing(self) -> bool:
        return False

    @property
    def has_lists(self) -> bool:
        return False

    def empty_items_as_lists(self, items: list[Any]) -> list[Any]:
        """Returns the items: none of them is empty."""
        return items

    def items_of(self, rows: Sequence[Row], pending: "list[tuple[ListPlan, list[Item | None]]]") -> list[Any]:
        """Returns the rows as the API shows them. They have no related items."""
        functions: dict[str, list[tuple[str, int]]] = {}
        for place, (function, name) in enumerate(self.results, len(self.groups)):
            functions.setdefault(function, []).append((name, place))
        casts = [(place, cast) for place, cast in enumerate(self.casts) if cast is not None]
        items = []
        for row in rows:
            values = list(row)
            for place, cast in casts:
                values[place] = cast(values[place])
            item: dict[str, Any] = dict(zip(self.groups, values, strict=False))
            for function, results in functions.items():
                item[function] = {name: values[place] for name, place in results}
            items.append(item)
        return items


@frozen
class Aggregate:
    """A compiled aggregate: the statement and the layout of its rows."""

    select: Prepared
    layout: GroupLayout
    width: Width = attribute(factory=Width, eq=False, repr=False)
    timing: Timing | None = attribute(default=None, eq=False, repr=False)

    @property
    def weight(self) -> int:
        """The approximate size in bytes."""
        return self.select.weight + 200 * len(self.layout.results)


def aggregate_for(access: Access, collection: str, query: Query, limits: LimitSettings) -> Aggregate:
    """Returns the compiled aggregate of a query, from the cache if possible. Raises the errors of `compile_aggregate`, and InvalidRequest
    if the query exceeds the limits."""
    check_query(query, limits)
    shape = aggregate_shape_of(collection, query)
    return keep_plan(access, shape, lambda: compile_aggregate(access, shape, limits))


def compile_aggregate(access: Access, shape: AggregateShape, limits: LimitSettings) -> Aggregate:
    """Compiles an aggregate. Raises Unauthorized or ReadForbidden if the caller may not read the collection, and UnknownOperator,
    UnknownField, FieldNotFound, HiddenField, InvalidPayload or InvalidRequest if the query does not fit the collection."""
    access = fenced(access, shape.narrowing)
    grant = access.require_read(shape.collection)
    custom = access.schema.custom.aggregates
    conditions = Conditions(access, Bounds(limits))
    own = conditions.chain("t0", grant, shape.narrowing.scope, of_scope)
    where = all_of([own, where_of(conditions, grant, shape.narrowing)])
    groups = [grouping_column(grant, name) for name in shape.groupby]
    shown = [_of_group(field) for field in groups]
    casts = [answer(field) for field in groups]
    for function, name in shape.aggregate:
        shown.append(_result(grant, function, name, custom))
        added = custom.get(function)
        if added is not None:
            casts.append(aggregate_answer(function, added))
        else:
            casts.append(None if name == "*" else _cast(grant.collection.columns[name], function))
    by = [grouped("t0", field) for field in groups]
    table = grant.table("t0")
    sql = SQL("SELECT {} FROM {} WHERE {}").format(SQL(", ").join(shown), table.sql, where.sql)
    if by:
        order = SQL(", ").join(_order(shape, by))
        sql = SQL("{} GROUP BY {} ORDER BY {}").format(sql, SQL(", ").join(by), order)
    statement = Statement(SQL("{} LIMIT %s OFFSET %s").format(sql), many_tables=conditions.relations > FEW_TABLES)
    binds = (*table.binds, *where.binds, lambda values: values.limit, lambda values: values.offset)
    layout = GroupLayout(shape.groupby, shape.aggregate, tuple(casts))
    columns = grant.collection.columns
    shows = [*shape.groupby, *(name if function in ("min", "max") else "" for function, name in shape.aggregate)]
    width = Width([place for place, name in enumerate(shows) if name in columns and is_long(columns[name])])
    timing = access.schema.statistics.of(lookup_of(grant, shape.narrowing))
    return Aggregate(Prepared(statement, binds), layout, width, timing)


def _cast(field: Field, function: str) -> Callable[[Any], Any] | None:
    """Returns the function that converts a result for the API, or None if none is needed."""
    if function in ("min", "max"):
        return answer(field)
    return _whole if function == "sum" and family(field) == "integer" else None


def _whole(value: Any) -> Any:
    """Returns a sum of integers. PostgreSQL returns numeric for sums of bigint."""
    return int(value) if isinstance(value, float) and abs(value) < MAX_WHOLE else value


def _of_group(field: Field) -> Composable:
    """Returns the expression shown for a group: texts that differ only in case form one group, and the smallest of them is shown."""
    return SQL("min({})").format(column("t0", field.field)) if is_text(field) else grouped("t0", field)


def _result(grant: Grant, function: str, name: str, custom: Mapping[str, AggregateFunction]) -> Composable:
    template = FUNCTIONS.get(function)
    if function in custom and name != "*":
        return aggregate_of("t0", readable_column(grant, name), function, custom[function])
    if template is None and function not in custom:
        raise UnknownOperator(f'There is no aggregate function "{function}"{suggestion(function, (*FUNCTIONS, *custom))}')
    if name == "*":
        if function != "count":
            raise InvalidPayload(f"{function} needs a field.")
        return SQL("count(*)")
    assert template is not None
    field = readable_column(grant, name)
    if function != "count":
        check_unsealed(field)
    if function in OF_NUMBERS and not is_number(field):
        raise InvalidPayload(f'"{name}" holds no numbers to take the {function} of.')
    if function in ("min", "max"):
        if family(field) not in ORDERED and not (field.native is not None and field.native.minimum):
            raise InvalidPayload(f'The values of "{name}" ({field.column_type}) have no order to take the {function} of.')
        if family(field) == "boolean":
            template = OF_BOOLEANS[function]
    if function in OF_NUMBERS:
        return SQL(template).format(addable("t0", field))
    if function == "countDistinct":
        return SQL(template).format(grouped("t0", field))
    return SQL(template).format(base_column("t0", field))


def addable(alias: str, field: Field) -> Composable:
    """Returns an expression whose sum cannot overflow. Infinite or very large numbers become NaN, and so does their sum. Floats are added
    as numeric, so that the result does not depend on the order of rows."""
    numbers = "{0}"
    if is_float(field):
        numbers = "CASE WHEN {0} > '-Infinity' AND {0} < 'Infinity' THEN {0}::text::numeric ELSE 'NaN' END"
    elif field.column_type == "numeric":
        numbers = "CASE WHEN abs({0}) < 1e400 THEN {0} ELSE 'NaN' END"
    return SQL(numbers).format(column(alias, field.field))


def _order(shape: AggregateShape, by: Sequence[Composable]) -> list[Composable]:
    """Returns the order of the groups: by `sort`, then by the remaining groupby fields; nulls last."""
    descending = {}
    for each in shape.sort:
        # A field may be named "-name": see `order_of`.
        unnamed = each.descending and each.field not in shape.groupby and f"-{each.field}" in shape.groupby
        sort = Sort(f"-{each.field}") if unnamed else each
        if sort.field not in shape.groupby:
            meant = suggestion(sort.field, shape.groupby)
            raise UnknownField(f'The groups have no field "{sort.field}" to sort by{meant}')
        descending[sort.field] = sort.descending
    names = [*descending, *(name for name in shape.groupby if name not in descending)]
    position = dict(zip(shape.groupby, by, strict=True))
    return [SQL("{} DESC NULLS LAST" if descending.get(name) else "{} ASC NULLS LAST").format(position[name]) for name in names]
